//! Query parameters: no call passes one over that it does not take.

use crate::support::Api;
use axum::body::Body;
use axum::http::{Request, header};
use serde_json::Value;

#[tokio::test]
async fn a_parameter_that_a_call_does_not_take_is_an_error_in_every_call() {
    let api = Api::things().await;
    let description: Value = serde_json::from_str(&brainy::api::openapi_json().unwrap()).unwrap();
    let mut calls = 0;
    for (path, item) in description["paths"].as_object().unwrap() {
        if !["/v1/", "/cluster/"].iter().any(|start| path.starts_with(start)) {
            continue;
        }
        let filled = path.replace("{collection}", "things").replace("{id}", "a");
        let filled = filled.replace("{key}", "k");
        for method in ["get", "post", "put", "delete"] {
            if item.get(method).is_none() {
                continue;
            }
            let request = Request::builder()
                .method(method.to_uppercase().as_str())
                .uri(format!("{filled}?surprise=1"))
                .header(header::CONTENT_TYPE, "application/json");
            let answer = api.send(request.body(Body::from("{}")).unwrap()).await;
            answer.refused(400, "invalid_request");
            let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(message.contains("\"surprise\""), "{method} {path}: {message}");
            calls += 1;
        }
    }
    assert!(calls > 25, "{calls}");
    api.get("/v1/collections/things/vectors/fetch?x=1").await.refused(400, "invalid_request");
    // Those that are known are taken, also encoded.
    api.get("/v1/collections/things/vectors?l%69mit=1").await.ok();
    api.get("/v1/collections/things/vectors/a").await.ok();
    assert_eq!(api.get("/health/live?from=balancer").await.status, 200);
}
