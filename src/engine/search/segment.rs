//! A segment, by its index.
//!
//! The index knows rows by number. Rows that are dead, overwritten by the tail, or of which the filter
//! index cannot tell whether they pass, are found out when they come up, so more rows are asked for
//! than are wanted; where too few are left, more still.

use super::Running;
use crate::base::Result;
use crate::engine::segments::{Member, Resident};
use crate::engine::snapshot::{Found, OpenSnapshot, Payloads, Place};
use crate::index::{EF_MAX, Effort, RowSet, Scratch, Search};
use roaring::RoaringBitmap;
use std::borrow::Cow;
use std::cell::RefCell;

/// Rows asked for beyond those that are wanted.
const SPARE: usize = 4;
/// With a larger share of dead rows the index is told of them.
const DEAD_SHARE_MAX: f64 = 0.1;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Offers the closest rows of a segment to a search.
pub(super) fn search<'a>(
    snapshot: &OpenSnapshot,
    member: &Member,
    resident: &'a Resident,
    search: &mut Running<'a>,
) -> Result<()> {
    let Some(allowed) = allowed(member, resident, search)? else { return Ok(()) };
    SCRATCH.with_borrow_mut(|scratch| {
        let wanted = search.request.offset + search.request.k;
        let dead = member.dead.len() as f64 / f64::from(member.meta.rows.max(1));
        let mut k = wanted + SPARE + (2.0 * dead * wanted as f64) as usize;
        let mut rows = allowed.rows;
        loop {
            let found = look(snapshot, member, resident, search, rows.as_deref(), k, scratch);
            let Looked { found, exhausted } = found.and_then(|looked| {
                let unsure = &allowed.unsure;
                if unsure.is_empty() { Ok(looked) } else { looked.sure(unsure, search) }
            })?;
            if found.len() >= wanted || exhausted || k >= EF_MAX {
                for (distance, found) in found {
                    search.closest.push(distance, found);
                }
                return Ok(());
            }
            k = (4 * k).min(EF_MAX);
            rows.get_or_insert_with(|| Cow::Borrowed(member.live()));
        }
    })
}

/// What a filter allows.
struct Allowed<'a> {
    /// `None`: every row.
    rows: Option<Cow<'a, RowSet>>,
    /// Rows of which the metadata have to be looked at.
    unsure: RoaringBitmap,
}

/// The rows that may be results; `None` where there are none.
fn allowed<'m>(
    member: &'m Member,
    resident: &Resident,
    search: &Running<'_>,
) -> Result<Option<Allowed<'m>>> {
    let Some(filter) = &search.request.filter else {
        let dead = member.dead.len() as f64;
        let many = dead > DEAD_SHARE_MAX * f64::from(member.meta.rows);
        let rows = many.then(|| Cow::Borrowed(member.live()));
        return Ok(Some(Allowed { rows, unsure: RoaringBitmap::new() }));
    };
    let selection = filter.select(resident.segment().filter_index())?;
    let rows = selection.rows - &member.dead;
    if rows.is_empty() {
        return Ok(None);
    }
    let all = rows.len() == u64::from(member.meta.rows);
    let rows = (!all).then(|| Cow::Owned(rows.iter().collect()));
    Ok(Some(Allowed { rows, unsure: selection.unsure }))
}

/// Rows that an index has found and that are shown.
struct Looked<'a> {
    found: Vec<(f32, Found<'a>)>,
    /// Whether there are no others.
    exhausted: bool,
}

impl Looked<'_> {
    /// Without those whose metadata do not pass the filter.
    fn sure(mut self, unsure: &RoaringBitmap, search: &Running<'_>) -> Result<Self> {
        let Some(filter) = &search.request.filter else { return Ok(self) };
        let mut payloads = Payloads::default();
        let mut kept = Vec::with_capacity(self.found.len());
        for (distance, found) in self.found {
            let passes = match found.place {
                Place::Segment { row, .. } if unsure.contains(row) => {
                    payloads.of(found.place)?.passes(filter)
                }
                _ => true,
            };
            if passes {
                kept.push((distance, found));
            }
        }
        self.found = kept;
        Ok(self)
    }
}

fn look<'a>(
    snapshot: &OpenSnapshot,
    member: &Member,
    resident: &'a Resident,
    search: &Running<'a>,
    allowed: Option<&RowSet>,
    k: usize,
    scratch: &mut Scratch,
) -> Result<Looked<'a>> {
    let segment = resident.segment();
    let vectors = &segment.vectors();
    let request = Search { k, effort: Effort::Default, allowed, vectors: Some(vectors) };
    let results = segment.index().search(search.vector, &request, scratch);
    let mut looked = Looked { found: Vec::new(), exhausted: results.len() < k };
    for result in results {
        let row = result.row;
        if let Some(id) = snapshot.shown(member, resident, row)?
            && search.excluded != Some(id)
        {
            let place = Place::Segment { resident, row };
            looked.found.push((result.distance, Found { id, place }));
        }
    }
    Ok(looked)
}
