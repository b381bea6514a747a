//! A search that looks at every allowed row: where those are few, or hardly any lies near the query.
//!
//! All are scored by the short codes, and the best of them by the 8-bit codes. How far the one is
//! from the other is measured on a few rows in passing; where rows beyond the best might still belong
//! to the result by that, they are scored by the 8-bit codes too. For a filter that allows only rows
//! far from the query, whose distances hardly differ, those can be many.

use super::measure::largest_likely;
use super::{Index, Neighbour, RowSet, Scratch, Vectors};

/// Rows scored at a time.
const BLOCK: usize = 64;
/// Rows that the difference of the codes is measured on.
const MEASURED: usize = 64;
/// Rows scored by the 8-bit codes at least, for each result, where all rows are to be looked at.
const KEPT_PER_RESULT: usize = 20;

impl Index {
    /// The `k` closest rows to `query`, whatever it takes.
    pub(super) fn search_all<'s>(
        &self,
        query: &[f32],
        k: usize,
        vectors: &dyn Vectors,
        scratch: &'s mut Scratch,
    ) -> &'s [Neighbour] {
        scratch.results.clear();
        if !self.is_empty() {
            scratch.prepare(self, query);
            scratch.scan(self, None, KEPT_PER_RESULT * k, k);
            scratch.measure(self, query, vectors, k);
        }
        &scratch.results
    }
}

impl Scratch {
    /// Scores allowed rows; leaves the best, at least `k` and about `ef` where there are so many, in
    /// `keys`.
    pub(super) fn scan(&mut self, index: &Index, allowed: Option<&RowSet>, ef: usize, k: usize) {
        self.score_all(index, allowed);
        if self.scanned.len() > ef {
            self.scanned.select_nth_unstable_by(ef - 1, |a, b| a.0.total_cmp(&b.0));
        }
        let first = ef.min(self.scanned.len());
        self.keys.clear();
        self.rescore_scanned(index, 0, first);
        if first < self.scanned.len() && first >= k {
            self.keys.sort_unstable();
            let bound = self.keys[k - 1].score() + self.difference(index);
            let mut end = first;
            for at in first..self.scanned.len() {
                if self.scanned[at].0 <= bound {
                    self.scanned.swap(end, at);
                    end += 1;
                }
            }
            self.rescore_scanned(index, first, end);
        }
        self.keys.sort_unstable();
    }

    /// Scores every allowed row by the short codes into `scanned`.
    fn score_all(&mut self, index: &Index, allowed: Option<&RowSet>) {
        self.scanned.clear();
        let rows = 0..index.len() as u32;
        match allowed {
            None => self.scanned.extend(rows.map(|row| (0.0, row))),
            Some(allowed) => {
                let inside = allowed.iter().take_while(|row| rows.contains(row));
                self.scanned.extend(inside.map(|row| (0.0, row)));
            }
        }
        let codes = &index.codes;
        let query = self.queries.as_ref().expect("prepared first").short.view();
        let (mut rows, mut scores) = ([0; BLOCK], [0.0; BLOCK]);
        for block in self.scanned.chunks_mut(BLOCK) {
            for (into, (_, row)) in rows.iter_mut().zip(&*block) {
                *into = *row;
            }
            let rows = &rows[..block.len()];
            codes.short.scores_of(query, &codes.short_lines, rows, &mut scores);
            for ((into, _), score) in block.iter_mut().zip(scores) {
                *into = score;
            }
        }
    }

    /// Scores the scanned rows from `start` to `end` by the 8-bit codes into `keys`.
    fn rescore_scanned(&mut self, index: &Index, start: usize, end: usize) {
        self.rows.clear();
        self.rows.extend(self.scanned[start..end].iter().map(|scanned| scanned.1));
        self.add_keys(index);
    }

    /// How much higher than by the 8-bit codes the short score of a row may be.
    fn difference(&mut self, index: &Index) -> f32 {
        let step = (self.scanned.len() / MEASURED).max(1);
        self.rows.clear();
        self.rows.extend(self.scanned.iter().step_by(step).map(|scanned| scanned.1));
        self.score_exactly(index);
        let short = self.scanned.iter().step_by(step).map(|scanned| scanned.0);
        largest_likely(short.zip(&self.scores).map(|(short, exact)| short - exact))
    }
}
