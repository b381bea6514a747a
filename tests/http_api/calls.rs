//! Every call of the contract, as it should go.

use crate::support::{Api, memory};
use brainy::base::ids::CollectionName;
use brainy::base::settings::Role;
use brainy::store::paths;
use serde_json::{Value, json};

const THINGS: &str = "/v1/collections/things";

#[tokio::test]
async fn collections_are_created_once_and_conflicts_show_both_values() {
    let api = Api::open().await;
    let spec = json!({"name": "articles", "dimensions": 3, "metric": "dot", "description": "d"});
    let created = api.post("/v1/collections", spec.clone()).await;
    assert_eq!(created.status, 201);
    let body = created.json();
    assert_eq!(body["name"], "articles");
    assert_eq!((&body["dimensions"], &body["metric"]), (&json!(3), &json!("dot")));
    assert_eq!((&body["vectorCount"], &body["indexedVersion"]), (&json!(0), &json!(0)));
    assert!(body["createdAt"].as_str().unwrap().ends_with('Z') && body["partitionCount"].is_u64());
    assert_eq!(api.post("/v1/collections", spec).await.status, 200);

    let other = json!({"name": "articles", "dimensions": 4, "metric": "dot"});
    let details = api.post("/v1/collections", other).await.refused(409, "settings_conflict");
    let shown = details.to_string();
    assert!(shown.contains('3') && shown.contains('4'), "both values: {shown}");

    let got = api.get("/v1/collections/articles").await.ok();
    assert_eq!(got["description"], "d");
    let deleted = api.delete("/v1/collections/articles").await.ok();
    assert_eq!(deleted, json!({"deleted": true}));
    api.get("/v1/collections/articles").await.refused(404, "collection_not_found");
}

#[tokio::test]
async fn collections_are_listed_in_pages() {
    let api = Api::open().await;
    for name in ["b", "a", "c"] {
        api.post("/v1/collections", json!({"name": name, "dimensions": 2})).await;
    }
    let mut names = Vec::new();
    let mut path = "/v1/collections?limit=2".to_owned();
    loop {
        let page = api.get(&path).await.ok();
        let page_names = page["collections"].as_array().unwrap().iter();
        names.extend(page_names.map(|info| info["name"].as_str().unwrap().to_owned()));
        match page["nextCursor"].as_str() {
            Some(cursor) => path = format!("/v1/collections?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    names.retain(|name| name != "default");
    assert_eq!(names, ["a", "b", "c"]);
}

#[tokio::test]
async fn records_come_back_as_they_were_written() {
    let api = Api::open().await;
    let text = r#"{"vectors": [{"id": "a", "vector": [0.1, -2], "metadata": {"z": 1.50, "a": "é"}, "text": "t"},
                               {"vector": "AACAPwAAAEA="}]}"#;
    let written = api.post_text(&format!("{THINGS}/vectors"), text).await.ok();
    assert_eq!(written["upserted"], 2);
    let ids = written["ids"].as_array().unwrap();
    assert_eq!((ids.len(), &ids[0]), (2, &json!("a")));

    let answer = api.get(&format!("{THINGS}/vectors/a")).await;
    assert!(String::from_utf8_lossy(&answer.bytes).contains(r#"{"z":1.5,"a":"é"}"#));
    let record = answer.ok();
    assert_eq!(record["vector"], json!([0.1, -2.0]));
    assert_eq!((&record["text"], &record["version"]), (&json!("t"), &written["version"]));
    let made = api.get(&format!("{THINGS}/vectors/{}", ids[1].as_str().unwrap())).await.ok();
    assert_eq!((&made["vector"], &made["metadata"]), (&json!([1.0, 2.0]), &json!({})));
    assert!(made.get("text").is_none());

    let again = json!({"vectors": [{"id": "a", "vector": [1, 1]}]});
    let again = api.post(&format!("{THINGS}/vectors"), again).await.ok();
    assert!(again["version"].as_u64() > written["version"].as_u64() && again.get("ids").is_none());
    assert_eq!(api.get(&format!("{THINGS}/vectors/a")).await.ok()["metadata"], json!({}));
}

#[tokio::test]
async fn ids_in_paths_may_hold_any_character() {
    let api = Api::open().await;
    let ids = ["docs/a b/ü?#%.html", "fetch", "delete", "..", "a%2Fb"];
    let records: Vec<Value> = ids.iter().map(|id| json!({"id": id, "vector": [1, 1]})).collect();
    api.post(&format!("{THINGS}/vectors"), json!({ "vectors": records })).await.ok();
    for (id, encoded) in ids.into_iter().zip([
        "docs%2Fa%20b%2F%C3%BC%3F%23%25.html",
        "fetch",
        "delete",
        "%2E%2E",
        "a%252Fb",
    ]) {
        let record = api.get(&format!("{THINGS}/vectors/{encoded}")).await.ok();
        assert_eq!(record["id"], id);
    }
    let answer = api.get(&format!("{THINGS}/vectors/%FF")).await;
    answer.refused(400, "invalid_request");
}

#[tokio::test]
async fn records_are_listed_in_pages_ordered_by_id() {
    let api = Api::things().await;
    let page = api.get(&format!("{THINGS}/vectors?limit=2")).await.ok();
    assert_eq!((&page["vectors"][0]["id"], &page["vectors"][1]["id"]), (&json!("a"), &json!("b")));
    assert!(page["vectors"][0].get("vector").is_none(), "vectors only where asked for");
    let cursor = page["nextCursor"].as_str().unwrap();
    let path = format!("{THINGS}/vectors?limit=2&includeVector=true&cursor={cursor}");
    let last = api.get(&path).await.ok();
    assert_eq!(last["vectors"].as_array().unwrap().len(), 1);
    assert_eq!(last["vectors"][0]["vector"], json!([0.7, 0.7]));
    assert_eq!((&last["nextCursor"], &last["version"]), (&Value::Null, &page["version"]));
}

#[tokio::test]
async fn records_are_fetched_and_deleted_by_id_and_by_filter() {
    let api = Api::things().await;
    let body = json!({"ids": ["c", "nobody", "a"], "includeVector": true});
    let fetched = api.post(&format!("{THINGS}/vectors/fetch"), body).await.ok();
    assert_eq!(
        (&fetched["vectors"][0]["id"], &fetched["vectors"][1]["id"]),
        (&json!("c"), &json!("a"))
    );
    assert_eq!(fetched["vectors"][1]["vector"], json!([1.0, 0.0]));
    assert_eq!(fetched["missing"], json!(["nobody"]));

    let delete = format!("{THINGS}/vectors/delete");
    let deleted = api.post(&delete, json!({"ids": ["a", "nobody"]})).await.ok();
    assert_eq!(deleted["deleted"], 1);
    let deleted = api.post(&delete, json!({"filter": {"n": {"$gte": 3}}})).await.ok();
    assert_eq!(deleted["deleted"], 1);
    assert_eq!(api.get(THINGS).await.ok()["vectorCount"], 1);
    let stats = api.get(&format!("{THINGS}/stats")).await.ok();
    assert_eq!((&stats["name"], &stats["vectorCount"]), (&json!("things"), &json!(1)));
    assert!(stats["tail"]["rows"].as_u64() >= Some(1) && stats["tail"]["bytes"].is_u64());
}

#[tokio::test]
async fn searches_answer_the_closest_first() {
    let api = Api::things().await;
    let search = format!("{THINGS}/search");
    let found = api.post(&search, json!({"vector": [1, 0.1], "k": 2})).await.ok();
    let results = found["results"].as_array().unwrap();
    assert_eq!((&results[0]["id"], &results[1]["id"]), (&json!("a"), &json!("c")));
    assert_eq!((results.len(), &results[0]["metadata"]), (2, &json!({"n": 1, "lang": "en"})));
    assert_eq!(results[0]["text"], "first");
    assert!(results[0].get("vector").is_none());
    let expected = 1.0 - 1.0 / (1.01f64).sqrt();
    assert!((results[0]["distance"].as_f64().unwrap() - expected).abs() < 1e-6);
    let stats = &found["stats"];
    assert!(
        stats["tookMs"].is_f64() && stats["storeRequests"].is_u64() && stats["storeBytes"].is_u64()
    );

    let body = json!({"id": "a", "offset": 1, "includeVector": true, "includeMetadata": false});
    let found = api.post(&search, body).await.ok();
    assert_eq!(
        found["results"].as_array().unwrap().len(),
        1,
        "a itself and the first are left out"
    );
    assert_eq!(found["results"][0]["vector"], json!([0.0, 1.0]));
    assert!(found["results"][0].get("metadata").is_none());

    let body = json!({"vector": [1, 0], "filter": {"n": {"$gt": 1}}, "k": 1});
    assert_eq!(api.post(&search, body).await.ok()["results"][0]["id"], "c");
}

#[tokio::test]
async fn a_batch_answers_each_search_on_one_version() {
    let api = Api::things().await;
    let searches = json!({"searches": [{"vector": [1, 0], "k": 1}, {"id": "b"}]});
    let answer = api.post(&format!("{THINGS}/search/batch"), searches).await.ok();
    assert_eq!(answer["responses"].as_array().unwrap().len(), 2);
    assert_eq!(answer["responses"][0]["results"][0]["id"], "a");
    assert_eq!(answer["responses"][1]["results"].as_array().unwrap().len(), 2);
    assert_eq!(answer["version"], api.get(THINGS).await.ok()["version"]);
    let each = answer["responses"].as_array().unwrap().iter();
    let rows: u64 = each.map(|one| one["stats"]["rowsScanned"].as_u64().unwrap()).sum();
    assert_eq!(answer["stats"]["rowsScanned"], rows);
}

#[tokio::test]
async fn a_search_waits_for_a_version_or_says_that_it_did_not_come() {
    let store = memory();
    let writer = Api::with(store.clone(), Role::Writer, |_| {}).await;
    let reader = Api::with(store, Role::Reader, |_| {}).await;
    let record = json!({"vectors": [{"id": "a", "vector": [1, 0]}]});
    let written = writer.post(&format!("{THINGS}/vectors"), record.clone()).await.ok();
    let search = format!("{THINGS}/search");
    let version = written["version"].as_u64().unwrap();
    for body in [
        json!({"vector": [1, 0], "minVersion": version}),
        json!({"vector": [1, 0], "consistency": "strong"}),
        json!({"vector": [1, 0], "consistency": "strong", "minVersion": version}),
    ] {
        let found = reader.post(&search, body).await.ok();
        assert_eq!(found["results"][0]["id"], "a");
        assert!(found["version"].as_u64() >= Some(version));
    }
    for body in [
        json!({"vector": [1, 0], "minVersion": version + 1, "waitMs": 1}),
        json!({"vector": [1, 0], "minVersion": version + 1, "consistency": "strong"}),
    ] {
        reader.post(&search, body).await.refused(504, "version_timeout");
    }
    let answer = reader.post(&format!("{THINGS}/vectors"), record).await;
    assert!(answer.refused(403, "read_only_instance")["writers"].is_array());
    let answer = writer.post(&search, json!({"vector": [1, 0]})).await;
    assert!(answer.refused(403, "write_only_instance")["readers"].is_array());
    assert_eq!(writer.get(THINGS).await.ok()["vectorCount"], Value::Null);
}

#[tokio::test]
async fn a_collection_whose_manifest_is_broken_is_named_beside_the_others() {
    let store = memory();
    let api = Api::with(store.clone(), Role::Hybrid, |_| {}).await;
    for name in ["a", "b", "c"] {
        let created = api.post("/v1/collections", json!({"name": name, "dimensions": 2})).await;
        assert_eq!(created.status, 201);
    }
    assert!(api.get("/v1/collections").await.ok().get("damaged").is_none());
    let broken = paths::manifest(&CollectionName::new("b").unwrap());
    store.put(&broken, "{}".into()).await.unwrap();
    let other = Api::with(store, Role::Reader, |_| {}).await;
    let page = other.get("/v1/collections").await.ok();
    let names = page["collections"].as_array().unwrap().iter().map(|found| &found["name"]);
    assert_eq!(names.collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(page["damaged"].as_array().unwrap().len(), 1);
    assert_eq!(page["damaged"][0]["name"], "b");
    assert!(!page["damaged"][0]["reason"].as_str().unwrap().is_empty());
}
