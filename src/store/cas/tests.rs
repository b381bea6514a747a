use super::*;
use crate::base::clock::VirtualClock;
use crate::store::get;
use crate::store::memory::MemoryStore;
use crate::store::{DynStore, Listing};
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that is counted up, with a history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Counter {
    format_version: u64,
    stamp: Stamp,
    number: u64,
    /// Must not go back.
    floor: u64,
}

const PREFIX: &str = "history/";

fn kept(version: u64) -> Key {
    Key::raw(format!("{PREFIX}{version:04}"))
}

impl Document for Counter {
    const FORMAT_VERSION: u64 = 1;

    fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    fn stamp_mut(&mut self) -> &mut Stamp {
        &mut self.stamp
    }

    fn history(&self) -> Option<History> {
        Some(History {
            prefix: Prefix::raw(PREFIX),
            key: kept(self.stamp.version),
            version_of: |key| key.as_str().strip_prefix(PREFIX)?.parse().ok(),
        })
    }

    fn restored(&mut self, newest: &Counter) {
        self.floor = self.floor.max(newest.floor);
    }
}

fn key() -> Key {
    Key::raw("counter")
}

fn env(seed: u64) -> Env {
    Env::deterministic(seed, Arc::new(VirtualClock::starting_at(Timestamp(1_000_000))))
}

/// Counts up; the number is the floor, too.
async fn count(store: &dyn Store, env: &Env) -> Loaded<Counter> {
    let change = |current: Option<&Loaded<Counter>>| {
        let (stamp, number) = (Stamp::default(), current.map_or(0, |it| it.value.number) + 1);
        Ok(Change::Write(Counter { format_version: 1, stamp, number, floor: number }))
    };
    update(store, env, &key(), change).await.unwrap().unwrap()
}

/// A store behind a proxy that sends every PUT twice and tells of the second.
#[derive(Debug, Default)]
struct Resending {
    inner: MemoryStore,
    gets: AtomicU64,
}

#[async_trait]
impl Store for Resending {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        self.inner.get(key, options).await
    }
    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        self.inner.put(key, body).await
    }
    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        drop(self.inner.put_if(key, body.clone(), condition.clone()).await);
        tokio::task::yield_now().await;
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

#[tokio::test(start_paused = true)]
async fn a_write_that_is_answered_as_lost_may_be_our_own() {
    let (store, env) = (Resending::default(), env(1));
    for number in 1..=20 {
        assert_eq!(count(&store, &env).await.value.number, number);
    }
    let ours = |bytes: &[u8]| bytes == b"entry";
    let created = create(&store, &env, &Key::raw("entry"), "entry".into(), 5, ours).await;
    assert!(matches!(created, Ok(Created::Won)), "{created:?}");
    // The build that believes it counts twice.
    let broken = Env { defects: crate::base::defect::Defects::only(Defect::LossIsTheirs), ..env };
    let believing = tokio::time::timeout(Duration::from_secs(3_600), async {
        let store: &dyn Store = &store;
        let change = |current: Option<&Loaded<Counter>>| {
            let current = current.unwrap().value.clone();
            Ok(match current.number {
                number if number < 30 => {
                    Change::Write(Counter { number: number + 1, ..current.clone() })
                }
                _ => Change::Keep,
            })
        };
        update(store, &broken, &key(), change).await.unwrap().unwrap().value.number
    });
    assert_eq!(believing.await.unwrap(), 30);
}

#[tokio::test(start_paused = true)]
async fn writers_behind_such_a_proxy_lose_and_repeat_no_change() {
    let store = Arc::new(Resending::default());
    let tasks = (0..8).map(|seed| {
        let store = store.clone();
        async move {
            let env = env(seed);
            for _ in 0..10 {
                count(&*store, &env).await;
            }
        }
    });
    futures::future::join_all(tasks).await;
    let found = load::<Counter>(&*store, &key()).await.unwrap().unwrap();
    assert_eq!((found.value.number, found.value.stamp.version), (80, 80));
}

/// A store in which another writer is first, once.
#[derive(Debug, Default)]
struct Overtaken {
    store: Resending,
    overtake: AtomicU64,
}

#[async_trait]
impl Store for Overtaken {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        self.store.get(key, options).await
    }
    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        self.store.put(key, body).await
    }
    async fn put_if(&self, at: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        if *at == key() && self.overtake.swap(0, Ordering::Relaxed) == 1 {
            count(&self.store.inner, &env(9)).await;
        }
        self.store.inner.put_if(at, body, condition).await
    }
    async fn delete(&self, key: &Key) -> Result<()> {
        self.store.delete(key).await
    }
    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        self.store.list(prefix, after, limit).await
    }
    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        self.store.list_dirs(prefix).await
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_loss_is_followed_by_is_read_once() {
    let (store, env) = (Overtaken::default(), env(1));
    count(&store, &env).await;
    store.store.gets.store(0, Ordering::Relaxed);
    store.overtake.store(1, Ordering::Relaxed);
    assert_eq!(count(&store, &env).await.value.number, 3);
    // The document before, the one that was lost to, and nothing behind what both have kept.
    let gets = store.store.gets.load(Ordering::Relaxed);
    assert_eq!(gets, 2);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_was_put_back_by_hand_goes_on_behind_the_newest() {
    let (store, env): (DynStore, _) = (Arc::new(MemoryStore::default()), env(1));
    for _ in 0..9 {
        count(&*store, &env).await;
    }
    // As any tool copies it.
    let old = get(&*store, &kept(5)).await.unwrap().required(&kept(5)).unwrap();
    store.put(&key(), old.bytes.clone()).await.unwrap();
    let next = count(&*store, &env).await.value;
    // The ninth was in force and is lost; 10 is what was put back, 11 the change.
    assert_eq!((next.number, next.stamp.version), (6, 11));
    let settled = get(&*store, &kept(10)).await.unwrap().required(&kept(10)).unwrap();
    let settled: Counter = parse(&kept(10), &settled.bytes).unwrap();
    assert_eq!((settled.number, settled.floor), (5, 8));
    for _ in 0..10 {
        count(&*store, &env).await;
    }
    // The same once more, from a backup whose history was cut: nothing tells before a number is taken.
    for version in 1..=8 {
        store.delete(&kept(version)).await.unwrap();
    }
    store.put(&key(), old.bytes.clone()).await.unwrap();
    for number in 6..30 {
        assert_eq!(count(&*store, &env).await.value.number, number);
    }
    let versions = store.list(&Prefix::raw(PREFIX), None, 1_000).await.unwrap();
    let versions: Vec<u64> = versions
        .objects
        .iter()
        .filter_map(|object| object.key.as_str().strip_prefix(PREFIX)?.parse().ok())
        .collect();
    let last = load::<Counter>(&*store, &key()).await.unwrap().unwrap().value.stamp.version;
    assert!(versions.len() >= 30 && versions.iter().all(|version| *version < last), "{versions:?}");
}

#[tokio::test(start_paused = true)]
async fn a_newer_format_says_who_may_read_and_who_may_change_it() {
    let (store, env) = (MemoryStore::default(), env(9));
    let put = async |text: &'static str| {
        let document = format!(
            r#"{{{text} "number": 5, "floor": 0, "stamp": {{"version": 3, "updated": "2026-01-15T10:30:00Z",
               "recentWrites": []}}}}"#
        );
        store.put(&key(), Bytes::from(document)).await.unwrap()
    };
    let add = |current: Option<&Loaded<Counter>>| {
        let Loaded { value, .. } = current.expect("it is there");
        Ok(Change::Write(Counter { number: value.number + 1, ..value.clone() }))
    };
    put(r#""formatVersion": 7,"#).await;
    let refused = load::<Counter>(&store, &key()).await.unwrap_err();
    assert_eq!(refused.code(), Code::NewerFormat);

    put(r#""formatVersion": 7, "minReader": 1,"#).await;
    assert_eq!(load::<Counter>(&store, &key()).await.unwrap().unwrap().value.number, 5);
    let refused = update(&store, &env, &key(), add).await.unwrap_err();
    assert_eq!(refused.code(), Code::NewerFormat, "it may be read only");
    let kept = update::<Counter>(&store, &env, &key(), |_| Ok(Change::Keep)).await.unwrap();
    assert_eq!(kept.unwrap().value.number, 5, "to leave it is no change");

    put(r#""formatVersion": 7, "minReader": 1, "minWriter": 1,"#).await;
    let changed = update(&store, &env, &key(), add).await.unwrap().unwrap().value;
    assert_eq!((changed.number, changed.format_version), (6, 7));

    put(r#""formatVersion": 7, "minReader": 2, "minWriter": 1,"#).await;
    assert_eq!(load::<Counter>(&store, &key()).await.unwrap_err().code(), Code::NewerFormat);
}
