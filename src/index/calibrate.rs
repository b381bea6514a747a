//! What effort gives which recall? Measured when an index is built.

use super::search::EF_MAX;
use super::{Effort, Index, Metric, PreparedQuery, Scratch, Search, TopK, inverse_norm};
use crate::index::parallel::Threads;

/// What a search aims at that says nothing of it.
pub(super) const DEFAULT_RECALL: f32 = 0.98;
/// Results that recall is measured at.
const K: usize = 10;
/// Rows held back as queries, at most, and the share of all rows at most.
const QUERIES: usize = 128;
const QUERIES_SHARE: usize = 20;
/// Where walks are this wide and recall is this good, more effort is not tried out.
const WIDE: usize = 400;
const ENOUGH: f32 = 0.99;
/// Queries that look for their true results together.
const BLOCK: usize = 16;
/// Recall is measured on few queries, so a little more than was asked for is aimed at.
const MARGIN: f32 = 0.003;

/// What walks over an index gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Calibration {
    /// Rows of the index when it was measured.
    pub(super) rows: u32,
    /// Pairs of a walk's width and the recall measured with it, both ascending.
    pub(super) points: Vec<(u32, f32)>,
}

/// With twice the rows walks are to be 1.25 times as wide (measured: merged halves of three sets).
const GROWTH: f32 = 0.32;

impl Calibration {
    /// Of an index whose rows are all to be looked at.
    pub(super) fn scan() -> Calibration {
        Calibration { rows: 0, points: Vec::new() }
    }

    /// How many of `rows` rows are held back as queries.
    pub(super) fn held_back(rows: usize) -> usize {
        QUERIES.min(rows / QUERIES_SHARE)
    }

    /// Measures an index, of which `vectors` are the rows, by queries that are not in it.
    pub(super) fn measure(
        index: &Index,
        vectors: &[f32],
        queries: &[f32],
        threads: Threads,
    ) -> Calibration {
        let dims = index.dimensions();
        let count = queries.len() / dims;
        let query = |at: usize| &queries[at * dims..][..dims];
        let norms = norms(index.metric(), vectors, dims, threads);
        let blocks = threads.map(
            count.div_ceil(BLOCK),
            || (),
            |(), block| {
                let queries = &queries[block * BLOCK * dims..];
                let queries = &queries[..queries.len().min(BLOCK * dims)];
                kth_distances(index, vectors, &norms, queries)
            },
        );
        let farthest: Vec<f32> = blocks.concat();
        let mut points = Vec::new();
        let mut ef = K;
        while count > 0 && ef < index.len().min(EF_MAX) {
            let found: Vec<usize> = threads.map(count, Scratch::default, |scratch, at| {
                let search =
                    Search { k: K, effort: Effort::Ef(ef), allowed: None, vectors: Some(&vectors) };
                let results = index.search(query(at), &search, scratch);
                results.iter().filter(|result| result.distance <= farthest[at]).count()
            });
            let recall = found.iter().sum::<usize>() as f32 / (count * K.min(index.len())) as f32;
            points.push((ef as u32, recall));
            if recall >= 0.9995 || (recall >= ENOUGH && ef >= WIDE) {
                break;
            }
            ef += ef.div_ceil(4);
        }
        // More effort never is less recall, but for chance.
        for at in 1..points.len() {
            points[at].1 = points[at].1.max(points[at - 1].1);
        }
        Calibration { rows: index.len() as u32, points }
    }

    /// The width of walks over now `rows` rows for a recall of `k` results. Beyond what was measured
    /// the widest is given.
    pub(super) fn ef(&self, recall: f32, k: usize, rows: usize) -> usize {
        let wanted = (recall + MARGIN).min(0.9995);
        let enough = self.points.iter().find(|point| point.1 >= wanted).or(self.points.last());
        // An index without points is small enough to be scanned.
        let Some(&(ef, _)) = enough else { return EF_MAX };
        let growth = (rows as f32 / self.rows.max(1) as f32).max(1.0).powf(GROWTH);
        // As many more as there are more results.
        (ef as f32 * growth).round() as usize + k.saturating_sub(K)
    }
}

/// What cosine distances need of each row; nothing for other metrics.
fn norms(metric: Metric, vectors: &[f32], dims: usize, threads: Threads) -> Vec<f32> {
    match metric {
        Metric::Cosine => threads.map(
            vectors.len() / dims,
            || (),
            |(), row| inverse_norm(&vectors[row * dims..][..dims]),
        ),
        Metric::Euclidean | Metric::Dot => Vec::new(),
    }
}

/// For each query the distance of the last of the true results, and a little more for rounding.
fn kth_distances(index: &Index, vectors: &[f32], norms: &[f32], queries: &[f32]) -> Vec<f32> {
    /// Rows that stay in the cache while every query passes over them.
    const TILE: usize = 128;
    let dims = index.dimensions();
    let queries = queries.chunks_exact(dims);
    let mut all: Vec<(PreparedQuery, TopK<usize>)> =
        queries.map(|query| (PreparedQuery::new(index.metric(), query), TopK::new(K))).collect();
    let mut distances = [0.0; TILE];
    for (tile, rows) in vectors.chunks(TILE * dims).enumerate() {
        let distances = &mut distances[..rows.len() / dims];
        let first = tile * TILE;
        let norms = norms.get(first..first + distances.len()).unwrap_or_default();
        for (query, top) in &mut all {
            query.distances(rows, norms, distances);
            for (at, &distance) in distances.iter().enumerate() {
                if distance <= top.threshold() {
                    top.push(distance, first + at);
                }
            }
        }
    }
    let last = all.iter().map(|(_, top)| top.threshold());
    last.map(|last| if last.is_finite() { last + last.abs() * 1e-6 } else { f32::MAX }).collect()
}
