//! Import and export: NDJSON of any size in constant memory.

use crate::base::defect::Defect;
use crate::base::ids::{CollectionName, Seq};
use crate::base::json::Object;
use crate::base::memory::Reservation;
use crate::base::request::RequestContext;
use crate::base::{Code, Env, Error, Result};
use crate::engine::brainy::{Brainy, Target};
use crate::engine::model::{
    Export, ImportFault, ImportReport, METADATA_BYTES_MAX, NewRecord, TEXT_BYTES_MAX,
};
use crate::engine::records;
use crate::engine::snapshot::{OpenSnapshot, Payloads};
use crate::engine::validate::check_record;
use crate::engine::vector_json::VectorInput;
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, FuturesUnordered, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_util::codec::{Decoder, FramedRead, LinesCodec, LinesCodecError};
use tokio_util::io::StreamReader;

/// The longest line of an import: a record at all its limits, with room for escapes.
pub const LINE_BYTES_MAX: usize = 16 << 20;
/// Records of one write of an import.
const BATCH_RECORDS: usize = 1_000;
/// Bytes of vectors and texts of one write of an import.
const BATCH_BYTES: usize = 8 << 20;
/// Writes of one import in flight.
const WRITES_IN_FLIGHT: usize = 4;
/// Memory for each byte of a batch or a line: as it came, and as it is written or parsed.
const HELD_PER_BYTE: usize = 2;
/// Faults that are reported in full.
const FAULTS_MAX: usize = 100;
/// Records of one piece of an export, at most.
const EXPORT_PAGE: usize = 256;
/// Bytes of which a piece of an export is full.
const EXPORT_BYTES: usize = 256 << 10;

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

/// All records of a snapshot, in pieces that are made when they are asked for. One piece at a time is held
/// for the request.
pub fn export(
    snapshot: OpenSnapshot,
    env: Env,
    context: RequestContext,
    include_vector: bool,
) -> Export {
    let (version, partial) = (snapshot.version(), snapshot.partial());
    // The state is the last id written, or None once everything is.
    let lines = stream::unfold(Some(None::<String>), move |state| {
        let (snapshot, env, context) = (snapshot.clone(), env.clone(), context.clone());
        async move {
            let after = state?;
            let page = env.compute.run(move || {
                let page = page(&snapshot, after.as_deref(), include_vector)?;
                context.next_piece(page.0.len())?;
                Ok(page)
            });
            match page.await.and_then(|page| page) {
                Ok((bytes, _)) if bytes.is_empty() => None,
                Ok((bytes, next)) if env.defects.has(Defect::ExportDropsLine) => {
                    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0);
                    Some((Ok(bytes.slice(end + 1..)), next.map(Some)))
                }
                Ok((bytes, next)) => Some((Ok(bytes), next.map(Some))),
                Err(error) => Some((Err(error), None)),
            }
        }
    });
    Export { version, partial, lines: lines.fuse().boxed() }
}

fn page(
    snapshot: &OpenSnapshot,
    after: Option<&str>,
    include_vector: bool,
) -> Result<(Bytes, Option<String>)> {
    let (mut out, mut last) = (Vec::new(), None);
    let mut payloads = Payloads::default();
    let more = records::visit(snapshot, after, EXPORT_PAGE, |place| {
        if out.len() >= EXPORT_BYTES {
            return Ok(false);
        }
        last = Some(place.id()?);
        records::write_line(&mut out, place, &mut payloads, include_vector)?;
        Ok(true)
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
    let mut lines = FramedRead::new(StreamReader::new(body), Lines::new(brainy));
    let mut import = Import::new(brainy.clone(), name.clone());
    let mut writes = Writes::new();
    let mut outcome = loop {
        let line = match lines.next().await {
            None => break Ok(()),
            Some(Ok(line)) => line,
            Some(Err(error)) => break Err(error.at(import.line + 1)),
        };
        let record = match import.take(&line).await {
            Ok(Some(record)) => record,
            Ok(None) => continue,
            Err(error) => break Err(error),
        };
        if let Err(error) = import.make_room(&record, &mut writes).await {
            break Err(error);
        }
        import.add(record);
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

/// Lines of an import. A long one takes its share of memory as it arrives.
struct Lines {
    codec: LinesCodec,
    held: Reservation,
}

/// Why there are no more lines.
enum Broken {
    Line(LinesCodecError),
    NoRoom(Error),
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Broken::Line(error.into())
    }
}

impl Broken {
    /// The error that the client gets.
    fn at(self, line: u64) -> Error {
        match self {
            Broken::NoRoom(error) => error,
            Broken::Line(LinesCodecError::MaxLineLengthExceeded) => Error::new(
                Code::PayloadTooLarge,
                format!("line {line} is longer than {LINE_BYTES_MAX} bytes"),
            ),
            Broken::Line(LinesCodecError::Io(error)) => {
                let place = format!("the upload ended or broke in line {line}");
                // What is said of the body in our own words keeps its code.
                match error.downcast::<Error>() {
                    Ok(error) => error.context(place),
                    Err(error) => Error::invalid(format!("{place}: {error}")),
                }
            }
        }
    }
}

impl Lines {
    fn new(brainy: &Brainy) -> Lines {
        let codec = LinesCodec::new_with_max_length(LINE_BYTES_MAX);
        Lines { codec, held: brainy.request_memory().bodies.reserve() }
    }
}

impl Decoder for Lines {
    type Item = String;
    type Error = Broken;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<String>, Broken> {
        self.held.cover(HELD_PER_BYTE * buffer.len()).map_err(Broken::NoRoom)?;
        let line = self.codec.decode(buffer).map_err(Broken::Line)?;
        if line.is_some() {
            self.held.shrink(HELD_PER_BYTE * buffer.len());
        }
        Ok(line)
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> Result<Option<String>, Broken> {
        self.codec.decode_eof(buffer).map_err(Broken::Line)
    }
}

/// Bytes of vectors and texts of a record.
fn bytes_of(record: &NewRecord) -> usize {
    let strings = [&record.metadata, &record.text, &record.id];
    let strings: usize = strings.iter().map(|text| text.as_ref().map_or(0, String::len)).sum();
    record.vector.len() * size_of::<f32>() + strings
}

/// The writes of an import that are under way.
type Writes = FuturesUnordered<BoxFuture<'static, Result<(u64, Seq)>>>;

/// An import on its way.
struct Import {
    brainy: Brainy,
    name: CollectionName,
    /// What the records go into, once there was one.
    target: Option<Target>,
    line: u64,
    batch: Vec<NewRecord>,
    batch_bytes: usize,
    /// What the batch holds, until it is written.
    held: Reservation,
    report: ImportReport,
}

impl Import {
    fn new(brainy: Brainy, name: CollectionName) -> Import {
        Import {
            held: brainy.request_memory().bodies.reserve(),
            brainy,
            name,
            target: None,
            line: 0,
            batch: Vec::new(),
            batch_bytes: 0,
            report: ImportReport::default(),
        }
    }

    /// The record of a line; `None` where there is none, or something is wrong with it, which is noted.
    async fn take(&mut self, line: &str) -> Result<Option<NewRecord>> {
        self.line += 1;
        if line.trim().is_empty() {
            return Ok(None);
        }
        let record = match parse(line) {
            Ok(record) => record,
            Err(error) => {
                self.fault(&error);
                return Ok(None);
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
            self.target = Some(self.brainy.target_of_now(&self.name, &record.vector).await?);
        }
        let checked = match &self.target {
            Some(target) => check_record(&record, &target.settings()),
            None => return Err(Error::internal("an import has nowhere to go")),
        };
        Ok(match checked {
            Ok(()) => Some(record),
            Err(error) => {
                self.fault(&error);
                None
            }
        })
    }

    /// Makes room for a record in the batch. Where there is none beside what is here, all of that is
    /// written, and it waits while it holds nothing.
    async fn make_room(&mut self, record: &NewRecord, writes: &mut Writes) -> Result<()> {
        if self.held.cover(HELD_PER_BYTE * (self.batch_bytes + bytes_of(record))).is_ok() {
            return Ok(());
        }
        if !self.batch.is_empty() {
            let write = self.write().await?;
            writes.push(write);
        }
        let mut outcome = Ok(());
        while let Some(done) = writes.next().await {
            outcome = outcome.and(self.account(done));
        }
        outcome?;
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

    fn add(&mut self, record: NewRecord) {
        self.batch_bytes += bytes_of(&record);
        self.batch.push(record);
    }

    fn is_full(&self) -> bool {
        self.batch.len() >= BATCH_RECORDS || self.batch_bytes >= BATCH_BYTES
    }

    /// Takes the batch, and begins the collection where it is the first; the future writes it.
    async fn write(&mut self) -> Result<BoxFuture<'static, Result<(u64, Seq)>>> {
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
        let next = brainy.request_memory().bodies.reserve();
        let held = std::mem::replace(&mut self.held, next);
        let write = async move {
            let _held = held;
            let upserted = brainy.upsert_into(collection, batch).await?;
            Ok((upserted.upserted as u64, upserted.version))
        };
        Ok(write.boxed())
    }

    fn account(&mut self, written: Result<(u64, Seq)>) -> Result<()> {
        let (records, version) = written?;
        self.report.imported += records;
        self.report.version = self.report.version.max(version);
        Ok(())
    }
}
