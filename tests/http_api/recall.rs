//! Effort and the recall that it gives.

use crate::support::Api;
use serde_json::{Value, json};

const THINGS: &str = "/v1/collections/things";
const DIMENSIONS: usize = 24;
const ROWS: usize = 6_000;

/// Values in -1..1, the same each time.
fn vector(mut state: u64) -> Vec<f32> {
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    };
    (0..DIMENSIONS + 4).map(|_| next()).skip(4).collect()
}

async fn indexed() -> Api {
    let api = Api::open().await;
    for first in (0..ROWS).step_by(3_000) {
        let record = |n: usize| {
            let vector = vector(n as u64);
            json!({"id": format!("r{n}"), "vector": vector, "metadata": {"even": n.is_multiple_of(2)}})
        };
        let vectors: Vec<Value> = (first..first + 3_000).map(record).collect();
        api.post(&format!("{THINGS}/vectors"), json!({"vectors": vectors})).await.ok();
    }
    api.post(&format!("{THINGS}/compact"), json!({})).await.ok();
    // The segment is taken up beside the searches.
    for _ in 0..1_000 {
        recall(&api, json!({"sample": 1, "consistency": "strong"})).await;
        if api.get(&format!("{THINGS}/stats")).await.ok()["tail"]["rows"] == 0 {
            return api;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the segment is not taken up");
}

async fn recall(api: &Api, body: Value) -> Value {
    api.post(&format!("{THINGS}/recall"), body).await.ok()
}

#[tokio::test]
async fn more_effort_finds_more_and_all_of_it_finds_all() {
    let api = indexed().await;
    let queries: Vec<Vec<f32>> = (0..50).map(|n| vector(1_000_000 + n)).collect();
    let of = |effort: Value| {
        let mut body = json!({"queries": queries, "k": 10});
        body.as_object_mut().unwrap().extend(effort.as_object().unwrap().clone());
        recall(&api, body)
    };
    let narrow = of(json!({"ef": 10})).await;
    let usual = of(json!({})).await;
    let all = of(json!({"targetRecall": 1})).await;
    let share = |report: &Value| report["recall"].as_f64().unwrap();
    assert!(share(&narrow) < share(&usual) - 0.02, "{narrow} {usual}");
    assert!(share(&usual) >= 0.9, "{usual}");
    assert_eq!((share(&all), all["lowest"].as_f64()), (1.0, Some(1.0)));
    assert_eq!(
        (&all["queries"], &all["results"], &all["found"]),
        (&json!(50), &json!(500), &json!(500))
    );
    assert!(usual["lowest"].as_f64().unwrap() <= share(&usual));
    assert!(usual["tookMs"].is_f64() && usual["exactTookMs"].is_f64());

    // A search finds what the report says.
    let search = json!({"vector": queries[0], "targetRecall": 1});
    let exact = api.post(&format!("{THINGS}/search"), search).await.ok();
    let search = json!({"vector": queries[0], "ef": 3000});
    let wide = api.post(&format!("{THINGS}/search"), search).await.ok();
    assert_eq!(exact["results"], wide["results"]);
}

#[tokio::test]
async fn records_of_the_collection_ask_for_others() {
    let api = indexed().await;
    let report =
        recall(&api, json!({"sample": 40, "filter": {"even": true}, "targetRecall": 1})).await;
    assert_eq!((&report["queries"], &report["results"]), (&json!(40), &json!(400)));
    assert_eq!(recall(&api, json!({})).await["queries"], 25);

    // Most of what could be drawn is deleted.
    let filter = json!({"filter": {"even": true}});
    api.post(&format!("{THINGS}/vectors/delete"), filter).await.ok();
    assert_eq!(recall(&api, json!({"consistency": "strong"})).await["queries"], 25);
    let rest = json!({"filter": {"even": false}});
    api.post(&format!("{THINGS}/vectors/delete"), rest).await.ok();
    let body = json!({"consistency": "strong"});
    api.post(&format!("{THINGS}/recall"), body).await.refused(400, "invalid_request");
    // Where there is nothing to find, all of it is found.
    let body = json!({"queries": [vector(1)], "consistency": "strong"});
    let report = recall(&api, body).await;
    assert_eq!((&report["recall"], &report["results"]), (&json!(1.0), &json!(0)));
}

#[tokio::test]
async fn effort_out_of_range_is_refused() {
    let api = Api::things().await;
    for effort in [
        json!({"ef": 0}),
        json!({"ef": 10_001}),
        json!({"targetRecall": 0.49}),
        json!({"targetRecall": 1.01}),
        json!({"targetRecall": 1e300}),
        json!({"targetRecall": 0.9, "ef": 100}),
        json!({"ef": -1}),
        json!({"ef": 1.5}),
    ] {
        let mut search = effort.clone();
        search["vector"] = json!([1, 0]);
        api.post(&format!("{THINGS}/search"), search).await.refused(400, "invalid_request");
        api.post(&format!("{THINGS}/recall"), effort).await.refused(400, "invalid_request");
    }
    for (body, code) in [
        (json!({"sample": 0}), "invalid_request"),
        (json!({"sample": 1_001}), "invalid_request"),
        (json!({"queries": []}), "invalid_request"),
        (json!({"queries": [[1, 0]], "sample": 1}), "invalid_request"),
        (json!({"k": 0}), "invalid_request"),
        (json!({"offset": 1}), "invalid_request"),
        (json!({"queries": [[1, 0, 0]]}), "dimension_mismatch"),
        (json!({"queries": [[0, 0]]}), "invalid_vector"),
        (json!({"queries": ["!"]}), "invalid_vector"),
        (json!({"filter": {"n": {"$near": 1}}}), "invalid_filter"),
    ] {
        api.post(&format!("{THINGS}/recall"), body).await.refused(400, code);
    }
    api.post("/v1/collections/gone/recall", json!({})).await.refused(404, "collection_not_found");
}
