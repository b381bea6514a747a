//! What is missing or damaged in the bucket: it is found, named, and not more than it is left out.

mod log;
mod readers;
mod records;
mod segments;

use async_trait::async_trait;
use brainy::base::clock::VirtualClock;
use brainy::base::ids::{CollectionName, Seq, WriteId};
use brainy::base::settings::{Role, Settings};
use brainy::base::{Code, Env, Result, Timestamp};
use brainy::engine::Brainy;
use brainy::engine::damage::DamageKind;
use brainy::engine::model::*;
use brainy::filter::Filter;
use brainy::log::chunk::ChunkBuilder;
use brainy::log::entry::{Draft, Entry, Part};
use brainy::store::memory::MemoryStore;
use brainy::store::{
    DynStore, Etag, Fetched, GetOptions, Key, Listing, Precondition, Prefix, PutOutcome, Store,
    get, paths,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// A store that can be slow, out of reach, and counts.
#[derive(Debug, Default)]
struct Odd {
    inner: MemoryStore,
    /// How long reading a log entry takes.
    slow_log_ms: AtomicU64,
    /// How long every read takes.
    slow_ms: AtomicU64,
    /// Nothing comes back.
    away: AtomicBool,
    /// Of parts of log entries nothing does.
    headers_away: AtomicBool,
    lists: AtomicU64,
    segments: AtomicU64,
}

impl Odd {
    async fn delay(&self, key: &str) -> Result<()> {
        if self.away.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(10)).await;
            return Err(brainy::base::Error::unavailable("it is away"));
        }
        let log = if key.ends_with("wal") { self.slow_log_ms.load(Ordering::Relaxed) } else { 0 };
        let slow = log + self.slow_ms.load(Ordering::Relaxed);
        if slow > 0 {
            sleep(Duration::from_millis(slow)).await;
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Odd {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        self.delay(key.as_str()).await?;
        let is_header = options.range.is_some() && key.as_str().ends_with("wal");
        if is_header && self.headers_away.load(Ordering::Relaxed) {
            return Err(brainy::base::Error::unavailable("it is away"));
        }
        if key.as_str().ends_with("seg") {
            self.segments.fetch_add(1, Ordering::Relaxed);
        }
        self.inner.get(key, options).await
    }
    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        self.delay("").await?;
        self.inner.put(key, body).await
    }
    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        self.inner.put_if(key, body, condition).await
    }
    async fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key).await
    }
    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        self.delay("").await?;
        self.lists.fetch_add(1, Ordering::Relaxed);
        self.inner.list(prefix, after, limit).await
    }
    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        self.inner.list_dirs(prefix).await
    }
}

fn things() -> CollectionName {
    CollectionName::new("things").unwrap()
}

fn record(id: &str) -> NewRecord {
    NewRecord::new(id, vec![1.0, 0.5]).metadata(json!({"id": id}).to_string())
}

fn unindexed() -> Settings {
    Settings { index_enabled: false, ..Settings::default() }
}

/// Indexes only when told to.
fn by_hand() -> Settings {
    Settings { index_after_bytes: 1 << 40, index_after_ms: 86_400_000, ..Settings::default() }
}

async fn instance(store: &DynStore, role: Role, settings: Settings, seed: u64) -> Brainy {
    let clock = Arc::new(VirtualClock::starting_at(Timestamp(1_768_473_000_000)));
    Brainy::start(settings, role, store.clone(), Env::deterministic(seed, clock)).await.unwrap()
}

fn world() -> (Arc<Odd>, DynStore) {
    let odd = Arc::new(Odd::default());
    (odd.clone(), odd)
}

async fn write(writer: &Brainy, ids: std::ops::Range<u32>) {
    for id in ids {
        writer.upsert(&things(), vec![record(&format!("r{id}"))]).await.unwrap();
    }
}

fn all(consistency: Consistency) -> SearchRequest {
    SearchRequest { consistency, ..SearchRequest::nearest(vec![1.0, 0.5], 1_000) }
}

async fn search(brainy: &Brainy, consistency: Consistency) -> Result<SearchResponse> {
    brainy.search(&things(), all(consistency)).await
}

async fn flip(store: &DynStore, key: &Key) {
    let object = get(&**store, key).await.unwrap().required(key).unwrap();
    let mut bytes = object.bytes.to_vec();
    let middle = bytes.len() * 2 / 3;
    bytes[middle] ^= 0x55;
    store.put(key, bytes.into()).await.unwrap();
}

async fn take_away(store: &DynStore, key: &Key) -> Bytes {
    let object = get(&**store, key).await.unwrap().required(key).unwrap();
    store.delete(key).await.unwrap();
    object.bytes
}

async fn keys(store: &DynStore, end: &str) -> Vec<Key> {
    let listing = store.list(&paths::everything(), None, 1_000).await.unwrap();
    let keys = listing.objects.into_iter().map(|object| object.key);
    keys.filter(|key| key.as_str().ends_with(end)).collect()
}

fn says(brainy: &Brainy, what: &str) -> bool {
    brainy.condition().degraded.iter().any(|sentence| sentence.contains(what))
}
