//! Repeats what is safe to repeat.

use crate::base::Result;
use crate::base::rng::Rng;
use crate::store::layers::timeout::{is_late, patiently};
use crate::store::{
    DynStore, Etag, Fetched, GetOptions, Key, Listing, Precondition, Prefix, PutOutcome, Store,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// The longest pause before the first retry; it doubles with each.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// The longest pause before any retry.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A store that repeats reads, listings, deletes and unconditional PUTs after a transient error,
/// with full jitter. One that ran out of time may take longer the next time (see
/// [`timeout`](super::timeout)). Conditional PUTs go through untouched: a repeat that meets its own first
/// attempt looks lost, and only `cas` can tell.
///
/// An attempt that failed may still be carried out after a later one was acknowledged. That is
/// harmless for objects that never change, which is all that is put unconditionally, and for
/// deletes of keys that are never used again.
#[derive(Debug)]
pub struct Retry {
    inner: DynStore,
    rng: Arc<dyn Rng>,
    retries: u32,
}

impl Retry {
    /// Repeats up to `retries` times.
    pub fn new(inner: DynStore, rng: Arc<dyn Rng>, retries: u32) -> Self {
        Retry { inner, rng, retries }
    }

    async fn repeat<T, F: Future<Output = Result<T>>>(&self, work: impl Fn() -> F) -> Result<T> {
        let (mut retry, mut late) = (0, 0);
        loop {
            let error = match patiently(late, work()).await {
                Err(error) if error.is_transient() && retry < self.retries => error,
                result => return result,
            };
            let longest = PAUSE_FIRST.saturating_mul(1 << retry.min(16));
            let pause = self.rng.jitter(longest.min(PAUSE_MAX));
            let asked = Duration::from_millis(error.retry_after().unwrap_or(0));
            retry += 1;
            late += u32::from(is_late(&error));
            tracing::debug!(%error, retry, "store request failed and is repeated");
            tokio::time::sleep(pause.max(asked.min(PAUSE_MAX))).await;
        }
    }
}

#[async_trait]
impl Store for Retry {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        self.repeat(|| self.inner.get(key, options.clone())).await
    }

    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        self.repeat(|| self.inner.put(key, body.clone())).await
    }

    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        self.inner.put_if(key, body, condition).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.repeat(|| self.inner.delete(key)).await
    }

    async fn settle(&self, key: &Key) -> Result<()> {
        self.repeat(|| self.inner.settle(key)).await
    }

    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        self.repeat(|| self.inner.list(prefix, after, limit)).await
    }

    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        self.repeat(|| self.inner.list_dirs(prefix)).await
    }
}
