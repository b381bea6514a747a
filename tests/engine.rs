//! The engine through its facade, on a store in memory: what embedding programs rely on.

use brainy::base::ids::{CollectionName, Seq};
use brainy::base::settings::{Role, Settings};
use brainy::base::{Code, Env, Result};
use brainy::engine::Brainy;
use brainy::engine::model::*;
use brainy::filter::Filter;
use brainy::store::DynStore;
use brainy::store::memory::MemoryStore;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

fn name(name: &str) -> CollectionName {
    CollectionName::new(name).unwrap()
}

async fn instance(store: &DynStore, role: Role, settings: Settings) -> Brainy {
    let env = Env::system(1).unwrap();
    Brainy::start(settings, role, store.clone(), env).await.unwrap()
}

async fn hybrid() -> Brainy {
    let store: DynStore = Arc::new(MemoryStore::default());
    instance(&store, Role::Hybrid, Settings::default()).await
}

fn record(id: &str, vector: &[f32], metadata: serde_json::Value) -> NewRecord {
    NewRecord {
        id: Some(id.to_owned()),
        vector: vector.to_vec(),
        metadata: Some(metadata.to_string()),
        text: None,
    }
}

fn search(query: Query, k: usize) -> SearchRequest {
    SearchRequest { query, ..SearchRequest::nearest(Vec::new(), k) }
}

fn ids(response: &SearchResponse) -> Vec<&str> {
    response.hits.iter().map(|hit| hit.id.as_str()).collect()
}

async fn three(brainy: &Brainy) -> CollectionName {
    let things = name("things");
    let records = vec![
        record("a", &[1.0, 0.0], json!({"n": 1})),
        record("b", &[0.0, 1.0], json!({"n": 2})),
        record("c", &[0.7, 0.7], json!({"n": 3})),
    ];
    brainy.upsert(&things, records).await.unwrap();
    things
}

#[tokio::test]
async fn what_was_written_is_found_at_once_by_the_same_instance() {
    let brainy = hybrid().await;
    let things = three(&brainy).await;
    let query = search(Query::Vector(vec![1.0, 0.1]), 2);
    let response = brainy.search(&things, query).await.unwrap();
    assert_eq!(ids(&response), ["a", "c"]);
    assert_eq!(response.hits[0].metadata.as_deref(), Some("{\"n\":1}"));
    assert_eq!(brainy.describe(&things).await.unwrap().vector_count, Some(3));
}

#[tokio::test]
async fn a_search_by_id_leaves_out_its_own_record() {
    let brainy = hybrid().await;
    let things = three(&brainy).await;
    let response = brainy.search(&things, search(Query::Id("a".into()), 3)).await.unwrap();
    assert_eq!(ids(&response), ["c", "b"]);
    let missing = brainy.search(&things, search(Query::Id("x".into()), 3)).await.unwrap_err();
    assert_eq!(missing.code(), Code::VectorNotFound);
}

#[tokio::test]
async fn filters_offsets_and_ties_by_id() {
    let brainy = hybrid().await;
    let things = name("ties");
    let records = ["d", "b", "c", "a"].map(|id| record(id, &[1.0, 0.0], json!({"id": id})));
    brainy.upsert(&things, records.to_vec()).await.unwrap();
    let mut request = search(Query::Vector(vec![1.0, 0.0]), 2);
    request.offset = 1;
    request.filter = Some(Filter::parse(&json!({"id": {"$ne": "b"}})).unwrap());
    let response = brainy.search(&things, request).await.unwrap();
    assert_eq!(ids(&response), ["c", "d"]);
}

#[tokio::test]
async fn overwritten_and_deleted_records_do_not_surface() {
    let brainy = hybrid().await;
    let things = three(&brainy).await;
    brainy.upsert(&things, vec![record("a", &[0.0, 1.0], json!({"n": 9}))]).await.unwrap();
    let deleted = DeleteTarget::Ids(vec!["b".into(), "nothing".into(), "b".into()]);
    assert_eq!(brainy.delete(&things, deleted).await.unwrap().deleted, 1);
    let query = search(Query::Vector(vec![0.0, 1.0]), 9);
    let response = brainy.search(&things, query).await.unwrap();
    assert_eq!(ids(&response), ["a", "c"]);
    assert_eq!(brainy.get(&things, "a").await.unwrap().record.metadata.as_ref(), "{\"n\":9}");
    let by_filter = Filter::parse(&json!({"n": {"$gt": 1}})).unwrap();
    let deleted = brainy.delete(&things, DeleteTarget::Filter(by_filter)).await.unwrap();
    assert_eq!(deleted.deleted, 2);
    assert_eq!(brainy.describe(&things).await.unwrap().vector_count, Some(0));
}

#[tokio::test]
async fn pages_are_ordered_by_id_and_complete() {
    let brainy = hybrid().await;
    let things = name("pages");
    for start in (0..1_000).step_by(250) {
        let records = (start..start + 250).map(|n| record(&format!("{n:04}"), &[1.0], json!({})));
        brainy.upsert(&things, records.collect()).await.unwrap();
    }
    let (mut cursor, mut seen) = (None, Vec::new());
    loop {
        let page = brainy.list(&things, 300, cursor, false).await.unwrap();
        seen.extend(page.records.into_iter().map(|record| record.id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    let expected: Vec<String> = (0..1_000).map(|n| format!("{n:04}")).collect();
    assert_eq!(seen, expected);
    let error = brainy.list(&things, 10, Some("%".into()), false).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidRequest);
}

#[tokio::test]
async fn export_and_import_round_trip() {
    let brainy = hybrid().await;
    let things = three(&brainy).await;
    let export = brainy.export(&things, true).await.unwrap();
    let lines: Vec<Bytes> = export.lines.try_collect().await.unwrap();
    let copy = name("copy");
    let body: Vec<Result<Bytes>> = lines.iter().cloned().map(Ok).collect();
    let report = brainy.import(&copy, futures::stream::iter(body).boxed()).await.unwrap();
    assert_eq!((report.imported, report.failed), (3, 0));
    let again = brainy.export(&copy, true).await.unwrap();
    let again: Vec<Bytes> = again.lines.try_collect().await.unwrap();
    assert_eq!(lines, again);
}

#[tokio::test]
async fn import_reports_bad_lines_and_keeps_the_good_ones() {
    let brainy = hybrid().await;
    let text = concat!(
        "{\"id\":\"a\",\"vector\":[1,2]}\n",
        "\n",
        "not json\n",
        "{\"id\":\"b\",\"vector\":[1]}\n",
        "{\"id\":\"c\",\"vector\":\"AACAPwAAAEA=\"}\n",
        "{\"id\":\"d\",\"vector\":[1,2],\"oops\":1}\n",
    );
    let pieces = text.as_bytes().chunks(7);
    let pieces: Vec<Result<Bytes>> =
        pieces.map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let body = futures::stream::iter(pieces).boxed();
    let report = brainy.import(&name("bad"), body).await.unwrap();
    assert_eq!((report.imported, report.failed), (2, 3));
    let faults: Vec<_> = report.errors.iter().map(|fault| (fault.line, fault.code)).collect();
    let expected = [(3, "invalid_request"), (4, "dimension_mismatch"), (6, "invalid_request")];
    assert_eq!(faults, expected);
}

#[tokio::test]
async fn a_deleted_collection_is_gone_and_its_name_starts_anew() {
    let store: DynStore = Arc::new(MemoryStore::default());
    let brainy = instance(&store, Role::Hybrid, Settings::default()).await;
    let other = instance(&store, Role::Hybrid, Settings::default()).await;
    let things = three(&brainy).await;
    assert_eq!(other.describe(&things).await.unwrap().vector_count, Some(3));
    brainy.delete_collection(&things).await.unwrap();
    assert_eq!(brainy.describe(&things).await.unwrap_err().code(), Code::CollectionNotFound);
    let again = brainy.delete_collection(&things).await.unwrap_err();
    assert_eq!(again.code(), Code::CollectionNotFound);
    // The other instance has not looked since: its write must not vanish into the old life.
    let wider = vec![record("z", &[1.0, 2.0], json!({}))];
    other.upsert(&things, wider).await.unwrap();
    for instance in [&brainy, &other] {
        let info = instance.describe(&things).await.unwrap();
        assert_eq!(info.vector_count, Some(1));
        assert!(info.version > Seq(2));
    }
}

#[tokio::test]
async fn creating_twice_is_fine_and_creating_differently_is_a_conflict() {
    let brainy = hybrid().await;
    let mut spec = CollectionSpec {
        name: name("c"),
        dimensions: 3,
        metric: Metric::Dot,
        partition_count: None,
        partitioner: None,
        description: None,
    };
    assert!(brainy.create_collection(spec.clone()).await.unwrap().1);
    assert!(!brainy.create_collection(spec.clone()).await.unwrap().1);
    spec.dimensions = 4;
    let error = brainy.create_collection(spec).await.unwrap_err();
    assert_eq!(error.code(), Code::SettingsConflict);
    assert_eq!(error.details()["existing"]["dimensions"], 3);
    assert_eq!(error.details()["requested"]["dimensions"], 4);
}

#[tokio::test]
async fn roles_are_enforced_and_versions_carry_writes_to_readers() {
    let store: DynStore = Arc::new(MemoryStore::default());
    let writer = instance(&store, Role::Writer, Settings::default()).await;
    let slow = Settings { poll_interval_ms: 3_600_000, ..Settings::default() };
    let reader = instance(&store, Role::Reader, slow).await;
    let things = three(&writer).await;
    let query = || search(Query::Vector(vec![1.0, 0.0]), 1);
    assert_eq!(reader.search(&things, query()).await.unwrap().hits.len(), 1);
    let upserted = writer.upsert(&things, vec![record("new", &[1.0, 0.0], json!({}))]);
    let version = upserted.await.unwrap().version;
    let stale = reader.search(&things, query()).await.unwrap();
    assert!(stale.version < version);
    let mut waiting = query();
    waiting.k = 9;
    let wait = Duration::from_secs(5);
    waiting.consistency = Consistency::AtLeast { version, wait };
    let fresh = reader.search(&things, waiting).await.unwrap();
    assert!(fresh.version >= version && ids(&fresh).contains(&"new"));
    let error = reader.upsert(&things, vec![record("x", &[1.0, 0.0], json!({}))]).await;
    assert_eq!(error.unwrap_err().code(), Code::ReadOnlyInstance);
    let error = writer.search(&things, query()).await.unwrap_err();
    assert_eq!(error.code(), Code::WriteOnlyInstance);
    let mut late = query();
    let (version, wait) = (version.next(), Duration::from_millis(50));
    late.consistency = Consistency::AtLeast { version, wait };
    let error = reader.search(&things, late).await.unwrap_err();
    assert_eq!(error.code(), Code::VersionTimeout);
}

#[tokio::test]
async fn writes_to_unknown_collections_follow_the_setting() {
    let store: DynStore = Arc::new(MemoryStore::default());
    let settings = Settings { create_collections: false, ..Settings::default() };
    let brainy = instance(&store, Role::Hybrid, settings).await;
    let one = || vec![record("a", &[1.0], json!({}))];
    let error = brainy.upsert(&name("other"), one()).await.unwrap_err();
    assert_eq!(error.code(), Code::CollectionNotFound);
    assert!(brainy.upsert(&name("default"), one()).await.is_ok());
}

#[tokio::test]
async fn a_full_tail_pushes_back() {
    let store: DynStore = Arc::new(MemoryStore::default());
    let settings = Settings { tail_max_bytes: 10_000, ..Settings::default() };
    let brainy = instance(&store, Role::Writer, settings).await;
    let batch = || (0..20).map(|n| record(&n.to_string(), &[0.1; 64], json!({}))).collect();
    let mut last = Ok(());
    for _ in 0..4 {
        last = brainy.upsert(&name("full"), batch()).await.map(drop);
    }
    let error = last.unwrap_err();
    assert_eq!(error.code(), Code::Backpressure);
    assert!(error.retry_after().is_some());
}

#[tokio::test]
async fn large_writes_become_data_objects_and_read_back() {
    let store: DynStore = Arc::new(MemoryStore::default());
    let settings = Settings { wal_inline_max_bytes: 0, batch_max_bytes: 1, ..Settings::default() };
    let brainy = instance(&store, Role::Hybrid, settings).await;
    let things = three(&brainy).await;
    let data = brainy::store::paths::wal_data_all(&things);
    assert_eq!(store.list(&data, None, 10).await.unwrap().objects.len(), 1);
    assert_eq!(brainy.get(&things, "b").await.unwrap().record.vector, Some(vec![0.0, 1.0]));
}

async fn overwrite(store: &DynStore, key: &brainy::store::Key, content: &'static str) {
    store.put(key, Bytes::from_static(content.as_bytes())).await.unwrap();
}

#[tokio::test]
async fn what_a_newer_version_wrote_is_refused_not_guessed() {
    let store: DynStore = Arc::new(MemoryStore::default());
    let things = name("things");
    let manifest = brainy::store::paths::manifest(&things);
    overwrite(&store, &manifest, "{\"formatVersion\": 99, \"anything\": true}").await;
    let brainy = instance(&store, Role::Hybrid, Settings::default()).await;
    let error = brainy.describe(&things).await.unwrap_err();
    assert_eq!(error.code(), Code::NewerFormat);
    let write = brainy.upsert(&things, vec![record("a", &[1.0], json!({}))]).await;
    assert_eq!(write.unwrap_err().code(), Code::NewerFormat);
}

#[tokio::test]
async fn damaged_objects_are_named() {
    let store: DynStore = Arc::new(MemoryStore::default());
    let things = three(&instance(&store, Role::Hybrid, Settings::default()).await).await;
    let entry = brainy::store::paths::wal_entry(&things, Seq(1));
    overwrite(&store, &entry, "no log entry").await;
    let reader = instance(&store, Role::Reader, Settings::default()).await;
    let error = reader.get(&things, "a").await.unwrap_err();
    assert_eq!(error.code(), Code::LogDamaged);
    assert!(error.message().contains(entry.as_str()), "{error}");
    let reader = instance(&store, Role::Reader, Settings::default()).await;
    overwrite(&store, &brainy::store::paths::manifest(&things), "{\"formatVersion\": 1,").await;
    let error = reader.describe(&things).await.unwrap_err();
    assert_eq!((error.code(), &error.details()["line"]), (Code::Corrupt, &json!(1)));
}
