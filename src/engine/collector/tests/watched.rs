//! A store that watches what is deleted.

use super::{GRACE, name};
use crate::base::ids::{Seq, Ulid};
use crate::base::{Env, Result};
use crate::log::entry::{Entry, HEADER_BYTES, Part};
use crate::manifest::Manifest;
use crate::store::memory::MemoryStore;
use crate::store::{
    Etag, Fetched, GetOptions, Key, Listing, Precondition, Prefix, PutOutcome, Store, paths,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A store that knows what may be deleted when: from the manifests and the entries that were written, not from
/// what the collector makes of them.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) objects: MemoryStore,
    pub(super) env: Env,
    /// How long a request is on its way there, and its answer back, at most; requests that take it.
    pub(super) latency: Duration,
    pub(super) noted: Mutex<Noted>,
    pub(super) requests: AtomicU64,
    pub(super) in_flight: AtomicUsize,
    pub(super) in_flight_max: AtomicUsize,
    /// Conditional PUTs of log entries stand still while somebody holds it.
    pub(super) gate: tokio::sync::RwLock<()>,
    /// An object that is read slowly, the next time that it is.
    pub(super) slow: Mutex<Option<(Key, Duration)>>,
}

#[derive(Debug, Default)]
pub(super) struct Noted {
    manifests: BTreeMap<String, Manifest>,
    /// When each object was last named, or put if it never was.
    named_until: BTreeMap<Ulid, Instant>,
    /// From when on each position was below the floor.
    below: BTreeMap<Key, Instant>,
    /// Which entry names a data object.
    names: BTreeMap<Key, Key>,
    pub(super) deleted: u64,
    fault: Option<String>,
}

impl Watched {
    pub(super) fn new(env: &Env, latency: Duration) -> Arc<Watched> {
        Arc::new(Watched {
            objects: MemoryStore::default(),
            env: env.clone(),
            latency,
            noted: Mutex::default(),
            requests: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            in_flight_max: AtomicUsize::new(0),
            gate: tokio::sync::RwLock::default(),
            slow: Mutex::default(),
        })
    }

    pub(super) fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap()
    }

    pub(super) fn fault(&self) -> Option<String> {
        self.noted().fault.clone()
    }

    pub(super) fn check(&self) {
        assert_eq!(self.fault(), None);
    }

    async fn travel(&self) {
        if !self.latency.is_zero() {
            sleep(self.latency / 2 + self.env.rng.jitter(self.latency / 2)).await;
        }
    }

    async fn request<T>(&self, work: impl Future<Output = T>) -> T {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.in_flight_max.fetch_max(now, Ordering::Relaxed);
        self.travel().await;
        let done = work.await;
        self.travel().await;
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        done
    }

    fn written(&self, key: &Key, body: &Bytes) {
        let (now, mut noted) = (Instant::now(), self.noted());
        if let Some(id) = paths::parse_vectors(key) {
            noted.named_until.insert(id, now);
        } else if let Some(seq) = paths::parse_wal_entry(key) {
            let Ok(entry) = Entry::decode(body) else { return };
            let folder = key.as_str().split('/').nth(1).unwrap();
            for part in entry.parts {
                let Part::Object { id, .. } = part else { continue };
                let body = paths::wal_data(&name(folder), id);
                if !noted.names.contains_key(&body) && noted.below.contains_key(&body) {
                    noted.fault.get_or_insert(format!("entry {seq} names {body}, which is gone"));
                }
                noted.names.insert(body, key.clone());
            }
        } else if key.as_str().ends_with("/manifest.json") {
            let Ok(next) = serde_json::from_slice::<Manifest>(body) else { return };
            if let Some(last) = noted.manifests.insert(next.name.to_string(), next.clone()) {
                // What it named is without a name from now on, unless the next names it, too.
                for id in last.names() {
                    noted.named_until.insert(id, now);
                }
                for seq in last.wal_floor.0..next.wal_floor.0 {
                    noted.below.insert(paths::wal_entry(&next.name, Seq(seq)), now);
                }
            }
        }
    }

    fn deleted(&self, key: &Key) {
        let mut noted = self.noted();
        if let Some(early) = Watched::is_early(&noted, key) {
            noted.fault.get_or_insert(format!("{key} is deleted {early}"));
        }
        noted.deleted += 1;
        if paths::parse_wal_data(key).is_some() {
            noted.names.remove(key);
            noted.below.insert(key.clone(), Instant::now());
        }
    }

    fn is_early(noted: &Noted, key: &Key) -> Option<String> {
        let folder = key.as_str().split('/').nth(1)?;
        let manifest = noted.manifests.get(folder)?;
        let since = |since: &Instant| match since.elapsed() {
            early if early < GRACE => Some(format!("after {early:?}")),
            _ => None,
        };
        if let Some(id) = paths::parse_vectors(key) {
            if manifest.names().contains(&id) {
                return Some("although it is named".to_owned());
            }
            return noted.named_until.get(&id).and_then(since);
        }
        let entry = match paths::parse_wal_data(key) {
            Some(_) => noted.names.get(key)?,
            None => key,
        };
        match noted.below.get(entry) {
            Some(below) => since(below),
            None if paths::parse_wal_entry(entry).is_some() => Some("above the floor".to_owned()),
            None => None,
        }
    }
}

#[async_trait]
impl Store for Watched {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        let found = self.request(self.objects.get(key, options)).await?;
        let is_slow = |(slow, _): &mut (Key, Duration)| slow == key;
        let slow = match found {
            Fetched::Found(_) => self.slow.lock().unwrap().take_if(is_slow),
            _ => None,
        };
        sleep(slow.map_or(Duration::ZERO, |(_, time)| time)).await;
        Ok(found)
    }

    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        let put = async {
            self.written(key, &body);
            self.objects.put(key, body).await
        };
        self.request(put).await
    }

    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        let put = async {
            // Nobody stands still but those who are told to.
            if body.len() > HEADER_BYTES && paths::parse_wal_entry(key).is_some() {
                drop(self.gate.read().await);
            }
            let outcome = self.objects.put_if(key, body.clone(), condition).await;
            if matches!(outcome, PutOutcome::Won(_)) {
                self.written(key, &body);
            }
            outcome
        };
        self.request(put).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let delete = async {
            self.deleted(key);
            self.objects.delete(key).await
        };
        self.request(delete).await
    }

    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        self.request(self.objects.list(prefix, after, limit)).await
    }

    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        self.request(self.objects.list_dirs(prefix)).await
    }
}
