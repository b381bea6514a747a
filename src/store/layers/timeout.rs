//! Gives every request a time limit.

use crate::base::{Error, Result};
use crate::store::{
    DynStore, Etag, Fetched, GetOptions, Key, Listing, Precondition, Prefix, PutOutcome, Store,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::fmt::Display;
use std::future::Future;
use std::time::Duration;
use tokio::time::timeout;

/// A store whose requests end. A conditional PUT that ran out of time is
/// [`PutOutcome::Ambiguous`]: the store may still carry it out.
#[derive(Debug)]
pub struct Timeout {
    inner: DynStore,
    limit: Duration,
    limit_conditional: Duration,
}

impl Timeout {
    /// Allows `limit` for a request, and `limit_conditional` for a conditional PUT.
    pub fn new(inner: DynStore, limit: Duration, limit_conditional: Duration) -> Self {
        Timeout { inner, limit, limit_conditional }
    }

    async fn bound<T>(
        &self,
        what: &str,
        name: impl Display,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        timeout(self.limit, work).await.unwrap_or_else(|_| Err(late(what, name, self.limit)))
    }
}

fn late(what: &str, name: impl Display, limit: Duration) -> Error {
    let ms = limit.as_millis();
    Error::unavailable(format!(
        "the store did not answer the {what} of {name} within {ms} ms; \
         check the network to the store, or raise store_timeout_ms"
    ))
}

#[async_trait]
impl Store for Timeout {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        self.bound("get", key, self.inner.get(key, options)).await
    }

    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        self.bound("put", key, self.inner.put(key, body)).await
    }

    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        let work = self.inner.put_if(key, body, condition);
        timeout(self.limit_conditional, work).await.unwrap_or_else(|_| {
            let error = late("conditional put", key, self.limit_conditional);
            PutOutcome::Ambiguous(error.ambiguous())
        })
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.bound("delete", key, self.inner.delete(key)).await
    }

    async fn settle(&self, key: &Key) -> Result<()> {
        self.bound("flush", key, self.inner.settle(key)).await
    }

    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        let work = self.inner.list(prefix, after, limit);
        self.bound("listing", prefix, work).await
    }

    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        self.bound("listing", prefix, self.inner.list_dirs(prefix)).await
    }
}
