//! Segments are merged, partitions split.
//!
//! Both read the live rows of some segments and write them anew, into one segment or into one for each
//! new partition. Rows that die meanwhile, because an indexing pass is committed, are found again in the
//! outcome by their ids and die there.

use super::Passed;
use super::commit::{Commit, commit};
use super::objects::{NewSegment, Objects};
use super::plan::Job;
use super::rewrite::{Input, Target, inputs, made};
use super::room::Taken;
use super::runs::runs;
use crate::base::defect::Defect;
use crate::base::ids::Ulid;
use crate::base::{Error, Result};
use crate::engine::collection::Collection;
use crate::engine::context::{Context, UpkeepLimits};
use crate::engine::reading::segments::{Member, Resident, SegmentSet};
use crate::manifest::{Manifest, Partition, SegmentMeta};
use crate::partition::HashRange;
use crate::segment::Deletions;
use crate::segment::Segment;
use async_trait::async_trait;
use bytes::Bytes;
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::time::Instant;

/// Does some jobs, of different partitions, and commits them together.
pub(super) async fn run(
    context: &Context,
    collection: &Collection,
    manifest: Arc<Manifest>,
    jobs: Vec<Job>,
) -> Result<Passed> {
    let bytes = jobs.iter().map(|job| job.bytes(&manifest)).sum();
    let room = context.room.take_to_rewrite(bytes).await;
    let started = Instant::now();
    let set = collection.segments_of(&manifest, None).await?;
    let mut rewrite = Rewrite::default();
    let mut files = Vec::new();
    let mut number = manifest.next_partition();
    for job in jobs {
        let (batches, targets) = match job {
            Job::Merge { partition, segments } => {
                (vec![segments], vec![Target { partition, hashes: HashRange::ALL }])
            }
            Job::Split { partition, ranges } => {
                let split = Split::new(&manifest, partition, ranges, number)?;
                number += split.targets.len() as u32;
                let targets = split.targets.iter();
                let target = |to: &Partition| Target { partition: to.number, hashes: to.hashes };
                let targets = targets.map(target).collect();
                let batches = batches(&split, &context.upkeep, &room);
                rewrite.splits.push(split);
                (batches, targets)
            }
        };
        for batch in batches {
            let wanted = |member: &Member| batch.contains(&member.meta.id);
            let inputs = inputs(context, &set, wanted, &room.spill).await?;
            files.extend(made(context, &manifest, &inputs, &targets, &room).await?);
            rewrite.take(inputs);
        }
    }
    let mut objects = Objects::new(context, &manifest);
    // Put when all are made: the collector takes what nothing names for a grace period.
    let put = objects.segments(files.clone()).await?;
    rewrite.outputs = put.into_iter().zip(files).map(|(made, (_, file))| (made, file)).collect();
    let rows: u64 = rewrite.outputs.iter().map(|(made, _)| u64::from(made.meta.rows)).sum();
    let passed = commit(context, collection, objects, manifest.clone(), &rewrite).await?;
    if passed == Passed::Done {
        let metrics = &context.env.metrics;
        metrics.compactions.inc();
        metrics.compaction_rows.inc_by(rows);
        tracing::info!(
            collection = %manifest.name, rows, inputs = rewrite.inputs.len(),
            outputs = rewrite.outputs.len(), splits = rewrite.splits.len(),
            took_ms = started.elapsed().as_millis() as u64, "segments compacted"
        );
    }
    Ok(passed)
}

/// The segments of a partition that splits, in batches that are made into segments one after another: all at once where
/// they fit into memory or are on the disk, and no more than what is made of them may hold.
fn batches(split: &Split, limits: &UpkeepLimits, room: &Taken) -> Vec<Vec<Ulid>> {
    let segments = &split.from.segments;
    let all: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let fit = if all > limits.compaction_bytes { 2 } else { 1 };
    let outputs = limits.segment_max_bytes.saturating_mul(split.targets.len() as u64);
    let most = match room.spill.is_on_disk() {
        true => outputs,
        false => outputs.min(limits.compaction_bytes / fit),
    };
    let bytes = |segment: &&SegmentMeta| segment.bytes;
    let runs = runs(segments, bytes, (most, usize::MAX)).into_iter();
    runs.map(|run| run.iter().map(|segment| segment.id).collect()).collect()
}

/// A partition and those that take its place.
struct Split {
    from: Partition,
    targets: Vec<Partition>,
}

impl Split {
    /// The new partitions are numbered from `next` on.
    fn new(manifest: &Manifest, number: u32, ranges: Vec<HashRange>, next: u32) -> Result<Split> {
        let at = manifest.partition(number);
        let at = at.ok_or_else(|| Error::internal("a partition that is not there was to split"))?;
        let from = manifest.partitions[at].clone();
        let targets = ranges.into_iter().zip(next..);
        let targets =
            targets.map(|(hashes, number)| Partition::new(number, from.group.clone(), hashes));
        Ok(Split { targets: targets.collect(), from })
    }
}

/// How a compaction changes the manifest.
#[derive(Default)]
struct Rewrite {
    inputs: Vec<Input>,
    ids: BTreeSet<Ulid>,
    outputs: Vec<(NewSegment, Bytes)>,
    splits: Vec<Split>,
}

impl Rewrite {
    fn take(&mut self, inputs: Vec<Input>) {
        self.ids.extend(inputs.iter().map(|input| input.id));
        self.inputs.extend(inputs);
    }
}

#[async_trait]
impl Commit for Rewrite {
    fn still_fits(&self, _: &Context, _: &Manifest, current: &Manifest) -> bool {
        let there: BTreeSet<Ulid> = current.segments().map(|(_, segment)| segment.id).collect();
        let first = self.splits.first().and_then(|split| split.targets.first());
        let taken = first.is_some_and(|first| current.next_partition() > first.number);
        let whole = |split: &Split| {
            // A new segment of the old partition would have to be split too.
            current.partition(split.from.number).is_some_and(|at| {
                let mut segments = current.partitions[at].segments.iter();
                segments.all(|segment| self.ids.contains(&segment.id))
            })
        };
        self.ids.is_subset(&there) && !taken && self.splits.iter().all(whole)
    }

    async fn dead(&self, context: &Context, set: &Arc<SegmentSet>) -> Result<Deletions> {
        if context.env.defects.has(Defect::DropDeletions) {
            return Ok(Deletions::default());
        }
        let now: BTreeMap<Ulid, &RoaringBitmap> =
            set.members().iter().map(|member| (member.meta.id, &member.dead)).collect();
        let newly = self.inputs.iter().filter_map(|Input { id, resident, dead }| {
            let newly = *now.get(id)? - dead;
            (!newly.is_empty()).then(|| (resident.clone(), newly))
        });
        let newly: Vec<(Arc<Resident>, RoaringBitmap)> = newly.collect();
        if newly.is_empty() {
            return Ok(Deletions::default());
        }
        let outputs = self.outputs.iter().map(|(made, file)| (made.meta.id, file.clone()));
        let outputs: Vec<(Ulid, Bytes)> = outputs.collect();
        context.env.background.run(move || found_again(&newly, outputs)).await?
    }

    fn apply(&self, manifest: &mut Manifest) -> Result<()> {
        let gone = || Error::internal("a partition went missing");
        for split in &self.splits {
            let at = manifest.partition(split.from.number).ok_or_else(gone)?;
            manifest.partitions.splice(at..=at, split.targets.iter().cloned());
        }
        // Outputs take the place of the oldest of the inputs.
        let mut places: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
        for (at, partition) in manifest.partitions.iter_mut().enumerate() {
            let is_input = |id| self.ids.contains(&id);
            let place = partition.segments.iter().position(|segment| is_input(segment.id));
            let place = place.unwrap_or(partition.segments.len());
            places.insert(partition.number, (at, place));
            partition.segments.retain(|segment| !is_input(segment.id));
        }
        for (output, _) in &self.outputs {
            let (at, place) = places.get_mut(&output.partition).ok_or_else(gone)?;
            manifest.partitions[*at].segments.insert(*place, output.meta.clone());
            *place += 1;
        }
        Ok(())
    }
}

/// The rows of `outputs` with the ids of some rows of other segments.
fn found_again(
    rows: &[(Arc<Resident>, RoaringBitmap)],
    outputs: Vec<(Ulid, Bytes)>,
) -> Result<Deletions> {
    let mut found = Deletions::default();
    for (name, file) in outputs {
        let output = Segment::from_bytes(file)?;
        for (resident, rows) in rows {
            for row in rows {
                if let Some(row) = output.find(resident.segment().id(row)?)? {
                    found.insert(name, row);
                }
            }
        }
    }
    Ok(found)
}
