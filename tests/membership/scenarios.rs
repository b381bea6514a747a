//! What happens to a few instances: joining, leaving, dying, steering, and what people do to the file.

use crate::support::{Line, Node, World, config_key, secs, until};
use brainy::base::Code;
use brainy::base::settings::Role;
use brainy::cluster::{ClusterSettings, Standing, Status};
use brainy::store::{Store, paths};
use tokio::time::sleep;

fn all_see_all(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| nodes.iter().all(|other| node.sees(&other.id)))
}

#[tokio::test(start_paused = true)]
async fn instances_see_each_other_come_and_go() {
    let world = World::new();
    let nodes = world.readers(3).await;
    until("all see all", secs(11), || all_see_all(&nodes)).await;
    nodes[1].member.leave().await.unwrap();
    assert_eq!(nodes[1].view().standing, Standing::Left);
    assert!(!world.bucket.config().await.instances.contains_key("reader-1"));
    until("gone", secs(11), || nodes[0].view().node("reader-1").is_none()).await;
    // A shutdown of the process leaves just as well.
    assert!(nodes[2].env.tasks.shutdown(secs(10)).await);
    let left = world.bucket.config().await;
    assert_eq!(left.instances.keys().collect::<Vec<_>>(), ["reader-0"]);
}

#[tokio::test(start_paused = true)]
async fn a_killed_instance_is_dead_for_all_and_removed_later() {
    let world = World::new();
    let nodes = world.readers(3).await;
    until("all see all", secs(11), || all_see_all(&nodes)).await;
    sleep(secs(100)).await;
    nodes[2].kill();
    let took = until("dead", secs(75), || nodes[..2].iter().all(|node| !node.sees("reader-2")));
    assert!(took.await >= secs(30), "dead before it could be known");
    sleep(secs(15)).await;
    assert_eq!(world.bucket.config().await.instances["reader-2"].status, Status::Dead);
    until("removed", secs(660), || nodes[0].view().node("reader-2").is_none()).await;
    assert!(all_see_all(&nodes[..2]));
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_was_removed_alive_registers_again() {
    let world = World::new();
    let nodes = world.readers(2).await;
    let mut config = world.bucket.config().await;
    config.instances.remove("reader-1");
    config.version += 100;
    world.bucket.upload(&String::from_utf8(config.encode().unwrap()).unwrap()).await;
    until("back", secs(31), || nodes[0].sees("reader-1")).await;
    assert_eq!(nodes[1].view().standing, Standing::Member);
}

#[tokio::test(start_paused = true)]
async fn twenty_that_join_at_once_all_get_in() {
    let world = World::new();
    let joins = (0..20).map(|number| {
        let world = world.clone();
        async move { world.start(&format!("reader-{number:02}"), Role::Reader).await }
    });
    let nodes: Vec<Node> = futures::future::join_all(joins).await;
    until("all see all", secs(60), || all_see_all(&nodes)).await;
    assert_eq!(world.bucket.config().await.instances.len(), 20);
    // One leads, and all know whom.
    let leaders = nodes.iter().filter(|node| node.member.leadership().is_some()).count();
    assert_eq!(leaders, 1);
}

#[tokio::test(start_paused = true)]
async fn a_broken_edit_is_reported_and_nothing_stops() {
    let world = World::new();
    let mut nodes = world.readers(3).await;
    until("all see all", secs(11), || all_see_all(&nodes)).await;
    let before = world.bucket.config().await;
    let broken = "{\n  \"version\": 7,\n  \"settings\": {\"dimensions\": 3,}\n}";
    world.bucket.upload(broken).await;
    until("reported", secs(11), || nodes.iter().all(|node| node.view().fault.is_some())).await;
    let fault = nodes[0].view().fault.clone().unwrap();
    assert_eq!((fault.line, fault.column), (3, 32), "{}", fault.message);
    let refused = nodes[0].member.set_role("reader-1", Role::Writer, false).await.unwrap_err();
    assert_eq!(refused.code(), Code::SharedConfigInvalid);
    // An instance that starts meanwhile is not turned away.
    nodes.push(world.start("late", Role::Reader).await);
    for _ in 0..30 {
        sleep(secs(10)).await;
        assert!(all_see_all(&nodes[..3]));
        assert_eq!(world.bucket.text().await.as_deref(), Some(broken), "it is the person's");
    }
    // Who dies meanwhile is noticed all the same.
    nodes[2].kill();
    until("dead", secs(80), || !nodes[0].sees("reader-2")).await;
    world.bucket.upload(&String::from_utf8(before.encode().unwrap()).unwrap()).await;
    until("mended", secs(31), || {
        nodes[0].view().fault.is_none() && nodes[0].sees("late") && nodes[0].sees("reader-1")
    })
    .await;
    sleep(secs(60)).await;
    assert!(world.bucket.config().await.version > before.version);
    assert!(nodes[0].sees("late") && nodes[0].sees("reader-1"));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_config_comes_back_as_it_was() {
    let world = World::new();
    let given = ClusterSettings { dimensions: Some(384), ..Default::default() };
    let settings = given.clone();
    let first = world.start_with("a", Role::Writer, |options| options.settings = settings).await;
    let nodes = [first.unwrap(), world.start("b", Role::Reader).await];
    until("all see all", secs(11), || all_see_all(&nodes)).await;
    let before = world.bucket.config().await;
    world.bucket.memory.delete(&config_key()).await.unwrap();
    sleep(secs(12)).await;
    let after = world.bucket.config().await;
    assert_eq!(after.settings, given);
    assert_eq!(after.instances.len(), 2);
    assert!(after.version > before.version, "{} after {}", after.version, before.version);
    assert!(all_see_all(&nodes));
}

#[tokio::test(start_paused = true)]
async fn an_older_copy_steers_but_turns_nothing_back() {
    let world = World::new();
    let mut nodes = world.readers(2).await;
    let older = world.bucket.config().await;
    // A second life of reader-1, of which the older copy knows nothing.
    nodes[1].member.leave().await.unwrap();
    nodes[1] = world.start("reader-1", Role::Reader).await;
    sleep(secs(120)).await;
    let before = world.bucket.config().await;
    let mut copy = older.clone();
    copy.settings.embedding_model = Some("minilm".into());
    world.bucket.upload(&String::from_utf8(copy.encode().unwrap()).unwrap()).await;
    for _ in 0..30 {
        sleep(secs(10)).await;
        assert!(all_see_all(&nodes));
        assert!(nodes.iter().all(|node| node.view().standing == Standing::Member));
    }
    let after = world.bucket.config().await;
    assert!(after.version > before.version);
    assert_eq!(after.settings.embedding_model.as_deref(), Some("minilm"));
    assert_eq!(after.instances["reader-1"].session.as_deref(), Some(&**nodes[1].member.session()));
}

#[tokio::test(start_paused = true)]
async fn other_settings_than_the_clusters_are_refused() {
    let world = World::new();
    let with = |dimensions| ClusterSettings { dimensions: Some(dimensions), ..Default::default() };
    let first = world.start_with("a", Role::Writer, |options| options.settings = with(384)).await;
    let first = first.unwrap();
    let refused = world.start_with("b", Role::Writer, |options| options.settings = with(3)).await;
    let error = refused.err().unwrap();
    assert_eq!(error.code(), Code::SettingsConflict, "{error}");
    world.start_with("c", Role::Writer, |options| options.settings = with(384)).await.unwrap();
    until("two", secs(11), || first.view().config.instances.len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_wanted_role_arrives_and_outlives_a_restart() {
    let world = World::new();
    let nodes = world.readers(2).await;
    let mut orders = nodes[1].member.orders();
    nodes[0].member.set_role("reader-1", Role::Writer, false).await.unwrap();
    let arrival = orders.wait_for(|orders| orders.role == Some(Role::Writer));
    tokio::time::timeout(secs(30), arrival).await.expect("within a heartbeat").unwrap();
    nodes[1].member.update_self(Role::Writer, Status::Active).await.unwrap();
    let entry = world.bucket.config().await.instances["reader-1"].clone();
    assert_eq!((entry.role, entry.wanted_role), (Role::Writer, Some(Role::Writer)));
    // The next life of this id is told at once, though it left cleanly.
    nodes[1].member.leave().await.unwrap();
    let again = world.start("reader-1", Role::Reader).await;
    assert_eq!(again.member.orders().borrow().role, Some(Role::Writer));
    let unknown = nodes[0].member.set_role("nobody", Role::Writer, false).await.unwrap_err();
    assert_eq!(unknown.code(), Code::InstanceNotFound);
}

#[tokio::test(start_paused = true)]
async fn only_the_dead_are_removed_by_hand() {
    let world = World::new();
    let nodes = world.readers(2).await;
    let refused = nodes[0].member.remove("reader-1").await.unwrap_err();
    assert_eq!(refused.code(), Code::InstanceAlive);
    nodes[1].kill();
    until("dead", secs(90), || !nodes[0].sees("reader-1")).await;
    nodes[0].member.remove("reader-1").await.unwrap();
    assert!(!world.bucket.config().await.instances.contains_key("reader-1"));
    let again = nodes[0].member.remove("reader-1").await.unwrap_err();
    assert_eq!(again.code(), Code::InstanceNotFound);
}

#[tokio::test(start_paused = true)]
async fn an_instance_cut_off_from_the_bucket_buries_nobody() {
    let world = World::new();
    let nodes = world.readers(3).await;
    until("all see all", secs(11), || all_see_all(&nodes)).await;
    nodes[0].line.send_replace(Line::Cut);
    sleep(secs(600)).await;
    assert!(nodes[0].sees("reader-1") && nodes[0].sees("reader-2"));
    assert!(nodes[0].view().heartbeat.failures > 10);
    assert!(!nodes[1].sees("reader-0"));
    nodes[0].line.send_replace(Line::Up);
    until("back", secs(31), || nodes[1].sees("reader-0")).await;
    for _ in 0..20 {
        sleep(secs(5)).await;
        assert!(all_see_all(&nodes));
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_bucket_kills_nobody() {
    let world = World::new();
    let nodes = world.readers(5).await;
    for outage in [20, 40, 70, 400] {
        sleep(secs(47)).await;
        until("all see all", secs(31), || all_see_all(&nodes)).await;
        nodes.iter().for_each(|node| node.set_line(Line::Cut));
        sleep(secs(outage)).await;
        nodes.iter().for_each(|node| node.set_line(Line::Up));
        for _ in 0..90 {
            sleep(secs(1)).await;
            assert!(all_see_all(&nodes), "after {outage} s");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn heartbeats_left_over_from_a_dead_life_are_cleared_away() {
    let world = World::new();
    let nodes = world.readers(2).await;
    world.bucket.upload("{").await;
    sleep(secs(90)).await;
    assert!(world.bucket.memory.len() >= 4, "heartbeats beside the config");
    world.bucket.memory.delete(&config_key()).await.unwrap();
    sleep(secs(600)).await;
    let page = world.bucket.memory.list(&paths::heartbeats(), None, 10).await.unwrap();
    assert!(page.objects.is_empty(), "{:?}", page.objects);
    assert!(all_see_all(&nodes));
}
