//! Import and export.

use crate::support::{Answer, Api};
use axum::body::Body;
use axum::http::{Request, header};
use bytes::Bytes;
use futures::stream;
use serde_json::{Value, json};

const IMPORT: &str = "/v1/collections/things/import";
const EXPORT: &str = "/v1/collections/things/export";

async fn import(api: &Api, body: impl Into<Body>) -> Answer {
    let request = Request::post(IMPORT).header(header::CONTENT_TYPE, "application/x-ndjson");
    api.send(request.body(body.into()).unwrap()).await
}

fn line(index: usize) -> String {
    let metadata = json!({ "n": index });
    json!({"id": format!("{index:05}"), "vector": [1, index], "metadata": metadata}).to_string()
}

#[tokio::test]
async fn what_is_imported_is_exported() {
    let api = Api::open().await;
    let lines: Vec<String> = (0..2_500).map(line).collect();
    // Pieces that end anywhere, as the network cuts them.
    let body = lines.join("\n").into_bytes();
    let pieces: Vec<_> =
        body.chunks(777).map(Bytes::copy_from_slice).map(Ok::<_, std::io::Error>).collect();
    let report = import(&api, Body::from_stream(stream::iter(pieces))).await.ok();
    assert_eq!((&report["imported"], &report["failed"]), (&json!(2_500), &json!(0)));
    assert_eq!(report["errors"], json!([]));

    let exported = api.get(EXPORT).await;
    assert_eq!(exported.headers[header::CONTENT_TYPE], "application/x-ndjson");
    assert_eq!(exported.headers["x-brainy-version"], report["version"].to_string().as_str());
    let text = String::from_utf8(exported.bytes).unwrap();
    let records: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 2_500);
    for (index, record) in records.iter().enumerate() {
        assert_eq!(record["id"], format!("{index:05}"));
        assert_eq!(record["vector"], json!([1.0, index as f64]));
        assert_eq!(record["metadata"], json!({ "n": index }));
    }
    let other = Api::open().await;
    assert_eq!(import(&other, text).await.ok()["imported"], 2_500, "an export can be imported");
    for encoding in ["gzip", "zstd"] {
        let request = Request::get(EXPORT).header(header::ACCEPT_ENCODING, encoding);
        let answer = other.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.headers[header::CONTENT_ENCODING], encoding);
        assert!((1_000..100_000).contains(&answer.bytes.len()));
    }
    let bare = other.get(&format!("{EXPORT}?includeVector=false")).await;
    assert!(!String::from_utf8(bare.bytes).unwrap().contains("vector"));
}

#[tokio::test]
async fn bad_lines_are_counted_and_the_first_hundred_reported() {
    let api = Api::open().await;
    let mut body = format!("{}\n\n{}\n", line(0), line(1));
    body.push_str("{\"id\": \"x\", \"vector\": [1, 2, 3]}\nnot json\n");
    body.push_str("{\"vector\": [1, 1], \"meta\": {}}\n{\"id\": \"\", \"vector\": [1, 1]}\n");
    body.push_str(&"{}\n".repeat(200));
    body.push_str(&line(2));
    let report = import(&api, body).await.ok();
    assert_eq!((&report["imported"], &report["failed"]), (&json!(3), &json!(204)));
    let errors = report["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 100);
    let codes: Vec<_> = errors[..4].iter().map(|fault| (&fault["line"], &fault["code"])).collect();
    assert_eq!(
        codes,
        [
            (&json!(4), &json!("dimension_mismatch")),
            (&json!(5), &json!("invalid_request")),
            (&json!(6), &json!("invalid_request")),
            (&json!(7), &json!("invalid_id")),
        ]
    );
}

#[tokio::test]
async fn a_truncated_upload_stores_the_lines_that_arrived() {
    let api = Api::open().await;
    let whole: String = (0..1_500).map(|index| line(index) + "\n").collect();
    let cut = whole + &line(1_500)[..20];
    let pieces = [
        Ok(Bytes::from(cut)),
        Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the connection was cut")),
    ];
    let answer = import(&api, Body::from_stream(stream::iter(pieces))).await;
    let details = answer.refused(400, "invalid_request");
    assert_eq!(details["imported"], 1_500);
    assert_eq!(api.get("/v1/collections/things").await.ok()["vectorCount"], 1_500);
}

#[tokio::test]
async fn compressed_imports_are_unpacked_and_cut_ones_refused() {
    let api = Api::open().await;
    // Stored (uncompressed) deflate block, so that the test needs no compressor.
    let text = line(0) + "\n" + &line(1);
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1];
    let length = u16::try_from(text.len()).unwrap();
    gzip.extend(length.to_le_bytes());
    gzip.extend((!length).to_le_bytes());
    gzip.extend(text.as_bytes());
    let cut = gzip.clone();
    gzip.extend(crc32(text.as_bytes()).to_le_bytes());
    gzip.extend(u32::from(length).to_le_bytes());
    let send = async |body: Vec<u8>| {
        let request = Request::post(IMPORT).header(header::CONTENT_ENCODING, "gzip");
        api.send(request.body(body.into()).unwrap()).await
    };
    assert_eq!(send(gzip).await.ok()["imported"], 2);
    let details = send(cut).await.refused(400, "invalid_request");
    assert!(details["imported"].is_u64(), "{details}");
}

/// The checksum of gzip, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

#[tokio::test]
async fn forms_of_web_pages_are_not_imports() {
    let api = Api::open().await;
    let request = Request::post(IMPORT)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ORIGIN, "https://elsewhere.example");
    let answer = api.send(request.body(line(0).into()).unwrap()).await;
    answer.refused(403, "origin_not_allowed");
}
