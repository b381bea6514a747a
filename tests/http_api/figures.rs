//! Figures in answers: what they count, how many digits they have; and limits, which count what is stored.

use crate::support::Api;
use axum::http::{Request, header};
use serde_json::{Value, json};

const VECTORS: &str = "/v1/collections/things/vectors";
const SEARCH: &str = "/v1/collections/things/search";
const STATE: &str = "/cluster/state/k";

#[tokio::test]
async fn upserted_counts_records_and_not_mentions() {
    let api = Api::open().await;
    let record = |id: &str, n: u32| json!({"id": id, "vector": [1, 1], "metadata": {"n": n}});
    let body = json!({"vectors": [record("a", 1), record("b", 2), record("a", 3)]});
    assert_eq!(api.post(VECTORS, body).await.ok()["upserted"], 2);
    assert_eq!(api.get(&format!("{VECTORS}/a")).await.ok()["metadata"]["n"], 3);
    let body = json!({"columns": {"ids": ["c", "c"], "vectors": [1, 1, 1, 2]}});
    assert_eq!(api.post(VECTORS, body).await.ok()["upserted"], 1);
    let body = json!({"vectors": [{"vector": [1, 1]}, {"vector": [1, 1]}, record("a", 4)]});
    assert_eq!(api.post(VECTORS, body).await.ok()["upserted"], 3);
    assert_eq!(api.get("/v1/collections/things").await.ok()["vectorCount"], 5);
}

/// Every number with more than three decimals, but for distances.
fn long(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Number(number) => {
            let text = number.to_string();
            let decimals = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
            if decimals > 3 && !path.ends_with("distance") {
                found.push(format!("{path}: {text}"));
            }
        }
        Value::Array(all) => all.iter().for_each(|one| long(one, path, found)),
        Value::Object(all) => {
            all.iter().for_each(|(name, one)| long(one, &format!("{path}.{name}"), found));
        }
        _ => {}
    }
}

#[tokio::test]
async fn no_figure_has_more_than_three_decimals() {
    let api = Api::things().await;
    let (mut found, mut numbers) = (Vec::new(), 0);
    for _ in 0..5 {
        let batch = json!({"searches": [{"vector": [1, 0]}, {"id": "a"}]});
        let answers = [
            api.post(SEARCH, json!({"vector": [0.3, 0.7], "consistency": "strong"})).await,
            api.post(&format!("{SEARCH}/batch"), batch).await,
            api.get("/health").await,
            api.get("/cluster/status").await,
            api.get("/v1/collections/things/stats").await,
        ];
        for answer in answers {
            let json = answer.json();
            numbers += json.to_string().matches('.').count();
            long(&json, "", &mut found);
        }
    }
    assert!(found.is_empty() && numbers > 20, "{found:?} {numbers}");
}

/// JSON of a text of characters, each as `\uXXXX`.
fn escaped(text: &str) -> String {
    text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
}

/// Bodies that hold as much as is allowed, most of it in escapes.
fn escaped_bodies() -> Vec<(&'static str, String)> {
    let words = "中".repeat(13_000);
    let record = |rest: &str| format!("{{\"vectors\": [{{\"vector\": [1, 1], {rest}}}]}}");
    let value = |n| format!("\"{n}{}\"", escaped(&"A".repeat(100)));
    let list: Vec<String> = (0..5_000).map(value).collect();
    let filter = format!("{{\"x\": {{\"$in\": [{}]}}}}", list.join(","));
    vec![
        (VECTORS, record(&format!("\"id\": \"m\", \"metadata\": {{\"t\": \"{words}\"}}"))),
        (
            VECTORS,
            record(&format!("\"id\": \"m\", \"metadata\": {{\"t\": \"{}\"}}", escaped(&words))),
        ),
        (VECTORS, record(&format!("\"text\": \"{}\"", escaped(&"é".repeat(500_000))))),
        (VECTORS, record(&format!("\"id\": \"{}\"", escaped(&"中".repeat(170))))),
        (STATE, format!("{{\"value\": \"{}\"}}", escaped(&"A".repeat(65_000)))),
        (SEARCH, format!("{{\"vector\": [1, 1], \"filter\": {filter}}}")),
    ]
}

#[tokio::test]
async fn a_limit_counts_what_is_stored_and_not_how_it_was_escaped() {
    let api = Api::things().await;
    let send = async |path: &str, body: String| {
        let method = if path == STATE { "PUT" } else { "POST" };
        let request = Request::builder().method(method).uri(path);
        let request = request.header(header::CONTENT_TYPE, "application/json");
        api.send(request.body(body.into()).unwrap()).await
    };
    for (path, body) in escaped_bodies() {
        let answer = send(path, body).await;
        let said = String::from_utf8_lossy(&answer.bytes[..200.min(answer.bytes.len())]);
        assert_eq!(answer.status, 200, "{path}: {said}");
    }
    let words = "中".repeat(13_000);
    let found = api.get(&format!("{VECTORS}/m")).await.ok();
    assert_eq!(found["metadata"]["t"], words);
    // Imports have the same limits.
    let line = format!(
        "{{\"id\": \"i\", \"vector\": [1, 1], \"metadata\": {{\"t\": \"{}\"}}}}",
        escaped(&words)
    );
    let import = Request::post("/v1/collections/things/import").body(line.into()).unwrap();
    assert_eq!(api.send(import).await.ok()["imported"], 1);
    // And where there is too much, it is too much in any form.
    let more = "A".repeat(66_000);
    for value in [more.clone(), escaped(&more)] {
        let body = format!("{{\"value\": \"{value}\"}}");
        send(STATE, body).await.refused(413, "payload_too_large");
    }
}
