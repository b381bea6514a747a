//! One collection as this instance uses it: its manifest, and its read and write paths once used.

use crate::base::ids::{CollectionName, Seq};
use crate::base::settings::{Role, Settings};
use crate::base::{Env, Error, Result};
use crate::engine::follower::Follower;
use crate::engine::model::{CollectionInfo, CollectionStats, Consistency};
use crate::engine::tail::Snapshot;
use crate::engine::view::ManifestView;
use crate::engine::writer::{Limits, Writer};
use crate::log::append::gone;
use crate::manifest::{CollectionSettings, Manifest};
use crate::store::DynStore;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// A collection in use.
#[derive(Debug)]
pub struct Collection {
    store: DynStore,
    env: Env,
    view: Arc<ManifestView>,
    limits: Limits,
    poll: Duration,
    writer: OnceLock<Writer>,
    follower: OnceCell<Follower>,
}

/// The write path's limits as the settings have them.
pub fn limits(settings: &Settings) -> Limits {
    Limits {
        batch_max_bytes: settings.batch_max_bytes,
        batch_max_records: settings.batch_max_records,
        batch_linger: Duration::from_millis(settings.batch_linger_ms),
        inline_max_bytes: settings.wal_inline_max_bytes,
        upload_concurrency: settings.upload_concurrency,
        queue_max_bytes: settings.write_queue_max_bytes,
        tail_max_bytes: settings.tail_max_bytes,
        grace: Duration::from_millis(settings.gc_grace_ms),
    }
}

impl Collection {
    /// Opens a collection that exists.
    pub async fn open(
        store: DynStore,
        env: Env,
        settings: &Settings,
        name: CollectionName,
    ) -> Result<Self> {
        let view = ManifestView::open(store.clone(), env.clone(), name).await?;
        Ok(Collection {
            store,
            env,
            view: Arc::new(view),
            limits: limits(settings),
            poll: Duration::from_millis(settings.poll_interval_ms),
            writer: OnceLock::new(),
            follower: OnceCell::new(),
        })
    }

    /// The manifest as it was last seen.
    pub fn manifest(&self) -> Arc<Manifest> {
        self.view.last().manifest
    }

    /// What cannot change.
    pub fn settings(&self) -> CollectionSettings {
        self.manifest().settings.clone()
    }

    /// The write path, started when it is first used.
    pub fn writer(&self) -> &Writer {
        self.writer.get_or_init(|| {
            Writer::start(self.store.clone(), self.env.clone(), self.view.clone(), self.limits)
        })
    }

    async fn follower(&self) -> Result<&Follower> {
        let start = || {
            Follower::start(
                self.store.clone(),
                self.env.clone(),
                self.view.clone(),
                self.poll,
                self.limits.grace,
            )
        };
        let follower = self.follower.get_or_try_init(start).await?;
        if follower.has_ended() {
            return Err(gone(&self.manifest().name));
        }
        Ok(follower)
    }

    /// Whether the read path has found out that the collection is gone.
    pub fn has_ended(&self) -> bool {
        self.follower.get().is_some_and(Follower::has_ended)
    }

    /// What has been applied so far, where the read path is in use.
    pub fn applied(&self) -> Option<Snapshot> {
        self.follower.get().map(Follower::applied)
    }

    /// A snapshot that shows what `consistency` asks for, and always this instance's own writes.
    pub async fn snapshot(&self, consistency: Consistency, wait_max: Duration) -> Result<Snapshot> {
        let follower = self.follower().await?;
        match consistency {
            Consistency::Strong => follower.strong().await,
            Consistency::AtLeast { version, wait } => {
                follower.at_least(version, Instant::now() + wait.min(wait_max)).await
            }
            Consistency::Eventual => {
                let snapshot = follower.eventual().await?;
                let own = self.writer.get().map_or(Seq(0), Writer::last_version);
                if own <= snapshot.version {
                    return Ok(snapshot);
                }
                follower.at_least(own, Instant::now() + wait_max).await
            }
        }
    }

    /// The collection as clients see it.
    pub fn info(&self, snapshot: Option<&Snapshot>) -> CollectionInfo {
        let manifest = self.manifest();
        let written = self.writer.get().map_or(Seq(0), Writer::last_version);
        let applied = snapshot.map_or(Seq(0), |snapshot| snapshot.version);
        CollectionInfo {
            name: manifest.name.clone(),
            dimensions: manifest.settings.dimensions,
            metric: manifest.settings.metric,
            partition_count: manifest.settings.partition_count,
            description: manifest.settings.description.clone(),
            vector_count: snapshot.map(|snapshot| snapshot.live),
            version: applied.max(written).max(manifest.wal_indexed),
            indexed_version: manifest.wal_indexed,
            created_at: manifest.created_at,
        }
    }

    /// Counts and sizes.
    pub fn stats(&self, snapshot: Option<&Snapshot>) -> CollectionStats {
        let info = self.info(snapshot);
        CollectionStats {
            tail_entries: info.version.0.saturating_sub(info.indexed_version.0),
            tail_rows: snapshot.map_or(0, Snapshot::rows),
            tail_bytes: snapshot.map_or(0, Snapshot::bytes),
            unindexed_bytes: snapshot.map_or(0, |snapshot| {
                snapshot.totals.bytes.saturating_sub(self.manifest().indexed.bytes)
            }),
            wal_floor: self.manifest().wal_floor,
            info,
        }
    }
}

/// The error for a call that this instance's role does not serve.
pub fn check_role(role: Role, writes: bool) -> Result<()> {
    use crate::base::Code;
    let (allowed, code, verb, other, key) = if writes {
        (role.writes(), Code::ReadOnlyInstance, "writes", "writer or hybrid", "writers")
    } else {
        (role.reads(), Code::WriteOnlyInstance, "reads", "reader or hybrid", "readers")
    };
    if allowed {
        return Ok(());
    }
    // Which instances those are is known once they register in the shared config.
    Err(Error::new(
        code,
        format!(
            "this instance is a {} and does not serve {verb}; send them to a {other}",
            role.name()
        ),
    )
    .with("role", role.name())
    .with(key, Vec::<String>::new()))
}
