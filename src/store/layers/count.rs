//! Counts requests, bytes and time, per instance and per query.

use crate::base::Result;
use crate::base::metrics::{Metrics, OpLabels, StoreLabels};
use crate::store::{
    DynStore, Etag, Fetched, GetOptions, Key, Listing, Precondition, Prefix, PutOutcome, Store,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::Instant;

tokio::task_local! {
    static CURRENT: Usage;
}

/// What one piece of work asked of the store. Cloning shares the counters.
///
/// [`Usage::scope`] makes it current for a future; requests made through any [`Count`] below are
/// added to it. Spawned tasks do not inherit it: give them a clone and let them open a scope, or a usage of their
/// own that whoever waits for them [absorbs](Usage::absorb).
#[derive(Debug, Clone, Default)]
pub struct Usage(Arc<Totals>);

#[derive(Debug, Default)]
struct Totals {
    requests: AtomicU64,
    bytes: AtomicU64,
    /// Requests that are under way.
    waiting: AtomicU64,
    rounds: AtomicU64,
    nano_dollars: AtomicU64,
}

/// What came of it so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// Requests, failed and repeated ones included.
    pub requests: u64,
    /// Bytes read and written.
    pub bytes: u64,
    /// How often it began to wait for the store while it was not waiting already: requests that are sent side by side
    /// are one round.
    pub rounds: u64,
    /// What S3 asks for the requests, in 10⁻⁹ dollars.
    pub nano_dollars: u64,
}

/// A request that is under way; also where nobody waits for its end any more.
struct Request(Option<Usage>);

impl Request {
    fn begin() -> Request {
        let usage = Usage::current();
        if let Some(Usage(totals)) = &usage
            && totals.waiting.fetch_add(1, Ordering::Relaxed) == 0
        {
            totals.rounds.fetch_add(1, Ordering::Relaxed);
        }
        Request(usage)
    }

    fn end(self, op: &str, bytes: u64) {
        if let Some(Usage(totals)) = &self.0 {
            totals.requests.fetch_add(1, Ordering::Relaxed);
            totals.bytes.fetch_add(bytes, Ordering::Relaxed);
            totals.nano_dollars.fetch_add(cost_nano_dollars(op), Ordering::Relaxed);
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Some(Usage(totals)) = &self.0 {
            totals.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Usage {
    /// Runs `work` and adds what it asks of the store.
    pub async fn scope<F: Future>(&self, work: F) -> F::Output {
        CURRENT.scope(self.clone(), work).await
    }

    /// The current one, to be carried into a spawned task.
    pub fn current() -> Option<Usage> {
        CURRENT.try_with(Usage::clone).ok()
    }

    /// Adds what another task asked on behalf of this work. Where several wait for one task, only who began it does, so
    /// that all usages together are what the store was asked.
    pub fn absorb(&self, other: &Usage) {
        let Used { requests, bytes, rounds, nano_dollars } = other.so_far();
        let totals = &self.0;
        totals.requests.fetch_add(requests, Ordering::Relaxed);
        totals.bytes.fetch_add(bytes, Ordering::Relaxed);
        totals.rounds.fetch_add(rounds, Ordering::Relaxed);
        totals.nano_dollars.fetch_add(nano_dollars, Ordering::Relaxed);
    }

    /// What came of it so far.
    pub fn so_far(&self) -> Used {
        let totals = &self.0;
        Used {
            requests: totals.requests.load(Ordering::Relaxed),
            bytes: totals.bytes.load(Ordering::Relaxed),
            rounds: totals.rounds.load(Ordering::Relaxed),
            nano_dollars: totals.nano_dollars.load(Ordering::Relaxed),
        }
    }

    /// Requests so far, failed and repeated ones included.
    pub fn requests(&self) -> u64 {
        self.so_far().requests
    }

    /// Bytes read and written so far.
    pub fn bytes(&self) -> u64 {
        self.so_far().bytes
    }
}

/// A store whose requests are counted.
#[derive(Debug)]
pub struct Count {
    inner: DynStore,
    metrics: Arc<Metrics>,
}

/// What S3 asks for one request, whatever it comes to: 5 dollars a million for those that write or list,
/// 0.4 for those that read, nothing for deleting (list price of us-east-1, November 2026). Other stores
/// ask for something else, or for nothing.
fn cost_nano_dollars(op: &str) -> u64 {
    match op {
        "put" | "put_if" | "list" => 5_000,
        "get" => 400,
        _ => 0,
    }
}

/// What a request came to.
struct Outcome {
    name: &'static str,
    read: u64,
    written: u64,
}

impl Outcome {
    fn ok<T>(result: &Result<T>) -> Self {
        Outcome { name: if result.is_ok() { "ok" } else { "failed" }, read: 0, written: 0 }
    }
}

impl Count {
    /// Counts into `metrics`.
    pub fn new(inner: DynStore, metrics: Arc<Metrics>) -> Self {
        Count { inner, metrics }
    }

    async fn measure<T>(
        &self,
        op: &'static str,
        work: impl Future<Output = T>,
        outcome: impl FnOnce(&T) -> Outcome,
    ) -> T {
        let (start, request) = (Instant::now(), Request::begin());
        let result = work.await;
        let Outcome { name: outcome, read, written } = outcome(&result);
        let metrics = &self.metrics;
        metrics.store_requests.get_or_create(&StoreLabels { op, outcome }).inc();
        metrics.store_bytes_read.inc_by(read);
        metrics.store_bytes_written.inc_by(written);
        let kind = OpLabels { op };
        let took = start.elapsed().as_secs_f64();
        metrics.store_seconds.get_or_create(&kind).observe(took);
        metrics.store_cost_dollars.get_or_create(&kind).inc_by(cost_nano_dollars(op) as f64 / 1e9);
        request.end(op, read + written);
        result
    }
}

#[async_trait]
impl Store for Count {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        let work = self.inner.get(key, options);
        self.measure("get", work, |fetched| {
            let (name, read) = match fetched {
                Ok(Fetched::Found(object)) => ("ok", object.bytes.len() as u64),
                Ok(Fetched::Missing) => ("missing", 0),
                Ok(Fetched::Unmodified) => ("unmodified", 0),
                Err(_) => ("failed", 0),
            };
            Outcome { name, read, written: 0 }
        })
        .await
    }

    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        let written = body.len() as u64;
        let work = self.inner.put(key, body);
        self.measure("put", work, |result| Outcome { written, ..Outcome::ok(result) }).await
    }

    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        let written = body.len() as u64;
        let work = self.inner.put_if(key, body, condition);
        self.measure("put_if", work, |outcome| Outcome {
            name: match outcome {
                PutOutcome::Won(_) => "won",
                PutOutcome::Lost => "lost",
                PutOutcome::Ambiguous(_) => "ambiguous",
                PutOutcome::Failed(_) => "failed",
            },
            read: 0,
            written,
        })
        .await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let work = self.inner.delete(key);
        self.measure("delete", work, Outcome::ok).await
    }

    /// No request: where a store shows only what is durable there is none.
    async fn settle(&self, key: &Key) -> Result<()> {
        self.inner.settle(key).await
    }

    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        let work = self.inner.list(prefix, after, limit);
        self.measure("list", work, Outcome::ok).await
    }

    /// Counts as one listing, also where the store needs several pages.
    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        let work = self.inner.list_dirs(prefix);
        self.measure("list", work, Outcome::ok).await
    }
}
