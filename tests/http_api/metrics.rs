//! Figures for Prometheus: in the format that was asked for, of what is under way, of the largest collections.

use crate::support::{Answer, Api};
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use serde_json::json;
use tower::ServiceExt;

async fn scrape(api: &Api, accept: &str) -> Answer {
    let request = Request::get("/metrics").header(header::ACCEPT, accept);
    api.send(request.body(Body::empty()).unwrap()).await
}

fn text(answer: &Answer) -> &str {
    std::str::from_utf8(&answer.bytes).unwrap()
}

#[tokio::test]
async fn a_scraper_gets_the_media_type_that_it_asks_for() {
    let api = Api::things().await;
    let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let plain = "text/plain; version=0.0.4; charset=utf-8";
    let newest = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                  text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    for (accept, kind, end) in [
        ("*/*", plain, "\n"),
        ("text/plain", plain, "\n"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", plain, "\n"),
        ("application/openmetrics-text", open, "\n# EOF\n"),
        (newest, open, "\n# EOF\n"),
    ] {
        let answer = scrape(&api, accept).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers[header::CONTENT_TYPE], kind, "{accept}");
        assert!(answer.headers.get_all(header::VARY).iter().any(|vary| vary == "accept"));
        let text = text(&answer);
        assert!(text.ends_with(end), "{accept}");
        assert_eq!(text.contains("# EOF"), kind == open);
        let counter = if kind == open { "brainy_searches" } else { "brainy_searches_total" };
        assert!(
            text.contains(&format!("\n# TYPE {counter} counter\nbrainy_searches_total ")),
            "{text}"
        );
    }
    assert_eq!(api.get("/metrics").await.headers[header::CONTENT_TYPE], plain, "who says nothing");
}

#[tokio::test]
async fn requests_are_under_way_until_their_answer_is_sent() {
    let api = Api::things().await;
    let in_flight = || api.brainy.env().metrics.http_in_flight.get();
    assert_eq!(in_flight(), 0);
    let request = Request::get("/v1/collections/things/export").body(Body::empty()).unwrap();
    let response = api.router.clone().oneshot(request).await.unwrap();
    assert_eq!(in_flight(), 1, "an export that nobody has taken yet");
    to_bytes(response.into_body(), usize::MAX).await.unwrap();
    assert_eq!(in_flight(), 0);
    // The question itself counts.
    let answer = api.get("/metrics").await;
    assert!(text(&answer).contains("\nbrainy_http_requests_in_flight 1\n"));
}

#[tokio::test]
async fn the_largest_collections_have_figures() {
    let api = Api::things().await;
    api.post("/v1/collections/things/compact", json!({})).await.ok();
    let more = json!({"vectors": [{"id": "d", "vector": [1, 1]}, {"id": "a", "vector": [1, 1]}]});
    api.post("/v1/collections/things/vectors", more).await.ok();
    let search = json!({"vector": [1, 0], "consistency": "strong"});
    api.post("/v1/collections/things/search", search).await.ok();
    let stats = api.get("/v1/collections/things/stats").await.ok();
    let answer = api.get("/metrics").await;
    let value = |name: &str| {
        let start = format!("brainy_collection_{name}{{collection=\"things\"}} ");
        let line = text(&answer).lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("{start} is not in {}", text(&answer)))
            .parse::<u64>()
            .unwrap()
    };
    assert_eq!(value("records"), 4);
    assert_eq!((value("segments"), stats["segments"].as_u64()), (1, Some(1)));
    assert_eq!(value("tail_rows"), stats["tail"]["rows"].as_u64().unwrap());
    assert_eq!(value("unindexed_bytes"), stats["tail"]["storedBytes"].as_u64().unwrap());
    assert!(value("tail_rows") >= 2, "{stats}");
    assert_eq!(value("segment_bytes"), stats["segmentBytes"].as_u64().unwrap());
}
