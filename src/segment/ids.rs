//! Which row has this id, and which id has this row?
//!
//! Ids are sorted by hash and kept in blocks, so that whoever has the list of blocks needs a single
//! range of the file to find an id's row. A block of n ids:
//!
//! | bytes | what |
//! |---|---|
//! | 4, 4 | n (`u32`), 0 |
//! | 8 n | hashes, ascending (`u64`) |
//! | 4 n | rows (`u32`) |
//! | 4 n | where each id ends in what follows (`u32`) |
//! | | ids; zeros up to a multiple of 8 |
//!
//! Every block but the last has [`BLOCK_IDS`] ids. The list has for each block its first hash and its
//! offset (`u64` each). A fuse filter over the hashes tells most ids that are not here without a look
//! at any block: its descriptor (20 bytes) and its fingerprints.

use super::layout::fault;
use crate::base::codec::{Cursor, end_at, ends, partition_point, u32_at, u64_at};
use crate::base::{Error, Result};
use std::ops::Range;
use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable, Filter, FilterRef};

/// Ids of a block.
const BLOCK_IDS: usize = 256;
/// An entry of the list of blocks.
const LISTED_BYTES: usize = 16;

/// Ids as sections.
#[derive(Debug, Default)]
pub(super) struct IdSections {
    pub(super) blocks: Vec<u8>,
    pub(super) list: Vec<u8>,
    pub(super) places: Vec<u8>,
    pub(super) filter: Vec<u8>,
}

impl IdSections {
    /// Of the ids of all rows with their hashes, in the order of the rows.
    pub(super) fn build<'a>(ids: &[(u64, &'a str)]) -> Result<IdSections> {
        let mut sorted: Vec<(u64, &'a str, u32)> =
            ids.iter().enumerate().map(|(row, &(hash, id))| (hash, id, row as u32)).collect();
        sorted.sort_unstable();
        let mut places = vec![0u32; ids.len()];
        for (place, &(_, _, row)) in sorted.iter().enumerate() {
            places[row as usize] = place as u32;
        }
        let mut sections = IdSections {
            places: places.iter().flat_map(|place| place.to_le_bytes()).collect(),
            ..IdSections::default()
        };
        for block in sorted.chunks(BLOCK_IDS) {
            sections.list.extend_from_slice(&block[0].0.to_le_bytes());
            sections.list.extend_from_slice(&(sections.blocks.len() as u64).to_le_bytes());
            write_block(block, &mut sections.blocks);
        }
        let mut hashes: Vec<u64> = sorted.iter().map(|&(hash, ..)| hash).collect();
        hashes.dedup();
        let filter = BinaryFuse8::try_from(&hashes)
            .map_err(|error| Error::internal(format!("a filter over ids: {error}")))?;
        sections.filter.resize(BinaryFuse8::DESCRIPTOR_LEN, 0);
        filter.dma_copy_descriptor_to(&mut sections.filter);
        sections.filter.extend_from_slice(filter.dma_fingerprints());
        Ok(sections)
    }
}

fn write_block(block: &[(u64, &str, u32)], out: &mut Vec<u8>) {
    out.extend_from_slice(&(block.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend(block.iter().flat_map(|(hash, ..)| hash.to_le_bytes()));
    out.extend(block.iter().flat_map(|(.., row)| row.to_le_bytes()));
    let mut end = 0u32;
    for (_, id, _) in block {
        end += id.len() as u32;
        out.extend_from_slice(&end.to_le_bytes());
    }
    for (_, id, _) in block {
        out.extend_from_slice(id.as_bytes());
    }
    out.resize(out.len().next_multiple_of(8), 0);
}

/// The list of blocks and the filter: what says where to look for an id.
#[derive(Debug, Clone, Copy)]
pub struct IdDirectory<'a> {
    list: &'a [u8],
    filter: &'a [u8],
    /// Of all blocks together.
    length: usize,
}

impl<'a> IdDirectory<'a> {
    /// Of the bytes of both, for blocks of `length` bytes.
    pub fn open(list: &'a [u8], filter: &'a [u8], length: usize) -> Result<IdDirectory<'a>> {
        let directory = IdDirectory::checked_before(list, filter, length);
        let blocks = list.len() / LISTED_BYTES;
        let whole = list.len().is_multiple_of(LISTED_BYTES);
        let ascending = (1..blocks).all(|at| {
            let before = directory.listed(at - 1);
            let block = directory.listed(at);
            before.0 <= block.0 && before.1 < block.1
        });
        let inside = blocks == 0 || directory.listed(blocks - 1).1 < length as u64;
        if !(whole && ascending && inside && is_filter(filter)) {
            return Err(fault("its list of ids is damaged"));
        }
        Ok(directory)
    }

    /// The same of bytes that [`IdDirectory::open`] has found sound: without a look at all of them.
    pub(super) fn checked_before(list: &'a [u8], filter: &'a [u8], length: usize) -> Self {
        IdDirectory { list, filter, length }
    }

    fn listed(&self, block: usize) -> (u64, u64) {
        (u64_at(self.list, 2 * block), u64_at(self.list, 2 * block + 1))
    }

    /// Which bytes of the blocks hold the id of this hash, if any does; `None` where none does for
    /// sure. About 1 of 250 hashes that are not here gets a range too.
    pub fn find(&self, hash: u64) -> Option<Range<usize>> {
        let (descriptor, fingerprints) = self.filter.split_at(BinaryFuse8::DESCRIPTOR_LEN);
        if !BinaryFuse8Ref::from_dma(descriptor, fingerprints).contains(&hash) {
            return None;
        }
        // Equal hashes may cross from one block to the next.
        let first = self.partition(|other| other < hash).saturating_sub(1);
        let end = self.partition(|other| other <= hash);
        (first < end).then(|| self.block(first).start..self.block(end - 1).end)
    }

    /// How many blocks at the beginning have a first hash for which `is_before` holds.
    fn partition(&self, is_before: impl Fn(u64) -> bool) -> usize {
        partition_point(self.list.len() / LISTED_BYTES, |block| is_before(self.listed(block).0))
    }

    /// Which bytes a block is.
    fn block(&self, block: usize) -> Range<usize> {
        let last = self.list.len() / LISTED_BYTES == block + 1;
        let end = if last { self.length } else { self.listed(block + 1).1 as usize };
        self.listed(block).1 as usize..end
    }

    /// The id at a place of the order of the ids, in the bytes of all `blocks`, whose checksum was right.
    pub fn id_at<'b>(&self, blocks: &'b [u8], place: u32) -> Result<&'b str> {
        let (block, at) = (place as usize / BLOCK_IDS, place as usize % BLOCK_IDS);
        if block >= self.list.len() / LISTED_BYTES {
            return Err(fault("a row has no id"));
        }
        let (block, _) = Block::checked_before(blocks.get(self.block(block)).unwrap_or_default())?;
        block.id(at).ok_or_else(|| fault("a row has no id"))
    }
}

/// Whether a lookup stays inside of the filter.
fn is_filter(bytes: &[u8]) -> bool {
    let mut cursor = Cursor::new("a filter over ids", bytes);
    let (Ok(_), Ok(length), Ok(mask), Ok(count)) =
        (cursor.u64(), cursor.u32(), cursor.u32(), cursor.u32())
    else {
        return false;
    };
    let fingerprints = (bytes.len() - BinaryFuse8::DESCRIPTOR_LEN) as u64;
    length.is_power_of_two()
        && mask == length - 1
        // Where it is not, a place may lie behind the last segment.
        && count >= length
        && count.is_multiple_of(length)
        && u64::from(count) + 2 * u64::from(length) <= fingerprints
}

/// The row of an id of this hash, in the bytes that [`IdDirectory::find`] named.
pub fn row_of(bytes: &[u8], hash: u64, id: &str) -> Result<Option<u32>> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (block, length) = Block::read(rest)?;
        if let Some(row) = block.row_of(hash, id) {
            return Ok(Some(row));
        }
        rest = &rest[length..];
    }
    Ok(None)
}

struct Block<'a> {
    hashes: &'a [u8],
    rows: &'a [u8],
    ends: &'a [u8],
    ids: &'a [u8],
}

impl<'a> Block<'a> {
    /// The block at the front of `bytes`, and its length.
    fn read(bytes: &'a [u8]) -> Result<(Block<'a>, usize)> {
        let (block, length) = Block::checked_before(bytes)?;
        let mut column = Cursor::new("a block of ids", block.ends);
        ends(&mut column, block.ends.len() / 4, block.ids.len())?;
        Ok((block, length))
    }

    /// The same of bytes whose checksum was right: without a look at where each id ends.
    fn checked_before(bytes: &'a [u8]) -> Result<(Block<'a>, usize)> {
        let mut cursor = Cursor::new("a block of ids", bytes);
        let count = cursor.u32()? as usize;
        cursor.u32()?;
        let hashes = cursor.take(count.saturating_mul(8))?;
        let rows = cursor.take(count.saturating_mul(4))?;
        let ends = cursor.take(count.saturating_mul(4))?;
        let last = count.checked_sub(1).ok_or_else(|| fault("a block has no ids"))?;
        let ids = cursor.take(end_at(ends, last))?;
        let length = (8 + 16 * count + ids.len()).next_multiple_of(8);
        if length > bytes.len() {
            return Err(fault("a block of ids is cut short"));
        }
        Ok((Block { hashes, rows, ends, ids }, length))
    }

    fn id(&self, at: usize) -> Option<&'a str> {
        if at >= self.rows.len() / 4 {
            return None;
        }
        let start = if at == 0 { 0 } else { end_at(self.ends, at - 1) };
        std::str::from_utf8(self.ids.get(start..end_at(self.ends, at))?).ok()
    }

    fn row_of(&self, hash: u64, id: &str) -> Option<u32> {
        let count = self.rows.len() / 4;
        let first = partition_point(count, |at| u64_at(self.hashes, at) < hash);
        let mut equal = (first..count).take_while(|&at| u64_at(self.hashes, at) == hash);
        equal.find(|&at| self.id(at) == Some(id)).map(|at| u32_at(self.rows, at))
    }
}
