//! One `brainy serve` process.

use super::store::TestStore;
use serde_json::Value;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a process may take to start or to stop before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running process; it is killed when this is dropped.
pub struct Instance {
    /// Where it listens: `http://127.0.0.1:1234`.
    pub url: String,
    child: Child,
    output: PathBuf,
    log: PathBuf,
}

impl Instance {
    /// Starts a process on a free port and waits until it says that it is ready.
    pub async fn start(store: &TestStore, role: &str, name: &str) -> Instance {
        let mut instance = Instance::spawn(store, name, |command| {
            command.args(["--role", role, "--instance-id", name]);
        });
        instance.ready().await;
        instance
    }

    /// Starts a process on a free port, with what `arrange` adds to its command line and environment,
    /// and does not wait for it. `name` names the files that it writes to.
    pub fn spawn(store: &TestStore, name: &str, arrange: impl FnOnce(&mut Command)) -> Instance {
        let output = store.logs().join(format!("{name}.out"));
        let log = store.logs().join(format!("{name}.log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_brainy"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--store", &store.url])
            .stdin(Stdio::null())
            .stdout(File::create(&output).expect("a log file can be made"))
            .stderr(File::options().create(true).append(true).open(&log).expect("likewise"));
        arrange(&mut command);
        let child = command.spawn().expect("the binary can be started");
        Instance { url: String::new(), child, output, log }
    }

    /// Waits until the process says where it listens.
    pub async fn ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.url.is_empty() {
            let said = std::fs::read_to_string(&self.output).unwrap_or_default();
            if let Some(line) = said.lines().find(|_| said.ends_with('\n')) {
                let address = line
                    .strip_prefix("listening on ")
                    .unwrap_or_else(|| panic!("it said {line:?} instead of where it listens"));
                self.url = address.trim().to_owned();
            } else if let Some(status) = self.child.try_wait().expect("its state is known") {
                panic!("it ended with {status}:\n{}", self.log_tail());
            } else {
                let tail = || self.log_tail();
                assert!(Instant::now() < deadline, "it never got ready:\n{}", tail());
                sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// SIGKILL: no goodbye.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal: `TERM`, `STOP`, `CONT`, ...
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status()
            .expect("there is a kill command");
        assert!(sent.success(), "the process was gone already");
    }

    /// How the process ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("its state is known") {
                return status;
            }
            assert!(Instant::now() < deadline, "it never ended:\n{}", self.log_tail());
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The end of what it wrote to stderr.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// POSTs JSON; the status and the JSON that came back.
    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let client = reqwest::Client::new();
        let response = client
            .post(format!("{}{path}", self.url))
            .json(body)
            .send()
            .await
            .unwrap_or_else(|fault| panic!("POST {path}: {fault}:\n{}", self.log_tail()));
        let status = response.status().as_u16();
        let text = response.text().await.expect("the whole answer arrives");
        let json = serde_json::from_str(&text)
            .unwrap_or_else(|_| panic!("POST {path}: {status} without JSON: {text}"));
        (status, json)
    }

    /// GETs text, which has to be there.
    pub async fn text(&self, path: &str) -> String {
        let response = reqwest::get(format!("{}{path}", self.url))
            .await
            .unwrap_or_else(|fault| panic!("GET {path}: {fault}:\n{}", self.log_tail()));
        assert_eq!(response.status(), 200, "GET {path}");
        response.text().await.expect("the whole answer arrives")
    }

    /// The value of a counter in `/metrics`.
    pub async fn counter(&self, name: &str) -> u64 {
        let text = self.text("/metrics").await;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .unwrap_or_else(|| panic!("/metrics has no {name}:\n{text}"));
        value.parse().expect("a counter is a number")
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
