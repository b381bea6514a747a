//! What effort gives which recall? Measured when an index is built.

use super::search::EF_MAX;
use super::vectors::Picked;
use super::{Effort, Index, Scratch, Search, Threads};

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
        vectors: Picked<'_>,
        queries: Picked<'_>,
        threads: Threads,
    ) -> Calibration {
        let count = queries.len();
        let farthest: Vec<f32> = threads.map(count, Scratch::default, |scratch, at| {
            let results = index.search_all(queries.get(at), K, &vectors, scratch);
            results.last().map_or(f32::MAX, |result| result.distance)
        });
        let mut points = Vec::new();
        let mut ef = K;
        while count > 0 && ef < index.len().min(EF_MAX) {
            let found: Vec<usize> = threads.map(count, Scratch::default, |scratch, at| {
                let search =
                    Search { k: K, effort: Effort::Ef(ef), allowed: None, vectors: Some(&vectors) };
                let results = index.search(queries.get(at), &search, scratch);
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
