//! How does the log become segments, and how do segments stay few and clean?
//!
//! Two tasks of every instance that writes. One indexes: it takes what the tail holds, builds
//! segments of it by partition, finds the older rows of the same ids and names both in the manifest
//! (`index.rs`). The other merges segments and splits partitions (`compact.rs`, as
//! `plan.rs` says). Guarantees:
//!
//! 1. Leases keep each to one instance at a time, for economy. What makes it safe is the manifest's
//!    compare-and-swap: a pass is committed only to the segments and the log position that it started
//!    from, and otherwise its outcome is thrown away or brought up to date.
//! 2. Objects are put before they are named ([`objects`]), and what comes to nothing is deleted, or
//!    found by the collector.
//! 3. A row that dies while its segment is merged is dead in the outcome.

mod by_hand;
mod commit;
mod compact;
mod index;
mod objects;
mod plan;
mod rewrite;
mod turns;

pub use by_hand::{compact_all, index_all, reshard};
pub use turns::Turns;

use crate::base::clock::Mark;
use crate::base::ids::CollectionName;
use crate::base::metrics::{Metrics, TaskLabels};
use crate::base::{Code, Result};
use crate::engine::catalog;
use crate::engine::collection::Collection;
use crate::engine::collections::Collections;
use crate::engine::context::Context;
use crate::engine::model::Consistency;
use crate::engine::snapshot::Snapshot;
use crate::manifest::{self, Manifest};
use crate::store::{ByteRange, Fetched, GetOptions, paths};
use futures::stream::{FuturesUnordered, StreamExt};
use plan::Pace;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How long a pass waits for the reader of the log to have come as far as this instance has written.
const READ_WAIT: Duration = Duration::from_secs(30);
/// How often all collections of the store are looked at, not only those that this instance has open.
const ALL_EVERY: Duration = Duration::from_secs(60);
/// Collections that each task works on at a time: a long pass over one keeps no other waiting, unless
/// there are two.
const SIDE_BY_SIDE: usize = 2;

/// Which of the two tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// The log becomes segments.
    Index,
    /// Segments are merged, partitions split.
    Compact,
}

impl Task {
    fn name(self) -> &'static str {
        match self {
            Task::Index => "index",
            Task::Compact => "compact",
        }
    }
}

/// What a pass has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passed {
    /// There was nothing to do.
    Idle,
    /// The manifest has changed for the better.
    Done,
    /// Somebody else changed it first.
    Lost,
}

/// What is remembered of a collection between looks at it.
#[derive(Debug, Default)]
struct Known {
    /// The base of the tail, or the version of the manifest, and since when it is that.
    state: Option<(u64, Mark)>,
    /// The end of the log, and since when it is there.
    end: Option<(u64, Mark)>,
    /// Whether the last pass had all the bytes that are worth one: then what comes behind is the rest.
    in_a_row: bool,
    /// When the log was last looked at for its own sake.
    looked: Option<Mark>,
}

/// Work under way, as the metrics show it until it is dropped.
struct Running {
    metrics: Arc<Metrics>,
    labels: TaskLabels,
    started: Instant,
}

impl Running {
    fn start(metrics: &Arc<Metrics>, task: Task) -> Running {
        let labels = TaskLabels { task: task.name() };
        metrics.upkeep_running.get_or_create(&labels).inc();
        Running { metrics: metrics.clone(), labels, started: Instant::now() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.metrics.upkeep_running.get_or_create(&self.labels).dec();
        let took = self.started.elapsed().as_secs_f64();
        self.metrics.upkeep_seconds.get_or_create(&self.labels).observe(took);
    }
}

/// Indexes or compacts, over all collections, as long as the instance runs.
#[derive(Debug)]
pub struct Upkeep {
    worker: Worker,
    known: BTreeMap<CollectionName, Known>,
    looked_at_all: Option<Mark>,
}

impl Upkeep {
    /// One of the two tasks; see [`Upkeep::run`].
    pub fn new(context: Context, collections: Arc<Collections>, task: Task) -> Upkeep {
        let worker = Worker { context, collections, task };
        Upkeep { worker, known: BTreeMap::new(), looked_at_all: None }
    }

    /// Works while this instance writes, until it stops.
    pub async fn run(mut self) {
        let stop = self.worker.context.env.tasks.stopping().clone();
        let (mut busy, mut names) = (FuturesUnordered::new(), BTreeSet::new());
        let mut waiting = VecDeque::new();
        let mut next = self.next_look();
        loop {
            while busy.len() < SIDE_BY_SIDE
                && let Some(name) = waiting.pop_front()
            {
                let known = self.known.remove(&name).unwrap_or_default();
                busy.push(self.worker.clone().attend(name, known));
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some((name, known)) = busy.next(), if !busy.is_empty() => {
                    names.remove(&name);
                    self.known.extend(known.map(|known| (name, known)));
                }
                () = sleep_until(next) => {
                    next = self.next_look();
                    if !self.worker.context.duty.station().takes_writes() {
                        // What is under way comes to its end; the rest is for others.
                        for name in waiting.drain(..) {
                            names.remove(&name);
                        }
                        self.worker.give_back().await;
                        continue;
                    }
                    let found = tokio::select! {
                        biased;
                        () = stop.cancelled() => break,
                        found = self.names() => found,
                    };
                    waiting.extend(found.into_iter().filter(|name| names.insert(name.clone())));
                }
            }
        }
        drop(busy);
        self.worker.give_back().await;
    }

    fn next_look(&self) -> Instant {
        let Context { env, upkeep, .. } = &self.worker.context;
        Instant::now() + upkeep.interval / 2 + env.rng.jitter(upkeep.interval)
    }

    async fn names(&mut self) -> Vec<CollectionName> {
        let open = self.worker.collections.names();
        let env = &self.worker.context.env;
        let looked = self.looked_at_all.is_some_and(|looked| env.clock.since(looked) < ALL_EVERY);
        if looked || self.worker.task == Task::Compact {
            return open;
        }
        self.looked_at_all = Some(env.clock.mark());
        match self.worker.with_waiting_entries(open.clone()).await {
            Ok(names) => names,
            Err(error) => {
                tracing::warn!(%error, "collections could not be listed");
                open
            }
        }
    }
}

/// Does one of the tasks.
#[derive(Debug, Clone)]
struct Worker {
    context: Context,
    collections: Arc<Collections>,
    task: Task,
}

impl Worker {
    /// The collections in `names`, and those whose log nobody indexes.
    async fn with_waiting_entries(
        &self,
        mut names: Vec<CollectionName>,
    ) -> Result<Vec<CollectionName>> {
        for dir in self.context.store.list_dirs(&paths::collections()).await? {
            if let Ok(name) = CollectionName::new(dir)
                && !names.contains(&name)
                && self.has_waiting_entries(&name).await?
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    async fn has_waiting_entries(&self, name: &CollectionName) -> Result<bool> {
        let store = &self.context.store;
        let loaded = manifest::load(store, name).await?;
        let Some(manifest) = loaded.map(|loaded| loaded.value).filter(Manifest::is_live) else {
            return Ok(false);
        };
        let head = GetOptions { range: Some(ByteRange::Bounded(0..1)), if_none_match: None };
        let next = paths::wal_entry(name, manifest.wal_indexed.next());
        Ok(matches!(store.get(&next, head).await?, Fetched::Found(_)))
    }

    /// Gives back all leases, so that other instances need not wait.
    async fn give_back(&self) {
        for collection in self.collections.all() {
            if let Some(mut lease) = collection.turns().free(self.task) {
                lease.give_back().await;
            }
        }
    }

    /// Looks after one collection; what is to be remembered of it, if it is still there.
    async fn attend(
        self,
        name: CollectionName,
        mut known: Known,
    ) -> (CollectionName, Option<Known>) {
        match self.passes(&name, &mut known).await {
            Ok(()) => {}
            Err(error) if error.code() == Code::CollectionNotFound => {
                self.finish_deletion(&name).await;
                return (name, None);
            }
            Err(error) => {
                let task = self.task.name();
                tracing::warn!(%error, collection = %name, task, "a pass failed; trying again later");
            }
        }
        (name, Some(known))
    }

    /// A collection may be gone because its deletion was cut off.
    async fn finish_deletion(&self, name: &CollectionName) {
        let Context { store, env, limits, .. } = &self.context;
        if let Err(error) = catalog::finish_deletion(store, env, limits.grace, name).await {
            tracing::warn!(%error, collection = %name, "a deletion could not be finished; trying again later");
        }
    }

    /// Passes over one collection, for as long as there is something to do.
    async fn passes(&self, name: &CollectionName, known: &mut Known) -> Result<()> {
        let collection = self.collections.open(name).await?;
        loop {
            let passed = match self.task {
                Task::Index => self.index(&collection, known).await,
                Task::Compact => self.compact(&collection, known).await,
            };
            match self.collections.forget_if_gone(&collection, passed)? {
                Passed::Done => {}
                Passed::Lost => {
                    self.context.env.metrics.upkeep_lost.inc();
                    return Ok(());
                }
                Passed::Idle => {
                    if let Some(mut lease) = collection.turns().free(self.task) {
                        lease.give_back_idle().await;
                    }
                    return Ok(());
                }
            }
        }
    }

    async fn index(&self, collection: &Collection, known: &mut Known) -> Result<Passed> {
        let snapshot = self.tail_of(collection, known).await?;
        let (tail, manifest) = (&snapshot.tail, collection.manifest());
        // Until newer segments are taken up, what the tail holds may be indexed already.
        if tail.is_empty() || tail.base != manifest.wal_indexed {
            return Ok(Passed::Idle);
        }
        let limits = &self.context.upkeep;
        let worth_it = unindexed(&snapshot, &manifest) >= limits.index_after_bytes;
        let waited = self.unchanged(&mut known.state, tail.base.0) >= limits.index_after;
        let ended = self.unchanged(&mut known.end, tail.version.0) >= limits.interval;
        if !(worth_it || waited || (ended && known.in_a_row)) {
            return Ok(Passed::Idle);
        }
        let passed =
            self.in_turn(collection, index::pass(&self.context, collection, snapshot)).await?;
        if passed == Passed::Done {
            known.in_a_row = worth_it;
        }
        Ok(passed)
    }

    /// What this instance knows of the log. A collection that nobody uses here is looked at rarely: those
    /// who write to it index it.
    async fn tail_of(&self, collection: &Collection, known: &mut Known) -> Result<Snapshot> {
        let clock = &self.context.env.clock;
        let looked = known.looked.is_some_and(|looked| clock.since(looked) < ALL_EVERY);
        match collection.applied() {
            Some(applied) if looked => Ok(applied),
            _ => {
                known.looked = Some(clock.mark());
                collection.snapshot(Consistency::Eventual, READ_WAIT).await
            }
        }
    }

    async fn compact(&self, collection: &Collection, known: &mut Known) -> Result<Passed> {
        let manifest = collection.manifest();
        let limits = &self.context.upkeep;
        let waited = self.unchanged(&mut known.state, manifest.stamp.version);
        let pace = if waited >= 2 * limits.index_after {
            Pace::Quiet
        } else if collection
            .applied()
            .is_none_or(|applied| unindexed(&applied, &manifest) >= limits.index_after_bytes)
        {
            Pace::Behind
        } else {
            Pace::Steady
        };
        let Some(job) = plan::job(&manifest, limits, pace) else {
            return Ok(Passed::Idle);
        };
        let work = compact::run(&self.context, collection, manifest.clone(), vec![job]);
        self.in_turn(collection, work).await
    }

    /// How long `state` has been what it is.
    fn unchanged(&self, known: &mut Option<(u64, Mark)>, state: u64) -> Duration {
        let clock = &self.context.env.clock;
        match known {
            Some((before, since)) if *before == state => clock.since(*since),
            _ => {
                *known = Some((state, clock.mark()));
                Duration::ZERO
            }
        }
    }

    /// Does `work` unless it is somebody else's turn.
    async fn in_turn(
        &self,
        collection: &Collection,
        work: impl Future<Output = Result<Passed>>,
    ) -> Result<Passed> {
        let Some(mut lease) = collection.turns().free(self.task) else { return Ok(Passed::Idle) };
        if lease.hold().await?.is_none() {
            return Ok(Passed::Idle);
        }
        let _running = Running::start(&self.context.env.metrics, self.task);
        turns::renewing(&mut lease, self.context.upkeep.lease_ttl, work).await
    }
}

/// Bytes of log that a snapshot has beyond what is indexed.
fn unindexed(snapshot: &Snapshot, manifest: &Manifest) -> u64 {
    snapshot.tail.totals.bytes.saturating_sub(manifest.indexed.bytes)
}
