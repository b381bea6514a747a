//! Columnar batches of operations.

use super::bytes::{Bytes, check, texts};
use super::{Result, corrupt, ensure, newer};

const HEADER: usize = 48;
const UPSERT: u8 = 1;
const DELETE: u8 = 2;
const TEXT: u8 = 4;
const LIMIT: u8 = 8;
const SKIPPED: u8 = 128;

#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    pub dimensions: u32,
    /// How many operations it has.
    pub count: u32,
    /// None where one of them is of a kind that there is not: what its columns hold is not known then.
    pub operations: Vec<Operation>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    pub kind: u8,
    pub id: String,
    pub metadata: String,
    pub text: Option<String>,
    /// As bits, so that two chunks are equal only where every bit is.
    pub vector: Option<Vec<u32>>,
    pub limit: Option<u64>,
}

/// What an operation asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Upsert,
    Delete,
    /// Of a newer build, to be gone past.
    Skipped,
}

impl Operation {
    pub fn deed(&self) -> Deed {
        match self.kind {
            kind if kind & SKIPPED != 0 => Deed::Skipped,
            kind if kind & UPSERT != 0 => Deed::Upsert,
            _ => Deed::Delete,
        }
    }
}

/// Whether it is known what an operation does, or that it may be skipped.
fn is_known(kind: u8) -> bool {
    let known = [UPSERT, UPSERT | TEXT, DELETE, DELETE | LIMIT];
    kind & SKIPPED != 0 || known.contains(&kind)
}

impl Chunk {
    /// Whether a collection of so many dimensions takes it; nobody applies it otherwise.
    pub fn fits(&self, dimensions: u32) -> bool {
        let vectors = self.operations.iter().any(|operation| operation.vector.is_some());
        let is_known = self.operations.len() == self.count as usize;
        is_known && (!vectors || self.dimensions == dimensions)
    }
}

/// Decodes a chunk.
pub fn decode(data: &[u8]) -> Result<Chunk> {
    let mut bytes = Bytes::new(data, "chunk");
    bytes.magic(b"BRNYCHK1")?;
    let version = bytes.u16()?;
    if version > 2 {
        return newer(format!("chunk: version {version}"));
    }
    ensure(version != 0, || "chunk: version 0".to_owned())?;
    let encoding = bytes.u16()?;
    let dimensions = bytes.u32()?;
    let count = bytes.u32()?;
    let (id_bytes, metadata_bytes, text_bytes) = (bytes.u32()?, bytes.u32()?, bytes.u32()?);
    let vector_bytes = bytes.u32()?;
    let (rest_crc, header_crc) = (bytes.u32()?, bytes.u32()?);
    bytes.reserved(4)?;
    check(&data[..HEADER - 8], header_crc, "chunk: header")?;
    check(&data[HEADER..], rest_crc, "chunk: columns")?;

    let kinds = bytes.take(u64::from(count))?;
    if !kinds.iter().all(|kind| is_known(*kind)) {
        return Ok(Chunk { dimensions, count, operations: Vec::new() });
    }
    let id_ends = bytes.u32s(u64::from(count))?;
    let metadata_ends = bytes.u32s(u64::from(count))?;
    let text_ends = bytes.u32s(u64::from(count))?;
    let ids = texts(bytes.take(u64::from(id_bytes))?, &id_ends, "chunk: ids")?;
    let metadata =
        texts(bytes.take(u64::from(metadata_bytes))?, &metadata_ends, "chunk: metadata")?;
    let texts = texts(bytes.take(u64::from(text_bytes))?, &text_ends, "chunk: texts")?;
    let column = bytes.take(u64::from(vector_bytes))?;
    let has = |bit: u8| kinds.iter().filter(move |kind| *kind & bit != 0).count() as u64;
    let mut vectors = vectors(column, encoding, dimensions, has(UPSERT))?.into_iter();
    ensure(version > 1 || has(LIMIT) == 0, || "chunk: a limit in version 1".to_owned())?;
    let mut limits = bytes.u64s(has(LIMIT))?.into_iter();
    bytes.end()?;

    let mut operations = Vec::with_capacity(kinds.len());
    for (number, kind) in kinds.iter().enumerate() {
        let text = Some(texts[number]).filter(|_| kind & TEXT != 0);
        ensure(text.is_some() || texts[number].is_empty(), || {
            format!("chunk: a text of operation {number}, which has none")
        })?;
        operations.push(Operation {
            kind: *kind,
            id: ids[number].to_owned(),
            metadata: metadata[number].to_owned(),
            text: text.map(str::to_owned),
            vector: if kind & UPSERT != 0 { vectors.next() } else { None },
            limit: if kind & LIMIT != 0 { limits.next() } else { None },
        });
    }
    Ok(Chunk { dimensions, count, operations })
}

/// The vectors of the column, as bits of 32-bit floats.
fn vectors(column: &[u8], encoding: u16, dimensions: u32, count: u64) -> Result<Vec<Vec<u32>>> {
    let width = match encoding {
        0 => 4,
        1 => 2,
        other => return corrupt(format!("chunk: vectors of encoding {other}")),
    };
    let expected = u128::from(count) * u128::from(dimensions) * width;
    ensure(column.len() as u128 == expected, || {
        let found = column.len();
        format!("chunk: {found} bytes of {count} vectors of {dimensions} dimensions")
    })?;
    if dimensions == 0 {
        return Ok(vec![Vec::new(); usize::try_from(count).unwrap_or(0)]);
    }
    let mut bytes = Bytes::new(column, "chunk: vectors");
    let mut value = || match width {
        4 => bytes.u32(),
        _ => Ok(half::f16::from_bits(bytes.u16()?).to_f32().to_bits()),
    };
    let mut row = || (0..dimensions).map(|_| value()).collect::<Result<Vec<u32>>>();
    (0..count).map(|_| row()).collect()
}
