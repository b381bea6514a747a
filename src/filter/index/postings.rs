//! Sets of rows as bytes, and the union of many of them.
//!
//! A set is named by a reference of 32 bits: nothing, one row, or a place in the field's postings.
//! There lie a list of rows or a roaring bitmap, whichever is smaller. Most values of most fields
//! have one row or thousands, and both ends are cheap.

use super::corrupt;
use super::read::{Array, Reader};
use crate::base::Result;
use roaring::RoaringBitmap;

/// The reference to no row.
pub(super) const NONE: u32 = u32::MAX;
/// Set in a reference that is itself the one row; in a count, that a bitmap follows.
const FLAG: u32 = 1 << 31;
/// Rows are gathered one by one up to this share of all; beyond, a bit for each is cheaper.
const GATHERED_SHARE: usize = 32;
const GATHERED_MIN: usize = 256;

/// The postings of a field as they are written.
#[derive(Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    /// Adds a set of ascending rows. `None` where there is no more room.
    pub(super) fn add(&mut self, rows: &[u32]) -> Option<u32> {
        match rows {
            [] => Some(NONE),
            [row] => Some(row | FLAG),
            rows => {
                let mut bitmap: RoaringBitmap = rows.iter().copied().collect();
                bitmap.optimize();
                if rows.len() * 4 > bitmap.serialized_size() {
                    return self.add_bitmap(&bitmap);
                }
                let start = self.start(rows.len() as u32)?;
                self.bytes.extend(rows.iter().flat_map(|row| row.to_le_bytes()));
                Some(start)
            }
        }
    }

    fn add_bitmap(&mut self, bitmap: &RoaringBitmap) -> Option<u32> {
        let start = self.start(bitmap.len() as u32 | FLAG)?;
        bitmap.serialize_into(&mut self.bytes).ok()?;
        // Counts stay aligned.
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        Some(start)
    }

    fn start(&mut self, count: u32) -> Option<u32> {
        let start = u32::try_from(self.bytes.len()).ok().filter(|start| start & FLAG == 0)?;
        self.bytes.extend(count.to_le_bytes());
        Some(start)
    }
}

/// The bitmap that lies in `bytes`, empty if they are; every row is below `rows`.
pub(super) fn read_bitmap(bytes: &[u8], rows: u32) -> Result<RoaringBitmap> {
    if bytes.is_empty() {
        return Ok(RoaringBitmap::new());
    }
    let bitmap = RoaringBitmap::deserialize_from(bytes)
        .map_err(|error| corrupt("a bitmap cannot be read").caused_by(error))?;
    match bitmap.max() {
        Some(last) if last >= rows => Err(corrupt("a row does not exist")),
        _ => Ok(bitmap),
    }
}

/// The union of sets, gathered in whichever way is cheapest for how many rows there are.
pub(super) struct Union<'a> {
    postings: &'a [u8],
    rows: u32,
    bitmap: RoaringBitmap,
    few: Vec<u32>,
    /// A bit for each row, once there are too many for `few`.
    bits: Vec<u8>,
}

impl<'a> Union<'a> {
    /// Nothing yet of the postings of a field in an index of so many rows.
    pub(super) fn new(postings: &'a [u8], rows: u32) -> Self {
        Union { postings, rows, bitmap: RoaringBitmap::new(), few: Vec::new(), bits: Vec::new() }
    }

    /// Adds the set that `reference` names.
    pub(super) fn add(&mut self, reference: u32) -> Result<()> {
        if reference == NONE {
            return Ok(());
        }
        if reference & FLAG != 0 {
            return self.insert(reference & !FLAG);
        }
        let bytes = self.postings.get(reference as usize..).unwrap_or_default();
        let mut reader = Reader::new(bytes);
        let count = reader.u32()?;
        if count & FLAG != 0 {
            let bitmap = read_bitmap(reader.rest(), self.rows)?;
            if bitmap.len() != u64::from(count & !FLAG) {
                return Err(corrupt("a bitmap has not as many rows as its count"));
            }
            self.bitmap |= bitmap;
            return Ok(());
        }
        let list = Array::new(reader.array(count as usize, 4)?);
        (0..list.len()).try_for_each(|at| self.insert(list.u32(at)?))
    }

    /// Adds one row.
    pub(super) fn insert(&mut self, row: u32) -> Result<()> {
        if row >= self.rows {
            return Err(corrupt("a row does not exist"));
        }
        if !self.bits.is_empty() {
            self.bits[row as usize / 8] |= 1 << (row % 8);
            return Ok(());
        }
        self.few.push(row);
        if self.few.len() > GATHERED_MIN.max(self.rows as usize / GATHERED_SHARE) {
            self.bits = vec![0; (self.rows as usize).div_ceil(8)];
            for row in self.few.drain(..) {
                self.bits[row as usize / 8] |= 1 << (row % 8);
            }
        }
        Ok(())
    }

    /// All rows of the sets that were added.
    pub(super) fn finish(mut self) -> RoaringBitmap {
        if !self.bits.is_empty() {
            self.bitmap |= RoaringBitmap::from_lsb0_bytes(0, &self.bits);
        }
        self.few.sort_unstable();
        self.bitmap.extend(self.few);
        self.bitmap
    }
}
