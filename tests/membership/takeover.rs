//! Who takes whose place: ids, leaders, writers.

use crate::support::{Line, Node, Says, World, secs, until};
use brainy::base::Code;
use brainy::base::settings::Role;
use brainy::cluster::lease::Lease;
use brainy::cluster::{LeaderState, Presence, Standing};
use brainy::store::{Store, paths};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn an_id_is_refused_while_its_process_lives() {
    let world = World::new();
    let first = world.start("a", Role::Reader).await;
    for (presence, bound) in [(Presence::Alive, 1), (Presence::Unknown, 41)] {
        let start = Instant::now();
        let probe = Arc::new(Says(presence));
        let second = world.start_with("a", Role::Reader, |options| options.probe = probe).await;
        assert_eq!(second.err().unwrap().code(), Code::InstanceIdInUse);
        assert!(start.elapsed() < secs(bound), "{presence:?} took {:?}", start.elapsed());
    }
    sleep(secs(60)).await;
    assert_eq!(first.view().standing, Standing::Member);
}

#[tokio::test(start_paused = true)]
async fn a_killed_process_is_followed_at_once_or_when_it_was_silent() {
    let world = World::new();
    let watcher = world.start("watcher", Role::Reader).await;
    for (presence, bound) in [(Presence::Gone, 1), (Presence::Unknown, 42)] {
        let first = world.start_with("a", Role::Reader, |options| {
            options.probe = Arc::new(Says(Presence::Gone));
        });
        first.await.unwrap().kill();
        let start = Instant::now();
        let probe = Arc::new(Says(presence));
        let second = world.start_with("a", Role::Reader, |options| options.probe = probe).await;
        let second = second.unwrap();
        assert!(start.elapsed() < secs(bound), "{presence:?} took {:?}", start.elapsed());
        until("seen", secs(31), || watcher.sees("a")).await;
        second.kill();
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_replaced_while_it_stood_still_stops() {
    let world = World::new();
    let watcher = world.start("watcher", Role::Reader).await;
    let frozen = world.start("a", Role::Writer).await;
    sleep(secs(35)).await;
    frozen.line.send_replace(Line::Frozen);
    sleep(secs(20)).await;
    let second = world.start("a", Role::Writer).await;
    frozen.line.send_replace(Line::Up);
    until("superseded", secs(31), || frozen.view().standing == Standing::Superseded).await;
    assert!(frozen.member.leave().await.is_ok(), "its task has ended");
    for _ in 0..30 {
        sleep(secs(10)).await;
        let entry = world.bucket.config().await.instances["a"].clone();
        assert_eq!(entry.session.as_deref(), Some(&**second.member.session()));
        assert!(watcher.sees("a"));
    }
    assert_eq!(second.view().standing, Standing::Member);
}

/// Looks from outside, again and again: no epoch is ever used by two, and no two act at a time.
struct Referee {
    epochs: BTreeMap<u64, String>,
}

impl Referee {
    fn look(&mut self, nodes: &[Node]) -> Option<String> {
        let acting = nodes.iter().filter_map(|node| Some((node.member.leadership()?, &node.id)));
        let acting: Vec<_> = acting.collect();
        assert!(acting.len() <= 1, "two act at a time: {acting:?}");
        let (epoch, id) = acting.first()?;
        let first = self.epochs.entry(*epoch).or_insert_with(|| (*id).clone());
        assert_eq!(first, *id, "two in epoch {epoch}");
        Some((*id).clone())
    }

    /// Waits for a leader, and says who it is and how long that took.
    async fn leader(&mut self, nodes: &[Node], bound: Duration) -> (String, Duration) {
        let start = Instant::now();
        loop {
            if let Some(id) = self.look(nodes) {
                return (id, start.elapsed());
            }
            assert!(start.elapsed() < bound, "no leader within {bound:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn watch(&mut self, nodes: &[Node], span: Duration) {
        let start = Instant::now();
        while start.elapsed() < span {
            self.look(nodes);
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_leader_is_followed_within_its_lease_and_two_seconds() {
    let world = World::new();
    let mut nodes = world.readers(7).await;
    let mut referee = Referee { epochs: BTreeMap::new() };
    let bound = world.timing.leader_lease + secs(2);
    let mut longest = Duration::ZERO;
    for round in 0..5u64 {
        let (id, _) = referee.leader(&nodes, secs(20)).await;
        // At any point between two renewals.
        referee.watch(&nodes, secs(30) + Duration::from_millis(1_300 * round)).await;
        let at = nodes.iter().position(|node| node.id == id).unwrap();
        // A process that was killed asks nobody any more whether it leads.
        nodes.remove(at).kill();
        let (next, took) = referee.leader(&nodes, bound).await;
        assert_ne!(next, id);
        longest = longest.max(took);
        until("all know", secs(31), || {
            nodes.iter().all(|node| node.view().leader.id.as_deref() == Some(&*next))
        })
        .await;
    }
    println!("a leader was followed within {longest:?} at most");
    assert_eq!(nodes[0].view().elections, 6);
    // It stands in the shared config, which is read at every look.
    until("all are counted", secs(31), || nodes[0].view().failover.count >= 5).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stood_still_does_not_act_and_finds_out() {
    let world = World::new();
    let nodes = world.readers(3).await;
    let mut referee = Referee { epochs: BTreeMap::new() };
    let (id, _) = referee.leader(&nodes, secs(20)).await;
    referee.watch(&nodes, secs(20)).await;
    let frozen = nodes.iter().find(|node| node.id == id).unwrap();
    frozen.line.send_replace(Line::Frozen);
    referee.watch(&nodes, secs(40)).await;
    frozen.line.send_replace(Line::Up);
    referee.watch(&nodes, secs(60)).await;
    assert_eq!(referee.epochs.len(), 2);
    assert_eq!(frozen.view().leader.state, LeaderState::Following);
    assert_eq!(frozen.view().standing, Standing::Member);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_leaves_is_followed_at_once_and_epochs_grow_without_the_lease() {
    let world = World::new();
    let mut nodes = world.readers(3).await;
    let mut referee = Referee { epochs: BTreeMap::new() };
    let (id, _) = referee.leader(&nodes, secs(20)).await;
    sleep(secs(40)).await;
    let at = nodes.iter().position(|node| node.id == id).unwrap();
    nodes.remove(at).member.leave().await.unwrap();
    let (_, took) = referee.leader(&nodes, secs(6)).await;
    println!("a leader that left was followed after {took:?}");
    until("noted", secs(11), || nodes[0].view().leader.id.is_some()).await;
    // Stepping down is no failure.
    assert_eq!(nodes[0].view().failover.count, 0);
    // Somebody deletes the lease: the next epoch is a new one all the same.
    referee.watch(&nodes, secs(20)).await;
    world.bucket.memory.delete(&paths::cluster_lease("leader")).await.unwrap();
    referee.watch(&nodes, secs(60)).await;
    assert!(referee.epochs.keys().max() >= Some(&3), "{:?}", referee.epochs);
}

/// A writer and three that wait for it to be gone, with short timeouts.
async fn one_writer_and_three_on_standby() -> (World, Node, [Node; 3]) {
    let mut world = World::new();
    world.timing.heartbeat_interval = secs(5);
    world.timing.instance_timeout = secs(15);
    let writer = world.start("writer", Role::Writer).await;
    let standby = |id: &'static str| {
        let world = world.clone();
        async move {
            let node = world.start_with(id, Role::Writer, |options| options.standby = true);
            node.await.unwrap()
        }
    };
    let waiting = [standby("s1").await, standby("s2").await, standby("s3").await];
    sleep(secs(120)).await;
    assert_eq!(promoted(&waiting), 0);
    (world, writer, waiting)
}

/// How many of these do not wait any longer.
fn promoted(waiting: &[Node]) -> usize {
    let orders = waiting.iter().map(|node| *node.member.orders().borrow());
    orders.filter(|orders| !orders.standby).count()
}

#[tokio::test(start_paused = true)]
async fn one_standby_steps_in_for_the_last_writer() {
    let (world, writer, waiting) = one_writer_and_three_on_standby().await;
    let promoted = || promoted(&waiting);
    writer.kill();
    let took = until("stepped in", secs(19), || promoted() > 0).await;
    println!("a standby stepped in after {took:?}");
    sleep(secs(120)).await;
    assert_eq!(promoted(), 1);
    let config = world.bucket.config().await;
    let active =
        config.instances.iter().filter(|(id, entry)| entry.is_active_writer() && *id != "writer");
    assert_eq!(active.count(), 1);
    assert!(config.failover.count >= 1);
}

#[tokio::test(start_paused = true)]
async fn one_standby_steps_in_while_the_shared_config_is_broken() {
    let (world, writer, waiting) = one_writer_and_three_on_standby().await;
    let sound = world.bucket.text().await.unwrap();
    world.bucket.upload("{").await;
    sleep(secs(60)).await;
    assert_eq!(promoted(&waiting), 0, "the writer's heartbeats come beside it");
    writer.kill();
    let took = until("stepped in", secs(25), || promoted(&waiting) > 0).await;
    println!("a standby stepped in after {took:?}, beside a broken config");
    sleep(secs(120)).await;
    assert_eq!(promoted(&waiting), 1);
    assert_eq!(world.bucket.text().await.as_deref(), Some("{"), "it is the person's");
    for node in &waiting {
        assert_eq!(node.view().serving(true).count(), 1, "{}", node.id);
    }
    // The person's file has all of them on standby, which is no longer so.
    world.bucket.upload(&sound).await;
    sleep(secs(60)).await;
    assert_eq!(promoted(&waiting), 1);
    let config = world.bucket.config().await;
    let active = config.instances.values().filter(|entry| entry.is_active_writer());
    assert_eq!(active.count(), 1, "{config:?}");
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_comes_first_leaves_the_writer_time_to_come() {
    let world = World::new();
    let standby = world.start_with("s", Role::Writer, |options| options.standby = true);
    let standby = standby.await.unwrap();
    sleep(secs(30)).await;
    let _writer = world.start("writer", Role::Writer).await;
    sleep(secs(300)).await;
    assert!(standby.member.orders().borrow().standby);
    assert!(!standby.view().failover.in_progress);
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_died_while_stepping_in_holds_nobody_up() {
    let mut world = World::new();
    world.timing.heartbeat_interval = secs(5);
    world.timing.instance_timeout = secs(15);
    let writer = world.start("writer", Role::Writer).await;
    let waiting = world.start_with("s", Role::Writer, |options| options.standby = true);
    let waiting = waiting.await.unwrap();
    sleep(secs(60)).await;
    // Another standby took the lease and died with it in its hands.
    let (options, _line) = world.options("lost", Role::Writer);
    let (key, ttl) = (paths::cluster_lease("writer"), world.timing.leader_lease);
    let mut lease = Lease::new(options.store, options.env, key, "lost/1".to_owned(), ttl);
    writer.kill();
    sleep(secs(10)).await;
    assert!(lease.hold().await.unwrap().is_some());
    until("stepped in", secs(40), || !waiting.member.orders().borrow().standby).await;
}
