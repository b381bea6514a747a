use super::*;

fn instance(session: &str, beat: u64) -> Instance {
    let text = serde_json::json!({ "role": "reader", "session": session, "beat": beat });
    serde_json::from_value(text).unwrap()
}

fn config(version: u64, instances: &[(&str, Instance)]) -> SharedConfig {
    let instances = instances.iter().map(|(id, entry)| ((*id).to_owned(), entry.clone()));
    SharedConfig { version, instances: instances.collect(), ..Default::default() }
}

/// The page of the design, word for word.
const DESIGN: &str = r#"{"version": 412, "updated": "2026-01-15T10:30:00Z",
 "settings": {"partitionStrategy": "hash", "partitionCount": 100, "embeddingModel": "text-embedding-ada-002",
              "dimensions": 1536, "distanceMetric": "cosine"},
 "instances": {"writer-01": {"role": "writer", "status": "active", "lastHeartbeat": "2026-01-15T10:29:50Z",
               "endpoint": "http://writer-01:3000",
               "metrics": {"vectorCount": 1000000, "cacheHitRate": 0.2, "memoryUsage": 512000000}}}}"#;

#[test]
fn a_page_as_people_write_it_is_understood() {
    let config = SharedConfig::parse(DESIGN.as_bytes()).unwrap();
    assert_eq!(config.version, 412);
    assert_eq!(config.settings.dimensions, Some(1536));
    let writer = &config.instances["writer-01"];
    assert_eq!((writer.role, &writer.status), (Role::Writer, &Status::Active));
    assert_eq!(writer.metrics.vector_count, 1_000_000);
    assert_eq!(SharedConfig::parse(&config.encode().unwrap()).unwrap(), config);
}

#[test]
fn what_a_newer_version_wrote_is_kept_at_every_level() {
    let text = r#"{"version": 1, "moon": {"x": 1}, "settings": {"colour": "red"},
        "leader": {"id": "a", "epoch": 2, "why": true}, "failover": {"kind": "x"},
        "instances": {"a": {"role": "reader", "status": "dreaming", "zone": "b",
                            "metrics": {"heat": 1.5}}}}"#;
    let config = SharedConfig::parse(text.as_bytes()).unwrap();
    let again: Value = serde_json::from_slice(&config.encode().unwrap()).unwrap();
    for (pointer, value) in [
        ("/moon/x", Value::from(1)),
        ("/settings/colour", "red".into()),
        ("/leader/why", true.into()),
        ("/failover/kind", "x".into()),
        ("/instances/a/status", "dreaming".into()),
        ("/instances/a/zone", "b".into()),
        ("/instances/a/metrics/heat", 1.5.into()),
    ] {
        assert_eq!(again.pointer(pointer), Some(&value), "{pointer}");
    }
    // A heartbeat of the instance replaces what it knows, and nothing else.
    let mut entry = config.instances["a"].clone();
    entry.wanted_role = Some(Role::Writer);
    entry.renew(&instance("s", 2));
    assert_eq!((entry.beat, entry.wanted_role), (2, Some(Role::Writer)));
    assert_eq!(entry.extra["zone"], "b");
}

#[test]
fn a_broken_page_is_reported_where_it_is_broken() {
    for (text, line, column) in [
        ("{\n  \"version\": 1,\n  \"settings\": {,}\n}", 3, 16),
        ("{\"version\": \"x\"}", 1, 15),
        ("{\n\"instances\": {\"a\": {\n\"role\": \"boss\"}}}", 3, 14),
        ("{\"settings\": {\"colour\": [1],\n  \"distanceMetric\": \"cosin\"}}", 2, 27),
        ("", 1, 0),
        ("[]", 1, 0),
    ] {
        let error = SharedConfig::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.code(), Code::SharedConfigInvalid, "{text}");
        assert_eq!(error.details()["line"], line, "{text}: {error}");
        assert_eq!(error.details()["column"], column, "{text}: {error}");
    }
}

#[test]
fn every_instance_has_a_line_of_its_own() {
    let config = config(1, &[("a", instance("s", 1)), ("b", instance("t", 1))]);
    let text = String::from_utf8(config.encode().unwrap()).unwrap();
    let lines = text.lines().filter(|line| line.contains("\"role\"")).count();
    assert_eq!(lines, 2, "{text}");
}

#[test]
fn settings_that_differ_are_listed_with_both_values() {
    let cluster = SharedConfig::parse(DESIGN.as_bytes()).unwrap().settings;
    let given = ClusterSettings {
        dimensions: Some(384),
        distance_metric: Some(DistanceMetric::Dot),
        partition_count: Some(100),
        ..Default::default()
    };
    let error = cluster.check(&given).unwrap_err();
    assert_eq!(error.code(), Code::SettingsConflict);
    assert!(error.message().contains("dimensions is 384 here and 1536"), "{error}");
    let conflicts = error.details()["conflicts"].as_array().unwrap();
    assert_eq!(conflicts.len(), 2);
    assert_eq!(conflicts[1]["field"], "distanceMetric");
    cluster.check(&ClusterSettings::default()).unwrap();
    let mut fresh = ClusterSettings::default();
    assert!(fresh.fill(&given));
    assert!(!fresh.fill(&cluster.clone()) || fresh.dimensions == Some(384));
}

#[test]
fn an_older_copy_turns_back_what_people_steer_and_nothing_else() {
    let mut now = config(9, &[("a", instance("s2", 5)), ("b", instance("t", 7))]);
    now.settings.dimensions = Some(3);
    now.leader = Some(LeaderNote { id: "a".into(), epoch: 4, extra: Map::new() });
    let mut old = config(4, &[("a", instance("s1", 9)), ("b", instance("t", 1))]);
    old.settings.dimensions = Some(4);
    old.instances.get_mut("b").unwrap().wanted_role = Some(Role::Writer);
    old.instances.insert("new".into(), instance("z", 1));
    let merged = now.restore(&old);
    assert_eq!(merged.version, 9);
    assert_eq!(merged.settings.dimensions, Some(4));
    assert_eq!(merged.leader.as_ref().unwrap().epoch, 4);
    assert_eq!(merged.instances["a"].session.as_deref(), Some("s2"));
    assert_eq!(merged.instances["b"].beat, 7);
    assert_eq!(merged.instances["b"].wanted_role, Some(Role::Writer));
    assert!(merged.instances.contains_key("new"));
}

#[test]
fn a_wanted_role_outlives_the_entry() {
    let mut entry = instance("s", 1);
    entry.wanted_role = Some(Role::Writer);
    let mut config = config(1, &[("a", entry)]);
    config.take_out("a", Timestamp(1));
    assert!(config.instances.is_empty());
    config.enter("a", &instance("t", 1));
    assert_eq!(config.instances["a"].wanted_role, Some(Role::Writer));
    assert!(config.absent_roles.is_empty());
}

#[test]
fn an_order_outlives_a_restart_but_not_another_role_in_the_settings() {
    let life = |session: &str, configured: Option<Role>| Instance {
        configured_role: configured,
        ..instance(session, 1)
    };
    let (reader, writer) = (Some(Role::Reader), Some(Role::Writer));
    for (before, after, wanted) in [
        (reader, reader, writer),
        (reader, Some(Role::Hybrid), None),
        // What an older version wrote says nothing against the order.
        (None, reader, writer),
        (reader, None, writer),
    ] {
        let promoted = Instance { wanted_role: writer, ..life("s", before) };
        let mut killed = config(1, &[("a", promoted.clone())]);
        killed.enter("a", &life("t", after));
        assert_eq!(killed.instances["a"].wanted_role, wanted, "{before:?} {after:?}");
        let mut left = config(1, &[("a", promoted)]);
        left.take_out("a", Timestamp(1));
        left.enter("a", &life("t", after));
        assert_eq!(left.instances["a"].wanted_role, wanted, "{before:?} {after:?}");
        assert!(left.absent_roles.is_empty());
    }
}

#[test]
fn an_endpoint_in_the_store_is_shown_without_what_is_secret() {
    for (written, shown) in [
        ("http://writer:3000", "http://writer:3000"),
        ("http://ada:hunter2@writer:3000", "http://writer:3000"),
        ("http://writer:3000/base?token=hunter2#x", "http://writer:3000/base"),
        ("not a url", "not a url"),
    ] {
        let entry = serde_json::json!({ "role": "reader", "endpoint": written });
        let entry: Instance = serde_json::from_value(entry).unwrap();
        assert_eq!(entry.endpoint.as_deref(), Some(shown));
    }
}
