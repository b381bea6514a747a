//! What a collection holds at one version: the tail over the segments.

use crate::base::Result;
use crate::base::ids::{Seq, record_hash};
use crate::engine::model::Record;
use crate::engine::segments::{Member, OpenSet, Resident, SegmentSet, Shelf};
use crate::engine::tail::{self, Block};
use crate::filter::Filter;
use crate::segment::records::RecordBlock;
use serde_json::Value;
use std::cmp::Ordering;
use std::sync::Arc;

/// One version of a collection. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What is not in segments.
    pub tail: tail::View,
    /// What is.
    pub set: Arc<SegmentSet>,
}

impl Snapshot {
    /// The log position that is shown.
    pub fn version(&self) -> Seq {
        self.tail.version
    }

    /// Live records.
    pub fn live(&self) -> u64 {
        self.tail.live + self.set.live().saturating_sub(self.tail.shadowed)
    }

    /// The same with its segments at hand.
    pub async fn open(self, shelf: &Shelf) -> Result<OpenSnapshot> {
        Ok(OpenSnapshot { segments: shelf.open(&self.set).await?, tail: self.tail })
    }
}

/// One version of a collection with its segments at hand.
#[derive(Debug, Clone)]
pub struct OpenSnapshot {
    /// What is not in segments.
    pub tail: tail::View,
    segments: OpenSet,
}

impl OpenSnapshot {
    /// The log position that is shown.
    pub fn version(&self) -> Seq {
        self.tail.version
    }

    /// The segments with what is known of them.
    pub fn segments(&self) -> impl Iterator<Item = (&Member, &Resident)> {
        self.segments.iter()
    }

    /// Where the record with this id is.
    pub fn find(&self, id: &str) -> Result<Option<Place<'_>>> {
        let hash = record_hash(id);
        if let Some((block, row)) = self.tail.find(hash, id) {
            return Ok(Some(Place::Tail { block, row }));
        }
        let Some((resident, row)) = self.segments.find(hash, id)? else { return Ok(None) };
        let dead = self.is_overwritten(hash, id, resident, row);
        Ok((!dead).then_some(Place::Segment { resident, row }))
    }

    /// Whether a row of a segment is dead by what the tail has done to its id.
    fn is_overwritten(&self, hash: u64, id: &str, resident: &Resident, row: u32) -> bool {
        if self.tail.is_empty() {
            return false;
        }
        let until = self.tail.dead_until(hash, id);
        until >= self.tail.base || (until > Seq(0) && resident.segment().written(row) <= until)
    }

    /// The id of a row of a segment, where it is shown.
    pub fn shown<'a>(
        &self,
        member: &Member,
        resident: &'a Resident,
        row: u32,
    ) -> Result<Option<&'a str>> {
        if member.dead.contains(row) {
            return Ok(None);
        }
        let id = resident.segment().id(row)?;
        let dead = self.is_overwritten(record_hash(id), id, resident, row);
        Ok((!dead).then_some(id))
    }
}

/// Where a record is.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// A row of a block of the tail.
    Tail {
        /// The block.
        block: &'a Block,
        /// The row.
        row: usize,
    },
    /// A row of a segment.
    Segment {
        /// The segment.
        resident: &'a Resident,
        /// The row.
        row: u32,
    },
}

/// Metadata (the JSON text of an object) and text of a record.
#[derive(Debug, Clone)]
pub struct Payload {
    /// `{}` where it has none.
    pub metadata: Arc<str>,
    /// Its text.
    pub text: Option<Arc<str>>,
}

impl Payload {
    fn new(metadata: &str, text: Option<&str>) -> Payload {
        let metadata = if metadata.is_empty() { "{}" } else { metadata };
        Payload { metadata: metadata.into(), text: text.map(Into::into) }
    }

    /// Whether the metadata pass a filter.
    pub fn passes(&self, filter: &Filter) -> bool {
        passes(filter, &self.metadata)
    }
}

/// Whether metadata pass a filter.
fn passes(filter: &Filter, metadata: &str) -> bool {
    let metadata = if metadata.is_empty() { "{}" } else { metadata };
    // Metadata was checked to be JSON when it was written; a fault would be a defect, and a
    // record that cannot be read matches nothing.
    let metadata: Value = serde_json::from_str(metadata).unwrap_or_default();
    filter.matches(&metadata)
}

impl<'a> Place<'a> {
    /// The record's id.
    pub fn id(&self) -> Result<&'a str> {
        match self {
            Place::Tail { block, row } => Ok(block.id(*row)),
            Place::Segment { resident, row } => resident.segment().id(*row),
        }
    }

    /// The record's vector.
    pub fn vector(&self) -> &'a [f32] {
        match self {
            Place::Tail { block, row } => block.vector(*row),
            Place::Segment { resident, row } => resident.segment().vector(*row),
        }
    }

    /// The log position that wrote it.
    pub fn written(&self) -> Seq {
        match self {
            Place::Tail { block, row } => block.written(*row),
            Place::Segment { resident, row } => resident.segment().written(*row),
        }
    }

    /// Whether its metadata pass a filter.
    pub fn passes(&self, filter: &Filter) -> Result<bool> {
        match self {
            Place::Tail { block, row } => Ok(passes(filter, block.metadata(*row))),
            Place::Segment { .. } => Ok(Payloads::default().of(*self)?.passes(filter)),
        }
    }
}

/// Reads metadata and texts. Those of rows near each other in a segment are compressed together, so
/// the block that was read last is kept.
#[derive(Debug, Default)]
pub struct Payloads<'a> {
    last: Option<(&'a Resident, Arc<RecordBlock>)>,
}

impl<'a> Payloads<'a> {
    /// Metadata and text of a record.
    pub fn of(&mut self, place: Place<'a>) -> Result<Payload> {
        let (resident, row) = match place {
            Place::Tail { block, row } => {
                return Ok(Payload::new(block.metadata(row), block.text(row)));
            }
            Place::Segment { resident, row } => (resident, row),
        };
        let kept = self.last.as_ref().filter(|(of, _)| std::ptr::eq(*of, resident));
        if let Some((metadata, text)) = kept.and_then(|(_, block)| block.get(row)) {
            return Ok(Payload::new(metadata, text));
        }
        let block = resident.records(row)?;
        let (metadata, text) = block.get(row).unwrap_or_default();
        let payload = Payload::new(metadata, text);
        self.last = Some((resident, block));
        Ok(payload)
    }

    /// A record as it is read.
    pub fn record(&mut self, place: Place<'a>, include_vector: bool) -> Result<Record> {
        let Payload { metadata, text } = self.of(place)?;
        Ok(Record {
            id: place.id()?.to_owned(),
            vector: include_vector.then(|| place.vector().to_vec()),
            metadata,
            text,
            version: place.written(),
        })
    }
}

/// A record with its id, by which it is ordered: what breaks ties.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// Its id.
    pub id: &'a str,
    /// Where it is.
    pub place: Place<'a>,
}

impl PartialEq for Found<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Found<'_> {}

impl Ord for Found<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.id.cmp(other.id)
    }
}

impl PartialOrd for Found<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
