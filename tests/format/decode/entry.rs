//! Entries of a log, and what a writer waits with.

use super::bytes::{Bytes, check};
use super::{Result, ensure, newer};

const HEADER: usize = 80;
const PARTS_MAX: u32 = 4_096;
const INLINE: u32 = 1;
const OBJECT: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Data,
    /// Ends the collection's life.
    Seal,
    /// Of a newer build: its parts are not applied, and only the data objects among them are known.
    Skipped(u16),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub kind: Kind,
    pub position: u64,
    pub incarnation: u64,
    pub write_id: [u8; 16],
    pub created_ms: u64,
    /// Operations in the log up to and including this entry.
    pub total_operations: u64,
    /// Bytes of the log up to and including this entry.
    pub total_bytes: u64,
    pub parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub body: Body,
    pub operations: u32,
    pub length: u64,
    pub crc: u32,
    /// Whether the row carries the mark of the writer that appended it.
    pub marked: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// The chunk itself, and the submission that it is.
    Inline { chunk: Vec<u8>, submission: u128 },
    /// A data object's ULID.
    Object(u128),
}

impl Entry {
    /// How many operations and bytes the entry adds to the log.
    pub fn own_totals(&self, entry_bytes: u64) -> (u64, u64) {
        let objects = self.parts.iter().filter(|part| matches!(part.body, Body::Object(_)));
        let bytes = objects.fold(entry_bytes, |sum, part| sum.saturating_add(part.length));
        (self.parts.iter().map(|part| u64::from(part.operations)).sum(), bytes)
    }
}

/// The row of a part, before its chunk is looked for.
struct Row {
    kind: u32,
    operations: u32,
    length: u64,
    crc: u32,
    marked: bool,
    number: u128,
}

impl Row {
    fn with(&self, body: Body) -> Part {
        let Row { operations, length, crc, marked, .. } = *self;
        Part { body, operations, length, crc, marked }
    }
}

/// Decodes an entry.
pub fn decode(data: &[u8]) -> Result<Entry> {
    let mut bytes = Bytes::new(data, "log entry");
    bytes.magic(b"BRNYWAL1")?;
    let version = bytes.u16()?;
    if version > 1 {
        return newer(format!("log entry: version {version}"));
    }
    ensure(version == 1, || "log entry: version 0".to_owned())?;
    let kind = bytes.u16()?;
    let parts = bytes.u32()?;
    let (position, incarnation) = (bytes.u64()?, bytes.u64()?);
    let write_id = bytes.u128()?.to_le_bytes();
    let created_ms = bytes.u64()?;
    let (total_operations, total_bytes) = (bytes.u64()?, bytes.u64()?);
    let (rest_crc, header_crc) = (bytes.u32()?, bytes.u32()?);
    check(&data[..HEADER - 4], header_crc, "log entry: header")?;
    check(&data[HEADER..], rest_crc, "log entry: parts")?;
    let kind = match kind {
        1 => Kind::Data,
        2 => Kind::Seal,
        other if other & 1 << 15 != 0 => Kind::Skipped(other),
        other => return newer(format!("log entry: kind {other}")),
    };
    ensure(parts <= PARTS_MAX, || format!("log entry: {parts} parts"))?;
    ensure(kind != Kind::Seal || parts == 0, || format!("log entry: a seal of {parts} parts"))?;
    let rows: Vec<Row> = (0..parts).map(|_| row(&mut bytes, &write_id)).collect::<Result<_>>()?;
    let parts = match kind {
        Kind::Skipped(_) => {
            let objects = rows.iter().filter(|row| row.kind == OBJECT);
            objects.map(|row| row.with(Body::Object(row.number))).collect()
        }
        _ => rows.iter().map(|row| part(&mut bytes, row)).collect::<Result<_>>()?,
    };
    if !matches!(kind, Kind::Skipped(_)) {
        bytes.end()?;
    }
    Ok(Entry {
        kind,
        position,
        incarnation,
        write_id,
        created_ms,
        total_operations,
        total_bytes,
        parts,
    })
}

fn row(bytes: &mut Bytes, write_id: &[u8; 16]) -> Result<Row> {
    let raw = bytes.take(40)?;
    let mut fields = Bytes::new(raw, "log entry: row of a part");
    let (kind, operations) = (fields.u32()?, fields.u32()?);
    let length = fields.u64()?;
    let (crc, mark) = (fields.u32()?, fields.u32()?);
    let number = fields.u128()?;
    // Of the write id, and of the row's other bytes in their order.
    let others = [&write_id[..], &raw[..20], &raw[24..]].concat();
    let expected = crc32c::crc32c(&others).max(1);
    ensure(mark == 0 || mark == expected, || {
        format!("log entry: a row's mark is {mark:08x} and not {expected:08x}")
    })?;
    Ok(Row { kind, operations, length, crc, marked: mark != 0, number })
}

fn part(bytes: &mut Bytes, row: &Row) -> Result<Part> {
    match row.kind {
        INLINE => {
            let chunk = bytes.take(row.length)?;
            check(chunk, row.crc, "log entry: an inline chunk")?;
            Ok(row.with(Body::Inline { chunk: chunk.to_vec(), submission: row.number }))
        }
        OBJECT => Ok(row.with(Body::Object(row.number))),
        other => newer(format!("log entry: a part of kind {other}")),
    }
}

/// Decodes what `writer` waits with: its parts in a data entry.
pub fn decode_waiting(data: &[u8], writer: u64) -> Result<Entry> {
    let entry = decode(data)?;
    let submission = u128::from_be_bytes(entry.write_id);
    ensure((submission >> 64) as u64 == writer, || {
        format!("waiting write: submission {submission:032x} is not of {writer:016x}")
    })?;
    ensure(entry.kind == Kind::Data, || format!("waiting write: kind {:?}", entry.kind))?;
    let inline = |part: &&Part| matches!(part.body, Body::Inline { .. });
    let count = entry.parts.len();
    let bytes: u64 = entry.parts.iter().map(|part| part.length).sum();
    ensure(entry.parts.iter().filter(inline).count() == count, || {
        "waiting write: a part that is not inline".to_owned()
    })?;
    ensure(count <= 1_024 && bytes <= 512 << 10, || {
        format!("waiting write: {count} parts of {bytes} bytes")
    })?;
    Ok(entry)
}
