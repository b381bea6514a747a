//! The store tells what time it is in each answer, to the second, as HTTP does.

use async_trait::async_trait;
use brainy::base::clock::{Clock, VirtualClock};
use brainy::base::{Result, Timestamp};
use brainy::store::{
    DynStore, Etag, Fetched, GetOptions, Key, Listing, Precondition, Prefix, PutOutcome, Store,
};
use bytes::Bytes;
use std::sync::Arc;
use tokio::time::Instant;

/// The store as one instance sees it.
#[derive(Debug)]
pub struct Dated {
    inner: DynStore,
    /// The clock that is told.
    clock: Arc<VirtualClock>,
    epoch: (Timestamp, Instant),
}

impl Dated {
    /// Its time is `time` now.
    pub fn new(inner: DynStore, clock: Arc<VirtualClock>, time: Timestamp) -> Dated {
        Dated { inner, clock, epoch: (time, Instant::now()) }
    }

    fn answers(&self) {
        let (time, began) = self.epoch;
        let now = time.0 + began.elapsed().as_millis() as u64;
        self.clock.saw_store_time(Timestamp(now / 1_000 * 1_000));
    }
}

#[async_trait]
impl Store for Dated {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        self.answers();
        self.inner.get(key, options).await
    }

    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        self.answers();
        self.inner.put(key, body).await
    }

    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        self.answers();
        self.inner.put_if(key, body, condition).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.answers();
        self.inner.delete(key).await
    }

    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        self.answers();
        self.inner.list(prefix, after, limit).await
    }

    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        self.answers();
        self.inner.list_dirs(prefix).await
    }
}
