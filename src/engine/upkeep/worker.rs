//! One of the tasks, for one collection at a time.

use super::{Known, Passed, Task, compact, index, plan, turns};
use crate::base::clock::Mark;
use crate::base::defect::Defect;
use crate::base::ids::CollectionName;
use crate::base::metrics::{Metrics, TaskLabels};
use crate::base::{Code, Result};
use crate::engine::catalog;
use crate::engine::collection::Collection;
use crate::engine::collections::Collections;
use crate::engine::context::Context;
use crate::engine::reading::snapshot::Snapshot;
use futures::stream::{self, StreamExt};
use plan::Pace;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often the log is looked at, at most, when there is no news of this instance's own.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The share of the bytes that are worth a pass from which they are read, so that the pass need not wait.
const READ_AHEAD: u64 = 4;
/// How many times in the time that a lease lasts somebody looks whose turn it is.
const LOOKS_AT_LEASE: u32 = 5;
/// Leases that are given back at a time.
const AT_A_TIME: usize = 16;

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

/// Does one of the tasks.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub context: Context,
    pub collections: Arc<Collections>,
    pub task: Task,
}

impl Worker {
    /// Gives back all leases, so that other instances need not wait.
    pub(super) async fn give_back(self) {
        let give_back = |collection: Arc<Collection>| async move {
            if let Some(mut lease) = collection.turns().free(self.task) {
                lease.give_back().await;
            }
        };
        stream::iter(self.collections.all()).for_each_concurrent(AT_A_TIME, give_back).await;
    }

    /// Looks after one collection; what is to be remembered of it, if it is still there.
    pub(super) async fn attend(
        self,
        name: CollectionName,
        mut known: Known,
    ) -> (CollectionName, Option<Known>) {
        let Context { env, upkeep, .. } = &self.context;
        known.not_before = None;
        match self.passes(&name, &mut known).await {
            Ok(()) => known.backoff = None,
            Err(error) if error.code() == Code::CollectionNotFound => {
                self.finish_deletion(&name).await;
                return (name, None);
            }
            Err(error) => {
                let again_in_ms = known.back_off(env, upkeep.interval).as_millis() as u64;
                let task = self.task.name();
                tracing::warn!(%error, collection = %name, task, again_in_ms, "a pass failed");
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
        let collection = self.collections.open_for_upkeep(name).await?;
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
                Passed::Theirs => {
                    let pause = self.context.upkeep.lease_ttl / LOOKS_AT_LEASE;
                    known.not_before = Some(Instant::now() + pause);
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
        if self.context.env.defects.has(Defect::IndexNever) {
            return Ok(Passed::Idle);
        }
        let limits = &self.context.upkeep;
        let indexed = collection.manifest().wal_indexed;
        let waited = self.unchanged(&mut known.state, indexed.0) >= limits.index_after;
        let end = collection.known_version().unwrap_or(indexed);
        let ended = self.unchanged(&mut known.end, end.0) >= limits.interval;
        let worth_it = collection.unindexed_bytes() >= limits.index_after_bytes;
        let overdue = std::mem::take(&mut known.overdue);
        if !(worth_it || waited || overdue || (ended && known.in_a_row)) {
            if collection.unread_bytes() >= limits.index_after_bytes / READ_AHEAD {
                collection.look().await?;
            }
            return Ok(Passed::Idle);
        }
        let snapshot = self.tail_of(collection, known).await?;
        let (tail, manifest) = (&snapshot.tail, collection.manifest());
        // Others may have indexed it; until newer segments are taken up, so may what the tail holds.
        if tail.is_empty() || tail.base != manifest.wal_indexed || manifest.wal_indexed != indexed {
            return Ok(Passed::Idle);
        }
        let passed =
            self.in_turn(collection, index::pass(&self.context, collection, snapshot)).await?;
        if passed == Passed::Done {
            known.in_a_row = worth_it;
            // The tail lets go of what it has no longer to hold.
            collection.look().await?;
        }
        Ok(passed)
    }

    /// What the log holds. Where this instance has written nothing since, it is looked at rarely: those who
    /// write to it index it.
    async fn tail_of(&self, collection: &Collection, known: &mut Known) -> Result<Snapshot> {
        let clock = &self.context.env.clock;
        let looked = known.looked.is_some_and(|looked| clock.since(looked) < LOOK_EVERY);
        match collection.applied() {
            Some(applied) if looked => Ok(applied),
            _ => {
                known.looked = Some(clock.mark());
                collection.look().await
            }
        }
    }

    async fn compact(&self, collection: &Collection, known: &mut Known) -> Result<Passed> {
        let manifest = collection.manifest();
        let limits = &self.context.upkeep;
        let waited = self.unchanged(&mut known.state, manifest.stamp.version);
        let (clock, unindexed) = (&self.context.env.clock, collection.unindexed_bytes());
        if Pace::is_far_behind(unindexed, limits) {
            known.far_behind = Some(clock.mark());
        }
        let far_behind = known.far_behind.map(|seen| clock.since(seen));
        let pace = Pace::of(unindexed, far_behind, waited, limits);
        let Some(job) = plan::job(&manifest, limits, pace) else {
            if pace == Pace::Quiet {
                collection.rest().settle(manifest.stamp.version);
            }
            return Ok(Passed::Idle);
        };
        // Where nobody reads and nobody writes, what was seen last may be long past.
        let now = collection.view().look_now().await?.manifest;
        if !now.same_segments(&manifest) {
            return Ok(Passed::Idle);
        }
        let work = compact::run(&self.context, collection, now, vec![job]);
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
        let Some(mut lease) = collection.turns().free(self.task) else {
            return Ok(Passed::Theirs);
        };
        if lease.hold().await?.is_none() {
            return Ok(Passed::Theirs);
        }
        let _running = Running::start(&self.context.env.metrics, self.task);
        turns::renewing(&mut lease, self.context.upkeep.lease_ttl, work).await
    }
}
