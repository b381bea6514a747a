//! The last step of a search: exact distances for the best by the 8-bit codes.
//!
//! A few more than asked for are measured. How far the 8-bit codes are off shows in those; where rows
//! beyond them might still belong to the result by that, they are measured too. The best by the codes
//! are likelier to be farther than they seem than closer, so where very many rows are left (a filter
//! that allows only what is far from the query makes them all alike), others show it instead.

use crate::index::query::parts::{Found, Source};
use crate::index::{Metric, PreparedQuery, Scratch};

/// A row whose code is farther off than so many standard deviations is missed.
const DEVIATIONS: f32 = 3.0;
/// So many times more rows than are measured at first are very many.
const MANY: usize = 16;
/// Rows that the difference is then measured on.
const MEASURED: usize = 32;

/// Rows that are measured at first.
pub(in crate::index) fn measured_first(k: usize) -> usize {
    k + k / 2 + 5
}

impl Scratch {
    /// Turns `found`, whose distances are those of the codes, into the `k` closest. The sources are
    /// those that it names by number.
    pub(in crate::index) fn measure(
        &mut self,
        metric: Metric,
        query: &[f32],
        sources: &[impl Source],
        k: usize,
    ) {
        let prepared = self.prepared(metric, query);
        // Codes that hold the very values leave nothing to be put right.
        let is_exact = sources.iter().all(|source| source.codes().scalar.is_exact());
        let first = if is_exact { k } else { measured_first(k) };
        if first < self.found.len() {
            self.found.select_nth_unstable_by(first - 1, Found::order);
        }
        let first = first.min(self.found.len());
        self.exact.clear();
        self.read(&prepared, sources, 0..first);
        if !is_exact && first < self.found.len() {
            let bound = self.kth(k) + self.difference_of_codes(&prepared, sources);
            let mut end = first;
            for at in first..self.found.len() {
                if self.found[at].distance <= bound {
                    self.found.swap(end, at);
                    end += 1;
                }
            }
            self.read(&prepared, sources, first..end);
        }
        self.found.truncate(self.exact.len());
        for (found, &distance) in self.found.iter_mut().zip(&self.exact) {
            found.distance = distance;
        }
        self.found.sort_unstable_by(Found::order);
        self.found.truncate(k);
        self.measuring = Some(prepared);
    }

    /// The query prepared for exact distances, in the room of the one before.
    fn prepared(&mut self, metric: Metric, query: &[f32]) -> PreparedQuery {
        let before = self.measuring.take().filter(|prepared| prepared.metric() == metric);
        match before {
            Some(mut prepared) => {
                prepared.set(query);
                prepared
            }
            None => PreparedQuery::new(metric, query),
        }
    }

    /// Adds the exact distances of what was found at these places to `exact`.
    fn read(
        &mut self,
        query: &PreparedQuery,
        sources: &[impl Source],
        places: impl Iterator<Item = usize> + Clone,
    ) {
        let dims = query.dimensions();
        let vectors = |found: &Found| sources[found.part as usize].vectors();
        for found in places.clone().map(|at| &self.found[at]) {
            vectors(found).prefetch(found.row, dims);
        }
        let count = places.clone().count();
        self.vectors.resize(count * dims, 0.0);
        for (at, into) in places.zip(self.vectors.chunks_exact_mut(dims)) {
            let found = &self.found[at];
            vectors(found).read(found.row, into);
        }
        self.norms.clear();
        if query.metric() == Metric::Cosine {
            self.norms.extend(self.vectors.chunks_exact(dims).map(crate::index::inverse_norm));
        }
        let before = self.exact.len();
        self.exact.resize(before + count, 0.0);
        query.distances(&self.vectors, &self.norms, &mut self.exact[before..]);
    }

    /// The exact distance of the `k`th result so far.
    fn kth(&mut self, k: usize) -> f32 {
        self.scores.clear();
        self.scores.extend_from_slice(&self.exact);
        *self.scores.select_nth_unstable_by(k - 1, f32::total_cmp).1
    }

    /// How much larger than it is the distance of a row may be by its 8-bit code.
    fn difference_of_codes(&mut self, prepared: &PreparedQuery, sources: &[impl Source]) -> f32 {
        let first = self.exact.len();
        let (mut start, mut step) = (0, 1);
        if self.found.len() > MANY * first {
            (start, step) = (first, self.found.len() / MEASURED);
            self.read(prepared, sources, (0..self.found.len()).step_by(step));
        }
        let measured = self.exact[start..].iter().enumerate();
        let difference =
            largest_likely(measured.map(|(at, exact)| self.found[at * step].distance - exact));
        self.exact.truncate(first);
        difference
    }
}

/// The largest difference to be expected of codes that are off by these.
pub(in crate::index) fn largest_likely(differences: impl Iterator<Item = f32> + Clone) -> f32 {
    let count = differences.clone().count() as f32;
    let mean = differences.clone().sum::<f32>() / count;
    let variance = differences.map(|difference| (difference - mean).powi(2)).sum::<f32>();
    mean + DEVIATIONS * (variance / count).sqrt()
}
