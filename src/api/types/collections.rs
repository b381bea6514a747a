//! Collections on the wire.

use crate::api::types::damage::DamageBody;
use crate::api::types::partitions::{PARTITIONS_MAX, PartitionBody, PartitionerBody};
use crate::api::types::{Decode, Limits, in_range};
use crate::base::ids::CollectionName;
use crate::base::{Error, Result, Timestamp};
use crate::engine::model::{
    CollectionInfo, CollectionPage, CollectionSpec, CollectionStats, DIMENSIONS_MAX, Field, Metric,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// Largest page of collections.
const COLLECTIONS_PAGE_MAX: u64 = 1_000;

/// How distance is measured; lower is closer.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Metric)]
pub enum MetricName {
    /// 1 - cosine similarity; a zero vector has none and is refused.
    #[default]
    Cosine,
    /// L2 distance, not squared.
    Euclidean,
    /// Minus the inner product.
    Dot,
}

impl From<MetricName> for Metric {
    fn from(name: MetricName) -> Self {
        match name {
            MetricName::Cosine => Metric::Cosine,
            MetricName::Euclidean => Metric::Euclidean,
            MetricName::Dot => Metric::Dot,
        }
    }
}

impl From<Metric> for MetricName {
    fn from(metric: Metric) -> Self {
        match metric {
            Metric::Cosine => MetricName::Cosine,
            Metric::Euclidean => MetricName::Euclidean,
            Metric::Dot => MetricName::Dot,
        }
    }
}

/// A collection to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateBody {
    /// 1 to 63 characters of a-z, 0-9, _ and -, starting with a letter or digit.
    #[schema(pattern = "^[a-z0-9][a-z0-9_-]{0,62}$", example = "articles")]
    pub name: String,
    /// Length of every vector.
    #[schema(minimum = 1, maximum = 4096, example = 3)]
    pub dimensions: u64,
    /// How distance is measured.
    #[serde(default)]
    pub metric: MetricName,
    /// Number of hash ranges to begin with; as the cluster's settings say where it is not given, or else 1.
    #[schema(minimum = 1, maximum = 4096)]
    pub partition_count: Option<u64>,
    /// Which records belong together; ranges of the hash alone where it is not given.
    pub partitioner: Option<PartitionerBody>,
    /// Free text for people.
    pub description: Option<String>,
}

impl Decode for CollectionSpec {
    type Wire<'a> = CreateBody;

    fn decode(wire: CreateBody, _: &Limits) -> Result<Self> {
        in_range("dimensions", wire.dimensions, 1..=u64::from(DIMENSIONS_MAX))?;
        if let Some(count) = wire.partition_count {
            in_range("partitionCount", count, 1..=PARTITIONS_MAX)?;
        }
        Ok(CollectionSpec {
            name: CollectionName::new(wire.name)?,
            // Both are within their ranges.
            dimensions: wire.dimensions as u32,
            metric: wire.metric.into(),
            partition_count: wire.partition_count.map(|count| count as u32),
            partitioner: wire.partitioner.map(Into::into),
            description: wire.description,
        })
    }
}

/// A collection.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CollectionBody<'a> {
    /// Its name.
    #[schema(example = "articles")]
    pub name: &'a str,
    /// Length of every vector.
    #[schema(example = 384)]
    pub dimensions: u32,
    /// How distance is measured.
    pub metric: MetricName,
    /// The fields of its records by name: the vector of the dimensions and the metric above, and what newer builds
    /// have added.
    #[schema(value_type = Object, example = json!({"vector": {
        "type": "vector", "dimensions": 384, "metric": "cosine", "storedAs": "f32"
    }}))]
    pub fields: &'a BTreeMap<String, Field>,
    /// Number of hash ranges.
    pub partition_count: u32,
    /// Free text for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<&'a str>,
    /// Live records; null on an instance that does not read (role `writer`).
    pub vector_count: Option<u64>,
    /// The last position of the log that this instance knows of.
    pub version: u64,
    /// Up to where the log is in segments.
    pub indexed_version: u64,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

impl<'a> From<&'a CollectionInfo> for CollectionBody<'a> {
    fn from(info: &'a CollectionInfo) -> Self {
        CollectionBody {
            name: info.name.as_str(),
            dimensions: info.dimensions,
            metric: info.metric.into(),
            fields: &info.fields,
            partition_count: info.partition_count,
            description: info.description.as_deref(),
            vector_count: info.vector_count,
            version: info.version.0,
            indexed_version: info.indexed_version.0,
            created_at: info.created_at,
        }
    }
}

/// How to page through collections.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CollectionsQuery {
    /// Size of the page.
    #[serde(default = "page_default")]
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: u64,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
}

fn page_default() -> u64 {
    100
}

impl CollectionsQuery {
    /// The page's size and its start.
    pub fn page(self) -> Result<(usize, Option<String>)> {
        in_range("limit", self.limit, 1..=COLLECTIONS_PAGE_MAX)?;
        Ok((self.limit as usize, self.cursor))
    }
}

/// One page of collections, ordered by name.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CollectionPageBody<'a> {
    /// The collections.
    pub collections: Vec<CollectionBody<'a>>,
    /// Collections of this page whose manifest cannot be read; left out where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<DamagedCollectionBody<'a>>,
    /// Pass it as `cursor` to get the next page; null at the end.
    pub next_cursor: Option<&'a str>,
}

impl<'a> From<&'a CollectionPage> for CollectionPageBody<'a> {
    fn from(page: &'a CollectionPage) -> Self {
        CollectionPageBody {
            collections: page.collections.iter().map(CollectionBody::from).collect(),
            damaged: page.damaged.iter().map(DamagedCollectionBody::from).collect(),
            next_cursor: page.next_cursor.as_deref(),
        }
    }
}

/// A collection whose manifest cannot be read.
#[derive(Debug, Serialize, ToSchema)]
pub struct DamagedCollectionBody<'a> {
    /// Its name.
    pub name: &'a str,
    /// Why, and what to do.
    pub reason: String,
}

impl<'a> From<&'a (CollectionName, Error)> for DamagedCollectionBody<'a> {
    fn from((name, error): &'a (CollectionName, Error)) -> Self {
        DamagedCollectionBody { name: name.as_str(), reason: error.message().to_owned() }
    }
}

/// The answer to the deletion of a collection.
#[derive(Debug, Serialize, ToSchema)]
pub struct CollectionDeletedBody {
    /// Always true.
    pub deleted: bool,
}

/// Counts and sizes of a collection.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatsBody<'a> {
    /// The collection.
    #[serde(flatten)]
    pub collection: CollectionBody<'a>,
    /// The oldest log position that is kept.
    pub wal_floor: u64,
    /// What is not in segments yet.
    pub tail: TailBody,
    /// Segments of all partitions.
    pub segments: u64,
    /// Their bytes in the bucket.
    pub segment_bytes: u64,
    /// Rows of segments that were overwritten or deleted.
    pub dead_rows: u64,
    /// Objects in the bucket that name dead rows.
    pub deletion_files: u64,
    /// Writes in the log that do not fit the collection and are skipped, as far as this instance has read it.
    pub skipped_writes: u64,
    /// The recall of 10 results that the indexes of the segments in memory reach, measured when they were built: that of
    /// the lowest. Null where all are too small to be measured.
    pub recall_reached: Option<f64>,
    /// The partitions and their segments.
    pub partitions: Vec<PartitionBody<'a>>,
    /// What is missing or damaged in the bucket, as far as this instance knows.
    pub damaged: Vec<DamageBody<'a>>,
    /// What this instance keeps in memory, over all collections.
    pub cache: CacheBody,
}

/// What an instance keeps in memory.
#[derive(Debug, Serialize, ToSchema)]
pub struct CacheBody {
    /// Bytes of segments.
    pub bytes: u64,
    /// Segments.
    pub segments: u64,
}

/// The part of the log that is not in segments yet.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TailBody {
    /// Log entries.
    pub entries: u64,
    /// Rows in memory, dead ones included.
    pub rows: u64,
    /// Bytes in memory.
    pub bytes: u64,
    /// Bytes as stored in the bucket.
    pub stored_bytes: u64,
}

impl<'a> From<&'a CollectionStats> for StatsBody<'a> {
    fn from(stats: &'a CollectionStats) -> Self {
        let segments = || stats.partitions.iter().flat_map(|partition| &partition.segments);
        StatsBody {
            collection: CollectionBody::from(&stats.info),
            wal_floor: stats.wal_floor.0,
            tail: TailBody {
                entries: stats.tail_entries,
                rows: stats.tail_rows,
                bytes: stats.tail_bytes,
                stored_bytes: stats.unindexed_bytes,
            },
            segments: segments().count() as u64,
            segment_bytes: segments().map(|segment| segment.bytes).sum(),
            dead_rows: segments().map(|segment| u64::from(segment.dead)).sum(),
            deletion_files: stats.deletion_files as u64,
            skipped_writes: stats.skipped_writes,
            recall_reached: stats
                .recall_reached
                .map(|recall| (f64::from(recall) * 1_000.0).round() / 1_000.0),
            partitions: stats.partitions.iter().map(PartitionBody::from).collect(),
            damaged: stats.damaged.iter().map(DamageBody::from).collect(),
            cache: CacheBody { bytes: stats.cache_bytes, segments: stats.cache_segments },
        }
    }
}
