//! The engine over segments: whatever is indexed, merged, split or still in the log, an instance shows
//! the records that a plain map holds.

mod growth;
mod memory;

use brainy::base::clock::VirtualClock;
use brainy::base::ids::CollectionName;
use brainy::base::rng::{Rng, SeededRng};
use brainy::base::settings::{Role, Settings};
use brainy::base::{Code, Env, Result, Timestamp};
use brainy::cluster::lease::Lease;
use brainy::engine::Brainy;
use brainy::engine::model::*;
use brainy::filter::Filter;
use brainy::manifest;
use brainy::partition::Partitioner;
use brainy::store::memory::MemoryStore;
use brainy::store::{DynStore, paths};
use futures::TryStreamExt;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const DIMENSIONS: usize = 8;

/// Only what a test asks for is indexed, and at once.
fn settings() -> Settings {
    Settings { index_enabled: false, segment_max_rows: 1_000, ..Settings::default() }
}

async fn instance(store: &DynStore, role: Role) -> Brainy {
    let env = Env::system(1).unwrap();
    Brainy::start(settings(), role, store.clone(), env).await.unwrap()
}

fn name() -> CollectionName {
    CollectionName::new("things").unwrap()
}

#[derive(Debug, Clone, PartialEq)]
struct Kept {
    vector: Vec<f32>,
    metadata: Value,
}

struct World {
    rng: SeededRng,
    brainy: Brainy,
    model: BTreeMap<String, Kept>,
}

impl World {
    fn vector(&self) -> Vec<f32> {
        (0..DIMENSIONS).map(|_| self.rng.below(2_001) as f32 / 1_000.0 - 1.0).collect()
    }

    async fn upsert(&mut self, count: u64) {
        let mut records = Vec::new();
        for _ in 0..count {
            let id = format!("id-{}", self.rng.below(1_500));
            let tag = ["a", "b", "c"][self.rng.below(3) as usize];
            let metadata = json!({"n": self.rng.below(100), "tag": tag});
            let vector = self.vector();
            records.push(NewRecord::new(&id, vector.clone()).metadata(metadata.to_string()));
            self.model.insert(id, Kept { vector, metadata });
        }
        self.brainy.upsert(&name(), records).await.unwrap();
    }

    async fn delete(&mut self, count: u64) {
        let ids: Vec<String> =
            (0..count).map(|_| format!("id-{}", self.rng.below(1_500))).collect();
        let mut distinct = ids.clone();
        distinct.sort();
        distinct.dedup();
        let there = distinct.iter().filter(|id| self.model.remove(*id).is_some()).count();
        let deleted = self.brainy.delete(&name(), DeleteTarget::Ids(ids)).await.unwrap();
        assert_eq!(deleted.deleted, there);
    }

    async fn delete_some(&mut self) {
        let n = self.rng.below(100);
        let filter = Filter::parse(&json!({"n": n, "tag": {"$ne": "b"}})).unwrap();
        let before = self.model.len();
        self.model.retain(|_, kept| !filter.matches(&kept.metadata));
        let deleted = self.brainy.delete(&name(), DeleteTarget::Filter(filter)).await.unwrap();
        assert_eq!(deleted.deleted, before - self.model.len());
    }

    /// The truth: the records that pass, closest first.
    fn closest(&self, query: &[f32], filter: Option<&Filter>) -> Vec<(f32, &str)> {
        let distance = |vector: &[f32]| {
            let pairs = query.iter().zip(vector);
            pairs.map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt()
        };
        let passing = self.model.iter();
        let passing =
            passing.filter(|(_, kept)| filter.is_none_or(|filter| filter.matches(&kept.metadata)));
        let mut all: Vec<(f32, &str)> =
            passing.map(|(id, kept)| (distance(&kept.vector), id.as_str())).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(b.1)));
        all
    }

    /// Searches, and returns how many of the closest were found, of how many.
    async fn search(&self, brainy: &Brainy, filter: Option<Value>) -> (usize, usize) {
        let query = self.vector();
        let filter = filter.map(|filter| Filter::parse(&filter).unwrap());
        let mut request = SearchRequest::nearest(query.clone(), 10);
        request.filter = filter.clone();
        request.consistency = Consistency::Strong;
        let response = brainy.search(&name(), request).await.unwrap();
        let truth = self.closest(&query, filter.as_ref());
        assert_eq!(response.hits.len(), truth.len().min(10), "{filter:?}");
        let mut last = f32::NEG_INFINITY;
        for hit in &response.hits {
            let (distance, _) =
                truth.iter().find(|(_, id)| *id == hit.id).expect("a record that is there");
            assert!((distance - hit.distance).abs() < 1e-4, "{distance} {}", hit.distance);
            assert!(hit.distance >= last);
            last = hit.distance;
            let metadata: Value = serde_json::from_str(hit.metadata.as_deref().unwrap()).unwrap();
            assert_eq!(metadata, self.model[&hit.id].metadata);
        }
        let wanted: Vec<&str> = truth.iter().take(10).map(|(_, id)| *id).collect();
        (response.hits.iter().filter(|hit| wanted.contains(&hit.id.as_str())).count(), wanted.len())
    }

    async fn check(&self, brainy: &Brainy) {
        let collection = brainy.describe(&name()).await.unwrap();
        assert_eq!(collection.vector_count, Some(self.model.len() as u64));
        let (mut listed, mut cursor) = (BTreeMap::new(), None);
        loop {
            let page = brainy.list(&name(), 97, cursor, true).await.unwrap();
            for record in page.records {
                let metadata = serde_json::from_str(&record.metadata).unwrap();
                let kept = Kept { vector: record.vector.unwrap(), metadata };
                assert!(listed.last_key_value().is_none_or(|(last, _)| *last < record.id));
                listed.insert(record.id, kept);
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert!(listed == self.model, "the listing differs");
        let export = brainy.export(&name(), true).await.unwrap();
        let lines: Vec<_> = export.lines.try_collect().await.unwrap();
        let lines: Vec<Value> = lines
            .concat()
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        let exported: Vec<&str> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
        assert!(exported.iter().eq(self.model.keys()), "the export differs");
        let ids: Vec<String> = (0..30).map(|_| format!("id-{}", self.rng.below(1_500))).collect();
        let fetched = brainy.fetch(&name(), &ids, true).await.unwrap();
        for record in &fetched.records {
            assert_eq!(record.vector.as_ref(), Some(&self.model[&record.id].vector));
        }
        assert!(fetched.missing.iter().all(|id| !self.model.contains_key(id)));
        let distinct: BTreeSet<&String> = ids.iter().collect();
        assert_eq!(fetched.records.len() + fetched.missing.len(), distinct.len());
        let (mut found, mut wanted) = (0, 0);
        for filter in [
            None,
            Some(json!({"tag": "a"})),
            Some(json!({"n": {"$lt": 3}})),
            Some(json!({"n": 200})),
        ] {
            for _ in 0..5 {
                let (hits, truth) = self.search(brainy, filter.clone()).await;
                found += hits;
                wanted += truth;
            }
        }
        assert!(found as f64 >= 0.95 * wanted as f64, "recall {found} of {wanted}");
    }
}

async fn world(seed: u64, store: &DynStore) -> World {
    let brainy = instance(store, Role::Hybrid).await;
    let spec = CollectionSpec {
        name: name(),
        dimensions: DIMENSIONS as u32,
        metric: Metric::Euclidean,
        partition_count: Some(1 + seed as u32 % 3),
        partitioner: None,
        description: None,
    };
    brainy.create_collection(spec).await.unwrap();
    World { rng: SeededRng::new(seed), brainy, model: BTreeMap::new() }
}

#[tokio::test]
async fn whatever_is_indexed_merged_or_split_the_same_records_are_shown() {
    for seed in 0..3 {
        let store: DynStore = Arc::new(MemoryStore::default());
        let mut world = world(seed, &store).await;
        let reader = instance(&store, Role::Reader).await;
        let partitions = 1 + seed as u32 % 3;
        for _ in 0..40 {
            match world.rng.below(12) {
                0..=4 => world.upsert(1 + world.rng.below(400)).await,
                5 | 6 => world.delete(1 + world.rng.below(60)).await,
                7 => world.delete_some().await,
                8 | 9 => world.brainy.index(&name()).await.unwrap(),
                10 => {
                    let _ = world.brainy.compact(&name()).await.unwrap();
                }
                _ if world.rng.below(4) == 0 => {
                    let _ = world.brainy.reshard(&name(), partitions + 3).await.unwrap();
                }
                _ => {
                    world.check(&world.brainy).await;
                    world.search(&reader, None).await;
                }
            }
        }
        world.check(&world.brainy).await;
        // One that begins with what is there.
        world.check(&instance(&store, Role::Reader).await).await;
        world.brainy.compact(&name()).await.unwrap();
        let stats = world.brainy.stats(&name()).await.unwrap();
        let dead: u32 =
            stats.partitions.iter().flat_map(|one| &one.segments).map(|one| one.dead).sum();
        assert_eq!(dead, 0);
        world.check(&world.brainy).await;
    }
}

async fn manifest_version(store: &DynStore) -> u64 {
    manifest::load(store, &name()).await.unwrap().unwrap().value.stamp.version
}

#[tokio::test]
async fn thousands_of_partitions_are_split_off_in_one_pass() {
    let store: DynStore = Arc::new(MemoryStore::default());
    let mut world = world(1, &store).await;
    world.upsert(1_000).await;
    world.brainy.index(&name()).await.unwrap();
    world.upsert(500).await;
    world.delete(100).await;
    world.brainy.index(&name()).await.unwrap();
    let before = manifest_version(&store).await;
    assert_eq!(world.brainy.reshard(&name(), 1_000).await.unwrap(), 2);
    assert_eq!(manifest_version(&store).await, before + 1, "all partitions in one commit");
    let stats = world.brainy.stats(&name()).await.unwrap();
    assert_eq!(stats.partitions.len(), 1_000);
    // One segment where there were two, none without rows, no dead rows.
    assert!(stats.partitions.iter().all(|partition| partition.segments.len() <= 1));
    let segments = stats.partitions.iter().flat_map(|partition| &partition.segments);
    assert!(segments.clone().all(|segment| segment.rows > 0 && segment.dead == 0));
    let rows: u64 = segments.map(|segment| u64::from(segment.rows)).sum();
    assert_eq!(rows, world.model.len() as u64);
    world.check(&world.brainy).await;
    // And so are their rows merged.
    world.upsert(1_000).await;
    world.brainy.index(&name()).await.unwrap();
    let before = manifest_version(&store).await;
    assert!(world.brainy.compact(&name()).await.unwrap() > 300);
    // As many in each as have `segment_max_rows` together.
    let commits = manifest_version(&store).await - before;
    assert!((1..=4).contains(&commits), "{commits}");
    world.check(&world.brainy).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_done_by_hand_waits_for_its_turn_but_not_for_ever() {
    let store: DynStore = Arc::new(MemoryStore::default());
    let env = |seed| {
        let clock = VirtualClock::starting_at(Timestamp(1_000_000));
        Env::deterministic(seed, Arc::new(clock))
    };
    let ttl = Duration::from_millis(settings().lease_ttl_ms);
    let brainy = Brainy::start(settings(), Role::Hybrid, store.clone(), env(1)).await.unwrap();
    let write = |id: &str| vec![NewRecord::new(id, vec![1.0, 0.5])];
    brainy.upsert(&name(), write("a")).await.unwrap();
    let key = paths::upkeep_lease("index", &name());
    let mut other = Lease::new(store.clone(), env(2), key, "another".to_owned(), ttl);
    assert!(other.hold().await.unwrap().is_some());

    let (things, started) = (name(), Instant::now());
    let (indexed, ()) = tokio::join!(brainy.index(&things), async {
        sleep(ttl / 2).await;
        let stats = brainy.stats(&things).await.unwrap();
        assert_eq!(stats.info.indexed_version.0, 0, "it is the turn of another");
        other.release().await.unwrap();
    });
    indexed.unwrap();
    assert!(started.elapsed() < ttl, "{:?}", started.elapsed());
    let stats = brainy.stats(&name()).await.unwrap();
    assert_eq!(stats.info.indexed_version, stats.info.version);

    // One that goes on and on.
    brainy.upsert(&name(), write("b")).await.unwrap();
    let renewals = async {
        loop {
            assert!(other.hold().await.unwrap().is_some(), "it was given back");
            sleep(ttl / 3).await;
        }
    };
    let started = Instant::now();
    tokio::select! {
        biased;
        indexed = brainy.index(&things) => indexed.unwrap(),
        () = renewals => {}
    }
    assert!(started.elapsed() >= 2 * ttl, "{:?}", started.elapsed());
    let stats = brainy.stats(&name()).await.unwrap();
    assert_eq!(stats.info.indexed_version, stats.info.version);
}

/// Ids by their last character.
#[derive(Debug)]
struct ByEnd(&'static str);

impl Partitioner for ByEnd {
    fn name(&self) -> &str {
        self.0
    }

    fn group<'a>(&'a self, id: &'a str) -> &'a str {
        &id[id.len() - 1..]
    }
}

async fn embedded(store: &DynStore, partitioner: &'static str) -> Result<Brainy> {
    let partitioners: Vec<Arc<dyn Partitioner>> = vec![Arc::new(ByEnd(partitioner))];
    let env = Env::system(1)?;
    Brainy::start_with(settings(), Role::Hybrid, store.clone(), env, partitioners).await
}

#[tokio::test]
async fn a_program_may_bring_its_partitioner_and_another_one_is_refused() {
    let store: DynStore = Arc::new(MemoryStore::default());
    let brainy = embedded(&store, "by-end").await.unwrap();
    let spec = CollectionSpec {
        name: name(),
        dimensions: 2,
        metric: Metric::Cosine,
        partition_count: None,
        partitioner: Some(PartitionerKind::Custom { name: "by-end".to_owned() }),
        description: None,
    };
    brainy.create_collection(spec).await.unwrap();
    let records: Vec<_> =
        (0..50).map(|id| NewRecord::new(format!("id{id}"), vec![1.0, id as f32])).collect();
    brainy.upsert(&name(), records).await.unwrap();
    brainy.index(&name()).await.unwrap();
    let stats = brainy.stats(&name()).await.unwrap();
    let filled: Vec<_> = stats.partitions.iter().filter(|one| !one.segments.is_empty()).collect();
    assert_eq!(filled.len(), 10);
    assert!(filled.iter().all(|partition| partition.live() == 5 && partition.group.len() == 1));
    assert_eq!(brainy.get(&name(), "id17").await.unwrap().record.id, "id17");
    // The same again: the rows before are dead, wherever they are.
    let again = (0..50).map(|id| NewRecord::new(format!("id{id}"), vec![2.0, id as f32]));
    brainy.upsert(&name(), again.collect()).await.unwrap();
    brainy.index(&name()).await.unwrap();
    assert_eq!(brainy.describe(&name()).await.unwrap().vector_count, Some(50));
    assert_eq!(brainy.get(&name(), "id17").await.unwrap().record.vector, Some(vec![2.0, 17.0]));

    for other in [instance(&store, Role::Hybrid).await, embedded(&store, "other").await.unwrap()] {
        let error = other.get(&name(), "id1").await.unwrap_err();
        assert_eq!(error.code(), Code::SettingsConflict);
        assert_eq!(error.details()["existing"], "by-end");
        assert!(error.details()["here"].is_array());
    }
}

#[tokio::test]
async fn prefix_rules_give_records_partitions_of_their_own() {
    let store: DynStore = Arc::new(MemoryStore::default());
    let brainy = instance(&store, Role::Hybrid).await;
    let rule =
        |prefix: &str, group: &str| PrefixRule { prefix: prefix.into(), group: group.into() };
    let spec = CollectionSpec {
        name: name(),
        dimensions: 2,
        metric: Metric::Cosine,
        partition_count: Some(2),
        partitioner: Some(PartitionerKind::Prefix {
            rules: vec![rule("eu-", "europe"), rule("us-", "america")],
        }),
        description: None,
    };
    brainy.create_collection(spec).await.unwrap();
    let ids = |prefix: &'static str, count: u32| (0..count).map(move |id| format!("{prefix}{id}"));
    let all = ids("eu-", 20).chain(ids("us-", 30)).chain(ids("x", 40));
    let records: Vec<_> = all.map(|id| NewRecord::new(id, vec![1.0, 0.5])).collect();
    brainy.upsert(&name(), records).await.unwrap();
    brainy.index(&name()).await.unwrap();
    let stats = brainy.stats(&name()).await.unwrap();
    let live = |group: &str| {
        let of_group = stats.partitions.iter().filter(|partition| partition.group == group);
        of_group.map(Partition::live).sum::<u64>()
    };
    assert_eq!((live("europe"), live("america"), live("")), (20, 30, 40));
    for id in ["eu-3", "us-7", "x39"] {
        assert_eq!(brainy.get(&name(), id).await.unwrap().record.id, id);
    }
}

/// Rows so close together, in heaps so far apart, that codes hold hardly a difference between them.
#[tokio::test]
async fn what_codes_cannot_tell_apart_is_found_and_the_recall_is_said() {
    const LONG: usize = 24;
    let store: DynStore = Arc::new(MemoryStore::default());
    let brainy = instance(&store, Role::Hybrid).await;
    let rng = SeededRng::new(5);
    let vector = |heap: usize| -> Vec<f32> {
        let mut vector: Vec<f32> = (0..LONG).map(|_| rng.below(1_000) as f32 / 1e5).collect();
        vector[heap] += 1e4;
        vector
    };
    let vectors: Vec<Vec<f32>> = (0..3_000).map(|row| vector(row % 5)).collect();
    let spec = CollectionSpec {
        name: name(),
        dimensions: LONG as u32,
        metric: Metric::Euclidean,
        partition_count: None,
        partitioner: None,
        description: None,
    };
    brainy.create_collection(spec).await.unwrap();
    let records = vectors.iter().enumerate();
    let records = records.map(|(row, vector)| NewRecord::new(format!("{row}"), vector.clone()));
    brainy.upsert(&name(), records.collect()).await.unwrap();
    brainy.index(&name()).await.unwrap();
    let mut request = SearchRequest::nearest(vector(3), 10);
    request.consistency = Consistency::Strong;
    // Until the segment is there, the tail answers.
    let reached = async {
        loop {
            brainy.search(&name(), request.clone()).await.unwrap();
            if let Some(reached) = brainy.stats(&name()).await.unwrap().recall_reached {
                break reached;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let reached = tokio::time::timeout(Duration::from_secs(60), reached).await.unwrap();
    assert!((0.95..=1.0).contains(&reached), "{reached}");
    let Query::Vector(query) = request.query.clone() else { unreachable!() };
    let found = brainy.search(&name(), request).await.unwrap();
    let far = |vector: &[f32]| -> f32 {
        query.iter().zip(vector).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt()
    };
    let mut truth: Vec<f32> = vectors.iter().map(|vector| far(vector)).collect();
    truth.sort_by(f32::total_cmp);
    for (hit, far) in found.hits.iter().zip(&truth) {
        assert!((hit.distance - far).abs() < 1e-4, "{} {far}", hit.distance);
    }
}
