use super::*;
use crate::base::clock::{Timestamp, VirtualClock};
use crate::base::metrics::OpLabels;
use crate::base::metrics::TextFormat;
use crate::base::rng::SeededRng;
use crate::base::tasks::Tasks;
use crate::base::{Code, Env, Error, Result};
use crate::store::memory::MemoryStore;
use crate::store::{
    ByteRange, DynStore, Etag, Fetched, GetOptions, Key, Listing, Precondition, Prefix, PutOutcome,
    Store, get,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

fn env() -> Env {
    Env::deterministic(7, Arc::new(VirtualClock::starting_at(Timestamp(1_000_000))))
}

fn key() -> Key {
    Key::raw("a/b")
}

/// A store that answers everything in the same way and counts.
#[derive(Debug, Default)]
struct Sick {
    calls: AtomicU64,
    denied: bool,
    hangs: bool,
}

impl Sick {
    async fn answer<T>(&self) -> Result<T> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        Err(if self.denied {
            Error::new(Code::StoreDenied, "no")
        } else {
            Error::unavailable("not now")
        })
    }
}

#[async_trait]
impl Store for Sick {
    async fn get(&self, _: &Key, _: GetOptions) -> Result<Fetched> {
        self.answer().await
    }
    async fn put(&self, _: &Key, _: Bytes) -> Result<Etag> {
        self.answer().await
    }
    async fn put_if(&self, _: &Key, _: Bytes, _: Precondition) -> PutOutcome {
        match self.answer().await {
            Ok(etag) => PutOutcome::Won(etag),
            Err(error) => PutOutcome::Ambiguous(error),
        }
    }
    async fn delete(&self, _: &Key) -> Result<()> {
        self.answer().await
    }
    async fn list(&self, _: &Prefix, _: Option<&Key>, _: usize) -> Result<Listing> {
        self.answer().await
    }
    async fn list_dirs(&self, _: &Prefix) -> Result<Vec<String>> {
        self.answer().await
    }
}

#[tokio::test(start_paused = true)]
async fn only_transient_errors_are_repeated_and_conditional_puts_never() {
    let sick = Arc::new(Sick::default());
    let retry = Retry::new(sick.clone(), env().rng, 3);
    assert!(get(&retry, &key()).await.is_err());
    assert_eq!(sick.calls.swap(0, Ordering::SeqCst), 4);
    assert!(retry.put(&key(), Bytes::new()).await.is_err());
    assert_eq!(sick.calls.swap(0, Ordering::SeqCst), 4);
    let outcome = retry.put_if(&key(), Bytes::new(), Precondition::Absent).await;
    assert!(matches!(outcome, PutOutcome::Ambiguous(_)));
    assert_eq!(sick.calls.swap(0, Ordering::SeqCst), 1);

    let sick = Arc::new(Sick { denied: true, ..Sick::default() });
    let retry = Retry::new(sick.clone(), env().rng, 3);
    assert!(retry.delete(&key()).await.is_err());
    assert_eq!(sick.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_late_conditional_put_is_ambiguous_and_the_rest_unavailable() {
    let sick = Arc::new(Sick { hangs: true, ..Sick::default() });
    let timeout = Timeout::new(sick, Duration::from_secs(5), Duration::from_secs(30));
    let start = Instant::now();
    let error = get(&timeout, &key()).await.unwrap_err();
    assert_eq!(error.code(), Code::StoreUnavailable);
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    let outcome = timeout.put_if(&key(), Bytes::new(), Precondition::Absent).await;
    let PutOutcome::Ambiguous(error) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(error.is_ambiguous());
    assert_eq!(start.elapsed(), Duration::from_secs(35));
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_than_allowed_are_in_flight() {
    let slow = FaultSettings {
        latency_min: Duration::from_secs(1),
        latency_max: Duration::from_secs(1),
        ..FaultSettings::default()
    };
    let env = env();
    let memory = Arc::new(MemoryStore::default());
    let faults = Faults::new(memory, slow, env.rng.clone(), env.tasks.clone());
    let limit = Limit::new(Arc::new(faults), 4);
    let start = Instant::now();
    let (first, second) = (key(), key());
    let gets = (0..10).map(|index| get(&limit, if index % 2 == 0 { &first } else { &second }));
    futures::future::join_all(gets).await;
    // Timers are a few milliseconds coarse.
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test]
async fn requests_and_bytes_are_counted_for_the_instance_and_for_the_query() {
    let env = env();
    let store = Count::new(Arc::new(MemoryStore::default()), env.metrics.clone());
    let usage = Usage::default();
    store.put(&key(), Bytes::from("12345")).await.unwrap();
    usage
        .scope(async {
            get(&store, &key()).await.unwrap();
            get(&store, &Key::raw("missing")).await.unwrap();
            let outcome = store.put_if(&key(), Bytes::from("12"), Precondition::Absent).await;
            assert!(matches!(outcome, PutOutcome::Lost));
            assert_eq!(Usage::current().unwrap().requests(), 3);
        })
        .await;
    assert_eq!((usage.requests(), usage.bytes()), (3, 7));
    assert!(Usage::current().is_none());
    let text = env.metrics.encode(TextFormat::Prometheus);
    for line in [
        "brainy_store_requests_total{op=\"get\",outcome=\"missing\"} 1",
        "brainy_store_requests_total{op=\"put_if\",outcome=\"lost\"} 1",
        "brainy_store_read_bytes_total 5",
        "brainy_store_written_bytes_total 7",
        "brainy_store_request_seconds_count{op=\"get\"} 2",
        "brainy_store_request_seconds_count{op=\"put_if\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}

#[tokio::test]
async fn the_cost_of_requests_is_estimated_by_their_kind() {
    let env = env();
    let store = Count::new(Arc::new(MemoryStore::default()), env.metrics.clone());
    for _ in 0..10 {
        get(&store, &key()).await.unwrap();
    }
    for _ in 0..3 {
        let _ = store.put_if(&key(), Bytes::from("12"), Precondition::Absent).await;
    }
    store.delete(&key()).await.unwrap();
    let cost = |op| env.metrics.store_cost_dollars.get_or_create(&OpLabels { op }).get();
    assert!((cost("get") - 4e-6).abs() < 1e-12);
    assert!((cost("put_if") - 15e-6).abs() < 1e-12);
    assert_eq!(cost("delete"), 0.0);
}

fn network(settings: FaultSettings, seed: u64) -> (Arc<MemoryStore>, Faults) {
    let memory = Arc::new(MemoryStore::default());
    let rng = Arc::new(SeededRng::new(seed));
    let faults = Faults::new(memory.clone(), settings, rng, Tasks::default());
    (memory, faults)
}

/// A conditional PUT with a fault that always happens: the outcome, and whether the object is
/// there at that moment.
async fn once(settings: FaultSettings) -> (PutOutcome, bool, Arc<MemoryStore>) {
    let (memory, faults) = network(settings, 1);
    let outcome = faults.put_if(&key(), Bytes::from("x"), Precondition::Absent).await;
    (outcome, !memory.is_empty(), memory)
}

#[tokio::test(start_paused = true)]
async fn each_fault_does_what_it_says() {
    let none = FaultSettings::default;
    let sure = 1.0;
    let cases = [
        (FaultSettings { cut_before: sure, ..none() }, false),
        (FaultSettings { cut_after: sure, ..none() }, true),
        (FaultSettings { unavailable: sure, ..none() }, false),
        (FaultSettings { error_after: sure, ..none() }, true),
    ];
    for (settings, effect) in cases {
        let (outcome, there, _) = once(settings.clone()).await;
        assert!(matches!(outcome, PutOutcome::Ambiguous(_)), "{settings:?} {outcome:?}");
        assert_eq!(there, effect, "{settings:?}");
    }
    let (outcome, there, _) = once(FaultSettings { conflict: sure, ..none() }).await;
    assert!(matches!(outcome, PutOutcome::Lost) && !there);
    let (outcome, there, _) = once(FaultSettings { resent: sure, ..none() }).await;
    assert!(matches!(outcome, PutOutcome::Lost) && there);

    let settings = FaultSettings { delayed: sure, delay_max: Duration::from_secs(60), ..none() };
    let (outcome, there, memory) = once(settings).await;
    assert!(matches!(outcome, PutOutcome::Ambiguous(_)) && !there);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(memory.len(), 1);
}

#[tokio::test]
async fn a_body_that_ends_early_is_not_believed() {
    let settings = FaultSettings { truncated: 1.0, ..FaultSettings::default() };
    let (memory, faults) = network(settings, 1);
    memory.put(&key(), Bytes::from("0123456789")).await.unwrap();
    let whole = Whole::new(Arc::new(faults.clone()));
    let ranges = [None, Some(ByteRange::Bounded(5..20)), Some(ByteRange::Suffix(20))];
    for range in ranges.clone() {
        let options = GetOptions { range, if_none_match: None };
        let error = whole.get(&key(), options).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
    }
    assert_eq!((faults.counts().truncated, faults.requests().reads), (3, 3));
    faults.set(FaultSettings::default());
    for (range, length) in ranges.into_iter().zip([10, 5, 10]) {
        let options = GetOptions { range, if_none_match: None };
        let object = whole.get(&key(), options).await.unwrap().required(&key()).unwrap();
        assert_eq!(object.bytes.len(), length);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_goes_on_without_its_client() {
    let slow = FaultSettings {
        latency_min: Duration::from_secs(2),
        latency_max: Duration::from_secs(2),
        ..FaultSettings::default()
    };
    let (memory, faults) = network(slow, 1);
    let key = key();
    let put = faults.put_if(&key, Bytes::from("x"), Precondition::Absent);
    let gave_up = tokio::time::timeout(Duration::from_millis(1), put).await;
    assert!(gave_up.is_err() && memory.is_empty());
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(memory.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_cut_off_reaches_nothing_until_it_is_back() {
    let (memory, faults) = network(FaultSettings::default(), 1);
    faults.partition(true);
    let error = get(&faults, &key()).await.unwrap_err();
    assert_eq!(error.code(), Code::StoreUnavailable);
    let outcome = faults.put_if(&key(), Bytes::from("x"), Precondition::Absent).await;
    assert!(matches!(outcome, PutOutcome::Ambiguous(_)) && memory.is_empty());
    faults.partition(false);
    let outcome = faults.put_if(&key(), Bytes::from("x"), Precondition::Absent).await;
    assert!(matches!(outcome, PutOutcome::Won(_)));
    assert_eq!(faults.counts().partitioned, 2);
}

/// What 200 requests come to, in words.
async fn trace(seed: u64) -> (Vec<String>, faults::FaultCounts) {
    let (_, faults) = network(FaultSettings::every(0.05), seed);
    let start = Instant::now();
    let mut trace = Vec::new();
    for index in 0..200 {
        let key = Key::raw(format!("k/{}", index % 7));
        let outcome = faults.put_if(&key, Bytes::from("x"), Precondition::Absent).await;
        trace.push(format!("{:?} {outcome:?}", start.elapsed()));
    }
    (trace, faults.counts())
}

#[tokio::test(start_paused = true)]
async fn one_seed_gives_one_run() {
    let (first, counts) = trace(5).await;
    assert_eq!((first.clone(), counts), trace(5).await);
    assert_ne!(first, trace(6).await.0);
    let faults::FaultCounts {
        cut_before,
        cut_after,
        delayed,
        unavailable,
        error_after,
        conflict,
        ..
    } = counts;
    let all = [cut_before, cut_after, delayed, unavailable, error_after, conflict];
    assert!(all.iter().all(|&count| count > 0), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn retries_carry_reads_and_writes_through_a_bad_network() {
    let env = env();
    let weather = FaultSettings {
        latency_max: Duration::from_millis(50),
        unavailable: 0.05,
        ..FaultSettings::default()
    };
    let (_, faults) = network(weather, 3);
    let settings = crate::base::settings::Settings { store_retries: 12, ..Default::default() };
    let store: DynStore = crate::store::open::layered(Arc::new(faults.clone()), &settings, &env);
    for index in 0..100 {
        let key = Key::raw(format!("k/{index}"));
        store.put(&key, Bytes::from("x")).await.unwrap();
        assert!(matches!(get(&*store, &key).await.unwrap(), Fetched::Found(_)));
    }
    assert!(faults.counts().unavailable > 0);
}

/// A store that takes its time, and tells of what comes meanwhile.
#[derive(Debug, Default)]
struct Slow {
    /// Seconds that a request takes.
    takes: AtomicU64,
    tells: bool,
    calls: AtomicU64,
}

impl Slow {
    async fn work(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        for _ in 0..self.takes.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if self.tells {
                timeout::progressed(10);
            }
        }
    }
}

#[async_trait]
impl Store for Slow {
    async fn get(&self, _: &Key, _: GetOptions) -> Result<Fetched> {
        self.work().await;
        Ok(Fetched::Missing)
    }
    async fn put(&self, _: &Key, _: Bytes) -> Result<Etag> {
        self.work().await;
        Ok(Etag("x".into()))
    }
    async fn put_if(&self, _: &Key, _: Bytes, _: Precondition) -> PutOutcome {
        self.work().await;
        PutOutcome::Won(Etag("x".into()))
    }
    async fn delete(&self, _: &Key) -> Result<()> {
        Ok(())
    }
    async fn list(&self, _: &Prefix, _: Option<&Key>, _: usize) -> Result<Listing> {
        Ok(Listing::default())
    }
    async fn list_dirs(&self, _: &Prefix) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// Retries over time limits of 30 s over a store that takes so many seconds.
fn patient(takes: u64, tells: bool) -> (Arc<Slow>, Retry) {
    let slow = Arc::new(Slow { takes: takes.into(), tells, ..Slow::default() });
    let limit = Duration::from_secs(30);
    let timed = Timeout::new(slow.clone(), limit, limit);
    (slow, Retry::new(Arc::new(timed), env().rng, 5))
}

#[tokio::test(start_paused = true)]
async fn time_limits_follow_what_comes_and_what_is_to_be_moved() {
    // A read lasts for as long as bytes come, whatever it reads.
    let (slow, store) = patient(600, true);
    get(&store, &key()).await.unwrap();
    assert_eq!(slow.calls.load(Ordering::SeqCst), 1);
    // Each byte has its time, also in a conditional PUT.
    let (slow, store) = patient(60, false);
    store.put(&key(), vec![0; 40 << 20].into()).await.unwrap();
    let outcome = store.put_if(&key(), vec![0; 40 << 20].into(), Precondition::Absent).await;
    assert!(matches!(outcome, PutOutcome::Won(_)), "{outcome:?}");
    assert_eq!(slow.calls.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn bulk_that_ran_out_of_time_gets_more_the_next_time_and_small_objects_do_not() {
    let bulk = Key::raw("vectors/p000/x.seg");
    let (slow, store) = patient(500, false);
    store.put(&bulk, Bytes::new()).await.unwrap();
    // 30, 60, 120, 240 and 480 seconds were too short.
    assert_eq!(slow.calls.swap(0, Ordering::SeqCst), 6);
    get(&store, &bulk).await.unwrap();
    assert_eq!(slow.calls.swap(0, Ordering::SeqCst), 6);
    let start = Instant::now();
    assert!(timeout::is_late(&store.put(&key(), Bytes::new()).await.unwrap_err()));
    assert!(timeout::is_late(&get(&store, &key()).await.unwrap_err()));
    assert!(start.elapsed() < Duration::from_secs(2 * 6 * 36));
    assert_eq!(slow.calls.load(Ordering::SeqCst), 12);
}
