//! Nodes that stop and start: the same id twice, restarts under load, and many lives.

use crate::cluster::{CONFIG, Cluster, Node, PATIENCE, ask, until};
use crate::load::{SEARCH, VECTORS, records};
use crate::support::say;
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// With readers: before a writer starts it proves that the store is safe, which takes S3 servers seconds.
#[tokio::test]
async fn an_id_is_refused_while_it_is_in_use_and_taken_over_at_once_after_a_kill() {
    let cluster = Cluster::new();
    let mut first = cluster.start("reader", "node-1").await;
    let mut second = cluster.spawn("reader", "node-1", "node-1-second", |_| ());
    let status = second.ended().await;
    assert_eq!(status.code(), Some(1), "{}", second.log_tail());
    let log = second.log_tail();
    assert!(log.contains("(instance_id_in_use)") && log.contains("node-1"), "{log}");
    let (status, live) = first.get("/health/live").await;
    assert_eq!(status, 200, "{live}");

    first.kill();
    let killed = Instant::now();
    let third = cluster.start("reader", "node-1").await;
    let took = killed.elapsed();
    say(&format!("the id of a killed process was taken over in {took:.1?}, its start included"));
    let (_, next) = third.get("/health/live").await;
    assert_eq!((&next["instanceId"], next["session"] != live["session"]), (&json!("node-1"), true));
    third.sees(1).await;
    // At once: sooner than anybody could count the other as dead.
    assert!(took < cluster.setting("instance_timeout_ms"), "{took:?}");
}

/// Five nodes, and clients that try each request on one endpoint and once more on another.
struct Restarts<'a> {
    cluster: &'a Cluster,
    writers: RefCell<Vec<String>>,
    readers: RefCell<Vec<String>>,
    turn: Cell<usize>,
    /// Requests, and those that needed the second attempt.
    requests: Cell<usize>,
    repeated: Cell<usize>,
    failed: RefCell<Vec<String>>,
    done: Cell<bool>,
}

impl Restarts<'_> {
    async fn client(&self, name: &str, endpoints: &RefCell<Vec<String>>, writes: bool) {
        for n in 0.. {
            if self.done.get() {
                return;
            }
            let (path, body) = match writes {
                true => (VECTORS, records(&format!("{name}-{n}"))),
                false => (SEARCH, json!({"vector": [1.0, 2.0], "k": 3})),
            };
            self.requests.set(self.requests.get() + 1);
            let turn = self.turn.replace(self.turn.get() + 1);
            let mut faults = Vec::new();
            for attempt in 0..2 {
                let url = {
                    let endpoints = endpoints.borrow();
                    format!("{}{path}", endpoints[(turn + attempt) % endpoints.len()])
                };
                let asked = ask(&self.cluster.http, Method::POST, &url, Some(&body), PATIENCE);
                match asked.await {
                    Ok((200, _)) => break,
                    Ok((status, answer)) => faults.push(format!("{url}: {status} {answer}")),
                    Err(fault) => faults.push(format!("{url}: {fault:?}")),
                }
            }
            match faults.len() {
                0 => {}
                1 => self.repeated.set(self.repeated.get() + 1),
                _ => self.failed.borrow_mut().push(faults.join("\n")),
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Each node is told to stop, and started again, one after another.
    async fn restart_all(&self, nodes: &mut [Node]) {
        for node in nodes {
            node.terminate();
            assert_eq!(node.ended().await.code(), Some(0), "{}", node.log_tail());
            let writes = node.id.starts_with("writer");
            let (role, endpoints) = match writes {
                true => ("writer", &self.writers),
                false => ("reader", &self.readers),
            };
            let next_life = self.cluster.start(role, &node.id).await;
            for endpoint in &mut *endpoints.borrow_mut() {
                if *endpoint == node.url {
                    endpoint.clone_from(&next_life.url);
                }
            }
            *node = next_life;
            let from = self.requests.get();
            until("clients go on", PATIENCE, async || {
                (self.requests.get() >= from + 50).then_some(())
            })
            .await;
        }
        self.done.set(true);
    }
}

#[tokio::test]
async fn a_rolling_restart_of_five_nodes_fails_no_request_of_a_client_that_retries_once() {
    let cluster = Cluster::new();
    let mut nodes = Vec::new();
    for id in ["writer-1", "writer-2", "reader-1", "reader-2", "reader-3"] {
        nodes.push(cluster.start(id.split_once('-').expect("a role").0, id).await);
    }
    nodes[4].sees(5).await;
    let (status, made) = nodes[0].write("made").await;
    assert_eq!(status, 200, "{made}");
    for reader in &nodes[2..] {
        until("all show it", PATIENCE, async || reader.shows("made").await.then_some(())).await;
    }
    let urls = |nodes: &[Node]| nodes.iter().map(|node| node.url.clone()).collect();
    let run = Restarts {
        cluster: &cluster,
        writers: RefCell::new(urls(&nodes[..2])),
        readers: RefCell::new(urls(&nodes[2..])),
        turn: Cell::default(),
        requests: Cell::default(),
        repeated: Cell::default(),
        failed: RefCell::default(),
        done: Cell::default(),
    };
    let clients = ["client-1", "client-2", "client-3", "client-4"].map(|name| {
        let writes = name == "client-1" || name == "client-2";
        run.client(name, if writes { &run.writers } else { &run.readers }, writes)
    });
    let started = Instant::now();
    tokio::join!(join_all(clients), run.restart_all(&mut nodes));
    say(&format!(
        "rolling restart: {} requests in {:.1?}, {} of them on the second attempt, {} failed",
        run.requests.get(),
        started.elapsed(),
        run.repeated.get(),
        run.failed.borrow().len()
    ));
    assert!(run.repeated.get() > 0, "the restarts were noticed");
    assert!(run.failed.borrow().is_empty(), "{:#?}", run.failed.borrow());
    nodes[0].sees(5).await;
}

/// Ids in the shared config, read past Brainy.
async fn listed(cluster: &Cluster) -> Vec<String> {
    let config = cluster.store.download(CONFIG).await.expect("it is there");
    let config: Value = serde_json::from_slice(&config).expect("it is sound");
    config["instances"].as_object().expect("by id").keys().cloned().collect()
}

/// Ten processes are started together and stopped together, half of them by SIGKILL, again and again.
#[tokio::test]
async fn many_lives_leave_exactly_the_living_in_the_config() {
    let cycles = std::env::var("BRAINY_TEST_CLUSTER_CYCLES").ok();
    let cycles: usize = cycles.map_or(3, |cycles| cycles.parse().expect("a number"));
    let cluster = Cluster::new();
    let started = Instant::now();
    let stays = cluster.start("reader", "stays").await;
    for cycle in 0..cycles {
        let start = async |n| cluster.start("hybrid", &format!("node-{n}")).await;
        let mut nodes = join_all((0..10).map(start)).await;
        for (n, node) in nodes.iter_mut().enumerate() {
            if (n + cycle) % 2 == 0 { node.kill() } else { node.terminate() }
        }
        for (n, node) in nodes.iter_mut().enumerate().filter(|(n, _)| (n + cycle) % 2 == 1) {
            let status = node.ended().await;
            assert_eq!(status.code(), Some(0), "cycle {cycle}, {n}: {}", node.log_tail());
        }
    }
    let lives = cycles * 10;
    let ran = started.elapsed();
    let last = cluster.start("writer", "last").await;
    let ended = Instant::now();
    until("only the living are listed", PATIENCE, async || {
        (listed(&cluster).await == ["last", "stays"]).then_some(())
    })
    .await;
    for node in [&stays, &last] {
        node.sees(2).await;
    }
    let cleaned = ended.elapsed();
    say(&format!("{lives} lives in {ran:.0?}; only the living were listed {cleaned:.1?} later"));
}
