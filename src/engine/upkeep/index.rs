//! The log becomes segments.
//!
//! A pass takes all that the tail holds at one version: the rows that are live in it become segments,
//! as many at a time as [`UpkeepLimits`] let into one, and
//! whatever it has done to an id kills that id's row in the segments below, if that was written early
//! enough: a delete with a limit spares what is newer.

use super::Passed;
use super::commit::{Commit, commit};
use super::objects::{NewSegment, Objects};
use super::runs::runs;
use crate::base::defect::Defect;
use crate::base::ids::{Seq, record_hash};
use crate::base::{Error, Result, json};
use crate::engine::collection::Collection;
use crate::engine::context::{Context, UpkeepLimits};
use crate::engine::damage::{Damage, DamageKind, UNREADABLE};
use crate::engine::reading::segments::{SegmentSet, Sought};
use crate::engine::reading::snapshot::Snapshot;
use crate::engine::reading::tail::{Block, View};
use crate::index::Threads;
use crate::manifest::{Manifest, Partition};
use crate::partition::{HashRange, Partitioner};
use crate::segment::Deletions;
use crate::segment::SegmentBuilder;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::time::Instant;

/// A row of the tail.
type Row = (Arc<Block>, u32);

/// Indexes what the tail of `snapshot` holds.
pub(super) async fn pass(
    context: &Context,
    collection: &Collection,
    snapshot: Snapshot,
) -> Result<Passed> {
    let started = Instant::now();
    let manifest = collection.manifest();
    let tail = snapshot.tail;
    if manifest.wal_indexed != tail.base {
        return Ok(Passed::Lost);
    }
    let held: usize = tail.blocks().iter().map(|block| block.bytes()).sum();
    let _room = context.room.take_to_index(held as u64).await;
    let grouped = {
        let (tail, manifest) = (tail.clone(), manifest.clone());
        let partitioner = collection.partitioner().clone();
        let limits = context.upkeep;
        let group = move || Grouped::of(&tail, &manifest, &*partitioner, &limits);
        context.env.background.run(group).await?
    };
    for (partition, rows) in &grouped.rows {
        let (collection, rows) = (&manifest.name, rows.len());
        tracing::debug!(target: "brainy::partitions", %collection, partition, rows, "rows assigned");
    }
    let mut works = Vec::new();
    for (partition, rows) in grouped.rows {
        let manifest = &manifest;
        works.push(
            async move { Ok::<_, Error>((partition, build(context, manifest, rows).await?)) },
        );
    }
    let made = stream::iter(works).buffered(context.env.background.threads());
    let files: Vec<(u32, Bytes)> = made.try_collect().await?;
    let mut objects = Objects::new(context, &manifest);
    // Put when all are made: the collector takes what nothing names for a grace period.
    let added = objects.segments(files).await?;
    let rows: u64 = added.iter().map(|segment| u64::from(segment.meta.rows)).sum();
    let plan =
        IndexPass { tail: &tail, added, opened: grouped.opened, ids: grouped.touched.into() };
    let passed = commit(context, collection, objects, manifest.clone(), &plan).await?;
    if passed == Passed::Done {
        let shown = tail.clone();
        let found = context.env.background.run(move || unreadable(&shown)).await?;
        let touched: BTreeSet<&str> = plan.ids.iter().map(|sought| &*sought.id).collect();
        tell_unreadable(collection, &touched, found);
        let metrics = &context.env.metrics;
        metrics.index_passes.inc();
        metrics.index_rows.inc_by(rows);
        tracing::info!(
            collection = %manifest.name, rows, segments = plan.added.len(), from = tail.base.0,
            to = tail.version.0, took_ms = started.elapsed().as_millis() as u64, "log indexed"
        );
    }
    Ok(passed)
}

/// What a tail holds, by partition.
struct Grouped {
    /// The live rows of each segment that is to be made, with the number of its partition.
    rows: Vec<(u32, Vec<Row>)>,
    /// Partitions for groups that had none.
    opened: Vec<Partition>,
    /// The ids to which something was done, each with the position up to which that kills its rows.
    touched: Vec<Sought>,
}

impl Grouped {
    fn of(
        tail: &View,
        manifest: &Manifest,
        partitioner: &dyn Partitioner,
        limits: &UpkeepLimits,
    ) -> Grouped {
        let (mut rows, mut opened) = (BTreeMap::<u32, Vec<Row>>::new(), Vec::<Partition>::new());
        for block in tail.blocks() {
            for row in (0..block.rows()).filter(|row| tail.shows(block, *row)) {
                let id = block.id(row);
                let group = partitioner.group(id);
                let partition = match manifest.partition_of(group, record_hash(id)) {
                    Some(at) => manifest.partitions[at].number,
                    None => match opened.iter().find(|partition| partition.group == group) {
                        Some(partition) => partition.number,
                        None => {
                            let number = manifest.next_partition() + opened.len() as u32;
                            opened.push(Partition::new(number, group, HashRange::ALL));
                            number
                        }
                    },
                };
                rows.entry(partition).or_default().push((block.clone(), row as u32));
            }
        }
        let mut touched = BTreeMap::<&str, Seq>::new();
        for (_, id, kills_until) in tail.blocks().iter().flat_map(|block| block.touched(tail.base))
        {
            let until = touched.entry(id).or_default();
            *until = kills_until.max(*until);
        }
        let touched = touched.into_iter().map(|(id, limit)| Sought { id: id.to_owned(), limit });
        let most = (limits.segment_bytes(), limits.segment_max_rows);
        let rows = rows.into_iter().flat_map(|(partition, rows)| {
            runs(rows, file_bytes, most).into_iter().map(move |run| (partition, run))
        });
        Grouped { rows: rows.collect(), opened, touched: touched.collect() }
    }
}

/// The bytes that a row takes in a segment, rather more than less.
fn file_bytes((block, row): &Row) -> u64 {
    /// Of a value of the vector: the value and its codes.
    const PER_VALUE: usize = 6;
    /// Of a row: neighbours, the places of its id, its position, and what filters need to find it.
    const PER_ROW: usize = 256;
    let row = *row as usize;
    let text = block.text(row).map_or(0, str::len);
    let strings = block.id(row).len() + 2 * block.metadata(row).len() + text;
    (PER_VALUE * block.vector(row).len() + PER_ROW + strings) as u64
}

async fn build(context: &Context, manifest: &Manifest, rows: Vec<Row>) -> Result<Bytes> {
    let vector = manifest.settings.vector();
    let (dimensions, metric) = (vector.dimensions as usize, vector.metric);
    let params = context.upkeep.index;
    let loses_texts = context.env.defects.has(Defect::IndexLosesTexts);
    let build = move || {
        let mut builder = SegmentBuilder::new(dimensions, metric);
        for (block, row) in &rows {
            let row = *row as usize;
            builder.push(
                block.id(row),
                block.written(row),
                block.vector(row),
                block.metadata(row),
                block.text(row).filter(|_| !loses_texts),
            )?;
        }
        builder.finish(params, Threads::Pool)
    };
    context.env.background.run(build).await?
}

/// Names the records of a pass whose metadata nobody can read, in place of those known so far that it has
/// written anew or deleted.
fn tell_unreadable(
    collection: &Collection,
    touched: &BTreeSet<&str>,
    unreadable: Vec<(String, Seq)>,
) {
    let damage = collection.damage();
    damage.retain(|known| known.kind != DamageKind::Record || !touched.contains(&*known.place));
    for (id, written) in unreadable {
        damage.report(Damage::new(DamageKind::Record, id, Some(written), UNREADABLE));
    }
}

/// The records of a tail whose metadata nobody can read.
fn unreadable(tail: &View) -> Vec<(String, Seq)> {
    let mut found = Vec::new();
    for block in tail.blocks() {
        for row in (0..block.rows()).filter(|row| tail.shows(block, *row)) {
            let metadata = block.metadata(row);
            if !metadata.is_empty() && !json::is_object(metadata) {
                found.push((block.id(row).to_owned(), block.written(row)));
            }
        }
    }
    found
}

/// How an indexing pass changes the manifest.
struct IndexPass<'a> {
    tail: &'a View,
    added: Vec<NewSegment>,
    opened: Vec<Partition>,
    ids: Arc<[Sought]>,
}

#[async_trait]
impl Commit for IndexPass<'_> {
    fn still_fits(&self, context: &Context, before: &Manifest, current: &Manifest) -> bool {
        let same = |segment: &NewSegment| {
            let place = |manifest: &Manifest| {
                let at = manifest.partition(segment.partition);
                at.map(|at| (manifest.partitions[at].group.clone(), manifest.partitions[at].hashes))
            };
            place(before) == place(current)
        };
        let base = current.wal_indexed == self.tail.base;
        (base || context.env.defects.has(Defect::SameRange)) && self.added.iter().all(same)
    }

    async fn dead(&self, context: &Context, set: &Arc<SegmentSet>) -> Result<Deletions> {
        let pool = &context.env.background;
        let mut dead = Deletions::default();
        if context.env.defects.has(Defect::IndexKillsNothing) {
            return Ok(dead);
        }
        let places = context.shelf.places(set, &self.ids, pool).await?;
        let all = context.env.defects.has(Defect::IndexWithoutLimit);
        for place in places.into_iter().flatten().filter(|place| place.within || all) {
            dead.insert(place.segment, place.row);
        }
        Ok(dead)
    }

    fn apply(&self, manifest: &mut Manifest) -> Result<()> {
        manifest.partitions.extend(self.opened.iter().cloned());
        for segment in &self.added {
            let at = manifest.partition(segment.partition);
            let at = at.ok_or_else(|| Error::internal("a partition went missing"))?;
            manifest.partitions[at].segments.push(segment.meta.clone());
        }
        manifest.wal_indexed = manifest.wal_indexed.max(self.tail.version);
        if manifest.wal_indexed == self.tail.version {
            manifest.indexed = self.tail.totals;
        }
        Ok(())
    }
}
