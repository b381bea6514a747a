//! A store in memory that counts what is asked of it.

use async_trait::async_trait;
use brainy::base::{Code, Error, Result};
use brainy::store::memory::MemoryStore;
use brainy::store::{
    Etag, Fetched, GetOptions, Key, Listing, Precondition, Prefix, PutOutcome, Store,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// Requests by their kinds.
pub type Counts = BTreeMap<&'static str, u64>;

/// What they cost at S3's list price, in dollars.
pub fn dollars(counts: &Counts) -> f64 {
    let of = |kinds: &[&str]| kinds.iter().filter_map(|kind| counts.get(kind)).sum::<u64>() as f64;
    of(&["get", "get-segment"]) * 0.4e-6 + of(&["put", "list"]) * 5e-6
}

#[derive(Debug, Default)]
pub struct Counting {
    inner: MemoryStore,
    counts: Mutex<Counts>,
    /// How long every read takes.
    pub latency_ms: AtomicU64,
    /// Whether segments are refused.
    pub deny_segments: AtomicBool,
    pub segments_denied: AtomicU64,
}

impl Counting {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap()
    }

    fn count(&self, kind: &'static str) {
        *self.counts().entry(kind).or_default() += 1;
    }

    /// What was asked for since the last call.
    pub fn take(&self) -> Counts {
        std::mem::take(&mut *self.counts())
    }

    /// How much was asked for since the last call.
    pub fn take_total(&self) -> u64 {
        self.take().values().sum()
    }
}

#[async_trait]
impl Store for Counting {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        self.count(if key.as_str().ends_with(".seg") { "get-segment" } else { "get" });
        let latency = self.latency_ms.load(Ordering::Relaxed);
        if latency > 0 {
            tokio::time::sleep(Duration::from_millis(latency)).await;
        }
        self.inner.get(key, options).await
    }

    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        self.count("put");
        if key.as_str().ends_with(".seg") && self.deny_segments.load(Ordering::Relaxed) {
            self.segments_denied.fetch_add(1, Ordering::Relaxed);
            return Err(Error::new(Code::StoreDenied, "denied"));
        }
        self.inner.put(key, body).await
    }

    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        self.count("put");
        self.inner.put_if(key, body, condition).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.count("delete");
        self.inner.delete(key).await
    }

    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        self.count("list");
        self.inner.list(prefix, after, limit).await
    }

    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        self.count("list");
        self.inner.list_dirs(prefix).await
    }
}
