use super::*;
use crate::store::memory::MemoryStore;
use crate::store::{Listing, Prefix};
use async_trait::async_trait;
use std::sync::Arc;

/// A way to be a bad store.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Flaw {
    None,
    IgnoresIfNoneMatch,
    IgnoresIfMatch,
    CreatesOnIfMatch,
    IgnoresRanges,
    IgnoresStartAfter,
    ChecksThenWrites,
    NotImplemented,
}

#[derive(Debug)]
struct Flawed {
    inner: MemoryStore,
    flaw: Flaw,
}

#[async_trait]
impl Store for Flawed {
    async fn get(&self, key: &Key, mut options: GetOptions) -> Result<Fetched> {
        if self.flaw == Flaw::IgnoresRanges {
            options.range = None;
        }
        self.inner.get(key, options).await
    }

    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        self.inner.put(key, body).await
    }

    async fn put_if(&self, key: &Key, body: Bytes, when: Precondition) -> PutOutcome {
        let absent = when == Precondition::Absent;
        let there = matches!(get(&self.inner, key).await, Ok(Fetched::Found(_)));
        let ignores = match self.flaw {
            Flaw::IgnoresIfNoneMatch => absent,
            Flaw::IgnoresIfMatch => !absent && there,
            Flaw::CreatesOnIfMatch => !absent && !there,
            Flaw::NotImplemented => {
                return PutOutcome::Failed(Error::new(Code::StoreUnsafe, "501"));
            }
            Flaw::ChecksThenWrites => {
                let holds = match (&when, get(&self.inner, key).await) {
                    (Precondition::Matches(etag), Ok(Fetched::Found(o))) => o.etag == *etag,
                    (Precondition::Absent, Ok(found)) => matches!(found, Fetched::Missing),
                    _ => false,
                };
                tokio::task::yield_now().await;
                if !holds {
                    return PutOutcome::Lost;
                }
                true
            }
            _ => false,
        };
        if !ignores {
            return self.inner.put_if(key, body, when).await;
        }
        match self.inner.put(key, body).await {
            Ok(etag) => PutOutcome::Won(etag),
            Err(error) => PutOutcome::Failed(error),
        }
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key).await
    }

    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        let after = after.filter(|_| self.flaw != Flaw::IgnoresStartAfter);
        self.inner.list(prefix, after, limit).await
    }

    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        self.inner.list_dirs(prefix).await
    }
}

/// The check that `flaw` fails, by the error that an instance refuses to start with.
async fn failed(flaw: Flaw, effort: Effort) -> Option<String> {
    let flawed = Arc::new(Flawed { inner: MemoryStore::default(), flaw });
    let store: DynStore = flawed.clone();
    let report = probe(&store, &Env::system(1).unwrap(), effort).await.unwrap();
    assert!(flawed.inner.is_empty(), "{flaw:?} left objects behind");
    let error = require_safe(&report).err()?;
    assert_eq!(error.code(), Code::StoreUnsafe);
    Some(error.details()["check"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn each_flaw_is_named() {
    for (flaw, check) in [
        (Flaw::None, None),
        (Flaw::IgnoresIfNoneMatch, Some("conditional create")),
        (Flaw::IgnoresIfMatch, Some("conditional update")),
        (Flaw::CreatesOnIfMatch, Some("update of a missing key")),
        (Flaw::IgnoresRanges, Some("ranged get")),
        (Flaw::IgnoresStartAfter, Some("list order")),
        (Flaw::ChecksThenWrites, Some("race to create")),
        (Flaw::NotImplemented, Some("conditional create")),
    ] {
        let found = failed(flaw, Effort::START).await;
        assert_eq!(found.as_deref(), check, "{flaw:?}");
    }
}

#[tokio::test]
async fn a_good_store_passes_thoroughly_with_latencies() {
    let store: DynStore = Arc::new(MemoryStore::default());
    let env = Env::system(1).unwrap();
    let report = probe(&store, &env, Effort::THOROUGH).await.unwrap();
    require_safe(&report).unwrap();
    assert_eq!(report.checks.len(), 9);
    let counts = report.latencies.iter().map(|latency| latency.count);
    assert_eq!(counts.collect::<Vec<_>>(), [50, 50, 50]);
}

#[test]
fn percentiles_are_of_the_sorted_times() {
    let times = (1..=100).rev().map(Duration::from_millis).collect();
    let latency = latency("get", times);
    assert_eq!((latency.p50_ms, latency.p99_ms), (50.0, 99.0));
    let one = super::latency("get", vec![Duration::from_millis(7)]);
    assert_eq!((one.p50_ms, one.p99_ms), (7.0, 7.0));
}
