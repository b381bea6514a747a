//! What a collection holds at one version: the tail over the segments.

use crate::base::clock::Mark;
use crate::base::defect::{self, Defect};
use crate::base::ids::{Seq, record_hash};
use crate::base::json;
use crate::base::request::RequestContext;
use crate::base::{Code, Error, Result};
use crate::engine::damage::Damage;
use crate::engine::model::{Partial, Record};
use crate::engine::reading::segments::{Member, OpenSet, Resident, SegmentSet, Shelf};
use crate::engine::reading::tail::{self, Block};
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
    /// Taken before the look at the log that found nothing that could be applied beyond.
    pub as_of: Mark,
    /// What keeps anything beyond from being applied.
    pub hole: Option<Arc<Damage>>,
}

impl Snapshot {
    /// The log position that is shown.
    pub fn version(&self) -> Seq {
        self.tail.version
    }

    /// The same, unless the log goes on where it cannot be read.
    pub fn whole(self) -> Result<Snapshot> {
        match &self.hole {
            Some(hole) => Err(hole.error(&self.set.manifest().name)),
            None => Ok(self),
        }
    }

    /// Live records.
    pub fn live(&self) -> u64 {
        let forgets = defect::is_here(Defect::CountForgetsOverwrites);
        let shadowed = if forgets { 0 } else { self.tail.shadowed };
        self.tail.live + self.set.live().saturating_sub(shadowed)
    }

    /// The same with its segments at hand.
    pub async fn open(self, shelf: &Shelf) -> Result<OpenSnapshot> {
        let Snapshot { tail, set, as_of, hole } = self;
        Ok(OpenSnapshot { segments: shelf.open(&set).await?, tail, set, as_of, hole })
    }
}

/// One version of a collection with its segments at hand.
#[derive(Debug, Clone)]
pub struct OpenSnapshot {
    /// What is not in segments.
    pub tail: tail::View,
    /// Taken before the look at the log that found nothing that could be applied beyond.
    pub as_of: Mark,
    set: Arc<SegmentSet>,
    segments: OpenSet,
    hole: Option<Arc<Damage>>,
}

impl OpenSnapshot {
    /// The log position that is shown.
    pub fn version(&self) -> Seq {
        self.tail.version
    }

    /// What is damaged of its segments.
    pub fn damaged_segments(&self) -> &[Damage] {
        self.segments.damaged()
    }

    /// The set whose segments are at hand.
    pub fn set(&self) -> &Arc<SegmentSet> {
        &self.set
    }

    /// What is missing of it, where not everything is there that was written up to now.
    pub fn partial(&self) -> Partial {
        let hole = self.hole.as_deref();
        match (hole, self.segments.damaged()) {
            (None, damaged) if damaged.is_empty() => None,
            (None, damaged) => Some(damaged.clone()),
            (Some(hole), damaged) => Some([hole].into_iter().chain(&**damaged).cloned().collect()),
        }
    }

    /// What is missing of the log, where something is.
    pub fn behind_hole(&self) -> Partial {
        self.hole.as_deref().map(|hole| [hole.clone()].into())
    }

    /// Fails where not everything is there: for calls whose answer has to be about all records.
    pub fn check_complete(&self) -> Result<()> {
        match self.partial().as_deref() {
            Some([first, ..]) => Err(first.error(&self.set.manifest().name)),
            _ => Ok(()),
        }
    }

    /// The error for a record that was not found: that may be because the log goes on where it cannot be read.
    pub fn missing(&self, id: &str) -> Error {
        match &self.hole {
            Some(hole) => hole.error(&self.set.manifest().name),
            None => not_found(id),
        }
    }

    /// The segments, without what is known of them.
    pub fn residents(&self) -> impl Iterator<Item = Arc<Resident>> {
        self.segments.residents()
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

/// The error for a record that is not there.
pub fn not_found(id: &str) -> Error {
    let shown: String = id.chars().take(80).collect();
    Error::new(
        Code::VectorNotFound,
        format!("there is no record with the id {shown:?} in this collection"),
    )
    .with("id", shown)
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
    /// Whether the metadata that are stored cannot be read, and are left out.
    pub damaged: bool,
}

impl Payload {
    fn new(metadata: &str, text: Option<&str>) -> Payload {
        let damaged = !metadata.is_empty() && !json::is_object(metadata);
        let metadata = if metadata.is_empty() || damaged { "{}" } else { metadata };
        Payload { metadata: metadata.into(), text: text.map(Into::into), damaged }
    }

    /// Whether the metadata pass a filter.
    pub fn passes(&self, filter: &Filter) -> bool {
        !self.damaged && passes(filter, &self.metadata)
    }
}

/// Bytes of JSON that a number of a vector takes at most.
const NUMBER_BYTES: usize = 16;
/// Bytes of JSON that a record takes besides its values: names, brackets, distance, version.
const RECORD_BYTES: usize = 160;

/// Bytes of JSON that a record takes in an answer: at least as many as will be written.
pub fn answer_bytes(id: &str, vector: Option<&[f32]>, payload: Option<&Payload>) -> usize {
    let payload = payload.map_or(0, |Payload { metadata, text, .. }| {
        metadata.len() + text.as_deref().map_or(0, json_bytes)
    });
    let vector = vector.map_or(0, |vector| vector.len() * NUMBER_BYTES);
    RECORD_BYTES + json_bytes(id) + vector + payload
}

/// Bytes of a string in JSON, without its quotes.
fn json_bytes(text: &str) -> usize {
    let more = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 1,
        0..0x20 => 5,
        _ => 0,
    };
    text.len() + text.bytes().map(more).sum::<usize>()
}

/// Whether metadata pass a filter. Those that cannot be read pass none.
fn passes(filter: &Filter, metadata: &str) -> bool {
    match serde_json::from_str::<Value>(if metadata.is_empty() { "{}" } else { metadata }) {
        Ok(metadata) => metadata.is_object() && filter.matches(&metadata),
        Err(_) => false,
    }
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

    /// A record as it is read, for the answer of a request; `None` where it does not fit into that.
    pub fn record_that_fits(
        &mut self,
        place: Place<'a>,
        include_vector: bool,
        context: &RequestContext,
    ) -> Result<Option<Record>> {
        let payload = self.of(place)?;
        let (id, vector) = (place.id()?, include_vector.then(|| place.vector()));
        let bytes = answer_bytes(id, vector, Some(&payload));
        if !context.fits(bytes) {
            return Ok(None);
        }
        context.charge(bytes)?;
        Ok(Some(Record {
            id: id.to_owned(),
            vector: vector.map(<[f32]>::to_vec),
            metadata: payload.metadata,
            text: payload.text,
            damaged: payload.damaged,
            version: place.written(),
        }))
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
