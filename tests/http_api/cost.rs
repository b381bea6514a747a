//! What an answer says that it cost.

use crate::support::{Api, memory};
use brainy::base::settings::{Role, Settings};
use brainy::engine::Brainy;
use brainy::store::DynStore;
use serde_json::{Value, json};

const SEARCH: &str = "/v1/collections/things/search";

/// An instance whose requests to the store are counted.
async fn counted(store: &DynStore, role: Role) -> Api {
    // It looks only when it is asked, and what it shows stays good for the length of a test.
    let settings = Settings { poll_interval_ms: 60_000, ..Settings::default() };
    let brainy = Brainy::open_on(settings, role, store.clone(), Vec::new()).await.unwrap();
    Api { router: brainy::api::router(brainy.clone()), brainy }
}

/// Requests, rounds, bytes and 10⁻⁷ dollars.
fn cost(answer: &Value) -> (u64, u64, u64, u64) {
    let stats = &answer["stats"];
    let figure = |name: &str| stats[name].as_u64().unwrap();
    let dollars = stats["costDollars"].as_f64().unwrap();
    (
        figure("storeRequests"),
        figure("rounds"),
        figure("storeBytes"),
        (dollars * 1e7).round() as u64,
    )
}

#[tokio::test]
async fn a_cold_search_says_what_it_asked_of_the_store_and_a_warm_one_asks_nothing() {
    let store = memory();
    let writer = counted(&store, Role::Writer).await;
    let vectors: Vec<Value> =
        (0..2_000).map(|n| json!({"id": format!("r{n}"), "vector": [n, 1]})).collect();
    let body = json!({"vectors": vectors});
    writer.post("/v1/collections/things/vectors", body).await.ok();
    writer.post("/v1/collections/things/compact", json!({})).await.ok();
    writer
        .post("/v1/collections/things/vectors", json!({"vectors": [{"vector": [1, 1]}]}))
        .await
        .ok();

    let reader = counted(&store, Role::Reader).await;
    let nearest = json!({"vector": [1, 0.1], "k": 3});
    let (requests, rounds, bytes, price) = cost(&reader.post(SEARCH, nearest.clone()).await.ok());
    // The manifest, the log and a segment at least: one after another.
    assert!(requests >= 3 && (3..=requests).contains(&rounds), "{requests} in {rounds}");
    assert!(bytes > 2_000 * 8, "{bytes}");
    assert!(price >= 4 * requests, "{price} for {requests}");

    assert_eq!(cost(&reader.post(SEARCH, nearest.clone()).await.ok()), (0, 0, 0, 0));

    // Another one is warmed before it is asked.
    let other = counted(&store, Role::Reader).await;
    let warmed = other.post("/v1/collections/things/warm", json!({})).await.ok();
    assert_eq!((&warmed["segments"], &warmed["version"]), (&json!(1), &json!(2)));
    assert!(warmed["storeRequests"].as_u64() >= Some(3), "{warmed}");
    assert!(warmed["storeBytes"].as_u64() >= warmed["bytes"].as_u64(), "{warmed}");
    assert_eq!(cost(&other.post(SEARCH, nearest.clone()).await.ok()), (0, 0, 0, 0));

    // Only the look at the log that it asks for.
    let strong = json!({"vector": [1, 0.1], "consistency": "strong"});
    let (requests, rounds, ..) = cost(&reader.post(SEARCH, strong.clone()).await.ok());
    assert!((1..=3).contains(&requests) && rounds <= requests, "{requests} in {rounds}");

    // What the searches of a batch share is counted once.
    let searches = json!({"searches": [strong, nearest]});
    let batch = reader.post(&format!("{SEARCH}/batch"), searches).await.ok();
    let (all, first, second) =
        (cost(&batch), cost(&batch["responses"][0]), cost(&batch["responses"][1]));
    assert_eq!((all, second), (first, (0, 0, 0, 0)));
    assert!(all.0 >= 1);
}

#[tokio::test]
async fn of_those_who_wait_for_one_load_the_first_has_its_cost() {
    let store = memory();
    let writer = counted(&store, Role::Writer).await;
    let body = json!({"vectors": [{"id": "a", "vector": [1, 0]}]});
    writer.post("/v1/collections/things/vectors", body).await.ok();
    let reader = counted(&store, Role::Reader).await;
    let before = reader.brainy.env().metrics.store_bytes_read.get();
    let nearest = || reader.post(SEARCH, json!({"vector": [1, 0]}));
    let all = futures::future::join_all((0..8).map(|_| nearest())).await;
    let bytes: u64 = all.iter().map(|answer| cost(&answer.ok()).2).sum();
    let read = reader.brainy.env().metrics.store_bytes_read.get() - before;
    assert!(bytes > 0 && bytes <= read, "{bytes} of {read}");
}
