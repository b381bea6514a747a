//! Rows in clusters: the order in which they lie, and a directory of it.
//!
//! The rows of a cluster follow each other, so whoever has an index far away reads the few ranges of
//! it that are near a query instead of the whole. The clusters come from k-means (Lloyd) over the short
//! codes, begun with runs of the order of proximity; a cluster's centroid is written in the same
//! format as a row, and found like one. Clusters follow each other in the order of proximity too.
//!
//! (Measured: with the runs themselves as clusters, half as many of the closest rows are found in the
//! first 2 %; docs/decisions/0005.)

use super::buffer::Buffer;
use super::code::{Code, RowQueries, RowQuery};
use super::codes::Codes;
use super::graph::by_proximity;
use super::integer::Line;
use super::parallel::Threads;
use std::ops::Range;

/// Rows of a cluster, on average.
const CLUSTER_ROWS: usize = 64;
/// Most clusters; with more rows than those have room for, they are larger.
const CLUSTERS_MAX: usize = 16_384;
/// Rounds of k-means.
const ROUNDS: usize = 4;
/// Rows that look for their centroid together.
const CHUNK: usize = 256;

/// The clusters of an index.
#[derive(Debug, Clone)]
pub(super) struct Clusters {
    /// The first row of each cluster, and the end of the last. Rows behind it, which were added later,
    /// are in none.
    pub(super) starts: Buffer<u32>,
    /// The centroid of each cluster, as a short code.
    pub(super) centroids: Buffer<Line>,
}

impl Clusters {
    /// No clusters.
    pub(super) fn none() -> Clusters {
        Clusters { starts: vec![0].into(), centroids: Vec::new().into() }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Which rows are in a cluster.
    pub(super) fn rows(&self, cluster: usize) -> Range<u32> {
        self.starts[cluster]..self.starts[cluster + 1]
    }

    /// Whether what was read from a file fits together and lies within `rows` rows.
    pub(super) fn are_sound(&self, rows: usize, lines: usize) -> bool {
        self.starts.first() == Some(&0)
            && self.starts.is_sorted()
            && self.starts.last().is_some_and(|&end| end as usize <= rows)
            && self.centroids.len() == self.len() * lines
    }
}

/// An order of all rows, cluster after cluster, and the clusters.
pub(super) fn arrange(codes: &Codes, threads: Threads) -> (Vec<u32>, Clusters) {
    let order = by_proximity(codes.coded(), threads);
    if order.is_empty() {
        return (order, Clusters::none());
    }
    let count = (order.len() / CLUSTER_ROWS).clamp(1, CLUSTERS_MAX);
    let runs = (0..count).map(|at| at * order.len() / count..(at + 1) * order.len() / count);
    let mut members: Vec<Vec<u32>> = runs.map(|run| order[run].to_vec()).collect();
    let mut centroids = centroids_of(codes, &members, threads);
    for _ in 0..ROUNDS {
        let assigned = assign(codes, &centroids, threads);
        members.iter_mut().for_each(Vec::clear);
        for &row in &order {
            members[assigned[row as usize] as usize].push(row);
        }
        members.retain(|members| !members.is_empty());
        centroids = centroids_of(codes, &members, threads);
    }
    let mut starts = vec![0u32];
    for members in &members {
        starts.push(starts.last().expect("there is one") + members.len() as u32);
    }
    (members.concat(), Clusters { starts: starts.into(), centroids: centroids.into() })
}

/// The mean of the rows of each cluster, as codes.
fn centroids_of(codes: &Codes, members: &[Vec<u32>], threads: Threads) -> Vec<Line> {
    let width = codes.short.lines();
    let mut centroids = vec![Line::ZERO; members.len() * width];
    threads.chunks_mut(&mut centroids, width, |cluster, centroid| {
        let rows = members[cluster].iter().map(|&row| codes.coded().row(row));
        codes.short.encode_mean(rows, centroid);
    });
    centroids
}

/// For each row the closest centroid.
fn assign(codes: &Codes, centroids: &[Line], threads: Threads) -> Vec<u32> {
    let width = codes.short.lines();
    let mut queries = RowQueries::new(&codes.short);
    queries.extend(&codes.short, centroids, threads);
    let count = (centroids.len() / width) as u32;
    let mut assigned = vec![0u32; codes.rows()];
    threads.chunks_mut(&mut assigned, CHUNK, |chunk, assigned| {
        let lines = &codes.short_lines[chunk * CHUNK * width..][..assigned.len() * width];
        let mut best = [f32::INFINITY; CHUNK];
        let mut scores = Vec::new();
        for first in (0..count).step_by(4) {
            let four: [RowQuery<'_>; 4] =
                std::array::from_fn(|at| queries.of((first + at as u32).min(count - 1)));
            codes.short.scores_of_four(four, lines, &mut scores);
            for ((scores, best), assigned) in scores.iter().zip(&mut best).zip(&mut *assigned) {
                // Next to none is better.
                if scores[0].min(scores[1]).min(scores[2].min(scores[3])) < *best {
                    for (at, &score) in scores.iter().enumerate() {
                        if score < *best {
                            (*best, *assigned) = (score, (first + at as u32).min(count - 1));
                        }
                    }
                }
            }
        }
    });
    assigned
}
