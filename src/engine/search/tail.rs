//! The tail, exactly: distances in tiles, the closest few kept, filters asked last.

use super::Running;
use crate::base::Result;
use crate::engine::snapshot::{Found, OpenSnapshot, Place};
use crate::engine::tail::Block;

/// Rows whose distances are computed at a time: the tile's vectors stay in the cache while every
/// query of a batch passes over them.
const TILE_ROWS: usize = 256;

/// Offers the tail's rows to every search.
pub(super) fn search<'a>(snapshot: &'a OpenSnapshot, running: &mut [Running<'a>]) -> Result<()> {
    let mut distances = [0.0; TILE_ROWS];
    for block in snapshot.tail.blocks() {
        let dimensions = block.vectors().len() / block.rows().max(1);
        for first in (block.first_after(snapshot.tail.base)..block.rows()).step_by(TILE_ROWS) {
            let last = (first + TILE_ROWS).min(block.rows());
            let vectors = &block.vectors()[first * dimensions..last * dimensions];
            let norms = &block.inverse_norms()[first..last];
            let distances = &mut distances[..last - first];
            for search in &mut *running {
                search.query.distances(vectors, norms, distances);
                offer(search, snapshot, block, first, distances)?;
            }
        }
    }
    Ok(())
}

/// Offers a tile's rows. The filter is asked last: it parses metadata, and most rows are too far
/// away to need it.
fn offer<'a>(
    search: &mut Running<'a>,
    snapshot: &OpenSnapshot,
    block: &'a Block,
    first: usize,
    distances: &[f32],
) -> Result<()> {
    for (row, distance) in (first..).zip(distances) {
        if *distance > search.closest.threshold() || !snapshot.tail.shows(block, row) {
            continue;
        }
        let id = block.id(row);
        if search.excluded == Some(id) {
            continue;
        }
        let place = Place::Tail { block, row };
        if let Some(filter) = &search.request.filter
            && !place.passes(filter)?
        {
            continue;
        }
        search.closest.push(*distance, Found { id, place });
    }
    Ok(())
}
