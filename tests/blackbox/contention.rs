//! Several writers at once, some of them killed. `cargo bench --bench contention` runs the long
//! version and prints a table.

use crate::support::contention::{Plan, run};
use crate::support::fairness::{self, Load};
use crate::support::say;
use crate::support::store::TestStore;
use std::time::Duration;
use tokio::time::timeout;

#[tokio::test]
async fn nothing_acknowledged_is_lost_and_nothing_is_stored_twice() {
    let plan =
        Plan { writers: 4, victims: 2, kills: 4, clients: 8, records: 20_000, batch: 10, seed: 7 };
    let store = TestStore::new();
    let outcome =
        timeout(Duration::from_secs(600), run(&plan, &store)).await.expect("the writers get on");
    say(&format!(
        "contention: {} records acknowledged in {:.1} s, {} without an answer, {} found, {} log \
         entries, {:.1} % of log PUTs lost, {} ambiguous, {} kills",
        outcome.acknowledged,
        outcome.seconds,
        outcome.unanswered,
        outcome.found,
        outcome.log_entries,
        100.0 * outcome.lost_share(),
        outcome.appends_ambiguous,
        outcome.kills,
    ));
    assert!(outcome.acknowledged >= plan.records);
    assert_eq!(outcome.kills, plan.kills);
}

/// How long writes take is measured by `cargo bench --bench contention -- --shares`, on a machine that does
/// nothing else.
#[tokio::test]
async fn every_writer_gets_its_share() {
    let load = Load { writers: 4, clients: 1, offered: None, time: Duration::from_secs(6) };
    let shares =
        timeout(Duration::from_secs(120), fairness::run(&load)).await.expect("the writers get on");
    say(&format!(
        "fairness: {:?} writes in {:?}, p50 {:?}, p99 {:?}, {:.1} % of log PUTs lost",
        shares.writes(),
        load.time,
        shares.quantile(0.5),
        shares.quantile(0.99),
        100.0 * shares.lost_share(),
    ));
    assert!(shares.least() >= 0.5, "{:?}", shares.writes());
    assert!(shares.lost_share() < 0.25, "{}", shares.lost_share());
}
