//! The rows of an index in both code formats.

use crate::index::Metric;
use crate::index::graph::{Coded, Rows};
use crate::index::machine::buffer::Buffer;
use crate::index::machine::integer::Line;
use crate::index::machine::isa::Isa;
use crate::index::machine::parallel::Threads;
use crate::index::quantize::code::{Code, Placed, RowQueries, Scalar, Shape, Short, fit_short};
use crate::index::quantize::space::{Form, Space};
use crate::index::vectors::Picked;

/// Rows that the formats are fitted to, at most.
pub(in crate::index) const SAMPLE_ROWS: usize = 4_096;
/// The share of the closest rows among twice as many, by the short codes, below which those are of
/// no use: where one direction drowns all others, rows in heaps far apart for instance.
const TELL: f32 = 0.7;
/// Other rows suit a format whose codes hold this much of the share of their squares that they hold
/// of the rows that it was fitted to; and on how many rows that is measured.
const CAPTURED: f64 = 0.95;
const CAPTURE_ROWS: usize = 1_024;
/// Rows that are encoded together.
const CHUNK: usize = 64;

/// A space, the code formats fitted to it, and rows written in them.
#[derive(Debug, Clone)]
pub(in crate::index) struct Codes {
    pub(in crate::index) space: Space,
    pub(in crate::index) short: Short,
    pub(in crate::index) scalar: Scalar,
    pub(in crate::index) short_lines: Buffer<Line>,
    pub(in crate::index) scalar_lines: Buffer<Line>,
}

impl Codes {
    /// Fits the formats to `vectors`, the short one of at most `lines` lines a row; holds no rows yet.
    /// Also says whether the short codes tell near rows from far ones at all.
    pub(in crate::index) fn fit(
        (metric, form): (Metric, Form),
        dims: usize,
        vectors: &[f32],
        lines: usize,
        threads: Threads,
    ) -> (Codes, bool) {
        let isa = Isa::detect();
        let rows = vectors.len() / dims;
        let sampled = rows.min(SAMPLE_ROWS);
        let sample = (0..sampled).map(|at| &vectors[at * rows / sampled * dims..][..dims]);
        let sample: Vec<f32> = sample.flatten().copied().collect();
        let space = Space::fit((metric, form), dims, vectors, &sample, threads);
        let placed: Vec<Placed> = threads.map(
            sample.len() / dims,
            || (),
            |(), row| {
                let mut placed = Placed::new(space.placed_dims());
                space.place_row(&sample[row * dims..][..dims], &mut placed.values);
                placed.split();
                placed
            },
        );
        let (short, quality) = fit_short(isa, space.placed_dims(), &placed, lines, threads);
        let short = short.of_form(form);
        let exact = space.keeps_values() && are_bytes(vectors, threads);
        let scalar = Scalar::new(isa, space.placed_dims(), exact.then(|| space.centre.clone()));
        let scalar = scalar.of_form(form);
        let (short_lines, scalar_lines) = (Vec::new().into(), Vec::new().into());
        (Codes { space, short, scalar, short_lines, scalar_lines }, quality >= TELL)
    }

    pub(in crate::index) fn rows(&self) -> usize {
        self.short_lines.len() / self.short.lines()
    }

    /// The length of a row where scores are products.
    pub(in crate::index) fn length(&self, row: usize) -> f32 {
        let width = self.short.lines();
        let lines = &self.short_lines[row * width..][..width];
        self.short.biases(lines).next().unwrap_or_default()
    }

    /// What a query prepared for these depends on.
    pub(in crate::index) fn shape(&self) -> (usize, Shape) {
        (self.space.placed_dims(), self.short.shape())
    }

    /// Encodes more rows.
    pub(in crate::index) fn append(&mut self, vectors: Picked<'_>, threads: Threads) {
        let Codes { space, short, scalar, short_lines, scalar_lines } = self;
        let (short_width, scalar_width) = (short.lines(), scalar.lines());
        let short_lines = grow(short_lines, vectors.len() * short_width);
        let scalar_lines = grow(scalar_lines, vectors.len() * scalar_width);
        let short_chunks = (short_lines, CHUNK * short_width);
        let scalar_chunks = (scalar_lines, CHUNK * scalar_width);
        threads.pairs_mut(short_chunks, scalar_chunks, |chunk, short_lines, scalar_lines| {
            let mut placed = Placed::new(space.placed_dims());
            let (mut short_query, mut scalar_query) = (short.query(), scalar.query());
            let short_rows = short_lines.chunks_exact_mut(short_width);
            let rows = short_rows.zip(scalar_lines.chunks_exact_mut(scalar_width));
            for (at, (short_row, scalar_row)) in rows.enumerate() {
                let vector = vectors.get(chunk * CHUNK + at);
                let bias = space.place_row(vector, &mut placed.values);
                placed.split();
                short.encode(&placed, bias, short_row, &mut short_query);
                scalar.encode(&placed, bias, scalar_row, &mut scalar_query);
            }
        });
    }

    /// The same formats, without rows.
    pub(in crate::index) fn without_rows(&self) -> Codes {
        let Codes { space, short, scalar, .. } = self;
        let (short_lines, scalar_lines) = (Vec::new().into(), Vec::new().into());
        let (space, short, scalar) = (space.clone(), short.clone(), scalar.clone());
        Codes { space, short, scalar, short_lines, scalar_lines }
    }

    /// Adds rows of another, written in the same formats: the `kept` ones, or all.
    pub(in crate::index) fn take_over(&mut self, other: &Codes, kept: Option<&[u32]>) {
        let take = |into: &mut Buffer<Line>, lines: &[Line], width: usize| match kept {
            None => into.to_mut().extend_from_slice(lines),
            Some(kept) => {
                let rows = kept.iter().map(|&row| &lines[row as usize * width..][..width]);
                rows.for_each(|row| into.to_mut().extend_from_slice(row));
            }
        };
        take(&mut self.short_lines, &other.short_lines, other.short.lines());
        take(&mut self.scalar_lines, &other.scalar_lines, other.scalar.lines());
    }

    /// Whether the formats have room for the values of these rows.
    pub(in crate::index) fn could_hold(&self, vectors: &[f32], threads: Threads) -> bool {
        self.space.could_hold(vectors, threads)
            && (!self.scalar.is_exact() || are_bytes(vectors, threads))
    }

    /// Whether the rows of `other` from `first` on, written in the formats of these, lose hardly
    /// more by it than the rows of these do, to which the formats were fitted.
    pub(in crate::index) fn suit(&self, other: &Codes, first: usize) -> bool {
        let width = self.short.lines();
        let captured = |lines: &[Line]| {
            let step = (lines.len() / width / CAPTURE_ROWS).max(1);
            self.short.captured(lines.chunks_exact(width).step_by(step))
        };
        let lines = &other.short_lines[first * width..];
        lines.is_empty() || captured(lines) >= CAPTURED * captured(&self.short_lines)
    }

    /// Puts the rows into another order: `order` says which row comes first, second, and so on.
    pub(in crate::index) fn reorder(&mut self, order: &[u32], threads: Threads) {
        let pick = |lines: &[Line], width: usize| {
            let mut picked = vec![Line::ZERO; lines.len()];
            threads.chunks_mut(&mut picked, CHUNK * width, |chunk, picked| {
                let rows = order[chunk * CHUNK..].iter();
                for (picked, &row) in picked.chunks_exact_mut(width).zip(rows) {
                    picked.copy_from_slice(&lines[row as usize * width..][..width]);
                }
            });
            picked
        };
        self.short_lines = pick(&self.short_lines, self.short.lines()).into();
        self.scalar_lines = pick(&self.scalar_lines, self.scalar.lines()).into();
    }

    /// The rows as queries against each other.
    pub(in crate::index) fn row_queries(&self, threads: Threads) -> RowQueries {
        let mut queries = RowQueries::new(&self.short);
        queries.extend(&self.short, &self.short_lines, threads);
        queries
    }

    /// The short codes.
    pub(in crate::index) fn coded(&self) -> Coded<'_, Short> {
        Coded { code: &self.short, lines: &self.short_lines }
    }

    pub(in crate::index) fn graph_rows<'a>(&'a self, queries: &'a RowQueries) -> Rows<'a> {
        Rows { short: &self.short, lines: &self.short_lines, queries }
    }
}

/// Adds lines and returns them.
fn grow(lines: &mut Buffer<Line>, count: usize) -> &mut [Line] {
    let lines = lines.to_mut();
    let before = lines.len();
    lines.resize(before + count, Line::ZERO);
    &mut lines[before..]
}

/// Whether all values are whole numbers in 0..=255.
fn are_bytes(values: &[f32], threads: Threads) -> bool {
    /// Values that are looked at together.
    const PART: usize = 1 << 16;
    let parts = threads.map(
        values.len().div_ceil(PART),
        || (),
        |(), at| {
            let part = values[at * PART..].iter().take(PART);
            // Without a branch for each.
            part.fold(true, |all, &value| all & (f32::from(value as u8) == value))
        },
    );
    parts.into_iter().all(|all| all)
}
