//! Is this store safe to write to? Some servers ignore conditional headers, or honour them and
//! still let two writers win: then data would be lost without anybody noticing.
//!
//! A writer runs [`probe`] before it serves and refuses to start where [`require_safe`] fails;
//! `brainy doctor` runs the thorough one. A reader only needs [`readable`], and [`reading`] tries all of what
//! it does. The probe writes below `_brainy/probe/` and removes what it wrote.

pub mod reading;

use crate::base::ids::Ulid;
use crate::base::{Code, Env, Error, Result};
use crate::store::conformance::races::{Count, race_to_create, race_to_update, volleys};
use crate::store::{
    ByteRange, DynStore, Etag, Fetched, GetOptions, Key, Precondition, PutOutcome, Store, get,
    paths,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use serde::Serialize;
use std::time::Duration;
use tokio::time::Instant;

/// What came of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, but somebody should look at it.
    Warning,
    /// It must not stay so.
    Failed,
    /// The server does not implement the question.
    Unsupported,
}

/// One line of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// What came of it.
    pub status: Status,
    /// What was seen, and what to do about it.
    pub detail: String,
}

/// How long one kind of request took.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// `get`, `put` or `conditional put`.
    pub op: &'static str,
    /// How many were measured.
    pub count: usize,
    /// The median in milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile in milliseconds (with few samples, the slowest).
    pub p99_ms: f64,
}

/// What a probe found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// The checks, in the order of a table.
    pub checks: Vec<Check>,
    /// The latencies, one request at a time.
    pub latencies: Vec<Latency>,
}

/// How much a probe does.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// How many tasks race for one key.
    pub racers: usize,
    /// How many keys they race to create.
    pub creations: usize,
    /// How many updates each of them lands on one key, in each round.
    pub updates: usize,
    /// How many such races there are.
    pub rounds: usize,
    /// How many tasks replace one content at the same moment.
    pub volley_racers: usize,
    /// How many times they do so, as far as [`RACES_TIME_MAX`] allows.
    pub volleys: usize,
    /// How many requests of each kind are timed.
    pub samples: usize,
}

impl Effort {
    /// Before serving: about a second on S3. Finds a server that ignores the headers and, more
    /// often than not, one that is not atomic.
    pub const START: Effort = Effort {
        racers: 6,
        creations: 1,
        updates: 1,
        rounds: 1,
        volley_racers: 6,
        volleys: 2,
        samples: 3,
    };
    /// For the doctor: also finds servers that lose one update in hundreds.
    pub const THOROUGH: Effort = Effort {
        racers: 16,
        creations: 20,
        updates: 20,
        rounds: 1,
        volley_racers: 4,
        volleys: 2_000,
        samples: 50,
    };
}

/// No new race for a key starts after this; some servers let the losers of each wait for seconds.
const RACES_TIME_MAX: Duration = Duration::from_secs(30);

/// Sees whether the store answers reads.
pub async fn readable(store: &dyn Store) -> Result<()> {
    store.list(&paths::everything(), None, 1).await.map(drop)
}

/// Proves that a store is fit for what an instance does with it: that it can be read, and for one that writes,
/// that it honours conditions, without which writes are lost.
pub async fn fit(writes: bool, store: &DynStore, env: &Env) -> Result<()> {
    match writes {
        true => require_safe(&probe(store, env, Effort::START).await.map_err(cannot_write)?),
        false => readable(&**store).await,
    }
}

/// Says of a store that refuses writes who needs them.
pub fn cannot_write(error: Error) -> Error {
    if error.code() != Code::StoreDenied {
        return error;
    }
    error.context(
        "a writer or hybrid has to write to the store, and may not; grant it the rights below, or start a reader \
         (--role reader), which can do with the right to read",
    )
}

/// Probes `store`. An error means that the store could not be probed; what it does wrong is in
/// the report.
pub async fn probe(store: &DynStore, env: &Env, effort: Effort) -> Result<Report> {
    let probe = Probe { store, env, run: env.ulid(), effort };
    let report = probe.run().await;
    // Also after a failure; a few small objects left behind do no harm.
    if let Err(error) = probe.clean().await {
        tracing::warn!(%error, run = %probe.run, "could not remove the probe's objects");
    }
    report
}

/// The first failed check as an error.
pub fn require_safe(report: &Report) -> Result<()> {
    let mut failed = report.checks.iter();
    match failed.find(|check| check.status == Status::Failed) {
        None => Ok(()),
        Some(check) => Err(Error::new(
            Code::StoreUnsafe,
            format!(
                "the store fails the check {:?}: {}; writes could be lost, \
                 so use a store that honours conditional puts",
                check.name, check.detail
            ),
        )
        .with("check", check.name)),
    }
}

/// What a check found: that it holds (and what to say of it), or the fault.
type Finding = Result<String, String>;

struct Probe<'a> {
    store: &'a DynStore,
    env: &'a Env,
    run: Ulid,
    effort: Effort,
}

impl Probe<'_> {
    async fn run(&self) -> Result<Report> {
        let mut report = Report::default();
        let mut checks: Vec<(&'static str, BoxFuture<'_, Result<Finding>>)> = vec![
            ("conditional create", Box::pin(self.create())),
            ("conditional update", Box::pin(self.update())),
            ("update of a missing key", Box::pin(self.update_missing())),
            ("ranged get", Box::pin(self.ranges())),
            ("conditional get", Box::pin(self.conditional_get())),
            ("list order", Box::pin(self.listing())),
            ("race to create", Box::pin(self.creations())),
            ("race to replace", Box::pin(self.replacements())),
        ];
        for round in 0..self.effort.rounds {
            checks.push(("race to update", Box::pin(self.updates(round))));
        }
        for (name, check) in checks {
            let finding = match check.await {
                Ok(finding) => finding,
                // The server says itself that it lacks something.
                Err(error) if error.code() == Code::StoreUnsafe => Err(error.message().to_owned()),
                Err(error) => {
                    return Err(error.context(format!("could not run the check {name:?}")));
                }
            };
            let (status, detail) = match finding {
                Ok(detail) => (Status::Ok, detail),
                Err(detail) => (Status::Failed, detail),
            };
            let again = report.checks.last_mut().filter(|last| last.name == name);
            match again {
                // One line for all rounds: the first that failed.
                Some(last) if last.status == Status::Ok => {
                    (last.status, last.detail) = (status, detail)
                }
                Some(_) => {}
                None => report.checks.push(Check { name, status, detail }),
            }
        }
        report.latencies = self.latencies().await?;
        Ok(report)
    }

    fn key(&self, name: &str) -> Key {
        paths::probe(self.run, name)
    }

    async fn put_if(&self, key: &Key, body: &str, when: Precondition) -> Result<Outcome> {
        let body = Bytes::from(body.to_owned());
        match self.store.put_if(key, body, when).await {
            PutOutcome::Won(_) => Ok(Outcome::Won),
            PutOutcome::Lost => Ok(Outcome::Lost),
            PutOutcome::Failed(error) if error.code() == Code::StoreUnsafe => {
                Ok(Outcome::Refused(error.message().to_owned()))
            }
            PutOutcome::Failed(error) | PutOutcome::Ambiguous(error) => Err(error),
        }
    }

    async fn content(&self, key: &Key) -> Result<String> {
        Ok(match get(&**self.store, key).await? {
            Fetched::Found(object) => String::from_utf8_lossy(&object.bytes).into_owned(),
            _ => "nothing".to_owned(),
        })
    }

    async fn create(&self) -> Result<Finding> {
        let key = self.key("create");
        let first = self.put_if(&key, "one", Precondition::Absent).await?;
        let second = self.put_if(&key, "two", Precondition::Absent).await?;
        let content = self.content(&key).await?;
        Ok(match (first, second, content.as_str()) {
            (Outcome::Won, Outcome::Lost, "one") => Ok("If-None-Match is honoured".to_owned()),
            (first, second, content) => Err(format!(
                "of two puts with If-None-Match: * the first {first}, the second {second}, \
                 and {content:?} is stored"
            )),
        })
    }

    async fn update(&self) -> Result<Finding> {
        let key = self.key("update");
        let old = self.store.put(&key, Bytes::from("one")).await?;
        let matches = |etag: &Etag| Precondition::Matches(etag.clone());
        let right = self.put_if(&key, "two", matches(&old)).await?;
        let wrong = self.put_if(&key, "three", matches(&old)).await?;
        let content = self.content(&key).await?;
        Ok(match (right, wrong, content.as_str()) {
            (Outcome::Won, Outcome::Lost, "two") => Ok("If-Match is honoured".to_owned()),
            (right, wrong, content) => Err(format!(
                "of two puts with If-Match the one with the current etag {right}, the one with an \
                 old etag {wrong}, and {content:?} is stored"
            )),
        })
    }

    async fn update_missing(&self) -> Result<Finding> {
        let key = self.key("update-missing");
        let etag = self.store.put(&key, Bytes::from("one")).await?;
        self.store.delete(&key).await?;
        let outcome = self.put_if(&key, "two", Precondition::Matches(etag)).await?;
        let content = self.content(&key).await?;
        Ok(match (outcome, content.as_str()) {
            (Outcome::Lost, "nothing") => Ok("If-Match on a missing key does nothing".to_owned()),
            (outcome, content) => Err(format!(
                "a put with If-Match on a deleted key {outcome}, and {content:?} is stored"
            )),
        })
    }

    async fn ranges(&self) -> Result<Finding> {
        let key = self.key("range");
        self.store.put(&key, Bytes::from("0123456789")).await?;
        for (range, expected) in [
            (ByteRange::Bounded(2..5), "234"),
            (ByteRange::Bounded(8..20), "89"),
            (ByteRange::Suffix(3), "789"),
        ] {
            let options = GetOptions { range: Some(range.clone()), if_none_match: None };
            let object = self.store.get(&key, options).await?.required(&key)?;
            if object.bytes != expected || object.size != 10 {
                let (bytes, size) = (object.bytes, object.size);
                return Ok(Err(format!("{range:?} of 0123456789 gave {bytes:?} of {size} bytes")));
            }
        }
        Ok(Ok("ranges and suffixes are honoured".to_owned()))
    }

    async fn conditional_get(&self) -> Result<Finding> {
        let key = self.key("conditional-get");
        let old = self.store.put(&key, Bytes::from("one")).await?;
        let options = GetOptions { range: None, if_none_match: Some(old) };
        let same = self.store.get(&key, options.clone()).await?;
        self.store.put(&key, Bytes::from("two")).await?;
        let changed = self.store.get(&key, options).await?;
        Ok(match (same, changed) {
            (Fetched::Unmodified, Fetched::Found(object)) if object.bytes == "two" => {
                Ok("If-None-Match is honoured".to_owned())
            }
            (same, changed) => Err(format!(
                "with If-None-Match an unchanged object gave {}, a changed one {}",
                kind(&same),
                kind(&changed)
            )),
        })
    }

    async fn listing(&self) -> Result<Finding> {
        let names = ["list/0", "list/1", "list/10", "list/2"];
        let keys = names.map(|name| self.key(name));
        for key in keys.iter().rev() {
            self.store.put(key, Bytes::from("x")).await?;
        }
        // Names only the keys of this check.
        let prefix = paths::probe_list(self.run);
        let all = self.store.list(&prefix, None, 100).await?;
        let rest = self.store.list(&prefix, Some(&keys[1]), 1).await?;
        let names = |listing: crate::store::Listing| {
            let keys = listing.objects.into_iter().map(|object| object.key);
            keys.collect::<Vec<Key>>()
        };
        let (all, rest) = (names(all), names(rest));
        if all != keys || rest != keys[2..3] {
            return Ok(Err(format!(
                "after puts of {keys:?} the listing is {all:?}, and one after the second {rest:?}"
            )));
        }
        Ok(Ok("keys are listed in byte order, start-after is honoured".to_owned()))
    }

    async fn creations(&self) -> Result<Finding> {
        let (racers, rounds) = (self.effort.racers, self.effort.creations);
        let start = Instant::now();
        let mut done = 0;
        while done < rounds && (done == 0 || start.elapsed() < RACES_TIME_MAX) {
            let key = self.key(&format!("race-create-{done}"));
            let winners = race_to_create(self.store, self.env, &key, racers).await?;
            let content = self.content(&key).await?;
            if winners.len() != 1 || winners[0] != content {
                let count = winners.len();
                return Ok(Err(format!(
                    "{count} of {racers} racing puts with If-None-Match: * won in round {done}, \
                     and {content:?} is stored"
                )));
            }
            done += 1;
        }
        Ok(Ok(format!("one winner in each of {done} races of {racers}")))
    }

    async fn replacements(&self) -> Result<Finding> {
        let Effort { volley_racers: racers, volleys: rounds, .. } = self.effort;
        let key = self.key("race-replace");
        let race = volleys(self.store, self.env, &key, racers, rounds, RACES_TIME_MAX);
        let done = race.await?;
        Ok(done.map(|done| format!("at most one winner in each of {done} races of {racers}")))
    }

    async fn updates(&self, round: usize) -> Result<Finding> {
        let key = self.key(&format!("race-update-{round}"));
        let (racers, updates) = (self.effort.racers, self.effort.updates);
        let race = race_to_update(self.store, self.env, &key, racers, updates).await;
        let Count { acknowledged, kept } = race?;
        Ok(if acknowledged == kept {
            let rounds = self.effort.rounds;
            Ok(format!("{kept} of {acknowledged} updates kept, {racers} racing, {rounds} rounds"))
        } else {
            Err(format!("of {acknowledged} acknowledged updates with If-Match {kept} were kept"))
        })
    }

    async fn latencies(&self) -> Result<Vec<Latency>> {
        let key = self.key("latency");
        let (mut gets, mut puts, mut conditional) = (Vec::new(), Vec::new(), Vec::new());
        let mut etag = self.store.put(&key, Bytes::from("0")).await?;
        for sample in 0..self.effort.samples {
            let start = Instant::now();
            self.content(&key).await?;
            gets.push(start.elapsed());
            let start = Instant::now();
            let body = format!("{sample}");
            match self.put_if(&key, &body, Precondition::Matches(etag)).await? {
                Outcome::Won => conditional.push(start.elapsed()),
                // A check above says what is wrong.
                _ => return Ok(Vec::new()),
            }
            let start = Instant::now();
            etag = self.store.put(&key, Bytes::from(format!("{sample} again"))).await?;
            puts.push(start.elapsed());
        }
        let summary = [("get", gets), ("put", puts), ("conditional put", conditional)];
        Ok(summary.map(|(op, times)| latency(op, times)).to_vec())
    }

    async fn clean(&self) -> Result<()> {
        let listing = self.store.list(&paths::probe_run(self.run), None, 1000).await?;
        let deletes = listing.objects.iter().map(|object| self.store.delete(&object.key));
        futures::future::try_join_all(deletes).await.map(drop)
    }
}

/// How a conditional PUT of a check ended.
enum Outcome {
    Won,
    Lost,
    Refused(String),
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Won => f.write_str("succeeded"),
            Outcome::Lost => f.write_str("failed"),
            Outcome::Refused(reason) => write!(f, "was refused ({reason})"),
        }
    }
}

fn kind(fetched: &Fetched) -> &'static str {
    match fetched {
        Fetched::Found(_) => "the object",
        Fetched::Unmodified => "304",
        Fetched::Missing => "404",
    }
}

fn latency(op: &'static str, mut times: Vec<Duration>) -> Latency {
    times.sort_unstable();
    let at = |share: f64| {
        let index = ((times.len() as f64 * share).ceil() as usize).max(1) - 1;
        times.get(index).map_or(0.0, |time| (time.as_secs_f64() * 1e6).round() / 1e3)
    };
    Latency { op, count: times.len(), p50_ms: at(0.5), p99_ms: at(0.99) }
}

#[cfg(test)]
mod tests;
