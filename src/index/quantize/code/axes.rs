//! The directions in which a set of vectors varies most: its leading principal components.
//!
//! Orthogonal iteration on the covariance of a sample. It need not converge to the eigenvectors:
//! what counts is that few directions hold most of the variance, most of it first, and that is
//! reached within a few rounds.

use crate::index::machine::isa::Isa;
use crate::index::machine::kernels::Sum;
use crate::index::machine::parallel::Threads;

const ROUNDS: usize = 3;

/// Orthonormal directions and the variance along each, the largest first.
pub(super) struct Axes {
    /// `variances.len()` rows of `dims` values.
    pub(super) directions: Vec<f32>,
    pub(super) variances: Vec<f32>,
}

impl Axes {
    /// The `count` leading directions of `rows` (of `dims` values each, relative to their mean).
    pub(super) fn fit(rows: &[f32], dims: usize, count: usize, threads: Threads) -> Axes {
        let isa = Isa::detect();
        let count = count.min(dims);
        let covariance = covariance(rows, dims, isa, threads);
        let mut directions = start(dims, count);
        orthonormalise(&mut directions, dims, isa, threads);
        for _ in 0..ROUNDS {
            directions = products(&directions, &covariance, dims, isa, threads);
            orthonormalise(&mut directions, dims, isa, threads);
        }
        let applied = products(&directions, &covariance, dims, isa, threads);
        let along = directions.chunks_exact(dims).zip(applied.chunks_exact(dims));
        let variances: Vec<f32> =
            along.map(|(a, b)| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>().max(0.0)).collect();
        sorted(directions, variances, dims)
    }
}

fn sorted(directions: Vec<f32>, variances: Vec<f32>, dims: usize) -> Axes {
    let mut order: Vec<usize> = (0..variances.len()).collect();
    order.sort_by(|&a, &b| variances[b].total_cmp(&variances[a]).then(a.cmp(&b)));
    let by_variance = order.iter().flat_map(|&at| &directions[at * dims..][..dims]);
    Axes {
        directions: by_variance.copied().collect(),
        variances: order.iter().map(|&at| variances[at]).collect(),
    }
}

/// `dims` x `dims`.
fn covariance(rows: &[f32], dims: usize, isa: Isa, threads: Threads) -> Vec<f32> {
    /// Rows that are added at a time, so that several of their columns stay in the nearest cache.
    const BLOCK: usize = 256;
    let mut covariance = vec![0f32; dims * dims];
    let scale = 1.0 / (rows.len() / dims).max(1) as f32;
    for rows in rows.chunks(BLOCK * dims) {
        let count = rows.len() / dims;
        let mut columns = vec![0f32; rows.len()];
        for (index, row) in rows.chunks_exact(dims).enumerate() {
            for (dim, &value) in row.iter().enumerate() {
                columns[dim * count + index] = value;
            }
        }
        let sums = products(&columns, &columns, count, isa, threads);
        for (value, sum) in covariance.iter_mut().zip(sums) {
            *value += sum * scale;
        }
    }
    covariance
}

/// The inner product of every row of `a` with every row of `b`, all of `dims` values: of the first
/// of `a` with all of `b`, and so on.
pub(super) fn products(a: &[f32], b: &[f32], dims: usize, isa: Isa, threads: Threads) -> Vec<f32> {
    /// Rows of `a` that pass over a part of `b` in turn, while it stays in the nearest cache.
    const ROWS: usize = 16;
    /// Values in such a part, about.
    const PART: usize = 4_096;
    let columns = b.len() / dims;
    let part = (PART / dims).max(4);
    let mut out = vec![0f32; a.len() / dims * columns];
    threads.chunks_mut(&mut out, ROWS * columns.max(1), |chunk, out| {
        let a = &a[chunk * ROWS * dims..];
        for (at, b) in b.chunks(part * dims).enumerate() {
            for (a, out) in a.chunks_exact(dims).zip(out.chunks_exact_mut(columns)) {
                let out = &mut out[at * part..][..b.len() / dims];
                isa.sums(Sum::Products, a, b, out);
            }
        }
    });
    out
}

/// Directions without any meaning, the same every time, from a multiplicative hash. Values rather than
/// signs: in few dimensions there are too few different signs for independent directions.
fn start(dims: usize, count: usize) -> Vec<f32> {
    let value = |at: usize| {
        let mixed = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..dims * count).map(value).collect()
}

/// Gram-Schmidt, twice over for the sake of rounding. A direction in which nothing varies becomes 0.
fn orthonormalise(directions: &mut [f32], dims: usize, isa: Isa, threads: Threads) {
    /// Directions from which those before all of them are taken on several threads.
    const BLOCK: usize = 32;
    for first in (0..directions.len()).step_by(BLOCK * dims) {
        let (before, rest) = directions.split_at_mut(first);
        let length = rest.len().min(BLOCK * dims);
        threads.chunks_mut(&mut rest[..length], dims, |_, direction| {
            // How long it is says nothing yet but how widely the data are spread.
            normalise(direction, 0.0);
            take_away(direction, before, isa);
        });
        for at in (first..first + length).step_by(dims) {
            let (before, rest) = directions.split_at_mut(at);
            let direction = &mut rest[..dims];
            take_away(direction, &before[first..], isa);
            take_away(direction, before, isa);
        }
    }
}

/// Takes from a direction its share of all `others`, which are of length 1, and makes it that long.
fn take_away(direction: &mut [f32], others: &[f32], isa: Isa) {
    if !others.is_empty() {
        let mut shares = vec![0f32; others.len() / direction.len()];
        isa.sums(Sum::Products, direction, others, &mut shares);
        subtract(direction, &shares, others);
    }
    // What is left of a direction that the others span is rounding, not direction.
    normalise(direction, 1e-10);
}

/// Takes `shares` of the `rows` from `direction`, four at a time: so it is read and written less.
fn subtract(direction: &mut [f32], shares: &[f32], rows: &[f32]) {
    let dims = direction.len();
    let (fours, rest) = shares.as_chunks::<4>();
    let (rows, rest_rows) = rows.split_at(fours.len() * 4 * dims);
    for (shares, rows) in fours.iter().zip(rows.chunks_exact(4 * dims)) {
        let (a, rows) = rows.split_at(dims);
        let (b, rows) = rows.split_at(dims);
        let (c, d) = rows.split_at(dims);
        let rows = a.iter().zip(b).zip(c.iter().zip(d));
        for (value, ((a, b), (c, d))) in direction.iter_mut().zip(rows) {
            *value -= (shares[0] * a + shares[1] * b) + (shares[2] * c + shares[3] * d);
        }
    }
    for (share, row) in rest.iter().zip(rest_rows.chunks_exact(dims)) {
        for (value, row) in direction.iter_mut().zip(row) {
            *value -= share * row;
        }
    }
}

/// To length 1, or to 0 where the square of its length is not above `negligible`.
fn normalise(direction: &mut [f32], negligible: f64) {
    let square: f64 = direction.iter().map(|&value| f64::from(value).powi(2)).sum();
    let scale = if square > negligible { square.sqrt().recip() } else { 0.0 };
    for value in direction {
        *value = (f64::from(*value) * scale) as f32;
    }
}

#[cfg(test)]
mod tests;
