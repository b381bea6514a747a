//! Processes that stand still (SIGSTOP: a long pause, a suspended machine) and wake up again.

use crate::cluster::{Cluster, PATIENCE, until};
use crate::load::Load;
use crate::sampler::Sampler;
use crate::support::say;
use std::time::Duration;
use tokio::time::Instant;

/// Clients stay with their writer through its sleep; what it had in flight is answered after it.
#[tokio::test]
async fn a_writer_that_wakes_up_after_others_took_over_loses_doubles_and_reorders_nothing() {
    // Small segments often, so that the leases on indexing are in use.
    let cluster = Cluster::new().set("index_after_ms", 500).set("index_interval_ms", 200);
    let first = cluster.start("writer", "writer-1").await;
    let second = cluster
        .start_with("writer", "writer-2", |command| {
            command.args(["--set", "standby=true"]);
        })
        .await;
    let reader = cluster.start("reader", "reader-1").await;
    until("the first writer leads", PATIENCE, async || {
        (reader.status().await["leader"]["id"] == "writer-1").then_some(())
    })
    .await;
    let sampler = Sampler::start(&cluster.http, &[&first, &second, &reader]);
    let mut load = Load::new(&cluster.http);
    for client in 0..4 {
        load.add(&format!("first-{client}"), &[&first.url]);
        load.add(&format!("second-{client}"), &[&second.url]);
    }
    load.goes_on(40).await;
    until("the first writer holds the lease on indexing", PATIENCE, async || {
        let lease = cluster.store.download("_brainy/leases/index-shared.json").await?;
        String::from_utf8_lossy(&lease).contains("writer-1").then_some(())
    })
    .await;

    let stopped = Instant::now();
    first.signal("STOP");
    let took_over =
        until("the standby writes", PATIENCE, async || load.ledger().next_after("second", stopped))
            .await;
    say(&format!("stopped writer: another writes after {:.1?}", took_over - stopped));
    load.goes_on(40).await;
    until("others lead and index", PATIENCE, async || {
        let leader = reader.status().await["leader"].take();
        let lease = cluster.store.download("_brainy/leases/index-shared.json").await?;
        let indexed = String::from_utf8_lossy(&lease).contains("writer-2");
        // The other writer, or the reader itself.
        let led = leader["id"].as_str().is_some_and(|id| id != "writer-1");
        (led && indexed).then_some(())
    })
    .await;

    first.signal("CONT");
    let woken = Instant::now();
    let found_out = until("the woken writer knows the new leader", PATIENCE, async || {
        let status = first.status().await;
        assert_ne!(status["leader"]["state"], "acting", "{status}");
        (status["leader"]["state"] == "following").then(Instant::now)
    })
    .await;
    until("it is counted among the living again", PATIENCE, async || {
        (reader.status_of("writer-1").await.as_deref() == Some("active")).then_some(())
    })
    .await;
    say(&format!("stopped writer: knows the new leader {:.1?} after it woke", found_out - woken));
    until("it writes again", PATIENCE, async || load.ledger().next_after("first", woken)).await;
    load.goes_on(40).await;
    sampler.check_leaders();
    load.check(&reader, &cluster.store).await;
}

#[tokio::test]
async fn a_process_whose_id_was_taken_over_while_it_stood_still_ends_when_it_wakes_up() {
    let cluster = Cluster::new();
    let mut old = cluster.start("hybrid", "node-1").await;
    assert_eq!(old.write("before").await.0, 200);
    old.signal("STOP");
    let started = Instant::now();
    let mut new = cluster.spawn("hybrid", "node-1", "node-1-again", |_| ());
    new.ready().await;
    say(&format!("a stopped process: its id was taken over after {:.1?}", started.elapsed()));
    assert!(started.elapsed() < Duration::from_secs(20));
    old.signal("CONT");
    let status = old.ended().await;
    assert_eq!(status.code(), Some(1), "{}", old.log_tail());
    assert!(old.log_tail().contains("(instance_superseded)"), "{}", old.log_tail());
    assert!(new.shows("before").await);
    assert_eq!(new.write("after").await.0, 200);
    new.sees(1).await;
}
