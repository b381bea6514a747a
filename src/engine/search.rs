//! Exact search over a snapshot: distances in tiles, the closest few kept, filters asked last.

use crate::base::ids::Seq;
use crate::base::{Code, Error, Result};
use crate::engine::model::{Hit, K_MAX, Metric, Query, SearchRequest, SearchResponse, SearchStats};
use crate::engine::tail::{Block, Snapshot};
use crate::engine::validate::check_vector;
use crate::filter::Filter;
use crate::index::{PreparedQuery, TopK};
use crate::manifest::CollectionSettings;
use serde_json::Value;
use std::cmp::Ordering;

/// Rows whose distances are computed at a time: the tile's vectors stay in the cache while every
/// query of a batch passes over them.
const TILE_ROWS: usize = 256;

/// Checks the ranges of a search.
pub fn check(request: &SearchRequest, settings: &CollectionSettings) -> Result<()> {
    if !(1..=K_MAX).contains(&request.k) {
        return Err(Error::invalid(format!("k must be 1 to {K_MAX}, not {}", request.k))
            .with("k", request.k));
    }
    if request.offset.saturating_add(request.k) > K_MAX {
        return Err(Error::invalid(format!(
            "offset + k must be at most {K_MAX}, not {}; narrow the search by a filter instead",
            request.offset.saturating_add(request.k)
        )));
    }
    match &request.query {
        Query::Vector(vector) => check_vector(vector, settings),
        Query::Id(_) => Ok(()),
    }
}

/// A row, ordered by its id: what breaks ties.
#[derive(Clone, Copy)]
struct Row<'a> {
    block: &'a Block,
    row: usize,
}

impl Row<'_> {
    fn id(&self) -> &str {
        self.block.id(self.row)
    }
}

impl Ord for Row<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.id().cmp(other.id())
    }
}

impl PartialOrd for Row<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Row<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Row<'_> {}

/// One search on its way through the blocks.
struct Running<'a> {
    request: &'a SearchRequest,
    query: PreparedQuery,
    /// The record that the query is the vector of.
    excluded: Option<&'a str>,
    closest: TopK<Row<'a>>,
}

impl<'a> Running<'a> {
    fn start(request: &'a SearchRequest, metric: Metric, snapshot: &Snapshot) -> Result<Self> {
        let (query, excluded) = match &request.query {
            Query::Vector(vector) => (PreparedQuery::new(metric, vector), None),
            Query::Id(id) => {
                let (block, row) = snapshot.find(id).ok_or_else(|| not_found(id))?;
                (PreparedQuery::new(metric, block.vector(row)), Some(id.as_str()))
            }
        };
        Ok(Running { request, query, excluded, closest: TopK::new(request.offset + request.k) })
    }

    /// Offers a tile's rows. The filter is asked last: it parses metadata, and most rows are too
    /// far away to need it.
    fn offer(&mut self, snapshot: &Snapshot, block: &'a Block, first: usize, distances: &[f32]) {
        for (at, distance) in distances.iter().enumerate() {
            let row = first + at;
            if *distance > self.closest.threshold() || !snapshot.shows(block, row) {
                continue;
            }
            if self.excluded == Some(block.id(row)) {
                continue;
            }
            if self.request.filter.as_ref().is_some_and(|filter| !passes(filter, block, row)) {
                continue;
            }
            self.closest.push(*distance, Row { block, row });
        }
    }

    fn finish(self, version: Seq, stats: SearchStats) -> SearchResponse {
        let request = self.request;
        let closest = self.closest.into_sorted().into_iter().skip(request.offset);
        let hits = closest.map(|(distance, row)| hit(request, distance, row.block, row.row));
        SearchResponse { version, hits: hits.collect(), stats }
    }
}

fn hit(request: &SearchRequest, distance: f32, block: &Block, row: usize) -> Hit {
    let metadata = request.include_metadata.then(|| metadata_or_empty(block, row).into());
    let text = block.text(row).filter(|_| request.include_metadata);
    Hit {
        id: block.id(row).to_owned(),
        distance,
        metadata,
        text: text.map(Into::into),
        vector: request.include_vector.then(|| block.vector(row).to_vec()),
    }
}

/// The metadata of a row as a client sees it.
pub fn metadata_or_empty(block: &Block, row: usize) -> &str {
    match block.metadata(row) {
        "" => "{}",
        metadata => metadata,
    }
}

/// Whether a row's metadata passes a filter.
pub fn passes(filter: &Filter, block: &Block, row: usize) -> bool {
    // Metadata was checked to be JSON when it was written; a fault would be a defect, and a
    // record that cannot be read matches nothing.
    let metadata: Value = serde_json::from_str(metadata_or_empty(block, row)).unwrap_or_default();
    filter.matches(&metadata)
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

/// Answers searches on one snapshot. CPU-heavy: runs on the compute pool.
pub fn run(
    snapshot: &Snapshot,
    metric: Metric,
    requests: &[SearchRequest],
) -> Result<Vec<SearchResponse>> {
    let starts = requests.iter().map(|request| Running::start(request, metric, snapshot));
    let mut running: Vec<Running<'_>> = starts.collect::<Result<_>>()?;
    let mut distances = [0.0; TILE_ROWS];
    for block in snapshot.blocks() {
        let dimensions = block.vectors().len() / block.rows().max(1);
        for first in (0..block.rows()).step_by(TILE_ROWS) {
            let last = (first + TILE_ROWS).min(block.rows());
            let vectors = &block.vectors()[first * dimensions..last * dimensions];
            let norms = &block.inverse_norms()[first..last];
            let distances = &mut distances[..last - first];
            for search in &mut running {
                search.query.distances(vectors, norms, distances);
                search.offer(snapshot, block, first, distances);
            }
        }
    }
    let stats = SearchStats { rows_scanned: snapshot.rows(), ..SearchStats::default() };
    Ok(running.into_iter().map(|search| search.finish(snapshot.version, stats)).collect())
}
