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
    let at = index * 4;
    u32::from_le_bytes([column[at], column[at + 1], column[at + 2], column[at + 3]]) as usize
}
