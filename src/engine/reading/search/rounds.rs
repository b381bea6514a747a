//! Segments and large blocks of the tail: the kernel is asked for more and more of the closest rows, until
//! they settle which records are the closest.
//!
//! The kernel knows rows by number. Rows that are dead, overwritten by the tail, or of which the filter
//! index cannot tell whether they pass, are found out when they come up, so more rows are asked for
//! than are wanted; where too few are left, more still, and then without those known to be no results.
//! Where hardly any of the undecided rows passes, all are decided at once, each block of metadata being read
//! once. Records that are equally far are in the order of their ids, which the kernel does not know: all
//! that are as far as the last one are looked at before it is certain which that is.

use super::Search;
use super::exact;
use super::sources::{self, Source};
use crate::base::Result;
use crate::engine::reading::snapshot::Found;
use crate::index::{EF_MAX, Effort, Part, Scratch, ThreadScratch, TopK, search_parts};

/// Rows asked for beyond those that are wanted, and for each dead one to be expected among them.
const SPARE: usize = 2;
/// How many times as many rows are asked for where those that were found settle nothing.
const MORE: usize = 4;
/// With so many rows that are equally far, all rows are measured.
const TIED_MAX: usize = 4_096;
/// To decide a row by its metadata costs so many times as much where it is picked as in its turn.
const PICKED: usize = 8;

/// Offers the rows of segments and large blocks.
pub(super) fn search<'a>(search: &Search<'a>, closest: &mut TopK<Found<'a>>) -> Result<()> {
    let exactly = matches!(search.request.effort, Effort::Recall(recall) if recall >= 1.0);
    let (measured, mut sources) = sources::all(search)?
        .into_iter()
        .partition::<Vec<_>, _>(|source| exactly || source.is_measured());
    exact::search(search, measured, closest)?;
    if sources.is_empty() {
        return Ok(());
    }
    let wanted = search.request.offset + search.request.k;
    let dead = sources.iter().map(Source::dead_share).fold(0.0, f64::max);
    let mut asked = wanted + SPARE + (SPARE as f64 * dead * wanted as f64) as usize;
    // Another search may begin on this thread before this one ends.
    let mut scratch = ThreadScratch::default();
    loop {
        search.work.context().check()?;
        let round = look(search, &mut sources, asked, &mut scratch)?;
        let mut both = closest.clone();
        for (distance, found) in &round.kept {
            both.push(*distance, *found);
        }
        let all: usize = sources.iter().map(Source::rows).sum();
        let farthest = both.threshold();
        if round.farthest > farthest || round.found >= all {
            *closest = both;
            return Ok(());
        }
        let undecided: usize = sources.iter().map(Source::undecided).sum();
        let to_pick = round.found.saturating_mul(wanted) / round.kept.len().max(1) * PICKED;
        if farthest.is_infinite() && undecided > 0 && to_pick >= undecided {
            sources.iter_mut().try_for_each(|source| source.decide_all(search))?;
            asked = wanted + SPARE;
        } else if asked < if farthest.is_infinite() { EF_MAX } else { wanted + TIED_MAX } {
            asked = (MORE * asked).min(EF_MAX);
        } else {
            return exact::search(search, sources, closest);
        }
        // What was found and is not kept is left out from now on, so that each look goes further.
        sources.iter_mut().for_each(|source| source.without_rejected(search.snapshot));
    }
}

/// What one look of the kernel found.
struct Round<'a> {
    /// The records among the rows.
    kept: Vec<(f32, Found<'a>)>,
    /// How many rows there were.
    found: usize,
    /// How far the last of them is. Closer ones are no others, as far as the kernel can tell.
    farthest: f32,
}

/// Looks for the `asked` closest rows.
fn look<'a>(
    search: &Search<'a>,
    sources: &mut [Source<'a>],
    asked: usize,
    scratch: &mut Scratch,
) -> Result<Round<'a>> {
    let vectors: Vec<&[f32]> = sources.iter().map(Source::vectors).collect();
    let parts: Vec<Part<'_>> =
        sources.iter().zip(&vectors).map(|(source, vectors)| source.part(vectors)).collect();
    let effort = search.request.effort;
    let found = search_parts(search.vector, &parts, asked, effort, search.threads, scratch);
    sources::decide(search, sources, found)?;
    let mut kept = Vec::with_capacity(found.len());
    for one in found {
        let source = &mut sources[one.part as usize];
        match source.record(search, one.row)? {
            Some(record) => kept.push((one.distance, record)),
            None => source.reject(one.row),
        }
    }
    let farthest = found.last().map_or(f32::NEG_INFINITY, |last| last.distance);
    Ok(Round { kept, found: found.len(), farthest })
}
