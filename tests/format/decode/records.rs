//! Metadata and texts of a segment: compressed blocks, and a list of them.

use super::bytes::{Bytes, texts};
use super::{Result, corrupt, ensure};

/// Rows of a block, at most.
const ROWS_MAX: usize = 1_024;
/// Bytes of a block before compression, at most.
const BYTES_MAX: u32 = 1 << 28;

/// Decodes the two sections: metadata and text of each row.
pub fn decode(blocks: &[u8], list: &[u8], rows: u32) -> Result<Vec<(String, Option<String>)>> {
    let count = list.len() / 16;
    let mut list = Bytes::new(list, "recordBlocks");
    let mut heads = Vec::new();
    for _ in 0..count {
        heads.push((list.u32()?, list.u32()?, list.u64()?));
    }
    list.end()?;
    let mut records = Vec::new();
    let mut bytes = Bytes::new(blocks, "records");
    for (number, (first, length, offset)) in heads.iter().enumerate() {
        let place = |what: &str| format!("recordBlocks: block {number}: {what}");
        ensure(*offset == bytes.at() as u64, || place("offset"))?;
        ensure(*first as usize == records.len(), || place("first row"))?;
        ensure(*length <= BYTES_MAX, || place("length"))?;
        let next = heads.get(number + 1).map_or(blocks.len() as u64, |(.., next)| *next);
        let Some(compressed) = next.checked_sub(*offset) else {
            return corrupt(place("the next one is before it"));
        };
        let frame = bytes.take(compressed)?;
        let block = match zstd::bulk::decompress(frame, *length as usize) {
            Ok(block) => block,
            Err(error) => return corrupt(place(&error.to_string())),
        };
        ensure(block.len() == *length as usize, || place("length"))?;
        self::block(&block, &mut records)?;
    }
    bytes.end()?;
    ensure(records.len() == rows as usize, || format!("records: {} rows", records.len()))?;
    Ok(records)
}

fn block(block: &[u8], records: &mut Vec<(String, Option<String>)>) -> Result<()> {
    let mut bytes = Bytes::new(block, "records: block");
    let count = u64::from(bytes.u32()?);
    ensure((1..=ROWS_MAX as u64).contains(&count), || format!("records: a block of {count}"))?;
    let has_text = bytes.take(count)?;
    let metadata_ends = bytes.u32s(count)?;
    let text_ends = bytes.u32s(count)?;
    let end = |ends: &[u32]| u64::from(ends.last().copied().unwrap_or(0));
    let metadata = texts(bytes.take(end(&metadata_ends))?, &metadata_ends, "records: metadata")?;
    let texts = texts(bytes.take(end(&text_ends))?, &text_ends, "records: texts")?;
    bytes.end()?;
    for (row, has_text) in has_text.iter().enumerate() {
        let text = match has_text {
            0 if texts[row].is_empty() => None,
            1 => Some(texts[row].to_owned()),
            other => return corrupt(format!("records: row {row} has {other} texts")),
        };
        records.push((metadata[row].to_owned(), text));
    }
    Ok(())
}
