//! The ids of a segment: blocks sorted by hash, a list of them, and where each row's id is.

use super::bytes::{Bytes, texts};
use super::{Result, corrupt, ensure};
use xxhash_rust::xxh3::xxh3_64;

const BLOCK: usize = 256;

#[derive(Debug, Clone, PartialEq)]
pub struct Ids {
    pub by_row: Vec<String>,
    /// Ascending.
    pub hashes: Vec<u64>,
}

/// Decodes the three sections.
pub fn decode(blocks: &[u8], list: &[u8], places: &[u8], rows: u32) -> Result<Ids> {
    let count = (rows as usize).div_ceil(BLOCK);
    let mut list = Bytes::new(list, "idBlocks");
    let mut heads = Vec::new();
    for _ in 0..count {
        heads.push((list.u64()?, list.u64()?));
    }
    list.end()?;
    let mut bytes = Bytes::new(blocks, "ids");
    let mut found = Found::default();
    for (number, (first, offset)) in heads.iter().enumerate() {
        let at = bytes.at();
        ensure(*offset == at as u64, || format!("idBlocks: block {number} at {offset}, not {at}"))?;
        let expected = BLOCK.min(rows as usize - number * BLOCK);
        let before = found.hashes.len();
        block(&mut bytes, expected, &mut found)?;
        ensure(found.hashes[before] == *first, || {
            format!("idBlocks: block {number} does not begin with {first:x}")
        })?;
    }
    bytes.end()?;
    let Found { ids, hashes, rows: order } = found;
    let sorted = hashes.iter().zip(&ids).is_sorted_by(|a, b| a < b);
    ensure(sorted, || "ids: out of order".to_owned())?;

    let mut places = Bytes::new(places, "idPlaces");
    let mut by_row = Vec::with_capacity(ids.len());
    for row in 0..rows {
        let place = places.u32()? as usize;
        ensure(order.get(place) == Some(&row), || {
            format!("idPlaces: the id of row {row} is not at {place}")
        })?;
        by_row.push(ids[place].to_owned());
    }
    places.end()?;
    Ok(Ids { by_row, hashes })
}

/// What the blocks hold, in their order.
#[derive(Default)]
struct Found<'a> {
    ids: Vec<&'a str>,
    hashes: Vec<u64>,
    rows: Vec<u32>,
}

fn block<'a>(bytes: &mut Bytes<'a>, expected: usize, found: &mut Found<'a>) -> Result<()> {
    let count = bytes.u32()?;
    bytes.reserved(4)?;
    ensure(count as usize == expected, || format!("ids: a block of {count}, not {expected}"))?;
    let hashes = bytes.u64s(u64::from(count))?;
    let rows = bytes.u32s(u64::from(count))?;
    let ends = bytes.u32s(u64::from(count))?;
    let Some(end) = ends.last() else { return corrupt("ids: a block without any") };
    let ids = texts(bytes.take(u64::from(*end))?, &ends, "ids")?;
    bytes.zeros_to(8)?;
    for (id, hash) in ids.iter().zip(&hashes) {
        ensure(xxh3_64(id.as_bytes()) == *hash, || format!("ids: {id:?} has another hash"))?;
    }
    found.ids.extend(ids);
    found.hashes.extend(hashes);
    found.rows.extend(rows);
    Ok(())
}
