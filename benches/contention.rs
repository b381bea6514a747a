//! The share of log PUTs that lose their race, by the number of writer processes; and the proof
//! that nothing acknowledged is lost while two of them are killed. With `--shares`: what each of the
//! writers gets, and how long its clients wait, beside one writer alone.
//!
//!     cargo bench --bench contention -- [--records 200000] [--writers 1,2,4,8] [--batch 10]
//!     cargo bench --bench contention -- --shares [--writers 1,2,4,8] [--clients 1] [--offered 100]
//!     scripts/s3-server with seaweedfs cargo bench --bench contention
//!
//! The store is a folder, or `BRAINY_TEST_S3_URL` where that is set.

#[path = "../tests/blackbox/support/mod.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod support;

use clap::Parser;
use std::time::Duration;
use support::contention::{Plan, run};
use support::fairness::{self, Load};
use support::store::TestStore;

#[derive(Parser)]
struct Options {
    /// Records to append, in all.
    #[arg(long, default_value_t = 200_000)]
    records: usize,
    /// How many writer processes, one run for each number.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8")]
    writers: Vec<usize>,
    /// Clients of each writer; 8, or 1 with `--shares`.
    #[arg(long)]
    clients: Option<usize>,
    /// Measure shares and latencies.
    #[arg(long)]
    shares: bool,
    /// With `--shares`: writes offered to each writer in a second; without it each client sends the
    /// next one when the last is answered.
    #[arg(long, requires = "shares")]
    offered: Option<f64>,
    /// With `--shares`: seconds of each run.
    #[arg(long, default_value_t = 20, requires = "shares")]
    seconds: u64,
    /// Records of one request.
    #[arg(long, default_value_t = 10)]
    batch: usize,
    /// How often a writer is killed in a run of four writers or more.
    #[arg(long, default_value_t = 4)]
    kills: usize,
    /// When to kill whom.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// `cargo bench` says so; without it (`cargo test --all-targets`) nothing is measured.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let options = Options::parse();
    if !options.bench {
        return;
    }
    let store = std::env::var("BRAINY_TEST_S3_URL").unwrap_or_else(|_| "file://".to_owned());
    if options.shares {
        support::say(&format!("store: {store}, {} s a run", options.seconds));
        return measure_shares(&options).await;
    }
    support::say(&format!("store: {store}, {} records a run", options.records));
    println!(
        "{:>7} {:>5} {:>9} {:>10} {:>11} {:>9} {:>7} {:>9} {:>10}",
        "writers",
        "kills",
        "seconds",
        "records/s",
        "log entries",
        "PUTs lost",
        "share",
        "ambiguous",
        "unanswered"
    );
    for &writers in &options.writers {
        let killing = writers >= 4;
        let plan = Plan {
            writers,
            victims: if killing { 2 } else { 0 },
            kills: if killing { options.kills } else { 0 },
            clients: options.clients.unwrap_or(8),
            records: options.records,
            batch: options.batch,
            seed: options.seed,
        };
        let store = TestStore::new();
        let outcome = run(&plan, &store).await;
        println!(
            "{:>7} {:>5} {:>9.1} {:>10.0} {:>11} {:>9} {:>6.1}% {:>9} {:>10}",
            writers,
            outcome.kills,
            outcome.seconds,
            outcome.acknowledged as f64 / outcome.seconds,
            outcome.log_entries,
            outcome.appends_lost,
            100.0 * outcome.lost_share(),
            outcome.appends_ambiguous,
            outcome.unanswered,
        );
    }
    println!("every acknowledged record was found through a reader, none twice, no gap in the log");
}

/// One run for each number of writers, after one of a writer alone.
async fn measure_shares(options: &Options) {
    let load = Load {
        writers: 1,
        clients: options.clients.unwrap_or(1),
        offered: options.offered,
        time: Duration::from_secs(options.seconds),
    };
    let alone = fairness::run(&load).await.quantile(0.5).as_secs_f64();
    println!(
        "{:>7} {:>9} {:>11} {:>8} {:>8} {:>12} {:>10} {:>10}",
        "writers",
        "writes/s",
        "least/mean",
        "p50 ms",
        "p99 ms",
        "worst's p99",
        "p99/alone",
        "PUTs lost"
    );
    for &writers in &options.writers {
        let shares = fairness::run(&Load { writers, ..load }).await;
        let [p50, p99] = [0.5, 0.99].map(|share| shares.quantile(share).as_secs_f64());
        println!(
            "{:>7} {:>9.0} {:>11.2} {:>8.1} {:>8.1} {:>12.1} {:>10.1} {:>9.1}%",
            writers,
            shares.rate(),
            shares.least(),
            p50 * 1e3,
            p99 * 1e3,
            shares.worst_quantile(0.99).as_secs_f64() * 1e3,
            p99 / alone,
            100.0 * shares.lost_share(),
        );
    }
}
