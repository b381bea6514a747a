//! Metadata and text of rows, in blocks that are compressed one by one.
//!
//! A block holds rows that follow each other, which are near each other too, so the answers of one
//! search share blocks. What a block of n rows is compressed (zstd) from:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | n (`u32`) |
//! | n | 1 where a row has text, else 0 |
//! | 4 n | where each row's metadata ends (`u32`) |
//! | 4 n | where each row's text ends (`u32`), counted from where the metadata end |
//! | | metadata: JSON objects, or nothing; then texts |
//!
//! The list has for each block its first row and the bytes that it was compressed from (`u32` each),
//! and its offset (`u64`).

use super::layout::fault;
use crate::base::codec::{Cursor, end_at, ends, partition_point, u32_at, u64_at};
use crate::base::spill::{Buffer, Spill};
use crate::base::{Error, Result};
use std::ops::Range;

/// A block is full with this many bytes. Smaller ones compress worse; of larger ones more is
/// decompressed for nothing.
const BLOCK_BYTES: usize = 16 << 10;
/// Most rows of a block.
const BLOCK_ROWS: usize = 1 << 10;
/// No block is larger: a record is never so large.
const BLOCK_BYTES_MAX: usize = 1 << 28;
const LISTED_BYTES: usize = 16;
const LEVEL: i32 = 3;

/// Collects records, block after block.
#[derive(Debug)]
pub(super) struct RecordSections {
    pub(super) blocks: Buffer<u8>,
    pub(super) list: Vec<u8>,
    open: Open,
}

/// The block under way.
#[derive(Debug, Default)]
struct Open {
    first_row: u32,
    has_text: Vec<u8>,
    metadata_ends: Vec<u8>,
    text_ends: Vec<u8>,
    metadata: Vec<u8>,
    text: Vec<u8>,
}

impl RecordSections {
    /// None yet; the blocks are to be where `spill` says.
    pub(super) fn new(spill: &Spill) -> RecordSections {
        RecordSections { blocks: spill.buffer(), list: Vec::new(), open: Open::default() }
    }

    /// Adds the next row.
    pub(super) fn push(&mut self, metadata: &str, text: Option<&str>) -> Result<()> {
        let open = &mut self.open;
        open.metadata.extend_from_slice(metadata.as_bytes());
        open.text.extend_from_slice(text.unwrap_or_default().as_bytes());
        open.has_text.push(u8::from(text.is_some()));
        open.metadata_ends.extend_from_slice(&(open.metadata.len() as u32).to_le_bytes());
        open.text_ends.extend_from_slice(&(open.text.len() as u32).to_le_bytes());
        let full = open.metadata.len() + open.text.len() >= BLOCK_BYTES;
        if full || open.has_text.len() >= BLOCK_ROWS {
            self.close()?;
        }
        Ok(())
    }

    /// Ends the last block.
    pub(super) fn close(&mut self) -> Result<()> {
        let rows = self.open.has_text.len() as u32;
        if rows == 0 {
            return Ok(());
        }
        let next = Open { first_row: self.open.first_row + rows, ..Open::default() };
        let open = std::mem::replace(&mut self.open, next);
        let columns = [&open.has_text, &open.metadata_ends, &open.text_ends, &open.metadata];
        let mut raw = rows.to_le_bytes().to_vec();
        for column in columns.into_iter().chain([&open.text]) {
            raw.extend_from_slice(column);
        }
        let block = zstd::bulk::compress(&raw, LEVEL)
            .map_err(|error| Error::internal(format!("compressing records: {error}")))?;
        self.list.extend_from_slice(&open.first_row.to_le_bytes());
        self.list.extend_from_slice(&(raw.len() as u32).to_le_bytes());
        self.list.extend_from_slice(&(self.blocks.len() as u64).to_le_bytes());
        self.blocks.extend_from_slice(&block)
    }
}

/// Where a block lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which rows it has.
    pub rows: Range<u32>,
    /// Which bytes of all blocks it is.
    pub bytes: Range<usize>,
    /// How many bytes it was compressed from.
    raw: usize,
}

/// The list of blocks.
#[derive(Debug, Clone, Copy)]
pub struct RecordDirectory<'a> {
    list: &'a [u8],
    rows: u32,
    /// Of all blocks together.
    length: usize,
}

impl<'a> RecordDirectory<'a> {
    /// Of the bytes of the list, for `rows` rows in blocks of `length` bytes.
    pub fn open(list: &'a [u8], rows: u32, length: usize) -> Result<RecordDirectory<'a>> {
        let directory = RecordDirectory::checked_before(list, rows, length);
        let blocks = list.len() / LISTED_BYTES;
        let whole = list.len().is_multiple_of(LISTED_BYTES) && (blocks > 0) == (rows > 0);
        let right = (0..blocks).all(|at| {
            let Listed { rows, bytes, raw } = directory.listed(at);
            rows.start < rows.end && bytes.start < bytes.end && raw <= BLOCK_BYTES_MAX
        });
        let ends = blocks == 0 || {
            let (first, last) = (directory.listed(0), directory.listed(blocks - 1));
            first.rows.start == 0 && last.rows.end == rows && last.bytes.end == length
        };
        if whole && right && ends {
            Ok(directory)
        } else {
            Err(fault("its list of records is damaged"))
        }
    }

    /// The same of bytes that [`RecordDirectory::open`] has found sound: without a look at all of
    /// them.
    pub(super) fn checked_before(list: &'a [u8], rows: u32, length: usize) -> Self {
        RecordDirectory { list, rows, length }
    }

    fn entry(&self, block: usize) -> Option<(u32, u32, u64)> {
        let entry = self.list.get(block * LISTED_BYTES..)?.get(..LISTED_BYTES)?;
        Some((u32_at(entry, 0), u32_at(entry, 1), u64_at(entry, 1)))
    }

    fn listed(&self, block: usize) -> Listed {
        let (row, raw, offset) = self.entry(block).unwrap_or((self.rows, 0, self.length as u64));
        let next = self.entry(block + 1);
        let (next_row, _, next_offset) = next.unwrap_or((self.rows, 0, self.length as u64));
        Listed {
            rows: row..next_row,
            bytes: offset as usize..next_offset as usize,
            raw: raw as usize,
        }
    }

    /// The block that has a row.
    pub fn block_of(&self, row: u32) -> Option<Listed> {
        let blocks = self.list.len() / LISTED_BYTES;
        let after = partition_point(blocks, |block| self.listed(block).rows.start <= row);
        let listed = self.listed(after.checked_sub(1)?);
        listed.rows.contains(&row).then_some(listed)
    }
}

/// A record's metadata and text, next to others of its block.
#[derive(Debug)]
pub struct RecordBlock {
    first_row: u32,
    raw: Vec<u8>,
    rows: usize,
    /// Where the metadata and the texts begin.
    metadata: usize,
    text: usize,
}

impl RecordBlock {
    /// Decompresses the bytes of a block.
    pub fn read(listed: &Listed, bytes: &[u8]) -> Result<RecordBlock> {
        let raw = zstd::bulk::decompress(bytes, listed.raw)
            .map_err(|error| fault(&format!("a block of records does not decompress: {error}")))?;
        let mut cursor = Cursor::new("a block of records", &raw);
        let rows = cursor.u32()? as usize;
        if rows != listed.rows.len() {
            return Err(fault("a block of records has another number of rows"));
        }
        cursor.take(rows)?;
        let columns = cursor.take(8 * rows)?;
        let total = |column: &[u8]| end_at(column, rows - 1);
        let (metadata_ends, text_ends) = columns.split_at(4 * rows);
        let (of_metadata, of_text) = (total(metadata_ends), total(text_ends));
        ends(&mut Cursor::new("metadata", metadata_ends), rows, of_metadata)?;
        ends(&mut Cursor::new("texts", text_ends), rows, of_text)?;
        let metadata = 4 + 9 * rows;
        let text = metadata + of_metadata;
        if text + of_text != raw.len() {
            return Err(fault("a block of records has another length"));
        }
        if std::str::from_utf8(&raw[metadata..]).is_err() {
            return Err(fault("a block of records is not UTF-8"));
        }
        Ok(RecordBlock { first_row: listed.rows.start, raw, rows, metadata, text })
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.raw.len()
    }

    /// The metadata (a JSON object, or empty) and the text of a row of this block.
    pub fn get(&self, row: u32) -> Option<(&str, Option<&str>)> {
        let at = row.checked_sub(self.first_row).map(|at| at as usize)?;
        if at >= self.rows {
            return None;
        }
        let columns = &self.raw[4 + self.rows..];
        let slice = |first: usize, base: usize| {
            let end = |at: usize| base + end_at(columns, first + at);
            let start = if at == 0 { base } else { end(at - 1) };
            std::str::from_utf8(&self.raw[start..end(at)]).ok()
        };
        let text = match self.raw[4 + at] {
            0 => None,
            _ => Some(slice(self.rows, self.text)?),
        };
        Some((slice(0, self.metadata)?, text))
    }
}
