//! `brainy cluster`, with servers and without.

use super::serving::Server;
use super::{Ran, Store, fails, ok, ok_json, run};
use brainy::base::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use std::time::Duration;

/// A server that tells soon what has become of it.
fn serve(store: &Store, id: &str, role: &str) -> Server {
    serve_for(store, id, role, 600_000)
}

/// The same, dead for the others after so long.
fn serve_for(store: &Store, id: &str, role: &str, timeout_ms: u64) -> Server {
    Server::start(&[
        "serve",
        "--store",
        &store.url,
        "--role",
        role,
        "--instance-id",
        id,
        "--listen",
        "127.0.0.1:0",
        "--set",
        "heartbeat_interval_ms=500",
        "--set",
        &format!("instance_timeout_ms={timeout_ms}"),
    ])
}

/// Asks how the cluster is until the exit code is as it should be; what was said then.
#[track_caller]
fn until_ended_with(code: i32, url: &str) -> Ran {
    let started = SystemClock.mark();
    loop {
        let ran = run(&["cluster", "health", "--url", url]);
        if ran.code == code {
            return ran;
        }
        let waited = SystemClock.since(started);
        assert!(waited < Duration::from_secs(60), "{code}: {}{}", ran.out, ran.err);
    }
}

/// Asks until the answer is as it should be.
#[track_caller]
fn until(args: &[&str], holds: impl Fn(&Value) -> bool) -> Value {
    let started = SystemClock.mark();
    loop {
        let answer = ok_json(args);
        if holds(&answer) {
            return answer;
        }
        assert!(SystemClock.since(started) < Duration::from_secs(60), "{args:?}: {answer}");
    }
}

#[test]
fn nodes_are_seen_and_steered_and_their_store_tells_when_they_are_gone() {
    let store = Store::new();
    let writer = serve(&store, "w", "writer");
    let mut reader = serve(&store, "r", "reader");
    let url = writer.url.clone();
    let cluster = |args: &[&'static str]| [&["cluster"], args, &["--url", &url]].concat();
    until(&cluster(&["nodes"]), |answer| answer["nodes"].as_array().unwrap().len() == 2);
    let nodes = ok(&cluster(&["nodes"]));
    let lines: Vec<&str> = nodes.lines().map(str::trim).collect();
    assert!(lines[0].starts_with("NODE") && lines[0].ends_with("ENDPOINT"), "{nodes}");
    assert!(lines[1].contains("r") && lines[1].contains("reader"), "{nodes}");
    assert!(lines[1].contains(&reader.url) && lines[1].contains(" s ago"), "{nodes}");
    until(&cluster(&["status"]), |status| status["leader"]["id"] == "w");
    assert!(ok(&cluster(&["nodes"])).contains("active, leads"));
    let status = ok(&cluster(&["status"]));
    assert!(status.contains("node.role") && status.contains("leader.epoch"), "{status}");
    assert!(!status.contains("warnings"), "{status}");
    let health = ok(&cluster(&["health"]));
    assert!(health.contains("healthy") && !health.contains('['), "{health}");
    assert!(ok(&cluster(&["config"])).contains("`brainy cluster nodes` lists them"));
    assert!(ok(&cluster(&["replication"])).contains("none open"));

    let said = ok(&cluster(&["promote", "r"]));
    assert!(said.contains("r was asked to be a hybrid"), "{said}");
    let promoted = until(&cluster(&["node", "r"]), |node| node["role"] == "hybrid");
    assert_eq!(promoted["wantedRole"], "hybrid");
    let file = store.file("in.jsonl", super::RECORDS);
    ok(&["import", &file, "--url", &reader.url]);
    let answer = ok_json(&cluster(&["demote", "r", "--role", "reader"]));
    assert_eq!(answer, json!({"id": "r", "wantedRole": "reader"}));
    until(&cluster(&["node", "r"]), |node| node["role"] == "reader");
    let refused = fails(&["import", &file, "--url", &reader.url], 1);
    assert!(refused.contains("(read_only_instance)"), "{refused}");

    let err = fails(&cluster(&["remove", "r"]), 1);
    assert!(err.contains("(instance_alive)"), "{err}");
    let err = fails(&cluster(&["node", "nobody"]), 1);
    assert!(err.contains("(instance_not_found)") && err.contains("cluster nodes"), "{err}");
    fails(&cluster(&["promote", "r", "--role", "reader"]), 2);
    fails(&["cluster", "promote", "r", "--store", &store.url], 2);

    let at_reader = ["--url", &reader.url];
    let left = ok(&[&["cluster", "leave"], &at_reader[..]].concat());
    assert!(left.contains("r has left"), "{left}");
    let err = fails(&[&["cluster", "nodes"], &at_reader[..]].concat(), 1);
    assert!(err.contains("(not_a_member)") && err.contains("brainy cluster join"), "{err}");
    ok(&[&["cluster", "join"], &at_reader[..]].concat());

    // Nobody is left to ask: the store says what was last written.
    drop(writer);
    reader.signal("-TERM");
    assert_eq!(reader.child.wait().unwrap().code(), Some(0));
    let direct = ["--store", &store.url];
    let seen = ok_json(&[&["cluster", "nodes"], &direct[..]].concat());
    assert_eq!(seen["nodes"].as_array().unwrap().len(), 1, "{seen}");
    let node = ok_json(&[&["cluster", "node", "w"], &direct[..]].concat());
    assert_eq!((&node["role"], &node["status"]), (&json!("writer"), &json!("active")));
    let mut fields: Vec<&String> = promoted.as_object().unwrap().keys().collect();
    fields.retain(|field| !node.as_object().unwrap().contains_key(*field));
    assert_eq!(fields, [""; 0], "the same with a server and without");
    let ran = super::run(&[&["cluster", "nodes"], &direct[..]].concat());
    assert!(ran.out.contains("writer") && ran.err.contains("no server was asked"), "{}", ran.err);
    let config = ok_json(&[&["cluster", "config"], &direct[..]].concat());
    assert!(config["instances"]["w"].is_object(), "{config}");
    let err = fails(&[&["cluster", "node", "r"], &direct[..]].concat(), 1);
    assert!(err.contains("(instance_not_found)"), "{err}");
}

#[test]
fn shared_state_is_the_same_from_a_server_and_from_its_store() {
    let store = Store::new();
    let server = serve(&store, "a", "hybrid");
    let state = |args: &[&str], url: bool| {
        let at = if url { ["--url", &server.url] } else { ["--store", &store.url] };
        [&["cluster", "state"], args, &at[..]].concat().into_iter().map(str::to_owned).collect()
    };
    let said = |args: &[&str], url: bool| {
        let args: Vec<String> = state(args, url);
        ok(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let told = |args: &[&str], url: bool| {
        let args: Vec<String> = state(args, url);
        ok_json(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let failed = |args: &[&str], code: i32| {
        let args: Vec<String> = state(args, true);
        fails(&args.iter().map(String::as_str).collect::<Vec<_>>(), code)
    };
    assert_eq!(said(&["list"], true), "no entries\n");
    let put = told(&["put", "jobs/nightly", "{\"hour\": 3}", "--create"], true);
    let shown = said(&["get", "jobs/nightly"], false);
    assert!(shown.contains("{\"hour\":3}"), "{shown}");
    let etag = put["etag"].as_str().unwrap();
    assert!(shown.contains(etag), "{shown}");
    let err = failed(&["put", "jobs/nightly", "1", "--create"], 1);
    assert!(err.contains("(precondition_failed)"), "{err}");
    let changed = told(&["put", "jobs/nightly", "-1", "--if-match", etag], false);
    assert_eq!(changed["value"], -1);
    failed(&["put", "jobs/nightly", "2", "--if-match", etag], 1);
    failed(&["put", "k", "1", "--if-match", etag, "--create"], 2);
    let err = failed(&["put", "k", "text"], 2);
    assert!(err.contains("quotes of its own"), "{err}");
    said(&["put", "other", "\"text\""], true);
    let listed = said(&["list", "--prefix", "jobs/"], false);
    assert!(listed.contains("jobs/nightly") && !listed.contains("other"), "{listed}");
    assert_eq!(told(&["list"], true)["entries"].as_array().unwrap().len(), 2);
    assert_eq!(said(&["delete", "other"], true), "deleted other\n");
    assert_eq!(said(&["delete", "other"], true), "there was no other\n");
    let err = failed(&["get", "other"], 1);
    assert!(err.contains("(state_not_found)"), "{err}");
}

#[test]
fn the_exit_code_says_how_the_cluster_is() {
    let store = Store::new();
    let reader = serve_for(&store, "r", "reader", 2_000);
    let word = |ran: Ran, status: &str, why: &str| {
        assert!(ran.out.contains(status) && ran.out.contains(why), "{}{}", ran.out, ran.err);
        assert_eq!(ran.err, "", "the table says it all");
    };
    word(until_ended_with(4, &reader.url), "unhealthy", "takes writes");
    let writer = serve_for(&store, "w", "writer", 2_000);
    until_ended_with(0, &reader.url);
    // Killed, so that they do not say goodbye.
    drop(serve_for(&store, "other", "reader", 2_000));
    word(until_ended_with(3, &reader.url), "degraded", "instance other is not healthy");
    drop(writer);
    word(until_ended_with(4, &reader.url), "unhealthy", "takes writes");
    let ran = run(&["cluster", "health", "--url", &reader.url, "--json"]);
    let body: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &body["status"]), (4, &json!("unhealthy")));
}

#[test]
fn a_cluster_whose_store_is_gone_is_not_healthy() {
    let store = Store::new();
    let server = serve(&store, "h", "hybrid");
    until_ended_with(0, &server.url);
    let (folder, away) = (store.dir.path().join("store"), store.dir.path().join("away"));
    std::fs::rename(&folder, &away).unwrap();
    let ran = until_ended_with(4, &server.url);
    assert!(ran.out.contains("is gone; restore or mount it"), "{}", ran.out);
    std::fs::rename(&away, &folder).unwrap();
    until_ended_with(0, &server.url);
}
