//! Stores that are misspelt: nothing is made of them, and the message names what says so.

use super::{RECORDS, Ran, Store, brainy, fails, ok};
use std::process::Stdio;

#[test]
fn what_does_not_store_anything_makes_no_store() {
    let store = Store::new();
    let typo = store.dir.path().join("typo");
    let folder = typo.to_str().unwrap();
    for args in [
        &["doctor", folder][..],
        &["search", "--id", "a", "--store", folder],
        &["export", "--store", folder],
        &["stats", "--store", folder],
        &["segments", "--store", folder],
        &["collections", "list", "--store", folder],
        &["collections", "show", "a", "--store", folder],
        &["collections", "delete", "a", "--store", folder],
        &["compact", "--store", folder],
        &["reshard", "--partitions", "2", "--store", folder],
        &["cluster", "nodes", "--store", folder],
        &["cluster", "state", "list", "--store", folder],
        &["cluster", "state", "delete", "a", "--store", folder],
    ] {
        let err = fails(args, 1);
        assert!(err.contains("there is no folder") && err.contains("(store_not_found)"), "{err}");
        assert!(!typo.exists(), "{args:?}");
    }
    ok(&["collections", "create", "a", "--dimensions", "2", "--store", folder]);
    ok(&["collections", "list", "--store", folder]);
}

#[test]
fn a_folder_is_named_in_a_url_as_urls_name_it() {
    let store = Store::new();
    let file = store.file("in.jsonl", RECORDS);
    let url = format!("file://{}/my%20store", store.dir.path().display());
    ok(&["import", &file, "--store", &url]);
    assert!(store.dir.path().join("my store").is_dir());
    assert!(!store.dir.path().join("my%20store").exists());
}

#[cfg(feature = "s3")]
#[test]
fn an_endpoint_that_is_none_is_refused_at_once_by_its_name() {
    for (name, value, reason) in [
        ("AWS_ENDPOINT_URL_S3", "127.0.0.1:8333", "no server's URL"),
        ("AWS_ENDPOINT_URL_S3", "", "is empty"),
        ("AWS_ENDPOINT_URL", "localhost:9", "no server's URL"),
        (
            "AWS_ENDPOINT_URL_S3",
            "http://127.0.0.1:9/bucket",
            "AWS_ENDPOINT_URL_S3=http://127.0.0.1:9",
        ),
        // Taken as it is meant: nobody listens there.
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9 ", "could not connect to the store"),
    ] {
        for args in
            [&["doctor", "s3://bucket/x"][..], &["search", "--id", "a", "--store", "s3://bucket"]]
        {
            let mut command = brainy(args);
            for other in ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_PROFILE"] {
                command.env_remove(other);
            }
            command.env("AWS_ACCESS_KEY_ID", "x").env("AWS_SECRET_ACCESS_KEY", "x");
            command.env("AWS_REGION", "us-east-1").env("AWS_EC2_METADATA_DISABLED", "true");
            let output = command.env(name, value).stdin(Stdio::null()).output().unwrap();
            let ran = Ran::from(output);
            assert!([1, 2].contains(&ran.code), "{value:?}: {}", ran.err);
            assert!(ran.err.contains(reason), "{value:?}: {}", ran.err);
            assert!(!ran.err.contains("panicked"), "{}", ran.err);
            if !value.contains(' ') {
                assert!(
                    ran.err.contains(name) && ran.err.contains("(invalid_settings)"),
                    "{}",
                    ran.err
                );
            }
        }
    }
}
