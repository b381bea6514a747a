//! Search over a snapshot: all segments and large blocks of the tail as parts of one search of the
//! kernel, small blocks exactly, the closest of both kept.
//!
//! The kernel knows rows by number. Rows that are dead, overwritten by the tail, or of which the filter
//! index cannot tell whether they pass, are found out when they come up, so more rows are asked for
//! than are wanted; where too few are left, more still, and then without those known to be dead.

mod sources;
mod tail;

use crate::base::compute::{self, Compute};
use crate::base::{Code, Error, Result};
use crate::engine::model::{Hit, K_MAX, Metric, Query, SearchRequest, SearchResponse, SearchStats};
use crate::engine::snapshot::{Found, OpenSnapshot, Payloads};
use crate::engine::validate::check_vector;
use crate::index::{EF_MAX, Effort, Part, Scratch, ThreadScratch, Threads, TopK, search_parts};
use crate::manifest::CollectionSettings;
use sources::Source;

/// Rows asked for beyond those that are wanted, and for each dead one to be expected among them.
const SPARE: usize = 2;
/// How many times as many rows are asked for where too few are left.
const MORE: usize = 4;

/// Searches that are too few to be spread over threads.
const SEARCHES_PER_THREAD: usize = 4;

/// A search for so many results at most, without a filter, over so many segments, with so many rows in all,
/// and so many rows of the tail, takes a tenth to half of a millisecond, about as long as handing it to
/// another thread and back. The thread that read it does it.
const QUICK_RESULTS: usize = 100;
const QUICK_SEGMENTS: usize = 4;
const QUICK_ROWS: u64 = 1 << 20;
const QUICK_TAIL_ROWS: u64 = 1 << 16;

/// Checks the ranges of a search.
fn check(request: &SearchRequest, settings: &CollectionSettings) -> Result<()> {
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

/// Checks the searches of one request; of several the error says which.
pub fn check_all(requests: &[SearchRequest], settings: &CollectionSettings) -> Result<()> {
    for (index, request) in requests.iter().enumerate() {
        check(request, settings).map_err(|error| match requests.len() {
            1 => error,
            _ => error.context(format!("searches[{index}]")).with("index", index),
        })?;
    }
    Ok(())
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

/// One search of a snapshot.
struct Search<'a> {
    request: &'a SearchRequest,
    snapshot: &'a OpenSnapshot,
    metric: Metric,
    vector: &'a [f32],
    /// The id that is left out.
    excluded: Option<&'a str>,
    /// Who may take a share of the work.
    threads: Threads,
}

impl<'a> Search<'a> {
    fn start(
        request: &'a SearchRequest,
        metric: Metric,
        snapshot: &'a OpenSnapshot,
        threads: Threads,
    ) -> Result<Self> {
        let (vector, excluded) = match &request.query {
            Query::Vector(vector) => (vector.as_slice(), None),
            Query::Id(id) => {
                let place = snapshot.find(id)?.ok_or_else(|| not_found(id))?;
                (place.vector(), Some(id.as_str()))
            }
        };
        Ok(Search { request, snapshot, metric, vector, excluded, threads })
    }

    /// The closest records, closest first.
    fn closest(&self) -> Result<Vec<(f32, Found<'a>)>> {
        let wanted = self.request.offset + self.request.k;
        let mut closest = TopK::new(wanted);
        tail::search(self, &mut closest)?;
        for (distance, found) in self.of_parts(wanted)? {
            closest.push(distance, found);
        }
        Ok(closest.into_sorted())
    }

    /// The closest records of segments and large blocks.
    fn of_parts(&self, wanted: usize) -> Result<Vec<(f32, Found<'a>)>> {
        let mut sources = sources::all(self)?;
        if sources.is_empty() {
            return Ok(Vec::new());
        }
        let dead = sources.iter().map(Source::dead_share).fold(0.0, f64::max);
        let mut asked = wanted + SPARE + (SPARE as f64 * dead * wanted as f64) as usize;
        // Another search may begin on this thread before this one ends.
        let mut scratch = ThreadScratch::default();
        loop {
            let (kept, found) = self.look(&sources, asked, &mut scratch)?;
            let all: usize = sources.iter().map(Source::rows).sum();
            if kept.len() >= wanted || found >= all || asked >= EF_MAX {
                return Ok(kept);
            }
            asked = (MORE * asked).min(EF_MAX);
            sources.iter_mut().for_each(|source| source.without_dead(self.snapshot));
        }
    }

    /// Of the `asked` closest rows the records that are shown, and how many rows there were.
    fn look(
        &self,
        sources: &[Source<'a>],
        asked: usize,
        scratch: &mut Scratch,
    ) -> Result<(Vec<(f32, Found<'a>)>, usize)> {
        let vectors: Vec<&[f32]> = sources.iter().map(Source::vectors).collect();
        let parts: Vec<Part<'_>> =
            sources.iter().zip(&vectors).map(|(source, vectors)| source.part(vectors)).collect();
        let effort = Effort::Default;
        let found = search_parts(self.vector, &parts, asked, effort, self.threads, scratch);
        let mut kept = Vec::with_capacity(found.len());
        let mut payloads = Payloads::default();
        for one in found {
            let source = &sources[one.part as usize];
            if let Some(record) = source.record(self, one.row, &mut payloads)? {
                kept.push((one.distance, record));
            }
        }
        Ok((kept, found.len()))
    }

    fn finish(&self, stats: SearchStats) -> Result<SearchResponse> {
        let mut payloads = Payloads::default();
        let closest = self.closest()?.into_iter().skip(self.request.offset);
        let hits = closest.map(|(distance, found)| self.hit(distance, found, &mut payloads));
        let version = self.snapshot.version();
        Ok(SearchResponse { version, hits: hits.collect::<Result<_>>()?, stats })
    }

    fn hit(&self, distance: f32, found: Found<'a>, payloads: &mut Payloads<'a>) -> Result<Hit> {
        let payload = match self.request.include_metadata {
            true => Some(payloads.of(found.place)?),
            false => None,
        };
        let (metadata, text) = payload.map(|payload| (payload.metadata, payload.text)).unzip();
        Ok(Hit {
            id: found.id.to_owned(),
            distance,
            metadata,
            text: text.flatten(),
            vector: self.request.include_vector.then(|| found.place.vector().to_vec()),
        })
    }
}

/// Whether the thread that reads requests may answer them itself.
fn are_quick(snapshot: &OpenSnapshot, requests: &[SearchRequest]) -> bool {
    let [SearchRequest { k, offset, filter: None, .. }] = requests else { return false };
    let rows: u64 = snapshot.segments().map(|(member, _)| u64::from(member.meta.rows)).sum();
    k + offset <= QUICK_RESULTS
        && snapshot.tail.rows() <= QUICK_TAIL_ROWS
        && snapshot.segments().count() <= QUICK_SEGMENTS
        && rows <= QUICK_ROWS
}

/// Answers searches on one snapshot, many of them on all threads of a pool.
pub async fn run_all(
    pool: &Compute,
    snapshot: OpenSnapshot,
    metric: Metric,
    mut requests: Vec<SearchRequest>,
) -> Result<Vec<SearchResponse>> {
    if are_quick(&snapshot, &requests) {
        return compute::here(|| run(&snapshot, metric, &requests, Threads::One))?;
    }
    let at_a_time = requests.len().div_ceil(pool.threads()).max(SEARCHES_PER_THREAD);
    let mut shares = Vec::new();
    while !requests.is_empty() {
        let rest = requests.split_off(requests.len().min(at_a_time));
        let (share, snapshot) = (std::mem::replace(&mut requests, rest), snapshot.clone());
        let threads = pool.clone();
        shares.push(pool.run(move || {
            // Throughput first: a search has other threads to itself only where they have nothing to do.
            let threads = if threads.is_idle() { Threads::Pool } else { Threads::One };
            run(&snapshot, metric, &share, threads)
        }));
    }
    let answers = futures::future::try_join_all(shares).await?;
    let mut responses = Vec::new();
    for answers in answers {
        responses.extend(answers?);
    }
    Ok(responses)
}

/// Answers searches on one snapshot. CPU-heavy.
fn run(
    snapshot: &OpenSnapshot,
    metric: Metric,
    requests: &[SearchRequest],
    threads: Threads,
) -> Result<Vec<SearchResponse>> {
    let stats = SearchStats {
        rows_scanned: snapshot.tail.rows(),
        segments: snapshot.segments().count() as u64,
        ..SearchStats::default()
    };
    let answer = |request| Search::start(request, metric, snapshot, threads)?.finish(stats);
    requests.iter().map(answer).collect()
}
