//! Which rows of a segment pass a filter, without reading each row's metadata?
//!
//! A [`FilterIndexBuilder`] is given the metadata of row 0, 1, 2, … and writes one section of bytes
//! (`build.rs`, `write.rs`; `docs/format.md` has every byte). A [`FilterIndex`] answers from that
//! section where it lies (`read.rs`, `postings.rs`): opening it looks at 40 bytes, and a filter reads
//! only the values that it names. [`Filter::select`] carries two sets of rows through the tree
//! (`select.rs`): those that surely pass, and those that the index cannot decide, which the caller
//! checks with [`Filter::matches`]. Nothing else ever passes, so negations stay right.
//!
//! For every path that a filter can name, the index has the rows that have the field. It also has the rows of each
//! null, boolean, number and string, separately for the field's own value and for the elements of arrays. What would
//! cost more than it is worth is left out, see [`Limits`]: of long strings, and of fields that are prose, only hashes
//! are kept. They answer equality with hardly a row too many, but leave order, `$startsWith` and `$contains` to the
//! caller.
//!
//! Errors: `corrupt` if the bytes do not fit together, `newer_format` if a newer build wrote
//! them. Other damage gives wrong rows, but never a panic and never a row that does not exist;
//! checksums are the business of the file that holds the section.

mod build;
mod postings;
mod read;
mod select;
#[cfg(test)]
mod tests;
mod write;

pub use build::FilterIndexBuilder;

use super::Filter;
use crate::base::{Error, Result};
use bytes::Bytes;
use read::{Field, Reader};
use roaring::RoaringBitmap;
use std::cmp::Ordering;

/// The first bytes of every filter index.
const MAGIC: &[u8; 8] = b"BRNYFLTR";
/// The format that this build writes.
const FORMAT_VERSION: u16 = 1;
/// Bytes of a field's entry in the directory.
const ENTRY_BYTES: usize = 16;
/// The field that rows have whose metadata cannot be read. No filter can name it, and no record has it: paths
/// never begin like an operator.
const DAMAGED: &str = "$damaged";
/// How many rows an index may have.
pub const ROWS_MAX: u32 = (1 << 31) - 1;

/// How much of the metadata an index holds. What is left out costs exactness, never correctness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many fields are indexed: those that appear first. A test on another field is left to the
    /// caller for the rows that have one.
    pub fields: usize,
    /// The longest string, in bytes, that is kept as it is; of longer ones only hashes are kept.
    pub string_bytes: u32,
    /// How many distinct strings are kept for a field's own values, and as many for its elements. Of
    /// fields with more, only hashes are kept.
    pub strings: usize,
    /// How many bytes the distinct strings may take for each time that one appears. Fields beyond are
    /// prose, or ids that nobody orders: only hashes are kept.
    pub string_bytes_per_use: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { fields: 1_024, string_bytes: 64, strings: 1 << 18, string_bytes_per_use: 32 }
    }
}

/// The rows that a filter lets through, as far as an index can tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// Every row that passes, and no other but some of `unsure`.
    pub rows: RoaringBitmap,
    /// Those of `rows` that the caller has to check by their metadata.
    pub unsure: RoaringBitmap,
}

impl Selection {
    /// Whether all of `rows` pass.
    pub fn exact(&self) -> bool {
        self.unsure.is_empty()
    }
}

/// The index of a segment's metadata, read where it lies.
#[derive(Debug, Clone)]
pub struct FilterIndex {
    bytes: Bytes,
    rows: u32,
    fields: usize,
    string_bytes: usize,
    paths_start: usize,
    left_out_start: usize,
    fields_start: usize,
}

impl FilterIndex {
    /// The index that lies in `bytes`. Reads its header only.
    pub fn open(bytes: Bytes) -> Result<FilterIndex> {
        let mut header = Reader::new(&bytes);
        if header.take(MAGIC.len())? != MAGIC {
            return Err(corrupt("it does not begin with its magic"));
        }
        let version = header.u16()?;
        if version > FORMAT_VERSION {
            return Err(Error::newer_format(
                "a filter index",
                version.into(),
                FORMAT_VERSION.into(),
            ));
        }
        if version != FORMAT_VERSION || header.u16()? != 0 {
            return Err(corrupt("a number in its header is out of range"));
        }
        let rows = header.u32()?;
        let fields = header.length()?;
        let string_bytes = header.length()?;
        let paths_bytes = header.length()?;
        let left_out_bytes = header.length()?;
        if rows > ROWS_MAX || header.long()? != 0 {
            return Err(corrupt("a number in its header is out of range"));
        }
        let paths_start = header.after(fields, ENTRY_BYTES)?;
        let left_out_start = header.after(paths_bytes, 1)?;
        let fields_start = header.after(left_out_bytes, 1)?;
        Ok(FilterIndex {
            bytes,
            rows,
            fields,
            string_bytes,
            paths_start,
            left_out_start,
            fields_start,
        })
    }

    /// How many rows it has.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// How many fields it has.
    pub fn fields(&self) -> usize {
        self.fields
    }

    /// The rows whose metadata cannot be read.
    pub fn damaged(&self) -> Result<RoaringBitmap> {
        let Some(field) = self.field(DAMAGED)? else { return Ok(RoaringBitmap::new()) };
        let mut rows = postings::Union::new(field.postings, self.rows);
        rows.add(field.exists)?;
        Ok(rows.finish())
    }

    /// The field at `path`, if any row has it and it is not left out.
    fn field(&self, path: &str) -> Result<Option<Field<'_>>> {
        let (mut low, mut high) = (0, self.fields);
        while low < high {
            let middle = low + (high - low) / 2;
            let (found, block) = self.entry(middle)?;
            match found.cmp(path.as_bytes()) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => {
                    return Field::open(block, self.string_bytes).map(Some);
                }
            }
        }
        Ok(None)
    }

    /// The path and the block of field number `at`.
    fn entry(&self, at: usize) -> Result<(&[u8], &[u8])> {
        let (path_start, block_start) = match at.checked_sub(1) {
            Some(before) => self.ends(before)?,
            None => (0, 0),
        };
        let (path_end, block_end) = self.ends(at)?;
        let paths = &self.bytes[self.paths_start..self.left_out_start];
        let blocks = &self.bytes[self.fields_start..];
        let path = paths.get(path_start..path_end);
        let block = blocks.get(block_start..block_end);
        path.zip(block).ok_or_else(|| corrupt("a field lies outside of it"))
    }

    /// Where the path and the block of field number `at` end.
    fn ends(&self, at: usize) -> Result<(usize, usize)> {
        let start = read::HEADER_BYTES + at * ENTRY_BYTES;
        let mut entry = Reader::new(&self.bytes[start..self.paths_start]);
        Ok((entry.long()?, entry.long()?))
    }

    /// The rows that have a field which the index does not have.
    fn left_out(&self) -> Result<RoaringBitmap> {
        let bytes = &self.bytes[self.left_out_start..self.fields_start];
        postings::read_bitmap(bytes, self.rows)
    }
}

/// Is told of units of work, of about a microsecond each, before they are done; what it fails with ends the
/// work.
pub type Spend<'a> = &'a dyn Fn(u64) -> Result<()>;

impl Filter {
    /// The rows of `index` that pass.
    pub fn select(&self, index: &FilterIndex) -> Result<Selection> {
        self.select_within(index, &|_| Ok(()))
    }

    /// The same for as long as `spend` lets it.
    pub fn select_within(&self, index: &FilterIndex, spend: Spend<'_>) -> Result<Selection> {
        select::select(&self.root, index, spend)
    }
}

fn corrupt(what: &str) -> Error {
    Error::corrupt(format!("a filter index is damaged: {what}"))
}
