//! The engine over stores that answer as few stores do, but some: through a proxy that sends requests
//! twice, slowly, not at all, or after a person has changed something by hand.

use async_trait::async_trait;
use brainy::base::clock::VirtualClock;
use brainy::base::ids::CollectionName;
use brainy::base::settings::{Role, Settings};
use brainy::base::{Code, Env, Error, Result, Timestamp};
use brainy::engine::Brainy;
use brainy::engine::model::*;
use brainy::manifest;
use brainy::store::local::LocalStore;
use brainy::store::memory::MemoryStore;
use brainy::store::{
    DynStore, Etag, Fetched, GetOptions, Key, Listing, Precondition, Prefix, PutOutcome, Store,
    get, paths,
};
use bytes::Bytes;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3_600);

fn name(name: &str) -> CollectionName {
    CollectionName::new(name).unwrap()
}

fn record(id: &str, vector: &[f32]) -> NewRecord {
    let (vector, metadata) = (vector.to_vec(), Some(json!({}).to_string()));
    NewRecord { id: Some(id.to_owned()), vector, metadata, text: None }
}

/// Starts an instance on paused time.
async fn start(store: &DynStore, role: Role, settings: Settings, seed: u64) -> Brainy {
    let clock = Arc::new(VirtualClock::starting_at(Timestamp(1_768_473_000_000)));
    let env = Env::deterministic(seed, clock);
    Brainy::start(settings, role, store.clone(), env).await.unwrap()
}

/// The ids of all records, as a strong search sees them.
async fn all(brainy: &Brainy, collection: &CollectionName) -> Vec<String> {
    let request = SearchRequest {
        query: Query::Vector(vec![1.0, 0.0]),
        k: 1_000,
        offset: 0,
        filter: None,
        include_metadata: true,
        include_vector: false,
        consistency: Consistency::Strong,
    };
    let found = brainy.search(collection, request).await.unwrap();
    let mut ids: Vec<String> = found.hits.into_iter().map(|hit| hit.id).collect();
    ids.sort();
    ids
}

/// A store in memory that counts its PUTs by what they are for, and misbehaves as it is told.
#[derive(Debug, Default)]
struct Odd {
    inner: MemoryStore,
    puts: Mutex<BTreeMap<&'static str, u64>>,
    /// Sends the next replacement of a manifest twice, as a proxy does, and tells of the second.
    resends: AtomicBool,
    /// Refuses segments.
    refuses: AtomicBool,
    /// How long the PUT of a segment takes, in milliseconds.
    slow_ms: AtomicU64,
}

impl Odd {
    /// PUTs since the last call.
    fn taken(&self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut *self.puts.lock().unwrap())
    }
}

#[async_trait]
impl Store for Odd {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        self.inner.get(key, options).await
    }
    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        if key.as_str().ends_with(".seg") {
            *self.puts.lock().unwrap().entry("segment").or_default() += 1;
            let slow = Duration::from_millis(self.slow_ms.load(Ordering::SeqCst));
            tokio::time::sleep(slow).await;
            if self.refuses.load(Ordering::SeqCst) {
                return Err(Error::new(Code::StoreDenied, "refused"));
            }
        }
        self.inner.put(key, body).await
    }
    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        if key.as_str().ends_with("/manifest.json")
            && matches!(condition, Precondition::Matches(_))
            && self.resends.swap(false, Ordering::SeqCst)
        {
            let _ = self.inner.put_if(key, body.clone(), condition.clone()).await;
        }
        self.inner.put_if(key, body, condition).await
    }
    async fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key).await
    }
    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        self.inner.list(prefix, after, limit).await
    }
    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        self.inner.list_dirs(prefix).await
    }
}

fn by_hand() -> Settings {
    Settings { index_enabled: false, ..Settings::default() }
}

#[tokio::test(start_paused = true)]
async fn a_412_for_our_own_write_costs_no_data() {
    let odd = Arc::new(Odd::default());
    let store: DynStore = odd.clone();
    let things = name("things");
    let one = start(&store, Role::Hybrid, by_hand(), 1).await;
    let mut expected = Vec::new();
    for n in 0..3 {
        one.upsert(&things, vec![record(&format!("r{n}"), &[1.0, n as f32])]).await.unwrap();
        expected.push(format!("r{n}"));
        odd.resends.store(true, Ordering::SeqCst);
        one.index(&things).await.unwrap();
        assert!(!odd.resends.load(Ordering::SeqCst));
    }
    odd.resends.store(true, Ordering::SeqCst);
    assert_eq!(one.compact(&things).await.unwrap(), 1);
    let fresh = start(&store, Role::Reader, Settings::default(), 2).await;
    assert_eq!(all(&fresh, &things).await, expected);
    // Making and deleting collections is no different.
    odd.resends.store(true, Ordering::SeqCst);
    one.delete_collection(&things).await.unwrap();
    odd.resends.store(true, Ordering::SeqCst);
    one.upsert(&things, vec![record("again", &[1.0, 0.0])]).await.unwrap();
    let fresh = start(&store, Role::Reader, Settings::default(), 3).await;
    assert_eq!(all(&fresh, &things).await, ["again"]);
}

/// Puts an earlier manifest in force with `copy`, as a person would, and goes on.
async fn restore_a_manifest(store: &DynStore, copy: impl AsyncFn(&Key, &Key)) {
    let things = name("things");
    let one = start(store, Role::Hybrid, by_hand(), 1).await;
    let reader = start(store, Role::Reader, Settings::default(), 2).await;
    let write = async |id: &str| {
        one.upsert(&things, vec![record(id, &[1.0, 0.5])]).await.unwrap();
        one.index(&things).await.unwrap();
    };
    let mut expected = Vec::new();
    for n in 0..5 {
        write(&format!("a{n}")).await;
        expected.push(format!("a{n}"));
        assert_eq!(all(&reader, &things).await, expected);
    }
    let current = manifest::load(store, &things).await.unwrap().unwrap().value;
    // Two commits back; the log still has what they had indexed.
    let old = paths::manifest_history(&things, current.stamp.version - 2);
    copy(&old, &paths::manifest(&things)).await;
    // Whoever runs goes on, and whoever starts sees the same.
    assert_eq!(all(&reader, &things).await, expected);
    for n in 0..6 {
        write(&format!("b{n}")).await;
        expected.push(format!("b{n}"));
        assert_eq!(all(&reader, &things).await, expected, "b{n}");
    }
    one.compact(&things).await.unwrap();
    let fresh = start(store, Role::Reader, Settings::default(), 3).await;
    assert_eq!(all(&fresh, &things).await, expected);
    let after = manifest::load(store, &things).await.unwrap().unwrap().value;
    assert!(after.stamp.version > current.stamp.version);
    // What was kept is as it was.
    for version in 1..current.stamp.version {
        let key = paths::manifest_history(&things, version);
        let kept = get(&**store, &key).await.unwrap().required(&key).unwrap();
        assert_eq!(manifest::parse(&things, &kept.bytes).unwrap().stamp.version, version);
    }
    // Not so far back that the log has lost what came behind: nothing is made up for that.
    let whole = manifest::load(store, &things).await.unwrap().unwrap().value;
    assert_eq!(whole.live(), expected.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn an_earlier_manifest_that_a_person_copies_back_is_gone_on_from() {
    let store: DynStore = Arc::new(MemoryStore::default());
    let through = store.clone();
    let copy = async |from: &Key, to: &Key| {
        let found = get(&*through, from).await.unwrap().required(from).unwrap();
        through.put(to, found.bytes).await.unwrap();
    };
    restore_a_manifest(&store, copy).await;
}

#[tokio::test]
async fn an_earlier_manifest_that_is_copied_back_in_a_folder_is_gone_on_from() {
    let root = tempfile::tempdir().unwrap();
    let store: DynStore = Arc::new(LocalStore::open(root.path(), false).await.unwrap());
    let copy = async |from: &Key, to: &Key| {
        let (from, to) = (root.path().join(from.as_str()), root.path().join(to.as_str()));
        std::fs::copy(from, to).unwrap();
    };
    restore_a_manifest(&store, copy).await;
}
