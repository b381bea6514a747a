//! Which rows of which segments are dead?
//!
//! A segment never changes, so that a row of it was overwritten or deleted is said beside it. An
//! indexing pass finds dead rows in many segments and writes all of them into one object; a segment's
//! dead rows are the union over the objects that name it. docs/format.md has every byte.
//!
//! The same rows always give the same bytes, in whichever order they came.

use crate::base::codec::Cursor;
use crate::base::ids::Ulid;
use crate::base::{Error, Result};
use roaring::RoaringBitmap;
use std::collections::BTreeMap;

const MAGIC: &[u8; 8] = b"BRNYDEL1";
const FORMAT_VERSION: u32 = 1;
/// Magic, version and number of segments.
const HEADER_BYTES: usize = 16;
/// An entry of the list of segments: a ULID and the length of its bitmap.
const LISTED_BYTES: usize = 20;
const CRC_BYTES: usize = 4;

/// Dead rows, by segment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Deletions {
    /// No set is empty.
    segments: BTreeMap<Ulid, RoaringBitmap>,
}

impl Deletions {
    /// Adds a row.
    pub fn insert(&mut self, segment: Ulid, row: u32) {
        self.segments.entry(segment).or_default().insert(row);
    }

    /// Adds all rows of `other`.
    pub fn union(&mut self, other: &Deletions) {
        for (&segment, rows) in &other.segments {
            *self.segments.entry(segment).or_default() |= rows;
        }
    }

    /// Forgets the segments for which `keep` does not hold: those that are no more.
    pub fn retain(&mut self, keep: impl Fn(Ulid) -> bool) {
        self.segments.retain(|&segment, _| keep(segment));
    }

    /// The dead rows of a segment; `None` where it has none.
    pub fn of(&self, segment: Ulid) -> Option<&RoaringBitmap> {
        self.segments.get(&segment)
    }

    /// The segments that have dead rows, in ascending order, and these.
    pub fn iter(&self) -> impl Iterator<Item = (Ulid, &RoaringBitmap)> {
        self.segments.iter().map(|(&segment, rows)| (segment, rows))
    }

    /// How many rows of all segments are dead.
    pub fn rows(&self) -> u64 {
        self.segments.values().map(RoaringBitmap::len).sum()
    }

    /// Whether no row is dead.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The object.
    pub fn write(&self) -> Vec<u8> {
        let mut list = Vec::with_capacity(self.segments.len() * LISTED_BYTES);
        let mut bitmaps = Vec::new();
        for (segment, rows) in &self.segments {
            // Which form a set has depends on its past; optimising gives all equal sets the same.
            let mut rows = rows.clone();
            rows.optimize();
            let start = bitmaps.len();
            rows.serialize_into(&mut bitmaps).expect("writing to memory does not fail");
            list.extend_from_slice(&segment.0.to_le_bytes());
            list.extend_from_slice(&((bitmaps.len() - start) as u32).to_le_bytes());
        }
        let length = HEADER_BYTES + list.len() + bitmaps.len() + CRC_BYTES;
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&(self.segments.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&list);
        bytes.extend_from_slice(&bitmaps);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// What [`Deletions::write`] has written.
    pub fn read(bytes: &[u8]) -> Result<Deletions> {
        let mut cursor = Cursor::new("an object of deletions", bytes);
        if cursor.array::<8>()? != *MAGIC {
            return Err(fault("it does not begin with BRNYDEL1"));
        }
        match cursor.u32()? {
            0 => return Err(fault("its version is 0")),
            1 => {}
            version => return Err(Error::newer_format("deletions", version, FORMAT_VERSION)),
        }
        let count = cursor.u32()? as usize;
        let rest = bytes.len().checked_sub(HEADER_BYTES + CRC_BYTES);
        let body = cursor.take(rest.ok_or_else(|| fault("it is too short"))?)?;
        if cursor.u32()? != crc32c::crc32c(&bytes[..HEADER_BYTES + body.len()]) {
            return Err(fault("its checksum is wrong"));
        }
        let length = count.saturating_mul(LISTED_BYTES);
        let (list, bitmaps) =
            body.split_at_checked(length).ok_or_else(|| fault("its list is cut short"))?;
        Ok(Deletions { segments: read_segments(list, bitmaps)? })
    }
}

/// The sets that `list` names, which lie one after the other in `bitmaps`.
fn read_segments(list: &[u8], bitmaps: &[u8]) -> Result<BTreeMap<Ulid, RoaringBitmap>> {
    let mut bitmaps = Cursor::new("a bitmap of deletions", bitmaps);
    let mut segments = BTreeMap::new();
    for entry in list.chunks_exact(LISTED_BYTES) {
        let mut entry = Cursor::new("the list of deletions", entry);
        let segment = Ulid(u128::from_le_bytes(entry.array()?));
        if segments.last_key_value().is_some_and(|(&last, _)| last >= segment) {
            return Err(fault("its segments are not in order"));
        }
        let mut bytes = bitmaps.take(entry.u32()? as usize)?;
        let rows = RoaringBitmap::deserialize_from(&mut bytes)
            .map_err(|error| fault("a bitmap cannot be read").caused_by(error))?;
        if rows.is_empty() || !bytes.is_empty() {
            return Err(fault("a bitmap is empty or has another length"));
        }
        segments.insert(segment, rows);
    }
    if !bitmaps.is_empty() {
        return Err(fault("there is something behind its bitmaps"));
    }
    Ok(segments)
}

fn fault(what: &str) -> Error {
    Error::corrupt(format!("this is no object of deletions, or a damaged one: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Code;
    use proptest::prelude::*;

    /// Rows near each other, far apart, and runs of them: each kind of container.
    fn rows() -> impl Strategy<Value = Vec<(u128, u32)>> {
        let segment = prop_oneof![0u128..4, any::<u128>()];
        let run = (0u32..1 << 20, 1u32..9_000).prop_map(|(first, count)| (first, count, 1));
        let far = (any::<u32>(), 1u32..30).prop_map(|(first, count)| (first, count, 70_001));
        let near = (0u32..1 << 20, 1u32..9_000).prop_map(|(first, count)| (first, count, 3));
        let group =
            (segment, prop_oneof![run, far, near]).prop_map(|(segment, (first, n, step))| {
                (0..n).map(|at| (segment, first.wrapping_add(at * step))).collect::<Vec<_>>()
            });
        prop::collection::vec(group, 0..5).prop_map(|groups| groups.concat())
    }

    fn all(rows: &[(u128, u32)]) -> Deletions {
        let mut deletions = Deletions::default();
        rows.iter().for_each(|&(segment, row)| deletions.insert(Ulid(segment), row));
        deletions
    }

    #[track_caller]
    fn assert_corrupt(bytes: &[u8], what: &str) {
        let error = Deletions::read(bytes).expect_err(what);
        assert_eq!(error.code(), Code::Corrupt, "{what}: {error}");
    }

    /// Makes the checksum right.
    fn mended(mut bytes: Vec<u8>) -> Vec<u8> {
        if let Some(end) = bytes.len().checked_sub(CRC_BYTES) {
            let crc = crc32c::crc32c(&bytes[..end]);
            bytes[end..].copy_from_slice(&crc.to_le_bytes());
        }
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn what_was_written_is_read(rows in rows(), cut in 0f64..1.0) {
            let deletions = all(&rows);
            let bytes = deletions.write();
            let read = Deletions::read(&bytes).unwrap();
            prop_assert_eq!(&read, &deletions);
            for (segment, row) in &rows {
                prop_assert!(read.of(Ulid(*segment)).is_some_and(|dead| dead.contains(*row)));
            }
            let distinct: std::collections::BTreeSet<_> = rows.iter().collect();
            prop_assert_eq!(read.rows(), distinct.len() as u64);
            // Whatever came first, and also in several objects.
            let (some, others) = rows.split_at((cut * rows.len() as f64) as usize);
            let mut union = all(others);
            union.union(&all(some));
            prop_assert_eq!(&union.write(), &bytes);
            // What was read has runs where what was inserted has none.
            let reread = |rows: &[_]| Deletions::read(&all(rows).write()).unwrap();
            let mut union = reread(some);
            union.union(&reread(others));
            prop_assert_eq!(&union.write(), &bytes);
            let mut grown = reread(some);
            others.iter().for_each(|&(segment, row)| grown.insert(Ulid(segment), row));
            prop_assert_eq!(&grown.write(), &bytes);
        }

        #[test]
        fn changes_are_noticed_and_never_panic(
            rows in rows(),
            patches in prop::collection::vec((0f64..1.0, 1u8..), 1..6),
        ) {
            let written = all(&rows).write();
            let mut bytes = written.clone();
            for (place, change) in patches {
                let at = (place * bytes.len() as f64) as usize;
                bytes[at] ^= change;
            }
            if bytes != written {
                prop_assert!(Deletions::read(&bytes).is_err());
            }
            let _ = Deletions::read(&mended(bytes));
        }
    }

    #[test]
    fn every_cut_and_every_appendix_is_an_error() {
        let bytes = all(&[(1, 7), (2, 8), (2, 9)]).write();
        for length in 0..bytes.len() {
            assert_corrupt(&bytes[..length], &format!("cut to {length}"));
            // Of shorter ones the checksum would overwrite the version.
            if length >= HEADER_BYTES {
                let mended = mended(bytes[..length].to_vec());
                assert_corrupt(&mended, &format!("cut to {length}, mended"));
            }
        }
        for more in 1..9 {
            let longer = [&bytes[..], &vec![0; more]].concat();
            assert_corrupt(&longer, "longer");
            assert_corrupt(&mended(longer), "longer, mended");
        }
    }

    #[test]
    fn the_list_is_checked() {
        let bytes = all(&[(1, 7), (2, 8)]).write();
        let with = |at: usize, value: &[u8]| {
            let mut bytes = bytes.clone();
            bytes[at..at + value.len()].copy_from_slice(value);
            mended(bytes)
        };
        let second = HEADER_BYTES + LISTED_BYTES;
        assert_corrupt(&with(second, &[1]), "a segment twice");
        assert_corrupt(&with(second, &[0]), "segments out of order");
        for count in [0, 1, 3, u32::MAX] {
            assert_corrupt(&with(12, &count.to_le_bytes()), "another number of segments");
        }
        for length in [0, 1, u32::MAX] {
            assert_corrupt(&with(second + 16, &length.to_le_bytes()), "another length");
        }
        let version = |version: u32| Deletions::read(&with(8, &version.to_le_bytes())).unwrap_err();
        assert_eq!(version(0).code(), Code::Corrupt);
        assert_eq!(version(2).code(), Code::NewerFormat);
    }

    #[test]
    fn segments_that_are_no_more_are_forgotten() {
        let mut deletions = all(&[(1, 7), (2, 8), (2, 9), (3, 9)]);
        deletions.retain(|segment| segment != Ulid(2));
        let left: Vec<_> =
            deletions.iter().map(|(segment, rows)| (segment.0, rows.len())).collect();
        assert_eq!(left, [(1, 1), (3, 1)]);
        assert_eq!((deletions.rows(), deletions.of(Ulid(2))), (2, None));
        deletions.retain(|_| false);
        assert!(deletions.is_empty());
        assert_eq!(Deletions::read(&deletions.write()).unwrap(), deletions);
    }
}
