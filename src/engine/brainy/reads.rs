//! What is read on behalf of a request: it ends when nobody waits for it any more, and what it may answer
//! is bounded.

mod recall;
mod warm;

use super::Brainy;
use crate::base::ids::CollectionName;
use crate::base::request::{RequestContext, Work};
use crate::base::{Code, Error, Result};
use crate::engine::collection::Collection;
use crate::engine::model::*;
use crate::engine::reading::snapshot::{OpenSnapshot, Payloads};
use crate::engine::reading::{records, search};
use crate::engine::transfer;
use crate::engine::writing::validate;
use crate::store::layers::Usage;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::HashSet;
use std::sync::Arc;
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

    /// A call of the embedding program, whose answer may be as large as there is memory for answers.
    fn call(&self) -> RequestContext {
        RequestContext::embedded(&self.0.context.memory.answers)
    }

    /// Reads on behalf of a request.
    pub fn within<'a>(&'a self, context: &'a RequestContext) -> Reads<'a> {
        Reads { brainy: self, context }
    }

    /// One record, with its vector.
    pub async fn get(&self, name: &CollectionName, id: &str) -> Result<FoundRecord> {
        self.within(&self.call()).get(name, id).await
    }

    /// Several records by id (1..=10,000), each once.
    pub async fn fetch(
        &self,
        name: &CollectionName,
        ids: &[String],
        include_vector: bool,
    ) -> Result<FetchedRecords> {
        self.within(&self.call()).fetch(name, ids, include_vector).await
    }

    /// One page of records, ordered by id; `limit` 1..=10,000.
    pub async fn list(
        &self,
        name: &CollectionName,
        limit: usize,
        cursor: Option<String>,
        include_vector: bool,
    ) -> Result<RecordPage> {
        self.within(&self.call()).list(name, limit, cursor, include_vector).await
    }

    /// Searches.
    pub async fn search(
        &self,
        name: &CollectionName,
        request: SearchRequest,
    ) -> Result<SearchResponse> {
        self.within(&self.call()).search(name, request).await
    }

    /// Answers 1..=1,000 searches on one snapshot: the one that satisfies the strictest of them.
    pub async fn search_batch(
        &self,
        name: &CollectionName,
        requests: Vec<SearchRequest>,
    ) -> Result<Vec<SearchResponse>> {
        self.within(&self.call()).search_batch(name, requests).await
    }

    /// Measures how much of the true results searches find.
    pub async fn recall(
        &self,
        name: &CollectionName,
        request: RecallRequest,
    ) -> Result<RecallReport> {
        self.within(&self.call()).recall(name, request).await
    }

    /// All records at one version, ordered by id, as NDJSON.
    pub async fn export(&self, name: &CollectionName, include_vector: bool) -> Result<Export> {
        let snapshot = self.read(name).await?;
        // Its pieces are bounded, not the whole.
        let context = self.request(None);
        Ok(transfer::export(snapshot, self.0.context.env.clone(), context, include_vector))
    }

    /// What this instance shows of the life of `name` that there is now.
    async fn read(&self, name: &CollectionName) -> Result<OpenSnapshot> {
        self.read_from(name, None).await.map(|(_, snapshot)| snapshot)
    }

    /// The same, and which life that is: the one that `cursor` is of.
    async fn read_from(
        &self,
        name: &CollectionName,
        cursor: Option<&Cursor>,
    ) -> Result<(u64, OpenSnapshot)> {
        self.0.context.duty.check_read()?;
        let pin = |collection: Arc<Collection>| async move {
            let life = collection.life();
            if cursor.is_some_and(|cursor| cursor.life != life) {
                // Perhaps this instance has not heard of the life that it is of.
                collection.view().look_now().await?;
                return Err(Error::invalid(
                    "the cursor is of a collection that was deleted since; list again from the beginning",
                ));
            }
            Ok((life, collection.open_snapshot(&[], self.wait_max()).await?))
        };
        self.0.collections.on_life(name, pin).await
    }
}

impl Reads<'_> {
    /// As [`Brainy::get`].
    pub async fn get(&self, name: &CollectionName, id: &str) -> Result<FoundRecord> {
        let snapshot = self.brainy.read(name).await?;
        let place = snapshot.find(id)?.ok_or_else(|| snapshot.missing(id))?;
        let record = Payloads::default().record_that_fits(place, true, self.context)?;
        let record = record.ok_or_else(|| self.context.too_large())?;
        // Whether it is in force depends on the log alone: a damaged segment that may hold it is an error.
        Ok(FoundRecord { record, partial: snapshot.behind_hole() })
    }

    /// As [`Brainy::fetch`]; `answer_too_large` where they hold too much, with how many of the ids fit.
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

    /// As [`Brainy::list`]; the page has fewer records where more would hold too much.
    pub async fn list(
        &self,
        name: &CollectionName,
        limit: usize,
        cursor: Option<String>,
        include_vector: bool,
    ) -> Result<RecordPage> {
        validate::check_count("limit", limit, PAGE_MAX)?;
        let cursor = cursor.as_deref().map(Cursor::decode).transpose()?;
        let (life, snapshot) = self.brainy.read_from(name, cursor.as_ref()).await?;
        let env = &self.brainy.0.context.env;
        let guard = self.context.guard(&env.metrics.searches_cancelled);
        let context = self.context.clone();
        let page = env.compute.run(move || {
            let after = cursor.as_ref().map(|cursor| cursor.after.as_str());
            let (records, more) = list(&snapshot, after, limit, include_vector, &context)?;
            let last = records.last().filter(|_| more);
            let next_cursor = last.map(|last| Cursor::encode(life, &last.id));
            let (version, partial) = (snapshot.version(), snapshot.partial());
            Ok(RecordPage { next_cursor, records, version, partial })
        });
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
        let asked = Usage::default();
        let mut wanted: Vec<Consistency> = Vec::new();
        for SearchRequest { consistency, .. } in &requests {
            if *consistency != Consistency::Eventual && !wanted.contains(consistency) {
                wanted.push(*consistency);
            }
        }
        let (asked_for, wanted) = (&requests, &wanted);
        let pin = |collection: Arc<Collection>| async move {
            let settings = collection.settings();
            search::check_all(asked_for, &settings)?;
            let wait_max = self.brainy.wait_max();
            Ok((settings.vector().metric, collection.open_snapshot(wanted, wait_max).await?))
        };
        let (metric, snapshot) = asked.scope(inner.collections.on_life(name, pin)).await?;
        let env = &inner.context.env;
        let as_of = snapshot.as_of;
        let guard = self.context.guard(&env.metrics.searches_cancelled);
        let answered = search::run_all(env, snapshot, metric, requests, self.context).await;
        let mut responses = guard.done(answered)?;
        let (took, age) = (started.elapsed(), env.clock.since(as_of));
        for response in &mut responses {
            (response.stats.took, response.stats.age) = (took, age);
        }
        if let Some(first) = responses.first_mut() {
            first.stats.asked(asked.so_far());
        }
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
        let found = match snapshot.find(id) {
            // It may be in a segment that is left out, which the answer says.
            Err(error) if error.code() == Code::Corrupt && snapshot.partial().is_some() => None,
            found => found?,
        };
        match found {
            None => missing.push(id.clone()),
            Some(place) => match payloads.record_that_fits(place, include_vector, context)? {
                Some(record) => records.push(record),
                None => return Err(context.too_large().with("idsThatFit", at as u64)),
            },
        }
    }
    let (version, partial) = (snapshot.version(), snapshot.partial());
    Ok(FetchedRecords { records, missing, version, partial })
}

fn list(
    snapshot: &OpenSnapshot,
    after: Option<&str>,
    limit: usize,
    include_vector: bool,
    context: &RequestContext,
) -> Result<(Vec<Record>, bool)> {
    let (mut records, mut payloads) = (Vec::<Record>::new(), Payloads::default());
    let work = Work::unbounded(context);
    let more = records::visit(snapshot, after, limit, |place| {
        work.spend(UNITS_PER_RECORD)?;
        let record = payloads.record_that_fits(place, include_vector, context)?;
        let fits = record.is_some();
        records.extend(record);
        Ok(fits)
    })?;
    Ok((records, more))
}

/// Where the next page of a listing begins.
struct Cursor {
    /// The life of the collection that the page before was of.
    life: u64,
    /// The last id of that page.
    after: String,
}

impl Cursor {
    fn encode(life: u64, after: &str) -> String {
        URL_SAFE_NO_PAD.encode(format!("{life}/{after}"))
    }

    fn decode(cursor: &str) -> Result<Cursor> {
        let text = URL_SAFE_NO_PAD.decode(cursor).ok();
        let text = text.and_then(|text| String::from_utf8(text).ok());
        let parts = text.as_deref().and_then(|text| text.split_once('/'));
        let cursor = parts.and_then(|(life, after)| {
            Some(Cursor { life: life.parse().ok()?, after: after.to_owned() })
        });
        cursor.ok_or_else(|| {
            Error::invalid("the cursor is not valid; pass nextCursor as it was returned")
        })
    }
}
