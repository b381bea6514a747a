//! Imports of what people really send.

use crate::support::{Answer, Api};
use axum::body::Body;
use axum::http::{Request, header};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream;
use serde_json::{Value, json};
use std::io::Write;

const IMPORT: &str = "/v1/collections/things/import";

async fn import(api: &Api, body: impl Into<Body>) -> Answer {
    api.send(Request::post(IMPORT).body(body.into()).unwrap()).await
}

async fn import_gzip(api: &Api, body: impl Into<Body>) -> Answer {
    let request = Request::post(IMPORT).header(header::CONTENT_ENCODING, "gzip");
    api.send(request.body(body.into()).unwrap()).await
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn in_pieces(bytes: &[u8], size: usize) -> Body {
    let pieces = bytes.chunks(size).map(Bytes::copy_from_slice).map(Ok::<_, std::io::Error>);
    Body::from_stream(stream::iter(pieces.collect::<Vec<_>>()))
}

fn lines(from: usize, to: usize) -> String {
    (from..to).map(|n| format!("{{\"id\": \"{n}\", \"vector\": [1, {n}]}}\n")).collect()
}

async fn stored(api: &Api) -> Value {
    api.get("/v1/collections/things").await.ok()["vectorCount"].clone()
}

#[tokio::test]
async fn every_member_of_a_gzip_is_read_wherever_the_pieces_end() {
    let members: Vec<Vec<u8>> =
        (0..20).map(|n| gzip(lines(n * 100, n * 100 + 100).as_bytes())).collect();
    let whole = members.concat();
    for size in [1, 7, members[0].len(), 1_000, 64 << 10, whole.len()] {
        let api = Api::open().await;
        let report = import_gzip(&api, in_pieces(&whole, size)).await.ok();
        assert_eq!(report["imported"], 2_000, "in pieces of {size}");
        assert_eq!(stored(&api).await, 2_000);
    }
}

#[tokio::test]
async fn of_several_lines_with_one_id_the_last_stays_whatever_is_written_beside_it() {
    let api = Api::open().await;
    // Of each batch of a thousand one line is about the same record.
    let rounds = 20;
    let mut text = String::new();
    for round in 0..rounds {
        text +=
            &format!("{{\"id\": \"x\", \"vector\": [1, 1], \"metadata\": {{\"n\": {round}}}}}\n");
        text += &lines(round * 1_000, round * 1_000 + 999);
    }
    assert_eq!(import(&api, text).await.ok()["imported"], 1_000 * rounds);
    let x = api.get("/v1/collections/things/vectors/x").await.ok();
    assert_eq!(x["metadata"]["n"], rounds - 1);
    assert_eq!(stored(&api).await, 999 * rounds + 1);
}

#[tokio::test]
async fn a_line_that_cannot_be_read_is_a_fault_of_that_line() {
    let api = Api::open().await;
    let mut body = Vec::new();
    // The first that is refused decides nothing, for whatever reason it is.
    body.extend_from_slice(b"{\"id\": \"caf\xe9\", \"vector\": [1, 1]}\n");
    body.extend_from_slice(b"{\"id\": \"none\", \"vector\": []}\n");
    body.extend_from_slice(format!("{{\"id\": \"w\", \"vector\": {:?}}}\n", [1; 5_000]).as_bytes());
    body.extend_from_slice(format!("{{\"id\": \"{}\"}}\n", "x".repeat(17 << 20)).as_bytes());
    body.extend_from_slice(b"\xef\xbb\xbf{\"id\": \"a\", \"vector\": [1, 1]}\r\n");
    body.extend_from_slice(b"{\"id\": \"b\", \"vector\": [1, 1], \"version\": 7}");
    let report = import(&api, in_pieces(&body, 100_000)).await.ok();
    assert_eq!((&report["imported"], &report["failed"]), (&json!(2), &json!(4)));
    let faults = report["errors"].as_array().unwrap();
    let faults: Vec<_> = faults.iter().map(|it| (&it["line"], &it["code"])).collect();
    let expected = [
        (1, "invalid_request"),
        (2, "dimension_mismatch"),
        (3, "dimension_mismatch"),
        (4, "payload_too_large"),
    ];
    let expected = expected.map(|(line, code)| (json!(line), json!(code)));
    assert_eq!(faults, expected.iter().map(|(line, code)| (line, code)).collect::<Vec<_>>());
    let message = report["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("not UTF-8 (at its byte 12)"), "{message}");
}

#[tokio::test]
async fn a_byte_order_mark_costs_no_record() {
    let api = Api::open().await;
    let report = import(&api, format!("\u{feff}{}", lines(0, 3))).await.ok();
    assert_eq!((&report["imported"], &report["failed"]), (&json!(3), &json!(0)));
    let body = format!("\u{feff}{}", json!({"vectors": [{"id": "bom", "vector": [1, 1]}]}));
    api.post_text("/v1/collections/things/vectors", body).await.ok();
}

#[tokio::test]
async fn an_import_of_which_no_line_is_stored_is_an_error_and_makes_nothing() {
    let api = Api::open().await;
    let details = import(&api, "one\n\ntwo\n").await.refused(400, "invalid_request");
    assert_eq!((&details["imported"], &details["failed"]), (&json!(0), &json!(2)));
    assert_eq!(details["errors"][1]["line"], 3);
    api.get("/v1/collections/things").await.refused(404, "collection_not_found");
    // Where nothing is sent, nothing fails.
    assert_eq!(import(&api, "\n\n").await.ok()["imported"], 0);
    // What is no file of records at all is not read to its end.
    let details = import(&api, "x\n".repeat(50_000)).await.refused(400, "invalid_request");
    assert_eq!(details["failed"], 10_000);
    assert_eq!(details["errors"].as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn who_makes_a_collection_by_a_slip_is_told() {
    let api = Api::open().await;
    let record = json!({"vectors": [{"id": "a", "vector": [1, 1]}]});
    let vectors = "/v1/collections/things/vectors";
    assert_eq!(api.post(vectors, record.clone()).await.ok()["created"], true);
    assert!(api.post(vectors, record).await.ok().get("created").is_none());
    let answer = import(&api, lines(0, 1)).await.ok();
    assert!(answer.get("created").is_none(), "{answer}");
    api.delete("/v1/collections/things").await.ok();
    assert_eq!(import(&api, lines(0, 1)).await.ok()["created"], true);
}

#[tokio::test]
async fn what_is_no_ndjson_is_refused_in_one_sentence() {
    let api = Api::open().await;
    let utf16: Vec<u8> = lines(0, 3).encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (body, hint) in [
        (gzip(lines(0, 3).as_bytes()), "content-encoding"),
        (zstd::encode_all(lines(0, 3).as_bytes(), 0).unwrap(), "content-encoding"),
        (b"\x93NUMPY\x01\x00v\x00{'descr'".to_vec(), "brainy import"),
        (b"PK\x03\x04and so on and on".to_vec(), "numpy.save"),
        (b"PAR1and so on and on and on".to_vec(), "to_json"),
        ([b"\xff\xfe", &utf16[..]].concat(), "iconv"),
        (utf16, "iconv"),
        (b"[{\"id\": \"a\", \"vector\": [1, 1]}]".to_vec(), "jq -c"),
    ] {
        let answer = import(&api, in_pieces(&body, 3)).await;
        answer.refused(415, "unsupported_media_type");
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(hint), "{message}");
    }
}

#[tokio::test]
async fn a_gigabyte_of_blank_lines_in_a_megabyte_costs_little() {
    let api = Api::open().await;
    // A member of 64 MiB of newlines takes 64 KiB; sixteen of them are a gigabyte.
    let member = gzip(&vec![b'\n'; 64 << 20]);
    let body = [member.repeat(16), gzip(lines(0, 1).as_bytes())].concat();
    let before = cpu();
    assert_eq!(import_gzip(&api, body).await.ok()["imported"], 1);
    let spent = cpu() - before;
    assert!(spent < 12.0, "{spent} s of processor time");
}

/// Seconds of processor time of this thread.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}
