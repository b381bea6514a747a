//! Watches a cluster from outside: who says that it leads, and whom anybody counts as dead.

use crate::cluster::{Node, ask};
use reqwest::Method;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Between two looks at all nodes.
const PAUSE: Duration = Duration::from_millis(30);
/// How long a node may take to answer before it is asked again.
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Who said that it leads, by epoch.
    pub acting: BTreeMap<u64, BTreeSet<String>>,
    /// Who said that it leads after a later leader had been seen.
    pub deposed: Vec<String>,
    /// Who counted whom as dead.
    pub dead: BTreeSet<(String, String)>,
    /// Answers.
    pub answers: usize,
}

/// A task that asks all nodes again and again, until it is dropped.
pub struct Sampler {
    _task: JoinSet<()>,
    nodes: Arc<Mutex<Vec<(String, String)>>>,
    seen: Arc<Mutex<Seen>>,
}

impl Sampler {
    pub fn start(http: &reqwest::Client, nodes: &[&Node]) -> Sampler {
        let (listed, seen) = (Arc::default(), Arc::new(Mutex::new(Seen::default())));
        let mut task = JoinSet::new();
        task.spawn(run(http.clone(), Arc::clone(&listed), seen.clone()));
        let sampler = Sampler { _task: task, nodes: listed, seen };
        for node in nodes {
            sampler.add(node);
        }
        sampler
    }

    /// Asks this node, too; one with the same id is not asked any more.
    pub fn add(&self, node: &Node) {
        let mut nodes = self.nodes.lock().expect("nobody panicked");
        nodes.retain(|(id, _)| *id != node.id);
        nodes.push((node.id.clone(), node.url.clone()));
    }

    /// Whom anybody counted as dead so far.
    pub fn dead(&self) -> BTreeSet<(String, String)> {
        self.seen.lock().expect("nobody panicked").dead.clone()
    }

    /// Checks that never two led in one epoch, nor an earlier leader beside a later one.
    pub fn check_leaders(&self) {
        let seen = self.seen.lock().expect("nobody panicked");
        assert!(seen.answers > 0, "nobody was asked");
        for (epoch, leaders) in &seen.acting {
            assert_eq!(leaders.len(), 1, "{leaders:?} led in epoch {epoch}");
        }
        assert!(seen.deposed.is_empty(), "{:?}", seen.deposed);
    }
}

async fn run(
    http: reqwest::Client,
    nodes: Arc<Mutex<Vec<(String, String)>>>,
    seen: Arc<Mutex<Seen>>,
) {
    // When a leader of each epoch was first seen.
    let mut first: BTreeMap<u64, Instant> = BTreeMap::new();
    loop {
        let listed = nodes.lock().expect("nobody panicked").clone();
        for (id, url) in listed {
            let asked = Instant::now();
            let status = format!("{url}/cluster/status");
            let status = ask(&http, Method::GET, &status, None, ANSWER_MAX).await;
            let Ok((200, status)) = status else { continue };
            let all = format!("{url}/cluster/nodes");
            let all = ask(&http, Method::GET, &all, None, ANSWER_MAX).await;
            let mut seen = seen.lock().expect("nobody panicked");
            seen.answers += 1;
            if status["leader"]["state"] == "acting" {
                let epoch = status["leader"]["epoch"].as_u64().expect("an epoch");
                seen.acting.entry(epoch).or_default().insert(id.clone());
                first.entry(epoch).or_insert_with(Instant::now);
                let later = first.range(epoch + 1..).find(|(_, since)| **since < asked);
                if let Some((later, _)) = later {
                    seen.deposed.push(format!("{id} led in epoch {epoch} after {later} had begun"));
                }
            }
            let Ok((200, all)) = all else { continue };
            for node in all["nodes"].as_array().into_iter().flatten() {
                if node["status"] == "dead" {
                    let dead = node["id"].as_str().expect("an id").to_owned();
                    seen.dead.insert((id.clone(), dead));
                }
            }
        }
        sleep(PAUSE).await;
    }
}
