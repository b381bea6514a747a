//! How much of the true results a search finds, measured on what a collection holds now.

use super::Reads;
use crate::base::ids::CollectionName;
use crate::base::{Env, Error, Result};
use crate::engine::collection::Collection;
use crate::engine::model::*;
use crate::engine::reading::search;
use crate::engine::reading::snapshot::OpenSnapshot;
use crate::engine::writing::validate;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::time::Instant;

/// Rows that are looked at, one after another, for one that is shown.
const ROWS_TRIED_MAX: u32 = 1_000;

impl Reads<'_> {
    /// Answers queries twice, as a search would and by measuring every record, and compares. Errors: `invalid_request`
    /// for what is out of range and where there is no record to ask with, else as for a search.
    pub async fn recall(
        &self,
        name: &CollectionName,
        request: RecallRequest,
    ) -> Result<RecallReport> {
        let inner = &self.brainy.0;
        inner.context.duty.check_read()?;
        let env = &inner.context.env;
        request.queries.check()?;
        let asked = &request;
        let pin = |collection: Arc<Collection>| async move {
            let settings = collection.settings();
            let wanted = [Consistency::Strong];
            let wanted = if asked.strong { &wanted[..] } else { &[] };
            let snapshot = collection.open_snapshot(wanted, self.brainy.wait_max()).await?;
            let searches = asked.searches(&snapshot, env)?;
            search::check_all(&searches, &settings)?;
            Ok((settings.vector().metric, searches, snapshot))
        };
        let (metric, searches, snapshot) = inner.collections.on_life(name, pin).await?;
        let guard = self.context.guard(&env.metrics.searches_cancelled);
        let both = async {
            let started = Instant::now();
            let found =
                search::run_all(env, snapshot.clone(), metric, searches.clone(), self.context)
                    .await?;
            let took = started.elapsed();
            let exactly = searches
                .into_iter()
                .map(|search| SearchRequest { effort: Effort::Recall(1.0), ..search });
            let (started, exactly) = (Instant::now(), exactly.collect());
            let truth = search::run_all(env, snapshot, metric, exactly, self.context).await?;
            Ok(RecallReport::of(&found, &truth, (took, started.elapsed())))
        };
        guard.done(both.await)
    }
}

impl RecallQueries {
    fn check(&self) -> Result<()> {
        match self {
            RecallQueries::Given(queries) => {
                validate::check_count("queries", queries.len(), RECALL_QUERIES_MAX)
            }
            RecallQueries::Sample(count) => {
                validate::check_count("sample", *count, RECALL_QUERIES_MAX)
            }
        }
    }
}

impl RecallRequest {
    fn searches(&self, snapshot: &OpenSnapshot, env: &Env) -> Result<Vec<SearchRequest>> {
        let queries = match &self.queries {
            RecallQueries::Given(queries) => queries.iter().cloned().map(Query::Vector).collect(),
            RecallQueries::Sample(count) => sample(snapshot, *count, env)?,
        };
        let search = |query| SearchRequest {
            query,
            filter: self.filter.clone(),
            include_metadata: false,
            effort: self.effort,
            ..SearchRequest::nearest(Vec::new(), self.k)
        };
        Ok(queries.into_iter().map(search).collect())
    }
}

/// Records drawn from all rows, each of which is left out of its own answer.
fn sample(snapshot: &OpenSnapshot, count: usize, env: &Env) -> Result<Vec<Query>> {
    let blocks = snapshot.tail.blocks();
    let lengths = blocks.iter().map(|block| block.rows() as u64);
    let lengths = lengths.chain(snapshot.segments().map(|(member, _)| member.meta.rows.into()));
    let lengths: Vec<u64> = lengths.collect();
    let all: u64 = lengths.iter().sum();
    let mut queries = Vec::with_capacity(count);
    for _ in 0..if all == 0 { 0 } else { count } {
        if let Some(id) = draw(snapshot, &lengths, env.rng.below(all))? {
            queries.push(Query::Id(id.to_owned()));
        }
    }
    match queries.is_empty() {
        true => Err(Error::invalid(
            "there is no record to take as a query; write some first, or send queries",
        )),
        false => Ok(queries),
    }
}

/// The first record that is shown from a row on, in the run of rows that it is in.
fn draw<'a>(snapshot: &'a OpenSnapshot, lengths: &[u64], mut row: u64) -> Result<Option<&'a str>> {
    let blocks = snapshot.tail.blocks();
    for (at, &length) in lengths.iter().enumerate() {
        if row >= length {
            row -= length;
            continue;
        }
        for step in 0..u64::from(ROWS_TRIED_MAX).min(length) {
            let row = (row + step) % length;
            let shown = match blocks.get(at) {
                Some(block) => {
                    let row = row as usize;
                    snapshot.tail.shows(block, row).then(|| block.id(row))
                }
                None => match snapshot.segments().nth(at - blocks.len()) {
                    Some((member, resident)) => snapshot.shown(member, resident, row as u32)?,
                    None => None,
                },
            };
            if shown.is_some() {
                return Ok(shown);
            }
        }
        return Ok(None);
    }
    Ok(None)
}

impl RecallReport {
    fn of(
        found: &[SearchResponse],
        truth: &[SearchResponse],
        (took, took_exactly): (std::time::Duration, std::time::Duration),
    ) -> RecallReport {
        let mut report = RecallReport {
            version: truth.first().map(|truth| truth.version).unwrap_or_default(),
            queries: truth.len(),
            lowest: 1.0,
            took,
            took_exactly,
            partial: truth.first().and_then(|truth| truth.partial.clone()),
            ..RecallReport::default()
        };
        let mut measured = 0;
        for (found, truth) in found.iter().zip(truth) {
            let ids: HashSet<&str> = found.hits.iter().map(|hit| hit.id.as_str()).collect();
            let right = truth.hits.iter().filter(|hit| ids.contains(hit.id.as_str())).count();
            report.results += truth.hits.len() as u64;
            report.found += right as u64;
            if !truth.hits.is_empty() {
                let share = right as f64 / truth.hits.len() as f64;
                report.recall += share;
                report.lowest = report.lowest.min(share);
                measured += 1;
            }
        }
        // Where there is nothing to find, all of it is found.
        report.recall = if measured == 0 { 1.0 } else { report.recall / f64::from(measured) };
        report
    }
}
