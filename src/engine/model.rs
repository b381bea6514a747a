//! What goes into the engine and what comes out: plain values, no JSON names, no HTTP.

mod searches;

use crate::base::ids::{CollectionName, Seq};
use crate::base::{Code, Error, Result, Timestamp};
use crate::engine::damage::Damage;
use crate::filter::Filter;
use crate::store::Key;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use crate::index::{Effort, Metric};
pub use crate::manifest::{Field, Partition, SegmentMeta, StoredAs, VectorField};
pub use crate::partition::{PartitionerKind, PrefixRule};
pub use searches::*;

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
#[non_exhaustive]
pub struct CollectionInfo {
    /// Its name.
    pub name: CollectionName,
    /// The fields of its records by name: `vector`, and what newer builds have added.
    pub fields: BTreeMap<String, Field>,
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
#[non_exhaustive]
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
    /// The recall that the indexes of the segments in memory reach, as was measured when they were built: that of the
    /// lowest. `None` where all are too small to be measured.
    pub recall_reached: Option<f32>,
    /// Bytes of the segments that this instance has in memory, over all collections.
    pub cache_bytes: u64,
    /// How many segments those are.
    pub cache_segments: u64,
}

/// What was done to a collection's segments by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
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
#[non_exhaustive]
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
    /// About how many bytes go through one's hands to check and to store it.
    pub(in crate::engine) fn bytes(&self) -> usize {
        let texts = [&self.id, &self.metadata, &self.text];
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        size_of_val(self) + size_of_val(&self.vector[..]) + texts.map(length).iter().sum::<usize>()
    }

    /// A record of an id and a vector.
    pub fn new(id: impl Into<String>, vector: Vec<f32>) -> Self {
        NewRecord { id: Some(id.into()), vector, metadata: None, text: None }
    }

    /// Adds metadata: an object, as a value or as JSON text.
    #[must_use]
    pub fn metadata(mut self, json: impl IntoJson) -> Self {
        self.metadata = Some(json.into_json());
        self
    }

    /// Adds metadata from a value of the program's own. `invalid_metadata` where it does not become JSON.
    pub fn metadata_from(self, value: &impl Serialize) -> Result<Self> {
        let json = serde_json::to_string(value).map_err(|error| {
            let message = "metadata that cannot be written as JSON";
            Error::new(Code::InvalidMetadata, message).caused_by(error)
        })?;
        Ok(self.metadata(json))
    }

    /// Adds a text.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }
}

/// What can be given as metadata.
pub trait IntoJson {
    /// The JSON text of it.
    fn into_json(self) -> String;
}

impl IntoJson for String {
    fn into_json(self) -> String {
        self
    }
}

impl IntoJson for &str {
    fn into_json(self) -> String {
        self.to_owned()
    }
}

impl IntoJson for Value {
    fn into_json(self) -> String {
        self.to_string()
    }
}

/// Metadata as a type of the program's own; `invalid_metadata` where they are of another form.
fn metadata_as<T: DeserializeOwned>(json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|error| {
        Error::new(Code::InvalidMetadata, format!("the metadata are of another form: {error}"))
    })
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

impl Record {
    /// Its metadata as a type of the program's own; `invalid_metadata` where they are of another form.
    pub fn metadata_as<T: DeserializeOwned>(&self) -> Result<T> {
        metadata_as(&self.metadata)
    }
}

/// The answer to a read of one record.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FoundRecord {
    /// The record.
    pub record: Record,
    /// Why it may have been overwritten or deleted since, where that cannot be read.
    pub partial: Partial,
}

/// The answer to an upsert.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
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
#[non_exhaustive]
pub struct Deleted {
    /// The log position that holds the delete (the current one where there was nothing to do).
    pub version: Seq,
    /// How many of the records were there when the request was read, or matched at `as_of`.
    pub deleted: usize,
    /// Of a delete by filter: the version at which the filter was asked. What was written after it stays.
    pub as_of: Option<Seq>,
}

/// What is damaged, where an answer is not complete because of it.
pub type Partial = Option<Arc<[Damage]>>;

/// One page of records, ordered by id.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
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
#[non_exhaustive]
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
#[non_exhaustive]
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
#[non_exhaustive]
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
#[non_exhaustive]
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
    pub lines: futures::stream::BoxStream<'static, Result<Bytes>>,
}
