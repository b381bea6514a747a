//! What clients and operators hear of objects that are missing or damaged, and of metadata that cannot be kept.

use crate::support::{Api, memory};
use brainy::base::ids::{CollectionName, Seq};
use brainy::base::settings::Role;
use brainy::store::paths;
use serde_json::json;

const THINGS: &str = "/v1/collections/things";

#[tokio::test]
async fn a_gap_in_the_log_is_in_health_errors_metrics_and_answers() {
    let store = memory();
    let unindexed =
        |settings: &mut brainy::base::settings::Settings| settings.index_enabled = false;
    let writer = Api::with(store.clone(), Role::Writer, unindexed).await;
    for id in ["a", "b", "c", "d"] {
        let body = json!({"vectors": [{"id": id, "vector": [1, 0]}]});
        writer.post(&format!("{THINGS}/vectors"), body).await.ok();
    }
    let key = paths::wal_entry(&CollectionName::new("things").unwrap(), Seq(3));
    store.delete(&key).await.unwrap();
    let api = Api::with(store.clone(), Role::Hybrid, unindexed).await;
    let searching = json!({"vector": [1, 0], "k": 10});
    let found = api.post(&format!("{THINGS}/search"), searching.clone()).await.ok();
    assert_eq!((found["results"].as_array().unwrap().len(), &found["partial"]), (2, &json!(true)));
    let damaged = json!({"kind": "logEntry", "key": key.as_str(), "position": 3,
        "fault": "it is missing, and the log goes on behind it"});
    assert_eq!(found["damaged"], json!([damaged]));
    assert!(found["stats"]["ageMs"].as_f64().is_some());
    let batch = json!({"searches": [searching]});
    let batch = api.post(&format!("{THINGS}/search/batch"), batch).await.ok();
    assert_eq!(batch["partial"], true);
    let strong = json!({"vector": [1, 0], "k": 10, "consistency": "strong"});
    let details = api.post(&format!("{THINGS}/search"), strong).await.refused(503, "log_damaged");
    assert_eq!((&details["key"], &details["position"]), (&json!(key.as_str()), &json!(3)));
    let body = json!({"vectors": [{"id": "e", "vector": [1, 0]}]});
    let details = api.post(&format!("{THINGS}/vectors"), body).await.refused(503, "log_damaged");
    assert_eq!(details["key"], json!(key.as_str()));
    api.get(&format!("{THINGS}/vectors/d")).await.refused(503, "log_damaged");
    let page = api.get(&format!("{THINGS}/vectors")).await.ok();
    assert_eq!((page["vectors"].as_array().unwrap().len(), &page["partial"]), (2, &json!(true)));
    let fetch = json!({"ids": ["a", "d"]});
    assert_eq!(api.post(&format!("{THINGS}/vectors/fetch"), fetch).await.ok()["partial"], true);
    let export = api.get(&format!("{THINGS}/export")).await;
    assert_eq!(export.headers["x-brainy-partial"], "true");
    assert_eq!(api.get(&format!("{THINGS}/stats")).await.ok()["damaged"], json!([damaged]));

    let health = api.get("/health").await;
    assert_eq!((health.status, &health.json()["status"]), (503, &json!("degraded")));
    assert!(health.json()["warnings"].to_string().contains(key.as_str()));
    assert_eq!(api.get("/health/live").await.status, 200);
    let metrics = String::from_utf8(api.get("/metrics").await.bytes).unwrap();
    assert!(metrics.contains(r#"brainy_damaged{kind="logEntry"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"brainy_damage_found_total{kind="logEntry"} 1"#), "{metrics}");
}

#[tokio::test]
async fn an_answer_that_is_whole_does_not_speak_of_it() {
    let api = Api::things().await;
    for path in ["/vectors", "/vectors/a"] {
        let answer = api.get(&format!("{THINGS}{path}")).await.ok();
        assert!(answer.get("partial").is_none() && answer.get("damaged").is_none(), "{answer}");
    }
    let answer = api.post(&format!("{THINGS}/search"), json!({"vector": [1, 0]})).await.ok();
    assert!(answer.get("partial").is_none() && answer.get("damaged").is_none(), "{answer}");
    assert_eq!(api.get(&format!("{THINGS}/stats")).await.ok()["damaged"], json!([]));
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused_wherever_it_is_sent() {
    let api = Api::things().await;
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(127), "]".repeat(127));
    for bad in [r#"{"t": "\ud83d"}"#, r#"{"n": 1e999}"#, r#"{"\udc00": 1}"#, &deep] {
        let rows =
            format!(r#"{{"vectors": [{{"id": "x", "vector": [1, 0], "metadata": {bad}}}]}}"#);
        let columns =
            format!(r#"{{"columns": {{"ids": ["x"], "vectors": [1, 0], "metadata": [{bad}]}}}}"#);
        for body in [rows, columns] {
            let answer = api.post_text(&format!("{THINGS}/vectors"), body).await;
            assert_eq!(answer.refused(400, "invalid_metadata")["id"], "x");
        }
        let line = format!("{{\"id\": \"x\", \"vector\": [1, 0], \"metadata\": {bad}}}\n");
        let import = axum::http::Request::post(format!("{THINGS}/import"))
            .header("content-type", "application/x-ndjson")
            .body(line.into())
            .unwrap();
        let report = api.send(import).await.refused(400, "invalid_request");
        assert_eq!(
            (&report["failed"], &report["errors"][0]["code"]),
            (&json!(1), &json!("invalid_metadata"))
        );
        // Its brothers: texts, ids and filters hold whole characters, too.
        let filter = format!(r#"{{"filter": {bad}}}"#);
        api.post_text(&format!("{THINGS}/vectors/delete"), filter)
            .await
            .refused(400, "invalid_filter");
    }
    for part in [r#""text": "\ud83d""#, r#""id": "\ud83d""#] {
        let body = format!(r#"{{"vectors": [{{"vector": [1, 0], {part}}}]}}"#);
        api.post_text(&format!("{THINGS}/vectors"), body).await.refused(400, "invalid_request");
    }
    api.get(&format!("{THINGS}/vectors/x")).await.refused(404, "vector_not_found");
}
