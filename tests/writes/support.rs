//! Instances on a store that does something at the moment that a test wants.

use async_trait::async_trait;
use brainy::base::clock::VirtualClock;
use brainy::base::ids::{CollectionName, Seq};
use brainy::base::settings::{Role, Settings};
use brainy::base::{Code, Env, Error, Result, Timestamp};
use brainy::engine::Brainy;
use brainy::engine::model::*;
use brainy::log::{Appender, Bounds, BoundsSource, Part, Tried};
use brainy::manifest::{self, Manifest};
use brainy::store::memory::MemoryStore;
use brainy::store::{
    DynStore, Etag, Fetched, GetOptions, Key, Listing, Precondition, Prefix, PutOutcome, Store,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Deed = BoxFuture<'static, ()>;

/// A store in memory that waits for a deed before a request, and can refuse to write.
#[derive(Default)]
pub struct Hooked {
    inner: MemoryStore,
    /// What has to be in the key of the next such request, whether it is a PUT, and what is done first.
    deeds: Mutex<VecDeque<(&'static str, bool, Deed)>>,
    /// What is in the keys of objects that cannot be created or replaced.
    denied: Mutex<Option<&'static str>>,
    requests: AtomicU64,
}

impl std::fmt::Debug for Hooked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooked")
    }
}

impl Hooked {
    pub fn before_put(&self, of: &'static str, deed: impl Future<Output = ()> + Send + 'static) {
        self.deeds.lock().unwrap().push_back((of, true, Box::pin(deed)));
    }

    pub fn before_get(&self, of: &'static str, deed: impl Future<Output = ()> + Send + 'static) {
        self.deeds.lock().unwrap().push_back((of, false, Box::pin(deed)));
    }

    /// Whether all deeds were done.
    pub fn is_done(&self) -> bool {
        self.deeds.lock().unwrap().is_empty()
    }

    /// From now on conditional PUTs of keys with `of` in them are refused.
    pub fn deny(&self, of: &'static str) {
        *self.denied.lock().unwrap() = Some(of);
    }

    pub fn allow(&self) {
        *self.denied.lock().unwrap() = None;
    }

    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    async fn act(&self, key: &Key, put: bool) {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let deed = {
            let mut deeds = self.deeds.lock().unwrap();
            let is_next =
                |(of, on_put, _): &(&str, bool, Deed)| *on_put == put && key.as_str().contains(of);
            if deeds.front().is_some_and(is_next) { deeds.pop_front() } else { None }
        };
        if let Some((.., deed)) = deed {
            deed.await;
        }
    }

    fn is_denied(&self, key: &Key) -> bool {
        self.denied.lock().unwrap().is_some_and(|of| key.as_str().contains(of))
    }
}

#[async_trait]
impl Store for Hooked {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        self.act(key, false).await;
        self.inner.get(key, options).await
    }
    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        self.act(key, true).await;
        self.inner.put(key, body).await
    }
    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        self.act(key, true).await;
        if self.is_denied(key) {
            return PutOutcome::Failed(Error::new(Code::StoreDenied, "no"));
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

/// Only what a test asks for is indexed.
pub fn quiet() -> Settings {
    Settings { index_enabled: false, ..Settings::default() }
}

pub async fn instance(store: &Arc<Hooked>, role: Role, seed: u64) -> Brainy {
    instance_with(store, role, quiet(), seed).await
}

pub async fn instance_with(
    store: &Arc<Hooked>,
    role: Role,
    settings: Settings,
    seed: u64,
) -> Brainy {
    let clock = Arc::new(VirtualClock::starting_at(Timestamp(1_768_473_000_000)));
    let (store, env): (DynStore, _) = (store.clone(), Env::deterministic(seed, clock));
    Brainy::start(settings, role, store, env).await.unwrap()
}

pub fn things() -> CollectionName {
    CollectionName::new("things").unwrap()
}

pub fn spec(dimensions: u32, metric: Metric) -> CollectionSpec {
    CollectionSpec {
        name: things(),
        dimensions,
        metric,
        partition_count: None,
        partitioner: None,
        description: None,
    }
}

pub fn record(id: &str, vector: &[f32], year: u32) -> NewRecord {
    NewRecord::new(id, vector.to_vec()).metadata(format!("{{\"year\":{year}}}"))
}

pub fn strong(vector: &[f32]) -> SearchRequest {
    SearchRequest {
        consistency: Consistency::Strong,
        ..SearchRequest::nearest(vector.to_vec(), 10)
    }
}

pub async fn found(brainy: &Brainy, vector: &[f32]) -> Result<Vec<String>> {
    let response = brainy.search(&things(), strong(vector)).await?;
    Ok(response.hits.into_iter().map(|hit| hit.id).collect())
}

pub async fn manifest(store: &Arc<Hooked>) -> Option<Manifest> {
    let store: DynStore = store.clone();
    manifest::load(&store, &things()).await.unwrap().map(|loaded| loaded.value)
}

/// What the manifest says, whether or not the collection is there.
#[derive(Debug)]
struct Source(DynStore, Env);

#[async_trait]
impl BoundsSource for Source {
    async fn look(&self) -> Result<Bounds> {
        let looked = self.1.clock.mark();
        let manifest = manifest::load(&self.0, &things()).await?.unwrap().value;
        Ok(Bounds {
            incarnation: manifest.incarnation,
            floor: manifest.wal_floor,
            indexed: manifest.wal_indexed,
            base: manifest.floor_totals,
            looked,
            grace: manifest.grace_ms.map(Duration::from_millis),
        })
    }
}

/// Appends to the log past every instance, as one of another build might.
pub async fn appender(store: &Arc<Hooked>) -> Appender {
    let clock = Arc::new(VirtualClock::starting_at(Timestamp(1_768_473_000_000)));
    let (store, env): (DynStore, _) = (store.clone(), Env::deterministic(77, clock));
    let source = Arc::new(Source(store.clone(), env.clone()));
    Appender::open(store, env, things(), source, Duration::from_secs(300)).await.unwrap()
}

pub async fn append(store: &Arc<Hooked>, chunk: Bytes, operations: u32) -> Seq {
    let mut appender = appender(store).await;
    match appender.append(&[Part::Inline { operations, chunk }], None).await.unwrap() {
        Tried::Appended(appended) => appended.seq,
        other => panic!("{other:?}"),
    }
}
