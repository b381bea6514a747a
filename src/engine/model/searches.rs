//! Searches: what is asked, what comes back, and how much of the truth that is.

use super::{Filter, Partial, metadata_as};
use crate::base::Result;
use crate::base::ids::Seq;
use crate::index::Effort;
use crate::store::layers::Used;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// Which writes a read must see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// What this instance has applied; at most about one poll interval old.
    #[default]
    Eventual,
    /// Everything acknowledged anywhere before the read began.
    Strong,
    /// Everything up to this position; waits for it up to `wait`.
    AtLeast {
        /// The position.
        version: Seq,
        /// The deadline.
        wait: Duration,
    },
}

/// What a search is close to.
#[derive(Debug, Clone, PartialEq)]
pub enum Query {
    /// This vector.
    Vector(Vec<f32>),
    /// The vector of this record, which is left out of the answer.
    Id(String),
}

/// A search.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchRequest {
    /// What to be close to.
    pub query: Query,
    /// How many results, 1..=10,000.
    pub k: usize,
    /// How many of the closest to leave out first; `offset + k` is at most 10,000.
    pub offset: usize,
    /// Which records to consider.
    pub filter: Option<Filter>,
    /// Whether results carry metadata.
    pub include_metadata: bool,
    /// Whether results carry vectors.
    pub include_vector: bool,
    /// Which writes the search must see.
    pub consistency: Consistency,
    /// How hard to look.
    pub effort: Effort,
}

impl SearchRequest {
    /// The `k` records closest to `vector`, with their metadata.
    pub fn nearest(vector: Vec<f32>, k: usize) -> Self {
        SearchRequest {
            query: Query::Vector(vector),
            k,
            offset: 0,
            filter: None,
            include_metadata: true,
            include_vector: false,
            consistency: Consistency::Eventual,
            effort: Effort::Default,
        }
    }
}

/// One result of a search.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Hit {
    /// The record's id.
    pub id: String,
    /// Lower is closer; see [`Metric`](crate::index::Metric).
    pub distance: f32,
    /// JSON text of the metadata, where it was asked for.
    pub metadata: Option<Arc<str>>,
    /// The record's text, where metadata was asked for and it has one.
    pub text: Option<Arc<str>>,
    /// The vector, where it was asked for.
    pub vector: Option<Vec<f32>>,
}

impl Hit {
    /// Its metadata as a type of the program's own; `invalid_metadata` where they are of another form or were not
    /// asked for.
    pub fn metadata_as<T: DeserializeOwned>(&self) -> Result<T> {
        metadata_as(self.metadata.as_deref().unwrap_or("null"))
    }
}

/// What was brought into memory.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Warmed {
    /// The log position that searches see now.
    pub version: Seq,
    /// Segments at hand.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Requests to the store that it took.
    pub store_requests: u64,
    /// Bytes of those.
    pub store_bytes: u64,
    /// How long it took.
    pub took: Duration,
    /// What is damaged, and not at hand.
    pub partial: Partial,
}

/// What a search cost.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct SearchStats {
    /// Time inside the engine.
    pub took: Duration,
    /// Rows of the unindexed tail, each of which was compared.
    pub rows_scanned: u64,
    /// Segments whose index was searched.
    pub segments: u64,
    /// How old what was searched may be: since a look at the log found nothing newer.
    pub age: Duration,
    /// Requests to the store that this search waited for. Of the searches of a batch, which share a snapshot, the
    /// first one has them.
    pub store_requests: u64,
    /// Bytes of those.
    pub store_bytes: u64,
    /// How many of those were one after another: requests that are sent side by side are one round.
    pub rounds: u64,
    /// What S3 asks for them, in dollars (list price).
    pub cost_dollars: f64,
}

impl SearchStats {
    /// What was asked of the store.
    pub(crate) fn asked(&mut self, used: Used) {
        self.store_requests = used.requests;
        self.store_bytes = used.bytes;
        self.rounds = used.rounds;
        self.cost_dollars = used.nano_dollars as f64 / 1e9;
    }
}

/// The answer to a search.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SearchResponse {
    /// The log position that was searched.
    pub version: Seq,
    /// The closest first; ties by id.
    pub hits: Vec<Hit>,
    /// What it cost.
    pub stats: SearchStats,
    /// Why it is not complete.
    pub partial: Partial,
}

/// Most queries of one measurement of recall.
pub const RECALL_QUERIES_MAX: usize = 1_000;

/// What recall is measured with.
#[derive(Debug, Clone, PartialEq)]
pub enum RecallQueries {
    /// These vectors, 1 to 1,000.
    Given(Vec<Vec<f32>>),
    /// So many records of the collection, drawn at random; each is left out of its own answer. Rows that the index was
    /// built over are easier to find than what your users ask: send their queries where you have them.
    Sample(usize),
}

/// A measurement of recall.
#[derive(Debug, Clone, PartialEq)]
pub struct RecallRequest {
    /// What to ask with.
    pub queries: RecallQueries,
    /// Results of each, 1..=10,000.
    pub k: usize,
    /// Which records to consider.
    pub filter: Option<Filter>,
    /// How hard the searches look that are measured.
    pub effort: Effort,
    /// Whether to see every write that was acknowledged before.
    pub strong: bool,
}

/// How much of the true results searches find.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct RecallReport {
    /// The log position that was searched.
    pub version: Seq,
    /// The mean share of its true results that a query found, 0 to 1.
    pub recall: f64,
    /// That of the query that found least.
    pub lowest: f64,
    /// How many queries were asked.
    pub queries: usize,
    /// True results of all of them, and how many of those were found.
    pub results: u64,
    /// See `results`.
    pub found: u64,
    /// Time that the searches took.
    pub took: Duration,
    /// Time that measuring every record took.
    pub took_exactly: Duration,
    /// Why it is not about all records.
    pub partial: Partial,
}
