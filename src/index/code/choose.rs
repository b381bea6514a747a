//! Which short format suits a data set?
//!
//! As few lines as will do, since what a walk costs is above all the lines it touches. Whether they
//! will do is tried out on a sample: some of its rows, taken as queries, look for their closest rows
//! among the others, exactly and by the code. How the bits of a line are spread over the components
//! follows from the components' variances.

use super::axes::Axes;
use super::short::{Shape, Short};
use super::{Code, Placed};
use crate::index::integer::Line;
use crate::index::isa::Isa;
use crate::index::kernels::Sum;
use crate::index::parallel::Threads;

/// Most lines that a short row may take.
const LINES_MAX: usize = 3;
/// The squared error of a component of variance 1 in 4 bits, and in 7.
const NARROW_ERROR: f32 = 0.0115;
const WIDE_ERROR: f32 = NARROW_ERROR / 64.0;

/// Rows of the sample that are taken as queries.
const QUERIES: usize = 256;
/// So many of the closest rows must be among twice as many by the code...
const CLOSEST: usize = 10;
/// ...to this share, for a format to be good enough. In a sample rows are farther apart than in the
/// whole set and easier to tell apart, so this is asked for more than walks need.
const GOOD: f32 = 0.997;

/// Rows that are encoded together.
const ENCODED: usize = 64;

/// Fits the short format to a sample of placed rows; also says which share of the closest rows it
/// found among twice as many.
pub(in crate::index) fn fit_short(
    isa: Isa,
    dims: usize,
    sample: &[Placed],
    threads: Threads,
) -> (Short, f32) {
    let most = Shape::new(LINES_MAX, 0, dims).components;
    let rows: Vec<f32> = sample.iter().flat_map(|placed| &placed.values).copied().collect();
    let axes = Axes::fit(&rows, dims, most, threads);
    let closest = closest(isa, dims, &rows);
    for lines in 1.. {
        let shape = best_shape(lines, &axes.variances, dims);
        let short = Short::fit(isa, shape, &axes, dims, sample);
        let quality = quality(&short, sample, &closest, threads);
        if lines == LINES_MAX || quality >= GOOD {
            return (short, quality);
        }
    }
    unreachable!("the last number of lines is always good enough");
}

/// The shape of `lines` lines with the least error.
///
/// An error in a component matters to distances in proportion to the spread of the queries along
/// it, which is taken to be that of the rows.
fn best_shape(lines: usize, variances: &[f32], dims: usize) -> Shape {
    let error = |shape: &Shape| -> f32 {
        let each = variances.iter().enumerate().map(|(at, variance)| {
            let error = match at {
                at if at < shape.wide => WIDE_ERROR,
                at if at < shape.components => NARROW_ERROR,
                _ => 1.0,
            };
            variance * variance * error
        });
        each.sum()
    };
    let shapes = (0..=Shape::value_bytes(lines)).map(|wide| Shape::new(lines, wide, dims));
    let best = shapes.min_by(|a, b| error(a).total_cmp(&error(b)));
    best.expect("there is at least one")
}

/// The rows of the sample that are queries, evenly spread.
fn queries(rows: usize) -> impl Iterator<Item = usize> {
    (0..rows).step_by((rows / QUERIES).max(1)).take(QUERIES)
}

/// For each query the numbers of the rows closest to it, itself left out.
fn closest(isa: Isa, dims: usize, rows: &[f32]) -> Vec<Vec<u32>> {
    let mut distances = vec![0.0; rows.len() / dims];
    queries(rows.len() / dims)
        .map(|query| {
            isa.sums(Sum::SquaredDifferences, &rows[query * dims..][..dims], rows, &mut distances);
            nearest(&distances, query, CLOSEST)
        })
        .collect()
}

fn nearest(distances: &[f32], query: usize, count: usize) -> Vec<u32> {
    let mut rows: Vec<u32> =
        (0..distances.len() as u32).filter(|&row| row as usize != query).collect();
    let by_distance =
        |a: &u32, b: &u32| distances[*a as usize].total_cmp(&distances[*b as usize]).then(a.cmp(b));
    if count < rows.len() {
        rows.select_nth_unstable_by(count, by_distance);
        rows.truncate(count);
    }
    rows
}

/// The share of the closest rows that are among twice as many by the code.
fn quality(short: &Short, sample: &[Placed], closest: &[Vec<u32>], threads: Threads) -> f32 {
    let width = short.lines();
    let mut lines = vec![Line::ZERO; sample.len() * width];
    threads.chunks_mut(&mut lines, ENCODED * width, |chunk, lines| {
        let mut query = short.query();
        for (lines, placed) in lines.chunks_exact_mut(width).zip(&sample[chunk * ENCODED..]) {
            short.encode(placed, 0.5 * placed.square, lines, &mut query);
        }
    });
    let mut scores = vec![0.0; sample.len()];
    let mut prepared = short.query();
    let (mut found, mut all) = (0, 0);
    for (query, closest) in queries(sample.len()).zip(closest) {
        short.prepare(&sample[query], &mut prepared);
        short.scores_of_run(prepared.view(), &lines, &mut scores);
        let near = nearest(&scores, query, 2 * CLOSEST);
        found += closest.iter().filter(|row| near.contains(row)).count();
        all += closest.len();
    }
    if all == 0 { 1.0 } else { found as f32 / all as f32 }
}
