//! Segments are merged, partitions split.
//!
//! Both read the live rows of some segments and write them anew, into one segment or into one for each
//! new partition and old segment. Rows that die meanwhile, because an indexing pass is committed, are
//! found again in the outcome by their ids and die there.

use super::Passed;
use super::commit::{Commit, commit};
use super::objects::{NewSegment, Objects};
use super::plan::Job;
use crate::base::defect::Defect;
use crate::base::ids::{Ulid, record_hash};
use crate::base::{Error, Result};
use crate::engine::collection::Collection;
use crate::engine::context::Context;
use crate::engine::segments::{Member, Resident, SegmentSet};
use crate::index::Threads;
use crate::manifest::{Manifest, Partition, SegmentMeta};
use crate::partition::HashRange;
use crate::segment::Deletions;
use crate::segment::{Segment, SegmentBuilder};
use async_trait::async_trait;
use bytes::Bytes;
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::time::Instant;

/// Segments that are merged at a time, at most.
const INPUTS_MAX: usize = 64;

/// A segment whose rows are written anew.
struct Input {
    id: Ulid,
    resident: Arc<Resident>,
    /// The rows that were dead when it began.
    dead: RoaringBitmap,
}

/// A segment that was made.
struct Output {
    made: NewSegment,
    segment: Segment,
}

/// Does a job.
pub(super) async fn run(
    context: &Context,
    collection: &Collection,
    manifest: Arc<Manifest>,
    job: Job,
) -> Result<Passed> {
    let started = Instant::now();
    let partitioner = collection.partitioner().clone();
    let set = context.shelf.set(manifest.clone(), partitioner, None).await?;
    let mut objects = Objects::new(context, &manifest);
    let rewrite = match job {
        Job::Merge { partition, segments } => {
            let wanted = |member: &Member| segments.contains(&member.meta.id);
            let inputs = inputs(context, &set, wanted, INPUTS_MAX).await?;
            let file = merge(context, &manifest, &inputs, None).await?;
            let outputs = match file {
                Some(file) => vec![output(&mut objects, partition, file).await?],
                None => Vec::new(),
            };
            Rewrite { inputs, outputs, split: None }
        }
        Job::Split { partition, ranges } => {
            let split = Split::new(&manifest, partition, ranges)?;
            let wanted = |member: &Member| member.partition == partition;
            let inputs = inputs(context, &set, wanted, usize::MAX).await?;
            let mut files = Vec::new();
            for input in &inputs {
                for target in &split.targets {
                    let input = std::slice::from_ref(input);
                    let file = merge(context, &manifest, input, Some(target.hashes)).await?;
                    files.extend(file.map(|file| (target.number, file)));
                }
            }
            // Put when all are made: the collector takes what nothing names for a grace period.
            let mut outputs = Vec::with_capacity(files.len());
            for (partition, file) in files {
                outputs.push(output(&mut objects, partition, file).await?);
            }
            Rewrite { inputs, outputs, split: Some(split) }
        }
    };
    let rows: u64 = rewrite.outputs.iter().map(|output| u64::from(output.made.meta.rows)).sum();
    let passed = commit(context, collection, objects, manifest.clone(), &rewrite).await?;
    if passed == Passed::Done {
        let metrics = &context.env.metrics;
        metrics.compactions.inc();
        metrics.compaction_rows.inc_by(rows);
        tracing::info!(
            collection = %manifest.name, rows, inputs = rewrite.inputs.len(),
            outputs = rewrite.outputs.len(), split = rewrite.split.is_some(),
            took_ms = started.elapsed().as_millis() as u64, "segments compacted"
        );
    }
    Ok(passed)
}

async fn inputs(
    context: &Context,
    set: &SegmentSet,
    wanted: impl Fn(&Member) -> bool,
    most: usize,
) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for member in set.members().iter().filter(|member| wanted(member)).take(most) {
        let name = &set.manifest().name;
        let resident = context.shelf.segment(name, member.partition, &member.meta).await?;
        inputs.push(Input { id: member.meta.id, resident, dead: member.dead.clone() });
    }
    Ok(inputs)
}

/// One file of the live rows of all inputs whose ids have a hash in `hashes`; `None` without rows.
async fn merge(
    context: &Context,
    manifest: &Manifest,
    inputs: &[Input],
    hashes: Option<HashRange>,
) -> Result<Option<Bytes>> {
    let settings = &manifest.settings;
    let (dimensions, metric) = (settings.dimensions as usize, settings.metric);
    let params = context.upkeep.index;
    let inputs: Vec<(Arc<Resident>, RoaringBitmap)> =
        inputs.iter().map(|input| (input.resident.clone(), input.dead.clone())).collect();
    let merge = move || {
        let mut builder = SegmentBuilder::new(dimensions, metric);
        let mut whole = true;
        for (resident, dead) in &inputs {
            let segment = resident.segment();
            let before = builder.rows();
            builder.append(segment, |row, id| {
                !dead.contains(row) && hashes.is_none_or(|hashes| hashes.contains(record_hash(id)))
            })?;
            whole &= builder.rows() - before == segment.contents().rows as usize;
        }
        if builder.rows() == 0 {
            return Ok(None);
        }
        let file = if whole {
            let parts: Vec<_> = inputs.iter().map(|(part, _)| part.segment().index()).collect();
            builder.finish_merged(&parts, params, Threads::Pool)
        } else {
            builder.finish(params, Threads::Pool)
        };
        file.map(|file| Some(file.into()))
    };
    context.env.background.run(merge).await?
}

async fn output(objects: &mut Objects<'_>, partition: u32, file: Bytes) -> Result<Output> {
    let made = objects.segment(partition, file.clone()).await?;
    Ok(Output { made, segment: Segment::from_bytes(file)? })
}

/// A partition and those that take its place.
struct Split {
    from: Partition,
    targets: Vec<Partition>,
}

impl Split {
    fn new(manifest: &Manifest, number: u32, ranges: Vec<HashRange>) -> Result<Split> {
        let at = manifest.partition(number);
        let at = at.ok_or_else(|| Error::internal("a partition that is not there was to split"))?;
        let from = manifest.partitions[at].clone();
        let numbers = manifest.next_partition()..;
        let targets = ranges.into_iter().zip(numbers);
        let targets =
            targets.map(|(hashes, number)| Partition::new(number, from.group.clone(), hashes));
        Ok(Split { targets: targets.collect(), from })
    }
}

/// How a compaction changes the manifest.
struct Rewrite {
    inputs: Vec<Input>,
    outputs: Vec<Output>,
    split: Option<Split>,
}

impl Rewrite {
    fn is_input(&self, id: Ulid) -> bool {
        self.inputs.iter().any(|input| input.id == id)
    }
}

#[async_trait]
impl Commit for Rewrite {
    fn still_fits(&self, _: &Context, _: &Manifest, current: &Manifest) -> bool {
        let there: Vec<Ulid> = current.segments().map(|(_, segment)| segment.id).collect();
        let inputs = self.inputs.iter().all(|input| there.contains(&input.id));
        inputs
            && self.split.as_ref().is_none_or(|split| {
                // A new segment of the old partition would have to be split too.
                let at = current.partition(split.from.number);
                let taken = current.next_partition() > split.targets[0].number;
                at.is_some_and(|at| {
                    let now = &current.partitions[at];
                    now.segments.iter().all(|segment| self.is_input(segment.id))
                }) && !taken
            })
    }

    async fn dead(&self, context: &Context, set: &SegmentSet) -> Result<Deletions> {
        let mut dead = Deletions::default();
        if context.env.defects.has(Defect::DropDeletions) {
            return Ok(dead);
        }
        for input in &self.inputs {
            let now = set.members().iter().find(|member| member.meta.id == input.id);
            let now = now.map(|member| &member.dead - &input.dead).unwrap_or_default();
            for row in now {
                let id = input.resident.segment().id(row)?;
                for output in &self.outputs {
                    if let Some(row) = output.segment.find(id)? {
                        dead.insert(output.made.meta.id, row);
                    }
                }
            }
        }
        Ok(dead)
    }

    fn apply(&self, manifest: &mut Manifest) -> Result<()> {
        let gone = || Error::internal("a partition went missing");
        if let Some(split) = &self.split {
            let at = manifest.partition(split.from.number).ok_or_else(gone)?;
            manifest.partitions.splice(at..=at, split.targets.iter().cloned());
        }
        // Outputs take the place of the oldest of the inputs.
        let mut places: BTreeMap<u32, usize> = BTreeMap::new();
        for partition in &mut manifest.partitions {
            let place = partition.segments.iter().position(|segment| self.is_input(segment.id));
            places.insert(partition.number, place.unwrap_or(partition.segments.len()));
            partition.segments.retain(|segment| !self.is_input(segment.id));
        }
        for output in &self.outputs {
            let number = output.made.partition;
            let at = manifest.partition(number).ok_or_else(gone)?;
            let place = places.get_mut(&number).ok_or_else(gone)?;
            manifest.partitions[at].segments.insert(*place, output.made.meta.clone());
            *place += 1;
        }
        Ok(())
    }
}

/// Merges the segments that each partition has now into one, however large they are; how many partitions
/// that were. Segments that are made meanwhile are left out, or it would never end in a collection that
/// is written to all the time.
pub async fn compact_all(context: &Context, collection: &Collection) -> Result<usize> {
    let start = collection.view().look_now().await?.manifest;
    let names = start.names();
    let mut done = BTreeSet::new();
    loop {
        let manifest = collection.view().look_now().await?.manifest;
        let next = manifest.partitions.iter().find_map(|partition| {
            let segments = partition.segments.iter();
            let old: Vec<&SegmentMeta> =
                segments.filter(|segment| segment.written.1 <= start.wal_indexed).collect();
            let dirty = old.iter().any(|segment| segment.dead > 0 && names.contains(&segment.id));
            let segments = || old.iter().map(|segment| segment.id).collect();
            (old.len() > 1 || dirty).then(|| (partition.number, segments()))
        });
        let Some((partition, segments)) = next else { return Ok(done.len()) };
        let job = Job::Merge { partition, segments };
        if run(context, collection, manifest, job).await? == Passed::Done {
            done.insert(partition);
        }
    }
}

/// Splits the records of the group `""` evenly among `count` partitions, which are to be more than there
/// are.
pub async fn reshard(context: &Context, collection: &Collection, count: u32) -> Result<u64> {
    let mut done = 0;
    loop {
        let manifest = collection.view().look_now().await?.manifest;
        let wanted = HashRange::even(count);
        let job =
            manifest.partitions.iter().filter(|partition| partition.group.is_empty()).find_map(
                |partition| {
                    let inside: Vec<HashRange> =
                        wanted.iter().filter_map(|range| range.common(&partition.hashes)).collect();
                    (inside.len() > 1)
                        .then_some(Job::Split { partition: partition.number, ranges: inside })
                },
            );
        let Some(job) = job else { return Ok(done) };
        if run(context, collection, manifest, job).await? == Passed::Done {
            done += 1;
        }
    }
}
