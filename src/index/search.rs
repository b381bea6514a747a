//! One query on its way through an index.

use super::code::{Code, Placed, Scalar, Short};
use super::graph::{Coded, Walk, prefetch};
use super::pool::{Key, Pool};
use super::{Index, PreparedQuery, RowSet, Threads};

/// Most results that can be asked for, and most rows that a walk keeps.
pub const EF_MAX: usize = 100_000;
/// Entries from which a walk starts.
const STARTS: usize = 3;
/// Rows that a filter may allow, for each row that a walk would keep, to be scanned one by one: a
/// step of a walk past rows that are not allowed costs as much as scanning this many.
const SCANNED_PER_KEPT: usize = 200;

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

/// Full-precision vectors by row.
pub trait Vectors: Sync {
    /// Writes the vector of a row into `into`, which is as long as one.
    fn read(&self, row: u32, into: &mut [f32]);
}

/// Vectors that lie one after the other.
impl Vectors for [f32] {
    fn read(&self, row: u32, into: &mut [f32]) {
        into.copy_from_slice(&self[row as usize * into.len()..][..into.len()]);
    }
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
    queries: Option<Queries>,
    walk: Walk,
    starts: Pool,
    rows: Vec<u32>,
    scores: Vec<f32>,
    keys: Vec<Key>,
    vectors: Vec<f32>,
    norms: Vec<f32>,
    results: Vec<Neighbour>,
}

/// A query in all its forms.
#[derive(Debug, Clone)]
struct Queries {
    /// Of the index that they were made for.
    shape: (usize, usize),
    placed: Placed,
    short: <Short as Code>::Query,
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
        assert_eq!(query.len(), self.codes.space.dims, "a query of another length");
        scratch.results.clear();
        let allowed = search.allowed.map_or(self.len(), RowSet::len);
        let k = search.k.clamp(1, EF_MAX);
        if allowed == 0 || self.is_empty() {
            return &scratch.results;
        }
        scratch.prepare(self, query);
        let ef = self.ef(search.effort, k);
        match search.allowed {
            _ if self.len() <= ef => scratch.scan(self, search.allowed, ef),
            None => scratch.walk(self, None, ef),
            Some(rows) if rows.len() <= ef.saturating_mul(SCANNED_PER_KEPT) => {
                scratch.scan(self, Some(rows), ef);
            }
            Some(rows) => {
                scratch.walk(self, Some(rows), ef);
                // Where the allowed rows hang together badly, a walk ends before it has seen enough.
                if scratch.walk.pool.keys().len() < ef.min(rows.len()) {
                    scratch.scan(self, Some(rows), ef);
                }
            }
        }
        scratch.rescore(self);
        match search.vectors {
            Some(vectors) => scratch.measure(self, query, vectors, k),
            None => scratch.convert(self, query, k),
        }
        &scratch.results
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
    fn ef(&self, effort: Effort, k: usize) -> usize {
        let ef = match effort {
            Effort::Ef(ef) => ef,
            Effort::Recall(recall) => self.calibration.ef(recall, k),
            Effort::Default => self.calibration.ef(super::calibrate::DEFAULT_RECALL, k),
        };
        ef.clamp(k, EF_MAX)
    }
}

impl Scratch {
    fn prepare(&mut self, index: &Index, query: &[f32]) {
        let codes = &index.codes;
        let shape = index.shape();
        if self.queries.as_ref().is_none_or(|queries| queries.shape != shape) {
            self.queries = Some(Queries {
                shape,
                placed: Placed::new(codes.space.placed_dims()),
                short: codes.short.query(),
                scalar: codes.scalar.query(),
            });
        }
        let Some(Queries { placed, short, scalar, .. }) = &mut self.queries else { return };
        codes.space.place_query(query, &mut placed.values);
        placed.split();
        codes.short.prepare(placed, short);
        codes.scalar.prepare(placed, scalar);
    }

    /// Walks from the entries closest to the query; leaves what it kept in the walk's pool.
    fn walk(&mut self, index: &Index, allowed: Option<&RowSet>, ef: usize) {
        let codes = &index.codes;
        let query = self.queries.as_ref().expect("prepared first").short.view();
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
        let coded = Coded { code: &codes.short, lines: &codes.short_lines };
        match allowed {
            None => self.walk.run(&index.graph, coded, query, &self.rows, ef),
            Some(allowed) => {
                self.walk.run_within(&index.graph, coded, query, &self.rows, ef, allowed);
            }
        }
    }

    /// Scores every allowed row; leaves the best in the walk's pool.
    fn scan(&mut self, index: &Index, allowed: Option<&RowSet>, ef: usize) {
        const BLOCK: usize = 64;
        let codes = &index.codes;
        let query = self.queries.as_ref().expect("prepared first").short.view();
        let pool = &mut self.walk.pool;
        pool.reset(ef);
        self.scores.resize(BLOCK, 0.0);
        let mut offer = |rows: &[u32]| {
            let scores = &mut self.scores[..rows.len()];
            codes.short.scores_of(query, &codes.short_lines, rows, scores);
            let mut threshold = pool.threshold();
            for (&row, &score) in rows.iter().zip(&*scores) {
                if score < threshold {
                    pool.insert(score, row);
                    threshold = pool.threshold();
                }
            }
        };
        let all = 0..index.len() as u32;
        let mut block = [0; BLOCK];
        let mut count = 0;
        let mut add = |row: u32| {
            block[count] = row;
            count += 1;
            if count == BLOCK {
                offer(&block);
                count = 0;
            }
        };
        match allowed {
            None => all.for_each(&mut add),
            Some(allowed) => {
                allowed.iter().take_while(|row| all.contains(row)).for_each(&mut add);
            }
        }
        offer(&block[..count]);
    }

    /// Scores the pool by the 8-bit codes into `keys`, sorted.
    fn rescore(&mut self, index: &Index) {
        let codes = &index.codes;
        self.rows.clear();
        self.rows.extend(self.walk.pool.keys().iter().map(|key| key.row()));
        let coded = Coded { code: &codes.scalar, lines: &codes.scalar_lines };
        for &row in &self.rows {
            prefetch(coded.row(row));
        }
        self.scores.resize(self.rows.len(), 0.0);
        let query = &self.queries.as_ref().expect("prepared first").scalar;
        codes.scalar.scores(query, coded.lines, &self.rows, &mut self.scores);
        self.keys.clear();
        let scored = self.rows.iter().zip(&self.scores);
        self.keys.extend(scored.map(|(&row, &score)| Key::new(score, row)));
        self.keys.sort_unstable();
    }

    /// Results from scores.
    fn convert(&mut self, index: &Index, query: &[f32], k: usize) {
        let space = &index.codes.space;
        self.results.extend(
            self.keys.iter().take(k).map(|key| Neighbour {
                row: key.row(),
                distance: space.distance(key.score(), query),
            }),
        );
    }

    /// Results from the full-precision vectors of the best.
    fn measure(&mut self, index: &Index, query: &[f32], vectors: &dyn Vectors, k: usize) {
        let dims = index.codes.space.dims;
        // Codes that hold the very values leave nothing to be put right.
        let spare = if index.codes.scalar.is_exact() { 0 } else { k / 2 + 5 };
        self.keys.truncate(k + spare);
        self.vectors.resize(self.keys.len() * dims, 0.0);
        for (key, into) in self.keys.iter().zip(self.vectors.chunks_exact_mut(dims)) {
            vectors.read(key.row(), into);
        }
        let prepared = PreparedQuery::new(index.metric(), query);
        self.norms.clear();
        if index.metric() == super::Metric::Cosine {
            self.norms.extend(self.vectors.chunks_exact(dims).map(super::inverse_norm));
        }
        self.scores.resize(self.keys.len(), 0.0);
        prepared.distances(&self.vectors, &self.norms, &mut self.scores);
        let measured = self.keys.iter().zip(&self.scores);
        self.results
            .extend(measured.map(|(key, &distance)| Neighbour { row: key.row(), distance }));
        self.results
            .sort_unstable_by(|a, b| a.distance.total_cmp(&b.distance).then(a.row.cmp(&b.row)));
        self.results.truncate(k);
    }
}
