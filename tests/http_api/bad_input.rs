//! Each kind of bad input has its own code, names its place, and changes nothing.

use crate::support::{Answer, Api};
use axum::http::{Request, header};
use serde_json::{Value, json};

const VECTORS: &str = "/v1/collections/things/vectors";
const SEARCH: &str = "/v1/collections/things/search";

async fn store(api: &Api, second: Value) -> Answer {
    let body = json!({"vectors": [{"id": "new", "vector": [1, 1]}, second]});
    let answer = api.post(VECTORS, body).await;
    let info = api.get("/v1/collections/things").await.ok();
    assert_eq!(info["vectorCount"], 3, "a refused write stores nothing");
    answer
}

async fn search(api: &Api, body: Value) -> Answer {
    let answer = api.post(SEARCH, body.clone()).await;
    let path = format!("{SEARCH}/batch");
    let batch = api.post(&path, json!({"searches": [{"vector": [1, 0]}, body]})).await;
    assert_eq!(answer.json()["error"]["code"], batch.json()["error"]["code"]);
    answer
}

#[tokio::test]
async fn wrong_dimension() {
    let api = Api::things().await;
    let details = store(&api, json!({"id": "x", "vector": [1, 2, 3]})).await;
    let details = details.refused(400, "dimension_mismatch");
    assert_eq!((&details["index"], &details["id"]), (&json!(1), &json!("x")));
    assert_eq!((&details["expected"], &details["found"]), (&json!(2), &json!(3)));
    store(&api, json!({"vector": []})).await.refused(400, "dimension_mismatch");
    search(&api, json!({"vector": [1, 2, 3]})).await.refused(400, "dimension_mismatch");
}

#[tokio::test]
async fn nan_and_infinity() {
    let api = Api::things().await;
    // 1e39 is JSON, but not a 32-bit number; NaN in base64 is `AADAfw==`.
    for vector in [json!([1, 1e39]), json!("AACAPwAAwH8=")] {
        let answer = store(&api, json!({"id": "x", "vector": vector.clone()})).await;
        let details = answer.refused(400, "invalid_vector");
        assert_eq!((&details["index"], &details["id"]), (&json!(1), &json!("x")));
        search(&api, json!({ "vector": vector })).await.refused(400, "invalid_vector");
    }
    for literal in ["NaN", "Infinity", "-Infinity", "1e999"] {
        let body = format!(r#"{{"vectors": [{{"vector": [1, {literal}]}}]}}"#);
        api.post_text(VECTORS, body).await.refused(400, "invalid_vector");
        let body = format!(r#"{{"vector": [1, {literal}]}}"#);
        api.post_text(SEARCH, body).await.refused(400, "invalid_vector");
    }
}

#[tokio::test]
async fn zero_vector_under_cosine() {
    let api = Api::things().await;
    store(&api, json!({"vector": [0, -0.0]})).await.refused(400, "invalid_vector");
    search(&api, json!({"vector": [0, 0]})).await.refused(400, "invalid_vector");
    let other = json!({"name": "flat", "dimensions": 2, "metric": "euclidean"});
    assert_eq!(api.post("/v1/collections", other).await.status, 201);
    let zero = json!({"vectors": [{"vector": [0, 0]}]});
    api.post("/v1/collections/flat/vectors", zero).await.ok();
}

#[tokio::test]
async fn ids_that_are_empty_oversized_or_have_control_characters() {
    let api = Api::things().await;
    for id in ["".to_owned(), "x".repeat(513), "a\nb".to_owned(), "\u{85}".to_owned()] {
        let answer = store(&api, json!({"id": id, "vector": [1, 1]})).await;
        assert_eq!(answer.refused(400, "invalid_id")["index"], 1);
    }
    let longest = "é".repeat(256);
    let body = json!({"vectors": [{"id": longest, "vector": [1, 1]}]});
    api.post(VECTORS, body).await.ok();
}

#[tokio::test]
async fn metadata_that_is_oversized_or_no_object() {
    let api = Api::things().await;
    let large = json!({"a": "x".repeat(40 << 10)});
    let answer = store(&api, json!({"id": "x", "vector": [1, 1], "metadata": large})).await;
    assert_eq!(answer.refused(400, "invalid_metadata")["id"], "x");
    for metadata in [json!([1]), json!("text"), json!(3), json!(true)] {
        let answer = store(&api, json!({"vector": [1, 1], "metadata": metadata})).await;
        answer.refused(400, "invalid_metadata");
    }
    // Deeper than readers accept: it may not get in, for it would never come out.
    let deep = format!("{{\"a\": {}{}}}", "[".repeat(200), "]".repeat(200));
    let body = format!(r#"{{"vectors": [{{"vector": [1, 1], "metadata": {deep}}}]}}"#);
    api.post_text(VECTORS, body).await.refused(400, "invalid_metadata");
}

#[tokio::test]
async fn unknown_fields() {
    let api = Api::things().await;
    let answer = store(&api, json!({"vector": [1, 1], "meta": {}})).await;
    assert_eq!(answer.refused(400, "invalid_request")["path"], "vectors[1].meta");
    let answer = api.post(SEARCH, json!({"vector": [1, 1], "topK": 3})).await;
    assert_eq!(answer.refused(400, "invalid_request")["path"], "topK");
    let body = json!({"name": "x", "dimensions": 2, "dimension": 3});
    api.post("/v1/collections", body).await.refused(400, "invalid_request");
    for path in ["/v1/collections?page=2", "/v1/collections/things/vectors?includeVectors=true"] {
        api.get(path).await.refused(400, "invalid_request");
    }
}

#[tokio::test]
async fn columns_store_what_rows_would() {
    let api = Api::things().await;
    // [0, 1] and [0.5, 0.25] one after another.
    let vectors = "AAAAAAAAgD8AAAA/AACAPg==";
    let columns = json!({"columns": {
        "ids": ["x", "y"], "vectors": vectors, "metadata": [{"n": 7}, null], "texts": [null, "why"],
    }});
    assert_eq!(api.post(VECTORS, columns).await.ok()["upserted"], 2);
    let y = api.get(&format!("{VECTORS}/y")).await.ok();
    assert_eq!((&y["vector"], &y["text"]), (&json!([0.5, 0.25]), &json!("why")));
    let x = api.get(&format!("{VECTORS}/x")).await.ok();
    assert_eq!((&x["metadata"], x.get("text")), (&json!({"n": 7}), None));
}

#[tokio::test]
async fn columns_that_do_not_fit_together() {
    let api = Api::things().await;
    let (three, two) = (json!(["a", "b", "c"]), json!([0.0, 1.0, 1.0, 0.0]));
    for (columns, path) in [
        (json!({"ids": three, "vectors": two}), "columns.vectors"),
        (json!({"ids": ["a", "b"], "vectors": two, "texts": ["t"]}), "columns.texts"),
        (json!({"ids": ["a", "b"], "vectors": two, "metadata": [{}]}), "columns.metadata"),
    ] {
        let answer = api.post(VECTORS, json!({ "columns": columns })).await;
        assert_eq!(answer.refused(400, "invalid_request")["path"], path);
    }
    let broken = json!({"columns": {"ids": ["a"], "vectors": "AAA"}});
    api.post(VECTORS, broken).await.refused(400, "invalid_vector");
    let both = json!({"columns": {"ids": ["a"], "vectors": [0, 1]}, "vectors": []});
    api.post(VECTORS, both).await.refused(400, "invalid_request");
    let wide = json!({"columns": {"ids": ["a"], "vectors": [0, 1, 2]}});
    api.post(VECTORS, wide).await.refused(400, "dimension_mismatch");
}

#[tokio::test]
async fn malformed_base64() {
    let api = Api::things().await;
    for vector in ["###", "AACAPw", "AACAPwAA", "AACA_w=="] {
        let answer = store(&api, json!({"id": "x", "vector": vector})).await;
        let details = answer.refused(400, "invalid_vector");
        assert_eq!((&details["index"], &details["id"]), (&json!(1), &json!("x")));
        search(&api, json!({"vector": vector})).await.refused(400, "invalid_vector");
    }
}

#[tokio::test]
async fn k_and_pages_out_of_range() {
    let api = Api::things().await;
    for (k, offset) in [(0, 0), (10_001, 0), (9_000, 1_001), (1, 10_000)] {
        let answer = search(&api, json!({"vector": [1, 0], "k": k, "offset": offset})).await;
        assert_eq!(answer.refused(400, "invalid_request")["max"], 10_000);
    }
    for path in ["vectors?limit=0", "vectors?limit=10001", "vectors?limit=x", "vectors?cursor=%21"]
    {
        let path = format!("/v1/collections/things/{path}");
        api.get(&path).await.refused(400, "invalid_request");
    }
    api.get("/v1/collections?limit=1001").await.refused(400, "invalid_request");
    api.post(VECTORS, json!({"vectors": []})).await.refused(400, "invalid_request");
    let many: Vec<_> = (0..10_001).map(|_| json!({"vector": "AACAPwAAgD8="})).collect();
    let answer = api.post(VECTORS, json!({ "vectors": many })).await;
    assert_eq!(answer.refused(400, "invalid_request")["max"], 10_000);
}

#[tokio::test]
async fn filters_that_are_no_filters() {
    let api = Api::things().await;
    for (filter, path) in [
        (json!({"n": {"$near": 3}}), "$.n.$near"),
        (json!({"$and": [{"n": 1}, {"n": {"$in": 3}}]}), "$.$and[1].n.$in"),
        (json!([1]), "$"),
    ] {
        let answer = search(&api, json!({"vector": [1, 0], "filter": filter.clone()})).await;
        assert_eq!(answer.refused(400, "invalid_filter")["path"], path);
        let answer = api.post(&format!("{VECTORS}/delete"), json!({ "filter": filter })).await;
        assert_eq!(answer.refused(400, "invalid_filter")["path"], path);
    }
}

#[tokio::test]
async fn unknown_collections_and_records() {
    let api = Api::things().await;
    let gone = "/v1/collections/gone";
    for path in ["", "/stats", "/vectors", "/vectors/a", "/export"] {
        api.get(&format!("{gone}{path}")).await.refused(404, "collection_not_found");
    }
    api.delete(gone).await.refused(404, "collection_not_found");
    for (path, body) in [
        ("/search", json!({"vector": [1, 0]})),
        ("/search/batch", json!({"searches": [{"vector": [1, 0]}]})),
        ("/vectors/fetch", json!({"ids": ["a"]})),
        ("/vectors/delete", json!({"ids": ["a"]})),
    ] {
        api.post(&format!("{gone}{path}"), body).await.refused(404, "collection_not_found");
    }
    api.get(&format!("{VECTORS}/nobody")).await.refused(404, "vector_not_found");
    search(&api, json!({"id": "nobody"})).await.refused(404, "vector_not_found");
    let answer = api.get("/v1/collections/Not%20a%20name").await;
    answer.refused(400, "invalid_collection_name");
}

#[tokio::test]
async fn truncated_and_broken_bodies() {
    let api = Api::things().await;
    let whole = json!({"vectors": [{"id": "x", "vector": [1, 1]}]}).to_string();
    for length in 0..whole.len() {
        let cut = whole[..length].to_owned();
        api.post_text(VECTORS, cut).await.refused(400, "invalid_request");
    }
    api.post_text(VECTORS, vec![0xff, 0xfe]).await.refused(400, "invalid_request");
    api.post_text(VECTORS, format!("{whole} {whole}")).await.refused(400, "invalid_request");
    let cut = Request::post(VECTORS).header(header::CONTENT_ENCODING, "gzip");
    let answer = api.send(cut.body(vec![0x1f, 0x8b, 8, 0, 0].into()).unwrap()).await;
    answer.refused(400, "invalid_request");
}

#[tokio::test]
async fn content_that_is_not_json() {
    let api = Api::things().await;
    let body = json!({"vectors": [{"id": "x", "vector": [1, 1]}]}).to_string();
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
    {
        // A web page may send these to any site without asking first.
        let request = Request::post(VECTORS)
            .header(header::CONTENT_TYPE, kind)
            .header(header::ORIGIN, "https://elsewhere.example");
        let answer = api.send(request.body(body.clone().into()).unwrap()).await;
        answer.refused(403, "origin_not_allowed");
    }
    let text = Request::post(VECTORS).header(header::CONTENT_TYPE, "text/plain");
    let answer = api.send(text.body(body.clone().into()).unwrap()).await;
    answer.refused(415, "unsupported_media_type");
    let untyped = Request::post(VECTORS).header(header::ORIGIN, "https://elsewhere.example");
    let answer = api.send(untyped.body(body.clone().into()).unwrap()).await;
    answer.refused(403, "origin_not_allowed");
    // `curl -d` says that JSON is a form, and is no web page.
    for kind in
        ["application/json", "Application/JSON; charset=utf-8", "application/x-www-form-urlencoded"]
    {
        let request = Request::post(VECTORS).header(header::CONTENT_TYPE, kind);
        api.send(request.body(body.clone().into()).unwrap()).await.ok();
    }
    let untyped = Request::post(VECTORS).body(body.into()).unwrap();
    api.send(untyped).await.ok();
}
