//! Settings in layers: what wins, what is refused, and what the documentation says.

use brainy::base::settings::{
    Effective, FlagValue, Role, RoleSource, Settings, Source, keys, load, range, resolve_role,
};
use brainy::base::{Code, Error};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn flag(flag: &str, key: &str, value: &str) -> FlagValue {
    FlagValue { flag: flag.to_owned(), key: key.to_owned(), value: value.to_owned() }
}

fn from_env(pairs: &[(&str, &str)]) -> Result<Effective, Error> {
    load(None, env(pairs), &[])
}

/// A settings file in a folder that lives as long as the first value.
fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

/// The message of an error about settings, which must mention all of `words`.
#[track_caller]
fn refused(result: Result<Effective, Error>, words: &[&str]) {
    let error = result.expect_err("accepted");
    assert_eq!(error.code(), Code::InvalidSettings);
    for word in words {
        assert!(error.message().contains(word), "{word:?} in {error}");
    }
}

#[test]
fn nothing_set_means_defaults() {
    let effective = from_env(&[("PATH", "/bin"), ("AWS_REGION", "eu-north-1")]).unwrap();
    assert_eq!(effective.settings, Settings::default());
    assert!(keys().iter().all(|key| effective.source(key) == &Source::Default));
    assert_eq!(keys().len(), effective.settings.to_map().len());
}

#[test]
fn flags_beat_the_environment_beats_the_file_beats_defaults() {
    let (_dir, path) =
        file("a.toml", "listen = '127.0.0.1:1'\npoll_interval_ms = 2_000\nwait_ms_max = 7");
    let environment = env(&[("BRAINY_LISTEN", "127.0.0.1:2"), ("BRAINY_POLL_INTERVAL_MS", "3000")]);
    let flags = [flag("--listen", "listen", "127.0.0.1:3")];
    let effective = load(Some(&path), environment, &flags).unwrap();
    let settings = &effective.settings;
    assert_eq!(settings.listen, "127.0.0.1:3");
    assert_eq!(settings.poll_interval_ms, 3_000);
    assert_eq!(settings.wait_ms_max, 7);
    assert_eq!(effective.source("listen"), &Source::Flag("--listen".into()));
    let variable = Source::Env("BRAINY_POLL_INTERVAL_MS".into());
    assert_eq!(effective.source("poll_interval_ms"), &variable);
    let file = Source::File(path.display().to_string());
    assert_eq!(effective.source("wait_ms_max"), &file);
    assert_eq!(effective.source("fsync"), &Source::Default);
}

#[test]
fn every_setting_can_come_from_the_environment() {
    for key in keys() {
        let value = match (Settings::default().to_map()[*key].clone(), *key) {
            (Value::String(text), _) => text,
            (Value::Null, "role") => "reader".to_owned(),
            (Value::Null, "read_only" | "write_only") => "true".to_owned(),
            (Value::Null, "service_endpoint") => "http://a:1".to_owned(),
            (Value::Null, _) => "x".to_owned(),
            (other, _) => other.to_string(),
        };
        let name = format!("BRAINY_{}", key.to_uppercase());
        let effective = from_env(&[(&name, &value)]).unwrap();
        assert_eq!(effective.source(key), &Source::Env(name));
        let map = effective.settings.to_map();
        let text = map[*key].as_str().map(str::to_owned);
        assert_eq!(text.unwrap_or_else(|| map[*key].to_string()), value);
    }
}

#[test]
fn the_file_may_be_json_and_named_by_the_environment() {
    let (_dir, path) = file("a.json", r#"{"fsync": false, "role": null, "store_retries": 9}"#);
    let effective = from_env(&[("BRAINY_CONFIG", path.to_str().unwrap())]).unwrap();
    assert!(!effective.settings.fsync);
    assert_eq!(effective.settings.store_retries, 9);
    let (_dir, other) = file("b.toml", "store_retries = 1");
    let environment = env(&[("BRAINY_CONFIG", path.to_str().unwrap())]);
    let effective = load(Some(&other), environment, &[]).unwrap();
    assert_eq!(effective.settings.store_retries, 1);
}

#[test]
fn the_service_endpoint_has_two_names_and_empty_variables_are_not_set() {
    let effective = from_env(&[("SERVICE_ENDPOINT", "http://a:1")]).unwrap();
    assert_eq!(effective.settings.service_endpoint.as_deref(), Some("http://a:1"));
    let both = [("SERVICE_ENDPOINT", "http://a:1"), ("BRAINY_SERVICE_ENDPOINT", "http://b:1")];
    let effective = from_env(&both).unwrap();
    assert_eq!(effective.settings.service_endpoint.as_deref(), Some("http://b:1"));
    let effective = from_env(&[("BRAINY_ROLE", ""), ("BRAINY_CONFIG", "")]).unwrap();
    assert_eq!(effective.settings.role, None);
}

#[test]
fn unknown_names_are_refused_with_the_nearest_known_one() {
    let (_dir, path) = file("a.toml", "poll_intervall_ms = 100");
    refused(
        load(Some(&path), env(&[]), &[]),
        &["\"poll_intervall_ms\"", "a.toml", "did you mean poll_interval_ms?"],
    );
    refused(
        from_env(&[("BRAINY_STORE_RETRY", "1")]),
        &["BRAINY_STORE_RETRY", "did you mean BRAINY_STORE_RETRIES?"],
    );
    refused(from_env(&[("BRAINY_CONFG", "1")]), &["did you mean BRAINY_CONFIG?"]);
    refused(
        load(None, env(&[]), &[flag("--set", "fsink", "true")]),
        &["--set", "did you mean fsync?"],
    );
    from_env(&[("BRAINY_TEST_S3_URL", "x")]).unwrap();
}

#[test]
fn wrong_types_name_the_key_the_source_and_what_is_expected() {
    let number = "an integer of 0 to";
    let cases: &[(&str, &[&str])] = &[
        ("poll_interval_ms = '5s'", &["poll_interval_ms", number, "\"5s\""]),
        ("poll_interval_ms = -5", &["poll_interval_ms", number, "-5"]),
        ("poll_interval_ms = 100.5", &["poll_interval_ms", number, "100.5"]),
        ("store_retries = 5000000000", &["store_retries", number, "4294967295"]),
        ("fsync = 'yes'", &["fsync", "true or false"]),
        ("role = 'boss'", &["role", "writer, reader, hybrid", "\"boss\""]),
        ("role = 3", &["role", "writer, reader, hybrid"]),
        ("log_format = 'xml'", &["log_format", "text, json"]),
        ("listen = 3000", &["listen", "a string", "3000"]),
        ("[store]\nurl = 'memory:'", &["store", "a string", "a table"]),
    ];
    for (text, words) in cases {
        let (_dir, path) = file("a.toml", text);
        let result = load(Some(&path), env(&[]), &[]);
        refused(result, &[words, &["a.toml"][..]].concat());
    }
    for (name, value) in [("POLL_INTERVAL_MS", "+100"), ("FSYNC", "TRUE"), ("ROLE", "Writer")] {
        let name = format!("BRAINY_{name}");
        refused(from_env(&[(&name, value)]), &[&name, "must be", value]);
    }
}

#[test]
fn files_that_cannot_be_read_are_refused() {
    let missing = load(Some(Path::new("no/such.toml")), env(&[]), &[]);
    refused(missing, &["no/such.toml", "could not be read"]);
    for (name, text, word) in [
        ("a.toml", "store = ", "is not valid TOML"),
        ("a.json", "{", "is not valid JSON"),
        ("a.json", "[]", "is not valid JSON"),
        ("a.yaml", "store: x", "name it .toml or .json"),
    ] {
        let (_dir, path) = file(name, text);
        refused(load(Some(&path), env(&[]), &[]), &[word]);
    }
}

#[test]
fn values_out_of_range_are_refused() {
    for key in keys() {
        let Some((min, max)) = range(key) else {
            continue;
        };
        let name = format!("BRAINY_{}", key.to_uppercase());
        let below = min.checked_sub(1).map(|value| value.to_string());
        for value in below.into_iter().chain([(max + 1).to_string()]) {
            refused(from_env(&[(&name, &value)]), &[key, &name, &value]);
        }
    }
    for (name, value, word) in [
        ("BRAINY_LISTEN", "3000", "ADDRESS:PORT"),
        ("BRAINY_LISTEN", "localhost:99999", "ADDRESS:PORT"),
        ("BRAINY_STORE", "gs://bucket", "unknown scheme \"gs\""),
        ("BRAINY_STORE", "s3:///prefix", "no bucket"),
        ("BRAINY_STORE", "file://", "no folder"),
        ("BRAINY_SERVICE_ENDPOINT", "reader:3000", "http://"),
        ("BRAINY_INSTANCE_ID", "a/b", "1 to 128"),
        ("BRAINY_LOG_LEVEL", "brainy=loud", "brainy=debug"),
    ] {
        refused(from_env(&[(name, value)]), &[name, word]);
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused_and_all_faults_are_named() {
    let small = [("BRAINY_WRITE_QUEUE_MAX_BYTES", "1000"), ("BRAINY_GC_GRACE_MS", "1")];
    refused(from_env(&small), &["batch_max_bytes", "(1000)", "gc_grace_ms", "10000"]);
    let timeout = ("BRAINY_STORE_CAS_TIMEOUT_MS", "29999");
    from_env(&[timeout]).unwrap();
    refused(
        from_env(&[timeout, ("BRAINY_STORE", "S3://bucket")]),
        &["store_cas_timeout_ms", "at least 30000 on S3"],
    );
    let settings = Settings { batch_max_records: 0, ..Settings::default() };
    assert_eq!(settings.validate().unwrap_err().details()["key"], "batch_max_records");
}

#[test]
fn passwords_are_not_shown() {
    let effective = from_env(&[("BRAINY_STORE", "s3://key:hunter2@bucket/p")]).unwrap();
    let shown = format!("{:?} {:?}", effective, effective.shown());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("s3://key:***@bucket/p"), "{shown}");
}

#[test]
fn the_role_has_one_precedence() {
    let (_dir, path) = file("a.toml", "role = 'writer'\nread_only = true");
    let role = |file: Option<&Path>, pairs: &[(&str, &str)], flags: &[FlagValue]| {
        resolve_role(&load(file, env(pairs), flags).unwrap())
    };
    let s3 = ("BRAINY_STORE", "s3://bucket");
    let hybrid_flag = [flag("--role", "role", "hybrid")];

    // The variable beats even the flag, unlike for every other setting.
    let found = role(Some(&path), &[s3, ("BRAINY_ROLE", "reader")], &hybrid_flag).unwrap();
    assert_eq!(found, (Role::Reader, RoleSource::Environment));
    let found = role(Some(&path), &[s3], &hybrid_flag).unwrap();
    let source = Source::Flag("--role".into());
    assert_eq!(found, (Role::Hybrid, RoleSource::Explicit(source)));
    let found = role(Some(&path), &[s3], &[]).unwrap();
    let source = Source::File(path.display().to_string());
    assert_eq!(found, (Role::Writer, RoleSource::Explicit(source)));

    let found = role(None, &[s3, ("BRAINY_READ_ONLY", "true")], &[]).unwrap();
    let source = Source::Env("BRAINY_READ_ONLY".into());
    assert_eq!(found, (Role::Reader, RoleSource::Inferred("read_only", source)));
    let found = role(None, &[s3, ("BRAINY_WRITE_ONLY", "true")], &[]).unwrap();
    assert_eq!(found.0, Role::Writer);
    let both = [("BRAINY_READ_ONLY", "true"), ("BRAINY_WRITE_ONLY", "true")];
    let error = role(None, &both, &[]).unwrap_err();
    assert!(error.message().contains("both true"), "{error}");

    for store in ["memory:", "file:///tmp/x", "./folder", "/tmp/x"] {
        let found = role(None, &[("BRAINY_STORE", store)], &[]).unwrap();
        assert_eq!(found, (Role::Hybrid, RoleSource::Standalone));
    }
    let none = [s3, ("BRAINY_READ_ONLY", "false")];
    let error = role(None, &none, &[]).unwrap_err();
    assert_eq!(error.code(), Code::InvalidSettings);
    assert!(error.message().contains("set BRAINY_ROLE, --role or role"), "{error}");
}

#[test]
fn the_samples_are_valid() {
    for role in ["writer", "reader", "hybrid"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("config/{role}.toml"));
        let effective = load(Some(&path), env(&[]), &[]).unwrap();
        assert_eq!(resolve_role(&effective).unwrap().0.name(), role);
    }
}

#[test]
fn the_documentation_lists_every_setting_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let names: Vec<&str> = rows.iter().map(|row| row[1].trim_matches('`')).collect();
    assert_eq!(names, keys());
    let defaults = Settings::default().to_map();
    for row in rows {
        let key = row[1].trim_matches('`');
        let default = match &defaults[key] {
            Value::Null => "unset".to_owned(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        assert_eq!(row[2], default, "default of {key}");
        let unit = match key {
            key if key.ends_with("_ms") || key.contains("_ms_") => "milliseconds",
            key if key.contains("bytes") => "bytes",
            _ => "",
        };
        assert_eq!(row[3], unit, "unit of {key}");
        match range(key) {
            Some((min, max)) => assert_eq!(row[4], format!("`{min}` to `{max}`"), "{key}"),
            None => assert!(!row[4].is_empty(), "range of {key}"),
        }
        assert!(row[5].len() > 15, "meaning of {key}");
    }
}
