//! The engine over stores that answer as few stores do, but some: through a proxy that sends requests
//! twice, slowly, not at all, or after a person has changed something by hand.

use async_trait::async_trait;
use brainy::base::clock::{Clock, VirtualClock};
use brainy::base::ids::{CollectionName, Seq};
use brainy::base::settings::{Role, Settings};
use brainy::base::{Code, Env, Error, Result, Timestamp};
use brainy::engine::Brainy;
use brainy::engine::model::*;
use brainy::manifest::{self, Manifest};
use brainy::store::cas::Change;
use brainy::store::local::LocalStore;
use brainy::store::memory::MemoryStore;
use brainy::store::{
    DynStore, Etag, Fetched, GetOptions, Key, Listing, Precondition, Prefix, PutOutcome, Store,
    get, paths,
};
use bytes::Bytes;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3_600);

fn name(name: &str) -> CollectionName {
    CollectionName::new(name).unwrap()
}

fn record(id: &str, vector: &[f32]) -> NewRecord {
    let (vector, metadata) = (vector.to_vec(), Some(json!({}).to_string()));
    NewRecord { id: Some(id.to_owned()), vector, metadata, text: None }
}

/// Starts an instance on paused time.
async fn start(store: &DynStore, role: Role, settings: Settings, seed: u64) -> Brainy {
    let clock = Arc::new(VirtualClock::starting_at(Timestamp(1_768_473_000_000)));
    let env = Env::deterministic(seed, clock);
    Brainy::start(settings, role, store.clone(), env).await.unwrap()
}

/// The ids of all records, as a strong search sees them.
async fn all(brainy: &Brainy, collection: &CollectionName) -> Vec<String> {
    let nearest = SearchRequest::nearest(vec![1.0, 0.0], 1_000);
    let request = SearchRequest { consistency: Consistency::Strong, ..nearest };
    let found = brainy.search(collection, request).await.unwrap();
    let mut ids: Vec<String> = found.hits.into_iter().map(|hit| hit.id).collect();
    ids.sort();
    ids
}

/// A store in memory that counts its PUTs by what they are for, and misbehaves as it is told.
#[derive(Debug, Default)]
struct Odd {
    inner: MemoryStore,
    puts: Mutex<BTreeMap<&'static str, u64>>,
    /// Sends the next replacement of a manifest twice, as a proxy does, and tells of the second.
    resends: AtomicBool,
    /// Refuses segments.
    refuses: AtomicBool,
    /// How long the PUT of a segment takes, in milliseconds.
    slow_ms: AtomicU64,
}

impl Odd {
    /// PUTs since the last call.
    fn taken(&self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut *self.puts.lock().unwrap())
    }
}

#[async_trait]
impl Store for Odd {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        self.inner.get(key, options).await
    }
    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        if key.as_str().ends_with(".seg") {
            *self.puts.lock().unwrap().entry("segment").or_default() += 1;
            let slow = Duration::from_millis(self.slow_ms.load(Ordering::SeqCst));
            tokio::time::sleep(slow).await;
            if self.refuses.load(Ordering::SeqCst) {
                return Err(Error::new(Code::StoreDenied, "refused"));
            }
        }
        self.inner.put(key, body).await
    }
    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        if key.as_str().ends_with("/manifest.json")
            && matches!(condition, Precondition::Matches(_))
            && self.resends.swap(false, Ordering::SeqCst)
        {
            let _ = self.inner.put_if(key, body.clone(), condition.clone()).await;
        }
        self.inner.put_if(key, body, condition).await
    }
    async fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key).await
    }
    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        self.inner.list(prefix, after, limit).await
    }
    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        self.inner.list_dirs(prefix).await
    }
}

fn by_hand() -> Settings {
    Settings { index_enabled: false, ..Settings::default() }
}

#[tokio::test(start_paused = true)]
async fn a_412_for_our_own_write_costs_no_data() {
    let odd = Arc::new(Odd::default());
    let store: DynStore = odd.clone();
    let things = name("things");
    let one = start(&store, Role::Hybrid, by_hand(), 1).await;
    let mut expected = Vec::new();
    for n in 0..3 {
        one.upsert(&things, vec![record(&format!("r{n}"), &[1.0, n as f32])]).await.unwrap();
        expected.push(format!("r{n}"));
        odd.resends.store(true, Ordering::SeqCst);
        one.index(&things).await.unwrap();
        assert!(!odd.resends.load(Ordering::SeqCst));
    }
    odd.resends.store(true, Ordering::SeqCst);
    assert_eq!(one.compact(&things).await.unwrap(), 1);
    let fresh = start(&store, Role::Reader, Settings::default(), 2).await;
    assert_eq!(all(&fresh, &things).await, expected);
    // Making and deleting collections is no different.
    odd.resends.store(true, Ordering::SeqCst);
    one.delete_collection(&things).await.unwrap();
    odd.resends.store(true, Ordering::SeqCst);
    one.upsert(&things, vec![record("again", &[1.0, 0.0])]).await.unwrap();
    let fresh = start(&store, Role::Reader, Settings::default(), 3).await;
    assert_eq!(all(&fresh, &things).await, ["again"]);
}

/// Puts an earlier manifest in force with `copy`, as a person would, and goes on.
async fn restore_a_manifest(store: &DynStore, copy: impl AsyncFn(&Key, &Key)) {
    let things = name("things");
    let one = start(store, Role::Hybrid, by_hand(), 1).await;
    let reader = start(store, Role::Reader, Settings::default(), 2).await;
    let write = async |id: &str| {
        one.upsert(&things, vec![record(id, &[1.0, 0.5])]).await.unwrap();
        one.index(&things).await.unwrap();
    };
    let mut expected = Vec::new();
    for n in 0..5 {
        write(&format!("a{n}")).await;
        expected.push(format!("a{n}"));
        assert_eq!(all(&reader, &things).await, expected);
    }
    let current = manifest::load(store, &things).await.unwrap().unwrap().value;
    // Two commits back; the log still has what they had indexed.
    let old = paths::manifest_history(&things, current.stamp.version - 2);
    copy(&old, &paths::manifest(&things)).await;
    // Whoever runs goes on, and whoever starts sees the same.
    assert_eq!(all(&reader, &things).await, expected);
    for n in 0..6 {
        write(&format!("b{n}")).await;
        expected.push(format!("b{n}"));
        assert_eq!(all(&reader, &things).await, expected, "b{n}");
    }
    one.compact(&things).await.unwrap();
    let fresh = start(store, Role::Reader, Settings::default(), 3).await;
    assert_eq!(all(&fresh, &things).await, expected);
    let after = manifest::load(store, &things).await.unwrap().unwrap().value;
    assert!(after.stamp.version > current.stamp.version);
    // What was kept is as it was.
    for version in 1..current.stamp.version {
        let key = paths::manifest_history(&things, version);
        let kept = get(&**store, &key).await.unwrap().required(&key).unwrap();
        assert_eq!(manifest::parse(&things, &kept.bytes).unwrap().stamp.version, version);
    }
    // Not so far back that the log has lost what came behind: nothing is made up for that.
    let whole = manifest::load(store, &things).await.unwrap().unwrap().value;
    assert_eq!(whole.live(), expected.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn an_earlier_manifest_that_a_person_copies_back_is_gone_on_from() {
    let store: DynStore = Arc::new(MemoryStore::default());
    let through = store.clone();
    let copy = async |from: &Key, to: &Key| {
        let found = get(&*through, from).await.unwrap().required(from).unwrap();
        through.put(to, found.bytes).await.unwrap();
    };
    restore_a_manifest(&store, copy).await;
}

#[tokio::test]
async fn an_earlier_manifest_that_is_copied_back_in_a_folder_is_gone_on_from() {
    let root = tempfile::tempdir().unwrap();
    let store: DynStore = Arc::new(LocalStore::open(root.path(), false).await.unwrap());
    let copy = async |from: &Key, to: &Key| {
        let (from, to) = (root.path().join(from.as_str()), root.path().join(to.as_str()));
        std::fs::copy(from, to).unwrap();
    };
    restore_a_manifest(&store, copy).await;
}

/// Copies `from` over the manifest, as a person would.
async fn put_back(store: &DynStore, from: &Key) {
    let found = get(&**store, from).await.unwrap().required(from).unwrap();
    store.put(&paths::manifest(&name("things")), found.bytes).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_earlier_manifest_over_a_log_that_was_collected_takes_no_position_twice() {
    let store: DynStore = Arc::new(MemoryStore::default());
    let things = name("things");
    let quick = || Settings { gc_grace_ms: 10_000, ..by_hand() };
    let entries = async || {
        let listed = store.list(&paths::wal_entries(&things), None, 100).await.unwrap();
        listed.objects.iter().filter_map(|entry| paths::parse_wal_entry(&entry.key)).collect()
    };
    // Whoever runs when the manifest is put back, and whoever starts after that.
    for runs_on in [true, false] {
        let mut one = start(&store, Role::Hybrid, quick(), 1).await;
        let (mut expected, mut first, mut last) = (Vec::new(), 0, Seq(0));
        for n in 0..3 {
            let id = format!("{runs_on}-{n}");
            last = one.upsert(&things, vec![record(&id, &[1.0, 0.0])]).await.unwrap().version;
            one.index(&things).await.unwrap();
            if n == 0 {
                let current = manifest::load(&store, &things).await.unwrap().unwrap().value;
                (expected, first) = (all(&one, &things).await, current.stamp.version);
            }
            // Past the floor, and a grace period and more after that.
            tokio::time::sleep(Duration::from_secs(120)).await;
            let left: Vec<Seq> = entries().await;
            assert!(left.iter().all(|seq| *seq >= last), "{left:?} of {last}");
        }
        if !runs_on {
            one.shutdown().await;
        }
        put_back(&store, &paths::manifest_history(&things, first)).await;
        if !runs_on {
            one = start(&store, Role::Hybrid, quick(), 2).await;
        }
        let id = format!("{runs_on}-after");
        let written = one.upsert(&things, vec![record(&id, &[1.0, 0.0])]).await.unwrap().version;
        assert!(written > last, "{written} was given before: {last}");
        expected.push(id);
        expected.sort();
        assert_eq!(all(&one, &things).await, expected);
        one.index(&things).await.unwrap();
        tokio::time::sleep(Duration::from_secs(120)).await;
        let reader = start(&store, Role::Reader, Settings::default(), 3).await;
        assert_eq!(all(&reader, &things).await, expected);
        one.shutdown().await;
        reader.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_manifest_of_an_earlier_life_is_put_back_as_a_life_of_its_own() {
    let store: DynStore = Arc::new(MemoryStore::default());
    let things = name("things");
    let one = start(&store, Role::Hybrid, by_hand(), 1).await;
    one.upsert(&things, vec![record("first", &[1.0, 0.0])]).await.unwrap();
    one.index(&things).await.unwrap();
    let kept = manifest::load(&store, &things).await.unwrap().unwrap().value.stamp.version;
    one.delete_collection(&things).await.unwrap();
    // The second life has begun, and its manifest is still the first one.
    one.upsert(&things, vec![record("second", &[1.0, 0.0])]).await.unwrap();
    one.shutdown().await;
    put_back(&store, &paths::manifest_history(&things, kept)).await;
    let two = start(&store, Role::Hybrid, by_hand(), 2).await;
    two.upsert(&things, vec![record("third", &[1.0, 0.0])]).await.unwrap();
    assert_eq!(all(&two, &things).await, ["first", "third"]);
    let reader = start(&store, Role::Reader, Settings::default(), 3).await;
    assert_eq!(all(&reader, &things).await, ["first", "third"]);
}

#[tokio::test(start_paused = true)]
async fn instances_with_other_grace_periods_lose_no_acknowledged_write() {
    let store: DynStore = Arc::new(MemoryStore::default());
    let things = name("things");
    let quick = || Settings { gc_grace_ms: 10_000, ..Settings::default() };
    let patient = start(&store, Role::Writer, by_hand(), 1).await;
    let other = start(&store, Role::Hybrid, quick(), 2).await;
    patient.upsert(&things, vec![record("first", &[1.0, 0.0])]).await.unwrap();
    let grace = async || manifest::load(&store, &things).await.unwrap().unwrap().value.grace_ms;
    assert_eq!(grace().await, Some(300_000));
    for round in 0..20 {
        for n in 0..5 {
            let id = format!("{round}-{n}");
            other.upsert(&things, vec![record(&id, &[1.0, 0.0])]).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(20 + 13 * round)).await;
        let id = format!("{round}");
        let written = patient.upsert(&things, vec![record(&id, &[1.0, 0.0])]).await;
        let there = all(&other, &things).await.contains(&id);
        assert!(there || written.is_err(), "{id} was acknowledged and is lost");
    }
    assert!(other.stats(&things).await.unwrap().wal_floor > Seq(5), "nothing was collected");
    // The next life of the name keeps it: writers of the one before may rely on it still.
    other.delete_collection(&things).await.unwrap();
    other.upsert(&things, vec![record("again", &[1.0, 0.0])]).await.unwrap();
    assert_eq!(grace().await, Some(300_000));
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_takes_longer_than_a_request_may_is_put_after_all() {
    let odd = Arc::new(Odd::default());
    let clock = Arc::new(VirtualClock::starting_at(Timestamp(1_768_473_000_000)));
    let (env, settings) = (Env::deterministic(1, clock), Settings::default());
    let store = brainy::store::open::layered(odd.clone(), &settings, &env);
    let one = Brainy::start(settings, Role::Hybrid, store.clone(), env).await.unwrap();
    let things = name("things");
    // Twenty times the limit, which grows with every attempt that ran out of it.
    for (n, slow_ms) in [40_000, 600_000].into_iter().enumerate() {
        odd.slow_ms.store(slow_ms, Ordering::SeqCst);
        let id = format!("{n}");
        let version = one.upsert(&things, vec![record(&id, &[1.0, 0.0])]).await.unwrap().version;
        odd.taken();
        tokio::time::sleep(DAY / 8).await;
        let indexed = manifest::load(&store, &things).await.unwrap().unwrap().value.wal_indexed;
        assert!(indexed >= version, "{slow_ms}: indexed up to {indexed}");
        let puts = odd.taken()["segment"];
        assert!(puts < 16, "{slow_ms}: {puts} puts");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_keeps_failing_backs_off() {
    let odd = Arc::new(Odd::default());
    let store: DynStore = odd.clone();
    let one = start(&store, Role::Hybrid, Settings::default(), 1).await;
    let things = name("things");
    one.upsert(&things, vec![record("x", &[1.0, 0.0])]).await.unwrap();
    odd.refuses.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(60)).await;
    odd.taken();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let puts = odd.taken()["segment"];
    assert!((3..40).contains(&puts), "{puts}");
    // It is not given up.
    odd.refuses.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(900)).await;
    let indexed = manifest::load(&store, &things).await.unwrap().unwrap().value.wal_indexed;
    assert_eq!(indexed, Seq(1));
}

/// A store whose answers to one instance say what time it is.
#[derive(Debug)]
struct Dated {
    inner: DynStore,
    clock: Arc<VirtualClock>,
    /// By how much it is later than our clock shows.
    ahead_ms: AtomicU64,
    /// Whether answers say it.
    says: bool,
}

impl Dated {
    fn told<T>(&self, answer: T) -> T {
        if self.says {
            let ms = self.clock.now().0 + self.ahead_ms.load(Ordering::SeqCst);
            self.clock.saw_store_time(Timestamp(ms / 1_000 * 1_000));
        }
        answer
    }
}

#[async_trait]
impl Store for Dated {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        self.told(self.inner.get(key, options).await)
    }
    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        self.told(self.inner.put(key, body).await)
    }
    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        self.told(self.inner.put_if(key, body, condition).await)
    }
    async fn delete(&self, key: &Key) -> Result<()> {
        self.told(self.inner.delete(key).await)
    }
    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        self.told(self.inner.list(prefix, after, limit).await)
    }
    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        self.told(self.inner.list_dirs(prefix).await)
    }
}

/// What a writer says that writes after an hour in which its machine was paused, and so its clocks stood
/// still, while the log moved on and was collected.
async fn paused_for_an_hour(says: bool) -> Result<()> {
    let store: DynStore = Arc::new(MemoryStore::default());
    let things = name("things");
    let clock = Arc::new(VirtualClock::starting_at(Timestamp(1_768_473_000_000)));
    let (inner, ahead_ms) = (store.clone(), AtomicU64::new(0));
    let dated = Arc::new(Dated { inner, clock: clock.clone(), ahead_ms, says });
    let env = Env::deterministic(1, clock);
    let sleeper = Brainy::start(by_hand(), Role::Writer, dated.clone(), env).await.unwrap();
    sleeper.upsert(&things, vec![record("before", &[1.0, 0.0])]).await.unwrap();
    // The hour passes for all others: its clocks are the test's, and stand still.
    let other = start(&store, Role::Hybrid, by_hand(), 2).await;
    for n in 0..5 {
        other.upsert(&things, vec![record(&format!("{n}"), &[1.0, 0.0])]).await.unwrap();
    }
    other.index(&things).await.unwrap();
    let env = other.env();
    let floor = |current: Option<&Manifest>| {
        let current = current.unwrap();
        let (wal_floor, floor_totals) = (current.wal_indexed.next(), current.indexed);
        Ok(Change::Write(Manifest { wal_floor, floor_totals, ..current.clone() }))
    };
    let moved = manifest::update(&store, env, &things, floor).await.unwrap().unwrap().value;
    for seq in 1..moved.wal_floor.0 {
        store.delete(&paths::wal_entry(&things, Seq(seq))).await.unwrap();
    }
    dated.ahead_ms.store(3_600_000, Ordering::SeqCst);
    let written = sleeper.upsert(&things, vec![record("after", &[1.0, 0.0])]).await;
    assert!(!all(&other, &things).await.contains(&"after".to_owned()));
    // Once it has found out, it goes on like any other.
    if written.is_err() {
        sleeper.upsert(&things, vec![record("later", &[1.0, 0.0])]).await.unwrap();
        assert!(all(&other, &things).await.contains(&"later".to_owned()));
    }
    written.map(drop)
}

#[tokio::test(start_paused = true)]
async fn a_machine_whose_clocks_stood_still_acknowledges_nothing_that_is_lost() {
    let error = paused_for_an_hour(true).await.unwrap_err();
    assert!(error.is_ambiguous(), "{error}");
    // Without the store's word nobody could know: this is what the other is about.
    paused_for_an_hour(false).await.unwrap();
}
