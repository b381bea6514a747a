//! From files to batches, in constant memory, on a thread of its own.

use super::input::{Input, LineReader};
use super::npy::Rows;
use super::record::{Encoder, Fault, Line};
use crate::failure::{Failure, Result};
use indicatif::ProgressBar;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc::Sender;

/// A batch is sent when its records have this many bytes, however few they are.
const BATCH_BYTES_MAX: usize = 16 << 20;

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
    /// The hashes of their ids, in order.
    pub ids: Vec<u64>,
    /// The lines that are no records.
    pub faults: Vec<(Origin, Fault)>,
    bytes: usize,
}

/// Reads files and sends batches.
pub struct Reader {
    /// The files, in order.
    pub files: Vec<PathBuf>,
    /// What goes beside the rows of an array.
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
        let result = self.files(&mut batch);
        let rest = self.flush(&mut batch);
        if let (Ok(()), Err(End::Failed(failure))) = (rest, result) {
            // Whoever took batches may be gone by now: then there is nobody to tell.
            drop(self.batches.blocking_send(Err(failure)));
        }
    }

    fn files(&self, batch: &mut Batch) -> Result<(), End> {
        // The arrays of one import are parts of one: their rows are numbered through.
        let mut rows = 0;
        for path in &self.files {
            let input = Input::open(path, &self.progress)?;
            match input.is_array {
                true => self.array(input, &mut rows, batch)?,
                false if self.ids_from.is_some() => {
                    let reason = "it is no array, with which --ids-from goes";
                    return Err(Failure::io(&input.name, &reason).into());
                }
                false => self.lines(LineReader::new(input), batch)?,
            }
        }
        Ok(())
    }

    fn lines(&self, mut lines: LineReader, batch: &mut Batch) -> Result<(), End> {
        while let Some(line) = lines.next()? {
            let origin = Origin { file: lines.file().clone(), line: line.number };
            let record = Line::parse(&line).and_then(|line| self.encoder.encode(line));
            self.add(batch, origin, record)?;
        }
        Ok(())
    }

    fn array(&self, input: Input, rows_before: &mut u64, batch: &mut Batch) -> Result<(), End> {
        let file = input.name.clone();
        let mut rows = Rows::open(input)?;
        let beside = self.ids_from.as_ref();
        let beside = beside.map(|path| Input::open(path, &ProgressBar::hidden())).transpose()?;
        if let Some(beside) = beside.as_ref().filter(|beside| beside.is_array) {
            let reason = "it is an array: --ids-from takes NDJSON with a line for each row";
            return Err(Failure::io(&beside.name, &reason).into());
        }
        let mut beside = beside.map(LineReader::new);
        let mut line = 0;
        while let Some(vector) = rows.next()? {
            line += 1;
            let origin = Origin { file: file.clone(), line };
            let record = match &mut beside {
                None => {
                    let id = (*rows_before + line - 1).to_string();
                    self.encoder.encode(Line::of_row(id, vector))
                }
                Some(lines) => match lines.next()? {
                    Some(text) => {
                        Line::parse(&text).and_then(|line| self.encoder.encode(line.with(vector)))
                    }
                    None => return Err(uneven(lines, line - 1, &file).into()),
                },
            };
            self.add(batch, origin, record)?;
        }
        *rows_before += line;
        let Some(mut lines) = beside else { return Ok(()) };
        match lines.next()?.is_some() {
            true => Err(uneven(&lines, line + 1, &file).into()),
            false => Ok(()),
        }
    }

    fn add(
        &self,
        batch: &mut Batch,
        origin: Origin,
        record: Result<(u64, Vec<u8>), Fault>,
    ) -> Result<(), Unwanted> {
        match record {
            Ok((id, json)) => {
                batch.bytes += json.len();
                batch.ids.push(id);
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
        let mut full = std::mem::take(batch);
        if full.records.is_empty() && full.faults.is_empty() {
            return Ok(());
        }
        full.ids.sort_unstable();
        self.batches.blocking_send(Ok(full)).map_err(|_| Unwanted)
    }
}

fn uneven(lines: &LineReader, at: u64, array: &str) -> Failure {
    let reason = format!("the rows of {array} and its lines differ in number (at {at})");
    Failure::io(lines.file(), &reason)
}
