//! An instance's view of one collection's manifest: read conditionally, shared by all its users.

use crate::base::clock::Mark;
use crate::base::ids::CollectionName;
use crate::base::{Env, Result};
use crate::engine::node::duty::Duty;
use crate::log::append::gone;
use crate::log::{Bounds, BoundsSource};
use crate::manifest::{self, Manifest};
use crate::store::{DynStore, Etag, Fetched, GetOptions, Key, paths};
use async_trait::async_trait;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// What was seen at the last look.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The manifest.
    pub manifest: Arc<Manifest>,
    /// Taken before it was asked for.
    pub looked: Mark,
    etag: Etag,
    /// How many looks had begun when this one ended.
    ended: u64,
}

/// The manifest as this instance last saw it.
#[derive(Debug)]
pub struct ManifestView {
    store: DynStore,
    env: Env,
    name: CollectionName,
    life: u64,
    /// What says whether whoever uses this writes; they do where there is none.
    duty: Option<Duty>,
    /// Looks that have begun.
    begun: AtomicU64,
    seen: Mutex<Seen>,
}

impl ManifestView {
    /// Reads the manifest of a collection that exists, for work that writes.
    pub async fn open(store: DynStore, env: Env, name: CollectionName) -> Result<Self> {
        Self::open_for(store, env, name, None).await
    }

    /// The same, for work that writes where the instance's duty says so.
    pub async fn open_for(
        store: DynStore,
        env: Env,
        name: CollectionName,
        duty: Option<Duty>,
    ) -> Result<Self> {
        let looked = env.clock.mark();
        let loaded = match writes(duty.as_ref()) {
            true => manifest::load_to_write(&store, &env, &name).await?,
            false => manifest::load(&store, &name).await?,
        };
        let loaded = loaded.filter(|loaded| loaded.value.is_live()).ok_or_else(|| gone(&name))?;
        Ok(ManifestView {
            life: loaded.value.incarnation,
            begun: AtomicU64::new(0),
            seen: Mutex::new(Seen {
                manifest: Arc::new(loaded.value),
                looked,
                etag: loaded.etag,
                ended: 0,
            }),
            store,
            env,
            name,
            duty,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Which life of the collection's name this is a view of.
    pub fn life(&self) -> u64 {
        self.life
    }

    /// The collection's name.
    pub fn name(&self) -> &CollectionName {
        &self.name
    }

    /// Where the manifest lies.
    pub fn key(&self) -> Key {
        paths::manifest(&self.name)
    }

    /// What was seen at the last look.
    pub fn last(&self) -> Seen {
        self.lock().clone()
    }

    /// Looks now. `collection_not_found` where the collection is gone or began another life.
    pub async fn look_now(&self) -> Result<Seen> {
        let before = self.last();
        let version = before.manifest.stamp.version;
        let begun = self.begun.fetch_add(1, Ordering::Relaxed);
        let looked = self.env.clock.mark();
        let options = GetOptions { range: None, if_none_match: Some(before.etag.clone()) };
        let key = paths::manifest(&self.name);
        let seen = match self.store.get(&key, options).await? {
            Fetched::Unmodified => Seen { looked, ..before },
            Fetched::Missing => return Err(gone(&self.name)),
            Fetched::Found(object) => Seen {
                manifest: Arc::new(manifest::parse(&self.name, &object.bytes)?),
                looked,
                etag: object.etag,
                ended: 0,
            },
        };
        let put_back = seen.manifest.stamp.version < version;
        let seen = match put_back && writes(self.duty.as_ref()) {
            true => self.goes_on_from(seen).await?,
            false => seen,
        };
        // A view never leaves its life: what its users hold belongs to that one.
        if !seen.manifest.is_live() || seen.manifest.incarnation != self.life {
            return Err(gone(&self.name));
        }
        let mut current = self.lock();
        // Looks may finish out of order; an older one must not take the newer one's place. But one that began
        // after the other had ended is newer also where a person has put an older manifest in force.
        let newer = begun >= current.ended;
        if newer || seen.manifest.stamp.version >= current.manifest.stamp.version {
            *current = Seen { ended: self.begun.load(Ordering::Relaxed), ..seen };
        }
        Ok(current.clone())
    }
}

impl ManifestView {
    /// What is to be in force where a person has put back an older manifest, or a look came late.
    async fn goes_on_from(&self, seen: Seen) -> Result<Seen> {
        let looked = self.env.clock.mark();
        match manifest::load_to_write(&self.store, &self.env, &self.name).await? {
            Some(loaded) => {
                Ok(Seen { manifest: Arc::new(loaded.value), looked, etag: loaded.etag, ..seen })
            }
            None => Err(gone(&self.name)),
        }
    }
}

fn writes(duty: Option<&Duty>) -> bool {
    duty.is_none_or(|duty| duty.station().role.writes())
}

#[async_trait]
impl BoundsSource for ManifestView {
    async fn look(&self) -> Result<Bounds> {
        let seen = self.look_now().await?;
        Ok(Bounds {
            incarnation: seen.manifest.incarnation,
            floor: seen.manifest.wal_floor,
            indexed: seen.manifest.wal_indexed,
            base: seen.manifest.floor_totals,
            looked: seen.looked,
            grace: seen.manifest.grace_ms.map(Duration::from_millis),
        })
    }
}
