//! One collection as this instance uses it: its manifest, and its read and write paths once used.

use crate::base::defect::Defect;
use crate::base::ids::{CollectionName, Seq, record_hash};
use crate::base::metrics::CollectionFigures;
use crate::base::once::Once;
use crate::base::{Code, Error, Result};
use crate::engine::collections::Rest;
use crate::engine::context::Context;
use crate::engine::damage::{Damage, Damaged};
use crate::engine::model::{CollectionInfo, CollectionStats, Consistency};
use crate::engine::reading::follower::{Follower, Reading, Skipped};
use crate::engine::reading::segments::{RowPlace, SegmentSet, Sought};
use crate::engine::reading::snapshot::{OpenSnapshot, Snapshot};
use crate::engine::reading::tail::View;
use crate::engine::upkeep::{Task, Turns};
use crate::engine::view::ManifestView;
use crate::engine::writing::writer::Writer;
use crate::manifest::{CollectionSettings, Manifest};
use crate::partition::Partitioner;
use crate::store::layers::Usage;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;

/// A collection in use.
#[derive(Debug)]
pub struct Collection {
    context: Context,
    view: Arc<ManifestView>,
    partitioner: Arc<dyn Partitioner>,
    writer: OnceLock<Writer>,
    follower: Once<Arc<Follower>>,
    turns: Turns,
    rest: Rest,
}

impl Collection {
    /// Opens a collection that exists.
    pub async fn open(context: Context, name: CollectionName) -> Result<Self> {
        let (store, env, duty) = (&context.store, &context.env, &context.duty);
        let duty = Some(duty.clone());
        let view = ManifestView::open_for(store.clone(), env.clone(), name, duty).await?;
        let partitioner =
            view.last().manifest.settings.partitioner.resolve(&context.partitioners)?;
        let turns = Turns::new(&context, &view.last().manifest.name);
        let agreed = view.last().manifest.grace_to_wait(context.limits.grace);
        if agreed != context.limits.grace {
            tracing::info!(
                collection = %view.name(), grace_ms = agreed.as_millis() as u64,
                "the collection has another grace period than gc_grace_ms says; the collection's counts"
            );
        }
        Ok(Collection {
            context,
            turns,
            view: Arc::new(view),
            partitioner,
            writer: OnceLock::new(),
            follower: Once::default(),
            rest: Rest::default(),
        })
    }

    /// What is known to be damaged of it.
    pub fn damage(&self) -> Damaged {
        self.context.damage.of(self.view.name())
    }

    /// The manifest, and looks at it.
    pub fn view(&self) -> &Arc<ManifestView> {
        &self.view
    }

    /// Its name.
    pub fn name(&self) -> &CollectionName {
        self.view.name()
    }

    /// Which life of its name it is. All that is done through this value is done to that life, or fails with
    /// `collection_not_found`.
    pub fn life(&self) -> u64 {
        self.view.life()
    }

    /// Whose turn it is to index and to compact.
    pub fn turns(&self) -> &Turns {
        &self.turns
    }

    /// When it was used last, and what is left to do for it.
    pub fn rest(&self) -> &Rest {
        &self.rest
    }

    /// Which partition an id belongs to.
    pub fn partitioner(&self) -> &Arc<dyn Partitioner> {
        &self.partitioner
    }

    /// The manifest as it was last seen.
    pub fn manifest(&self) -> Arc<Manifest> {
        self.view.last().manifest
    }

    /// What cannot change.
    pub fn settings(&self) -> CollectionSettings {
        self.manifest().settings.clone()
    }

    /// The write path, started when it is first used.
    pub fn writer(&self) -> &Writer {
        self.writer.get_or_init(|| {
            let Context { store, env, limits, admission, .. } = &self.context;
            let (view, admission, damage) = (self.view.clone(), admission.clone(), self.damage());
            Writer::start(store.clone(), env.clone(), view, *limits, admission, damage)
        })
    }

    /// The read path, started by whoever needs it first and for all.
    async fn follower(&self) -> Result<Arc<Follower>> {
        let Context { store, env, shelf, duty, poll, stale_max, limits, .. } = &self.context;
        let start = || {
            let reading = Reading {
                shelf: shelf.clone(),
                partitioner: self.partitioner.clone(),
                serves: duty.station().role.reads(),
                poll: *poll,
                stale_max: *stale_max,
                damage: self.damage(),
                grace: limits.grace,
            };
            let asked = Usage::current().unwrap_or_default();
            let start = Follower::start(store.clone(), env.clone(), self.view.clone(), reading);
            async move { asked.scope(start).await.map(Arc::new) }
        };
        let follower = self.follower.get_or_make(&env.tasks, "follower start", start).await?;
        if follower.has_ended() {
            return Err(follower.ended());
        }
        Ok(follower)
    }

    /// Whether the read path has found out that the collection is gone.
    pub fn has_ended(&self) -> bool {
        self.follower.get().is_some_and(|follower| follower.has_ended())
    }

    /// What has been applied so far, where the read path is in use and this instance has written nothing
    /// newer.
    pub fn applied(&self) -> Option<Snapshot> {
        let applied = self.follower.get().map(|follower| follower.applied())?;
        let own = self.writer.get().map_or(Seq(0), Writer::last_version);
        (own <= applied.version()).then_some(applied)
    }

    /// The version that the read path shows, where it is in use.
    pub fn shown_version(&self) -> Option<Seq> {
        self.follower.get().map(|follower| follower.applied().version())
    }

    /// The newest version that this instance knows of: what it shows, or has written.
    pub fn known_version(&self) -> Option<Seq> {
        let applied = self.follower.get().map(|follower| follower.applied().version());
        applied.max(self.writer.get().map(Writer::last_version))
    }

    /// Bytes of log that are not indexed, as far as this instance knows.
    pub fn unindexed_bytes(&self) -> u64 {
        let read = self.follower.get().map_or(0, |follower| follower.applied().tail.totals.bytes);
        let written = self.writer.get().map_or(0, Writer::log_bytes);
        read.max(written).saturating_sub(self.manifest().indexed.bytes)
    }

    /// How long ago the read path last found nothing newer in the log, where somebody reads.
    pub fn lag(&self) -> Option<Duration> {
        self.follower.get().and_then(|follower| follower.lag())
    }

    /// Writes of the log that do not fit the collection and are skipped, as far as this instance has read.
    pub fn skipped(&self) -> Skipped {
        self.follower.get().map(|follower| follower.skipped()).unwrap_or_default()
    }

    /// Has the read path, where there is one, look at the log if it has not for long. It is no read: nobody
    /// polls because of it.
    pub async fn keep_current(&self) -> Result<()> {
        match self.follower.get() {
            Some(follower) if !follower.has_ended() => follower.keep_current().await,
            _ => Ok(()),
        }
    }

    /// What the log holds now, for upkeep: no read either.
    pub async fn look(&self) -> Result<Snapshot> {
        let follower = self.follower().await?;
        follower.look().await?;
        Ok(follower.applied())
    }

    /// Whether the log has entries that are in no segment, as far as this instance knows.
    pub fn has_unindexed(&self) -> bool {
        self.known_version().is_some_and(|known| known > self.manifest().wal_indexed)
    }

    /// Whether the tail has rows in memory.
    pub fn has_tail(&self) -> bool {
        self.follower.get().is_some_and(|follower| !follower.applied().tail.is_empty())
    }

    /// Whether the instance still has something to do for it: to index, to merge, or to let others do so.
    pub fn needs_upkeep(&self) -> bool {
        [Task::Index, Task::Compact].into_iter().any(|task| self.needs(task))
    }

    /// The same for one of the tasks. Without asking the store.
    pub fn needs(&self, task: Task) -> bool {
        let open = match task {
            Task::Index => self.has_unindexed() || self.has_tail(),
            Task::Compact => !self.rest.is_settled(self.manifest().stamp.version),
        };
        open || self.turns.holds(task)
    }

    /// Bytes of log that this instance has written and not read again.
    pub fn unread_bytes(&self) -> u64 {
        let read = self.follower.get().map(|follower| follower.applied().tail.totals.bytes);
        let read = read.unwrap_or_else(|| self.manifest().indexed.bytes);
        self.writer.get().map_or(0, Writer::log_bytes).saturating_sub(read)
    }

    /// A snapshot that shows what `consistency` asks for, and always this instance's own writes, and no less
    /// than was shown before the collection was closed.
    pub async fn snapshot(&self, consistency: Consistency, wait_max: Duration) -> Result<Snapshot> {
        let snapshot = self.shown(consistency, wait_max).await?;
        let floor = self.rest.floor();
        if snapshot.version() >= floor {
            return Ok(snapshot);
        }
        self.follower().await?.at_least(floor, Instant::now() + wait_max).await
    }

    async fn shown(&self, consistency: Consistency, wait_max: Duration) -> Result<Snapshot> {
        let follower = self.follower().await?;
        match consistency {
            Consistency::Strong => follower.strong().await,
            Consistency::AtLeast { version, wait } => {
                follower.at_least(version, Instant::now() + wait.min(wait_max)).await
            }
            Consistency::Eventual => {
                let snapshot = follower.eventual().await?;
                let own = self.writer.get().map_or(Seq(0), Writer::last_version);
                if own <= snapshot.version()
                    || snapshot.hole.is_some()
                    || self.context.env.defects.has(Defect::OwnWritesUnseen)
                {
                    return Ok(snapshot);
                }
                match follower.at_least(own, Instant::now() + wait_max).await {
                    // What can be served is, and says that it is not all.
                    Err(error) if error.code() == Code::LogDamaged => Ok(follower.applied()),
                    snapshot => snapshot,
                }
            }
        }
    }

    /// The segments of `manifest`. Of the objects that name dead rows only those are read that neither
    /// `before` nor the read path knows.
    pub async fn segments_of(
        &self,
        manifest: &Arc<Manifest>,
        before: Option<Arc<SegmentSet>>,
    ) -> Result<Arc<SegmentSet>> {
        let read = || self.follower.get().map(|follower| follower.applied().set);
        let known = before.or_else(read);
        if let Some(known) = &known
            && known.manifest().same_segments(manifest)
            && known.damaged().is_empty()
        {
            return Ok(known.clone());
        }
        let partitioner = self.partitioner.clone();
        let set = self.context.shelf.set(manifest.clone(), partitioner, known.as_deref()).await?;
        set.check_whole()?;
        Ok(Arc::new(set))
    }

    /// Whether there is a record with each of these ids, and when; without bringing segments into memory.
    pub async fn present(
        &self,
        ids: &Arc<[String]>,
        wait_max: Duration,
    ) -> Result<(Seq, Vec<bool>)> {
        let mut last_gone = None;
        loop {
            let Snapshot { tail, set, .. } = self.snapshot(Consistency::Strong, wait_max).await?;
            let shown = set.manifest().stamp.version;
            let sought = ids
                .iter()
                .map(|id| Sought { id: id.clone(), limit: tail.dead_until(record_hash(id), id) });
            let sought: Arc<[Sought]> = sought.collect();
            match self.context.shelf.places(&set, &sought, &self.context.env.compute).await {
                Err(error) => {
                    let error = self.context.shelf.told(&self.view, &set, error).await;
                    self.renew_after(error, shown, &mut last_gone).await?;
                }
                Ok(places) => {
                    let is_present = |(id, place): (&String, Option<RowPlace>)| {
                        tail.find(record_hash(id), id).is_some()
                            || place.is_some_and(|place| !place.within)
                    };
                    let present = ids.iter().zip(places).map(is_present).collect();
                    return Ok((tail.version, present));
                }
            }
        }
    }

    /// What satisfies every one of `wanted`, with its segments at hand. Versions never go backward, so
    /// what is pinned last satisfies what was pinned before.
    pub async fn open_snapshot(
        &self,
        wanted: &[Consistency],
        wait_max: Duration,
    ) -> Result<OpenSnapshot> {
        let mut last_gone = None;
        loop {
            let (first, others) = wanted.split_first().unwrap_or((&Consistency::Eventual, &[]));
            let mut snapshot = self.snapshot(*first, wait_max).await?;
            for consistency in others {
                snapshot = self.snapshot(*consistency, wait_max).await?;
            }
            let shown = snapshot.set.manifest().stamp.version;
            let opened = match snapshot.open(&self.context.shelf).await {
                Ok(opened) => opened,
                Err(error) => {
                    self.renew_after(error, shown, &mut last_gone).await?;
                    continue;
                }
            };
            // Where the newest segments are damaged, too, what is left is shown.
            if self.is_told(&opened) || last_gone.replace(shown) == Some(shown) {
                if !opened.damaged_segments().is_empty() {
                    self.context.shelf.tell(opened.set(), opened.damaged_segments());
                }
                return Ok(opened);
            }
            self.follower().await?.renew().await?;
        }
    }

    /// Whether all that is damaged of it is known already.
    fn is_told(&self, opened: &OpenSnapshot) -> bool {
        if opened.damaged_segments().is_empty() {
            return true;
        }
        let known = self.damage().list();
        let is_known = |damage: &Damage| {
            known.iter().any(|other| (other.kind, &other.place) == (damage.kind, &damage.place))
        };
        opened.damaged_segments().iter().all(is_known)
    }

    /// After `error` in reading what the manifest of version `shown` names: newer segments are taken up
    /// where this instance was so slow that those were replaced and collected, once for each version.
    async fn renew_after(
        &self,
        error: Error,
        shown: u64,
        last_gone: &mut Option<u64>,
    ) -> Result<()> {
        if error.code() != Code::Corrupt || last_gone.replace(shown) == Some(shown) {
            return Err(error);
        }
        self.follower().await?.renew().await
    }

    /// The collection as clients see it.
    pub fn info(&self, snapshot: Option<&Snapshot>) -> CollectionInfo {
        let manifest = self.manifest();
        let written = self.writer.get().map_or(Seq(0), Writer::last_version);
        let applied = snapshot.map_or(Seq(0), Snapshot::version);
        CollectionInfo {
            vector_count: snapshot.map(Snapshot::live),
            version: applied.max(written).max(manifest.wal_indexed),
            ..described(&manifest)
        }
    }

    /// What it holds, as far as this instance knows without asking anybody.
    pub fn figures(&self) -> CollectionFigures {
        let manifest = self.manifest();
        let reads = self.context.duty.station().role.reads();
        let shown = self.follower.get().filter(|_| reads).map(|follower| follower.applied());
        let newer = shown.filter(|shown| shown.version() >= manifest.wal_indexed);
        let (mut segments, mut segment_bytes) = (0, 0);
        for (_, meta) in manifest.segments() {
            segments += 1;
            segment_bytes += meta.bytes;
        }
        CollectionFigures {
            name: manifest.name.to_string(),
            records: newer.as_ref().map_or_else(|| manifest.live(), Snapshot::live),
            tail_rows: newer.map_or(0, |shown| shown.tail.rows()),
            unindexed_bytes: self.unindexed_bytes(),
            segments,
            segment_bytes,
        }
    }

    /// Counts and sizes.
    pub async fn stats(&self, snapshot: Option<&Snapshot>) -> CollectionStats {
        let info = self.info(snapshot);
        let manifest = self.manifest();
        let tail = snapshot.map(|snapshot| &snapshot.tail);
        let (cache_bytes, cache_segments) = self.context.shelf.held().await;
        let mut recall_reached = None;
        for (_, meta) in manifest.segments() {
            let resident = self.context.shelf.resident(meta.id).await;
            let reached = resident.and_then(|resident| resident.segment().index().recall_reached());
            recall_reached = reached.into_iter().chain(recall_reached).reduce(f32::min);
        }
        CollectionStats {
            tail_entries: info.version.0.saturating_sub(info.indexed_version.0),
            tail_rows: tail.map_or(0, View::rows),
            tail_bytes: tail.map_or(0, View::bytes),
            unindexed_bytes: tail
                .map_or(0, |tail| tail.totals.bytes.saturating_sub(manifest.indexed.bytes)),
            wal_floor: manifest.wal_floor,
            partitions: manifest.partitions.clone(),
            deletion_files: manifest.deletions.len(),
            damaged: self.damage().list(),
            skipped_writes: self.skipped().chunks,
            recall_reached,
            cache_bytes,
            cache_segments,
            info,
        }
    }
}

/// What a manifest says of its collection.
pub fn described(manifest: &Manifest) -> CollectionInfo {
    CollectionInfo {
        name: manifest.name.clone(),
        fields: manifest.settings.fields(),
        dimensions: manifest.settings.vector().dimensions,
        metric: manifest.settings.vector().metric,
        partition_count: manifest.partitions.len() as u32,
        description: manifest.settings.description.clone(),
        vector_count: None,
        version: manifest.wal_indexed,
        indexed_version: manifest.wal_indexed,
        created_at: manifest.created_at,
    }
}
