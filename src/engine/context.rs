//! What every part of an instance's engine works with.

use crate::base::Env;
use crate::base::memory::RequestMemory;
use crate::base::settings::{IndexBuilder, Role, Settings};
use crate::base::spill::Spill;
use crate::engine::damage::Registry;
use crate::engine::node::duty::{Duty, Station};
use crate::engine::reading::segments::Shelf;
use crate::engine::upkeep::Room;
use crate::engine::writing::admission::Admission;
use crate::engine::writing::writer::Limits;
use crate::index::{Builder, IndexParams};
use crate::partition::Partitioner;
use crate::store::DynStore;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// The most requests that background work has in flight, however many there may be in all.
const BACKGROUND_MAX: usize = 32;

/// One instance's surroundings and settings, in the engine's terms. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Context {
    /// The store.
    pub store: DynStore,
    /// Clock, randomness, tasks, threads.
    pub env: Env,
    /// This instance's name.
    pub instance_id: Arc<str>,
    /// What it does at the moment.
    pub duty: Duty,
    /// The write path's limits.
    pub limits: Limits,
    /// What all writes together may hold.
    pub admission: Admission,
    /// Requests that background work may have in flight at a time: half of what the store may be asked, so that
    /// clients get through.
    pub background_requests: usize,
    /// What is known to be missing or damaged in the bucket.
    pub damage: Registry,
    /// How long earlier manifests are kept.
    pub manifest_history: Duration,
    /// How often a reader looks for new log entries.
    pub poll: Duration,
    /// How old an answer may be while the store is out of reach.
    pub stale_max: Duration,
    /// After how long without a request a collection is closed.
    pub idle: Duration,
    /// Where segments come into memory.
    pub shelf: Arc<Shelf>,
    /// Partitioners that the embedding program brings.
    pub partitioners: Arc<[Arc<dyn Partitioner>]>,
    /// When and how the log becomes segments.
    pub upkeep: UpkeepLimits,
    /// The memory that it may take, of all collections together.
    pub room: Room,
    /// Notified when an instance that wrote has died or left: what it did not index is for others.
    pub writer_lost: Arc<Notify>,
    /// What requests in flight may hold.
    pub memory: RequestMemory,
    /// Most bytes of one answer.
    pub answer_max: usize,
}

/// The limits of indexing and compaction; see the settings of the same names.
#[derive(Debug, Clone, Copy)]
pub struct UpkeepLimits {
    /// Whether this instance does it at all, when its role writes.
    pub enabled: bool,
    /// How often it looks for something to do.
    pub interval: Duration,
    /// Bytes of log that are worth a pass.
    pub index_after_bytes: u64,
    /// How long fewer bytes wait.
    pub index_after: Duration,
    /// How often all collections are looked at for logs that nobody indexes.
    pub scan_interval: Duration,
    /// Most rows of a segment that is made from the log.
    pub segment_max_rows: usize,
    /// Segments of about the same size that are merged into one.
    pub compaction_fanout: usize,
    /// Share of dead rows from which a segment is written anew.
    pub compaction_dead_share: f64,
    /// Bytes of segments that are merged or split at a time.
    pub compaction_bytes: u64,
    /// Whether there is a disk on which partitions of any size split.
    pub splits_any: bool,
    /// Most bytes of a segment.
    pub segment_max_bytes: u64,
    /// Live rows from which a partition splits.
    pub partition_max_vectors: u64,
    /// How long a lease lasts without a renewal.
    pub lease_ttl: Duration,
    /// How indexes are built.
    pub index: IndexParams,
}

impl UpkeepLimits {
    /// Most bytes of a segment, and of a partition before it splits: what could not be merged any more is split before.
    pub fn segment_bytes(&self) -> u64 {
        self.segment_max_bytes.min(self.compaction_bytes)
    }

    /// Those of an instance with these settings.
    pub fn new(settings: &Settings) -> UpkeepLimits {
        let millis = Duration::from_millis;
        UpkeepLimits {
            enabled: settings.index_enabled,
            interval: millis(settings.index_interval_ms),
            index_after_bytes: settings.index_after_bytes,
            index_after: millis(settings.index_after_ms),
            scan_interval: millis(settings.index_scan_interval_ms),
            segment_max_rows: settings.segment_max_rows,
            compaction_fanout: settings.compaction_fanout,
            compaction_dead_share: settings.compaction_dead_percent as f64 / 100.0,
            compaction_bytes: settings.compaction_max_bytes,
            splits_any: false,
            segment_max_bytes: settings.segment_max_bytes,
            partition_max_vectors: settings.partition_max_vectors,
            lease_ttl: millis(settings.lease_ttl_ms),
            index: IndexParams {
                m: settings.index_m,
                ef_construction: settings.index_ef_construction,
                builder: match settings.index_builder {
                    IndexBuilder::Brainy => Builder::Brainy,
                    #[cfg(feature = "hnsw_rs")]
                    IndexBuilder::HnswRs => Builder::HnswRs,
                },
            },
        }
    }
}

impl Context {
    /// Of an instance with these settings.
    pub fn new(
        settings: &Settings,
        role: Role,
        instance_id: &str,
        store: DynStore,
        env: Env,
        partitioners: Arc<[Arc<dyn Partitioner>]>,
    ) -> Context {
        let millis = Duration::from_millis;
        let damage = Registry::new(env.clone());
        let cache_bytes = settings.cache_max_bytes;
        let shelf = {
            let is_remote = settings.store.starts_with("s3://");
            Shelf::new(store.clone(), env.clone(), damage.clone(), cache_bytes, is_remote)
        };
        let spill = match settings.memory_limit_bytes {
            Some(_) if settings.index_enabled => Spill::to(settings.spill_dir.as_deref()),
            _ => Spill::none(),
        };
        let room = Room::within(settings.memory_limit_bytes, spill);
        let upkeep = UpkeepLimits { splits_any: room.splits_any(), ..UpkeepLimits::new(settings) };
        Context {
            instance_id: instance_id.into(),
            duty: Duty::new(Station { role, standby: settings.standby && role.writes() }),
            limits: Limits {
                batch_max_bytes: settings.batch_max_bytes,
                batch_max_records: settings.batch_max_records,
                batch_linger: millis(settings.batch_linger_ms),
                inline_max_bytes: settings.wal_inline_max_bytes,
                upload_concurrency: settings.upload_concurrency,
                tail_max_bytes: settings.tail_max_bytes,
                grace: millis(settings.gc_grace_ms),
            },
            admission: Admission::new(settings, env.metrics.clone()),
            background_requests: (settings.store_concurrency / 2).clamp(1, BACKGROUND_MAX),
            damage,
            manifest_history: millis(settings.manifest_history_ms),
            poll: millis(settings.poll_interval_ms),
            stale_max: millis(settings.stale_max_ms),
            idle: millis(settings.collection_idle_ms),
            memory: RequestMemory::new(settings.request_memory_bytes, &env.metrics.request_memory),
            answer_max: usize::try_from(settings.max_answer_bytes).unwrap_or(usize::MAX),
            shelf: Arc::new(shelf),
            store,
            env,
            partitioners,
            upkeep,
            room,
            writer_lost: Arc::default(),
        }
    }
}
