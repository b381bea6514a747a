//! What a request may hold, and that its work ends when nobody waits for it.

use crate::support::{Api, memory};
use axum::body::Body;
use axum::http::{Request, header};
use brainy::base::ids::CollectionName;
use brainy::base::request::RequestContext;
use brainy::base::settings::Role;
use brainy::base::{Code, Result};
use brainy::engine::model::SearchRequest;
use brainy::filter::Filter;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const VECTORS: &str = "/v1/collections/things/vectors";
const SEARCH: &str = "/v1/collections/things/search";
const ANSWER_MAX: usize = 64 << 10;

/// 40 records with texts of 4 KB, on an instance with small answers.
async fn small_answers() -> Api {
    let api =
        Api::with(memory(), Role::Hybrid, |settings| settings.max_answer_bytes = ANSWER_MAX as u64)
            .await;
    let text = "x".repeat(4_000);
    let record = |n: usize| json!({"id": format!("r{n:02}"), "vector": [1, n + 1], "text": text});
    let records: Vec<Value> = (0..40).map(record).collect();
    api.post(VECTORS, json!({ "vectors": records })).await.ok();
    api
}

#[tokio::test]
async fn an_answer_that_is_too_large_says_how_to_ask_for_less() {
    let api = small_answers().await;
    let search = |k: usize| json!({"vector": [1, 1], "k": k});
    let answer = api.post(SEARCH, search(10)).await;
    assert_eq!(answer.ok()["results"].as_array().unwrap().len(), 10);
    let details = api.post(SEARCH, search(40)).await.refused(413, "answer_too_large");
    assert_eq!(details["maxBytes"], ANSWER_MAX);
    let batch = json!({"searches": vec![search(4); 10]});
    let answer = api.post(&format!("{SEARCH}/batch"), batch).await;
    answer.refused(413, "answer_too_large");
    let less = json!({"vector": [1, 1], "k": 40, "includeMetadata": false});
    assert_eq!(api.post(SEARCH, less).await.ok()["results"].as_array().unwrap().len(), 40);
    assert_eq!(api.brainy.request_memory().answers.held_bytes(), 0);
}

#[tokio::test]
async fn pages_end_early_and_go_on_from_there() {
    let api = small_answers().await;
    let (mut ids, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let answer = api.get(&format!("{VECTORS}?limit=1000{cursor}")).await;
        assert!(answer.bytes.len() <= ANSWER_MAX);
        let page = answer.ok();
        pages += 1;
        let records = page["vectors"].as_array().unwrap();
        ids.extend(records.iter().map(|record| record["id"].as_str().unwrap().to_owned()));
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let expected: Vec<String> = (0..40).map(|n| format!("r{n:02}")).collect();
    assert_eq!((ids, pages), (expected, 3));
}

#[tokio::test]
async fn an_id_is_fetched_once_however_often_it_is_named() {
    let api = small_answers().await;
    let fetch = format!("{VECTORS}/fetch");
    let ids = ["r01", "gone"].repeat(5_000);
    let fetched = api.post(&fetch, json!({ "ids": ids })).await.ok();
    assert_eq!(fetched["vectors"].as_array().unwrap().len(), 1);
    assert_eq!(fetched["missing"], json!(["gone"]));
    let all: Vec<String> = (0..40).map(|n| format!("r{n:02}")).collect();
    let details = api.post(&fetch, json!({ "ids": all })).await.refused(413, "answer_too_large");
    let fit = details["idsThatFit"].as_u64().unwrap() as usize;
    assert!(fit > 10, "{details}");
    let fetched = api.post(&fetch, json!({ "ids": all[..fit] })).await.ok();
    assert_eq!(fetched["vectors"].as_array().unwrap().len(), fit);
}

#[tokio::test]
async fn one_record_is_given_however_large_it_is() {
    let api = Api::with(memory(), Role::Hybrid, |settings| settings.max_answer_bytes = 1_024).await;
    // Every character takes six bytes of JSON.
    let text = "\u{1}".repeat(20_000);
    let body = json!({"vectors": [{"id": "a", "vector": [1, 1], "text": text}]});
    api.post(VECTORS, body).await.ok();
    let record = api.get(&format!("{VECTORS}/a")).await.ok();
    assert_eq!(record["text"].as_str(), Some(&*text));
    let page = api.get(VECTORS).await.ok();
    assert_eq!(page["vectors"].as_array().unwrap().len(), 1);
    api.post(SEARCH, json!({"vector": [1, 1]})).await.ok();
}

#[tokio::test]
async fn lists_are_counted_before_they_take_memory() {
    let api = Api::things().await;
    let many = |element: &str| format!("[{}{element}]", format!("{element},").repeat(99_999));
    let body = format!("{{\"vectors\": {}}}", many("{}"));
    api.post_text(VECTORS, body).await.refused(400, "invalid_request");
    let body = format!("{{\"ids\": {}}}", many("\"a\""));
    let details =
        api.post_text(&format!("{VECTORS}/fetch"), body).await.refused(400, "invalid_request");
    assert_eq!((&details["max"], &details["value"]), (&json!(10_000), &json!(100_000)));
    let body = format!("{{\"vector\": [1, 1], \"filter\": {{\"$or\": {}}}}}", many("{\"a\": 1}"));
    api.post_text(SEARCH, body).await.refused(400, "invalid_filter");
    let long = format!("[{}0]", "0,".repeat(2 << 20));
    let body = format!("{{\"vector\": [1, 1], \"filter\": {{\"n\": {{\"$in\": {long}}}}}}}");
    let details = api.post_text(SEARCH, body).await.refused(400, "invalid_filter");
    assert_eq!(details["path"], "$");
    let request =
        Request::put("/cluster/state/key").header(header::CONTENT_TYPE, "application/json");
    let answer = api.send(request.body(format!("{{\"value\": {long}}}").into()).unwrap()).await;
    answer.refused(413, "payload_too_large");
}

#[tokio::test]
async fn a_window_of_zstd_is_bounded() {
    let api = Api::things().await;
    let send = async |window: u8| {
        // A frame with a window descriptor and one raw block of `{}`, the last one.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, window, 0x11, 0x00, 0x00, b'{', b'}'];
        let request = Request::post(SEARCH).header(header::CONTENT_ENCODING, "zstd");
        api.send(request.body(frame.to_vec().into()).unwrap()).await.refused(400, "invalid_request")
    };
    let message = |details: Value| details.as_object().unwrap().is_empty();
    // 2^(10 + 13) is 8 MiB: the body is read, and has neither vector nor id.
    assert!(message(send(13 << 3).await));
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 0x11, 0x00, 0x00, b'{', b'}'];
    let request = Request::post(SEARCH).header(header::CONTENT_ENCODING, "zstd");
    let answer = api.send(request.body(frame.to_vec().into()).unwrap()).await;
    assert_eq!(answer.status, 400);
    let error = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(error.contains("could not be read"), "{error}");
}

/// A filter that takes long to ask: each of its tests looks through a long text in vain.
fn dear_filter(tests: usize) -> Value {
    let test = |n: usize| {
        let number: String = format!("{n:010b}").replace('0', "aab").replace('1', "abb");
        json!({"$not": {"t": {"$contains": "ab".repeat(20) + &number}}})
    };
    json!({"$and": (0..tests).map(test).collect::<Vec<_>>()})
}

/// `count` records with texts of so many bytes to filter by.
async fn prose(api: &Api, count: usize, bytes: usize) {
    let text = "ab".repeat(bytes / 2);
    let record =
        |n: usize| json!({"id": format!("r{n:04}"), "vector": [1, n + 1], "metadata": {"t": text}});
    let all: Vec<usize> = (0..count).collect();
    for some in all.chunks(200) {
        let records: Vec<Value> = some.iter().map(|n| record(*n)).collect();
        api.post(VECTORS, json!({ "vectors": records })).await.ok();
    }
}

fn filtered(filter: &Value, k: usize) -> SearchRequest {
    let filter = Some(Filter::parse(filter).unwrap());
    SearchRequest { filter, include_metadata: false, ..SearchRequest::nearest(vec![1.0, 1.0], k) }
}

#[tokio::test]
async fn a_search_ends_wherever_it_is_cancelled() {
    let api = Api::open().await;
    prose(&api, 200, 2_000).await;
    let things = CollectionName::new("things").unwrap();
    let search = async |context: &RequestContext| -> Result<usize> {
        let request = filtered(&dear_filter(20), 200);
        let batch = vec![SearchRequest::nearest(vec![1.0, 1.0], 1), request];
        let answers = api.brainy.within(context).search_batch(&things, batch).await?;
        Ok(answers[1].hits.len())
    };
    let cancelled = &api.brainy.env().metrics.searches_cancelled;
    let mut checks = 0;
    let found = loop {
        let before = cancelled.get();
        match search(&RequestContext::cancelled_after(checks)).await {
            Ok(found) => break found,
            Err(error) => assert_eq!(error.code(), Code::Cancelled),
        }
        assert_eq!(cancelled.get(), before + 1);
        checks += 1;
    };
    assert_eq!(found, 200);
    assert!(checks > 3, "it was looked at {checks} times");
    let late = api.brainy.request(Some(Instant::now()));
    assert_eq!(search(&late).await.unwrap_err().code(), Code::RequestTimeout);
    let context = RequestContext::cancelled_after(0);
    let page = api.brainy.within(&context).list(&things, 100, None, false).await;
    assert_eq!(page.unwrap_err().code(), Code::Cancelled);
}

#[tokio::test]
async fn what_is_dear_stands_back_and_is_answered_alike() {
    let api = Api::open().await;
    prose(&api, 100, 2_000).await;
    let things = CollectionName::new("things").unwrap();
    let metrics = &api.brainy.env().metrics;
    let cheap = filtered(&json!({"t": {"$exists": true}}), 3);
    let dear = filtered(&dear_filter(500), 100);
    let alone = api.brainy.search(&things, cheap.clone()).await.unwrap();
    assert_eq!(metrics.searches_dear.get(), 0);
    let batch = vec![cheap.clone(), dear.clone(), dear, cheap];
    let answers = api.brainy.search_batch(&things, batch).await.unwrap();
    assert_eq!(metrics.searches_dear.get(), 1, "the others that have a filter go there at once");
    assert_eq!((answers[1].hits.len(), answers[2].hits.len()), (100, 100));
    for at in [0, 3] {
        assert_eq!(answers[at].hits, alone.hits);
    }
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place_and_ends_the_work() {
    let change = |settings: &mut brainy::base::settings::Settings| {
        settings.max_concurrent_requests = 1;
    };
    let api = Api::with(memory(), Role::Hybrid, change).await;
    prose(&api, 1_000, 20_000).await;
    let body = json!({"vector": [1, 1], "k": 1_000, "filter": dear_filter(500),
        "includeMetadata": false});
    let cancelled = &api.brainy.env().metrics.searches_cancelled;

    // Inside the process: whoever waits drops what it waits for.
    let request = Request::post(SEARCH).header(header::CONTENT_TYPE, "application/json");
    let request = request.body(Body::from(body.to_string())).unwrap();
    let asked = api.router.clone().oneshot(request);
    timeout(Duration::from_millis(200), asked).await.expect_err("it takes much longer");
    assert_eq!(cancelled.get(), 1);
    api.post(SEARCH, json!({"vector": [1, 1], "k": 1, "includeMetadata": false})).await.ok();
    // The only thread for such work is free again, or this would take as long as the search.
    let start = Instant::now();
    api.brainy.env().searches.run(|| ()).await.unwrap();
    let heavy = api.brainy.env().heavy.clone();
    let threads = heavy.threads();
    let all = (0..threads).map(|_| heavy.run(|| ()));
    futures::future::try_join_all(all).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());

    // Over a connection: the client closes it.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = brainy::api::serve(api.brainy.clone(), listener, stop.clone());
    let client = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let body = body.to_string();
        let head = format!(
            "POST {SEARCH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // It is at work once it turned out to be dear.
        let dear = &api.brainy.env().metrics.searches_dear;
        let before = dear.get();
        while dear.get() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(stream);
        let left = Instant::now();
        while cancelled.get() == 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(left.elapsed() < Duration::from_secs(2), "{:?}", left.elapsed());
        stop.cancel();
    };
    let (served, ()) = tokio::join!(serving, client);
    served.unwrap();
}
