//! One query on its way through an index.

use crate::index::build::by_length::{self, WHOLE_REACH};
use crate::index::build::calibrate::DEFAULT_RECALL;
use crate::index::graph::{Coded, Walk, prefetch};
use crate::index::quantize::code::{Code, Placed, Scalar, Shape, Short};
use crate::index::quantize::codes::Codes;
use crate::index::query::parts::Found;
use crate::index::query::pool::{Key, Pool};
use crate::index::query::scan::{Kept, Run};
use crate::index::{Index, PreparedQuery, RowSet, Threads, Vectors};
use std::cell::RefCell;
use std::ops::{Deref, DerefMut, Range};

/// Most results that can be asked for, and most rows that a walk keeps.
pub const EF_MAX: usize = 100_000;
/// Entries from which a walk starts.
const STARTS: usize = 3;
/// Rows that a filter may allow, for each row that a walk would keep, to be scanned one by one: a
/// step of a walk past rows that are not allowed costs as much as scanning this many.
const PICKED_PER_KEPT: usize = 200;
/// An index, or a part, of no more rows than these, for each row that a walk would keep, is scanned: that costs
/// no more, and finds all.
pub(in crate::index) const SCANNED_PER_KEPT: usize = 100;

/// Shapes of codes that a scratch space keeps queries for.
const SHAPES: usize = 8;

/// Rows near the query of which it is counted how many a filter allows.
const PROBED: usize = 24;

/// How hard to look.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Effort {
    /// For a recall of about 0.98, as was measured when the index was built.
    #[default]
    Default,
    /// Walks keep this many rows: `efSearch`, 1 to [`EF_MAX`]; at least `k` are kept.
    Ef(usize),
    /// For about this recall, 0 to 1, as was measured when the index was built.
    Recall(f32),
}

/// What to search for besides the query.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    /// Results, at most; 1 to [`EF_MAX`].
    pub k: usize,
    /// How hard to look.
    pub effort: Effort,
    /// Only these rows are results.
    pub allowed: Option<&'a RowSet>,
    /// The full-precision vectors. With them the best results are measured again and distances are
    /// exact; without, both are those of the 8-bit codes.
    pub vectors: Option<&'a dyn Vectors>,
}

/// A result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// The row, in the order of the index.
    pub row: u32,
    /// Its distance from the query; lower is closer.
    pub distance: f32,
}

/// What searches need besides the index. One is used by one search after another, and makes them
/// free of allocations once it has grown.
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    /// One for each shape of codes that it served lately, those in use first.
    pub(in crate::index) queries: Vec<Queries>,
    pub(in crate::index) walk: Walk,
    pub(in crate::index) starts: Pool,
    pub(in crate::index) rows: Vec<u32>,
    pub(in crate::index) scores: Vec<f32>,
    /// Clusters, nearest first.
    keys: Vec<Key>,
    pub(in crate::index) scanned: Vec<(f32, u32)>,
    /// The score of every row, where all were scanned: of each run from one of `offsets` to the next.
    pub(in crate::index) run: Vec<f32>,
    pub(in crate::index) offsets: Vec<u32>,
    /// The lowest of each group of those.
    pub(in crate::index) lowest: Vec<f32>,
    /// Results on their way, by their codes and then exactly.
    pub(in crate::index) found: Vec<Found>,
    pub(in crate::index) exact: Vec<f32>,
    pub(in crate::index) measuring: Option<PreparedQuery>,
    pub(in crate::index) vectors: Vec<f32>,
    pub(in crate::index) norms: Vec<f32>,
    pub(in crate::index) results: Vec<Neighbour>,
}

thread_local! {
    static OF_THREAD: RefCell<Scratch> = RefCell::default();
}

/// The calling thread's scratch space, until this is dropped. Another search that begins on the thread
/// meanwhile gets a new one.
#[derive(Debug)]
pub struct ThreadScratch(Scratch);

impl Default for ThreadScratch {
    fn default() -> ThreadScratch {
        ThreadScratch(OF_THREAD.take())
    }
}

impl Drop for ThreadScratch {
    fn drop(&mut self) {
        OF_THREAD.set(std::mem::take(&mut self.0));
    }
}

impl Deref for ThreadScratch {
    type Target = Scratch;

    fn deref(&self) -> &Scratch {
        &self.0
    }
}

impl DerefMut for ThreadScratch {
    fn deref_mut(&mut self) -> &mut Scratch {
        &mut self.0
    }
}

/// A query in all its forms.
#[derive(Debug, Clone)]
pub(in crate::index) struct Queries {
    /// Of the index that they were made for.
    shape: (usize, Shape),
    placed: Placed,
    /// The L2 norm of the caller's query.
    pub(in crate::index) norm: f64,
    pub(in crate::index) short: <Short as Code>::Query,
    scalar: <Scalar as Code>::Query,
}

impl Index {
    /// The closest rows to `query`, closest first.
    ///
    /// Recall depends on the effort; with an effort that keeps all rows the result is that of the
    /// 8-bit codes (or, with `vectors`, better). Fewer than `k` are returned only where fewer rows
    /// are allowed.
    ///
    /// # Panics
    ///
    /// If `query` has another number of dimensions than the index, a defect of the caller.
    pub fn search<'s>(
        &self,
        query: &[f32],
        search: &Search<'_>,
        scratch: &'s mut Scratch,
    ) -> &'s [Neighbour] {
        let Search { k, effort, allowed, vectors } = *search;
        scratch.search(&self.codes, query, (k, allowed, vectors), |scratch, run| {
            let k = k.clamp(1, EF_MAX);
            let kept = Kept { ef: self.ef(effort, k), k, bound: f32::INFINITY };
            self.look(run, kept, scratch);
        })
    }

    /// Adds the best of its rows, of which `run` says how they are named and which are allowed, to what
    /// was found.
    pub(in crate::index) fn look(&self, run: Run<'_>, kept: Kept, scratch: &mut Scratch) {
        let Kept { ef, .. } = kept;
        if self.is_by_length() {
            return scratch.scan_by_length(self, run, kept);
        }
        match run.allowed {
            Some(rows) if rows.len() > ef.saturating_mul(PICKED_PER_KEPT) => {
                scratch.walk_or_scan(self, run, rows, kept);
            }
            None if self.len() > ef.saturating_mul(SCANNED_PER_KEPT) => {
                scratch.walk(self, None, ef);
                scratch.rescore_walked(run);
            }
            _ => scratch.scan(run, kept),
        }
    }

    /// [`Index::search`] for many queries, one after the other in `queries`, of which each gets its
    /// own results.
    pub fn search_batch(
        &self,
        queries: &[f32],
        search: &Search<'_>,
        threads: Threads,
    ) -> Vec<Vec<Neighbour>> {
        let dims = self.codes.space.dims;
        threads.map(queries.len() / dims, Scratch::default, |scratch, at| {
            self.search(&queries[at * dims..][..dims], search, scratch).to_vec()
        })
    }

    /// The width of a walk.
    pub(in crate::index) fn ef(&self, effort: Effort, k: usize) -> usize {
        let ef = match effort {
            // What a walk of this width would find.
            Effort::Ef(ef) if self.is_by_length() && ef < WHOLE_REACH && self.is_calibrated() => {
                self.calibration.ef(by_length::recall_like(ef), k, self.len())
            }
            Effort::Ef(ef) => ef,
            Effort::Recall(recall) => self.calibration.ef(recall, k, self.len()),
            Effort::Default => self.calibration.ef(DEFAULT_RECALL, k, self.len()),
        };
        ef.clamp(k, EF_MAX)
    }
}

impl Scratch {
    /// One search for `k` of the rows with these codes that are allowed: `look` adds the best of the run
    /// that it is given to what was found.
    pub(in crate::index) fn search<'s>(
        &'s mut self,
        codes: &Codes,
        query: &[f32],
        (k, allowed, vectors): (usize, Option<&RowSet>, Option<&dyn Vectors>),
        look: impl FnOnce(&mut Scratch, Run<'_>),
    ) -> &'s [Neighbour] {
        assert_eq!(query.len(), codes.space.dims, "a query of another length");
        self.results.clear();
        self.found.clear();
        if allowed.map_or(codes.rows(), RowSet::len) > 0 && codes.rows() > 0 {
            self.prepare(0, codes, query);
            look(self, Run { part: 0, codes, allowed });
            let k = k.clamp(1, EF_MAX);
            match vectors {
                Some(vectors) => {
                    self.measure(codes.space.metric, query, &[(codes, vectors)], k);
                }
                None => self.found.sort_unstable_by(Found::order),
            }
            self.found.truncate(k);
            let found = self.found.iter();
            self.results
                .extend(found.map(|&Found { row, distance, .. }| Neighbour { row, distance }));
        }
        &self.results
    }

    /// Prepares a query for these codes, as number `at` of `queries`; those before it stay.
    pub(in crate::index) fn prepare(&mut self, at: usize, codes: &Codes, query: &[f32]) {
        let shape = codes.shape();
        match self.queries[at..].iter().position(|queries| queries.shape == shape) {
            Some(found) => self.queries[at..=at + found].rotate_right(1),
            None => {
                self.queries.truncate(at.max(SHAPES - 1));
                self.queries.insert(
                    at,
                    Queries {
                        shape,
                        placed: Placed::new(codes.space.placed_dims()),
                        norm: 0.0,
                        short: codes.short.query(),
                        scalar: codes.scalar.query(),
                    },
                );
            }
        }
        let Queries { placed, norm, short, scalar, .. } = &mut self.queries[at];
        *norm = codes.space.place_query(query, &mut placed.values);
        placed.split();
        placed.constant = codes.space.constant(&placed.values, placed.square);
        codes.short.prepare(placed, short);
        codes.scalar.prepare(placed, scalar);
    }

    /// Walks from the entries closest to the query; leaves what it kept in the walk's pool.
    fn walk(&mut self, index: &Index, allowed: Option<&RowSet>, ef: usize) {
        let codes = &index.codes;
        let query = self.queries[0].short.view();
        self.scores.resize(index.entries.len(), 0.0);
        codes.short.scores_of_run(query, &index.entry_lines, &mut self.scores);
        self.starts.reset(STARTS);
        for (at, &score) in self.scores.iter().enumerate() {
            if score < self.starts.threshold() {
                self.starts.insert(score, index.entries[at]);
            }
        }
        self.rows.clear();
        self.rows.extend(self.starts.keys().iter().map(|key| key.row()));
        let coded = codes.coded();
        match allowed {
            None => self.walk.run(&index.graph, coded, query, &self.rows, ef),
            Some(allowed) => {
                self.walk.run_within(&index.graph, coded, query, &self.rows, ef, allowed);
            }
        }
    }

    /// The rows of each cluster, those whose centroid is closest to the query first.
    pub(in crate::index) fn rank_clusters(&mut self, index: &Index) -> Vec<Range<u32>> {
        let clusters = &index.clusters;
        let query = self.queries[0].short.view();
        self.scores.resize(clusters.len(), 0.0);
        index.codes.short.scores_of_run(query, &clusters.centroids, &mut self.scores);
        self.keys.clear();
        let scores = self.scores.iter().enumerate();
        self.keys.extend(scores.map(|(cluster, &score)| Key::new(score, cluster as u32)));
        self.keys.sort_unstable();
        self.keys.iter().map(|key| clusters.rows(key.row() as usize)).collect()
    }

    /// Searches among many allowed rows.
    ///
    /// A walk finds the closest of them where those near the query are allowed about as often as
    /// any, or more often. Where hardly any is, the closest allowed ones lie in all directions, and
    /// only a scan finds them.
    fn walk_or_scan(&mut self, index: &Index, run: Run<'_>, allowed: &RowSet, kept: Kept) {
        let Kept { ef, .. } = kept;
        self.walk(index, None, PROBED);
        let probed = self.walk.pool.keys();
        let near = probed.iter().filter(|key| allowed.contains(key.row())).count();
        let expected = probed.len() * allowed.len() / index.len();
        if near * 2 < expected {
            return self.scan(run, kept);
        }
        self.walk(index, Some(allowed), ef);
        // Where the allowed rows hang together badly, a walk ends before it has seen enough.
        if self.walk.pool.keys().len() < ef.min(allowed.len()) {
            return self.scan(run, kept);
        }
        self.rescore_walked(run);
    }

    /// Adds the rows of the walk's pool, scored by the 8-bit codes, to what was found.
    fn rescore_walked(&mut self, run: Run<'_>) {
        self.rows.clear();
        self.rows.extend(self.walk.pool.keys().iter().map(|key| key.row()));
        self.find_rows(0, run);
    }

    /// Adds `rows` of a run, with their distances by the 8-bit codes, to what was found.
    pub(in crate::index) fn find_rows(&mut self, queries: usize, run: Run<'_>) {
        let Run { part, codes, .. } = run;
        let queries = &self.queries[queries];
        queries.score_exactly(codes, &self.rows, &mut self.scores);
        let distance = |score| codes.space.distance(score, queries.norm);
        let scored = self.rows.iter().zip(&self.scores);
        self.found.extend(scored.map(|(&row, &score)| Found {
            part,
            row,
            distance: distance(score),
        }));
    }
}

impl Queries {
    /// Scores rows by the 8-bit codes into `scores`.
    pub(in crate::index) fn score_exactly(
        &self,
        codes: &Codes,
        rows: &[u32],
        scores: &mut Vec<f32>,
    ) {
        let coded = Coded { code: &codes.scalar, lines: &codes.scalar_lines };
        for &row in rows {
            prefetch(coded.row(row));
        }
        scores.resize(rows.len(), 0.0);
        codes.scalar.scores(&self.scalar, coded.lines, rows, scores);
    }
}
