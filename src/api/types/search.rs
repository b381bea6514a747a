//! Searches on the wire.

use crate::api::types::damage::PartialFields;
use crate::api::types::vector::VectorSchema;
use crate::api::types::{Decode, Limits, brief, filter_bytes, in_range, raw_option};
use crate::base::ids::Seq;
use crate::base::json::{Bounded, Object};
use crate::base::{Code, Error, Result};
use crate::engine::model::{
    Consistency, Effort, Hit, K_MAX, Query, SEARCHES_PER_BATCH_MAX, SearchRequest, SearchResponse,
    SearchStats,
};
use crate::engine::writing::vector_json::VectorInput;
use crate::filter::Filter;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::time::Duration;
use utoipa::ToSchema;

/// How long a search waits for `minVersion` where it does not say.
const WAIT_MS_DEFAULT: u64 = 5_000;

/// A search: exactly one of `vector` and `id`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SearchBody<'a> {
    /// What to be close to: as many numbers as the collection has dimensions.
    #[schema(value_type = Option<VectorSchema>)]
    pub vector: Option<VectorInput>,
    /// The id of a record to be close to; the record itself is left out of the results.
    #[schema(min_length = 1, max_length = 512)]
    pub id: Option<String>,
    /// How many results; `offset + k` is at most 10,000.
    #[serde(default = "k_default")]
    #[schema(minimum = 1, maximum = 10000, default = 10)]
    pub k: u64,
    /// How many of the closest to leave out first.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 9999, default = 0)]
    pub offset: u64,
    /// Which records to consider.
    #[serde(borrow)]
    #[schema(value_type = Option<Object>, example = json!({"year": {"$gte": 2020}}))]
    pub filter: Option<&'a RawValue>,
    /// Whether results carry metadata and text.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub include_metadata: bool,
    /// Whether results carry vectors.
    #[serde(default)]
    #[schema(default = false)]
    pub include_vector: bool,
    /// About this share of the true results is found, as was measured when the index was built; 1: all of them, by
    /// measuring every record. Not together with `ef`.
    #[schema(minimum = 0.5, maximum = 1.0, default = 0.98)]
    pub target_recall: Option<f64>,
    /// How many rows a walk of an index keeps (`efSearch`), at least `offset + k`. Not together with `targetRecall`.
    #[schema(minimum = 1, maximum = 10000)]
    pub ef: Option<u64>,
    /// Which writes the search must see.
    #[serde(default)]
    pub consistency: ConsistencyInput,
    /// The search sees every write up to this version, or fails with `version_timeout`.
    #[schema(example = 1)]
    pub min_version: Option<u64>,
    /// How long to wait for `minVersion`, in milliseconds; up to the setting `wait_ms_max`.
    #[schema(default = 5000)]
    pub wait_ms: Option<u64>,
}

/// Which writes a search must see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConsistencyInput {
    /// What this instance has applied: at most about one poll interval old.
    #[default]
    Eventual,
    /// Everything acknowledged anywhere before the search began.
    Strong,
}

pub(super) fn k_default() -> u64 {
    10
}

fn yes() -> bool {
    true
}

/// How hard to look. The ranges are those that the engine checks, too.
pub fn effort(target_recall: Option<f64>, ef: Option<u64>) -> Result<Effort> {
    match (target_recall, ef) {
        (None, None) => Ok(Effort::Default),
        (Some(recall), None) => Ok(Effort::Recall(recall as f32)),
        (None, Some(ef)) => Ok(Effort::Ef(usize::try_from(ef).unwrap_or(usize::MAX))),
        (Some(_), Some(_)) => Err(Error::invalid("send targetRecall or ef, not both")),
    }
}

/// A search for the engine.
#[derive(Debug)]
pub struct Search {
    /// What to search.
    pub request: SearchRequest,
    floor: Floor,
}

impl Search {
    /// What to check the answer against.
    pub fn floor(&self) -> Floor {
        self.floor
    }
}

/// The version that a strong search must have reached: a strong search sees all that was
/// acknowledged, so this fails only for a version that no write of the collection returned.
#[derive(Debug, Clone, Copy)]
pub struct Floor(Option<Seq>);

impl Floor {
    /// Fails where the answer is older than what the client has seen.
    pub fn check(self, version: Seq) -> Result<()> {
        match self.0 {
            Some(floor) if version < floor => Err(Error::new(
                Code::VersionTimeout,
                format!(
                    "no write has returned version {floor}; the collection is at {version}; check \
                     that minVersion comes from a write to this collection"
                ),
            )
            .with("minVersion", floor.0)
            .with("version", version.0)),
            _ => Ok(()),
        }
    }
}

impl Decode for Search {
    type Wire<'a> = SearchBody<'a>;

    fn more_bytes(wire: &SearchBody<'_>) -> usize {
        filter_bytes(wire.filter)
    }

    fn decode(wire: SearchBody<'_>, limits: &Limits) -> Result<Self> {
        let query =
            match (wire.vector, wire.id) {
                (Some(vector), None) => Query::Vector(vector.0.map_err(|fault| {
                    Error::new(Code::InvalidVector, fault).with("path", "vector")
                })?),
                (None, Some(id)) => Query::Id(id),
                _ => return Err(Error::invalid("send exactly one of vector and id")),
            };
        let k_max = K_MAX as u64;
        in_range("k", wire.k, 1..=k_max)?;
        in_range("offset", wire.offset, 0..=k_max)?;
        in_range("offset + k", wire.offset + wire.k, 1..=k_max)?;
        let wait_ms = wire.wait_ms.unwrap_or(WAIT_MS_DEFAULT.min(limits.wait_ms_max));
        in_range("waitMs", wait_ms, 0..=limits.wait_ms_max)?;
        let at_least = wire.min_version.map(Seq);
        let (consistency, floor) = match (wire.consistency, at_least) {
            (ConsistencyInput::Strong, floor) => (Consistency::Strong, floor),
            (ConsistencyInput::Eventual, None) => (Consistency::Eventual, None),
            (ConsistencyInput::Eventual, Some(version)) => {
                (Consistency::AtLeast { version, wait: Duration::from_millis(wait_ms) }, None)
            }
        };
        let effort = effort(wire.target_recall, wire.ef)?;
        let filter = wire.filter.map(|filter| Filter::from_json_str(filter.get()));
        let request = SearchRequest {
            query,
            k: wire.k as usize,
            offset: wire.offset as usize,
            filter: filter.transpose()?,
            include_metadata: wire.include_metadata,
            include_vector: wire.include_vector,
            consistency,
            effort,
        };
        Ok(Search { request, floor: Floor(floor) })
    }
}

/// Several searches, answered on one snapshot.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchBatchBody<'a> {
    /// 1 to 1,000 searches.
    #[serde(borrow)]
    #[schema(value_type = Vec<SearchBody<'a>>, min_items = 1, max_items = 1000)]
    pub searches: Bounded<Object<SearchBody<'a>>, SEARCHES_PER_BATCH_MAX>,
}

/// Searches for the engine.
#[derive(Debug)]
pub struct Searches(pub Vec<Search>);

impl Decode for Searches {
    type Wire<'a> = SearchBatchBody<'a>;

    fn more_bytes(wire: &SearchBatchBody<'_>) -> usize {
        wire.searches.items.iter().map(|Object(search)| filter_bytes(search.filter)).sum()
    }

    fn decode(wire: SearchBatchBody<'_>, limits: &Limits) -> Result<Self> {
        let searches = wire.searches;
        in_range("searches", searches.count, 1..=SEARCHES_PER_BATCH_MAX as u64)?;
        let searches = searches.items.into_iter().enumerate().map(|(index, Object(search))| {
            Search::decode(search, limits)
                .map_err(|error| error.context(format!("searches[{index}]")).with("index", index))
        });
        Ok(Searches(searches.collect::<Result<_>>()?))
    }
}

/// What a search cost.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SearchStatsBody {
    /// Milliseconds inside the engine.
    #[schema(example = 0.42)]
    #[serde(serialize_with = "brief")]
    pub took_ms: f64,
    /// How old what was searched may be, in milliseconds: since a look at the log found nothing newer.
    #[schema(example = 120.5)]
    #[serde(serialize_with = "brief")]
    pub age_ms: f64,
    /// Rows of the log's unindexed tail, each of which was compared.
    pub rows_scanned: u64,
    /// Segments whose index was searched.
    pub segments: u64,
    /// Requests to the store that the search caused. What the searches of a batch share is counted for the first.
    pub store_requests: u64,
    /// Bytes of those.
    pub store_bytes: u64,
    /// How many of those were one after another: requests that are sent side by side are one round.
    pub rounds: u64,
    /// What S3 asks for them, in dollars (list price).
    #[schema(example = 0.0000008)]
    pub cost_dollars: f64,
}

impl From<SearchStats> for SearchStatsBody {
    fn from(stats: SearchStats) -> Self {
        SearchStatsBody {
            took_ms: stats.took.as_secs_f64() * 1_000.0,
            age_ms: stats.age.as_secs_f64() * 1_000.0,
            rows_scanned: stats.rows_scanned,
            segments: stats.segments,
            store_requests: stats.store_requests,
            store_bytes: stats.store_bytes,
            rounds: stats.rounds,
            cost_dollars: stats.cost_dollars,
        }
    }
}

/// One result.
#[derive(Debug, Serialize, ToSchema)]
pub struct HitBody<'a> {
    /// The record's id.
    #[schema(example = "doc-1")]
    pub id: &'a str,
    /// Lower is closer. cosine: 1 - cos; euclidean: L2; dot: minus the inner product.
    #[schema(example = 0.0731)]
    pub distance: f32,
    /// The record's metadata, where it was asked for.
    #[serde(serialize_with = "raw_option", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<&'a str>,
    /// The record's text, where metadata was asked for and there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<&'a str>,
    /// The record's vector, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector: Option<&'a [f32]>,
}

impl<'a> From<&'a Hit> for HitBody<'a> {
    fn from(hit: &'a Hit) -> Self {
        HitBody {
            id: &hit.id,
            distance: hit.distance,
            metadata: hit.metadata.as_deref(),
            text: hit.text.as_deref(),
            vector: hit.vector.as_deref(),
        }
    }
}

/// The answer to a search.
#[derive(Debug, Serialize, ToSchema)]
pub struct SearchedBody<'a> {
    /// The log position that was searched.
    #[schema(example = 42)]
    pub version: u64,
    /// The closest first; ties by id.
    pub results: Vec<HitBody<'a>>,
    /// What it cost.
    pub stats: SearchStatsBody,
    /// Whether it is all.
    #[serde(flatten)]
    pub partial: PartialFields<'a>,
}

impl<'a> From<&'a SearchResponse> for SearchedBody<'a> {
    fn from(response: &'a SearchResponse) -> Self {
        SearchedBody {
            version: response.version.0,
            results: response.hits.iter().map(HitBody::from).collect(),
            stats: response.stats.into(),
            partial: PartialFields::of(response.partial.as_deref()),
        }
    }
}

/// One answer of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchItemBody<'a> {
    /// The closest first; ties by id.
    pub results: Vec<HitBody<'a>>,
    /// What it cost.
    pub stats: SearchStatsBody,
}

/// The answers to a batch, in the order of the request.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchBody<'a> {
    /// The log position that was searched.
    pub version: u64,
    /// One for each search.
    pub responses: Vec<BatchItemBody<'a>>,
    /// What all of them cost; `tookMs` is the time until the last one was done.
    pub stats: SearchStatsBody,
    /// Whether they are all: they were answered on one snapshot.
    #[serde(flatten)]
    pub partial: PartialFields<'a>,
}

impl<'a> BatchBody<'a> {
    /// The answer for `responses`, which took `took` together.
    pub fn new(responses: &'a [SearchResponse], took: Duration) -> Self {
        let mut total = SearchStats { took, ..SearchStats::default() };
        for response in responses {
            total.age = total.age.max(response.stats.age);
            total.rows_scanned += response.stats.rows_scanned;
            total.segments += response.stats.segments;
            total.store_requests += response.stats.store_requests;
            total.store_bytes += response.stats.store_bytes;
            total.rounds += response.stats.rounds;
            total.cost_dollars += response.stats.cost_dollars;
        }
        let items = responses.iter().map(|response| BatchItemBody {
            results: response.hits.iter().map(HitBody::from).collect(),
            stats: response.stats.into(),
        });
        BatchBody {
            version: responses.iter().map(|response| response.version.0).min().unwrap_or(0),
            responses: items.collect(),
            stats: total.into(),
            partial: PartialFields::of(
                responses.first().and_then(|response| response.partial.as_deref()),
            ),
        }
    }
}
