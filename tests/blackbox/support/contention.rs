//! Several writer processes append to one collection at once while some of them are killed and
//! restarted; afterwards everything that was acknowledged has to be there, once.

use super::instance::Instance;
use super::store::TestStore;
use futures::future::{join, join_all};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

const COLLECTION: &str = "contended";
const DIMENSIONS: usize = 8;

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Writer processes.
    pub writers: usize,
    /// How many of them are killed, in turn.
    pub victims: usize,
    /// How often a victim is killed in all.
    pub kills: usize,
    /// Clients of each writer, each with one request in flight.
    pub clients: usize,
    /// Records to get acknowledged in all.
    pub records: usize,
    /// Records of one request.
    pub batch: usize,
    /// When to kill whom.
    pub seed: u64,
}

/// What happened.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Time until all records were acknowledged.
    pub seconds: f64,
    /// Records acknowledged.
    pub acknowledged: usize,
    /// Records of requests whose answer never came.
    pub unanswered: usize,
    /// Records that a reader found.
    pub found: usize,
    /// Log entries in the store.
    pub log_entries: usize,
    /// Conditional PUTs of log entries that won, as far as writers lived to tell.
    pub appends: u64,
    /// Those that lost a race.
    pub appends_lost: u64,
    /// Those that had to be read back.
    pub appends_ambiguous: u64,
    /// How often a writer was killed.
    pub kills: usize,
}

impl Outcome {
    /// The share of log PUTs that lost their race.
    pub fn lost_share(&self) -> f64 {
        self.appends_lost as f64 / (self.appends + self.appends_lost).max(1) as f64
    }
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Acknowledged { version: u64 },
    Unanswered,
}

/// Runs the plan and checks what has to hold; panics where it does not.
pub async fn run(plan: &Plan, store: &TestStore) -> Outcome {
    let start = async |n| Instance::start(store, "writer", &name(n)).await;
    let writers = join_all((0..plan.writers).map(start));
    let run = Run {
        plan,
        writers: writers.await.into_iter().map(Writer::new).collect(),
        next: Cell::new(0),
        acknowledged: watch::channel(0).0,
        fates: RefCell::default(),
        outcome: RefCell::default(),
        http: reqwest::Client::new(),
    };
    run.create_collection().await;
    let started = Instant::now();
    let clients =
        (0..plan.writers * plan.clients).map(|n| run.client(&run.writers[n % plan.writers]));
    join(join_all(clients), run.killer(store)).await;
    let mut outcome = run.outcome.borrow().clone_counts();
    outcome.seconds = started.elapsed().as_secs_f64();
    for writer in &run.writers {
        let instance = writer.instance.borrow_mut().take().expect("it runs");
        outcome.count(&instance).await;
    }
    check(&run.fates.take(), plan, store, &mut outcome).await;
    outcome
}

fn name(writer: usize) -> String {
    format!("writer-{writer}")
}

/// A writer process that may be replaced by its next life.
struct Writer {
    instance: RefCell<Option<Instance>>,
    url: watch::Sender<String>,
}

impl Writer {
    fn new(instance: Instance) -> Self {
        let url = watch::channel(instance.url.clone()).0;
        Writer { instance: RefCell::new(Some(instance)), url }
    }
}

/// Everything happens on one task, so plain cells do.
struct Run<'a> {
    plan: &'a Plan,
    writers: Vec<Writer>,
    /// The number of the next request.
    next: Cell<usize>,
    /// How many records are acknowledged; the killer waits on it.
    acknowledged: watch::Sender<usize>,
    fates: RefCell<HashMap<usize, Fate>>,
    outcome: RefCell<Outcome>,
    http: reqwest::Client,
}

impl Run<'_> {
    async fn create_collection(&self) {
        let body = json!({"name": COLLECTION, "dimensions": DIMENSIONS, "metric": "euclidean"});
        let url = format!("{}/v1/collections", *self.writers[0].url.borrow());
        let answer = self.http.post(url).json(&body).send().await.expect("it answers");
        assert_eq!(answer.status(), 201);
    }

    /// Sends one request after another to one writer until enough is acknowledged.
    async fn client(&self, writer: &Writer) {
        let mut url = writer.url.subscribe();
        while *self.acknowledged.borrow() < self.plan.records {
            let request = self.next.replace(self.next.get() + 1);
            let body = self.records(request);
            loop {
                let used = url.borrow_and_update().clone();
                let address = format!("{used}/v1/collections/{COLLECTION}/vectors");
                match self.http.post(address).json(&body).send().await {
                    Ok(answer) if answer.status() == StatusCode::TOO_MANY_REQUESTS => {
                        // Nothing was taken; the server asks for a pause.
                        sleep(Duration::from_millis(200)).await;
                    }
                    Ok(answer) => {
                        self.answered(request, answer).await;
                        break;
                    }
                    Err(fault) => {
                        // Only a request that reached nobody may be sent again as the same one.
                        let sent = !fault.is_connect();
                        if sent {
                            self.fates.borrow_mut().insert(request, Fate::Unanswered);
                        }
                        url.wait_for(|now| *now != used).await.expect("the writer lives again");
                        if sent {
                            break;
                        }
                    }
                }
            }
        }
    }

    async fn answered(&self, request: usize, answer: reqwest::Response) {
        let status = answer.status();
        let fate = match answer.text().await {
            Err(_) => Fate::Unanswered,
            Ok(text) => {
                assert_eq!(status, 200, "request {request}: {text}");
                let answer: Value = serde_json::from_str(&text).expect("JSON");
                let version = answer["version"].as_u64().expect("a version");
                self.acknowledged.send_modify(|records| *records += self.plan.batch);
                Fate::Acknowledged { version }
            }
        };
        self.fates.borrow_mut().insert(request, fate);
    }

    fn records(&self, request: usize) -> Value {
        let record = |n: usize| {
            let id = request * self.plan.batch + n;
            let vector: Vec<f32> = (0..DIMENSIONS).map(|d| (id * (d + 1) % 1_009) as f32).collect();
            json!({"id": format!("r{id:08}"), "vector": vector, "metadata": {"request": request}})
        };
        json!({"vectors": (0..self.plan.batch).map(record).collect::<Vec<_>>()})
    }

    /// Kills victims at random moments of the progress and starts each again on the same store.
    async fn killer(&self, store: &TestStore) {
        let mut rng = ChaCha8Rng::seed_from_u64(self.plan.seed);
        let victims: Vec<usize> = (0..self.plan.victims).collect();
        let mut progress = self.acknowledged.subscribe();
        for kill in 0..self.plan.kills {
            let share = (kill as f64 + rng.random_range(0.1..0.9)) / self.plan.kills as f64;
            let moment = (self.plan.records as f64 * share) as usize;
            progress.wait_for(|records| *records >= moment).await.expect("clients go on");
            let victim = *victims.choose(&mut rng).expect("a kill needs a victim");
            let writer = &self.writers[victim];
            let mut instance = writer.instance.borrow_mut().take().expect("it runs");
            let mut outcome = self.outcome.take();
            outcome.count(&instance).await;
            instance.kill();
            outcome.kills += 1;
            self.outcome.replace(outcome);
            let next_life = Instance::start(store, "writer", &name(victim)).await;
            writer.url.send_replace(next_life.url.clone());
            writer.instance.replace(Some(next_life));
        }
    }
}

impl Outcome {
    /// Adds the counters of a process that is about to end.
    async fn count(&mut self, instance: &Instance) {
        self.appends += instance.counter("brainy_wal_appends_total").await;
        self.appends_lost += instance.counter("brainy_wal_appends_lost_total").await;
        self.appends_ambiguous += instance.counter("brainy_wal_appends_ambiguous_total").await;
    }

    fn clone_counts(&self) -> Outcome {
        Outcome {
            appends: self.appends,
            appends_lost: self.appends_lost,
            appends_ambiguous: self.appends_ambiguous,
            kills: self.kills,
            ..Outcome::default()
        }
    }
}

/// Reads everything back through a reader process and compares.
async fn check(
    fates: &HashMap<usize, Fate>,
    plan: &Plan,
    store: &TestStore,
    outcome: &mut Outcome,
) {
    let reader = Instance::start(store, "reader", "reader").await;
    let newest = fates.values().filter_map(|fate| match fate {
        Fate::Acknowledged { version } => Some(*version),
        Fate::Unanswered => None,
    });
    let newest = newest.max().expect("something was acknowledged");
    let search = json!({"vector": vec![0.0; DIMENSIONS], "k": 1, "minVersion": newest,
        "waitMs": 60_000});
    let (status, answer) =
        reader.post(&format!("/v1/collections/{COLLECTION}/search"), &search).await;
    assert_eq!(status, 200, "{answer}");

    let export = reader.text(&format!("/v1/collections/{COLLECTION}/export")).await;
    let mut found: HashMap<usize, usize> = HashMap::new();
    let mut ids: Vec<String> = Vec::new();
    for line in export.lines() {
        let record: Value = serde_json::from_str(line).expect("a JSON line");
        let request = record["metadata"]["request"].as_u64().expect("its request") as usize;
        *found.entry(request).or_default() += 1;
        ids.push(record["id"].as_str().expect("an id").to_owned());
    }
    outcome.found = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), outcome.found, "a record was found twice");
    for (request, count) in &found {
        assert!(fates.contains_key(request), "request {request} was never sent");
        assert_eq!(*count, plan.batch, "request {request} was stored in part");
    }
    for (request, fate) in fates {
        match fate {
            Fate::Acknowledged { version } => {
                assert!(found.contains_key(request), "request {request} at {version} was lost");
                outcome.acknowledged += plan.batch;
            }
            Fate::Unanswered => outcome.unanswered += plan.batch,
        }
    }

    let sequence = store.log_sequence(COLLECTION).await;
    outcome.log_entries = sequence.len();
    let gap = sequence.windows(2).find(|pair| pair[1] != pair[0] + 1);
    assert_eq!(gap, None, "the log has a gap");
    assert!(sequence.last() >= Some(&newest), "{newest} was acknowledged and is not in the log");
}
