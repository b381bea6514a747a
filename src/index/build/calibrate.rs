//! What effort gives which recall? Measured when an index is built.

use crate::index::build::by_length::WHOLE_REACH;
use crate::index::query::search::EF_MAX;
use crate::index::vectors::Picked;
use crate::index::{
    Effort, Index, Metric, PreparedQuery, RowSet, Scratch, Search, Threads, TopK, inverse_norm,
};

/// What a search aims at that says nothing of it.
pub(in crate::index) const DEFAULT_RECALL: f32 = 0.98;
/// A build that finds less, whatever the effort, has not done what it should.
const RECALL_MIN: f32 = 0.95;
/// Results that recall is measured at.
const K: usize = 10;
/// Queries whose results are looked for in the vectors themselves, to see whether the codes can tell.
const PROVED: usize = 48;
/// Rows that are queries, at most, and the share of all rows at most.
const QUERIES: usize = 1_024;
const QUERIES_SHARE: usize = 20;
/// Where walks are this wide and recall is this good, more effort is not tried out.
const WIDE: usize = 400;
const ENOUGH: f32 = 0.99;
/// Rows that all walks of one width keep together, at most: of more queries a part is tried.
const KEPT_TOGETHER: usize = 1 << 16;
/// Queries that are tried whatever their walks keep.
const TRIED_MIN: usize = 32;
/// Standard deviations between what was measured and what is promised.
const DEVIATIONS: f32 = 1.0;
/// A query that misses one result is likely to miss another: its results count as this many fewer.
const CLUSTERING: f32 = 2.5;

/// What walks over an index gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::index) struct Calibration {
    /// Rows of the index when it was measured.
    pub(in crate::index) rows: u32,
    /// Pairs of a walk's width and the recall that it has at least, both ascending.
    pub(in crate::index) points: Vec<(u32, f32)>,
}

/// With twice the rows walks are to be 1.25 times as wide (measured: merged halves of three sets).
const GROWTH: f32 = 0.32;

impl Calibration {
    /// What was measured before, if it can be: wider walks find no less.
    pub(in crate::index) fn from_points(rows: u32, points: Vec<(u32, f32)>) -> Option<Calibration> {
        let is_width = |ef: u32| (1..=EF_MAX).contains(&(ef as usize));
        let each = points.iter().all(|&(ef, recall)| is_width(ef) && (0.0..=1.0).contains(&recall));
        let rises = points.is_sorted_by(|left, right| left.0 < right.0 && left.1 <= right.1);
        (each && rises).then_some(Calibration { rows, points })
    }

    /// Measures an index, of which `vectors` are the rows, by some of its own rows, to which no way
    /// leads meanwhile. Walks for other queries need to be as wide or, by up to a tenth, less: what is
    /// near a row was linked with that row, and not with what else is near.
    pub(in crate::index) fn measure(
        index: &mut Index,
        vectors: Picked<'_>,
        threads: Threads,
    ) -> Calibration {
        let rows = index.len() as u32;
        let mut queries = spread(rows as usize, QUERIES.min(rows as usize / QUERIES_SHARE));
        // Walks start from these, so there always is a way to them.
        queries.retain(|query| !index.entries.contains(query));
        let is_other = |row: &u32| queries.binary_search(row).is_err();
        let others: RowSet = (0..rows).filter(is_other).collect();
        let without = index.graph.among(&others);
        let graph = std::mem::replace(&mut index.graph, without);
        let points = index.recall(vectors, &queries, &others, threads);
        index.graph = graph;
        Calibration { rows, points }
    }

    /// The width of walks over now `rows` rows for a recall of `k` results. Beyond what was measured
    /// the widest is given.
    pub(in crate::index) fn ef(&self, recall: f32, k: usize, rows: usize) -> usize {
        let wanted = recall.min(0.9995);
        let enough = self.points.iter().position(|point| point.1 >= wanted);
        let at = enough.unwrap_or(self.points.len().saturating_sub(1));
        // An index without points is small enough to be scanned.
        let Some(&(mut ef, reached)) = self.points.get(at) else { return EF_MAX };
        // Recall rises ever more slowly, so between two widths there is at least what a line says.
        if let Some(&(narrower, less)) = at.checked_sub(1).and_then(|at| self.points.get(at))
            && enough.is_some()
        {
            let share = (wanted - less) / (reached - less);
            ef = narrower + ((ef - narrower) as f32 * share).ceil() as u32;
        }
        let growth = (rows as f32 / self.rows.max(1) as f32).max(1.0).powf(GROWTH);
        // As many more as there are more results.
        (ef as f32 * growth).round() as usize + k.saturating_sub(K)
    }
}

impl Index {
    /// The recall of walks of rising width for these rows as queries, to be found being the `others`.
    fn recall(
        &self,
        vectors: Picked<'_>,
        queries: &[u32],
        others: &RowSet,
        threads: Threads,
    ) -> Vec<(u32, f32)> {
        let count = queries.len();
        let told = self.told_by_codes(vectors, queries, others, threads);
        let farthest: Vec<f32> = threads.map(count, Scratch::default, |scratch, at| {
            let results = self.search_all(
                vectors.get(queries[at] as usize),
                K,
                Some(others),
                &vectors,
                scratch,
            );
            results.last().map_or(f32::MAX, |result| result.distance)
        });
        let wanted = K.min(self.len());
        // A query whose results are all found by a walk is taken to find them by a wider one, too.
        let (mut missing, mut stands_for): (Vec<usize>, f32) = ((0..count).collect(), 1.0);
        let mut points: Vec<(u32, f32)> = Vec::new();
        let mut ef = K;
        while count > 0 && ef < self.len().min(EF_MAX) {
            let most = (KEPT_TOGETHER / ef).max(TRIED_MIN);
            if missing.len() > most {
                stands_for *= missing.len() as f32 / most as f32;
                missing = (0..most).map(|at| missing[at * missing.len() / most]).collect();
            }
            let misses: Vec<usize> = threads.map(missing.len(), Scratch::default, |scratch, at| {
                let at = missing[at];
                let effort = Effort::Ef(ef);
                // Ways lead to the others only, where there are ways.
                let allowed = self.is_by_length().then_some(others);
                let search = Search { k: K, effort, allowed, vectors: Some(&vectors) };
                let results = self.search(vectors.get(queries[at] as usize), &search, scratch);
                let found = results.iter().filter(|result| result.distance <= farthest[at]);
                wanted.saturating_sub(found.count())
            });
            let missed = misses.iter().sum::<usize>() as f32 * stands_for;
            let recall = surely(missed, (count * wanted) as f32).min(told);
            // More effort never is less recall, but for chance.
            points.push((ef as u32, points.last().map_or(recall, |last| recall.max(last.1))));
            let all_read = self.is_by_length() && ef >= 2 * WHOLE_REACH;
            if missed == 0.0 || all_read || (recall >= ENOUGH && ef >= WIDE) {
                break;
            }
            let mut misses = misses.iter();
            missing.retain(|_| misses.next().is_some_and(|&misses| misses > 0));
            ef += ef.div_ceil(4);
        }
        points
    }

    /// Which share of the closest others of some rows a scan by the codes finds.
    fn told_by_codes(
        &self,
        vectors: Picked<'_>,
        queries: &[u32],
        others: &RowSet,
        threads: Threads,
    ) -> f32 {
        let proved: Vec<u32> =
            queries.iter().step_by(queries.len().div_ceil(PROVED).max(1)).copied().collect();
        let farthest = farthest_of_closest(self.metric(), vectors, &proved, others, threads);
        let found: Vec<(usize, usize)> =
            threads.map(proved.len(), Scratch::default, |scratch, at| {
                let query = vectors.get(proved[at] as usize);
                let results = self.search_all(query, K, Some(others), &vectors, scratch);
                let right = results.iter().filter(|result| result.distance <= farthest[at]).count();
                (right, results.len())
            });
        let of = |one: fn(&(usize, usize)) -> usize| found.iter().map(one).sum::<usize>() as f32;
        if found.is_empty() { 1.0 } else { of(|found| found.0) / of(|found| found.1).max(1.0) }
    }

    /// The recall that the most effort had when the index was built: `None` where it has so few rows that it was not
    /// measured.
    pub fn recall_reached(&self) -> Option<f32> {
        self.calibration.points.last().map(|point| point.1)
    }

    pub(in crate::index) fn is_calibrated(&self) -> bool {
        !self.calibration.points.is_empty()
    }

    /// Whether that is as much as an index is for. Where it is not, only the vectors themselves tell what is close.
    pub fn finds_enough(&self) -> bool {
        self.recall_reached().is_none_or(|reached| reached >= RECALL_MIN)
    }
}

/// How far the last of the closest `others` of each of some rows is, by the vectors themselves.
fn farthest_of_closest(
    metric: Metric,
    vectors: Picked<'_>,
    queries: &[u32],
    others: &RowSet,
    threads: Threads,
) -> Vec<f32> {
    /// Rows that stay near while every query is measured against them.
    const BLOCK: usize = 128;
    /// What is looked through at a time; more only hold more results.
    const PIECES: usize = 64;
    let rows: Vec<u32> = others.iter().collect();
    let prepared =
        queries.iter().map(|&query| PreparedQuery::new(metric, vectors.get(query as usize)));
    let prepared: Vec<PreparedQuery> = prepared.collect();
    let piece = rows.len().div_ceil(PIECES).max(1);
    let found = threads.map(rows.len().div_ceil(piece), Vec::new, |block: &mut Vec<f32>, at| {
        let mut closest = vec![TopK::new(K); prepared.len()];
        let of_piece = &rows[at * piece..rows.len().min((at + 1) * piece)];
        let mut distances = [0.0; BLOCK];
        for rows in of_piece.chunks(BLOCK) {
            block.clear();
            rows.iter().for_each(|&row| block.extend_from_slice(vectors.get(row as usize)));
            let norms: Vec<f32> = match metric {
                Metric::Cosine => block.chunks_exact(vectors.dims).map(inverse_norm).collect(),
                Metric::Euclidean | Metric::Dot => Vec::new(),
            };
            let distances = &mut distances[..rows.len()];
            for (query, closest) in prepared.iter().zip(&mut closest) {
                query.distances(block, &norms, distances);
                for (&row, &distance) in rows.iter().zip(&*distances) {
                    if distance <= closest.threshold() {
                        closest.push(distance, row);
                    }
                }
            }
        }
        closest.into_iter().map(TopK::into_sorted).collect::<Vec<_>>()
    });
    let last = |at: usize| {
        let mut closest = TopK::new(K);
        for &(distance, row) in found.iter().flat_map(|of_piece| &of_piece[at]) {
            closest.push(distance, row);
        }
        closest.into_sorted().last().map_or(f32::MAX, |last| last.0)
    };
    (0..queries.len()).map(last).collect()
}

/// `count` of so many rows, evenly spread.
fn spread(rows: usize, count: usize) -> Vec<u32> {
    (0..count).map(|at| ((2 * at + 1) * rows / (2 * count)) as u32).collect()
}

/// The recall of which one can be sure when `missed` of `wanted` results were missed.
fn surely(missed: f32, wanted: f32) -> f32 {
    // One more, so that a sample without misses does not promise that there are none.
    let missed = (missed + 1.0) / (wanted + 1.0);
    let deviation = (missed * (1.0 - missed).max(0.0) * CLUSTERING / wanted).sqrt();
    (1.0 - missed - DEVIATIONS * deviation).max(0.0)
}
