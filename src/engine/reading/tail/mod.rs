//! The log's unindexed tail, in memory: columnar blocks that many queries read while one task adds.
//!
//! Every row knows the log position that wrote it and the one that ended it, so a [`View`] is two
//! versions and a list of blocks: applying an entry never changes what an older view shows. Small
//! blocks are merged into larger ones, which keeps their number logarithmic, and rows that no new
//! view can show are dropped on the way. A merge takes up to a tenth of a second, so it runs beside the
//! application of the log's entries ([`Tail::untidy`]): otherwise whoever has just written would wait for it.
//!
//! The tail begins behind a *base*, the position up to which the log is in segments. A record may be in the tail and
//! in a segment. So the tail also knows which ids were touched by any operation, and up to which position the
//! operation kills rows of the id in segments. An upsert or a delete kills what was written before it. A delete with
//! a limit, which was decided at an earlier version, kills only what was written up to that version. A row is dead as
//! soon as any operation kills up to its position or past it. So the greatest such position says everything about an
//! id, in whichever order operations and merges are looked at.

mod block;
mod hashes;
mod tidy;

use crate::base::compute::Compute;
use crate::base::ids::{Seq, Totals, record_hash};
use crate::base::{Error, Result};
use crate::index::Metric;
use crate::log::chunk::Operation;
use crate::log::read::Batch;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub use block::{Block, BlockBuilder, Delete};
pub use tidy::Tidied;

/// To look for the row that an operation replaces counts like so many bytes.
const LOOKUP_BYTES: usize = 256;

/// Tells which position wrote a record that is live in the segments below the tail.
pub type Below = dyn Fn(u64, &str) -> Option<Seq> + Send + Sync;

/// A chunk of the log that is skipped, because it does not fit the collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The position of its entry.
    pub seq: Seq,
    /// What is wrong with it.
    pub reason: String,
}

/// The tail's rows of one version. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct View {
    /// The log position that is shown.
    pub version: Seq,
    /// What entries up to this position wrote is not shown: it is in segments.
    pub base: Seq,
    /// Totals over the log up to `version`.
    pub totals: Totals,
    /// Live rows.
    pub live: u64,
    /// Records that are live in the segments below and dead by what was done here.
    pub shadowed: u64,
    blocks: Arc<[Arc<Block>]>,
    /// Bytes that the tail holds beside them.
    beside: u64,
}

impl View {
    /// The blocks, oldest first.
    pub fn blocks(&self) -> &[Arc<Block>] {
        &self.blocks
    }

    /// Whether `row` of `block` is shown at this version.
    pub fn shows(&self, block: &Block, row: usize) -> bool {
        block.is_visible(row, self.base, self.version)
    }

    /// Where the record with this id is.
    pub fn find(&self, hash: u64, id: &str) -> Option<(&Block, usize)> {
        self.blocks.iter().rev().find_map(|block| {
            let mut rows = block.rows_with(hash, id);
            rows.find(|row| self.shows(block, *row)).map(|row| (&**block, row))
        })
    }

    /// Up to which position rows of this id in segments are dead by what was done to it later; 0 where
    /// nothing was.
    pub fn dead_until(&self, hash: u64, id: &str) -> Seq {
        let mut until = Seq(0);
        for block in self.blocks.iter().rev() {
            let killed = block.killed_until(hash, id, self.base, self.version);
            until = until.max(killed.unwrap_or_default());
            // No row of a segment is newer.
            if until >= self.base {
                break;
            }
        }
        until
    }

    /// Whether nothing was done behind the base.
    pub fn is_empty(&self) -> bool {
        self.version == self.base
    }

    /// Rows held, dead ones included.
    pub fn rows(&self) -> u64 {
        self.blocks.iter().map(|block| block.rows() as u64).sum()
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.blocks.iter().map(|block| block.bytes() as u64).sum::<u64>() + self.beside
    }
}

/// The growing end: owned by the one task that applies the log.
#[derive(Debug)]
pub struct Tail {
    shape: Shape,
    state: State,
}

/// What the rows are like.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Length of every vector.
    pub dimensions: usize,
    /// How distance is measured; `None` where nobody searches, and blocks need no codes.
    pub metric: Option<Metric>,
}

#[derive(Debug, Default)]
struct State {
    base: Seq,
    version: Seq,
    totals: Totals,
    live: u64,
    shadowed: u64,
    blocks: Vec<Arc<Block>>,
    /// Hashes of all ids to which anything was done in the blocks, and perhaps of others: most ids of a large import
    /// are new, and need not be looked for in each block.
    seen: HashSet<u64>,
}

/// What a hash in [`State::seen`] takes, about.
const SEEN_BYTES: usize = 9;

impl Tail {
    /// An empty tail of a log whose entries up to `base` (with `totals`) are elsewhere.
    pub fn new(shape: Shape, base: Seq, totals: Totals) -> Self {
        Tail { shape, state: State { base, version: base, totals, ..State::default() } }
    }

    /// The last position applied.
    pub fn version(&self) -> Seq {
        self.state.version
    }

    /// What is there now.
    pub fn view(&self) -> View {
        let State { base, version, totals, live, shadowed, ref blocks, ref seen } = self.state;
        let beside = (seen.capacity() * SEEN_BYTES) as u64;
        View { version, base, totals, live, shadowed, blocks: blocks.as_slice().into(), beside }
    }

    /// Applies entries that follow the last one; what of them does not fit is skipped.
    pub async fn apply(
        &mut self,
        batches: Vec<Batch>,
        below: Arc<Below>,
        compute: &Compute,
    ) -> Result<Vec<Misfit>> {
        let chunks = batches.iter().flat_map(|batch| &batch.chunks);
        let bytes = chunks.map(|chunk| chunk.bytes() + chunk.operations() * LOOKUP_BYTES).sum();
        self.change(compute, bytes, move |work| work.apply(&batches, &*below)).await
    }

    /// Lets go of everything up to `base`, which is in segments now.
    pub async fn rebase(&mut self, base: Seq, below: Arc<Below>, compute: &Compute) -> Result<()> {
        self.change(compute, usize::MAX, move |work| {
            work.rebase(base, &*below);
            Ok(())
        })
        .await
    }

    /// On failure the tail is empty and its owner starts over from the manifest.
    async fn change<T: Send + 'static>(
        &mut self,
        compute: &Compute,
        bytes: usize,
        change: impl FnOnce(&mut Work) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let state = std::mem::take(&mut self.state);
        let mut work = Work { shape: self.shape, state };
        let run = move || {
            let done = change(&mut work)?;
            Ok::<_, Error>((work.state, done))
        };
        let (state, done) = compute.run_over(bytes, run).await??;
        self.state = state;
        Ok(done)
    }
}

/// The CPU-heavy part of the tail's changes, as a value that can move to the compute pool.
struct Work {
    shape: Shape,
    state: State,
}

impl Work {
    /// One new block for all entries: catching up over many small entries builds few blocks.
    fn apply(&mut self, batches: &[Batch], below: &Below) -> Result<Vec<Misfit>> {
        let mut builder = BlockBuilder::new(self.shape.dimensions);
        let mut misfits = Vec::new();
        for batch in batches {
            let seq = batch.header.seq;
            if seq != self.state.version.next() {
                let version = self.state.version;
                return Err(Error::internal(format!("entry {seq} does not follow {version}")));
            }
            for chunk in &batch.chunks {
                // One write that does not fit ends nothing: everybody goes past it.
                if let Some(reason) = chunk.misfit(self.shape.dimensions) {
                    misfits.push(Misfit { seq, reason });
                    continue;
                }
                for operation in chunk.iter() {
                    self.operation(&mut builder, seq, operation, below);
                }
            }
            self.state.version = seq;
            self.state.totals = batch.header.totals;
        }
        let block = builder.finish();
        if !block.is_empty(self.state.base) {
            self.state.blocks.push(Arc::new(block));
        }
        Ok(misfits)
    }

    fn operation(
        &mut self,
        builder: &mut BlockBuilder,
        seq: Seq,
        operation: Operation<'_>,
        below: &Below,
    ) {
        let State { base, live, shadowed, blocks, seen, .. } = &mut self.state;
        let (id, kills_until) = (operation.id(), operation.kills_until(seq));
        let hash = record_hash(id);
        let known = match seen.insert(hash) {
            true => None,
            false => {
                let killed = |block: &Arc<Block>| block.killed_until(hash, id, *base, seq);
                let in_blocks = blocks.iter().map(killed).max();
                builder.killed_until(hash, id).max(in_blocks.flatten())
            }
        };
        let before = known.unwrap_or_default();
        // What is in segments was written at the base or before.
        if before < kills_until.min(*base) {
            let dies = |written: Seq| before < written && written <= kills_until;
            *shadowed += u64::from(below(hash, id).is_some_and(dies));
        }
        // Without a limit it ends what stands before it in its own entry, too.
        let until = if operation.is_limited() { kills_until } else { seq };
        let ended = known.is_some()
            && (builder.end(hash, id, until, seq)
                || blocks.iter().rev().any(|block| block.end(hash, id, *base, until, seq)));
        *live -= u64::from(ended);
        match operation {
            Operation::Upsert { vector, metadata, text, .. } => {
                builder.push(hash, id, seq, vector, metadata, text);
                *live += 1;
            }
            Operation::Delete { .. } => builder.delete(hash, id, Delete { seq, kills_until }),
        }
    }

    fn rebase(&mut self, base: Seq, below: &Below) {
        self.state.base = base;
        self.state.blocks.retain(|block| !block.is_empty(base));
        let blocks = &self.state.blocks;
        self.state.seen = blocks.iter().flat_map(|block| block.hashes()).collect();
        self.state.live = blocks.iter().map(|block| block.live_rows(base) as u64).sum();
        let mut touched: HashMap<(u64, &str), Seq> = HashMap::new();
        for (hash, id, kills_until) in blocks.iter().flat_map(|block| block.touched(base)) {
            let until = touched.entry((hash, id)).or_default();
            *until = kills_until.max(*until);
        }
        let is_dead = |((hash, id), until): &((u64, &str), Seq)| {
            below(*hash, id).is_some_and(|written| written <= *until)
        };
        self.state.shadowed = touched.into_iter().filter(is_dead).count() as u64;
    }
}

#[cfg(test)]
mod tests;
