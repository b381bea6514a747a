//! The filter index of a segment: which rows hold which values.

use super::bytes::{Bytes, texts};
use super::filter_values::{Header, Postings, Values};
use super::{Result, bitmap, corrupt, ensure, newer};

const ROWS_MAX: u32 = (1 << 31) - 1;
const PATH_BYTES_MAX: usize = 512;
/// The field of rows whose metadata cannot be parsed.
pub const DAMAGED: &str = "$damaged";

#[derive(Debug, Clone, PartialEq)]
pub struct FilterIndex {
    pub rows: u32,
    /// The longest string that may be kept as it is.
    pub string_max: u32,
    /// Ascending by path.
    pub fields: Vec<Field>,
    /// Rows with a field that is not here.
    pub left_out: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    pub path: String,
    pub rows: Vec<u32>,
    pub plain: Values,
    pub elements: Values,
}

/// Decodes the section.
pub fn decode(data: &[u8]) -> Result<FilterIndex> {
    read(data).map_err(|fault| fault.within("filter index"))
}

fn read(data: &[u8]) -> Result<FilterIndex> {
    let mut bytes = Bytes::new(data, "section");
    bytes.magic(b"BRNYFLTR")?;
    let version = bytes.u16()?;
    if version > 1 {
        return newer(format!("version {version}"));
    }
    ensure(version == 1, || "version 0".to_owned())?;
    bytes.reserved(2)?;
    let (rows, count, string_max) = (bytes.u32()?, bytes.u32()?, bytes.u32()?);
    let (path_bytes, bitmap_bytes) = (bytes.u32()?, bytes.u32()?);
    bytes.reserved(8)?;
    ensure(rows <= ROWS_MAX, || format!("{rows} rows"))?;
    let mut directory = Bytes::new(bytes.take(16 * u64::from(count))?, "directory");
    let (mut path_ends, mut block_ends) = (Vec::new(), Vec::new());
    for _ in 0..count {
        match u32::try_from(directory.u64()?) {
            Ok(end) => path_ends.push(end),
            Err(_) => return corrupt("a path that ends far away"),
        }
        block_ends.push(directory.u64()?);
    }
    let paths = texts(bytes.take(u64::from(path_bytes))?, &path_ends, "paths")?;
    bytes.zeros_to(8)?;
    ensure(paths.is_sorted_by(|a, b| a < b), || format!("paths out of order: {paths:?}"))?;
    let left_out = left_out(bytes.take(u64::from(bitmap_bytes))?, rows)?;
    bytes.zeros_to(8)?;
    let mut start = 0;
    let mut fields = Vec::new();
    for (path, end) in paths.into_iter().zip(block_ends) {
        let Some(length) = u64::checked_sub(end, start) else {
            return corrupt(format!("the block of {path:?} ends before it begins"));
        };
        let block = bytes.take(length)?;
        start = end;
        ensure(is_path(path), || format!("{path:?} is no path"))?;
        fields.push(field(path, block, rows).map_err(|fault| fault.within(path))?);
    }
    bytes.end()?;
    Ok(FilterIndex { rows, string_max, fields, left_out })
}

/// Whether there may be a field of this path.
pub fn is_path(path: &str) -> bool {
    let nameable = !path.is_empty() && !path.starts_with('$') && path.len() <= PATH_BYTES_MAX;
    nameable || path == DAMAGED
}

fn left_out(data: &[u8], rows: u32) -> Result<Vec<u32>> {
    if data.is_empty() {
        return Ok(Vec::new());
    }
    let mut bytes = Bytes::new(data, "left-out fields");
    let bitmap = bitmap::decode(&mut bytes)?;
    bytes.end()?;
    let last = bitmap.rows.last().copied();
    ensure(last.is_some_and(|last| last < rows), || format!("left-out fields: row {last:?}"))?;
    Ok(bitmap.rows)
}

fn field(path: &str, block: &[u8], rows: u32) -> Result<Field> {
    let mut bytes = Bytes::new(block, "block");
    let all = bytes.u32()?;
    bytes.reserved(4)?;
    let postings = bytes.u64()?;
    let (plain, elements) = (Header::decode(&mut bytes)?, Header::decode(&mut bytes)?);
    let (plain, elements) = (plain.arrays(&mut bytes)?, elements.arrays(&mut bytes)?);
    let postings = Postings { data: bytes.take(postings)?, rows };
    bytes.zeros_to(8)?;
    bytes.end()?;
    Ok(Field {
        path: path.to_owned(),
        rows: postings.get(all)?,
        plain: plain.values(&postings)?,
        elements: elements.values(&postings)?,
    })
}
