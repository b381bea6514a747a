//! Counters of one instance, in Prometheus text.
//!
//! A registry per instance rather than a global one: tests and the simulation run many instances
//! in one process. Every metric is named and explained here and nowhere else.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::fmt;

/// Labels of a store request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StoreLabels {
    /// `get`, `put`, `put_if`, `delete` or `list`.
    pub op: &'static str,
    /// `ok`, `missing`, `unmodified`, `won`, `lost`, `ambiguous` or `failed`.
    pub outcome: &'static str,
}

/// Labels of a conditional PUT of the shared config.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ClusterLabels {
    /// `won`, `lost`, `ambiguous` or `failed`.
    pub outcome: &'static str,
}

/// Labels of an HTTP request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HttpLabels {
    /// The route's pattern, never the concrete path.
    pub route: String,
    /// The HTTP method.
    pub method: &'static str,
    /// The status code.
    pub status: u16,
}

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
    pub store_seconds: Histogram,
    /// Log entries appended by this instance.
    pub wal_appends: Counter,
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
    /// Segments brought into memory.
    pub segments_loaded: Counter,
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
    /// Segments and deletions that nothing named any more and that were deleted.
    pub objects_collected: Counter,
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
    /// Seconds that searches took inside the engine.
    pub search_seconds: Histogram,
    /// HTTP requests answered.
    pub http_requests: Family<HttpLabels, Counter>,
    /// Seconds that HTTP requests took.
    pub http_seconds: Histogram,
    /// Live records over all open collections.
    pub vector_count: Gauge,
    /// Bytes of the tails held in memory.
    pub tail_bytes: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("brainy");
        let seconds = || Histogram::new(exponential_buckets(0.000_1, 2.0, 20));
        let metrics = Metrics {
            store_requests: Family::default(),
            store_bytes_read: Counter::default(),
            store_bytes_written: Counter::default(),
            store_seconds: seconds(),
            wal_appends: Counter::default(),
            wal_appends_lost: Counter::default(),
            wal_appends_ambiguous: Counter::default(),
            wal_appends_below_floor: Counter::default(),
            records_written: Counter::default(),
            wal_entries_applied: Counter::default(),
            segments_loaded: Counter::default(),
            index_passes: Counter::default(),
            index_rows: Counter::default(),
            compactions: Counter::default(),
            compaction_rows: Counter::default(),
            upkeep_lost: Counter::default(),
            objects_collected: Counter::default(),
            cluster_writes: Family::default(),
            heartbeats: Counter::default(),
            heartbeats_overflowed: Counter::default(),
            cluster_leader_elections: Counter::default(),
            cluster_state_replications: Counter::default(),
            searches: Counter::default(),
            search_seconds: seconds(),
            http_requests: Family::default(),
            http_seconds: seconds(),
            vector_count: Gauge::default(),
            tail_bytes: Gauge::default(),
            registry: Registry::default(),
        };
        metrics.register(&mut registry);
        Metrics { registry, ..metrics }
    }
}

impl Metrics {
    fn register(&self, registry: &mut Registry) {
        for (name, help, counter) in self.counters() {
            registry.register(name, help, counter.clone());
        }
        let (store, http) = (self.store_requests.clone(), self.http_requests.clone());
        registry.register("store_requests", "Requests to the object store", store);
        registry.register("http_requests", "HTTP requests answered", http);
        let writes = self.cluster_writes.clone();
        registry.register("cluster_writes", "Conditional PUTs of the shared config", writes);
        let (vectors, tail) = (self.vector_count.clone(), self.tail_bytes.clone());
        registry.register("vector_count", "Live records over all open collections", vectors);
        registry.register("tail_bytes", "Bytes of the log tails held in memory", tail);
        for (name, help, histogram) in [
            ("store_request", "Time that store requests took", &self.store_seconds),
            ("search", "Time that searches took inside the engine", &self.search_seconds),
            ("http_request", "Time that HTTP requests took", &self.http_seconds),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        }
    }

    /// Every plain counter with its name (Prometheus adds `_total`) and help.
    fn counters(&self) -> [(&'static str, &'static str, &Counter); 20] {
        [
            ("store_read_bytes", "Bytes read from the object store", &self.store_bytes_read),
            ("store_written_bytes", "Bytes written to the object store", &self.store_bytes_written),
            ("wal_appends", "Log entries appended by this instance", &self.wal_appends),
            (
                "wal_appends_lost",
                "Conditional PUTs of log entries that lost a race",
                &self.wal_appends_lost,
            ),
            (
                "wal_appends_ambiguous",
                "Conditional PUTs of log entries whose outcome was read back in vain",
                &self.wal_appends_ambiguous,
            ),
            (
                "wal_appends_below_floor",
                "Entries whose position may have been collected before they were created",
                &self.wal_appends_below_floor,
            ),
            ("records_written", "Records acknowledged as durable", &self.records_written),
            ("wal_entries_applied", "Log entries applied", &self.wal_entries_applied),
            ("segments_loaded", "Segments brought into memory", &self.segments_loaded),
            ("index_passes", "Indexing passes committed", &self.index_passes),
            ("index_rows", "Rows that indexing passes put into segments", &self.index_rows),
            ("compactions", "Compactions committed", &self.compactions),
            ("compaction_rows", "Rows that compactions put into segments", &self.compaction_rows),
            ("upkeep_lost", "Passes whose outcome was thrown away", &self.upkeep_lost),
            ("objects_collected", "Segments and deletions deleted", &self.objects_collected),
            ("heartbeats", "Heartbeats written", &self.heartbeats),
            (
                "heartbeats_overflowed",
                "Heartbeats left in an object of their own",
                &self.heartbeats_overflowed,
            ),
            (
                "cluster_leader_elections",
                "Leaders seen coming to power",
                &self.cluster_leader_elections,
            ),
            (
                "cluster_state_replications",
                "Changes of the shared config by others that were taken up",
                &self.cluster_state_replications,
            ),
            ("searches", "Searches answered", &self.searches),
        ]
    }

    /// The registry's content in Prometheus text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_every_metric_with_its_prefix() {
        let metrics = Metrics::default();
        metrics.searches.inc();
        let text = metrics.encode();
        assert!(text.contains("brainy_searches_total 1"), "{text}");
        assert!(text.contains("brainy_store_request_seconds_bucket"), "{text}");
    }
}
