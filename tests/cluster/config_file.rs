//! People who lay hands on the shared config.

use crate::cluster::{CONFIG, Cluster, Node, PATIENCE, until};
use crate::load::Load;
use crate::sampler::Sampler;
use serde_json::Value;
use std::collections::BTreeSet;

struct Scene {
    cluster: Cluster,
    writer: Node,
    reader: Node,
    load: Load,
    sampler: Sampler,
}

/// A cluster under load.
async fn scene() -> Scene {
    let cluster = Cluster::new();
    let writer = cluster.start("writer", "writer-1").await;
    let reader = cluster.start("reader", "reader-1").await;
    writer.sees(2).await;
    reader.sees(2).await;
    let mut load = Load::new(&cluster.http);
    load.add("client", &[&writer.url]);
    load.goes_on(3).await;
    let sampler = Sampler::start(&cluster.http, &[&writer, &reader]);
    Scene { cluster, writer, reader, load, sampler }
}

impl Scene {
    async fn config(&self) -> Option<Value> {
        serde_json::from_slice(&self.cluster.store.download(CONFIG).await?).ok()
    }

    async fn version(&self) -> u64 {
        self.config().await.expect("it is there")["version"].as_u64().expect("a version")
    }

    /// Waits until a sound config of a later version than `version` lists exactly the two nodes.
    async fn is_written_again(&self, version: u64) -> Value {
        until("the shared config is sound again", PATIENCE, async || {
            let config = self.config().await?;
            let ids: Vec<&String> = config["instances"].as_object()?.keys().collect();
            let whole = ids == ["reader-1", "writer-1"];
            (config["version"].as_u64() > Some(version) && whole).then_some(config)
        })
        .await
    }

    async fn ends_well(self) {
        self.load.goes_on(3).await;
        for node in [&self.writer, &self.reader] {
            until("all have taken up the sound config", PATIENCE, async || {
                let (status, config) = node.get("/cluster/config").await;
                (status == 200 && config["fault"].is_null()).then_some(())
            })
            .await;
            assert_eq!(node.get("/health").await.0, 200);
        }
        assert_eq!(self.sampler.dead(), BTreeSet::new(), "both lived all the time");
        self.sampler.check_leaders();
        self.load.check(&self.reader, &self.cluster.store).await;
    }
}

#[tokio::test]
async fn a_deleted_config_is_written_again() {
    let scene = scene().await;
    scene.reader.order("reader-1", "reader").await;
    for node in [&scene.writer, &scene.reader] {
        until("both know of the order", PATIENCE, async || {
            let (_, ordered) = node.get("/cluster/nodes/reader-1").await;
            (ordered["wantedRole"] == "reader").then_some(())
        })
        .await;
    }
    let version = scene.version().await;
    scene.cluster.store.remove(CONFIG).await;
    scene.load.goes_on(3).await;
    let config = scene.is_written_again(version).await;
    assert_eq!(config["instances"]["reader-1"]["wantedRole"], "reader", "nothing was forgotten");
    scene.ends_well().await;
}

#[tokio::test]
async fn a_broken_config_is_reported_with_its_place_and_nothing_stops() {
    let scene = scene().await;
    let version = scene.version().await;
    let sound = scene.cluster.store.download(CONFIG).await.expect("it is there");
    // A comma too many, as it happens: the JSON ends to be one in the next line.
    let text = String::from_utf8(sound.clone()).expect("it is text");
    let broken = text.replacen("\"settings\": {", "\"settings\": {,", 1);
    assert_ne!(broken, text);
    let line = broken.lines().position(|line| line.contains("{,")).expect("it is in there") + 1;
    scene.cluster.store.upload(CONFIG, broken.clone().into_bytes()).await;

    for node in [&scene.writer, &scene.reader] {
        let fault = until("the fault is told", PATIENCE, async || {
            let fault = node.get("/cluster/config").await.1["fault"].take();
            fault.is_object().then_some(fault)
        })
        .await;
        assert_eq!(fault["line"], line, "{fault}");
        assert!(fault["column"].as_u64() > Some(0), "{fault}");
        let place = format!("line {line} column {}", fault["column"]);
        let (status, health) = node.get("/health").await;
        assert_eq!(status, 200, "{health}");
        assert!(health["warnings"].to_string().contains(&place), "{health}");
        // What was in force stays so.
        assert!(node.get("/cluster/config").await.1["instances"]["writer-1"].is_object());
    }
    // For longer than it takes to be counted as dead, heartbeats get through beside it.
    let beats = async || {
        let nodes = scene.reader.nodes().await;
        let node = nodes.iter().find(|node| node["id"] == "writer-1").expect("it is listed");
        node["lastHeartbeat"].as_str().expect("a time").to_owned()
    };
    let first = beats().await;
    for _ in 0..6 {
        let last = beats().await;
        until("the writer's heartbeat gets through", PATIENCE, async || {
            (beats().await != last).then_some(())
        })
        .await;
    }
    assert!(beats().await > first);
    // Instances come and go as ever.
    let third = scene.cluster.start("reader", "reader-2").await;
    for node in [&scene.writer, &scene.reader, &third] {
        node.sees(3).await;
    }
    third.terminate();
    scene.writer.sees(2).await;
    scene.reader.sees(2).await;
    scene.load.goes_on(3).await;
    let stands = scene.cluster.store.download(CONFIG).await.expect("it is there");
    assert_eq!(stands, broken.into_bytes(), "what a person has to repair is left alone");

    let repaired = text.replacen("\"settings\": {", "\"team\": \"search\", \"settings\": {", 1);
    scene.cluster.store.upload(CONFIG, repaired.into_bytes()).await;
    let config = scene.is_written_again(version).await;
    assert_eq!(config["team"], "search", "what the person added is kept");
    scene.ends_well().await;
}

#[tokio::test]
async fn an_old_copy_that_is_uploaded_turns_nothing_back_but_what_people_steer() {
    let scene = scene().await;
    let old = scene.cluster.store.download(CONFIG).await.expect("it is there");
    // Since then: a role was asked for, a node came, and time went by.
    scene.reader.order("reader-1", "hybrid").await;
    let third = scene.cluster.start("reader", "reader-2").await;
    scene.writer.sees(3).await;
    let version = scene.version().await;
    scene.cluster.store.upload(CONFIG, old).await;
    let config = until("the newest state is written again", PATIENCE, async || {
        let config = scene.config().await?;
        let listed = config["instances"]["reader-2"].is_object();
        (config["version"].as_u64() > Some(version) && listed).then_some(config)
    })
    .await;
    assert_eq!(config["instances"]["reader-1"]["wantedRole"], Value::Null, "as in the copy");
    scene.writer.sees(3).await;
    third.terminate();
    scene.writer.sees(2).await;
    drop(third);
    scene.ends_well().await;
}
