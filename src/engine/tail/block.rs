//! One immutable run of rows in columns; only the mark that ends a row is ever set.

use crate::base::ids::Seq;
use crate::index::inverse_norm;
use crate::log::vectors::StoredVector;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Strings, one per row, in one allocation.
#[derive(Debug, Default)]
struct Strings {
    bytes: String,
    ends: Vec<usize>,
}

impl Strings {
    fn push(&mut self, text: &str) {
        self.bytes.push_str(text);
        self.ends.push(self.bytes.len());
    }

    fn get(&self, row: usize) -> &str {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.bytes[start..self.ends[row]]
    }

    fn allocated(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }
}

/// Rows in columns.
#[derive(Debug)]
pub struct Block {
    dimensions: usize,
    vectors: Vec<f32>,
    inverse_norms: Vec<f32>,
    /// The position that wrote each row.
    written: Vec<Seq>,
    /// The position that ended each row, or 0.
    ended: Vec<AtomicU64>,
    ended_count: AtomicUsize,
    /// Hashes in ascending order, and the row of each.
    hashes: Vec<u64>,
    hashed_rows: Vec<u32>,
    ids: Strings,
    metadata: Strings,
    text: Strings,
    has_text: Vec<bool>,
    by_id: OnceLock<Vec<u32>>,
}

impl Block {
    /// How many rows there are, dead ones included.
    pub fn rows(&self) -> usize {
        self.written.len()
    }

    /// How many rows have not ended.
    pub fn live_rows(&self) -> usize {
        self.rows() - self.ended_count.load(Ordering::Relaxed)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let strings = [&self.ids, &self.metadata, &self.text];
        let per_row = size_of::<f32>() + 2 * size_of::<u64>() + 8 + 4 + 1;
        self.vectors.len() * size_of::<f32>()
            + self.rows() * per_row
            + strings.iter().map(|strings| strings.allocated()).sum::<usize>()
    }

    /// All vectors, row after row.
    pub fn vectors(&self) -> &[f32] {
        &self.vectors
    }

    /// One over the length of each vector.
    pub fn inverse_norms(&self) -> &[f32] {
        &self.inverse_norms
    }

    /// The vector of a row.
    pub fn vector(&self, row: usize) -> &[f32] {
        &self.vectors[row * self.dimensions..(row + 1) * self.dimensions]
    }

    /// The id of a row.
    pub fn id(&self, row: usize) -> &str {
        self.ids.get(row)
    }

    /// The metadata of a row: JSON text, or empty.
    pub fn metadata(&self, row: usize) -> &str {
        self.metadata.get(row)
    }

    /// The text of a row.
    pub fn text(&self, row: usize) -> Option<&str> {
        self.has_text[row].then(|| self.text.get(row))
    }

    /// The position that wrote a row.
    pub fn written(&self, row: usize) -> Seq {
        self.written[row]
    }

    /// Whether a row is shown at `version`.
    pub fn is_visible(&self, row: usize, version: Seq) -> bool {
        let ended = self.ended[row].load(Ordering::Acquire);
        self.written[row] <= version && (ended == 0 || ended > version.0)
    }

    /// The rows with this id, dead ones included.
    pub fn rows_with<'a>(&'a self, hash: u64, id: &'a str) -> impl Iterator<Item = usize> + 'a {
        let first = self.hashes.partition_point(|other| *other < hash);
        let same = self.hashes[first..].iter().take_while(move |other| **other == hash).count();
        let rows = self.hashed_rows[first..first + same].iter().map(|row| *row as usize);
        rows.filter(move |row| self.id(*row) == id)
    }

    /// Ends the live row with this id at `seq`; whether there was one.
    pub fn end(&self, hash: u64, id: &str, seq: Seq) -> bool {
        let mut rows = self.rows_with(hash, id);
        let live = rows.find(|row| self.ended[*row].load(Ordering::Relaxed) == 0);
        if let Some(row) = live {
            self.ended[row].store(seq.0, Ordering::Release);
            self.ended_count.fetch_add(1, Ordering::Relaxed);
        }
        live.is_some()
    }

    /// The rows in ascending order of their ids; sorted when it is first asked for.
    pub fn by_id(&self) -> &[u32] {
        self.by_id.get_or_init(|| {
            let mut rows: Vec<u32> = (0..self.rows() as u32).collect();
            rows.sort_unstable_by_key(|row| self.id(*row as usize));
            rows
        })
    }
}

/// Collects rows.
#[derive(Debug)]
pub struct BlockBuilder {
    block: Block,
    rows_by_hash: HashMap<u64, Vec<u32>>,
}

impl BlockBuilder {
    /// No rows yet.
    pub fn new(dimensions: usize) -> Self {
        BlockBuilder {
            block: Block {
                dimensions,
                vectors: Vec::new(),
                inverse_norms: Vec::new(),
                written: Vec::new(),
                ended: Vec::new(),
                ended_count: AtomicUsize::new(0),
                hashes: Vec::new(),
                hashed_rows: Vec::new(),
                ids: Strings::default(),
                metadata: Strings::default(),
                text: Strings::default(),
                has_text: Vec::new(),
                by_id: OnceLock::new(),
            },
            rows_by_hash: HashMap::new(),
        }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.block.rows()
    }

    /// Adds a row. `vector` has the block's dimensions.
    pub fn push(
        &mut self,
        hash: u64,
        id: &str,
        seq: Seq,
        vector: StoredVector<'_>,
        metadata: &str,
        text: Option<&str>,
    ) {
        let row = self.rows() as u32;
        let block = &mut self.block;
        vector.append_to(&mut block.vectors);
        let start = row as usize * block.dimensions;
        block.inverse_norms.push(inverse_norm(&block.vectors[start..]));
        block.written.push(seq);
        block.ended.push(AtomicU64::new(0));
        block.ids.push(id);
        block.metadata.push(metadata);
        block.text.push(text.unwrap_or_default());
        block.has_text.push(text.is_some());
        self.rows_by_hash.entry(hash).or_default().push(row);
    }

    /// Ends the live row with this id at `seq`; whether there was one.
    pub fn end(&mut self, hash: u64, id: &str, seq: Seq) -> bool {
        let Some(rows) = self.rows_by_hash.get(&hash) else {
            return false;
        };
        let block = &mut self.block;
        for row in rows.iter().rev().map(|row| *row as usize) {
            if block.ids.get(row) == id && *block.ended[row].get_mut() == 0 {
                *block.ended[row].get_mut() = seq.0;
                *block.ended_count.get_mut() += 1;
                return true;
            }
        }
        false
    }

    /// Sorts the index.
    pub fn finish(mut self) -> Block {
        let mut pairs: Vec<(u64, u32)> = self
            .rows_by_hash
            .into_iter()
            .flat_map(|(hash, rows)| rows.into_iter().map(move |row| (hash, row)))
            .collect();
        pairs.sort_unstable();
        (self.block.hashes, self.block.hashed_rows) = pairs.into_iter().unzip();
        self.block
    }
}

/// One block of the rows of `blocks` that have not ended. Older snapshots keep the old blocks.
pub fn merge(dimensions: usize, blocks: &[Arc<Block>]) -> Block {
    let live: usize = blocks.iter().map(|block| block.live_rows()).sum();
    let mut merged = BlockBuilder::new(dimensions).block;
    merged.vectors.reserve_exact(live * dimensions);
    let mut pairs: Vec<(u64, u32)> = Vec::with_capacity(live);
    for block in blocks {
        let mut moved = vec![u32::MAX; block.rows()];
        for (row, to) in moved.iter_mut().enumerate() {
            if block.ended[row].load(Ordering::Acquire) != 0 {
                continue;
            }
            *to = merged.written.len() as u32;
            merged.vectors.extend_from_slice(block.vector(row));
            merged.inverse_norms.push(block.inverse_norms[row]);
            merged.written.push(block.written[row]);
            merged.ended.push(AtomicU64::new(0));
            merged.ids.push(block.id(row));
            merged.metadata.push(block.metadata(row));
            merged.text.push(block.text.get(row));
            merged.has_text.push(block.has_text[row]);
        }
        let kept = block.hashes.iter().zip(&block.hashed_rows);
        let kept = kept.map(|(hash, row)| (*hash, moved[*row as usize]));
        pairs.extend(kept.filter(|(_, row)| *row != u32::MAX));
    }
    pairs.sort_unstable();
    (merged.hashes, merged.hashed_rows) = pairs.into_iter().unzip();
    merged
}
