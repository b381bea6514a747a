//! Shared state, and folding heartbeats in. What several members do together is in `tests/membership`.

use super::config::{CONFIG_BYTES_MAX, Instance, SharedConfig, Status};
use super::overflow::{FORMAT_VERSION, Heartbeat, Overflow};
use super::shared::{ParsedConfigs, Shared, read_shared_config};
use super::state::{Expected, SharedState, VALUE_BYTES_MAX};
use crate::base::clock::VirtualClock;
use crate::base::{Code, Env, Timestamp};
use crate::store::layers::Count;
use crate::store::memory::MemoryStore;
use crate::store::{DynStore, paths};
use serde_json::{Map, json};
use std::sync::Arc;
use std::time::Duration;

fn surroundings() -> (DynStore, Env) {
    let clock = Arc::new(VirtualClock::starting_at(Timestamp(1_000_000)));
    (Arc::new(MemoryStore::default()), Env::deterministic(1, clock))
}

fn state() -> SharedState {
    let (store, env) = surroundings();
    SharedState::new(store, env)
}

#[tokio::test(start_paused = true)]
async fn an_entry_changes_only_at_the_expected_version() {
    let state = state();
    let first = state.put("a/b", json!({"x": 1}), &Expected::Absent).await.unwrap();
    assert_eq!(state.get("a/b").await.unwrap(), first);
    let again = state.put("a/b", json!(2), &Expected::Absent).await.unwrap_err();
    assert_eq!(again.code(), Code::PreconditionFailed);
    assert_eq!(again.details()["etag"], first.etag.as_str());
    let at_first = Expected::Etag(first.etag.clone());
    let second = state.put("a/b", json!(2), &at_first).await.unwrap();
    assert_eq!((second.version, &second.value), (2, &json!(2)));
    assert_ne!(second.etag, first.etag);
    let stale = state.put("a/b", json!(3), &at_first).await.unwrap_err();
    assert_eq!(stale.code(), Code::PreconditionFailed);
    assert_eq!(state.delete("a/b", &at_first).await.unwrap_err().code(), Code::PreconditionFailed);
    assert_eq!(state.get("a/b").await.unwrap().value, json!(2));
}

#[tokio::test(start_paused = true)]
async fn an_etag_of_a_deleted_entry_never_comes_back() {
    let state = state();
    let first = state.put("k", json!(1), &Expected::Anything).await.unwrap();
    assert!(state.delete("k", &Expected::Etag(first.etag.clone())).await.unwrap());
    assert!(!state.delete("k", &Expected::Anything).await.unwrap());
    assert_eq!(state.get("k").await.unwrap_err().code(), Code::StateNotFound);
    let at_first = Expected::Etag(first.etag.clone());
    let gone = state.put("k", json!(1), &at_first).await.unwrap_err();
    assert_eq!(gone.code(), Code::PreconditionFailed);
    let second = state.put("k", json!(1), &Expected::Absent).await.unwrap();
    assert!(second.version > first.version && second.etag != first.etag);
    let stale = state.put("k", json!(3), &at_first).await.unwrap_err();
    assert_eq!(stale.code(), Code::PreconditionFailed);
}

#[tokio::test(start_paused = true)]
async fn pages_of_a_prefix_fit_together_and_leave_out_the_deleted() {
    let state = state();
    for number in 0..10 {
        state.put(&format!("app/{number}"), json!(number), &Expected::Absent).await.unwrap();
    }
    state.put("other", json!(0), &Expected::Absent).await.unwrap();
    state.delete("app/4", &Expected::Anything).await.unwrap();
    let (mut seen, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = state.list("app/", after.as_deref(), 3).await.unwrap();
        seen.extend(page.entries.iter().map(|entry| entry.value.as_u64().unwrap()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, [0, 1, 2, 3, 5, 6, 7, 8, 9]);
    assert_eq!(state.list("", None, 1_000).await.unwrap().entries.len(), 10);
    assert!(state.list("", None, 1_001).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn keys_and_values_have_limits() {
    let state = state();
    for key in ["a", "A.b_c-d/e", &"k".repeat(256), ".hidden"] {
        state.put(key, json!(1), &Expected::Anything).await.unwrap();
    }
    for key in ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "é", "a b", "a.json/b"] {
        let error = state.put(key, json!(1), &Expected::Anything).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidRequest, "{key}");
        assert_eq!(state.get(key).await.unwrap_err().code(), Code::InvalidRequest, "{key}");
    }
    assert!(state.get(&"k".repeat(257)).await.is_err());
    let full = json!("x".repeat(VALUE_BYTES_MAX - 2));
    state.put("full", full, &Expected::Anything).await.unwrap();
    let over = json!("x".repeat(VALUE_BYTES_MAX - 1));
    let error = state.put("full", over, &Expected::Anything).await.unwrap_err();
    assert_eq!(error.code(), Code::PayloadTooLarge);
}

fn instance(session: &str, beat: u64, status: Status) -> Instance {
    let mut instance: Instance =
        serde_json::from_value(json!({"role": "reader", "session": session, "beat": beat}))
            .unwrap();
    instance.status = status;
    instance
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_replaces_only_the_life_that_it_may() {
    let (store, env) = surroundings();
    let mut overflow = Overflow::new(store.clone(), env, Duration::from_secs(5));
    let mut config = SharedConfig::default();
    for (id, session, beat) in [("newer", "s", 3), ("older", "s", 9), ("other", "new", 1)] {
        config.instances.insert(id.into(), instance(session, beat, Status::Dead));
    }
    config.instances.insert("leaves".into(), instance("s", 3, Status::Active));
    config.instances.insert("reborn".into(), instance("s1", 30, Status::Dead));
    for (id, session, beat, status, replaces) in [
        ("newer", "s", 4, Status::Active, None),
        ("older", "s", 8, Status::Active, None),
        ("other", "old", 99, Status::Active, Some("older")),
        ("leaves", "s", 4, Status::Left, None),
        ("reborn", "s2", 1, Status::Active, Some("s1")),
        ("joins", "s", 1, Status::Active, None),
    ] {
        let heartbeat = Heartbeat {
            format_version: FORMAT_VERSION,
            replaces: replaces.map(str::to_owned),
            instance: instance(session, beat, status),
            extra: Map::new(),
        };
        overflow.put(id, &heartbeat).await.unwrap();
    }
    store.put(&paths::heartbeat("broken"), "{".into()).await.unwrap();
    overflow.collect().await.unwrap();
    assert!(overflow.fold(&mut config));
    let told = config
        .instances
        .iter()
        .map(|(id, entry)| (id.as_str(), entry.session.as_deref().unwrap_or(""), entry.beat));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            ("joins", "s", 1),
            ("newer", "s", 4),
            ("older", "s", 9),
            ("other", "new", 1),
            ("reborn", "s2", 1)
        ]
    );
    assert_eq!(config.instances["newer"].status, Status::Active);
    assert_eq!(config.instances["older"].status, Status::Dead);
    assert!(!overflow.fold(&mut config), "folding twice changes nothing");
    // Who has left needs no object any more; the others may say something new yet.
    assert_eq!(overflow.leftovers(&config, Duration::from_secs(60), false), ["leaves"]);
    assert!(
        overflow.leftovers(&config, Duration::from_secs(60), true).is_empty(),
        "others read it"
    );
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(overflow.leftovers(&config, Duration::from_secs(60), false).len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_shared_config_that_is_too_large_is_a_fault_and_is_not_read_to_its_end() {
    let (store, env) = surroundings();
    let key = paths::config("_brainy/config.json");
    let huge = vec![b' '; 5 * CONFIG_BYTES_MAX as usize];
    store.put(&key, huge.into()).await.unwrap();
    let counted: DynStore = Arc::new(Count::new(store, env.metrics.clone()));
    let error = read_shared_config(&counted, &key).await.unwrap_err();
    assert_eq!(error.code(), Code::SharedConfigInvalid);
    assert_eq!(error.details()["maxBytes"], CONFIG_BYTES_MAX);
    let patience = Duration::from_secs(1);
    let mut shared = Shared::new(counted, env.clone(), key, ParsedConfigs::default(), patience);
    assert!(!shared.look().await.unwrap());
    assert!(shared.fault.is_some_and(|fault| fault.message.contains("bytes")));
    assert!(env.metrics.store_bytes_read.get() <= 2 * CONFIG_BYTES_MAX);
}
