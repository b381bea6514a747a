//! The segments below the tail, as this instance serves them.
//!
//! A [`Shelf`] brings segments into memory, each once, and keeps them within a budget of bytes. A
//! [`SegmentSet`] says which segments one version of the manifest has and which of their rows are
//! dead; an [`OpenSet`] is one whose segments are at hand. Sets never change: whoever has one keeps
//! seeing what it shows.

mod places;
mod set;
mod shelf;

pub use set::{Member, OpenSet, SegmentSet};
pub use shelf::Shelf;

use crate::base::Result;
use crate::cache::Weighed;
use crate::segment::Segment;
use std::sync::OnceLock;

/// A segment in memory.
#[derive(Debug)]
pub struct Resident {
    segment: Segment,
    by_id: OnceLock<Vec<u32>>,
}

impl Resident {
    fn new(segment: Segment) -> Resident {
        Resident { segment, by_id: OnceLock::new() }
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
    fn bytes(&self) -> usize {
        self.segment.bytes()
    }
}
