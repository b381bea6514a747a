//! A stream of bytes in lines, however it is cut into pieces.
//!
//! Lines are bytes, not text: one in another encoding, or one without end, is a fault of that line and of no
//! other. Blank lines are counted and passed over, many at a time, because a megabyte of gzip may hold a
//! gigabyte of them. A byte order mark in front of a line is none of its text: files that were joined have some
//! in their middle.

use crate::base::{Code, Error, Result};
use bytes::{Buf, Bytes, BytesMut};

/// The longest line: a record at all its limits, with room for escapes.
pub const LINE_BYTES_MAX: usize = 16 << 20;
/// How UTF-8 begins in files of some editors.
const BOM: &[u8] = b"\xef\xbb\xbf";
/// Bytes that are looked at together for whether all are blank.
const BLOCK: usize = 64;

/// A line that is not blank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number in the stream, from 1.
    pub number: u64,
    /// What it says, without spaces around it; `None` where that is more than [`LINE_BYTES_MAX`] bytes, which
    /// are passed over.
    pub text: Option<Bytes>,
}

impl Line {
    /// What it says, as text; the error is a fault of the line.
    pub fn utf8(&self) -> Result<&str> {
        let Some(text) = &self.text else {
            let message =
                format!("the line is longer than {LINE_BYTES_MAX} bytes, which no record is");
            return Err(Error::new(Code::PayloadTooLarge, message));
        };
        std::str::from_utf8(text).map_err(|error| {
            let at = error.valid_up_to() + 1;
            Error::invalid(format!("the line is not UTF-8 (at its byte {at}); save it as UTF-8"))
        })
    }
}

/// Takes lines off the front of a buffer to which the stream is added.
#[derive(Debug, Default)]
pub struct Lines {
    /// Lines that have ended.
    ended: u64,
    /// Bytes of the buffer in which there is no end of a line.
    scanned: usize,
    /// Whether the rest of a line is passed over because it is too long.
    skipping: bool,
}

impl Lines {
    /// The number of the line that the stream is in.
    pub fn current(&self) -> u64 {
        self.ended + 1
    }

    /// The next line that is whole, if the buffer has one.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Option<Line> {
        loop {
            if self.scanned == 0 && !self.skipping {
                self.pass_blank(buffer);
            }
            let Some(at) = memchr::memchr(b'\n', &buffer[self.scanned..]) else {
                return self.unended(buffer);
            };
            let line = buffer.split_to(self.scanned + at + 1);
            self.scanned = 0;
            self.ended += 1;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if let Some(line) = self.line(self.ended, line) {
                return Some(line);
            }
        }
    }

    /// What stands behind the end of the last line, when the stream has ended.
    pub fn rest(&mut self, buffer: &mut BytesMut) -> Option<Line> {
        let rest = buffer.split();
        self.scanned = 0;
        if std::mem::take(&mut self.skipping) {
            return None;
        }
        self.line(self.current(), rest)
    }

    fn unended(&mut self, buffer: &mut BytesMut) -> Option<Line> {
        if self.skipping {
            buffer.clear();
            return None;
        }
        self.scanned = buffer.len();
        if buffer.len() <= LINE_BYTES_MAX {
            return None;
        }
        buffer.clear();
        (self.scanned, self.skipping) = (0, true);
        Some(Line { number: self.current(), text: None })
    }

    fn line(&self, number: u64, line: BytesMut) -> Option<Line> {
        if line.trim_ascii_end().len() > LINE_BYTES_MAX {
            return Some(Line { number, text: None });
        }
        let line = line.freeze();
        let text = line.strip_prefix(BOM).unwrap_or(&line).trim_ascii();
        (!text.is_empty()).then(|| Line { number, text: Some(line.slice_ref(text)) })
    }

    fn pass_blank(&mut self, buffer: &mut BytesMut) {
        let is_blank = |byte: &u8| matches!(byte, b'\n' | b'\r' | b'\t' | b' ');
        let mut blank = 0;
        // Without a way out of the middle of a block, so that it becomes a few instructions.
        for block in buffer.chunks_exact(BLOCK) {
            if !block.iter().fold(true, |all, byte| all & is_blank(byte)) {
                break;
            }
            let ends = block.iter().fold(0_u8, |ends, byte| ends + u8::from(*byte == b'\n'));
            self.ended += u64::from(ends);
            blank += BLOCK;
        }
        for byte in buffer[blank..].iter().take_while(|byte| is_blank(byte)) {
            self.ended += u64::from(*byte == b'\n');
            blank += 1;
        }
        buffer.advance(blank);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All lines of a text that arrives in pieces of these sizes, one after another.
    fn lines(text: &[u8], sizes: &[usize]) -> Vec<(u64, Vec<u8>)> {
        let (mut lines, mut buffer, mut found) = (Lines::default(), BytesMut::new(), Vec::new());
        let mut keep = |line: Line| found.push((line.number, line.text.unwrap().to_vec()));
        let (mut rest, mut sizes) = (text, sizes.iter().cycle());
        while !rest.is_empty() {
            let (piece, later) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            buffer.extend_from_slice(piece);
            while let Some(line) = lines.next(&mut buffer) {
                keep(line);
            }
            rest = later;
        }
        lines.rest(&mut buffer).into_iter().for_each(keep);
        found
    }

    /// What the lines are, said without regard to memory.
    fn model(text: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let all = text.split(|byte| *byte == b'\n').zip(1..);
        let all = all.map(|(line, number)| {
            let line = line.trim_ascii_start();
            (number, line.strip_prefix(BOM).unwrap_or(line).trim_ascii().to_vec())
        });
        all.filter(|(_, line)| !line.is_empty()).collect()
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_they_arrive(
            parts in prop::collection::vec(prop_oneof![
                3 => Just(b"{\"id\": 1}".to_vec()),
                3 => Just(b"\n".to_vec()),
                1 => Just(b"\r\n".to_vec()),
                1 => Just(BOM.to_vec()),
                1 => Just(b"  \t".to_vec()),
                1 => Just(b"caf\xe9".to_vec()),
                1 => (0_usize..300).prop_map(|count| b"\n".repeat(count)),
            ], 0..40),
            sizes in prop::collection::vec(1_usize..100, 1..5),
        ) {
            let text = parts.concat();
            prop_assert_eq!(lines(&text, &sizes), model(&text));
        }
    }

    #[test]
    fn a_line_without_end_is_one_fault_and_the_next_is_read() {
        let (mut lines, mut buffer) = (Lines::default(), BytesMut::from(&b"\n"[..]));
        let mut found = Vec::new();
        let mib = vec![b'x'; 1 << 20];
        for _ in 0..40 {
            buffer.extend_from_slice(&mib);
            found.extend(lines.next(&mut buffer));
            assert!(buffer.len() <= LINE_BYTES_MAX);
        }
        buffer.extend_from_slice(b"\nshort\n");
        found.extend(lines.next(&mut buffer));
        let text = Some(Bytes::from("short"));
        assert_eq!(found, [Line { number: 2, text: None }, Line { number: 3, text }]);
        // The same in one piece.
        buffer.extend_from_slice(&mib.repeat(17));
        buffer.extend_from_slice(b"\n");
        assert_eq!(lines.next(&mut buffer), Some(Line { number: 4, text: None }));
    }
}
