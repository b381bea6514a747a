//! Rows by their vectors, one after another: where there are so few that nothing is quicker, and where many are
//! equally far.

use super::Search;
use super::sources::Source;
use crate::base::Result;
use crate::engine::reading::snapshot::{Found, Payloads};
use crate::index::{Metric, PreparedQuery, TopK, inverse_norm};

/// Rows whose distances are computed at a time: the tile's vectors stay in the cache.
const TILE_ROWS: usize = 256;
/// Values of vectors that take a unit of work.
const VALUES_PER_UNIT: usize = 1 << 14;

/// Offers all rows of `sources` that may be results.
pub(super) fn search<'a>(
    search: &Search<'a>,
    sources: Vec<Source<'a>>,
    closest: &mut TopK<Found<'a>>,
) -> Result<()> {
    let dimensions = search.vector.len();
    let (mut norms, mut distances) = (Vec::new(), [0.0; TILE_ROWS]);
    let (mut query, mut payloads) = (None, Payloads::default());
    for mut source in sources {
        let query = query.get_or_insert_with(|| PreparedQuery::new(search.metric, search.vector));
        for (tile, vectors) in source.vectors().chunks(TILE_ROWS * dimensions).enumerate() {
            let rows = vectors.len() / dimensions;
            let first = (tile * TILE_ROWS) as u32;
            if !source.may_hold(first..first + rows as u32) {
                continue;
            }
            search.work.spend(vectors.len().div_ceil(VALUES_PER_UNIT) as u64)?;
            norms.clear();
            if search.metric == Metric::Cosine {
                norms.extend(vectors.chunks_exact(dimensions).map(inverse_norm));
            }
            let distances = &mut distances[..rows];
            query.distances(vectors, &norms, distances);
            for (row, distance) in (first..).zip(distances) {
                if *distance <= closest.threshold()
                    && source.allows(row)
                    && let Some(found) = source.record(search, row)?
                    && source.passes(search, row, &mut payloads)?
                {
                    closest.push(*distance, found);
                }
            }
        }
    }
    Ok(())
}
