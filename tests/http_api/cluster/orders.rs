//! What an operator asks of a node is done while it runs.

use super::{World, endpoint, until};
use crate::support::Api;
use axum::body::Body;
use axum::http::Request;
use brainy::base::settings::{DistanceMetric, Role};
use serde_json::{Value, json};

const THINGS: &str = "/v1/collections/things";

fn one(id: &str) -> Value {
    json!({"vectors": [{"id": id, "vector": [1, 0]}]})
}

async fn write(api: &Api, id: &str) -> u16 {
    api.post(&format!("{THINGS}/vectors"), one(id)).await.status
}

async fn order(api: &Api, id: &str, role: &str) {
    let answer = api.post(&format!("/cluster/nodes/{id}/role"), json!({ "role": role })).await;
    assert_eq!(answer.ok(), json!({"id": id, "wantedRole": role}));
}

/// Waits until every one of `views` shows `id` in `role`.
async fn shows(views: &[&Api], id: &str, role: &str) {
    for view in views {
        until(&format!("{id} is a {role}"), async || {
            let node = view.get(&format!("/cluster/nodes/{id}")).await.ok();
            (&node["role"], &node["status"]) == (&json!(role), &json!("active"))
        })
        .await;
    }
}

#[tokio::test]
async fn a_reader_is_promoted_and_demoted_while_it_runs() {
    let world = World::new();
    let writer = world.node("w", Role::Writer, |settings| settings.index_enabled = false).await;
    let reader = world
        .node("r", Role::Reader, |settings| {
            (settings.index_interval_ms, settings.index_after_ms) = (10, 0);
        })
        .await;
    until("both are known", async || {
        reader.get("/cluster/status").await.ok()["totalNodes"] == 2
            && writer.get("/cluster/status").await.ok()["totalNodes"] == 2
    })
    .await;
    assert_eq!(write(&writer, "a").await, 200);
    let vectors = format!("{THINGS}/vectors");
    let details = reader.post(&vectors, one("b")).await.refused(403, "read_only_instance");
    assert_eq!(details["writers"], json!([endpoint("w")]));
    let details = writer.get(&vectors).await.refused(403, "write_only_instance");
    assert_eq!(details["readers"], json!([endpoint("r")]));
    let passes = || reader.brainy.env().metrics.index_passes.get();
    assert_eq!(passes(), 0);

    // Asked of any node, it is done by the one that is meant.
    order(&writer, "r", "hybrid").await;
    shows(&[&reader, &writer], "r", "hybrid").await;
    assert_eq!(reader.get("/health").await.ok()["role"], "hybrid");
    assert_eq!(write(&reader, "b").await, 200);
    let indexed = async || {
        let stats = reader.get(&format!("{THINGS}/stats")).await.ok();
        stats["indexedVersion"] == stats["version"] && passes() > 0
    };
    until("a node that writes indexes", indexed).await;

    order(&reader, "r", "reader").await;
    shows(&[&reader, &writer], "r", "reader").await;
    let details = reader.post(&vectors, one("c")).await.refused(403, "read_only_instance");
    assert_eq!(
        (&details["role"], &details["writers"]),
        (&json!("reader"), &json!([endpoint("w")]))
    );
    let before = passes();
    assert_eq!(write(&writer, "c").await, 200);
    let body = json!({"ids": ["a", "b", "c"], "includeVector": false});
    until("it goes on reading", async || {
        let found = reader.post(&format!("{vectors}/fetch"), body.clone()).await.ok();
        found["missing"] == json!([])
    })
    .await;
    // Many of its index intervals later nothing was indexed: upkeep stopped with the role.
    let looks = reader.brainy.env().metrics.heartbeats.get() + 2;
    until("two heartbeats", async || reader.brainy.env().metrics.heartbeats.get() >= looks).await;
    assert_eq!(passes(), before);
    order(&reader, "r", "writer").await;
    shows(&[&reader, &writer], "r", "writer").await;
    until("upkeep goes on with the role", async || passes() > before).await;
    reader.get(&vectors).await.refused(403, "write_only_instance");
    order(&reader, "w", "hybrid").await;
    shows(&[&writer], "w", "hybrid").await;
    let found = writer.post(&format!("{vectors}/fetch"), body).await.ok();
    assert_eq!(found["missing"], json!([]));
}

#[tokio::test]
async fn an_order_holds_after_a_restart_until_the_settings_say_another_role() {
    let world = World::new();
    let leave = || Request::post("/cluster/leave").body(Body::empty()).unwrap();
    let first = world.node("a", Role::Reader, |_| {}).await;
    order(&first, "a", "hybrid").await;
    shows(&[&first], "a", "hybrid").await;
    first.send(leave()).await.ok();
    // It left as a hybrid and comes back as one.
    first.send(Request::post("/cluster/join").body(Body::empty()).unwrap()).await.ok();
    shows(&[&first], "a", "hybrid").await;
    first.send(leave()).await.ok();
    assert!(first.brainy.shutdown().await);

    let again = world.node("a", Role::Reader, |_| {}).await;
    shows(&[&again], "a", "hybrid").await;
    assert_eq!(write(&again, "a").await, 200);
    assert!(again.brainy.shutdown().await);

    let writer = world.node("a", Role::Writer, |_| {}).await;
    shows(&[&writer], "a", "writer").await;
    let node = writer.get("/cluster/nodes/a").await.ok();
    assert!(node["wantedRole"].is_null(), "{node}");
    writer.get(&format!("{THINGS}/vectors/a")).await.refused(403, "write_only_instance");
}

#[tokio::test]
async fn the_last_writer_stays_one_and_an_order_is_shown_and_taken_back() {
    let world = World::new();
    let hybrid = world.node("a", Role::Hybrid, |_| {}).await;
    let role = json!({"role": "reader"});
    let refused = hybrid.post("/cluster/nodes/a/role", role).await;
    assert_eq!(refused.refused(409, "last_writer")["id"], "a");
    let forced = json!({"role": "reader", "force": true});
    hybrid.post("/cluster/nodes/a/role", forced).await.ok();
    shows(&[&hybrid], "a", "reader").await;
    assert!(hybrid.brainy.shutdown().await);

    // The settings say hybrid, and the order counts: everything that shows the role says why.
    let again = world.node("a", Role::Hybrid, |_| {}).await;
    shows(&[&again], "a", "reader").await;
    let both = (json!("reader"), json!("hybrid"));
    let node = again.get("/cluster/nodes/a").await.ok();
    assert_eq!((node["wantedRole"].clone(), node["configuredRole"].clone()), both);
    let status = again.get("/cluster/status").await.ok()["node"].clone();
    assert_eq!((status["wantedRole"].clone(), status["configuredRole"].clone()), both);
    let warnings = again.get("/health").await.ok()["warnings"].to_string();
    assert!(warnings.contains("clear-role a"), "{warnings}");

    let clear = || Request::delete("/cluster/nodes/a/role").body(Body::empty()).unwrap();
    assert_eq!(again.send(clear()).await.ok(), json!({"id": "a", "wantedRole": null}));
    shows(&[&again], "a", "hybrid").await;
    assert_eq!(write(&again, "a").await, 200);
    // Another one that writes makes room.
    let second = world.node("b", Role::Writer, |_| {}).await;
    order(&second, "a", "reader").await;
    second
        .post("/cluster/nodes/b/role", json!({"role": "reader"}))
        .await
        .refused(409, "last_writer");
}

#[tokio::test]
async fn whoever_asks_for_the_cluster_sees_who_is_there_now() {
    let world = World::new();
    let slow = |settings: &mut brainy::base::settings::Settings| {
        (settings.heartbeat_interval_ms, settings.instance_timeout_ms) = (60_000, 120_000);
    };
    let first = world.node("a", Role::Hybrid, slow).await;
    let _second = world.node("b", Role::Reader, slow).await;
    // Long before its next look, which would be in 20 seconds.
    until("it is seen", async || first.get("/cluster/status").await.ok()["totalNodes"] == 2).await;
    assert_eq!(first.get("/cluster/nodes").await.ok()["nodes"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_standby_writes_once_nobody_else_does() {
    let world = World::new();
    let active = world.node("a", Role::Hybrid, |_| {}).await;
    let standby = world.node("s", Role::Hybrid, |settings| settings.standby = true).await;
    until("both are known", async || standby.get("/cluster/status").await.ok()["totalNodes"] == 2)
        .await;
    let refused = standby.post(&format!("{THINGS}/vectors"), one("x")).await;
    let details = refused.refused(403, "read_only_instance");
    assert_eq!(details["writers"], json!([endpoint("a")]));
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("on standby"));
    assert_eq!(standby.get("/health").await.ok()["standby"], true);
    assert_eq!(standby.get("/cluster/nodes/s").await.ok()["standby"], true);
    assert_eq!(write(&active, "a").await, 200);
    standby.get(&format!("{THINGS}/vectors/a")).await.ok();

    active.send(Request::post("/cluster/leave").body(Body::empty()).unwrap()).await.ok();
    until("it steps in", async || write(&standby, "b").await == 200).await;
    until("everybody is told", async || {
        let status = standby.get("/cluster/status").await.ok();
        let stepped_in = status["failover"]["lastAt"].is_string();
        stepped_in
            && status["failover"]["inProgress"] == false
            && status["node"]["standby"] == false
    })
    .await;
    assert_eq!(standby.get("/cluster/nodes/s").await.ok()["standby"], false);
    assert_eq!(world.stored().await["failover"]["count"].as_u64(), Some(1));
}

#[tokio::test]
async fn new_collections_are_as_the_cluster_has_agreed() {
    let world = World::new();
    let _first = world
        .node("a", Role::Writer, |settings| {
            (settings.dimensions, settings.partition_count) = (Some(3), Some(4));
            settings.distance_metric = Some(DistanceMetric::Euclidean);
        })
        .await;
    // It was told nothing and follows what the others agreed on.
    let api = world.node("b", Role::Hybrid, |_| {}).await;
    let config = api.get("/cluster/config").await.ok();
    let agreed = json!({"dimensions": 3, "partitionCount": 4, "distanceMetric": "euclidean"});
    assert_eq!(config["settings"], agreed);
    let vectors = "/v1/collections/other/vectors";
    let details = api.post(vectors, one("a")).await.refused(400, "dimension_mismatch");
    assert_eq!((&details["expected"], &details["found"]), (&json!(3), &json!(2)));
    api.post(vectors, json!({"vectors": [{"vector": [1, 2, 3]}]})).await.ok();
    let made = api.get("/v1/collections/other").await.ok();
    assert_eq!((&made["metric"], &made["partitionCount"]), (&json!("euclidean"), &json!(4)));
    // What a client says counts, and what it leaves open is as agreed.
    let spec = json!({"name": "things", "dimensions": 2, "metric": "dot"});
    for status in [201, 200] {
        let answer = api.post("/v1/collections", spec.clone()).await;
        assert_eq!(answer.status, status);
        let made = answer.json();
        assert_eq!((&made["metric"], &made["partitionCount"]), (&json!("dot"), &json!(4)));
    }
    assert_eq!(write(&api, "a").await, 200);
}
