//! The space in which rows are written and compared: of one of two [`Form`]s.
//!
//! Where a graph lives, every metric becomes squared L2:
//!
//! - euclidean: the vectors as they are;
//! - cosine: scaled to length 1;
//! - dot: a coordinate is added that gives every row the same length, `sqrt(radius² - |x|²)`, and
//!   every query 0 (Bachrach et al., "Speeding up the Xbox recommender system", RecSys 2014), so
//!   that the largest inner product is the smallest distance. A query is scaled to that length too:
//!   it ranks the same, and neither it nor the rows vanish beside the other in a sum.
//!
//! Where rows under dot differ much in length, all that are near a pole of that space are the long ones, which
//! any query finds first: no graph is needed for that, but their directions and lengths apart.
//!
//! All are scaled by a power of two where their squares would leave the range of `f32`, and what is
//! still too long then, far beyond the rows that the space was fitted to, is cut to [`LENGTH_MAX`].

use crate::index::Metric;
use crate::index::machine::distance::{dot, norm};
use crate::index::machine::parallel::Threads;

/// Between these the largest value of a set needs no scaling.
const UNSCALED_MIN: f64 = 1e-4;
const UNSCALED_MAX: f64 = 1e6;
/// Longer than any row that a space is fitted to, scaled, and short enough for sums of squares. To
/// something that far away all those rows are equally near, within the precision of `f32`.
const LENGTH_MAX: f64 = 1e15;
/// Rows that are added up together.
const PART: usize = 256;

/// What the scores of a space are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::index) enum Form {
    /// Half a squared distance between placed vectors.
    Distances,
    /// The inner product of a query's direction and a row, taken from 0. Rows are placed by their directions,
    /// and their bias is their length. Only under dot.
    Products,
}

impl Form {
    /// Writes the scores of rows, each by its bias and the product of its code and the query, where `constant` is
    /// the same for all.
    #[inline(always)]
    pub(in crate::index) fn scores(
        self,
        rows: impl Iterator<Item = (f32, f32)>,
        constant: f32,
        out: &mut [f32],
    ) {
        // A loop for each, with nothing to decide in it: walks are made of these.
        match self {
            Form::Distances => {
                out.iter_mut().zip(rows).for_each(|(out, (bias, product))| {
                    *out = bias - product + constant;
                });
            }
            Form::Products => {
                out.iter_mut().zip(rows).for_each(|(out, (bias, product))| {
                    *out = bias * (constant - product);
                });
            }
        }
    }
}

/// How vectors are placed.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::index) struct Space {
    pub(in crate::index) metric: Metric,
    pub(in crate::index) form: Form,
    /// Of the caller's vectors.
    pub(in crate::index) dims: usize,
    /// What values are multiplied by; 1 under cosine.
    pub(in crate::index) scale: f32,
    /// The length of every placed row, scaled, under dot, and of the longest one where scores are products; 1 under
    /// cosine; 0 under euclidean.
    pub(in crate::index) radius: f32,
    /// The middle of the placed rows: placed vectors are relative to it.
    pub(in crate::index) centre: Box<[f32]>,
}

impl Space {
    /// Fits a space to `rows`, each of `dims` finite values, and its centre to a sample of them.
    pub(in crate::index) fn fit(
        (metric, form): (Metric, Form),
        dims: usize,
        rows: &[f32],
        sample: &[f32],
        threads: Threads,
    ) -> Space {
        let mut space =
            Space { metric, form, dims, scale: 1.0, radius: 0.0, centre: Box::default() };
        match metric {
            Metric::Cosine => space.radius = 1.0,
            Metric::Euclidean => space.scale = scale_of(largest(rows, threads)),
            Metric::Dot => {
                let longest = longest(rows, dims, threads);
                space.scale = scale_of(longest);
                space.radius = (longest * f64::from(space.scale)) as f32;
            }
        }
        space.centre = vec![0.0; space.placed_dims()].into();
        space.centre = space.mean(sample, threads);
        space
    }

    fn mean(&self, rows: &[f32], threads: Threads) -> Box<[f32]> {
        let parts: Vec<&[f32]> = rows.chunks(PART * self.dims).collect();
        let sums = threads.map(
            parts.len(),
            || vec![0.0; self.placed_dims()],
            |placed, at| {
                let mut sums = vec![0f64; self.placed_dims()];
                for row in parts[at].chunks_exact(self.dims) {
                    self.place_row(row, placed);
                    for (sum, &value) in sums.iter_mut().zip(&*placed) {
                        *sum += f64::from(value);
                    }
                }
                sums
            },
        );
        let count = (rows.len() / self.dims).max(1) as f64;
        let sum = |dim: usize| sums.iter().map(|sums| sums[dim]).sum::<f64>();
        (0..self.placed_dims()).map(|dim| (sum(dim) / count) as f32).collect()
    }

    /// Whether rows that it was not fitted to can be placed without being cut.
    pub(in crate::index) fn could_hold(&self, rows: &[f32], threads: Threads) -> bool {
        let scale = f64::from(self.scale);
        match self.metric {
            Metric::Cosine => true,
            Metric::Euclidean => largest(rows, threads) * scale <= UNSCALED_MAX,
            Metric::Dot if self.form == Form::Products => {
                longest(rows, self.dims, threads) * scale <= UNSCALED_MAX
            }
            Metric::Dot => longest(rows, self.dims, threads) * scale <= f64::from(self.radius),
        }
    }

    /// Whether placed vectors are the caller's, less the centre.
    pub(in crate::index) fn keeps_values(&self) -> bool {
        self.metric == Metric::Euclidean && self.scale == 1.0
    }

    /// The caller's distance from a query of L2 norm `norm`, of a score: half a squared distance
    /// between placed vectors.
    pub(in crate::index) fn distance(&self, score: f32, norm: f64) -> f32 {
        match self.metric {
            // It has no direction: every row is at right angles to it.
            Metric::Cosine if norm == 0.0 => 1.0,
            Metric::Cosine => score.clamp(0.0, 2.0),
            Metric::Euclidean => {
                let scale = f64::from(self.scale);
                let distance = match norm * scale > LENGTH_MAX {
                    true => norm,
                    false => (2.0 * f64::from(score.max(0.0))).sqrt() / scale,
                };
                distance.min(f32::MAX.into()) as f32
            }
            Metric::Dot if self.form == Form::Products => {
                let distance = f64::from(score) * norm / f64::from(self.scale);
                distance.clamp(f32::MIN.into(), f32::MAX.into()) as f32
            }
            Metric::Dot => {
                let radius = f64::from(self.radius);
                if radius == 0.0 || norm == 0.0 {
                    return 0.0;
                }
                // A score is radius² - q.x, where both are scaled, the query to length radius.
                let distance = (f64::from(score) / radius - radius) * norm / f64::from(self.scale);
                distance.clamp(f32::MIN.into(), f32::MAX.into()) as f32
            }
        }
    }

    /// The score of a distance from a query of L2 norm `norm`: what [`Space::distance`] undoes, but for
    /// what it cuts.
    pub(in crate::index) fn score(&self, distance: f32, norm: f64) -> f32 {
        let (distance, scale) = (f64::from(distance), f64::from(self.scale));
        let score = match self.metric {
            // Every row is equally far.
            Metric::Cosine | Metric::Dot if norm == 0.0 => f64::INFINITY,
            Metric::Cosine => distance,
            Metric::Euclidean => 0.5 * (distance * scale).powi(2),
            Metric::Dot if self.radius == 0.0 => f64::INFINITY,
            Metric::Dot if self.form == Form::Products => distance * scale / norm,
            Metric::Dot => {
                let radius = f64::from(self.radius);
                (distance * scale / norm + radius) * radius
            }
        };
        score as f32
    }

    /// What a score in this space is in another of the same metric: so many times as much, and so much
    /// more.
    pub(in crate::index) fn scores_into(&self, other: &Space) -> (f32, f32) {
        let scale = f64::from(other.scale) / f64::from(self.scale);
        let (times, more) = match self.metric {
            Metric::Cosine => (1.0, 0.0),
            Metric::Euclidean => (scale * scale, 0.0),
            Metric::Dot => {
                let ((first, own), (others_first, others)) =
                    (self.of_product(), other.of_product());
                let times = if own > 0.0 { others / own } else { 0.0 };
                (times, others_first - times * first)
            }
        };
        (times as f32, more as f32)
    }

    /// Under dot, a score is the first of these less the second times the inner product of the query's direction and
    /// the row.
    fn of_product(&self) -> (f64, f64) {
        let (radius, scale) = (f64::from(self.radius), f64::from(self.scale));
        match self.form {
            // Both are scaled, the query to length radius.
            Form::Distances => (radius * radius, radius * scale),
            Form::Products => (0.0, scale),
        }
    }

    /// The dimensions of placed vectors.
    pub(in crate::index) fn placed_dims(&self) -> usize {
        self.dims + usize::from(self.metric == Metric::Dot && self.form == Form::Distances)
    }

    /// What is the same for all rows in the score of a placed query: half the square of what it is relative to the
    /// centre, or what the centre adds to all products.
    pub(in crate::index) fn constant(&self, query: &[f32], square: f32) -> f32 {
        match self.form {
            Form::Distances => 0.5 * square,
            Form::Products => 0.0 - dot(&self.centre, query) as f32,
        }
    }

    /// Writes a row, relative to the centre, into `placed`, and returns its bias: half its squared
    /// distance from the centre, as it would be if its length were exactly the radius; or its length.
    pub(in crate::index) fn place_row(&self, row: &[f32], placed: &mut [f32]) -> f32 {
        if self.form == Form::Products {
            let norm = norm(row);
            self.scale_into(row, scale_to(1.0, norm), placed);
            self.subtract_centre(placed);
            return (norm * f64::from(self.scale)).min(LENGTH_MAX) as f32;
        }
        self.scale_into(row, self.row_scale(norm(row)), placed);
        if self.metric == Metric::Dot {
            let rest = f64::from(self.radius).powi(2) - norm(&placed[..self.dims]).powi(2);
            placed[self.dims] = rest.max(0.0).sqrt() as f32;
        }
        if self.metric == Metric::Euclidean {
            self.subtract_centre(placed);
            return 0.5 * dot(placed, placed) as f32;
        }
        let square = f64::from(self.radius).powi(2) + dot(&self.centre, &self.centre);
        let bias = 0.5 * square - dot(&self.centre, placed);
        self.subtract_centre(placed);
        bias as f32
    }

    /// Writes a query, relative to the centre where scores are distances, into `placed`; returns the query's L2 norm.
    pub(in crate::index) fn place_query(&self, query: &[f32], placed: &mut [f32]) -> f64 {
        let norm = norm(query);
        if self.form == Form::Products {
            self.scale_into(query, scale_to(1.0, norm), placed);
            return norm;
        }
        let scale = match self.metric {
            Metric::Dot => scale_to(self.radius.into(), norm),
            Metric::Cosine | Metric::Euclidean => self.row_scale(norm),
        };
        self.scale_into(query, scale, placed);
        self.subtract_centre(placed);
        norm
    }

    /// What a row of L2 norm `norm` is multiplied by.
    fn row_scale(&self, norm: f64) -> f64 {
        match self.metric {
            Metric::Cosine => scale_to(1.0, norm),
            Metric::Euclidean | Metric::Dot => match f64::from(self.scale) {
                scale if norm * scale > LENGTH_MAX => scale_to(LENGTH_MAX, norm),
                scale => scale,
            },
        }
    }

    fn scale_into(&self, vector: &[f32], scale: f64, placed: &mut [f32]) {
        if scale == 1.0 {
            placed[..self.dims].copy_from_slice(vector);
        } else {
            for (placed, &value) in placed.iter_mut().zip(vector) {
                *placed = (f64::from(value) * scale) as f32;
            }
        }
        placed[self.dims..].fill(0.0);
    }

    fn subtract_centre(&self, placed: &mut [f32]) {
        for (value, centre) in placed.iter_mut().zip(&self.centre) {
            *value -= centre;
        }
    }
}

/// What a vector of length `norm` is multiplied by to have that length; 0 for the zero vector.
fn scale_to(length: f64, norm: f64) -> f64 {
    if norm == 0.0 { 0.0 } else { length / norm }
}

/// The L2 norm of the longest row.
fn longest(rows: &[f32], dims: usize, threads: Threads) -> f64 {
    let norm = |(): &mut (), row: usize| norm(&rows[row * dims..][..dims]);
    threads.map(rows.len() / dims, || (), norm).into_iter().fold(0.0, f64::max)
}

/// The largest size of a value.
fn largest(values: &[f32], threads: Threads) -> f64 {
    /// Values that are looked at together.
    const VALUES: usize = 1 << 16;
    // Numbers without their sign are ordered as their bits are.
    let size = |value: &f32| value.to_bits() & 0x7fff_ffff;
    let parts = threads.map(
        values.len().div_ceil(VALUES),
        || (),
        |(), at| values[at * VALUES..].iter().take(VALUES).map(size).fold(0, u32::max),
    );
    f32::from_bits(parts.into_iter().fold(0, u32::max)).into()
}

/// A power of two that brings `largest` to about 1, or 1 where it does no harm.
fn scale_of(largest: f64) -> f32 {
    if largest == 0.0 || (UNSCALED_MIN..=UNSCALED_MAX).contains(&largest) {
        return 1.0;
    }
    // The limits keep the scale itself a normal number.
    (-largest.log2().ceil()).clamp(-126.0, 126.0).exp2() as f32
}

#[cfg(test)]
mod tests;
