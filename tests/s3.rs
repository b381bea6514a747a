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
use std::io::Write;
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
    let checks = bucket::inspect(&name, &prefix, &Aws::load().await, &*env.clock).await;
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
