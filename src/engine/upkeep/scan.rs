//! Whose log does nobody index?
//!
//! Those who write to a collection index it. What they leave behind when they die is found here: somebody
//! looks at the log of every collection, soon after a start, soon after a writer is gone from the cluster,
//! and otherwise every [`scan_interval`](crate::engine::context::UpkeepLimits). That costs two GETs a
//! collection, so it is done by one instance for all: whoever comes first takes a lease, and the others see by
//! it that it was done. It goes on beside everything else, at a bounded rate, and nothing waits for it.
//!
//! Entries that wait are no news where somebody writes. So a log is only said to be left where it has not
//! been indexed any further for twice as long as entries wait at most. One collection that cannot be read is
//! counted and named, and keeps nobody from the others.

use super::turns::renewing;
use crate::base::defect::Defect;
use crate::base::ids::{CollectionName, Seq};
use crate::base::{Error, Result};
use crate::cluster::lease::Lease;
use crate::engine::context::Context;
use crate::manifest::{self, Manifest};
use crate::store::{ByteRange, Fetched, GetOptions, paths};
use futures::stream::{self, StreamExt};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

/// Collections that are looked at in a second, and at a time.
const PER_SECOND: usize = 100;
const AT_A_TIME: usize = 16;
/// How long after a start, or after a writer was lost, at most: others take the same occasion.
const SOON: Duration = Duration::from_secs(30);
/// How often an instance that takes no writes asks itself whether it does by now.
const ON_DUTY: Duration = Duration::from_secs(5);
/// How many collections that cannot be read a log line names.
const NAMED_MAX: usize = 8;

/// Looks for logs that nobody indexes, as long as the instance runs.
#[derive(Debug)]
pub(super) struct Scan {
    context: Context,
    /// Where they are told.
    find: mpsc::Sender<CollectionName>,
    lease: Lease,
    /// How often the lease had changed when the next scan became due.
    noted: u64,
}

/// What came of an attempt.
#[derive(Debug, PartialEq, Eq)]
enum Scanned {
    /// All were looked at, here or by another instance.
    Done,
    /// Another instance is at it, or has died over it.
    Theirs,
}

/// What is known of one collection's log.
enum Log {
    /// It has no entries that wait.
    Indexed,
    /// The one after this position waits.
    Waiting(Seq),
    /// It could not be found out.
    Unreadable(Error),
}

impl Scan {
    pub(super) fn new(context: Context, find: mpsc::Sender<CollectionName>) -> Scan {
        let (store, env) = (context.store.clone(), context.env.clone());
        let (key, holder) = (paths::cluster_lease("scan"), context.instance_id.to_string());
        let lease = Lease::new(store, env, key, holder, context.upkeep.lease_ttl);
        Scan { context, find, lease, noted: 0 }
    }

    /// Scans from time to time, until the instance stops.
    pub(super) async fn run(mut self) {
        let stop = self.context.env.tasks.stopping().clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.scans() => {}
        }
        self.lease.give_back().await;
    }

    async fn scans(&mut self) {
        let Context { env, upkeep, writer_lost, duty, .. } = self.context.clone();
        let mut due = None;
        loop {
            if !duty.station().takes_writes() {
                // It may begin to because a writer died, and then it is time to look.
                due = None;
                sleep(ON_DUTY).await;
                continue;
            }
            let at = match due {
                Some(at) => at,
                None => {
                    self.note().await;
                    Instant::now() + env.rng.jitter(SOON)
                }
            };
            tokio::select! {
                biased;
                () = writer_lost.notified() => {
                    due = None;
                    continue;
                }
                () = sleep_until(at) => {}
            }
            let ttl = upkeep.lease_ttl;
            let pause = match self.scan().await {
                Ok(Scanned::Done) => {
                    upkeep.scan_interval / 2 + env.rng.jitter(upkeep.scan_interval)
                }
                Ok(Scanned::Theirs) => ttl + env.rng.jitter(ttl),
                Err(error) => {
                    tracing::warn!(%error, "collections could not be scanned; trying again later");
                    SOON + env.rng.jitter(SOON)
                }
            };
            due = Some(Instant::now() + pause);
        }
    }

    /// What changes after this is news.
    async fn note(&mut self) {
        match self.lease.look().await {
            Ok(version) => self.noted = version,
            Err(error) => tracing::debug!(%error, "could not see who scans the collections"),
        }
    }

    /// Looks at all, unless somebody has done so since the last time.
    async fn scan(&mut self) -> Result<Scanned> {
        let noted = self.noted;
        self.noted = self.lease.look().await?;
        if self.noted != noted {
            return Ok(Scanned::Done);
        }
        if self.lease.hold().await?.is_none() {
            return Ok(Scanned::Theirs);
        }
        if !self.context.env.defects.has(Defect::SkipScan) {
            let ttl = self.context.upkeep.lease_ttl;
            renewing(&mut self.lease, ttl, look_at_all(&self.context, &self.find)).await?;
        }
        self.lease.release().await?;
        self.note().await;
        Ok(Scanned::Done)
    }
}

/// Looks at every collection, and after a while once more at those whose log has entries that wait.
async fn look_at_all(context: &Context, find: &mpsc::Sender<CollectionName>) -> Result<()> {
    let dirs = context.store.list_dirs(&paths::collections()).await?;
    let names = dirs.into_iter().filter_map(|dir| CollectionName::new(dir).ok());
    let names: Vec<CollectionName> = names.collect();
    let (mut waiting, mut unreadable) = (Vec::new(), Vec::new());
    for names in names.chunks(PER_SECOND) {
        let next = Instant::now() + Duration::from_secs(1);
        for (name, log) in look_at(context, names).await {
            match log {
                Log::Indexed => {}
                Log::Waiting(indexed) => waiting.push((name, indexed)),
                Log::Unreadable(error) => unreadable.push((name, error)),
            }
        }
        if names.len() == PER_SECOND {
            sleep_until(next).await;
        }
    }
    tell(context, &unreadable);
    if waiting.is_empty() {
        return Ok(());
    }
    sleep(2 * context.upkeep.index_after + context.upkeep.interval).await;
    for waiting in waiting.chunks(PER_SECOND) {
        let names: Vec<_> = waiting.iter().map(|(name, _)| name.clone()).collect();
        for ((name, log), (_, before)) in look_at(context, &names).await.into_iter().zip(waiting) {
            if matches!(log, Log::Waiting(indexed) if indexed == *before) {
                tracing::info!(collection = %name, "nobody indexes this log: taking it over");
                // Waits until others are done with: nobody is ahead of what this instance has to do anyway.
                if find.send(name).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

async fn look_at(context: &Context, names: &[CollectionName]) -> Vec<(CollectionName, Log)> {
    let looks = names.iter().cloned().map(|name| async move {
        let log = log_of(context, &name).await.unwrap_or_else(Log::Unreadable);
        (name, log)
    });
    stream::iter(looks).buffered(AT_A_TIME).collect().await
}

async fn log_of(context: &Context, name: &CollectionName) -> Result<Log> {
    let loaded = manifest::load(&context.store, name).await?;
    let Some(manifest) = loaded.map(|loaded| loaded.value).filter(Manifest::is_live) else {
        return Ok(Log::Indexed);
    };
    let head = GetOptions { range: Some(ByteRange::Bounded(0..1)), if_none_match: None };
    let next = paths::wal_entry(name, manifest.wal_indexed.next());
    Ok(match context.store.get(&next, head).await? {
        Fetched::Found(_) => Log::Waiting(manifest.wal_indexed),
        _ => Log::Indexed,
    })
}

/// Says which collections cannot be read, once a scan.
fn tell(context: &Context, unreadable: &[(CollectionName, Error)]) {
    context.env.metrics.collections_unreadable.set(unreadable.len() as i64);
    if let Some((_, error)) = unreadable.first() {
        let named = unreadable.iter().take(NAMED_MAX).map(|(name, _)| name.as_str());
        let (count, collections) = (unreadable.len(), named.collect::<Vec<_>>().join(", "));
        tracing::error!(count, %collections, %error, "collections cannot be read and are left out");
    }
}
