//! Counters of one instance, in Prometheus text.
//!
//! A registry per instance rather than a global one: tests and the simulation run many instances
//! in one process. Every metric is named and explained here and nowhere else.

use crate::base::process::Sampler;
use crate::base::traffic::Traffic;
use prometheus_client::encoding::EncodeLabelSet;
pub use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Labels of a store request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StoreLabels {
    /// `get`, `put`, `put_if`, `delete` or `list`.
    pub op: &'static str,
    /// `ok`, `missing`, `unmodified`, `won`, `lost`, `ambiguous` or `failed`.
    pub outcome: &'static str,
}

/// Labels of all store requests of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OpLabels {
    /// `get`, `put`, `put_if`, `delete` or `list`.
    pub op: &'static str,
}

/// Labels of background work.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TaskLabels {
    /// `index` or `compact`.
    pub task: &'static str,
}

/// Labels of what is missing or damaged in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DamageLabels {
    /// `manifest`, `logEntry`, `logData`, `segment`, `deletions` or `record`.
    pub kind: &'static str,
}

/// Labels of what is known of an instance of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct NodeLabels {
    /// The instance's name.
    pub node: String,
}

/// Labels of what is known of a collection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CollectionLabels {
    /// The collection's name.
    pub collection: String,
}

/// Collections that are in a state, each 1 while it is: the metric names them, up to a bound.
#[derive(Clone, Default)]
pub struct NamedCollections {
    named: Family<CollectionLabels, Gauge>,
    count: Arc<AtomicUsize>,
}

impl NamedCollections {
    /// Names one, where it is named already or fewer than `most` are.
    pub fn name(&self, collection: &str, most: usize) {
        let labels = CollectionLabels { collection: collection.to_owned() };
        if self.named.get(&labels).is_none() {
            if self.count.load(Ordering::Relaxed) >= most {
                return;
            }
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        self.named.get_or_create(&labels).set(1);
    }

    /// Names it no longer.
    pub fn forget(&self, collection: &str) {
        if self.named.remove(&CollectionLabels { collection: collection.to_owned() }) {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A number that is not whole.
pub type FloatGauge = Gauge<f64, AtomicU64>;
/// A sum that is not whole.
pub type FloatCounter = Counter<f64, AtomicU64>;
/// A histogram for each value of the labels.
pub type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

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
    pub http_seconds: Histogram,
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
    /// Seconds that each instance lags behind the log.
    pub replication_lag_seconds: Family<NodeLabels, FloatGauge>,
    /// Requests of the last minute.
    pub traffic: Traffic,
    /// What the process uses.
    pub process: Sampler,
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
        let mut registry = Registry::with_prefix("brainy");
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
            http_seconds: seconds(),
            http_connections: Gauge::default(),
            http_connections_refused: Counter::default(),
            log_lines_dropped: Counter::default(),
            vector_count: Gauge::default(),
            tail_bytes: Gauge::default(),
            collections_unreadable: Gauge::default(),
            collections_open: Gauge::default(),
            cluster_nodes: Gauge::default(),
            cluster_healthy_nodes: Gauge::default(),
            replication_lag_seconds: Family::default(),
            traffic: Traffic::default(),
            process: Sampler::default(),
            cache_hit_rate: Gauge::default(),
            memory_usage: Gauge::default(),
            rps: Gauge::default(),
            registry: Registry::default(),
        };
        metrics.register(&mut registry);
        Metrics { registry, ..metrics }
    }
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
        Metrics { process: Sampler::of_process(), ..Metrics::default() }
    }

    /// Share of the segments that were asked for and in memory, since the start; `None` before one was.
    pub fn cache_hit_rate(&self) -> Option<f64> {
        let (hits, misses) = (self.cache_hits.get() as f64, self.cache_misses.get() as f64);
        (hits + misses > 0.0).then(|| hits / (hits + misses))
    }

    fn register(&self, registry: &mut Registry) {
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
        let failing = self.collector_failing.named.clone();
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
        for (name, help, histogram) in [
            ("search", "Time that searches took inside the engine", &self.search_seconds),
            ("http_request", "Time that HTTP requests took", &self.http_seconds),
        ] {
            registry.register_with_unit(name, help, seconds.clone(), histogram.clone());
        }
    }

    /// Every plain gauge with its name and help.
    fn gauges(&self) -> [(&'static str, &'static str, &Gauge); 9] {
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
            // A gauge by that name, because people look for it.
            ("cluster_nodes_total", "Instances of the cluster", &self.cluster_nodes),
            (
                "cluster_healthy_nodes",
                "Instances of the cluster that live and are not degraded",
                &self.cluster_healthy_nodes,
            ),
        ]
    }

    /// Every plain counter of the log, of segments and of the store, with its name (Prometheus adds `_total`)
    /// and help.
    fn counters_of_data(&self) -> [(&'static str, &'static str, &Counter); 23] {
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

    /// The registry's content in Prometheus text.
    pub fn encode(&self) -> String {
        self.cache_hit_rate.set(self.cache_hit_rate().unwrap_or(0.0));
        self.rps.set(self.traffic.summary().per_second);
        let memory = self.process.usage().memory_bytes;
        self.memory_usage.set(i64::try_from(memory).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of the text that are not comments.
    fn lines(metrics: &Metrics) -> Vec<String> {
        metrics.encode().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn people_find_the_names_that_they_look_for() {
        let metrics = Metrics::of_process();
        metrics.vector_count.set(3);
        metrics.cache_hits.inc_by(3);
        metrics.cache_misses.inc();
        metrics.cluster_nodes.set(5);
        metrics.cluster_healthy_nodes.set(4);
        metrics.cluster_leader_elections.inc();
        metrics.cluster_state_replications.inc_by(2);
        let node = NodeLabels { node: "reader-1".to_owned() };
        metrics.replication_lag_seconds.get_or_create(&node).set(1.5);
        metrics.wal_entries_applied.inc_by(7);
        metrics.traffic.record(std::time::Duration::from_millis(1), false);
        let lines = lines(&metrics);
        for line in [
            "brainy_vector_count 3",
            "brainy_cache_hit_rate 0.75",
            "brainy_cluster_nodes_total 5",
            "brainy_cluster_healthy_nodes 4",
            "brainy_cluster_leader_elections_total 1",
            "brainy_cluster_state_replications_total 2",
            "brainy_replication_lag_seconds{node=\"reader-1\"} 1.5",
            "brainy_replication_events_total 7",
        ] {
            assert!(lines.iter().any(|found| found == line), "{line} is not in {lines:#?}");
        }
        for name in ["brainy_memory_usage ", "brainy_rps "] {
            let line = lines.iter().find(|line| line.starts_with(name)).expect(name);
            assert!(line[name.len()..].parse::<f64>().unwrap() > 0.0, "{line}");
        }
    }

    #[test]
    fn the_documentation_lists_every_metric() {
        let metrics = Metrics::default();
        // A family without members does not appear.
        let (op, outcome, task) = ("get", "ok", "index");
        metrics.store_requests.get_or_create(&StoreLabels { op, outcome }).inc();
        metrics.store_seconds.get_or_create(&OpLabels { op }).observe(0.1);
        metrics.store_cost_dollars.get_or_create(&OpLabels { op }).inc();
        metrics.upkeep_running.get_or_create(&TaskLabels { task }).inc();
        metrics.upkeep_seconds.get_or_create(&TaskLabels { task }).observe(0.1);
        metrics.cluster_writes.get_or_create(&ClusterLabels { outcome }).inc();
        let node = NodeLabels { node: "a".to_owned() };
        metrics.replication_lag_seconds.get_or_create(&node).set(0.1);
        metrics.collector_failing.name("a", 1);
        let damage = DamageLabels { kind: "segment" };
        metrics.damaged.get_or_create(&damage).inc();
        metrics.damage_found.get_or_create(&damage).inc();
        let http = HttpLabels { route: "/docs".to_owned(), method: "GET", status: 200 };
        metrics.http_requests.get_or_create(&http).inc();
        let text = metrics.encode();
        let mut served: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next())
            .collect();
        let page = include_str!("../../docs/metrics.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let mut listed: Vec<&str> = rows.map(|name| name.trim_end_matches("_total")).collect();
        // The one gauge whose name ends like a counter's.
        served.iter_mut().for_each(|name| *name = name.trim_end_matches("_total"));
        served.sort_unstable();
        listed.sort_unstable();
        assert_eq!(listed, served);
    }

    #[test]
    fn a_cache_that_nobody_asked_has_no_hit_rate() {
        let metrics = Metrics::default();
        assert_eq!(metrics.cache_hit_rate(), None);
        metrics.cache_misses.inc();
        assert_eq!(metrics.cache_hit_rate(), Some(0.0));
    }
}
