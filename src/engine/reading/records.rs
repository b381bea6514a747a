//! Reading records by id and in order, from one snapshot.

use crate::base::defect::{self, Defect};
use crate::base::request::{RequestContext, Work};
use crate::base::{Error, Result, json};
use crate::engine::reading::search::record_units;
use crate::engine::reading::segments::{Member, Resident};
use crate::engine::reading::snapshot::{OpenSnapshot, Payload, Payloads, Place};
use crate::engine::reading::tail::Block;
use crate::filter::Filter;
use serde_json::value::RawValue;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The ids of all records that pass a filter. Ends where nobody waits for them any more.
pub fn matching_ids(
    snapshot: &OpenSnapshot,
    filter: &Filter,
    context: &RequestContext,
) -> Result<Vec<String>> {
    let (mut ids, work) = (Vec::new(), Work::unbounded(context));
    let units = record_units(filter);
    for block in snapshot.tail.blocks() {
        for row in (0..block.rows()).filter(|row| snapshot.tail.shows(block, *row)) {
            work.spend(units)?;
            if (Place::Tail { block, row }).passes(filter)? {
                ids.push(block.id(row).to_owned());
            }
        }
    }
    for (member, resident) in snapshot.segments() {
        let spend = |units| work.spend(units);
        let selection = filter.select_within(resident.segment().filter_index(), &spend)?;
        let mut payloads = Payloads::default();
        for row in selection.rows {
            work.spend(1)?;
            let Some(id) = snapshot.shown(member, resident, row)? else { continue };
            let place = Place::Segment { resident, row };
            if selection.unsure.contains(row) {
                work.spend(units)?;
                if !payloads.of(place)?.passes(filter) {
                    continue;
                }
            }
            ids.push(id.to_owned());
        }
    }
    Ok(ids)
}

/// Rows in the order of their ids, some of which are not shown.
enum Source<'a> {
    Block(&'a Block),
    Segment(&'a Member, &'a Resident, &'a [u32]),
}

impl<'a> Source<'a> {
    fn rows(&self) -> usize {
        match self {
            Source::Block(block) => block.rows(),
            Source::Segment(.., order) => order.len(),
        }
    }

    fn place(&self, at: usize) -> Place<'a> {
        match self {
            Source::Block(block) => Place::Tail { block, row: block.by_id()[at] as usize },
            Source::Segment(_, resident, order) => Place::Segment { resident, row: order[at] },
        }
    }

    fn is_shown(&self, snapshot: &OpenSnapshot, at: usize) -> Result<bool> {
        match self {
            Source::Block(block) => Ok(snapshot.tail.shows(block, block.by_id()[at] as usize)),
            Source::Segment(member, resident, order) => {
                Ok(snapshot.shown(member, resident, order[at])?.is_some())
            }
        }
    }

    /// The first row from `at` on that is shown, with its id.
    fn next(&self, snapshot: &OpenSnapshot, at: usize) -> Result<Option<(&'a str, usize)>> {
        for at in at..self.rows() {
            if self.is_shown(snapshot, at)? {
                return Ok(Some((self.place(at).id()?, at)));
            }
        }
        Ok(None)
    }

    /// The first row with an id greater than `after`.
    fn start(&self, after: &str) -> Result<usize> {
        let (mut low, mut high) = (0, self.rows());
        while low < high {
            let middle = usize::midpoint(low, high);
            let id = self.place(middle).id()?;
            if id < after || (id == after && !defect::is_here(Defect::PageRepeatsCursor)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

/// Visits up to `limit` records with ids greater than `after`, in ascending order of their ids, until one
/// is not taken (`false`); returns whether there are more.
pub fn visit<'a>(
    snapshot: &'a OpenSnapshot,
    after: Option<&str>,
    limit: usize,
    mut visit: impl FnMut(Place<'a>) -> Result<bool>,
) -> Result<bool> {
    let blocks = snapshot.tail.blocks().iter().map(|block| Ok(Source::Block(block)));
    let segments = snapshot.segments();
    let segments =
        segments.map(|(member, resident)| Ok(Source::Segment(member, resident, resident.by_id()?)));
    let sources: Vec<Source<'a>> = blocks.chain(segments).collect::<Result<_>>()?;
    // One cursor per source, merged by id.
    let mut heads = BinaryHeap::new();
    for (number, source) in sources.iter().enumerate() {
        let start = after.map_or(Ok(0), |after| source.start(after))?;
        if let Some((id, at)) = source.next(snapshot, start)? {
            heads.push(Reverse((id, number, at)));
        }
    }
    for _ in 0..limit {
        let Some(Reverse((_, number, at))) = heads.pop() else {
            return Ok(false);
        };
        let source = &sources[number];
        if !visit(source.place(at))? {
            return Ok(true);
        }
        if let Some((id, at)) = source.next(snapshot, at + 1)? {
            heads.push(Reverse((id, number, at)));
        }
    }
    Ok(!heads.is_empty())
}

/// Writes one record as a line of NDJSON, in the form that import reads.
pub fn write_line<'a>(
    out: &mut Vec<u8>,
    place: Place<'a>,
    payloads: &mut Payloads<'a>,
    include_vector: bool,
) -> Result<()> {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        vector: Option<&'a [f32]>,
        metadata: &'a RawValue,
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'a str>,
    }
    let Payload { metadata, text, .. } = payloads.of(place)?;
    // What older builds stored may have spaces in it, also ends of lines.
    let metadata = match metadata.contains(['\n', '\r']) {
        true => json::compact(&metadata).map_or(metadata, Into::into),
        false => metadata,
    };
    let metadata = serde_json::from_str(&metadata)
        .map_err(|error| Error::internal(format!("metadata that were read: {error}")))?;
    let line = Line {
        id: place.id()?,
        vector: include_vector.then(|| place.vector()),
        metadata,
        text: text.as_deref(),
    };
    let _ = serde_json::to_writer(&mut *out, &line);
    out.push(b'\n');
    Ok(())
}
