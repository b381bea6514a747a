//! Believes no answer that ended early.

use crate::base::{Error, Result};
use crate::store::{
    ByteRange, DynStore, Etag, Fetched, GetOptions, Key, Listing, Object, Precondition, Prefix,
    PutOutcome, Store,
};
use async_trait::async_trait;
use bytes::Bytes;

/// A store whose reads give as many bytes as the object's size says, or a transient error. Where a body has
/// no length of its own, or a proxy makes one up, nobody else would notice.
#[derive(Debug)]
pub struct Whole {
    inner: DynStore,
}

impl Whole {
    /// Checks what `inner` answers.
    pub fn new(inner: DynStore) -> Self {
        Whole { inner }
    }
}

/// How many bytes of an object of `size` were asked for.
fn length(range: Option<&ByteRange>, size: u64) -> u64 {
    match range {
        None => size,
        Some(ByteRange::Bounded(range)) => range.end.min(size).saturating_sub(range.start),
        Some(ByteRange::Suffix(length)) => size.min(*length),
    }
}

#[async_trait]
impl Store for Whole {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        let range = options.range.clone();
        let fetched = self.inner.get(key, options).await?;
        if let Fetched::Found(Object { bytes, size, .. }) = &fetched {
            let (found, asked) = (bytes.len() as u64, length(range.as_ref(), *size));
            if found != asked {
                return Err(Error::unavailable(format!(
                    "the get of {key} gave {found} of {asked} bytes; check the network to the store"
                )));
            }
        }
        Ok(fetched)
    }

    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        self.inner.put(key, body).await
    }

    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        self.inner.put_if(key, body, condition).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key).await
    }

    async fn settle(&self, key: &Key) -> Result<()> {
        self.inner.settle(key).await
    }

    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        self.inner.list(prefix, after, limit).await
    }

    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        self.inner.list_dirs(prefix).await
    }
}
