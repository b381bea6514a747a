//! The segments below the tail, as this instance serves them.
//!
//! A [`Shelf`] brings segments into memory, each once, and keeps them within a budget of bytes. A
//! [`SegmentSet`] says which segments one version of the manifest has and which of their rows are
//! dead; an [`OpenSet`] is one whose segments are at hand. Sets never change: whoever has one keeps
//! seeing what it shows.

mod places;
mod set;
mod shelf;

pub use places::{RowPlace, Sought};
pub use set::{Member, OpenSet, SegmentSet};
pub use shelf::Shelf;

use crate::base::Result;
use crate::cache::{Recent, Weighed};
use crate::segment::Segment;
use crate::segment::records::RecordBlock;
use std::sync::{Arc, OnceLock};

/// Of the bytes of a segment this share, one in so many, may go to blocks of records that were
/// decompressed lately: what is asked for often is not decompressed each time.
const RECORDS_SHARE: usize = 32;

/// A segment in memory.
#[derive(Debug)]
pub struct Resident {
    segment: Segment,
    by_id: OnceLock<Vec<u32>>,
    /// By their first rows.
    records: Recent<u32, RecordBlock>,
    /// Whether the machine can take back the memory of its file at any time.
    mapped: bool,
}

impl Resident {
    fn new(segment: Segment, mapped: bool) -> Resident {
        let records = Recent::new(segment.bytes() / RECORDS_SHARE);
        Resident { segment, by_id: OnceLock::new(), records, mapped }
    }

    /// The block that has the metadata and the text of a row, and of others near it.
    pub fn records(&self, row: u32) -> Result<Arc<RecordBlock>> {
        let start = self.segment.records_start(row)?;
        if let Some(known) = self.records.get(&start) {
            return Ok(known);
        }
        let block = Arc::new(self.segment.records(row)?);
        self.records.put(start, block.clone(), block.bytes());
        Ok(block)
    }

    /// Reads its file once, where that is mapped and the machine may have taken its memory back; how many bytes it has.
    pub fn touch(&self) -> usize {
        if self.mapped {
            self.segment.touch();
        }
        self.segment.bytes()
    }

    /// The segment.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// The rows in ascending order of their ids; sorted when it is first asked for.
    pub fn by_id(&self) -> Result<&[u32]> {
        if let Some(rows) = self.by_id.get() {
            return Ok(rows);
        }
        let rows = 0..self.segment.contents().rows;
        let mut ids: Vec<(&str, u32)> =
            rows.map(|row| Ok((self.segment.id(row)?, row))).collect::<Result<_>>()?;
        ids.sort_unstable();
        Ok(self.by_id.get_or_init(|| ids.into_iter().map(|(_, row)| row).collect()))
    }
}

impl Weighed for Resident {
    /// What only this process holds: a mapped file is in the machine's cache, which knows better what is used.
    fn bytes(&self) -> usize {
        let file = if self.mapped { 0 } else { self.segment.bytes() };
        file + self.segment.bytes() / RECORDS_SHARE
    }
}
