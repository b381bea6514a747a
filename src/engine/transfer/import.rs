//! Import: the records of a stream of NDJSON, in constant memory.
//!
//! 1. A line that is not a record is a fault of that line: it is counted, and the others are stored.
//! 2. Of several lines with one id the last one stays: a batch waits for those in flight that share an id with it.
//! 3. All of it goes into one life of the collection, which the first good record begins where there is none.

use super::body::{Body, HELD_PER_BYTE};
use super::lines::{LINE_BYTES_MAX, Line};
use super::under_way::UnderWay;
use crate::base::ids::{CollectionName, Seq, record_hash};
use crate::base::json::Object;
use crate::base::memory::Reservation;
use crate::base::{Code, Error, Result};
use crate::engine::brainy::{Brainy, Target};
use crate::engine::model::{
    ImportFault, ImportReport, METADATA_BYTES_MAX, NewRecord, TEXT_BYTES_MAX,
};
use crate::engine::writing::validate::{check_dimensions, check_record};
use crate::engine::writing::vector_json::VectorInput;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// Records of one write of an import.
const BATCH_RECORDS: usize = 1_000;
/// Bytes of vectors and texts of one write of an import.
const BATCH_BYTES: usize = 8 << 20;
/// Writes of one import in flight.
const WRITES_IN_FLIGHT: usize = 4;
/// Faults that are reported in full.
const FAULTS_MAX: usize = 100;
/// Lines that may be wrong before the first that is not: a stream in which none is a record is not read to its
/// end, which may be a thousand times as far as its compressed form is long.
const FAULTS_AT_FIRST_MAX: u64 = 10_000;

const _: () = assert!(LINE_BYTES_MAX > 6 * (METADATA_BYTES_MAX + TEXT_BYTES_MAX));

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    id: Option<String>,
    vector: VectorInput,
    metadata: Option<Box<RawValue>>,
    text: Option<String>,
    /// Records that were read have it; it means nothing to another collection.
    #[serde(rename = "version")]
    _version: Option<IgnoredAny>,
}

fn parse(line: &Line) -> Result<NewRecord> {
    let Object(input): Object<Input> = serde_json::from_str(line.utf8()?)
        .map_err(|error| Error::invalid(format!("the line is not a record: {error}")))?;
    Ok(NewRecord {
        id: input.id,
        vector: input.vector.0.map_err(|fault| Error::new(Code::InvalidVector, fault))?,
        metadata: input.metadata.map(|metadata| metadata.get().to_owned()),
        text: input.text,
    })
}

/// Stores the records of a stream of NDJSON.
pub async fn import(
    brainy: &Brainy,
    name: &CollectionName,
    body: BoxStream<'static, Result<Bytes>>,
) -> Result<ImportReport> {
    let mut input = Body::new(brainy, body);
    let mut import = Import::new(brainy.clone(), name.clone());
    let mut outcome = import.take_all(&mut input).await;
    // What arrived in whole lines is stored, whatever ended the stream.
    if !import.batch.is_empty() {
        outcome = outcome.and(import.write().await);
    }
    outcome = outcome.and(import.settle().await);
    match outcome {
        Ok(()) => Ok(import.report),
        Err(error) => Err(error
            .with("imported", import.report.imported)
            .with("failed", import.report.failed)
            .with("version", import.report.version.0)),
    }
}

/// Bytes of vectors and texts of a record.
fn bytes_of(record: &NewRecord) -> usize {
    let strings = [&record.metadata, &record.text, &record.id];
    let strings: usize = strings.iter().map(|text| text.as_ref().map_or(0, String::len)).sum();
    record.vector.len() * size_of::<f32>() + strings
}

/// The writes of an import: how many lines each stored, and at which position.
type Writes = UnderWay<'static, Result<(u64, Seq)>>;

/// Vectors for which there can be no collection, and why.
struct Refused {
    dimensions: usize,
    code: Code,
    message: String,
}

/// An import on its way.
struct Import {
    brainy: Brainy,
    name: CollectionName,
    /// What the records go into, once there was one.
    target: Option<Target>,
    refused: Option<Refused>,
    line: u64,
    batch: Vec<NewRecord>,
    batch_bytes: usize,
    /// What the batch holds, until it is written.
    held: Reservation,
    writes: Writes,
    report: ImportReport,
}

impl Import {
    fn new(brainy: Brainy, name: CollectionName) -> Import {
        Import {
            held: brainy.request_memory().bodies.reserve(),
            brainy,
            name,
            target: None,
            refused: None,
            line: 0,
            batch: Vec::new(),
            batch_bytes: 0,
            writes: Writes::default(),
            report: ImportReport::default(),
        }
    }

    async fn take_all(&mut self, input: &mut Body) -> Result<()> {
        while let Some(line) = input.next().await? {
            if let Some(record) = self.take(&line).await? {
                self.make_room(&record).await?;
                self.batch_bytes += bytes_of(&record);
                self.batch.push(record);
            }
            if self.batch.len() >= BATCH_RECORDS || self.batch_bytes >= BATCH_BYTES {
                self.write().await?;
            }
            let none = self.batch.is_empty() && !self.writes.has_begun();
            if none && self.report.failed >= FAULTS_AT_FIRST_MAX {
                self.report.given_up = true;
                break;
            }
        }
        Ok(())
    }

    /// The record of a line; `None` where something is wrong with it, which is noted.
    async fn take(&mut self, line: &Line) -> Result<Option<NewRecord>> {
        self.line = line.number;
        let checked = match parse(line) {
            Ok(record) => self.checked(record).await?,
            Err(fault) => Err(fault),
        };
        Ok(match checked {
            Ok(record) => Some(record),
            Err(fault) => {
                self.fault(&fault);
                None
            }
        })
    }

    /// The record, or what is wrong with it; fails where no record can be stored.
    async fn checked(&mut self, record: NewRecord) -> Result<Result<NewRecord>> {
        let dimensions = record.vector.len();
        if let Err(fault) = check_dimensions(dimensions) {
            return Ok(Err(fault));
        }
        // The collection is made as the first good record says: one that is refused decides nothing.
        let undecided = match &self.target {
            Some(Target::Next(next)) => {
                let same = next.settings().vector().dimensions as usize == dimensions;
                next.is_first() && !same && self.batch.is_empty()
            }
            target => target.is_none(),
        };
        if undecided {
            if let Some(refused) = self.refused.as_ref().filter(|it| it.dimensions == dimensions) {
                return Ok(Err(Error::new(refused.code, refused.message.clone())));
            }
            match self.brainy.target_of_now(&self.name, &record.vector).await {
                Ok(target) => self.target = Some(target),
                // Of this record alone: another may be as the cluster's settings want it.
                Err(error) if error.code() == Code::DimensionMismatch => {
                    let (code, message) = (error.code(), error.message().to_owned());
                    self.refused = Some(Refused { dimensions, code, message });
                    return Ok(Err(error));
                }
                Err(error) => return Err(error),
            }
        }
        let target = self.target.as_ref().ok_or_else(nowhere)?;
        Ok(check_record(&record, &target.settings()).map(|()| record))
    }

    /// Makes room for a record in the batch. Where there is none beside what is here, all of that is
    /// written, and it waits while it holds nothing.
    async fn make_room(&mut self, record: &NewRecord) -> Result<()> {
        if self.held.cover(HELD_PER_BYTE * (self.batch_bytes + bytes_of(record))).is_ok() {
            return Ok(());
        }
        if !self.batch.is_empty() {
            self.write().await?;
        }
        self.settle().await?;
        self.held.cover_in_turn(HELD_PER_BYTE * bytes_of(record)).await
    }

    fn fault(&mut self, error: &Error) {
        self.report.failed += 1;
        if self.report.errors.len() < FAULTS_MAX {
            self.report.errors.push(ImportFault {
                line: self.line,
                code: error.code().name(),
                message: error.message().to_owned(),
            });
        }
    }

    /// Begins to write the batch, and begins the collection where it is the first. Waits for those in flight
    /// that have an id of it, and where they are many.
    async fn write(&mut self) -> Result<()> {
        let mut ids: Vec<u64> =
            self.batch.iter().filter_map(|record| record.id.as_deref()).map(record_hash).collect();
        ids.sort_unstable();
        if self.writes.share(&ids) {
            self.settle().await?;
        }
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let target = self.target.take().ok_or_else(nowhere)?;
        let begun = self.brainy.begun(target).await?.ok_or_else(|| {
            let name = &self.name;
            let hint = "was created with other settings while this import began; start it again";
            Error::new(Code::SettingsConflict, format!("collection {name} {hint}"))
        })?;
        self.report.created |= begun.created;
        let collection = begun.collection;
        self.target = Some(Target::Life(collection.clone()));
        let brainy = self.brainy.clone();
        let next = brainy.request_memory().bodies.reserve();
        let held = std::mem::replace(&mut self.held, next);
        let write = async move {
            let _held = held;
            let lines = batch.len() as u64;
            let upserted = brainy.upsert_into(collection, batch).await?;
            Ok((lines, upserted.version))
        };
        self.writes.push(ids, write);
        match self.writes.count() >= WRITES_IN_FLIGHT {
            true => self.one_done().await.unwrap_or(Ok(())),
            false => Ok(()),
        }
    }

    /// Waits for one of the writes in flight, if there is one.
    async fn one_done(&mut self) -> Option<Result<()>> {
        let done = self.writes.next().await?;
        Some(done.map(|(lines, version)| {
            self.report.imported += lines;
            self.report.version = self.report.version.max(version);
        }))
    }

    /// Waits for all writes in flight; the first failure, where there is one.
    async fn settle(&mut self) -> Result<()> {
        let mut outcome = Ok(());
        while let Some(done) = self.one_done().await {
            outcome = outcome.and(done);
        }
        outcome
    }
}

fn nowhere() -> Error {
    Error::internal("an import has nowhere to go")
}
