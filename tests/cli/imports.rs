//! Files as people have them: names, compression, encodings, pipes, shards.

use super::data::{npy, singles};
use super::{RECORDS, Ran, Store, brainy, ok, ok_json, run};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn count(store: &Store, name: &str) -> Value {
    ok_json(&["collections", "show", name, "--store", &store.url])["vectorCount"].clone()
}

#[test]
fn what_a_file_is_does_not_depend_on_its_name() {
    let store = Store::new();
    let rows = npy("<f4", 2, 2, &singles());
    let frames = [
        zstd::encode_all(RECORDS.as_bytes(), 0).unwrap(),
        zstd::encode_all("\n".as_bytes(), 0).unwrap(),
    ];
    for (index, (name, content, expected)) in [
        ("a.JSONL", RECORDS.as_bytes().to_vec(), 3),
        ("b.gz", RECORDS.as_bytes().to_vec(), 3),
        ("c.txt", gzip(RECORDS.as_bytes()), 3),
        ("d.data", frames.concat(), 3),
        ("e.NPY", rows.clone(), 2),
        ("f", rows.clone(), 2),
        ("g.npy.gz", gzip(&rows), 2),
        ("h.json", [b"\xef\xbb\xbf", RECORDS.as_bytes()].concat(), 3),
        ("i.npy", RECORDS.as_bytes().to_vec(), 3),
        (
            "j.jsonl.gz",
            [
                gzip(b"{\"id\": \"1\", \"vector\": [1]}\n"),
                gzip(b"{\"id\": \"2\", \"vector\": [1]}"),
            ]
            .concat(),
            2,
        ),
        ("k.npy", npy("|b1", 2, 2, &[1, 0, 0, 1]), 2),
    ]
    .into_iter()
    .enumerate()
    {
        let (file, collection) = (store.file(name, content), format!("c{index}"));
        let answer = ok_json(&["import", &file, "-c", &collection, "--store", &store.url]);
        assert_eq!(
            (&answer["imported"], &answer["failed"]),
            (&json!(expected), &json!(0)),
            "{name}"
        );
        assert_eq!(count(&store, &collection), expected, "{name}");
    }
}

#[test]
fn what_cannot_be_imported_is_refused_in_one_sentence_before_anything_is_stored() {
    let store = Store::new();
    let good = store.file("good.jsonl", RECORDS);
    let folder = store.dir.path().to_str().unwrap().to_owned();
    let utf16: Vec<u8> = RECORDS.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut by_columns = npy("<f4", 2, 2, &singles());
    let at = by_columns.windows(5).position(|word| word == b"False").unwrap();
    by_columns[at..at + 5].copy_from_slice(b"True ");
    let mut files = vec![(folder, "is a folder"), ("/no/such/file".to_owned(), "there is no file")];
    for (name, content, reason) in [
        ("x.npz", b"PK\x03\x04 and so on and so on".to_vec(), "numpy.save"),
        ("x.parquet", b"PAR1 and so on and so on".to_vec(), "to_json"),
        ("x.json", b"[\n  {\"id\": \"a\", \"vector\": [1]}\n]".to_vec(), "jq -c"),
        ("u.jsonl", [b"\xff\xfe", &utf16[..]].concat(), "iconv"),
        ("cut.npy", npy("<f4", 3, 2, &singles()), "its header says 3 rows, and it has 2"),
        ("order.npy", by_columns, "numpy.ascontiguousarray"),
    ] {
        files.push((store.file(name, content), reason));
    }
    for (file, reason) in files {
        // Also behind a file that could be imported.
        let ran = run(&["import", &good, &file, "-c", "never", "--store", &store.url]);
        assert_eq!((ran.code, &*ran.out), (1, ""), "{file}: {}", ran.err);
        assert!(ran.err.contains(reason), "{file}: {}", ran.err);
        assert!(!ran.err.contains("--dimensions"), "{}", ran.err);
    }
    let folder = store.dir.path().join("store");
    assert!(!folder.exists(), "the store itself was not made");
}

#[test]
fn rows_of_several_arrays_are_numbered_through() {
    let store = Store::new();
    let first = store.file("shard-0.npy", npy("<f4", 2, 2, &singles()));
    let second = store.file("shard-1.npy", npy("<f4", 2, 2, &singles()));
    let more = store.file("more.jsonl", "{\"id\": \"x\", \"vector\": [9, 9]}\n");
    let to = ["-c", "shards", "--store", &store.url];
    let answer = ok_json(&[&["import", &first, &more, &second], &to[..]].concat());
    assert_eq!((&answer["imported"], count(&store, "shards")), (&json!(5), json!(5)));
    let lines = ok(&[&["export"], &to[..]].concat());
    let ids: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone())
        .collect();
    assert_eq!(ids, ["0", "1", "2", "3", "x"]);
}

#[test]
fn of_several_lines_with_one_id_the_last_stays_at_any_concurrency() {
    let store = Store::new();
    let mut text = String::new();
    for n in 0..60 {
        text += &format!("{{\"id\": \"x\", \"vector\": [1, 1], \"metadata\": {{\"n\": {n}}}}}\n");
        text += &format!("{{\"id\": \"other {n}\", \"vector\": [1, 1]}}\n");
    }
    let file = store.file("in.jsonl", text);
    let to = ["-c", "c", "--store", &store.url];
    ok(&[&["import", &file, "--batch", "2", "--concurrency", "16"], &to[..]].concat());
    let x = ok(&[&["export"], &to[..]].concat());
    let x = x.lines().find(|line| line.contains("\"id\":\"x\"")).unwrap();
    assert!(x.contains("{\"n\":59}"), "{x}");
}

#[test]
fn pipes_are_read_like_files() {
    let store = Store::new();
    let fifo = store.dir.path().join("pipe");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let writer = {
        let (fifo, rows) = (fifo.clone(), npy("<f4", 2, 2, &singles()));
        std::thread::Builder::new().spawn(move || std::fs::write(fifo, rows).unwrap()).unwrap()
    };
    let to = ["-c", "pipes", "--store", &store.url];
    ok(&[&["import", fifo.to_str().unwrap()], &to[..]].concat());
    writer.join().unwrap();
    for (name, content) in
        [("/dev/stdin", gzip(RECORDS.as_bytes())), ("-", npy("<f4", 2, 2, &singles()))]
    {
        let mut command =
            brainy(&["import", name, "-c", &name.replace(['/', '-'], "s"), "--store", &store.url]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&content).unwrap();
        let ran = Ran::from(child.wait_with_output().unwrap());
        assert_eq!(ran.code, 0, "{name}: {}{}", ran.out, ran.err);
    }
    // A substitution of the shell, in which the array turns out to be cut.
    let cut = store.file("cut.npy", npy("<f4", 9, 2, &singles()));
    let binary = env!("CARGO_BIN_EXE_brainy");
    let script = format!("'{binary}' import <(cat '{cut}') -c cut --store '{}'", store.url);
    let ran = Ran::from(Command::new("bash").args(["-c", &script]).output().unwrap());
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("with 7 rows to come: is it cut?"), "{}", ran.err);
    assert!(ran.out.contains("imported 2 records"), "{}", ran.out);
}

#[test]
fn lines_in_another_encoding_or_without_end_are_faults_of_their_own() {
    let store = Store::new();
    let mut content = b"{\"id\": \"caf\xe9\", \"vector\": [1, 1]}\n".to_vec();
    content.extend(std::iter::repeat_n(b'x', 17 << 20));
    content.extend_from_slice(b"\n\xef\xbb\xbf{\"id\": \"a\", \"vector\": [1, 1]}\r\n");
    let file = store.file("in.jsonl", content);
    let ran = run(&["import", &file, "-c", "c", "--store", &store.url]);
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("imported 1 records"), "{}", ran.out);
    assert!(ran.err.contains(":1: the line is not UTF-8"), "{}", ran.err);
    assert!(ran.err.contains(":2: the line is longer than"), "{}", ran.err);
    assert!(ran.err.contains("there was no collection c, so it was made"), "{}", ran.err);
}

#[test]
fn an_import_of_which_no_line_is_stored_makes_no_collection() {
    let store = Store::new();
    let file = store.file("in.jsonl", "{\"id\": \"a\"}\nnothing\n");
    for extra in [&["--embed-text"][..], &["--dimensions", "3"], &[]] {
        let args = [&["import", &file, "-c", "slip", "--store", &store.url], extra].concat();
        assert_eq!(run(&args).code, 1);
        assert_eq!(ok(&["collections", "list", "--store", &store.url]), "no collections yet\n");
    }
}
