//! Many instances on one bucket: is anybody buried alive, how soon is a heartbeat seen, what does it cost?

use crate::support::{Node, Requests, World};
use brainy::base::settings::Role;
use brainy::cluster::{InstanceMetrics, SharedConfig, Status, Vitals};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What a busy reader tells.
#[derive(Debug)]
struct Busy;

impl Vitals for Busy {
    fn sample(&self) -> InstanceMetrics {
        InstanceMetrics {
            vector_count: 12_345_678,
            cache_hit_rate: 0.973,
            memory_usage: 8_123_456_789,
            requests_per_second: 1_234.567,
            average_latency_ms: 2.345,
            error_rate: 0.001,
            applied_versions: [("products".into(), 123_456), ("documents".into(), 98_765)].into(),
            resident_segments: 321,
            ..Default::default()
        }
    }
}

/// What came of a run.
#[derive(Debug, Default)]
struct Outcome {
    instances: usize,
    span: Duration,
    buried: usize,
    beats: usize,
    /// Beats of which the shared config never showed anything but the next.
    skipped: u64,
    /// From writing to showing, sorted.
    shown_ms: Vec<u64>,
    bytes_max: usize,
    requests: Requests,
}

impl Outcome {
    fn shown(&self, share: f64) -> u64 {
        let at = ((self.shown_ms.len() as f64 * share) as usize).min(self.shown_ms.len() - 1);
        self.shown_ms[at]
    }

    fn wasted_percent(&self) -> f64 {
        self.requests.wasted() as f64 * 100.0 / self.requests.total() as f64
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let month = self.requests.dollars() * 30.0 * 86_400.0 / self.span.as_secs_f64();
        writeln!(f, "{} instances for {:?}", self.instances, self.span)?;
        writeln!(f, "  falsely dead               {}", self.buried)?;
        let (p50, p99, max) = (self.shown(0.5), self.shown(0.99), self.shown(1.0));
        writeln!(f, "  heartbeat shown in config  p50 {p50} ms, p99 {p99} ms, max {max} ms")?;
        writeln!(f, "  heartbeats                 {} shown, {} skipped", self.beats, self.skipped)?;
        writeln!(f, "  config.json at most        {} bytes", self.bytes_max)?;
        writeln!(f, "  requests                   {:?}", self.requests)?;
        writeln!(f, "  wasted                     {:.2} %", self.wasted_percent())?;
        writeln!(f, "  dollars a month            {month:.2}")
    }
}

/// Reads the shared config from outside, second by second.
#[derive(Default)]
struct Watch {
    version: u64,
    beats: BTreeMap<String, u64>,
}

impl Watch {
    async fn look(&mut self, world: &World, outcome: &mut Outcome) {
        let Some(text) = world.bucket.text().await else { return };
        outcome.bytes_max = outcome.bytes_max.max(text.len());
        let config = SharedConfig::parse(text.as_bytes()).unwrap();
        if config.version == self.version {
            return;
        }
        assert!(config.version > self.version, "versions only grow");
        self.version = config.version;
        for (id, entry) in &config.instances {
            outcome.buried += usize::from(entry.status == Status::Dead);
            let before = self.beats.insert(id.clone(), entry.beat).unwrap_or(0);
            if entry.beat > before {
                outcome.beats += 1;
                outcome.skipped += entry.beat - before - 1;
                outcome.shown_ms.push(world.now().0 - entry.last_heartbeat.0);
            }
        }
    }
}

/// Runs `count` instances that start within `start` for `span` after that.
async fn run(count: usize, start: Duration, span: Duration) -> Outcome {
    let mut world = World::new();
    world.vitals = Arc::new(Busy);
    let mut outcome = Outcome { instances: count, ..Default::default() };
    let mut watch = Watch::default();
    let begun = Instant::now();
    let joins = (0..count).map(|number| {
        let world = world.clone();
        async move {
            sleep(start.mul_f64(number as f64 / count as f64)).await;
            world.start(&format!("reader-{number:05}"), Role::Reader).await
        }
    });
    let joins = futures::future::join_all(joins);
    tokio::pin!(joins);
    let nodes: Vec<Node> = loop {
        tokio::select! {
            biased;
            nodes = &mut joins => break nodes,
            () = sleep(Duration::from_secs(1)) => watch.look(&world, &mut outcome).await,
        }
    };
    let end = Instant::now() + span;
    let mut seconds = 0u64;
    while Instant::now() < end {
        sleep(Duration::from_secs(1)).await;
        watch.look(&world, &mut outcome).await;
        seconds += 1;
        if seconds.is_multiple_of(10) {
            outcome.buried += nodes.iter().map(|node| node.view().silent.len()).sum::<usize>();
        }
    }
    assert_eq!(watch.beats.len(), count, "all are in");
    outcome.span = begun.elapsed();
    outcome.requests = world.bucket.requests();
    outcome.shown_ms.sort_unstable();
    outcome
}

fn check(outcome: &Outcome) {
    println!("{outcome}");
    assert_eq!(outcome.buried, 0);
    assert!(outcome.shown(0.99) <= 45_000);
    assert!(outcome.wasted_percent() <= 20.0);
    let due = outcome.instances as f64 * outcome.span.as_secs_f64() / 30.0;
    assert!(outcome.beats as f64 > due * 0.9, "{} of {due}", outcome.beats);
}

#[tokio::test(start_paused = true)]
async fn three_hundred_for_five_minutes() {
    check(&run(300, Duration::from_secs(20), Duration::from_secs(300)).await);
}

/// Just below and just above the number up to which all write for themselves.
#[tokio::test(start_paused = true)]
async fn a_few_dozen_for_five_minutes() {
    for count in [30, 36] {
        check(&run(count, Duration::from_secs(30), Duration::from_secs(300)).await);
    }
}

#[tokio::test(start_paused = true)]
#[ignore = "takes minutes: just sim-membership"]
async fn a_thousand_for_an_hour() {
    let outcome = run(1_000, Duration::from_secs(60), Duration::from_secs(3_600)).await;
    check(&outcome);
    assert!(outcome.bytes_max < 1_000_000, "{} bytes", outcome.bytes_max);
}

#[tokio::test(start_paused = true)]
#[ignore = "takes minutes: just sim-membership"]
async fn four_thousand_for_three_minutes() {
    let outcome = run(4_000, Duration::from_secs(120), Duration::from_secs(180)).await;
    println!("{outcome}");
    assert_eq!(outcome.buried, 0);
}

#[tokio::test(start_paused = true)]
#[ignore = "takes minutes: just sim-membership"]
async fn ten_thousand_for_three_minutes() {
    let outcome = run(10_000, Duration::from_secs(300), Duration::from_secs(180)).await;
    println!("{outcome}");
    assert_eq!(outcome.buried, 0);
    assert!(outcome.shown(0.99) <= 45_000);
}
