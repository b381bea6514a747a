//! Measurements of recall on the wire.

use crate::api::types::damage::PartialFields;
use crate::api::types::search::{ConsistencyInput, effort, k_default};
use crate::api::types::vector::VectorSchema;
use crate::api::types::{Decode, Limits, brief, filter_bytes, in_range};
use crate::base::json::Bounded;
use crate::base::{Code, Error, Result};
use crate::engine::model::{K_MAX, RECALL_QUERIES_MAX, RecallQueries, RecallReport, RecallRequest};
use crate::engine::writing::vector_json::VectorInput;
use crate::filter::Filter;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// Queries where nothing is said.
const SAMPLE_DEFAULT: u64 = 25;

/// A measurement of recall: with `queries`, or with a `sample` of the collection's own records.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecallBody<'a> {
    /// 1 to 1,000 vectors to ask with: those that your users ask for, where you have them.
    #[schema(value_type = Option<Vec<VectorSchema>>, min_items = 1, max_items = 1000)]
    pub queries: Option<Bounded<VectorInput, RECALL_QUERIES_MAX>>,
    /// How many records to draw as queries, each of which is left out of its own results. They are easier to find
    /// something for than what users ask.
    #[schema(minimum = 1, maximum = 1000, default = 25)]
    pub sample: Option<u64>,
    /// How many results of each count.
    #[serde(default = "k_default")]
    #[schema(minimum = 1, maximum = 10000, default = 10)]
    pub k: u64,
    /// Which records to consider.
    #[serde(borrow)]
    #[schema(value_type = Option<Object>, example = json!({"year": {"$gte": 2020}}))]
    pub filter: Option<&'a RawValue>,
    /// As in a search; not together with `ef`.
    #[schema(minimum = 0.5, maximum = 1.0, default = 0.98)]
    pub target_recall: Option<f64>,
    /// As in a search; not together with `targetRecall`.
    #[schema(minimum = 1, maximum = 10000)]
    pub ef: Option<u64>,
    /// Which writes are to be seen.
    #[serde(default)]
    pub consistency: ConsistencyInput,
}

impl Decode for RecallRequest {
    type Wire<'a> = RecallBody<'a>;

    fn more_bytes(wire: &RecallBody<'_>) -> usize {
        filter_bytes(wire.filter)
    }

    fn decode(wire: RecallBody<'_>, _: &Limits) -> Result<Self> {
        let most = RECALL_QUERIES_MAX as u64;
        let queries = match (wire.queries, wire.sample) {
            (Some(_), Some(_)) => return Err(Error::invalid("send queries or sample, not both")),
            (Some(queries), None) => {
                in_range("queries", queries.count, 1..=most)?;
                let vectors = queries.items.into_iter().enumerate().map(|(at, vector)| {
                    vector.0.map_err(|fault| {
                        Error::new(Code::InvalidVector, fault)
                            .with("path", format!("queries[{at}]"))
                    })
                });
                RecallQueries::Given(vectors.collect::<Result<_>>()?)
            }
            (None, sample) => {
                let sample = sample.unwrap_or(SAMPLE_DEFAULT);
                in_range("sample", sample, 1..=most)?;
                RecallQueries::Sample(sample as usize)
            }
        };
        in_range("k", wire.k, 1..=K_MAX as u64)?;
        let filter = wire.filter.map(|filter| Filter::from_json_str(filter.get()));
        Ok(RecallRequest {
            queries,
            k: wire.k as usize,
            filter: filter.transpose()?,
            effort: effort(wire.target_recall, wire.ef)?,
            strong: wire.consistency == ConsistencyInput::Strong,
        })
    }
}

/// How much of the true results searches find.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecalledBody<'a> {
    /// The log position that was searched.
    #[schema(example = 42)]
    pub version: u64,
    /// The mean share of its true results that a query found, 0 to 1.
    #[schema(example = 0.988)]
    pub recall: f64,
    /// That of the query that found least.
    #[schema(example = 0.9)]
    pub lowest: f64,
    /// How many queries were asked: fewer than `sample` where some of what was drawn is deleted.
    pub queries: u64,
    /// True results of all of them.
    pub results: u64,
    /// How many of those were found.
    pub found: u64,
    /// Milliseconds that the searches took.
    #[serde(serialize_with = "brief")]
    pub took_ms: f64,
    /// Milliseconds that measuring every record took.
    #[serde(serialize_with = "brief")]
    pub exact_took_ms: f64,
    /// Whether it is about all records.
    #[serde(flatten)]
    pub partial: PartialFields<'a>,
}

impl<'a> From<&'a RecallReport> for RecalledBody<'a> {
    fn from(report: &'a RecallReport) -> Self {
        RecalledBody {
            version: report.version.0,
            recall: report.recall,
            lowest: report.lowest,
            queries: report.queries as u64,
            results: report.results,
            found: report.found,
            took_ms: report.took.as_secs_f64() * 1_000.0,
            exact_took_ms: report.took_exactly.as_secs_f64() * 1_000.0,
            partial: PartialFields::of(report.partial.as_deref()),
        }
    }
}
