//! Several writers on one collection: each gets its share, and none waits long. The real engine under
//! paused time, on a store in memory whose requests take as long as a bucket's.

use async_trait::async_trait;
use brainy::base::clock::VirtualClock;
use brainy::base::defect::{Defect, Defects};
use brainy::base::ids::CollectionName;
use brainy::base::rng::{Rng, SeededRng};
use brainy::base::settings::{Role, Settings};
use brainy::base::{Env, Result, Timestamp};
use brainy::engine::Brainy;
use brainy::engine::model::NewRecord;
use brainy::store::memory::MemoryStore;
use brainy::store::{
    DynStore, Etag, Fetched, GetOptions, Key, Listing, Precondition, Prefix, PutOutcome, Store,
};
use bytes::Bytes;
use futures::future::join_all;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// One writer's way to the store.
#[derive(Debug)]
struct Way {
    store: Arc<MemoryStore>,
    rng: SeededRng,
    put: Duration,
    get: Duration,
    /// Whether now and then a request takes much longer, as where a disk writes at last.
    rough: bool,
    /// While it is true nothing gets through, as for a process that was stopped.
    stopped: watch::Receiver<bool>,
    puts: AtomicU64,
    gets: AtomicU64,
}

impl Way {
    /// Half of a request's time, more or less.
    async fn half(&self, time: Duration) {
        let slow = if self.rough && self.rng.below(16) == 0 { 8.0 } else { 1.0 };
        sleep(time.mul_f64(0.4 * slow) + self.rng.jitter(time.mul_f64(0.2))).await;
        let mut stopped = self.stopped.clone();
        stopped.wait_for(|stopped| !*stopped).await.expect("the test goes on");
    }

    async fn around<T>(&self, time: Duration, work: impl Future<Output = T>) -> T {
        self.half(time).await;
        let result = work.await;
        self.half(time).await;
        result
    }
}

#[async_trait]
impl Store for Way {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        self.around(self.get, self.store.get(key, options)).await
    }
    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        self.puts.fetch_add(1, Ordering::Relaxed);
        self.around(self.put, self.store.put(key, body)).await
    }
    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        self.puts.fetch_add(1, Ordering::Relaxed);
        self.around(self.put, self.store.put_if(key, body, condition)).await
    }
    async fn delete(&self, key: &Key) -> Result<()> {
        self.around(self.get, self.store.delete(key)).await
    }
    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        self.around(self.put, self.store.list(prefix, after, limit)).await
    }
    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        self.around(self.put, self.store.list_dirs(prefix)).await
    }
}

#[derive(Clone, Copy)]
struct Plan {
    writers: usize,
    clients: usize,
    /// Writes that each client offers in a second; none: the next one as soon as the last is answered.
    offered: Option<f64>,
    put: Duration,
    get: Duration,
    /// One request in eight takes much longer.
    rough: bool,
    /// How much slower each writer's way is than that of the one before.
    slower: f64,
    /// One writer stands still from the first to the second of these.
    stopped: Option<(Duration, Duration)>,
    time: Duration,
    defect: Option<Defect>,
}

const MS: Duration = Duration::from_millis(1);

impl Default for Plan {
    fn default() -> Self {
        Plan {
            writers: 1,
            clients: 1,
            offered: None,
            put: MS * 60,
            get: MS * 15,
            rough: false,
            slower: 1.0,
            stopped: None,
            time: Duration::from_secs(60),
            defect: None,
        }
    }
}

#[derive(Debug)]
struct Outcome {
    writes: Vec<usize>,
    /// How long each write took, ascending.
    took: Vec<Duration>,
    /// The same of each writer.
    took_by: Vec<Vec<Duration>>,
    lost_share: f64,
    puts: f64,
    gets: f64,
}

impl Outcome {
    /// What the slowest writer got, as a part of the mean.
    fn least(&self) -> f64 {
        let mean = self.writes.iter().sum::<usize>() as f64 / self.writes.len() as f64;
        *self.writes.iter().min().unwrap() as f64 / mean
    }

    fn at(&self, share: f64) -> Duration {
        self.took[(self.took.len() as f64 * share) as usize]
    }

    fn say(&self, what: &str) {
        println!(
            "{what}: least {:.2} of the mean, {} writes, p50 {:?}, p99 {:?}, max {:?}, lost {:.1} %, \
             {:.2} PUTs and {:.2} GETs a write, {:?}",
            self.least(),
            self.took.len(),
            self.at(0.5),
            self.at(0.99),
            self.took.last().unwrap(),
            100.0 * self.lost_share,
            self.puts,
            self.gets,
            self.writes,
        );
    }
}

fn record(id: String) -> NewRecord {
    NewRecord { id: Some(id), vector: vec![1.0, 0.0], metadata: None, text: None }
}

async fn run(plan: Plan) -> Outcome {
    let shared = Arc::new(MemoryStore::default());
    let clock = Arc::new(VirtualClock::starting_at(Timestamp(1_768_473_000_000)));
    let (stop, stopped) = watch::channel(false);
    let (_go, going) = watch::channel(false);
    let name = CollectionName::new("fair").unwrap();
    let mut writers = Vec::new();
    for number in 0..plan.writers {
        let slower = plan.slower.powi(number as i32);
        let way = Arc::new(Way {
            store: shared.clone(),
            rng: SeededRng::new(number as u64),
            put: plan.put.mul_f64(slower),
            get: plan.get.mul_f64(slower),
            rough: plan.rough,
            stopped: if number == 0 { stopped.clone() } else { going.clone() },
            puts: AtomicU64::new(0),
            gets: AtomicU64::new(0),
        });
        let mut env = Env::deterministic(1_000 + number as u64, clock.clone());
        if let Some(defect) = plan.defect {
            env.defects = Defects::only(defect);
        }
        let settings = Settings { index_enabled: false, ..Settings::default() };
        let store: DynStore = way.clone();
        let brainy = Brainy::start(settings, Role::Writer, store, env.clone()).await.unwrap();
        // The first one makes the collection.
        brainy.upsert(&name, vec![record(format!("first-{number}"))]).await.unwrap();
        writers.push((brainy, env, way));
    }
    let before: Vec<(u64, u64, u64, u64)> = writers.iter().map(counts).collect();
    let end = Instant::now() + plan.time;
    if let Some((from, to)) = plan.stopped {
        writers[0].1.tasks.spawn("stopper", async move {
            sleep(from).await;
            stop.send_replace(true);
            sleep(to - from).await;
            stop.send_replace(false);
            sleep(plan.time * 2).await;
        });
    }
    let clients = (0..plan.writers * plan.clients).map(|client| {
        let (brainy, name) = (&writers[client % plan.writers].0, &name);
        async move { (client % plan.writers, write(plan, client, brainy, name, end).await) }
    });
    let mut took_by = vec![Vec::new(); plan.writers];
    for (writer, took) in join_all(clients).await {
        took_by[writer].extend(took);
    }
    let after: Vec<(u64, u64, u64, u64)> = writers.iter().map(counts).collect();
    let sum = |of: fn(&(u64, u64, u64, u64)) -> u64| {
        (after.iter().map(of).sum::<u64>() - before.iter().map(of).sum::<u64>()) as f64
    };
    let mut took = took_by.concat();
    took.sort_unstable();
    took_by.iter_mut().for_each(|took| took.sort_unstable());
    let (won, lost) = (sum(|counts| counts.0), sum(|counts| counts.1));
    Outcome {
        writes: took_by.iter().map(Vec::len).collect(),
        lost_share: lost / (won + lost),
        puts: sum(|counts| counts.2) / took.len() as f64,
        gets: sum(|counts| counts.3) / took.len() as f64,
        took,
        took_by,
    }
}

fn counts((_, env, way): &(Brainy, Env, Arc<Way>)) -> (u64, u64, u64, u64) {
    (
        env.metrics.wal_appends.get(),
        env.metrics.wal_appends_lost.get(),
        way.puts.load(Ordering::Relaxed),
        way.gets.load(Ordering::Relaxed),
    )
}

/// One client's writes until `end`, one at a time, and how long each took.
async fn write(
    plan: Plan,
    client: usize,
    brainy: &Brainy,
    name: &CollectionName,
    end: Instant,
) -> Vec<Duration> {
    let rng = SeededRng::new(client as u64 + 77);
    let mut took = Vec::new();
    let mut next = Instant::now() + rng.jitter(plan.put);
    for number in 0.. {
        sleep_until(next).await;
        let begun = Instant::now();
        if begun >= end {
            break;
        }
        brainy.upsert(name, vec![record(format!("{client}-{number}"))]).await.unwrap();
        // The first writes find out that there are others.
        if begun + plan.time * 9 / 10 > end {
            took.push(begun.elapsed());
        }
        // Arrivals of a Poisson process, as far as the last answer is there.
        let pause = plan.offered.map(|rate| -(1.0 - rng.unit()).ln() / rate);
        next += pause.map_or(begun.elapsed(), Duration::from_secs_f64);
    }
    took
}

fn check(what: &str, outcome: &Outcome, alone: &Outcome) {
    check_within(5.0, what, outcome, alone);
}

/// With the 99th percentile below so many times what half of the writes of one alone take.
fn check_within(times: f64, what: &str, outcome: &Outcome, alone: &Outcome) {
    outcome.say(what);
    assert!(outcome.least() >= 0.5, "{what}: {:?}", outcome.writes);
    assert!(outcome.at(0.99) < alone.at(0.5).mul_f64(times), "{what}: {:?}", outcome.at(0.99));
    assert!(*outcome.took.last().unwrap() < alone.at(0.5) * 25, "{what}");
    assert!(outcome.lost_share < 0.25, "{what}: {}", outcome.lost_share);
}

#[tokio::test(start_paused = true)]
async fn every_writer_gets_its_share_and_none_waits_long() {
    let alone = run(Plan::default()).await;
    alone.say("alone");
    assert!(alone.at(0.99) < MS * 75);
    for writers in [2, 3, 4, 8, 16] {
        let plan = Plan { writers, ..Plan::default() };
        check(&format!("{writers} writers"), &run(plan).await, &alone);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_each_writer_is_under_way_at_a_time() {
    let alone = run(Plan { clients: 8, ..Plan::default() }).await;
    alone.say("alone, 8 clients");
    for writers in [2, 4, 8] {
        let plan = Plan { writers, clients: 8, ..Plan::default() };
        check(&format!("{writers} writers, 8 clients each"), &run(plan).await, &alone);
    }
}

#[tokio::test(start_paused = true)]
async fn writers_that_offer_less_than_they_could_wait_no_longer() {
    for (offered, seconds) in [(0.2, 1_500), (1.0, 300), (4.0, 100), (10.0, 60)] {
        let time = Duration::from_secs(seconds);
        let plan = Plan { offered: Some(offered), time, ..Plan::default() };
        let alone = run(plan).await;
        alone.say("alone");
        for writers in [2, 4, 8] {
            let outcome = run(Plan { writers, ..plan }).await;
            // Measured are 5.0 at most, and 6.5 where many writers are neither idle nor busy.
            let times = if (writers, offered) == (8, 1.0) { 7.0 } else { 5.5 };
            let what = format!("{writers} writers at {offered} a second");
            check_within(times, &what, &outcome, &alone);
        }
    }
}

/// Where a GET costs next to nothing, as in a folder.
#[tokio::test(start_paused = true)]
async fn on_a_store_with_quick_reads() {
    let plan = Plan { put: MS * 4, get: MS / 5, time: Duration::from_secs(20), ..Plan::default() };
    let alone = run(plan).await;
    alone.say("alone");
    for (writers, offered) in [(2, None), (8, None), (2, Some(100.0)), (8, Some(100.0))] {
        let outcome = run(Plan { writers, offered, ..plan }).await;
        check(&format!("{writers} writers at {offered:?}"), &outcome, &alone);
    }
    for (writers, clients) in [(2, 1), (2, 8), (4, 8), (8, 8)] {
        let outcome = run(Plan { writers, clients, rough: true, ..plan }).await;
        outcome.say(&format!("{writers} writers, {clients} clients each, on a disk"));
        assert!(outcome.least() >= 0.5 && outcome.lost_share < 0.25);
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_far_from_the_store_gets_its_share_too() {
    let plan = Plan { writers: 4, slower: 1.3, ..Plan::default() };
    let outcome = run(plan).await;
    outcome.say("each 1.3 times as far as the one before");
    assert!(outcome.least() >= 0.5);
    assert!(outcome.lost_share < 0.1);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_stands_still_holds_nobody_up_for_long() {
    let alone = run(Plan::default()).await;
    for from in [20_000, 20_040, 20_090, 21_000, 22_000] {
        let stopped = Some((MS * from, Duration::from_secs(50)));
        let outcome = run(Plan { writers: 4, stopped, ..Plan::default() }).await;
        outcome.say("one of 4 writers stands still");
        for took in &outcome.took_by[1..] {
            assert!(*took.last().unwrap() < alone.at(0.5) * 15, "{:?}", took.last());
        }
        assert!(outcome.lost_share < 0.1);
    }
}

/// What these tests would miss otherwise.
#[tokio::test(start_paused = true)]
async fn a_writer_that_takes_nobody_along_is_noticed() {
    let hog = Some(Defect::HogTheLog);
    let outcome = run(Plan { writers: 2, defect: hog, ..Plan::default() }).await;
    outcome.say("hogs");
    assert!(outcome.least() < 0.5 || *outcome.took.last().unwrap() > Duration::from_secs(3));
}
