//! What the kernel searches together: segments and large blocks of the tail.

use super::Search;
use crate::base::Result;
use crate::base::defect::{self, Defect};
use crate::base::ids::Seq;
use crate::engine::allowed::Allowed;
use crate::engine::segments::{Member, Resident};
use crate::engine::snapshot::{Found, OpenSnapshot, Payloads, Place};
use crate::engine::tail::Block;
use crate::filter::Filter;
use crate::index::{Flat, Part, RowSet, Rows};
use std::borrow::Cow;
use std::sync::Arc;

/// With a larger share of dead rows the kernel is told of them.
const DEAD_SHARE_MAX: f64 = 0.1;

/// Rows that the kernel searches.
pub(super) struct Source<'a> {
    kind: Kind<'a>,
    /// What the filter lets through.
    filtered: Option<Arc<Allowed>>,
    /// The rows that are not dead, where the kernel is told of them.
    live: Option<Cow<'a, RowSet>>,
}

#[derive(Clone, Copy)]
enum Kind<'a> {
    Segment(&'a Member, &'a Resident),
    Block(&'a Block, &'a Flat, Seq),
}

/// All that there are, but those in which the filter lets nothing through.
pub(super) fn all<'a>(search: &Search<'a>) -> Result<Vec<Source<'a>>> {
    let base = search.snapshot.tail.base;
    let blocks = search.snapshot.tail.blocks().iter();
    let blocks = blocks.filter_map(|block| Some(Kind::Block(block, block.flat()?, base)));
    let segments = search.snapshot.segments();
    let segments = segments.map(|(member, resident)| Kind::Segment(member, resident));
    let filter = search.request.filter.as_ref();
    let mut sources = Vec::new();
    for kind in segments.chain(blocks) {
        sources.extend(Source::new(kind, filter)?);
    }
    Ok(sources)
}

impl<'a> Source<'a> {
    fn new(kind: Kind<'a>, filter: Option<&Filter>) -> Result<Option<Source<'a>>> {
        let filtered = match (filter, kind) {
            (None, _) => None,
            (Some(filter), Kind::Segment(member, resident)) => {
                Some(member.allowed(filter, resident)?)
            }
            (Some(filter), Kind::Block(block, ..)) => Some(block.allowed(filter)?),
        };
        let mut source = Source { kind, filtered, live: None };
        if let Kind::Segment(member, _) = kind
            && source.dead_share() > DEAD_SHARE_MAX
        {
            source.live = Some(Cow::Borrowed(member.live()));
        }
        Ok((source.rows() > 0 || filter.is_none()).then_some(source))
    }

    /// The rows that may be results; `None`: all.
    fn allowed(&self) -> Option<&RowSet> {
        let filtered = self.filtered.as_ref().and_then(|filtered| filtered.rows.as_ref());
        self.live.as_deref().or(filtered)
    }

    /// How many rows may be results.
    pub(super) fn rows(&self) -> usize {
        match (self.allowed(), self.kind) {
            (Some(allowed), _) => allowed.len(),
            (None, Kind::Segment(member, _)) => member.meta.rows as usize,
            (None, Kind::Block(block, ..)) => block.rows(),
        }
    }

    /// The share of dead rows among those, as far as is known without a look at each.
    pub(super) fn dead_share(&self) -> f64 {
        let (dead, rows) = match self.kind {
            Kind::Segment(member, _) => (member.dead.len() as usize, member.meta.rows as usize),
            Kind::Block(block, _, base) => (block.rows() - block.live_rows(base), block.rows()),
        };
        if self.allowed().is_some() { 0.0 } else { dead as f64 / rows.max(1) as f64 }
    }

    /// Leaves out the rows that are known to be dead.
    pub(super) fn without_dead(&mut self, snapshot: &OpenSnapshot) {
        if self.allowed().is_some() {
            return;
        }
        self.live = Some(match self.kind {
            Kind::Segment(member, _) => Cow::Borrowed(member.live()),
            Kind::Block(block, ..) => {
                let shown = (0..block.rows()).filter(|row| snapshot.tail.shows(block, *row));
                Cow::Owned(shown.map(|row| row as u32).collect())
            }
        });
    }

    pub(super) fn vectors(&self) -> &'a [f32] {
        match self.kind {
            Kind::Segment(_, resident) => resident.segment().vectors(),
            Kind::Block(block, ..) => block.vectors(),
        }
    }

    pub(super) fn part<'s>(&'s self, vectors: &'s &'a [f32]) -> Part<'s> {
        let rows = match self.kind {
            Kind::Segment(_, resident) => Rows::Index(resident.segment().index()),
            Kind::Block(_, flat, _) => Rows::Flat(flat),
        };
        Part { rows, allowed: self.allowed(), vectors }
    }

    /// The record in a row, where it is shown and is to be found.
    pub(super) fn record(
        &self,
        search: &Search<'a>,
        row: u32,
        payloads: &mut Payloads<'a>,
    ) -> Result<Option<Found<'a>>> {
        let snapshot = search.snapshot;
        let (id, place) = match self.kind {
            Kind::Segment(member, resident) => {
                let Some(id) = snapshot.shown(member, resident, row)? else { return Ok(None) };
                (id, Place::Segment { resident, row })
            }
            Kind::Block(block, ..) => {
                let row = row as usize;
                if !snapshot.tail.shows(block, row) {
                    return Ok(None);
                }
                (block.id(row), Place::Tail { block, row })
            }
        };
        if search.excluded == Some(id) {
            return Ok(None);
        }
        if let Some(filter) = &search.request.filter
            && let Some(filtered) = &self.filtered
            && filtered.unsure.contains(row)
            && !defect::is_here(Defect::UnsureRowsPass)
            && !payloads.of(place)?.passes(filter)
        {
            return Ok(None);
        }
        Ok(Some(Found { id, place }))
    }
}
