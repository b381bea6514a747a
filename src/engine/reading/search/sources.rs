//! What the kernel searches together: segments and large blocks of the tail.

use super::Search;
use crate::base::Result;
use crate::base::defect::{self, Defect};
use crate::base::ids::Seq;
use crate::base::request::Work;
use crate::engine::reading::allowed::Allowed;
use crate::engine::reading::segments::{Member, Resident};
use crate::engine::reading::snapshot::{Found, OpenSnapshot, Payloads, Place};
use crate::engine::reading::tail::Block;
use crate::filter::Filter;
use crate::index::{Flat, Part, RowSet, Rows};
use roaring::RoaringBitmap;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// With a larger share of dead rows the kernel is told of them.
const DEAD_SHARE_MAX: f64 = 0.1;

/// Units of work that it takes to make a source ready, besides its filter.
const UNITS_PER_SOURCE: u64 = 20;
/// Values of the vectors of a source that are measured one by one: that takes no longer than to prepare a query
/// for its codes.
const SMALL_VALUES_MAX: usize = 1 << 15;

/// Units of work that it takes to read the metadata of a record.
const UNITS_PER_RECORD: u64 = 5;
/// So many tests of a filter take a unit, about.
const TESTS_PER_UNIT: u64 = 4;

/// Rows that the kernel searches.
pub(super) struct Source<'a> {
    kind: Kind<'a>,
    /// What the filter lets through.
    filtered: Option<Arc<Allowed>>,
    /// The rows that are not dead, where the kernel is told of them.
    live: Option<Cow<'a, RowSet>>,
    /// Rows of which the filter index cannot tell whether they pass, and whose metadata do.
    passed: RoaringBitmap,
    /// Rows that are known not to be results.
    rejected: RoaringBitmap,
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
    let work = search.work;
    let mut sources = Vec::new();
    for kind in segments.chain(blocks) {
        if let Some(source) = Source::new(kind, filter, work)? {
            work.spend(if source.is_measured() { 1 } else { UNITS_PER_SOURCE })?;
            sources.push(source);
        }
    }
    Ok(sources)
}

impl<'a> Source<'a> {
    fn new(kind: Kind<'a>, filter: Option<&Filter>, work: &Work<'_>) -> Result<Option<Source<'a>>> {
        let filtered = match (filter, kind) {
            (None, _) => None,
            (Some(filter), Kind::Segment(member, resident)) => {
                Some(member.allowed(filter, resident, work)?)
            }
            (Some(filter), Kind::Block(block, ..)) => Some(block.allowed(filter, work)?),
        };
        let (passed, rejected) = Default::default();
        let mut source = Source { kind, filtered, live: None, passed, rejected };
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
        self.allowed().map_or_else(|| self.all_rows(), RowSet::len)
    }

    fn all_rows(&self) -> usize {
        match self.kind {
            Kind::Segment(member, _) => member.meta.rows as usize,
            Kind::Block(block, ..) => block.rows(),
        }
    }

    /// Whether its rows are measured one by one: they are few, or an index over them finds too little.
    pub(super) fn is_measured(&self) -> bool {
        let blind = match self.kind {
            Kind::Segment(_, resident) => !resident.segment().index().finds_enough(),
            Kind::Block(..) => false,
        };
        blind || self.vectors().len() <= SMALL_VALUES_MAX
    }

    /// Whether any of `rows` may be a result.
    pub(super) fn may_hold(&self, mut rows: Range<u32>) -> bool {
        self.allowed().is_none_or(|allowed| rows.any(|row| allowed.contains(row)))
    }

    /// Whether a row may be a result.
    pub(super) fn allows(&self, row: u32) -> bool {
        self.allowed().is_none_or(|allowed| allowed.contains(row))
    }

    /// How many rows have to be decided by their metadata, as far as they may be results.
    pub(super) fn undecided(&self) -> usize {
        let unsure = self.filtered.as_ref().map_or(0, |filtered| filtered.unsure.len() as usize);
        unsure.saturating_sub((self.passed.len() + self.rejected.len()) as usize)
    }

    /// The share of dead rows among those, as far as is known without a look at each.
    pub(super) fn dead_share(&self) -> f64 {
        let (dead, rows) = match self.kind {
            Kind::Segment(member, _) => (member.dead.len() as usize, member.meta.rows as usize),
            Kind::Block(block, _, base) => (block.rows() - block.live_rows(base), block.rows()),
        };
        if self.allowed().is_some() { 0.0 } else { dead as f64 / rows.max(1) as f64 }
    }

    /// Leaves out the rows that are known to be dead, or not to be results.
    pub(super) fn without_rejected(&mut self, snapshot: &OpenSnapshot) {
        let rows: Cow<'a, RowSet> = match (self.allowed(), self.kind) {
            (Some(_), _) if self.rejected.is_empty() => return,
            (Some(allowed), _) => {
                let kept = allowed.iter().filter(|row| !self.rejected.contains(*row));
                Cow::Owned(kept.collect())
            }
            (None, Kind::Segment(member, _)) => Cow::Borrowed(member.live()),
            (None, Kind::Block(block, ..)) => {
                let shown = (0..block.rows()).filter(|row| snapshot.tail.shows(block, *row));
                Cow::Owned(shown.map(|row| row as u32).collect())
            }
        };
        self.live = Some(rows);
    }

    /// A row is no result.
    pub(super) fn reject(&mut self, row: u32) {
        self.rejected.insert(row);
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

    /// Whether it has to be decided by its metadata if a row passes the filter.
    fn is_open(&self, row: u32) -> bool {
        self.filtered.as_ref().is_some_and(|filtered| filtered.unsure.contains(row))
            && !self.passed.contains(row)
            && !self.rejected.contains(row)
    }

    /// Whether a row passes the filter, as far as only its metadata tell.
    pub(super) fn passes(
        &mut self,
        search: &Search<'a>,
        row: u32,
        payloads: &mut Payloads<'a>,
    ) -> Result<bool> {
        match &search.request.filter {
            Some(filter) if self.is_open(row) => {
                search.work.spend(record_units(filter))?;
                self.judge(row, filter, payloads)
            }
            _ => Ok(!self.rejected.contains(row)),
        }
    }

    /// Asks the metadata of a row whether it passes, and remembers it.
    fn judge(&mut self, row: u32, filter: &Filter, payloads: &mut Payloads<'a>) -> Result<bool> {
        let passes =
            payloads.of(self.place(row))?.passes(filter) || defect::is_here(Defect::UnsureRowsPass);
        let rows = if passes { &mut self.passed } else { &mut self.rejected };
        rows.insert(row);
        Ok(passes)
    }

    /// Decides for all rows by their metadata whether they pass, for the searches to come, too.
    pub(super) fn decide_all(&mut self, search: &Search<'a>) -> Result<()> {
        let (Some(filter), Some(filtered)) = (&search.request.filter, self.filtered.clone()) else {
            return Ok(());
        };
        if filtered.unsure.is_empty() {
            return Ok(());
        }
        let (mut payloads, units) = (Payloads::default(), record_units(filter));
        let mut out = RoaringBitmap::new();
        for row in &filtered.unsure {
            search.work.spend(units)?;
            if !self.judge(row, filter, &mut payloads)? {
                out.insert(row);
            }
        }
        let decided = Arc::new(filtered.without(self.all_rows() as u32, &out));
        match self.kind {
            Kind::Segment(member, _) => member.remember(filter, decided.clone()),
            Kind::Block(block, ..) => block.remember(filter, decided.clone()),
        }
        (self.filtered, self.live) = (Some(decided), None);
        Ok(())
    }

    fn place(&self, row: u32) -> Place<'a> {
        match self.kind {
            Kind::Segment(_, resident) => Place::Segment { resident, row },
            Kind::Block(block, ..) => Place::Tail { block, row: row as usize },
        }
    }

    /// The id of a row and where it is, where it is shown.
    fn shown(&self, search: &Search<'a>, row: u32) -> Result<Option<Found<'a>>> {
        let (snapshot, place) = (search.snapshot, self.place(row));
        let id = match self.kind {
            Kind::Segment(member, resident) => snapshot.shown(member, resident, row)?,
            Kind::Block(block, ..) => {
                let row = row as usize;
                snapshot.tail.shows(block, row).then(|| block.id(row))
            }
        };
        Ok(id.map(|id| Found { id, place }))
    }

    /// The record in a row that was [decided](decide), where it is shown and is to be found.
    pub(super) fn record(&self, search: &Search<'a>, row: u32) -> Result<Option<Found<'a>>> {
        if self.rejected.contains(row) {
            return Ok(None);
        }
        let found = self.shown(search, row)?;
        Ok(found.filter(|found| search.excluded != Some(found.id)))
    }
}

/// Decides for rows that were found, of which the filter index cannot tell, whether they pass. Each is
/// looked at once, and those of one source in their order: their metadata lie together.
pub(super) fn decide<'a>(
    search: &Search<'a>,
    sources: &mut [Source<'a>],
    found: &[crate::index::Found],
) -> Result<()> {
    let Some(filter) = &search.request.filter else { return Ok(()) };
    let is_open = |found: &&crate::index::Found| sources[found.part as usize].is_open(found.row);
    let open = found.iter().filter(is_open);
    let mut open: Vec<(u32, u32)> = open.map(|found| (found.part, found.row)).collect();
    open.sort_unstable();
    let (mut payloads, units) = (Payloads::default(), record_units(filter));
    for (part, row) in open {
        let source = &mut sources[part as usize];
        if source.shown(search, row)?.is_some() {
            search.work.spend(units)?;
            source.judge(row, filter, &mut payloads)?;
        }
    }
    Ok(())
}

/// Units of work that it takes to read a record's metadata and ask a filter about them.
pub fn record_units(filter: &Filter) -> u64 {
    UNITS_PER_RECORD + filter.tests() as u64 / TESTS_PER_UNIT
}
