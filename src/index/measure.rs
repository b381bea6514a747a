//! The last step of a search: exact distances for the best by the 8-bit codes.
//!
//! A few more than asked for are measured. How far the 8-bit codes are off shows in those; where rows
//! beyond them might still belong to the result by that, they are measured too. The best by the codes
//! are likelier to be farther than they seem than closer, so where very many rows are left (a filter
//! that allows only what is far from the query makes them all alike), others show it instead.

use super::{Index, Metric, Neighbour, PreparedQuery, Scratch, Vectors};

/// A row whose code is farther off than so many standard deviations is missed.
const DEVIATIONS: f32 = 3.0;
/// So many times more rows than are measured at first are very many.
const MANY: usize = 8;
/// Rows that the difference is then measured on.
const MEASURED: usize = 32;

impl Scratch {
    /// Turns the best of `keys` into `k` results.
    pub(super) fn measure(
        &mut self,
        index: &Index,
        query: &[f32],
        vectors: &dyn Vectors,
        k: usize,
    ) {
        let prepared = self.prepared(index, query);
        // Codes that hold the very values leave nothing to be put right.
        let spare = if index.codes.scalar.is_exact() { 0 } else { k / 2 + 5 };
        let first = (k + spare).min(self.keys.len());
        self.read(index, &prepared, vectors, 0, first);
        if spare > 0 && first < self.keys.len() {
            let bound = self.kth(k) + self.difference_of_codes(index, &prepared, vectors);
            let end = (first..self.keys.len()).find(|&at| self.coded(index, at).distance > bound);
            self.read(index, &prepared, vectors, first, end.unwrap_or(self.keys.len()));
        }
        self.results
            .sort_unstable_by(|a, b| a.distance.total_cmp(&b.distance).then(a.row.cmp(&b.row)));
        self.results.truncate(k);
        self.measuring = Some(prepared);
    }

    /// The query prepared for exact distances, in the room of the one before.
    fn prepared(&mut self, index: &Index, query: &[f32]) -> PreparedQuery {
        let before = self.measuring.take().filter(|prepared| prepared.metric() == index.metric());
        match before {
            Some(mut prepared) => {
                prepared.set(query);
                prepared
            }
            None => PreparedQuery::new(index.metric(), query),
        }
    }

    /// Adds the keys from `start` to `end` to the results, with their exact distances.
    fn read(
        &mut self,
        index: &Index,
        query: &PreparedQuery,
        vectors: &dyn Vectors,
        start: usize,
        end: usize,
    ) {
        let dims = index.dimensions();
        let keys = &self.keys[start..end];
        for key in keys {
            vectors.prefetch(key.row(), dims);
        }
        self.vectors.resize(keys.len() * dims, 0.0);
        for (key, into) in keys.iter().zip(self.vectors.chunks_exact_mut(dims)) {
            vectors.read(key.row(), into);
        }
        self.norms.clear();
        if index.metric() == Metric::Cosine {
            self.norms.extend(self.vectors.chunks_exact(dims).map(super::inverse_norm));
        }
        self.scores.resize(keys.len(), 0.0);
        query.distances(&self.vectors, &self.norms, &mut self.scores);
        let measured = keys.iter().zip(&self.scores);
        self.results
            .extend(measured.map(|(key, &distance)| Neighbour { row: key.row(), distance }));
    }

    /// The distance of the `k`th result.
    fn kth(&mut self, k: usize) -> f32 {
        self.scores.clear();
        self.scores.extend(self.results.iter().map(|result| result.distance));
        *self.scores.select_nth_unstable_by(k - 1, f32::total_cmp).1
    }

    /// How much larger than it is the distance of a row may be by its 8-bit code.
    fn difference_of_codes(
        &mut self,
        index: &Index,
        prepared: &PreparedQuery,
        vectors: &dyn Vectors,
    ) -> f32 {
        let first = self.results.len();
        let (mut start, mut step) = (0, 1);
        if self.keys.len() > MANY * first {
            (start, step) = (first, self.keys.len() / MEASURED);
            for at in (0..self.keys.len()).step_by(step) {
                self.read(index, prepared, vectors, at, at + 1);
            }
        }
        let coded = |at: usize| self.coded(index, at).distance;
        let measured = self.results[start..].iter().enumerate();
        let difference =
            largest_likely(measured.map(|(at, result)| coded(at * step) - result.distance));
        self.results.truncate(first);
        difference
    }
}

/// The largest difference to be expected of codes that are off by these.
pub(super) fn largest_likely(differences: impl Iterator<Item = f32> + Clone) -> f32 {
    let count = differences.clone().count() as f32;
    let mean = differences.clone().sum::<f32>() / count;
    let variance = differences.map(|difference| (difference - mean).powi(2)).sum::<f32>();
    mean + DEVIATIONS * (variance / count).sqrt()
}
