//! The conformance suite and the probe against a real S3 server.
//!
//! Runs where `BRAINY_TEST_S3_URL` names a bucket that may be written to; the server comes from the
//! usual AWS variables. See docs/stores.md for servers that run on this machine.

use brainy::base::settings::Settings;
use brainy::base::{Code, Env};
use brainy::store::conformance::{self, Effort};
use brainy::store::open::{Location, open, parse};
use brainy::store::probe::{self, Status};
use brainy::store::{DynStore, aws::Aws, bucket};
use std::io::{BufRead, BufReader, Write};
use std::time::Instant;

const VARIABLE: &str = "BRAINY_TEST_S3_URL";

/// The URL, or `None` with a word on how to run these tests.
fn url() -> Option<String> {
    let url = std::env::var(VARIABLE).ok().filter(|url| !url.is_empty());
    if url.is_none() {
        // Past the test harness, which keeps what passing tests print to itself.
        let _ = writeln!(
            std::io::stderr(),
            "skipped: needs an S3 server. Run with {VARIABLE}=s3://bucket/prefix, \
             AWS_ENDPOINT_URL_S3=http://..., AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION \
             (docs/stores.md starts a server)"
        );
    }
    url
}

fn settings(url: &str) -> Settings {
    Settings { store: url.to_owned(), ..Settings::default() }
}

async fn opened(url: &str, env: &Env) -> DynStore {
    open(&settings(url), env).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_conforms() {
    let Some(url) = url() else { return };
    let env = Env::system(1).unwrap();
    let store = opened(&url, &env).await;
    match conformance::run(&store, &env, Effort::SERVER).await {
        Ok(passed) => eprintln!("{} checks passed: {passed:?}", passed.len()),
        Err(failure) => panic!("{failure}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_accepts_the_server() {
    let Some(url) = url() else { return };
    let env = Env::system(1).unwrap();
    let store = opened(&url, &env).await;
    let thorough = std::env::var("BRAINY_TEST_S3_THOROUGH").is_ok();
    let efforts = [probe::Effort::START, probe::Effort::THOROUGH];
    for effort in efforts.into_iter().take(1 + usize::from(thorough)) {
        #[expect(clippy::disallowed_methods, reason = "a stopwatch for people")]
        let start = Instant::now();
        let report = probe::probe(&store, &env, effort).await.unwrap();
        eprintln!("probe took {:?}: {report:#?}", start.elapsed());
        probe::require_safe(&report).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bucket_can_be_inspected() {
    let Some(url) = url() else { return };
    let Location::S3 { bucket: name, prefix } = parse(&url).unwrap() else {
        panic!("{VARIABLE} is not an s3:// URL");
    };
    let env = Env::system(1).unwrap();
    let checks = bucket::inspect(&name, &prefix, &Aws::load().await.unwrap(), &env.clock).await;
    eprintln!("{checks:#?}");
    assert_eq!(checks.len(), 6);
    let skew = checks.iter().find(|check| check.name == "clock skew");
    assert_eq!(skew.map(|check| check.status), Some(Status::Ok));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_is_named_at_once() {
    let Some(_) = url() else { return };
    let env = Env::system(1).unwrap();
    let settings = settings("s3://no-such-bucket-of-brainy/x");
    let error = open(&settings, &env).await.unwrap_err();
    eprintln!("{error}");
    assert_eq!(error.code(), Code::StoreNotFound);
}

/// Runs `brainy --json collections list` on a store with other variables; its error's code.
fn error_code(store: &str, variables: &[(&str, &str)]) -> Option<String> {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_brainy"))
        .args(["--json", "collections", "list", "--store", store])
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap_or_default();
    assert_eq!(output.status.success(), error.is_null(), "{output:?}");
    error["error"]["code"].as_str().map(str::to_owned)
}

#[test]
fn wrong_credentials_are_named() {
    let Some(url) = url() else { return };
    let nobody = [("AWS_ACCESS_KEY_ID", "nobody"), ("AWS_SECRET_ACCESS_KEY", "nothing")];
    let wrong = [("AWS_SECRET_ACCESS_KEY", "wrong")];
    for variables in [&nobody[..], &wrong[..]] {
        match error_code(&url, variables) {
            Some(code) => assert_eq!(code, "store_denied", "{variables:?}"),
            // MiniStack knows its users, but does not check signatures.
            None => {
                let _ = writeln!(std::io::stderr(), "skipped: the server accepts {variables:?}");
            }
        }
    }
}

#[test]
fn a_store_that_cannot_be_reached_is_named() {
    // Nothing listens on the discard port; this needs no server.
    let variables = [
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9"),
        ("AWS_ACCESS_KEY_ID", "any"),
        ("AWS_SECRET_ACCESS_KEY", "any"),
        ("AWS_REGION", "us-east-1"),
    ];
    let code = error_code("s3://bucket/prefix", &variables);
    assert_eq!(code.as_deref(), Some("store_unavailable"));
}

/// What a command prints on a store with other variables.
fn said(args: &[&str], variables: &[(&str, &str)]) -> (bool, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_brainy"));
    let output = command.args(args).envs(variables.iter().copied()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn credentials_that_may_only_read_are_enough_for_a_reader() {
    let Some(url) = url() else { return };
    let key = |name: &str| std::env::var(format!("BRAINY_TEST_S3_READER_{name}_KEY"));
    let (Ok(access), Ok(secret)) = (key("ACCESS"), key("SECRET")) else {
        let _ = writeln!(std::io::stderr(), "skipped: no user of this server may only read");
        return;
    };
    let variables = [("AWS_ACCESS_KEY_ID", &*access), ("AWS_SECRET_ACCESS_KEY", &*secret)];
    let url = format!("{}/only-read", url.trim_end_matches('/'));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("in.jsonl");
    std::fs::write(&file, "{\"id\": \"a\", \"vector\": [1, 0]}\n").unwrap();
    let (done, text) = said(&["import", file.to_str().unwrap(), "--store", &url], &[]);
    assert!(done, "{text}");

    let (readable, text) = said(&["doctor", &url, "--role", "reader"], &variables);
    assert!(readable && text.contains("A reader can work"), "{text}");
    let (writable, text) = said(&["doctor", &url], &variables);
    assert!(!writable && text.contains("A writer cannot"), "{text}");
    let listen = ["--listen", "127.0.0.1:0", "--store", &url, "--role"];
    let (served, text) = said(&[&["serve"], &listen[..], &["writer"]].concat(), &variables);
    assert!(!served && text.contains("store_denied"), "{text}");

    let mut reader = std::process::Command::new(env!("CARGO_BIN_EXE_brainy"))
        .args([&["serve"], &listen[..], &["reader"]].concat())
        .envs(variables)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(reader.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let at = line.trim().strip_prefix("listening on ").unwrap_or_default();
    let found = said(&["search", "--vector", "[1, 0]", "--url", at], &[]);
    let status = said(&["cluster", "status", "--url", at], &[]);
    reader.kill().unwrap();
    reader.wait().unwrap();
    assert!(found.0 && found.1.contains(" a "), "{found:?}");
    assert!(status.0 && status.1.contains("unlisted"), "{status:?}");
}
