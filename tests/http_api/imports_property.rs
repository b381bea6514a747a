//! Imports of files that were cut, repeated, reordered, joined and written in every encoding, beside a model.

use crate::imports::gzip;
use crate::support::Api;
use axum::body::Body;
use axum::http::{Request, header};
use bytes::Bytes;
use futures::stream;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const IMPORT: &str = "/v1/collections/things/import";

/// A line of a file.
#[derive(Debug, Clone)]
enum Written {
    Record { id: u8, number: u32 },
    Generated,
    Latin1,
    Blank,
    Junk,
    Wide,
}

impl Written {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Written::Record { id, number } => {
                let metadata = json!({ "n": number, "s": "é中" });
                json!({"id": format!("r{id}"), "vector": [1, 2], "metadata": metadata})
                    .to_string()
                    .into()
            }
            Written::Generated => b"{\"vector\": [2, 1]}".to_vec(),
            Written::Latin1 => b"{\"id\": \"caf\xe9\", \"vector\": [1, 2]}".to_vec(),
            Written::Blank => b" \t".to_vec(),
            Written::Junk => b"nonsense".to_vec(),
            Written::Wide => b"{\"id\": \"wide\", \"vector\": [1, 2, 3]}".to_vec(),
        }
    }
}

/// How a file comes.
#[derive(Debug, Clone)]
struct Form {
    bom: bool,
    crlf: bool,
    last_end: bool,
    packed: Packed,
    piece: usize,
    /// Where it is cut, in thousandths of it, where it is.
    cut: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Packed {
    Plain,
    Gzip,
    Members(usize),
    Zstd,
    Frames(usize),
}

fn line() -> impl Strategy<Value = Written> {
    prop_oneof![
        10 => (0_u8..8, any::<u32>()).prop_map(|(id, number)| Written::Record { id, number }),
        1 => Just(Written::Generated),
        1 => Just(Written::Latin1),
        2 => Just(Written::Blank),
        1 => Just(Written::Junk),
        1 => Just(Written::Wide),
    ]
}

fn form() -> impl Strategy<Value = Form> {
    let packed = prop_oneof![
        Just(Packed::Plain),
        Just(Packed::Gzip),
        (1_usize..60).prop_map(Packed::Members),
        Just(Packed::Zstd),
        (1_usize..60).prop_map(Packed::Frames),
    ];
    let piece = prop_oneof![1_usize..20, 20_usize..5_000];
    let cut = prop::option::weighted(0.3, 0_usize..1_000);
    (any::<bool>(), any::<bool>(), any::<bool>(), packed, piece, cut).prop_map(
        |(bom, crlf, last_end, packed, piece, cut)| Form {
            bom,
            crlf,
            last_end,
            packed,
            piece,
            cut,
        },
    )
}

impl Form {
    fn text(&self, lines: &[Written]) -> Vec<u8> {
        let end: &[u8] = if self.crlf { b"\r\n" } else { b"\n" };
        let mut text = if self.bom { b"\xef\xbb\xbf".to_vec() } else { Vec::new() };
        for (index, line) in lines.iter().enumerate() {
            text.extend(line.bytes());
            if self.last_end || index + 1 < lines.len() {
                text.extend_from_slice(end);
            }
        }
        text
    }

    fn packed(&self, text: &[u8]) -> Vec<u8> {
        let each = |size: usize, pack: &dyn Fn(&[u8]) -> Vec<u8>| {
            match text.is_empty() {
                // No member at all is no gzip.
                true => pack(text),
                false => text.chunks(text.len().div_ceil(size)).flat_map(pack).collect(),
            }
        };
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
        match self.packed {
            Packed::Plain => text.to_vec(),
            Packed::Gzip => gzip(text),
            Packed::Members(count) => each(count, &gzip),
            Packed::Zstd => zstd(text),
            Packed::Frames(count) => each(count, &zstd),
        }
    }

    fn request(&self, body: &[u8]) -> Request<Body> {
        let pieces = body.chunks(self.piece).map(Bytes::copy_from_slice);
        let mut pieces: Vec<std::io::Result<Bytes>> = pieces.map(Ok).collect();
        if self.cut.is_some() {
            pieces.push(Err(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let request = Request::post(IMPORT);
        let request = match self.packed {
            Packed::Plain => request,
            Packed::Gzip | Packed::Members(_) => request.header(header::CONTENT_ENCODING, "gzip"),
            Packed::Zstd | Packed::Frames(_) => request.header(header::CONTENT_ENCODING, "zstd"),
        };
        request.body(Body::from_stream(stream::iter(pieces))).unwrap()
    }
}

/// What an import of these lines leaves behind: the records with ids, how many without, how many lines were stored
/// and the numbers of those that were not.
fn model(lines: &[Written]) -> (BTreeMap<String, u32>, u64, u64, Vec<u64>) {
    let (mut records, mut generated, mut imported, mut faults) =
        (BTreeMap::new(), 0, 0, Vec::new());
    for (line, number) in lines.iter().zip(1_u64..) {
        match line {
            Written::Record { id, number } => drop(records.insert(format!("r{id}"), *number)),
            Written::Generated => generated += 1,
            Written::Blank => continue,
            Written::Latin1 | Written::Junk | Written::Wide => {
                faults.push(number);
                continue;
            }
        }
        imported += 1;
    }
    (records, generated, imported, faults)
}

async fn check(lines: Vec<Written>, form: Form) -> Result<(), TestCaseError> {
    let api = Api::open().await;
    // So that the dimensions do not depend on which line comes first.
    let body = json!({"name": "things", "dimensions": 2});
    api.post("/v1/collections", body).await;
    let text = form.text(&lines);
    let whole = form.packed(&text);
    // A body that breaks stores the whole lines that arrived. How many those are is known of plain text.
    let cut = form.cut.map(|share| whole.len() * share / 1_000);
    let answer = api.send(form.request(&whole[..cut.unwrap_or(whole.len())])).await;
    let arrived = match (cut, form.packed) {
        (None, _) => lines.len(),
        (Some(at), Packed::Plain) => text[..at].iter().filter(|byte| **byte == b'\n').count(),
        (Some(_), _) => {
            // Of the others, that it is said, and that what is there is a beginning of what was sent.
            prop_assert_eq!(answer.status, 400, "{}", answer.json());
            let details = answer.json()["error"]["details"].clone();
            let seen = details["imported"].as_u64().unwrap() + details["failed"].as_u64().unwrap();
            let spoken = |lines: &[Written]| {
                lines.iter().filter(|line| !matches!(line, Written::Blank)).count() as u64
            };
            let arrived = (0..=lines.len()).find(|count| spoken(&lines[..*count]) == seen);
            prop_assert!(arrived.is_some(), "{seen} of {}", spoken(&lines));
            arrived.unwrap()
        }
    };
    let (records, generated, imported, faults) = model(&lines[..arrived]);
    let answered = answer.json();
    let report = if answer.status == 200 { &answered } else { &answered["error"]["details"] };
    let expected = match (cut, imported, faults.len()) {
        (None, 0, 1..) | (Some(_), ..) => 400,
        _ => 200,
    };
    prop_assert_eq!(answer.status, expected, "{}", answered);
    prop_assert_eq!(&report["imported"], imported);
    prop_assert_eq!(&report["failed"], faults.len());
    if let Some(errors) = report["errors"].as_array() {
        let named: Vec<u64> = errors.iter().map(|it| it["line"].as_u64().unwrap()).collect();
        prop_assert_eq!(&named[..], &faults[..faults.len().min(100)]);
    }
    let page = api.get("/v1/collections/things/vectors?limit=10000").await.json();
    let listed = page["vectors"].as_array().unwrap();
    let is_named = |record: &&Value| record["id"].as_str().unwrap().starts_with('r');
    let found: BTreeMap<String, u32> = listed
        .iter()
        .filter(is_named)
        .map(|it| {
            let number = it["metadata"]["n"].as_u64().unwrap() as u32;
            (it["id"].as_str().unwrap().to_owned(), number)
        })
        .collect();
    prop_assert_eq!(found, records);
    prop_assert_eq!(listed.iter().filter(|it| !is_named(it)).count() as u64, generated);
    api.brainy.shutdown().await;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn an_import_leaves_what_a_model_says(
        lines in prop::collection::vec(line(), 0..80),
        repeats in 1_usize..40,
        form in form(),
    ) {
        // Repeated, so that it is more than one batch now and then.
        let many: Vec<Written> = lines.iter().cycle().take(lines.len() * repeats).cloned().collect();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        runtime.block_on(check(many, form))?;
    }
}
