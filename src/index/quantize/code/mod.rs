//! How is a row written down briefly, and how far is a query from it?
//!
//! Two formats, both read in whole cache lines with exact integer sums:
//!
//! - [`Scalar`] (`scalar.rs`): every dimension in 8 bits, for any data. The best candidates are measured by it.
//! - [`Short`] (`short.rs`): the leading principal components (`axes.rs`, `projection.rs`) in one to three lines,
//!   most of them in 4 bits. A walk through the graph measures every row by it, and neighbours are chosen by it. How
//!   many lines there are is chosen for each data set from a sample (`choose.rs`).

mod axes;
mod choose;
mod projection;
mod queries;
mod scalar;
mod short;

pub(in crate::index) use choose::{LINES_MAX, fit_short};
pub(in crate::index) use queries::{RowQueries, RowQuery};
pub(in crate::index) use scalar::{DIMS_MAX as SCALAR_DIMS_MAX, Scalar};
pub(in crate::index) use short::{Shape, Short, ShortParts, ShortQuery};

use crate::index::machine::integer::Line;

/// A code format.
///
/// Scores estimate what [`Form`](crate::index::quantize::space::Form) says; the smaller the closer.
pub(in crate::index) trait Code: Sync {
    /// A query, prepared for many scores.
    type Query: Clone + Send + Sync;

    /// Lines for each row.
    fn lines(&self) -> usize;

    /// Writes a placed row with its bias into its lines; what `query` holds is lost.
    fn encode(&self, placed: &Placed, bias: f32, row: &mut [Line], query: &mut Self::Query);

    /// An empty query, to be prepared.
    fn query(&self) -> Self::Query;

    /// Prepares a placed query.
    fn prepare(&self, placed: &Placed, query: &mut Self::Query);

    /// The scores of some rows of `codes`.
    fn scores(&self, query: &Self::Query, codes: &[Line], rows: &[u32], out: &mut [f32]);
}

/// A placed query and its values as integers of 15 bits, in two parts of signed bytes:
/// `value = step * (128 * coarse + fine)`.
#[derive(Debug, Clone)]
pub(in crate::index) struct Placed {
    pub(in crate::index) values: Vec<f32>,
    pub(in crate::index) coarse: Box<[Line]>,
    pub(in crate::index) fine: Box<[Line]>,
    pub(in crate::index) step: f32,
    /// The sum of `128 * coarse + fine`.
    pub(in crate::index) sum: i64,
    /// The sum of squares of the values.
    pub(in crate::index) square: f32,
    /// Of a query, what is the same in all its scores. Half of that sum where nothing else is said.
    pub(in crate::index) constant: f32,
}

impl Placed {
    pub(in crate::index) fn new(dims: usize) -> Placed {
        let lines = vec![Line::ZERO; dims.div_ceil(Line::BYTES)];
        Placed {
            values: vec![0.0; dims],
            coarse: lines.clone().into(),
            fine: lines.into(),
            step: 0.0,
            sum: 0,
            square: 0.0,
            constant: 0.0,
        }
    }

    /// Fills in what follows from `values`.
    pub(in crate::index) fn split(&mut self) {
        /// 127 * 128 + 63, what the two parts can hold.
        const LARGEST: f32 = 16_319.0;
        let (largest, square) = largest_and_square(&self.values);
        (self.square, self.constant) = (square, 0.5 * square);
        let scale = if largest > 0.0 { LARGEST / largest } else { 0.0 };
        // For a subnormal `largest` the quotient overflows; such a vector is 0 next to any other.
        let scale = if scale.is_finite() { scale } else { 0.0 };
        self.step = if scale > 0.0 { scale.recip() } else { 0.0 };
        let mut sum = 0;
        let lines = self.coarse.iter_mut().zip(&mut self.fine);
        for (values, (coarse, fine)) in self.values.chunks(Line::BYTES).zip(lines) {
            let bytes = coarse.0.iter_mut().zip(&mut fine.0);
            let mut line_sum = 0;
            for (&value, (coarse, fine)) in values.iter().zip(bytes) {
                let integer = rounded(value * scale);
                let upper = (integer + 64) >> 7;
                *coarse = upper as u8;
                *fine = (integer - (upper << 7)) as u8;
                line_sum += integer;
            }
            sum += i64::from(line_sum);
        }
        self.sum = sum;
    }
}

/// The nearest integer, halves to even; `value` is within ±2^22. Adding 1.5 * 2^23 leaves it in the
/// lowest bits, which is faster than `round_ties_even` where that is a call.
#[inline]
fn rounded(value: f32) -> i32 {
    const SHIFT: f32 = 12_582_912.0;
    ((value + SHIFT).to_bits() as i32).wrapping_sub(SHIFT.to_bits() as i32)
}

/// Of two slices of the same length, in eight running totals, which the compiler keeps in registers.
fn sum_of_products(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    for (sum, (a, b)) in sums.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *sum += a * b;
    }
    sums.iter().sum()
}

/// In eight running totals too.
fn largest_and_square(values: &[f32]) -> (f32, f32) {
    let (mut largest, mut square) = ([0f32; 8], [0f32; 8]);
    let (blocks, rest) = values.as_chunks::<8>();
    for block in blocks {
        for lane in 0..8 {
            largest[lane] = largest[lane].max(block[lane].abs());
            square[lane] += block[lane] * block[lane];
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        largest[lane] = largest[lane].max(value.abs());
        square[lane] += value * value;
    }
    (largest.into_iter().fold(0.0, f32::max), square.iter().sum())
}
