//! Files as they are: what each is, told by its content, before anything is stored.

use super::npy;
use crate::failure::{Failure, Result};
use brainy::base::Code;
use brainy::engine::transfer::kind::{FileKind, SAMPLE_BYTES};
use brainy::engine::transfer::lines::{Line, Lines};
use bytes::BytesMut;
use flate2::read::MultiGzDecoder;
use indicatif::ProgressBar;
use std::fs::File;
use std::io::{self, BufReader, Cursor, ErrorKind, Read, Seek};
use std::path::Path;
use std::sync::Arc;

/// Bytes that are read at a time.
const PIECE_BYTES: usize = 256 << 10;
/// Compression around compression; more is no file of records.
const LAYERS_MAX: u32 = 4;
/// The largest window of zstd, as a binary logarithm: `zstd --long=31` needs it.
const WINDOW_LOG_MAX: u32 = 31;

/// What can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Records, one a line.
    Lines,
    /// An array.
    Array {
        /// How many rows it has.
        rows: u64,
        /// How many numbers each of them has.
        columns: u32,
    },
    /// A pipe or a device: it can be read only once, so it is seen when it is its turn.
    Unseen,
}

/// A file that is read, whatever it is compressed by.
pub struct Input {
    /// The file, as it was named.
    pub name: Arc<str>,
    /// Whether it is an array, or else lines.
    pub is_array: bool,
    /// What it holds.
    pub bytes: Box<dyn Read + Send>,
}

/// The error for a file that cannot be read.
pub fn refused(name: &str, reason: &dyn std::fmt::Display) -> Failure {
    Failure::io(format!("could not read {name}"), reason)
}

impl Input {
    /// Opens a file; `progress` sees its bytes go by.
    pub fn open(path: &Path, progress: &ProgressBar) -> Result<Input> {
        let name: Arc<str> = path.display().to_string().into();
        let raw: Box<dyn Read + Send> = match path == Path::new("-") {
            true => Box::new(progress.wrap_read(io::stdin())),
            false => {
                let file = File::open(path).map_err(|error| refused(&name, &error))?;
                Box::new(progress.wrap_read(file))
            }
        };
        Input::of(name, raw)
    }

    fn of(name: Arc<str>, mut bytes: Box<dyn Read + Send>) -> Result<Input> {
        for _ in 0..LAYERS_MAX {
            let mut start = Vec::with_capacity(SAMPLE_BYTES);
            bytes
                .by_ref()
                .take(SAMPLE_BYTES as u64)
                .read_to_end(&mut start)
                .map_err(|error| refused(&name, &error))?;
            let kind = FileKind::of(&start);
            let whole = Cursor::new(start).chain(bytes);
            bytes = match kind {
                FileKind::Lines | FileKind::Npy => {
                    return Ok(Input {
                        name,
                        is_array: kind == FileKind::Npy,
                        bytes: Box::new(whole),
                    });
                }
                FileKind::Gzip => Box::new(MultiGzDecoder::new(BufReader::new(whole))),
                FileKind::Zstd => {
                    let decoder = zstd::Decoder::new(whole).and_then(|mut decoder| {
                        decoder.window_log_max(WINDOW_LOG_MAX)?;
                        Ok(decoder)
                    });
                    Box::new(decoder.map_err(|error| refused(&name, &error))?)
                }
                FileKind::Foreign(foreign) => {
                    let reason = format!("it is {}: {}", foreign.what, foreign.hint);
                    return Err(refused(&name, &reason));
                }
            };
        }
        Err(refused(&name, &"it is compressed again and again: decompress it first"))
    }
}

/// Sees what a file is, and that it can be imported, as far as that can be seen without reading it.
pub fn check(path: &Path) -> Result<Content> {
    let name = path.display().to_string();
    if path == Path::new("-") {
        return Ok(Content::Unseen);
    }
    let metadata = path.metadata().map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            Failure::new(Code::InvalidRequest, format!("there is no file {name}"))
        }
        _ => refused(&name, &error),
    })?;
    if metadata.is_dir() {
        return Err(refused(&name, &"it is a folder: name the files in it"));
    }
    if !metadata.is_file() {
        return Ok(Content::Unseen);
    }
    let input = Input::open(path, &ProgressBar::hidden())?;
    if !input.is_array {
        return Ok(Content::Lines);
    }
    let shape = npy::Shape::read(&name, &mut BufReader::new(input.bytes))?;
    // Of one that is compressed nobody knows how long it is.
    let mut file = File::open(path).map_err(|error| refused(&name, &error))?;
    let mut start = [0; SAMPLE_BYTES];
    let is_plain = file.read_exact(&mut start).is_ok() && FileKind::of(&start) == FileKind::Npy;
    if is_plain && file.rewind().is_ok() {
        let mut file = BufReader::new(file);
        npy::Shape::read(&name, &mut file)?;
        let header = file.stream_position().map_err(|error| refused(&name, &error))?;
        shape.check_length(&name, metadata.len().saturating_sub(header))?;
    }
    Ok(Content::Array { rows: shape.rows, columns: shape.columns as u32 })
}

/// Sees that a file beside an array has a line for each of its rows.
pub fn check_beside(path: &Path, array: &Path, rows: u64) -> Result<()> {
    if check(path)? != Content::Lines {
        return Ok(());
    }
    let mut lines = LineReader::new(Input::open(path, &ProgressBar::hidden())?);
    let mut count = 0;
    while lines.next()?.is_some() {
        count += 1;
    }
    match count == rows {
        true => Ok(()),
        false => {
            let array = array.display();
            let reason = format!("it has {count} lines, and {array} has {rows} rows");
            Err(refused(lines.file(), &reason))
        }
    }
}

/// The lines of a file that are not blank.
pub struct LineReader {
    file: Arc<str>,
    bytes: Box<dyn Read + Send>,
    buffer: BytesMut,
    lines: Lines,
    ended: bool,
}

impl LineReader {
    /// Those of an input.
    pub fn new(input: Input) -> Self {
        let (buffer, lines) = (BytesMut::new(), Lines::default());
        LineReader { file: input.name, bytes: input.bytes, buffer, lines, ended: false }
    }

    /// The file, as it was named.
    pub fn file(&self) -> &Arc<str> {
        &self.file
    }

    /// The next line.
    pub fn next(&mut self) -> Result<Option<Line>> {
        loop {
            if let Some(line) = self.lines.next(&mut self.buffer) {
                return Ok(Some(line));
            }
            if self.ended {
                return Ok(self.lines.rest(&mut self.buffer));
            }
            let filled = self.buffer.len();
            self.buffer.resize(filled + PIECE_BYTES, 0);
            let read = self.bytes.read(&mut self.buffer[filled..]);
            self.buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(count) => self.ended = count == 0,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let line = self.lines.current();
                    return Err(refused(&format!("{} behind line {line}", self.file), &error));
                }
            }
        }
    }
}
