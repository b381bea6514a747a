use super::*;

/// The lines of the text that are not comments.
fn lines(metrics: &Metrics) -> Vec<String> {
    let text = metrics.encode(TextFormat::Prometheus);
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
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
    let metrics = Metrics::of_process();
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
    metrics
        .http_seconds
        .get_or_create(&RouteLabels { route: http.route, method: "GET" })
        .observe(0.1);
    metrics.largest_collections.set(vec![figures("a", 1)]);
    let text = metrics.encode(TextFormat::Prometheus);
    let mut served: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect();
    let page = include_str!("../../../docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let mut listed: Vec<&str> = rows.collect();
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

fn figures(name: &str, bytes: u64) -> CollectionFigures {
    CollectionFigures {
        name: name.to_owned(),
        records: 2 * bytes,
        tail_rows: 3,
        unindexed_bytes: 4,
        segments: 5,
        segment_bytes: bytes,
    }
}

#[test]
fn the_largest_collections_have_figures_of_their_own_and_there_are_few() {
    let metrics = Metrics::default();
    let all = (0..1_000).map(|n| figures(&format!("c{n}"), n)).collect();
    metrics.largest_collections.set(all);
    let shown: Vec<String> =
        lines(&metrics).into_iter().filter(|line| line.starts_with("brainy_collection_")).collect();
    assert_eq!(shown.len(), 5 * COLLECTIONS_SHOWN_MAX);
    for line in [
        "brainy_collection_records{collection=\"c999\"} 1998",
        "brainy_collection_tail_rows{collection=\"c980\"} 3",
        "brainy_collection_segment_bytes{collection=\"c980\"} 980",
    ] {
        assert!(shown.iter().any(|found| found == line), "{line} is not in {shown:#?}");
    }
    metrics.largest_collections.set(Vec::new());
    assert!(!lines(&metrics).iter().any(|line| line.starts_with("brainy_collection_")));
}

/// What Prometheus' own linter demands of names and types, and that each metric is described once.
#[test]
fn names_are_as_the_conventions_have_them() {
    let metrics = Metrics::of_process();
    metrics.largest_collections.set(vec![figures("a", 1)]);
    let open = metrics.encode(TextFormat::OpenMetrics);
    assert!(open.ends_with("# EOF\n") && open.contains("\n# TYPE process_cpu_seconds counter\n"));
    let text = metrics.encode(TextFormat::Prometheus);
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let types: Vec<(&str, &str)> = types.collect();
    let names: std::collections::BTreeSet<&str> = types.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), types.len(), "twice: {types:?}");
    for (name, kind) in types {
        let counts = name.ends_with("_total");
        assert_eq!(counts, matches!(kind, "counter" | "untyped"), "{name} is a {kind}");
        let plain = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(name.chars().all(plain), "{name}");
        assert!(name.starts_with("brainy_") || name.starts_with("process_"), "{name}");
    }
    let build = format!("\nbrainy_build_info{{version=\"{}\",commit=\"", env!("CARGO_PKG_VERSION"));
    assert!(text.contains(&build), "{text}");
}

#[test]
fn a_process_tells_what_every_process_tells() {
    let lines = lines(&Metrics::of_process());
    let value = |name: &str| {
        let line = lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in {lines:#?}")).parse::<f64>().unwrap()
    };
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_virtual_memory_bytes") > value("process_resident_memory_bytes"));
    assert!(value("process_cpu_seconds_total") >= 0.0);
    assert!(value("process_start_time_seconds") > 1.6e9);
    assert!(value("process_open_fds") >= 3.0);
    assert!(value("process_max_fds") >= value("process_open_fds"));
    // Where a seed decides everything, nothing is asked.
    assert!(!Metrics::default().encode(TextFormat::Prometheus).contains("process_"));
}
