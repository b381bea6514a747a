//! Reproducible data of several kinds.

use crate::index::build::random::Random;

/// Rows, and queries of the same kind that are not among them.
pub(super) struct Set {
    pub(super) dims: usize,
    pub(super) rows: Vec<f32>,
    pub(super) queries: Vec<f32>,
}

/// Queries of each set.
const QUERIES: usize = 50;

impl Set {
    /// `rows` rows and the queries, each of them filled in by `fill`.
    pub(super) fn new(rows: usize, dims: usize, mut fill: impl FnMut(&mut [f32])) -> Set {
        let mut values = vec![0.0; (rows + QUERIES) * dims];
        values.chunks_exact_mut(dims).for_each(&mut fill);
        let queries = values.split_off(rows * dims);
        Set { dims, rows: values, queries }
    }

    pub(super) fn count(&self) -> usize {
        self.rows.len() / self.dims
    }

    pub(super) fn queries(&self) -> impl Iterator<Item = &[f32]> {
        self.queries.chunks_exact(self.dims)
    }
}

pub(super) fn uniform(rows: usize, dims: usize) -> Set {
    let mut random = Random::new(1);
    Set::new(rows, dims, |row| row.fill_with(|| random.unit()))
}

pub(super) fn gaussian(rows: usize, dims: usize) -> Set {
    let mut random = Random::new(2);
    Set::new(rows, dims, |row| row.fill_with(|| random.normal()))
}

/// 40 clusters, each a third as wide as they are apart.
pub(super) fn clustered(rows: usize, dims: usize) -> Set {
    let mut random = Random::new(3);
    let centres: Vec<f32> = (0..40 * dims).map(|_| random.normal()).collect();
    Set::new(rows, dims, |row| {
        let centre = random.below(40) * dims;
        for (value, centre) in row.iter_mut().zip(&centres[centre..]) {
            *value = centre + random.normal() / 3.0;
        }
    })
}

/// Copies of 60 rows.
pub(super) fn duplicates(rows: usize, dims: usize) -> Set {
    let mut random = Random::new(4);
    let kinds: Vec<f32> = (0..60 * dims).map(|_| random.normal()).collect();
    Set::new(rows, dims, |row| {
        row.copy_from_slice(&kinds[random.below(60) * dims..][..row.len()]);
    })
}

/// Values of 0, 1 and 2 only.
pub(super) fn few_values(rows: usize, dims: usize) -> Set {
    let mut random = Random::new(5);
    Set::new(rows, dims, |row| row.fill_with(|| random.below(3) as f32))
}

/// Directions at random, the longest 100 times as long as the shortest.
pub(super) fn long_and_short(rows: usize, dims: usize) -> Set {
    let mut random = Random::new(6);
    Set::new(rows, dims, |row| {
        let length = 100f32.powf(random.unit());
        row.fill_with(|| length * random.normal());
    })
}

/// Normal, but all values multiplied.
pub(super) fn scaled(rows: usize, dims: usize, scale: f32) -> Set {
    let mut random = Random::new(7);
    Set::new(rows, dims, |row| row.fill_with(|| random.normal() * scale))
}

/// Only the first dimension differs.
pub(super) fn constant(rows: usize, dims: usize) -> Set {
    let mut random = Random::new(8);
    Set::new(rows, dims, |row| {
        row.fill(3.5);
        row[0] = random.unit();
    })
}

pub(super) fn zeros(rows: usize, dims: usize) -> Set {
    Set::new(rows, dims, |_| {})
}
