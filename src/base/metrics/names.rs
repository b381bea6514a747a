//! What every figure is called, and what it means.

use super::process::ProcessFigures;
use super::{Counter, Gauge, Metrics};
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

/// A gauge under a name that ends like a counter's, which people know it by: of no type, as the formats demand.
#[derive(Debug)]
struct Untyped(Gauge);

impl EncodeMetric for Untyped {
    fn encode(&self, encoder: MetricEncoder<'_>) -> std::fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Unknown
    }
}

impl Metrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(ProcessFigures(self.process.clone())));
        let registry = registry.sub_registry_with_prefix("brainy");
        let build = self.build.clone();
        registry.register("build_info", "The program that runs, always 1", build);
        let nodes = Untyped(self.cluster_nodes.clone());
        registry.register("cluster_nodes_total", "The same as cluster_nodes", nodes);
        registry.register_collector(Box::new(self.largest_collections.clone()));
        for (name, help, counter) in
            self.counters_of_data().into_iter().chain(self.counters_of_service())
        {
            registry.register(name, help, counter.clone());
        }
        for (name, help, gauge) in self.gauges() {
            registry.register(name, help, gauge.clone());
        }
        for (name, help, gauge) in [
            (
                "cache_hit_rate",
                "Share of the segments asked for that were in memory",
                &self.cache_hit_rate,
            ),
            ("rps", "Calls of /v1 answered a second, over the last minute", &self.rps),
        ] {
            registry.register(name, help, gauge.clone());
        }
        let (store, http) = (self.store_requests.clone(), self.http_requests.clone());
        registry.register("store_requests", "Requests to the object store", store);
        registry.register("http_requests", "HTTP requests answered", http);
        let cost = self.store_cost_dollars.clone();
        registry.register("store_cost_dollars", "Cost of store requests at S3's list price", cost);
        let failing = self.collector_failing.family();
        registry.register("collector_failing", "Collections that cannot be collected", failing);
        let running = self.upkeep_running.clone();
        registry.register("upkeep_running", "Indexing passes and compactions under way", running);
        let seconds = Unit::Seconds;
        let (help, lag) = ("How far instances lag behind the log", &self.replication_lag_seconds);
        registry.register_with_unit("replication_lag", help, seconds.clone(), lag.clone());
        let (help, store) = ("Time that store requests took", self.store_seconds.clone());
        registry.register_with_unit("store_request", help, seconds.clone(), store);
        let (help, upkeep) = ("Time that passes and compactions took", self.upkeep_seconds.clone());
        registry.register_with_unit("upkeep", help, seconds.clone(), upkeep);
        let (damaged, found) = (self.damaged.clone(), self.damage_found.clone());
        registry.register(
            "damaged",
            "Places known to be missing or damaged in the bucket",
            damaged,
        );
        registry.register("damage_found", "Places found to be missing or damaged", found);
        let writes = self.cluster_writes.clone();
        registry.register("cluster_writes", "Conditional PUTs of the shared config", writes);
        let (help, http) = ("Time that HTTP requests took", self.http_seconds.clone());
        registry.register_with_unit("http_request", help, seconds.clone(), http);
        let help = "Time that searches took inside the engine";
        registry.register_with_unit("search", help, seconds, self.search_seconds.clone());
    }

    /// Every plain gauge with its name and help.
    fn gauges(&self) -> [(&'static str, &'static str, &Gauge); 11] {
        [
            ("vector_count", "Live records over all open collections", &self.vector_count),
            ("tail_bytes", "Bytes of the log tails held in memory", &self.tail_bytes),
            (
                "collections_unreadable",
                "Collections that could not be read at the last scan of all",
                &self.collections_unreadable,
            ),
            ("collections_open", "Collections that are open", &self.collections_open),
            (
                "request_memory_bytes",
                "Bytes that requests in flight have reserved",
                &self.request_memory,
            ),
            ("memory_usage", "Resident memory of the process in bytes", &self.memory_usage),
            ("http_connections", "Connections of clients", &self.http_connections),
            ("cluster_nodes", "Instances of the cluster", &self.cluster_nodes),
            ("http_requests_in_flight", "HTTP requests under way", &self.http_in_flight),
            (
                "cluster_healthy_nodes",
                "Instances of the cluster that live and are not degraded",
                &self.cluster_healthy_nodes,
            ),
            (
                "cluster_unlisted",
                "1 while this reader serves without being listed, because it may only read the store",
                &self.cluster_unlisted,
            ),
        ]
    }

    /// Every plain counter of the log, of segments and of the store, with its name (Prometheus adds `_total`)
    /// and help.
    fn counters_of_data(&self) -> [(&'static str, &'static str, &Counter); 24] {
        [
            ("store_read_bytes", "Bytes read from the object store", &self.store_bytes_read),
            ("store_written_bytes", "Bytes written to the object store", &self.store_bytes_written),
            ("wal_appends", "Log entries appended by this instance", &self.wal_appends),
            (
                "wal_joined",
                "Batches of this instance that another one's log entry took along",
                &self.wal_joined,
            ),
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
            (
                "wal_chunks_skipped",
                "Writes in log entries that do not fit their collection and were skipped",
                &self.wal_chunks_skipped,
            ),
            // The same under the name that people look for.
            ("replication_events", "Log entries applied", &self.wal_entries_applied),
            ("cache_hits", "Segments asked for that were in memory", &self.cache_hits),
            ("cache_misses", "Segments asked for that were not in memory", &self.cache_misses),
            ("segments_loaded", "Segments brought into memory", &self.segments_loaded),
            (
                "segments_scanned",
                "Segments whose index finds too little, so that their rows are searched one by one",
                &self.segments_scanned,
            ),
            ("index_passes", "Indexing passes committed", &self.index_passes),
            ("index_rows", "Rows that indexing passes put into segments", &self.index_rows),
            ("compactions", "Compactions committed", &self.compactions),
            ("compaction_rows", "Rows that compactions put into segments", &self.compaction_rows),
            ("upkeep_lost", "Passes whose outcome was thrown away", &self.upkeep_lost),
            ("objects_collected", "Segments and deletions deleted", &self.objects_collected),
            ("wal_entries_collected", "Log entries deleted", &self.wal_entries_collected),
            (
                "wal_orphans_collected",
                "Log bodies without a name deleted",
                &self.wal_orphans_collected,
            ),
            ("collector_failures", "Visits of the collector that failed", &self.collector_failures),
        ]
    }

    /// Every plain counter of requests and of the cluster.
    fn counters_of_service(&self) -> [(&'static str, &'static str, &Counter); 9] {
        [
            ("cluster_leader_elections", "Changes of leader seen", &self.cluster_leader_elections),
            (
                "cluster_state_replications",
                "Changes of the shared config taken up",
                &self.cluster_state_replications,
            ),
            ("heartbeats", "Heartbeats written", &self.heartbeats),
            (
                "heartbeats_overflowed",
                "Heartbeats left in an object of their own",
                &self.heartbeats_overflowed,
            ),
            ("searches", "Searches answered", &self.searches),
            (
                "searches_cancelled",
                "Reads that ended before they were answered",
                &self.searches_cancelled,
            ),
            ("searches_dear", "Searches that stood back behind others", &self.searches_dear),
            (
                "http_connections_refused",
                "Connections that were closed because there were too many",
                &self.http_connections_refused,
            ),
            (
                "log_lines_dropped",
                "Log lines dropped because nobody took them in time",
                &self.log_lines_dropped,
            ),
        ]
    }
}
