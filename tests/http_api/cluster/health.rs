//! What makes an instance degraded or unhealthy, and its figures.

use super::{World, has_fields, until};
use crate::support::{Api, memory};
use async_trait::async_trait;
use brainy::base::settings::{Role, Settings};
use brainy::base::{Error, Result};
use brainy::store::{
    DynStore, Etag, Fetched, GetOptions, Key, Listing, Precondition, Prefix, PutOutcome, Store,
};
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The warnings of an instance whose health has this status.
async fn warnings(api: &Api, status: u16, name: &str) -> Vec<String> {
    let health = api.get("/health").await;
    let body = health.json();
    assert_eq!((health.status, &body["status"]), (status, &json!(name)), "{body}");
    let warnings = body["warnings"].as_array().unwrap().iter();
    warnings.map(|warning| warning.as_str().unwrap().to_owned()).collect()
}

/// Whether an instance's health is 503 for a reason that names `word`; it is ready all the same.
async fn is_degraded_by(api: &Api, word: &str) -> bool {
    let health = api.get("/health").await;
    let warned = health.json()["warnings"].to_string().contains(word);
    let degraded = health.status == 503 && health.json()["status"] == "degraded" && warned;
    degraded && api.get("/health/ready").await.status == 200
}

#[tokio::test]
async fn a_member_is_healthy_and_says_which_life_of_its_id_it_is() {
    let world = World::new();
    let (writer, reader) = world.pair().await;
    for api in [&writer, &reader] {
        assert_eq!(warnings(api, 200, "healthy").await, [""; 0]);
        let health = api.get("/health").await.ok();
        has_fields(
            &health,
            &["status", "instanceId", "role", "standby", "uptime", "metrics", "warnings"],
        );
        has_fields(
            &health["metrics"],
            &[
                "vectorCount",
                "cacheHitRate",
                "memoryUsageMB",
                "cpuUsagePercent",
                "requestsPerSecond",
                "averageLatencyMs",
                "errorRate",
            ],
        );
        let id = api.brainy.instance_id();
        let session = world.stored().await["instances"][id]["session"].take();
        assert!(session.is_string());
        for (path, status) in [("/health/live", "alive"), ("/health/ready", "ready")] {
            let told = json!(
                {"status": status, "instanceId": id, "session": session, "warnings": []});
            assert_eq!(api.get(path).await.ok(), told);
        }
    }
}

#[tokio::test]
async fn what_makes_work_late_or_the_cluster_unsure_degrades_an_instance() {
    let degraded = async |word: &str, change: fn(&mut Settings)| {
        let api = Api::with(memory(), Role::Hybrid, |settings| {
            settings.index_enabled = false;
            change(settings);
        })
        .await;
        let vectors = "/v1/collections/things/vectors";
        until(word, async || {
            // Looked at first: what was just written is younger than the least lag that can be asked for.
            let is_degraded = is_degraded_by(&api, word).await;
            if !is_degraded {
                let text = api.brainy.env().record_id();
                api.post(vectors, json!({"vectors": [{"vector": [1, 0], "text": text}]})).await;
                api.get(&format!("{vectors}/none")).await;
            }
            is_degraded
        })
        .await;
    };
    degraded("memory_max_bytes", |settings| settings.memory_max_bytes = 1).await;
    degraded("lag_max_ms", |settings| {
        // It looks too rarely for what it promises.
        (settings.poll_interval_ms, settings.lag_max_ms) = (3_600_000, 1);
    })
    .await;
    degraded("add a writer with index_enabled", |settings| settings.tail_max_bytes = 4_096).await;
}

#[tokio::test]
async fn a_reader_that_lags_too_many_bytes_behind_is_degraded_until_it_has_caught_up() {
    let world = World::new();
    let writer = world.node("w", Role::Writer, |_| {}).await;
    let reader = world.node("r", Role::Reader, |settings| {
        // It looks at the log only when it is asked to.
        (settings.poll_interval_ms, settings.lag_max_ms) = (3_600_000, 0);
        settings.lag_max_bytes = 1;
    });
    let (reader, things) = (reader.await, "/v1/collections/things");
    let record = json!({"vectors": [{"id": "a", "vector": [1, 0]}]});
    writer.post(&format!("{things}/vectors"), record.clone()).await.ok();
    reader.get(&format!("{things}/vectors/a")).await.ok();
    writer.post(&format!("{things}/vectors"), record).await.ok();
    until("it lags", async || is_degraded_by(&reader, "lag_max_bytes").await).await;
    let node = async || writer.get("/cluster/nodes/r").await.ok()["status"].take();
    until("the others are told", async || node().await == "degraded").await;
    let stats = writer.get("/cluster/replication/stats").await.ok();
    assert_eq!(stats["readers"][0]["lagVersions"], 1, "{stats}");
    assert!(stats["readers"][0]["lagBytes"].as_u64() > Some(1), "{stats}");
    let strong = json!({"vector": [1, 0], "consistency": "strong"});
    reader.post(&format!("{things}/search"), strong).await.ok();
    until("it has caught up", async || reader.get("/health").await.status == 200).await;
    until("the others are told", async || node().await == "active").await;
}

#[tokio::test]
async fn a_collection_that_nobody_reads_does_not_lag() {
    let api = Api::things().await;
    api.get("/v1/collections/things/vectors/a").await.ok();
    tokio::time::pause();
    // The log is left alone by now; the next read looks first.
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    assert_eq!(warnings(&api, 200, "healthy").await, [""; 0]);
}

/// A store that can be told to fail: entirely, or for changes of what the cluster keeps.
#[derive(Debug)]
struct Failing {
    inner: DynStore,
    all: AtomicBool,
    cluster: AtomicBool,
}

impl Failing {
    fn check(&self, key: &str, writes: bool) -> Result<()> {
        let cluster = writes && key.starts_with("_brainy/") && self.cluster.load(Ordering::SeqCst);
        if self.all.load(Ordering::SeqCst) || cluster {
            return Err(Error::unavailable("it was told to fail"));
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Failing {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        self.check(key.as_str(), false)?;
        self.inner.get(key, options).await
    }

    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        self.check(key.as_str(), true)?;
        self.inner.put(key, body).await
    }

    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        match self.check(key.as_str(), true) {
            Ok(()) => self.inner.put_if(key, body, condition).await,
            Err(error) => PutOutcome::Failed(error),
        }
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.check(key.as_str(), true)?;
        self.inner.delete(key).await
    }

    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        self.check(prefix.as_str(), false)?;
        self.inner.list(prefix, after, limit).await
    }

    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        self.check(prefix.as_str(), false)?;
        self.inner.list_dirs(prefix).await
    }
}

#[tokio::test]
async fn heartbeats_that_do_not_get_through_and_a_store_that_fails_degrade_until_they_do() {
    let [all, cluster] = [AtomicBool::new(false), AtomicBool::new(false)];
    let failing = Arc::new(Failing { inner: memory(), all, cluster });
    let world = World::on(failing.clone());
    let api = world.node("a", Role::Hybrid, |_| {}).await;
    until("it leads", async || api.get("/cluster/status").await.ok()["leader"]["id"] == "a").await;
    failing.cluster.store(true, Ordering::SeqCst);
    let word = "heartbeats do not get through (it was told to fail)";
    until("heartbeats fail", async || is_degraded_by(&api, word).await).await;
    failing.cluster.store(false, Ordering::SeqCst);
    until("they get through", async || api.get("/health").await.status == 200).await;

    failing.all.store(true, Ordering::SeqCst);
    until("the store fails", async || api.get("/health/ready").await.status == 503).await;
    let told = warnings(&api, 503, "degraded").await;
    assert!(told.iter().any(|text| text.contains("the store fails")), "{told:?}");
    // No restart cures that.
    assert_eq!(api.get("/health/live").await.status, 200);
    failing.all.store(false, Ordering::SeqCst);
    until("the store answers", async || api.get("/health").await.status == 200).await;
}

#[tokio::test]
async fn an_instance_whose_id_was_taken_over_is_unhealthy_and_has_to_stop() {
    let world = World::new();
    let api = world.node("a", Role::Hybrid, |_| {}).await;
    until("another life shows in the shared config", async || {
        let mut config = world.stored().await;
        config["version"] = (config["version"].as_u64().unwrap() + 1_000).into();
        config["instances"]["a"]["session"] = "7ZZZZZZZZZZZZZZZZZZZZZZZZZ".into();
        world.upload(&config.to_string()).await;
        api.get("/health").await.status == 500
    })
    .await;
    let told = warnings(&api, 500, "unhealthy").await;
    assert!(told[0].contains("another process took over the id a"), "{told:?}");
    assert_eq!(api.get("/health/live").await.status, 503);
    assert_eq!(api.get("/health/ready").await.status, 503);
    let ousted = api.brainy.cluster().ousted().cancelled();
    tokio::time::timeout(super::PATIENCE, ousted).await.expect("the process is told to stop");
}

/// The value of a metric that is there once.
fn value(text: &str, name: &str) -> f64 {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = lines.next().unwrap_or_else(|| panic!("no {name} in {text}"));
    assert_eq!(lines.next(), None, "{name}");
    value.parse().unwrap()
}

#[tokio::test]
async fn metrics_have_the_names_that_people_look_for() {
    let world = World::new();
    let (writer, reader) = world.pair().await;
    let records: Vec<Value> = (0..3).map(|n| json!({"vector": [n, 1]})).collect();
    writer.post("/v1/collections/things/vectors", json!({ "vectors": records })).await.ok();
    reader.post("/v1/collections/things/search", json!({"vector": [1, 0]})).await.ok();
    until("a change by the other was taken up", async || {
        reader.brainy.env().metrics.cluster_state_replications.get() > 0
    })
    .await;
    let text = String::from_utf8(reader.get("/metrics").await.bytes).unwrap();
    for (name, least, most) in [
        ("brainy_vector_count", 3.0, 3.0),
        ("brainy_cache_hit_rate", 0.0, 1.0),
        ("brainy_memory_usage", 1e6, 1e12),
        ("brainy_rps", 0.001, 1e6),
        ("brainy_cluster_nodes", 2.0, 2.0),
        ("brainy_cluster_nodes_total", 2.0, 2.0),
        ("brainy_cluster_healthy_nodes", 2.0, 2.0),
        ("brainy_cluster_leader_elections_total", 1.0, 1.0),
        ("brainy_cluster_state_replications_total", 1.0, 1e6),
        ("brainy_replication_events_total", 1.0, 1.0),
        ("brainy_replication_lag_seconds{node=\"r\"}", 0.0, 3_600.0),
        ("brainy_heartbeats_total", 1.0, 1e6),
    ] {
        let found = value(&text, name);
        assert!((least..=most).contains(&found), "{name} is {found}");
    }
    // Writers show nothing, so they are behind in nothing.
    assert!(!text.contains("node=\"w\""), "{text}");
    assert!(text.contains("brainy_cluster_writes_total{outcome=\"won\"}"), "{text}");
}
