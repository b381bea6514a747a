//! Settings are data: one struct with documented defaults, filled in layers.
//!
//! [`Settings`] is the struct, [`load`] fills it (defaults < file < environment < flags) and keeps
//! where each value came from in [`Effective`], [`Settings::validate`] holds every limit, and
//! [`resolve_role`] decides what this instance is. The environment comes in as data.
//!
//! Error semantics: everything that is wrong with settings is `invalid_settings`, names the key,
//! the source and what was expected, and carries `details.key`.

mod check;
mod layers;
mod redact;
mod role;
mod value;

pub use check::range;
pub use layers::{Effective, FlagValue, Source, load};
pub use redact::{is_secret, redact};
pub use role::{RoleSource, resolve_role};
pub use value::keys;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

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
    HnswRs,
}

/// Everything that can be set. Names are the same in files (TOML or JSON) and, in upper case
/// behind `BRAINY_`, in the environment.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// URL of the store: `s3://bucket/prefix`, `file:///folder`, a folder, or `memory:`.
    pub store: String,
    /// What this instance does; see the role's precedence in docs/settings.md.
    pub role: Option<Role>,
    /// Without a role: `true` makes this instance a reader.
    pub read_only: Option<bool>,
    /// Without a role: `true` makes this instance a writer.
    pub write_only: Option<bool>,
    /// This instance's name in the cluster, 1 to 128 characters of a-z, A-Z, 0-9, `.`, `_` and
    /// `-`; made up where none is given.
    pub instance_id: Option<String>,
    /// Address and port to listen on; port 0 picks a free one.
    pub listen: String,
    /// `http://` or `https://` URL under which others reach this instance (`SERVICE_ENDPOINT`).
    pub service_endpoint: Option<String>,
    /// Whether a write to an unknown collection creates it.
    pub create_collections: bool,

    /// How often a reader looks for new log entries, in milliseconds (10..=3,600,000).
    pub poll_interval_ms: u64,
    /// Longest time that a search may wait for `minVersion`, in milliseconds (0..=3,600,000).
    pub wait_ms_max: u64,

    /// A batch is sent when it holds this many bytes of records; at least 1 and at most
    /// `write_queue_max_bytes`.
    pub batch_max_bytes: u64,
    /// A batch is sent when it holds this many records (1..=10,000,000).
    pub batch_max_records: u64,
    /// How long an incomplete batch waits for more, in milliseconds (0..=60,000); 0 sends at once.
    pub batch_linger_ms: u64,
    /// Records of up to this many bytes are written into the log entry itself; more become data
    /// objects that are uploaded before the entry (0..=1,073,741,824).
    pub wal_inline_max_bytes: u64,
    /// How many data objects one collection uploads at a time (1..=1,024).
    pub upload_concurrency: usize,
    /// Writes that wait in memory, in bytes per collection, before clients get `backpressure`;
    /// at least 1.
    pub write_queue_max_bytes: u64,
    /// Bytes of log that may be unindexed, per collection, before clients get `backpressure`;
    /// at least 1.
    pub tail_max_bytes: u64,
    /// How long a collected log entry stays before it is deleted, in milliseconds; also bounds how
    /// stale a writer's view of the manifest may be (10,000..=2,592,000,000).
    pub gc_grace_ms: u64,
    /// How long earlier versions of a collection's manifest are kept, in milliseconds
    /// (60,000..=315,360,000,000).
    pub manifest_history_ms: u64,

    /// Whether this instance, if it writes, turns the log into segments and merges them.
    pub index_enabled: bool,
    /// How often an instance looks for something to index or merge, in milliseconds
    /// (10..=3,600,000).
    pub index_interval_ms: u64,
    /// Bytes of log that are indexed at once; fewer wait for `index_after_ms`, or, behind a pass that had
    /// as many, until nothing was written for `index_interval_ms`; at least 1.
    pub index_after_bytes: u64,
    /// How long fewer bytes of log wait before they are indexed, in milliseconds (0..=86,400,000).
    pub index_after_ms: u64,
    /// Most rows of a segment that is made from the log (1,000..=10,000,000): bounds the memory of an
    /// indexing pass.
    pub segment_max_rows: usize,
    /// Half the number of neighbours of a row in a segment's graph (4..=64): `m` of HNSW.
    pub index_m: usize,
    /// How hard a row's neighbours are looked for (16..=2,000): `efConstruction` of HNSW.
    pub index_ef_construction: usize,
    /// Who builds the graphs of segments: `brainy`, or `hnsw_rs` to compare with.
    pub index_builder: IndexBuilder,
    /// How many segments of about the same size are merged into one (2..=64).
    pub compaction_fanout: usize,
    /// Percentage of dead rows from which a segment is written anew (1..=100).
    pub compaction_dead_percent: u64,
    /// Live vectors from which a partition splits in two (1,000..=1,000,000,000).
    pub partition_max_vectors: u64,
    /// How long a lease lasts when its holder does not renew it, in milliseconds
    /// (1,000..=3,600,000).
    pub lease_ttl_ms: u64,
    /// Memory for segments, in bytes; those in use may take more; at least 1.
    pub cache_max_bytes: u64,

    /// Requests to the store in flight at a time (1..=65,536).
    pub store_concurrency: usize,
    /// Time limit of one store request, in milliseconds (1..=3,600,000).
    pub store_timeout_ms: u64,
    /// Time limit of one conditional PUT, in milliseconds (1..=3,600,000); at least 30,000 on S3,
    /// where the losers of a race may wait long for their answer.
    pub store_cas_timeout_ms: u64,
    /// How often a failed store request (never a conditional PUT) is repeated (0..=100).
    pub store_retries: u32,
    /// Whether a `file://` store flushes every write to the disk before it is acknowledged.
    pub fsync: bool,

    /// Largest request body after decompression, in bytes, at least 1,024; import streams and has
    /// no limit.
    pub max_body_bytes: u64,
    /// Requests in flight at a time before clients get `overloaded` (1..=1,000,000).
    pub max_concurrent_requests: usize,
    /// Time limit of one HTTP request, in milliseconds (1..=86,400,000); import and export have none.
    pub request_timeout_ms: u64,
    /// How long a shutdown may take, in milliseconds (0..=3,600,000), before the rest is dropped.
    pub shutdown_timeout_ms: u64,
    /// Threads for searches (0..=1,024); 0 means one per core.
    pub compute_threads: usize,

    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines are written, as in `RUST_LOG`: `info`, `brainy=debug`, ...
    pub log_level: String,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            store: "file://./brainy-data".to_owned(),
            role: None,
            read_only: None,
            write_only: None,
            instance_id: None,
            listen: "127.0.0.1:3000".to_owned(),
            service_endpoint: None,
            create_collections: true,
            poll_interval_ms: 1_000,
            wait_ms_max: 60_000,
            batch_max_bytes: 8 << 20,
            batch_max_records: 50_000,
            batch_linger_ms: 0,
            wal_inline_max_bytes: 1 << 20,
            upload_concurrency: 8,
            write_queue_max_bytes: 256 << 20,
            tail_max_bytes: 1 << 30,
            gc_grace_ms: 300_000,
            manifest_history_ms: 7 * 24 * 3_600_000,
            index_enabled: true,
            index_interval_ms: 1_000,
            index_after_bytes: 8 << 20,
            index_after_ms: 10_000,
            segment_max_rows: 250_000,
            index_m: 16,
            index_ef_construction: 200,
            index_builder: IndexBuilder::Brainy,
            compaction_fanout: 8,
            compaction_dead_percent: 25,
            partition_max_vectors: 2_000_000,
            lease_ttl_ms: 30_000,
            cache_max_bytes: 8 << 30,
            store_concurrency: 64,
            store_timeout_ms: 30_000,
            store_cas_timeout_ms: 30_000,
            store_retries: 5,
            fsync: true,
            max_body_bytes: 64 << 20,
            max_concurrent_requests: 512,
            request_timeout_ms: 60_000,
            shutdown_timeout_ms: 30_000,
            compute_threads: 0,
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
        }
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
