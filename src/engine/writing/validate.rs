//! What a record must be like before it enters the log. Nothing behind this point checks again.

use crate::base::defect::Defect;
use crate::base::ids::check_record_id;
use crate::base::json;
use crate::base::{Code, Env, Error, Result};
use crate::engine::model::{
    DIMENSIONS_MAX, METADATA_BYTES_MAX, Metric, NewRecord, RECORDS_PER_WRITE_MAX, TEXT_BYTES_MAX,
};
use crate::log::chunk::ChunkBuilder;
use crate::manifest::CollectionSettings;
use bytes::Bytes;
use std::collections::HashSet;

/// A write, ready for the log.
#[derive(Debug)]
pub struct Prepared {
    /// The serialised records.
    pub chunk: Bytes,
    /// How many there are.
    pub operations: u32,
    /// How many of them stay: of several with one id the last.
    pub distinct: usize,
    /// All ids in order, when any was generated.
    pub ids: Option<Vec<String>>,
}

/// Checks the number of records, ids or lines of one request.
pub fn check_count(what: &str, count: usize, max: usize) -> Result<()> {
    if (1..=max).contains(&count) {
        return Ok(());
    }
    Err(Error::invalid(format!("{what} must have 1 to {max} elements, not {count}"))
        .with("count", count)
        .with("max", max))
}

/// Checks records and serialises them. The first fault is reported with its index and id.
pub fn prepare(
    records: &[NewRecord],
    settings: &CollectionSettings,
    env: &Env,
) -> Result<Prepared> {
    check_count("vectors", records.len(), RECORDS_PER_WRITE_MAX)?;
    let mut builder = ChunkBuilder::new(settings.vector().dimensions);
    let generates = records.iter().any(|record| record.id.is_none());
    let mut ids = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let metadata = checked(record, settings).map_err(|error| {
            let id = record.id.as_deref().map(|id| id.chars().take(80).collect::<String>());
            let error = error.context(format!("vectors[{index}]")).with("index", index);
            match id {
                Some(id) => error.with("id", id),
                None => error,
            }
        })?;
        let id = record.id.clone().unwrap_or_else(|| env.record_id());
        let metadata = match &record.metadata {
            Some(sent) if env.defects.has(Defect::MetadataAsSent) => sent,
            _ => &metadata,
        };
        builder.upsert(&id, &record.vector, metadata, record.text.as_deref());
        if generates {
            ids.push(id);
        }
    }
    let named = records.iter().filter_map(|record| record.id.as_deref());
    let distinct = named.clone().collect::<HashSet<_>>().len() + records.len() - named.count();
    Ok(Prepared {
        operations: records.len() as u32,
        distinct,
        chunk: builder.finish()?,
        ids: generates.then_some(ids),
    })
}

/// Checks the length of vectors for which there is no collection yet.
pub fn check_dimensions(dimensions: usize) -> Result<()> {
    if (1..=DIMENSIONS_MAX as usize).contains(&dimensions) {
        return Ok(());
    }
    let message = format!("the vector has {dimensions} dimensions; use 1 to {DIMENSIONS_MAX}");
    Err(Error::new(Code::DimensionMismatch, message).with("found", dimensions))
}

/// Checks one record.
pub fn check_record(record: &NewRecord, settings: &CollectionSettings) -> Result<()> {
    checked(record, settings).map(drop)
}

/// Checks one record; its metadata as they are stored.
fn checked(record: &NewRecord, settings: &CollectionSettings) -> Result<String> {
    if let Some(id) = &record.id {
        check_record_id(id)?;
    }
    check_vector(&record.vector, settings)?;
    match &record.text {
        Some(text) if text.len() > TEXT_BYTES_MAX => Err(Error::invalid(format!(
            "text has {} bytes, the limit is {TEXT_BYTES_MAX}; split it into several records",
            text.len()
        ))),
        _ => record.metadata.as_deref().map_or_else(|| Ok(String::new()), kept_metadata),
    }
}

/// Checks a stored vector or a query.
pub fn check_vector(vector: &[f32], settings: &CollectionSettings) -> Result<()> {
    let dimensions = settings.vector().dimensions as usize;
    if vector.len() != dimensions {
        return Err(Error::new(
            Code::DimensionMismatch,
            format!(
                "the vector has {} dimensions, the collection has {dimensions}; \
                 use the model that the collection was made with, or another collection",
                vector.len()
            ),
        )
        .with("expected", dimensions)
        .with("found", vector.len()));
    }
    let invalid = |message: String| Err(Error::new(Code::InvalidVector, message));
    if let Some(at) = vector.iter().position(|value| !value.is_finite()) {
        return invalid(format!(
            "the vector's element {at} is {}; every element must be a finite 32-bit number",
            vector[at]
        ));
    }
    if settings.vector().metric == Metric::Cosine && vector.iter().all(|value| *value == 0.0) {
        return invalid(
            "the vector is all zeros, which has no direction; cosine needs a nonzero vector"
                .to_owned(),
        );
    }
    Ok(())
}

/// Metadata as they are stored: what was parsed, on one line. Whoever reads them parses them again, so what
/// cannot be parsed is refused here.
fn kept_metadata(metadata: &str) -> Result<String> {
    let invalid = |message: String| Err(Error::new(Code::InvalidMetadata, message));
    let kept = match json::compact(metadata) {
        Ok(kept) => kept,
        Err(error) => {
            return invalid(format!(
                "metadata must be a JSON object of whole characters, numbers within a double and at most 127 \
                 levels: {error}"
            ));
        }
    };
    if kept.len() > METADATA_BYTES_MAX {
        return invalid(format!(
            "metadata has {} bytes of JSON, the limit is {METADATA_BYTES_MAX}; \
             keep large texts in `text` or outside",
            kept.len()
        ));
    }
    Ok(kept)
}
