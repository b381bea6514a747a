//! Several writer processes append to one collection at once: what each of them gets, and how long its
//! clients wait.

use super::instance::Instance;
use super::store::TestStore;
use futures::future::join_all;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

const COLLECTION: &str = "shared";

/// What to do.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Writer processes.
    pub writers: usize,
    /// Clients of each writer, each with one request in flight.
    pub clients: usize,
    /// Writes that are offered to each writer in a second, by a Poisson process; none: each client sends
    /// the next one when the last is answered.
    pub offered: Option<f64>,
    /// For how long.
    pub time: Duration,
}

/// What the writers got.
#[derive(Debug)]
pub struct Shares {
    /// How long each write took, by writer, ascending.
    took: Vec<Vec<Duration>>,
    /// Conditional PUTs of log entries that won, and that lost a race.
    appends: (u64, u64),
    time: Duration,
}

impl Shares {
    /// Writes of each writer.
    pub fn writes(&self) -> Vec<usize> {
        self.took.iter().map(Vec::len).collect()
    }

    /// Writes of all in a second.
    pub fn rate(&self) -> f64 {
        self.writes().iter().sum::<usize>() as f64 / self.time.as_secs_f64()
    }

    /// What the slowest writer got, as a part of the mean.
    pub fn least(&self) -> f64 {
        let writes = self.writes();
        let mean = writes.iter().sum::<usize>() as f64 / writes.len() as f64;
        writes.into_iter().min().unwrap_or(0) as f64 / mean
    }

    /// The latency that so large a share of all writes stays below.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut all = self.took.concat();
        all.sort_unstable();
        at(&all, share)
    }

    /// The same of the writer for which it is longest.
    pub fn worst_quantile(&self, share: f64) -> Duration {
        self.took.iter().map(|took| at(took, share)).max().unwrap_or_default()
    }

    /// The share of log PUTs that lost their race.
    pub fn lost_share(&self) -> f64 {
        let (won, lost) = self.appends;
        lost as f64 / (won + lost).max(1) as f64
    }
}

fn at(sorted: &[Duration], share: f64) -> Duration {
    let place = (sorted.len() as f64 * share) as usize;
    sorted.get(place).copied().unwrap_or(Duration::MAX)
}

/// Runs the load on a fresh store.
pub async fn run(load: &Load) -> Shares {
    let store = TestStore::new();
    let names: Vec<String> = (0..load.writers).map(|n| format!("writer-{n}")).collect();
    let writers: Vec<Instance> =
        join_all(names.iter().map(|name| Instance::start(&store, "writer", name))).await;
    let body = json!({"name": COLLECTION, "dimensions": 8, "metric": "euclidean"});
    let (status, answer) = writers[0].post("/v1/collections", &body).await;
    assert_eq!(status, 201, "{answer}");
    let http = reqwest::Client::new();
    let before = appends(&writers).await;
    let end = Instant::now() + load.time;
    let clients = (0..load.writers * load.clients)
        .map(|n| client(load, &http, &writers[n % load.writers], n, end));
    let mut took = vec![Vec::new(); load.writers];
    for (client, times) in join_all(clients).await.into_iter().enumerate() {
        took[client % load.writers].extend(times);
    }
    took.iter_mut().for_each(|took| took.sort_unstable());
    let after = appends(&writers).await;
    Shares { took, appends: (after.0 - before.0, after.1 - before.1), time: load.time }
}

async fn appends(writers: &[Instance]) -> (u64, u64) {
    let (mut won, mut lost) = (0, 0);
    for writer in writers {
        won += writer.counter("brainy_wal_appends_total").await;
        lost += writer.counter("brainy_wal_appends_lost_total").await;
    }
    (won, lost)
}

/// One client's writes, and how long each took.
async fn client(
    load: &Load,
    http: &reqwest::Client,
    writer: &Instance,
    client: usize,
    end: Instant,
) -> Vec<Duration> {
    let address = format!("{}/v1/collections/{COLLECTION}/vectors", writer.url);
    let mut rng = ChaCha8Rng::seed_from_u64(client as u64);
    let mut took = Vec::new();
    let mut next = Instant::now();
    for number in 0.. {
        if let Some(rate) = load.offered {
            let pause = -(1.0 - rng.random_range(0.0..1.0_f64)).ln() * load.clients as f64 / rate;
            next = (next + Duration::from_secs_f64(pause)).max(Instant::now());
            sleep_until(next).await;
        }
        let begun = Instant::now();
        if begun >= end {
            break;
        }
        let record = json!({"id": format!("{client}-{number}"), "vector": vec![number as f32; 8]});
        let body = json!({"vectors": [record]});
        let answer = http.post(&address).json(&body).send().await.expect("it answers");
        assert_eq!(answer.status(), 200);
        drop(answer.bytes().await.expect("the whole answer"));
        took.push(begun.elapsed());
    }
    took
}
