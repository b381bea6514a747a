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

mod commit;
mod compact;
mod index;
mod objects;
mod plan;

pub use compact::{compact_all, reshard};
pub use index::index_all;

use crate::base::clock::Mark;
use crate::base::ids::CollectionName;
use crate::base::metrics::{Metrics, TaskLabels};
use crate::base::{Code, Result};
use crate::cluster::lease::Lease;
use crate::engine::collection::Collection;
use crate::engine::collections::Collections;
use crate::engine::context::Context;
use crate::engine::model::Consistency;
use crate::engine::snapshot::Snapshot;
use crate::manifest::{self, Manifest};
use crate::store::{ByteRange, Fetched, GetOptions, paths};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a pass waits for the reader of the log to have come as far as this instance has written.
const READ_WAIT: Duration = Duration::from_secs(30);
/// How often all collections of the store are looked at, not only those that this instance has open.
const ALL_EVERY: Duration = Duration::from_secs(60);

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

/// What is kept of a collection between passes.
#[derive(Debug)]
struct Known {
    lease: Lease,
    /// The base and since when the tail over it has not been empty, or the manifest has not changed.
    since: Option<(u64, Mark)>,
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
    context: Context,
    collections: Arc<Collections>,
    task: Task,
    known: BTreeMap<CollectionName, Known>,
    looked_at_all: Option<Mark>,
}

impl Upkeep {
    /// One of the two tasks; see [`Upkeep::run`].
    pub fn new(context: Context, collections: Arc<Collections>, task: Task) -> Upkeep {
        Upkeep { context, collections, task, known: BTreeMap::new(), looked_at_all: None }
    }

    /// Works while this instance writes, until it stops.
    pub async fn run(mut self) {
        let stop = self.context.env.tasks.stopping().clone();
        loop {
            let interval = self.context.upkeep.interval;
            let pause = interval / 2 + self.context.env.rng.jitter(interval);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.round() => {}
            }
        }
        self.let_go().await;
    }

    /// Gives all leases back, so that others need not wait.
    async fn let_go(&mut self) {
        for known in self.known.values_mut() {
            if let Err(error) = known.lease.release().await {
                tracing::debug!(%error, "a lease could not be given back; it will expire");
            }
        }
    }

    async fn round(&mut self) {
        if !self.context.duty.station().takes_writes() {
            return self.let_go().await;
        }
        let names = match self.names().await {
            Ok(names) => names,
            Err(error) => return tracing::warn!(%error, "collections could not be listed"),
        };
        for name in names {
            if let Err(error) = self.collection(&name).await {
                let task = self.task.name();
                tracing::warn!(%error, collection = %name, task, "a pass failed; trying again later");
            }
        }
    }

    /// The collections in use, and from time to time those whose log nobody indexes.
    async fn names(&mut self) -> Result<Vec<CollectionName>> {
        let Context { store, env, .. } = &self.context;
        let mut names = self.collections.names();
        let looked = self.looked_at_all.is_some_and(|looked| env.clock.since(looked) < ALL_EVERY);
        if looked || self.task == Task::Compact {
            return Ok(names);
        }
        self.looked_at_all = Some(env.clock.mark());
        for dir in store.list_dirs(&paths::collections()).await? {
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

    /// Passes over one collection, for as long as there is something to do.
    async fn collection(&mut self, name: &CollectionName) -> Result<()> {
        let collection = match self.collections.open(name).await {
            Ok(collection) => collection,
            Err(error) if error.code() == Code::CollectionNotFound => {
                self.known.remove(name);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        loop {
            let passed = match self.task {
                Task::Index => self.index(&collection).await,
                Task::Compact => self.compact(&collection).await,
            };
            match self.collections.forget_if_gone(name, passed)? {
                Passed::Done => {}
                Passed::Lost => {
                    self.context.env.metrics.upkeep_lost.inc();
                    return Ok(());
                }
                Passed::Idle => return Ok(()),
            }
        }
    }

    async fn index(&mut self, collection: &Collection) -> Result<Passed> {
        let snapshot = self.tail_of(collection).await?;
        let (tail, manifest) = (&snapshot.tail, collection.manifest());
        // Until newer segments are taken up, what the tail holds may be indexed already.
        if tail.is_empty() || tail.base != manifest.wal_indexed {
            return Ok(Passed::Idle);
        }
        let bytes = tail.totals.bytes.saturating_sub(manifest.indexed.bytes);
        let waited = self.unchanged_for(&manifest.name, tail.base.0);
        let limits = &self.context.upkeep;
        if bytes < limits.index_after_bytes && waited < limits.index_after {
            return Ok(Passed::Idle);
        }
        if !self.hold(&manifest.name).await? {
            return Ok(Passed::Idle);
        }
        let context = self.context.clone();
        self.working(&manifest.name, index::pass(&context, collection, snapshot)).await
    }

    /// What this instance knows of the log. A collection that nobody uses here is looked at rarely: those
    /// who write to it index it.
    async fn tail_of(&mut self, collection: &Collection) -> Result<Snapshot> {
        let clock = self.context.env.clock.clone();
        let known = self.known(&collection.manifest().name);
        let looked = known.looked.is_some_and(|looked| clock.since(looked) < ALL_EVERY);
        match collection.applied() {
            Some(applied) if looked => Ok(applied),
            _ => {
                known.looked = Some(clock.mark());
                collection.snapshot(Consistency::Eventual, READ_WAIT).await
            }
        }
    }

    async fn compact(&mut self, collection: &Collection) -> Result<Passed> {
        let manifest = collection.manifest();
        let waited = self.unchanged_for(&manifest.name, manifest.stamp.version);
        let limits = &self.context.upkeep;
        let Some(job) = plan::job(&manifest, limits, waited >= 2 * limits.index_after) else {
            return Ok(Passed::Idle);
        };
        if !self.hold(&manifest.name).await? {
            return Ok(Passed::Idle);
        }
        let context = self.context.clone();
        let work = compact::run(&context, collection, manifest.clone(), job);
        self.working(&manifest.name, work).await
    }

    fn known(&mut self, name: &CollectionName) -> &mut Known {
        let Context { store, env, instance_id, upkeep, .. } = &self.context;
        self.known.entry(name.clone()).or_insert_with(|| {
            let key = paths::upkeep_lease(self.task.name(), name);
            let (store, env, holder) = (store.clone(), env.clone(), instance_id.to_string());
            let lease = Lease::new(store, env, key, holder, upkeep.lease_ttl);
            Known { lease, since: None, looked: None }
        })
    }

    /// How long `state` has been what it is.
    fn unchanged_for(&mut self, name: &CollectionName, state: u64) -> Duration {
        let clock = self.context.env.clock.clone();
        let known = self.known(name);
        match known.since {
            Some((before, since)) if before == state => clock.since(since),
            _ => {
                known.since = Some((state, clock.mark()));
                Duration::ZERO
            }
        }
    }

    async fn hold(&mut self, name: &CollectionName) -> Result<bool> {
        Ok(self.known(name).lease.hold().await?.is_some())
    }

    /// Renews the lease while `work` goes on. That it cannot be renewed is no reason to stop: the
    /// compare-and-swap at the end decides.
    async fn working(
        &mut self,
        name: &CollectionName,
        work: impl Future<Output = Result<Passed>>,
    ) -> Result<Passed> {
        let _running = Running::start(&self.context.env.metrics, self.task);
        let pause = self.context.upkeep.lease_ttl / 3;
        let lease = &mut self.known(name).lease;
        let renewals = async {
            loop {
                tokio::time::sleep(pause).await;
                drop(lease.hold().await);
            }
        };
        tokio::select! {
            biased;
            passed = work => passed,
            () = renewals => Ok(Passed::Idle),
        }
    }
}
