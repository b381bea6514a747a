//! The partitions of a collection, and what is in them.

use super::{Extra, HashRange, Manifest, Seq, Timestamp, Ulid};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A segment that is part of the collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentMeta {
    /// Its name.
    pub id: Ulid,
    /// Its rows, dead ones included.
    pub rows: u32,
    /// Rows that are dead.
    pub dead: u32,
    /// Bytes of its file.
    pub bytes: u64,
    /// CRC-32C of its file.
    pub crc32c: u32,
    /// The log positions of its oldest and its newest row.
    pub written: (Seq, Seq),
    /// What newer builds have written.
    #[serde(flatten)]
    pub extra: Extra,
}

impl SegmentMeta {
    /// Rows that are not dead.
    pub fn live(&self) -> u64 {
        u64::from(self.rows.saturating_sub(self.dead))
    }
}

/// An object that names dead rows of segments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletionsMeta {
    /// Its name.
    pub id: Ulid,
    /// Rows that it names.
    pub rows: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// What newer builds have written.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A range of the hashes of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Partition {
    /// Its number, which names its folder.
    pub number: u32,
    /// The group of ids, as the partitioner has it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Which hashes of ids are in it.
    pub hashes: HashRange,
    /// Its segments, oldest first.
    pub segments: Vec<SegmentMeta>,
    /// What newer builds have written.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Partition {
    /// One without segments.
    pub fn new(number: u32, group: impl Into<String>, hashes: HashRange) -> Partition {
        Partition { number, group: group.into(), hashes, segments: Vec::new(), extra: Extra::new() }
    }

    /// Rows that are not dead.
    pub fn live(&self) -> u64 {
        self.segments.iter().map(SegmentMeta::live).sum()
    }

    /// Bytes of its segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }
}

/// The partitions of a new collection.
pub(super) fn initial(count: u32) -> Vec<Partition> {
    let ranges = HashRange::even(count).into_iter().zip(0..);
    ranges.map(|(hashes, number)| Partition::new(number, "", hashes)).collect()
}

impl Manifest {
    /// Where the partition with this number is.
    pub fn partition(&self, number: u32) -> Option<usize> {
        self.partitions.iter().position(|partition| partition.number == number)
    }

    /// Where the partition of a group and a hash is; `None` for a group that has none yet.
    pub fn partition_of(&self, group: &str, hash: u64) -> Option<usize> {
        let is_in =
            |partition: &Partition| partition.group == group && partition.hashes.contains(hash);
        self.partitions.iter().position(is_in)
    }

    /// The number of the next partition.
    pub fn next_partition(&self) -> u32 {
        self.partitions.iter().map(|partition| partition.number + 1).max().unwrap_or_default()
    }

    /// All segments, each with its partition.
    pub fn segments(&self) -> impl Iterator<Item = (&Partition, &SegmentMeta)> {
        let partitions = self.partitions.iter();
        partitions
            .flat_map(|partition| partition.segments.iter().map(move |meta| (partition, meta)))
    }

    /// Rows that are not dead.
    pub fn live(&self) -> u64 {
        self.partitions.iter().map(Partition::live).sum()
    }

    /// The same without any segments.
    pub fn without_segments(&self) -> Manifest {
        let empty = |partition: &Partition| Partition { segments: Vec::new(), ..partition.clone() };
        Manifest {
            partitions: self.partitions.iter().map(empty).collect(),
            deletions: Vec::new(),
            ..self.clone()
        }
    }

    /// Whether segments, deletions and the position that they reach are those of `other`: then what
    /// was prepared for one may be committed to the other.
    pub fn same_segments(&self, other: &Manifest) -> bool {
        self.incarnation == other.incarnation
            && self.is_live() == other.is_live()
            && self.wal_indexed == other.wal_indexed
            && self.partitions == other.partitions
            && self.deletions == other.deletions
    }

    /// Whether an object with this id may become part of the collection; otherwise it may be deleted
    /// at any moment.
    pub fn may_name(&self, id: Ulid) -> bool {
        id.timestamp_ms() > self.swept_before.0
    }

    /// The time that a new object's id is to have, at `now` by the clock of whoever makes it.
    pub fn time_of_names(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.max(self.swept_before.0 + 1))
    }

    /// The ids of all objects that are part of the collection.
    pub fn names(&self) -> BTreeSet<Ulid> {
        let segments = self.segments().map(|(_, segment)| segment.id);
        segments.chain(self.deletions.iter().map(|deletions| deletions.id)).collect()
    }
}

/// What is wrong with partitions, if anything.
pub(super) fn fault(partitions: &[Partition], deletions: &[DeletionsMeta]) -> Option<String> {
    let mut groups: BTreeMap<&str, Vec<HashRange>> = BTreeMap::new();
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    for partition in partitions {
        groups.entry(&partition.group).or_default().push(partition.hashes);
        if !numbers.insert(partition.number) {
            return Some(format!("has partition {} twice", partition.number));
        }
        for segment in &partition.segments {
            if !names.insert(segment.id) || segment.dead > segment.rows {
                return Some(format!("names segment {} twice or with too many dead", segment.id));
            }
        }
    }
    if let Some(twice) = deletions.iter().find(|deletions| !names.insert(deletions.id)) {
        return Some(format!("names {} twice", twice.id));
    }
    for (group, mut ranges) in groups {
        ranges.sort_unstable_by_key(|range| range.first);
        let whole = ranges[0].first == 0 && ranges[ranges.len() - 1].last == u64::MAX;
        let seamless =
            ranges.windows(2).all(|pair| pair[0].last.checked_add(1) == Some(pair[1].first));
        if !(whole && seamless) {
            return Some(format!("has partitions of group {group:?} that do not cover all hashes"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_overlaps_and_names_that_come_twice_are_noticed() {
        let good = initial(3);
        assert_eq!(fault(&good, &[]), None);
        let mut gap = good.clone();
        gap[1].hashes.last -= 1;
        let mut overlap = good.clone();
        overlap[1].hashes.last += 1;
        let mut twice = good.clone();
        twice[2].number = 0;
        for bad in [gap, overlap, twice] {
            assert!(fault(&bad, &[]).is_some());
        }
        let deletions = DeletionsMeta { id: Ulid(1), rows: 1, bytes: 1, extra: Extra::new() };
        assert!(fault(&good, &[deletions.clone(), deletions]).is_some());
    }
}
