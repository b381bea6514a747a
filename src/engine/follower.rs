//! The read path's other half: one task per collection follows the log and publishes snapshots.
//!
//! 1. Snapshots that are published never go backward in version.
//! 2. [`Follower::strong`] returns a snapshot that holds every write acknowledged before the call.
//! 3. A snapshot shows every record once: what is in segments is not in its tail. Newer segments are
//!    brought into memory beside the reads and taken up when they are there; until then the tail has
//!    their rows.
//! 4. What the log says of a position, an entry or its absence, is believed only if a look at the
//!    manifest, taken less than half a grace period before the answer, or after it, has the floor
//!    at or below the position: below the floor entries are collected, and a stalled writer may
//!    have created one that nobody acknowledged.

use crate::base::clock::Mark;
use crate::base::ids::Seq;
use crate::base::metrics::Metrics;
use crate::base::{Code, Env, Error, Result};
use crate::engine::segments::{SegmentSet, Shelf};
use crate::engine::snapshot::Snapshot;
use crate::engine::tail::{Below, Shape, Tail, Tidied};
use crate::engine::view::ManifestView;
use crate::log::append::gone;
use crate::log::read::{Batch, LogReader};
use crate::partition::Partitioner;
use crate::store::DynStore;
use crate::store::layers::Usage;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

/// Without reads for this long, the log is not polled; the next read looks first.
const IDLE_AFTER: Duration = Duration::from_secs(60);
/// How long an eventual read waits for a look before it is answered from what is there.
const REFRESH_MAX: Duration = Duration::from_secs(2);
/// How many requests for a look may wait.
const SYNC_QUEUE: usize = 4_096;

/// What the follower has published last.
#[derive(Debug, Clone)]
struct Published {
    snapshot: Snapshot,
    /// Taken before the look at the log that found nothing newer.
    current_as_of: Mark,
}

/// Somebody waits for a look.
#[derive(Debug)]
struct Sync {
    /// Answered with what the look asked of the store.
    reply: oneshot::Sender<Result<Usage>>,
    /// Whether the newest segments are to be taken up first.
    renew: bool,
}

/// What a follower reads with.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Where segments come into memory.
    pub shelf: Arc<Shelf>,
    /// Which partition an id belongs to.
    pub partitioner: Arc<dyn Partitioner>,
    /// Whether this instance answers reads, and so keeps segments in memory.
    pub serves: bool,
    /// How often to look for new log entries.
    pub poll: Duration,
    /// The collection grace period.
    pub grace: Duration,
}

/// Answers reads from what it has applied.
#[derive(Debug)]
pub struct Follower {
    env: Env,
    poll: Duration,
    published: watch::Receiver<Published>,
    syncs: mpsc::Sender<Sync>,
    last_read: LastRead,
}

/// When somebody read last. Cloning shares it.
#[derive(Debug, Clone)]
struct LastRead(Arc<Mutex<Instant>>);

impl LastRead {
    fn now() -> LastRead {
        LastRead(Arc::new(Mutex::new(Instant::now())))
    }

    fn touch(&self) {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Instant::now();
    }

    fn is_long_ago(&self) -> bool {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).elapsed() > IDLE_AFTER
    }
}

impl Follower {
    /// Starts following, and waits until the log has been read once.
    pub async fn start(
        store: DynStore,
        env: Env,
        view: Arc<ManifestView>,
        reading: Reading,
    ) -> Result<Self> {
        let Reading { shelf, partitioner, serves, poll, .. } = &reading;
        let set = shelf.current(&view, partitioner, None, *serves).await?;
        let manifest = set.manifest();
        let shape = Shape {
            dimensions: manifest.settings.dimensions as usize,
            metric: serves.then_some(manifest.settings.metric),
        };
        let tail = Tail::new(shape, manifest.wal_indexed, manifest.indexed);
        let (publish, published) = watch::channel(Published {
            snapshot: Snapshot { tail: tail.view(), set: set.clone() },
            current_as_of: env.clock.mark(),
        });
        let (syncs, requests) = mpsc::channel(SYNC_QUEUE);
        let last_read = LastRead::now();
        let poll = *poll;
        let task = FollowTask {
            share: Share { metrics: env.metrics.clone(), vectors: 0, bytes: 0 },
            log: LogReader::new(store, manifest.name.clone()),
            env: env.clone(),
            view,
            reading,
            shape,
            tail,
            set,
            loading: None,
            tidying: None,
            publish,
            requests,
            last_read: last_read.clone(),
        };
        env.tasks.spawn("follower", task.run());
        let follower = Follower { env, poll, published, syncs, last_read };
        follower.sync().await?;
        Ok(follower)
    }

    /// What has been applied, without a look.
    pub fn applied(&self) -> Snapshot {
        self.published.borrow().snapshot.clone()
    }

    /// How long ago the log had nothing that is not applied; `None` where nobody reads, because then
    /// nobody looks either, and the next read looks first.
    pub fn lag(&self) -> Option<Duration> {
        let as_of = self.published.borrow().current_as_of;
        (!self.last_read.is_long_ago()).then(|| self.env.clock.steady_since(as_of))
    }

    fn age(&self) -> Duration {
        self.env.clock.since(self.published.borrow().current_as_of)
    }

    /// Looks at the log where the last look is older than two poll intervals; no read, so it does not keep
    /// the log from being left alone.
    pub async fn keep_current(&self) -> Result<()> {
        if self.age() <= self.poll * 2 {
            return Ok(());
        }
        self.sync().await
    }

    /// What has been applied; looks first where the last look is older than two poll intervals. A
    /// store that is out of reach leaves what is there.
    pub async fn eventual(&self) -> Result<Snapshot> {
        self.last_read.touch();
        let published = self.published.borrow().clone();
        if self.env.clock.since(published.current_as_of) <= self.poll * 2 {
            return Ok(published.snapshot);
        }
        match tokio::time::timeout(REFRESH_MAX, self.sync()).await {
            Ok(Err(error)) if !is_out_of_reach(&error) => return Err(error),
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => {
                tracing::warn!("the store does not answer; reading what is there")
            }
        }
        Ok(self.applied())
    }

    /// Everything that was acknowledged before the call.
    pub async fn strong(&self) -> Result<Snapshot> {
        self.last_read.touch();
        self.sync().await?;
        Ok(self.applied())
    }

    /// Everything up to `version`, waiting for it until `deadline`.
    pub async fn at_least(&self, version: Seq, deadline: Instant) -> Result<Snapshot> {
        self.last_read.touch();
        loop {
            let applied = self.applied();
            if applied.version() >= version {
                return Ok(applied);
            }
            let late = || {
                Error::new(
                    Code::VersionTimeout,
                    format!(
                        "version {version} was not applied in time, this instance is at {}; \
                         wait longer or ask for less",
                        applied.version()
                    ),
                )
                .with("minVersion", version.0)
                .with("version", applied.version().0)
            };
            timeout_at(deadline, self.sync()).await.map_err(|_| late())??;
            if self.applied().version() < version {
                // Nobody has written it yet: wait for the poll, not in a busy loop of looks.
                let mut published = self.published.clone();
                let reached = published.wait_for(|now| now.snapshot.version() >= version);
                let nap = deadline.min(Instant::now() + self.poll.min(Duration::from_millis(100)));
                if timeout_at(nap, reached).await.is_err() && Instant::now() >= deadline {
                    return Err(late());
                }
            }
        }
    }

    /// Takes up the newest segments: those of the snapshots so far may be gone from the store.
    pub async fn renew(&self) -> Result<()> {
        self.ask(true).await
    }

    /// Waits for a look that starts after this call.
    async fn sync(&self) -> Result<()> {
        self.ask(false).await
    }

    async fn ask(&self, renew: bool) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let stopped = || Error::new(Code::ShuttingDown, "this instance no longer follows the log");
        self.syncs.send(Sync { reply, renew }).await.map_err(|_| stopped())?;
        let asked = answer.await.map_err(|_| stopped())??;
        if let Some(usage) = Usage::current() {
            usage.absorb(&asked);
        }
        Ok(())
    }

    /// Whether the task has ended because the collection is gone.
    pub fn has_ended(&self) -> bool {
        self.syncs.is_closed()
    }
}

/// One collection's share of the instance's gauges; taken back when its task ends.
#[derive(Debug)]
struct Share {
    metrics: Arc<Metrics>,
    vectors: i64,
    bytes: i64,
}

impl Share {
    fn set(&mut self, vectors: u64, bytes: u64) {
        let (vectors, bytes) = (vectors as i64, bytes as i64);
        self.metrics.vector_count.inc_by(vectors - self.vectors);
        self.metrics.tail_bytes.inc_by(bytes - self.bytes);
        (self.vectors, self.bytes) = (vectors, bytes);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0, 0);
    }
}

/// Whether the store does not answer, or not to us: its folder is not mounted, or credentials have run out.
fn is_out_of_reach(error: &Error) -> bool {
    error.is_transient() || matches!(error.code(), Code::StoreDenied | Code::StoreNotFound)
}

/// What a task beside this one is at work on.
type Coming<T> = Option<oneshot::Receiver<Result<T>>>;

/// Waits for it, for ever where nothing is coming; then nothing is any more.
async fn arrived<T>(coming: &mut Coming<T>) -> Result<T> {
    let Some(receiver) = coming else { return std::future::pending().await };
    let result = receiver.await.unwrap_or_else(|_| Err(Error::internal("it was dropped")));
    *coming = None;
    result
}

struct FollowTask {
    share: Share,
    log: LogReader,
    env: Env,
    view: Arc<ManifestView>,
    reading: Reading,
    shape: Shape,
    tail: Tail,
    set: Arc<SegmentSet>,
    /// Newer segments on their way into memory.
    loading: Coming<Arc<SegmentSet>>,
    /// Blocks of the tail that are being made into one.
    tidying: Coming<Tidied>,
    publish: watch::Sender<Published>,
    requests: mpsc::Receiver<Sync>,
    last_read: LastRead,
}

impl FollowTask {
    async fn run(mut self) {
        let stop = self.env.tasks.stopping().clone();
        let poll = self.reading.poll;
        let mut next_poll = Instant::now() + poll;
        loop {
            let mut waiting = Vec::new();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                request = self.requests.recv() => match request {
                    Some(sync) => waiting.push(sync),
                    None => break,
                },
                set = arrived(&mut self.loading) => {
                    self.take_up(set).await;
                    continue;
                }
                tidied = arrived(&mut self.tidying) => {
                    self.replace(tidied);
                    continue;
                }
                () = sleep_until(next_poll) => {
                    next_poll = Instant::now() + poll;
                    if self.last_read.is_long_ago() {
                        continue;
                    }
                }
            }
            // One look answers everyone who asked before it began.
            while let Ok(sync) = self.requests.try_recv() {
                waiting.push(sync);
            }
            let renew = waiting.iter().any(|sync| sync.renew);
            let asked = Usage::default();
            let result = asked.scope(self.look(renew)).await;
            next_poll = Instant::now() + poll;
            if let Err(error) = &result {
                tracing::warn!(%error, "following the log failed");
            }
            let is_gone = matches!(&result, Err(error) if error.code() == Code::CollectionNotFound);
            if is_gone {
                self.requests.close();
            }
            for Sync { reply, .. } in waiting {
                let answer = result.as_ref().map(|()| asked.clone()).map_err(Error::replicate);
                drop(reply.send(answer));
            }
            if is_gone {
                break;
            }
        }
    }

    async fn look(&mut self, renew: bool) -> Result<()> {
        self.advance().await?;
        if renew && self.loading.is_some() {
            let set = arrived(&mut self.loading).await?;
            self.change_over(set).await?;
            self.publish(None);
        }
        Ok(())
    }

    /// Applies everything that is in the log now, and publishes it.
    async fn advance(&mut self) -> Result<()> {
        let current_as_of = self.env.clock.mark();
        self.view.look_now().await?;
        loop {
            if self.tail.version().next() < self.view.last().manifest.wal_floor {
                self.restart().await?;
            }
            let batches = match self.log.next(self.tail.version()).await {
                Ok(batches) => batches,
                // A reader that was slow may find half of an entry that is being collected.
                Err(error) if error.code() == Code::Corrupt && self.is_passed().await? => continue,
                Err(error) => return Err(error),
            };
            if !self.is_believable().await? {
                continue;
            }
            if batches.is_empty() {
                break;
            }
            let (batches, sealed) = self.of_this_life(batches);
            let count = batches.len() as u64;
            let below = self.below(&self.set).await?;
            if let Err(error) = self.tail.apply(batches, below, &self.env.compute).await {
                self.restart().await?;
                return Err(error);
            }
            while self.tail.is_slow()
                && let Some(untidy) = self.tail.untidy()
            {
                let tidied = self.env.compute.run(|| untidy.run()).await?;
                self.tail.replace(tidied);
            }
            self.env.metrics.wal_entries_applied.inc_by(count);
            if sealed {
                return Err(gone(&self.view.last().manifest.name));
            }
        }
        self.publish(Some(current_as_of));
        self.load();
        self.tidy();
        Ok(())
    }

    /// Begins to make one of blocks that have become many.
    fn tidy(&mut self) {
        if self.tidying.is_some() {
            return;
        }
        let Some(untidy) = self.tail.untidy() else { return };
        let (reply, tidying) = oneshot::channel();
        let compute = self.env.compute.clone();
        self.env.tasks.spawn("tail keeper", async move {
            drop(reply.send(compute.run(|| untidy.run()).await));
        });
        self.tidying = Some(tidying);
    }

    fn replace(&mut self, tidied: Result<Tidied>) {
        match tidied {
            Ok(tidied) => {
                if self.tail.replace(tidied) {
                    self.publish(None);
                }
                self.tidy();
            }
            Err(error) => tracing::error!(%error, "blocks of the tail stay as they are"),
        }
    }

    fn publish(&mut self, as_of: Option<Mark>) {
        let snapshot = Snapshot { tail: self.tail.view(), set: self.set.clone() };
        self.share.set(snapshot.live(), snapshot.tail.bytes());
        self.publish.send_modify(|published| {
            if snapshot.version() >= published.snapshot.version() {
                let current_as_of = as_of.unwrap_or(published.current_as_of);
                *published = Published { snapshot, current_as_of };
            }
        });
    }

    /// Begins to bring the segments of a newer manifest into memory.
    fn load(&mut self) {
        if self.loading.is_some() || self.view.last().manifest.same_segments(self.set.manifest()) {
            return;
        }
        let (reply, loading) = oneshot::channel();
        let (view, before) = (self.view.clone(), self.set.clone());
        let Reading { shelf, partitioner, serves, .. } = self.reading.clone();
        self.env.tasks.spawn("segment loader", async move {
            let set = shelf.current(&view, &partitioner, Some(&before), serves).await;
            drop(reply.send(set));
        });
        self.loading = Some(loading);
    }

    /// Lets go of what newer segments hold, and shows it from them.
    async fn take_up(&mut self, set: Result<Arc<SegmentSet>>) {
        let result = match set {
            Ok(set) => self.change_over(set).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => self.publish(None),
            Err(error) => tracing::warn!(%error, "newer segments could not be taken up"),
        }
    }

    async fn change_over(&mut self, set: Arc<SegmentSet>) -> Result<()> {
        if set.manifest().stamp.version <= self.set.manifest().stamp.version {
            return Ok(());
        }
        let (base, totals) = (set.base(), set.manifest().indexed);
        let below = self.below(&set).await?;
        self.set = set;
        if base > self.tail.version() {
            self.tail = Tail::new(self.shape, base, totals);
            return Ok(());
        }
        if let Err(error) = self.tail.rebase(base, below, &self.env.compute).await {
            self.tail = Tail::new(self.shape, base, totals);
            return Err(error);
        }
        Ok(())
    }

    /// What is in the segments below the tail; only an instance that serves reads needs to know.
    async fn below(&self, set: &Arc<SegmentSet>) -> Result<Arc<Below>> {
        if !self.reading.serves || set.members().is_empty() {
            return Ok(Arc::new(|_, _| false));
        }
        let segments = self.reading.shelf.open(set).await?;
        Ok(Arc::new(move |hash, id| {
            let found = segments.find(hash, id);
            found
                .inspect_err(|error| tracing::error!(%error, "a segment is damaged"))
                .is_ok_and(|found| found.is_some())
        }))
    }

    /// Starts over behind what is indexed: the positions in between are no longer in the log.
    async fn restart(&mut self) -> Result<()> {
        let Reading { shelf, partitioner, serves, .. } = &self.reading;
        self.set = shelf.current(&self.view, partitioner, Some(&self.set), *serves).await?;
        self.tail = Tail::new(self.shape, self.set.base(), self.set.manifest().indexed);
        Ok(())
    }

    /// Whether the floor has passed what comes next.
    async fn is_passed(&self) -> Result<bool> {
        let floor = self.view.look_now().await?.manifest.wal_floor;
        Ok(self.tail.version().next() < floor)
    }

    /// See guarantee 4. Others who use the view may have seen the floor pass while the log was read.
    async fn is_believable(&self) -> Result<bool> {
        let seen = self.view.last();
        if self.env.clock.since(seen.looked) <= self.reading.grace / 2 {
            return Ok(self.tail.version().next() >= seen.manifest.wal_floor);
        }
        Ok(!self.is_passed().await?)
    }

    /// Cuts the entries at the end of the collection's life.
    fn of_this_life(&self, mut batches: Vec<Batch>) -> (Vec<Batch>, bool) {
        let life = self.view.life();
        let end = batches.iter().position(|batch| {
            batch.header.incarnation > life
                || (batch.header.incarnation == life && batch.header.seal)
        });
        if let Some(end) = end {
            batches.truncate(end);
        }
        for batch in &mut batches {
            // A writer that had not heard of the deletion: its write is part of what was deleted.
            if batch.header.incarnation < life {
                batch.chunks.clear();
            }
        }
        (batches, end.is_some())
    }
}
