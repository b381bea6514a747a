//! Spans and log lines reach an OpenTelemetry collector. For builds with the feature `otlp`.
#![cfg(feature = "otlp")]

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// A request as it came.
struct Got {
    path: String,
    kind: String,
    body: Vec<u8>,
}

type Inbox = Arc<Mutex<Vec<Got>>>;

/// A collector that keeps what it gets, and its URL.
async fn collector() -> (Inbox, String) {
    async fn take(
        State(inbox): State<Inbox>,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> StatusCode {
        let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok());
        let (path, kind) = (uri.path().to_owned(), kind.unwrap_or_default().to_owned());
        inbox.lock().unwrap().push(Got { path, kind, body: body.to_vec() });
        StatusCode::OK
    }
    let inbox = Inbox::default();
    let router = Router::new().fallback(take).with_state(inbox.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let tasks = brainy::base::tasks::Tasks::default();
    tasks.spawn("collector", async move { axum::serve(listener, router).await });
    (inbox, url)
}

/// A server, killed when the test ends.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn contains(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|part| part == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_and_log_lines_reach_a_collector() {
    let (inbox, collector) = collector().await;
    let endpoint = format!("otlp_endpoint={collector}/");
    let serve = ["serve", "--store", "memory:", "--listen", "127.0.0.1:0", "--instance-id", "n-17"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_brainy"));
    command.args(serve).args(["--set", &endpoint]);
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut server = Server(spawned.unwrap());
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(format!("{url}/v1/collections/nothing")).send().await.unwrap();
    assert_eq!(answer.status(), 404);
    let pid = server.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    // It sends what is left before it ends.
    assert_eq!(server.0.wait().unwrap().code(), Some(0));

    let inbox = inbox.lock().unwrap();
    assert!(inbox.iter().all(|got| got.kind == "application/x-protobuf"));
    // Strings stand in protobuf as they are.
    let sent = |path: &str, text: &str| {
        inbox.iter().any(|got| got.path == path && contains(&got.body, text))
    };
    for text in ["GET /v1/collections/{collection}", "service.name", "n-17", "collection_not_found"]
    {
        assert!(sent("/v1/traces", text), "{text} is in no span");
    }
    for text in ["role detected", "starting"] {
        assert!(sent("/v1/logs", text), "{text} is in no log line");
    }
    assert!(!inbox.iter().any(|got| contains(&got.body, "hyper_util")), "its own client's lines");
}
