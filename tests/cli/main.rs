//! The command line from outside: the built binary, its output and its exit codes.

mod cluster;
mod data;
mod documents;
mod exports;
mod imports;
#[cfg(unix)]
mod rights;
mod serving;
mod settings;
mod stores;
mod upkeep;

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The binary, in an environment that says nothing about Brainy.
fn brainy(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_brainy"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("BRAINY_") || text.starts_with("CLUSTER_") || text == "SERVICE_ENDPOINT"
        {
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
    assert!(!ran.err.contains("panicked") && !ran.err.contains("RUST_BACKTRACE"), "{}", ran.err);
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
