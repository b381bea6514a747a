//! Settings, usage and errors.

use super::{Ran, Store, brainy, fails, ok};
use serde_json::{Value, json};

#[test]
fn config_show_says_where_every_value_came_from_without_secrets() {
    let store = Store::new();
    let file = store.file("a.toml", "poll_interval_ms = 500\nrole = 'writer'");
    let args = [
        "config",
        "show",
        "--config",
        &file,
        "--store",
        "s3://key:hunter2@bucket/p",
        "--set",
        "fsync=false",
        "--json",
    ];
    let ran = Ran::from(brainy(&args).env("BRAINY_WAIT_MS_MAX", "7").output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(!ran.out.contains("hunter2"), "{}", ran.out);
    let shown: Value = serde_json::from_str(&ran.out).unwrap();
    let setting = |name: &str| shown["settings"][name].clone();
    let file_source = format!("file {file}");
    assert_eq!(setting("poll_interval_ms"), json!({"value": 500, "source": file_source}));
    let variable = json!({"value": 7, "source": "variable BRAINY_WAIT_MS_MAX"});
    assert_eq!(setting("wait_ms_max"), variable);
    assert_eq!(setting("fsync"), json!({"value": false, "source": "flag --set"}));
    assert_eq!(setting("store")["value"], "s3://key:***@bucket/p");
    assert_eq!(setting("listen")["source"], "default");
    let limit = setting("memory_limit_bytes");
    assert!(limit["value"].as_u64() > Some(1 << 24), "{limit}");
    assert!(limit["source"].as_str().unwrap().contains("memory, "), "{limit}");
    assert_eq!(shown["effectiveRole"], json!({"value": "writer", "source": file_source}));

    let table = ok(&["config", "show"]);
    assert!(table.contains("SETTING") && table.contains("127.0.0.1:3000"), "{table}");
    assert!(table.contains("effective role: hybrid (standalone store)"), "{table}");
}

#[test]
fn names_from_elsewhere_are_taken_and_named() {
    let args = ["config", "show", "--json", "--cluster-mode", "replica", "--store", "s3://bucket"];
    let mut command = brainy(&args);
    let ran = Ran::from(
        command.env("CLUSTER_NODE_ID", "n1").env("CLUSTER_PEERS", "n2:1").output().unwrap(),
    );
    assert_eq!(ran.code, 0, "{}", ran.err);
    let shown: Value = serde_json::from_str(&ran.out).unwrap();
    let id = json!({"value": "n1", "source": "variable CLUSTER_NODE_ID"});
    assert_eq!(shown["settings"]["instance_id"], id);
    let role = json!({"value": "reader", "source": "flag --cluster-mode"});
    assert_eq!(shown["effectiveRole"], role);
    let notices = shown["notices"].as_array().unwrap();
    assert_eq!(notices.len(), 3, "{notices:?}");
    assert_eq!(notices[0], "CLUSTER_NODE_ID is an alias of instance_id");

    let table = ok(&["config", "show", "--node-id", "n2"]);
    assert!(table.contains("--node-id is an alias of instance_id"), "{table}");
    let store = Store::new();
    let file = store.file("c.toml", "[cluster]\nnode_id = 'n1'\npeers = ['n2:1']");
    let checked = ok(&["config", "check", &file]);
    assert!(checked.contains("peers in [cluster] of") && checked.contains("is not needed"));
    fails(&["config", "show", "--cluster-mode", "boss"], 2);
}

/// What Kubernetes sets in every container of a namespace with these Services.
const SERVICE_LINKS: [(&str, &str); 11] = [
    ("BRAINY_SERVICE_HOST", "10.0.0.1"),
    ("BRAINY_SERVICE_PORT", "7700"),
    ("BRAINY_SERVICE_PORT_HTTP", "7700"),
    ("BRAINY_PORT", "tcp://10.0.0.1:7700"),
    ("BRAINY_PORT_7700_TCP", "tcp://10.0.0.1:7700"),
    ("BRAINY_PORT_7700_TCP_PROTO", "tcp"),
    ("BRAINY_PORT_7700_TCP_PORT", "7700"),
    ("BRAINY_PORT_7700_TCP_ADDR", "10.0.0.1"),
    ("BRAINY_WRITER_SERVICE_HOST", "10.0.0.2"),
    ("BRAINY_WRITER_PORT", "tcp://10.0.0.2:7700"),
    ("CLUSTER_PORT", "tcp://10.0.0.3:80"),
];

#[test]
fn variables_that_kubernetes_sets_are_left_alone_and_typos_are_not() {
    let store = Store::new();
    let in_a_pod = |args: &[&str], own: &[(&str, &str)]| {
        let mut command = brainy(args);
        Ran::from(command.envs(SERVICE_LINKS).envs(own.iter().copied()).output().unwrap())
    };
    let create = ["collections", "create", "c", "--dimensions", "2", "--store", &store.url];
    let ran = in_a_pod(&create, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let ran = in_a_pod(&["config", "show", "--json"], &[("BRAINY_LISTEN", "127.0.0.1:7")]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let shown: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(shown["settings"]["listen"]["value"], "127.0.0.1:7");
    let notices = shown["notices"].as_array().unwrap();
    assert_eq!(notices.len(), 1, "{notices:?}");
    let notice = notices[0].as_str().unwrap();
    for word in ["left 11 variables", "brainy, brainy-writer", "BRAINY_PORT_7700_TCP_ADDR"] {
        assert!(notice.contains(word), "{word}: {notice}");
    }
    for typo in [("BRAINY_PORT", "8080"), ("BRAINY_LISTEM", "127.0.0.1:7")] {
        let ran = in_a_pod(&["config", "show"], &[typo]);
        assert_eq!(ran.code, 2, "{typo:?}: {}", ran.out);
        assert!(ran.err.contains(typo.0), "{}", ran.err);
    }
}

#[test]
fn config_check_judges_a_file_alone() {
    let store = Store::new();
    let good = store.file("good.toml", "store = 's3://bucket'\ngc_grace_ms = 10_000");
    assert!(ok(&["config", "check", &good]).contains("is valid: 2 settings"));
    let bad = store.file("bad.json", r#"{"gc_grace_ms": 9999}"#);
    let err = fails(&["config", "check", &bad], 2);
    assert!(err.contains("gc_grace_ms") && err.contains("10000"), "{err}");
    assert!(err.contains("(invalid_settings)") && err.contains("hint: "), "{err}");
}

#[test]
fn unknown_settings_name_the_nearest_known_one() {
    let store = Store::new();
    let file = store.file("a.toml", "polling_interval_ms = 5");
    let err = fails(&["config", "check", &file], 2);
    assert!(err.contains("did you mean poll_interval_ms?"), "{err}");
    let mut command = brainy(&["serve", "--store", "memory:"]);
    let ran = Ran::from(command.env("BRAINY_STOER", "memory:").output().unwrap());
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("did you mean BRAINY_STORE?"), "{}", ran.err);
}

#[test]
fn the_variable_for_the_role_beats_the_flag() {
    let role = |args: &[&str], variables: &[(&str, &str)]| {
        let args = [&["config", "show", "--json", "--store", "s3://bucket"], args].concat();
        let mut command = brainy(&args);
        let ran = Ran::from(command.envs(variables.iter().copied()).output().unwrap());
        assert_eq!(ran.code, 0, "{}", ran.err);
        let shown: Value = serde_json::from_str(&ran.out).unwrap();
        shown["effectiveRole"]["value"].as_str().map(str::to_owned)
    };
    let both = role(&["--role", "writer"], &[("BRAINY_ROLE", "reader")]);
    assert_eq!(both.as_deref(), Some("reader"));
    assert_eq!(role(&["--role", "writer"], &[]).as_deref(), Some("writer"));
    let inferred = role(&[], &[("BRAINY_READ_ONLY", "true")]);
    assert_eq!(inferred.as_deref(), Some("reader"));
    assert_eq!(role(&[], &[]), None);

    let err = fails(&["serve", "--store", "s3://bucket"], 2);
    assert!(err.contains("set BRAINY_ROLE, --role or role"), "{err}");
}

#[test]
fn wrong_usage_ends_with_2_and_failures_with_1() {
    fails(&["no-such-command"], 2);
    fails(&["search", "--store", "memory:"], 2);
    fails(&["import", "--store", "memory:", "--batch", "0", "x"], 2);
    fails(&["serve", "--role", "boss"], 2);
    fails(&["config", "show", "--set", "fsync"], 2);
    let err = fails(&["stats"], 2);
    assert!(err.contains("--url") && err.contains("--store"), "{err}");
    let err = fails(&["stats", "--url", "localhost:1"], 2);
    assert!(err.contains("http://127.0.0.1:3000"), "{err}");
    let err = fails(&["stats", "--url", "http://127.0.0.1:1"], 1);
    assert!(err.contains("could not connect") && err.contains("(server_unavailable)"), "{err}");
    let err = fails(&["search", "--store", "memory:", "--vector", "[1,"], 2);
    assert!(err.contains("--vector is not valid JSON"), "{err}");
    let err = fails(&["import", "--store", "memory:", "no/such.jsonl"], 1);
    assert!(err.contains("no/such.jsonl"), "{err}");
    let err = fails(&["collections", "show", "Bad Name", "--store", "memory:"], 1);
    assert!(err.contains("(invalid_collection_name)"), "{err}");
}

#[test]
fn errors_are_the_api_s_object_with_json() {
    let store = Store::new();
    std::fs::create_dir(store.dir.path().join("store")).unwrap();
    let err = fails(&["stats", "-c", "nothing", "--store", &store.url, "--json"], 1);
    let error: Value = serde_json::from_str(&err).unwrap();
    assert_eq!(error["error"]["code"], "collection_not_found");
    assert!(error["error"]["message"].is_string() && error["error"]["details"].is_object());
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(ok(&["completions", shell]).contains("collections"), "{shell}");
    }
}
