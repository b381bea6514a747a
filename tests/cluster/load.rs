//! Clients that write all the time and remember what they were answered, and the check that it is true.

use crate::cluster::{Node, ask};
use crate::support::store::TestStore;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub const COLLECTION: &str = "shared";
pub const VECTORS: &str = "/v1/collections/shared/vectors";
pub const SEARCH: &str = "/v1/collections/shared/search";
/// The record that every request overwrites.
const REGISTER: &str = "register";
/// How long a client waits for an answer: longer than any node stands still.
const ANSWER_MAX: Duration = Duration::from_secs(90);
/// Between two requests of one client, so that a test does not measure the machine.
const PAUSE: Duration = Duration::from_millis(20);

/// What a request writes: a record of its own, and its name into the register.
pub fn records(name: &str) -> Value {
    let record = |id: &str| json!({"id": id, "vector": [1.0, 2.0], "metadata": {"by": name}});
    json!({ "vectors": [record(name), record(REGISTER)] })
}

/// What clients were answered.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Acknowledged requests, their versions, and when the answers came.
    acknowledged: BTreeMap<String, (u64, Instant)>,
    /// Requests of which at least one attempt had no answer, or one that leaves it open.
    open: BTreeSet<String>,
}

impl Ledger {
    /// How many requests were acknowledged.
    pub fn count(&self) -> usize {
        self.acknowledged.len()
    }

    /// When a request of the clients whose names start with `prefix` was first acknowledged after
    /// `moment`.
    pub fn next_after(&self, prefix: &str, moment: Instant) -> Option<Instant> {
        let theirs = self.acknowledged.iter().filter(|(name, _)| name.starts_with(prefix));
        theirs.map(|(_, (_, at))| *at).filter(|at| *at > moment).min()
    }

    /// Somebody else may have written `name`.
    pub fn leave_open(&mut self, name: &str) {
        self.open.insert(name.to_owned());
    }

    /// The greatest acknowledged version, and who may be in the register if nothing was lost, stored
    /// twice or put into another order.
    fn last(&self) -> (u64, BTreeSet<&str>) {
        let newest = self.acknowledged.values().map(|(version, _)| *version).max();
        let newest = newest.expect("something was acknowledged");
        let last = self.acknowledged.iter().filter(|(_, (version, _))| *version == newest);
        let names = last.map(|(name, _)| name).chain(&self.open);
        (newest, names.map(String::as_str).collect())
    }
}

/// Clients that write.
pub struct Load {
    clients: JoinSet<()>,
    stop: CancellationToken,
    ledger: Arc<Mutex<Ledger>>,
    http: reqwest::Client,
}

impl Load {
    pub fn new(http: &reqwest::Client) -> Load {
        let (clients, stop) = (JoinSet::new(), CancellationToken::new());
        Load { clients, stop, ledger: Arc::default(), http: http.clone() }
    }

    /// Adds a client. It tries each request at one endpoint after another until it is acknowledged.
    pub fn add(&mut self, name: &str, endpoints: &[&str]) {
        let endpoints: Vec<String> =
            endpoints.iter().map(|url| format!("{url}{VECTORS}")).collect();
        let (name, http) = (name.to_owned(), self.http.clone());
        let (ledger, stop) = (self.ledger.clone(), self.stop.clone());
        self.clients.spawn(async move {
            let mut endpoints = endpoints.iter().cycle();
            let mut at = endpoints.next().expect("a client needs an endpoint");
            for n in 0.. {
                let request = format!("{name}-{n}");
                while !write(&http, at, &request, &ledger).await {
                    if stop.is_cancelled() {
                        return;
                    }
                    at = endpoints.next().expect("it never ends");
                    sleep(PAUSE).await;
                }
                if stop.is_cancelled() {
                    return;
                }
                sleep(PAUSE).await;
            }
        });
    }

    /// What was answered so far.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no client panicked")
    }

    /// Waits until so many more requests were acknowledged; how long that took.
    pub async fn goes_on(&self, more: usize) -> Duration {
        let (from, started) = (self.ledger().count(), Instant::now());
        crate::cluster::until("writes go on", crate::cluster::PATIENCE, async || {
            (self.ledger().count() >= from + more).then_some(())
        })
        .await;
        started.elapsed()
    }

    /// Waits for the last answers, and compares what `reader` has with them.
    pub async fn check(mut self, reader: &Node, store: &TestStore) {
        self.stop.cancel();
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("no client panicked");
        }
        let ledger = std::mem::take(&mut *self.ledger());
        let (newest, last) = ledger.last();
        let search = json!({"vector": [1.0, 2.0], "k": 1, "minVersion": newest, "waitMs": 30_000});
        let (status, answer) = reader.post(SEARCH, &search).await;
        assert_eq!(status, 200, "{answer}\n{}", reader.log_tail());
        let path = format!("/v1/collections/{COLLECTION}/export");
        let found: BTreeMap<String, String> = reader
            .text(&path)
            .await
            .lines()
            .map(|line| {
                let record: Value = serde_json::from_str(line).expect("a JSON line");
                let text = |value: &Value| value.as_str().expect("text").to_owned();
                (text(&record["id"]), text(&record["metadata"]["by"]))
            })
            .collect();
        for name in ledger.acknowledged.keys() {
            assert_eq!(found.get(name), Some(name), "an acknowledged record was lost");
        }
        for name in found.keys().filter(|name| *name != REGISTER) {
            let known = ledger.acknowledged.contains_key(name) || ledger.open.contains(name);
            assert!(known, "nobody wrote {name}");
        }
        let register = found.get(REGISTER).expect("every request writes it");
        assert!(last.contains(register.as_str()), "{register} is in the place of {last:?}");
        let sequence = store.log_sequence(COLLECTION).await;
        let gap = sequence.windows(2).find(|pair| pair[1] != pair[0] + 1);
        assert_eq!(gap, None, "the log has a gap");
    }
}

/// Sends one request; whether it was acknowledged.
async fn write(http: &reqwest::Client, url: &str, name: &str, ledger: &Mutex<Ledger>) -> bool {
    let answer = ask(http, Method::POST, url, Some(&records(name)), ANSWER_MAX).await;
    let mut ledger = ledger.lock().expect("no client panicked");
    match answer {
        Ok((200, answer)) => {
            let version = answer["version"].as_u64().expect("a version");
            ledger.acknowledged.insert(name.to_owned(), (version, Instant::now()));
            return true;
        }
        Ok((_, answer)) if answer["error"]["details"]["ambiguous"] == true => {
            ledger.open.insert(name.to_owned());
        }
        Ok(_) => {}
        Err(fault) if fault.is_connect() => {}
        Err(_) => {
            ledger.open.insert(name.to_owned());
        }
    }
    false
}
