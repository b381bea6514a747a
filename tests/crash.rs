//! An instance that indexes, merges and splits is killed at each of its store operations in turn, just
//! before or just after the operation takes effect. Nothing is lost, nothing comes twice, and what is
//! left over is named by the listing of unnamed objects.

use async_trait::async_trait;
use brainy::base::ids::CollectionName;
use brainy::base::settings::{Role, Settings};
use brainy::base::{Env, Error, Result};
use brainy::engine::Brainy;
use brainy::engine::model::*;
use brainy::log::names::names_at;
use brainy::store::memory::MemoryStore;
use brainy::store::{
    DynStore, Etag, Fetched, GetOptions, Key, Listing, Precondition, Prefix, PutOutcome, Store,
    paths,
};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The connection of a process that dies at its `at`th operation.
#[derive(Debug)]
struct Mortal {
    store: DynStore,
    at: u64,
    /// Whether that operation still takes effect.
    effect: bool,
    done: AtomicU64,
}

/// What becomes of an operation.
enum Fate {
    Lives,
    LastWords,
    Dead,
}

impl Mortal {
    fn fate(&self) -> Fate {
        match self.done.fetch_add(1, Ordering::Relaxed) {
            number if number < self.at => Fate::Lives,
            number if number == self.at && self.effect => Fate::LastWords,
            _ => Fate::Dead,
        }
    }
}

fn dead() -> Error {
    Error::internal("killed")
}

/// The operation, unless the process dies before it; its answer, unless it dies by it.
macro_rules! mortal {
    ($self:ident, $operation:expr) => {
        match $self.fate() {
            Fate::Lives => $operation.await,
            Fate::LastWords => {
                let _ = $operation.await;
                Err(dead())
            }
            Fate::Dead => Err(dead()),
        }
    };
}

#[async_trait]
impl Store for Mortal {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        mortal!(self, self.store.get(key, options))
    }

    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        mortal!(self, self.store.put(key, body))
    }

    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        match self.fate() {
            Fate::Lives => self.store.put_if(key, body, condition).await,
            Fate::LastWords => {
                let _ = self.store.put_if(key, body, condition).await;
                PutOutcome::Failed(dead())
            }
            Fate::Dead => PutOutcome::Failed(dead()),
        }
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        mortal!(self, self.store.delete(key))
    }

    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        mortal!(self, self.store.list(prefix, after, limit))
    }

    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        mortal!(self, self.store.list_dirs(prefix))
    }
}

async fn instance(store: DynStore) -> Brainy {
    // Only what the test asks for is indexed, and at once. Each is the one before it, started again: it
    // need not wait for that one's leases.
    let settings = Settings {
        index_enabled: false,
        store_retries: 0,
        instance_id: Some("one".to_owned()),
        // Twenty records are a body of their own.
        wal_inline_max_bytes: 300,
        batch_max_bytes: 300,
        ..Settings::default()
    };
    Brainy::start(settings, Role::Hybrid, store, Env::system(1).unwrap()).await.unwrap()
}

fn name() -> CollectionName {
    CollectionName::new("things").unwrap()
}

type Contents = BTreeMap<String, f32>;

async fn upsert(brainy: &Brainy, model: &mut Contents, ids: std::ops::Range<u32>, value: f32) {
    let records = ids.map(|id| NewRecord::new(format!("id{id}"), vec![1.0, value])).collect();
    let records: Vec<NewRecord> = records;
    model.extend(records.iter().map(|record| (record.id.clone().unwrap(), value)));
    brainy.upsert(&name(), records).await.unwrap();
}

async fn delete(brainy: &Brainy, model: &mut Contents, ids: std::ops::Range<u32>) {
    let ids: Vec<String> = ids.map(|id| format!("id{id}")).collect();
    model.retain(|id, _| !ids.contains(id));
    brainy.delete(&name(), DeleteTarget::Ids(ids)).await.unwrap();
}

/// A collection with segments, dead rows and a tail that overwrites and deletes some of them.
async fn prepared() -> (DynStore, Contents) {
    let store: DynStore = Arc::new(MemoryStore::default());
    let brainy = instance(store.clone()).await;
    let mut model = Contents::new();
    upsert(&brainy, &mut model, 0..60, 1.0).await;
    brainy.index(&name()).await.unwrap();
    upsert(&brainy, &mut model, 40..80, 2.0).await;
    delete(&brainy, &mut model, 0..5).await;
    brainy.index(&name()).await.unwrap();
    upsert(&brainy, &mut model, 30..50, 3.0).await;
    delete(&brainy, &mut model, 70..75).await;
    (store, model)
}

async fn contents(brainy: &Brainy) -> Contents {
    let page = brainy.list(&name(), 1_000, None, true).await.unwrap();
    let listed: Contents =
        page.records.into_iter().map(|record| (record.id, record.vector.unwrap()[1])).collect();
    let request =
        SearchRequest { include_vector: true, ..SearchRequest::nearest(vec![1.0, 1.0], 1_000) };
    let found = brainy.search(&name(), request).await.unwrap();
    let count = found.hits.len();
    let found: Contents =
        found.hits.into_iter().map(|hit| (hit.id, hit.vector.unwrap()[1])).collect();
    assert_eq!(found.len(), count, "a record came twice");
    assert_eq!(found, listed);
    assert_eq!(brainy.describe(&name()).await.unwrap().vector_count, Some(count as u64));
    listed
}

/// Every object of segments and deletions in the store.
async fn objects(store: &DynStore) -> BTreeSet<String> {
    let listing = store.list(&paths::vectors_all(&name()), None, 1_000).await.unwrap();
    listing.objects.into_iter().map(|object| object.key.to_string()).collect()
}

/// The bodies of large writes in the store, and those of them that log entries name.
async fn bodies(store: &DynStore) -> (BTreeSet<String>, BTreeSet<String>) {
    let listing = store.list(&paths::wal_data_all(&name()), None, 1_000).await.unwrap();
    let all = listing.objects.into_iter().map(|object| object.key.to_string()).collect();
    let entries = store.list(&paths::wal_entries(&name()), None, 1_000).await.unwrap();
    let mut named = BTreeSet::new();
    for seq in entries.objects.iter().filter_map(|object| paths::parse_wal_entry(&object.key)) {
        let names = names_at(store, &name(), seq).await.unwrap().unwrap();
        named.extend(names.into_iter().map(|id| paths::wal_data(&name(), id).to_string()));
    }
    (all, named)
}

/// Index, merge, split: everything that writes segments.
async fn work(brainy: &Brainy) -> Result<()> {
    brainy.index(&name()).await?;
    brainy.compact(&name()).await?;
    brainy.reshard(&name(), 3).await?;
    Ok(())
}

#[tokio::test]
async fn an_indexer_may_die_at_any_of_its_store_operations() {
    let (mut deaths, mut survived) = (0, 0);
    for effect in [false, true] {
        for at in 0.. {
            let (store, model) = prepared().await;
            let mortal =
                Arc::new(Mortal { store: store.clone(), at, effect, done: AtomicU64::new(0) });
            let doomed = instance(mortal.clone()).await;
            let outcome = work(&doomed).await;
            let operations = mortal.done.load(Ordering::Relaxed);
            let is_dead = operations > at;
            assert!(is_dead || outcome.is_ok(), "operation {at}");
            // What is left to do after the work is to give back a lease.
            survived += u32::from(is_dead && outcome.is_ok());
            doomed.env().tasks.kill();

            let heir = instance(store.clone()).await;
            assert_eq!(contents(&heir).await, model, "killed at {at}, effect {effect}");
            let named = heir.stats(&name()).await.unwrap().partitions;
            let named = named.iter().flat_map(|partition| {
                let key =
                    |segment: &SegmentMeta| paths::segment(&name(), partition.number, segment.id);
                partition.segments.iter().map(move |segment| key(segment).to_string())
            });
            let unnamed = heir.unnamed_objects(&name()).await.unwrap();
            let mut known: BTreeSet<String> =
                unnamed.into_iter().map(|object| object.key.to_string()).collect();
            known.extend(named);
            let all = objects(&store).await;
            let lost: Vec<&String> =
                all.iter().filter(|key| key.ends_with(".seg") && !known.contains(*key)).collect();
            assert!(lost.is_empty(), "{lost:?}");

            work(&heir).await.unwrap();
            assert_eq!(contents(&heir).await, model, "killed at {at}, effect {effect}");
            let stats = heir.stats(&name()).await.unwrap();
            assert_eq!(stats.partitions.len(), 3);
            if !is_dead {
                break;
            }
            deaths += 1;
        }
    }
    assert!(deaths > 40, "only {deaths} operations");
    assert!(survived <= 12, "{survived} operations that failed went unnoticed");
}

#[tokio::test]
async fn a_writer_may_die_at_any_of_its_store_operations() {
    let (mut deaths, mut orphans) = (0, 0);
    for effect in [false, true] {
        for at in 0.. {
            let store: DynStore = Arc::new(MemoryStore::default());
            let done = AtomicU64::new(0);
            let mortal = Arc::new(Mortal { store: store.clone(), at, effect, done });
            let doomed = instance(mortal.clone()).await;
            let mut acknowledged = 0;
            for write in 0..3 {
                let ids = write * 20..write * 20 + 20;
                let records = ids.map(|id| NewRecord::new(format!("id{id}"), vec![1.0, 1.0]));
                acknowledged += doomed.upsert(&name(), records.collect()).await.map_or(0, |_| 20);
            }
            let is_dead = mortal.done.load(Ordering::Relaxed) > at;
            doomed.env().tasks.kill();
            let (all, named) = bodies(&store).await;
            if let Ok(unnamed) = instance(store.clone()).await.unnamed_objects(&name()).await {
                let unnamed: BTreeSet<String> =
                    unnamed.into_iter().map(|object| object.key.to_string()).collect();
                let lost: BTreeSet<String> = all.difference(&named).cloned().collect();
                assert_eq!(unnamed, lost, "killed at {at}, effect {effect}");
                orphans += lost.len();
            }
            let heir = instance(store.clone()).await;
            if acknowledged > 0 {
                assert!(contents(&heir).await.len() >= acknowledged);
            }
            if !is_dead {
                assert_eq!((acknowledged, all.len(), &all), (60, 3, &named));
                break;
            }
            deaths += 1;
        }
    }
    assert!(deaths > 10 && orphans > 0, "{deaths} deaths left {orphans} bodies");
}
