//! Roaring bitmaps in their portable format, as its specification describes it.

use super::bytes::Bytes;
use super::{Result, corrupt, ensure};

const COOKIE: u32 = 12_346;
const COOKIE_WITH_RUNS: u32 = 12_347;
/// With runs, fewer containers than this have no list of offsets.
const OFFSETS_FROM: u32 = 4;
const ARRAY_MAX: usize = 4_096;
const BITMAP_BYTES: usize = 8_192;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Array,
    Bitmap,
    Run,
}

/// A bitmap, with the form of each of its containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitmap {
    pub rows: Vec<u32>,
    pub forms: Vec<Form>,
    /// Whether every container is in the form that takes the fewest bytes.
    pub shortest: bool,
}

/// Decodes the bitmap that `bytes` stands before, and goes behind it.
pub fn decode(bytes: &mut Bytes) -> Result<Bitmap> {
    let start = bytes.at();
    let cookie = bytes.u32()?;
    let (count, runs) = if cookie & 0xffff == COOKIE_WITH_RUNS {
        let count = (cookie >> 16) + 1;
        (count, bytes.take(u64::from(count.div_ceil(8)))?)
    } else if cookie == COOKIE {
        (bytes.u32()?, &[][..])
    } else {
        return corrupt(format!("bitmap: begins with {cookie}"));
    };
    ensure(count <= 1 << 16, || format!("bitmap: {count} containers"))?;
    let mut heads = Vec::new();
    for _ in 0..count {
        heads.push((bytes.u16()?, usize::from(bytes.u16()?) + 1));
    }
    ensure(heads.is_sorted_by(|a, b| a.0 < b.0), || "bitmap: keys out of order".to_owned())?;
    let has_offsets = runs.is_empty() || count >= OFFSETS_FROM;
    let offsets = if has_offsets { bytes.u32s(u64::from(count))? } else { Vec::new() };
    let mut found = Bitmap { rows: Vec::new(), forms: Vec::new(), shortest: true };
    for (number, (key, cardinality)) in heads.into_iter().enumerate() {
        if let Some(offset) = offsets.get(number) {
            let at = bytes.at() - start;
            ensure(*offset as usize == at, || {
                format!("bitmap: container {number} is at {at} and not at {offset}")
            })?;
        }
        let is_run = runs.get(number / 8).is_some_and(|bits| bits >> (number % 8) & 1 == 1);
        let (form, low) = container(bytes, is_run, cardinality)?;
        ensure(low.len() == cardinality && low.is_sorted_by(|a, b| a < b), || {
            format!("bitmap: container {number} should have {cardinality} rows, ascending")
        })?;
        found.shortest &= form == shortest(&low);
        found.forms.push(form);
        found.rows.extend(low.iter().map(|low| u32::from(key) << 16 | u32::from(*low)));
    }
    Ok(found)
}

fn container(bytes: &mut Bytes, is_run: bool, cardinality: usize) -> Result<(Form, Vec<u16>)> {
    let mut low = Vec::new();
    if is_run {
        for _ in 0..bytes.u16()? {
            let (first, more) = (bytes.u16()?, bytes.u16()?);
            let Some(last) = first.checked_add(more) else {
                return corrupt(format!("bitmap: a run from {first} of {more} more"));
            };
            low.extend(first..=last);
            // Overlapping runs of a damaged file would make it grow for ever.
            ensure(low.len() <= cardinality, || "bitmap: runs of too many rows".to_owned())?;
        }
        return Ok((Form::Run, low));
    }
    if cardinality <= ARRAY_MAX {
        for _ in 0..cardinality {
            low.push(bytes.u16()?);
        }
        return Ok((Form::Array, low));
    }
    let bits = bytes.take(BITMAP_BYTES as u64)?;
    let is_set = |row: &u16| bits[usize::from(row / 8)] >> (row % 8) & 1 == 1;
    Ok((Form::Bitmap, (0..=u16::MAX).filter(is_set).collect()))
}

/// The form of the fewest bytes; between equals the one without runs.
fn shortest(low: &[u16]) -> Form {
    let breaks = low.windows(2).filter(|pair| pair[1] - pair[0] > 1).count();
    let run_bytes = 2 + 4 * (breaks + 1);
    let (other, other_bytes) = match low.len() <= ARRAY_MAX {
        true => (Form::Array, 2 * low.len()),
        false => (Form::Bitmap, BITMAP_BYTES),
    };
    if run_bytes < other_bytes { Form::Run } else { other }
}
