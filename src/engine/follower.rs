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

mod task;

use crate::base::clock::Mark;
use crate::base::ids::{CollectionName, Seq};
use crate::base::{Code, Env, Error, Result};
use crate::engine::segments::{SegmentSet, Shelf};
use crate::engine::snapshot::Snapshot;
use crate::engine::tail::{Misfit, Shape, Tail};
use crate::engine::view::ManifestView;
use crate::log::append::gone;
use crate::log::read::LogReader;
use crate::partition::Partitioner;
use crate::store::DynStore;
use crate::store::layers::Usage;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use task::FollowTask;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

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
    skipped: Skipped,
}

/// Writes of the log that are not part of what is shown, because they do not fit the collection. All
/// who apply the log skip the same ones.
#[derive(Debug, Clone, Default)]
pub struct Skipped {
    /// How many there were since this instance began to read the log.
    pub chunks: u64,
    /// The first of them.
    pub first: Vec<Misfit>,
    /// The last position that has one.
    through: Seq,
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

impl Reading {
    /// What rows of a tail over these segments are like.
    fn shape_of(&self, set: &SegmentSet) -> Shape {
        let settings = &set.manifest().settings;
        let metric = self.serves.then_some(settings.metric);
        Shape { dimensions: settings.dimensions as usize, metric }
    }
}

/// The task's ends of what it shares with the [`Follower`].
struct Channels {
    publish: watch::Sender<Published>,
    requests: mpsc::Receiver<Sync>,
    last_read: LastRead,
}

/// Answers reads from what it has applied.
#[derive(Debug)]
pub struct Follower {
    env: Env,
    collection: CollectionName,
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
        let (set, poll) = (shelf.current(&view, partitioner, None, *serves).await?, *poll);
        let collection = set.manifest().name.clone();
        let log = LogReader::new(store, collection.clone());
        let tail = Tail::new(reading.shape_of(&set), set.base(), set.manifest().indexed);
        let (publish, published) = watch::channel(Published {
            snapshot: Snapshot { tail: tail.view(), set: set.clone() },
            current_as_of: env.clock.mark(),
            skipped: Skipped::default(),
        });
        let (syncs, requests) = mpsc::channel(SYNC_QUEUE);
        let last_read = LastRead::now();
        let channels = Channels { publish, requests, last_read: last_read.clone() };
        let task = FollowTask::new(env.clone(), (view, log), reading, (tail, set), channels);
        env.tasks.spawn("follower", task.run());
        let follower = Follower { env, collection, poll, published, syncs, last_read };
        follower.sync().await?;
        Ok(follower)
    }

    /// What has been applied, without a look.
    pub fn applied(&self) -> Snapshot {
        self.published.borrow().snapshot.clone()
    }

    /// What of the log was skipped.
    pub fn skipped(&self) -> Skipped {
        self.published.borrow().skipped.clone()
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
        self.syncs.send(Sync { reply, renew }).await.map_err(|_| self.ended())?;
        let asked = answer.await.map_err(|_| self.ended())??;
        if let Some(usage) = Usage::current() {
            usage.absorb(&asked);
        }
        Ok(())
    }

    /// Whether the task has ended: the collection is gone, or the instance shuts down.
    pub fn has_ended(&self) -> bool {
        self.syncs.is_closed()
    }

    /// The error of a read after that.
    pub fn ended(&self) -> Error {
        match self.env.tasks.are_ending() {
            true => Error::shutting_down(),
            false => gone(&self.collection),
        }
    }
}

/// Whether the store does not answer, or not to us: its folder is not mounted, or credentials have run out.
fn is_out_of_reach(error: &Error) -> bool {
    error.is_transient() || matches!(error.code(), Code::StoreDenied | Code::StoreNotFound)
}
