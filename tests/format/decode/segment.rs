//! Segments: the file, and all rows in it.

use super::bytes::{Bytes, check, product};
use super::filter_index::FilterIndex;
use super::kernel::{self, Kernel};
use super::shared::{Object, parse};
use super::{Result, corrupt, ensure, filter_index, fuse, ids, newer, records};
use std::collections::BTreeMap;

const MAGIC: &[u8; 8] = b"BRNYSEG1";
/// Behind the footer: its length, its checksum, the version, what is reserved, the magic.
const TRAILER: usize = 24;
const ALIGNMENT: usize = 64;
/// Those that every segment has, in the order of the file.
pub const SECTIONS: [&str; 16] = [
    "vectors",
    "scalar",
    "short",
    "neighbours",
    "records",
    "ids",
    "idPlaces",
    "written",
    "filter",
    "clusters",
    "centroids",
    "entries",
    "head",
    "recordBlocks",
    "idBlocks",
    "idFilter",
];

#[derive(Debug, Clone, PartialEq)]
pub struct Contents {
    pub rows: u32,
    pub dimensions: u32,
    pub metric: String,
    pub written: (u64, u64),
    pub hashes: (u64, u64),
}

/// A file that was taken apart, before anything is made of its sections.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout<'a> {
    pub contents: Contents,
    pub sections: BTreeMap<&'static str, &'a [u8]>,
    /// Sections of newer builds that may be passed by.
    pub passed_by: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub id: String,
    /// As bits.
    pub vector: Vec<u32>,
    pub metadata: String,
    pub text: Option<String>,
    pub written: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    pub contents: Contents,
    pub rows: Vec<Row>,
    pub filter: FilterIndex,
    pub kernel: Kernel,
    pub passed_by: Vec<String>,
}

/// Decodes a segment, with everything that is documented down to its bytes.
pub fn decode(data: &[u8]) -> Result<Segment> {
    read(data).map_err(|fault| fault.within("segment"))
}

fn read(data: &[u8]) -> Result<Segment> {
    let Layout { contents, sections, passed_by } = layout(data)?;
    let rows = contents.rows;
    let of = |name: &str| sections.get(name).copied().unwrap_or_default();
    let vectors = vectors(of("vectors"), &contents)?;
    let written = numbers(of("written"), "written")?;
    ensure(written.len() == rows as usize, || format!("written: {} rows", written.len()))?;
    let range = written.iter().min().copied().zip(written.iter().max().copied());
    ensure(range == Some(contents.written), || format!("written: {range:?}"))?;

    let ids = ids::decode(of("ids"), of("idBlocks"), of("idPlaces"), rows)?;
    let hashes = ids.hashes.first().copied().zip(ids.hashes.last().copied());
    ensure(hashes == Some(contents.hashes), || format!("ids: hashes {hashes:?}"))?;
    let filter = fuse::Filter::decode(of("idFilter"))?;
    let missed = ids.hashes.iter().find(|hash| !filter.contains(**hash));
    ensure(missed.is_none(), || format!("idFilter: {missed:x?} is not in it"))?;

    let records = records::decode(of("records"), of("recordBlocks"), rows)?;
    let filter = filter_index::decode(of("filter"))?;
    ensure(filter.rows == rows, || format!("filter: {} rows", filter.rows))?;
    let kernel = kernel::decode(&sections, &contents)?;
    let all = ids.by_row.into_iter().zip(vectors).zip(records).zip(written);
    let rows = all.map(|(((id, vector), (metadata, text)), written)| Row {
        id,
        vector,
        metadata,
        text,
        written,
    });
    let rows = rows.collect();
    Ok(Segment { contents, rows, filter, kernel, passed_by })
}

/// Takes a file apart.
pub fn layout(data: &[u8]) -> Result<Layout<'_>> {
    let mut bytes = Bytes::new(data, "file");
    bytes.magic(MAGIC)?;
    let Some(trailer_at) = data.len().checked_sub(TRAILER).filter(|at| *at >= MAGIC.len()) else {
        return corrupt("file: too short");
    };
    let mut trailer = Bytes::new(&data[trailer_at..], "end of the file");
    let (length, crc, version) = (trailer.u32()?, trailer.u32()?, trailer.u32()?);
    trailer.reserved(4)?;
    trailer.magic(MAGIC)?;
    if version > 1 {
        return newer(format!("version {version}"));
    }
    ensure(version == 1, || "version 0".to_owned())?;
    let footer_at = trailer_at.checked_sub(length as usize).filter(|at| *at >= MAGIC.len());
    let Some(footer_at) = footer_at else {
        return corrupt(format!("a footer of {length} bytes"));
    };
    let footer = &data[footer_at..trailer_at];
    check(footer, crc, "footer")?;
    let value = parse(footer, "footer")?;
    let footer = Object::of(&value, "footer")?;
    let contents = contents(&footer.object("contents")?)?;
    let (mut sections, mut passed_by) = (BTreeMap::new(), Vec::new());
    for section in footer.objects("sections")? {
        let name = section.text("name")?;
        let body = body(&mut bytes, &section).map_err(|fault| fault.within(name))?;
        let is_known = SECTIONS.iter().find(|known| **known == name && !section.has("field"));
        let optional = section.get("optional").and_then(serde_json::Value::as_bool);
        match is_known {
            Some(known) => {
                let expected = SECTIONS.get(sections.len());
                ensure(Some(known) == expected, || format!("{known} where {expected:?} belongs"))?;
                sections.insert(*known, body);
            }
            None if optional == Some(true) => passed_by.push(name.to_owned()),
            None => return newer(format!("a section {name}")),
        }
    }
    ensure(sections.len() == SECTIONS.len(), || {
        format!("no section {}", SECTIONS[sections.len()])
    })?;
    let at = bytes.at();
    ensure(at == footer_at, || format!("the sections end at {at}, the footer is at {footer_at}"))?;
    Ok(Layout { contents, sections, passed_by })
}

/// The bytes of a section, which `bytes` stands before.
fn body<'a>(bytes: &mut Bytes<'a>, section: &Object) -> Result<&'a [u8]> {
    bytes.zeros_to(ALIGNMENT)?;
    let (offset, at) = (section.number("offset")?, bytes.at() as u64);
    ensure(offset == at, || format!("at {offset}, where {at} comes next"))?;
    let body = bytes.take(section.number("length")?)?;
    let crc = u32::try_from(section.number("crc32c")?);
    let crc = crc.or_else(|_| corrupt("a checksum of more than 32 bits"))?;
    check(body, crc, "section")?;
    Ok(body)
}

fn contents(object: &Object) -> Result<Contents> {
    let small = |name: &str| match u32::try_from(object.number(name)?) {
        Ok(number) => Ok(number),
        Err(_) => corrupt(format!("{name} has more than 32 bits")),
    };
    Ok(Contents {
        rows: small("rows")?,
        dimensions: small("dimensions")?,
        metric: object.text("metric")?.to_owned(),
        written: object.range("written")?,
        hashes: object.range("hashes")?,
    })
}

fn vectors(section: &[u8], contents: &Contents) -> Result<Vec<Vec<u32>>> {
    let Contents { rows, dimensions, .. } = contents;
    let mut bytes = Bytes::new(section, "vectors");
    // Checked before memory is asked for.
    let expected = product(4 * u64::from(*rows), u64::from(*dimensions))?;
    ensure(section.len() as u64 == expected, || format!("vectors: {} bytes", section.len()))?;
    (0..*rows).map(|_| bytes.u32s(u64::from(*dimensions))).collect()
}

fn numbers(section: &[u8], what: &'static str) -> Result<Vec<u64>> {
    let mut bytes = Bytes::new(section, what);
    let numbers = bytes.u64s(section.len() as u64 / 8)?;
    bytes.end()?;
    Ok(numbers)
}
