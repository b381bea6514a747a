//! Search over a snapshot: the tail exactly, each segment by its index, the closest of all kept.

mod segment;
mod tail;

use crate::base::ids::Seq;
use crate::base::{Code, Error, Result};
use crate::engine::model::{Hit, K_MAX, Metric, Query, SearchRequest, SearchResponse, SearchStats};
use crate::engine::snapshot::{Found, OpenSnapshot, Payloads};
use crate::engine::validate::check_vector;
use crate::index::{PreparedQuery, TopK};
use crate::manifest::CollectionSettings;

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

/// The error for a record that is not there.
pub fn not_found(id: &str) -> Error {
    let shown: String = id.chars().take(80).collect();
    Error::new(
        Code::VectorNotFound,
        format!("there is no record with the id {shown:?} in this collection"),
    )
    .with("id", shown)
}

/// One search on its way over a snapshot.
struct Running<'a> {
    request: &'a SearchRequest,
    vector: &'a [f32],
    query: PreparedQuery,
    /// The id that is left out.
    excluded: Option<&'a str>,
    closest: TopK<Found<'a>>,
}

impl<'a> Running<'a> {
    fn start(
        request: &'a SearchRequest,
        metric: Metric,
        snapshot: &'a OpenSnapshot,
    ) -> Result<Self> {
        let (vector, excluded) = match &request.query {
            Query::Vector(vector) => (vector.as_slice(), None),
            Query::Id(id) => {
                let place = snapshot.find(id)?.ok_or_else(|| not_found(id))?;
                (place.vector(), Some(id.as_str()))
            }
        };
        let query = PreparedQuery::new(metric, vector);
        let closest = TopK::new(request.offset + request.k);
        Ok(Running { request, vector, query, excluded, closest })
    }

    fn finish(self, version: Seq, stats: SearchStats) -> Result<SearchResponse> {
        let request = self.request;
        let mut payloads = Payloads::default();
        let closest = self.closest.into_sorted().into_iter().skip(request.offset);
        let hits = closest.map(|(distance, found)| hit(request, distance, found, &mut payloads));
        Ok(SearchResponse { version, hits: hits.collect::<Result<_>>()?, stats })
    }
}

fn hit<'a>(
    request: &SearchRequest,
    distance: f32,
    found: Found<'a>,
    payloads: &mut Payloads<'a>,
) -> Result<Hit> {
    let payload = match request.include_metadata {
        true => Some(payloads.of(found.place)?),
        false => None,
    };
    let (metadata, text) = payload.map(|payload| (payload.metadata, payload.text)).unzip();
    Ok(Hit {
        id: found.id.to_owned(),
        distance,
        metadata,
        text: text.flatten(),
        vector: request.include_vector.then(|| found.place.vector().to_vec()),
    })
}

/// Answers searches on one snapshot. CPU-heavy: runs on the compute pool.
pub fn run(
    snapshot: &OpenSnapshot,
    metric: Metric,
    requests: &[SearchRequest],
) -> Result<Vec<SearchResponse>> {
    let starts = requests.iter().map(|request| Running::start(request, metric, snapshot));
    let mut running: Vec<Running<'_>> = starts.collect::<Result<_>>()?;
    tail::search(snapshot, &mut running)?;
    for (member, resident) in snapshot.segments() {
        for search in &mut running {
            segment::search(snapshot, member, resident, search)?;
        }
    }
    let stats = SearchStats {
        rows_scanned: snapshot.tail.rows(),
        segments: snapshot.segments().count() as u64,
        ..SearchStats::default()
    };
    running.into_iter().map(|search| search.finish(snapshot.version(), stats)).collect()
}
