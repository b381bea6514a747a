//! Counters of one instance, as text for Prometheus and whoever reads the same.
//!
//! A registry per instance rather than a global one: tests and the simulation run many instances
//! in one process. Every metric is named and explained in `names`, `collections` or `process`, and nowhere
//! else.

mod collections;
mod labels;
mod names;
mod process;
mod text;

use crate::base::process::Sampler;
use crate::base::traffic::Traffic;
pub use collections::{
    COLLECTIONS_SHOWN_MAX, CollectionFigures, LargestCollections, NamedCollections,
};
pub use labels::{
    BuildLabels, ClusterLabels, CollectionLabels, DamageLabels, HttpLabels, NodeLabels, OpLabels,
    RouteLabels, StoreLabels, TaskLabels,
};
pub use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
pub use text::TextFormat;

/// A number that is not whole.
pub type FloatGauge = Gauge<f64, AtomicU64>;
/// A sum that is not whole.
pub type FloatCounter = Counter<f64, AtomicU64>;
/// A histogram for each value of the labels.
pub type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The counters. Fields are public so that each layer counts what it does.
pub struct Metrics {
    registry: Registry,
    /// Requests to the object store.
    pub store_requests: Family<StoreLabels, Counter>,
    /// Bytes read from the object store.
    pub store_bytes_read: Counter,
    /// Bytes written to the object store.
    pub store_bytes_written: Counter,
    /// Seconds that store requests took.
    pub store_seconds: Histograms<OpLabels>,
    /// Dollars that the store requests would cost at S3's list price.
    pub store_cost_dollars: Family<OpLabels, FloatCounter>,
    /// Log entries appended by this instance.
    pub wal_appends: Counter,
    /// Batches of this instance that another one's log entry took along.
    pub wal_joined: Counter,
    /// Conditional PUTs of log entries that lost a race.
    pub wal_appends_lost: Counter,
    /// Conditional PUTs of log entries whose outcome had to be read back.
    pub wal_appends_ambiguous: Counter,
    /// Entries whose position may have been collected before they were created.
    pub wal_appends_below_floor: Counter,
    /// Records acknowledged as durable.
    pub records_written: Counter,
    /// Log entries applied by readers.
    pub wal_entries_applied: Counter,
    /// Writes in log entries that do not fit their collection and were skipped.
    pub wal_chunks_skipped: Counter,
    /// Segments that were asked for and in memory.
    pub cache_hits: Counter,
    /// Segments that were asked for and had to be brought into memory, or waited for.
    pub cache_misses: Counter,
    /// Segments brought into memory.
    pub segments_loaded: Counter,
    /// Those of them whose index finds too little.
    pub segments_scanned: Counter,
    /// Indexing passes committed.
    pub index_passes: Counter,
    /// Rows that indexing passes put into segments.
    pub index_rows: Counter,
    /// Compactions committed.
    pub compactions: Counter,
    /// Rows that compactions put into segments.
    pub compaction_rows: Counter,
    /// Passes and compactions whose outcome was thrown away because others had changed the manifest.
    pub upkeep_lost: Counter,
    /// Passes and compactions that run now.
    pub upkeep_running: Family<TaskLabels, Gauge>,
    /// Seconds that passes and compactions took, whatever they came to.
    pub upkeep_seconds: Histograms<TaskLabels>,
    /// Segments and deletions that nothing named any more and that were deleted.
    pub objects_collected: Counter,
    /// Log entries below the floor that were deleted.
    pub wal_entries_collected: Counter,
    /// Data objects that no log entry named and that were deleted.
    pub wal_orphans_collected: Counter,
    /// Visits of the collector that failed.
    pub collector_failures: Counter,
    /// Collections whose last visit of the collector failed.
    pub collector_failing: NamedCollections,
    /// Places known to be missing or damaged now.
    pub damaged: Family<DamageLabels, Gauge>,
    /// Places found to be missing or damaged.
    pub damage_found: Family<DamageLabels, Counter>,
    /// Conditional PUTs of the shared config.
    pub cluster_writes: Family<ClusterLabels, Counter>,
    /// Heartbeats written, into the shared config or beside it.
    pub heartbeats: Counter,
    /// Heartbeats that were left in an object of their own.
    pub heartbeats_overflowed: Counter,
    /// Leaders that this instance has seen come to power.
    pub cluster_leader_elections: Counter,
    /// Changes by other instances of the shared config that this instance has taken up.
    pub cluster_state_replications: Counter,
    /// Searches answered.
    pub searches: Counter,
    /// Requests whose work ended before they were answered: nobody waited any more, or the time was over.
    pub searches_cancelled: Counter,
    /// Searches that turned out to be dear and stood back behind others.
    pub searches_dear: Counter,
    /// Seconds that searches took inside the engine.
    pub search_seconds: Histogram,
    /// HTTP requests answered.
    pub http_requests: Family<HttpLabels, Counter>,
    /// Seconds that HTTP requests took.
    pub http_seconds: Histograms<RouteLabels>,
    /// HTTP requests that are not answered yet.
    pub http_in_flight: Gauge,
    /// Bytes that requests in flight have reserved.
    pub request_memory: Gauge,
    /// Connections of clients.
    pub http_connections: Gauge,
    /// Connections that were closed because there were too many.
    pub http_connections_refused: Counter,
    /// Log lines that were dropped because nobody took them in time.
    pub log_lines_dropped: Counter,
    /// Live records over all open collections.
    pub vector_count: Gauge,
    /// Bytes of the tails held in memory.
    pub tail_bytes: Gauge,
    /// Collections whose manifest or log could not be read at the last scan.
    pub collections_unreadable: Gauge,
    /// Collections that this instance has open.
    pub collections_open: Gauge,
    /// Instances of the cluster, dead ones that are still listed included.
    pub cluster_nodes: Gauge,
    /// Instances of the cluster that live and are not degraded.
    pub cluster_healthy_nodes: Gauge,
    /// 1 while this instance serves without being listed in the cluster.
    pub cluster_unlisted: Gauge,
    /// Seconds that each instance lags behind the log.
    pub replication_lag_seconds: Family<NodeLabels, FloatGauge>,
    /// Requests of the last minute.
    pub traffic: Traffic,
    /// What the largest collections hold.
    pub largest_collections: LargestCollections,
    /// What the process uses.
    pub process: Arc<Sampler>,
    build: Family<BuildLabels, Gauge>,
    cache_hit_rate: FloatGauge,
    memory_usage: Gauge,
    rps: FloatGauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::with(Sampler::default())
    }
}

impl Metrics {
    fn with(process: Sampler) -> Self {
        let mut registry = Registry::default();
        let metrics = Metrics {
            store_requests: Family::default(),
            store_bytes_read: Counter::default(),
            store_bytes_written: Counter::default(),
            store_seconds: Family::new_with_constructor(seconds),
            store_cost_dollars: Family::default(),
            wal_appends: Counter::default(),
            wal_joined: Counter::default(),
            wal_appends_lost: Counter::default(),
            wal_appends_ambiguous: Counter::default(),
            wal_appends_below_floor: Counter::default(),
            records_written: Counter::default(),
            wal_entries_applied: Counter::default(),
            wal_chunks_skipped: Counter::default(),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            segments_loaded: Counter::default(),
            segments_scanned: Counter::default(),
            index_passes: Counter::default(),
            index_rows: Counter::default(),
            compactions: Counter::default(),
            compaction_rows: Counter::default(),
            upkeep_lost: Counter::default(),
            upkeep_running: Family::default(),
            upkeep_seconds: Family::new_with_constructor(long_seconds),
            objects_collected: Counter::default(),
            wal_entries_collected: Counter::default(),
            wal_orphans_collected: Counter::default(),
            collector_failures: Counter::default(),
            collector_failing: NamedCollections::default(),
            damaged: Family::default(),
            damage_found: Family::default(),
            cluster_writes: Family::default(),
            heartbeats: Counter::default(),
            heartbeats_overflowed: Counter::default(),
            cluster_leader_elections: Counter::default(),
            cluster_state_replications: Counter::default(),
            searches: Counter::default(),
            searches_cancelled: Counter::default(),
            searches_dear: Counter::default(),
            request_memory: Gauge::default(),
            search_seconds: seconds(),
            http_requests: Family::default(),
            http_seconds: Family::new_with_constructor(seconds),
            http_in_flight: Gauge::default(),
            http_connections: Gauge::default(),
            http_connections_refused: Counter::default(),
            log_lines_dropped: Counter::default(),
            vector_count: Gauge::default(),
            tail_bytes: Gauge::default(),
            collections_unreadable: Gauge::default(),
            collections_open: Gauge::default(),
            cluster_nodes: Gauge::default(),
            cluster_healthy_nodes: Gauge::default(),
            cluster_unlisted: Gauge::default(),
            replication_lag_seconds: Family::default(),
            traffic: Traffic::default(),
            largest_collections: LargestCollections::default(),
            process: Arc::new(process),
            build: this_build(),
            cache_hit_rate: Gauge::default(),
            memory_usage: Gauge::default(),
            rps: Gauge::default(),
            registry: Registry::default(),
        };
        metrics.register(&mut registry);
        Metrics { registry, ..metrics }
    }
}

fn this_build() -> Family<BuildLabels, Gauge> {
    let build = Family::<BuildLabels, Gauge>::default();
    build.get_or_create(&BuildLabels::of_this_build()).set(1);
    build
}

/// Of requests: 0.1 ms to 52 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 2.0, 20))
}

/// Of background work: 10 ms to 46 minutes.
fn long_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 4.0, 10))
}

impl Metrics {
    /// Of an instance that has the process to itself: with what the process uses.
    pub fn of_process() -> Metrics {
        Metrics::with(Sampler::of_process())
    }

    /// Share of the segments that were asked for and in memory, since the start; `None` before one was.
    pub fn cache_hit_rate(&self) -> Option<f64> {
        let (hits, misses) = (self.cache_hits.get() as f64, self.cache_misses.get() as f64);
        (hits + misses > 0.0).then(|| hits / (hits + misses))
    }

    /// All figures in a text format.
    pub fn encode(&self, format: TextFormat) -> String {
        self.cache_hit_rate.set(self.cache_hit_rate().unwrap_or(0.0));
        self.rps.set(self.traffic.summary().per_second);
        let memory = self.process.usage().memory_bytes;
        self.memory_usage.set(i64::try_from(memory).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        match format {
            TextFormat::OpenMetrics => text,
            TextFormat::Prometheus => text::plain(&text),
        }
    }
}

#[cfg(test)]
mod tests;
