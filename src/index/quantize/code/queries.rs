//! Rows as queries against other rows: what a graph is built by.

use super::short::ShortQuery;
use super::{Code, Short};
use crate::index::machine::integer::Line;
use crate::index::machine::parallel::Threads;

/// Rows that are prepared together.
const CHUNK: usize = 256;

/// Rows as queries against the other rows.
#[derive(Debug, Clone)]
pub(in crate::index) struct RowQueries {
    /// Lines of a row.
    width: usize,
    /// Of each row the factors of the lower halves and then those of the upper ones.
    pub(super) factors: Vec<Line>,
    /// Of each row, unit and base.
    pub(super) scales: Vec<(f32, f32)>,
}

/// A row, or anything else, as a query.
#[derive(Debug, Clone, Copy)]
pub(in crate::index) struct RowQuery<'a> {
    pub(super) low: &'a [Line],
    pub(super) high: &'a [Line],
    pub(super) unit: f32,
    pub(super) base: f32,
}

impl RowQueries {
    /// Of rows of `short`, none yet.
    pub(in crate::index) fn new(short: &Short) -> RowQueries {
        RowQueries { width: short.lines(), factors: Vec::new(), scales: Vec::new() }
    }

    /// Adds those of `codes`, all rows, that are not in yet.
    pub(in crate::index) fn extend(&mut self, short: &Short, codes: &[Line], threads: Threads) {
        let (width, before) = (self.width, self.scales.len());
        let rows = codes.len() / width;
        self.factors.resize(2 * rows * width, Line::ZERO);
        self.scales.resize(rows, (0.0, 0.0));
        let new = (&mut self.factors[2 * before * width..], 2 * CHUNK * width);
        threads.pairs_mut(new, (&mut self.scales[before..], CHUNK), |chunk, factors, scales| {
            let mut query = short.query();
            let codes = codes[(before + chunk * CHUNK) * width..].chunks_exact(width);
            let out = factors.chunks_exact_mut(2 * width).zip(scales);
            for (row, (factors, scales)) in codes.zip(out) {
                short.prepare_row(row, &mut query);
                let ShortQuery { low, high, unit, base, .. } = &query;
                factors[..width].copy_from_slice(low);
                factors[width..].copy_from_slice(high);
                *scales = (*unit, *base);
            }
        });
    }

    #[inline]
    pub(in crate::index) fn of(&self, row: u32) -> RowQuery<'_> {
        let (row, width) = (row as usize, self.width);
        let (unit, base) = self.scales[row];
        let (low, high) = self.factors[2 * row * width..][..2 * width].split_at(width);
        RowQuery { low, high, unit, base }
    }
}
