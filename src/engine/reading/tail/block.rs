//! One immutable run of rows in columns; only the mark that ends a row is ever set.

use super::hashes::first_at_least;
use crate::base::Result;
use crate::base::defect::{self, Defect};
use crate::base::ids::Seq;
use crate::base::request::{RequestContext, Work};
use crate::base::strings::Strings;
use crate::engine::reading::allowed::{Allowed, AllowedRows};
use crate::filter::Filter;
use crate::filter::index::{FilterIndex, FilterIndexBuilder};
use crate::index::{Flat, Metric, Threads, inverse_norm};
use crate::log::vectors::StoredVector;
use roaring::RoaringBitmap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Rows of an index between two looks at whether anybody waits for it.
const ROWS_PER_CHECK: usize = 256;

/// A delete: where it stands in the log, and up to which position it kills rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Delete {
    /// Its position.
    pub seq: Seq,
    /// Rows that were written here or before are dead.
    pub kills_until: Seq,
}

impl Delete {
    /// Both as one, which may stand for them wherever the later one counts. It kills no more: what the
    /// earlier one does to the segments below is done to them once a base has passed it.
    fn with(self, other: Delete) -> Delete {
        Delete {
            seq: self.seq.max(other.seq),
            kills_until: self.kills_until.max(other.kills_until),
        }
    }
}

/// Ids that deletes named, whether or not there was such a row: there may be one in a segment. Each is there
/// once.
#[derive(Debug, Default)]
struct Tombstones {
    /// In ascending order.
    hashes: Vec<u64>,
    ids: Strings,
    deletes: Vec<Delete>,
}

impl Tombstones {
    fn of(mut all: Vec<(u64, String, Delete)>) -> Tombstones {
        all.sort_unstable();
        let mut tombstones = Tombstones::default();
        let mut last: Option<(u64, String)> = None;
        for (hash, id, delete) in all {
            match tombstones.deletes.last_mut() {
                Some(before) if last.as_ref().is_some_and(|last| *last == (hash, id.clone())) => {
                    *before = before.with(delete);
                }
                _ => {
                    tombstones.hashes.push(hash);
                    tombstones.ids.push(&id);
                    tombstones.deletes.push(delete);
                    last = Some((hash, id));
                }
            }
        }
        tombstones
    }

    fn of_id(&self, hash: u64, id: &str) -> Option<Delete> {
        let first = first_at_least(&self.hashes, hash);
        let mut same = (first..self.hashes.len()).take_while(|at| self.hashes[*at] == hash);
        same.find(|at| self.ids.get(*at) == id).map(|at| self.deletes[at])
    }

    fn iter(&self) -> impl Iterator<Item = (u64, &str, Delete)> {
        (0..self.hashes.len()).map(|at| (self.hashes[at], self.ids.get(at), self.deletes[at]))
    }
}

/// Rows in columns, in the order of the log.
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
    tombstones: Tombstones,
    by_id: OnceLock<Vec<u32>>,
    /// Codes to search it by, where that is worth it.
    flat: Option<Flat>,
    filter: OnceLock<(FilterIndex, AllowedRows)>,
}

impl Block {
    /// Makes it ready to be searched by codes, in the formats of one of `like` where they suit.
    pub fn code<'a>(&mut self, metric: Metric, like: impl IntoIterator<Item = &'a Flat>) {
        let mut like = like.into_iter();
        let beside = like.find_map(|like| like.beside(&self.vectors, Threads::One));
        let fitted = || Flat::build(metric, self.dimensions, &self.vectors, Threads::One);
        self.flat = Some(beside.unwrap_or_else(fitted));
    }

    /// Codes to search it by, where it has them.
    pub fn flat(&self) -> Option<&Flat> {
        self.flat.as_ref()
    }

    /// Which rows a filter lets through, dead ones included. What it is answered from is made when it is
    /// first asked for.
    pub fn allowed(&self, filter: &Filter, work: &Work<'_>) -> Result<Arc<Allowed>> {
        let (index, allowed) = self.filter_index(work.context())?;
        allowed.of(filter, index, &RoaringBitmap::new(), work)
    }

    /// The same, decided by the metadata where the index cannot tell.
    pub fn remember(&self, filter: &Filter, allowed: Arc<Allowed>) {
        if let Some((_, known)) = self.filter.get() {
            known.remember(filter, allowed);
        }
    }

    /// What serves all that come later is not dear, but it ends with the request.
    fn filter_index(&self, context: &RequestContext) -> Result<&(FilterIndex, AllowedRows)> {
        if let Some(index) = self.filter.get() {
            return Ok(index);
        }
        let mut builder = FilterIndexBuilder::new();
        for row in 0..self.rows() {
            if row % ROWS_PER_CHECK == 0 {
                context.check()?;
            }
            builder.push_text(self.metadata(row));
        }
        let index = FilterIndex::open(builder.finish().into())?;
        Ok(self.filter.get_or_init(|| (index, AllowedRows::new(self.bytes()))))
    }

    /// How many rows there are, dead ones included.
    pub fn rows(&self) -> usize {
        self.written.len()
    }

    /// Whether nothing was done in it after `base`, not even a delete.
    pub fn is_empty(&self, base: Seq) -> bool {
        self.first_after(base) == self.rows()
            && self.tombstones.deletes.iter().all(|delete| delete.seq <= base)
    }

    /// The first row that was written after `base`; all later ones were too.
    pub fn first_after(&self, base: Seq) -> usize {
        self.written.partition_point(|written| *written <= base)
    }

    /// How many rows were written after `base` and have not ended.
    pub fn live_rows(&self, base: Seq) -> usize {
        match self.first_after(base) {
            0 => self.rows() - self.ended_count.load(Ordering::Relaxed),
            first => {
                let ended = self.ended[first..].iter();
                ended.filter(|ended| ended.load(Ordering::Acquire) == 0).count()
            }
        }
    }

    /// Up to which position what was done to this id after `base` and up to `version` kills its rows in
    /// segments; `None` where nothing was done.
    pub fn killed_until(&self, hash: u64, id: &str, base: Seq, version: Seq) -> Option<Seq> {
        let within = |seq: Seq| base < seq && seq <= version;
        let rows = self.rows_with(hash, id).map(|row| self.written[row]);
        let overwritten = rows.filter(|written| within(*written)).map(Seq::previous).max();
        let deleted = self.tombstones.of_id(hash, id).filter(|delete| within(delete.seq));
        overwritten.max(deleted.map(|delete| delete.kills_until))
    }

    /// Every id to which anything was done after `base`, with its hash and the position up to which that
    /// kills its rows in segments, perhaps several times.
    pub fn touched(&self, base: Seq) -> impl Iterator<Item = (u64, &str, Seq)> {
        let rows = self.hashes.iter().zip(&self.hashed_rows);
        let rows = rows.map(|(hash, row)| (*hash, *row as usize));
        let written = rows.filter(move |(_, row)| self.written[*row] > base);
        let written = written.map(|(hash, row)| (hash, self.id(row), self.written[row].previous()));
        let deleted = self.tombstones.iter().filter(move |(.., delete)| delete.seq > base);
        written.chain(deleted.map(|(hash, id, delete)| (hash, id, delete.kills_until)))
    }

    /// Hashes of the ids to which anything was done, some several times.
    pub fn hashes(&self) -> impl Iterator<Item = u64> {
        self.hashes.iter().chain(&self.tombstones.hashes).copied()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let strings = [&self.ids, &self.metadata, &self.text, &self.tombstones.ids];
        let per_row = size_of::<f32>() + 2 * size_of::<u64>() + 8 + 4 + 1;
        self.vectors.len() * size_of::<f32>()
            + self.rows() * per_row
            + self.tombstones.deletes.len() * 24
            + self.flat.as_ref().map_or(0, Flat::bytes)
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

    /// Whether a row that was written after `base` is shown at `version`.
    pub fn is_visible(&self, row: usize, base: Seq, version: Seq) -> bool {
        let (written, ended) = (self.written[row], self.ended[row].load(Ordering::Acquire));
        base < written && written <= version && (ended == 0 || ended > version.0)
    }

    /// The rows with this id, dead ones included.
    pub fn rows_with<'a>(&'a self, hash: u64, id: &'a str) -> impl Iterator<Item = usize> + 'a {
        let first = first_at_least(&self.hashes, hash);
        let same = self.hashes[first..].iter().take_while(move |other| **other == hash).count();
        let rows = self.hashed_rows[first..first + same].iter().map(|row| *row as usize);
        rows.filter(move |row| self.id(*row) == id)
    }

    /// Ends the live row with this id, if it was written after `base` and at `until` or before, at `seq`;
    /// whether there was one.
    pub fn end(&self, hash: u64, id: &str, base: Seq, until: Seq, seq: Seq) -> bool {
        let mut rows = self.rows_with(hash, id).filter(|row| self.written[*row] > base);
        let live = rows.find(|row| self.ended[*row].load(Ordering::Relaxed) == 0);
        let live = live.filter(|row| self.written[*row] <= until);
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
    deletes: HashMap<(u64, String), Delete>,
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
                tombstones: Tombstones::default(),
                by_id: OnceLock::new(),
                flat: None,
                filter: OnceLock::new(),
            },
            rows_by_hash: HashMap::new(),
            deletes: HashMap::new(),
        }
    }

    /// Up to which position what has been done to this id kills its rows in segments; `None` where nothing
    /// has been.
    pub fn killed_until(&self, hash: u64, id: &str) -> Option<Seq> {
        let rows = self.rows_by_hash.get(&hash).map(Vec::as_slice).unwrap_or_default();
        let rows = rows.iter().map(|row| *row as usize);
        let rows = rows.filter(|row| self.block.id(*row) == id);
        let overwritten = rows.map(|row| self.block.written[row].previous()).max();
        let deleted = match self.deletes.is_empty() {
            true => None,
            false => self.deletes.get(&(hash, id.to_owned())),
        };
        overwritten.max(deleted.map(|delete| delete.kills_until))
    }

    /// Notes that the id was deleted. The last time counts: whoever shows this block shows all of it,
    /// and an indexer may have gone past an earlier time.
    pub fn delete(&mut self, hash: u64, id: &str, delete: Delete) {
        let noted = self.deletes.entry((hash, id.to_owned())).or_insert(delete);
        *noted = noted.with(delete);
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
        let row = self.block.rows() as u32;
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

    /// Ends the live row with this id, if it was written at `until` or before, at `seq`; whether there was
    /// one.
    pub fn end(&mut self, hash: u64, id: &str, until: Seq, seq: Seq) -> bool {
        let Some(rows) = self.rows_by_hash.get(&hash) else {
            return false;
        };
        let block = &mut self.block;
        for row in rows.iter().rev().map(|row| *row as usize) {
            if block.ids.get(row) == id && *block.ended[row].get_mut() == 0 {
                if block.written[row] > until {
                    return false;
                }
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
        let deletes = self.deletes.into_iter().map(|((hash, id), delete)| (hash, id, delete));
        self.block.tombstones = Tombstones::of(deletes.collect());
        self.block
    }
}

/// Blocks made into one.
#[derive(Debug)]
pub struct Merged {
    /// What they were made into.
    pub block: Block,
    /// Where each row of each of them went; [`GONE`] where it had ended.
    moved: Vec<Vec<u32>>,
}

/// The place of a row that was left out.
const GONE: u32 = u32::MAX;

impl Merged {
    /// Ends the rows that have ended in `blocks`, of which it was made, since. Nobody else may end any
    /// meanwhile.
    pub fn end_as_in(&mut self, blocks: &[Arc<Block>]) {
        for (block, moved) in blocks.iter().zip(&self.moved) {
            for (ended, to) in block.ended.iter().zip(moved).filter(|(_, to)| **to != GONE) {
                let ended = ended.load(Ordering::Acquire);
                if ended != 0 {
                    *self.block.ended[*to as usize].get_mut() = ended;
                    *self.block.ended_count.get_mut() += 1;
                }
            }
        }
    }
}

/// One block of the rows of `blocks` that were written after `base` and have not ended, and of the
/// deletes after it. Older snapshots keep the old blocks.
pub fn merge(dimensions: usize, base: Seq, blocks: &[Arc<Block>]) -> Merged {
    let live: usize = blocks.iter().map(|block| block.live_rows(base)).sum();
    let mut merged = BlockBuilder::new(dimensions).block;
    merged.vectors.reserve_exact(live * dimensions);
    let mut pairs: Vec<(u64, u32)> = Vec::with_capacity(live);
    let mut all_moved = Vec::with_capacity(blocks.len());
    for block in blocks {
        let mut moved = vec![GONE; block.rows()];
        for (row, to) in moved.iter_mut().enumerate().skip(block.first_after(base)) {
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
        pairs.extend(kept.filter(|(_, row)| *row != GONE));
        all_moved.push(moved);
    }
    pairs.sort_unstable();
    (merged.hashes, merged.hashed_rows) = pairs.into_iter().unzip();
    let deletes = blocks.iter().flat_map(|block| block.tombstones.iter());
    let forgets = defect::is_here(Defect::TombstoneLostInTidy);
    let deletes = deletes.filter(|(.., delete)| delete.seq > base && !forgets);
    merged.tombstones =
        Tombstones::of(deletes.map(|(hash, id, delete)| (hash, id.to_owned(), delete)).collect());
    Merged { block: merged, moved: all_moved }
}
