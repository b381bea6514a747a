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
use std::time::Duration;

/// Smaller segments count as if they had so many rows: they are merged without much ado.
const ROWS_MIN: u64 = 4_096;
/// How many times as large as all smaller ones together a segment may be to be merged with them, in
/// a quiet time.
const QUIET_RATIO: u64 = 4;

/// How many times as many segments as otherwise are left to be merged while indexing is behind: a search
/// of so many is slower, but still quick.
const BEHIND_FANOUTS: usize = 4;
/// Most partitions that one becomes at a time.
const PARTS_MAX: u64 = 64;
/// So many times the bytes that are worth a pass are far behind.
const FAR_BEHIND: u64 = 8;
/// How many times as large as otherwise a partition may become while indexing is behind: what is imported at once is
/// split once.
const BEHIND_TIMES: u64 = 8;
/// Segments that are merged at a time, at most, unless more are waited for.
const INPUTS_MAX: usize = 64;

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

impl Job {
    /// The number of the partition that it is about.
    pub(super) fn partition(&self) -> u32 {
        match self {
            Job::Merge { partition, .. } | Job::Split { partition, .. } => *partition,
        }
    }

    /// Bytes of the segments that it reads.
    pub(super) fn bytes(&self, manifest: &Manifest) -> u64 {
        let Some(at) = manifest.partition(self.partition()) else { return 0 };
        let is_read = |segment: &&SegmentMeta| match self {
            Job::Merge { segments, .. } => segments.contains(&segment.id),
            Job::Split { .. } => true,
        };
        manifest.partitions[at].segments.iter().filter(is_read).map(|segment| segment.bytes).sum()
    }
}

/// What is going on in a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// More is written than is indexed: what is merged now delays that, and is merged again soon.
    Behind,
    /// Nothing special.
    Steady,
    /// Nothing has changed for a while.
    Quiet,
}

impl Pace {
    /// Of a collection of which so many bytes are not indexed, which was far behind so long ago, if ever, and which has not
    /// changed for some time.
    pub(super) fn of(
        unindexed: u64,
        far_behind: Option<Duration>,
        unchanged: Duration,
        limits: &UpkeepLimits,
    ) -> Pace {
        // When a long pass ends, those who waited for it write on at once; and while it is under way nothing changes,
        // and yet it is not quiet.
        if unindexed >= limits.index_after_bytes
            || far_behind.is_some_and(|since| since < limits.index_after)
        {
            Pace::Behind
        } else if unchanged >= 2 * limits.index_after {
            Pace::Quiet
        } else {
            Pace::Steady
        }
    }

    /// Whether so many bytes are far more than are worth a pass.
    pub(super) fn is_far_behind(unindexed: u64, limits: &UpkeepLimits) -> bool {
        unindexed >= limits.index_after_bytes.saturating_mul(FAR_BEHIND)
    }
}

/// What is to be done next, if anything.
pub(super) fn job(manifest: &Manifest, limits: &UpkeepLimits, pace: Pace) -> Option<Job> {
    manifest.partitions.iter().find_map(|partition| {
        split(partition, limits, pace)
            .or_else(|| merge(partition, limits, pace))
            .or_else(|| clean(partition, limits))
    })
}

fn split(partition: &Partition, limits: &UpkeepLimits, pace: Pace) -> Option<Job> {
    let bytes: u64 = partition.segments.iter().map(|segment| segment.bytes).sum();
    // How many times as large as it may be, rounded up.
    let times = partition
        .live()
        .div_ceil(limits.partition_max_vectors.max(1))
        .max(bytes.div_ceil(limits.segment_bytes().max(1)));
    let is_large = times > if pace == Pace::Behind { BEHIND_TIMES } else { 1 };
    // Without a disk its segments are read a few at a time, but what is made of them waits in memory until all is.
    let has_room = limits.splits_any || bytes <= limits.compaction_bytes.saturating_mul(2);
    if !is_large || !has_room {
        return None;
    }
    let ranges = parts(partition.hashes, times);
    (ranges.len() > 1).then_some(Job::Split { partition: partition.number, ranges })
}

/// The parts of a range, halved until there are two at least, and `wanted` or [`PARTS_MAX`].
fn parts(range: HashRange, wanted: u64) -> Vec<HashRange> {
    let mut parts = vec![range];
    while parts.len() < 2 || (parts.len() as u64) < wanted.min(PARTS_MAX) {
        let halves = parts.iter().map(HashRange::halves);
        let Some(halves) = halves.collect::<Option<Vec<_>>>() else { break };
        parts = halves.into_iter().flat_map(|(left, right)| [left, right]).collect();
    }
    parts
}

/// The longest run of segments, in the order of their sizes, none of which is much larger than those
/// before it together.
fn merge(partition: &Partition, limits: &UpkeepLimits, pace: Pace) -> Option<Job> {
    let (ratio, least) = match pace {
        Pace::Behind => (1, BEHIND_FANOUTS * limits.compaction_fanout),
        Pace::Steady => (1, limits.compaction_fanout),
        Pace::Quiet => (QUIET_RATIO, 2),
    };
    let mut segments: Vec<&SegmentMeta> = partition.segments.iter().collect();
    segments.sort_by_key(|segment| (segment.live(), segment.id));
    let size = |segment: &SegmentMeta| segment.live().max(ROWS_MIN);
    let run = |start: usize| {
        let mut sum = size(segments[start]);
        let mut bytes = segments[start].bytes;
        let rest = segments[start + 1..].iter();
        let taken = rest.take_while(|segment| {
            bytes = bytes.saturating_add(segment.bytes);
            let fits = size(segment) <= ratio * sum && bytes <= limits.segment_bytes();
            sum += size(segment);
            fits
        });
        (1 + taken.count()).min(INPUTS_MAX.max(least))
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
    (share(worst) >= limits.compaction_dead_share && worst.bytes <= limits.compaction_bytes)
        .then(|| Job::Merge { partition: partition.number, segments: vec![worst.id] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Seq;
    use crate::base::settings::Settings;

    /// A partition of segments of so many live and dead rows.
    fn partition(rows: &[(u32, u32)]) -> Partition {
        let mut partition = Partition::new(3, "", HashRange::ALL);
        partition.segments = (1..)
            .zip(rows)
            .map(|(id, &(live, dead))| SegmentMeta {
                id: Ulid(id),
                rows: live + dead,
                dead,
                bytes: 1,
                crc32c: 0,
                written: (Seq(1), Seq(1)),
                extra: Default::default(),
            })
            .collect();
        partition
    }

    fn merged(rows: &[(u32, u32)], pace: Pace) -> Vec<u128> {
        let limits = UpkeepLimits::new(&Settings::default());
        match merge(&partition(rows), &limits, pace) {
            Some(Job::Merge { partition: 3, segments }) => segments.iter().map(|id| id.0).collect(),
            Some(other) => panic!("{other:?}"),
            None => Vec::new(),
        }
    }

    #[test]
    fn what_does_not_fit_into_memory_is_not_merged() {
        let ten = partition(&[(5_000, 3_000); 10]);
        let limits = |bytes| UpkeepLimits {
            compaction_bytes: bytes,
            segment_max_bytes: bytes,
            compaction_fanout: 4,
            partition_max_vectors: 1_000_000,
            ..UpkeepLimits::new(&Settings::default())
        };
        // A segment of these has one byte.
        let Some(Job::Merge { segments, .. }) = merge(&ten, &limits(6), Pace::Steady) else {
            panic!("six fit")
        };
        assert_eq!(segments.len(), 6);
        assert_eq!(merge(&ten, &limits(3), Pace::Steady), None);
        assert!(
            split(&ten, &limits(5), Pace::Steady).is_some()
                && split(&ten, &limits(4), Pace::Steady).is_none()
        );
        // On a disk there is room for what an instance with more memory has made.
        let large = UpkeepLimits { splits_any: true, ..limits(2) };
        let Some(Job::Split { ranges, .. }) = split(&ten, &large, Pace::Steady) else {
            panic!("ten bytes")
        };
        assert_eq!(ranges.len(), 8, "of at most two bytes each");
        assert_eq!((ranges[0].first, ranges[7].last), (HashRange::ALL.first, HashRange::ALL.last));
        assert!(ranges.windows(2).all(|two| two[0].last + 1 == two[1].first));
        assert_eq!(parts(HashRange::ALL, 1 << 40).len() as u64, PARTS_MAX);
        assert!(clean(&ten, &limits(1)).is_some() && clean(&ten, &limits(0)).is_none());
    }

    #[test]
    fn a_partition_splits_before_a_segment_of_it_is_too_large_to_put() {
        let mut large = partition(&[(5_000, 0), (4_000, 0)]);
        large.segments[0].bytes = 3 << 30;
        large.segments[1].bytes = 2 << 30;
        let limits = UpkeepLimits::new(&Settings::default());
        assert!(merge(&large, &limits, Pace::Quiet).is_none(), "five GiB in one segment");
        let Some(Job::Split { partition: 3, ranges }) = split(&large, &limits, Pace::Steady) else {
            panic!("more than segment_max_bytes")
        };
        assert_eq!(ranges.len(), 2);
        large.segments[1].bytes = 1 << 30;
        assert_eq!(split(&large, &limits, Pace::Steady), None);
        assert!(merge(&large, &limits, Pace::Quiet).is_some());
    }

    #[test]
    fn a_pass_that_takes_long_is_no_quiet_time() {
        let limits = UpkeepLimits::new(&Settings::default());
        let (long, short) = (3 * limits.index_after, limits.index_after / 2);
        let much = FAR_BEHIND * limits.index_after_bytes;
        assert!(Pace::is_far_behind(much, &limits) && !Pace::is_far_behind(much - 1, &limits));
        assert_eq!(Pace::of(limits.index_after_bytes, None, long, &limits), Pace::Behind);
        assert_eq!(Pace::of(0, Some(short), long, &limits), Pace::Behind, "more is about to come");
        assert_eq!(Pace::of(0, Some(long), long, &limits), Pace::Quiet);
        assert_eq!(Pace::of(0, None, short, &limits), Pace::Steady);
    }

    #[test]
    fn what_is_imported_at_once_is_split_once() {
        let limits = UpkeepLimits::new(&Settings::default());
        let of = |segments: usize| partition(&vec![(250_000, 0); segments]);
        let parts = |segments, pace| match split(&of(segments), &limits, pace) {
            Some(Job::Split { ranges, .. }) => ranges.len(),
            _ => 1,
        };
        assert_eq!((parts(8, Pace::Steady), parts(9, Pace::Steady)), (1, 2));
        assert_eq!((parts(40, Pace::Behind), parts(40, Pace::Quiet)), (1, 8));
        assert_eq!(parts(65, Pace::Behind), 16);
    }

    #[test]
    fn segments_of_about_the_same_size_are_merged_when_there_are_enough() {
        let seven = [(5_000, 0); 7];
        assert!(merged(&seven, Pace::Steady).is_empty());
        assert_eq!(merged(&seven, Pace::Quiet).len(), 7);
        let mut eight = seven.to_vec();
        eight.insert(3, (100_000, 0));
        eight.push((5_000, 0));
        assert_eq!(merged(&eight, Pace::Steady), [1, 2, 3, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn while_indexing_is_behind_more_are_waited_for() {
        assert!(merged(&[(5_000, 0); 31], Pace::Behind).is_empty());
        assert_eq!(merged(&[(5_000, 0); 32], Pace::Behind).len(), 32);
        assert_eq!(merged(&[(5_000, 0); 200], Pace::Steady).len(), INPUTS_MAX);
    }

    #[test]
    fn a_segment_with_too_many_dead_rows_is_written_anew() {
        let limits = UpkeepLimits::new(&Settings::default());
        assert_eq!(clean(&partition(&[(100, 0), (90, 10)]), &limits), None);
        let job = clean(&partition(&[(100, 0), (60, 40), (70, 30)]), &limits);
        assert_eq!(job, Some(Job::Merge { partition: 3, segments: vec![Ulid(2)] }));
    }
}
