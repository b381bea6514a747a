//! The filter of a segment's ids: a binary fuse filter of three places and 8 bits.

use super::bytes::Bytes;
use super::{Result, ensure};

#[derive(Debug, Clone, PartialEq)]
pub struct Filter<'a> {
    seed: u64,
    segment: u32,
    mask: u32,
    length: u32,
    fingerprints: &'a [u8],
}

impl<'a> Filter<'a> {
    pub fn decode(section: &'a [u8]) -> Result<Filter<'a>> {
        let mut bytes = Bytes::new(section, "idFilter");
        let seed = bytes.u64()?;
        let (segment, mask, length) = (bytes.u32()?, bytes.u32()?, bytes.u32()?);
        let fingerprints = bytes.take((section.len() - bytes.at()) as u64)?;
        ensure(segment.is_power_of_two() && mask == segment - 1, || {
            format!("idFilter: segments of {segment}, mask {mask}")
        })?;
        // The last segment that a first place can be in has two more behind it.
        let expected = u64::from(length) + 2 * u64::from(segment);
        ensure(fingerprints.len() as u64 == expected, || {
            format!("idFilter: {} fingerprints, not {expected}", fingerprints.len())
        })?;
        Ok(Filter { seed, segment, mask, length, fingerprints })
    }

    /// Whether the hash may be in it.
    pub fn contains(&self, hash: u64) -> bool {
        let mixed = mix(hash.wrapping_add(self.seed));
        let first = ((u128::from(mixed) * u128::from(self.length)) >> 64) as u32;
        let second = (first + self.segment) ^ ((mixed >> 18) as u32 & self.mask);
        let third = (first + 2 * self.segment) ^ (mixed as u32 & self.mask);
        let place = |at: u32| self.fingerprints.get(at as usize).copied().unwrap_or_default();
        (mixed ^ mixed >> 32) as u8 == place(first) ^ place(second) ^ place(third)
    }
}

/// The finalizer of MurmurHash3.
fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}
