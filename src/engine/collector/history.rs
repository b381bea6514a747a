//! Earlier versions of a manifest that nobody asks for any more.
//!
//! What is kept answers "what was the collection made of?" for every moment of the last
//! `manifest_history_ms`: a version goes when the one after it is older than that. So the last one
//! before the manifest in force always stays.

use crate::base::clock::Mark;
use crate::base::ids::CollectionName;
use crate::base::{Env, Result, Timestamp};
use crate::manifest::Manifest;
use crate::store::cas::Stamp;
use crate::store::{DynStore, Fetched, Key, get, paths};
use serde::Deserialize;
use std::collections::HashMap;
use std::time::Duration;

/// Keys listed at a time.
const LIST_PAGE: usize = 1_000;
/// How often, at most, a collection's history is looked at; and how often while it lasts.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);
const LOOKS: u32 = 8;

/// Deletes what is older than is kept.
#[derive(Debug)]
pub(super) struct Historian {
    store: DynStore,
    env: Env,
    kept_for: Duration,
    looked: HashMap<CollectionName, Mark>,
}

impl Historian {
    pub(super) fn new(store: DynStore, env: Env, kept_for: Duration) -> Historian {
        Historian { store, env, kept_for, looked: HashMap::new() }
    }

    /// One look at the history of a collection, of which `manifest` is in force; how much it deleted.
    pub(super) async fn collect(&mut self, manifest: &Manifest) -> Result<u64> {
        let name = &manifest.name;
        let every = LOOK_EVERY.min(self.kept_for / LOOKS);
        let looked = self.looked.get(name);
        if looked.is_some_and(|looked| self.env.clock.since(*looked) < every) {
            return Ok(0);
        }
        self.looked.insert(name.clone(), self.env.clock.mark());
        let kept_for_ms = self.kept_for.as_millis() as u64;
        let limit = Timestamp(self.env.clock.now().0.saturating_sub(kept_for_ms));
        let prefix = paths::manifest_history_all(name);
        let (mut deleted, mut after, mut last_old) = (0, None::<Key>, None::<Key>);
        loop {
            let listing = self.store.list(&prefix, after.as_ref(), LIST_PAGE).await?;
            after = listing.objects.last().map(|object| object.key.clone());
            let keys = listing.objects.into_iter().map(|object| object.key);
            let mut old: Vec<Key> = keys
                .filter(|key| {
                    paths::parse_manifest_history(key)
                        .is_some_and(|version| version < manifest.stamp.version)
                })
                .collect();
            let page = old.len();
            old.truncate(self.old(&old, limit).await?);
            let all = old.len() == page;
            for key in last_old.take().into_iter().chain(old).map(Some) {
                // Each is deleted when the next one is known to be old, too.
                if let Some(key) = std::mem::replace(&mut last_old, key) {
                    self.store.delete(&key).await?;
                    deleted += 1;
                }
            }
            if !all || !listing.more {
                return Ok(deleted);
            }
        }
    }

    /// How many of some versions, in ascending order, are from before `limit`. Times of versions ascend,
    /// as far as clocks agree.
    async fn old(&self, keys: &[Key], limit: Timestamp) -> Result<usize> {
        let (mut old, mut recent) = (0, keys.len());
        while old < recent {
            let middle = usize::midpoint(old, recent);
            match self.written(&keys[middle]).await? {
                Some(written) if written < limit => old = middle + 1,
                _ => recent = middle,
            }
        }
        Ok(old)
    }

    /// When a version was written; `None` where it is gone or is none.
    async fn written(&self, key: &Key) -> Result<Option<Timestamp>> {
        #[derive(Deserialize)]
        struct Stamped {
            stamp: Stamp,
        }
        let Fetched::Found(object) = get(&*self.store, key).await? else { return Ok(None) };
        let stamped = serde_json::from_slice::<Stamped>(&object.bytes);
        let stamped = stamped.inspect_err(|error| {
            tracing::warn!(%error, %key, "this earlier manifest cannot be read and is kept");
        });
        Ok(stamped.ok().map(|stamped| stamped.stamp.updated))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::VirtualClock;
    use crate::manifest::{self, CollectionSettings};
    use crate::store::cas::Change;
    use crate::store::memory::MemoryStore;
    use std::sync::Arc;

    const DAY: Duration = Duration::from_secs(24 * 3_600);

    async fn versions(store: &DynStore, name: &CollectionName) -> Vec<u64> {
        let listing =
            store.list(&paths::manifest_history_all(name), None, LIST_PAGE).await.unwrap();
        listing
            .objects
            .iter()
            .filter_map(|object| paths::parse_manifest_history(&object.key))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_in_force_lately_is_kept() {
        let store: DynStore = Arc::new(MemoryStore::default());
        let clock = Arc::new(VirtualClock::starting_at(Timestamp(1_000_000_000_000)));
        let env = Env::deterministic(1, clock);
        let name = CollectionName::new("things").unwrap();
        let settings = CollectionSettings {
            dimensions: 2,
            metric: Default::default(),
            partition_count: 1,
            partitioner: Default::default(),
            description: None,
        };
        let mut history = Historian::new(store.clone(), env.clone(), 7 * DAY);
        let mut kept = Vec::new();
        // A version a day.
        for _ in 0..12 {
            let change = |current: Option<&Manifest>| {
                let now = env.clock.now();
                let first = || Manifest::create(&name, settings.clone(), now, None);
                Ok(Change::Write(current.cloned().unwrap_or_else(first)))
            };
            let loaded = manifest::update(&store, &env, &name, change).await.unwrap().unwrap();
            history.collect(&loaded.value).await.unwrap();
            kept = versions(&store, &name).await;
            assert_eq!(*kept.last().unwrap_or(&0), loaded.value.stamp.version - 1);
            tokio::time::sleep(DAY).await;
        }
        // Version 12 was written on day 11; seven days before that, version 5 was just written.
        assert_eq!(kept, [4, 5, 6, 7, 8, 9, 10, 11]);
        // Of a collection that nobody changes any more, what was before the manifest in force stays.
        tokio::time::sleep(30 * DAY).await;
        let current = manifest::load(&store, &name).await.unwrap().unwrap().value;
        assert_eq!(history.collect(&current).await.unwrap(), 7);
        assert_eq!(versions(&store, &name).await, [11]);
        assert_eq!(history.collect(&current).await.unwrap(), 0);
    }
}
