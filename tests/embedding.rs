//! An instance inside another program: what it proves, and what it leaves behind.

use async_trait::async_trait;
use brainy::base::compute::Compute;
use brainy::base::settings::{Role, Settings};
use brainy::base::{Code, Result};
use brainy::engine::Brainy;
use brainy::store::memory::MemoryStore;
use brainy::store::{
    Etag, Fetched, GetOptions, Key, Listing, Precondition, Prefix, PutOutcome, Store,
};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// A store that takes every write, whatever its condition.
#[derive(Debug, Default)]
struct Careless(MemoryStore);

#[async_trait]
impl Store for Careless {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        self.0.get(key, options).await
    }

    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        self.0.put(key, body).await
    }

    async fn put_if(&self, key: &Key, body: Bytes, _: Precondition) -> PutOutcome {
        self.0.put(key, body).await.map_or_else(PutOutcome::Failed, PutOutcome::Won)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.0.delete(key).await
    }

    async fn settle(&self, key: &Key) -> Result<()> {
        self.0.settle(key).await
    }

    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        self.0.list(prefix, after, limit).await
    }

    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        self.0.list_dirs(prefix).await
    }
}

#[tokio::test]
async fn a_store_that_would_lose_writes_is_refused() {
    let open = |role| async move {
        Brainy::open_on(Settings::default(), role, Arc::new(Careless::default()), Vec::new()).await
    };
    for role in [Role::Hybrid, Role::Writer] {
        let error = open(role).await.unwrap_err();
        assert_eq!(error.code(), Code::StoreUnsafe, "{error}");
    }
    // Who never writes loses nothing.
    open(Role::Reader).await.unwrap();
}

#[tokio::test]
async fn opening_by_url_proves_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let brainy = Brainy::open(dir.path().to_str().unwrap()).await.unwrap();
    let probed = dir.path().join("_brainy/probe");
    assert!(probed.is_dir(), "nothing was tried in {}", dir.path().display());
    brainy.shutdown().await;
    let wrong =
        Settings { poll_interval_ms: 1, store: "memory:".to_owned(), ..Settings::default() };
    let error = Brainy::open_with(wrong, Role::Hybrid, Vec::new()).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidSettings);
}

#[test]
fn a_runtime_without_timers_is_refused() {
    let bare = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = bare.block_on(Brainy::open("memory:")).unwrap_err();
    assert_eq!(error.code(), Code::RuntimeUnsuitable, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_dropped_leaves_no_tasks_and_no_threads() {
    let brainy = Brainy::open("memory:").await.unwrap();
    let tasks = brainy.env().tasks.clone();
    let Compute::Pool(pool) = &brainy.env().searches else { panic!("no pool") };
    let threads = Arc::downgrade(pool);
    let another = brainy.clone();
    drop(brainy);
    // Whoever drops the last one asks them to end before the drop returns.
    assert!(!tasks.are_ending() && tasks.count() > 0, "it ended under a clone");
    drop(another);
    let gone = async {
        while tasks.count() > 0 || threads.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), gone).await;
    assert!(
        waited.is_ok(),
        "{} tasks, {} owners of threads",
        tasks.count(),
        threads.strong_count()
    );
}
