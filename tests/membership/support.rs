//! A store as slow and as narrow as a bucket, each instance's own line to it, and instances.

use async_trait::async_trait;
use brainy::base::clock::VirtualClock;
use brainy::base::settings::Role;
use brainy::base::{Code, Env, Error, Result, Timestamp};
use brainy::cluster::{
    ClusterSettings, ClusterView, MemberOptions, Membership, NoVitals, ParsedConfigs, Peer,
    PeerProbe, Presence, SharedConfig, Timing, Vitals,
};
use brainy::store::memory::MemoryStore;
use brainy::store::{
    Etag, Fetched, GetOptions, Key, Listing, Precondition, Prefix, PutOutcome, Store, get, paths,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Half of it on the way to the store, half on the way back.
const LATENCY: Duration = Duration::from_millis(60);
/// Between two conditional PUTs of one key.
const CAS_SPACING: Duration = Duration::from_millis(1_000 / 15);

/// Requests by what they came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Requests {
    pub gets: u64,
    pub puts: u64,
    pub lists: u64,
    pub deletes: u64,
    /// Conditional PUTs that came to nothing, because they lost or the store refused them.
    pub lost: u64,
    pub throttled: u64,
}

impl Requests {
    pub fn total(&self) -> u64 {
        self.gets + self.puts + self.lists + self.deletes
    }

    /// Each PUT in vain, and the GET that has to follow it.
    pub fn wasted(&self) -> u64 {
        2 * (self.lost + self.throttled)
    }

    /// Dollars at the prices of S3 Standard: 5 a million PUTs and LISTs, 0.40 a million GETs.
    pub fn dollars(&self) -> f64 {
        ((self.puts + self.lists) as f64 * 5.0 + self.gets as f64 * 0.4) / 1e6
    }
}

/// The bucket.
#[derive(Debug, Default)]
pub struct Bucket {
    pub memory: MemoryStore,
    requests: Mutex<Requests>,
    refused: Mutex<u64>,
    last_cas: Mutex<BTreeMap<Key, Instant>>,
}

impl Bucket {
    pub fn requests(&self) -> Requests {
        *self.requests.lock().unwrap()
    }

    /// Writes that were refused for want of rights.
    pub fn refused(&self) -> u64 {
        *self.refused.lock().unwrap()
    }

    fn count(&self, add: impl FnOnce(&mut Requests)) {
        add(&mut self.requests.lock().unwrap());
    }

    /// What stands in the store, without a request.
    pub async fn text(&self) -> Option<String> {
        match get(&self.memory, &config_key()).await.unwrap() {
            Fetched::Found(object) => Some(String::from_utf8(object.bytes.to_vec()).unwrap()),
            _ => None,
        }
    }

    pub async fn config(&self) -> SharedConfig {
        SharedConfig::parse(self.text().await.expect("there is a config").as_bytes()).unwrap()
    }

    /// What a person does who uploads a file.
    pub async fn upload(&self, text: &str) {
        self.memory.put(&config_key(), Bytes::from(text.to_owned())).await.unwrap();
    }
}

pub fn config_key() -> Key {
    paths::config("_brainy/config.json")
}

/// How an instance's line to the bucket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    Up,
    /// Every request fails.
    Cut,
    /// Whatever writes is refused.
    ReadOnly,
    /// The process stands still: requests neither begin nor return.
    Frozen,
}

/// One instance's line to the bucket.
#[derive(Debug)]
pub struct Wire {
    bucket: Arc<Bucket>,
    line: watch::Sender<Line>,
}

impl Wire {
    async fn way(&self) -> Result<()> {
        self.thaw().await;
        sleep(LATENCY / 2).await;
        self.thaw().await;
        if *self.line.borrow() == Line::Cut {
            return Err(Error::unavailable("the line is cut"));
        }
        Ok(())
    }

    /// Refuses a write where the line does not allow it.
    async fn may_write(&self) -> Result<()> {
        self.way().await?;
        if *self.line.borrow() == Line::ReadOnly {
            *self.bucket.refused.lock().unwrap() += 1;
            return Err(Error::new(Code::StoreDenied, "the store answered with 403"));
        }
        Ok(())
    }

    async fn thaw(&self) {
        let mut line = self.line.subscribe();
        line.wait_for(|line| *line != Line::Frozen).await.unwrap();
    }
}

#[async_trait]
impl Store for Wire {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched> {
        self.way().await?;
        self.bucket.count(|requests| requests.gets += 1);
        let answer = self.bucket.memory.get(key, options).await;
        self.way().await?;
        answer
    }

    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag> {
        self.may_write().await?;
        self.bucket.count(|requests| requests.puts += 1);
        let answer = self.bucket.memory.put(key, body).await;
        self.way().await?;
        answer
    }

    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome {
        if let Err(error) = self.may_write().await {
            return PutOutcome::Failed(error);
        }
        self.bucket.count(|requests| requests.puts += 1);
        let last = self.bucket.last_cas.lock().unwrap().get(key).copied();
        if last.is_some_and(|last| last.elapsed() < CAS_SPACING) {
            self.bucket.count(|requests| requests.throttled += 1);
            let _ = self.way().await;
            return PutOutcome::Failed(Error::unavailable("slow down"));
        }
        let outcome = self.bucket.memory.put_if(key, body, condition).await;
        match &outcome {
            PutOutcome::Won(_) => {
                self.bucket.last_cas.lock().unwrap().insert(key.clone(), Instant::now());
            }
            _ => self.bucket.count(|requests| requests.lost += 1),
        }
        match self.way().await {
            Ok(()) => outcome,
            Err(error) => PutOutcome::Ambiguous(error),
        }
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.may_write().await?;
        self.bucket.count(|requests| requests.deletes += 1);
        let answer = self.bucket.memory.delete(key).await;
        self.way().await?;
        answer
    }

    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing> {
        self.way().await?;
        self.bucket.count(|requests| requests.lists += 1);
        let answer = self.bucket.memory.list(prefix, after, limit).await;
        self.way().await?;
        answer
    }

    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>> {
        self.bucket.memory.list_dirs(prefix).await
    }
}

/// A probe that always says the same.
#[derive(Debug)]
pub struct Says(pub Presence);

#[async_trait]
impl PeerProbe for Says {
    async fn probe(&self, _peer: &Peer) -> Presence {
        self.0
    }
}

/// A bucket and what all instances on it have in common.
#[derive(Clone)]
pub struct World {
    pub bucket: Arc<Bucket>,
    pub timing: Timing,
    clock: Arc<VirtualClock>,
    parsed: ParsedConfigs,
    seeds: Arc<Mutex<u64>>,
    pub vitals: Arc<dyn Vitals>,
}

impl World {
    pub fn new() -> World {
        World {
            bucket: Arc::default(),
            timing: Timing {
                heartbeat_interval: Duration::from_secs(30),
                instance_timeout: Duration::from_secs(60),
                instance_remove: Duration::from_secs(600),
                leader_lease: Duration::from_secs(15),
            },
            clock: Arc::new(VirtualClock::starting_at(Timestamp(1_768_473_000_000))),
            parsed: ParsedConfigs::default(),
            seeds: Arc::default(),
            vitals: Arc::new(NoVitals),
        }
    }

    pub fn now(&self) -> Timestamp {
        use brainy::base::clock::Clock;
        self.clock.now()
    }

    /// What `id` joins with, to be changed by a scenario, and its line.
    pub fn options(&self, id: &str, role: Role) -> (MemberOptions, watch::Sender<Line>) {
        let seed = {
            let mut seeds = self.seeds.lock().unwrap();
            *seeds += 1;
            *seeds
        };
        let line = watch::Sender::new(Line::Up);
        let wire = Wire { bucket: self.bucket.clone(), line: line.clone() };
        let options = MemberOptions {
            store: Arc::new(wire),
            env: Env::deterministic(seed, self.clock.clone()),
            config_key: config_key(),
            id: id.into(),
            role,
            standby: false,
            endpoint: Some(format!("http://{id}:3000")),
            build: "0.1.0".to_owned(),
            settings: ClusterSettings::default(),
            timing: self.timing,
            probe: Arc::new(Says(Presence::Unknown)),
            vitals: self.vitals.clone(),
            parsed: self.parsed.clone(),
        };
        (options, line)
    }

    pub async fn start(&self, id: &str, role: Role) -> Node {
        self.start_with(id, role, |_| {}).await.unwrap()
    }

    pub async fn start_with(
        &self,
        id: &str,
        role: Role,
        change: impl FnOnce(&mut MemberOptions),
    ) -> Result<Node> {
        let (mut options, line) = self.options(id, role);
        change(&mut options);
        World::join(id, options, line).await
    }

    /// Starts one whose line is not up.
    pub async fn start_on(&self, id: &str, role: Role, at: Line) -> Result<Node> {
        let (options, line) = self.options(id, role);
        line.send_replace(at);
        World::join(id, options, line).await
    }

    async fn join(id: &str, options: MemberOptions, line: watch::Sender<Line>) -> Result<Node> {
        let env = options.env.clone();
        let member = Membership::join(options).await?;
        Ok(Node { id: id.to_owned(), member, env, line })
    }

    pub async fn readers(&self, count: usize) -> Vec<Node> {
        let mut nodes = Vec::new();
        for number in 0..count {
            nodes.push(self.start(&format!("reader-{number}"), Role::Reader).await);
        }
        nodes
    }
}

/// One instance.
pub struct Node {
    pub id: String,
    pub member: Membership,
    pub env: Env,
    pub line: watch::Sender<Line>,
}

impl Node {
    /// As SIGKILL does.
    pub fn kill(&self) {
        self.env.tasks.kill();
    }

    pub fn set_line(&self, line: Line) {
        self.line.send_replace(line);
    }

    pub fn view(&self) -> Arc<ClusterView> {
        self.member.view()
    }

    /// Whether this node believes that `id` lives.
    pub fn sees(&self, id: &str) -> bool {
        self.view().node(id).is_some_and(|node| node.alive)
    }
}

/// Waits until `holds`, and says how long that took; at most `bound`.
pub async fn until(what: &str, bound: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < bound, "not within {bound:?}: {what}");
        sleep(Duration::from_millis(50)).await;
    }
    start.elapsed()
}

pub const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
