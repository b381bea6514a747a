//! Gives every request a time limit, by what it has to move.
//!
//! - A request may take its base limit and what its bytes take at [`BYTES_PER_SECOND_LEAST`].
//! - A read goes on for as long as bytes come, where the store tells of them ([`progressed`]): the limit then
//!   is for a time in which none came.
//! - Segments and other bulk ([`Key::is_bulk`]) get twice the time with each repeat of an attempt that ran out
//!   of it ([`patiently`]), up to [`LIMIT_MAX`]: on a slow way they arrive after all. Small objects do not: a
//!   request for one that hangs is better sent anew.

use crate::base::{Error, Result};
use crate::store::{
    ByteRange, DynStore, Etag, Fetched, GetOptions, Key, Listing, Precondition, Prefix, PutOutcome,
    Store,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::fmt::Display;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Slower than any way to a store on which it makes sense to work.
pub const BYTES_PER_SECOND_LEAST: u64 = 1 << 20;
/// The longest limit of one attempt.
pub const LIMIT_MAX: Duration = Duration::from_secs(3_600);
/// The detail of an error that names the limit that was passed.
const LATE: &str = "timeLimitMs";

tokio::task_local! {
    /// Bytes that have come for the read at hand.
    static MOVED: Arc<AtomicU64>;
    /// How many attempts at the request at hand have run out of time before.
    static LATE_BEFORE: u32;
}

/// Tells that bytes have come for the read at hand.
pub fn progressed(bytes: usize) {
    let _ = MOVED.try_with(|moved| moved.fetch_add(bytes as u64, Ordering::Relaxed));
}

/// Makes an attempt at a request of which `late` have run out of time before.
pub async fn patiently<F: Future>(late: u32, attempt: F) -> F::Output {
    LATE_BEFORE.scope(late, attempt).await
}

/// Whether an attempt ended because it ran out of time.
pub fn is_late(error: &Error) -> bool {
    error.details().contains_key(LATE)
}

/// A store whose requests end. A conditional PUT that ran out of time is
/// [`PutOutcome::Ambiguous`]: the store may still carry it out.
#[derive(Debug)]
pub struct Timeout {
    inner: DynStore,
    limit: Duration,
    limit_conditional: Duration,
}

impl Timeout {
    /// Allows `limit` for a small request, and `limit_conditional` for a conditional PUT.
    pub fn new(inner: DynStore, limit: Duration, limit_conditional: Duration) -> Self {
        Timeout { inner, limit, limit_conditional }
    }

    async fn bound<T>(
        &self,
        what: &str,
        name: impl Display,
        limit: Duration,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        timeout(limit, work).await.unwrap_or_else(|_| Err(late(what, name, limit)))
    }

    /// The limit of a request for `key` that is to move so many bytes.
    fn limit(&self, key: &Key, bytes: u64) -> Duration {
        let limit = self.limit + moving(bytes);
        if !key.is_bulk() {
            return limit;
        }
        let late = LATE_BEFORE.try_with(|late| *late).unwrap_or_default();
        limit.saturating_mul(1 << late.min(16)).min(LIMIT_MAX.max(limit))
    }
}

fn moving(bytes: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1_000) / BYTES_PER_SECOND_LEAST)
}

fn late(what: &str, name: impl Display, limit: Duration) -> Error {
    let ms = limit.as_millis() as u64;
    Error::unavailable(format!(
        "the store did not answer the {what} of {name} within {ms} ms; \
         check the network to the store, or raise store_timeout_ms"
    ))
    .with(LATE, ms)
}

#[async_trait]
impl Store for Timeout {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        let bytes = match &options.range {
            Some(ByteRange::Bounded(range)) => range.end.saturating_sub(range.start),
            Some(ByteRange::Suffix(bytes)) => *bytes,
            None => 0,
        };
        let limit = self.limit(key, bytes);
        let (moved, start) = (Arc::new(AtomicU64::new(0)), Instant::now());
        let mut work = pin!(MOVED.scope(moved.clone(), self.inner.get(key, options)));
        let mut seen = 0;
        loop {
            if let Ok(fetched) = timeout(limit, &mut work).await {
                return fetched;
            }
            let now = moved.load(Ordering::Relaxed);
            if now == seen || start.elapsed() >= LIMIT_MAX {
                return Err(late("get", key, limit));
            }
            seen = now;
        }
    }

    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        let limit = self.limit(key, body.len() as u64);
        self.bound("put", key, limit, self.inner.put(key, body)).await
    }

    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        let limit = self.limit_conditional + moving(body.len() as u64);
        let work = self.inner.put_if(key, body, condition);
        timeout(limit, work).await.unwrap_or_else(|_| {
            PutOutcome::Ambiguous(late("conditional put", key, limit).ambiguous())
        })
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.bound("delete", key, self.limit, self.inner.delete(key)).await
    }

    async fn settle(&self, key: &Key) -> Result<()> {
        self.bound("flush", key, self.limit, self.inner.settle(key)).await
    }

    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        let work = self.inner.list(prefix, after, limit);
        self.bound("listing", prefix, self.limit, work).await
    }

    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        self.bound("listing", prefix, self.limit, self.inner.list_dirs(prefix)).await
    }
}
