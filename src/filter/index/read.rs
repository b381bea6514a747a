//! A field of an index, read where it lies.

use super::super::ast::{Num, Order, Scalar};
use super::corrupt;
use crate::base::Result;
use std::cmp::Ordering;
use std::ops::Range;

/// Bytes of the header of the whole index.
pub(super) const HEADER_BYTES: usize = 40;
/// In the flags of a facet: all of its strings are hashes.
pub(super) const ALL_HASHED: u32 = 1;
/// How numbers are written.
pub(super) const INTEGERS: u32 = 0;
pub(super) const FLOATS: u32 = 1;
pub(super) const WIDE: u32 = 2;

/// Reads from the front of what is left.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(bytes);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| corrupt("it ends early"))?;
        self.at += bytes;
        Ok(taken)
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(fixed(self.take(2)?)))
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(fixed(self.take(4)?)))
    }

    /// A length or a count in 32 bits.
    pub(super) fn length(&mut self) -> Result<usize> {
        self.u32().map(|length| length as usize)
    }

    /// A length in 64 bits.
    pub(super) fn long(&mut self) -> Result<usize> {
        let length = u64::from_le_bytes(fixed(self.take(8)?));
        usize::try_from(length).map_err(|_| corrupt("a length is out of range"))
    }

    /// `count` values of `size` bytes.
    pub(super) fn array(&mut self, count: usize, size: usize) -> Result<&'a [u8]> {
        let bytes = count.checked_mul(size).ok_or_else(|| corrupt("a length is out of range"))?;
        self.take(bytes)
    }

    /// The same, up to the next multiple of 8 bytes.
    fn padded(&mut self, count: usize, size: usize) -> Result<&'a [u8]> {
        let values = self.array(count, size)?;
        self.take(self.at.next_multiple_of(8) - self.at)?;
        Ok(values)
    }

    /// Skips such an array; where what follows it begins.
    pub(super) fn after(&mut self, count: usize, size: usize) -> Result<usize> {
        self.padded(count, size)?;
        Ok(self.at)
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("as many were taken")
}

/// Values of one width, wherever they lie.
#[derive(Clone, Copy)]
pub(super) struct Array<'a> {
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Array { bytes }
    }

    /// How many values of 4 bytes there are.
    pub(super) fn len(self) -> usize {
        self.bytes.len() / 4
    }

    pub(super) fn u32(self, at: usize) -> Result<u32> {
        self.get(at).map(u32::from_le_bytes)
    }

    fn get<const N: usize>(self, at: usize) -> Result<[u8; N]> {
        let value = self.bytes.get(at * N..at * N + N);
        value.map(fixed).ok_or_else(|| corrupt("a value lies outside of its field"))
    }
}

/// What is known of one field.
pub(super) struct Field<'a> {
    /// The rows that have it.
    pub(super) exists: u32,
    /// Its values that are no arrays.
    pub(super) single: Facet<'a>,
    /// The elements of its values that are arrays.
    pub(super) elements: Facet<'a>,
    pub(super) postings: &'a [u8],
}

/// The scalars of a field: its own, or those in its arrays.
pub(super) struct Facet<'a> {
    null: u32,
    falsehood: u32,
    truth: u32,
    /// The rows with a string of which only a hash is kept.
    pub(super) hashed_rows: u32,
    pub(super) numbers: Numbers<'a>,
    pub(super) strings: Strings<'a>,
    pub(super) hashes: Hashes<'a>,
}

/// How many values a facet has, as its header says.
struct Counts {
    kind: u32,
    numbers: usize,
    strings: usize,
    string_bytes: usize,
    hashes: usize,
}

impl<'a> Field<'a> {
    pub(super) fn open(block: &'a [u8], string_bytes: usize) -> Result<Field<'a>> {
        let mut reader = Reader::new(block);
        let exists = reader.u32()?;
        reader.u32()?;
        let postings_bytes = reader.long()?;
        let (mut single, single_counts) = Facet::header(&mut reader)?;
        let (mut elements, elements_counts) = Facet::header(&mut reader)?;
        single.arrays(&mut reader, &single_counts)?;
        elements.arrays(&mut reader, &elements_counts)?;
        single.hashes.kept_bytes = string_bytes;
        elements.hashes.kept_bytes = string_bytes;
        Ok(Field { exists, single, elements, postings: reader.take(postings_bytes)? })
    }
}

impl<'a> Facet<'a> {
    fn header(reader: &mut Reader<'a>) -> Result<(Self, Counts)> {
        let facet = Facet {
            null: reader.u32()?,
            falsehood: reader.u32()?,
            truth: reader.u32()?,
            hashed_rows: reader.u32()?,
            numbers: Numbers::default(),
            strings: Strings::default(),
            hashes: Hashes { all: reader.u32()? & ALL_HASHED != 0, ..Hashes::default() },
        };
        let counts = Counts {
            kind: reader.u32()?,
            numbers: reader.length()?,
            strings: reader.length()?,
            string_bytes: reader.length()?,
            hashes: reader.length()?,
        };
        Ok((facet, counts))
    }

    fn arrays(&mut self, reader: &mut Reader<'a>, counts: &Counts) -> Result<()> {
        let width = if counts.kind == WIDE { 16 } else { 8 };
        self.numbers = Numbers {
            kind: counts.kind,
            count: counts.numbers,
            values: Array::new(reader.padded(counts.numbers, width)?),
            references: Array::new(reader.padded(counts.numbers, 4)?),
        };
        self.strings = Strings {
            ends: Array::new(reader.padded(counts.strings, 4)?),
            references: Array::new(reader.padded(counts.strings, 4)?),
            bytes: reader.padded(counts.string_bytes, 1)?,
        };
        self.hashes.hashes = Array::new(reader.padded(counts.hashes, 4)?);
        self.hashes.rows = Array::new(reader.padded(counts.hashes, 4)?);
        Ok(())
    }

    /// The reference to the rows that hold `scalar`, apart from those that its hash finds.
    pub(super) fn find(&self, scalar: &Scalar) -> Result<Option<u32>> {
        match scalar {
            Scalar::Null => Ok(Some(self.null)),
            Scalar::Bool(false) => Ok(Some(self.falsehood)),
            Scalar::Bool(true) => Ok(Some(self.truth)),
            Scalar::Num(num) => self.numbers.find(*num),
            Scalar::Str(string) => self.strings.find(string.as_bytes()),
        }
    }
}

/// The first of `0..count` for which `before` no longer holds.
fn partition_point(count: usize, mut before: impl FnMut(usize) -> Result<bool>) -> Result<usize> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// An order test and its operand.
pub(super) type Bound<'t> = (Order, &'t Scalar);

/// The values of `0..count` that pass all of `bounds`, where `compare` compares a value to an operand;
/// `None` where they are of different types.
fn within(
    bounds: &[Bound<'_>],
    count: usize,
    compare: impl Fn(usize, &Scalar) -> Result<Option<Ordering>>,
) -> Result<Range<usize>> {
    let mut range = 0..count;
    for (order, scalar) in bounds {
        let below = |accepted: fn(Ordering) -> bool| {
            partition_point(count, |at| Ok(compare(at, scalar)?.is_some_and(accepted)))
        };
        if count > 0 && compare(0, scalar)?.is_none() {
            return Ok(0..0);
        }
        match order {
            Order::Gt => range.start = range.start.max(below(Ordering::is_le)?),
            Order::Gte => range.start = range.start.max(below(Ordering::is_lt)?),
            Order::Lt => range.end = range.end.min(below(Ordering::is_lt)?),
            Order::Lte => range.end = range.end.min(below(Ordering::is_le)?),
        }
    }
    Ok(range)
}

/// Distinct numbers in ascending order, with their rows.
#[derive(Clone, Copy)]
pub(super) struct Numbers<'a> {
    kind: u32,
    count: usize,
    values: Array<'a>,
    pub(super) references: Array<'a>,
}

impl Default for Numbers<'_> {
    fn default() -> Self {
        let (values, references) = (Array::new(&[]), Array::new(&[]));
        Numbers { kind: INTEGERS, count: 0, values, references }
    }
}

impl Numbers<'_> {
    fn get(&self, at: usize) -> Result<Num> {
        match self.kind {
            INTEGERS => Ok(Num::Int(i64::from_le_bytes(self.values.get(at)?).into())),
            FLOATS => Ok(Num::from_f64(f64::from_le_bytes(self.values.get(at)?))),
            WIDE => {
                let low = u64::from_le_bytes(self.values.get(at * 2)?);
                match i64::from_le_bytes(self.values.get(at * 2 + 1)?) {
                    high @ (0 | -1) => Ok(Num::Int(i128::from(high) << 64 | i128::from(low))),
                    1 => Ok(Num::Float(low)),
                    _ => Err(corrupt("a number is out of range")),
                }
            }
            _ => Err(corrupt("its numbers are of an unknown kind")),
        }
    }

    fn find(&self, num: Num) -> Result<Option<u32>> {
        let at = partition_point(self.count, |at| Ok(self.get(at)?.compare(num).is_lt()))?;
        let found = at < self.count && self.get(at)? == num;
        found.then(|| self.references.u32(at)).transpose()
    }

    /// Which of them pass all of `bounds`.
    pub(super) fn within(&self, bounds: &[Bound<'_>]) -> Result<Range<usize>> {
        within(bounds, self.count, |at, scalar| match scalar {
            Scalar::Num(num) => Ok(Some(self.get(at)?.compare(*num))),
            _ => Ok(None),
        })
    }
}

/// Distinct strings in ascending order of their bytes, with their rows.
#[derive(Clone, Copy)]
pub(super) struct Strings<'a> {
    ends: Array<'a>,
    pub(super) references: Array<'a>,
    bytes: &'a [u8],
}

impl Default for Strings<'_> {
    fn default() -> Self {
        Strings { ends: Array::new(&[]), references: Array::new(&[]), bytes: &[] }
    }
}

impl<'a> Strings<'a> {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, at: usize) -> Result<&'a [u8]> {
        let start = if at == 0 { 0 } else { self.ends.u32(at - 1)? };
        let string = self.bytes.get(start as usize..self.ends.u32(at)? as usize);
        string.ok_or_else(|| corrupt("a string lies outside of its field"))
    }

    fn find(&self, string: &[u8]) -> Result<Option<u32>> {
        let at = partition_point(self.len(), |at| Ok(self.get(at)? < string))?;
        let found = at < self.len() && self.get(at)? == string;
        found.then(|| self.references.u32(at)).transpose()
    }

    /// Which of them pass all of `bounds`.
    pub(super) fn within(&self, bounds: &[Bound<'_>]) -> Result<Range<usize>> {
        within(bounds, self.len(), |at, scalar| match scalar {
            Scalar::Str(string) => Ok(Some(self.get(at)?.cmp(string.as_bytes()))),
            _ => Ok(None),
        })
    }

    /// Which of them begin with `prefix`.
    pub(super) fn starting_with(&self, prefix: &[u8]) -> Result<Range<usize>> {
        let start = partition_point(self.len(), |at| Ok(self.get(at)? < prefix))?;
        let end = partition_point(self.len(), |at| {
            let string = self.get(at)?;
            Ok(string < prefix || string.starts_with(prefix))
        })?;
        Ok(start..end)
    }
}

/// Hashes in ascending order, each with its row, of strings that are not kept.
#[derive(Clone, Copy)]
pub(super) struct Hashes<'a> {
    /// Whether no string is kept; otherwise those up to `kept_bytes` are.
    all: bool,
    kept_bytes: usize,
    hashes: Array<'a>,
    rows: Array<'a>,
}

impl Default for Hashes<'_> {
    fn default() -> Self {
        let (hashes, rows) = (Array::new(&[]), Array::new(&[]));
        Hashes { all: false, kept_bytes: 0, hashes, rows }
    }
}

impl Hashes<'_> {
    /// Calls `with` for every row that may hold `string`.
    pub(super) fn find(&self, string: &str, with: &mut dyn FnMut(u32) -> Result<()>) -> Result<()> {
        if !self.all && string.len() <= self.kept_bytes {
            return Ok(());
        }
        let hash = hash(string);
        let count = self.hashes.len();
        let start = partition_point(count, |at| Ok(self.hashes.u32(at)? < hash))?;
        for at in start..count {
            if self.hashes.u32(at)? != hash {
                break;
            }
            with(self.rows.u32(at)?)?;
        }
        Ok(())
    }
}

/// The hash of a string that is not kept: the low half of its XXH3.
pub(super) fn hash(string: &str) -> u32 {
    xxhash_rust::xxh3::xxh3_64(string.as_bytes()) as u32
}
