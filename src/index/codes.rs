//! The rows of an index in both code formats.

use super::Metric;
use super::buffer::Buffer;
use super::code::{Code, Placed, RowQueries, Scalar, Short, fit_short};
use super::graph::Rows;
use super::integer::Line;
use super::isa::Isa;
use super::parallel::Threads;
use super::space::Space;

/// Rows that the formats are fitted to, at most.
const SAMPLE_ROWS: usize = 4_096;
/// The share of the closest rows among twice as many, by the short codes, below which those are of
/// no use: where one direction drowns all others, rows in heaps far apart for instance.
const TELL: f32 = 0.7;
/// Rows that are encoded together.
const CHUNK: usize = 64;

/// A space, the code formats fitted to it, and rows written in them.
#[derive(Debug, Clone)]
pub(super) struct Codes {
    pub(super) space: Space,
    pub(super) short: Short,
    pub(super) scalar: Scalar,
    pub(super) short_lines: Buffer<Line>,
    pub(super) scalar_lines: Buffer<Line>,
}

impl Codes {
    /// Fits the formats to `vectors`; holds no rows yet. Also says whether the short codes tell near
    /// rows from far ones at all.
    pub(super) fn fit(
        metric: Metric,
        dims: usize,
        vectors: &[f32],
        threads: Threads,
    ) -> (Codes, bool) {
        let isa = Isa::detect();
        let rows = vectors.len() / dims;
        let sampled = rows.min(SAMPLE_ROWS);
        let sample = (0..sampled).map(|at| &vectors[at * rows / sampled * dims..][..dims]);
        let sample: Vec<f32> = sample.flatten().copied().collect();
        let space = Space::fit(metric, dims, vectors, &sample);
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
        let (short, quality) = fit_short(isa, space.placed_dims(), &placed, threads);
        let exact = space.keeps_values() && vectors.iter().all(|&value| is_byte(value));
        let scalar = Scalar::new(isa, space.placed_dims(), exact.then(|| space.centre.clone()));
        let (short_lines, scalar_lines) = (Vec::new().into(), Vec::new().into());
        (Codes { space, short, scalar, short_lines, scalar_lines }, quality >= TELL)
    }

    pub(super) fn rows(&self) -> usize {
        self.short_lines.len() / self.short.lines()
    }

    /// Encodes more rows.
    pub(super) fn append(&mut self, vectors: &[f32], threads: Threads) {
        let dims = self.space.dims;
        let rows = vectors.len() / dims;
        let (short, scalar) = (self.short.lines(), self.scalar.lines());
        let mut lines = vec![Line::ZERO; rows * (short + scalar)];
        threads.chunks_mut(&mut lines, CHUNK * (short + scalar), |chunk, lines| {
            let mut placed = Placed::new(self.space.placed_dims());
            let (mut short_query, mut scalar_query) = (self.short.query(), self.scalar.query());
            let vectors = vectors[chunk * CHUNK * dims..].chunks_exact(dims);
            for (lines, vector) in lines.chunks_exact_mut(short + scalar).zip(vectors) {
                let bias = self.space.place_row(vector, &mut placed.values);
                placed.split();
                let (short_lines, scalar_lines) = lines.split_at_mut(short);
                self.short.encode(&placed, bias, short_lines, &mut short_query);
                self.scalar.encode(&placed, bias, scalar_lines, &mut scalar_query);
            }
        });
        for lines in lines.chunks_exact(short + scalar) {
            let (short_lines, scalar_lines) = lines.split_at(short);
            self.short_lines.to_mut().extend_from_slice(short_lines);
            self.scalar_lines.to_mut().extend_from_slice(scalar_lines);
        }
    }

    /// Puts the rows into another order: `order` says which row comes first, second, and so on.
    pub(super) fn reorder(&mut self, order: &[u32]) {
        let pick = |lines: &[Line], width: usize| -> Vec<Line> {
            order.iter().flat_map(|&row| &lines[row as usize * width..][..width]).copied().collect()
        };
        self.short_lines = pick(&self.short_lines, self.short.lines()).into();
        self.scalar_lines = pick(&self.scalar_lines, self.scalar.lines()).into();
    }

    /// The rows as queries against each other.
    pub(super) fn row_queries(&self, threads: Threads) -> RowQueries {
        self.short.row_queries(&self.short_lines, threads)
    }

    pub(super) fn graph_rows<'a>(&'a self, queries: &'a RowQueries) -> Rows<'a> {
        Rows { short: &self.short, lines: &self.short_lines, queries }
    }
}

fn is_byte(value: f32) -> bool {
    (0.0..=255.0).contains(&value) && value.fract() == 0.0
}
