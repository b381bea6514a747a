//! Limits, health and metrics of the whole router.

use crate::support::{Api, memory};
use axum::http::{Request, header};
use brainy::base::settings::Role;
use serde_json::json;

const VECTORS: &str = "/v1/collections/things/vectors";

#[tokio::test]
async fn bodies_past_the_limit_are_refused_before_and_after_decompression() {
    let api = Api::with(memory(), Role::Hybrid, |settings| settings.max_body_bytes = 1_024).await;
    let padded = |length: usize| {
        let body = json!({"vectors": [{"id": "a", "vector": [1, 1]}]}).to_string();
        format!("{body:length$}")
    };
    api.post_text(VECTORS, padded(1_024)).await.ok();
    let details = api.post_text(VECTORS, padded(1_025)).await.refused(413, "payload_too_large");
    assert_eq!(details["maxBytes"], 1_024);
    let declared = Request::post(VECTORS).header(header::CONTENT_LENGTH, 1_025);
    let answer = api.send(declared.body(axum::body::Body::empty()).unwrap()).await;
    answer.refused(413, "payload_too_large");

    // 9 bytes of zstd that say: one block of 100,000 spaces.
    let bomb = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58, 0x03, 0x35, 0x0c, 0x20];
    let request = Request::post(VECTORS).header(header::CONTENT_ENCODING, "zstd");
    let answer = api.send(request.body(bomb.to_vec().into()).unwrap()).await;
    answer.refused(413, "payload_too_large");
    // Import has no limit of its own.
    let lines = format!("{}\n", padded(0)).replace("{\"vectors\":[", "").replace("]}\n", "\n");
    let many = lines.repeat(100);
    assert!(many.len() > 1_024);
    let report = api.post_text("/v1/collections/things/import", many).await.ok();
    assert_eq!(report["imported"], 100, "{report}");
}

#[tokio::test]
async fn health_has_the_documented_shape() {
    let api = Api::things().await;
    for _ in 0..3 {
        api.post("/v1/collections/things/search", json!({"vector": [1, 0]})).await.ok();
    }
    assert_eq!(api.get("/health/live").await.ok()["status"], "alive");
    assert_eq!(api.get("/health/ready").await.ok()["status"], "ready");
    let health = api.get("/health").await.ok();
    assert_eq!((&health["status"], &health["role"]), (&json!("healthy"), &json!("hybrid")));
    assert_eq!(health["instanceId"], api.brainy.instance_id());
    assert!(health["uptime"].is_f64() && health["warnings"] == json!([]));
    let metrics = &health["metrics"];
    assert_eq!(metrics["vectorCount"], api.brainy.env().metrics.vector_count.get());
    assert!(metrics["cacheHitRate"].is_null(), "no segment was asked for");
    assert!(metrics["memoryUsageMB"].as_f64() > Some(1.0));
    assert!(metrics["requestsPerSecond"].as_f64() > Some(0.0));
    assert!(metrics["averageLatencyMs"].as_f64() > Some(0.0));
    assert_eq!((&metrics["errorRate"], &metrics["cpuUsagePercent"]), (&json!(0.0), &json!(0.0)));

    let text = String::from_utf8(api.get("/metrics").await.bytes).unwrap();
    let line = r#"brainy_http_request_seconds_count{route="/v1/collections/{collection}/search",method="POST"} 3"#;
    assert!(text.contains(line), "{text}");
    let line = r#"brainy_http_requests_total{route="/v1/collections/{collection}/search",method="POST",status="200"} 3"#;
    assert!(text.contains(line), "{text}");
}

#[tokio::test]
async fn a_panicked_task_makes_the_instance_unhealthy() {
    let api = Api::open().await;
    let _ = api.brainy.env().tasks.spawn("bad", async { panic!("on purpose") }).await;
    assert_eq!(api.get("/health/live").await.status, 503);
    assert_eq!(api.get("/health/ready").await.status, 503);
    let health = api.get("/health").await;
    assert_eq!((health.status, &health.json()["status"]), (500, &json!("unhealthy")));
}

#[tokio::test]
async fn an_instance_that_shuts_down_is_alive_but_not_ready() {
    let api = Api::open().await;
    assert_eq!(api.get("/health/ready").await.status, 200);
    api.brainy.env().tasks.stopping().cancel();
    assert_eq!(api.get("/health/live").await.status, 200);
    let ready = api.get("/health/ready").await;
    assert_eq!((ready.status, ready.json()["warnings"].as_array().unwrap().len()), (503, 1));
    let health = api.get("/health").await;
    assert_eq!((health.status, &health.json()["status"]), (503, &json!("degraded")));
}
