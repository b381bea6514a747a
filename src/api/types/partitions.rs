//! Partitions and segments on the wire.

use crate::api::types::damage::PartialFields;
use crate::api::types::{Decode, Limits, brief, in_range};
use crate::base::Result;
use crate::engine::model::{
    Partition, PartitionerKind, PrefixRule, Reworked, SegmentMeta, UnnamedObject, Warmed,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Largest number of partitions.
pub const PARTITIONS_MAX: u64 = 4_096;

/// Which records belong together.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "camelCase", deny_unknown_fields)]
pub enum PartitionerBody {
    /// Ranges of the hash of the id.
    Hash,
    /// Groups by what ids start with, the longest prefix first; ranges of the hash within each.
    Prefix {
        /// At most 1,024.
        rules: Vec<PrefixRuleBody>,
    },
    /// A partitioner that the embedding program brings.
    Custom {
        /// Its name.
        name: String,
    },
}

/// Ids that start with `prefix` belong to `group`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PrefixRuleBody {
    /// At least one byte.
    #[schema(min_length = 1)]
    pub prefix: String,
    /// 1 to 64 bytes.
    #[schema(min_length = 1, max_length = 64)]
    pub group: String,
}

impl From<PartitionerBody> for PartitionerKind {
    fn from(body: PartitionerBody) -> Self {
        match body {
            PartitionerBody::Hash => PartitionerKind::Hash,
            PartitionerBody::Prefix { rules } => {
                let rules = rules.into_iter();
                let rules =
                    rules.map(|PrefixRuleBody { prefix, group }| PrefixRule { prefix, group });
                PartitionerKind::Prefix { rules: rules.collect() }
            }
            PartitionerBody::Custom { name } => PartitionerKind::Custom { name },
        }
    }
}

/// A range of the hashes of ids.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartitionBody<'a> {
    /// Its number, which names its folder.
    pub number: u32,
    /// The group of ids, empty where the partitioner has none.
    pub group: &'a str,
    /// The lowest hash, 16 hexadecimal digits.
    #[schema(example = "0000000000000000")]
    pub first_hash: String,
    /// The highest hash.
    #[schema(example = "ffffffffffffffff")]
    pub last_hash: String,
    /// Rows that are not dead.
    pub vectors: u64,
    /// Bytes of its segments.
    pub bytes: u64,
    /// Its segments.
    pub segments: Vec<SegmentBody>,
}

/// An immutable file of rows.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SegmentBody {
    /// Its name.
    pub id: String,
    /// Rows, dead ones included.
    pub rows: u32,
    /// Rows that were overwritten or deleted.
    pub dead: u32,
    /// Bytes of its file.
    pub bytes: u64,
    /// The log position of its oldest row.
    pub oldest_version: u64,
    /// The log position of its newest row.
    pub newest_version: u64,
}

impl From<&SegmentMeta> for SegmentBody {
    fn from(meta: &SegmentMeta) -> Self {
        SegmentBody {
            id: meta.id.to_string(),
            rows: meta.rows,
            dead: meta.dead,
            bytes: meta.bytes,
            oldest_version: meta.written.0.0,
            newest_version: meta.written.1.0,
        }
    }
}

impl<'a> From<&'a Partition> for PartitionBody<'a> {
    fn from(partition: &'a Partition) -> Self {
        PartitionBody {
            number: partition.number,
            group: &partition.group,
            first_hash: format!("{:016x}", partition.hashes.first),
            last_hash: format!("{:016x}", partition.hashes.last),
            vectors: partition.live(),
            bytes: partition.bytes(),
            segments: partition.segments.iter().map(SegmentBody::from).collect(),
        }
    }
}

/// What a call has changed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReworkedBody {
    /// Partitions that have a segment that was written by this call, or by another instance meanwhile; of a
    /// split, those that were split.
    pub rewritten: u64,
    /// Segments now.
    pub segments: u64,
    /// Partitions now.
    pub partition_count: u64,
}

impl From<Reworked> for ReworkedBody {
    fn from(Reworked { rewritten, segments, partitions }: Reworked) -> Self {
        ReworkedBody { rewritten, segments, partition_count: partitions }
    }
}

/// What was brought into memory.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WarmedBody<'a> {
    /// The version that searches see now.
    pub version: u64,
    /// Segments at hand.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Requests to the store that it took.
    pub store_requests: u64,
    /// Bytes of those.
    pub store_bytes: u64,
    /// Milliseconds that it took.
    #[serde(serialize_with = "brief")]
    pub took_ms: f64,
    /// Whether it is about all segments.
    #[serde(flatten)]
    pub partial: PartialFields<'a>,
}

impl<'a> From<&'a Warmed> for WarmedBody<'a> {
    fn from(warmed: &'a Warmed) -> Self {
        WarmedBody {
            version: warmed.version.0,
            segments: warmed.segments,
            bytes: warmed.bytes,
            store_requests: warmed.store_requests,
            store_bytes: warmed.store_bytes,
            took_ms: warmed.took.as_secs_f64() * 1_000.0,
            partial: PartialFields::of(warmed.partial.as_deref()),
        }
    }
}

/// Objects that are not part of the collection.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnnamedBody<'a> {
    /// In the order of their keys.
    pub objects: Vec<UnnamedObjectBody<'a>>,
}

/// An object that is not part of the collection.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnnamedObjectBody<'a> {
    /// Its key in the bucket.
    pub key: &'a str,
    /// Its size.
    pub bytes: u64,
}

impl<'a> From<&'a [UnnamedObject]> for UnnamedBody<'a> {
    fn from(objects: &'a [UnnamedObject]) -> Self {
        let body = |object: &'a UnnamedObject| UnnamedObjectBody {
            key: object.key.as_str(),
            bytes: object.bytes,
        };
        UnnamedBody { objects: objects.iter().map(body).collect() }
    }
}

/// How many partitions there are to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReshardBody {
    /// At least as many as there are.
    #[schema(minimum = 1, maximum = 4096, example = 4)]
    pub partition_count: u64,
}

/// How many partitions there are to be, 1..=4,096.
pub struct Reshard(pub u32);

impl Decode for Reshard {
    type Wire<'a> = ReshardBody;

    fn decode(wire: ReshardBody, _: &Limits) -> Result<Self> {
        in_range("partitionCount", wire.partition_count, 1..=PARTITIONS_MAX)?;
        Ok(Reshard(wire.partition_count as u32))
    }
}
