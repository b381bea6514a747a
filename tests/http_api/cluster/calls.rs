//! What the calls about the cluster take and answer.

use super::{World, endpoint, has_fields, until};
use crate::support::Api;
use axum::body::Body;
use axum::http::{Request, header};
use brainy::base::Code;
use brainy::base::settings::{ReplicationMode, Role};
use serde_json::{Value, json};

const VECTORS: &str = "/v1/collections/things/vectors";

fn one(id: &str) -> Value {
    json!({"vectors": [{"id": id, "vector": [1, 0]}]})
}

fn is_time(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() == 24 && text.ends_with('Z'))
}

/// A cluster whose node `gone` is dead, as the shared config says.
async fn with_a_dead_node() -> (World, Api) {
    let world = World::new();
    world
        .upload(
            r#"{"version": 5, "instances": {"gone": {"role": "reader", "status": "dead",
                "lastHeartbeat": "2026-01-15T10:29:50Z", "endpoint": "http://gone:3000"}}}"#,
        )
        .await;
    let api = world.node("a", Role::Hybrid, |_| {}).await;
    (world, api)
}

#[tokio::test]
async fn status_shows_the_node_its_leader_and_the_cluster() {
    let world = World::new();
    let (writer, reader) = world.pair().await;
    writer.post(VECTORS, one("a")).await.ok();
    reader.post("/v1/collections/things/search", json!({"vector": [1, 0]})).await.ok();
    let status = reader.get("/cluster/status").await.ok();
    has_fields(
        &status,
        &[
            "node",
            "leader",
            "replication",
            "totalNodes",
            "healthyNodes",
            "unhealthyNodes",
            "failover",
            "warnings",
        ],
    );
    let node = &status["node"];
    has_fields(
        node,
        &[
            "id",
            "role",
            "wantedRole",
            "configuredRole",
            "standby",
            "endpoint",
            "status",
            "startTime",
            "uptimeSeconds",
            "version",
        ],
    );
    assert_eq!((&node["id"], &node["role"]), (&json!("r"), &json!("reader")));
    assert_eq!((&node["standby"], &node["status"]), (&json!(false), &json!("active")));
    assert_eq!(node["endpoint"], endpoint("r"));
    assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
    assert!(is_time(&node["startTime"]) && node["uptimeSeconds"].is_f64(), "{node}");
    has_fields(&status["replication"], &["appliedVersions", "lagSeconds"]);
    assert_eq!(status["replication"]["appliedVersions"], json!({"things": 1}));
    assert_eq!(status["failover"], json!({"inProgress": false, "lastAt": null, "count": 0}));
    let counts = ["totalNodes", "healthyNodes", "unhealthyNodes"].map(|name| status[name].as_u64());
    assert_eq!(counts, [Some(2), Some(2), Some(0)]);
    assert_eq!(status["warnings"], json!([]));
    // The first that came leads.
    let leads = |state: &str| json!({"id": "w", "epoch": 1, "state": state});
    assert_eq!(status["leader"], leads("following"));
    assert_eq!(writer.get("/cluster/status").await.ok()["leader"], leads("acting"));
}

#[tokio::test]
async fn any_node_lists_all_of_them_with_what_they_tell() {
    let world = World::new();
    let (writer, reader) = world.pair().await;
    writer.post(VECTORS, one("a")).await.ok();
    let told = async || {
        let nodes = reader.get("/cluster/nodes").await.ok();
        nodes["nodes"][1]["metrics"]["appliedVersions"]["things"] == 1
    };
    until("the writer tells which version it has", told).await;
    let nodes = reader.get("/cluster/nodes").await.ok()["nodes"].take();
    let ids: Vec<&str> =
        nodes.as_array().unwrap().iter().map(|node| node["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["r", "w"]);
    let node = &nodes[1];
    has_fields(
        node,
        &[
            "id",
            "role",
            "configuredRole",
            "wantedRole",
            "standby",
            "status",
            "leader",
            "endpoint",
            "lastHeartbeat",
            "startTime",
            "version",
            "metrics",
        ],
    );
    has_fields(
        &node["metrics"],
        &[
            "vectorCount",
            "cacheHitRate",
            "memoryUsage",
            "requestsPerSecond",
            "averageLatencyMs",
            "errorRate",
            "appliedVersions",
            "residentSegments",
            "lagSeconds",
        ],
    );
    assert_eq!((&node["role"], &node["leader"]), (&json!("writer"), &json!(true)));
    assert!(is_time(&node["lastHeartbeat"]) && is_time(&node["startTime"]), "{node}");
    assert!(node["metrics"]["memoryUsage"].as_u64() > Some(1_000_000), "{node}");
    assert_eq!(reader.get("/cluster/nodes/w").await.ok()["id"], "w");
    let details = reader.get("/cluster/nodes/x%2Fy").await.refused(404, "instance_not_found");
    assert_eq!(details["id"], "x/y");
}

#[tokio::test]
async fn the_shared_config_is_what_stands_in_the_store() {
    let world = World::new();
    let apart = world.apart("b", Role::Reader, |_| {}).await;
    assert_eq!(apart.get("/cluster/config").await.ok()["instances"], json!({}));
    let api = world.node("a", Role::Hybrid, |settings| settings.dimensions = Some(2)).await;
    let config = api.get("/cluster/config").await.ok();
    assert_eq!(config["settings"], json!({"dimensions": 2}));
    assert!(config["version"].as_u64() >= Some(1) && is_time(&config["updated"]), "{config}");
    assert!(config["fault"].is_null());
    let entry = &config["instances"]["a"];
    assert_eq!((&entry["role"], &entry["status"]), (&json!("hybrid"), &json!("active")));
    assert_eq!(entry["endpoint"], endpoint("a"));
    // Who has not joined says what stands in the store.
    let read = apart.get("/cluster/config").await.ok();
    assert_eq!(read["instances"]["a"]["session"], entry["session"]);
}

#[tokio::test]
async fn a_broken_shared_config_is_reported_where_it_is_broken_and_stops_nothing() {
    let world = World::new();
    let (writer, reader) = world.pair().await;
    world.upload("{\n  \"version\": 99,\n  oops\n}").await;
    until("the fault is seen", async || {
        !reader.get("/cluster/config").await.ok()["fault"].is_null()
    })
    .await;
    let config = reader.get("/cluster/config").await.ok();
    let fault = &config["fault"];
    has_fields(fault, &["message", "line", "column", "since"]);
    assert_eq!((&fault["line"], &fault["column"]), (&json!(3), &json!(3)));
    assert_eq!(config["instances"].as_object().unwrap().len(), 2);
    let health = reader.get("/health").await.ok();
    let warned = health["warnings"].as_array().unwrap().iter();
    assert!(warned.clone().any(|text| text.as_str().unwrap().contains("line 3")), "{health}");
    assert_eq!(reader.get("/cluster/health").await.ok()["status"], "degraded");
    writer.post(VECTORS, one("a")).await.ok();
    let details = writer
        .post("/cluster/nodes/r/role", json!({"role": "hybrid"}))
        .await
        .refused(503, "shared_config_invalid");
    assert_eq!((&details["line"], &details["column"]), (&json!(3), &json!(3)));
    let apart = world.apart("b", Role::Reader, |_| {}).await;
    apart.get("/cluster/config").await.refused(503, "shared_config_invalid");
    // Deleted, it is written again.
    world.store.delete(&brainy::store::paths::config("_brainy/config.json")).await.unwrap();
    until("it is sound again", async || {
        let config = apart.get("/cluster/config").await;
        config.status == 200 && config.json()["instances"].as_object().unwrap().len() == 2
    })
    .await;
    until("the fault is gone", async || {
        reader.get("/cluster/config").await.ok()["fault"].is_null()
    })
    .await;
}

#[tokio::test]
async fn the_cluster_is_healthy_degraded_or_unhealthy() {
    let world = World::new();
    let writer = world.node("w", Role::Writer, |_| {}).await;
    let health = writer.get("/cluster/health").await.ok();
    has_fields(
        &health,
        &["status", "totalNodes", "healthyNodes", "unhealthy", "writers", "readers", "warnings"],
    );
    assert_eq!((&health["status"], &health["readers"]), (&json!("unhealthy"), &json!(0)));
    assert!(health["warnings"][0].as_str().unwrap().contains("start a reader"), "{health}");
    let _reader = world.node("r", Role::Reader, |_| {}).await;
    until("both kinds are there", async || {
        writer.get("/cluster/health").await.ok()["status"] == "healthy"
    })
    .await;

    let (_world, api) = with_a_dead_node().await;
    until("it leads", async || api.get("/cluster/status").await.ok()["leader"]["id"] == "a").await;
    let health = api.get("/cluster/health").await.ok();
    assert_eq!((&health["status"], &health["unhealthy"]), (&json!("degraded"), &json!(["gone"])));
    let status = api.get("/cluster/status").await.ok();
    assert_eq!((&status["totalNodes"], &status["unhealthyNodes"]), (&json!(2), &json!(1)));
}

#[tokio::test]
async fn only_a_dead_node_is_removed() {
    let (world, api) = with_a_dead_node().await;
    let details = api.delete("/cluster/nodes/a").await.refused(409, "instance_alive");
    assert_eq!(details["id"], "a");
    api.delete("/cluster/nodes/nobody").await.refused(404, "instance_not_found");
    assert_eq!(api.get("/cluster/nodes/gone").await.ok()["status"], "dead");
    assert_eq!(api.delete("/cluster/nodes/gone").await.ok(), json!({"removed": true}));
    api.get("/cluster/nodes/gone").await.refused(404, "instance_not_found");
    assert!(world.stored().await["instances"]["gone"].is_null());
}

#[tokio::test]
async fn replication_says_how_far_every_reader_has_come() {
    let world = World::new();
    let (writer, reader) = world.pair().await;
    writer.post(VECTORS, one("a")).await.ok();
    reader.post("/v1/collections/things/search", json!({"vector": [1, 0]})).await.ok();
    let stats = reader.get("/cluster/replication/stats").await.ok();
    has_fields(&stats, &["heads", "readers"]);
    let readers = stats["readers"].as_array().unwrap();
    assert_eq!(readers.len(), 1, "{stats}");
    has_fields(&readers[0], &["id", "lagVersions", "lagBytes", "lagSeconds", "collections"]);
    assert_eq!((&readers[0]["id"], &readers[0]["lagVersions"]), (&json!("r"), &json!(0)));
    let shown = json!([
        {"collection": "things", "appliedVersion": 1, "headVersion": 1, "lagBytes": 0}]);
    assert_eq!(readers[0]["collections"], shown);

    let applied = "/cluster/replication/applied?collection=things&minVersion=";
    let answer = reader.get(&format!("{applied}1")).await.ok();
    has_fields(&answer, &["instanceId", "session", "collection", "version"]);
    assert_eq!((&answer["instanceId"], &answer["version"]), (&json!("r"), &json!(1)));
    assert_eq!(answer["collection"], "things");
    reader.get(&format!("{applied}2&waitMs=1")).await.refused(504, "version_timeout");
    writer.get(&format!("{applied}1")).await.refused(403, "write_only_instance");
    reader.get(&format!("{applied}x")).await.refused(400, "invalid_request");
    reader.get(&format!("{applied}1&more=1")).await.refused(400, "invalid_request");
    let other = "/cluster/replication/applied?minVersion=1&collection=";
    reader.get(&format!("{other}Bad")).await.refused(400, "invalid_collection_name");
    // What is not open here cannot be stale.
    assert!(reader.get(&format!("{other}nothing")).await.ok()["version"].is_null());
}

#[tokio::test]
async fn a_synchronous_write_waits_for_every_live_reader() {
    let world = World::new();
    let writer = world
        .node("w", Role::Writer, |settings| settings.replication_mode = ReplicationMode::Sync)
        .await;
    let reader = world.node("r", Role::Reader, |settings| {
        // It finds nothing by itself.
        settings.poll_interval_ms = 3_600_000;
    });
    let reader = reader.await;
    until("the writer knows of the reader", async || {
        writer.get("/cluster/status").await.ok()["totalNodes"] == 2
    })
    .await;
    for id in ["a", "b"] {
        writer.post(VECTORS, one(id)).await.ok();
        if id == "a" {
            // It has nothing open that could be stale, and is not made to open it.
            let status = reader.get("/cluster/status").await.ok();
            assert_eq!(status["replication"]["appliedVersions"], json!({}));
        }
        reader.get(&format!("{VECTORS}/{id}")).await.ok();
    }
    // One that does not answer, and does not tell by its heartbeats either.
    let hasty = world
        .node("h", Role::Writer, |settings| {
            settings.replication_mode = ReplicationMode::Sync;
            settings.replication_timeout_ms = 20;
        })
        .await;
    world.network.0.lock().unwrap().clear();
    let details = hasty.post(VECTORS, one("c")).await.refused(504, "replication_timeout");
    assert_eq!((&details["version"], &details["readers"]), (&json!(3), &json!(["r"])));
}

#[tokio::test]
async fn a_node_leaves_and_joins_again_and_serves_all_the_while() {
    let world = World::new();
    let (writer, reader) = world.pair().await;
    let empty = || Body::empty();
    let call = |path: &str| Request::post(path.to_owned()).body(empty()).unwrap();
    let left = reader.send(call("/cluster/leave")).await.ok();
    assert_eq!(left, json!({"id": "r", "member": false}));
    assert!(world.stored().await["instances"]["r"].is_null());
    assert!(reader.get("/health/live").await.ok()["session"].is_null());
    let status = reader.get("/cluster/status").await.ok();
    assert_eq!((&status["node"]["status"], &status["totalNodes"]), (&json!("left"), &json!(0)));
    assert_eq!(status["leader"], json!({"id": null, "epoch": 0, "state": "vacant"}));
    writer.post(VECTORS, one("a")).await.ok();
    reader.get(&format!("{VECTORS}/a")).await.ok();
    for path in
        ["/cluster/nodes", "/cluster/nodes/r", "/cluster/health", "/cluster/replication/stats"]
    {
        reader.get(path).await.refused(409, "not_a_member");
    }
    reader.send(call("/cluster/leave")).await.refused(409, "not_a_member");
    let role = json!({"role": "hybrid"});
    reader.post("/cluster/nodes/r/role", role).await.refused(409, "not_a_member");
    reader.delete("/cluster/nodes/w").await.refused(409, "not_a_member");

    for _ in 0..2 {
        let joined = reader.send(call("/cluster/join")).await.ok();
        assert_eq!(joined, json!({"id": "r", "member": true}));
    }
    let live = reader.get("/health/live").await.ok();
    assert_eq!(live["session"], world.stored().await["instances"]["r"]["session"]);
    // What a web page may send to any site without asking takes nobody out of a cluster.
    let forged = Request::post("/cluster/leave").header(header::ORIGIN, "http://elsewhere");
    reader.send(forged.body(empty()).unwrap()).await.refused(403, "origin_not_allowed");
    // One that nobody serves has no place that others could reach.
    let embedded = world.apart("e", Role::Hybrid, |_| {}).await;
    embedded.send(call("/cluster/join")).await.refused(409, "not_a_member");
}

#[tokio::test]
async fn an_id_that_is_in_use_and_other_settings_are_refused() {
    let world = World::new();
    let _first = world.node("a", Role::Hybrid, |settings| settings.dimensions = Some(384)).await;
    let join = || Request::post("/cluster/join").body(Body::empty()).unwrap();
    let twin = world.apart("a", Role::Hybrid, |_| {}).await;
    assert_eq!(world.join(&twin).await.unwrap_err().code(), Code::InstanceIdInUse);
    assert_eq!(twin.send(join()).await.refused(409, "instance_id_in_use")["id"], "a");
    let other = world.apart("b", Role::Hybrid, |settings| settings.dimensions = Some(3)).await;
    assert_eq!(world.join(&other).await.unwrap_err().code(), Code::SettingsConflict);
    let details = other.send(join()).await.refused(409, "settings_conflict");
    let conflict = json!([{"field": "dimensions", "here": 3, "cluster": 384}]);
    assert_eq!(details["conflicts"], conflict);
}

#[tokio::test]
async fn roles_are_checked() {
    let world = World::new();
    let api = world.node("a", Role::Hybrid, |_| {}).await;
    let role = "/cluster/nodes/a/role";
    for body in [json!({"role": "boss"}), json!({}), json!({"role": "writer", "at": "once"})] {
        api.post(role, body).await.refused(400, "invalid_request");
    }
    let unknown = api.post("/cluster/nodes/nobody/role", json!({"role": "writer"})).await;
    assert_eq!(unknown.refused(404, "instance_not_found")["id"], "nobody");
    let text = Request::post(role).header(header::CONTENT_TYPE, "text/plain");
    let text = text.body(Body::from("{\"role\": \"writer\"}")).unwrap();
    api.send(text).await.refused(415, "unsupported_media_type");
    api.get(role).await.refused(405, "method_not_allowed");
    assert!(world.stored().await["instances"]["a"]["wantedRole"].is_null());
}
