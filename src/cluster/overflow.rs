//! Heartbeats beside the shared config, one object for each instance, and folding them in.
//!
//! One key takes about 15 conditional PUTs a second, so past a few dozen instances each leaves its
//! heartbeat in an object that only it writes. One LIST shows which of a thousand have changed.
//! An object says which life of the id it may replace, so that one left over from an earlier life, or
//! put by a process that stood still, changes nothing.

use super::config::{Instance, SharedConfig, Status};
use crate::base::clock::Mark;
use crate::base::{Env, Error, Result};
use crate::store::{DynStore, Etag, Fetched, Key, get_up_to, paths};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// Most bytes of a heartbeat.
const BYTES_MAX: u64 = 1 << 20;
/// Requests in flight while heartbeats are collected.
const READS_MAX: usize = 32;
/// Objects in a page of a listing, and pages at most.
const PAGE: usize = 1_000;
const PAGES_MAX: usize = 64;

/// What stands in an instance's object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Heartbeat {
    /// The format of this object.
    pub format_version: u64,
    /// The life of this id that has ended, where the shared config may still show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// The entry for the shared config.
    pub instance: Instance,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The newest `formatVersion` that this build understands.
pub(super) const FORMAT_VERSION: u64 = 1;

impl Heartbeat {
    /// What this heartbeat says about the entry that the config has for its id.
    fn news(&self, entry: Option<&Instance>) -> News {
        let left = self.instance.status == Status::Left;
        match entry {
            None if left => News::None,
            None => News::Enter,
            Some(entry) if entry.session == self.instance.session => match left {
                true => News::Leave,
                false if self.instance.beat > entry.beat => News::Enter,
                false => News::None,
            },
            Some(entry) if entry.session.is_none() || entry.session == self.replaces => {
                match left {
                    true => News::Leave,
                    false => News::Enter,
                }
            }
            Some(_) => News::None,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum News {
    None,
    Enter,
    Leave,
}

#[derive(Debug)]
struct Known {
    etag: Option<Etag>,
    /// `None` where it cannot be read.
    heartbeat: Option<Heartbeat>,
    since: Mark,
}

/// The objects as they were collected last.
#[derive(Debug)]
pub(super) struct Overflow {
    store: DynStore,
    env: Env,
    patience: Duration,
    known: BTreeMap<String, Known>,
}

impl Overflow {
    pub(super) fn new(store: DynStore, env: Env, patience: Duration) -> Self {
        Overflow { store, env, patience, known: BTreeMap::new() }
    }

    /// Leaves `heartbeat` in the object of `id`.
    pub(super) async fn put(&self, id: &str, heartbeat: &Heartbeat) -> Result<()> {
        let body = serde_json::to_vec(heartbeat)
            .map_err(|error| Error::internal("could not write JSON").caused_by(error))?;
        let key = paths::heartbeat(id);
        let put = self.store.put(&key, body.into());
        tokio::time::timeout(self.patience, put).await.map_err(|_| slow())??;
        self.env.metrics.heartbeats_overflowed.inc();
        Ok(())
    }

    /// Deletes the object of `id`.
    pub(super) async fn delete(&mut self, id: &str) -> Result<()> {
        self.known.remove(id);
        let key = paths::heartbeat(id);
        let delete = self.store.delete(&key);
        tokio::time::timeout(self.patience, delete).await.map_err(|_| slow())?
    }

    /// Looks for objects, and reads those that have changed.
    pub(super) async fn collect(&mut self) -> Result<()> {
        let collect = tokio::time::timeout(self.patience * 4, self.list());
        let listed = collect.await.map_err(|_| slow())??;
        self.known.retain(|id, _| listed.contains_key(id));
        let changed = listed.into_iter().filter(|(id, etag)| {
            self.known.get(id).is_none_or(|known| etag.is_none() || known.etag != *etag)
        });
        let changed: Vec<_> = changed.collect();
        let store = &self.store;
        let reads = changed.into_iter().map(|(id, etag)| async move {
            let key = paths::heartbeat(&id);
            (read(store, &key).await, id, etag)
        });
        let reads = futures::stream::iter(reads).buffered(READS_MAX).collect::<Vec<_>>();
        let read = tokio::time::timeout(self.patience * 4, reads).await.map_err(|_| slow())?;
        let all_failed = !read.is_empty() && read.iter().all(|(heartbeat, ..)| heartbeat.is_err());
        for (heartbeat, id, etag) in read {
            let heartbeat = match heartbeat {
                Err(error) if all_failed => return Err(error),
                // The others' heartbeats count; this one is read again at the next look.
                Err(error) => {
                    tracing::warn!(%id, %error, "a heartbeat could not be read");
                    continue;
                }
                Ok(heartbeat) => heartbeat,
            };
            // Where a listing has no etags, only the content tells whether it has changed.
            let same = self.known.get(&id).is_some_and(|known| known.heartbeat == heartbeat);
            if !same {
                let since = self.env.clock.mark();
                self.known.insert(id, Known { etag, heartbeat, since });
            }
        }
        Ok(())
    }

    async fn list(&self) -> Result<BTreeMap<String, Option<Etag>>> {
        let mut listed = BTreeMap::new();
        let mut after: Option<Key> = None;
        for _ in 0..PAGES_MAX {
            let page = self.store.list(&paths::heartbeats(), after.as_ref(), PAGE).await?;
            after = page.objects.last().map(|object| object.key.clone());
            for object in page.objects {
                if let Some(id) = paths::parse_heartbeat(&object.key) {
                    listed.insert(id.to_owned(), object.etag);
                }
            }
            if !page.more || after.is_none() {
                break;
            }
        }
        Ok(listed)
    }

    /// Folds what was collected into `config`; whether that changed anything.
    pub(super) fn fold(&self, config: &mut SharedConfig) -> bool {
        let mut changed = false;
        for (id, known) in &self.known {
            let Some(heartbeat) = &known.heartbeat else { continue };
            match heartbeat.news(config.instances.get(id)) {
                News::None => continue,
                News::Enter => config.enter(id, &heartbeat.instance),
                News::Leave => config.take_out(id, self.env.clock.now()),
            }
            changed = true;
        }
        changed
    }

    /// The ids of objects that say nothing new to `config` and have not changed for `age`, and of those
    /// that have left; those stay as long where `others_read` the objects themselves.
    pub(super) fn leftovers(
        &self,
        config: &SharedConfig,
        age: Duration,
        others_read: bool,
    ) -> Vec<String> {
        let left =
            |heartbeat: &Heartbeat| heartbeat.instance.status == Status::Left && !others_read;
        let over = self.known.iter().filter(|(id, known)| {
            let Some(heartbeat) = &known.heartbeat else { return false };
            let old = self.env.clock.steady_since(known.since) >= age;
            let news = heartbeat.news(config.instances.get(*id));
            news == News::None && (old || left(heartbeat))
        });
        over.map(|(id, _)| id.clone()).collect()
    }

    /// Whether any object was there at the last look.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

/// The heartbeat at `key`; `None` where it is gone or cannot be understood.
async fn read(store: &DynStore, key: &Key) -> Result<Option<Heartbeat>> {
    let Fetched::Found(object) = get_up_to(&**store, key, None, BYTES_MAX).await? else {
        return Ok(None);
    };
    if object.size > BYTES_MAX {
        tracing::warn!(%key, bytes = object.size, "heartbeat is too large to be one; delete it");
        return Ok(None);
    }
    match serde_json::from_slice::<Heartbeat>(&object.bytes) {
        Ok(heartbeat) if heartbeat.format_version <= FORMAT_VERSION => Ok(Some(heartbeat)),
        Ok(_) => {
            tracing::warn!(%key, "heartbeat has a newer format; upgrade this instance");
            Ok(None)
        }
        Err(error) => {
            tracing::warn!(%key, %error, "heartbeat is not valid");
            Ok(None)
        }
    }
}

fn slow() -> Error {
    Error::unavailable("heartbeats took too long to read or write; the store may be down")
}
