//! Rows in clusters: the order in which they lie, and a directory of it.
//!
//! The rows of a cluster follow each other, so whoever has an index far away reads the few ranges of
//! it that are near a query instead of the whole. The clusters come from k-means (Lloyd) over the short
//! codes, begun with runs of the order of proximity; a cluster's centroid is written in the same
//! format as a row, and found like one. Clusters follow each other in the order of proximity too.
//!
//! (Measured: with the runs themselves as clusters, half as many of the closest rows are found in the
//! first 2 %; docs/decisions/0005.)

use crate::index::graph::by_proximity;
use crate::index::machine::buffer::Buffer;
use crate::index::machine::integer::Line;
use crate::index::machine::parallel::Threads;
use crate::index::quantize::code::{Code, RowQueries};
use crate::index::quantize::codes::Codes;
use crate::index::query::pool::Key;
use std::ops::Range;

/// Rows of a cluster, on average.
const CLUSTER_ROWS: usize = 64;
/// Most clusters; with more rows than those have room for, they are larger.
const CLUSTERS_MAX: usize = 16_384;
/// Rounds of k-means.
const ROUNDS: usize = 8;
/// Clusters near a row's own, that one included, to which it may go in a round.
const NEAR: usize = 32;

/// The clusters of an index.
#[derive(Debug, Clone)]
pub(in crate::index) struct Clusters {
    /// The first row of each cluster, and the end of the last. Rows behind it, which were added later,
    /// are in none.
    pub(in crate::index) starts: Buffer<u32>,
    /// The centroid of each cluster, as a short code.
    pub(in crate::index) centroids: Buffer<Line>,
}

impl Clusters {
    /// No clusters.
    pub(in crate::index) fn none() -> Clusters {
        Clusters { starts: vec![0].into(), centroids: Vec::new().into() }
    }

    /// How many there are.
    pub(in crate::index) fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Which rows are in a cluster.
    pub(in crate::index) fn rows(&self, cluster: usize) -> Range<u32> {
        self.starts[cluster]..self.starts[cluster + 1]
    }

    /// Whether what was read from a file fits together and lies within `rows` rows.
    pub(in crate::index) fn are_sound(&self, rows: usize, lines: usize) -> bool {
        self.starts.first() == Some(&0)
            && self.starts.is_sorted()
            && self.starts.last().is_some_and(|&end| end as usize <= rows)
            && self.centroids.len() == self.len() * lines
    }
}

/// An order of all rows, cluster after cluster, and the clusters.
pub(in crate::index) fn arrange(codes: &Codes, threads: Threads) -> (Vec<u32>, Clusters) {
    let order = by_proximity(codes.coded(), threads);
    if order.is_empty() {
        return (order, Clusters::none());
    }
    let count = (order.len() / CLUSTER_ROWS).clamp(1, CLUSTERS_MAX);
    let runs = (0..count).map(|at| at * order.len() / count..(at + 1) * order.len() / count);
    let mut members: Vec<Vec<u32>> = runs.map(|run| order[run].to_vec()).collect();
    let mut centroids = centroids_of(codes, &members, threads);
    for _ in 0..ROUNDS {
        members = moved(codes, &centroids, &members, threads);
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

/// The members after each went to the closest of the centroids near its own; clusters without any are
/// left out.
fn moved(
    codes: &Codes,
    centroids: &[Line],
    members: &[Vec<u32>],
    threads: Threads,
) -> Vec<Vec<u32>> {
    let mut queries = RowQueries::new(&codes.short);
    queries.extend(&codes.short, centroids, threads);
    let closest = threads.map(members.len(), Room::default, |room, cluster| {
        codes.short.scores_of_run(
            queries.of(cluster as u32),
            centroids,
            room.scores(members.len()),
        );
        let near = room.nearest();
        room.closest(codes, &queries, &members[cluster], &near)
    });
    let mut moved = vec![Vec::new(); members.len()];
    for (members, closest) in members.iter().zip(closest) {
        for (&row, cluster) in members.iter().zip(closest) {
            moved[cluster as usize].push(row);
        }
    }
    moved.retain(|members| !members.is_empty());
    moved
}

/// What looking for the closest centroids needs, kept from one cluster to the next.
#[derive(Default)]
struct Room {
    scores: Vec<f32>,
    keys: Vec<Key>,
    lines: Vec<Line>,
    tile: Vec<[f32; 4]>,
    best: Vec<f32>,
}

impl Room {
    fn scores(&mut self, count: usize) -> &mut [f32] {
        self.scores.resize(count, 0.0);
        &mut self.scores
    }

    /// The clusters of the lowest scores.
    fn nearest(&mut self) -> Vec<u32> {
        self.keys.clear();
        let scores = self.scores.iter().enumerate();
        self.keys.extend(scores.map(|(cluster, &score)| Key::new(score, cluster as u32)));
        if self.keys.len() > NEAR {
            self.keys.select_nth_unstable(NEAR - 1);
            self.keys.truncate(NEAR);
        }
        self.keys.iter().map(|key| key.row()).collect()
    }

    /// For each row the closest of the centroids `near`.
    fn closest(
        &mut self,
        codes: &Codes,
        queries: &RowQueries,
        rows: &[u32],
        near: &[u32],
    ) -> Vec<u32> {
        self.lines.clear();
        for &row in rows {
            self.lines.extend_from_slice(codes.coded().row(row));
        }
        self.best.clear();
        self.best.resize(rows.len(), f32::INFINITY);
        let mut closest = vec![near[0]; rows.len()];
        for some in near.chunks(4) {
            let four = std::array::from_fn(|at| queries.of(some[at.min(some.len() - 1)]));
            codes.short.scores_of_four(four, &self.lines, &mut self.tile);
            for ((scores, best), closest) in self.tile.iter().zip(&mut self.best).zip(&mut closest)
            {
                for (&score, &cluster) in scores.iter().zip(some) {
                    if score < *best {
                        (*best, *closest) = (score, cluster);
                    }
                }
            }
        }
        closest
    }
}
