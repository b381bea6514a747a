//! The vector column of a chunk: 32-bit floats, or 16-bit ones where that loses nothing.
//!
//! Models that run in half precision, and descriptors of small integers (SIFT, images), give values
//! that a 16-bit float holds exactly. Storing them so halves what a write sends and a reader gets.

use crate::base::{Error, Result};
use half::f16;
use half::slice::HalfFloatSliceExt;

/// So many values are tried before all of them are: most columns that do not fit show it early.
const SAMPLE: usize = 64;

/// How a chunk's vectors are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16; every value is exact.
    F16,
}

impl Encoding {
    /// The encoding that a chunk's header names.
    pub fn from_code(code: u16) -> Result<Self> {
        match code {
            0 => Ok(Encoding::F32),
            1 => Ok(Encoding::F16),
            _ => Err(Error::corrupt("a log chunk has an unknown encoding of vectors")),
        }
    }

    /// What stands in a chunk's header.
    pub fn code(self) -> u16 {
        match self {
            Encoding::F32 => 0,
            Encoding::F16 => 1,
        }
    }

    /// Bytes of one value.
    pub fn width(self) -> usize {
        match self {
            Encoding::F32 => 4,
            Encoding::F16 => 2,
        }
    }
}

/// Encodes a column as small as is exact.
pub fn encode(values: &[f32]) -> (Encoding, Vec<u8>) {
    match halves(values) {
        Some(halves) => {
            (Encoding::F16, halves.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
        None => {
            let mut bytes = vec![0; size_of_val(values)];
            // Fixed-size copies, which the compiler turns into one.
            for (bytes, value) in bytes.chunks_exact_mut(4).zip(values) {
                bytes.copy_from_slice(&value.to_le_bytes());
            }
            (Encoding::F32, bytes)
        }
    }
}

/// The values in half precision, if that is exact for every one, bit by bit.
fn halves(values: &[f32]) -> Option<Vec<f16>> {
    let exact = |values: &[f32], halves: &mut [f16], back: &mut [f32]| {
        halves.convert_from_f32_slice(values);
        halves.convert_to_f32_slice(back);
        values.iter().zip(back).all(|(value, back)| value.to_bits() == back.to_bits())
    };
    let sample = &values[..values.len().min(SAMPLE)];
    let (mut halves, mut back) = ([f16::ZERO; SAMPLE], [0.0; SAMPLE]);
    if !exact(sample, &mut halves[..sample.len()], &mut back[..sample.len()]) {
        return None;
    }
    let (mut halves, mut back) = (vec![f16::ZERO; values.len()], vec![0.0; values.len()]);
    exact(values, &mut halves, &mut back).then_some(halves)
}

/// One vector, as it is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StoredVector<'a> {
    /// How.
    pub encoding: Encoding,
    /// Little-endian values.
    pub bytes: &'a [u8],
}

impl StoredVector<'_> {
    /// Appends the vector's values.
    pub fn append_to(&self, out: &mut Vec<f32>) {
        match self.encoding {
            Encoding::F32 => {
                let (values, _) = self.bytes.as_chunks::<4>();
                out.extend(values.iter().map(|bytes| f32::from_le_bytes(*bytes)));
            }
            Encoding::F16 => {
                let (values, _) = self.bytes.as_chunks::<2>();
                let halves: Vec<f16> =
                    values.iter().map(|bytes| f16::from_le_bytes(*bytes)).collect();
                let start = out.len();
                out.resize(start + halves.len(), 0.0);
                halves.convert_to_f32_slice(&mut out[start..]);
            }
        }
    }

    /// The vector's values.
    pub fn to_vec(&self) -> Vec<f32> {
        let mut values = Vec::new();
        self.append_to(&mut values);
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(values: &[f32]) -> (Encoding, Vec<u32>) {
        let (encoding, bytes) = encode(values);
        assert_eq!(bytes.len(), values.len() * encoding.width());
        let stored = StoredVector { encoding, bytes: &bytes };
        (encoding, stored.to_vec().iter().map(|value| value.to_bits()).collect())
    }

    #[test]
    fn small_integers_and_halves_take_two_bytes() {
        let values: Vec<f32> = (0..256u16).map(f32::from).chain([-0.0, 0.5, 6.1e-5]).collect();
        let exact = values[..258].to_vec();
        assert_eq!(round_trip(&exact).0, Encoding::F16);
        assert_eq!(round_trip(&values).0, Encoding::F32);
    }

    #[test]
    fn one_value_that_does_not_fit_keeps_all_in_full() {
        for odd in [0.1, 1e6, 1e-9, f32::MAX, f32::MIN_POSITIVE] {
            let mut values = vec![1.0; 1_000];
            values[999] = odd;
            assert_eq!(round_trip(&values).0, Encoding::F32, "{odd}");
        }
    }

    proptest! {
        #[test]
        fn every_value_comes_back_bit_by_bit(
            values in prop::collection::vec(any::<f32>().prop_filter("finite", |v| v.is_finite()), 0..100),
            halves in prop::collection::vec(any::<u16>(), 0..100),
        ) {
            let bits: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
            prop_assert_eq!(round_trip(&values).1, bits);
            let values: Vec<f32> = halves.iter().map(|bits| f16::from_bits(*bits).to_f32()).collect();
            let values: Vec<f32> = values.into_iter().filter(|value| value.is_finite()).collect();
            let bits: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
            prop_assert_eq!(round_trip(&values), (Encoding::F16, bits));
        }
    }
}
