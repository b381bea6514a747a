//! Search over a snapshot: small blocks of the tail and small segments row by row ([`tail`], [`exact`]), all
//! others as parts of one search of the kernel ([`rounds`]); the closest of both are kept.

mod exact;
mod rounds;
mod sources;
mod tail;

use crate::base::compute::{self, Compute};
use crate::base::defect::{self, Defect};
use crate::base::request::{RequestContext, Work};
use crate::base::{Env, Error, Result};
use crate::engine::model::{
    Effort, Hit, K_MAX, Metric, Query, SearchRequest, SearchResponse, SearchStats,
};
use crate::engine::reading::segments::Resident;
use crate::engine::reading::snapshot::{Found, OpenSnapshot, Payloads, answer_bytes};
use crate::engine::writing::validate::check_vector;
use crate::index::{Threads, TopK};
use crate::manifest::CollectionSettings;
pub use sources::record_units;

/// Whoever would be content with less can ask for fewer results.
const RECALL_MIN: f32 = 0.5;

/// Searches that are too few to be spread over threads.
const SEARCHES_PER_THREAD: usize = 4;

/// A search for so many results at most, without a filter, over so many segments, with so many rows in all,
/// and so many rows of the tail, takes a tenth to half of a millisecond, about as long as handing it to
/// another thread and back. The thread that read it does it.
const QUICK_RESULTS: usize = 100;
const QUICK_SEGMENTS: usize = 4;
const QUICK_ROWS: u64 = 1 << 20;
const QUICK_TAIL_ROWS: u64 = 1 << 16;
/// With no more effort than this.
const QUICK_EF: usize = 200;
const QUICK_RECALL: f32 = 0.98;

/// Units of work (about a microsecond each) that a search takes, besides filters, and for each result.
const UNITS_PER_SEARCH: u64 = 200;
const UNITS_PER_RESULT: u64 = 2;
/// A thread takes so many units of the searches of a batch at a time: then others have their turn.
const UNITS_AT_A_TIME: u64 = 5_000;
/// A search that took so many units, for its filter or for a thousand segments, is dear: it goes on where it
/// stands back behind others.
const UNITS_OF_CHEAP: u64 = 20_000;

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
    check_effort(request.effort)?;
    match &request.query {
        Query::Vector(vector) => check_vector(vector, settings),
        Query::Id(_) => Ok(()),
    }
}

/// Checks how hard a search is to look.
fn check_effort(effort: Effort) -> Result<()> {
    match effort {
        Effort::Recall(recall) if !(RECALL_MIN..=1.0).contains(&recall) => {
            Err(Error::invalid(format!("targetRecall must be {RECALL_MIN} to 1, not {recall}"))
                .with("path", "targetRecall"))
        }
        Effort::Ef(ef) if !(1..=K_MAX).contains(&ef) => {
            Err(Error::invalid(format!("ef must be 1 to {K_MAX}, not {ef}")).with("path", "ef"))
        }
        _ => Ok(()),
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
    /// How long it may take, and whether anybody waits for it.
    work: &'a Work<'a>,
}

impl<'a> Search<'a> {
    fn start(
        request: &'a SearchRequest,
        metric: Metric,
        snapshot: &'a OpenSnapshot,
        threads: Threads,
        work: &'a Work<'a>,
    ) -> Result<Self> {
        let (vector, excluded) = match &request.query {
            Query::Vector(vector) => (vector.as_slice(), None),
            Query::Id(id) => {
                let place = snapshot.find(id)?.ok_or_else(|| snapshot.missing(id))?;
                let excluded = (!defect::is_here(Defect::SearchFindsItself)).then_some(id.as_str());
                (place.vector(), excluded)
            }
        };
        Ok(Search { request, snapshot, metric, vector, excluded, threads, work })
    }

    /// The closest records, closest first.
    fn closest(&self) -> Result<Vec<(f32, Found<'a>)>> {
        let mut closest = TopK::new(self.request.offset + self.request.k);
        tail::search(self, &mut closest)?;
        rounds::search(self, &mut closest)?;
        Ok(closest.into_sorted())
    }

    fn finish(&self, stats: SearchStats) -> Result<SearchResponse> {
        let mut payloads = Payloads::default();
        let closest = self.closest()?.into_iter().skip(self.request.offset);
        let hits = closest.map(|(distance, found)| self.hit(distance, found, &mut payloads));
        let version = self.snapshot.version();
        let (hits, partial) = (hits.collect::<Result<_>>()?, self.snapshot.partial());
        Ok(SearchResponse { version, hits, stats, partial })
    }

    fn hit(&self, distance: f32, found: Found<'a>, payloads: &mut Payloads<'a>) -> Result<Hit> {
        let payload = match self.request.include_metadata {
            true => Some(payloads.of(found.place)?),
            false => None,
        };
        let vector = self.request.include_vector.then(|| found.place.vector());
        let bytes = answer_bytes(found.id, vector, payload.as_ref());
        self.work.context().charge(bytes)?;
        let (metadata, text) = payload.map(|payload| (payload.metadata, payload.text)).unzip();
        Ok(Hit {
            id: found.id.to_owned(),
            distance,
            metadata,
            text: text.flatten(),
            vector: vector.map(<[f32]>::to_vec),
        })
    }
}

/// Whether the thread that reads requests may answer them itself.
fn are_quick(snapshot: &OpenSnapshot, requests: &[SearchRequest]) -> bool {
    let [SearchRequest { k, offset, filter: None, effort, .. }] = requests else { return false };
    let is_usual = match *effort {
        Effort::Default => true,
        Effort::Ef(ef) => ef <= QUICK_EF,
        Effort::Recall(recall) => recall <= QUICK_RECALL,
    };
    // What an index cannot find is measured row by row.
    let is_found = |resident: &Resident| resident.segment().index().finds_enough();
    if !is_usual || !snapshot.segments().all(|(_, resident)| is_found(resident)) {
        return false;
    }
    let rows: u64 = snapshot.segments().map(|(member, _)| u64::from(member.meta.rows)).sum();
    k + offset <= QUICK_RESULTS
        && snapshot.tail.rows() <= QUICK_TAIL_ROWS
        && snapshot.segments().count() <= QUICK_SEGMENTS
        && rows <= QUICK_ROWS
}

/// Answers searches on one snapshot, many of them on all threads of a pool.
pub async fn run_all(
    env: &Env,
    snapshot: OpenSnapshot,
    metric: Metric,
    mut requests: Vec<SearchRequest>,
    context: &RequestContext,
) -> Result<Vec<SearchResponse>> {
    if are_quick(&snapshot, &requests) {
        let work = Work::unbounded(context);
        let answer = |request| answer(&snapshot, metric, request, Threads::One, &work);
        return compute::here(|| requests.iter().map(answer).collect())?;
    }
    let at_a_time = requests.len().div_ceil(env.searches.threads()).max(SEARCHES_PER_THREAD);
    let mut shares = Vec::new();
    while !requests.is_empty() {
        let rest = requests.split_off(requests.len().min(at_a_time));
        let share = Share {
            snapshot: snapshot.clone(),
            metric,
            requests: std::mem::replace(&mut requests, rest),
            responses: Vec::new(),
            context: context.clone(),
            dear: Dear::default(),
        };
        shares.push(share.answered(env));
    }
    let answers = futures::future::try_join_all(shares).await?;
    Ok(answers.into_iter().flatten().collect())
}

/// Some of the searches of a request, one after another.
struct Share {
    snapshot: OpenSnapshot,
    metric: Metric,
    requests: Vec<SearchRequest>,
    /// The answers to the first of them.
    responses: Vec<SearchResponse>,
    context: RequestContext,
    dear: Dear,
}

/// Which searches of a share turned out to be dear: so are the others of their kind, most likely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Dear {
    filtered: bool,
    plain: bool,
}

impl Dear {
    fn of(&mut self, request: &SearchRequest) -> &mut bool {
        match request.filter {
            Some(_) => &mut self.filtered,
            None => &mut self.plain,
        }
    }
}

impl Share {
    /// Answers all: a few at a time, so that what others ask for does not stand behind all of them, and
    /// those that are dear where they stand back.
    async fn answered(mut self, env: &Env) -> Result<Vec<SearchResponse>> {
        while let Some(next) = self.requests.get(self.responses.len()) {
            let stands_back = *self.dear.of(next);
            let pool = if stands_back { &env.heavy } else { &env.searches };
            let threads = pool.clone();
            let before = self.dear;
            self = pool.run(move || self.some(stands_back, &threads)).await??;
            if self.dear != before {
                env.metrics.searches_dear.inc();
            }
        }
        Ok(self.responses)
    }

    /// Answers the next few.
    fn some(mut self, stands_back: bool, pool: &Compute) -> Result<Share> {
        // Throughput first: a search has other threads to itself only where they have nothing to do.
        let idle = !stands_back && pool.is_idle();
        let threads = if idle { Threads::Pool } else { Threads::One };
        let mut units = 0;
        while let Some(request) = self.requests.get(self.responses.len())
            && units < UNITS_AT_A_TIME
            && (stands_back || !*self.dear.of(request))
        {
            self.context.check()?;
            let patience = if stands_back { u64::MAX } else { UNITS_OF_CHEAP };
            let work = Work::within(&self.context, patience);
            match answer(&self.snapshot, self.metric, request, threads, &work) {
                Ok(response) => self.responses.push(response),
                Err(_) if work.is_dear() => *self.dear.of(request) = true,
                Err(error) => return Err(error),
            }
            let request = &self.requests[self.responses.len().saturating_sub(1)];
            units += UNITS_PER_SEARCH
                + UNITS_PER_RESULT * (request.offset + request.k) as u64
                + work.spent();
        }
        Ok(self)
    }
}

/// Answers a search. CPU-heavy.
fn answer(
    snapshot: &OpenSnapshot,
    metric: Metric,
    request: &SearchRequest,
    threads: Threads,
    work: &Work<'_>,
) -> Result<SearchResponse> {
    let stats = SearchStats {
        rows_scanned: snapshot.tail.rows(),
        segments: snapshot.segments().count() as u64,
        ..SearchStats::default()
    };
    Search::start(request, metric, snapshot, threads, work)?.finish(stats)
}
