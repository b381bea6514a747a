//! Records on the wire.

use crate::api::types::damage::{DamageBody, PartialFields};
use crate::api::types::vector::VectorSchema;
use crate::api::types::{Decode, Limits, filter_bytes, in_range, raw};
use crate::base::json::{Bounded, Object};
use crate::base::{Code, Error, Result};
use crate::engine::model::{
    DeleteTarget, Deleted, FetchedRecords, FoundRecord, NewRecord, PAGE_MAX, RECORDS_PER_WRITE_MAX,
    Record, RecordPage,
};
use crate::engine::writing::vector_json::VectorInput;
use crate::filter::Filter;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

/// Records to store: exactly one of `vectors` and `columns`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpsertBody<'a> {
    /// 1 to 10,000 records. Of several with one id the last one stays.
    #[serde(borrow)]
    #[schema(value_type = Option<Vec<RecordInput<'a>>>, min_items = 1, max_items = 10000)]
    pub vectors: Option<Bounded<Object<RecordInput<'a>>, RECORDS_PER_WRITE_MAX>>,
    /// The same in columns, which large writes are made and read faster in.
    #[serde(borrow)]
    #[schema(value_type = Option<ColumnsInput<'a>>)]
    pub columns: Option<Object<ColumnsInput<'a>>>,
}

/// Records in columns of equal length.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnsInput<'a> {
    /// The ids of 1 to 10,000 records.
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 10000)]
    pub ids: Bounded<String, RECORDS_PER_WRITE_MAX>,
    /// All vectors one after another, in one array or one base64 text.
    #[schema(value_type = VectorSchema)]
    pub vectors: VectorInput,
    /// A JSON object or null for each record.
    #[serde(borrow)]
    #[schema(value_type = Option<Vec<Option<Object>>>)]
    pub metadata: Option<Bounded<Option<&'a RawValue>, RECORDS_PER_WRITE_MAX>>,
    /// A text or null for each record.
    #[schema(value_type = Option<Vec<Option<String>>>)]
    pub texts: Option<Bounded<Option<String>, RECORDS_PER_WRITE_MAX>>,
}

/// A record to store.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordInput<'a> {
    /// 1 to 512 bytes of UTF-8 without control characters; a UUIDv7 is made where there is none.
    #[schema(min_length = 1, max_length = 512, example = "doc-1")]
    pub id: Option<String>,
    /// As many numbers as the collection has dimensions.
    #[schema(value_type = VectorSchema)]
    pub vector: VectorInput,
    /// A JSON object of up to 40 KiB.
    #[serde(borrow)]
    #[schema(value_type = Option<Object>, example = json!({"lang": "en", "year": 2024}))]
    pub metadata: Option<&'a RawValue>,
    /// Up to 1 MiB of UTF-8; kept and returned, not searched.
    pub text: Option<String>,
}

/// Records for the engine.
#[derive(Debug)]
pub struct Records(pub Vec<NewRecord>);

impl Decode for Records {
    type Wire<'a> = UpsertBody<'a>;

    fn decode(wire: UpsertBody<'_>, _: &Limits) -> Result<Self> {
        match (wire.vectors, wire.columns) {
            (Some(rows), None) => from_rows(rows),
            (None, Some(Object(columns))) => from_columns(columns),
            _ => Err(Error::invalid("send exactly one of vectors and columns").with("path", ".")),
        }
    }
}

fn from_rows(rows: Bounded<Object<RecordInput<'_>>, RECORDS_PER_WRITE_MAX>) -> Result<Records> {
    in_range("vectors", rows.count, 1..=RECORDS_PER_WRITE_MAX as u64)?;
    let records = rows.items.into_iter().enumerate().map(|(index, Object(record))| {
        let vector = match record.vector.0 {
            Ok(vector) => vector,
            Err(fault) => return Err(vector_fault(index, record.id, fault)),
        };
        Ok(NewRecord {
            id: record.id,
            vector,
            metadata: record.metadata.map(|metadata| metadata.get().to_owned()),
            text: record.text,
        })
    });
    Ok(Records(records.collect::<Result<_>>()?))
}

fn from_columns(columns: ColumnsInput<'_>) -> Result<Records> {
    in_range("columns.ids", columns.ids.count, 1..=RECORDS_PER_WRITE_MAX as u64)?;
    let count = columns.ids.items.len();
    let values = columns.vectors.0.map_err(|fault| {
        Error::new(Code::InvalidVector, format!("columns.vectors: {fault}"))
            .with("path", "columns.vectors")
    })?;
    if values.is_empty() || !values.len().is_multiple_of(count) {
        return Err(Error::invalid(format!(
            "columns.vectors has {} numbers, which is no multiple of the {count} ids",
            values.len()
        ))
        .with("path", "columns.vectors"));
    }
    let metadata = column("metadata", columns.metadata, count)?;
    let texts = column("texts", columns.texts, count)?;
    let vectors = values.chunks_exact(values.len() / count);
    let rows = columns.ids.items.into_iter().zip(vectors).zip(metadata.into_iter().zip(texts));
    let records = rows.map(|((id, vector), (metadata, text))| NewRecord {
        id: Some(id),
        vector: vector.to_vec(),
        metadata: metadata.map(|metadata| metadata.get().to_owned()),
        text,
    });
    Ok(Records(records.collect()))
}

/// A column that may be left out.
fn column<T>(
    name: &str,
    column: Option<Bounded<Option<T>, RECORDS_PER_WRITE_MAX>>,
    count: usize,
) -> Result<Vec<Option<T>>> {
    let Some(column) = column else { return Ok((0..count).map(|_| None).collect()) };
    let found = column.count;
    if found == count as u64 {
        return Ok(column.items);
    }
    Err(Error::invalid(format!("columns.{name} has {found} elements, there are {count} ids"))
        .with("path", format!("columns.{name}")))
}

fn vector_fault(index: usize, id: Option<String>, fault: String) -> Error {
    let error = Error::new(Code::InvalidVector, format!("vectors[{index}]: {fault}"))
        .with("index", index)
        .with("path", format!("vectors[{index}].vector"));
    match id {
        Some(id) => error.with("id", id),
        None => error,
    }
}

/// The answer to an upsert.
#[derive(Debug, Serialize, ToSchema)]
pub struct UpsertedBody {
    /// The log position that holds the write; pass it as `minVersion` to read it anywhere.
    #[schema(example = 42)]
    pub version: u64,
    /// How many records the write stored: of several with one id, one.
    #[schema(example = 1)]
    pub upserted: usize,
    /// `true` where there was no such collection and the write made it: a look for whoever misspelt the name.
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub created: bool,
    /// All ids in the order of the request; only when any was made here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<String>>,
}

/// A record that was read.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecordBody<'a> {
    /// Its id.
    #[schema(example = "doc-1")]
    pub id: &'a str,
    /// Its vector, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector: Option<&'a [f32]>,
    /// Its metadata; `{}` where it has none.
    #[serde(serialize_with = "raw")]
    #[schema(value_type = Object)]
    pub metadata: &'a str,
    /// Its text, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<&'a str>,
    /// Whether its metadata cannot be read, and are left out; an older version stored them.
    #[serde(skip_serializing_if = "is_false")]
    pub damaged: bool,
    /// The log position that wrote it.
    pub version: u64,
}

impl<'a> From<&'a Record> for RecordBody<'a> {
    fn from(record: &'a Record) -> Self {
        RecordBody {
            id: &record.id,
            vector: record.vector.as_deref(),
            metadata: &record.metadata,
            text: record.text.as_deref(),
            damaged: record.damaged,
            version: record.version.0,
        }
    }
}

/// One record.
#[derive(Debug, Serialize, ToSchema)]
pub struct FoundRecordBody<'a> {
    /// The record.
    #[serde(flatten)]
    pub record: RecordBody<'a>,
    /// Whether it may have been overwritten or deleted since, where the log cannot be read; not there otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partial: Option<bool>,
    /// What of the log cannot be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<DamageBody<'a>>,
}

impl<'a> From<&'a FoundRecord> for FoundRecordBody<'a> {
    fn from(found: &'a FoundRecord) -> Self {
        let damages = found.partial.as_deref().unwrap_or_default();
        FoundRecordBody {
            record: RecordBody::from(&found.record),
            partial: found.partial.as_ref().map(|_| true),
            unreadable: damages.iter().map(DamageBody::from).collect(),
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

/// How to page through records.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Size of the page.
    #[serde(default = "page_default")]
    #[param(minimum = 1, maximum = 10000, default = 100)]
    limit: u64,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
    /// Whether records carry their vectors.
    #[serde(default)]
    pub include_vector: bool,
}

fn page_default() -> u64 {
    100
}

impl ListQuery {
    /// The page's size and its start.
    pub fn page(self) -> Result<(usize, Option<String>)> {
        in_range("limit", self.limit, 1..=PAGE_MAX as u64)?;
        Ok((self.limit as usize, self.cursor))
    }
}

/// What an export holds.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportQuery {
    /// Whether records carry their vectors; without them the export cannot be imported.
    #[serde(default = "yes")]
    #[param(default = true)]
    pub include_vector: bool,
}

fn yes() -> bool {
    true
}

/// One page of records, ordered by id (bytes of UTF-8).
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordPageBody<'a> {
    /// The records.
    pub vectors: Vec<RecordBody<'a>>,
    /// Pass it as `cursor` to get the next page; null at the end.
    pub next_cursor: Option<&'a str>,
    /// The log position that was read.
    pub version: u64,
    /// Whether it is all.
    #[serde(flatten)]
    pub partial: PartialFields<'a>,
}

impl<'a> From<&'a RecordPage> for RecordPageBody<'a> {
    fn from(page: &'a RecordPage) -> Self {
        RecordPageBody {
            vectors: page.records.iter().map(RecordBody::from).collect(),
            next_cursor: page.next_cursor.as_deref(),
            version: page.version.0,
            partial: PartialFields::of(page.partial.as_deref()),
        }
    }
}

/// Which records to fetch.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FetchBody {
    /// 1 to 10,000 ids.
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 10000, example = json!(["doc-1", "doc-2"]))]
    pub ids: Bounded<String, PAGE_MAX>,
    /// Whether records carry their vectors.
    #[serde(default)]
    pub include_vector: bool,
}

/// Records to fetch.
#[derive(Debug)]
pub struct Fetch {
    /// Their ids.
    pub ids: Vec<String>,
    /// Whether records carry their vectors.
    pub include_vector: bool,
}

impl Decode for Fetch {
    type Wire<'a> = FetchBody;

    fn decode(wire: FetchBody, _: &Limits) -> Result<Self> {
        in_range("ids", wire.ids.count, 1..=PAGE_MAX as u64)?;
        Ok(Fetch { ids: wire.ids.items, include_vector: wire.include_vector })
    }
}

/// The records that were asked for.
#[derive(Debug, Serialize, ToSchema)]
pub struct FetchedBody<'a> {
    /// Those that exist, each once, in the order in which the request first names them.
    pub vectors: Vec<RecordBody<'a>>,
    /// The ids that do not.
    pub missing: &'a [String],
    /// The log position that was read.
    pub version: u64,
    /// Whether it is all.
    #[serde(flatten)]
    pub partial: PartialFields<'a>,
}

impl<'a> From<&'a FetchedRecords> for FetchedBody<'a> {
    fn from(fetched: &'a FetchedRecords) -> Self {
        FetchedBody {
            vectors: fetched.records.iter().map(RecordBody::from).collect(),
            missing: &fetched.missing,
            version: fetched.version.0,
            partial: PartialFields::of(fetched.partial.as_deref()),
        }
    }
}

/// Which records to delete: exactly one of `ids` and `filter`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteBody<'a> {
    /// 1 to 10,000 ids; those that do not exist are no error.
    #[schema(value_type = Option<Vec<String>>, min_items = 1, max_items = 10000, example = json!(["doc-1"]))]
    pub ids: Option<Bounded<String, PAGE_MAX>>,
    /// Every record whose metadata passes this filter.
    #[serde(borrow)]
    #[schema(value_type = Option<Object>)]
    pub filter: Option<&'a RawValue>,
}

impl Decode for DeleteTarget {
    type Wire<'a> = DeleteBody<'a>;

    fn more_bytes(wire: &DeleteBody<'_>) -> usize {
        filter_bytes(wire.filter)
    }

    fn decode(wire: DeleteBody<'_>, _: &Limits) -> Result<Self> {
        match (wire.ids, wire.filter) {
            (Some(ids), None) => {
                in_range("ids", ids.count, 1..=PAGE_MAX as u64)?;
                Ok(DeleteTarget::Ids(ids.items))
            }
            (None, Some(filter)) => Ok(DeleteTarget::Filter(Filter::from_json_str(filter.get())?)),
            _ => Err(Error::invalid("send exactly one of ids and filter")),
        }
    }
}

/// The answer to a delete.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeletedBody {
    /// The log position that holds the delete; the current one where there was nothing to do.
    pub version: u64,
    /// How many of the records were there, or matched the filter.
    pub deleted: usize,
    /// Of a delete by filter: the version at which the filter was asked. What was written after it stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<u64>,
}

impl From<Deleted> for DeletedBody {
    fn from(Deleted { version, deleted, as_of }: Deleted) -> Self {
        DeletedBody { version: version.0, deleted, as_of: as_of.map(|as_of| as_of.0) }
    }
}

/// The answer to an import.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImportBody<'a> {
    /// Lines that were stored. Of several with one id each is counted, and the last one stays.
    pub imported: u64,
    /// Lines that were not.
    pub failed: u64,
    /// `true` where there was no such collection and the import made it: a look for whoever misspelt the name.
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pub created: bool,
    /// The last log position that holds a record of this import.
    pub version: u64,
    /// The first 100 faults.
    pub errors: Vec<ImportFaultBody<'a>>,
}

/// A line that was not stored.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImportFaultBody<'a> {
    /// The line's number, from 1.
    #[schema(example = 17)]
    pub line: u64,
    /// The error's stable code.
    #[schema(example = "invalid_vector")]
    pub code: &'a str,
    /// The error's message.
    pub message: &'a str,
}
