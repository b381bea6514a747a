//! A store behind a bad network, for tests and for the simulation.
//!
//! Every request becomes a task of the *network's* [`Tasks`]: a client that is dropped or killed
//! half way does not call its request back. Time comes from `tokio::time` and chance from one
//! [`Rng`], drawn when the request starts, so on a current-thread runtime with paused time one seed
//! gives one run.

use crate::base::rng::Rng;
use crate::base::tasks::Tasks;
use crate::base::{Error, Result};
use crate::store::{
    DynStore, Etag, Fetched, GetOptions, Key, Listing, Precondition, Prefix, PutOutcome, Store,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::fmt::{self, Display};
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::sleep;

/// How bad the network and the store are. Probabilities are per request and at most one of the
/// faults befalls a request; they are tried in the order of the fields.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultSettings {
    /// The least time that a request takes.
    pub latency_min: Duration,
    /// The most time that a request takes.
    pub latency_max: Duration,
    /// The request is cut off on the way there: no effect, and the client does not know.
    pub cut_before: f64,
    /// The answer is cut off on the way back: the effect is there, and the client does not know.
    pub cut_after: f64,
    /// The client is cut off, and the effect happens later than it hears of that.
    pub delayed: f64,
    /// How much later at most.
    pub delay_max: Duration,
    /// The store answers 503: no effect, but a client cannot rely on that.
    pub unavailable: f64,
    /// The store answers 500 although the effect is there.
    pub error_after: f64,
    /// The store answers a conditional PUT with 409: no effect, for certain.
    pub conflict: f64,
    /// A conditional PUT takes effect and is sent again, as by a proxy: the client hears of the repeat.
    pub resent: f64,
    /// The body of an answer to a read ends early.
    pub truncated: f64,
    /// How long a request of a client that is cut off entirely hangs before it fails.
    pub partition_hang: Duration,
}

impl Default for FaultSettings {
    /// No latency and no faults.
    fn default() -> Self {
        FaultSettings {
            latency_min: Duration::ZERO,
            latency_max: Duration::ZERO,
            cut_before: 0.0,
            cut_after: 0.0,
            delayed: 0.0,
            delay_max: Duration::from_secs(120),
            unavailable: 0.0,
            error_after: 0.0,
            conflict: 0.0,
            resent: 0.0,
            truncated: 0.0,
            partition_hang: Duration::from_secs(10),
        }
    }
}

impl FaultSettings {
    /// Every kind of fault with the same probability, and latencies as S3 has them.
    pub fn every(probability: f64) -> Self {
        FaultSettings {
            latency_min: Duration::from_millis(5),
            latency_max: Duration::from_millis(200),
            cut_before: probability,
            cut_after: probability,
            delayed: probability,
            unavailable: probability,
            error_after: probability,
            conflict: probability,
            resent: probability,
            truncated: probability,
            ..FaultSettings::default()
        }
    }
}

/// What befalls one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Well,
    CutBefore,
    CutAfter,
    Delayed,
    Unavailable,
    ErrorAfter,
    Conflict,
    Resent,
    Truncated,
}

const FATES: [Fate; 8] = [
    Fate::CutBefore,
    Fate::CutAfter,
    Fate::Delayed,
    Fate::Unavailable,
    Fate::ErrorAfter,
    Fate::Conflict,
    Fate::Resent,
    Fate::Truncated,
];

/// How often each fault happened, so that a run can show that it met them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Requests cut off before their effect.
    pub cut_before: u64,
    /// Answers cut off after the effect.
    pub cut_after: u64,
    /// Effects later than the client's error.
    pub delayed: u64,
    /// 503 without an effect.
    pub unavailable: u64,
    /// 500 in spite of the effect.
    pub error_after: u64,
    /// 409.
    pub conflict: u64,
    /// Conditional PUTs that were sent twice.
    pub resent: u64,
    /// Bodies that ended early.
    pub truncated: u64,
    /// Requests or answers that met a partition.
    pub partitioned: u64,
}

impl FaultCounts {
    /// All faults together.
    pub fn total(&self) -> u64 {
        let Self {
            cut_before,
            cut_after,
            delayed,
            unavailable,
            error_after,
            conflict,
            resent,
            truncated,
            partitioned,
        } = *self;
        let whole = cut_before + cut_after + delayed + unavailable + error_after;
        whole + conflict + resent + truncated + partitioned
    }
}

/// One client's connection to a store. Cloning shares it, so that a test can keep a handle to
/// change the weather.
#[derive(Clone)]
pub struct Faults {
    inner: DynStore,
    tasks: Tasks,
    rng: Arc<dyn Rng>,
    settings: Arc<Mutex<FaultSettings>>,
    partitioned: Arc<AtomicBool>,
    counts: Arc<[AtomicU64; FATES.len() + 1]>,
    requests: Arc<[AtomicU64; KINDS.len()]>,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("inner", &self.inner).finish()
    }
}

/// Everything drawn for one request before it starts.
struct Plan {
    fate: Fate,
    there: Duration,
    back: Duration,
    delay: Duration,
    hang: Duration,
    /// The share of a truncated body that arrives.
    kept: f64,
}

/// What a request is to the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Listing,
    Write,
    Conditional,
}

const KINDS: [Kind; 4] = [Kind::Read, Kind::Listing, Kind::Write, Kind::Conditional];

/// How many requests of each kind there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// Reads.
    pub reads: u64,
    /// Pages of listings.
    pub listings: u64,
    /// Unconditional PUTs, and deletes.
    pub writes: u64,
    /// Conditional PUTs.
    pub conditional: u64,
}

/// What a client sees of a request.
enum Seen<T> {
    Answer(T),
    /// Nothing: the effect may be there.
    Cut(Error),
    Conflict,
}

impl Faults {
    /// A connection to `inner` whose requests run in `tasks`, which are the network's: they must
    /// outlive the client's own.
    pub fn new(inner: DynStore, settings: FaultSettings, rng: Arc<dyn Rng>, tasks: Tasks) -> Self {
        Faults {
            inner,
            tasks,
            rng,
            settings: Arc::new(Mutex::new(settings)),
            partitioned: Arc::default(),
            counts: Arc::default(),
            requests: Arc::default(),
        }
    }

    /// Changes the weather for requests that start from now on.
    pub fn set(&self, settings: FaultSettings) {
        *self.lock() = settings;
    }

    /// Cuts this client off entirely, or reconnects it. Requests under way do not arrive, and
    /// answers under way are lost; effects that are already delayed still happen.
    pub fn partition(&self, cut_off: bool) {
        self.partitioned.store(cut_off, Ordering::SeqCst);
    }

    /// How often each fault happened so far.
    pub fn counts(&self) -> FaultCounts {
        let count = |index: usize| self.counts[index].load(Ordering::Relaxed);
        FaultCounts {
            cut_before: count(0),
            cut_after: count(1),
            delayed: count(2),
            unavailable: count(3),
            error_after: count(4),
            conflict: count(5),
            resent: count(6),
            truncated: count(7),
            partitioned: count(FATES.len()),
        }
    }

    /// How many requests there were so far.
    pub fn requests(&self) -> RequestCounts {
        let [reads, listings, writes, conditional] =
            KINDS.map(|kind| self.requests[kind as usize].load(Ordering::Relaxed));
        RequestCounts { reads, listings, writes, conditional }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, FaultSettings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_partitioned(&self) -> bool {
        let partitioned = self.partitioned.load(Ordering::SeqCst);
        if partitioned {
            self.counts[FATES.len()].fetch_add(1, Ordering::Relaxed);
        }
        partitioned
    }

    /// Draws the same number of numbers whatever the fate, so that one request's luck does not
    /// shift the next one's.
    fn plan(&self, kind: Kind) -> Plan {
        let settings = self.lock().clone();
        let spread = settings.latency_max.saturating_sub(settings.latency_min);
        let latency = settings.latency_min + self.rng.jitter(spread);
        let there = latency.mul_f64(self.rng.unit());
        let delay = self.rng.jitter(settings.delay_max);
        let kept = self.rng.unit();
        self.requests[kind as usize].fetch_add(1, Ordering::Relaxed);
        let mut dice = self.rng.unit();
        let mut fate = Fate::Well;
        for (index, (candidate, probability)) in FATES
            .into_iter()
            .zip([
                settings.cut_before,
                settings.cut_after,
                settings.delayed,
                settings.unavailable,
                settings.error_after,
                settings.conflict,
                settings.resent,
                settings.truncated,
            ])
            .enumerate()
        {
            let applies = match candidate {
                Fate::Delayed => matches!(kind, Kind::Write | Kind::Conditional),
                Fate::Conflict | Fate::Resent => kind == Kind::Conditional,
                Fate::Truncated => kind == Kind::Read,
                _ => true,
            };
            if !applies {
                continue;
            }
            if dice < probability {
                self.counts[index].fetch_add(1, Ordering::Relaxed);
                fate = candidate;
                break;
            }
            dice -= probability;
        }
        Plan {
            fate,
            there,
            back: latency.saturating_sub(there),
            delay,
            hang: settings.partition_hang,
            kept,
        }
    }

    /// Sends one request over the bad network.
    async fn send<T, F, W>(&self, what: &'static str, name: &str, plan: Plan, work: W) -> Seen<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
        W: FnOnce(DynStore) -> F + Send + 'static,
    {
        let (network, store, name) = (self.clone(), self.inner.clone(), name.to_owned());
        let error = move |fault: &str| Error::unavailable(format!("{what} of {name}: {fault}"));
        let lost = error.clone();
        let request = async move {
            sleep(plan.there).await;
            if network.is_partitioned() {
                sleep(plan.hang).await;
                return Seen::Cut(error("the store cannot be reached"));
            }
            let seen = match plan.fate {
                Fate::CutBefore => Seen::Cut(error("the connection was cut")),
                Fate::Unavailable => Seen::Cut(error("the store answered 503")),
                Fate::Conflict => Seen::Conflict,
                Fate::Delayed => {
                    let later = work(store);
                    network.tasks.spawn("delayed store request", async move {
                        sleep(plan.delay).await;
                        later.await;
                    });
                    Seen::Cut(error("the connection was cut"))
                }
                Fate::Well | Fate::CutAfter | Fate::ErrorAfter | Fate::Resent | Fate::Truncated => {
                    let answer = work(store).await;
                    match plan.fate {
                        Fate::CutAfter => Seen::Cut(error("the connection was cut")),
                        Fate::ErrorAfter => Seen::Cut(error("the store answered 500")),
                        _ => Seen::Answer(answer),
                    }
                }
            };
            sleep(plan.back).await;
            if network.is_partitioned() {
                sleep(plan.hang).await;
                return Seen::Cut(error("the store cannot be reached"));
            }
            seen
        };
        let running = self.tasks.spawn("store request", request);
        match running.await {
            Ok(Some(seen)) => seen,
            _ => Seen::Cut(lost("the network is gone")),
        }
    }

    async fn ordinary<T, F, W>(
        &self,
        what: &'static str,
        name: impl Display,
        plan: Plan,
        work: W,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
        W: FnOnce(DynStore) -> F + Send + 'static,
    {
        match self.send(what, &name.to_string(), plan, work).await {
            Seen::Answer(result) => result,
            Seen::Cut(error) => Err(error),
            Seen::Conflict => Err(Error::internal("an unconditional request had a conflict")),
        }
    }
}

#[async_trait]
impl Store for Faults {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        let (plan, owned) = (self.plan(Kind::Read), key.clone());
        let kept = (plan.fate == Fate::Truncated).then_some(plan.kept);
        let work = move |store: DynStore| async move {
            let mut fetched = store.get(&owned, options).await?;
            if let (Some(kept), Fetched::Found(object)) = (kept, &mut fetched) {
                object.bytes.truncate((object.bytes.len() as f64 * kept) as usize);
            }
            Ok(fetched)
        };
        self.ordinary("get", key, plan, work).await
    }

    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        let (plan, owned) = (self.plan(Kind::Write), key.clone());
        self.ordinary("put", key, plan, move |store| async move { store.put(&owned, body).await })
            .await
    }

    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        let (plan, owned) = (self.plan(Kind::Conditional), key.clone());
        let resent = (plan.fate == Fate::Resent).then_some(plan.back);
        let work = move |store: DynStore| async move {
            let outcome = store.put_if(&owned, body.clone(), condition.clone()).await;
            let Some(later) = resent else { return outcome };
            sleep(later).await;
            store.put_if(&owned, body, condition).await
        };
        match self.send("conditional put", key.as_str(), plan, work).await {
            Seen::Answer(outcome) => outcome,
            Seen::Cut(error) => PutOutcome::Ambiguous(error.ambiguous()),
            Seen::Conflict => PutOutcome::Lost,
        }
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let (plan, owned) = (self.plan(Kind::Write), key.clone());
        self.ordinary("delete", key, plan, move |store| async move { store.delete(&owned).await })
            .await
    }

    async fn settle(&self, key: &Key) -> Result<()> {
        self.inner.settle(key).await
    }

    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        let (plan, owned, after) = (self.plan(Kind::Listing), prefix.clone(), after.cloned());
        let work =
            move |store: DynStore| async move { store.list(&owned, after.as_ref(), limit).await };
        self.ordinary("listing", prefix, plan, work).await
    }

    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        let (plan, owned) = (self.plan(Kind::Listing), prefix.clone());
        let work = move |store: DynStore| async move { store.list_dirs(&owned).await };
        self.ordinary("listing", prefix, plan, work).await
    }
}
