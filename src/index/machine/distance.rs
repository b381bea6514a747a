//! The distance of one query to many rows.
//!
//! Sums run in `f32` over whole vector registers. Where that cannot be right (it overflowed, or the
//! values are so small that products vanish), the row is measured again in `f64`, which holds every
//! sum of products of `f32`. So any finite input has a finite, accurate distance.

use crate::index::Metric;
use crate::index::machine::isa::Isa;
use crate::index::machine::kernels::Sum;

/// Between these a norm's inverse, and a squared L2 distance, is far enough from the ends of `f32`
/// for the sums to be trusted.
const TRUSTED_MIN: f32 = 1e-30;
const TRUSTED_MAX: f32 = 1e30;

/// One over the L2 norm of `vector`, for use with [`PreparedQuery::distances`]. 0 for the zero
/// vector; never infinite, never NaN for finite input (it saturates at the largest `f32`, and the
/// distance copes).
pub fn inverse_norm(vector: &[f32]) -> f32 {
    let norm = norm(vector);
    if norm == 0.0 {
        return 0.0;
    }
    clamp_to_f32(norm.recip())
}

/// The L2 norm. In `f64` no square of an `f32` overflows or vanishes.
pub(in crate::index) fn norm(vector: &[f32]) -> f64 {
    dot(vector, vector).sqrt()
}

/// The inner product, over the shorter of the two, in `f64`.
pub(in crate::index) fn dot(a: &[f32], b: &[f32]) -> f64 {
    sum_exactly(a, b, |a, b| a * b)
}

/// The sum of `term` of all pairs of values, in eight running totals, which the compiler can keep in
/// registers.
fn sum_exactly(a: &[f32], b: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    let mut totals = [0.0; 8];
    let both = a.len().min(b.len());
    let (a, a_rest) = a[..both].as_chunks::<8>();
    let (b, b_rest) = b[..both].as_chunks::<8>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            totals[lane] += term(a[lane].into(), b[lane].into());
        }
    }
    for (total, (&a, &b)) in totals.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *total += term(a.into(), b.into());
    }
    totals.iter().sum()
}

/// The nearest finite `f32`; NaN stays NaN.
fn clamp_to_f32(value: f64) -> f32 {
    value.clamp(f32::MIN.into(), f32::MAX.into()) as f32
}

/// A query, made ready to be measured against many rows under one metric.
#[derive(Debug, Clone)]
pub struct PreparedQuery {
    metric: Metric,
    /// Under cosine scaled to length 1, so that no query overflows the sums.
    query: Vec<f32>,
    isa: Isa,
}

impl PreparedQuery {
    /// Prepares `query`, which is finite and not empty and, under cosine, not zero (a zero query is
    /// at distance 1 from everything).
    pub fn new(metric: Metric, query: &[f32]) -> Self {
        Self::with_isa(metric, query, Isa::detect())
    }

    pub(in crate::index) fn with_isa(metric: Metric, query: &[f32], isa: Isa) -> Self {
        let mut prepared = PreparedQuery { metric, query: Vec::with_capacity(query.len()), isa };
        prepared.set(query);
        prepared
    }

    /// Takes another query, in the room of the one before.
    pub fn set(&mut self, query: &[f32]) {
        self.query.clear();
        match self.metric {
            Metric::Euclidean | Metric::Dot => self.query.extend_from_slice(query),
            Metric::Cosine => {
                let scale = match norm(query) {
                    0.0 => 0.0,
                    norm => norm.recip(),
                };
                let scaled = query.iter().map(|&value| (f64::from(value) * scale) as f32);
                self.query.extend(scaled);
            }
        }
    }

    /// The metric that it measures by.
    pub(in crate::index) fn metric(&self) -> Metric {
        self.metric
    }

    /// The length that every row must have.
    pub fn dimensions(&self) -> usize {
        self.query.len()
    }

    /// Writes into `out` the distance of the query to each of the `out.len()` rows that lie one
    /// after the other in `rows`. `inverse_norms` holds each row's [`inverse_norm`] under cosine
    /// and is not read otherwise.
    ///
    /// Distances of finite rows are finite: cosine is within 0..=2 (1 if either vector is zero),
    /// the others saturate at the largest `f32`. A row with NaN in it gets NaN.
    ///
    /// # Panics
    ///
    /// If the lengths disagree, which is a defect of the caller.
    pub fn distances(&self, rows: &[f32], inverse_norms: &[f32], out: &mut [f32]) {
        let dims = self.query.len();
        assert!(dims > 0, "a query has at least one dimension");
        assert_eq!(rows.len(), out.len() * dims, "rows of another length");
        match self.metric {
            Metric::Cosine => {
                assert_eq!(inverse_norms.len(), out.len(), "one norm for each row");
                self.isa.sums(Sum::Products, &self.query, rows, out);
                for (index, (out, &inverse)) in out.iter_mut().zip(inverse_norms).enumerate() {
                    *out = self.cosine(*out, inverse, || &rows[index * dims..][..dims]);
                }
            }
            Metric::Euclidean => {
                self.isa.sums(Sum::SquaredDifferences, &self.query, rows, out);
                for (index, out) in out.iter_mut().enumerate() {
                    *out = self.euclidean(*out, || &rows[index * dims..][..dims]);
                }
            }
            Metric::Dot => {
                self.isa.sums(Sum::Products, &self.query, rows, out);
                for (index, out) in out.iter_mut().enumerate() {
                    *out = self.dot(*out, || &rows[index * dims..][..dims]);
                }
            }
        }
    }

    /// The distance to a single row.
    pub fn distance(&self, row: &[f32], inverse_norm: f32) -> f32 {
        let mut out = [0.0];
        self.distances(row, &[inverse_norm], &mut out);
        out[0]
    }

    #[inline]
    fn cosine<'r>(&self, sum: f32, inverse_norm: f32, row: impl FnOnce() -> &'r [f32]) -> f32 {
        let trusted = (TRUSTED_MIN..=TRUSTED_MAX).contains(&inverse_norm) && sum.is_finite();
        let similarity = match trusted {
            true => sum * inverse_norm,
            false => self.similarity_exactly(row()),
        };
        (1.0 - similarity).clamp(0.0, 2.0)
    }

    #[inline]
    fn euclidean<'r>(&self, sum: f32, row: impl FnOnce() -> &'r [f32]) -> f32 {
        if (TRUSTED_MIN..=TRUSTED_MAX).contains(&sum) {
            return sum.sqrt();
        }
        clamp_to_f32(self.squared_distance_exactly(row()).sqrt())
    }

    #[inline]
    fn dot<'r>(&self, sum: f32, row: impl FnOnce() -> &'r [f32]) -> f32 {
        // Subtracted from 0 rather than negated: never -0.0.
        if sum.is_finite() {
            return 0.0 - sum;
        }
        clamp_to_f32(0.0 - dot(&self.query, row()))
    }

    #[cold]
    fn similarity_exactly(&self, row: &[f32]) -> f32 {
        match norm(row) {
            0.0 => 0.0,
            norm => (dot(&self.query, row) / norm) as f32,
        }
    }

    #[cold]
    fn squared_distance_exactly(&self, row: &[f32]) -> f64 {
        sum_exactly(&self.query, row, |a, b| (a - b).powi(2))
    }
}

#[cfg(test)]
mod tests;
