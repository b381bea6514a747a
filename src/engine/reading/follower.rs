//! The read path's other half: one task per collection follows the log and publishes snapshots.
//!
//! 1. Snapshots that are published never go backward in version.
//! 2. [`Follower::strong`] returns a snapshot that holds every write acknowledged before the call.
//! 3. A snapshot shows every record once: what is in segments is not in its tail. Newer segments are
//!    brought into memory beside the reads and taken up when they are there; until then the tail has
//!    their rows.
//! 4. A snapshot that [`Follower::eventual`] returns is at most as old as the time between two looks and one
//!    look. Only while the store is out of reach it may be older, up to [`Reading::stale_max`].
//! 5. What is read is shown at once, also while more is coming: a log that takes longer to read than any
//!    request waits is read once.
//! 6. Behind an entry that is missing or damaged nothing is applied. It is found where the entry behind it
//!    is read, and otherwise by a look at the listing, once a minute while somebody reads; snapshots say so
//!    ([`Snapshot::hole`]), and what has to see more than they hold fails.
//! 7. What the log says of a position, an entry or its absence, is believed only if a look at the
//!    manifest, taken less than half a grace period before the answer, or after it, has the floor
//!    at or below the position: below the floor entries are collected, and a stalled writer may
//!    have created one that nobody acknowledged.

mod hole;
mod task;

use crate::base::defect::Defect;
use crate::base::ids::{CollectionName, Seq};
use crate::base::watched::Watched;
use crate::base::{Code, Env, Error, Result};
use crate::engine::damage::Damaged;
use crate::engine::reading::segments::{SegmentSet, Shelf};
use crate::engine::reading::snapshot::Snapshot;
use crate::engine::reading::tail::{Misfit, Shape, Tail};
use crate::engine::view::ManifestView;
use crate::log::append::gone;
use crate::log::read::LogReader;
use crate::partition::Partitioner;
use crate::store::DynStore;
use crate::store::layers::Usage;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use task::FollowTask;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

/// Without reads for this long, the log is not polled; the next read looks first.
const IDLE_AFTER: Duration = Duration::from_secs(60);
/// What an eventual read shows may be so old, or as old as the pause between two looks.
const FRESH_MIN: Duration = Duration::from_secs(1);
/// A look that comes to its end within this time keeps nobody waiting.
const QUICK_LOOK: Duration = Duration::from_secs(1);
/// A store from which nothing came for so long, while it was asked, is out of reach.
const SILENCE_MAX: Duration = Duration::from_secs(4);
/// How many requests for a look may wait.
const SYNC_QUEUE: usize = 4_096;

/// What the follower has published last.
#[derive(Debug, Clone)]
struct Published {
    snapshot: Snapshot,
    /// Whether the log was read to its end once.
    complete: bool,
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
    /// Answered with what the look asked of the store on its behalf.
    reply: oneshot::Sender<Result<Usage>>,
    /// Whether the newest segments are to be taken up first.
    renew: bool,
    /// Whether the log is known to go on, or should: then its listing is looked at.
    missed: bool,
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
    /// How old an answer may be while the store is out of reach; zero: never older than otherwise.
    pub stale_max: Duration,
    /// Where damage is told.
    pub damage: Damaged,
    /// The grace period that is relied on where the manifest says none.
    pub grace: Duration,
}

impl Reading {
    /// What rows of a tail over these segments are like.
    fn shape_of(&self, set: &SegmentSet) -> Shape {
        let settings = &set.manifest().settings;
        let metric = self.serves.then_some(settings.vector().metric);
        Shape { dimensions: settings.vector().dimensions as usize, metric }
    }
}

/// The task's ends of what it shares with the [`Follower`].
struct Channels {
    publish: Arc<Watched<Published>>,
    requests: mpsc::Receiver<Sync>,
    last_read: LastRead,
    reach: Reach,
}

/// Answers reads from what it has applied.
#[derive(Debug)]
pub struct Follower {
    env: Env,
    collection: CollectionName,
    poll: Duration,
    stale_max: Duration,
    published: Arc<Watched<Published>>,
    syncs: mpsc::Sender<Sync>,
    last_read: LastRead,
    reach: Reach,
}

/// Whether the store answers the one who looks. Cloning shares it.
#[derive(Debug, Clone, Default)]
struct Reach(Arc<Mutex<Asked>>);

#[derive(Debug, Default)]
struct Asked {
    /// When it was asked, or answered last, in the look that is under way.
    heard: Option<Instant>,
    /// Why the last look came to nothing.
    failed: Option<Error>,
}

impl Reach {
    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A look begins, or the store has answered in it.
    fn heard(&self) {
        self.lock().heard = Some(Instant::now());
    }

    /// A look has ended.
    fn ended(&self, result: &Result<()>) {
        let failed = result.as_ref().err().filter(|error| is_out_of_reach(error));
        *self.lock() = Asked { heard: None, failed: failed.map(Error::replicate) };
    }

    /// Until the store is out of reach: the last look has failed, or this one does not get on.
    async fn lost(&self) -> Error {
        loop {
            let until = {
                let asked = self.lock();
                match (&asked.failed, asked.heard) {
                    (Some(error), _) => return error.replicate(),
                    (None, Some(heard)) if heard.elapsed() >= SILENCE_MAX => {
                        let silence = SILENCE_MAX.as_secs();
                        return Error::unavailable(format!(
                            "the store did not answer for {silence} s; retry later"
                        ));
                    }
                    (None, heard) => heard.unwrap_or_else(Instant::now) + SILENCE_MAX,
                }
            };
            sleep_until(until).await;
        }
    }
}

/// When somebody read last. Cloning shares it.
#[derive(Debug, Clone, Default)]
struct LastRead(Arc<Mutex<Option<Instant>>>);

impl LastRead {
    fn touch(&self) {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(Instant::now());
    }

    fn is_long_ago(&self) -> bool {
        let last = *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        last.is_none_or(|last| last.elapsed() > IDLE_AFTER)
    }
}

impl Follower {
    /// Starts following. Nothing is shown before a read has waited for a look: see [`Follower::eventual`].
    pub async fn start(
        store: DynStore,
        env: Env,
        view: Arc<ManifestView>,
        reading: Reading,
    ) -> Result<Self> {
        let Reading { shelf, partitioner, serves, poll, stale_max, .. } = &reading;
        let (poll, stale_max) = (*poll, *stale_max);
        let set = shelf.current(&view, partitioner, None, *serves).await?;
        let collection = set.manifest().name.clone();
        let log = LogReader::new(store, collection.clone());
        let tail = Tail::new(reading.shape_of(&set), set.base(), set.manifest().indexed);
        let as_of = env.clock.mark();
        let published = Arc::new(Watched::new(Published {
            snapshot: Snapshot { tail: tail.view(), set: set.clone(), as_of, hole: None },
            complete: false,
            skipped: Skipped::default(),
        }));
        let (syncs, requests) = mpsc::channel(SYNC_QUEUE);
        let (last_read, reach) = (LastRead::default(), Reach::default());
        let publish = published.clone();
        let channels =
            Channels { publish, requests, last_read: last_read.clone(), reach: reach.clone() };
        let task = FollowTask::new(env.clone(), (view, log), reading, (tail, set), channels);
        env.tasks.spawn("follower", task.run());
        Ok(Follower { env, collection, poll, stale_max, published, syncs, last_read, reach })
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
        let as_of = self.published.borrow().snapshot.as_of;
        (!self.last_read.is_long_ago()).then(|| self.env.clock.steady_since(as_of))
    }

    /// How old what is shown is, where the log was read to its end once.
    fn age(&self) -> Option<Duration> {
        let published = self.published.borrow();
        published.complete.then(|| self.env.clock.since(published.snapshot.as_of))
    }

    fn is_within(&self, most: Duration) -> bool {
        self.age().is_some_and(|age| age <= most)
    }

    /// Looks at the log where the last look is older than two poll intervals; no read, as [`Follower::look`].
    pub async fn keep_current(&self) -> Result<()> {
        match self.is_within(self.poll * 2) {
            true => Ok(()),
            false => self.look().await,
        }
    }

    /// Looks at the log now; no read, so it does not keep the log from being left alone.
    pub async fn look(&self) -> Result<()> {
        self.sync().await
    }

    /// What has been applied; looks first where that may be older than guarantee 4 says, however long the
    /// look takes. While the store is out of reach, what is there is shown as long as it is no older than
    /// [`Reading::stale_max`]; after that the store's error is.
    pub async fn eventual(&self) -> Result<Snapshot> {
        self.last_read.touch();
        let for_ever = self.env.defects.has(Defect::StaleForEver) && self.age().is_some();
        if for_ever || self.is_within(self.poll.max(FRESH_MIN) + QUICK_LOOK) {
            return Ok(self.applied());
        }
        let looked = tokio::select! {
            biased;
            looked = self.sync() => looked,
            error = self.reach.lost(), if self.is_within(self.stale_max) => Err(error),
        };
        match looked {
            Err(error) if is_out_of_reach(&error) && self.is_within(self.stale_max) => {
                Ok(self.applied())
            }
            Err(error) => Err(error),
            Ok(()) => Ok(self.applied()),
        }
    }

    /// Everything that was acknowledged before the call.
    pub async fn strong(&self) -> Result<Snapshot> {
        self.last_read.touch();
        if !self.env.defects.has(Defect::StrongDoesNotLook) {
            self.sync().await?;
        }
        self.applied().whole()
    }

    /// Everything up to `version`, waiting for it until `deadline`.
    pub async fn at_least(&self, version: Seq, deadline: Instant) -> Result<Snapshot> {
        self.last_read.touch();
        let mut missed = false;
        loop {
            let applied = self.applied();
            if applied.version() >= version || self.env.defects.has(Defect::MinVersionIgnored) {
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
            let published = &self.published;
            // It may be reached long before a look at a long log ends.
            tokio::select! {
                biased;
                looked = timeout_at(deadline, self.ask(false, missed)) => looked.map_err(|_| late())??,
                () = published.wait_for(|now| now.snapshot.version() >= version) => continue,
            }
            let applied = self.applied();
            if applied.version() < version {
                applied.whole()?;
                missed = true;
                // Nobody has written it yet: wait for the poll, not in a busy loop of looks.
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
        self.ask(true, false).await
    }

    /// Waits for a look that starts after this call.
    async fn sync(&self) -> Result<()> {
        self.ask(false, false).await
    }

    async fn ask(&self, renew: bool, missed: bool) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let sync = Sync { reply, renew, missed };
        self.syncs.send(sync).await.map_err(|_| self.ended())?;
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
