//! What is missing or damaged in the bucket: it is found, named, and not more than it is left out.

use async_trait::async_trait;
use brainy::base::clock::VirtualClock;
use brainy::base::ids::{CollectionName, Seq, WriteId};
use brainy::base::settings::{Role, Settings};
use brainy::base::{Code, Env, Result, Timestamp};
use brainy::engine::Brainy;
use brainy::engine::damage::Kind;
use brainy::engine::model::*;
use brainy::filter::Filter;
use brainy::log::chunk::ChunkBuilder;
use brainy::log::entry::{Draft, Entry, Part};
use brainy::store::memory::MemoryStore;
use brainy::store::{
    DynStore, Etag, Fetched, GetOptions, Key, Listing, Precondition, Prefix, PutOutcome, Store,
    get, paths,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// A store that can be slow, out of reach, and counts.
#[derive(Debug, Default)]
struct Odd {
    inner: MemoryStore,
    /// How long reading a log entry takes.
    slow_log_ms: AtomicU64,
    /// How long every read takes.
    slow_ms: AtomicU64,
    /// Nothing comes back.
    away: AtomicBool,
    lists: AtomicU64,
    segments: AtomicU64,
}

impl Odd {
    async fn delay(&self, key: &str) -> Result<()> {
        if self.away.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(10)).await;
            return Err(brainy::base::Error::unavailable("it is away"));
        }
        let log = if key.ends_with("wal") { self.slow_log_ms.load(Ordering::Relaxed) } else { 0 };
        let slow = log + self.slow_ms.load(Ordering::Relaxed);
        if slow > 0 {
            sleep(Duration::from_millis(slow)).await;
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Odd {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        self.delay(key.as_str()).await?;
        if key.as_str().ends_with("seg") {
            self.segments.fetch_add(1, Ordering::Relaxed);
        }
        self.inner.get(key, options).await
    }
    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        self.delay("").await?;
        self.inner.put(key, body).await
    }
    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        self.inner.put_if(key, body, condition).await
    }
    async fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key).await
    }
    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        self.delay("").await?;
        self.lists.fetch_add(1, Ordering::Relaxed);
        self.inner.list(prefix, after, limit).await
    }
    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        self.inner.list_dirs(prefix).await
    }
}

fn things() -> CollectionName {
    CollectionName::new("things").unwrap()
}

fn record(id: &str) -> NewRecord {
    NewRecord::new(id, vec![1.0, 0.5]).metadata(json!({"id": id}).to_string())
}

fn unindexed() -> Settings {
    Settings { index_enabled: false, ..Settings::default() }
}

/// Indexes only when told to.
fn by_hand() -> Settings {
    Settings { index_after_bytes: 1 << 40, index_after_ms: 86_400_000, ..Settings::default() }
}

async fn instance(store: &DynStore, role: Role, settings: Settings, seed: u64) -> Brainy {
    let clock = Arc::new(VirtualClock::starting_at(Timestamp(1_768_473_000_000)));
    Brainy::start(settings, role, store.clone(), Env::deterministic(seed, clock)).await.unwrap()
}

fn world() -> (Arc<Odd>, DynStore) {
    let odd = Arc::new(Odd::default());
    (odd.clone(), odd)
}

async fn write(writer: &Brainy, ids: std::ops::Range<u32>) {
    for id in ids {
        writer.upsert(&things(), vec![record(&format!("r{id}"))]).await.unwrap();
    }
}

fn all(consistency: Consistency) -> SearchRequest {
    SearchRequest { consistency, ..SearchRequest::nearest(vec![1.0, 0.5], 1_000) }
}

async fn search(brainy: &Brainy, consistency: Consistency) -> Result<SearchResponse> {
    brainy.search(&things(), all(consistency)).await
}

async fn flip(store: &DynStore, key: &Key) {
    let object = get(&**store, key).await.unwrap().required(key).unwrap();
    let mut bytes = object.bytes.to_vec();
    let middle = bytes.len() * 2 / 3;
    bytes[middle] ^= 0x55;
    store.put(key, bytes.into()).await.unwrap();
}

async fn take_away(store: &DynStore, key: &Key) -> Bytes {
    let object = get(&**store, key).await.unwrap().required(key).unwrap();
    store.delete(key).await.unwrap();
    object.bytes
}

async fn keys(store: &DynStore, end: &str) -> Vec<Key> {
    let listing = store.list(&paths::everything(), None, 1_000).await.unwrap();
    let keys = listing.objects.into_iter().map(|object| object.key);
    keys.filter(|key| key.as_str().ends_with(end)).collect()
}

fn says(brainy: &Brainy, what: &str) -> bool {
    brainy.condition().degraded.iter().any(|sentence| sentence.contains(what))
}

#[tokio::test(start_paused = true)]
async fn a_reader_catches_up_however_long_that_takes() {
    let (odd, store) = world();
    write(&instance(&store, Role::Writer, unindexed(), 1).await, 0..2_000).await;
    odd.slow_log_ms.store(2_000, Ordering::Relaxed);
    let reader = instance(&store, Role::Reader, Settings::default(), 2).await;
    let mut asked = 0;
    let found = loop {
        asked += 1;
        let search = search(&reader, Consistency::Eventual);
        if let Ok(found) = timeout(Duration::from_secs(30), search).await {
            break found.unwrap();
        }
        assert!(asked < 8, "it starts over with every request");
    };
    assert_eq!((found.hits.len(), found.version), (1_000, Seq(2_000)));
    assert!(asked > 2, "or this is no test");
}

#[tokio::test(start_paused = true)]
async fn what_is_read_while_catching_up_is_shown_at_once() {
    let (odd, store) = world();
    write(&instance(&store, Role::Writer, unindexed(), 1).await, 0..2_000).await;
    odd.slow_log_ms.store(2_000, Ordering::Relaxed);
    let reader = instance(&store, Role::Reader, Settings::default(), 2).await;
    let version = Consistency::AtLeast { version: Seq(100), wait: Duration::from_secs(40) };
    let found = timeout(Duration::from_secs(40), search(&reader, version)).await.unwrap().unwrap();
    assert!(found.version >= Seq(100) && found.version < Seq(2_000), "{}", found.version);
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_takes_longer_than_a_request_is_loaded_once() {
    let (odd, store) = world();
    let writer = instance(&store, Role::Hybrid, by_hand(), 1).await;
    write(&writer, 0..20).await;
    writer.index(&things()).await.unwrap();
    writer.shutdown().await;
    odd.slow_ms.store(20_000, Ordering::Relaxed);
    odd.segments.store(0, Ordering::Relaxed);
    let reader = instance(&store, Role::Reader, Settings::default(), 2).await;
    let mut answered = false;
    for _ in 0..20 {
        let search = search(&reader, Consistency::Eventual);
        answered |= timeout(Duration::from_secs(30), search).await.is_ok();
    }
    assert!(answered);
    assert_eq!(odd.segments.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn an_eventual_read_waits_for_a_slow_store_and_never_shows_what_is_long_gone() {
    let (odd, store) = world();
    let writer = instance(&store, Role::Writer, unindexed(), 1).await;
    write(&writer, 0..2).await;
    let reader = instance(&store, Role::Reader, Settings::default(), 2).await;
    assert_eq!(search(&reader, Consistency::Eventual).await.unwrap().hits.len(), 2);
    writer.delete(&things(), DeleteTarget::Ids(vec!["r0".into()])).await.unwrap();
    odd.slow_ms.store(3_000, Ordering::Relaxed);
    for pause in [3, 60, 3 * 3_600] {
        sleep(Duration::from_secs(pause)).await;
        let found = search(&reader, Consistency::Eventual).await.unwrap();
        assert_eq!(found.hits.len(), 1, "after {pause} s");
        assert!(found.stats.age <= Duration::from_secs(10), "{:?}", found.stats.age);
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_answers_are_as_old_as_the_setting_says_and_say_so() {
    for (stale_max_ms, answered_s) in [(60_000, 55), (0, 0)] {
        let (odd, store) = world();
        write(&instance(&store, Role::Writer, unindexed(), 1).await, 0..2).await;
        let settings = Settings { stale_max_ms, ..Settings::default() };
        let reader = instance(&store, Role::Reader, settings, 2).await;
        search(&reader, Consistency::Eventual).await.unwrap();
        odd.away.store(true, Ordering::Relaxed);
        let mut oldest = 0;
        for second in 0..90 {
            sleep(Duration::from_secs(1)).await;
            match search(&reader, Consistency::Eventual).await {
                Ok(found) => {
                    oldest = second;
                    assert!(found.stats.age.as_secs() <= 2 + stale_max_ms / 1_000);
                    assert!(found.stats.age.as_secs() + 2 >= second);
                }
                Err(error) => assert_eq!(error.code(), Code::StoreUnavailable),
            }
        }
        assert!(oldest >= answered_s && oldest <= answered_s + 8, "{oldest}");
        odd.away.store(false, Ordering::Relaxed);
        sleep(Duration::from_secs(1)).await;
        search(&reader, Consistency::Eventual).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_entry_that_is_gone_is_found_by_a_reader_and_named() {
    let (_, store) = world();
    let writer = instance(&store, Role::Writer, unindexed(), 1).await;
    write(&writer, 0..11).await;
    let key = paths::wal_entry(&things(), Seq(4));
    let bytes = take_away(&store, &key).await;
    let reader = instance(&store, Role::Reader, Settings::default(), 2).await;
    let found = search(&reader, Consistency::Eventual).await.unwrap();
    assert_eq!((found.hits.len(), found.version), (3, Seq(3)));
    let partial = found.partial.expect("it says that it is not all");
    assert_eq!((partial[0].kind, &*partial[0].place), (Kind::LogEntry, key.as_str()));
    assert_eq!(partial[0].position, Some(Seq(4)));
    assert!(says(&reader, key.as_str()), "{:?}", reader.condition());
    let late = Consistency::AtLeast { version: Seq(9), wait: Duration::from_secs(30) };
    for beyond in [Consistency::Strong, late] {
        let error = search(&reader, beyond).await.unwrap_err();
        assert_eq!(
            (error.code(), &error.details()["key"]),
            (Code::LogDamaged, &json!(key.as_str()))
        );
    }
    let lost = reader.get(&things(), "r7").await.unwrap_err();
    assert_eq!(lost.code(), Code::LogDamaged, "nobody knows whether it is there");
    assert_eq!(reader.get(&things(), "r1").await.unwrap().id, "r1");
    let page = reader.list(&things(), 100, None, false).await.unwrap();
    assert!(page.records.len() == 3 && page.partial.is_some());
    assert_eq!(reader.stats(&things()).await.unwrap().damaged.len(), 1);
    // Restored, it is as if nothing had been.
    store.put(&key, bytes).await.unwrap();
    sleep(Duration::from_secs(6)).await;
    let found = search(&reader, Consistency::Strong).await.unwrap();
    assert!(found.hits.len() == 11 && found.partial.is_none());
    assert!(reader.condition().degraded.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_last_gap_is_found_by_the_listing_once_a_minute_and_an_idle_log_costs_nothing() {
    let (odd, store) = world();
    let writer = instance(&store, Role::Writer, unindexed(), 1).await;
    write(&writer, 0..3).await;
    let reader = instance(&store, Role::Reader, Settings::default(), 2).await;
    search(&reader, Consistency::Eventual).await.unwrap();
    // What follows first vanishes before this reader has seen it, and only one entry is behind it.
    odd.away.store(true, Ordering::Relaxed);
    write(&writer, 3..5).await;
    odd.inner.delete(&paths::wal_entry(&things(), Seq(4))).await.unwrap();
    odd.away.store(false, Ordering::Relaxed);
    odd.lists.store(0, Ordering::Relaxed);
    let mut told_after = None;
    for second in 0..150 {
        sleep(Duration::from_secs(1)).await;
        let found = search(&reader, Consistency::Eventual).await.unwrap();
        assert_eq!(found.version, Seq(3));
        told_after = told_after.or(found.partial.map(|_| second));
    }
    assert!(told_after.is_some_and(|seconds| seconds <= 62), "{told_after:?}");
    assert!((2..=3).contains(&odd.lists.load(Ordering::Relaxed)), "one a minute");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_well_is_listed_once_a_minute_while_it_is_read_and_not_when_idle() {
    let (odd, store) = world();
    let writer = instance(&store, Role::Writer, unindexed(), 1).await;
    write(&writer, 0..3).await;
    writer.shutdown().await;
    let reader = instance(&store, Role::Reader, Settings::default(), 2).await;
    search(&reader, Consistency::Eventual).await.unwrap();
    odd.lists.store(0, Ordering::Relaxed);
    for _ in 0..300 {
        sleep(Duration::from_secs(1)).await;
        search(&reader, Consistency::Eventual).await.unwrap();
    }
    assert!((4..=6).contains(&odd.lists.swap(0, Ordering::Relaxed)));
    sleep(Duration::from_secs(120)).await;
    odd.lists.store(0, Ordering::Relaxed);
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(odd.lists.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_appends_into_a_gap_or_behind_it() {
    for missing in [1, 4, 10] {
        for role in [Role::Writer, Role::Hybrid] {
            let (_, store) = world();
            write(&instance(&store, Role::Writer, unindexed(), 1).await, 0..11).await;
            let key = paths::wal_entry(&things(), Seq(missing));
            let bytes = take_away(&store, &key).await;
            let entries = keys(&store, "wal").await;
            let next = instance(&store, role, unindexed(), 2).await;
            for _ in 0..3 {
                let error = next.upsert(&things(), vec![record("new")]).await.unwrap_err();
                assert_eq!(error.code(), Code::LogDamaged, "{error}");
                assert_eq!(error.details()["key"], json!(key.as_str()));
                assert_eq!(error.details()["position"], json!(missing));
                assert!(!error.is_ambiguous());
            }
            assert_eq!(keys(&store, "wal").await, entries);
            assert!(says(&next, key.as_str()));
            if role.reads() {
                let found = search(&next, Consistency::Eventual).await.unwrap();
                assert!(found.partial.is_some() && found.version == Seq(missing - 1));
            }
            store.put(&key, bytes).await.unwrap();
            sleep(Duration::from_secs(31)).await;
            let written = next.upsert(&things(), vec![record("new")]).await.unwrap();
            assert_eq!(written.version, Seq(12));
            assert!(!says(&next, key.as_str()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_at_work_notices_within_a_minute_that_the_log_lost_its_next_entry() {
    let (_, store) = world();
    let one = instance(&store, Role::Writer, unindexed(), 1).await;
    write(&one, 0..3).await;
    let other = instance(&store, Role::Writer, unindexed(), 2).await;
    write(&other, 3..6).await;
    let key = paths::wal_entry(&things(), Seq(4));
    take_away(&store, &key).await;
    sleep(Duration::from_secs(61)).await;
    let error = one.upsert(&things(), vec![record("new")]).await.unwrap_err();
    assert_eq!((error.code(), &error.details()["key"]), (Code::LogDamaged, &json!(key.as_str())));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_log_can_be_deleted() {
    let (_, store) = world();
    write(&instance(&store, Role::Writer, unindexed(), 1).await, 0..6).await;
    take_away(&store, &paths::wal_entry(&things(), Seq(4))).await;
    let next = instance(&store, Role::Hybrid, unindexed(), 2).await;
    next.upsert(&things(), vec![record("new")]).await.unwrap_err();
    next.delete_collection(&things()).await.unwrap();
    write(&next, 0..2).await;
    assert_eq!(search(&next, Consistency::Strong).await.unwrap().hits.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_below_what_is_indexed_does_not_matter() {
    let (_, store) = world();
    let first = instance(&store, Role::Hybrid, by_hand(), 1).await;
    write(&first, 0..11).await;
    first.index(&things()).await.unwrap();
    take_away(&store, &paths::wal_entry(&things(), Seq(4))).await;
    let next = instance(&store, Role::Hybrid, by_hand(), 2).await;
    write(&next, 11..12).await;
    let found = search(&next, Consistency::Strong).await.unwrap();
    assert!(found.hits.len() == 12 && found.partial.is_none());
    assert!(next.condition().degraded.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_cannot_be_read_stops_the_writers_who_know_of_it() {
    let (_, store) = world();
    let writer = instance(&store, Role::Writer, unindexed(), 1).await;
    write(&writer, 0..11).await;
    let key = paths::wal_entry(&things(), Seq(5));
    let sound = get(&*store, &key).await.unwrap().required(&key).unwrap().bytes;
    flip(&store, &key).await;
    // It reads the log because it indexes it.
    let indexer = instance(&store, Role::Writer, Settings::default(), 2).await;
    indexer.collection(&things()).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    let error = indexer.upsert(&things(), vec![record("new")]).await.unwrap_err();
    assert_eq!((error.code(), &error.details()["key"]), (Code::LogDamaged, &json!(key.as_str())));
    assert!(says(&indexer, key.as_str()));
    let reader = instance(&store, Role::Reader, Settings::default(), 3).await;
    let found = search(&reader, Consistency::Eventual).await.unwrap();
    assert!(found.hits.len() == 4 && found.partial.is_some());
    store.put(&key, sound).await.unwrap();
    sleep(Duration::from_secs(70)).await;
    indexer.upsert(&things(), vec![record("new")]).await.unwrap();
    assert_eq!(search(&reader, Consistency::Strong).await.unwrap().hits.len(), 12);
}

#[tokio::test(start_paused = true)]
async fn a_data_object_that_is_gone_or_damaged_is_named() {
    for gone in [true, false] {
        let (_, store) = world();
        let settings = Settings { wal_inline_max_bytes: 10, batch_max_bytes: 10, ..unindexed() };
        let writer = instance(&store, Role::Writer, settings, 1).await;
        let records = |id: &str| (0..50).map(|n| record(&format!("{id}{n}"))).collect();
        writer.upsert(&things(), records("a")).await.unwrap();
        let known = keys(&store, "bin").await;
        writer.upsert(&things(), records("b")).await.unwrap();
        let mut added = keys(&store, "bin").await;
        added.retain(|key| !known.contains(key));
        let key = added.pop().expect("a large write is an object");
        match gone {
            true => drop(take_away(&store, &key).await),
            false => flip(&store, &key).await,
        }
        let reader = instance(&store, Role::Reader, Settings::default(), 2).await;
        let found = search(&reader, Consistency::Eventual).await.unwrap();
        let partial = found.partial.unwrap();
        assert_eq!((partial[0].kind, &*partial[0].place), (Kind::LogData, key.as_str()));
        assert_eq!(partial[0].position, Some(Seq(2)));
        assert!(found.hits.len() == 50 && says(&reader, key.as_str()));
    }
}

/// Two segments, the second of which is damaged.
async fn with_a_damaged_segment(store: &DynStore, gone: bool) -> (Key, Bytes) {
    let writer = instance(store, Role::Hybrid, by_hand(), 1).await;
    write(&writer, 0..6).await;
    writer.index(&things()).await.unwrap();
    let known = keys(store, "seg").await;
    write(&writer, 6..9).await;
    writer.index(&things()).await.unwrap();
    let mut added = keys(store, "seg").await;
    added.retain(|key| !known.contains(key));
    let (key, false) = (added.pop().unwrap(), added.len() > 0) else { panic!("one was added") };
    let sound = get(&**store, &key).await.unwrap().required(&key).unwrap().bytes;
    match gone {
        true => drop(take_away(store, &key).await),
        false => flip(store, &key).await,
    }
    (key, sound)
}

#[tokio::test(start_paused = true)]
async fn a_damaged_segment_is_left_out_and_the_rest_is_served() {
    for gone in [true, false] {
        let (odd, store) = world();
        let (key, sound) = with_a_damaged_segment(&store, gone).await;
        let reader = instance(&store, Role::Reader, Settings::default(), 2).await;
        for _ in 0..3 {
            let found = search(&reader, Consistency::Strong).await.unwrap();
            let partial = found.partial.expect("it says that it is not all");
            assert_eq!((partial[0].kind, &*partial[0].place), (Kind::Segment, key.as_str()));
            assert_eq!(found.hits.len(), 6);
        }
        assert!(odd.segments.load(Ordering::Relaxed) <= 9, "it is not read again and again");
        let page = reader.list(&things(), 100, None, true).await.unwrap();
        assert!(page.records.len() == 6 && page.partial.is_some());
        let export = reader.export(&things(), true).await.unwrap();
        assert!(export.partial.is_some());
        let lines: Vec<Bytes> = export.lines.try_collect().await.unwrap();
        assert_eq!(lines.concat().iter().filter(|byte| **byte == b'\n').count(), 6);
        assert_eq!(reader.get(&things(), "r1").await.unwrap().id, "r1");
        let error = reader.get(&things(), "r7").await.unwrap_err();
        assert_eq!((error.code(), &error.details()["key"]), (Code::Corrupt, &json!(key.as_str())));
        let fetched = reader.fetch(&things(), &["r1".into(), "r7".into()], false).await.unwrap();
        assert!(fetched.records.len() == 1 && fetched.partial.is_some());
        assert!(says(&reader, key.as_str()));
        store.put(&key, sound).await.unwrap();
        sleep(Duration::from_secs(31)).await;
        let found = search(&reader, Consistency::Strong).await.unwrap();
        assert!(found.hits.len() == 9 && found.partial.is_none());
        assert!(reader.condition().degraded.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn where_dead_rows_are_not_known_no_deleted_record_returns() {
    for gone in [true, false] {
        let (_, store) = world();
        let writer = instance(&store, Role::Hybrid, by_hand(), 1).await;
        write(&writer, 0..6).await;
        writer.index(&things()).await.unwrap();
        let target = DeleteTarget::Ids(vec!["r1".into()]);
        writer.delete(&things(), target).await.unwrap();
        write(&writer, 6..9).await;
        writer.index(&things()).await.unwrap();
        let key = keys(&store, "del").await.pop().expect("there are dead rows");
        let sound = get(&*store, &key).await.unwrap().required(&key).unwrap().bytes;
        match gone {
            true => drop(take_away(&store, &key).await),
            false => flip(&store, &key).await,
        }
        let reader = instance(&store, Role::Reader, Settings::default(), 2).await;
        let found = search(&reader, Consistency::Strong).await.unwrap();
        let partial = found.partial.expect("it says that it is not all");
        assert_eq!((partial[0].kind, &*partial[0].place), (Kind::Deletions, key.as_str()));
        let mut ids: Vec<&str> = found.hits.iter().map(|hit| &*hit.id).collect();
        ids.sort_unstable();
        assert_eq!(ids, ["r6", "r7", "r8"], "the segment that has no dead rows");
        assert!(says(&reader, key.as_str()));
        let error = reader.get(&things(), "r1").await.unwrap_err();
        assert_eq!((error.code(), &error.details()["key"]), (Code::Corrupt, &json!(key.as_str())));
        store.put(&key, sound).await.unwrap();
        for _ in 0..40 {
            sleep(Duration::from_secs(1)).await;
            search(&reader, Consistency::Eventual).await.unwrap();
        }
        let found = search(&reader, Consistency::Strong).await.unwrap();
        assert!(found.hits.len() == 8 && found.partial.is_none());
        assert!(reader.condition().degraded.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_cannot_be_read_is_named_and_writes_are_refused() {
    let (_, store) = world();
    let hybrid = instance(&store, Role::Hybrid, by_hand(), 1).await;
    write(&hybrid, 0..3).await;
    search(&hybrid, Consistency::Eventual).await.unwrap();
    let key = paths::manifest(&things());
    let sound = get(&*store, &key).await.unwrap().required(&key).unwrap().bytes;
    store.put(&key, "{\"formatVersion\": 2,".into()).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    let error = search(&hybrid, Consistency::Eventual).await.unwrap_err();
    assert_eq!(error.code(), Code::Corrupt);
    let error = hybrid.upsert(&things(), vec![record("new")]).await.unwrap_err();
    assert_eq!((error.code(), &error.details()["key"]), (Code::Corrupt, &json!(key.as_str())));
    let other = instance(&store, Role::Reader, Settings::default(), 2).await;
    search(&other, Consistency::Eventual).await.unwrap_err();
    assert!(says(&hybrid, key.as_str()) && says(&other, key.as_str()));
    store.put(&key, sound).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    for instance in [&hybrid, &other] {
        assert_eq!(search(instance, Consistency::Strong).await.unwrap().hits.len(), 3);
        assert!(instance.condition().degraded.is_empty());
    }
    write(&hybrid, 3..4).await;
}

/// Metadata that older builds stored, and nobody can read.
const POISON: [&str; 4] = ["{\"t\":\"\\ud83d\"}", "{\"n\":1e999}", "{\"n\":", "[1]"];

/// Appends an entry as an older build did.
async fn append_poison(store: &DynStore) {
    let mut builder = ChunkBuilder::new(2);
    for (n, metadata) in POISON.iter().enumerate() {
        builder.upsert(&format!("bad{n}"), &[1.0, 0.5], metadata, Some("text"));
    }
    builder.upsert("lines", &[1.0, 0.5], "{\n \"kind\" : \"good\"\r\n}", None);
    let entries = keys(store, "wal").await;
    let last = entries.last().expect("the collection has a log");
    let object = get(&**store, last).await.unwrap().required(last).unwrap();
    let Entry { header, .. } = Entry::decode(&object.bytes).unwrap();
    let part = Part::Inline { operations: 5, chunk: builder.finish().unwrap() };
    let id = WriteId([7; 16]);
    let draft = Draft::data(header.incarnation, id, Timestamp(1), &[part]);
    let seq = header.seq.next();
    let entry = draft.encode(&draft.header(seq, header.totals));
    store.put(&paths::wal_entry(&things(), seq), entry).await.unwrap();
}

fn filtered(filter: serde_json::Value) -> SearchRequest {
    SearchRequest { filter: Some(Filter::parse(&filter).unwrap()), ..all(Consistency::Strong) }
}

/// What holds wherever the bad records are.
async fn check_poison(brainy: &Brainy, good: usize) {
    let found = search(brainy, Consistency::Strong).await.unwrap();
    assert_eq!(found.hits.len(), good + 1 + POISON.len());
    assert!(found.partial.is_none(), "nothing is left out");
    for filter in [json!({}), json!({"t": {"$ne": 1}}), json!({"$not": {"id": "r1"}})] {
        let found = brainy.search(&things(), filtered(filter.clone())).await.unwrap();
        assert!(found.hits.iter().all(|hit| !hit.id.starts_with("bad")), "{filter}");
        assert!(found.hits.len() >= good, "{filter}");
    }
    let bad = brainy.get(&things(), "bad0").await.unwrap();
    assert_eq!((&*bad.metadata, bad.text.as_deref(), bad.damaged), ("{}", Some("text"), true));
    let page = brainy.list(&things(), 100, None, true).await.unwrap();
    assert_eq!(page.records.iter().filter(|record| record.damaged).count(), POISON.len());
    let export = brainy.export(&things(), true).await.unwrap();
    let lines: Vec<Bytes> = export.lines.try_collect().await.unwrap();
    let lines = lines.concat();
    assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), good + 1 + POISON.len());
    let copy = CollectionName::new("copy").unwrap();
    let body = futures::stream::iter([Ok(Bytes::from(lines))]).boxed();
    let report = brainy.import(&copy, body).await.unwrap();
    assert_eq!((report.imported, report.failed), ((good + 1 + POISON.len()) as u64, 0));
}

#[tokio::test(start_paused = true)]
async fn records_that_nobody_can_read_are_kept_named_and_in_nobodys_way() {
    let (_, store) = world();
    let brainy = instance(&store, Role::Hybrid, by_hand(), 1).await;
    write(&brainy, 0..5).await;
    append_poison(&store).await;
    check_poison(&brainy, 5).await;
    brainy.index(&things()).await.unwrap();
    check_poison(&brainy, 5).await;
    let warnings = brainy.condition().warnings;
    for n in 0..POISON.len() {
        let named = format!("\"bad{n}\" of version 6 of collection things");
        assert!(warnings.iter().any(|warning| warning.contains(&named)), "{warnings:?}");
    }
    assert!(brainy.condition().degraded.is_empty());
    write(&brainy, 5..8).await;
    brainy.compact(&things()).await.unwrap();
    check_poison(&brainy, 8).await;
    let other = instance(&store, Role::Reader, Settings::default(), 2).await;
    search(&other, Consistency::Strong).await.unwrap();
    assert_eq!(other.stats(&things()).await.unwrap().damaged.len(), POISON.len());
    // A delete by filter leaves them, one by id does not.
    let everything =
        DeleteTarget::Filter(Filter::parse(&json!({"x": {"$exists": false}})).unwrap());
    assert_eq!(brainy.delete(&things(), everything).await.unwrap().deleted, 9);
    assert_eq!(search(&brainy, Consistency::Strong).await.unwrap().hits.len(), POISON.len());
    let ids = (0..POISON.len()).map(|n| format!("bad{n}")).collect();
    brainy.delete(&things(), DeleteTarget::Ids(ids)).await.unwrap();
    brainy.index(&things()).await.unwrap();
    assert_eq!(search(&brainy, Consistency::Strong).await.unwrap().hits.len(), 0);
    assert!(brainy.condition().warnings.is_empty(), "{:?}", brainy.condition().warnings);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_kept_is_refused_and_what_can_is_stored_on_one_line() {
    let (_, store) = world();
    let brainy = instance(&store, Role::Hybrid, by_hand(), 1).await;
    let upsert = async |metadata: &str| {
        let record = NewRecord::new("a", vec![1.0, 0.5]).metadata(metadata);
        brainy.upsert(&things(), vec![record]).await
    };
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(127), "]".repeat(127));
    for bad in POISON.iter().chain([&deep.as_str(), &"null", &"{} x", &""]) {
        let error = upsert(bad).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidMetadata, "{bad}");
    }
    upsert("{ \"b\" : [ 1 ,\n2.50 ] ,\r\n \"a\" : \"\\u00e9\\n\" , \"b\":3 }").await.unwrap();
    let stored = brainy.get(&things(), "a").await.unwrap();
    assert_eq!((&*stored.metadata, stored.damaged), ("{\"a\":\"é\\n\",\"b\":3}", false));
}
