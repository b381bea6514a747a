//! A columnar batch of operations: the unit that a client's write becomes.
//!
//! A chunk stands inside a log entry or alone in a data object; it is the same bytes in both.
//! [`ChunkBuilder`] collects, [`ChunkBuilder::finish`] serialises, [`Chunk`] reads in place.

use crate::base::codec::{Cursor, end_at, ends};
use crate::base::{Code, Error, Result};
use crate::log::vectors::{Encoding, StoredVector, encode};
use bytes::Bytes;
use std::ops::Range;

const MAGIC: &[u8; 8] = b"BRNYCHK1";
const FORMAT_VERSION: u16 = 1;
const HEADER_BYTES: usize = 48;

const UPSERT: u8 = 1;
const DELETE: u8 = 2;
const HAS_TEXT: u8 = 4;

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
    },
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
        ];
        let length = HEADER_BYTES + body.iter().map(|column| column.len()).sum::<usize>();
        let mut out = Vec::with_capacity(length);
        out.extend(MAGIC);
        out.extend(FORMAT_VERSION.to_le_bytes());
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
    upserts: usize,
    kinds: Range<usize>,
    id_ends: Range<usize>,
    metadata_ends: Range<usize>,
    text_ends: Range<usize>,
    ids: Range<usize>,
    metadata: Range<usize>,
    text: Range<usize>,
    vectors: Range<usize>,
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
            upserts: 0,
            kinds: column(operations),
            id_ends: column(ends_bytes),
            metadata_ends: column(ends_bytes),
            text_ends: column(ends_bytes),
            ids: column(ids),
            metadata: column(metadata),
            text: column(text),
            vectors: column(vectors),
            bytes: bytes.clone(),
        };
        if chunk.vectors.end != bytes.len() {
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
        let known = |kind: &u8| matches!(*kind, UPSERT | DELETE) || *kind == UPSERT | HAS_TEXT;
        let kinds = &self.bytes[self.kinds.clone()];
        if !kinds.iter().all(known) {
            return Err(Error::corrupt("a log chunk has an unknown operation"));
        }
        self.upserts = kinds.iter().filter(|kind| **kind & UPSERT != 0).count();
        let vector_bytes = (self.dimensions as usize).saturating_mul(self.encoding.width());
        let expected = self.upserts.saturating_mul(vector_bytes);
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

    /// How many of them are upserts.
    pub fn upserts(&self) -> usize {
        self.upserts
    }

    /// Bytes of metadata and text.
    pub fn payload_bytes(&self) -> usize {
        self.metadata.len() + self.text.len()
    }

    /// The operations, in order.
    pub fn iter(&self) -> impl Iterator<Item = Operation<'_>> {
        let (encoding, stride) = (self.encoding, self.dimensions as usize * self.encoding.width());
        let kinds = &self.bytes[self.kinds.clone()];
        let vectors = &self.bytes[self.vectors.clone()];
        let mut upsert = 0;
        kinds.iter().enumerate().map(move |(row, kind)| {
            let id = self.field(&self.ids, &self.id_ends, row);
            if *kind & DELETE != 0 {
                return Operation::Delete { id };
            }
            let bytes = &vectors[upsert * stride..(upsert + 1) * stride];
            let vector = StoredVector { encoding, bytes };
            upsert += 1;
            let text = self.field(&self.text, &self.text_ends, row);
            Operation::Upsert {
                id,
                vector,
                metadata: self.field(&self.metadata, &self.metadata_ends, row),
                text: (*kind & HAS_TEXT != 0).then_some(text),
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Bytes {
        let mut builder = ChunkBuilder::new(2);
        builder.upsert("a", &[1.0, 2.0], "{\"x\":1}", None);
        builder.delete("b");
        builder.upsert("ö", &[-1.0, 0.5], "", Some(""));
        builder.finish().unwrap()
    }

    #[test]
    fn operations_come_back_in_order() {
        let chunk = Chunk::open(sample()).unwrap();
        assert_eq!((chunk.operations(), chunk.upserts()), (3, 2));
        let operations: Vec<_> = chunk.iter().collect();
        let halves = [0x00, 0x3c, 0x00, 0x40];
        let vector = StoredVector { encoding: Encoding::F16, bytes: &halves };
        let first = Operation::Upsert { id: "a", vector, metadata: "{\"x\":1}", text: None };
        assert_eq!(operations[0], first);
        assert_eq!(operations[1], Operation::Delete { id: "b" });
        assert!(matches!(operations[2], Operation::Upsert { id: "ö", text: Some(""), .. }));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = sample();
        for at in 0..good.len() * 8 {
            // The last four header bytes are reserved padding, outside both checksums.
            if (44..48).contains(&(at / 8)) {
                continue;
            }
            let mut bad = good.to_vec();
            bad[at / 8] ^= 1 << (at % 8);
            assert!(Chunk::open(bad.into()).is_err(), "bit {at}");
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut bytes = sample().to_vec();
        bytes[8] = 9;
        let error = Chunk::open(bytes.into()).unwrap_err();
        assert_eq!(error.code(), Code::NewerFormat);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Chunk::open(bytes.into());
        }

        #[test]
        fn whatever_goes_in_comes_out(
            rows in prop::collection::vec((".{0,8}", any::<bool>(), ".{0,8}", prop::option::of(".{0,8}"), any::<[f32; 3]>()), 0..20)
        ) {
            let mut builder = ChunkBuilder::new(3);
            for (id, upsert, metadata, text, vector) in &rows {
                if *upsert {
                    builder.upsert(id, vector, metadata, text.as_deref());
                } else {
                    builder.delete(id);
                }
            }
            let chunk = Chunk::open(builder.finish().unwrap()).unwrap();
            for (found, (id, upsert, metadata, text, vector)) in chunk.iter().zip(&rows) {
                match found {
                    Operation::Upsert { id: found, vector: stored, metadata: json, text: words } => {
                        prop_assert!(*upsert);
                        prop_assert_eq!((found, json, words), (&**id, &**metadata, text.as_deref()));
                        prop_assert_eq!(stored.to_vec(), vector.to_vec());
                    }
                    Operation::Delete { id: found } => prop_assert_eq!((false, &**id), (*upsert, found)),
                }
            }
            prop_assert_eq!(chunk.operations(), rows.len());
        }
    }
}
