//! Little-endian numbers out of a slice, with errors that say where.

use super::{Result, corrupt, ensure};

/// Reads a slice from its beginning to its end.
#[derive(Debug, Clone)]
pub struct Bytes<'a> {
    data: &'a [u8],
    at: usize,
    what: &'static str,
}

macro_rules! numbers {
    ($($name:ident: $type:ty),*) => {$(
        pub fn $name(&mut self) -> Result<$type> {
            let bytes = self.take(size_of::<$type>() as u64)?;
            let mut array = [0; size_of::<$type>()];
            array.copy_from_slice(bytes);
            Ok(<$type>::from_le_bytes(array))
        }
    )*};
}

impl<'a> Bytes<'a> {
    /// Reads `data`, which errors call `what`.
    pub fn new(data: &'a [u8], what: &'static str) -> Bytes<'a> {
        Bytes { data, at: 0, what }
    }

    numbers!(u16: u16, u32: u32, u64: u64, u128: u128, i64: i64);

    /// The next `count` bytes.
    pub fn take(&mut self, count: u64) -> Result<&'a [u8]> {
        let rest = &self.data[self.at..];
        match usize::try_from(count).ok().filter(|count| *count <= rest.len()) {
            Some(count) => {
                self.at += count;
                Ok(&rest[..count])
            }
            None => corrupt(format!(
                "{}: {count} bytes are wanted at {}, and {} are there",
                self.what,
                self.at,
                rest.len()
            )),
        }
    }

    /// The next `count` numbers of 32 bits.
    pub fn u32s(&mut self, count: u64) -> Result<Vec<u32>> {
        let mut inner = Bytes::new(self.take(product(4, count)?)?, self.what);
        (0..count).map(|_| inner.u32()).collect()
    }

    /// The next `count` numbers of 64 bits.
    pub fn u64s(&mut self, count: u64) -> Result<Vec<u64>> {
        let mut inner = Bytes::new(self.take(product(8, count)?)?, self.what);
        (0..count).map(|_| inner.u64()).collect()
    }

    /// Zeros up to a multiple of `unit` bytes from the beginning of the slice.
    pub fn zeros_to(&mut self, unit: usize) -> Result<()> {
        let count = self.at.next_multiple_of(unit) - self.at;
        let at = self.at;
        let zeros = self.take(count as u64)?.iter().all(|byte| *byte == 0);
        ensure(zeros, || format!("{}: bytes at {at} that should be zeros", self.what))
    }

    /// Where it stands.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The eight bytes that a file begins with.
    pub fn magic(&mut self, expected: &[u8; 8]) -> Result<()> {
        let found = self.take(8)?;
        ensure(found == expected, || {
            let (found, expected) = (found.escape_ascii(), expected.escape_ascii());
            format!("{}: begins with {found} and not with {expected}", self.what)
        })
    }

    /// A reserved number.
    pub fn reserved(&mut self, bytes: u64) -> Result<()> {
        let at = self.at;
        let zeros = self.take(bytes)?.iter().all(|byte| *byte == 0);
        ensure(zeros, || format!("{}: what is reserved at {at} is not 0", self.what))
    }

    /// Nothing may be left.
    pub fn end(&self) -> Result<()> {
        let left = self.data.len() - self.at;
        ensure(left == 0, || format!("{}: {left} bytes too many at {}", self.what, self.at))
    }
}

/// A product of sizes that a file names.
pub fn product(a: u64, b: u64) -> Result<u64> {
    match a.checked_mul(b) {
        Some(product) => Ok(product),
        None => corrupt(format!("{a} times {b} bytes")),
    }
}

/// Whether `data` has the checksum that its file names.
pub fn check(data: &[u8], expected: u32, what: &str) -> Result<()> {
    let found = crc32c::crc32c(data);
    ensure(found == expected, || format!("{what}: CRC-32C is {found:08x} and not {expected:08x}"))
}

/// The texts that lie in `column` one after another, each up to its end.
pub fn texts<'a>(column: &'a [u8], ends: &[u32], what: &str) -> Result<Vec<&'a str>> {
    let mut start = 0;
    let mut found = Vec::with_capacity(ends.len());
    for (number, end) in ends.iter().enumerate() {
        let Some(piece) = column.get(start..*end as usize) else {
            return corrupt(format!("{what}: piece {number} goes from {start} to {end}"));
        };
        match std::str::from_utf8(piece) {
            Ok(text) => found.push(text),
            Err(error) => return corrupt(format!("{what}: piece {number}: {error}")),
        }
        start = *end as usize;
    }
    let left = column.len() - start;
    ensure(left == 0, || format!("{what}: {left} bytes of no piece"))?;
    Ok(found)
}
