//! Wall clocks that jump by hours while nodes run, ahead and back. libfaketime shows each process a wall
//! time of its own; the monotonic clock is left alone, as it is by an operator or by NTP.

use crate::cluster::{Cluster, Node, PATIENCE, leader, until};
use crate::load::{COLLECTION, Load};
use crate::sampler::Sampler;
use crate::support::say;
use brainy::base::clock::{Clock, SystemClock};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// Where Debian, Fedora and `make install` have the library for processes with threads.
const LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
];
const HOUR_MS: i64 = 3_600_000;
/// How old the heartbeat of a living node may be.
const SLACK_MS: i64 = 120_000;

fn library() -> Option<&'static str> {
    let found = LIBRARIES.into_iter().find(|library| Path::new(library).exists());
    if found.is_none() {
        say("skipped: needs libfaketime, to set clocks: apt-get install libfaketime");
    }
    found
}

/// The wall clock of one node.
struct Wall(PathBuf);

impl Wall {
    /// Sets it so many hours ahead; less than 0: back.
    fn set(&self, hours: i64) {
        let beside = self.0.with_extension("new");
        std::fs::write(&beside, format!("{hours:+}h\n")).expect("a file can be written");
        std::fs::rename(&beside, &self.0).expect("it can be renamed");
    }
}

/// Starts a node whose wall clock is so many hours ahead.
async fn start(cluster: &Cluster, role: &str, id: &str, hours: i64) -> Option<(Node, Wall)> {
    let library = library()?;
    let wall = Wall(cluster.store.logs().join(format!("{id}.clock")));
    wall.set(hours);
    let node = cluster.start_with(role, id, |command| {
        command
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", &wall.0)
            .env("FAKETIME_CACHE_DURATION", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_DISABLE_SHM", "1")
            // The times of files are the file system's.
            .env("NO_FAKE_STAT", "1");
    });
    Some((node.await, wall))
}

/// Waits for heartbeats of `of`, seen by `by`, that say a time about so many hours ahead of this test's:
/// the clock has jumped for the process, and it goes on.
async fn beats(by: &Node, of: &str, hours: i64) {
    let last = async || {
        let nodes = by.nodes().await;
        let node = nodes.iter().find(|node| node["id"] == of)?;
        Some(node["lastHeartbeat"].as_str().expect("a time").to_owned())
    };
    let mut seen = BTreeSet::new();
    let what = format!("{of} says a time {hours} hours ahead, again and again");
    until(&what, PATIENCE, async || {
        let said = last().await?;
        let time: jiff::Timestamp = said.parse().expect("RFC 3339");
        let ahead_ms = time.as_millisecond() - SystemClock.now().0 as i64;
        if (ahead_ms - hours * HOUR_MS).abs() < SLACK_MS {
            seen.insert(said);
        }
        (seen.len() >= 3).then_some(())
    })
    .await;
}

/// Earlier versions of the collection's manifest, by their keys.
fn history(folder: &Path) -> BTreeSet<PathBuf> {
    let folder = folder.join(format!("collections/{COLLECTION}/manifests"));
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.expect("the folder can be read").path()).collect()
}

#[tokio::test]
async fn clocks_that_jump_by_days_bury_nobody_depose_nobody_and_delete_nothing() {
    // Collected as often as can be, so that whatever a clock hastens is gone within the test. A busy machine
    // must not cost the leader its lease, nor anybody's life.
    let cluster = Cluster::new()
        .set("gc_grace_ms", 10_000)
        .set("leader_lease_ms", 6_000)
        .set("instance_timeout_ms", 6_000)
        .set("index_after_ms", 500)
        .set("index_interval_ms", 200);
    let Some(folder) = cluster.store.root_folder().map(Path::to_owned) else {
        say("skipped on S3, which refuses requests by a clock that is off");
        return;
    };
    let Some((first, first_wall)) = start(&cluster, "writer", "writer-1", 0).await else { return };
    let Some((second, second_wall)) = start(&cluster, "hybrid", "hybrid-1", 0).await else {
        return;
    };
    let Some((reader, reader_wall)) = start(&cluster, "reader", "reader-1", 0).await else {
        return;
    };
    let nodes = [&first, &second, &reader];
    let (place, epoch) = leader(&nodes).await;
    let sampler = Sampler::start(&cluster.http, &nodes);
    let mut load = Load::new(&cluster.http);
    load.add("first", &[&first.url]);
    load.add("second", &[&second.url]);
    let kept = until("the manifest has a history", PATIENCE, async || {
        let kept = history(&folder);
        (kept.len() >= 3).then_some(kept)
    })
    .await;

    // The manifest's history is kept for 7 days, and each clock is ahead by more at some time.
    let days = |days: i64| days * 24;
    let hours = [[days(9), 0, days(-9)], [days(-9), days(9), 0], [0, days(-9), days(9)], [0; 3]];
    for (round, jumps) in hours.into_iter().enumerate() {
        for (wall, hours) in [&first_wall, &second_wall, &reader_wall].into_iter().zip(jumps) {
            wall.set(hours);
        }
        let jumped = Instant::now();
        for (place, hours) in jumps.into_iter().enumerate() {
            beats(nodes[(place + 1) % nodes.len()], &nodes[place].id, hours).await;
        }
        // For longer than it takes to be counted as dead, to lose the lease, and for collecting to begin.
        tokio::time::sleep_until(jumped + Duration::from_secs(8)).await;
        load.goes_on(20).await;
        assert_eq!(leader(&nodes).await, (place, epoch), "round {round}: nobody else leads");
        assert_eq!(sampler.dead(), BTreeSet::new(), "round {round}: nobody is counted as dead");
    }
    // A node whose clock is days behind when it starts comes and goes as any other.
    let Some((mut late, _)) = start(&cluster, "reader", "reader-2", days(-2)).await else { return };
    beats(&reader, "reader-2", days(-2)).await;
    late.terminate();
    assert!(late.ended().await.success(), "{}", late.log_tail());
    for node in nodes {
        node.sees(3).await;
        until(&format!("{} is healthy", node.id), PATIENCE, async || {
            (node.get("/health").await.0 == 200).then_some(())
        })
        .await;
        let uptime = node.status().await["node"]["uptimeSeconds"].as_f64();
        assert!(uptime.is_some_and(|uptime| (1.0..1_000.0).contains(&uptime)), "{uptime:?}");
    }
    let missing: Vec<_> = kept.difference(&history(&folder)).cloned().collect();
    assert_eq!(missing, Vec::<PathBuf>::new(), "what was kept for seven days is gone");
    sampler.check_leaders();
    load.check(&reader, &cluster.store).await;
}
