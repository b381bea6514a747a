//! Small values that all instances share.

use super::World;
use crate::support::{Answer, Api};
use axum::body::Body;
use axum::http::{HeaderName, Request, header};
use brainy::base::settings::Role;
use brainy::store::paths;
use serde_json::{Value, json};

const KEY: &str = "/cluster/state/jobs%2Fnightly";

/// A call with a precondition.
async fn call(
    api: &Api,
    method: &str,
    path: &str,
    headers: &[(HeaderName, &str)],
    body: Option<Value>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    api.send(request.body(body).unwrap()).await
}

async fn put(api: &Api, path: &str, headers: &[(HeaderName, &str)], value: Value) -> Answer {
    call(api, "PUT", path, headers, Some(json!({ "value": value }))).await
}

/// An etag as the header has it.
fn etag(answer: &Answer) -> String {
    let header = answer.headers[header::ETAG].to_str().unwrap();
    assert_eq!(header, format!("\"{}\"", answer.ok()["etag"].as_str().unwrap()));
    header.to_owned()
}

#[tokio::test]
async fn every_instance_sees_a_value_and_a_change_names_the_one_it_replaces() {
    let world = World::new();
    let (writer, reader) = world.pair().await;
    reader.get(KEY).await.refused(404, "state_not_found");
    let created = put(&writer, KEY, &[(header::IF_NONE_MATCH, "*")], json!({"hour": 3})).await;
    let first = etag(&created);
    super::has_fields(&created.ok(), &["key", "value", "etag", "version", "updated"]);
    let seen = reader.get(KEY).await;
    assert_eq!((seen.ok(), etag(&seen)), (created.ok(), first.clone()));
    assert_eq!(seen.ok()["value"], json!({"hour": 3}));
    assert_eq!(seen.ok()["key"], "jobs/nightly");

    // A second creation, and a change of what has changed since.
    let again = put(&reader, KEY, &[(header::IF_NONE_MATCH, "*")], json!(1)).await;
    assert_eq!(again.refused(412, "precondition_failed")["etag"], created.ok()["etag"]);
    let changed = put(&reader, KEY, &[(header::IF_MATCH, &first)], json!({"hour": 4})).await;
    let second = etag(&changed);
    let late = put(&writer, KEY, &[(header::IF_MATCH, &first)], json!({"hour": 5})).await;
    assert_eq!(late.refused(412, "precondition_failed")["etag"], changed.ok()["etag"]);
    assert_eq!(writer.get(KEY).await.ok()["value"], json!({"hour": 4}));
    assert!(changed.ok()["version"].as_u64() > created.ok()["version"].as_u64());

    let wrong = call(&writer, "DELETE", KEY, &[(header::IF_MATCH, &first)], None).await;
    wrong.refused(412, "precondition_failed");
    let deleted = call(&writer, "DELETE", KEY, &[(header::IF_MATCH, &second)], None).await;
    assert_eq!(deleted.ok(), json!({"deleted": true}));
    assert_eq!(reader.delete(KEY).await.ok(), json!({"deleted": false}));
    reader.get(KEY).await.refused(404, "state_not_found");
    // The same value again has another name: an etag never comes back.
    let absent = put(&writer, KEY, &[(header::IF_MATCH, &second)], json!({"hour": 4})).await;
    assert_eq!(absent.refused(412, "precondition_failed")["etag"], Value::Null);
    let anew = put(&writer, KEY, &[], json!({"hour": 4})).await;
    assert!(![first, second].contains(&etag(&anew)));
}

#[tokio::test]
async fn entries_are_listed_by_prefix_and_page() {
    let world = World::new();
    // Also on an instance that has not joined.
    let api = world.apart("a", Role::Reader, |_| {}).await;
    for key in ["b", "jobs%2Fx", "jobs%2Fy", "jobs%2Fz", "jobs-old"] {
        put(&api, &format!("/cluster/state/{key}"), &[], key.into()).await.ok();
    }
    let keys = |page: &Value| {
        let entries = page["entries"].as_array().unwrap().iter();
        entries.map(|entry| entry["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = api.get("/cluster/state").await.ok();
    super::has_fields(&all, &["entries", "nextCursor"]);
    assert_eq!((keys(&all).len(), &all["nextCursor"]), (5, &Value::Null));
    let first = api.get("/cluster/state?prefix=jobs%2F&limit=2").await.ok();
    assert_eq!(keys(&first), ["jobs/x", "jobs/y"]);
    assert_eq!(first["entries"][0]["value"], "jobs%2Fx");
    let cursor = first["nextCursor"].as_str().unwrap().replace('/', "%2F");
    let path = format!("/cluster/state?prefix=jobs%2F&limit=2&cursor={cursor}");
    let second = api.get(&path).await.ok();
    assert_eq!((keys(&second), &second["nextCursor"]), (vec!["jobs/z".to_owned()], &Value::Null));
    for query in ["limit=0", "limit=1001", "limit=x", "prefix=%20", "cursor=..", "page=2"] {
        let answer = api.get(&format!("/cluster/state?{query}")).await;
        answer.refused(400, "invalid_request");
    }
}

#[tokio::test]
async fn keys_values_and_preconditions_are_checked() {
    let world = World::new();
    let api = world.apart("a", Role::Reader, |_| {}).await;
    let long = "k".repeat(257);
    for key in ["..", "a%2F..%2Fb", "a%2F%2Fb", "%2Fa", "a%20b", "%C3%A4", "a.json%2Fb", &long] {
        let path = format!("/cluster/state/{key}");
        put(&api, &path, &[], json!(1)).await.refused(400, "invalid_request");
        api.get(&path).await.refused(400, "invalid_request");
        api.delete(&path).await.refused(400, "invalid_request");
    }
    // A text of 65,534 letters is 64 KiB with its quotes.
    let text = |letters: usize| json!("x".repeat(letters));
    put(&api, KEY, &[], text(65_534)).await.ok();
    put(&api, KEY, &[], text(65_535)).await.refused(413, "payload_too_large");
    for body in [json!({}), json!({"value": 1, "ttl": 5}), json!(1)] {
        let answer = call(&api, "PUT", KEY, &[], Some(body)).await;
        answer.refused(400, "invalid_request");
    }
    put(&api, KEY, &[], Value::Null).await.ok();
    assert_eq!(api.get(KEY).await.ok()["value"], Value::Null);
    for headers in [
        vec![(header::IF_MATCH, "*")],
        vec![(header::IF_MATCH, "\"a\", \"b\"")],
        vec![(header::IF_NONE_MATCH, "\"a\"")],
        vec![(header::IF_MATCH, "\"a\""), (header::IF_NONE_MATCH, "*")],
    ] {
        put(&api, KEY, &headers, json!(1)).await.refused(400, "invalid_request");
    }
    let plain = Request::put(KEY).header(header::CONTENT_TYPE, "text/plain");
    let plain = plain.body(Body::from("{\"value\": 1}")).unwrap();
    api.send(plain).await.refused(415, "unsupported_media_type");
}

#[tokio::test]
async fn an_entry_that_is_broken_is_named_beside_the_others() {
    let world = World::new();
    let (writer, reader) = world.pair().await;
    for key in ["jobs%2Fa", "jobs%2Fb", "jobs%2Fc"] {
        put(&writer, &format!("/cluster/state/{key}"), &[], json!(1)).await.ok();
    }
    let sound = reader.get("/cluster/state?prefix=jobs/").await.ok();
    assert!(sound.get("damaged").is_none(), "{sound}");
    world.store.put(&paths::state("jobs/b"), "{\"value\": 1".into()).await.unwrap();
    let page = reader.get("/cluster/state?prefix=jobs/").await.ok();
    let keys = page["entries"].as_array().unwrap().iter().map(|entry| &entry["key"]);
    assert_eq!(keys.collect::<Vec<_>>(), ["jobs/a", "jobs/c"]);
    assert_eq!(page["damaged"].as_array().unwrap().len(), 1);
    assert_eq!(page["damaged"][0]["key"], "jobs/b");
    assert!(page["damaged"][0]["reason"].as_str().unwrap().contains("jobs/b"), "{page}");
    reader.get("/cluster/state/jobs%2Fb").await.refused(500, "corrupt");
}
