//! Where everything lies in a segment file: sections, a footer that names them, a trailer.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | magic, `BRNYSEG1` |
//! | | sections, each aligned to 64 bytes |
//! | | the footer: JSON, see [`Footer`] |
//! | the last 24 | the trailer: length of the footer (`u32`), its CRC-32C (`u32`), format version (`u32`), 0 (`u32`), magic |
//!
//! A newer build may add sections: of other names, or of a name that is known for another field of the records. One that
//! is `optional` is passed by where it is not known; with any other the segment is of a newer format. Merging makes
//! segments of the sections that the build knows: an optional one holds nothing that cannot be made anew.
//!
//! The sections that a reader of the bucket wants first come last, so that one GET of the file's
//! last bytes brings the footer and most of them.

use crate::base::codec::Cursor;
use crate::base::ids::Seq;
use crate::base::spill::{Buffer, Spill};
use crate::base::{Code, Error, Result};
use crate::index::Metric;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::ops::Range;

const MAGIC: &[u8; 8] = b"BRNYSEG1";
const FORMAT_VERSION: u32 = 1;
/// Of the trailer.
pub const TRAILER_BYTES: usize = 24;
/// What every section is aligned to.
pub const ALIGNMENT: usize = 64;

/// The parts of a segment, in the order of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Name {
    /// Full-precision vectors: `f32`, row after row.
    Vectors,
    /// The kernel's 8-bit codes.
    Scalar,
    /// The kernel's short codes.
    Short,
    /// The kernel's neighbours.
    Neighbours,
    /// Metadata and text in compressed blocks.
    Records,
    /// Ids in blocks, sorted by hash.
    Ids,
    /// For each row its place in the order of the ids: `u32`.
    IdPlaces,
    /// For each row the log position that wrote it: `u64`.
    Written,
    /// Which rows a filter lets through.
    Filter,
    /// The kernel's clusters: the first row of each, and the end of the last.
    Clusters,
    /// The kernel's centroids of the clusters.
    Centroids,
    /// The rows that the kernel's walks start from.
    Entries,
    /// What the kernel needs besides its arrays.
    Head,
    /// Where the blocks of records begin.
    RecordBlocks,
    /// Where the blocks of ids begin.
    IdBlocks,
    /// Which ids are not here: a filter over their hashes.
    IdFilter,
}

impl Name {
    /// All, in the order of the file.
    pub const ALL: [Name; 16] = [
        Name::Vectors,
        Name::Scalar,
        Name::Short,
        Name::Neighbours,
        Name::Records,
        Name::Ids,
        Name::IdPlaces,
        Name::Written,
        Name::Filter,
        Name::Clusters,
        Name::Centroids,
        Name::Entries,
        Name::Head,
        Name::RecordBlocks,
        Name::IdBlocks,
        Name::IdFilter,
    ];
}

/// What a segment holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contents {
    /// Rows.
    pub rows: u32,
    /// Length of every vector.
    pub dimensions: u32,
    /// How distance is measured.
    pub metric: Metric,
    /// The log positions of the oldest and the newest row.
    pub written: (Seq, Seq),
    /// The lowest and the highest hash of an id.
    pub hashes: (u64, u64),
}

/// What a section is, as far as this build knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SectionName {
    /// One of these.
    Known(Name),
    /// Something else.
    Other(String),
}

/// Where a section lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Section {
    /// Which one it is.
    pub name: SectionName,
    /// The field of the records that it is about, where that is not the only vector of today's collections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Whether a reader that does not know it may go on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// Its first byte, from the beginning of the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// CRC-32C of its bytes.
    pub crc32c: u32,
}

impl Section {
    /// Which bytes of the file it is.
    fn bytes(&self) -> Range<usize> {
        self.offset as usize..(self.offset + self.length) as usize
    }

    fn verify(&self, bytes: &[u8]) -> Result<()> {
        let right = bytes.len() as u64 == self.length && crc32c::crc32c(bytes) == self.crc32c;
        let wrong = || fault(&format!("the checksum of {:?} is wrong", self.name));
        right.then_some(()).ok_or_else(wrong)
    }

    /// Which of those it is that this build knows.
    fn known(&self) -> Option<Name> {
        match (&self.name, &self.field) {
            (SectionName::Known(name), None) => Some(*name),
            _ => None,
        }
    }
}

/// What lies where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Footer {
    /// What the segment holds.
    pub contents: Contents,
    /// Every section, in the order of the file. Those of [`Name::ALL`] are there once.
    pub sections: Vec<Section>,
    /// Where in the list each of [`Name::ALL`] is.
    #[serde(skip)]
    places: [usize; Name::ALL.len()],
}

impl Footer {
    /// How many bytes at the end of a file are its footer and trailer, from its last
    /// [`TRAILER_BYTES`] or more.
    pub fn length(end: &[u8]) -> Result<usize> {
        Ok(Trailer::read(end)?.footer as usize + TRAILER_BYTES)
    }

    /// The footer of a file of `file` bytes, whose last ones are `end`: as many as
    /// [`Footer::length`] says, or more.
    pub fn read(end: &[u8], file: u64) -> Result<Footer> {
        let trailer = Trailer::read(end)?;
        let length = trailer.footer as usize;
        let (rest, _) = end.split_at(end.len() - TRAILER_BYTES);
        let start =
            rest.len().checked_sub(length).ok_or_else(|| fault("its footer is cut short"))?;
        let json = &rest[start..];
        let end = file.checked_sub((length + TRAILER_BYTES) as u64);
        let end = end.ok_or_else(|| fault("it is shorter than its footer"))?;
        if crc32c::crc32c(json) != trailer.crc {
            return Err(fault("the checksum of its footer is wrong"));
        }
        let mut footer: Footer = serde_json::from_slice(json)
            .map_err(|error| fault(&format!("its footer cannot be read: {error}")))?;
        footer.find_sections()?;
        footer.check(end)?;
        Ok(footer)
    }

    /// Notes where each of the known sections is; fails where one is missing or twice there, or where there is one that
    /// has to be known.
    fn find_sections(&mut self) -> Result<()> {
        const MISSING: usize = usize::MAX;
        let mut places = [MISSING; Name::ALL.len()];
        for (at, section) in self.sections.iter().enumerate() {
            match section.known() {
                Some(name) if places[name as usize] != MISSING => {
                    return Err(fault(&format!("it has {name:?} twice")));
                }
                Some(name) => places[name as usize] = at,
                None if section.optional => {}
                None => {
                    let (name, field) = (&section.name, &section.field);
                    return Err(Error::new(
                        Code::NewerFormat,
                        format!(
                            "a segment has a section {name:?} of {field:?}, without which it cannot be read and \
                             which this build does not know; upgrade it"
                        ),
                    ));
                }
            }
        }
        if places.contains(&MISSING) {
            return Err(fault("one of its sections is missing"));
        }
        self.places = places;
        Ok(())
    }

    /// Sections lie one after the other in front of the footer.
    fn check(&self, end: u64) -> Result<()> {
        let mut free = MAGIC.len() as u64;
        for section in &self.sections {
            let aligned = section.offset.is_multiple_of(ALIGNMENT as u64);
            let after = section.offset.checked_add(section.length);
            match after {
                Some(after) if aligned && section.offset >= free && after <= end => free = after,
                _ => return Err(fault("its sections overlap or lie outside of it")),
            }
        }
        let rows = self.contents.rows as u64;
        let widths = [
            (Name::Vectors, 4 * u64::from(self.contents.dimensions)),
            (Name::IdPlaces, 4),
            (Name::Written, 8),
        ];
        for (name, width) in widths {
            if self.section(name).length != rows * width {
                return Err(fault("a column has another number of rows"));
            }
        }
        // Nothing lies between the last section and the footer.
        if free != end {
            return Err(fault("its footer does not follow its sections"));
        }
        Ok(())
    }

    /// One of the sections.
    pub fn section(&self, name: Name) -> &Section {
        &self.sections[self.places[name as usize]]
    }

    /// Which bytes of the file a section is.
    pub fn range(&self, name: Name) -> Range<usize> {
        self.section(name).bytes()
    }

    /// Whether what lies between the sections of a whole file is what it is to be.
    pub fn verify_gaps(&self, file: &[u8]) -> Result<()> {
        let mut free = MAGIC.len();
        let mut clean = file.starts_with(MAGIC);
        for section in &self.sections {
            let start = section.offset as usize;
            clean &= file.get(free..start).is_some_and(|gap| gap.iter().all(|&byte| byte == 0));
            free = start + section.length as usize;
        }
        clean.then_some(()).ok_or_else(|| fault("there is something between its sections"))
    }

    /// Whether all sections of a whole file are what was written, also those that are not known.
    pub fn verify_sections(&self, file: &[u8]) -> Result<()> {
        self.sections.iter().try_for_each(|section| {
            let bytes = file.get(section.bytes()).unwrap_or_default();
            section.verify(bytes)
        })
    }

    /// Whether `bytes` are those of a section.
    pub fn verify(&self, name: Name, bytes: &[u8]) -> Result<()> {
        self.section(name).verify(bytes)
    }
}

struct Trailer {
    footer: u32,
    crc: u32,
}

impl Trailer {
    fn read(end: &[u8]) -> Result<Trailer> {
        let start = end.len().checked_sub(TRAILER_BYTES).ok_or_else(|| fault("it is too short"))?;
        let mut cursor = Cursor::new("the trailer of a segment", &end[start..]);
        let (footer, crc, version) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
        let zero = cursor.u32()?;
        if cursor.array::<8>()? != *MAGIC || zero != 0 {
            return Err(fault("it does not end with BRNYSEG1"));
        }
        if version > FORMAT_VERSION {
            return Err(Error::newer_format("a segment", version, FORMAT_VERSION));
        }
        Ok(Trailer { footer, crc })
    }
}

/// Puts sections one after the other into a file.
#[derive(Debug)]
pub struct FileBuilder {
    bytes: Buffer<u8>,
    sections: Vec<Section>,
}

impl FileBuilder {
    /// An empty file, with room for `bytes`, where `spill` says.
    pub fn new(spill: &Spill, bytes: usize) -> Result<FileBuilder> {
        let mut file = spill.buffer();
        file.reserve(bytes)?;
        file.extend_from_slice(MAGIC)?;
        Ok(FileBuilder { bytes: file, sections: Vec::with_capacity(Name::ALL.len()) })
    }

    /// Adds the next section, which `write` appends to the file.
    pub fn section(
        &mut self,
        name: Name,
        write: impl FnOnce(&mut Buffer<u8>) -> Result<()>,
    ) -> Result<()> {
        debug_assert_eq!(name, Name::ALL[self.sections.len()]);
        let start = self.bytes.len().next_multiple_of(ALIGNMENT);
        self.bytes.extend_from_slice(&[0; ALIGNMENT][..start - self.bytes.len()])?;
        write(&mut self.bytes)?;
        let section = &self.bytes[start..];
        self.sections.push(Section {
            name: SectionName::Known(name),
            field: None,
            optional: false,
            offset: start as u64,
            length: section.len() as u64,
            crc32c: crc32c::crc32c(section),
        });
        Ok(())
    }

    /// The file.
    pub fn finish(self, contents: Contents) -> Result<Bytes> {
        let FileBuilder { mut bytes, sections } = self;
        let places = Default::default();
        let footer = serde_json::to_vec(&Footer { contents, sections, places })
            .map_err(|error| Error::internal(format!("a segment's footer: {error}")))?;
        bytes.extend_from_slice(&footer)?;
        for number in [footer.len() as u32, crc32c::crc32c(&footer), FORMAT_VERSION, 0] {
            bytes.extend_from_slice(&number.to_le_bytes())?;
        }
        bytes.extend_from_slice(MAGIC)?;
        bytes.freeze()
    }
}

pub(super) fn fault(what: &str) -> Error {
    Error::corrupt(format!("this is not a segment, or a damaged one: {what}"))
}
