//! The log's unindexed tail, in memory: columnar blocks that many queries read while one task adds.
//!
//! Every row knows the log position that wrote it and the one that ended it, so a [`Snapshot`] is
//! a version and a list of blocks: applying an entry never changes what an older snapshot shows.
//! Small blocks are merged into larger ones, which keeps their number logarithmic, and rows that
//! no new snapshot can show are dropped on the way.

mod block;

use crate::base::compute::Compute;
use crate::base::ids::{Seq, Totals, record_hash};
use crate::base::{Error, Result};
use crate::log::chunk::Operation;
use crate::log::read::Batch;
use std::sync::Arc;

pub use block::{Block, BlockBuilder};

/// Blocks are not merged past this size: a query works on blocks one after another, and a merge
/// copies its rows.
const BLOCK_ROWS_MAX: usize = 65_536;

/// The rows of one version. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The log position that is shown.
    pub version: Seq,
    /// Rows of entries up to this position are not here: they are in segments.
    pub base: Seq,
    /// Totals over the log up to `version`.
    pub totals: Totals,
    /// Live rows.
    pub live: u64,
    blocks: Arc<[Arc<Block>]>,
}

impl Snapshot {
    /// The blocks, oldest first.
    pub fn blocks(&self) -> &[Arc<Block>] {
        &self.blocks
    }

    /// Whether `row` of `block` is shown at this version.
    pub fn shows(&self, block: &Block, row: usize) -> bool {
        block.is_visible(row, self.version)
    }

    /// Where the record with this id is.
    pub fn find(&self, id: &str) -> Option<(&Block, usize)> {
        let hash = record_hash(id);
        self.blocks.iter().rev().find_map(|block| {
            let mut rows = block.rows_with(hash, id);
            rows.find(|row| self.shows(block, *row)).map(|row| (&**block, row))
        })
    }

    /// Rows held, dead ones included.
    pub fn rows(&self) -> u64 {
        self.blocks.iter().map(|block| block.rows() as u64).sum()
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.blocks.iter().map(|block| block.bytes() as u64).sum()
    }
}

/// The growing end: owned by the one task that applies the log.
#[derive(Debug)]
pub struct Tail {
    dimensions: usize,
    base: Seq,
    version: Seq,
    totals: Totals,
    live: u64,
    blocks: Vec<Arc<Block>>,
}

impl Tail {
    /// An empty tail of a log whose entries up to `base` (with `totals`) are elsewhere.
    pub fn new(dimensions: usize, base: Seq, totals: Totals) -> Self {
        Tail { dimensions, base, version: base, totals, live: 0, blocks: Vec::new() }
    }

    /// The last position applied.
    pub fn version(&self) -> Seq {
        self.version
    }

    /// What is there now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            version: self.version,
            base: self.base,
            totals: self.totals,
            live: self.live,
            blocks: self.blocks.as_slice().into(),
        }
    }

    /// Applies entries that follow the last one, and merges blocks that have become small.
    pub async fn apply(&mut self, batches: Vec<Batch>, compute: &Compute) -> Result<()> {
        let blocks = std::mem::take(&mut self.blocks);
        let mut work = Work {
            dimensions: self.dimensions,
            version: self.version,
            totals: self.totals,
            live: self.live,
            blocks,
        };
        // On failure the tail is empty and its owner starts over from the manifest.
        let work = compute
            .run(move || {
                work.apply(&batches)?;
                work.merge();
                Ok::<_, Error>(work)
            })
            .await??;
        (self.version, self.totals) = (work.version, work.totals);
        (self.live, self.blocks) = (work.live, work.blocks);
        Ok(())
    }
}

/// The CPU-heavy part of [`Tail::apply`], as a value that can move to the compute pool.
struct Work {
    dimensions: usize,
    version: Seq,
    totals: Totals,
    live: u64,
    blocks: Vec<Arc<Block>>,
}

impl Work {
    /// One new block for all entries: catching up over many small entries builds few blocks.
    fn apply(&mut self, batches: &[Batch]) -> Result<()> {
        let mut builder = BlockBuilder::new(self.dimensions);
        for batch in batches {
            if batch.header.seq != self.version.next() {
                return Err(Error::internal(format!(
                    "entry {} does not follow {}",
                    batch.header.seq, self.version
                )));
            }
            let seq = batch.header.seq;
            for chunk in &batch.chunks {
                if chunk.upserts() > 0 && chunk.dimensions() as usize != self.dimensions {
                    return Err(Error::corrupt(format!(
                        "log entry {seq} has vectors of {} dimensions in a collection of {}",
                        chunk.dimensions(),
                        self.dimensions
                    )));
                }
                for operation in chunk.iter() {
                    self.operation(&mut builder, seq, operation);
                }
            }
            self.version = seq;
            self.totals = batch.header.totals;
        }
        if builder.rows() > 0 {
            self.blocks.push(Arc::new(builder.finish()));
        }
        Ok(())
    }

    fn operation(&mut self, builder: &mut BlockBuilder, seq: Seq, operation: Operation<'_>) {
        let (Operation::Upsert { id, .. } | Operation::Delete { id }) = operation;
        let hash = record_hash(id);
        let ended = builder.end(hash, id, seq)
            || self.blocks.iter().rev().any(|block| block.end(hash, id, seq));
        self.live -= u64::from(ended);
        if let Operation::Upsert { vector, metadata, text, .. } = operation {
            builder.push(hash, id, seq, vector, metadata, text);
            self.live += 1;
        }
    }

    fn merge(&mut self) {
        while let [.., older, newer] = self.blocks.as_slice() {
            let rows = older.live_rows() + newer.live_rows();
            if older.rows() > newer.rows() * 2 || rows > BLOCK_ROWS_MAX {
                break;
            }
            let merged = block::merge(self.dimensions, &[older.clone(), newer.clone()]);
            self.blocks.truncate(self.blocks.len() - 2);
            self.blocks.push(Arc::new(merged));
        }
        for block in &mut self.blocks {
            if block.live_rows() * 2 < block.rows() {
                *block = Arc::new(block::merge(self.dimensions, std::slice::from_ref(block)));
            }
        }
        self.blocks.retain(|block| block.rows() > 0);
    }
}

#[cfg(test)]
mod tests;
