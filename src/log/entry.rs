//! The envelope of one log position: a header, a table of parts, and the inline parts.

use crate::base::codec::Cursor;
use crate::base::ids::{Seq, Totals, Ulid, WriteId};
use crate::base::{Code, Error, Result, Timestamp};
use bytes::Bytes;

const MAGIC: &[u8; 8] = b"BRNYWAL1";
const FORMAT_VERSION: u16 = 1;
/// The header alone: what a writer reads of an entry that it does not apply.
pub const HEADER_BYTES: usize = 80;
/// One row of the part table.
pub const PART_BYTES: usize = 40;
/// The first bytes of an entry that hold its header and its first [`HEAD_PARTS`] rows of parts.
pub const HEAD_BYTES: usize = HEADER_BYTES + HEAD_PARTS * PART_BYTES;
const HEAD_PARTS: usize = 64;
/// The most parts that one entry may have.
pub const PARTS_MAX: usize = 4_096;

const DATA: u16 = 1;
const SEAL: u16 = 2;
/// In the kind of an entry: whoever does not know the kind goes past it, and applies none of its parts.
const OPTIONAL: u16 = 1 << 15;
const INLINE: u32 = 1;
const OBJECT: u32 = 2;

/// What a writer needs to know of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The entry's position.
    pub seq: Seq,
    /// Which life of the collection's name the entry belongs to.
    pub incarnation: u64,
    /// Who wrote it, for the writer to recognise itself.
    pub write_id: WriteId,
    /// When it was made, by its writer's clock; for people only.
    pub created: Timestamp,
    /// Totals over the log up to and including this entry.
    pub totals: Totals,
    /// Whether this entry ends the collection's life.
    pub seal: bool,
    /// Whether it is of a kind that this build does not know and may skip.
    pub skipped: bool,
    parts: u32,
    body_crc: u32,
}

/// One client's write inside an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The chunk itself.
    Inline {
        /// How many operations it has.
        operations: u32,
        /// The chunk's bytes.
        chunk: Bytes,
    },
    /// The name of a data object that holds the chunk.
    Object {
        /// How many operations it has.
        operations: u32,
        /// The data object.
        id: Ulid,
        /// Its length in bytes.
        length: u64,
        /// Its checksum.
        crc: u32,
    },
}

impl Part {
    /// How many operations it has.
    pub fn operations(&self) -> u32 {
        match self {
            Part::Inline { operations, .. } | Part::Object { operations, .. } => *operations,
        }
    }

    /// The bytes of its chunk.
    pub fn length(&self) -> u64 {
        match self {
            Part::Inline { chunk, .. } => chunk.len() as u64,
            Part::Object { length, .. } => *length,
        }
    }
}

/// One row of the part table.
struct Row {
    kind: u32,
    operations: u32,
    length: u64,
    crc: u32,
    id: Ulid,
}

impl Row {
    fn read(table: &mut Cursor<'_>) -> Result<Row> {
        let (kind, operations, length, crc) =
            (table.u32()?, table.u32()?, table.u64()?, table.u32()?);
        table.u32()?;
        let id = Ulid(u128::from_le_bytes(table.array()?));
        if !matches!(kind, INLINE | OBJECT) {
            return Err(Error::new(
                Code::NewerFormat,
                format!(
                    "a log entry has a part of kind {kind}, which this build does not know; upgrade it"
                ),
            ));
        }
        Ok(Row { kind, operations, length, crc, id })
    }
}

/// An entry, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its header.
    pub header: Header,
    /// Its parts, in the order in which they apply.
    pub parts: Vec<Part>,
}

/// What one writer wants to have in the log, whoever appends it: it is in at most one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Submission {
    /// Who wants it: a number that each appender draws for itself.
    pub writer: u64,
    /// The writer's own count.
    pub number: u64,
}

impl Submission {
    fn from_id(id: u128) -> Self {
        Submission { writer: (id >> 64) as u64, number: id as u64 }
    }

    fn id(self) -> u128 {
        u128::from(self.writer) << 64 | u128::from(self.number)
    }

    /// As the write id of the object that it waits in.
    pub fn write_id(self) -> WriteId {
        WriteId(self.id().to_be_bytes())
    }

    /// The submission that waits in an object with this write id.
    pub fn waiting_in(id: WriteId) -> Self {
        Submission::from_id(u128::from_be_bytes(id.0))
    }
}

/// Who appended an entry, and who may append the one after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Author {
    /// The writer.
    pub writer: u64,
    /// The lower half of the number of the writer whose turn is next, or 0.
    pub next: u32,
    /// Whether it takes along what others wait with, in this entry and in those that follow.
    pub serves: bool,
}

/// The bit of the nonce in a write id that says that its author serves.
const SERVES: u32 = 1 << 31;

impl Author {
    /// A write id of this author's.
    pub fn write_id(self, nonce: u32) -> WriteId {
        let nonce = if self.serves { nonce | SERVES } else { nonce & !SERVES };
        let id = u128::from(self.writer) << 64 | u128::from(nonce) << 32 | u128::from(self.next);
        WriteId(id.to_be_bytes())
    }

    fn of(id: WriteId) -> Self {
        let id = u128::from_be_bytes(id.0);
        let serves = (id >> 32) as u32 & SERVES != 0;
        Author { writer: (id >> 64) as u64, next: id as u32, serves }
    }
}

/// What other writers need to know of an entry: its header, and whose writes it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The header.
    pub header: Header,
    /// Who appended it; unknown where an older build did.
    pub author: Option<Author>,
    /// What it holds.
    pub submissions: Vec<Submission>,
}

impl Head {
    /// How many of an entry's first bytes its head is.
    pub fn length(header: &Header) -> usize {
        HEADER_BYTES + header.parts as usize * PART_BYTES
    }

    /// Whether its author has taken another's along.
    pub fn takes_along(&self) -> bool {
        let author = self.author.filter(|author| author.serves);
        let others =
            |author: Author| self.submissions.iter().any(|one| one.writer != author.writer);
        author.is_some_and(others)
    }

    /// Whether it changes nothing: a collector's fence.
    pub fn is_fence(&self) -> bool {
        self.header.parts == 0 && !self.header.seal
    }

    /// Decodes the first bytes of an entry, at least [`Head::length`].
    pub fn decode(bytes: &[u8]) -> Result<Head> {
        let header = Header::decode(bytes)?;
        let rows = bytes.get(HEADER_BYTES..Head::length(&header));
        let rows = rows.ok_or_else(|| Error::corrupt("a log entry is cut short"))?;
        let mut head = Head { header, author: None, submissions: Vec::new() };
        for row in rows.chunks_exact(PART_BYTES) {
            let mut cursor = Cursor::new("a log entry", &row[MARK..]);
            match cursor.u32()? {
                // An older build wrote it.
                0 => continue,
                found if found == mark(header.write_id, row) => {}
                _ => return Err(Error::corrupt("a part of a log entry fails its checksum")),
            }
            head.author = Some(Author::of(header.write_id));
            let submission = Submission::from_id(u128::from_le_bytes(cursor.array()?));
            if row[..4] == INLINE.to_le_bytes() && head.submissions.last() != Some(&submission) {
                head.submissions.push(submission);
            }
        }
        Ok(head)
    }
}

/// Where the mark stands in a part's row: its own checksum, so that a row can be believed without
/// reading the whole entry.
const MARK: usize = 20;

/// The mark of a row; never 0, which older builds wrote there.
fn mark(write_id: WriteId, row: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&write_id.0), &row[..MARK]);
    crc32c::crc32c_append(crc, &row[MARK + 4..]).max(1)
}

/// Serialises entries of one content for whichever position turns out to be free.
#[derive(Debug)]
pub struct Draft {
    incarnation: u64,
    write_id: WriteId,
    created: Timestamp,
    seal: bool,
    body: Vec<u8>,
    parts: u32,
    own: Totals,
}

impl Draft {
    /// A draft of an entry with `parts`.
    pub fn data(incarnation: u64, write_id: WriteId, created: Timestamp, parts: &[Part]) -> Self {
        let mut body = Vec::new();
        for part in parts {
            let (kind, id, crc) = match part {
                Part::Inline { chunk, .. } => (INLINE, Ulid(0), crc32c::crc32c(chunk)),
                Part::Object { id, crc, .. } => (OBJECT, *id, *crc),
            };
            body.extend(kind.to_le_bytes());
            body.extend(part.operations().to_le_bytes());
            body.extend(part.length().to_le_bytes());
            body.extend(crc.to_le_bytes());
            body.extend(0u32.to_le_bytes());
            body.extend(id.0.to_le_bytes());
        }
        for part in parts {
            if let Part::Inline { chunk, .. } = part {
                body.extend_from_slice(chunk);
            }
        }
        let objects: u64 =
            parts.iter().filter(|part| matches!(part, Part::Object { .. })).map(Part::length).sum();
        Draft {
            own: Totals {
                records: parts.iter().map(|part| u64::from(part.operations())).sum(),
                bytes: (HEADER_BYTES + body.len()) as u64 + objects,
            },
            incarnation,
            write_id,
            created,
            seal: false,
            parts: parts.len() as u32,
            body,
        }
    }

    /// A draft of an entry with the parts of several submissions, marked so that whoever waits for
    /// one finds it in the entry's head.
    pub fn shared(
        incarnation: u64,
        write_id: WriteId,
        created: Timestamp,
        groups: &[(Submission, &[Part])],
    ) -> Self {
        let parts: Vec<Part> = groups.iter().flat_map(|(_, parts)| parts.iter().cloned()).collect();
        let mut draft = Draft::data(incarnation, write_id, created, &parts);
        let of = groups.iter().flat_map(|(submission, parts)| parts.iter().map(|_| *submission));
        for (row, submission) in draft.body.chunks_exact_mut(PART_BYTES).zip(of) {
            if row[..4] == INLINE.to_le_bytes() {
                row[MARK + 4..].copy_from_slice(&submission.id().to_le_bytes());
            }
            let mark = mark(write_id, row);
            row[MARK..MARK + 4].copy_from_slice(&mark.to_le_bytes());
        }
        draft
    }

    /// A draft of the entry that ends the collection's life.
    pub fn seal(incarnation: u64, write_id: WriteId, created: Timestamp) -> Self {
        Draft { seal: true, ..Draft::data(incarnation, write_id, created, &[]) }
    }

    /// Who writes.
    pub fn write_id(&self) -> WriteId {
        self.write_id
    }

    /// The header that this entry has at `seq` after a log with `before`.
    pub fn header(&self, seq: Seq, before: Totals) -> Header {
        Header {
            seq,
            incarnation: self.incarnation,
            write_id: self.write_id,
            created: self.created,
            totals: Totals {
                records: before.records + self.own.records,
                bytes: before.bytes + self.own.bytes,
            },
            seal: self.seal,
            skipped: false,
            parts: self.parts,
            body_crc: crc32c::crc32c(&self.body),
        }
    }

    /// The entry's bytes under `header`.
    pub fn encode(&self, header: &Header) -> Bytes {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.body.len());
        out.extend(MAGIC);
        out.extend(FORMAT_VERSION.to_le_bytes());
        out.extend(if header.seal { SEAL } else { DATA }.to_le_bytes());
        out.extend(header.parts.to_le_bytes());
        out.extend(header.seq.0.to_le_bytes());
        out.extend(header.incarnation.to_le_bytes());
        out.extend(header.write_id.0);
        out.extend(header.created.0.to_le_bytes());
        out.extend(header.totals.records.to_le_bytes());
        out.extend(header.totals.bytes.to_le_bytes());
        out.extend(header.body_crc.to_le_bytes());
        let crc = crc32c::crc32c(&out);
        out.extend(crc.to_le_bytes());
        out.extend_from_slice(&self.body);
        out.into()
    }
}

impl Header {
    /// Decodes the first [`HEADER_BYTES`] of an entry.
    pub fn decode(bytes: &[u8]) -> Result<Header> {
        let mut cursor = Cursor::new("a log entry", bytes);
        if &cursor.array::<8>()? != MAGIC {
            return Err(Error::corrupt("a log entry does not start with its magic"));
        }
        let version = cursor.u16()?;
        if version > FORMAT_VERSION {
            return Err(Error::newer_format("a log entry", version.into(), FORMAT_VERSION.into()));
        }
        let kind = cursor.u16()?;
        let header = Header {
            parts: cursor.u32()?,
            seq: Seq(cursor.u64()?),
            incarnation: cursor.u64()?,
            write_id: WriteId(cursor.array()?),
            created: Timestamp(cursor.u64()?),
            totals: Totals { records: cursor.u64()?, bytes: cursor.u64()? },
            body_crc: cursor.u32()?,
            seal: kind == SEAL,
            skipped: kind & OPTIONAL != 0,
        };
        let crc = cursor.u32()?;
        if crc32c::crc32c(&bytes[..HEADER_BYTES - 4]) != crc {
            return Err(Error::corrupt("a log entry's header fails its checksum"));
        }
        if !matches!(kind, DATA | SEAL) && !header.skipped {
            return Err(Error::new(
                Code::NewerFormat,
                format!(
                    "a log entry is of kind {kind}, which this build does not know; upgrade it"
                ),
            ));
        }
        if header.parts as usize > PARTS_MAX {
            return Err(Error::corrupt("a log entry has too many parts"));
        }
        Ok(header)
    }

    /// Where the part table ends, in bytes from the entry's beginning.
    pub fn table_end(&self) -> usize {
        HEADER_BYTES + self.parts as usize * PART_BYTES
    }

    /// The data objects that the part table names, of an entry that is there at least up to
    /// [`Header::table_end`].
    pub fn objects(&self, entry: &[u8]) -> Result<Vec<Ulid>> {
        let mut table = Cursor::new("a log entry", entry.get(HEADER_BYTES..).unwrap_or_default());
        let mut objects = Vec::new();
        for _ in 0..self.parts {
            let row = Row::read(&mut table)?;
            objects.extend((row.kind == OBJECT).then_some(row.id));
        }
        Ok(objects)
    }

    /// Checks everything behind the header.
    pub fn check_body(&self, body: &[u8]) -> Result<()> {
        if crc32c::crc32c(body) != self.body_crc {
            return Err(Error::corrupt("a log entry's body fails its checksum"));
        }
        Ok(())
    }
}

impl Entry {
    /// Decodes a whole entry. Chunks inside it are checked when they are opened.
    pub fn decode(bytes: &Bytes) -> Result<Entry> {
        let header = Header::decode(bytes)?;
        let body = bytes.slice(HEADER_BYTES..);
        header.check_body(&body)?;
        if header.skipped {
            return Ok(Entry { header, parts: Vec::new() });
        }
        let mut table = Cursor::new("a log entry", &body);
        let mut at = header.parts as usize * PART_BYTES;
        let mut parts = Vec::with_capacity(header.parts as usize);
        for _ in 0..header.parts {
            let Row { kind, operations, length, crc, id } = Row::read(&mut table)?;
            parts.push(match kind {
                INLINE => {
                    let end =
                        usize::try_from(length).ok().and_then(|length| at.checked_add(length));
                    let end = end.filter(|end| *end <= body.len());
                    let end = end.ok_or_else(|| Error::corrupt("a log entry is cut short"))?;
                    let chunk = body.slice(at..end);
                    at = end;
                    Part::Inline { operations, chunk }
                }
                _ => Part::Object { operations, id, length, crc },
            });
        }
        if at != body.len() {
            return Err(Error::corrupt("a log entry has bytes that belong to no part"));
        }
        Ok(Entry { header, parts })
    }
}

#[cfg(test)]
mod tests;
