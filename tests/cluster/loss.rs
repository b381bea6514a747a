//! Nodes and leaders that are killed.

use crate::cluster::{Cluster, PATIENCE, leader, until};
use crate::load::Load;
use crate::sampler::Sampler;
use crate::support::say;
use std::time::Duration;
use tokio::time::Instant;

/// What a busy machine may take longer than the protocol does.
const SLACK: Duration = Duration::from_secs(4);

#[tokio::test]
async fn a_killed_node_is_marked_dead_then_removed_and_the_others_go_on() {
    let cluster = Cluster::new();
    let writer = cluster.start("writer", "writer-1").await;
    let reader = cluster.start("reader", "reader-1").await;
    let mut victim = cluster.start("reader", "reader-2").await;
    writer.sees(3).await;
    reader.sees(3).await;
    let mut load = Load::new(&cluster.http);
    load.add("client", &[&writer.url]);
    load.goes_on(3).await;

    let killed = Instant::now();
    victim.kill();
    let dead = async |by: &str, node: &crate::cluster::Node| {
        until(&format!("{by} counts reader-2 as dead"), PATIENCE, async || {
            (node.status_of("reader-2").await.as_deref() == Some("dead")).then(Instant::now)
        })
        .await
    };
    let noticed = dead("the writer", &writer).await.max(dead("the reader", &reader).await);
    let health = reader.get("/cluster/health").await.1;
    assert_eq!((&health["status"], &health["healthyNodes"]), (&"degraded".into(), &2.into()));
    load.goes_on(3).await;
    let removed = until("reader-2 is no longer listed", PATIENCE, async || {
        reader.status_of("reader-2").await.is_none().then(Instant::now)
    })
    .await;
    load.goes_on(3).await;
    let (dead, gone) = (noticed - killed, removed - killed);
    say(&format!(
        "node loss: seen dead by all after {dead:.1?}, no longer listed after {gone:.1?}"
    ));
    let timeout = cluster.setting("instance_timeout_ms");
    assert!(dead <= timeout + SLACK, "{dead:?}");
    assert!(gone <= timeout + cluster.setting("instance_remove_ms") + SLACK, "{gone:?}");
    load.check(&reader, &cluster.store).await;
    assert_eq!(reader.get("/cluster/health").await.1["status"], "healthy");
}

#[tokio::test]
async fn a_killed_leader_is_replaced_and_never_do_two_lead_in_one_epoch() {
    let cluster = Cluster::new();
    let mut nodes = Vec::new();
    for n in 1..=4 {
        nodes.push(cluster.start("hybrid", &format!("node-{n}")).await);
    }
    let sampler = Sampler::start(&cluster.http, &nodes.iter().collect::<Vec<_>>());
    let mut took = Vec::new();
    for round in 0..3 {
        let (place, epoch) = leader(&nodes.iter().collect::<Vec<_>>()).await;
        let mut old = nodes.remove(place);
        let lost = Instant::now();
        // A leader that stands still is as good as dead, until it wakes up.
        if round == 1 {
            old.signal("STOP")
        } else {
            old.kill()
        }
        let found = until("another node leads", PATIENCE, async || {
            for node in &nodes {
                let leader = node.status().await["leader"].take();
                if leader["state"] == "acting" && leader["epoch"].as_u64() > Some(epoch) {
                    return Some(Instant::now());
                }
            }
            None
        })
        .await;
        took.push(found - lost);
        if round == 1 {
            old.signal("CONT");
            let told = until("the deposed leader follows", PATIENCE, async || {
                let leader = old.status().await["leader"].take();
                (leader["epoch"].as_u64() > Some(epoch)).then_some(leader)
            })
            .await;
            assert_eq!(told["state"], "following", "{told}");
            nodes.push(old);
        } else {
            let id = old.id.clone();
            drop(old);
            let next_life = cluster.start("hybrid", &id).await;
            sampler.add(&next_life);
            nodes.push(next_life);
        }
    }
    let lease = cluster.setting("leader_lease_ms");
    say(&format!("leader loss: with a lease of {lease:?}, a new leader after {took:.1?}"));
    assert!(took.iter().all(|took| *took <= lease + Duration::from_secs(2) + SLACK), "{took:?}");
    sampler.check_leaders();
}

/// With a timeout of 15 seconds and the leader's lease as it is by default.
#[tokio::test]
async fn from_a_crash_to_fully_operational_takes_less_than_19_seconds() {
    let cluster = Cluster::new()
        .set("heartbeat_interval_ms", 5_000)
        .set("instance_timeout_ms", 15_000)
        .set("leader_lease_ms", 15_000);
    let mut writer = cluster.start("writer", "writer-1").await;
    let standby = cluster
        .start_with("writer", "writer-2", |command| {
            command.args(["--set", "standby=true"]);
        })
        .await;
    let reader = cluster.start("reader", "reader-1").await;
    until("the writer leads, and all know it", PATIENCE, async || {
        let led = standby.status().await["leader"]["id"] == "writer-1";
        (led && reader.status().await["leader"]["id"] == "writer-1").then_some(())
    })
    .await;
    let mut load = Load::new(&cluster.http);
    load.add("client", &[&writer.url, &standby.url]);
    load.goes_on(3).await;

    let crashed = Instant::now();
    writer.kill();
    let written =
        until("writes go on", PATIENCE, async || load.ledger().next_after("", crashed)).await;
    let operational = until("there is a leader and a writer", PATIENCE, async || {
        let led = reader.status().await["leader"]["state"] != "vacant";
        let health = reader.get("/cluster/health").await.1;
        (led && health["writers"] == 1 && health["readers"] == 1).then(Instant::now)
    })
    .await;
    let (written, all) = (written - crashed, operational.max(written) - crashed);
    say(&format!("crash: writes go on after {written:.1?}, fully operational after {all:.1?}"));
    assert!(all < Duration::from_secs(19), "{all:?}");
    let status = standby.status().await;
    assert_eq!(status["node"]["standby"], false, "{status}");
    assert!(status["failover"]["count"].as_u64() >= Some(1), "{status}");
    load.check(&reader, &cluster.store).await;
}
