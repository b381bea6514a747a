//! A reader that may only read the store.

use super::{World, until};
use crate::support::{Api, memory};
use async_trait::async_trait;
use brainy::base::settings::{Role, Settings};
use brainy::base::{Code, Error, Result};
use brainy::engine::Brainy;
use brainy::store::{
    DynStore, Etag, Fetched, GetOptions, Key, Listing, Precondition, Prefix, PutOutcome, Store,
};
use bytes::Bytes;
use serde_json::json;
use std::sync::{Arc, Mutex};

/// A store of which one may read everything and write nothing.
#[derive(Debug)]
struct ReadOnly {
    inner: DynStore,
    /// What was tried in spite of that.
    refused: Mutex<Vec<String>>,
}

impl ReadOnly {
    fn refuse(&self, key: &Key) -> Error {
        self.refused.lock().unwrap().push(key.to_string());
        Error::new(Code::StoreDenied, "the store answered the put with 403 AccessDenied")
    }
}

#[async_trait]
impl Store for ReadOnly {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        self.inner.get(key, options).await
    }
    async fn put(&self, key: &Key, _: Bytes) -> Result<Etag> {
        Err(self.refuse(key))
    }
    async fn put_if(&self, key: &Key, _: Bytes, _: Precondition) -> PutOutcome {
        PutOutcome::Failed(self.refuse(key))
    }
    async fn delete(&self, key: &Key) -> Result<()> {
        Err(self.refuse(key))
    }
    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        self.inner.list(prefix, after, limit).await
    }
    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        self.inner.list_dirs(prefix).await
    }
}

fn read_only(inner: &DynStore) -> Arc<ReadOnly> {
    Arc::new(ReadOnly { inner: inner.clone(), refused: Mutex::default() })
}

#[tokio::test]
async fn it_serves_and_says_that_it_is_not_listed() {
    let store = memory();
    let written = World::on(store.clone());
    let writer = written.node("w", Role::Hybrid, |_| {}).await;
    let vectors =
        json!({"vectors": [{"id": "a", "vector": [1, 0]}, {"id": "b", "vector": [0, 1]}]});
    writer.post("/v1/collections/things/vectors", vectors).await.ok();
    writer.post("/v1/collections/things/compact", json!({})).await.ok();
    let vectors = json!({"vectors": [{"id": "c", "vector": [1, 1]}]});
    writer.post("/v1/collections/things/vectors", vectors).await.ok();

    let denied = read_only(&store);
    let world = World::on(denied.clone());
    let reader = world.node("r", Role::Reader, |_| {}).await;
    let search = json!({"vector": [1, 0], "k": 3, "consistency": "strong"});
    let found = reader.post("/v1/collections/things/search", search).await.ok();
    assert_eq!(found["results"].as_array().unwrap().len(), 3, "{found}");
    reader.get("/v1/collections/things/vectors/a").await.ok();
    assert_eq!(reader.get("/v1/collections").await.ok()["collections"][0]["vectorCount"], 3);
    let listed = reader.get("/v1/collections/things/vectors?limit=10").await.ok();
    assert_eq!(listed["vectors"].as_array().unwrap().len(), 3, "{listed}");

    // Nothing is wrong with it, and nobody has to guess that it is not listed.
    let health = reader.get("/health").await.ok();
    assert_eq!(health["status"], "healthy");
    assert!(health["warnings"][0].as_str().unwrap().contains("not listed"), "{health}");
    reader.get("/health/ready").await.ok();
    let status = reader.get("/cluster/status").await.ok();
    assert_eq!(status["node"]["status"], "unlisted");
    assert_eq!(status["totalNodes"], 1);
    let cluster = reader.get("/cluster/health").await.ok();
    assert_eq!((&cluster["readers"], &cluster["writers"]), (&json!(2), &json!(1)), "{cluster}");
    let text = String::from_utf8(reader.get("/metrics").await.bytes).unwrap();
    assert!(text.contains("\nbrainy_cluster_unlisted 1\n"), "{text}");
    assert!(text.contains("\nbrainy_replication_lag_seconds{node=\"r\"}"), "{text}");
    assert_eq!(reader.post("/cluster/join", json!({})).await.ok()["member"], false);
    let vectors = json!({"vectors": [{"id": "d", "vector": [1, 1]}]});
    let refused = reader.post("/v1/collections/things/vectors", vectors).await;
    let writers = refused.refused(403, "read_only_instance")["writers"].clone();
    assert_eq!(writers, json!(["http://w:3000"]), "it knows who takes writes");

    // Its one attempt was the first heartbeat.
    let tried = denied.refused.lock().unwrap().clone();
    assert_eq!(tried, ["_brainy/config.json"]);
    let text = String::from_utf8(writer.get("/metrics").await.bytes).unwrap();
    assert!(text.contains("\nbrainy_cluster_unlisted 0\n"), "{text}");
    reader.post("/cluster/leave", json!({})).await.ok();
    until("left", async || reader.get("/cluster/status").await.ok()["node"]["status"] == "left")
        .await;
}

#[tokio::test]
async fn who_writes_does_not_start_and_hears_why() {
    let store: DynStore = read_only(&memory());
    for role in [Role::Writer, Role::Hybrid] {
        let open = Brainy::open_on(Settings::default(), role, store.clone(), Vec::new());
        let error = open.await.unwrap_err();
        assert_eq!(error.code(), Code::StoreDenied, "{role:?}");
        assert!(error.message().contains("--role reader"), "{error}");
    }
    let reader = Brainy::open_on(Settings::default(), Role::Reader, store.clone(), Vec::new());
    reader.await.unwrap().shutdown().await;
    // Nothing of a reader's work depends on the cluster either.
    let apart = Api::with(store, Role::Reader, |_| {}).await;
    apart.get("/health").await.ok();
}
