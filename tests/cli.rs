//! The command line from outside: the built binary, its output and its exit codes.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// The binary, in an environment that says nothing about Brainy.
fn brainy(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_brainy"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("BRAINY_") || text == "SERVICE_ENDPOINT" {
            command.env_remove(&name);
        }
    }
    command.args(args);
    command
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Ran {
            code: output.status.code().expect("ended by a signal"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn run(args: &[&str]) -> Ran {
    brainy(args).stdin(Stdio::null()).output().unwrap().into()
}

/// What a command that succeeds prints.
#[track_caller]
fn ok(args: &[&str]) -> String {
    let ran = run(args);
    assert_eq!(ran.code, 0, "{args:?}: {}{}", ran.out, ran.err);
    ran.out
}

/// What a command that succeeds prints with `--json`.
#[track_caller]
fn ok_json(args: &[&str]) -> Value {
    serde_json::from_str(&ok(&[args, &["--json"]].concat())).unwrap()
}

/// Standard error of a command that fails with this exit code; nothing of it may look like a crash.
#[track_caller]
fn fails(args: &[&str], code: i32) -> String {
    let ran = run(args);
    assert_eq!(ran.code, code, "{args:?}: {}{}", ran.out, ran.err);
    assert!(
        !ran.err.contains("panicked") && !ran.err.contains("RUST_BACKTRACE"),
        "{}",
        ran.err
    );
    ran.err
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A store in a folder.
struct Store {
    dir: tempfile::TempDir,
    url: String,
}

impl Store {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file://{}", dir.path().join("store").display());
        Store { dir, url }
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        text(&path).to_owned()
    }
}

const RECORDS: &str = r#"{"id": "a", "vector": [1, 0, 0], "metadata": {"n": 1, "kind": "x"}, "text": "first one"}
{"id": "b", "vector": [0, 1, 0], "metadata": {"n": 2, "kind": "y"}}

{"id": "c", "vector": "AACAPwAAgD8AAAAA", "metadata": {"n": 3, "kind": "x"}}
"#;

#[test]
fn config_show_says_where_every_value_came_from_without_secrets() {
    let store = Store::new();
    let file = store.file("a.toml", "poll_interval_ms = 500\nrole = 'writer'");
    let args = [
        "config",
        "show",
        "--config",
        &file,
        "--store",
        "s3://key:hunter2@bucket/p",
        "--set",
        "fsync=false",
        "--json",
    ];
    let ran = Ran::from(
        brainy(&args)
            .env("BRAINY_WAIT_MS_MAX", "7")
            .output()
            .unwrap(),
    );
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(!ran.out.contains("hunter2"), "{}", ran.out);
    let shown: Value = serde_json::from_str(&ran.out).unwrap();
    let setting = |name: &str| shown["settings"][name].clone();
    let file_source = format!("file {file}");
    assert_eq!(
        setting("poll_interval_ms"),
        json!({"value": 500, "source": file_source})
    );
    let variable = json!({"value": 7, "source": "variable BRAINY_WAIT_MS_MAX"});
    assert_eq!(setting("wait_ms_max"), variable);
    assert_eq!(
        setting("fsync"),
        json!({"value": false, "source": "flag --set"})
    );
    assert_eq!(setting("store")["value"], "s3://key:***@bucket/p");
    assert_eq!(setting("listen")["source"], "default");
    assert_eq!(
        shown["effectiveRole"],
        json!({"value": "writer", "source": file_source})
    );

    let table = ok(&["config", "show"]);
    assert!(
        table.contains("SETTING") && table.contains("127.0.0.1:3000"),
        "{table}"
    );
    assert!(
        table.contains("effective role: hybrid (standalone store)"),
        "{table}"
    );
}

#[test]
fn config_check_judges_a_file_alone() {
    let store = Store::new();
    let good = store.file("good.toml", "store = 's3://bucket'\ngc_grace_ms = 10_000");
    assert!(ok(&["config", "check", &good]).contains("is valid: 2 settings"));
    let bad = store.file("bad.json", r#"{"gc_grace_ms": 9999}"#);
    let err = fails(&["config", "check", &bad], 2);
    assert!(
        err.contains("gc_grace_ms") && err.contains("10000"),
        "{err}"
    );
    assert!(
        err.contains("(invalid_settings)") && err.contains("hint: "),
        "{err}"
    );
}

#[test]
fn unknown_settings_name_the_nearest_known_one() {
    let store = Store::new();
    let file = store.file("a.toml", "polling_interval_ms = 5");
    let err = fails(&["config", "check", &file], 2);
    assert!(err.contains("did you mean poll_interval_ms?"), "{err}");
    let mut command = brainy(&["serve", "--store", "memory:"]);
    let ran = Ran::from(command.env("BRAINY_STOER", "memory:").output().unwrap());
    assert_eq!(ran.code, 2);
    assert!(
        ran.err.contains("did you mean BRAINY_STORE?"),
        "{}",
        ran.err
    );
}

#[test]
fn the_variable_for_the_role_beats_the_flag() {
    let role = |args: &[&str], variables: &[(&str, &str)]| {
        let args = [
            &["config", "show", "--json", "--store", "s3://bucket"],
            args,
        ]
        .concat();
        let mut command = brainy(&args);
        let ran = Ran::from(command.envs(variables.iter().copied()).output().unwrap());
        assert_eq!(ran.code, 0, "{}", ran.err);
        let shown: Value = serde_json::from_str(&ran.out).unwrap();
        shown["effectiveRole"]["value"].as_str().map(str::to_owned)
    };
    let both = role(&["--role", "writer"], &[("BRAINY_ROLE", "reader")]);
    assert_eq!(both.as_deref(), Some("reader"));
    assert_eq!(role(&["--role", "writer"], &[]).as_deref(), Some("writer"));
    let inferred = role(&[], &[("BRAINY_READ_ONLY", "true")]);
    assert_eq!(inferred.as_deref(), Some("reader"));
    assert_eq!(role(&[], &[]), None);

    let err = fails(&["serve", "--store", "s3://bucket"], 2);
    assert!(err.contains("set BRAINY_ROLE, --role or role"), "{err}");
}

#[test]
fn wrong_usage_ends_with_2_and_failures_with_1() {
    fails(&["no-such-command"], 2);
    fails(&["search", "--store", "memory:"], 2);
    fails(&["import", "--store", "memory:", "--batch", "0", "x"], 2);
    fails(&["serve", "--role", "boss"], 2);
    fails(&["config", "show", "--set", "fsync"], 2);
    let err = fails(&["stats"], 2);
    assert!(err.contains("--url") && err.contains("--store"), "{err}");
    let err = fails(&["stats", "--url", "localhost:1"], 2);
    assert!(err.contains("http://127.0.0.1:3000"), "{err}");
    let err = fails(&["stats", "--url", "http://127.0.0.1:1"], 1);
    assert!(
        err.contains("could not connect") && err.contains("(store_unavailable)"),
        "{err}"
    );
    let err = fails(&["search", "--store", "memory:", "--vector", "[1,"], 2);
    assert!(err.contains("--vector is not valid JSON"), "{err}");
    let err = fails(&["import", "--store", "memory:", "no/such.jsonl"], 1);
    assert!(err.contains("no/such.jsonl"), "{err}");
    let err = fails(
        &["collections", "show", "Bad Name", "--store", "memory:"],
        1,
    );
    assert!(err.contains("(invalid_collection_name)"), "{err}");
}

#[test]
fn errors_are_the_api_s_object_with_json() {
    let store = Store::new();
    let err = fails(
        &["stats", "-c", "nothing", "--store", &store.url, "--json"],
        1,
    );
    let error: Value = serde_json::from_str(&err).unwrap();
    assert_eq!(error["error"]["code"], "collection_not_found");
    assert!(error["error"]["message"].is_string() && error["error"]["details"].is_object());
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            ok(&["completions", shell]).contains("collections"),
            "{shell}"
        );
    }
}

#[test]
fn records_go_in_are_found_and_come_out_again() {
    let store = Store::new();
    let to = ["--store", &store.url, "--collection", "things"];
    let file = store.file("in.jsonl", RECORDS);
    let answer = ok_json(&[&["import", &file, "--batch", "2"], &to[..]].concat());
    assert_eq!(
        (&answer["imported"], &answer["failed"]),
        (&json!(3), &json!(0))
    );

    let listed = ok_json(&["collections", "list", "--store", &store.url]);
    let things = &listed["collections"][0];
    assert_eq!(things["name"], "things");
    assert_eq!(
        (&things["dimensions"], &things["vectorCount"]),
        (&json!(3), &json!(3))
    );
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
    assert!(
        table.contains("RANK") && table.contains("first one"),
        "{table}"
    );
    let filter = ["--filter", r#"{"kind": "y"}"#];
    let table = ok(&[&search[..], &filter[..]].concat());
    assert!(
        table.contains("kind=y") && !table.contains("kind=x"),
        "{table}"
    );
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
    let zstd = store.file(
        "out.jsonl.zst",
        zstd::encode_all(exported.as_bytes(), 0).unwrap(),
    );
    for (name, file) in [("from-gz", gzip), ("from-zst", zstd)] {
        ok(&["import", &file, "--store", &store.url, "-c", name]);
        let copy = ok(&["export", "--store", &store.url, "-c", name]);
        assert_eq!(without_versions(&copy), without_versions(&exported));
    }

    ok(&["collections", "delete", "things", "--store", &store.url]);
    let err = fails(&[&["stats"], &to[..]].concat(), 1);
    assert!(
        err.contains("(collection_not_found)") && err.contains("hint:"),
        "{err}"
    );
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
    ok(&[
        "collections",
        "create",
        "c",
        "--dimensions",
        "2",
        "--store",
        &store.url,
    ]);
    let args = ["import", &file, "-c", "c", "--store", &store.url, "--json"];
    let ran = run(&args);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    let answer: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (&answer["imported"], &answer["failed"]),
        (&json!(2), &json!(4))
    );
    let errors = answer["errors"].as_array().unwrap();
    let mut lines: Vec<(u64, &str)> = errors
        .iter()
        .map(|error| {
            (
                error["line"].as_u64().unwrap(),
                error["code"].as_str().unwrap(),
            )
        })
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
fn npy(descr: &str, rows: usize, columns: usize, data: &[u8]) -> Vec<u8> {
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

#[test]
fn arrays_of_every_kind_are_imported_with_what_stands_beside_them() {
    let store = Store::new();
    let beside = "{\"id\": \"x\", \"metadata\": {\"n\": 1}}\n{\"id\": \"y\", \"text\": \"why\"}\n";
    let beside = store.file("records.jsonl", beside);
    // 1, 2, 3 and 4 in each type; 0x3c00, 0x4000, 0x4200 and 0x4400 are the halves.
    let halves: Vec<u8> = [0x3c00_u16, 0x4000, 0x4200, 0x4400]
        .into_iter()
        .flat_map(u16::to_le_bytes)
        .collect();
    let singles: Vec<u8> = [1_f32, 2.0, 3.0, 4.0]
        .into_iter()
        .flat_map(f32::to_le_bytes)
        .collect();
    let doubles: Vec<u8> = [1_f64, 2.0, 3.0, 4.0]
        .into_iter()
        .flat_map(f64::to_le_bytes)
        .collect();
    let big: Vec<u8> = [1_f32, 2.0, 3.0, 4.0]
        .into_iter()
        .flat_map(f32::to_be_bytes)
        .collect();
    let kinds: [(&str, &[u8]); 6] = [
        ("<f2", &halves),
        ("<f4", &singles),
        (">f4", &big),
        ("<f8", &doubles),
        ("|u1", &[1, 2, 3, 4]),
        ("|i1", &[1, 2, 3, 4]),
    ];
    for (index, (descr, data)) in kinds.into_iter().enumerate() {
        let file = store.file("base.npy", npy(descr, 2, 2, data));
        let name = format!("c{index}");
        let to = ["-c", &name, "--store", &store.url];
        ok(&[
            &[
                "import",
                &file,
                "--ids-from",
                &beside,
                "--metric",
                "euclidean",
            ],
            &to[..],
        ]
        .concat());
        let lines = without_versions(&ok(&[&["export"], &to[..]].concat()));
        assert_eq!(lines[0]["vector"], json!([1.0, 2.0]), "{descr}");
        assert_eq!(lines[0]["metadata"], json!({"n": 1}));
        assert_eq!(
            (&lines[1]["id"], &lines[1]["text"]),
            (&json!("y"), &json!("why"))
        );
        assert_eq!(lines[1]["vector"], json!([3.0, 4.0]), "{descr}");
    }
    let to = ["-c", "rows", "--store", &store.url];
    let file = store.file("rows.npy", npy("<f4", 2, 2, &singles));
    ok(&[&["import", &file], &to[..]].concat());
    assert_eq!(
        ok_json(&[&["search", "--id", "1"], &to[..]].concat())["results"][0]["id"],
        "0"
    );

    for (name, content, reason) in [
        (
            "long.npy",
            npy("<f4", 2, 2, &singles[..12]),
            "could not read",
        ),
        ("three.npy", npy("<f4", 4, 1, &singles), "differ in number"),
        (
            "text.npy",
            npy("<i8", 1, 2, &[0; 16]),
            "use f2, f4, f8, u1 or i1",
        ),
        ("junk.npy", b"junk".to_vec(), "could not read"),
    ] {
        let file = store.file(name, content);
        let err = fails(
            &[&["import", &file, "--ids-from", &beside], &to[..]].concat(),
            1,
        );
        assert!(err.contains(reason), "{name}: {err}");
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
    assert!(
        ran.out.contains("income tax") && !ran.out.contains("cat"),
        "{}",
        ran.out
    );
    assert!(ran.err.contains("lexical"), "{}", ran.err);
}

#[test]
fn the_demo_can_be_run_twice_on_one_folder() {
    let store = Store::new();
    let dir = store.dir.path().join("demo");
    let args = ["demo", "--once", "--dir", text(&dir)];
    let first = ok(&args);
    assert!(first.contains("Stored"), "{first}");
    assert_eq!(first.matches("RANK").count(), 3, "{first}");
    let second = ok(&args);
    assert!(second.contains("already has"), "{second}");
    let results = |out: &str| {
        let lines = out.lines().filter(|line| line.contains("domain="));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(results(&first).len(), 9, "{first}");
    assert_eq!(results(&first), results(&second));
    assert!(
        results(&first)[6..]
            .iter()
            .all(|line| line.contains("domain=product")),
        "{first}"
    );
}

/// A server, killed when the test ends.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        let mut command = brainy(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let url = out.lines().find_map(|line| {
            let line = line.unwrap();
            line.strip_prefix("listening on ").map(str::to_owned)
        });
        Server {
            child,
            url: url.expect("ended before it was ready"),
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_does_the_same_as_a_store_and_stops_when_asked() {
    let store = Store::new();
    let file = store.file("in.jsonl", RECORDS);
    let serve = ["serve", "--store", &store.url, "--listen", "127.0.0.1:0"];
    let mut server = Server::start(&serve);
    let (at, direct) = (["--url", &server.url], ["--store", &store.url]);
    ok(&[&["import", &file], &at[..]].concat());
    let exported = ok(&[&["export"], &at[..]].concat());
    assert_eq!(ok(&[&["export"], &direct[..]].concat()), exported);
    let search = ["search", "--id", "a", "-k", "1"];
    let results = |at: &[&str]| ok_json(&[&search[..], at].concat())["results"].clone();
    assert_eq!(results(&at), results(&direct));
    let err = fails(&[&["stats", "-c", "nothing"], &at[..]].concat(), 1);
    assert!(err.contains("(collection_not_found)"), "{err}");
    for signal in ["-TERM", "-INT"] {
        server.signal(signal);
        assert_eq!(server.child.wait().unwrap().code(), Some(0), "{signal}");
        server = Server::start(&serve);
    }
}
