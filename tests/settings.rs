//! Settings in layers: what wins, what is refused, and what the documentation says.

use brainy::base::settings::{
    ALIASES, Effective, FlagValue, NOT_NEEDED, ReplicationMode, Role, RoleSource, Settings, Source,
    keys, load, range, resolve_role,
};
use brainy::base::{Code, Error};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn flag(flag: &str, key: &str, value: &str) -> FlagValue {
    FlagValue { flag: flag.to_owned(), key: key.to_owned(), value: value.to_owned() }
}

fn from_env(pairs: &[(&str, &str)]) -> Result<Effective, Error> {
    load(None, env(pairs), &[])
}

/// A settings file in a folder that lives as long as the first value.
fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

/// The message of an error about settings, which must mention all of `words`.
#[track_caller]
fn refused(result: Result<Effective, Error>, words: &[&str]) {
    let error = result.expect_err("accepted");
    assert_eq!(error.code(), Code::InvalidSettings);
    for word in words {
        assert!(error.message().contains(word), "{word:?} in {error}");
    }
}

#[test]
fn nothing_set_means_defaults() {
    let effective = from_env(&[("PATH", "/bin"), ("AWS_REGION", "eu-north-1")]).unwrap();
    assert_eq!(effective.settings, Settings::default());
    assert!(keys().iter().all(|key| effective.source(key) == &Source::Default));
    assert_eq!(keys().len(), effective.settings.to_map().len());
}

#[test]
fn flags_beat_the_environment_beats_the_file_beats_defaults() {
    let (_dir, path) =
        file("a.toml", "listen = '127.0.0.1:1'\npoll_interval_ms = 2_000\nwait_ms_max = 7");
    let environment = env(&[("BRAINY_LISTEN", "127.0.0.1:2"), ("BRAINY_POLL_INTERVAL_MS", "3000")]);
    let flags = [flag("--listen", "listen", "127.0.0.1:3")];
    let effective = load(Some(&path), environment, &flags).unwrap();
    let settings = &effective.settings;
    assert_eq!(settings.listen, "127.0.0.1:3");
    assert_eq!(settings.poll_interval_ms, 3_000);
    assert_eq!(settings.wait_ms_max, 7);
    assert_eq!(effective.source("listen"), &Source::Flag("--listen".into()));
    let variable = Source::Env("BRAINY_POLL_INTERVAL_MS".into());
    assert_eq!(effective.source("poll_interval_ms"), &variable);
    let file = Source::File(path.display().to_string());
    assert_eq!(effective.source("wait_ms_max"), &file);
    assert_eq!(effective.source("fsync"), &Source::Default);
}

#[test]
fn every_setting_can_come_from_the_environment() {
    for key in keys() {
        let value = match (Settings::default().to_map()[*key].clone(), *key) {
            (Value::String(text), _) => text,
            (Value::Null, "role") => "reader".to_owned(),
            (Value::Null, "read_only" | "write_only") => "true".to_owned(),
            (Value::Null, "service_endpoint" | "otlp_endpoint") => "http://a:1".to_owned(),
            (Value::Null, "partition_strategy") => "hash".to_owned(),
            (Value::Null, "partition_count" | "dimensions") => "7".to_owned(),
            (Value::Null, "cors_allowed_origins") => "http://a:1".to_owned(),
            (Value::Null, "memory_limit_bytes") => "16777216".to_owned(),
            (Value::Null, "distance_metric") => "dot".to_owned(),
            (Value::Null, _) => "x".to_owned(),
            (other, _) => other.to_string(),
        };
        let name = format!("BRAINY_{}", key.to_uppercase());
        let effective = from_env(&[(&name, &value)]).unwrap();
        assert_eq!(effective.source(key), &Source::Env(name));
        let map = effective.settings.to_map();
        let text = map[*key].as_str().map(str::to_owned);
        assert_eq!(text.unwrap_or_else(|| map[*key].to_string()), value);
    }
}

#[test]
fn the_file_may_be_json_and_named_by_the_environment() {
    let (_dir, path) = file("a.json", r#"{"fsync": false, "role": null, "store_retries": 9}"#);
    let effective = from_env(&[("BRAINY_CONFIG", path.to_str().unwrap())]).unwrap();
    assert!(!effective.settings.fsync);
    assert_eq!(effective.settings.store_retries, 9);
    let (_dir, other) = file("b.toml", "store_retries = 1");
    let environment = env(&[("BRAINY_CONFIG", path.to_str().unwrap())]);
    let effective = load(Some(&other), environment, &[]).unwrap();
    assert_eq!(effective.settings.store_retries, 1);
}

#[test]
fn the_service_endpoint_has_two_names_and_empty_variables_are_not_set() {
    let effective = from_env(&[("SERVICE_ENDPOINT", "http://a:1")]).unwrap();
    assert_eq!(effective.settings.service_endpoint.as_deref(), Some("http://a:1"));
    let both = [("SERVICE_ENDPOINT", "http://a:1"), ("BRAINY_SERVICE_ENDPOINT", "http://b:1")];
    let effective = from_env(&both).unwrap();
    assert_eq!(effective.settings.service_endpoint.as_deref(), Some("http://b:1"));
    let effective = from_env(&[("BRAINY_ROLE", ""), ("BRAINY_CONFIG", "")]).unwrap();
    assert_eq!(effective.settings.role, None);
}

#[test]
fn unknown_names_are_refused_with_the_nearest_known_one() {
    let (_dir, path) = file("a.toml", "poll_intervall_ms = 100");
    refused(
        load(Some(&path), env(&[]), &[]),
        &["\"poll_intervall_ms\"", "a.toml", "did you mean poll_interval_ms?"],
    );
    refused(
        from_env(&[("BRAINY_STORE_RETRY", "1")]),
        &["BRAINY_STORE_RETRY", "did you mean BRAINY_STORE_RETRIES?"],
    );
    refused(from_env(&[("BRAINY_CONFG", "1")]), &["did you mean BRAINY_CONFIG?"]);
    refused(
        load(None, env(&[]), &[flag("--set", "fsink", "true")]),
        &["--set", "did you mean fsync?"],
    );
    from_env(&[("BRAINY_TEST_S3_URL", "x")]).unwrap();
}

#[test]
fn wrong_types_name_the_key_the_source_and_what_is_expected() {
    let number = "an integer of 0 to";
    let cases: &[(&str, &[&str])] = &[
        ("poll_interval_ms = '5s'", &["poll_interval_ms", number, "\"5s\""]),
        ("poll_interval_ms = -5", &["poll_interval_ms", number, "-5"]),
        ("poll_interval_ms = 100.5", &["poll_interval_ms", number, "100.5"]),
        ("store_retries = 5000000000", &["store_retries", number, "4294967295"]),
        ("fsync = 'yes'", &["fsync", "true or false"]),
        ("role = 'boss'", &["role", "writer, reader, hybrid", "\"boss\""]),
        ("role = 3", &["role", "writer, reader, hybrid"]),
        ("log_format = 'xml'", &["log_format", "text, json"]),
        ("listen = 3000", &["listen", "a string", "3000"]),
        ("[store]\nurl = 'memory:'", &["store", "a string", "a table"]),
    ];
    for (text, words) in cases {
        let (_dir, path) = file("a.toml", text);
        let result = load(Some(&path), env(&[]), &[]);
        refused(result, &[words, &["a.toml"][..]].concat());
    }
    for (name, value) in [("POLL_INTERVAL_MS", "+100"), ("FSYNC", "TRUE"), ("ROLE", "Writer")] {
        let name = format!("BRAINY_{name}");
        refused(from_env(&[(&name, value)]), &[&name, "must be", value]);
    }
}

#[test]
fn files_that_cannot_be_read_are_refused() {
    let missing = load(Some(Path::new("no/such.toml")), env(&[]), &[]);
    refused(missing, &["no/such.toml", "could not be read"]);
    for (name, text, word) in [
        ("a.toml", "store = ", "is not valid TOML"),
        ("a.json", "{", "is not valid JSON"),
        ("a.json", "[]", "is not valid JSON"),
        ("a.yaml", "store: x", "name it .toml or .json"),
    ] {
        let (_dir, path) = file(name, text);
        refused(load(Some(&path), env(&[]), &[]), &[word]);
    }
}

#[test]
fn values_out_of_range_are_refused() {
    for key in keys() {
        let Some((min, max)) = range(key) else {
            continue;
        };
        let name = format!("BRAINY_{}", key.to_uppercase());
        let below = min.checked_sub(1).map(|value| value.to_string());
        for value in below.into_iter().chain([(max + 1).to_string()]) {
            refused(from_env(&[(&name, &value)]), &[key, &name, &value]);
        }
    }
    for (name, value, word) in [
        ("BRAINY_LISTEN", "3000", "ADDRESS:PORT"),
        ("BRAINY_LISTEN", "localhost:99999", "ADDRESS:PORT"),
        ("BRAINY_STORE", "gs://bucket", "unknown scheme \"gs\""),
        ("BRAINY_STORE", "s3:///prefix", "no bucket"),
        ("BRAINY_STORE", "file://", "no folder"),
        ("BRAINY_SERVICE_ENDPOINT", "reader:3000", "http://"),
        ("BRAINY_INSTANCE_ID", "a/b", "1 to 128"),
        ("BRAINY_OTLP_ENDPOINT", "collector:4318", "http://"),
        ("BRAINY_DATA_DIR", "s3://bucket", "is a URL"),
        ("BRAINY_CONFIG_PATH", "/_brainy/config.json", "a key in the store"),
        ("BRAINY_CONFIG_PATH", "a/../config.json", "'..'"),
        ("BRAINY_CONFIG_PATH", "a//config.json", "a key in the store"),
        ("BRAINY_CONFIG_PATH", "_brainy/config.toml", "ends in .json"),
        ("BRAINY_CONFIG_PATH", "_brainy/.json", "ends in .json"),
        ("BRAINY_EMBEDDING_MODEL", "a\nb", "control characters"),
        ("BRAINY_PARTITION_STRATEGY", "range", "hash"),
        ("BRAINY_REPLICATION_MODE", "async", "eventual, sync"),
        ("BRAINY_LOG_LEVEL", "brainy=loud", "brainy=debug"),
    ] {
        refused(from_env(&[(name, value)]), &[name, word]);
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused_and_all_faults_are_named() {
    let small = [("BRAINY_WRITE_QUEUE_MAX_BYTES", "1000"), ("BRAINY_GC_GRACE_MS", "1")];
    refused(from_env(&small), &["batch_max_bytes", "(1000)", "gc_grace_ms", "10000"]);
    refused(
        from_env(&[("BRAINY_HEARTBEAT_INTERVAL_MS", "60000")]),
        &["instance_timeout_ms is 60000", "at least twice heartbeat_interval_ms (60000)"],
    );
    let timeout = ("BRAINY_STORE_CAS_TIMEOUT_MS", "29999");
    from_env(&[timeout]).unwrap();
    refused(
        from_env(&[timeout, ("BRAINY_STORE", "S3://bucket")]),
        &["store_cas_timeout_ms", "at least 30000 on S3"],
    );
    let settings = Settings { batch_max_records: 0, ..Settings::default() };
    assert_eq!(settings.validate().unwrap_err().details()["key"], "batch_max_records");
}

#[test]
fn passwords_are_not_shown() {
    let effective = from_env(&[("BRAINY_STORE", "s3://key:hunter2@bucket/p")]).unwrap();
    let shown = format!("{:?} {:?}", effective, effective.shown());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("s3://key:***@bucket/p"), "{shown}");
}

#[test]
fn the_role_has_one_precedence() {
    let (_dir, path) = file("a.toml", "role = 'writer'\nread_only = true");
    let role = |file: Option<&Path>, pairs: &[(&str, &str)], flags: &[FlagValue]| {
        resolve_role(&load(file, env(pairs), flags).unwrap())
    };
    let s3 = ("BRAINY_STORE", "s3://bucket");
    let hybrid_flag = [flag("--role", "role", "hybrid")];

    // The variable beats even the flag, unlike for every other setting.
    let found = role(Some(&path), &[s3, ("BRAINY_ROLE", "reader")], &hybrid_flag).unwrap();
    assert_eq!(found, (Role::Reader, RoleSource::Environment));
    let found = role(Some(&path), &[s3], &hybrid_flag).unwrap();
    let source = Source::Flag("--role".into());
    assert_eq!(found, (Role::Hybrid, RoleSource::Explicit(source)));
    let found = role(Some(&path), &[s3], &[]).unwrap();
    let source = Source::File(path.display().to_string());
    assert_eq!(found, (Role::Writer, RoleSource::Explicit(source)));

    let found = role(None, &[s3, ("BRAINY_READ_ONLY", "true")], &[]).unwrap();
    let source = Source::Env("BRAINY_READ_ONLY".into());
    assert_eq!(found, (Role::Reader, RoleSource::Inferred("read_only", source)));
    let found = role(None, &[s3, ("BRAINY_WRITE_ONLY", "true")], &[]).unwrap();
    assert_eq!(found.0, Role::Writer);
    let both = [("BRAINY_READ_ONLY", "true"), ("BRAINY_WRITE_ONLY", "true")];
    let error = role(None, &both, &[]).unwrap_err();
    assert!(error.message().contains("both true"), "{error}");

    for store in ["memory:", "file:///tmp/x", "./folder", "/tmp/x"] {
        let found = role(None, &[("BRAINY_STORE", store)], &[]).unwrap();
        assert_eq!(found, (Role::Hybrid, RoleSource::Standalone));
    }
    let none = [s3, ("BRAINY_READ_ONLY", "false")];
    let error = role(None, &none, &[]).unwrap_err();
    assert_eq!(error.code(), Code::InvalidSettings);
    assert!(error.message().contains("set BRAINY_ROLE, --role or role"), "{error}");
}

/// What is said about the names from elsewhere.
fn notices(effective: &Effective) -> Vec<String> {
    effective.notices().iter().map(ToString::to_string).collect()
}

#[test]
fn variables_from_elsewhere_are_translated_and_named() {
    let effective = from_env(&[
        ("CLUSTER_ENABLED", "true"),
        ("CLUSTER_NODE_ID", "n1"),
        ("CLUSTER_NODE_ROLE", "replica"),
        ("CLUSTER_ADVERTISE_ADDRESS", "n1:3000"),
        ("CLUSTER_REPLICATION_MODE", "sync"),
        ("CLUSTER_BATCH_SIZE", "77"),
        ("CLUSTER_PEERS", "n2:7000,n3:7000"),
        ("CLUSTER_NAME", "belongs to somebody else"),
    ])
    .unwrap();
    let settings = &effective.settings;
    assert_eq!(settings.instance_id.as_deref(), Some("n1"));
    assert_eq!(settings.role, Some(Role::Reader));
    assert_eq!(settings.service_endpoint.as_deref(), Some("http://n1:3000"));
    assert_eq!(settings.replication_mode, ReplicationMode::Sync);
    assert_eq!(settings.batch_max_records, 77);
    let source = effective.source("instance_id");
    assert_eq!(source.to_string(), "variable CLUSTER_NODE_ID");
    let told = notices(&effective);
    assert_eq!(told.len(), 7, "{told:?}");
    for line in [
        "CLUSTER_NODE_ID is an alias of instance_id",
        "CLUSTER_NODE_ROLE is an alias of role",
        "CLUSTER_ENABLED is not needed: every instance on a store is in its cluster",
        "CLUSTER_PEERS is not needed: instances find each other in the shared config on the store",
    ] {
        assert!(told.iter().any(|told| told == line), "{line} is not in {told:?}");
    }
}

#[test]
fn a_section_from_elsewhere_is_read_in_both_formats() {
    let toml = "replication_timeout_ms = 5\n[cluster]\nenabled = true\nnode_id = 'n1'\n\
                mode = 'primary'\nheartbeat_interval_ms = 1_000\nheartbeat_timeout_ms = '3s'\n\
                leader_election_timeout_ms = 5000\nmax_lag_bytes = 1_048_576\n\
                max_lag_time = '30s'\nmax_reconnect_tries = 3\nreconnect_interval = '5s'";
    let json = r#"{"replication_timeout_ms": 5, "cluster": {"enabled": true, "node_id": "n1",
        "mode": "primary", "heartbeat_interval_ms": 1000, "heartbeat_timeout_ms": "3s",
        "leader_election_timeout_ms": 5000, "max_lag_bytes": 1048576, "max_lag_time": "30s",
        "max_reconnect_tries": 3, "reconnect_interval": "5s", "peers": null}}"#;
    for (name, text) in [("a.toml", toml), ("a.json", json)] {
        let (_dir, path) = file(name, text);
        let effective = load(Some(&path), env(&[]), &[]).unwrap();
        let expected = Settings {
            instance_id: Some("n1".to_owned()),
            role: Some(Role::Hybrid),
            heartbeat_interval_ms: 1_000,
            instance_timeout_ms: 3_000,
            leader_lease_ms: 5_000,
            lag_max_bytes: 1 << 20,
            lag_max_ms: 30_000,
            store_retries: 3,
            replication_timeout_ms: 5,
            ..Settings::default()
        };
        assert_eq!(effective.settings, expected, "{name}");
        let shown = path.display();
        let source = effective.source("lag_max_ms").to_string();
        assert_eq!(source, format!("file {shown}, max_lag_time in [cluster]"));
        let told = notices(&effective);
        assert_eq!(told.len(), 10, "{told:?}");
        assert!(
            told.contains(&format!(
                "max_lag_time in [cluster] of {shown} is an alias of lag_max_ms"
            ))
        );
        let not_needed = format!("reconnect_interval in [cluster] of {shown} is not needed: ");
        assert!(told.iter().any(|line| line.starts_with(&not_needed)), "{told:?}");
    }
}

#[test]
fn our_own_name_goes_before_an_alias_and_a_later_layer_before_both() {
    let (_dir, path) = file("a.toml", "instance_id = 'own'\n[cluster]\nnode_id = 'alias'");
    let id = |pairs: &[(&str, &str)], flags: &[FlagValue]| {
        load(Some(&path), env(pairs), flags).unwrap().settings.instance_id.unwrap()
    };
    let (alias, own) = (("CLUSTER_NODE_ID", "e-alias"), ("BRAINY_INSTANCE_ID", "e-own"));
    let node = flag("--node-id", "cluster.node_id", "f-alias");
    let set = flag("--set", "cluster.node_id", "s-alias");
    let instance = flag("--instance-id", "instance_id", "f-own");
    assert_eq!(id(&[], &[]), "own");
    assert_eq!(id(&[alias], &[]), "e-alias");
    assert_eq!(id(&[alias, own], &[]), "e-own");
    assert_eq!(id(&[alias, own], std::slice::from_ref(&node)), "f-alias");
    assert_eq!(id(&[], std::slice::from_ref(&set)), "s-alias");
    assert_eq!(id(&[], &[instance, node]), "f-own");
    let endpoints =
        [("CLUSTER_ADVERTISE_ADDRESS", "https://a:1"), ("SERVICE_ENDPOINT", "http://b:1")];
    let effective = from_env(&endpoints).unwrap();
    assert_eq!(effective.settings.service_endpoint.as_deref(), Some("http://b:1"));
    let effective = from_env(&endpoints[..1]).unwrap();
    assert_eq!(effective.settings.service_endpoint.as_deref(), Some("https://a:1"));
}

#[test]
fn an_alias_of_the_role_beats_no_flag_and_a_cluster_that_is_off_is_one_hybrid() {
    let role = |pairs: &[(&str, &str)], flags: &[FlagValue]| {
        resolve_role(&load(None, env(pairs), flags).unwrap()).unwrap()
    };
    let replica = ("CLUSTER_NODE_ROLE", "replica");
    let found = role(&[replica], &[flag("--role", "role", "writer")]);
    assert_eq!(found.0, Role::Writer);
    let found = role(&[replica], &[flag("--cluster-mode", "cluster.mode", "primary")]);
    assert_eq!(found, (Role::Hybrid, RoleSource::Explicit(Source::Flag("--cluster-mode".into()))));
    let found = role(&[replica], &[]);
    let source = Source::Env("CLUSTER_NODE_ROLE".into());
    assert_eq!(found, (Role::Reader, RoleSource::Explicit(source)));
    let flags = [flag("--cluster-mode", "cluster.mode", "replica")];
    assert_eq!(role(&[("BRAINY_ROLE", "writer")], &flags).0, Role::Writer);
    assert_eq!(role(&[replica, ("CLUSTER_ENABLED", "false")], &[]).0, Role::Hybrid);
    assert_eq!(role(&[replica, ("CLUSTER_ENABLED", "true")], &[]).0, Role::Reader);
}

#[test]
fn faults_in_names_from_elsewhere_are_refused() {
    for (text, words) in [
        ("[cluster]\nnode_idd = 'a'", &["\"node_idd\"", "[cluster]", "did you mean node_id?"][..]),
        ("[cluster]\npeer = []", &["did you mean peers?"]),
        ("cluster = 3", &["cluster", "must be a table"]),
        ("[cluster]\nmode = 'boss'", &["role", "mode in [cluster]", "primary", "\"boss\""]),
        ("[cluster]\nmax_lag_time = 'soon'", &["lag_max_ms", "max_lag_time", "\"30s\""]),
        ("[cluster]\nmax_lag_bytes = '1 MB'", &["lag_max_bytes", "an integer"]),
        ("[cluster]\nheartbeat_timeout_ms = 1", &["instance_timeout_ms", "heartbeat_timeout_ms"]),
        ("[cluster]\nnode_id = 'a b'", &["instance_id", "node_id in [cluster]", "1 to 128"]),
    ] {
        let (_dir, path) = file("a.toml", text);
        refused(load(Some(&path), env(&[]), &[]), &[words, &["a.toml"]].concat());
    }
    refused(from_env(&[("CLUSTER_BATCH_SIZE", "many")]), &["CLUSTER_BATCH_SIZE", "an integer"]);
    refused(
        load(None, env(&[]), &[flag("--set", "cluster.node_idd", "x")]),
        &["did you mean cluster.node_id?"],
    );
}

#[test]
fn verbose_raises_the_level_of_what_it_names_only() {
    let settings = Settings { verbose: true, ..Settings::default() };
    let filter = settings.log_filter("warn");
    assert!(filter.ends_with(",warn") && filter.contains("brainy::role=debug"), "{filter}");
    assert_eq!(Settings::default().log_filter("warn"), "warn");
}

#[test]
fn the_samples_are_valid() {
    for role in ["writer", "reader", "hybrid"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("config/{role}.toml"));
        let effective = load(Some(&path), env(&[]), &[]).unwrap();
        assert_eq!(resolve_role(&effective).unwrap().0.name(), role);
    }
}

/// The rows of the table under a heading of a page.
fn rows<'a>(text: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let section = text.split_once(&format!("\n{heading}\n")).expect(heading).1;
    section
        .lines()
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect()
}

#[test]
fn the_documentation_lists_every_name_from_elsewhere() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
    let text = std::fs::read_to_string(path).unwrap();
    let name = |cell: &str| cell.trim_matches('`').to_owned();
    let documented: Vec<_> = rows(&text, "## Names from elsewhere")
        .iter()
        .map(|row| (name(row[1]), name(row[2]), name(row[3])))
        .collect();
    let variable = |name: &str| format!("CLUSTER_{}", name.to_uppercase());
    let known: Vec<_> = ALIASES
        .iter()
        .map(|alias| (alias.name.to_owned(), variable(alias.name), alias.key.to_owned()))
        .collect();
    assert_eq!(documented, known);
    let rows = rows(&text, "## Names that are not needed");
    let documented: Vec<String> =
        rows.iter().flat_map(|row| row[1].split(", ").map(name)).collect();
    let known: Vec<&str> = NOT_NEEDED.iter().map(|one| one.name).collect();
    assert_eq!(documented, known);
}

#[test]
fn the_documentation_lists_every_setting_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = rows(&text, "## All settings");
    let names: Vec<&str> = rows.iter().map(|row| row[1].trim_matches('`')).collect();
    assert_eq!(names, keys());
    let defaults = Settings::default().to_map();
    for row in rows {
        let key = row[1].trim_matches('`');
        let default = match &defaults[key] {
            Value::Null => "unset".to_owned(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        assert_eq!(row[2], default, "default of {key}");
        let unit = match key {
            key if key.ends_with("_ms") || key.contains("_ms_") => "milliseconds",
            key if key.contains("bytes") => "bytes",
            _ => "",
        };
        assert_eq!(row[3], unit, "unit of {key}");
        match range(key) {
            Some((min, max)) => assert_eq!(row[4], format!("`{min}` to `{max}`"), "{key}"),
            None => assert!(!row[4].is_empty(), "range of {key}"),
        }
        assert!(row[5].len() > 15, "meaning of {key}");
    }
}
