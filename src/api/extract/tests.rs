//! Bodies that are wrong, and what the client is told about them.

use super::*;
use crate::api::types::cluster::RoleBody;
use crate::api::types::records::{Fetch, Records};
use crate::api::types::search::{Search, Searches};
use crate::base::memory::Budget;
use crate::base::metrics::Gauge;
use crate::engine::model::{CollectionSpec, Consistency, DeleteTarget, Query as Target};
use serde_json::{Value, json};
use std::time::Duration;

const LIMITS: Limits = Limits { body_bytes_max: 1 << 20, wait_ms_max: 60_000 };

fn parse<T: Decode>(body: &str) -> Result<T> {
    let budget = Budget::new(1 << 20, Gauge::default());
    decode(body.as_bytes(), &LIMITS, &mut budget.reserve())
}

/// Fails with `code`, and with these details.
#[track_caller]
fn refused<T: Decode>(body: &str, code: Code, details: Value) {
    let error = match parse::<T>(body) {
        Ok(_) => panic!("accepted: {body}"),
        Err(error) => error,
    };
    assert_eq!(error.code(), code, "{body}: {error}");
    for (key, value) in details.as_object().unwrap() {
        assert_eq!(error.details().get(key), Some(value), "{key} of {body}: {error:?}");
    }
}

#[test]
fn records_keep_metadata_as_it_was_written() {
    let body = r#"{"vectors": [
        {"id": "a", "vector": [1, -2.5e0], "metadata": {"b": 1, "a": [1.50, {"vector": 3}]}, "text": "t"},
        {"vector": "AACAPw=="}, {"id": null, "vector": [0], "metadata": null, "text": null}]}"#;
    let Records(records) = parse(body).unwrap();
    assert_eq!(records.len(), 3);
    assert_eq!(records[0].vector, [1.0, -2.5]);
    let metadata = records[0].metadata.as_deref();
    assert_eq!(metadata, Some(r#"{"b": 1, "a": [1.50, {"vector": 3}]}"#));
    assert_eq!(records[0].text.as_deref(), Some("t"));
    assert_eq!((records[1].id.as_deref(), &records[1].vector), (None, &vec![1.0]));
    assert_eq!((&records[2].id, &records[2].metadata, &records[2].text), (&None, &None, &None));
}

#[test]
fn faults_of_the_form_name_their_path() {
    let invalid = Code::InvalidRequest;
    refused::<Records>("", invalid, json!({}));
    refused::<Records>("  \n", invalid, json!({}));
    refused::<Records>("[]", invalid, json!({"path": "."}));
    refused::<Records>("{}", invalid, json!({"path": "."}));
    refused::<Records>(r#"{"vectors": []} x"#, invalid, json!({}));
    refused::<Records>(
        r#"{"vectors": []}"#,
        invalid,
        json!({"path": "vectors", "min": 1, "max": 10_000}),
    );
    refused::<Records>(
        r#"{"vectors": [{"vector": [1]}, {"vector": [1], "vektor": 2}]}"#,
        invalid,
        json!({"path": "vectors[1].vektor", "index": 1}),
    );
    refused::<Records>(
        r#"{"vectors": [{"id": 7, "vector": [1]}]}"#,
        invalid,
        json!({"path": "vectors[0].id"}),
    );
    refused::<Records>(
        r#"{"vectors": [{"id": "a"}]}"#,
        invalid,
        json!({"path": "vectors[0]", "index": 0, "id": "a"}),
    );
    refused::<Records>(r#"{"vectors": [{"id": "a", "vector": [1, 2"#, invalid, json!({"index": 0}));
    refused::<Records>(
        r#"{"vectors": [{"id": "a", "vector": [1], "metadata": {"#,
        invalid,
        json!({}),
    );
    refused::<RoleBody>(r#"["writer"]"#, invalid, json!({"path": "."}));
    refused::<Records>(
        r#"{"vectors": [["a", [1], null, null]]}"#,
        invalid,
        json!({"path": "vectors[0]", "index": 0}),
    );
    refused::<Records>(
        r#"{"columns": [["a"], [1], null, null]}"#,
        invalid,
        json!({"path": "columns"}),
    );
    refused::<Fetch>(r#"{"ids": []}"#, invalid, json!({"path": "ids"}));
    refused::<Fetch>(r#"{"ids": ["a"], "k": 1}"#, invalid, json!({"path": "k"}));
    refused::<CollectionSpec>(
        r#"{"name": "a", "dimensions": 0}"#,
        invalid,
        json!({"path": "dimensions", "min": 1, "max": 4096, "value": 0}),
    );
    refused::<CollectionSpec>(
        r#"{"name": "a", "dimensions": 3, "metric": "manhattan"}"#,
        invalid,
        json!({"path": "metric"}),
    );
    refused::<CollectionSpec>(
        r#"{"name": "../a", "dimensions": 3}"#,
        Code::InvalidCollectionName,
        json!({}),
    );
}

#[test]
fn faults_of_a_vector_name_the_record() {
    let second = |vector: &str| {
        format!(r#"{{"vectors": [{{"vector": [1]}}, {{"id": "b", "vector": {vector}}}]}}"#)
    };
    for vector in ["\"!!\"", "\"AAAA\"", "\"AACAPw\"", "[\"1\"]", "[null]", "null", "true", "{}"] {
        let details = json!({"index": 1, "id": "b"});
        refused::<Records>(&second(vector), Code::InvalidVector, details);
    }
    // What is not JSON at all leaves no id to read.
    for vector in ["[1e400]", "[NaN]", "[1, Infinity]", "[1,\n -Infinity, 2]", "[nan]"] {
        refused::<Records>(&second(vector), Code::InvalidVector, json!({"index": 1}));
    }
    for vector in ["[1,]", "[1", "[01]", "[.5]", "[1 2]", "[banana]"] {
        refused::<Records>(&second(vector), Code::InvalidRequest, json!({"index": 1}));
    }
}

#[test]
fn searches_have_defaults_and_ranges() {
    let search: Search = parse(r#"{"vector": [1, 2]}"#).unwrap();
    let request = search.request;
    assert_eq!(request.query, Target::Vector(vec![1.0, 2.0]));
    assert_eq!((request.k, request.offset, request.filter), (10, 0, None));
    assert!(request.include_metadata && !request.include_vector);
    assert_eq!(request.consistency, Consistency::Eventual);

    let invalid = Code::InvalidRequest;
    for (field, path) in [
        ("\"k\": 0", "k"),
        ("\"k\": 10001", "k"),
        ("\"k\": -1", "k"),
        ("\"k\": 1.5", "k"),
        ("\"k\": \"3\"", "k"),
        ("\"k\": 18446744073709551615", "k"),
        ("\"offset\": 10001", "offset"),
        ("\"offset\": 18446744073709551615", "offset"),
        ("\"offset\": 9991", "offset + k"),
        ("\"waitMs\": 60001", "waitMs"),
        ("\"minVersion\": -1", "minVersion"),
        ("\"consistency\": \"linearizable\"", "consistency"),
        ("\"top_k\": 3", "top_k"),
        ("\"includeVector\": 1", "includeVector"),
    ] {
        let body = format!(r#"{{"vector": [1], {field}}}"#);
        refused::<Search>(&body, invalid, json!({ "path": path }));
    }
    refused::<Search>("{}", invalid, json!({}));
    refused::<Search>(r#"{"vector": [1], "id": "a"}"#, invalid, json!({}));
    refused::<Search>(r#"{"vector": [1, 2], "vector": [1]}"#, invalid, json!({}));
    refused::<Search>(r#"{"vector": "?"}"#, Code::InvalidVector, json!({"path": "vector"}));
    refused::<Search>(
        r#"{"vector": [1], "filter": {"price": {"$gt": [1]}}}"#,
        Code::InvalidFilter,
        json!({"path": "$.price.$gt"}),
    );
    let deep = format!(r#"{{"vector": [1], "filter": {}1{}}}"#, "[".repeat(500), "]".repeat(500));
    refused::<Search>(&deep, Code::InvalidFilter, json!({}));
}

#[test]
fn consistency_and_versions_combine() {
    let consistency = |fields: &str| {
        let search: Search = parse(&format!(r#"{{"id": "a", {fields}}}"#)).unwrap();
        (search.request.consistency, search.floor())
    };
    let wait = |ms| Consistency::AtLeast {
        version: crate::base::ids::Seq(7),
        wait: Duration::from_millis(ms),
    };
    assert_eq!(consistency(r#""minVersion": 7"#).0, wait(5_000));
    assert_eq!(consistency(r#""minVersion": 7, "waitMs": 0"#).0, wait(0));
    let eventual = r#""consistency": "eventual", "minVersion": 7, "waitMs": 60000"#;
    assert_eq!(consistency(eventual).0, wait(60_000));
    assert_eq!(consistency(r#""consistency": "strong""#).0, Consistency::Strong);

    let (strong, floor) = consistency(r#""consistency": "strong", "minVersion": 7"#);
    assert_eq!(strong, Consistency::Strong);
    assert!(floor.check(crate::base::ids::Seq(7)).is_ok());
    let error = floor.check(crate::base::ids::Seq(6)).unwrap_err();
    assert_eq!(error.code(), Code::VersionTimeout);
}

#[test]
fn a_batch_names_the_search_that_is_wrong() {
    let search = r#"{"vector": [1]}"#;
    let Searches(searches) = parse(&format!(r#"{{"searches": [{search}, {search}]}}"#)).unwrap();
    assert_eq!(searches.len(), 2);
    let invalid = Code::InvalidRequest;
    refused::<Searches>(r#"{"searches": []}"#, invalid, json!({"path": "searches"}));
    let many = vec![search; 1_001].join(",");
    let many = format!(r#"{{"searches": [{many}]}}"#);
    refused::<Searches>(&many, invalid, json!({"path": "searches", "max": 1_000}));
    let second = |bad: &str| format!(r#"{{"searches": [{search}, {bad}]}}"#);
    refused::<Searches>(
        &second(r#"{"vector": [1], "k": 0}"#),
        invalid,
        json!({"index": 1, "path": "k"}),
    );
    refused::<Searches>(
        &second(r#"{"vector": [1], "K": 2}"#),
        invalid,
        json!({"path": "searches[1].K"}),
    );
    refused::<Searches>(&second(r#"{"vector": "?"}"#), Code::InvalidVector, json!({"index": 1}));
}

#[test]
fn a_delete_has_one_target() {
    let ids: DeleteTarget = parse(r#"{"ids": ["a", "b"]}"#).unwrap();
    assert_eq!(ids, DeleteTarget::Ids(vec!["a".into(), "b".into()]));
    assert!(matches!(parse(r#"{"filter": {"a": 1}}"#).unwrap(), DeleteTarget::Filter(_)));
    for bad in
        ["{}", r#"{"ids": ["a"], "filter": {"a": 1}}"#, r#"{"ids": []}"#, r#"{"filter": null}"#]
    {
        refused::<DeleteTarget>(bad, Code::InvalidRequest, json!({}));
    }
}
