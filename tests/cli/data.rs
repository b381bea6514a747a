//! Records in, records found, records out: straight to a store.

use super::{RECORDS, Ran, Store, brainy, fails, ok, ok_json, run, text};
use serde_json::{Value, json};
use std::io::Write;
use std::process::Stdio;

#[test]
fn records_go_in_are_found_and_come_out_again() {
    let store = Store::new();
    let to = ["--store", &store.url, "--collection", "things"];
    let file = store.file("in.jsonl", RECORDS);
    let answer = ok_json(&[&["import", &file, "--batch", "2"], &to[..]].concat());
    assert_eq!((&answer["imported"], &answer["failed"]), (&json!(3), &json!(0)));

    let listed = ok_json(&["collections", "list", "--store", &store.url]);
    let things = &listed["collections"][0];
    assert_eq!(things["name"], "things");
    assert_eq!(things["dimensions"], 3);
    // A listing opens nothing, so it counts what is indexed.
    let things = ok_json(&["collections", "show", "things", "--store", &store.url]);
    assert_eq!(things["vectorCount"], 3);
    let shown = ok(&["collections", "show", "things", "--store", &store.url]);
    assert!(shown.contains("cosine"), "{shown}");
    assert!(ok(&[&["stats"], &to[..]].concat()).contains("vectorCount"));

    let search = [&["search", "--vector", "[1, 0.1, 0]", "-k", "2"], &to[..]].concat();
    let found = ok_json(&search);
    let ids: Vec<&str> = found["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hit| hit["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["a", "c"]);
    let table = ok(&search);
    assert!(table.contains("RANK") && table.contains("first one"), "{table}");
    let filter = ["--filter", r#"{"kind": "y"}"#];
    let table = ok(&[&search[..], &filter[..]].concat());
    assert!(table.contains("kind=y") && !table.contains("kind=x"), "{table}");
    let by_id = ok_json(&[&["search", "--id", "a"], &to[..]].concat());
    assert_eq!(by_id["results"][0]["id"], "c");

    // What comes out goes in again, also compressed.
    let out = store.dir.path().join("out.jsonl");
    ok(&[&["export", "-o", text(&out)], &to[..]].concat());
    let exported = std::fs::read_to_string(&out).unwrap();
    assert_eq!(exported.lines().count(), 3);
    assert_eq!(ok(&[&["export"], &to[..]].concat()), exported);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(exported.as_bytes()).unwrap();
    let gzip = store.file("out.jsonl.gz", gzip.finish().unwrap());
    let zstd = store.file("out.jsonl.zst", zstd::encode_all(exported.as_bytes(), 0).unwrap());
    for (name, file) in [("from-gz", gzip), ("from-zst", zstd)] {
        ok(&["import", &file, "--store", &store.url, "-c", name]);
        let copy = ok(&["export", "--store", &store.url, "-c", name]);
        assert_eq!(without_versions(&copy), without_versions(&exported));
    }

    ok(&["collections", "delete", "things", "--store", &store.url]);
    let err = fails(&[&["stats"], &to[..]].concat(), 1);
    assert!(err.contains("(collection_not_found)") && err.contains("hint:"), "{err}");
}

fn without_versions(ndjson: &str) -> Vec<Value> {
    let parse = |line| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        record.as_object_mut().unwrap().remove("version");
        record
    };
    ndjson.lines().map(parse).collect()
}

#[test]
fn lines_that_are_wrong_are_named_and_the_others_are_stored() {
    let store = Store::new();
    let file = store.file(
        "in.jsonl",
        "{\"id\": \"a\", \"vector\": [1, 0]}\nnot json\n{\"id\": \"b\"}\n\
         {\"id\": \"c\", \"vector\": [1]}\n{\"id\": \"d\", \"vector\": [0, 1]}\n\
         {\"id\": \"e\", \"vector\": [1, 1], \"colour\": 1}\n",
    );
    ok(&["collections", "create", "c", "--dimensions", "2", "--store", &store.url]);
    let args = ["import", &file, "-c", "c", "--store", &store.url, "--json"];
    let ran = run(&args);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    let answer: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&answer["imported"], &answer["failed"]), (&json!(2), &json!(4)));
    let errors = answer["errors"].as_array().unwrap();
    let mut lines: Vec<(u64, &str)> = errors
        .iter()
        .map(|error| (error["line"].as_u64().unwrap(), error["code"].as_str().unwrap()))
        .collect();
    lines.sort_unstable();
    let expected = [
        (2, "invalid_request"),
        (3, "invalid_vector"),
        (4, "dimension_mismatch"),
        (6, "invalid_request"),
    ];
    assert_eq!(lines, expected);
}

/// An `.npy` file, version 1.0, of this type, with these bytes.
pub fn npy(descr: &str, rows: usize, columns: usize, data: &[u8]) -> Vec<u8> {
    let header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let padding = 64 - (10 + header.len() + 1) % 64;
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    let length = (header.len() + padding + 1) as u16;
    file.extend(length.to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(std::iter::repeat_n(b' ', padding));
    file.push(b'\n');
    file.extend(data);
    file
}

/// What stands beside two rows.
const BESIDE: &str =
    "{\"id\": \"x\", \"metadata\": {\"n\": 1}}\n{\"id\": \"y\", \"text\": \"why\"}\n";

/// 1, 2, 3 and 4.
pub fn singles() -> Vec<u8> {
    [1_f32, 2.0, 3.0, 4.0].into_iter().flat_map(f32::to_le_bytes).collect()
}

#[test]
fn arrays_of_every_kind_are_imported_with_what_stands_beside_them() {
    let store = Store::new();
    let beside = store.file("records.jsonl", BESIDE);
    let numbers = [1_f32, 2.0, 3.0, 4.0];
    let halves = [0x3c00_u16, 0x4000, 0x4200, 0x4400].map(u16::to_le_bytes);
    let doubles = numbers.map(|number| f64::from(number).to_le_bytes());
    let kinds: [(&str, Vec<u8>); 13] = [
        ("<f2", halves.concat()),
        ("<f4", singles()),
        (">f4", numbers.map(f32::to_be_bytes).concat()),
        ("<f8", doubles.concat()),
        ("|u1", vec![1, 2, 3, 4]),
        ("|i1", vec![1, 2, 3, 4]),
        ("<i2", [1_i16, 2, 3, 4].map(i16::to_le_bytes).concat()),
        (">u2", [1_u16, 2, 3, 4].map(u16::to_be_bytes).concat()),
        ("<i4", [1_i32, 2, 3, 4].map(i32::to_le_bytes).concat()),
        ("<u4", [1_u32, 2, 3, 4].map(u32::to_le_bytes).concat()),
        ("<i8", [1_i64, 2, 3, 4].map(i64::to_le_bytes).concat()),
        ("<u8", [1_u64, 2, 3, 4].map(u64::to_le_bytes).concat()),
        (">f8", numbers.map(|number| f64::from(number).to_be_bytes()).concat()),
    ];
    for (index, (descr, data)) in kinds.into_iter().enumerate() {
        let file = store.file("base.npy", npy(descr, 2, 2, &data));
        let name = format!("c{index}");
        let to = ["-c", &name, "--store", &store.url];
        let import = ["import", &file, "--ids-from", &beside];
        ok(&[&import[..], &["--metric", "euclidean"], &to[..]].concat());
        let lines = without_versions(&ok(&[&["export"], &to[..]].concat()));
        let x = json!({"id": "x", "vector": [1.0, 2.0], "metadata": {"n": 1}});
        let y = json!({"id": "y", "vector": [3.0, 4.0], "metadata": {}, "text": "why"});
        assert_eq!(lines, [x, y], "{descr}");
    }
}

#[test]
fn arrays_alone_have_row_numbers_and_broken_ones_are_refused() {
    let store = Store::new();
    let to = ["-c", "rows", "--store", &store.url];
    let file = store.file("rows.npy", npy("<f4", 2, 2, &singles()));
    ok(&[&["import", &file], &to[..]].concat());
    let found = ok_json(&[&["search", "--id", "1"], &to[..]].concat());
    assert_eq!(found["results"][0]["id"], "0");

    let beside = store.file("records.jsonl", BESIDE);
    for (name, content, reason) in [
        ("short.npy", npy("<f4", 2, 2, &singles()[..12]), "its header says 2 rows, and it has 1"),
        ("long.npy", npy("<f4", 1, 2, &singles()), "8 bytes stand behind its array"),
        ("four.npy", npy("<f4", 4, 1, &singles()), "it has 2 lines, and"),
        ("one.npy", npy("<f4", 1, 4, &singles()), "has 1 rows"),
        ("text.npy", npy("<U2", 1, 2, &[0; 16]), "save array.astype('float32')"),
        ("pairs.npy", npy("<c8", 1, 2, &[0; 16]), "save array.astype('float32')"),
        ("flat.npy", npy("<f4", 0, 0, &[]), "use 1 to 4096"),
        ("head.npy", npy("<f4", 2, 2, &singles())[..40].to_vec(), "could not read"),
    ] {
        let file = store.file(name, content);
        let import = ["import", &file, "--ids-from", &beside, "-c", name.trim_end_matches(".npy")];
        let ran = run(&[&import[..], &["--store", &store.url]].concat());
        assert_eq!((ran.code, &*ran.out), (1, ""), "{name}: nothing is said to be imported");
        assert!(ran.err.contains(reason), "{name}: {}", ran.err);
    }
}

#[test]
fn texts_are_embedded_and_found_by_their_words() {
    let store = Store::new();
    let file = store.file(
        "in.jsonl",
        "{\"id\": \"cat\", \"text\": \"the cat sat on the mat\"}\n\
         {\"id\": \"tax\", \"text\": \"income tax is due in april\"}\n",
    );
    let to = ["--store", &store.url];
    ok(&[&["import", &file, "--embed-text"], &to[..]].concat());
    let ran = run(&[&["search", "--text", "april tax", "-k", "1"], &to[..]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("income tax") && !ran.out.contains("cat"), "{}", ran.out);
    assert!(ran.err.contains("lexical"), "{}", ran.err);
}

#[test]
fn standard_input_is_a_file_too() {
    let store = Store::new();
    let mut command = brainy(&["import", "-", "--store", &store.url]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(RECORDS.as_bytes()).unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert!(ran.code == 0 && ran.out.contains("imported 3 records"), "{}{}", ran.out, ran.err);
}
