//! What goes into the engine and what comes out: plain values, no JSON names, no HTTP.

use crate::base::ids::{CollectionName, Seq};
use crate::base::{Error, Timestamp};
use crate::engine::damage::Damage;
use crate::filter::Filter;
use crate::store::Key;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

pub use crate::index::Metric;
pub use crate::manifest::{Partition, SegmentMeta};
pub use crate::partition::{Kind as PartitionerKind, PrefixRule};

/// Largest number of records in one write.
pub const RECORDS_PER_WRITE_MAX: usize = 10_000;
/// Largest metadata of a record, in bytes of JSON.
pub const METADATA_BYTES_MAX: usize = 40 << 10;
/// Largest text of a record, in bytes of UTF-8.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Largest number of dimensions.
pub const DIMENSIONS_MAX: u32 = 4_096;
/// Largest `k` and largest `offset + k` of a search.
pub const K_MAX: usize = 10_000;
/// Largest number of searches in one batch.
pub const SEARCHES_PER_BATCH_MAX: usize = 1_000;
/// Largest page of a listing and largest number of ids in one fetch or delete.
pub const PAGE_MAX: usize = 10_000;

/// What a client says when it creates a collection.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectionSpec {
    /// Its name.
    pub name: CollectionName,
    /// Length of every vector, 1..=4,096.
    pub dimensions: u32,
    /// How distance is measured.
    pub metric: Metric,
    /// Number of hash ranges at the start, 1..=4,096; `None` means the default (1).
    pub partition_count: Option<u32>,
    /// Which records belong together; `None` means ranges of the hash alone.
    pub partitioner: Option<PartitionerKind>,
    /// Free text for people.
    pub description: Option<String>,
}

/// A collection as clients see it.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectionInfo {
    /// Its name.
    pub name: CollectionName,
    /// Length of every vector.
    pub dimensions: u32,
    /// How distance is measured.
    pub metric: Metric,
    /// Number of hash ranges.
    pub partition_count: u32,
    /// Free text for people.
    pub description: Option<String>,
    /// Live records; `None` where this instance does not read (role `writer`).
    pub vector_count: Option<u64>,
    /// The last position of the log that this instance knows of.
    pub version: Seq,
    /// Up to where the log is in segments.
    pub indexed_version: Seq,
    /// When it was created.
    pub created_at: Timestamp,
}

/// Counts and sizes of a collection.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectionStats {
    /// The collection.
    pub info: CollectionInfo,
    /// Log entries after `indexed_version`.
    pub tail_entries: u64,
    /// Rows of the tail held in memory, dead ones included.
    pub tail_rows: u64,
    /// Bytes of the tail held in memory.
    pub tail_bytes: u64,
    /// Bytes of log after `indexed_version`, as stored.
    pub unindexed_bytes: u64,
    /// The oldest log position that is kept.
    pub wal_floor: Seq,
    /// The partitions and their segments, as the manifest has them.
    pub partitions: Vec<Partition>,
    /// Objects that name dead rows of segments.
    pub deletion_files: usize,
    /// What is missing or damaged, as far as this instance knows.
    pub damaged: Vec<Damage>,
    /// Writes of the log that do not fit the collection and are skipped, as far as this instance has read it.
    pub skipped_writes: u64,
    /// Bytes of the segments that this instance has in memory, over all collections.
    pub cache_bytes: u64,
    /// How many segments those are.
    pub cache_segments: u64,
}

/// What was done to a collection's segments by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reworked {
    /// Partitions in which a segment was written, or that were split.
    pub rewritten: u64,
    /// Segments that there are now.
    pub segments: u64,
    /// Partitions that there are now.
    pub partitions: u64,
}

/// An object that no manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnnamedObject {
    /// Its key in the store.
    pub key: Key,
    /// Its size.
    pub bytes: u64,
}

/// A record that a client wants to store.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRecord {
    /// Its id; one is generated where there is none.
    pub id: Option<String>,
    /// Its vector.
    pub vector: Vec<f32>,
    /// Its metadata: the JSON text of an object.
    pub metadata: Option<String>,
    /// Its text.
    pub text: Option<String>,
}

impl NewRecord {
    /// A record of an id and a vector.
    pub fn new(id: impl Into<String>, vector: Vec<f32>) -> Self {
        NewRecord { id: Some(id.into()), vector, metadata: None, text: None }
    }

    /// Adds metadata: the JSON text of an object.
    #[must_use]
    pub fn metadata(mut self, json: impl Into<String>) -> Self {
        self.metadata = Some(json.into());
        self
    }
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its id.
    pub id: String,
    /// Its vector, where it was asked for.
    pub vector: Option<Vec<f32>>,
    /// Its metadata: the JSON text of an object (`{}` where it has none).
    pub metadata: Arc<str>,
    /// Its text.
    pub text: Option<Arc<str>>,
    /// Whether its metadata are stored in a form that nobody can read; they are left out then.
    pub damaged: bool,
    /// The log position that wrote it.
    pub version: Seq,
}

/// The answer to a read of one record.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundRecord {
    /// The record.
    pub record: Record,
    /// Why it may have been overwritten or deleted since, where that cannot be read.
    pub partial: Partial,
}

/// The answer to an upsert.
#[derive(Debug, Clone, PartialEq)]
pub struct Upserted {
    /// The log position that holds the write.
    pub version: Seq,
    /// How many records it stored: of several with one id, one.
    pub upserted: usize,
    /// Whether there was no such collection, and the write made it.
    pub created: bool,
    /// All ids in the order of the request, when any was generated.
    pub ids: Option<Vec<String>>,
}

/// What to delete.
#[derive(Debug, Clone, PartialEq)]
pub enum DeleteTarget {
    /// These records.
    Ids(Vec<String>),
    /// Every record that matches at the version that the answer names, unless it is written again after that.
    Filter(Filter),
}

/// The answer to a delete.
#[derive(Debug, Clone, PartialEq)]
pub struct Deleted {
    /// The log position that holds the delete (the current one where there was nothing to do).
    pub version: Seq,
    /// How many of the records were there when the request was read, or matched at `as_of`.
    pub deleted: usize,
    /// Of a delete by filter: the version at which the filter was asked. What was written after it stays.
    pub as_of: Option<Seq>,
}

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

/// What is damaged, where an answer is not complete because of it.
pub type Partial = Option<Arc<[Damage]>>;

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
        }
    }
}

/// One result of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The record's id.
    pub id: String,
    /// Lower is closer; see [`Metric`].
    pub distance: f32,
    /// JSON text of the metadata, where it was asked for.
    pub metadata: Option<Arc<str>>,
    /// The record's text, where metadata was asked for and it has one.
    pub text: Option<Arc<str>>,
    /// The vector, where it was asked for.
    pub vector: Option<Vec<f32>>,
}

/// What a search cost.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SearchStats {
    /// Time inside the engine.
    pub took: Duration,
    /// Rows of the unindexed tail, each of which was compared.
    pub rows_scanned: u64,
    /// Segments whose index was searched.
    pub segments: u64,
    /// How old what was searched may be: since a look at the log found nothing newer.
    pub age: Duration,
    /// Requests to the store that this search waited for.
    pub store_requests: u64,
    /// Bytes of those.
    pub store_bytes: u64,
}

/// The answer to a search.
#[derive(Debug, Clone, PartialEq)]
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

/// One page of records, ordered by id.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordPage {
    /// The records.
    pub records: Vec<Record>,
    /// Pass it to get the next page; `None` at the end.
    pub next_cursor: Option<String>,
    /// The log position that was read.
    pub version: Seq,
    /// Why it is not complete.
    pub partial: Partial,
}

/// The records that were asked for by id.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchedRecords {
    /// Those that exist, each once, in the order in which the request first names them.
    pub records: Vec<Record>,
    /// The ids that do not, each once.
    pub missing: Vec<String>,
    /// The log position that was read.
    pub version: Seq,
    /// Why some of `missing` may be there.
    pub partial: Partial,
}

/// One page of collections, ordered by name.
#[derive(Debug)]
pub struct CollectionPage {
    /// The collections, as their manifests say; records that are in no segment yet are counted where the
    /// instance has the collection open.
    pub collections: Vec<CollectionInfo>,
    /// Those of this page whose manifest cannot be read, with the reasons.
    pub damaged: Vec<(CollectionName, Error)>,
    /// Pass it to get the next page; `None` at the end.
    pub next_cursor: Option<String>,
}

/// A line of an import that was not stored.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportFault {
    /// The line's number, from 1.
    pub line: u64,
    /// The error's stable code.
    pub code: &'static str,
    /// The error's message.
    pub message: String,
}

/// The answer to an import.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImportReport {
    /// Lines that were stored. Of several with one id each is counted, and the last one stays.
    pub imported: u64,
    /// Lines that were not.
    pub failed: u64,
    /// Whether it ended early because none of its first lines was a record.
    pub given_up: bool,
    /// Whether there was no such collection, and the import made it.
    pub created: bool,
    /// The last log position that holds a record of this import.
    pub version: Seq,
    /// The first 100 faults.
    pub errors: Vec<ImportFault>,
}

/// An export: records at one version, as NDJSON in pieces of at most 256 KiB and one record.
pub struct Export {
    /// The log position that is exported.
    pub version: Seq,
    /// Why it is not complete.
    pub partial: Partial,
    /// The lines.
    pub lines: futures::stream::BoxStream<'static, crate::base::Result<Bytes>>,
}
