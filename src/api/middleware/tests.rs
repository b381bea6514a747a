//! The layers around routes of our own making.

use super::*;
use crate::base::clock::{SystemClock, VirtualClock};
use crate::base::metrics::TextFormat;
use crate::base::{Clock, Timestamp};
use axum::body::{Body, to_bytes};
use axum::http::HeaderMap;
use axum::routing::{get, post};
use futures::StreamExt;
use serde_json::Value;
use tokio::sync::Notify;
use tower::ServiceExt;

const BODY_IDLE: Duration = Duration::from_secs(30);

fn env() -> Env {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let clock = Arc::new(VirtualClock::starting_at(Timestamp(clock.now().0)));
    Env::deterministic(7, clock)
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn code(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/json");
        assert!(body["error"]["message"].is_string() && body["error"]["details"].is_object());
        body["error"]["code"].as_str().unwrap().to_owned()
    }
}

async fn ask(
    router: &Router,
    request: axum::http::request::Builder,
    body: impl Into<Body>,
) -> Answer {
    let response = router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: to_bytes(body, usize::MAX).await.unwrap().to_vec(),
    }
}

fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path)
}

fn observed(router: Router) -> (Router, Env) {
    let env = env();
    let door = Door::new(&crate::base::settings::Settings::default(), None);
    (outer(router, Observer::new(env.clone(), 1_000), door), env)
}

#[tokio::test]
async fn errors_of_the_router_have_our_form() {
    let (router, env) = observed(Router::new().route("/v1/x/{id}", get(async || "x")));
    let answer = ask(&router, request("GET", "/nowhere"), "").await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "route_not_found"));
    let answer = ask(&router, request("DELETE", "/v1/x/1"), "").await;
    assert_eq!((answer.status, answer.code().as_str()), (405, "method_not_allowed"));
    assert_eq!(answer.headers[header::ALLOW], "GET,HEAD");

    assert_eq!(ask(&router, request("GET", "/v1/x/1"), "").await.status, 200);
    assert_eq!(env.metrics.traffic.summary().requests, 2, "only calls of /v1 count");
    let text = env.metrics.encode(TextFormat::Prometheus);
    let line = r#"brainy_http_requests_total{route="/v1/x/{id}",method="GET",status="200"} 1"#;
    assert!(text.contains(line), "{text}");
    assert!(text.contains(r#"route="unmatched",method="GET",status="404""#), "{text}");
    let line = r#"brainy_http_request_seconds_count{route="/v1/x/{id}",method="GET"} 1"#;
    assert!(text.contains(line), "{text}");
    assert!(!text.contains("/v1/x/1") && !text.contains("nowhere"), "never the path itself");
    assert_eq!(env.metrics.http_in_flight.get(), 0);
}

#[tokio::test]
async fn request_ids_are_kept_or_made() {
    let (router, ..) = observed(Router::new().route("/", get(async || "x")));
    let answer = ask(&router, request("GET", "/").header("x-request-id", "mine"), "").await;
    assert_eq!(answer.headers["x-request-id"], "mine");
    let first = ask(&router, request("GET", "/gone"), "").await.headers["x-request-id"].clone();
    let second = ask(&router, request("GET", "/"), "").await.headers["x-request-id"].clone();
    assert!(first != second && first.len() == 36, "{first:?} {second:?}");
}

#[tokio::test]
async fn a_panic_is_an_internal_error() {
    let panics = get(async || -> &'static str { panic!("on purpose") });
    let (router, env) = observed(Router::new().route("/v1/", panics));
    let answer = ask(&router, request("GET", "/v1/"), "").await;
    assert_eq!((answer.status, answer.code().as_str()), (500, "internal"));
    assert!(!String::from_utf8_lossy(&answer.body).contains("on purpose"));
    assert_eq!(env.metrics.traffic.summary().failure_share, 1.0);
}

#[tokio::test]
async fn a_version_that_did_not_come_is_no_failure_of_the_instance() {
    let late = get(async || ApiError(Error::new(Code::VersionTimeout, "not yet")));
    let (router, env) = observed(Router::new().route("/v1/", late));
    assert_eq!(ask(&router, request("GET", "/v1/"), "").await.status, 504);
    let summary = env.metrics.traffic.summary();
    assert_eq!((summary.requests, summary.failure_share), (1, 0.0));
}

#[tokio::test(start_paused = true)]
async fn slow_requests_are_ended_and_writes_called_ambiguous() {
    let forever = || get(std::future::pending::<&str>).post(std::future::pending::<&str>);
    let slow = Router::new()
        .route("/v1/collections/{c}/search", forever())
        .route("/v1/collections/{c}/vectors", forever());
    let (router, ..) = observed(timed(slow, Duration::from_secs(1)));
    let search = ask(&router, request("POST", "/v1/collections/a/search"), "").await;
    assert_eq!((search.status, search.code().as_str()), (504, "request_timeout"));
    assert!(!String::from_utf8_lossy(&search.body).contains("ambiguous"));
    let write = ask(&router, request("POST", "/v1/collections/a/vectors"), "").await;
    assert_eq!(write.code(), "request_timeout");
    assert!(String::from_utf8_lossy(&write.body).contains(r#""ambiguous":true"#));
}

#[tokio::test]
async fn past_the_limit_requests_are_turned_away_over_all_guarded_routes() {
    let (inside, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (entered, leave) = (inside.clone(), go.clone());
    let slow = get(async move || {
        entered.notify_one();
        leave.notified().await;
        "done"
    });
    let guarded = Gate::new(1, BODY_IDLE)
        .guard(Router::new().route("/slow", slow).route("/b", get(async || "b")));
    let (router, ..) = observed(guarded.merge(Router::new().route("/health", get(async || "ok"))));
    let first = ask(&router, request("GET", "/slow"), "");
    let others = async {
        inside.notified().await;
        let refused = ask(&router, request("GET", "/b"), "").await;
        assert_eq!((refused.status, refused.code().as_str()), (503, "overloaded"));
        assert_eq!(refused.headers[header::RETRY_AFTER], "1");
        assert_eq!(ask(&router, request("GET", "/health"), "").await.status, 200);
        go.notify_one();
    };
    let (first, ()) = tokio::join!(first, others);
    assert_eq!(first.body, b"done");
    assert_eq!(ask(&router, request("GET", "/b"), "").await.body, b"b", "the place is free again");
}

#[tokio::test(start_paused = true)]
async fn a_gate_knows_for_how_long_nothing_got_through() {
    let gate = Gate::new(1, BODY_IDLE);
    let slow = get(async || tokio::time::sleep(Duration::from_secs(10)).await);
    let (router, ..) = observed(gate.guard(Router::new().route("/slow", slow)));
    assert_eq!(gate.stuck(), None);
    let asked = ask(&router, request("GET", "/slow"), "");
    let look = async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(gate.stuck(), Some(Duration::from_secs(7)));
    };
    tokio::join!(asked, look);
    assert_eq!(gate.stuck(), None, "it got through after all");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stands_still_ends_its_request() {
    let echo = Router::new().route("/", post(async |body: axum::body::Bytes| body));
    let (router, ..) = observed(Gate::new(8, BODY_IDLE).guard(echo));
    let pieces = |pause: u64| {
        let pieces = futures::stream::iter([0, pause, pause]).then(async |pause| {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            Ok::<_, std::convert::Infallible>("piece")
        });
        Body::from_stream(pieces)
    };
    let slow = ask(&router, request("POST", "/"), pieces(29)).await;
    assert_eq!((slow.status, slow.body.len()), (200, 15));
    let still = ask(&router, request("POST", "/"), pieces(31)).await;
    assert_ne!(still.status, 200);
}

#[tokio::test]
async fn long_answers_are_compressed_for_clients_that_accept_it() {
    let router = Router::new()
        .route("/long", get(async || "x".repeat(1_024)))
        .route("/short", get(async || "x".repeat(1_023)));
    let (router, ..) = observed(router);
    for encoding in ["gzip", "zstd"] {
        let asked = |path| request("GET", path).header(header::ACCEPT_ENCODING, encoding);
        let long = ask(&router, asked("/long"), "").await;
        assert_eq!(long.headers[header::CONTENT_ENCODING], encoding);
        assert!(long.body.len() < 200);
        let short = ask(&router, asked("/short"), "").await;
        assert!(!short.headers.contains_key(header::CONTENT_ENCODING));
    }
    let plain = ask(&router, request("GET", "/long"), "").await;
    assert_eq!(plain.body.len(), 1_024);
}

#[tokio::test]
async fn bodies_are_decompressed_and_unknown_encodings_refused() {
    let echo =
        Gate::new(8, BODY_IDLE).guard(Router::new().route("/", post(async |body: String| body)));
    let (router, ..) = observed(echo);
    // `hello` in the two encodings, by gzip 1.12 and zstd 1.5.
    let gzip: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcbH\xcd\xc9\xc9\x07\0\x86\xa6\x106\x05\0\0\0";
    let zstd: &[u8] = b"\x28\xb5\x2f\xfd\x20\x05\x29\0\0hello";
    for (encoding, bytes) in [("gzip", gzip), ("zstd", zstd), ("identity", b"hello")] {
        let sent = request("POST", "/").header(header::CONTENT_ENCODING, encoding);
        let answer = ask(&router, sent, bytes.to_vec()).await;
        assert_eq!(answer.body, b"hello", "{encoding}");
    }
    let sent = request("POST", "/").header(header::CONTENT_ENCODING, "br");
    let answer = ask(&router, sent, "hello").await;
    assert_eq!((answer.status, answer.code().as_str()), (415, "unsupported_media_type"));
    assert_eq!(answer.headers[header::ACCEPT_ENCODING], "zstd,gzip");
}
