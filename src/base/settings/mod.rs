//! Settings are data: one struct with documented defaults, filled in layers.

use serde::{Deserialize, Serialize};

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

/// Everything that can be set. Names are the same in files (TOML or JSON) and, in upper case
/// behind `BRAINY_`, in the environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// This instance's name in the cluster; made up where none is given.
    pub instance_id: Option<String>,
    /// Address and port to listen on; port 0 picks a free one.
    pub listen: String,
    /// URL under which others reach this instance (`SERVICE_ENDPOINT`).
    pub service_endpoint: Option<String>,
    /// Whether a write to an unknown collection creates it.
    pub create_collections: bool,

    /// How often a reader looks for new log entries, in milliseconds (10..=3,600,000).
    pub poll_interval_ms: u64,
    /// Longest time that a search may wait for `minVersion`, in milliseconds.
    pub wait_ms_max: u64,

    /// A batch is sent when it holds this many bytes of records.
    pub batch_max_bytes: u64,
    /// A batch is sent when it holds this many records.
    pub batch_max_records: u64,
    /// How long an incomplete batch waits for more, in milliseconds; 0 sends at once.
    pub batch_linger_ms: u64,
    /// Records of up to this many bytes are written into the log entry itself; more become data
    /// objects that are uploaded before the entry.
    pub wal_inline_max_bytes: u64,
    /// How many data objects one collection uploads at a time.
    pub upload_concurrency: usize,
    /// Writes that wait in memory, in bytes per collection, before clients get `backpressure`.
    pub write_queue_max_bytes: u64,
    /// Bytes of log that may be unindexed, per collection, before clients get `backpressure`.
    pub tail_max_bytes: u64,
    /// How long a collected log entry stays before it is deleted, in milliseconds; also bounds how
    /// stale a writer's view of the manifest may be. At least 10,000.
    pub gc_grace_ms: u64,

    /// Requests to the store in flight at a time.
    pub store_concurrency: usize,
    /// Time limit of one store request, in milliseconds.
    pub store_timeout_ms: u64,
    /// Time limit of one conditional PUT, in milliseconds; at least 30,000 on S3.
    pub store_cas_timeout_ms: u64,
    /// How often a failed store request (never a conditional PUT) is repeated.
    pub store_retries: u32,
    /// Whether a `file://` store flushes every write to the disk before it is acknowledged.
    pub fsync: bool,

    /// Largest request body after decompression, in bytes; import streams and has no limit.
    pub max_body_bytes: u64,
    /// Requests in flight at a time before clients get `overloaded`.
    pub max_concurrent_requests: usize,
    /// Time limit of one HTTP request, in milliseconds; import and export have none.
    pub request_timeout_ms: u64,
    /// How long a shutdown may take, in milliseconds, before the rest is dropped.
    pub shutdown_timeout_ms: u64,
    /// Threads for searches; 0 means one per core.
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
            tail_max_bytes: 4 << 30,
            gc_grace_ms: 300_000,
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
