//! Segments and deletions that no manifest names.

use crate::base::clock::Mark;
use crate::base::ids::{CollectionName, Ulid};
use crate::base::{Env, Result, Timestamp};
use crate::manifest::{self, Manifest};
use crate::store::cas::Change;
use crate::store::{DynStore, Key, Listed, paths};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// Keys listed at a time.
const LIST_PAGE: usize = 1_000;

/// Deletes what has not been named for a grace period.
#[derive(Debug)]
pub(super) struct Sweeper {
    store: DynStore,
    env: Env,
    grace: Duration,
    /// Since when each object has not been named.
    seen: HashMap<CollectionName, BTreeMap<Key, Mark>>,
}

impl Sweeper {
    pub(super) fn new(store: DynStore, env: Env, grace: Duration) -> Sweeper {
        Sweeper { store, env, grace, seen: HashMap::new() }
    }

    /// One look at the objects of a collection, of which `manifest` is in force; how many it deleted.
    pub(super) async fn sweep(&mut self, manifest: &Manifest) -> Result<u64> {
        let name = &manifest.name;
        let now = self.env.clock.mark();
        let grace = manifest.grace_to_wait(self.grace);
        let found = unnamed(&self.store, manifest).await?;
        let before = self.seen.remove(name).unwrap_or_default();
        let mut seen = BTreeMap::new();
        for (object, _) in &found {
            let since = before.get(&object.key).copied().unwrap_or(now);
            seen.insert(object.key.clone(), since);
        }
        let is_old = |key: &Key| {
            seen.get(key).is_some_and(|since| self.env.clock.steady_since(*since) >= grace)
        };
        let old: Vec<(Key, Ulid)> = found
            .into_iter()
            .filter(|(object, _)| is_old(&object.key))
            .map(|(object, id)| (object.key, id))
            .collect();
        let old = self.never_named_again(name, old).await?;
        for (key, _) in &old {
            self.store.delete(key).await?;
            seen.remove(key);
        }
        self.env.metrics.objects_collected.inc_by(old.len() as u64);
        if !seen.is_empty() {
            self.seen.insert(name.clone(), seen);
        }
        Ok(old.len() as u64)
    }

    /// Those of `objects` that no manifest names from now on.
    async fn never_named_again(
        &self,
        name: &CollectionName,
        mut objects: Vec<(Key, Ulid)>,
    ) -> Result<Vec<(Key, Ulid)>> {
        let newest = objects.iter().map(|(_, id)| Timestamp(id.timestamp_ms())).max();
        let Some(newest) = newest else { return Ok(objects) };
        manifest::update(&self.store, &self.env, name, |current| {
            let Some(current) = current else { return Ok(Change::Keep) };
            let names = current.names();
            objects.retain(|(_, id)| !names.contains(id));
            if current.swept_before >= newest {
                return Ok(Change::Keep);
            }
            Ok(Change::Write(Manifest { swept_before: newest, ..current.clone() }))
        })
        .await?;
        Ok(objects)
    }
}

/// The objects beside the segments of `manifest` that it does not name: what is being made, what was
/// replaced a short while ago, and what a process has left behind when it died.
pub async fn unnamed(store: &DynStore, manifest: &Manifest) -> Result<Vec<(Listed, Ulid)>> {
    let names = manifest.names();
    let prefix = paths::vectors_all(&manifest.name);
    let (mut unnamed, mut after) = (Vec::new(), None::<Key>);
    loop {
        let listing = store.list(&prefix, after.as_ref(), LIST_PAGE).await?;
        after = listing.objects.last().map(|object| object.key.clone());
        for object in listing.objects {
            if let Some(id) = paths::parse_vectors(&object.key)
                && !names.contains(&id)
            {
                unnamed.push((object, id));
            }
        }
        if !listing.more {
            return Ok(unnamed);
        }
    }
}
