//! Import and export: NDJSON of any size in constant memory.

use crate::base::ids::{CollectionName, Seq};
use crate::base::json::Object;
use crate::base::{Code, Env, Error, Result};
use crate::engine::brainy::{Brainy, Target};
use crate::engine::model::{
    Export, ImportFault, ImportReport, METADATA_BYTES_MAX, NewRecord, TEXT_BYTES_MAX,
};
use crate::engine::records;
use crate::engine::snapshot::{OpenSnapshot, Payloads};
use crate::engine::validate::check_record;
use crate::engine::vector_json::VectorInput;
use bytes::Bytes;
use futures::stream::{self, BoxStream, FuturesUnordered, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::future::Future;
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::io::StreamReader;

/// The longest line of an import: a record at all its limits, with room for escapes.
pub const LINE_BYTES_MAX: usize = 16 << 20;
/// Records of one write of an import.
const BATCH_RECORDS: usize = 1_000;
/// Bytes of vectors and texts of one write of an import.
const BATCH_BYTES: usize = 8 << 20;
/// Writes of one import in flight.
const WRITES_IN_FLIGHT: usize = 4;
/// Faults that are reported in full.
const FAULTS_MAX: usize = 100;
/// Records of one piece of an export.
const EXPORT_PAGE: usize = 256;

const _: () = assert!(LINE_BYTES_MAX > 2 * (METADATA_BYTES_MAX + TEXT_BYTES_MAX));

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: Option<String>,
    vector: VectorInput,
    metadata: Option<Box<RawValue>>,
    text: Option<String>,
}

fn parse(line: &str) -> Result<NewRecord> {
    let Object(line): Object<Line> = serde_json::from_str(line)
        .map_err(|error| Error::invalid(format!("the line is not a record: {error}")))?;
    Ok(NewRecord {
        id: line.id,
        vector: line.vector.0.map_err(|fault| Error::new(Code::InvalidVector, fault))?,
        metadata: line.metadata.map(|metadata| metadata.get().to_owned()),
        text: line.text,
    })
}

/// All records of a snapshot, in pieces that are made when they are asked for.
pub fn export(snapshot: OpenSnapshot, env: Env, include_vector: bool) -> Export {
    let version = snapshot.version();
    // The state is the last id written, or None once everything is.
    let lines = stream::unfold(Some(None::<String>), move |state| {
        let (snapshot, env) = (snapshot.clone(), env.clone());
        async move {
            let after = state?;
            let page = env.compute.run(move || page(&snapshot, after.as_deref(), include_vector));
            match page.await.and_then(|page| page) {
                Ok((bytes, _)) if bytes.is_empty() => None,
                Ok((bytes, next)) => Some((Ok(bytes), next.map(Some))),
                Err(error) => Some((Err(error), None)),
            }
        }
    });
    Export { version, lines: lines.fuse().boxed() }
}

fn page(
    snapshot: &OpenSnapshot,
    after: Option<&str>,
    include_vector: bool,
) -> Result<(Bytes, Option<String>)> {
    let (mut out, mut last) = (Vec::new(), None);
    let mut payloads = Payloads::default();
    let more = records::visit(snapshot, after, EXPORT_PAGE, |place| {
        last = Some(place.id()?);
        records::write_line(&mut out, place, &mut payloads, include_vector)
    })?;
    Ok((out.into(), last.filter(|_| more).map(str::to_owned)))
}

/// Stores the records of a stream of NDJSON, all in one life of the collection: the one that there is when
/// the first of them arrives, or that they begin.
pub async fn import(
    brainy: &Brainy,
    name: &CollectionName,
    body: BoxStream<'static, Result<Bytes>>,
) -> Result<ImportReport> {
    let body = body.map(|piece| piece.map_err(std::io::Error::other));
    let codec = LinesCodec::new_with_max_length(LINE_BYTES_MAX);
    let mut lines = FramedRead::new(StreamReader::new(body), codec);
    let mut import = Import::new(brainy.clone(), name.clone());
    let mut writes = FuturesUnordered::new();
    let mut outcome = loop {
        let line = match lines.next().await {
            None => break Ok(()),
            Some(Ok(line)) => line,
            Some(Err(error)) => break Err(broken(import.line + 1, error)),
        };
        if let Err(error) = import.take(&line).await {
            break Err(error);
        }
        if import.is_full() {
            match import.write().await {
                Ok(write) => writes.push(write),
                Err(error) => break Err(error),
            }
            if writes.len() >= WRITES_IN_FLIGHT
                && let Some(Err(error)) = writes.next().await.map(|done| import.account(done))
            {
                break Err(error);
            }
        }
    };
    // What arrived in whole lines is stored, whatever ended the stream.
    if !import.batch.is_empty() {
        match import.write().await {
            Ok(write) => writes.push(write),
            Err(error) => outcome = outcome.and(Err(error)),
        }
    }
    while let Some(done) = writes.next().await {
        outcome = outcome.and(import.account(done));
    }
    match outcome {
        Ok(()) => Ok(import.report),
        Err(error) => Err(error
            .with("imported", import.report.imported)
            .with("failed", import.report.failed)
            .with("version", import.report.version.0)),
    }
}

fn broken(line: u64, error: LinesCodecError) -> Error {
    match error {
        LinesCodecError::MaxLineLengthExceeded => Error::new(
            Code::PayloadTooLarge,
            format!("line {line} is longer than {LINE_BYTES_MAX} bytes"),
        ),
        LinesCodecError::Io(error) => {
            Error::invalid(format!("the upload ended or broke in line {line}: {error}"))
        }
    }
}

/// An import on its way.
struct Import {
    brainy: Brainy,
    name: CollectionName,
    /// What the records go into, once there was one.
    target: Option<Target>,
    line: u64,
    batch: Vec<NewRecord>,
    batch_bytes: usize,
    report: ImportReport,
}

impl Import {
    fn new(brainy: Brainy, name: CollectionName) -> Import {
        let report = ImportReport::default();
        Import { brainy, name, target: None, line: 0, batch: Vec::new(), batch_bytes: 0, report }
    }

    /// Takes a line into the batch, or notes what is wrong with it.
    async fn take(&mut self, line: &str) -> Result<()> {
        self.line += 1;
        if line.trim().is_empty() {
            return Ok(());
        }
        let record = match parse(line) {
            Ok(record) => record,
            Err(error) => {
                self.fault(&error);
                return Ok(());
            }
        };
        // The collection is made as the first good record says: one that is refused decides nothing.
        let undecided = match &self.target {
            Some(Target::Next(next)) => {
                let same = next.settings().dimensions as usize == record.vector.len();
                next.is_first() && !same && self.batch.is_empty()
            }
            target => target.is_none(),
        };
        if undecided {
            self.target = Some(self.brainy.target(&self.name, &record.vector).await?);
        }
        let checked = match &self.target {
            Some(target) => check_record(&record, &target.settings()),
            None => return Err(Error::internal("an import has nowhere to go")),
        };
        match checked {
            Ok(()) => self.add(record),
            Err(error) => self.fault(&error),
        }
        Ok(())
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

    fn add(&mut self, record: NewRecord) {
        let strings = [&record.metadata, &record.text, &record.id];
        let strings: usize = strings.iter().map(|text| text.as_ref().map_or(0, String::len)).sum();
        self.batch_bytes += record.vector.len() * size_of::<f32>() + strings;
        self.batch.push(record);
    }

    fn is_full(&self) -> bool {
        self.batch.len() >= BATCH_RECORDS || self.batch_bytes >= BATCH_BYTES
    }

    /// Takes the batch, and begins the collection where it is the first; the future writes it.
    async fn write(&mut self) -> Result<impl Future<Output = Result<(u64, Seq)>> + use<>> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let target = self.target.take();
        let target = target.ok_or_else(|| Error::internal("an import has nowhere to go"))?;
        let collection = self.brainy.begun(target).await?.ok_or_else(|| {
            let name = &self.name;
            let hint = "was created with other settings while this import began; start it again";
            Error::new(Code::SettingsConflict, format!("collection {name} {hint}"))
        })?;
        self.target = Some(Target::Life(collection.clone()));
        let brainy = self.brainy.clone();
        Ok(async move {
            let upserted = brainy.upsert_into(collection, batch).await?;
            Ok((upserted.upserted as u64, upserted.version))
        })
    }

    fn account(&mut self, written: Result<(u64, Seq)>) -> Result<()> {
        let (records, version) = written?;
        self.report.imported += records;
        self.report.version = self.report.version.max(version);
        Ok(())
    }
}
