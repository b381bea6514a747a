//! What people ask for: everything is indexed, compacted or split now.
//!
//! It takes its turn as the tasks in the background do, so that the same work is not done twice; but it
//! waits for that only so long, because the commit is what keeps it right.

use super::compact;
use super::plan::Job;
use super::turns::in_turn;
use super::{Passed, Task, index};
use crate::base::ids::Ulid;
use crate::base::{Code, Error, Result};
use crate::engine::collection::Collection;
use crate::engine::context::Context;
use crate::engine::model::Consistency;
use crate::manifest::{Manifest, Partition, SegmentMeta};
use crate::partition::HashRange;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How long to wait for segments on their way into memory.
const PAUSE: Duration = Duration::from_millis(20);
/// How often in a row others may be first before it is given up.
const LOST_MAX: u32 = 64;

/// Indexes all that was in the log when it was called; the partitions that have new segments since then.
pub async fn index_all(context: &Context, collection: &Collection) -> Result<BTreeSet<u32>> {
    let wanted = collection.snapshot(Consistency::Strong, Duration::ZERO).await?.version();
    let start = collection.view().look_now().await?.manifest;
    if start.wal_indexed >= wanted {
        return Ok(BTreeSet::new());
    }
    let before = start.names();
    let grown = |manifest: &Manifest| {
        let partitions = manifest.partitions.iter();
        let grown = partitions.filter(|partition| {
            partition.segments.iter().any(|segment| !before.contains(&segment.id))
        });
        grown.map(|partition| partition.number).collect()
    };
    let work = async {
        let mut lost = Lost::default();
        loop {
            let manifest = collection.view().look_now().await?.manifest;
            if manifest.wal_indexed >= wanted {
                return Ok(grown(&manifest));
            }
            let snapshot = collection.snapshot(Consistency::Strong, Duration::ZERO).await?;
            // Newer segments may be on their way into memory, under the tail.
            if snapshot.tail.base == manifest.wal_indexed {
                lost.count(index::pass(context, collection, snapshot).await?)?;
            } else {
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    in_turn(context, collection, Task::Index, work).await
}

/// Merges the segments that each partition has now into one, or into as few as the memory of this instance can merge
/// and one object can hold; which partitions those were. Segments that are made meanwhile are left out, or it would
/// never end in a collection that is written to all the time.
pub async fn compact_all(context: &Context, collection: &Collection) -> Result<BTreeSet<u32>> {
    let start = collection.view().look_now().await?.manifest;
    let names = start.names();
    let bytes_max = context.room.bytes_max().min(context.upkeep.segment_max_bytes);
    let job = |partition: &Partition| {
        let segments = partition.segments.iter();
        let old: Vec<&SegmentMeta> =
            segments.filter(|segment| segment.written.1 <= start.wal_indexed).collect();
        let dirty = |segment: &SegmentMeta| segment.dead > 0 && names.contains(&segment.id);
        let segments = mergeable(old, bytes_max, dirty);
        (!segments.is_empty()).then_some(Job::Merge { partition: partition.number, segments })
    };
    repeated(context, collection, job).await
}

/// Those of some segments that are to be merged, of `bytes_max` at most: all, or else the smallest, or else one that
/// is `dirty`.
fn mergeable(
    mut segments: Vec<&SegmentMeta>,
    bytes_max: u64,
    dirty: impl Fn(&SegmentMeta) -> bool,
) -> Vec<Ulid> {
    if segments.iter().map(|segment| segment.bytes).sum::<u64>() > bytes_max {
        segments.sort_by_key(|segment| (segment.bytes, segment.id));
        let mut bytes = 0;
        let fitting = segments.iter().take_while(|segment| {
            bytes += segment.bytes;
            bytes <= bytes_max
        });
        let count = fitting.count();
        if count < 2 {
            segments.retain(|segment| dirty(segment) && segment.bytes <= bytes_max);
        }
        segments.truncate(count.max(1));
    }
    if let [alone] = &segments[..]
        && !dirty(alone)
    {
        segments.clear();
    }
    segments.iter().map(|segment| segment.id).collect()
}

/// Splits the records of the group `""` evenly among `count` partitions, which are to be more than there
/// are; how many were split.
pub async fn reshard(context: &Context, collection: &Collection, count: u32) -> Result<usize> {
    let wanted = HashRange::even(count);
    let job = |partition: &Partition| {
        let ranges = wanted.iter().filter_map(|range| range.common(&partition.hashes));
        let ranges: Vec<HashRange> = ranges.collect();
        let splits = partition.group.is_empty() && ranges.len() > 1;
        splits.then_some(Job::Split { partition: partition.number, ranges })
    };
    let manifest = collection.view().look_now().await?.manifest;
    let bytes = |partition| job(partition).map_or(0, |job| job.bytes(&manifest));
    let largest = manifest.partitions.iter().map(bytes).max().unwrap_or_default();
    if largest > context.room.bytes_max() && !context.room.splits_any() {
        return Err(too_large(largest, context.room.bytes_max()));
    }
    Ok(repeated(context, collection, job).await?.len())
}

/// Does the job of every partition that has one, until none has; which partitions those were.
async fn repeated(
    context: &Context,
    collection: &Collection,
    job: impl Fn(&Partition) -> Option<Job>,
) -> Result<BTreeSet<u32>> {
    let rows_max = context.upkeep.segment_max_rows as u64;
    let bytes_max = context.room.bytes_max();
    let first = collection.view().look_now().await?.manifest;
    if together(&first, rows_max, bytes_max, &job).is_empty() {
        return Ok(BTreeSet::new());
    }
    let work = async {
        let (mut done, mut lost) = (BTreeSet::new(), Lost::default());
        loop {
            let manifest = collection.view().look_now().await?.manifest;
            let jobs = together(&manifest, rows_max, bytes_max, &job);
            if jobs.is_empty() {
                return Ok(done);
            }
            let partitions: Vec<u32> = jobs.iter().map(Job::partition).collect();
            let passed = compact::run(context, collection, manifest, jobs).await?;
            lost.count(passed)?;
            if passed == Passed::Done {
                done.extend(partitions);
            }
        }
    };
    in_turn(context, collection, Task::Compact, work).await
}

/// The next jobs, one at least and no more than of `rows_max` rows and `bytes_max` bytes, to be committed together:
/// a manifest of thousands of partitions is large.
fn together(
    manifest: &Arc<Manifest>,
    rows_max: u64,
    bytes_max: u64,
    job: impl Fn(&Partition) -> Option<Job>,
) -> Vec<Job> {
    let (mut jobs, mut rows, mut bytes) = (Vec::new(), 0, 0_u64);
    for partition in &manifest.partitions {
        let Some(job) = job(partition) else { continue };
        rows += partition.live();
        bytes = bytes.saturating_add(job.bytes(manifest));
        if (rows > rows_max || bytes > bytes_max) && !jobs.is_empty() {
            break;
        }
        jobs.push(job);
    }
    jobs
}

/// Passes in a row that others were faster than.
#[derive(Default)]
struct Lost(u32);

impl Lost {
    fn count(&mut self, passed: Passed) -> Result<()> {
        self.0 = if passed == Passed::Lost { self.0 + 1 } else { 0 };
        if self.0 > LOST_MAX {
            let what = "other instances keep changing the collection's segments; try again later";
            return Err(Error::unavailable(what));
        }
        Ok(())
    }
}

/// The error for what no pass of this instance may take on.
fn too_large(bytes: u64, bytes_max: u64) -> Error {
    let message = format!(
        "the largest partition has {bytes} bytes, and this instance has memory to split one of {bytes_max}: ask one \
         with more memory, or stop this one and run brainy reshard --store where there is more"
    );
    Error::new(Code::ResourcesExhausted, message)
        .with("partitionBytes", bytes)
        .with("partitionBytesMax", bytes_max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Seq;

    #[test]
    fn what_is_merged_by_hand_fits_into_memory() {
        let segment = |(id, bytes, dead): (u128, u64, u32)| SegmentMeta {
            id: Ulid(id),
            rows: 10,
            dead,
            bytes,
            crc32c: 0,
            written: (Seq(1), Seq(1)),
            extra: Default::default(),
        };
        let merged = |segments: &[(u128, u64, u32)], most| {
            let segments: Vec<SegmentMeta> = segments.iter().copied().map(segment).collect();
            let merged = mergeable(segments.iter().collect(), most, |segment| segment.dead > 0);
            merged.iter().map(|id| id.0).collect::<Vec<_>>()
        };
        let four = [(1, 40, 0), (2, 10, 0), (3, 30, 1), (4, 20, 0)];
        assert_eq!(merged(&four, 100), [1, 2, 3, 4], "all fit");
        assert_eq!(merged(&four, 99), [2, 4, 3], "all but the largest");
        assert_eq!(merged(&four[..3], 35), [3], "no two fit, but one has dead rows");
        assert!(merged(&four[..3], 25).is_empty(), "nor does that one");
        assert!(merged(&four[..1], 100).is_empty(), "it is as it should be");
        assert_eq!(merged(&four[2..3], 100), [3]);
        assert!(merged(&[], 100).is_empty());
    }
}
