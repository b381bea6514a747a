//! Rows without a graph, all of which are looked at: those that are too new for one.
//!
//! What a scan costs is above all the lines it reads, so a row has one, where an index may choose more,
//! and more of the best rows are scored by the 8-bit codes.

use super::codes::Codes;
use super::index::all_rows;
use super::scan::Kept;
use super::search::EF_MAX;
use super::vectors::Picked;
use super::{
    INDEX_DIMENSIONS_MAX, INDEX_ROWS_MAX, Metric, Neighbour, RowSet, Scratch, Search, Threads,
};

/// Lines of a short row.
const LINES: usize = 1;
/// Rows scored by the 8-bit codes at least, and for each result. (Measured on minilm, the hardest: .994
/// of 10 and .99 of 100 results, with two lines .9996 for twice the time.)
const KEPT: usize = 160;
const KEPT_PER_RESULT: usize = 4;

/// Rows in the order in which they were given, with codes to scan them by.
#[derive(Debug, Clone)]
pub struct Flat {
    codes: Codes,
    /// Whether the short codes tell near rows from far ones.
    tell: bool,
}

impl Flat {
    /// Of `vectors`, of `dims` finite values each.
    ///
    /// # Panics
    ///
    /// As [`Index::build`](super::Index::build).
    pub fn build(metric: Metric, dims: usize, vectors: &[f32], threads: Threads) -> Flat {
        assert!((1..=INDEX_DIMENSIONS_MAX).contains(&dims), "checked at the door");
        assert_eq!(vectors.len() % dims, 0, "a row of another length");
        let (codes, tell) = Codes::fit(metric, dims, vectors, LINES, threads);
        let mut flat = Flat { codes, tell };
        flat.append(vectors, threads);
        flat
    }

    /// Other rows in the same formats, which costs no more than writing them; `None` where the formats
    /// have no room for their values.
    pub fn beside(&self, vectors: &[f32], threads: Threads) -> Option<Flat> {
        if !self.codes.could_hold(vectors, threads) {
            return None;
        }
        let mut flat = Flat { codes: self.codes.without_rows(), tell: self.tell };
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
        assert_eq!(query.len(), self.codes.space.dims, "a query of another length");
        scratch.results.clear();
        if search.allowed.map_or(self.len(), RowSet::len) > 0 && !self.is_empty() {
            let k = search.k.clamp(1, EF_MAX);
            scratch.prepare(&self.codes, query);
            self.look(search.allowed, k, f32::INFINITY, scratch);
            scratch.finish(&self.codes, query, search.vectors, k);
        }
        &scratch.results
    }

    /// Leaves the best rows by the 8-bit codes in the scratch's `keys`, sorted.
    pub(super) fn look(
        &self,
        allowed: Option<&RowSet>,
        k: usize,
        bound: f32,
        scratch: &mut Scratch,
    ) {
        let ef = match self.tell {
            true => KEPT + KEPT_PER_RESULT * k,
            false => self.len(),
        };
        scratch.scan(&self.codes, allowed, Kept { ef, k, bound });
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

    pub(super) fn codes(&self) -> &Codes {
        &self.codes
    }
}
