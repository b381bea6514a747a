//! The share of log PUTs that lose their race, by the number of writer processes; and the proof
//! that nothing acknowledged is lost while two of them are killed.
//!
//!     cargo bench --bench contention -- [--records 200000] [--writers 1,2,4,8] [--batch 10]
//!     scripts/s3-server with seaweedfs cargo bench --bench contention
//!
//! The store is a folder, or `BRAINY_TEST_S3_URL` where that is set.

#[path = "../tests/blackbox/support/mod.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod support;

use clap::Parser;
use support::contention::{Plan, run};
use support::store::TestStore;

#[derive(Parser)]
struct Options {
    /// Records to append, in all.
    #[arg(long, default_value_t = 200_000)]
    records: usize,
    /// How many writer processes, one run for each number.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8")]
    writers: Vec<usize>,
    /// Clients of each writer.
    #[arg(long, default_value_t = 8)]
    clients: usize,
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
    for writers in options.writers {
        let killing = writers >= 4;
        let plan = Plan {
            writers,
            victims: if killing { 2 } else { 0 },
            kills: if killing { options.kills } else { 0 },
            clients: options.clients,
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
