//! Whatever the filter, the data and where they are: the answer is that of a look at every record.

use super::*;
use brainy::base::Env;
use brainy::base::ids::CollectionName;
use brainy::base::rng::{Rng, SeededRng};
use brainy::base::settings::{Role, Settings};
use brainy::engine::Brainy;
use brainy::engine::model::*;
use brainy::store::DynStore;
use brainy::store::memory::MemoryStore;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};

/// Enough for a few dozen rows to be searched by their codes.
const LONG: usize = 1_024;
/// Pages of a walk through many results.
const PAGE: usize = 10;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn name() -> CollectionName {
    CollectionName::new("things").unwrap()
}

/// Only what a test asks for is indexed.
async fn instance(store: &DynStore, role: Role) -> Brainy {
    let settings = Settings { index_enabled: false, ..Settings::default() };
    Brainy::start(settings, role, store.clone(), Env::system(1).unwrap()).await.unwrap()
}

async fn writer(metric: Metric, dimensions: usize) -> (DynStore, Brainy) {
    let store: DynStore = Arc::new(MemoryStore::default());
    let brainy = instance(&store, Role::Hybrid).await;
    let spec = CollectionSpec {
        name: name(),
        dimensions: dimensions as u32,
        metric,
        partition_count: None,
        partitioner: None,
        description: None,
    };
    brainy.create_collection(spec).await.unwrap();
    (store, brainy)
}

fn request(vector: &[f32], k: usize, offset: usize, filter: Option<&Filter>) -> SearchRequest {
    SearchRequest {
        offset,
        filter: filter.cloned(),
        consistency: Consistency::Strong,
        ..SearchRequest::nearest(vector.to_vec(), k)
    }
}

async fn hits(brainy: &Brainy, request: SearchRequest) -> Vec<(f32, String)> {
    let found = brainy.search(&name(), request).await.unwrap();
    found.hits.into_iter().map(|hit| (hit.distance, hit.id)).collect()
}

/// A vector with zeros behind it.
fn long(vector: &[f32], dimensions: usize) -> Vec<f32> {
    vector.iter().copied().chain(std::iter::repeat(0.0)).take(dimensions).collect()
}

/// The distance, slowly.
fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let pairs = || a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    let dot = pairs().map(|(a, b)| a * b).sum::<f64>();
    let norm = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    match metric {
        Metric::Euclidean => pairs().map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt(),
        Metric::Dot => -dot,
        Metric::Cosine => 1.0 - dot / (norm(a) * norm(b)),
    }
}

/// A record of few, so that many are equally far from any query.
type Row = (u8, Vec<f32>, Value);

fn row() -> impl Strategy<Value = Row> {
    let value = (1i8..4).prop_map(f32::from);
    (0u8..60, prop::collection::vec(value, 2), metadata())
}

fn metric() -> impl Strategy<Value = Metric> {
    prop::sample::select(vec![Metric::Cosine, Metric::Euclidean, Metric::Dot])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_search_is_a_look_at_every_record(
        rows in prop::collection::vec(row(), 1..120),
        indexed in 0usize..120,
        filter in filter_of_any_size(),
        query in prop::collection::vec(-3.0f32..3.0, 2),
        dimensions in prop::sample::select(vec![2, LONG]),
        metric in metric(),
        (offset, k) in (0usize..40, 1usize..40),
    ) {
        let filter = Filter::parse(&filter).unwrap();
        runtime().block_on(async {
            let (_, brainy) = writer(metric, dimensions).await;
            let query = long(&query, dimensions);
            let records = rows.iter().map(|(id, vector, metadata)| {
                let vector = long(vector, dimensions);
                NewRecord::new(format!("{id}"), vector).metadata(metadata.to_string())
            });
            for (at, record) in records.enumerate() {
                if at == indexed {
                    brainy.index(&name()).await.unwrap();
                }
                brainy.upsert(&name(), vec![record]).await.unwrap();
            }
            let last: std::collections::BTreeMap<String, &Row> =
                rows.iter().map(|row| (row.0.to_string(), row)).collect();
            let passing: std::collections::BTreeMap<&String, f64> = last
                .iter()
                .filter(|(_, (_, _, metadata))| filter.matches(metadata))
                .map(|(id, (_, vector, _))| (id, distance(metric, &query, vector)))
                .collect();
            let all = hits(&brainy, request(&query, 1_000, 0, Some(&filter))).await;
            assert_eq!(all.len(), passing.len());
            for (far, id) in &all {
                assert!((f64::from(*far) - passing[id]).abs() < 1e-5, "{id}: {far}");
            }
            let in_order = |pair: &[(f32, String)]| {
                pair[0].0.total_cmp(&pair[1].0).then_with(|| pair[0].1.cmp(&pair[1].1)).is_lt()
            };
            assert!(all.windows(2).all(in_order), "{all:?}");
            let page = hits(&brainy, request(&query, k, offset, Some(&filter))).await;
            let expected: Vec<_> = all.iter().skip(offset).take(k).cloned().collect();
            assert_eq!(page, expected);
        });
    }
}

/// Walks through all results, a page after another.
async fn walk(brainy: &Brainy, query: &[f32], count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for offset in (0..count).step_by(PAGE) {
        let page = hits(brainy, request(query, PAGE, offset, None)).await;
        ids.extend(page.into_iter().map(|(_, id)| id));
    }
    ids
}

#[test]
fn records_that_are_equally_far_are_in_the_order_of_their_ids_wherever_they_are() {
    runtime().block_on(async {
        let (store, brainy) = writer(Metric::Cosine, 8).await;
        let rng = SeededRng::new(7);
        // A few that are closer and farther, and thousands that are alike.
        let mut ids: Vec<String> = (0..6_000).map(|n| format!("{n:04}")).collect();
        for at in (1..ids.len()).rev() {
            ids.swap(at, rng.below(at as u64 + 1) as usize);
        }
        let vector = |id: &str| match id.parse::<u32>().unwrap() {
            n @ 0..5 => long(&[1.0, 0.01 * n as f32], 8),
            n @ 5_000.. => long(&[0.1, n as f32], 8),
            _ => long(&[1.0, 1.0], 8),
        };
        let query = long(&[1.0, 0.0], 8);
        let mut expected: Vec<String> =
            ids.iter().filter(|id| id.as_str() < "5000").cloned().collect();
        expected.sort();
        expected.truncate(300);
        let records: Vec<_> = ids.iter().map(|id| NewRecord::new(id, vector(id))).collect();
        let (first, second) = records.split_at(4_000);
        let reader = instance(&store, Role::Reader).await;
        brainy.upsert(&name(), first.to_vec()).await.unwrap();
        brainy.upsert(&name(), second.to_vec()).await.unwrap();
        assert_eq!(walk(&brainy, &query, 300).await, expected, "in the tail");
        brainy.index(&name()).await.unwrap();
        assert_eq!(walk(&brainy, &query, 300).await, expected, "indexed");
        brainy.upsert(&name(), second.to_vec()).await.unwrap();
        assert_eq!(walk(&reader, &query, 300).await, expected, "in both");
        brainy.index(&name()).await.unwrap();
        assert_eq!(walk(&reader, &query, 300).await, expected, "in two segments");
    });
}

/// One record in thousands passes, and the index of filters cannot tell which.
async fn one_of_many(metadata: impl Fn(usize) -> Value, filter: Value, wanted: usize) {
    let (_, brainy) = writer(Metric::Euclidean, 8).await;
    let records = (0..5_000).map(|n| {
        NewRecord::new(format!("{n}"), long(&[n as f32, 1.0], 8)).metadata(metadata(n).to_string())
    });
    brainy.upsert(&name(), records.collect()).await.unwrap();
    let filter = Filter::parse(&filter).unwrap();
    for place in ["tail", "segment", "segment, again"] {
        let found = hits(&brainy, request(&long(&[0.0, 1.0], 8), 10, 0, Some(&filter))).await;
        assert_eq!(found, [(wanted as f32, wanted.to_string())], "{place}");
        brainy.index(&name()).await.unwrap();
    }
}

#[test]
fn what_only_the_metadata_decide_is_found_however_far_it_is() {
    runtime().block_on(async {
        let url = |n: usize| {
            json!({"url": format!("https://example.org/{}/{n}-{}", "path/".repeat(12), n * n)})
        };
        one_of_many(url, json!({"url": {"$contains": "/4321-"}}), 4_321).await;
        let field = |n: usize| json!({ format!("field{n}"): n });
        one_of_many(field, json!({"field4444": {"$gte": 0}}), 4_444).await;
    });
}
