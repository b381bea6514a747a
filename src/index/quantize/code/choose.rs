//! Which short format suits a data set?
//!
//! As few lines as will do, since what a walk costs is above all the lines it touches. Whether they
//! will do is tried out on a sample: some of its rows, taken as queries, look for their closest rows
//! among the others, exactly and by the code. How the bits of a line are spread over the components
//! follows from the components' variances.

use super::axes::{Axes, products};
use super::projection::{Projected, Projection};
use super::short::{Shape, Short};
use super::{Code, Placed};
use crate::index::machine::integer::Line;
use crate::index::machine::isa::Isa;
use crate::index::machine::parallel::Threads;

/// Most lines that a short row may take.
pub(in crate::index) const LINES_MAX: usize = 3;
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

/// Fits the short format, of at most `most` lines a row, to a sample of placed rows; also says which
/// share of the closest rows it found among twice as many.
pub(in crate::index) fn fit_short(
    isa: Isa,
    dims: usize,
    sample: &[Placed],
    most: usize,
    threads: Threads,
) -> (Short, f32) {
    let rows: Vec<f32> = sample.iter().flat_map(|placed| &placed.values).copied().collect();
    let closest = closest(isa, dims, &rows, sample, threads);
    // The last number of lines is hardly ever needed, and costs half of the axes.
    let usual = most.min(LINES_MAX - 1);
    for tried in [1..usual + 1, usual + 1..most + 1] {
        // A few rows vary along no more directions than there are rows.
        let components = Shape::new(tried.end - 1, 0, dims).components.min(sample.len().max(1));
        let axes = Axes::fit(&rows, dims, components, threads);
        let projection = Projection::new(&axes.directions, dims);
        let projected = Projected::new(isa, &projection, sample, threads);
        for lines in tried {
            let shape = best_shape(lines, &axes.variances);
            let short = Short::fit(isa, shape, &projection, &projected, threads);
            let quality = quality(&short, &projected, &closest, threads);
            if lines == most || quality >= GOOD {
                return (short, quality);
            }
        }
    }
    unreachable!("the last number of lines is always good enough");
}

/// The shape of `lines` lines with the least error.
///
/// An error in a component matters to distances in proportion to the spread of the queries along
/// it, which is taken to be that of the rows.
fn best_shape(lines: usize, variances: &[f32]) -> Shape {
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
    let shapes =
        (0..=Shape::value_bytes(lines)).map(|wide| Shape::new(lines, wide, variances.len()));
    let best = shapes.min_by(|a, b| error(a).total_cmp(&error(b)));
    best.expect("there is at least one")
}

/// The rows of the sample that are queries, evenly spread.
fn queries(rows: usize) -> Vec<usize> {
    (0..rows).step_by((rows / QUERIES).max(1)).take(QUERIES).collect()
}

/// For each query the numbers of the rows closest to it, itself left out.
fn closest(
    isa: Isa,
    dims: usize,
    rows: &[f32],
    sample: &[Placed],
    threads: Threads,
) -> Vec<Vec<u32>> {
    let queries = queries(sample.len());
    let vectors = queries.iter().flat_map(|&query| &rows[query * dims..][..dims]);
    let vectors: Vec<f32> = vectors.copied().collect();
    let mut scores = products(&vectors, rows, dims, isa, threads);
    let of_each = queries.iter().zip(scores.chunks_exact_mut(sample.len().max(1)));
    let closest = of_each.map(|(&query, scores)| {
        for (placed, score) in sample.iter().zip(&mut *scores) {
            *score = 0.5 * placed.square - *score;
        }
        nearest(scores, query, CLOSEST)
    });
    closest.collect()
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
fn quality(short: &Short, sample: &Projected, closest: &[Vec<u32>], threads: Threads) -> f32 {
    let width = short.lines();
    let mut lines = vec![Line::ZERO; sample.rows() * width];
    threads.chunks_mut(&mut lines, width, |row, lines| {
        short.encode_components(sample.row(row), 0.5 * sample.square(row), lines);
    });
    let queries = queries(sample.rows());
    let state = || (vec![0.0; sample.rows()], short.query());
    let found = threads.map(queries.len(), state, |(scores, prepared), at| {
        let query = queries[at];
        short.prepare_projected(sample.row(query), sample.square(query), prepared);
        short.scores_of_run(prepared.view(), &lines, scores);
        let near = nearest(scores, query, 2 * CLOSEST);
        closest[at].iter().filter(|row| near.contains(row)).count()
    });
    let all: usize = closest.iter().map(Vec::len).sum();
    if all == 0 { 1.0 } else { found.iter().sum::<usize>() as f32 / all as f32 }
}
