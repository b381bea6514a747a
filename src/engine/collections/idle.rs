//! Collections that nobody uses are closed.
//!
//! What an open collection holds is not small: the tail of its log, its hold on segments, two tasks. So one
//! that no request has used for `collection_idle_ms` is let go of. Guarantees:
//!
//! 1. There is one read path at a time: only what nobody else holds is closed, so that no request goes on
//!    with a read path beside the next one.
//! 2. Versions never go backward over it: the last one is kept, and the next read path shows no less.
//! 3. What this instance has written, or has to index or merge, stays open until that is done.

use super::Collections;
use crate::base::defect::Defect;
use crate::base::ids::{CollectionName, Seq};
use crate::engine::collection::Collection;
use crate::engine::context::Context;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

/// How many times in `collection_idle_ms` is looked for what to close.
const LOOKS: u32 = 4;
/// How often that is at most, and at least.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// When a collection was used last, and what is left to do for it.
#[derive(Debug)]
pub struct Rest {
    used: Mutex<Instant>,
    /// The version of the manifest in which compaction has nothing left to do.
    settled: AtomicU64,
    /// What was shown before it was closed the last time.
    floor: AtomicU64,
}

impl Default for Rest {
    fn default() -> Self {
        let used = Mutex::new(Instant::now());
        Rest { used, settled: AtomicU64::new(0), floor: AtomicU64::new(0) }
    }
}

impl Rest {
    fn lock(&self) -> MutexGuard<'_, Instant> {
        self.used.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A request uses it now.
    pub fn touch(&self) {
        *self.lock() = Instant::now();
    }

    /// How long no request has used it.
    pub fn unused(&self) -> Duration {
        self.lock().elapsed()
    }

    /// Whether compaction has nothing to do in version `version` of the manifest, however long it waits.
    pub fn is_settled(&self, version: u64) -> bool {
        self.settled.load(Ordering::Relaxed) == version
    }

    /// Compaction has nothing to do in this version of the manifest.
    pub fn settle(&self, version: u64) {
        self.settled.store(version, Ordering::Relaxed);
    }

    /// No less than this is shown.
    pub fn floor(&self) -> Seq {
        Seq(self.floor.load(Ordering::Relaxed))
    }
}

/// The last version of each collection that was closed, and in which life of its name.
#[derive(Debug, Default)]
pub(super) struct Closed(Mutex<BTreeMap<CollectionName, (u64, Seq)>>);

impl Closed {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<CollectionName, (u64, Seq)>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn note(&self, name: &CollectionName, collection: &Collection) {
        let known = collection.known_version().max(Some(collection.rest().floor()));
        self.lock().insert(name.clone(), (collection.view().life(), known.unwrap_or_default()));
    }

    /// `collection` goes on where its name was closed, unless that was another life of it.
    pub(super) fn reopened(&self, collection: &Collection) {
        let known = self.lock().remove(&collection.manifest().name);
        if let Some((life, version)) = known
            && life == collection.view().life()
        {
            collection.rest().floor.store(version.0, Ordering::Relaxed);
        }
    }
}

impl Collections {
    /// Closes what no request has used for a while; how many that were.
    pub fn close_idle(&self) -> usize {
        let Context { idle, upkeep, duty, env, .. } = &self.context;
        let keeps_up = upkeep.enabled
            && duty.station().takes_writes()
            && !env.defects.has(Defect::CloseUnindexed);
        let mut open = self.lock();
        let before = open.len();
        open.retain(|name, collection| {
            // Handles are cloned from this map, under its lock, or from another handle: the only one stays so.
            let is_idle = Arc::strong_count(collection) == 1 && collection.rest().unused() >= *idle;
            if !is_idle || (keeps_up && collection.needs_upkeep()) {
                return true;
            }
            self.closed.note(name, collection);
            false
        });
        env.metrics.collections_open.set(open.len() as i64);
        before - open.len()
    }
}

/// Closes collections, as long as the instance runs.
#[derive(Debug)]
pub struct Closer {
    context: Context,
    collections: Arc<Collections>,
}

impl Closer {
    /// See [`Closer::run`].
    pub fn new(context: Context, collections: Arc<Collections>) -> Closer {
        Closer { context, collections }
    }

    /// Looks for what to close, from time to time, until the instance stops.
    pub async fn run(self) {
        let stop = self.context.env.tasks.stopping().clone();
        let pause = (self.context.idle / LOOKS).clamp(PAUSE_MIN, PAUSE_MAX);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let closed = self.collections.close_idle();
            if closed > 0 {
                tracing::debug!(closed, "collections that nobody uses were closed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::VirtualClock;
    use crate::base::settings::{Role, Settings};
    use crate::base::{Env, Timestamp};
    use crate::engine::catalog;
    use crate::engine::model::{CollectionSpec, Consistency};
    use crate::store::DynStore;
    use crate::store::memory::MemoryStore;

    const IDLE: Duration = Duration::from_secs(600);

    async fn open_one(role: Role) -> (Collections, CollectionName) {
        let store: DynStore = Arc::new(MemoryStore::default());
        let clock = Arc::new(VirtualClock::starting_at(Timestamp(1_768_473_000_000)));
        let env = Env::deterministic(1, clock);
        let name = CollectionName::new("things").unwrap();
        let spec = CollectionSpec {
            name: name.clone(),
            dimensions: 2,
            metric: Default::default(),
            partition_count: None,
            partitioner: None,
            description: None,
        };
        catalog::create(&store, &env, IDLE, &spec, None).await.unwrap();
        let no_partitioners = Vec::new().into();
        let settings = Settings::default();
        let context = Context::new(&settings, role, "one", store, env, no_partitioners);
        (Collections::new(context), name)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_use_stays_open_and_versions_do_not_go_back() {
        let (collections, name) = open_one(Role::Reader).await;
        let held = collections.open(&name).await.unwrap();
        held.snapshot(Consistency::Eventual, IDLE).await.unwrap();
        tokio::time::sleep(IDLE).await;
        assert_eq!(collections.close_idle(), 0, "a request holds it");
        drop(held);
        assert_eq!(collections.close_idle(), 1);
        assert!(collections.known(&name).is_none());
        // As if the store showed less than before.
        let known = collections.closed.lock().insert(name.clone(), (1, Seq(7)));
        assert_eq!(known, Some((1, Seq(0))));
        let again = collections.open(&name).await.unwrap();
        let late = again.snapshot(Consistency::Eventual, Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(late.code(), crate::base::Code::VersionTimeout);
        assert_eq!(collections.close_idle(), 0, "it was just used");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_writer_has_not_indexed_stays_open() {
        let (collections, name) = open_one(Role::Writer).await;
        let open = collections.open(&name).await.unwrap();
        open.rest().settle(open.manifest().stamp.version);
        let mut chunk = crate::log::chunk::ChunkBuilder::new(0);
        chunk.delete("x");
        open.writer().write(chunk.finish().unwrap(), 1).await.unwrap();
        drop(open);
        tokio::time::sleep(IDLE).await;
        assert_eq!(collections.close_idle(), 0);
        collections
            .context
            .duty
            .set(crate::engine::node::duty::Station { role: Role::Reader, standby: false });
        assert_eq!(collections.close_idle(), 1, "it is for others now");
    }
}
