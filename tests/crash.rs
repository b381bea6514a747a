//! An instance that indexes, merges and splits is killed at each of its store operations in turn, just
//! before or just after the operation takes effect. Nothing is lost, nothing comes twice, and what is
//! left over is named by the listing of unnamed objects.

use async_trait::async_trait;
use brainy::base::ids::CollectionName;
use brainy::base::settings::{Role, Settings};
use brainy::base::{Env, Error, Result};
use brainy::engine::Brainy;
use brainy::engine::model::*;
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
    assert_eq!(brainy.collection(&name()).await.unwrap().vector_count, Some(count as u64));
    listed
}

/// Every object of segments and deletions in the store.
async fn objects(store: &DynStore) -> BTreeSet<String> {
    let listing = store.list(&paths::vectors_all(&name()), None, 1_000).await.unwrap();
    listing.objects.into_iter().map(|object| object.key.to_string()).collect()
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
