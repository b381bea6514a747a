//! Rows without a graph, all of which are looked at: those that are too new for one.
//!
//! What a scan costs is above all the lines it reads, so a row has one, where an index may choose more,
//! and more of the best rows are scored by the 8-bit codes.

use crate::index::index::all_rows;
use crate::index::quantize::codes::{Codes, SAMPLE_ROWS};
use crate::index::quantize::space::Form;
use crate::index::query::scan::Kept;
use crate::index::query::search::EF_MAX;
use crate::index::vectors::Picked;
use crate::index::{
    INDEX_DIMENSIONS_MAX, INDEX_ROWS_MAX, Metric, Neighbour, Scratch, Search, Threads,
};

/// Lines of a short row.
const LINES: usize = 1;
/// Rows scored by the 8-bit codes at least, and for each result, of all flats that are scanned as one.
/// (Measured on minilm, the hardest, 10 results of 50,000 rows: of 200 rows .994 are found, of 200 of
/// either half .9975; two lines a row give .9996 for twice the time.)
const KEPT: usize = 320;
const KEPT_PER_RESULT: usize = 8;
/// How many times as many rows as formats were fitted to they are good for.
const FITTED_TIMES: usize = 4;

/// Rows in the order in which they were given, with codes to scan them by.
#[derive(Debug, Clone)]
pub struct Flat {
    codes: Codes,
    /// Whether the short codes tell near rows from far ones.
    tell: bool,
    /// How many rows the formats were fitted to.
    fitted: usize,
}

impl Flat {
    /// Of `vectors`, of `dims` finite values each.
    ///
    /// # Panics
    ///
    /// As [`Index::build`](crate::index::Index::build).
    pub fn build(metric: Metric, dims: usize, vectors: &[f32], threads: Threads) -> Flat {
        assert!((1..=INDEX_DIMENSIONS_MAX).contains(&dims), "checked at the door");
        assert_eq!(vectors.len() % dims, 0, "a row of another length");
        let form = if metric == Metric::Dot { Form::Products } else { Form::Distances };
        let (codes, tell) = Codes::fit((metric, form), dims, vectors, LINES, threads);
        let mut flat = Flat { codes, tell, fitted: vectors.len() / dims };
        flat.append(vectors, threads);
        flat
    }

    /// Other rows in the same formats, which costs no more than writing them; `None` where the formats
    /// have no room for their values, or would be better if they were fitted to so many rows.
    pub fn beside(&self, vectors: &[f32], threads: Threads) -> Option<Flat> {
        let rows = (vectors.len() / self.codes.space.dims).min(SAMPLE_ROWS);
        if rows > self.fitted * FITTED_TIMES || !self.codes.could_hold(vectors, threads) {
            return None;
        }
        let mut flat = Flat { codes: self.codes.without_rows(), ..*self };
        flat.append(vectors, threads);
        Some(flat)
    }

    /// Adds rows after the others. Rows much unlike those that it was built of are found less surely.
    pub fn append(&mut self, vectors: &[f32], threads: Threads) {
        let dims = self.codes.space.dims;
        assert!(self.len() + vectors.len() / dims < INDEX_ROWS_MAX, "checked at the door");
        let all = all_rows(vectors, dims);
        self.codes.append(Picked { vectors, dims, rows: &all }, threads);
    }

    /// The closest rows to `query`, closest first. Recall does not depend on the effort.
    ///
    /// # Panics
    ///
    /// If `query` has another number of dimensions, a defect of the caller.
    pub fn search<'s>(
        &self,
        query: &[f32],
        search: &Search<'_>,
        scratch: &'s mut Scratch,
    ) -> &'s [Neighbour] {
        let Search { k, allowed, vectors, .. } = *search;
        scratch.search(&self.codes, query, (k, allowed, vectors), |scratch, run| {
            let k = k.clamp(1, EF_MAX);
            scratch.scan(run, Kept { ef: self.kept(k), k, bound: f32::INFINITY });
        })
    }

    /// How many rows are scored by the 8-bit codes for `k` results.
    pub(in crate::index) fn kept(&self, k: usize) -> usize {
        if self.tell { KEPT + KEPT_PER_RESULT * k } else { self.len() }
    }

    /// Whether the short codes tell near rows from far ones.
    pub(in crate::index) fn tells(&self) -> bool {
        self.tell
    }

    /// How many rows it holds.
    pub fn len(&self) -> usize {
        self.codes.rows()
    }

    /// Whether it holds no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that it needs in memory, besides the full-precision vectors.
    pub fn bytes(&self) -> usize {
        self.codes.short_lines.as_bytes().len() + self.codes.scalar_lines.as_bytes().len()
    }

    pub(in crate::index) fn codes(&self) -> &Codes {
        &self.codes
    }
}
