//! The task that follows the log, takes up newer segments, and tidies the tail.

use super::hole::End;
use super::{Channels, Published, Reading, Skipped, Sync};
use crate::base::backoff::{Backoff, Complaint};
use crate::base::clock::Mark;
use crate::base::defect::Defect;
use crate::base::ids::Ulid;
use crate::base::metrics::Metrics;
use crate::base::{Code, Env, Error, Result};
use crate::engine::damage::{Damage, DamageKind};
use crate::engine::reading::segments::SegmentSet;
use crate::engine::reading::snapshot::Snapshot;
use crate::engine::reading::tail::{Below, Misfit, Tail, Tidied};
use crate::engine::view::ManifestView;
use crate::log::append::gone;
use crate::log::read::{Ahead, Batch, LogReader};
use crate::store::layers::Usage;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

/// How much later than usual the log is looked at, at most, while looks fail.
const POLL_MAX: Duration = Duration::from_secs(30);
/// Writes that were skipped and are named.
const SKIPPED_NAMED_MAX: usize = 8;

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

/// What a task beside this one is at work on.
type Coming<T> = Option<oneshot::Receiver<Result<T>>>;

/// Waits for it, for ever where nothing is coming; then nothing is any more.
async fn arrived<T>(coming: &mut Coming<T>) -> Result<T> {
    let Some(receiver) = coming else { return std::future::pending().await };
    let result = receiver.await.unwrap_or_else(|_| Err(Error::internal("it was dropped")));
    *coming = None;
    result
}

/// How often damaged objects that name dead rows are read again.
const RELOAD_DAMAGED_EVERY: Duration = Duration::from_secs(30);
/// How often a hole in the log is looked at: writers rely on it that somebody does.
const HOLE_EVERY: Duration = Duration::from_secs(5);
/// See the [parent](super).
pub(super) struct FollowTask {
    share: Share,
    pub(super) log: LogReader,
    pub(super) env: Env,
    pub(super) view: Arc<ManifestView>,
    pub(super) reading: Reading,
    pub(super) tail: Tail,
    set: Arc<SegmentSet>,
    /// Segments that were shown before it and that it does not have.
    replaced: Vec<Ulid>,
    /// When segments were last brought into memory.
    loaded: Mark,
    /// Newer segments on their way into memory.
    loading: Coming<Arc<SegmentSet>>,
    /// What keeps the log behind the tail from being read.
    pub(super) hole: Option<Arc<Damage>>,
    /// Whether the log is known to go on, or should.
    pub(super) missed: bool,
    /// When the store's listing of the log was last looked at.
    pub(super) listed: Option<Mark>,
    /// Blocks of the tail that are being made into one.
    tidying: Coming<Tidied>,
    skipped: Skipped,
    channels: Channels,
    /// After looks that failed.
    backoff: Backoff,
    complaint: Complaint,
    /// After newer segments that could not be taken up.
    reload: Backoff,
}

impl FollowTask {
    /// Shows `tail`, over the segments of `set`, until it has looked.
    pub(super) fn new(
        env: Env,
        (view, log): (Arc<ManifestView>, LogReader),
        reading: Reading,
        (tail, set): (Tail, Arc<SegmentSet>),
        channels: Channels,
    ) -> FollowTask {
        let share = Share { metrics: env.metrics.clone(), vectors: 0, bytes: 0 };
        let (loading, tidying, skipped) = (None, None, Skipped::default());
        let loaded = env.clock.mark();
        let backoff = Backoff::new(reading.poll, POLL_MAX.max(reading.poll));
        let (reload, complaint) = (backoff, Complaint::default());
        FollowTask {
            share,
            log,
            env,
            view,
            reading,
            tail,
            set,
            replaced: Vec::new(),
            loading,
            tidying,
            skipped,
            channels,
            hole: None,
            missed: false,
            listed: None,
            loaded,
            backoff,
            complaint,
            reload,
        }
    }

    /// Until the instance stops, nobody has a [`Follower`](super::Follower) any more, or the collection is
    /// gone.
    pub(super) async fn run(mut self) {
        let stop = self.env.tasks.stopping().clone();
        let mut next_poll = Instant::now() + self.pause();
        loop {
            let mut waiting = Vec::new();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                request = self.channels.requests.recv() => match request {
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
                    next_poll = Instant::now() + self.pause();
                    // Whoever writes has to know when a hole is mended.
                    if self.channels.last_read.is_long_ago() && self.hole.is_none() {
                        continue;
                    }
                }
            }
            // One look answers everyone who asked before it began.
            while let Ok(sync) = self.channels.requests.try_recv() {
                waiting.push(sync);
            }
            let renew = waiting.iter().any(|sync| sync.renew);
            self.missed = waiting.iter().any(|sync| sync.missed);
            let asked = Usage::default();
            let began = Instant::now();
            let result = asked.scope(self.look(renew)).await;
            self.channels.reach.ended(&result);
            next_poll = self.next_poll(began, &result);
            let is_gone = matches!(&result, Err(error) if error.code() == Code::CollectionNotFound);
            if is_gone {
                self.channels.requests.close();
            }
            for (at, Sync { reply, .. }) in waiting.into_iter().enumerate() {
                // Who asked first has caused the look.
                let asked = if at == 0 { asked.clone() } else { Usage::default() };
                let answer = result.as_ref().map(|()| asked).map_err(Error::replicate);
                drop(reply.send(answer));
            }
            if is_gone {
                break;
            }
        }
    }

    /// When to look again after a look that began at `began`; says what keeps failing.
    fn next_poll(&mut self, began: Instant, result: &Result<()>) -> Instant {
        // From the beginning of one look to that of the next, but no look without a pause.
        let next = (began + self.pause()).max(Instant::now() + self.pause() / 4);
        let Err(error) = result else {
            self.backoff.succeeded();
            self.complaint.over();
            return next;
        };
        if let Some(times) = self.complaint.due() {
            let collection = self.view.name();
            tracing::warn!(%error, %collection, times, "following the log failed");
        }
        // Who asks for a look gets one all the same.
        next + self.backoff.failed(&*self.env.rng)
    }

    /// Between the beginnings of two looks.
    fn pause(&self) -> Duration {
        match self.hole {
            Some(_) => self.reading.poll.min(HOLE_EVERY),
            None => self.reading.poll,
        }
    }

    async fn look(&mut self, renew: bool) -> Result<()> {
        self.advance().await?;
        if renew && self.loading.is_some() {
            let set = arrived(&mut self.loading).await?;
            self.change_over(set).await?;
            self.publish(None);
            self.forget_replaced().await;
        }
        Ok(())
    }

    /// Applies everything that is in the log now, and publishes it as it goes.
    async fn advance(&mut self) -> Result<()> {
        self.channels.reach.heard();
        self.look_at_manifest().await?;
        let mut rereads = 0;
        let current_as_of = loop {
            self.channels.reach.heard();
            let as_of = self.env.clock.mark();
            if self.tail.version().next() < self.view.last().manifest.wal_floor {
                self.restart().await?;
            }
            let Ahead { batches, stop } = self.log.next(self.tail.version()).await?;
            if !self.is_believable().await? {
                continue;
            }
            if batches.is_empty() {
                match self.end_of(stop, rereads).await? {
                    End::Again => rereads += 1,
                    End::Reached => break as_of,
                }
                continue;
            }
            rereads = 0;
            let sealed = self.apply(batches).await?;
            self.publish(None);
            if sealed {
                return Err(gone(&self.view.last().manifest.name));
            }
        };
        self.publish(Some(current_as_of));
        self.forget_replaced().await;
        self.load();
        self.tidy();
        Ok(())
    }

    /// Looks at the manifest, and tells where it cannot be read.
    async fn look_at_manifest(&self) -> Result<()> {
        let (damage, key) = (&self.reading.damage, self.view.key());
        match self.view.look_now().await {
            Err(error) if error.code() == Code::Corrupt => {
                damage.report(Damage::new(DamageKind::Manifest, key, None, error.message()));
                Err(error)
            }
            looked => {
                looked?;
                damage.mended(DamageKind::Manifest, key.as_str());
                Ok(())
            }
        }
    }

    /// Counts and names what was not applied; once, also where the log is read again.
    fn skip(&mut self, misfits: Vec<Misfit>) {
        let seen = self.skipped.through;
        for misfit in misfits.into_iter().filter(|misfit| misfit.seq > seen) {
            let Misfit { seq, reason } = &misfit;
            let collection = self.view.name();
            tracing::error!(%collection, entry = seq.0, reason, "a write in the log is skipped");
            self.env.metrics.wal_chunks_skipped.inc();
            self.skipped.through = *seq;
            self.skipped.chunks += 1;
            if self.skipped.first.len() < SKIPPED_NAMED_MAX {
                self.skipped.first.push(misfit);
            }
        }
    }

    /// Applies entries that follow the last one; whether the collection's life ends with them.
    async fn apply(&mut self, batches: Vec<Batch>) -> Result<bool> {
        let (batches, sealed) = self.of_this_life(batches);
        let count = batches.len() as u64;
        let below = self.below(&self.set).await?;
        match self.tail.apply(batches, below, &self.env.compute).await {
            Ok(misfits) => self.skip(misfits),
            Err(error) => {
                self.restart().await?;
                return Err(error);
            }
        }
        while self.tail.is_slow()
            && let Some(untidy) = self.tail.untidy()
        {
            let tidied = self.env.compute.run_over(untidy.bytes(), || untidy.run()).await?;
            self.tail.replace(tidied);
        }
        self.env.metrics.wal_entries_applied.inc_by(count);
        Ok(sealed)
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
            drop(reply.send(compute.run_over(untidy.bytes(), || untidy.run()).await));
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
        let (tail, set, hole) = (self.tail.view(), self.set.clone(), self.hole.clone());
        self.channels.publish.modify(|published| {
            let before = published.snapshot.as_of;
            let snapshot = Snapshot { tail, set, hole, as_of: as_of.unwrap_or(before) };
            self.share.set(snapshot.live(), snapshot.tail.bytes());
            if snapshot.version() >= published.snapshot.version() {
                let complete = published.complete || as_of.is_some();
                let skipped = self.skipped.clone();
                *published = Published { snapshot, complete, skipped };
            }
        });
    }

    /// Begins to bring the segments of a newer manifest into memory.
    fn load(&mut self) {
        let same = self.view.last().manifest.same_segments(self.set.manifest());
        // Who knows what is damaged tries again: somebody may have restored it.
        let again = !self.set.damaged().is_empty()
            && self.env.clock.since(self.loaded) >= RELOAD_DAMAGED_EVERY;
        if self.loading.is_some() || self.reload.is_waiting() || (same && !again) {
            return;
        }
        self.loaded = self.env.clock.mark();
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
            Ok(()) => {
                self.reload.succeeded();
                self.publish(None);
                self.forget_replaced().await;
            }
            Err(error) => {
                let again_in_ms = self.reload.failed(&*self.env.rng).as_millis() as u64;
                tracing::warn!(%error, again_in_ms, "newer segments could not be taken up");
            }
        }
    }

    async fn change_over(&mut self, set: Arc<SegmentSet>) -> Result<()> {
        let (taken, shown) = (&set.manifest().stamp, &self.set.manifest().stamp);
        // An older one is taken up only where it is in force again.
        let in_force = *taken == self.view.last().manifest.stamp;
        let same = taken == shown && self.set.damaged().is_empty();
        if same || (taken.version < shown.version && !in_force) {
            return Ok(());
        }
        let (before, base) = (self.set.base(), set.base());
        let below = self.below(&set).await?;
        self.show(set);
        if base > self.tail.version() || base < before {
            self.start_over();
            return Ok(());
        }
        if let Err(error) = self.tail.rebase(base, below, &self.env.compute).await {
            self.start_over();
            return Err(error);
        }
        Ok(())
    }

    /// Shows another set from now on.
    fn show(&mut self, set: Arc<SegmentSet>) {
        let kept: BTreeSet<Ulid> = set.members().iter().map(|member| member.meta.id).collect();
        let before = self.set.members().iter().map(|member| member.meta.id);
        self.replaced.extend(before.filter(|id| !kept.contains(id)));
        self.set = set;
    }

    /// Lets go of segments that were shown before and have been replaced: nobody asks for them any more, and they would
    /// take the room of those that took their place.
    async fn forget_replaced(&mut self) {
        for id in std::mem::take(&mut self.replaced) {
            self.reading.shelf.forget(id).await;
        }
    }

    /// What is in the segments below the tail; only an instance that serves reads needs to know.
    async fn below(&self, set: &Arc<SegmentSet>) -> Result<Arc<Below>> {
        if !self.reading.serves || set.members().is_empty() {
            return Ok(Arc::new(|_, _| None));
        }
        let segments = self.reading.shelf.open(set).await?;
        Ok(Arc::new(move |hash, id| {
            let found = segments.find(hash, id);
            // Of a segment that is damaged nothing is known.
            let found = found.ok().flatten();
            found.map(|(resident, row)| resident.segment().written(row))
        }))
    }

    /// Starts over behind what is indexed: the positions in between are no longer in the log.
    async fn restart(&mut self) -> Result<()> {
        let Reading { shelf, partitioner, serves, .. } = &self.reading;
        let set = shelf.current(&self.view, partitioner, Some(&self.set), *serves).await?;
        self.show(set);
        self.start_over();
        Ok(())
    }

    /// With an empty tail.
    fn start_over(&mut self) {
        let (set, shape) = (&self.set, self.reading.shape_of(&self.set));
        self.tail = Tail::new(shape, set.base(), set.manifest().indexed);
    }

    /// Whether the floor has passed what comes next.
    pub(super) async fn is_passed(&self) -> Result<bool> {
        let floor = self.view.look_now().await?.manifest.wal_floor;
        Ok(self.tail.version().next() < floor)
    }

    /// See guarantee 4. Others who use the view may have seen the floor pass while the log was read.
    async fn is_believable(&self) -> Result<bool> {
        let seen = self.view.last();
        if self.env.defects.has(Defect::BelieveBelowFloor) {
            return Ok(true);
        }
        let grace = seen.manifest.grace_to_rely_on(self.reading.grace);
        if self.env.clock.since(seen.looked) <= grace / 2 {
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
        if batches.len() > 1 && self.env.defects.has(Defect::ReaderSkipsEntry) {
            batches.last_mut().into_iter().for_each(|batch| batch.chunks.clear());
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
