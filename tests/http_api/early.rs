//! Answers that come while the client still sends: they arrive, whoever gave them.
//!
//! The clients here send all of a body before they read, as those of Python and Go do.

use crate::support::{Api, memory};
use brainy::base::settings::Role;
use brainy::base::tasks::Tasks;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// More than the buffers of both sides hold.
const BODY_BYTES: usize = 48 << 20;

/// Sends a head and so many bytes behind it, and then reads the answer.
fn told(address: SocketAddr, head: &str, bytes: usize) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(head.as_bytes())?;
    let piece = [b'x'; 64 << 10];
    for _ in 0..bytes / piece.len() {
        stream.write_all(&piece)?;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn post(path: &str, more: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{more}\
         content-length: {BODY_BYTES}\r\n\r\n"
    )
}

/// A connection that has sent so much, and is about to send more.
async fn begun(address: SocketAddr, head: &str) -> tokio::net::TcpStream {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    if head.contains("100-continue") {
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).await.unwrap();
        assert!(go_on.starts_with(b"HTTP/1.1 100"), "{}", go_on.escape_ascii());
    }
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_before_the_body_has_arrives_all_the_same() {
    let api = Api::with(memory(), Role::Hybrid, |settings| {
        settings.max_body_bytes = 1 << 20;
        settings.max_concurrent_requests = 2;
        settings.max_connections = 3;
    })
    .await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let serving = brainy::api::serve(api.brainy.clone(), listener, stop.clone());
    let served = api.brainy.env().tasks.spawn("server", serving);
    let vectors = "/v1/collections/things/vectors";
    let chunked = format!(
        "POST {vectors} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n{BODY_BYTES:x}\r\n"
    );
    let typed = post(vectors, "").replace("application/json", "image/png");
    let mut cases = vec![
        ("413", "payload_too_large", post(vectors, "")),
        ("413", "payload_too_large", chunked),
        ("415", "unsupported_media_type", typed),
        ("415", "unsupported_media_type", post(vectors, "content-encoding: br\r\n")),
        ("404", "route_not_found", post("/v1/nowhere", "")),
        ("400", "invalid_collection_name", post("/v1/collections/NO/vectors", "")),
        ("405", "method_not_allowed", post("/health", "")),
    ];
    let mut held = Vec::new();
    let told_in_time = async |cases: Vec<(&'static str, &'static str, String)>| {
        for (status, code, head) in cases {
            let answer = Tasks::blocking(move || told(address, &head, BODY_BYTES)).await;
            let answer = answer.unwrap_or_else(|error| panic!("{status} {code}: {error}"));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
            assert!(answer.contains(code), "{answer}");
        }
    };
    told_in_time(std::mem::take(&mut cases)).await;
    // An import that holds the only place of its kind; then a write beside it, which leaves no place at all.
    let import = "/v1/collections/things/import";
    for (busy, path) in [(import, import), (vectors, vectors)] {
        let small = post(busy, "expect: 100-continue\r\n").replace(&BODY_BYTES.to_string(), "1000");
        held.push(begun(address, &small).await);
        told_in_time(vec![("503", "overloaded", post(path, ""))]).await;
    }
    // One more than there may be connections.
    held.push(begun(address, "GET").await);
    told_in_time(vec![("503", "overloaded", post(vectors, ""))]).await;
    drop(held);
    stop.cancel();
    served.await.unwrap();
}
