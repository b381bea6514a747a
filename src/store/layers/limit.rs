//! Bounds how many requests are in flight at a time.

use crate::base::{Error, Result};
use crate::store::{
    DynStore, Etag, Fetched, GetOptions, Key, Listing, Precondition, Prefix, PutOutcome, Store,
};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};

/// A store with at most so many requests in flight; the others wait in the order they came.
#[derive(Debug)]
pub struct Limit {
    inner: DynStore,
    permits: Semaphore,
}

impl Limit {
    /// Lets `requests` through at a time (at least one).
    pub fn new(inner: DynStore, requests: usize) -> Self {
        Limit { inner, permits: Semaphore::new(requests.clamp(1, Semaphore::MAX_PERMITS)) }
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>> {
        let acquired = self.permits.acquire().await;
        // The semaphore lives as long as we do and nobody closes it.
        acquired.map_err(|_| Error::internal("the store's limit was closed"))
    }
}

#[async_trait]
impl Store for Limit {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        let _permit = self.permit().await?;
        self.inner.get(key, options).await
    }

    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        let _permit = self.permit().await?;
        self.inner.put(key, body).await
    }

    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        match self.permit().await {
            Ok(_permit) => self.inner.put_if(key, body, condition).await,
            Err(error) => PutOutcome::Failed(error),
        }
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let _permit = self.permit().await?;
        self.inner.delete(key).await
    }

    async fn settle(&self, key: &Key) -> Result<()> {
        self.inner.settle(key).await
    }

    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        let _permit = self.permit().await?;
        self.inner.list(prefix, after, limit).await
    }

    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        let _permit = self.permit().await?;
        self.inner.list_dirs(prefix).await
    }
}
