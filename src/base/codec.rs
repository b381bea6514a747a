//! Little-endian reading with bounds that are checked once per field, never assumed.

use crate::base::{Error, Result};

/// Reads fields from a byte string.
#[derive(Debug)]
pub struct Cursor<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Reads `bytes`; `what` names the structure in errors.
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Cursor { what, rest: bytes }
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(length) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(Error::corrupt(format!("{} is cut short", self.what))),
        }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// The next 16-bit number.
    pub fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// The next 32-bit number.
    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next 64-bit number.
    pub fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

/// Splits a column of `count` 32-bit ends off `cursor` and checks that they grow up to `total`.
pub fn ends<'a>(cursor: &mut Cursor<'a>, count: usize, total: usize) -> Result<&'a [u8]> {
    let column = cursor.take(count.saturating_mul(4))?;
    let mut last = 0;
    for index in 0..count {
        let end = end_at(column, index);
        if end < last {
            return Err(Error::corrupt(format!("{} has offsets that go backward", cursor.what)));
        }
        last = end;
    }
    if last != total {
        return Err(Error::corrupt(format!("{} has offsets that miss its end", cursor.what)));
    }
    Ok(column)
}

/// Entry `index` of a column of ends that [`ends`] has checked.
pub fn end_at(column: &[u8], index: usize) -> usize {
    u32_at(column, index) as usize
}

/// Entry `index` of a column of 32-bit numbers.
///
/// # Panics
///
/// If the column is shorter.
pub fn u32_at(column: &[u8], index: usize) -> u32 {
    u32::from_le_bytes(entry(column, index))
}

/// Entry `index` of a column of 64-bit numbers.
///
/// # Panics
///
/// If the column is shorter.
pub fn u64_at(column: &[u8], index: usize) -> u64 {
    u64::from_le_bytes(entry(column, index))
}

fn entry<const N: usize>(column: &[u8], index: usize) -> [u8; N] {
    let mut entry = [0; N];
    entry.copy_from_slice(&column[index * N..][..N]);
    entry
}

/// How many of `count` entries at the beginning are `before` something, as of a slice: columns are
/// searched where they lie.
pub fn partition_point(count: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = usize::midpoint(low, high);
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_read_and_searched_like_slices() {
        let numbers: Vec<u64> = (0..50).map(|n| (n * n) << 30).collect();
        let wide: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        for (at, number) in numbers.iter().enumerate() {
            assert_eq!(u64_at(&wide, at), *number);
            assert_eq!(u32_at(&wide, 2 * at), *number as u32);
            assert_eq!(u32_at(&wide, 2 * at + 1), (number >> 32) as u32);
        }
        for count in 0..=numbers.len() {
            for probe in numbers.iter().flat_map(|number| [*number, number + 1]) {
                let expected = numbers[..count].partition_point(|&number| number < probe);
                assert_eq!(partition_point(count, |at| u64_at(&wide, at) < probe), expected);
            }
        }
    }
}
