//! One suite for both builders and all metrics: what an index promises, against exact search.

mod clusters;
mod conformance;
mod data;
mod filters;
mod growth;
mod lengths;
mod parts;
mod results;
mod same;

use super::*;
use crate::index::graph::Graph;
use data::Set;
use std::collections::HashSet;

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Euclidean, Metric::Dot];
#[cfg(feature = "hnsw_rs")]
const BUILDERS: [Builder; 2] = [Builder::Brainy, Builder::HnswRs];
#[cfg(not(feature = "hnsw_rs"))]
const BUILDERS: [Builder; 1] = [Builder::Brainy];

/// An index and the vectors in its order.
struct Built {
    index: Index,
    vectors: Vec<f32>,
}

impl Built {
    fn of(metric: Metric, set: &Set, builder: Builder) -> Built {
        let (index, order) =
            Index::build(metric, set.dims, &set.rows, params(builder), Threads::One);
        assert_permutation(&order, set.count());
        Built { index, vectors: gather(&set.rows, set.dims, &order) }
    }

    fn search(&self, query: &[f32], search: Search<'_>) -> Vec<Neighbour> {
        let vectors = &self.vectors[..];
        let search = Search { vectors: Some(&vectors), ..search };
        self.index.search(query, &search, &mut Scratch::default()).to_vec()
    }

    fn exact(&self, query: &[f32], k: usize, allowed: Option<&RowSet>) -> Vec<Neighbour> {
        let dims = self.index.dimensions();
        let prepared = PreparedQuery::new(self.index.metric(), query);
        let mut top = TopK::new(k);
        for (row, vector) in self.vectors.chunks_exact(dims).enumerate() {
            if allowed.is_none_or(|allowed| allowed.contains(row as u32)) {
                top.push(prepared.distance(vector, inverse_norm(vector)), row as u32);
            }
        }
        let sorted = top.into_sorted().into_iter();
        sorted.map(|(distance, row)| Neighbour { row, distance }).collect()
    }

    /// The mean recall of 10 results over `queries`, by distance: of equally close rows any will do.
    fn recall(&self, queries: &[f32], effort: Effort) -> f32 {
        let search = Search { effort, ..TEN };
        let recalls = queries.chunks_exact(self.index.dimensions()).map(|query| {
            let found = self.search(query, search);
            assert_sound(&found, search.k.min(self.index.len()));
            share(&found, &self.exact(query, search.k, None))
        });
        mean(recalls)
    }

    /// The promises of a graph.
    fn assert_contract(&self) {
        let graph: &Graph = &self.index.graph;
        let rows = graph.rows();
        if self.index.is_by_length() {
            assert!((0..rows as u32).all(|row| graph.neighbours(row).next().is_none()));
            return;
        }
        assert_eq!(graph.neighbours.len(), rows * graph.degree);
        let mut open = self.index.entries.clone();
        let mut reached: HashSet<u32> = open.iter().copied().collect();
        while let Some(row) = open.pop() {
            open.extend(graph.neighbours(row).filter(|&next| reached.insert(next)));
        }
        assert_eq!(reached.len(), rows, "rows that can be reached");
        for row in 0..rows as u32 {
            let count = graph.neighbours(row).count();
            assert!(graph.places(row)[count..].iter().all(|&place| place == u32::MAX));
            let others: HashSet<u32> = graph.neighbours(row).collect();
            assert_eq!(others.len(), count, "a neighbour twice");
            assert!(!others.contains(&row), "a row is its own neighbour");
            assert!(others.iter().all(|&other| (other as usize) < rows));
        }
    }
}

/// Ten results at the default effort.
const TEN: Search<'static> =
    Search { k: 10, effort: Effort::Default, allowed: None, vectors: None };

fn params(builder: Builder) -> IndexParams {
    IndexParams { builder, ..IndexParams::default() }
}

fn gather(vectors: &[f32], dims: usize, order: &[u32]) -> Vec<f32> {
    order.iter().flat_map(|&row| &vectors[row as usize * dims..][..dims]).copied().collect()
}

fn assert_permutation(order: &[u32], count: usize) {
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq(0..count as u32), "not a permutation of {count} rows");
}

/// Results are as many as they should be, sorted, different rows, at finite distances.
#[track_caller]
fn assert_sound(found: &[Neighbour], count: usize) {
    assert_eq!(found.len(), count);
    assert!(found.iter().all(|result| result.distance.is_finite()));
    assert!(found.is_sorted_by(|a, b| a.distance <= b.distance), "{found:?}");
    let rows: HashSet<u32> = found.iter().map(|result| result.row).collect();
    assert_eq!(rows.len(), found.len(), "a row twice");
}

/// The share of `found` that is no farther than the last of `exact`.
fn share(found: &[Neighbour], exact: &[Neighbour]) -> f32 {
    let Some(last) = exact.last() else { return 1.0 };
    let most = last.distance + last.distance.abs() * 1e-5 + f32::MIN_POSITIVE;
    let good = found.iter().filter(|result| result.distance <= most).count();
    good as f32 / exact.len() as f32
}

fn mean(values: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { 1.0 } else { sum / count as f32 }
}
