//! 50,000 real embeddings through a writer process into the store and back through a reader.

use crate::support::instance::Instance;
use crate::support::say;
use crate::support::store::TestStore;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

const DIMENSIONS: usize = 384;
const K: usize = 10;
/// What rounding may do to a distance between the ground truth's arithmetic and ours.
const TOLERANCE: f64 = 1e-5;

/// The data set's folder, where this machine has it.
fn data_folder() -> Option<PathBuf> {
    let root = std::env::var_os("BRAINY_TEST_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    );
    let folder = root.join("minilm-wordnet-50k");
    folder.is_dir().then_some(folder)
}

/// The bytes of an `.npy` file's array, after checking that it holds what is expected.
fn npy(path: &Path, element: &str) -> Vec<u8> {
    let bytes = std::fs::read(path).expect("the data set is complete");
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00", "{}", path.display());
    let body = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8_lossy(&bytes[10..body]);
    assert!(header.contains(element), "{}: {header}", path.display());
    bytes[body..].to_vec()
}

/// IEEE half precision to single; the data has no infinities.
fn half(bits: u16) -> f32 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
    let size = match exponent {
        0 => fraction * 2f32.powi(-24),
        _ => (1.0 + fraction / 1_024.0) * 2f32.powi(exponent - 15),
    };
    if bits >> 15 == 1 { -size } else { size }
}

fn vectors(path: &Path) -> Vec<Vec<f32>> {
    let values = npy(path, "'<f2'");
    let values = values.chunks_exact(2).map(|pair| half(u16::from_le_bytes([pair[0], pair[1]])));
    let values: Vec<f32> = values.collect();
    values.chunks_exact(DIMENSIONS).map(<[f32]>::to_vec).collect()
}

fn base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    BASE64_STANDARD.encode(bytes)
}

fn cosine_distance(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[tokio::test]
async fn nearly_every_neighbour_and_every_record_comes_back() {
    let Some(folder) = data_folder() else {
        say(
            "minilm-wordnet-50k: skipped, no ../shared/data; BRAINY_TEST_DATA names another folder",
        );
        return;
    };
    let base = vectors(&folder.join("base.npy"));
    let records = std::fs::read_to_string(folder.join("records.jsonl")).expect("it has records");
    let records: Vec<Value> =
        records.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
    assert_eq!(base.len(), records.len());

    let store = TestStore::new();
    let writer = Instance::start(&store, "writer", "writer-1").await;
    let reader = Instance::start(&store, "reader", "reader-1").await;
    let version = import(&writer, &base, &records).await;
    let of_log = recall(&reader, &folder, &base, &records, version).await;
    // Some ids come twice: the later record stays.
    let ids: HashSet<&str> = records.iter().filter_map(|record| record["id"].as_str()).collect();
    compact(&writer, &reader, version, ids.len()).await;
    let of_segments = recall(&reader, &folder, &base, &records, version).await;
    say(&format!(
        "minilm-wordnet-50k: recall@{K} = {of_log} in the log, {of_segments} in segments"
    ));
    assert!(of_log >= 0.98 && of_segments >= 0.98);
    compare_export(&reader, &records).await;
}

/// Has everything put into segments, and waits until the reader serves from them.
async fn compact(writer: &Instance, reader: &Instance, version: u64, count: usize) {
    let (status, answer) = writer.post("/v1/collections/minilm/compact", &json!({})).await;
    assert_eq!((status, &answer["segments"]), (200, &json!(1)), "{answer}");
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let stats = reader.text("/v1/collections/minilm/stats").await;
        let stats: Value = serde_json::from_str(&stats).expect("a JSON answer");
        assert_eq!(stats["vectorCount"], count);
        if stats["indexedVersion"] == version && stats["tail"]["rows"] == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "the reader does not take up segments: {stats}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Imports everything as NDJSON; the version that holds the last of it.
async fn import(writer: &Instance, base: &[Vec<f32>], records: &[Value]) -> u64 {
    let collection = json!({"name": "minilm", "dimensions": DIMENSIONS, "metric": "cosine"});
    let (status, created) = writer.post("/v1/collections", &collection).await;
    assert_eq!(status, 201, "{created}");
    let mut body = String::new();
    for (vector, record) in base.iter().zip(records) {
        let mut record = record.clone();
        record["vector"] = base64(vector).into();
        body.push_str(&record.to_string());
        body.push('\n');
    }
    let answer = reqwest::Client::new()
        .post(format!("{}/v1/collections/minilm/import", writer.url))
        .header("content-type", "application/x-ndjson")
        .body(body)
        .send()
        .await
        .expect("the import is answered");
    let status = answer.status();
    let report: Value = answer.json().await.expect("a JSON answer");
    assert_eq!(status, 200, "{report}");
    assert_eq!(
        (&report["imported"], &report["failed"]),
        (&json!(base.len()), &json!(0)),
        "{report}"
    );
    report["version"].as_u64().expect("a version")
}

/// The share of the true nearest neighbours that the reader finds. A result counts where it is no
/// further away than the last true neighbour: among equally distant ones any order is right.
async fn recall(
    reader: &Instance,
    folder: &Path,
    base: &[Vec<f32>],
    records: &[Value],
    version: u64,
) -> f64 {
    let queries = vectors(&folder.join("queries.npy"));
    let truth = npy(&folder.join("ground_truth.npy"), "'<i4'");
    let truth: Vec<usize> = truth
        .chunks_exact(4)
        .map(|row| u32::from_le_bytes([row[0], row[1], row[2], row[3]]) as usize)
        .collect();
    let truth_per_query = truth.len() / queries.len();
    let row_of: HashMap<&str, usize> = records
        .iter()
        .enumerate()
        .map(|(row, record)| (record["id"].as_str().expect("an id"), row))
        .collect();
    let mut right = 0;
    for (at, chunk) in queries.chunks(100).enumerate() {
        let search = |query: &Vec<f32>| json!({"vector": base64(query), "k": K, "minVersion": version, "waitMs": 60_000});
        let body = json!({"searches": chunk.iter().map(search).collect::<Vec<_>>()});
        let (status, answer) = reader.post("/v1/collections/minilm/search/batch", &body).await;
        assert_eq!(status, 200, "{answer}");
        for (n, query) in chunk.iter().enumerate() {
            let last = truth[(at * 100 + n) * truth_per_query + K - 1];
            let bound = cosine_distance(query, &base[last]) + TOLERANCE;
            let results = answer["responses"][n]["results"].as_array().expect("results");
            let mut rows: Vec<usize> = Vec::new();
            for result in results {
                let row = row_of[result["id"].as_str().expect("an id")];
                let distance = cosine_distance(query, &base[row]);
                let told = result["distance"].as_f64().expect("a distance");
                assert!((told - distance).abs() < TOLERANCE, "{told} instead of {distance}");
                assert_eq!(result["metadata"], records[row]["metadata"]);
                rows.extend((distance <= bound).then_some(row));
            }
            rows.sort_unstable();
            rows.dedup();
            right += rows.len();
        }
    }
    right as f64 / (queries.len() * K) as f64
}

/// Every record's metadata and text are in the export, and nothing else is.
async fn compare_export(reader: &Instance, records: &[Value]) {
    let mut expected: HashMap<&str, &Value> =
        records.iter().map(|record| (record["id"].as_str().expect("an id"), record)).collect();
    for line in reader.text("/v1/collections/minilm/export").await.lines() {
        let found: Value = serde_json::from_str(line).expect("a JSON line");
        let id = found["id"].as_str().expect("an id");
        let record =
            expected.remove(id).unwrap_or_else(|| panic!("{id} is there twice or unknown"));
        assert_eq!((&found["metadata"], &found["text"]), (&record["metadata"], &record["text"]));
    }
    assert_eq!(expected.len(), 0, "records are missing");
}
