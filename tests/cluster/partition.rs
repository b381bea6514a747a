//! Nodes that do not reach the store, and clients that do not reach a node.

use crate::cluster::{Cluster, Node, PATIENCE, ask, code, until};
use crate::load::{Load, SEARCH, VECTORS, records};
use crate::proxy::{Mode, Proxy};
use crate::sampler::Sampler;
use crate::support::say;
use reqwest::Method;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The S3 server, where the tests run on one that a proxy can stand in front of.
fn server() -> Option<String> {
    let endpoint = std::env::var("AWS_ENDPOINT_URL_S3").ok();
    let on_s3 = std::env::var("BRAINY_TEST_S3_URL").is_ok();
    let server = endpoint.filter(|endpoint| on_s3 && endpoint.starts_with("http://"));
    if server.is_none() {
        say("skipped: needs an S3 server on plain HTTP, to cut it off: run \
             scripts/s3-server with seaweedfs cargo test --test cluster");
    }
    server
}

async fn start_behind(cluster: &Cluster, proxy: &Proxy, role: &str, id: &str) -> Node {
    let start = cluster.start_with(role, id, |command| {
        command.env("AWS_ENDPOINT_URL_S3", proxy.url());
    });
    start.await
}

/// Waits until a node is degraded, and says why.
async fn degraded(node: &Node, reasons: &[&str]) -> Instant {
    until(&format!("{} is degraded: {reasons:?}", node.id), PATIENCE, async || {
        let (status, health) = node.get("/health").await;
        let warnings = health["warnings"].to_string();
        let told = reasons.iter().all(|reason| warnings.contains(reason));
        (status == 503 && health["status"] == "degraded" && told).then(Instant::now)
    })
    .await
}

async fn healthy(node: &Node) -> Instant {
    until(&format!("{} is healthy", node.id), PATIENCE, async || {
        (node.get("/health").await.0 == 200).then(Instant::now)
    })
    .await
}

/// The store's folder is not mounted for a while, for longer than it takes to be counted as dead.
#[tokio::test]
async fn when_the_store_goes_away_for_all_everybody_says_so_and_nobody_is_expired() {
    let cluster = Cluster::new();
    let Some(folder) = cluster.store.root_folder().map(std::path::Path::to_owned) else {
        // On S3 the same is tested with a proxy.
        return;
    };
    let writer = cluster.start("writer", "writer-1").await;
    let reader = cluster.start("reader", "reader-1").await;
    reader.sees(2).await;
    assert_eq!(writer.write("before").await.0, 200);
    until("the reader shows it", PATIENCE, async || reader.shows("before").await.then_some(()))
        .await;
    let sampler = Sampler::start(&cluster.http, &[&writer, &reader]);

    let away = folder.with_extension("away");
    std::fs::rename(&folder, &away).expect("the folder can be renamed");
    let cut = Instant::now();
    let reasons = ["is gone", "heartbeats do not get through"];
    let told = degraded(&writer, &reasons).await.max(degraded(&reader, &reasons).await);
    let (status, answer) = writer.write("lost").await;
    assert_eq!((status, code(&answer)), (503, "store_not_found"), "{answer}");
    // What is in memory is still found, and a probe does not restart the process.
    assert!(reader.shows("before").await);
    assert_eq!(writer.get("/health/live").await.0, 200);
    assert_eq!(writer.get("/health/ready").await.0, 503);
    let outage = cluster.setting("instance_timeout_ms") * 2;
    tokio::time::sleep_until(cut + outage).await;
    assert!(!folder.exists(), "nobody made an empty store where the folder was");

    std::fs::rename(&away, &folder).expect("the folder can be renamed");
    let back = Instant::now();
    let well = healthy(&writer).await.max(healthy(&reader).await);
    say(&format!(
        "store gone for {outage:.1?}: all degraded after {:.1?}, healthy {:.1?} after it was back",
        told - cut,
        well - back
    ));
    assert_eq!(writer.write("after").await.0, 200);
    until("the reader shows it", PATIENCE, async || reader.shows("after").await.then_some(()))
        .await;
    assert_eq!(sampler.dead(), BTreeSet::new(), "nobody was silent");
    sampler.check_leaders();
}

#[tokio::test]
async fn a_node_that_is_cut_off_from_the_bucket_says_so_and_comes_back_by_itself() {
    let Some(server) = server() else { return };
    let proxy = Proxy::start(&server).await;
    let cluster = Cluster::new();
    let writer = cluster.start("writer", "writer-1").await;
    let reader = cluster.start("reader", "reader-1").await;
    let cut_off = start_behind(&cluster, &proxy, "reader", "reader-2").await;
    writer.sees(3).await;
    let mut load = Load::new(&cluster.http);
    load.add("client", &[&writer.url]);
    load.goes_on(5).await;
    until("all show it", PATIENCE, async || cut_off.shows("client-0").await.then_some(())).await;
    let sampler = Sampler::start(&cluster.http, &[&writer, &reader, &cut_off]);

    proxy.set(Mode::Cut);
    let cut = Instant::now();
    let reasons = ["store did not answer", "heartbeats do not get through"];
    let told = degraded(&cut_off, &reasons).await;
    let dead = until("the others count it as dead", PATIENCE, async || {
        (writer.status_of("reader-2").await.as_deref() == Some("dead")).then(Instant::now)
    })
    .await;
    load.goes_on(5).await;
    // What it has is still answered, at once.
    let search = json!({"vector": [1.0, 2.0], "k": 1});
    let answer = timeout(Duration::from_secs(5), cut_off.post(SEARCH, &search)).await;
    let (status, answer) = answer.expect("it answers from memory");
    assert_eq!(status, 200, "{answer}");

    proxy.set(Mode::Pass);
    let back = Instant::now();
    let well = healthy(&cut_off).await;
    until("the others count it among the living", PATIENCE, async || {
        (writer.status_of("reader-2").await.as_deref() == Some("active")).then_some(())
    })
    .await;
    say(&format!(
        "cut off from the bucket: degraded after {:.1?}, dead for the others after {:.1?}, healthy \
         {:.1?} after the cut was mended",
        told - cut,
        dead - cut,
        well - back
    ));
    for (by, node) in sampler.dead() {
        assert_eq!(node, "reader-2", "counted as dead by {by}");
    }
    sampler.check_leaders();
    load.check(&cut_off, &cluster.store).await;
}

#[tokio::test]
async fn a_bucket_that_throttles_slows_writers_down_and_loses_nothing() {
    let Some(server) = server() else { return };
    let proxy = Proxy::start(&server).await;
    let cluster = Cluster::new();
    let node = start_behind(&cluster, &proxy, "hybrid", "node-1").await;
    let mut load = Load::new(&cluster.http);
    load.add("client-1", &[&node.url]);
    load.add("client-2", &[&node.url]);
    load.goes_on(10).await;
    proxy.set(Mode::Throttle);
    let from = Instant::now();
    let told = degraded(&node, &["heartbeats do not get through"]).await;
    assert_eq!(node.get("/health/live").await.0, 200);
    proxy.set(Mode::Pass);
    let back = Instant::now();
    let wrote = until("writes go on", PATIENCE, async || load.ledger().next_after("", back)).await;
    let well = healthy(&node).await;
    say(&format!(
        "throttled for {:.1?}: degraded after {:.1?}; then writes go on after {:.1?}, healthy after \
         {:.1?}",
        back - from,
        told - from,
        wrote - back,
        well - back
    ));
    load.goes_on(10).await;
    load.check(&node, &cluster.store).await;
}

/// The node is well, and its clients do not reach it: they go on elsewhere, where the cluster says.
#[tokio::test]
async fn clients_that_do_not_reach_a_node_are_told_where_to_go() {
    let cluster = Cluster::new();
    let writer = cluster.start("writer", "writer-1").await;
    let other = cluster.start("writer", "writer-2").await;
    let reader = cluster.start("reader", "reader-1").await;
    reader.sees(3).await;
    let proxy = Proxy::start(&writer.url).await;
    let write = async |url: &str, name: &str| {
        let url = format!("{url}{VECTORS}");
        ask(&cluster.http, Method::POST, &url, Some(&records(name)), Duration::from_secs(2)).await
    };
    let (status, _) = write(&proxy.url(), "through").await.expect("nothing is cut");
    assert_eq!(status, 200);

    proxy.set(Mode::Cut);
    write(&proxy.url(), "cut").await.expect_err("nothing comes through");
    let (status, answer) = write(&reader.url, "misdirected").await.expect("the reader answers");
    assert_eq!((status, code(&answer)), (403, "read_only_instance"), "{answer}");
    assert_eq!(answer["error"]["details"]["writers"], json!([writer.url, other.url]));
    let elsewhere = answer["error"]["details"]["writers"][1].as_str().expect("an endpoint");
    let (status, answer) = write(elsewhere, "elsewhere").await.expect("the other writer answers");
    assert_eq!(status, 200, "{answer}");
    let search = json!({"vector": [1.0, 2.0], "k": 1, "minVersion": answer["version"],
        "waitMs": 30_000});
    let (status, answer) = writer.post(SEARCH, &search).await;
    assert_eq!((status, code(&answer)), (403, "write_only_instance"), "{answer}");
    assert_eq!(answer["error"]["details"]["readers"], json!([reader.url]));
    let readers = answer["error"]["details"]["readers"][0].as_str().expect("an endpoint");
    let url = format!("{readers}{SEARCH}");
    let found = ask(&cluster.http, Method::POST, &url, Some(&search), PATIENCE).await;
    assert_eq!(found.expect("the reader answers").0, 200);
    // To the cluster the node was well all the time.
    assert_eq!(reader.status_of("writer-1").await.as_deref(), Some("active"));
}
