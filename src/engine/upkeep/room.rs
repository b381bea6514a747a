//! How much memory may indexing passes and compactions take together?
//!
//! What a pass takes follows from the bytes that it works on, so it says how many those are before it begins,
//! and waits until what others have under way leaves room for it. Guarantees:
//!
//! 1. Passes under way have at most the room of the instance, or are one that is larger than all of it: nothing
//!    waits for ever.
//! 2. First come, first served: a large one is not kept waiting by small ones.
//! 3. A pass gives its room back when it ends, however it ends.

use crate::base::units::Units;
use tokio::sync::OwnedSemaphorePermit;

/// What a pass takes for each byte that it works on, beside that byte itself: the rows once more, an index with
/// what building it needs, and the file that is put (measured: `benches/memory.py`).
const TAKEN_PER_BYTE: u64 = 3;
/// The part of an instance's memory that its passes may take: the tails, what waits to be written, requests and
/// the program itself have the rest.
const PART: u64 = 2;
/// Room is counted in these units.
const UNIT_BYTES: u64 = 1 << 20;

/// The room of an instance. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Room(Option<Units>);

/// Room that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Taken(#[expect(dead_code, reason = "it is kept")] Option<OwnedSemaphorePermit>);

impl Room {
    /// That of an instance that may use so much memory; without end where nobody says how much.
    pub fn within(memory: Option<u64>) -> Room {
        Room(memory.map(|bytes| Units::new(bytes / PART, UNIT_BYTES)))
    }

    /// The most bytes that a pass may work on so that it has room.
    pub(super) fn bytes_max(&self) -> u64 {
        self.0.as_ref().map_or(u64::MAX, |units| units.total_bytes() / TAKEN_PER_BYTE)
    }

    /// Waits until there is room for a pass over so many bytes, and takes it. Whoever has room already must not ask
    /// for more.
    pub(super) async fn take(&self, bytes: u64) -> Taken {
        match &self.0 {
            Some(units) => Taken(Some(units.take(bytes.saturating_mul(TAKEN_PER_BYTE)).await)),
            None => Taken(None),
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
        let room = Room::within(Some(512 * MIB));
        let index = room.take(50 * MIB).now_or_never().expect("the first has room");
        let small = room.take(20 * MIB).now_or_never().expect("there is room beside it");
        let mut merge = Box::pin(room.take(64 * MIB));
        assert!(merge.as_mut().now_or_never().is_none(), "150 + 60 + 192 of 256 MiB");
        let mut late = Box::pin(room.take(MIB));
        assert!(late.as_mut().now_or_never().is_none(), "whoever is first in line is first");
        drop((index, small));
        let merge = merge.as_mut().now_or_never().expect("it has room now");
        assert!(late.as_mut().now_or_never().is_some());
        drop(merge);
    }

    #[test]
    fn what_is_larger_than_all_of_it_works_alone() {
        let room = Room::within(Some(64 * MIB));
        let all = room.take(10 << 30).now_or_never().expect("it waits for nobody");
        let mut other = Box::pin(room.take(1));
        assert!(other.as_mut().now_or_never().is_none());
        drop(all);
        assert!(other.as_mut().now_or_never().is_some());
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let room = Room::within(None);
        let _all = [room.take(u64::MAX).now_or_never(), room.take(u64::MAX).now_or_never()]
            .map(|taken| taken.expect("no limit"));
    }
}
