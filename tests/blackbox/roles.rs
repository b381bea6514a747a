//! Writers write, readers read, and nothing is between them but the store.

use crate::support::instance::Instance;
use crate::support::store::TestStore;
use bytes::Bytes;
use serde_json::{Value, json};
use std::convert::Infallible;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

const VECTORS: &str = "/v1/collections/shared/vectors";
const SEARCH: &str = "/v1/collections/shared/search";

fn error_code(answer: &Value) -> &str {
    answer["error"]["code"].as_str().unwrap_or("none")
}

#[tokio::test]
async fn a_reader_finds_what_a_writer_wrote() {
    let store = TestStore::new();
    let writer = Instance::start(&store, "writer", "writer-1").await;
    let reader = Instance::start(&store, "reader", "reader-1").await;

    let records = json!({"vectors": [
        {"id": "east", "vector": [1.0, 0.0], "metadata": {"side": "right"}},
        {"id": "north", "vector": [0.0, 1.0], "metadata": {"side": "top"}},
    ]});
    let (status, written) = writer.post(VECTORS, &records).await;
    assert_eq!((status, &written["upserted"]), (200, &json!(2)), "{written}");

    let search = json!({"vector": [0.9, 0.1], "k": 1, "minVersion": written["version"],
        "waitMs": 30_000});
    let (status, found) = reader.post(SEARCH, &search).await;
    assert_eq!(status, 200, "{found}");
    assert_eq!(found["results"][0]["id"], "east", "{found}");
    assert_eq!(found["results"][0]["metadata"], json!({"side": "right"}), "{found}");
    assert!(found["version"].as_u64() >= written["version"].as_u64(), "{found}");

    // Each refuses the other's work and names its own kind of refusal.
    let (status, refused) = reader.post(VECTORS, &records).await;
    assert_eq!((status, error_code(&refused)), (403, "read_only_instance"));
    let (status, refused) = writer.post(SEARCH, &search).await;
    assert_eq!((status, error_code(&refused)), (403, "write_only_instance"));
}

#[tokio::test]
async fn a_killed_writer_loses_nothing_it_acknowledged() {
    let store = TestStore::new();
    let mut writer = Instance::start(&store, "writer", "writer-1").await;
    let record = json!({"vectors": [{"id": "kept", "vector": [1.0, 2.0]}]});
    let (status, written) = writer.post(VECTORS, &record).await;
    assert_eq!(status, 200, "{written}");
    writer.kill();

    let reader = Instance::start(&store, "reader", "reader-1").await;
    let search = json!({"vector": [1.0, 2.0], "k": 1, "consistency": "strong"});
    let (status, found) = reader.post(SEARCH, &search).await;
    assert_eq!((status, &found["results"][0]["id"]), (200, &json!("kept")), "{found}");
    let sequence = store.log_sequence("shared").await;
    assert_eq!(sequence.last().copied(), written["version"].as_u64());
}

/// An import whose first part the server has taken when SIGTERM arrives still ends well.
#[tokio::test]
async fn sigterm_finishes_what_is_in_flight() {
    let store = TestStore::new();
    let mut writer = Instance::start(&store, "writer", "writer-1").await;
    // Far more than the sockets between us can hold: once all of it was taken from us, the server
    // is in the middle of the request.
    let padding = "x".repeat(30_000);
    let line = |n: usize| {
        let record = json!({"id": format!("r{n}"), "vector": [1.0, n], "metadata": {"p": padding}});
        Bytes::from(format!("{record}\n"))
    };
    let (lines, body) = mpsc::channel::<Bytes>(1);
    let body = ReceiverStream::new(body).map(Ok::<Bytes, Infallible>);
    let request = reqwest::Client::new()
        .post(format!("{}/v1/collections/shared/import", writer.url))
        .header("content-type", "application/x-ndjson")
        .body(reqwest::Body::wrap_stream(body))
        .send();
    let sender = async {
        for n in 0..600 {
            lines.send(line(n)).await.expect("the server takes the first part");
        }
        writer.terminate();
        for n in 600..700 {
            lines.send(line(n)).await.expect("the server takes the rest");
        }
        drop(lines);
    };
    let (answer, ()) = tokio::join!(request, sender);

    let answer = answer.expect("the import is answered");
    assert_eq!(answer.status(), 200);
    let report: Value = answer.json().await.expect("a JSON answer");
    assert_eq!((&report["imported"], &report["failed"]), (&json!(700), &json!(0)), "{report}");
    let status = writer.ended().await;
    assert_eq!(status.code(), Some(0), "{}", writer.log_tail());
}
