//! A cluster of real processes on one store.

use crate::support::instance::Instance;
use crate::support::store::TestStore;
use reqwest::Method;
use serde_json::{Value, json};
use std::ops::{AsyncFnMut, Deref, DerefMut};
use std::process::Command;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Where the shared config stands.
pub const CONFIG: &str = "_brainy/config.json";
/// How long anything may take that is not measured.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long a node that is well may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Settings with which failures are noticed within seconds.
const QUICK: &[(&str, &str)] = &[
    ("heartbeat_interval_ms", "1000"),
    ("instance_timeout_ms", "4000"),
    ("instance_remove_ms", "3000"),
    ("leader_lease_ms", "3000"),
    ("lease_ttl_ms", "3000"),
    ("poll_interval_ms", "100"),
    ("compute_threads", "1"),
    ("fsync", "false"),
];

/// What all nodes of a test have in common.
pub struct Cluster {
    pub store: TestStore,
    pub http: reqwest::Client,
    settings: Vec<(&'static str, String)>,
}

/// One node.
pub struct Node {
    pub id: String,
    instance: Instance,
    http: reqwest::Client,
}

impl Deref for Node {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.instance
    }
}

impl DerefMut for Node {
    fn deref_mut(&mut self) -> &mut Instance {
        &mut self.instance
    }
}

impl Cluster {
    pub fn new() -> Cluster {
        let http = reqwest::Client::builder().no_proxy().build().expect("HTTP can be set up");
        let settings = QUICK.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Cluster { store: TestStore::new(), http, settings }
    }

    /// All nodes that are started from now on have this setting.
    pub fn set(mut self, name: &'static str, value: impl ToString) -> Cluster {
        self.settings.retain(|(known, _)| *known != name);
        self.settings.push((name, value.to_string()));
        self
    }

    /// A setting, as the nodes have it.
    pub fn setting(&self, name: &str) -> Duration {
        let found = self.settings.iter().find(|(known, _)| *known == name);
        Duration::from_millis(found.expect("it is set").1.parse().expect("it is a number"))
    }

    /// Starts a node and waits until it has joined.
    pub async fn start(&self, role: &str, id: &str) -> Node {
        self.start_with(role, id, |_| ()).await
    }

    /// The same, with more on its command line or in its environment.
    pub async fn start_with(
        &self,
        role: &str,
        id: &str,
        arrange: impl FnOnce(&mut Command),
    ) -> Node {
        let mut node = self.spawn(role, id, id, arrange);
        node.ready().await;
        node
    }

    /// Starts a node without waiting for it; `name` names its log files.
    pub fn spawn(
        &self,
        role: &str,
        id: &str,
        name: &str,
        arrange: impl FnOnce(&mut Command),
    ) -> Node {
        let instance = Instance::spawn(&self.store, name, |command| {
            command.args(["--role", role, "--instance-id", id]);
            for (name, value) in &self.settings {
                command.args(["--set", &format!("{name}={value}")]);
            }
            arrange(command);
        });
        Node { id: id.to_owned(), instance, http: self.http.clone() }
    }
}

/// One request; the status, and the JSON that came back (null where it is none).
pub async fn ask(
    http: &reqwest::Client,
    method: Method,
    url: &str,
    body: Option<&Value>,
    limit: Duration,
) -> reqwest::Result<(u16, Value)> {
    let mut request = http.request(method, url).timeout(limit);
    if let Some(body) = body {
        request = request.json(body);
    }
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    let text = answer.text().await?;
    Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
}

impl Node {
    /// GETs JSON from a node that has to answer.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.ask(Method::GET, path, None).await
    }

    /// POSTs JSON to a node that has to answer.
    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask(Method::POST, path, Some(body)).await
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let url = format!("{}{path}", self.url);
        ask(&self.http, method, &url, body, ANSWER_MAX)
            .await
            .unwrap_or_else(|fault| panic!("{} {path}: {fault}:\n{}", self.id, self.log_tail()))
    }

    /// `/cluster/status`.
    pub async fn status(&self) -> Value {
        let (code, status) = self.get("/cluster/status").await;
        assert_eq!(code, 200, "{status}");
        status
    }

    /// What this node says about all nodes: `/cluster/nodes`.
    pub async fn nodes(&self) -> Vec<Value> {
        let (code, answer) = self.get("/cluster/nodes").await;
        assert_eq!(code, 200, "{answer}");
        answer["nodes"].as_array().expect("a list").clone()
    }

    /// What this node says that `id` does; `None` where it does not list it.
    pub async fn status_of(&self, id: &str) -> Option<String> {
        let nodes = self.nodes().await;
        let node = nodes.iter().find(|node| node["id"] == id)?;
        Some(node["status"].as_str().expect("a status").to_owned())
    }

    /// Waits until this node lists exactly `count` living nodes.
    pub async fn sees(&self, count: usize) {
        until(&format!("{} sees {count} nodes", self.id), PATIENCE, async || {
            let nodes = self.nodes().await;
            let living = nodes.iter().filter(|node| node["status"] != "dead").count();
            (living == count && nodes.len() == count).then_some(())
        })
        .await;
    }

    /// Asks `id` to take a role.
    pub async fn order(&self, id: &str, role: &str) {
        let (code, answer) = self.ask_for_role(id, &json!({ "role": role })).await;
        assert_eq!((code, &answer["wantedRole"]), (200, &json!(role)), "{answer}");
    }

    /// Asks `id` to take a role, with the body as it is given; the status and the answer.
    pub async fn ask_for_role(&self, id: &str, body: &Value) -> (u16, Value) {
        self.post(&format!("/cluster/nodes/{id}/role"), body).await
    }

    /// Writes one record; the status and the answer.
    pub async fn write(&self, id: &str) -> (u16, Value) {
        self.post(crate::load::VECTORS, &crate::load::records(id)).await
    }

    /// Whether this node finds the record now, without waiting for anything.
    pub async fn shows(&self, id: &str) -> bool {
        self.get(&format!("{}/{id}", crate::load::VECTORS)).await.0 == 200
    }
}

/// Waits until `look` finds what it looks for.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{limit:?} were not enough until {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until some node leads, and all of `nodes` agree on it; its place in `nodes` and its epoch.
pub async fn leader(nodes: &[&Node]) -> (usize, u64) {
    until("all agree on a leader", PATIENCE, async || {
        let mut told = Vec::new();
        for node in nodes {
            let leader = node.status().await["leader"].take();
            told.push((leader["id"].as_str()?.to_owned(), leader["epoch"].as_u64()?));
        }
        let agreed = told.iter().all(|leader| *leader == told[0]);
        let place = nodes.iter().position(|node| node.id == told[0].0)?;
        agreed.then_some((place, told[0].1))
    })
    .await
}

/// The code of an error answer.
pub fn code(answer: &Value) -> &str {
    answer["error"]["code"].as_str().unwrap_or("none")
}
