//! From files to batches: NDJSON (plain, gzip, zstd) and `.npy`, read in constant memory on a
//! thread of its own.

use super::npy::Rows;
use super::record::{Encoder, Fault, Line};
use crate::failure::{Failure, Result};
use flate2::read::MultiGzDecoder;
use indicatif::ProgressBar;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc::Sender;

/// A batch is sent when its records have this many bytes, however few they are.
const BATCH_BYTES_MAX: usize = 16 << 20;
/// A line that is longer is no record: metadata, text and vector are all bounded.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// Where a record came from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// The line, or the row of an array, from 1.
    pub line: u64,
}

/// Records for one request, and lines that were found wrong on the way to them.
#[derive(Debug, Default)]
pub struct Batch {
    /// The records as JSON.
    pub records: Vec<(Origin, Vec<u8>)>,
    /// The lines that are no records.
    pub faults: Vec<(Origin, Fault)>,
    bytes: usize,
}

/// Reads files and sends batches.
pub struct Reader {
    /// The files, in order.
    pub files: Vec<PathBuf>,
    /// What goes beside the rows of `.npy` files.
    pub ids_from: Option<PathBuf>,
    /// Turns lines into requests.
    pub encoder: Encoder,
    /// Records in one batch.
    pub batch_records_max: usize,
    /// Counts the bytes of the files.
    pub progress: ProgressBar,
    /// Takes the batches; closed when nobody wants more.
    pub batches: Sender<Result<Batch>>,
}

/// Whoever takes batches is gone: not an error of the reader.
struct Unwanted;

enum End {
    Unwanted,
    Failed(Failure),
}

impl From<Unwanted> for End {
    fn from(_: Unwanted) -> Self {
        End::Unwanted
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        End::Failed(failure)
    }
}

impl Reader {
    /// Reads all files. What cannot be read is sent as the last item.
    pub fn run(self) {
        let mut batch = Batch::default();
        let mut result = Ok(());
        for path in &self.files {
            result = match is_npy(path) {
                true => self.array(path, &mut batch),
                false => self.lines(path, &mut batch),
            };
            if result.is_err() {
                break;
            }
        }
        let rest = self.flush(&mut batch);
        if let (Ok(()), Err(End::Failed(failure))) = (rest, result) {
            // Whoever took batches may be gone by now: then there is nobody to tell.
            drop(self.batches.blocking_send(Err(failure)));
        }
    }

    fn lines(&self, path: &Path, batch: &mut Batch) -> Result<(), End> {
        let mut lines = Lines::open(path, &self.progress)?;
        while let Some((origin, text)) = lines.next()? {
            let record = Line::parse(text).and_then(|line| self.encoder.encode(line));
            self.add(batch, origin, record)?;
        }
        Ok(())
    }

    fn array(&self, path: &Path, batch: &mut Batch) -> Result<(), End> {
        let mut rows = Rows::open(path, |file| self.progress.wrap_read(file))?;
        let mut beside = match &self.ids_from {
            Some(path) => Some(Lines::open(path, &ProgressBar::hidden())?),
            None => None,
        };
        let file: Arc<str> = path.display().to_string().into();
        let mut line = 0;
        while let Some(vector) = rows.next()? {
            line += 1;
            let origin = Origin { file: file.clone(), line };
            let record = match &mut beside {
                None => {
                    let record = Line::of_row((line - 1).to_string(), vector);
                    self.encoder.encode(record)
                }
                Some(lines) => match lines.next()? {
                    Some((_, text)) => {
                        Line::parse(text).and_then(|line| self.encoder.encode(line.with(vector)))
                    }
                    None => return Err(lines.uneven(line - 1, &file).into()),
                },
            };
            self.add(batch, origin, record)?;
        }
        let Some(mut lines) = beside else {
            return Ok(());
        };
        match lines.next()?.is_some() {
            true => Err(lines.uneven(line + 1, &file).into()),
            false => Ok(()),
        }
    }

    fn add(
        &self,
        batch: &mut Batch,
        origin: Origin,
        record: Result<Vec<u8>, Fault>,
    ) -> Result<(), Unwanted> {
        match record {
            Ok(json) => {
                batch.bytes += json.len();
                batch.records.push((origin, json));
            }
            Err(fault) => batch.faults.push((origin, fault)),
        }
        let count = batch.records.len().max(batch.faults.len());
        if count >= self.batch_records_max || batch.bytes >= BATCH_BYTES_MAX {
            return self.flush(batch);
        }
        Ok(())
    }

    fn flush(&self, batch: &mut Batch) -> Result<(), Unwanted> {
        let full = std::mem::take(batch);
        if full.records.is_empty() && full.faults.is_empty() {
            return Ok(());
        }
        self.batches.blocking_send(Ok(full)).map_err(|_| Unwanted)
    }
}

/// Whether a file is an array.
pub fn is_npy(path: &Path) -> bool {
    path.extension() == Some(OsStr::new("npy"))
}

/// The lines of one file that are not blank.
struct Lines {
    file: Arc<str>,
    reader: Box<dyn BufRead + Send>,
    line: u64,
    text: Vec<u8>,
}

impl Lines {
    fn open(path: &Path, progress: &ProgressBar) -> Result<Self> {
        let file: Arc<str> = path.display().to_string().into();
        let failed = |error: io::Error| Failure::io(format!("could not read {file}"), &error);
        let raw: Box<dyn Read + Send> = match path == Path::new("-") {
            true => Box::new(progress.wrap_read(io::stdin())),
            false => Box::new(progress.wrap_read(File::open(path).map_err(failed)?)),
        };
        let raw: Box<dyn Read + Send> = match path.extension().and_then(OsStr::to_str) {
            Some("gz") => Box::new(MultiGzDecoder::new(BufReader::new(raw))),
            Some("zst") => Box::new(zstd::Decoder::new(raw).map_err(failed)?),
            _ => raw,
        };
        Ok(Lines {
            reader: Box::new(BufReader::with_capacity(1 << 18, raw)),
            file,
            line: 0,
            text: Vec::new(),
        })
    }

    fn next(&mut self) -> Result<Option<(Origin, &[u8])>> {
        loop {
            self.text.clear();
            let mut bounded = self.reader.by_ref().take(LINE_BYTES_MAX);
            let count = bounded
                .read_until(b'\n', &mut self.text)
                .map_err(|error| Failure::io(format!("could not read {}", self.file), &error))?;
            if count == 0 {
                return Ok(None);
            }
            self.line += 1;
            if count as u64 == LINE_BYTES_MAX && self.text.last() != Some(&b'\n') {
                let place = format!("{} line {}", self.file, self.line);
                let reason = "longer than any record, so this is not NDJSON";
                return Err(Failure::io(place, &reason));
            }
            if !self.text.trim_ascii().is_empty() {
                break;
            }
        }
        let origin = Origin { file: self.file.clone(), line: self.line };
        Ok(Some((origin, self.text.trim_ascii())))
    }

    fn uneven(&self, lines: u64, array: &str) -> Failure {
        let reason = format!("the rows of {array} and its lines differ in number (at {lines})");
        Failure::io(&self.file, &reason)
    }
}
