//! A columnar batch of operations: the unit that a client's write becomes.
//!
//! A chunk stands inside a log entry or alone in a data object; it is the same bytes in both.
//! [`ChunkBuilder`] collects, [`ChunkBuilder::finish`] serialises, [`Chunk`] reads in place.

use crate::base::codec::{Cursor, end_at, ends, u64_at};
use crate::base::ids::Seq;
use crate::base::{Code, Error, Result};
use crate::log::vectors::{Encoding, StoredVector, encode};
use bytes::Bytes;
use std::ops::Range;

const MAGIC: &[u8; 8] = b"BRNYCHK1";
/// Of chunks without a limit; what this build reads ends with [`FORMAT_VERSION`].
const FORMAT_VERSION_PLAIN: u16 = 1;
const FORMAT_VERSION: u16 = 2;
const HEADER_BYTES: usize = 48;

const UPSERT: u8 = 1;
const DELETE: u8 = 2;
const HAS_TEXT: u8 = 4;
/// The operation kills only what was written up to a position of its own. So far only a delete may.
const LIMITED: u8 = 8;
/// Whoever does not know the operation goes past it. The bits for a vector, a text and a limit mean what they mean
/// elsewhere, so that its parts of the columns are known; what it does is told by the others.
const OPTIONAL: u8 = 128;
const LIMIT_BYTES: usize = 8;

/// One operation, borrowed from a chunk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Operation<'a> {
    /// Stores a record, replacing an older one of the same id.
    Upsert {
        /// The record's id.
        id: &'a str,
        /// Its vector.
        vector: StoredVector<'a>,
        /// Its metadata: the JSON text of an object, or empty.
        metadata: &'a str,
        /// Its text.
        text: Option<&'a str>,
    },
    /// Removes a record.
    Delete {
        /// The record's id.
        id: &'a str,
        /// Only what was written at this log position or before; `None`: whatever there is.
        limit: Option<Seq>,
    },
}

impl<'a> Operation<'a> {
    /// The record that it is about.
    pub fn id(&self) -> &'a str {
        match self {
            Operation::Upsert { id, .. } | Operation::Delete { id, .. } => id,
        }
    }

    /// Up to which log position it kills what was written of its id, when it stands in the entry at `seq`:
    /// everything before the entry, or up to its limit. What stands before it in the same entry counts
    /// as written at `seq`, and dies by an operation without a limit.
    pub fn kills_until(&self, seq: Seq) -> Seq {
        match self {
            Operation::Delete { limit: Some(limit), .. } => (*limit).min(seq.previous()),
            _ => seq.previous(),
        }
    }

    /// Whether it spares what was written after its limit.
    pub fn is_limited(&self) -> bool {
        matches!(self, Operation::Delete { limit: Some(_), .. })
    }
}

/// Collects operations.
#[derive(Debug, Default)]
pub struct ChunkBuilder {
    dimensions: u32,
    kinds: Vec<u8>,
    id_ends: Vec<u8>,
    metadata_ends: Vec<u8>,
    text_ends: Vec<u8>,
    ids: Vec<u8>,
    metadata: Vec<u8>,
    text: Vec<u8>,
    vectors: Vec<f32>,
    limits: Vec<u8>,
}

impl ChunkBuilder {
    /// An empty chunk for vectors of `dimensions`.
    pub fn new(dimensions: u32) -> Self {
        ChunkBuilder { dimensions, ..ChunkBuilder::default() }
    }

    /// Adds an upsert. The vector's length is the chunk's dimensions: the engine has checked it.
    pub fn upsert(&mut self, id: &str, vector: &[f32], metadata: &str, text: Option<&str>) {
        debug_assert_eq!(vector.len(), self.dimensions as usize);
        self.ids.extend_from_slice(id.as_bytes());
        self.metadata.extend_from_slice(metadata.as_bytes());
        self.text.extend_from_slice(text.unwrap_or_default().as_bytes());
        self.vectors.extend_from_slice(vector);
        self.row(if text.is_some() { UPSERT | HAS_TEXT } else { UPSERT });
    }

    /// Adds a delete.
    pub fn delete(&mut self, id: &str) {
        self.ids.extend_from_slice(id.as_bytes());
        self.row(DELETE);
    }

    /// Adds a delete of what was written at `limit` or before: a decision that was made at that version.
    pub fn delete_until(&mut self, id: &str, limit: Seq) {
        self.ids.extend_from_slice(id.as_bytes());
        self.limits.extend(limit.0.to_le_bytes());
        self.row(DELETE | LIMITED);
    }

    fn row(&mut self, kind: u8) {
        self.kinds.push(kind);
        // Lengths past 32 bits are refused in `finish`, so the casts lose nothing that is kept.
        let end = |bytes: &Vec<u8>| (bytes.len() as u32).to_le_bytes();
        self.id_ends.extend(end(&self.ids));
        self.metadata_ends.extend(end(&self.metadata));
        self.text_ends.extend(end(&self.text));
    }

    /// How many operations there are.
    pub fn operations(&self) -> usize {
        self.kinds.len()
    }

    /// Serialises.
    pub fn finish(self) -> Result<Bytes> {
        let (encoding, vectors) = encode(&self.vectors);
        let columns = [&self.ids, &self.metadata, &self.text, &vectors];
        if columns.iter().any(|column| column.len() > u32::MAX as usize) {
            return Err(Error::new(
                Code::PayloadTooLarge,
                "one write holds more than 4 GiB of ids, metadata, text or vectors; split it",
            ));
        }
        let body = [
            &self.kinds,
            &self.id_ends,
            &self.metadata_ends,
            &self.text_ends,
            &self.ids,
            &self.metadata,
            &self.text,
            &vectors,
            &self.limits,
        ];
        // Builds that do not know limits read everything else.
        let version = if self.limits.is_empty() { FORMAT_VERSION_PLAIN } else { FORMAT_VERSION };
        let length = HEADER_BYTES + body.iter().map(|column| column.len()).sum::<usize>();
        let mut out = Vec::with_capacity(length);
        out.extend(MAGIC);
        out.extend(version.to_le_bytes());
        out.extend(encoding.code().to_le_bytes());
        out.extend(self.dimensions.to_le_bytes());
        out.extend((self.kinds.len() as u32).to_le_bytes());
        for column in columns {
            out.extend((column.len() as u32).to_le_bytes());
        }
        let crc = body.iter().fold(0, |crc, column| crc32c::crc32c_append(crc, column));
        out.extend(crc.to_le_bytes());
        let header_crc = crc32c::crc32c(&out);
        out.extend(header_crc.to_le_bytes());
        out.extend(0u32.to_le_bytes());
        debug_assert_eq!(out.len(), HEADER_BYTES);
        body.iter().for_each(|column| out.extend_from_slice(column));
        Ok(out.into())
    }
}

/// A serialised chunk, checked and read in place.
#[derive(Debug, Clone)]
pub struct Chunk {
    bytes: Bytes,
    encoding: Encoding,
    dimensions: u32,
    operations: usize,
    with_vector: usize,
    kinds: Range<usize>,
    id_ends: Range<usize>,
    metadata_ends: Range<usize>,
    text_ends: Range<usize>,
    ids: Range<usize>,
    metadata: Range<usize>,
    text: Range<usize>,
    vectors: Range<usize>,
    limits: Range<usize>,
    /// Whether it has an operation that this build does not know.
    is_unknown: bool,
}

impl Chunk {
    /// Checks everything that reading relies on: magic, version, checksums, offsets, UTF-8.
    pub fn open(bytes: Bytes) -> Result<Chunk> {
        let mut header = Cursor::new("a log chunk", &bytes);
        if &header.array::<8>()? != MAGIC {
            return Err(Error::corrupt("a log chunk does not start with its magic"));
        }
        let version = header.u16()?;
        if version > FORMAT_VERSION {
            return Err(Error::newer_format("a log chunk", version.into(), FORMAT_VERSION.into()));
        }
        let encoding = header.u16()?;
        let dimensions = header.u32()?;
        let operations = header.u32()? as usize;
        let lengths = [header.u32()?, header.u32()?, header.u32()?, header.u32()?];
        let crc = header.u32()?;
        let header_crc = header.u32()?;
        header.u32()?;
        let body = &bytes[HEADER_BYTES..];
        if crc32c::crc32c(&bytes[..40]) != header_crc || crc32c::crc32c(body) != crc {
            return Err(Error::corrupt("a log chunk fails its checksum"));
        }
        let encoding = Encoding::from_code(encoding)?;
        let mut at = HEADER_BYTES;
        let mut column = |length: usize| {
            let range = at..at.saturating_add(length);
            at = range.end;
            range
        };
        let [ids, metadata, text, vectors] = lengths.map(|length| length as usize);
        let ends_bytes = operations.saturating_mul(4);
        let mut chunk = Chunk {
            encoding,
            dimensions,
            operations,
            with_vector: 0,
            kinds: column(operations),
            id_ends: column(ends_bytes),
            metadata_ends: column(ends_bytes),
            text_ends: column(ends_bytes),
            ids: column(ids),
            metadata: column(metadata),
            text: column(text),
            vectors: column(vectors),
            limits: 0..0,
            is_unknown: false,
            bytes: bytes.clone(),
        };
        chunk.limits = chunk.vectors.end..bytes.len();
        if chunk.vectors.end > bytes.len() {
            return Err(Error::corrupt("a log chunk has another length than its header says"));
        }
        chunk.check_columns()?;
        Ok(chunk)
    }

    fn check_columns(&mut self) -> Result<()> {
        let mut cursor = Cursor::new("a log chunk", &self.bytes[self.id_ends.start..]);
        ends(&mut cursor, self.operations, self.ids.len())?;
        ends(&mut cursor, self.operations, self.metadata.len())?;
        ends(&mut cursor, self.operations, self.text.len())?;
        let kinds = &self.bytes[self.kinds.clone()];
        if !kinds.iter().all(|kind| is_known(*kind) || *kind & OPTIONAL != 0) {
            // Its checksums are right, so it is what somebody wrote; what that means is not known.
            self.is_unknown = true;
            return Ok(());
        }
        let limited = kinds.iter().filter(|kind| **kind & LIMITED != 0).count();
        if limited.saturating_mul(LIMIT_BYTES) != self.limits.len() {
            return Err(Error::corrupt("a log chunk has another length than its header says"));
        }
        self.with_vector = kinds.iter().filter(|kind| **kind & UPSERT != 0).count();
        let vector_bytes = (self.dimensions as usize).saturating_mul(self.encoding.width());
        let expected = self.with_vector.saturating_mul(vector_bytes);
        if expected != self.vectors.len() {
            return Err(Error::corrupt("a log chunk has vectors of another size than it says"));
        }
        let columns = [
            (&self.ids, &self.id_ends),
            (&self.metadata, &self.metadata_ends),
            (&self.text, &self.text_ends),
        ];
        for (text, ends) in columns {
            let text = std::str::from_utf8(&self.bytes[text.clone()])
                .map_err(|_| Error::corrupt("a log chunk has text that is not UTF-8"))?;
            let ends = &self.bytes[ends.clone()];
            if !(0..self.operations).all(|row| text.is_char_boundary(end_at(ends, row))) {
                return Err(Error::corrupt("a log chunk cuts a character in two"));
            }
        }
        Ok(())
    }

    /// Length of every vector.
    pub fn dimensions(&self) -> u32 {
        self.dimensions
    }

    /// How many operations there are.
    pub fn operations(&self) -> usize {
        self.operations
    }

    /// How many of them have a vector: the upserts, and what may be skipped.
    pub fn vectors(&self) -> usize {
        self.with_vector
    }

    /// Why it cannot be part of a collection of so many dimensions, if so: whoever applies the log skips
    /// it, all alike.
    pub fn misfit(&self, dimensions: usize) -> Option<String> {
        if self.is_unknown {
            return Some("it has operations that this build does not know".to_owned());
        }
        let found = self.dimensions as usize;
        (self.with_vector > 0 && found != dimensions).then(|| {
            format!("it has vectors of {found} dimensions in a collection of {dimensions}")
        })
    }

    /// Bytes of all that it holds.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of metadata and text.
    pub fn payload_bytes(&self) -> usize {
        self.metadata.len() + self.text.len()
    }

    /// The operations, in order, without those that may be skipped; none where one is not known.
    pub fn iter(&self) -> impl Iterator<Item = Operation<'_>> {
        let (encoding, stride) = (self.encoding, self.dimensions as usize * self.encoding.width());
        let kinds = &self.bytes[self.kinds.clone()];
        let vectors = &self.bytes[self.vectors.clone()];
        let known = if self.is_unknown { 0 } else { kinds.len() };
        let (mut upserts, mut limits) = (0, 0);
        kinds[..known].iter().enumerate().filter_map(move |(row, kind)| {
            let (upsert, limit) = (upserts, limits);
            upserts += usize::from(*kind & UPSERT != 0);
            limits += usize::from(*kind & LIMITED != 0);
            if !is_known(*kind) {
                return None;
            }
            let id = self.field(&self.ids, &self.id_ends, row);
            if *kind & DELETE != 0 {
                let limited = *kind & LIMITED != 0;
                let limit = limited.then(|| Seq(u64_at(&self.bytes[self.limits.clone()], limit)));
                return Some(Operation::Delete { id, limit });
            }
            let bytes = &vectors[upsert * stride..(upsert + 1) * stride];
            let text = self.field(&self.text, &self.text_ends, row);
            Some(Operation::Upsert {
                id,
                vector: StoredVector { encoding, bytes },
                metadata: self.field(&self.metadata, &self.metadata_ends, row),
                text: (*kind & HAS_TEXT != 0).then_some(text),
            })
        })
    }

    fn field(&self, text: &Range<usize>, ends: &Range<usize>, row: usize) -> &str {
        let ends = &self.bytes[ends.clone()];
        let start = if row == 0 { 0 } else { end_at(ends, row - 1) };
        let bytes = &self.bytes[text.start + start..text.start + end_at(ends, row)];
        // `open` has checked the UTF-8 and the boundaries; a fault here would be a defect.
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

/// Whether this build knows what an operation does.
fn is_known(kind: u8) -> bool {
    matches!(kind, UPSERT | DELETE) || kind == UPSERT | HAS_TEXT || kind == DELETE | LIMITED
}

#[cfg(test)]
mod tests;
