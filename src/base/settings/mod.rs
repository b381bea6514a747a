//! Settings are data: one struct with documented defaults, filled in layers.
//!
//! [`Settings`] is the struct, [`load`] fills it (defaults < file < environment < flags) and keeps
//! where each value came from in [`Effective`], [`Settings::validate`] holds every limit, and
//! [`resolve_role`] decides what this instance is. The environment comes in as data. Names that people
//! bring from elsewhere are translated by the table of [`ALIASES`] while a layer is read.
//!
//! Error semantics: everything that is wrong with settings is `invalid_settings`, names the key,
//! the source and what was expected, and carries `details.key`.

mod aliases;
mod check;
mod fit;
mod layers;
mod redact;
mod role;
mod service_links;
mod value;

pub use aliases::{ALIASES, Alias, NOT_NEEDED, NotNeeded, Notice};
pub use check::{bare_endpoint, check_instance_id, check_service_endpoint, range};
pub use fit::{Bound, Memory};
pub use layers::{Effective, FlagValue, Source, load};
pub use redact::{is_secret, redact};
pub use role::{RoleSource, resolve_role};
pub use value::keys;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// The grace period of collections whose manifest names none, and the default of `gc_grace_ms`.
pub const GC_GRACE_MS_DEFAULT: u64 = 300_000;

/// What an instance does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes writes; refuses reads.
    Writer,
    /// Answers reads; refuses writes.
    Reader,
    /// Does both.
    Hybrid,
}

impl Role {
    /// Whether this role takes writes.
    pub fn writes(self) -> bool {
        self != Role::Reader
    }

    /// Whether this role answers reads.
    pub fn reads(self) -> bool {
        self != Role::Writer
    }

    /// The role's name in settings and answers.
    pub fn name(self) -> &'static str {
        match self {
            Role::Writer => "writer",
            Role::Reader => "reader",
            Role::Hybrid => "hybrid",
        }
    }
}

/// What `verbose` shows: role detection, changes of the shared config, partition assignment, results of
/// health checks.
pub const VERBOSE_TARGETS: [&str; 4] =
    ["brainy::role", "brainy::cluster", "brainy::partitions", "brainy::health"];

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Who builds the graphs of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexBuilder {
    /// Brainy's own.
    Brainy,
    /// The crate `hnsw_rs`, to compare with.
    #[cfg(feature = "hnsw_rs")]
    HnswRs,
}

/// Whom a write waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicationMode {
    /// Nobody: a write is answered when it is durable, and readers find it.
    Eventual,
    /// Every live reader: a write is answered when they have applied it.
    Sync,
}

/// How records are spread over partitions, as instances agree on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartitionStrategy {
    /// By the hash of the id.
    Hash,
}

impl PartitionStrategy {
    /// The name in settings and in the shared config.
    pub fn name(self) -> &'static str {
        match self {
            PartitionStrategy::Hash => "hash",
        }
    }
}

/// How distance is measured, as instances agree on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DistanceMetric {
    /// 1 - cosine similarity.
    Cosine,
    /// L2.
    Euclidean,
    /// Minus the inner product.
    Dot,
}

impl DistanceMetric {
    /// The name in settings and in the shared config.
    pub fn name(self) -> &'static str {
        match self {
            DistanceMetric::Cosine => "cosine",
            DistanceMetric::Euclidean => "euclidean",
            DistanceMetric::Dot => "dot",
        }
    }
}

/// Declares the struct with each default beside its setting.
macro_rules! settings {
    (
        $(#[$outer:meta])*
        pub struct $name:ident {
            $($(#[$inner:meta])* pub $field:ident: $type:ty = $default:expr,)*
        }
    ) => {
        $(#[$outer])*
        pub struct $name {
            $($(#[$inner])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $default,)* }
            }
        }
    };
}

settings! {
    /// Everything that can be set. Names are the same in files (TOML or JSON) and, in upper case
    /// behind `BRAINY_`, in the environment.
    #[derive(Clone, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Settings {
        /// URL of the store: `s3://bucket/prefix`, `file:///folder`, a folder, or `memory:`.
        pub store: String = "file://./brainy-data".to_owned(),
        /// What this instance does; see the role's precedence in docs/settings.md.
        pub role: Option<Role> = None,
        /// Without a role: `true` makes this instance a reader.
        pub read_only: Option<bool> = None,
        /// Without a role: `true` makes this instance a writer.
        pub write_only: Option<bool> = None,
        /// This instance's name in the cluster, 1 to 128 characters of a-z, A-Z, 0-9, `.`, `_` and
        /// `-`; made up where none is given.
        pub instance_id: Option<String> = None,
        /// Address and port to listen on; port 0 picks a free one.
        pub listen: String = "127.0.0.1:3000".to_owned(),
        /// `http://` or `https://` URL under which others reach this instance (`SERVICE_ENDPOINT`).
        pub service_endpoint: Option<String> = None,
        /// Folder of this instance alone, where an `instance_id` that was made up is kept, so that it is the
        /// same after a restart.
        pub data_dir: Option<String> = None,
        /// Whether a write to an unknown collection creates it.
        pub create_collections: bool = true,

        /// Where in the store the shared config is: a key without `/` at the start, empty or dot parts, that
        /// ends in `.json`.
        pub config_path: String = "_brainy/config.json".to_owned(),
        /// How often this instance says that it is alive, in milliseconds (100..=3,600,000).
        pub heartbeat_interval_ms: u64 = 30_000,
        /// An instance that has not been heard of for so long counts as dead, in milliseconds
        /// (200..=86,400,000); at least twice `heartbeat_interval_ms`.
        pub instance_timeout_ms: u64 = 60_000,
        /// How long a dead instance stays listed, in milliseconds (0..=2,592,000,000).
        pub instance_remove_ms: u64 = 600_000,
        /// How long the leader's lease lasts when it does not renew it, in milliseconds
        /// (1,000..=3,600,000).
        pub leader_lease_ms: u64 = 15_000,
        /// Whether this instance, a writer or hybrid, takes writes only once no other one that does is alive.
        pub standby: bool = false,
        /// Milliseconds that a reader may lag behind the log before its health is degraded (0..=86,400,000);
        /// 0 means that it does not matter.
        pub lag_max_ms: u64 = 60_000,
        /// Bytes of log that a reader may lag behind before its health is degraded; 0 means that it does not
        /// matter.
        pub lag_max_bytes: u64 = 0,
        /// Memory, in bytes, that this process may use, at least 16 MiB; what its container or machine gives it
        /// where that is less or nothing is set. Budgets that nobody sets are shares of it, and close to it
        /// writes get `backpressure`.
        pub memory_limit_bytes: Option<u64> = None,
        /// Resident memory, in bytes, from which health is degraded; 0 means that it does not matter.
        pub memory_max_bytes: u64 = 0,
        /// Whom a write waits for: nobody (`eventual`), or every live reader (`sync`).
        pub replication_mode: ReplicationMode = ReplicationMode::Eventual,
        /// How long a write waits for readers, in milliseconds (1..=3,600,000).
        pub replication_timeout_ms: u64 = 10_000,
        /// How records are spread over partitions; all instances on a store agree on it.
        pub partition_strategy: Option<PartitionStrategy> = None,
        /// In how many partitions a new collection starts (1..=4,096); all instances on a store agree on it.
        pub partition_count: Option<u32> = None,
        /// Which model the vectors come from; all instances on a store agree on it.
        pub embedding_model: Option<String> = None,
        /// Dimensions of the vectors (1..=4,096); all instances on a store agree on it.
        pub dimensions: Option<u32> = None,
        /// How distance is measured; all instances on a store agree on it.
        pub distance_metric: Option<DistanceMetric> = None,

        /// How often a reader looks for new log entries, in milliseconds (10..=3,600,000).
        pub poll_interval_ms: u64 = 1_000,
        /// How old an answer with the consistency `eventual` may be while the store is out of reach, in
        /// milliseconds (0..=86,400,000); past it such reads fail. 0: they fail at once.
        pub stale_max_ms: u64 = 60_000,
        /// After how long without a request a collection is closed: its log's tail and its hold on segments are
        /// given back, and the next request opens it again; in milliseconds (1,000..=86,400,000).
        pub collection_idle_ms: u64 = 600_000,
        /// Longest time that a search may wait for `minVersion`, in milliseconds (0..=3,600,000).
        pub wait_ms_max: u64 = 60_000,

        /// A batch is sent when it holds this many bytes of records; at least 1 and at most
        /// `write_queue_max_bytes`.
        pub batch_max_bytes: u64 = 8 << 20,
        /// A batch is sent when it holds this many records (1..=10,000,000).
        pub batch_max_records: u64 = 50_000,
        /// How long an incomplete batch waits for more, in milliseconds (0..=60,000); 0 sends at once.
        pub batch_linger_ms: u64 = 0,
        /// Records of up to this many bytes are written into the log entry itself; more become data
        /// objects that are uploaded before the entry (0..=1,073,741,824).
        pub wal_inline_max_bytes: u64 = 1 << 20,
        /// How many data objects one collection uploads at a time (1..=1,024).
        pub upload_concurrency: usize = 8,
        /// Writes that wait in memory, in bytes over all collections, before clients get `backpressure`;
        /// at least 1.
        pub write_queue_max_bytes: u64 = 256 << 20,
        /// Bytes of log that may be unindexed, per collection, before clients get `backpressure`;
        /// at least 1.
        pub tail_max_bytes: u64 = 1 << 30,
        /// Bytes of log that the tails of all collections together may hold in memory before clients get
        /// `backpressure`; at least 1.
        pub tail_total_max_bytes: u64 = 2 << 30,
        /// How long a collected log entry stays before it is deleted, in milliseconds; also bounds how
        /// stale a writer's view of the manifest may be (10,000..=2,592,000,000). For new collections: each
        /// keeps its own in its manifest.
        pub gc_grace_ms: u64 = GC_GRACE_MS_DEFAULT,
        /// How long earlier versions of a collection's manifest are kept, in milliseconds
        /// (60,000..=315,360,000,000); the longest that any instance asks for counts.
        pub manifest_history_ms: u64 = 7 * 24 * 3_600_000,

        /// Whether this instance, if it writes, turns the log into segments and merges them.
        pub index_enabled: bool = true,
        /// How often an instance looks for something to index or merge, in milliseconds
        /// (10..=3,600,000).
        pub index_interval_ms: u64 = 1_000,
        /// Bytes of log that are indexed at once; fewer wait for `index_after_ms`, or, behind a pass that
        /// had as many, until nothing was written for `index_interval_ms`; at least 1.
        pub index_after_bytes: u64 = 8 << 20,
        /// How long fewer bytes of log wait before they are indexed, in milliseconds (0..=86,400,000).
        pub index_after_ms: u64 = 10_000,
        /// How often one of the instances on a store looks for collections whose log nobody indexes, because
        /// those that wrote to them have died, in milliseconds (1,000..=86,400,000).
        pub index_scan_interval_ms: u64 = 3_600_000,
        /// Most rows of a segment that is made from the log (1,000..=10,000,000): bounds the memory of an
        /// indexing pass.
        pub segment_max_rows: usize = 250_000,
        /// Most bytes of a segment (1,048,576..=5,368,709,120): S3 takes no more in one PUT. A partition that has more
        /// splits.
        pub segment_max_bytes: u64 = 4 << 30,
        /// Half the number of neighbours of a row in a segment's graph (4..=64): `m` of HNSW.
        pub index_m: usize = 16,
        /// How hard a row's neighbours are looked for (16..=2,000): `efConstruction` of HNSW.
        pub index_ef_construction: usize = 200,
        /// Who builds the graphs of segments: `brainy`, or `hnsw_rs` to compare with, which only builds with that
        /// feature know.
        pub index_builder: IndexBuilder = IndexBuilder::Brainy,
        /// How many segments of about the same size are merged into one (2..=64).
        pub compaction_fanout: usize = 8,
        /// Bytes of segments that are merged at a time; at least 1. A partition that has more splits.
        pub compaction_max_bytes: u64 = 64 << 30,
        /// Folder for what a merge or a split works on when it does not fit into the memory that this process may use:
        /// files without names, gone when it ends. By default that for temporary files; where it cannot be written or is in memory
        /// itself (tmpfs), merges are as small as memory asks for.
        pub spill_dir: Option<String> = None,
        /// Percentage of dead rows from which a segment is written anew (1..=100).
        pub compaction_dead_percent: u64 = 25,
        /// Live vectors from which a partition splits in two (1,000..=1,000,000,000), if it has not split for its bytes
        /// before.
        pub partition_max_vectors: u64 = 2_000_000,
        /// How long a lease lasts when its holder does not renew it, in milliseconds
        /// (1,000..=3,600,000).
        pub lease_ttl_ms: u64 = 30_000,
        /// Memory for segments, in bytes; those in use may take more, and mapped files count only for what is made of
        /// them; at least 1.
        pub cache_max_bytes: u64 = 8 << 30,

        /// Requests to the store in flight at a time (1..=65,536).
        pub store_concurrency: usize = 64,
        /// Time limit of one store request, in milliseconds (1..=3,600,000).
        pub store_timeout_ms: u64 = 30_000,
        /// Time limit of one conditional PUT, in milliseconds (1..=3,600,000); at least 30,000 on S3,
        /// where the losers of a race may wait long for their answer.
        pub store_cas_timeout_ms: u64 = 30_000,
        /// How often a failed store request (never a conditional PUT) is repeated (0..=100).
        pub store_retries: u32 = 5,
        /// Whether a `file://` store flushes every write to the disk before it is acknowledged.
        pub fsync: bool = true,

        /// Largest request body after decompression, in bytes, at least 1,024; import streams and has
        /// no limit.
        pub max_body_bytes: u64 = 64 << 20,
        /// Most that one answer over HTTP holds, in bytes of JSON, about, at least 1,024; pages end earlier, others are
        /// refused with `answer_too_large`. Export streams and has no limit.
        pub max_answer_bytes: u64 = 64 << 20,
        /// Memory, in bytes, that the bodies and answers of all requests in flight may take, half of it for
        /// each; at least four times `max_body_bytes` and `max_answer_bytes`. Those that find no room get
        /// `overloaded`.
        pub request_memory_bytes: u64 = 1 << 30,
        /// Origins of web pages that may ask this server from a browser, such as `https://app.example.com`,
        /// separated by commas; `*` for all.
        pub cors_allowed_origins: Option<String> = None,
        /// Requests in flight at a time before clients get `overloaded` (1..=1,000,000).
        pub max_concurrent_requests: usize = 512,
        /// Time limit of one HTTP request, in milliseconds (1..=86,400,000); import and export have none.
        pub request_timeout_ms: u64 = 60_000,
        /// Connections at a time (1..=1,000,000), and no more than the limit of open files leaves beside those
        /// to the store.
        pub max_connections: usize = 4_096,
        /// How long a connection may stand still before it is closed, in milliseconds (100..=3,600,000): from
        /// the last answer to the end of the next request's headers, and while nobody takes an answer.
        pub idle_timeout_ms: u64 = 75_000,
        /// How long the body of a request may stand still before the request fails, in milliseconds
        /// (100..=3,600,000).
        pub body_idle_timeout_ms: u64 = 30_000,
        /// How long an instance that was told to stop says that it is not ready, and goes on answering, before
        /// it takes no more requests, in milliseconds (0..=3,600,000): as long as load balancers need to notice.
        pub shutdown_delay_ms: u64 = 1_000,
        /// How long a shutdown may take, in milliseconds (0..=3,600,000), before the rest is dropped.
        pub shutdown_timeout_ms: u64 = 30_000,
        /// Threads for searches, and as many for other requests and for indexing, which stand back behind
        /// them (0..=1,024); 0 means one per core.
        pub compute_threads: usize = 0,

        /// How log lines look.
        pub log_format: LogFormat = LogFormat::Text,
        /// Which log lines are written, as in `RUST_LOG`: `info`, `brainy=debug`, ...
        pub log_level: String = "info".to_owned(),
        /// Whether role detection, changes of the shared config, partition assignment and results of health
        /// checks are logged, whatever `log_level` says.
        pub verbose: bool = false,
        /// `http://` or `https://` URL of an OpenTelemetry collector that spans and log lines are sent to, by
        /// OTLP over HTTP, for example `http://127.0.0.1:4318`; for builds with the feature `otlp`.
        pub otlp_endpoint: Option<String> = None,
    }
}

impl Settings {
    /// All settings under their names, as they would stand in a JSON file; unset ones are `null`.
    pub fn to_map(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => map,
            // A struct of numbers, strings and flags always becomes an object.
            _ => Map::new(),
        }
    }

    /// The origins in `cors_allowed_origins`, one by one.
    pub fn allowed_origins(&self) -> Vec<String> {
        let list = self.cors_allowed_origins.as_deref().unwrap_or_default().split(',');
        let origins = list.map(|origin| origin.trim().trim_end_matches('/').to_owned());
        origins.filter(|origin| !origin.is_empty()).collect()
    }

    /// Which log lines are written where `log_level` says `level`: more of them with `verbose`.
    pub fn log_filter(&self, level: &str) -> String {
        if !self.verbose {
            return level.to_owned();
        }
        // What the operator says of a target himself comes later and counts.
        let verbose: Vec<String> =
            VERBOSE_TARGETS.iter().map(|target| format!("{target}=debug")).collect();
        format!("{},{level}", verbose.join(","))
    }

    /// Whether the store is an S3 bucket.
    pub fn store_is_s3(&self) -> bool {
        self.store.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("s3://"))
    }
}

/// Secrets are redacted, because settings end up in logs.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Settings");
        let map = self.to_map();
        for key in keys() {
            let value = redact(key, map.get(*key).unwrap_or(&Value::Null));
            out.field(key, &format_args!("{value}"));
        }
        out.finish()
    }
}
