//! The body of an import: lines of a stream that takes its share of memory as it arrives, and what it is at all.

use super::kind::{FileKind, Foreign, SAMPLE_BYTES};
use super::lines::{Line, Lines};
use crate::base::memory::Reservation;
use crate::base::{Code, Error, Result};
use crate::engine::brainy::Brainy;
use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, StreamExt};

/// Memory for each byte of a batch or a line: as it came, and as it is written or parsed.
pub(super) const HELD_PER_BYTE: usize = 2;

/// The stream as lines. What is kept of it takes its share of memory as it arrives.
pub(super) struct Body {
    pieces: BoxStream<'static, Result<Bytes>>,
    buffer: BytesMut,
    lines: Lines,
    held: Reservation,
    /// Whether it has been seen what kind of stream it is.
    known: bool,
    ended: bool,
}

impl Body {
    /// That of an upload.
    pub(super) fn new(brainy: &Brainy, pieces: BoxStream<'static, Result<Bytes>>) -> Body {
        let (buffer, lines) = (BytesMut::new(), Lines::default());
        let held = brainy.request_memory().bodies.reserve();
        Body { pieces, buffer, lines, held, known: false, ended: false }
    }

    /// The next line that is not blank.
    pub(super) async fn next(&mut self) -> Result<Option<Line>> {
        loop {
            if self.known {
                let line = match self.ended {
                    false => self.lines.next(&mut self.buffer),
                    true => self
                        .lines
                        .next(&mut self.buffer)
                        .or_else(|| self.lines.rest(&mut self.buffer)),
                };
                if line.is_some() || self.ended {
                    self.held.shrink(HELD_PER_BYTE * self.buffer.len());
                    return Ok(line);
                }
            }
            // Decompression can yield without end, and others want their turn.
            tokio::task::consume_budget().await;
            match self.pieces.next().await {
                Some(piece) => {
                    let piece = piece.map_err(|error| {
                        let line = self.lines.current();
                        error.context(format!("the upload ended or broke in line {line}"))
                    })?;
                    self.held.cover(HELD_PER_BYTE * (self.buffer.len() + piece.len()))?;
                    self.buffer.extend_from_slice(&piece);
                }
                None => self.ended = true,
            }
            if !self.known && (self.ended || self.buffer.len() >= SAMPLE_BYTES) {
                check_kind(&self.buffer)?;
                self.known = true;
            }
        }
    }
}

/// Refuses what is not NDJSON before anything is stored, instead of line by line.
fn check_kind(start: &[u8]) -> Result<()> {
    let encoded = "send it with its content-encoding as a header, or decompress it";
    let (what, hint) = match FileKind::of(start) {
        FileKind::Lines => return Ok(()),
        FileKind::Gzip => ("compressed by gzip", encoded),
        FileKind::Zstd => ("compressed by zstd", encoded),
        FileKind::Npy => ("an array of NumPy", "brainy import reads it, and sends it to a server"),
        FileKind::Foreign(Foreign { what, hint }) => (what, hint),
    };
    let message = format!("the upload is not NDJSON but {what}: {hint}");
    Err(Error::new(Code::UnsupportedMediaType, message))
}
