//! What is read on behalf of a request: it ends when nobody waits for it any more, and what it may answer
//! is bounded.

use super::Brainy;
use crate::base::ids::CollectionName;
use crate::base::request::{RequestContext, Work};
use crate::base::{Error, Result};
use crate::engine::model::*;
use crate::engine::snapshot::{OpenSnapshot, Payloads};
use crate::engine::{records, search, transfer, validate};
use crate::store::layers::Usage;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::HashSet;
use tokio::time::Instant;

/// A fetch of more ids takes longer than what is short should stand behind.
const QUICK_IDS: usize = 64;
/// Units of work that looking up a record takes, about.
const UNITS_PER_RECORD: u64 = 20;

/// Reads for one request. What the answers hold stays reserved until the request's context is dropped.
#[derive(Debug, Clone, Copy)]
pub struct Reads<'a> {
    brainy: &'a Brainy,
    context: &'a RequestContext,
}

impl Brainy {
    /// A request that comes in now, and whose answer is of no use after `deadline`.
    pub fn request(&self, deadline: Option<Instant>) -> RequestContext {
        let budget = &self.0.context.memory.answers;
        RequestContext::new(budget, self.0.context.answer_max, deadline)
    }

    /// Reads on behalf of a request.
    pub fn within<'a>(&'a self, context: &'a RequestContext) -> Reads<'a> {
        Reads { brainy: self, context }
    }

    /// One record, with its vector.
    pub async fn get(&self, name: &CollectionName, id: &str) -> Result<Record> {
        self.within(&self.request(None)).get(name, id).await
    }

    /// Several records by id (1..=10,000), each once; `answer_too_large` where they hold too much, with
    /// how many of the ids fit.
    pub async fn fetch(
        &self,
        name: &CollectionName,
        ids: &[String],
        include_vector: bool,
    ) -> Result<FetchedRecords> {
        self.within(&self.request(None)).fetch(name, ids, include_vector).await
    }

    /// One page of records, ordered by id; `limit` 1..=10,000. It has fewer where more would hold too
    /// much.
    pub async fn list(
        &self,
        name: &CollectionName,
        limit: usize,
        cursor: Option<String>,
        include_vector: bool,
    ) -> Result<RecordPage> {
        self.within(&self.request(None)).list(name, limit, cursor, include_vector).await
    }

    /// Searches.
    pub async fn search(
        &self,
        name: &CollectionName,
        request: SearchRequest,
    ) -> Result<SearchResponse> {
        self.within(&self.request(None)).search(name, request).await
    }

    /// Answers 1..=1,000 searches on one snapshot: the one that satisfies the strictest of them.
    pub async fn search_batch(
        &self,
        name: &CollectionName,
        requests: Vec<SearchRequest>,
    ) -> Result<Vec<SearchResponse>> {
        self.within(&self.request(None)).search_batch(name, requests).await
    }

    /// All records at one version, ordered by id, as NDJSON.
    pub async fn export(&self, name: &CollectionName, include_vector: bool) -> Result<Export> {
        let snapshot = self.read(name).await?;
        // Its pieces are bounded, not the whole.
        let context = self.request(None);
        Ok(transfer::export(snapshot, self.0.context.env.clone(), context, include_vector))
    }
}

impl Reads<'_> {
    /// As [`Brainy::get`].
    pub async fn get(&self, name: &CollectionName, id: &str) -> Result<Record> {
        let snapshot = self.brainy.read(name).await?;
        let place = snapshot.find(id)?.ok_or_else(|| search::not_found(id))?;
        let record = Payloads::default().record_that_fits(place, true, self.context)?;
        record.ok_or_else(|| self.context.too_large())
    }

    /// As [`Brainy::fetch`].
    pub async fn fetch(
        &self,
        name: &CollectionName,
        ids: &[String],
        include_vector: bool,
    ) -> Result<FetchedRecords> {
        validate::check_count("ids", ids.len(), PAGE_MAX)?;
        let snapshot = self.brainy.read(name).await?;
        let env = &self.brainy.0.context.env;
        let guard = self.context.guard(&env.metrics.searches_cancelled);
        let pool = if ids.len() > QUICK_IDS { &env.compute } else { &env.searches };
        let (ids, context) = (ids.to_vec(), self.context.clone());
        let fetched = pool.run(move || fetch(&snapshot, ids, include_vector, &context)).await;
        guard.done(fetched.and_then(|fetched| fetched))
    }

    /// As [`Brainy::list`].
    pub async fn list(
        &self,
        name: &CollectionName,
        limit: usize,
        cursor: Option<String>,
        include_vector: bool,
    ) -> Result<RecordPage> {
        validate::check_count("limit", limit, PAGE_MAX)?;
        let after = cursor.as_deref().map(decode_cursor).transpose()?;
        let snapshot = self.brainy.read(name).await?;
        let env = &self.brainy.0.context.env;
        let guard = self.context.guard(&env.metrics.searches_cancelled);
        let context = self.context.clone();
        let page = env
            .compute
            .run(move || list(&snapshot, after.as_deref(), limit, include_vector, &context));
        guard.done(page.await.and_then(|page| page))
    }

    /// As [`Brainy::search`].
    pub async fn search(
        &self,
        name: &CollectionName,
        request: SearchRequest,
    ) -> Result<SearchResponse> {
        let mut responses = self.search_batch(name, vec![request]).await?;
        responses.pop().ok_or_else(|| Error::internal("a search gave no answer"))
    }

    /// As [`Brainy::search_batch`].
    pub async fn search_batch(
        &self,
        name: &CollectionName,
        requests: Vec<SearchRequest>,
    ) -> Result<Vec<SearchResponse>> {
        let inner = &self.brainy.0;
        inner.context.duty.check_read()?;
        validate::check_count("searches", requests.len(), SEARCHES_PER_BATCH_MAX)?;
        let started = Instant::now();
        let collection = inner.collections.open(name).await?;
        let settings = collection.settings();
        search::check_all(&requests, &settings)?;
        let asked = Usage::default();
        let mut wanted: Vec<Consistency> = Vec::new();
        for SearchRequest { consistency, .. } in &requests {
            if *consistency != Consistency::Eventual && !wanted.contains(consistency) {
                wanted.push(*consistency);
            }
        }
        let snapshot = asked.scope(self.brainy.pin(&collection, &wanted)).await?;
        let env = &inner.context.env;
        let guard = self.context.guard(&env.metrics.searches_cancelled);
        let answered =
            search::run_all(env, snapshot, settings.metric, requests, self.context).await;
        let mut responses = guard.done(answered)?;
        let took = started.elapsed();
        responses.iter_mut().for_each(|response| response.stats.took = took);
        env.metrics.searches.inc_by(responses.len() as u64);
        env.metrics.search_seconds.observe(took.as_secs_f64());
        Ok(responses)
    }
}

fn fetch(
    snapshot: &OpenSnapshot,
    ids: Vec<String>,
    include_vector: bool,
    context: &RequestContext,
) -> Result<FetchedRecords> {
    let (mut records, mut missing, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    let (mut payloads, work) = (Payloads::default(), Work::unbounded(context));
    for (at, id) in ids.iter().enumerate() {
        if !seen.insert(id.as_str()) {
            continue;
        }
        work.spend(UNITS_PER_RECORD)?;
        match snapshot.find(id)? {
            None => missing.push(id.clone()),
            Some(place) => match payloads.record_that_fits(place, include_vector, context)? {
                Some(record) => records.push(record),
                None => return Err(context.too_large().with("idsThatFit", at as u64)),
            },
        }
    }
    Ok(FetchedRecords { records, missing, version: snapshot.version() })
}

fn list(
    snapshot: &OpenSnapshot,
    after: Option<&str>,
    limit: usize,
    include_vector: bool,
    context: &RequestContext,
) -> Result<RecordPage> {
    let (mut records, mut payloads) = (Vec::<Record>::new(), Payloads::default());
    let work = Work::unbounded(context);
    let more = records::visit(snapshot, after, limit, |place| {
        work.spend(UNITS_PER_RECORD)?;
        let record = payloads.record_that_fits(place, include_vector, context)?;
        let fits = record.is_some();
        records.extend(record);
        Ok(fits)
    })?;
    let last = records.last().filter(|_| more);
    Ok(RecordPage {
        next_cursor: last.map(|last| URL_SAFE_NO_PAD.encode(&last.id)),
        records,
        version: snapshot.version(),
    })
}

fn decode_cursor(cursor: &str) -> Result<String> {
    let id = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|id| String::from_utf8(id).ok());
    id.ok_or_else(|| Error::invalid("the cursor is not valid; pass nextCursor as it was returned"))
}
