//! How much memory may indexing passes and compactions take together?
//!
//! What a pass takes follows from the bytes that it works on, so it says how many those are before it begins,
//! and waits until what others have under way leaves room for it. Guarantees:
//!
//! 1. Passes under way have at most the room of the instance, or are one that is larger than all of it: nothing
//!    waits for ever. A pass that is larger than it works on the disk, where there is one to work on, and takes less.
//! 2. First come, first served: a large one is not kept waiting by small ones.
//! 3. Merges and splits leave half of the room to indexing, for which clients wait, unless one alone needs more.
//! 4. A pass gives its room back when it ends, however it ends.

use crate::base::spill::Spill;
use crate::base::units::Units;
use tokio::sync::OwnedSemaphorePermit;

/// What a pass takes for each byte that it works on, beside that byte itself: the rows once more, an index with
/// what building it needs, and the file that is put (measured: `benches/memory.py`).
const TAKEN_PER_BYTE: u64 = 3;
/// Of so many bytes that a pass works on it takes one where its rows, its files and what it reads are on the disk: the
/// index with what building it needs (measured: `benches/merge_memory.py`).
const SPILLED_BYTES_PER_TAKEN: u64 = 2;
/// Bytes of inputs that are made into segments together, about, where there is room.
const GROUP_BYTES: u64 = 256 << 20;
/// The part of an instance's memory that its passes may take: the tails, what waits to be written, requests and
/// the program itself have the rest.
const PART: u64 = 2;
/// Of that, the part of passes that rewrite segments.
const REWRITING_PART: u64 = 2;
/// Room is counted in these units.
const UNIT_BYTES: u64 = 1 << 20;

/// The room of an instance. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Room {
    /// Of all passes, and of it the part of those that rewrite segments.
    units: Option<(Units, Units)>,
    spill: Spill,
}

/// Room to rewrite segments that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    /// Where the large buffers of the pass go.
    pub spill: Spill,
    /// Bytes of inputs that it may make into segments together.
    pub group_bytes: u64,
    _units: Option<[OwnedSemaphorePermit; 2]>,
}

impl Room {
    /// That of an instance that may use so much memory; without end where nobody says how much. Passes that are too
    /// large for it go where `spill` says.
    pub fn within(memory: Option<u64>, spill: Spill) -> Room {
        let units = |part| move |bytes| Units::new(bytes / part, UNIT_BYTES);
        let all = memory.map(units(PART));
        Room { units: all.zip(memory.map(units(PART * REWRITING_PART))), spill }
    }

    /// The most bytes that a merge may work on so that it has room.
    pub(super) fn bytes_max(&self) -> u64 {
        match &self.units {
            Some((_, units)) if self.spill.is_on_disk() => {
                units.total_bytes() * SPILLED_BYTES_PER_TAKEN
            }
            Some((_, units)) => units.total_bytes() / TAKEN_PER_BYTE,
            None => u64::MAX,
        }
    }

    /// Whether there is room to split what is larger than all of it: a part at a time.
    pub fn splits_any(&self) -> bool {
        self.units.is_none() || self.spill.is_on_disk()
    }

    /// Waits until there is room to index so many bytes of the tail, and takes it. Whoever has room already must not ask
    /// for more.
    pub(super) async fn take_to_index(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let (all, _) = self.units.as_ref()?;
        Some(all.take(bytes.saturating_mul(TAKEN_PER_BYTE)).await)
    }

    /// The same to merge or split segments of so many bytes.
    pub(super) async fn take_to_rewrite(&self, bytes: u64) -> Taken {
        let in_memory = Taken { spill: Spill::none(), group_bytes: GROUP_BYTES, _units: None };
        let Some((all, part)) = &self.units else { return in_memory };
        let mut taken = bytes.saturating_mul(TAKEN_PER_BYTE);
        let spills = taken > part.total_bytes() && self.spill.is_on_disk();
        if spills {
            taken = bytes / SPILLED_BYTES_PER_TAKEN;
        }
        let of_part = part.take(taken).await;
        // Without a disk one that is larger than its part takes what it needs, alone among its like.
        let _units = Some([of_part, all.take(taken).await]);
        match spills {
            true => {
                let group_bytes = GROUP_BYTES.min(part.total_bytes() / TAKEN_PER_BYTE);
                Taken { spill: self.spill.clone(), group_bytes, _units }
            }
            false => Taken { _units, ..in_memory },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    const MIB: u64 = 1 << 20;

    #[test]
    fn passes_wait_for_each_other_where_memory_is_short() {
        let room = Room::within(Some(512 * MIB), Spill::none());
        let index = room.take_to_index(50 * MIB).now_or_never().expect("the first has room");
        let small = room.take_to_index(20 * MIB).now_or_never().expect("there is room beside it");
        let mut merge = Box::pin(room.take_to_rewrite(40 * MIB));
        assert!(merge.as_mut().now_or_never().is_none(), "150 + 60 + 120 of 256 MiB");
        let mut late = Box::pin(room.take_to_index(MIB));
        assert!(late.as_mut().now_or_never().is_none(), "whoever is first in line is first");
        drop((index, small));
        let merge = merge.as_mut().now_or_never().expect("it has room now");
        assert!(late.as_mut().now_or_never().is_some());
        drop(merge);
    }

    #[test]
    fn indexing_does_not_wait_for_merges() {
        let room = Room::within(Some(512 * MIB), Spill::none());
        let _one = room.take_to_rewrite(30 * MIB).now_or_never().expect("90 of 128 MiB");
        assert!(room.take_to_rewrite(30 * MIB).now_or_never().is_none());
        assert!(room.take_to_index(42 * MIB).now_or_never().is_some(), "a full tail: 1/12 of all");
    }

    #[test]
    fn what_is_larger_than_all_of_it_works_alone() {
        let room = Room::within(Some(64 * MIB), Spill::none());
        let all = room.take_to_rewrite(10 << 30).now_or_never().expect("it waits for nobody");
        let mut other = Box::pin(room.take_to_index(1));
        assert!(other.as_mut().now_or_never().is_none());
        drop(all);
        assert!(other.as_mut().now_or_never().is_some());
    }

    #[test]
    fn what_is_too_large_for_memory_works_on_the_disk() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let spill = Spill::to(folder.path().to_str());
        let room = Room::within(Some(512 * MIB), spill.clone());
        if !spill.is_on_disk() {
            return assert_eq!(room.bytes_max(), 128 * MIB / 3, "the repository is in memory");
        }
        assert_eq!(room.bytes_max(), 256 * MIB);
        let small = room.take_to_rewrite(20 * MIB).now_or_never().unwrap();
        assert!(!small.spill.is_on_disk());
        let large = room.take_to_rewrite(100 * MIB).now_or_never().expect("60 + 50 of 128 MiB");
        assert!(large.spill.is_on_disk() && large.group_bytes < 50 * MIB);
        assert!(room.take_to_rewrite(20 * MIB).now_or_never().is_none());
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let room = Room::within(None, Spill::none());
        let _index = room.take_to_index(u64::MAX).now_or_never().expect("no limit");
        let _merge = room.take_to_rewrite(u64::MAX).now_or_never().expect("no limit");
    }
}
