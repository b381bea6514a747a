//! Which segments are to be merged, and which partitions are to be split?
//!
//! Size-tiered: segments of about the same size are merged, so that a row is written again once for
//! each time its segment has grown by [`UpkeepLimits::compaction_fanout`]. When nothing has changed for
//! a while, fewer segments are enough: searches are faster over few, and the machine has nothing else
//! to do.

use crate::base::ids::Ulid;
use crate::engine::context::UpkeepLimits;
use crate::manifest::{Manifest, Partition, SegmentMeta};
use crate::partition::HashRange;

/// Smaller segments count as if they had so many rows: they are merged without much ado.
const ROWS_MIN: u64 = 4_096;
/// How many times as large as all smaller ones together a segment may be to be merged with them, in
/// a quiet time.
const QUIET_RATIO: u64 = 4;

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Job {
    /// Make one segment of several, or one anew without its dead rows.
    Merge {
        /// The number of their partition.
        partition: u32,
        /// The segments.
        segments: Vec<Ulid>,
    },
    /// Give a partition's records to new ones.
    Split {
        /// Its number.
        partition: u32,
        /// The ranges of the new ones.
        ranges: Vec<HashRange>,
    },
}

/// What is to be done next, if anything. `quiet`: nothing has changed for a while.
pub(super) fn job(manifest: &Manifest, limits: &UpkeepLimits, quiet: bool) -> Option<Job> {
    manifest.partitions.iter().find_map(|partition| {
        split(partition, limits)
            .or_else(|| merge(partition, limits, quiet))
            .or_else(|| clean(partition, limits))
    })
}

fn split(partition: &Partition, limits: &UpkeepLimits) -> Option<Job> {
    let (left, right) = partition.hashes.halves()?;
    (partition.live() > limits.partition_max_vectors)
        .then(|| Job::Split { partition: partition.number, ranges: vec![left, right] })
}

/// The longest run of segments, in the order of their sizes, none of which is much larger than those
/// before it together.
fn merge(partition: &Partition, limits: &UpkeepLimits, quiet: bool) -> Option<Job> {
    let (ratio, least) = if quiet { (QUIET_RATIO, 2) } else { (1, limits.compaction_fanout) };
    let mut segments: Vec<&SegmentMeta> = partition.segments.iter().collect();
    segments.sort_by_key(|segment| (segment.live(), segment.id));
    let size = |segment: &SegmentMeta| segment.live().max(ROWS_MIN);
    let run = |start: usize| {
        let mut sum = size(segments[start]);
        let rest = segments[start + 1..].iter();
        let taken = rest.take_while(|segment| {
            let fits = size(segment) <= ratio * sum;
            sum += size(segment);
            fits
        });
        1 + taken.count()
    };
    let runs = (0..segments.len()).map(|start| (run(start), start));
    let (length, start) =
        runs.max_by_key(|(length, start)| (*length, std::cmp::Reverse(*start)))?;
    let chosen = segments[start..start + length].iter().map(|segment| segment.id);
    (length >= least)
        .then(|| Job::Merge { partition: partition.number, segments: chosen.collect() })
}

/// The segment with the largest share of dead rows, where that is too large.
fn clean(partition: &Partition, limits: &UpkeepLimits) -> Option<Job> {
    let share = |segment: &SegmentMeta| f64::from(segment.dead) / f64::from(segment.rows.max(1));
    let worst = partition.segments.iter().max_by(|a, b| share(a).total_cmp(&share(b)))?;
    (share(worst) >= limits.compaction_dead_share)
        .then(|| Job::Merge { partition: partition.number, segments: vec![worst.id] })
}
