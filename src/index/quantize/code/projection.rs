//! The leading components of placed vectors, in integers: directions of 8 bits, vectors of 15.

use super::Placed;
use crate::index::machine::integer::Line;
use crate::index::machine::isa::Isa;
use crate::index::machine::parallel::Threads;

/// Directions, a component each.
#[derive(Debug, Clone)]
pub(super) struct Projection {
    /// In bytes of 128 + value.
    pub(super) directions: Box<[Line]>,
    /// What a unit of each is worth.
    pub(super) scales: Box<[f32]>,
    /// `0..scales.len()`, which is how the rows of `directions` are named to the integer loops.
    numbers: Box<[u32]>,
}

impl Projection {
    /// Onto `directions` of `dims` values each.
    pub(super) fn new(directions: &[f32], dims: usize) -> Projection {
        let count = directions.len() / dims;
        let lines = dims.div_ceil(Line::BYTES);
        let mut out = vec![Line::ZERO; lines * count];
        let mut scales = Vec::with_capacity(count);
        for (direction, out) in directions.chunks_exact(dims).zip(out.chunks_exact_mut(lines)) {
            let largest = direction.iter().fold(0f32, |largest, value| largest.max(value.abs()));
            let scale = if largest > 0.0 { 127.0 / largest } else { 0.0 };
            for (at, value) in direction.iter().enumerate() {
                let byte = (value * scale).round() as i32 + 128;
                out[at / Line::BYTES].0[at % Line::BYTES] = byte as u8;
            }
            scales.push(if scale > 0.0 { scale.recip() } else { 0.0 });
        }
        Projection::from_parts(&out, &scales)
    }

    pub(super) fn from_parts(directions: &[Line], scales: &[f32]) -> Projection {
        Projection {
            directions: directions.into(),
            scales: scales.into(),
            numbers: (0..scales.len() as u32).collect(),
        }
    }

    /// Onto the first `count` of the directions.
    pub(super) fn leading(&self, count: usize) -> Projection {
        let lines = self.directions.len() / self.scales.len().max(1);
        Projection::from_parts(&self.directions[..count * lines], &self.scales[..count])
    }

    /// Writes the components of a placed vector; `dots` is room to work in.
    pub(super) fn project(
        &self,
        isa: Isa,
        placed: &Placed,
        dots: &mut Vec<[i32; 2]>,
        components: &mut Vec<f32>,
    ) {
        dots.resize(self.numbers.len(), [0; 2]);
        let parts = [&*placed.coarse, &*placed.fine];
        isa.byte_dots(parts, &self.directions, placed.coarse.len(), &self.numbers, dots);
        components.clear();
        components.extend(dots.iter().zip(&self.scales).map(|(&[coarse, fine], scale)| {
            let sum = 128 * (i64::from(coarse) - placed.sum) + i64::from(fine);
            sum as f32 * scale * placed.step
        }));
    }
}

/// The components of many rows, with the squared length of each.
#[derive(Debug)]
pub(super) struct Projected {
    components: Vec<f32>,
    /// Components of a row.
    width: usize,
    squares: Vec<f32>,
}

impl Projected {
    pub(super) fn new(
        isa: Isa,
        projection: &Projection,
        rows: &[Placed],
        threads: Threads,
    ) -> Projected {
        let width = projection.scales.len();
        let mut components = vec![0.0; rows.len() * width];
        /// Rows that are projected together.
        const CHUNK: usize = 64;
        threads.chunks_mut(&mut components, CHUNK * width, |chunk, out| {
            let (mut dots, mut row) = (Vec::new(), Vec::new());
            for (out, placed) in out.chunks_exact_mut(width).zip(&rows[chunk * CHUNK..]) {
                projection.project(isa, placed, &mut dots, &mut row);
                out.copy_from_slice(&row);
            }
        });
        let squares = rows.iter().map(|placed| placed.square).collect();
        Projected { components, width, squares }
    }

    pub(super) fn rows(&self) -> usize {
        self.squares.len()
    }

    pub(super) fn row(&self, at: usize) -> &[f32] {
        &self.components[at * self.width..][..self.width]
    }

    pub(super) fn square(&self, at: usize) -> f32 {
        self.squares[at]
    }

    /// One component of all rows.
    pub(super) fn column(&self, at: usize) -> Vec<f32> {
        self.components.chunks_exact(self.width).map(|row| row[at]).collect()
    }
}
