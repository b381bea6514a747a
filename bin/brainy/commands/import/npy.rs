//! The rows of a two-dimensional `.npy` array, as `f32`.

use super::input::{Input, refused};
use crate::failure::Result;
use npyz::half::f16;
use npyz::{DType, Deserialize, NpyFile, NpyHeader, Order};
use std::io::{BufReader, Read};
use std::sync::Arc;

type Values = Box<dyn Read + Send>;
type NextRow = Box<dyn FnMut() -> std::io::Result<Vec<f32>> + Send>;

/// What the header of an array says.
#[derive(Debug, Clone)]
pub struct Shape {
    /// How many rows it has.
    pub rows: u64,
    /// How many numbers each of them has, 1..=4,096.
    pub columns: usize,
    /// The type of its numbers, without the sign of the byte order.
    kind: String,
}

/// The types that are read, and how long each is.
const KINDS: [(&str, u64); 12] = [
    ("f2", 2),
    ("f4", 4),
    ("f8", 8),
    ("i1", 1),
    ("i2", 2),
    ("i4", 4),
    ("i8", 8),
    ("u1", 1),
    ("u2", 2),
    ("u4", 4),
    ("u8", 8),
    ("b1", 1),
];

impl Shape {
    /// Reads the header of `name`, and refuses arrays that are not read.
    pub fn read(name: &str, bytes: &mut impl Read) -> Result<Shape> {
        Shape::with_header(name, bytes).map(|(shape, _)| shape)
    }

    fn with_header(name: &str, bytes: &mut impl Read) -> Result<(Shape, NpyHeader)> {
        let header = NpyHeader::from_reader(bytes).map_err(|error| refused(name, &error))?;
        let shape = Shape::of(&header).map_err(|reason| refused(name, &reason))?;
        Ok((shape, header))
    }

    fn of(header: &NpyHeader) -> Result<Shape, String> {
        let &[rows, columns] = header.shape() else {
            let shape = header.shape();
            return Err(format!(
                "its shape is {shape:?}: use an array of vectors, (rows, dimensions)"
            ));
        };
        if header.order() != Order::C {
            return Err("it is in Fortran order: save numpy.ascontiguousarray(array)".to_owned());
        }
        // A row is read at once, so an absurd header must not become an absurd allocation.
        let columns = match usize::try_from(columns) {
            Ok(columns @ 1..=4_096) => columns,
            _ => return Err(format!("its rows have {columns} numbers: use 1 to 4096")),
        };
        let descr = match header.dtype() {
            DType::Plain(kind) => kind.to_string(),
            other => other.descr(),
        };
        let kind = descr.trim_matches('\'').get(1..).unwrap_or_default().to_owned();
        match KINDS.iter().any(|(known, _)| *known == kind) {
            true => Ok(Shape { rows, columns, kind }),
            false => Err(format!("its numbers are {descr}: save array.astype('float32')")),
        }
    }

    /// Refuses an array that is not what stands behind its header.
    pub fn check_length(&self, name: &str, found: u64) -> Result<()> {
        let size = KINDS.iter().find(|(known, _)| *known == self.kind).map_or(0, |(_, size)| *size);
        let row = self.columns as u64 * size;
        let expected = self.rows.saturating_mul(row);
        let reason = match found {
            found if found < expected => {
                let rows = found / row;
                format!("it is cut: its header says {} rows, and it has {rows}", self.rows)
            }
            found if found > expected => {
                let more = found - expected;
                format!("{more} bytes stand behind its array: save each array in a file of its own")
            }
            _ => return Ok(()),
        };
        Err(refused(name, &reason))
    }
}

/// The rows still to be read.
pub struct Rows {
    file: Arc<str>,
    next: NextRow,
    left: u64,
}

impl Rows {
    /// Those of an array.
    pub fn open(input: Input) -> Result<Self> {
        let file = input.name;
        let mut bytes = BufReader::with_capacity(1 << 18, input.bytes);
        let (shape, header) = Shape::with_header(&file, &mut bytes)?;
        let array = NpyFile::with_header(header, bytes);
        let columns = shape.columns;
        let next = match shape.kind.as_str() {
            "f2" => typed::<f16>(array, columns, f16::to_f32),
            "f4" => typed::<f32>(array, columns, |value| value),
            "f8" => typed::<f64>(array, columns, |value| value as f32),
            "i1" => typed::<i8>(array, columns, f32::from),
            "i2" => typed::<i16>(array, columns, f32::from),
            "i4" => typed::<i32>(array, columns, |value| value as f32),
            "i8" => typed::<i64>(array, columns, |value| value as f32),
            "u1" => typed::<u8>(array, columns, f32::from),
            "u2" => typed::<u16>(array, columns, f32::from),
            "u4" => typed::<u32>(array, columns, |value| value as f32),
            "u8" => typed::<u64>(array, columns, |value| value as f32),
            _ => typed::<bool>(array, columns, f32::from),
        };
        let next = next.map_err(|error| refused(&file, &error))?;
        Ok(Rows { next, file, left: shape.rows })
    }

    /// The next row.
    pub fn next(&mut self) -> Result<Option<Vec<f32>>> {
        if self.left == 0 {
            return Ok(None);
        }
        let row = (self.next)().map_err(|error| {
            let left = self.left;
            refused(&self.file, &format!("{error}, with {left} rows to come: is it cut?"))
        })?;
        self.left -= 1;
        Ok(Some(row))
    }
}

fn typed<T>(
    array: NpyFile<BufReader<Values>>,
    columns: usize,
    convert: fn(T) -> f32,
) -> Result<NextRow, npyz::DTypeError>
where
    T: Deserialize + 'static,
    T::TypeReader: Send,
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
