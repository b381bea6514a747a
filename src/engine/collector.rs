//! Removes what nothing can name any more: log entries below the floor and their data objects, and
//! segments and deletions that the manifest does not name, and manifests from long ago.
//!
//! Log: two steps a grace period apart close the forgotten-id hazard: first the floor is advanced in
//! the manifest, then, once this instance has seen that floor for a whole grace period by its own
//! monotonic clock, entries below it are deleted.
//!
//! Segments: what has not been named for a whole grace period, by the same clock, is no longer read by anybody. But a pass that stood still may be about to name it. So `sweptBefore` in the
//! manifest is set past its id first: after that no manifest names it anew (`sweep.rs`).
//!
//! Several collectors at once repeat work and break nothing.

mod history;
mod sweep;

pub use sweep::unnamed;

use crate::base::clock::Mark;
use crate::base::ids::{CollectionName, Seq};
use crate::base::{Env, Result};
use crate::engine::context::Context;
use crate::engine::duty::Duty;
use crate::log::entry::{Entry, Part};
use crate::log::waiting;
use crate::manifest::{self, Manifest};
use crate::store::cas::Change;
use crate::store::{DynStore, Fetched, Key, get, paths};
use std::collections::HashMap;
use std::time::Duration;

/// Keys listed at a time.
const LIST_PAGE: usize = 1_000;

/// Collects, over all collections, from time to time.
#[derive(Debug)]
pub struct Collector {
    store: DynStore,
    env: Env,
    grace: Duration,
    duty: Duty,
    floors: HashMap<CollectionName, Floor>,
    sweeper: sweep::Sweeper,
    historian: history::Historian,
}

/// What is known of one collection's floor.
#[derive(Debug, Clone, Copy)]
struct Floor {
    floor: Seq,
    first_seen: Mark,
    is_clean: bool,
}

impl Collector {
    /// A collector; see [`Collector::run`].
    pub fn new(context: Context) -> Self {
        let Context { store, env, duty, limits, manifest_history, .. } = context;
        let grace = limits.grace;
        let sweeper = sweep::Sweeper::new(store.clone(), env.clone(), grace);
        let historian = history::Historian::new(store.clone(), env.clone(), manifest_history);
        Collector { store, env, grace, duty, floors: HashMap::new(), sweeper, historian }
    }

    /// Collects every half grace period, while this instance writes, until it stops.
    pub async fn run(mut self) {
        let stop = self.env.tasks.stopping().clone();
        loop {
            let pause = self.grace / 2 + self.env.rng.jitter(self.grace / 4);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            if self.duty.station().takes_writes()
                && let Err(error) = self.pass().await
            {
                tracing::warn!(%error, "collecting failed; trying again later");
            }
        }
    }

    /// One pass over all collections; returns how many objects were deleted.
    pub async fn pass(&mut self) -> Result<u64> {
        let mut deleted = 0;
        for dir in self.store.list_dirs(&paths::collections()).await? {
            if let Ok(name) = CollectionName::new(dir) {
                deleted += self.collect(&name).await?;
            }
        }
        Ok(deleted)
    }

    async fn collect(&mut self, name: &CollectionName) -> Result<u64> {
        let looked = self.env.clock.mark();
        let Some(loaded) = manifest::load(&self.store, name).await? else {
            return Ok(0);
        };
        let manifest = loaded.value;
        let known = self.floors.get(name).copied();
        let known = known.filter(|known| known.floor == manifest.wal_floor).unwrap_or(Floor {
            floor: manifest.wal_floor,
            first_seen: looked,
            is_clean: false,
        });
        self.floors.insert(name.clone(), known);
        let mut deleted = 0;
        if !known.is_clean && self.env.clock.steady_since(known.first_seen) >= self.grace {
            deleted = self.delete_below(name, known.floor).await?;
            deleted += waiting::remove_over(&self.store, name, known.floor).await?;
            self.floors.insert(name.clone(), Floor { is_clean: true, ..known });
        }
        // Only a clean floor moves on: otherwise it might move faster than it is cleaned.
        if self.floors[name].is_clean || manifest.wal_floor == Seq(1) {
            self.advance(name, &manifest).await?;
        }
        deleted += self.sweeper.sweep(&manifest).await?;
        Ok(deleted + self.historian.collect(&manifest).await?)
    }

    async fn advance(&self, name: &CollectionName, seen: &Manifest) -> Result<()> {
        if seen.wal_floor > seen.wal_indexed {
            return Ok(());
        }
        manifest::update(&self.store, &self.env, name, |current| match current {
            Some(current) if current.wal_floor <= current.wal_indexed => {
                Ok(Change::Write(Manifest {
                    wal_floor: current.wal_indexed.next(),
                    floor_totals: current.indexed,
                    ..current.clone()
                }))
            }
            _ => Ok(Change::Keep),
        })
        .await
        .map(drop)
    }

    async fn delete_below(&self, name: &CollectionName, floor: Seq) -> Result<u64> {
        let mut deleted = 0;
        let mut after: Option<Key> = None;
        loop {
            let prefix = paths::wal_entries(name);
            let listing = self.store.list(&prefix, after.as_ref(), LIST_PAGE).await?;
            for object in &listing.objects {
                match paths::parse_wal_entry(&object.key) {
                    Some(seq) if seq < floor => {
                        deleted += self.delete_entry(name, &object.key).await?
                    }
                    Some(_) => return Ok(deleted),
                    None => {}
                }
            }
            after = listing.objects.last().map(|object| object.key.clone());
            if !listing.more {
                return Ok(deleted);
            }
        }
    }

    /// Deletes an entry after the data objects that it names: cut off in between, the entry is
    /// still there to name the rest.
    async fn delete_entry(&self, name: &CollectionName, key: &Key) -> Result<u64> {
        let mut deleted = 1;
        if let Fetched::Found(object) = get(&*self.store, key).await? {
            let entry = Entry::decode(&object.bytes).map_err(|error| error.context(key))?;
            for part in &entry.parts {
                if let Part::Object { id, .. } = part {
                    self.store.delete(&paths::wal_data(name, *id)).await?;
                    deleted += 1;
                }
            }
        }
        self.store.delete(key).await?;
        Ok(deleted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::base::clock::VirtualClock;
    use crate::base::ids::{Totals, WriteId};
    use crate::base::settings::Role;
    use crate::engine::duty::Station;
    use crate::log::entry::Draft;
    use crate::manifest::CollectionSettings;
    use crate::store::memory::MemoryStore;
    use std::sync::Arc;

    const GRACE: Duration = Duration::from_secs(300);

    /// The first manifest of a collection.
    pub(super) fn first_manifest(name: &CollectionName, now: Timestamp) -> Manifest {
        let settings = CollectionSettings {
            dimensions: 2,
            metric: Default::default(),
            partition_count: 1,
            partitioner: Default::default(),
            description: None,
        };
        Manifest::create(name, settings, now, None)
    }

    /// A collection of three log entries, all of them indexed, and a segment that nothing names.
    async fn left_over(store: &DynStore, env: &Env, name: &CollectionName) {
        let now = env.clock.now();
        let manifest = Manifest { wal_indexed: Seq(3), ..first_manifest(name, now) };
        let write = |_: Option<&Manifest>| Ok(Change::Write(manifest.clone()));
        manifest::update(store, env, name, write).await.unwrap();
        for seq in 1..=3 {
            let draft = Draft::seal(1, WriteId::random(&*env.rng), now);
            let entry = draft.encode(&draft.header(Seq(seq), Totals::default()));
            store.put(&paths::wal_entry(name, Seq(seq)), entry).await.unwrap();
        }
        store.put(&paths::segment(name, 0, env.ulid()), "left".into()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_ahead_takes_nothing_from_the_grace_period() {
        let clock = Arc::new(VirtualClock::starting_at(Timestamp(1_768_473_000_000)));
        let (store, env): (DynStore, _) =
            (Arc::new(MemoryStore::default()), Env::deterministic(1, clock.clone()));
        let name = CollectionName::new("things").unwrap();
        left_over(&store, &env, &name).await;
        let mut collector = Collector {
            grace: GRACE,
            duty: Duty::new(Station { role: Role::Writer, standby: false }),
            floors: HashMap::new(),
            sweeper: sweep::Sweeper::new(store.clone(), env.clone(), GRACE),
            historian: history::Historian::new(store.clone(), env.clone(), GRACE),
            store,
            env,
        };
        // The floor moves on, and is seen.
        for _ in 0..2 {
            assert_eq!(collector.pass().await.unwrap(), 0);
        }
        for hours in [24, -24, 24 * 365] {
            clock.set_ahead_ms(hours * 3_600_000);
            assert_eq!(collector.pass().await.unwrap(), 0, "{hours} hours ahead");
        }
        tokio::time::sleep(GRACE).await;
        clock.set_ahead_ms(-24 * 3_600_000);
        assert_eq!(collector.pass().await.unwrap(), 4);
    }
}
