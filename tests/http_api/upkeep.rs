//! Segments and partitions over HTTP: compact, reshard, stats, objects that are not named, partitioners.

use crate::support::{Api, memory};
use axum::body::Body;
use axum::http::Request;
use brainy::base::Env;
use brainy::base::settings::{Role, Settings};
use brainy::engine::Brainy;
use brainy::partition::Partitioner;
use brainy::store::DynStore;
use serde_json::{Value, json};
use std::sync::Arc;

const THINGS: &str = "/v1/collections/things";

/// An instance that indexes only when it is told to.
async fn quiet(store: DynStore, role: Role) -> Api {
    Api::with(store, role, |settings| settings.index_enabled = false).await
}

/// With 40 records of 2 dimensions in `things`.
async fn forty() -> Api {
    let api = quiet(memory(), Role::Hybrid).await;
    let record = |n: u32| json!({"id": format!("id-{n}"), "vector": [n, 1], "metadata": {"n": n}});
    let records: Vec<Value> = (0..40).map(record).collect();
    let spec = json!({"name": "things", "dimensions": 2, "metric": "euclidean"});
    assert_eq!(api.post("/v1/collections", spec).await.status, 201);
    api.post(&format!("{THINGS}/vectors"), json!({ "vectors": records })).await.ok();
    api
}

async fn compact(api: &Api) -> Value {
    let request = Request::post(format!("{THINGS}/compact")).body(Body::empty()).unwrap();
    api.send(request).await.ok()
}

async fn stats(api: &Api) -> Value {
    api.get(&format!("{THINGS}/stats")).await.ok()
}

/// The ids of all records, the closest to the origin first.
async fn all(api: &Api) -> Vec<String> {
    let body = json!({"vector": [0, 1], "k": 100, "consistency": "strong"});
    let found = api.post(&format!("{THINGS}/search"), body).await.ok();
    let hits = found["results"].as_array().unwrap().iter();
    hits.map(|hit| hit["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn compact_puts_the_log_into_one_segment_without_dead_rows() {
    let api = forty().await;
    let before = stats(&api).await;
    assert_eq!((&before["segments"], &before["tail"]["rows"]), (&json!(0), &json!(40)));
    let ids = all(&api).await;
    assert_eq!(ids.len(), 40);

    let answer = compact(&api).await;
    assert_eq!(answer, json!({"rewritten": 1, "segments": 1, "partitionCount": 1}));
    assert_eq!(all(&api).await, ids);
    let after = stats(&api).await;
    assert_eq!(after["indexedVersion"], after["version"]);
    assert_eq!(after["tail"]["entries"], 0);
    let partition = &after["partitions"][0];
    assert_eq!((&partition["number"], &partition["group"]), (&json!(0), &json!("")));
    assert_eq!(
        (&partition["firstHash"], &partition["vectors"]),
        (&json!("0000000000000000"), &json!(40))
    );
    let segment = &partition["segments"][0];
    assert_eq!((&segment["rows"], &segment["dead"]), (&json!(40), &json!(0)));
    assert_eq!((&segment["oldestVersion"], &segment["newestVersion"]), (&json!(1), &json!(1)));
    assert_eq!(segment["bytes"], after["segmentBytes"]);
    assert!(after["cache"]["bytes"].is_u64() && after["cache"]["segments"].is_u64(), "{after}");

    let change = json!({"vectors": [{"id": "id-0", "vector": [90, 1]}]});
    api.post(&format!("{THINGS}/vectors"), change).await.ok();
    api.post(&format!("{THINGS}/vectors/delete"), json!({"ids": ["id-1"]})).await.ok();
    let expected = [&ids[2..], &["id-0".to_owned()]].concat();
    assert_eq!(all(&api).await, expected);
    let answer = compact(&api).await;
    assert_eq!(answer, json!({"rewritten": 1, "segments": 1, "partitionCount": 1}));
    let after = stats(&api).await;
    assert_eq!((&after["deadRows"], &after["deletionFiles"]), (&json!(0), &json!(0)));
    assert_eq!(
        (&after["vectorCount"], &after["partitions"][0]["vectors"]),
        (&json!(39), &json!(39))
    );
    assert_eq!(all(&api).await, expected);
    assert_eq!(compact(&api).await["rewritten"], 0, "there is nothing left to do");
}

#[tokio::test]
async fn reshard_splits_partitions_and_loses_nothing() {
    let api = forty().await;
    let ids = all(&api).await;
    let reshard = format!("{THINGS}/reshard");
    let answer = api.post(&reshard, json!({"partitionCount": 4})).await.ok();
    assert_eq!((&answer["rewritten"], &answer["partitionCount"]), (&json!(1), &json!(4)));
    let after = stats(&api).await;
    let partitions = after["partitions"].as_array().unwrap();
    let firsts: Vec<&str> =
        partitions.iter().map(|partition| partition["firstHash"].as_str().unwrap()).collect();
    assert_eq!(
        firsts,
        ["0000000000000000", "4000000000000000", "8000000000000000", "c000000000000000"]
    );
    let vectors = partitions.iter().map(|partition| partition["vectors"].as_u64().unwrap());
    assert_eq!(vectors.sum::<u64>(), 40);
    assert_eq!(all(&api).await, ids);
    assert_eq!(api.get(THINGS).await.ok()["partitionCount"], 4);
    for fewer in [1, 2, 4] {
        let answer = api.post(&reshard, json!({"partitionCount": fewer})).await.ok();
        assert_eq!((&answer["rewritten"], &answer["partitionCount"]), (&json!(0), &json!(4)));
    }
}

#[tokio::test]
async fn what_was_replaced_is_listed_until_it_is_collected() {
    let api = forty().await;
    let unnamed = format!("{THINGS}/unnamed");
    compact(&api).await;
    assert_eq!(api.get(&unnamed).await.ok(), json!({"objects": []}));
    let replaced = stats(&api).await["partitions"][0]["segments"][0].clone();
    api.post(&format!("{THINGS}/reshard"), json!({"partitionCount": 2})).await.ok();
    let answer = api.get(&unnamed).await.ok();
    let objects = answer["objects"].as_array().unwrap();
    let key = format!("collections/things/vectors/p000/{}.seg", replaced["id"].as_str().unwrap());
    assert_eq!(objects, &[json!({"key": key, "bytes": replaced["bytes"]})]);
}

#[tokio::test]
async fn bad_input_and_other_roles_are_refused() {
    let api = forty().await;
    let reshard = format!("{THINGS}/reshard");
    for body in [
        json!({"partitionCount": 0}),
        json!({"partitionCount": 4097}),
        json!({"partitionCount": -1}),
        json!({"partitionCount": "4"}),
        json!({"partitionCount": 4, "partitioner": {"kind": "hash"}}),
        json!({}),
        json!(4),
    ] {
        api.post(&reshard, body).await.refused(400, "invalid_request");
    }
    for count in [0, 4_097] {
        let spec = json!({"name": "new", "dimensions": 2, "partitionCount": count});
        let details = api.post("/v1/collections", spec).await.refused(400, "invalid_request");
        assert_eq!(details["max"], 4_096, "{details}");
    }
    api.get(&reshard).await.refused(405, "method_not_allowed");
    for call in ["compact", "reshard"] {
        let path = format!("/v1/collections/nothing/{call}");
        let answer = api.post(&path, json!({"partitionCount": 2})).await;
        answer.refused(404, "collection_not_found");
    }
    api.get("/v1/collections/nothing/unnamed").await.refused(404, "collection_not_found");

    let store = memory();
    let writer = quiet(store.clone(), Role::Writer).await;
    let record = json!({"vectors": [{"id": "a", "vector": [1, 0]}]});
    writer.post(&format!("{THINGS}/vectors"), record).await.ok();
    assert_eq!(compact(&writer).await["segments"], 1, "a writer need not read");
    let reader = quiet(store, Role::Reader).await;
    for call in ["compact", "reshard"] {
        let answer = reader.post(&format!("{THINGS}/{call}"), json!({"partitionCount": 2})).await;
        answer.refused(403, "read_only_instance");
    }
    assert_eq!(stats(&reader).await["partitions"][0]["vectors"], 1);
    reader.get(&format!("{THINGS}/unnamed")).await.ok();
}

#[tokio::test]
async fn a_prefix_gets_partitions_of_its_own() {
    let api = quiet(memory(), Role::Hybrid).await;
    let spec =
        |partitioner: Value| json!({"name": "things", "dimensions": 2, "partitioner": partitioner});
    let rules = |prefix: &str, group: &str| json!({"kind": "prefix", "rules": [{"prefix": prefix, "group": group}]});
    for bad in [
        rules("", "europe"),
        rules("eu-", ""),
        rules("eu-", &"x".repeat(65)),
        json!({"kind": "prefix", "rules": []}),
        json!({"kind": "prefix"}),
        json!({"kind": "range"}),
        json!({"kind": "custom", "name": ""}),
        json!("hash"),
    ] {
        api.post("/v1/collections", spec(bad)).await.refused(400, "invalid_request");
    }
    api.get(THINGS).await.refused(404, "collection_not_found");

    let europe = spec(rules("eu-", "europe"));
    assert_eq!(api.post("/v1/collections", europe.clone()).await.status, 201);
    assert_eq!(api.post("/v1/collections", europe).await.status, 200);
    let other = api.post("/v1/collections", spec(rules("us-", "america"))).await;
    let details = other.refused(409, "settings_conflict");
    assert_eq!(details["existing"]["partitioner"]["rules"][0]["prefix"], "eu-");
    assert_eq!(details["requested"]["partitioner"]["rules"][0]["prefix"], "us-");

    let records = json!({"vectors": [
        {"id": "eu-1", "vector": [1, 0]}, {"id": "eu-2", "vector": [0, 1]},
        {"id": "us-1", "vector": [1, 1]}]});
    api.post(&format!("{THINGS}/vectors"), records).await.ok();
    compact(&api).await;
    let after = stats(&api).await;
    let groups: Vec<(&str, u64)> = after["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["group"].as_str().unwrap(), one["vectors"].as_u64().unwrap()))
        .collect();
    assert_eq!(groups, [("", 1), ("europe", 2)]);
    assert_eq!(all(&api).await.len(), 3);
    assert_eq!(api.get(&format!("{THINGS}/vectors/eu-2")).await.ok()["id"], "eu-2");
}

/// Ids by their last character.
#[derive(Debug)]
struct ByEnd;

impl Partitioner for ByEnd {
    fn name(&self) -> &str {
        "by-end"
    }

    fn group<'a>(&'a self, id: &'a str) -> &'a str {
        &id[id.char_indices().last().map_or(0, |(at, _)| at)..]
    }
}

#[tokio::test]
async fn a_partitioner_that_is_not_here_is_a_conflict_that_shows_both() {
    let store = memory();
    let api = quiet(store.clone(), Role::Hybrid).await;
    let custom = json!({"kind": "custom", "name": "by-end"});
    let spec = json!({"name": "things", "dimensions": 2, "partitioner": custom});
    let details = api.post("/v1/collections", spec.clone()).await.refused(409, "settings_conflict");
    assert_eq!((&details["existing"], &details["here"]), (&json!("by-end"), &json!([])));
    api.get(THINGS).await.refused(404, "collection_not_found");

    let settings = Settings { index_enabled: false, ..Settings::default() };
    let env = Env::system(1).unwrap();
    let with = vec![Arc::new(ByEnd) as Arc<dyn Partitioner>];
    let brainy = Brainy::start_with(settings, Role::Hybrid, store, env, with).await.unwrap();
    let embedding = Api { router: brainy::api::router(brainy.clone()), brainy };
    assert_eq!(embedding.post("/v1/collections", spec).await.status, 201);
    let records =
        json!({"vectors": [{"id": "a1", "vector": [1, 0]}, {"id": "b2", "vector": [0, 1]}]});
    embedding.post(&format!("{THINGS}/vectors"), records.clone()).await.ok();
    compact(&embedding).await;
    let groups = stats(&embedding).await["partitions"].as_array().unwrap().len();
    assert_eq!(groups, 3, "none, 1 and 2");

    let vectors = format!("{THINGS}/vectors");
    for answer in
        [api.get(THINGS).await, api.get(&vectors).await, api.post(&vectors, records).await]
    {
        let details = answer.refused(409, "settings_conflict");
        assert_eq!((&details["existing"], &details["here"]), (&json!("by-end"), &json!([])));
    }
    let listed = api.get("/v1/collections").await.ok();
    let things = &listed["collections"][0];
    assert_eq!((&things["name"], &things["vectorCount"]), (&json!("things"), &json!(2)));
    api.delete(THINGS).await.ok();
}
