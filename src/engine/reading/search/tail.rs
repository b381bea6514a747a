//! Small blocks of the tail, exactly: distances in tiles, the closest few kept, filters asked last.

use super::Search;
use super::sources::record_units;
use crate::base::Result;
use crate::base::defect::{self, Defect};
use crate::engine::reading::snapshot::{Found, Place};
use crate::engine::reading::tail::Block;
use crate::index::{PreparedQuery, TopK};

/// Rows whose distances are computed at a time: the tile's vectors stay in the cache.
const TILE_ROWS: usize = 256;
/// Units of work that they take.
const UNITS_PER_TILE: u64 = 10;

/// Offers the rows of small blocks.
pub(super) fn search<'a>(search: &Search<'a>, closest: &mut TopK<Found<'a>>) -> Result<()> {
    let tail = &search.snapshot.tail;
    let mut distances = [0.0; TILE_ROWS];
    let mut query = None;
    for block in tail.blocks().iter().filter(|block| block.flat().is_none()) {
        let query = query.get_or_insert_with(|| PreparedQuery::new(search.metric, search.vector));
        let dimensions = block.vectors().len() / block.rows().max(1);
        for first in (block.first_after(tail.base)..block.rows()).step_by(TILE_ROWS) {
            let last = (first + TILE_ROWS).min(block.rows());
            let vectors = &block.vectors()[first * dimensions..last * dimensions];
            let norms = &block.inverse_norms()[first..last];
            let distances = &mut distances[..last - first];
            search.work.spend(UNITS_PER_TILE)?;
            query.distances(vectors, norms, distances);
            offer(search, block, first, distances, closest)?;
        }
    }
    Ok(())
}

/// Offers a tile's rows. The filter is asked last: it parses metadata, and most rows are too far
/// away to need it.
fn offer<'a>(
    search: &Search<'a>,
    block: &'a Block,
    first: usize,
    distances: &[f32],
    closest: &mut TopK<Found<'a>>,
) -> Result<()> {
    for (row, distance) in (first..).zip(distances) {
        if *distance > closest.threshold() || !search.snapshot.tail.shows(block, row) {
            continue;
        }
        let id = block.id(row);
        if search.excluded == Some(id) {
            continue;
        }
        let place = Place::Tail { block, row };
        if let Some(filter) = &search.request.filter {
            search.work.spend(record_units(filter))?;
            if !place.passes(filter)? && !defect::is_here(Defect::TailUnfiltered) {
                continue;
            }
        }
        closest.push(*distance, Found { id, place });
    }
    Ok(())
}
