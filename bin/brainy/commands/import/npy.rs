//! The rows of a two-dimensional `.npy` array, as `f32`.

use crate::failure::{Failure, Result};
use npyz::half::f16;
use npyz::{DType, Deserialize, NpyFile, NpyHeader, Order};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

type NextRow = Box<dyn FnMut() -> std::io::Result<Vec<f32>> + Send>;

/// The rows still to be read.
pub struct Rows {
    file: String,
    next: NextRow,
    left: u64,
}

impl Rows {
    /// Opens an array; `watch` sees the bytes go by.
    pub fn open<R: Read + Send + 'static>(
        path: &Path,
        watch: impl FnOnce(File) -> R,
    ) -> Result<Self> {
        let name = path.display().to_string();
        let refuse =
            |reason: &dyn std::fmt::Display| Failure::io(format!("could not read {name}"), reason);
        let file = File::open(path).map_err(|error| refuse(&error))?;
        let mut reader = BufReader::with_capacity(1 << 18, watch(file));
        let header = NpyHeader::from_reader(&mut reader).map_err(|error| refuse(&error))?;
        let (rows, columns) = shape(&header).map_err(|reason| refuse(&reason))?;
        let descr = match header.dtype() {
            DType::Plain(kind) => kind.to_string(),
            other => other.descr(),
        };
        let array = NpyFile::with_header(header, reader);
        // Behind the sign of the byte order.
        let kind = descr.trim_matches('\'').get(1..).unwrap_or_default().to_owned();
        let next = match kind.as_str() {
            "f4" => typed::<f32, _>(array, columns, |value| value),
            "f2" => typed::<f16, _>(array, columns, f16::to_f32),
            "f8" => typed::<f64, _>(array, columns, |value| value as f32),
            "u1" => typed::<u8, _>(array, columns, f32::from),
            "i1" => typed::<i8, _>(array, columns, f32::from),
            _ => {
                let reason = format!("its numbers are {descr}: use f2, f4, f8, u1 or i1");
                return Err(refuse(&reason));
            }
        };
        Ok(Rows { next: next.map_err(|error| refuse(&error))?, file: name, left: rows })
    }

    /// The next row.
    pub fn next(&mut self) -> Result<Option<Vec<f32>>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let row = (self.next)();
        row.map(Some).map_err(|error| Failure::io(format!("could not read {}", self.file), &error))
    }
}

/// The length of the rows of an array.
pub fn dimensions(path: &Path) -> Result<u32> {
    let refuse = |reason: &dyn std::fmt::Display| {
        Failure::io(format!("could not read {}", path.display()), reason)
    };
    let file = File::open(path).map_err(|error| refuse(&error))?;
    let header = NpyHeader::from_reader(BufReader::new(file)).map_err(|error| refuse(&error))?;
    let (_, columns) = shape(&header).map_err(|reason| refuse(&reason))?;
    u32::try_from(columns).map_err(|error| refuse(&error))
}

fn shape(header: &NpyHeader) -> Result<(u64, usize), String> {
    let &[rows, columns] = header.shape() else {
        let shape = header.shape();
        return Err(format!("its shape is {shape:?}: use an array of vectors, (rows, dimensions)"));
    };
    if header.order() != Order::C {
        return Err("it is in Fortran order: save numpy.ascontiguousarray(array)".to_owned());
    }
    // A row is read at once, so an absurd header must not become an absurd allocation.
    match usize::try_from(columns) {
        Ok(columns @ 1..=4_096) => Ok((rows, columns)),
        _ => Err(format!("its rows have {columns} numbers: use 1 to 4096")),
    }
}

fn typed<T, R>(
    array: NpyFile<R>,
    columns: usize,
    convert: fn(T) -> f32,
) -> Result<NextRow, npyz::DTypeError>
where
    T: Deserialize + 'static,
    T::TypeReader: Send,
    R: Read + Send + 'static,
{
    let mut values = array.data::<T>()?;
    Ok(Box::new(move || {
        let mut row = Vec::with_capacity(columns);
        for value in values.by_ref().take(columns) {
            row.push(convert(value?));
        }
        Ok(row)
    }))
}
