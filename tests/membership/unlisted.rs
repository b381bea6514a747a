//! Readers that may only read the store.

use crate::support::{Line, World, secs, until};
use brainy::base::Code;
use brainy::base::settings::Role;
use brainy::cluster::{Standing, Status};
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn a_reader_that_may_not_write_looks_on_until_it_may() {
    let world = World::new();
    let writer = world.start("w", Role::Writer).await;
    let reader = world.start_on("r", Role::Reader, Line::ReadOnly).await.unwrap();
    assert_eq!(reader.view().standing, Standing::Unlisted);
    assert!(reader.sees("w") && reader.view().node("r").is_none());
    // It sees who comes and who goes, and costs no more than that.
    let late = world.start("late", Role::Writer).await;
    until("seen", secs(31), || reader.sees("late")).await;
    late.kill();
    until("dead", secs(95), || !reader.sees("late")).await;
    sleep(secs(3_600)).await;
    assert!((1..=8).contains(&world.bucket.refused()), "{}", world.bucket.refused());
    assert_eq!(world.bucket.config().await.instances.keys().collect::<Vec<_>>(), ["w"]);
    assert_eq!(reader.view().heartbeat.failures, 0);
    // Nobody can ask anything of it, whatever stands under its id.
    reader.member.update_self(Role::Reader, Status::Degraded).await.unwrap();
    assert_eq!(reader.member.orders().borrow().role, None);
    let refused = reader.member.set_role("w", Role::Reader, true).await.unwrap_err();
    assert_eq!(refused.code(), Code::StoreDenied);

    reader.set_line(Line::Up);
    until("listed", secs(700), || reader.view().standing == Standing::Member).await;
    until("seen", secs(31), || writer.sees("r")).await;
    sleep(secs(300)).await;
    assert!(writer.sees("r"), "it goes on writing heartbeats");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_not_listed_leaves_without_a_word_and_takes_no_id() {
    let world = World::new();
    let listed = world.start("r", Role::Reader).await;
    listed.kill();
    sleep(secs(100)).await;
    // What is left of another life of its id is not taken for its own.
    let unlisted = world.start_on("r", Role::Reader, Line::ReadOnly).await.unwrap();
    until("judged", secs(100), || !unlisted.sees("r")).await;
    let again = world.start("r", Role::Reader).await;
    until("seen", secs(31), || unlisted.sees("r")).await;
    unlisted.set_line(Line::Up);
    sleep(secs(1_300)).await;
    assert_eq!(unlisted.view().standing, Standing::Unlisted, "the id is taken");
    assert_eq!(again.view().standing, Standing::Member, "and stays so");
    unlisted.set_line(Line::ReadOnly);
    unlisted.member.leave().await.unwrap();
    assert_eq!(unlisted.view().standing, Standing::Left);
    assert!(again.sees("r"));
}

#[tokio::test(start_paused = true)]
async fn others_need_to_write_and_so_does_who_was_listed() {
    let world = World::new();
    for role in [Role::Writer, Role::Hybrid] {
        let refused = world.start_on("w", role, Line::ReadOnly).await.err().unwrap();
        assert_eq!(refused.code(), Code::StoreDenied, "{role:?}");
    }
    let reader = world.start("r", Role::Reader).await;
    reader.set_line(Line::ReadOnly);
    until("noticed", secs(120), || reader.view().heartbeat.failures >= 2).await;
    assert_eq!(reader.view().standing, Standing::Member, "its rights have been taken away");
}
