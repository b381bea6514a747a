//! What is a collection made of right now?
//!
//! `manifest.json` is the collection's one mutable object, changed only by compare-and-swap
//! ([`crate::store::cas`]). Guarantees:
//!
//! 1. Versions grow and never repeat, also when a collection is deleted and created again: a deleted collection
//!    leaves its manifest behind, so positions of its log are never used twice. They grow by one, unless a person has
//!    put an older version in force again.
//! 2. Before version n+1 is written, `manifests/<n>.json` holds version n (time travel).
//! 3. `walFloor` and `walIndexed` only grow, and `walFloor <= walIndexed + 1`.
//! 4. Everything that it names exists: whoever adds a name has put the object before. What no manifest
//!    names may be deleted, but only after `sweptBefore` has passed it, and nothing older than that is
//!    ever named anew ([`Manifest::may_name`]).
//! 5. In each group, every hash belongs to one partition.
//! 6. What instances must agree on stands here, not in their settings: the grace period (`graceMs`) is fixed when the
//!    collection is created, and never shorter than in an earlier life of the name. If a manifest of an older build
//!    has none, those who rely on it take the shorter of their setting and the default, and those who delete take the
//!    longer.

mod partitions;
mod settings;

pub use partitions::{DeletionsMeta, Partition, SegmentMeta};
pub use settings::{CollectionSettings, Field, StoredAs, VectorField};

use crate::base::ids::{CollectionName, Seq, Totals, Ulid};
use crate::base::settings::GC_GRACE_MS_DEFAULT;
use crate::base::{Env, Error, Result, Timestamp};
use crate::partition::HashRange;
use crate::store::cas::{self, Change, Document, History, Loaded, Stamp};
use crate::store::{DynStore, paths};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;

/// The grace period that counts where neither the manifest nor the instance says another.
const GRACE_DEFAULT: Duration = Duration::from_millis(GC_GRACE_MS_DEFAULT);

/// Fields that this build does not know. They are kept when the object that has them is written again.
pub type Extra = Map<String, Value>;

/// Whether the collection's name is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It can be written and read.
    Live,
    /// It was deleted; the manifest stays to keep its log positions from being used again.
    Deleted,
}

/// The manifest's content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The format of this object.
    pub format_version: u64,
    /// Version and write ids.
    pub stamp: Stamp,
    /// The collection's name: a manifest that was copied to another folder is noticed.
    pub name: CollectionName,
    /// Whether the name is in use.
    pub state: State,
    /// Which life of the name this is, from 1.
    pub incarnation: u64,
    /// When this life began.
    pub created_at: Timestamp,
    /// What cannot change during it.
    pub settings: CollectionSettings,
    /// Log positions below this one may be deleted and must not be believed.
    pub wal_floor: Seq,
    /// Log entries up to this position are in segments.
    pub wal_indexed: Seq,
    /// Totals over the log up to `walIndexed`.
    pub indexed: Totals,
    /// Totals over the log up to just below `walFloor`.
    pub floor_totals: Totals,
    /// The partitions and their segments.
    #[serde(default)]
    pub partitions: Vec<Partition>,
    /// Which rows of the segments are dead: those that any of these names.
    #[serde(default)]
    pub deletions: Vec<DeletionsMeta>,
    /// Segments and deletions with an id from before this time are not named unless they are already.
    #[serde(default)]
    pub swept_before: Timestamp,
    /// The grace period, in milliseconds, that all instances keep to, whatever they are set to; `None` in a
    /// manifest from before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
    /// How long earlier versions are kept at least, in milliseconds; `None` until an instance has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_ms: Option<u64>,
    /// What newer builds have written.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Document for Manifest {
    const FORMAT_VERSION: u64 = 3;

    fn upgrade(&mut self) {
        // Version 1 had no partitions; before version 3 nothing said which grace period holds.
        self.format_version = self.format_version.max(Self::FORMAT_VERSION);
        if self.partitions.is_empty() {
            self.partitions = partitions::initial(self.settings.partition_count);
        }
    }

    fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    fn stamp_mut(&mut self) -> &mut Stamp {
        &mut self.stamp
    }

    fn history(&self) -> Option<History> {
        Some(History {
            prefix: paths::manifest_history_all(&self.name),
            key: paths::manifest_history(&self.name, self.stamp.version),
            version_of: paths::parse_manifest_history,
        })
    }

    fn restored(&mut self, newest: &Manifest) {
        if newest.incarnation > self.incarnation {
            // The log goes on behind the seals of the lives in between.
            self.incarnation = newest.incarnation + 1;
        }
        self.swept_before = self.swept_before.max(newest.swept_before);
        if newest.wal_floor > self.wal_floor {
            (self.wal_floor, self.floor_totals) = (newest.wal_floor, newest.floor_totals);
        }
        if self.wal_floor > self.wal_indexed.next() {
            // What was in the log in between is gone from it.
            (self.wal_indexed, self.indexed) = (self.wal_floor.previous(), self.floor_totals);
        }
    }
}

impl Manifest {
    /// The first manifest of a name, or of its next life after `earlier`.
    pub fn create(
        name: &CollectionName,
        settings: CollectionSettings,
        now: Timestamp,
        earlier: Option<&Manifest>,
    ) -> Self {
        Manifest {
            format_version: Self::FORMAT_VERSION,
            stamp: Stamp::default(),
            name: name.clone(),
            state: State::Live,
            incarnation: earlier.map_or(1, |earlier| earlier.incarnation + 1),
            created_at: now,
            partitions: partitions::initial(settings.partition_count),
            deletions: Vec::new(),
            swept_before: earlier.map_or(Timestamp(0), |earlier| earlier.swept_before),
            // A writer of the life before may still rely on its grace period.
            grace_ms: earlier.map(|earlier| earlier.grace_ms.unwrap_or(GC_GRACE_MS_DEFAULT)),
            history_ms: earlier.and_then(|earlier| earlier.history_ms),
            extra: Extra::new(),
            settings,
            wal_floor: earlier.map_or(Seq(1), |earlier| earlier.wal_floor),
            wal_indexed: earlier.map_or(Seq(0), |earlier| earlier.wal_indexed),
            indexed: earlier.map_or_else(Totals::default, |earlier| earlier.indexed),
            floor_totals: earlier.map_or_else(Totals::default, |earlier| earlier.floor_totals),
        }
    }

    /// Whether the collection can be used.
    pub fn is_live(&self) -> bool {
        self.state == State::Live
    }

    /// With the grace period that an instance is set to, unless a longer one is to be kept.
    pub fn agreeing(mut self, setting: Duration) -> Manifest {
        let setting = setting.as_millis() as u64;
        self.grace_ms = Some(self.grace_ms.map_or(setting, |grace| grace.max(setting)));
        self
    }

    /// For how long at least nothing is deleted by anybody that was named until now: what writers and readers
    /// may rely on. `setting` is what this instance is set to; it counts where the manifest says nothing.
    pub fn grace_to_rely_on(&self, setting: Duration) -> Duration {
        self.grace_ms.map_or(setting.min(GRACE_DEFAULT), Duration::from_millis)
    }

    /// How long whoever deletes waits. Never shorter than what anybody relies on.
    pub fn grace_to_wait(&self, setting: Duration) -> Duration {
        self.grace_ms.map_or(setting.max(GRACE_DEFAULT), Duration::from_millis)
    }

    fn check(&self, name: &CollectionName) -> Result<()> {
        let fault = if self.name != *name {
            format!("belongs to collection {}", self.name)
        } else if self.wal_floor > self.wal_indexed.next() {
            "has a floor above its indexed position".to_owned()
        } else if self.settings.vector().dimensions == 0 || self.settings.partition_count == 0 {
            "has no dimensions or no partitions".to_owned()
        } else if let Some(fault) = partitions::fault(&self.partitions, &self.deletions) {
            fault
        } else {
            return Ok(());
        };
        Err(Error::corrupt(format!("{} {fault}", paths::manifest(name))))
    }
}

/// Reads a collection's manifest, deleted ones included.
pub async fn load(store: &DynStore, name: &CollectionName) -> Result<Option<Loaded<Manifest>>> {
    let loaded = cas::load::<Manifest>(&**store, &paths::manifest(name)).await?;
    if let Some(loaded) = &loaded {
        loaded.value.check(name)?;
    }
    Ok(loaded)
}

/// The same for whoever is going to write. An earlier version that a person has put in force says less than happened
/// (which log entries may be gone, which life of the name it is), so one that goes on behind the newest takes its place.
pub async fn load_to_write(
    store: &DynStore,
    env: &Env,
    name: &CollectionName,
) -> Result<Option<Loaded<Manifest>>> {
    let Some(loaded) = load(store, name).await? else { return Ok(None) };
    if !cas::is_followed(&**store, &loaded).await? {
        return Ok(Some(loaded));
    }
    let version = loaded.value.stamp.version;
    update(store, env, name, |current| {
        Ok(match current {
            Some(current) if current.stamp.version == version => Change::Write(current.clone()),
            _ => Change::Keep,
        })
    })
    .await
}

/// Has the manifest in force kept among the earlier ones, before what only it allows is done and cannot be undone.
/// Whether it is still the one of this version.
pub async fn keep_in_force(
    store: &DynStore,
    env: &Env,
    name: &CollectionName,
    version: u64,
) -> Result<bool> {
    match load(store, name).await? {
        Some(loaded) if loaded.value.stamp.version == version => {
            cas::keep_in_force(&**store, env, &loaded).await?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Parses a manifest that was read by other means.
pub fn parse(name: &CollectionName, bytes: &[u8]) -> Result<Manifest> {
    let manifest: Manifest = cas::parse(&paths::manifest(name), bytes)?;
    manifest.check(name)?;
    Ok(manifest)
}

/// Changes a collection's manifest. `change` may be called several times; returns the manifest in
/// force.
pub async fn update(
    store: &DynStore,
    env: &Env,
    name: &CollectionName,
    mut change: impl FnMut(Option<&Manifest>) -> Result<Change<Manifest>>,
) -> Result<Option<Loaded<Manifest>>> {
    cas::update(&**store, env, &paths::manifest(name), |current: Option<&Loaded<Manifest>>| {
        if let Some(current) = current {
            current.value.check(name)?;
        }
        change(current.map(|loaded| &loaded.value))
    })
    .await
}
