//! Writes that wait for every live reader.

use crate::cluster::{Cluster, PATIENCE, code, until};
use crate::support::say;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test]
async fn a_synchronous_write_is_visible_on_every_live_reader_when_it_is_answered() {
    let cluster = Cluster::new()
        .set("replication_mode", "sync")
        .set("replication_timeout_ms", 2_000)
        // So rarely that the answer must have waited for it.
        .set("poll_interval_ms", 700);
    let writer = cluster.start("writer", "writer-1").await;
    let first = cluster.start("reader", "reader-1").await;
    let second = cluster.start("reader", "reader-2").await;
    writer.sees(3).await;
    // The first write makes the collection.
    assert_eq!(writer.write("made").await.0, 200);
    let started = Instant::now();
    for n in 0..5 {
        let (status, answer) = writer.write(&format!("w{n}")).await;
        assert_eq!(status, 200, "{answer}");
        for reader in [&first, &second] {
            assert!(reader.shows(&format!("w{n}")).await, "{} {n}", reader.id);
        }
    }
    say(&format!("synchronous writes: {:.1?} each", started.elapsed() / 5));

    second.signal("STOP");
    let (status, late) = writer.write("late").await;
    assert_eq!((status, code(&late)), (504, "replication_timeout"), "{late}");
    let details = &late["error"]["details"];
    assert_eq!(details["readers"], json!(["reader-2"]), "{late}");
    let search = json!({"vector": [1.0, 2.0], "k": 1, "minVersion": details["version"],
        "waitMs": 10_000});
    let (status, found) = first.post(crate::load::SEARCH, &search).await;
    assert_eq!(status, 200, "it is durable all the same: {found}");
    assert!(first.shows("late").await);
    until("it is dead, and not waited for", PATIENCE, async || {
        (writer.status_of("reader-2").await.as_deref() == Some("dead")).then_some(())
    })
    .await;
    let (status, answer) = writer.write("without").await;
    assert_eq!(status, 200, "{answer}");

    second.signal("CONT");
    until("it lives again", PATIENCE, async || {
        (writer.status_of("reader-2").await.as_deref() == Some("active")).then_some(())
    })
    .await;
    let (status, answer) = writer.write("with").await;
    assert_eq!(status, 200, "{answer}");
    assert!(second.shows("with").await);
}

#[tokio::test]
async fn a_reader_that_dies_while_a_write_waits_for_it_is_not_waited_for_any_longer() {
    let cluster = Cluster::new()
        .set("replication_mode", "sync")
        .set("replication_timeout_ms", 40_000)
        .set("request_timeout_ms", 60_000);
    let writer = cluster.start("writer", "writer-1").await;
    let reader = cluster.start("reader", "reader-1").await;
    writer.sees(2).await;
    assert_eq!(writer.write("made").await.0, 200);
    reader.signal("STOP");
    let started = Instant::now();
    let (status, answer) = tokio::time::timeout(Duration::from_secs(30), writer.write("waits"))
        .await
        .expect("it is answered once the reader is dead");
    assert_eq!(status, 200, "{answer}");
    say(&format!("a synchronous write waited {:.1?} for a reader that died", started.elapsed()));
}
