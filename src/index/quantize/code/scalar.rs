//! Scalar quantisation to 8 bits: LVQ as in Aguerrebere et al., "Similarity search in the blink of
//! an eye with compressed indices" (VLDB 2023), with a range for each vector; or the values
//! themselves, where they are whole numbers in 0..=255 already.
//!
//! A row is its bytes, zeros up to the last 12 bytes of its last line, and there three `f32`: its
//! bias, its lowest value and its step. In the exact format the lowest value is 0, the step 1.

use super::{Code, Placed};
use crate::index::machine::integer::{Line, ROW_BYTES_MAX};
use crate::index::machine::isa::Isa;
use crate::index::quantize::space::Form;

/// Of the three numbers at the end of a row.
const TAIL_BYTES: usize = 12;
/// Most dimensions that a row can have.
pub(in crate::index) const DIMS_MAX: usize = ROW_BYTES_MAX - TAIL_BYTES;
/// Rows measured between two looks at their tails, while those are still in the nearest cache.
const BLOCK: usize = 32;

/// The 8-bit format.
#[derive(Debug, Clone)]
pub(in crate::index) struct Scalar {
    isa: Isa,
    form: Form,
    dims: usize,
    /// Where the values are stored as they are: the centre to be added back.
    exact: Option<Box<[f32]>>,
}

/// A query against this format.
#[derive(Debug, Clone)]
pub(in crate::index) struct ScalarQuery {
    coarse: Box<[Line]>,
    fine: Box<[Line]>,
    step: f32,
    /// The sum of the query's values.
    sum: f32,
    /// What is the same for all rows.
    base: f32,
}

struct Tail {
    bias: f32,
    low: f32,
    step: f32,
}

impl Tail {
    fn of(row: &[Line]) -> Tail {
        let bytes = &row[row.len() - 1].0[Line::BYTES - TAIL_BYTES..];
        let number = |at: usize| {
            f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Tail { bias: number(0), low: number(4), step: number(8) }
    }

    fn write(&self, row: &mut [Line]) {
        let last = row.len() - 1;
        let bytes = &mut row[last].0[Line::BYTES - TAIL_BYTES..];
        let numbers = [self.bias, self.low, self.step];
        for (bytes, number) in bytes.chunks_exact_mut(4).zip(numbers) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
    }
}

impl Scalar {
    /// For placed vectors of `dims` values; `exact` is the centre of a space that neither scaled nor
    /// stretched rows of whole numbers in 0..=255.
    pub(in crate::index) fn new(isa: Isa, dims: usize, exact: Option<Box<[f32]>>) -> Scalar {
        assert!(dims <= DIMS_MAX, "checked at the door");
        Scalar { isa, form: Form::Distances, dims, exact }
    }

    /// The same for other scores.
    pub(in crate::index) fn of_form(self, form: Form) -> Scalar {
        Scalar { form, ..self }
    }

    /// Whether decoding gives back the very values.
    pub(in crate::index) fn is_exact(&self) -> bool {
        self.exact.is_some()
    }

    /// The lines that hold dimensions.
    fn value_lines(&self) -> usize {
        self.dims.div_ceil(Line::BYTES)
    }

    fn encode_exactly(centre: &[f32], placed: &[f32], bias: f32, row: &mut [Line]) {
        for (at, (&value, &centre)) in placed.iter().zip(centre).enumerate() {
            let byte = super::rounded((value + centre).clamp(0.0, 255.0)) as u8;
            row[at / Line::BYTES].0[at % Line::BYTES] = byte;
        }
        Tail { bias, low: 0.0, step: 1.0 }.write(row);
    }
}

impl Code for Scalar {
    type Query = ScalarQuery;

    fn lines(&self) -> usize {
        (self.dims + TAIL_BYTES).div_ceil(Line::BYTES)
    }

    fn encode(&self, placed: &Placed, bias: f32, row: &mut [Line], _: &mut ScalarQuery) {
        let placed = &placed.values;
        row.fill(Line::ZERO);
        if let Some(centre) = &self.exact {
            return Self::encode_exactly(centre, placed, bias, row);
        }
        let mut lowest = f32::INFINITY;
        let mut highest = f32::NEG_INFINITY;
        for &value in placed {
            lowest = lowest.min(value);
            highest = highest.max(value);
        }
        let step = (highest - lowest) / 255.0;
        let scale = if step > 0.0 && step.recip().is_finite() { step.recip() } else { 0.0 };
        for (values, line) in placed.chunks(Line::BYTES).zip(row.iter_mut()) {
            for (&value, byte) in values.iter().zip(&mut line.0) {
                *byte = super::rounded((value - lowest) * scale).clamp(0, 255) as u8;
            }
        }
        Tail { bias, low: lowest, step }.write(row);
    }

    fn query(&self) -> ScalarQuery {
        let lines: Box<[Line]> = vec![Line::ZERO; self.value_lines()].into();
        ScalarQuery { coarse: lines.clone(), fine: lines, step: 0.0, sum: 0.0, base: 0.0 }
    }

    fn prepare(&self, placed: &Placed, query: &mut ScalarQuery) {
        query.coarse.copy_from_slice(&placed.coarse);
        query.fine.copy_from_slice(&placed.fine);
        query.step = placed.step;
        query.sum = placed.step * placed.sum as f32;
        query.base = placed.constant;
        if let Some(centre) = &self.exact {
            // Rows are stored with the centre, which the query is without.
            query.base += super::sum_of_products(&placed.values, centre);
        }
    }

    fn scores(&self, query: &ScalarQuery, codes: &[Line], rows: &[u32], out: &mut [f32]) {
        let stride = self.lines();
        let mut dots = [[0i32; 2]; BLOCK];
        for (rows, out) in rows.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
            let parts = [&*query.coarse, &*query.fine];
            self.isa.byte_dots(parts, codes, stride, rows, &mut dots);
            let rows = rows.iter().zip(&dots).map(|(&row, [coarse, fine])| {
                let tail = Tail::of(&codes[row as usize * stride..][..stride]);
                let dot = (128.0 * *coarse as f32 + *fine as f32) * query.step;
                // The query times (low + step * byte), summed over the dimensions.
                (tail.bias, tail.step * dot + tail.low * query.sum)
            });
            self.form.scores(rows, query.base, out);
        }
    }
}

#[cfg(test)]
mod tests;
