//! The values of one field of a filter index, and the sets of rows that have them.

use super::bytes::{Bytes, product, texts};
use super::{Result, bitmap, corrupt, ensure};
use std::cmp::Ordering;

const NONE: u32 = u32::MAX;
const HIGH: u32 = 1 << 31;

/// A number by its value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// Without a fraction, from -2^63 and below 2^64.
    Integer(i128),
    Float(f64),
}

impl Number {
    /// A float, or the integer that it stands for.
    pub fn of(float: f64) -> Number {
        let limit = 2f64.powi(64);
        if float.fract() == 0.0 && float >= -limit / 2.0 && float < limit {
            return Number::Integer(float as i128);
        }
        Number::Float(float)
    }

    fn less(self, other: Number) -> bool {
        self.order(other) == Some(Ordering::Less)
    }

    pub fn order(self, other: Number) -> Option<Ordering> {
        match (self, other) {
            (Number::Integer(a), Number::Integer(b)) => Some(a.cmp(&b)),
            (Number::Float(a), Number::Float(b)) => a.partial_cmp(&b),
            (Number::Float(_), Number::Integer(_)) => other.order(self).map(Ordering::reverse),
            (Number::Integer(a), Number::Float(b)) => {
                // Beyond the integers, or between two of them.
                if b.abs() >= 2f64.powi(65) {
                    return Some(if b > 0.0 { Ordering::Less } else { Ordering::Greater });
                }
                Some(a.cmp(&(b.floor() as i128)).then(Ordering::Less))
            }
        }
    }
}

/// Rows by their values: of those that are not arrays, or of the elements of arrays.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Values {
    pub null: Vec<u32>,
    pub no: Vec<u32>,
    pub yes: Vec<u32>,
    /// Rows with a string that is there by its hash alone.
    pub unkept: Vec<u32>,
    pub keeps_none: bool,
    pub numbers: Vec<(Number, Vec<u32>)>,
    pub strings: Vec<(String, Vec<u32>)>,
    /// Hashes of strings that are not kept, each with a row.
    pub hashes: Vec<(u32, u32)>,
}

/// Where references of a field lead.
pub struct Postings<'a> {
    pub data: &'a [u8],
    /// How many rows there are.
    pub rows: u32,
}

impl Postings<'_> {
    /// The rows of a reference.
    pub fn get(&self, reference: u32) -> Result<Vec<u32>> {
        let found = match reference {
            NONE => Vec::new(),
            row if row & HIGH != 0 => vec![row & !HIGH],
            offset => self.list(offset)?,
        };
        let ascending = found.is_sorted_by(|a, b| a < b);
        let fits = found.last().is_none_or(|last| *last < self.rows);
        ensure(ascending && fits, || format!("reference {reference:x}: rows {found:?}"))?;
        Ok(found)
    }

    fn list(&self, offset: u32) -> Result<Vec<u32>> {
        let Some(data) = self.data.get(offset as usize..) else {
            return corrupt(format!("a reference to {offset}, behind the postings"));
        };
        let mut bytes = Bytes::new(data, "postings");
        let count = bytes.u32()?;
        if count & HIGH == 0 {
            return bytes.u32s(u64::from(count));
        }
        let bitmap = bitmap::decode(&mut bytes)?;
        let (found, expected) = (bitmap.rows.len(), count & !HIGH);
        ensure(found == expected as usize, || format!("a bitmap of {found}, not {expected} rows"))?;
        bytes.zeros_to(4)?;
        Ok(bitmap.rows)
    }
}

/// What stands at the beginning of a block.
pub struct Header {
    constants: [u32; 3],
    unkept: u32,
    keeps_none: bool,
    width: u32,
    numbers: u32,
    strings: u32,
    string_bytes: u32,
    hashes: u32,
}

/// A header with its arrays; references still lead into the postings.
pub struct Arrays<'a> {
    header: Header,
    numbers: Vec<Number>,
    number_rows: Vec<u32>,
    strings: Vec<&'a str>,
    string_rows: Vec<u32>,
    hashes: Vec<(u32, u32)>,
}

impl Header {
    pub fn decode(bytes: &mut Bytes) -> Result<Header> {
        let constants = [bytes.u32()?, bytes.u32()?, bytes.u32()?];
        let (unkept, keeps_none, width) = (bytes.u32()?, bytes.u32()?, bytes.u32()?);
        ensure(keeps_none <= 1, || format!("a header with {keeps_none} at 16"))?;
        ensure(width <= 2, || format!("numbers of form {width}"))?;
        let (numbers, strings) = (bytes.u32()?, bytes.u32()?);
        let (string_bytes, hashes) = (bytes.u32()?, bytes.u32()?);
        let keeps_none = keeps_none == 1;
        ensure(!keeps_none || strings == 0, || format!("{strings} strings where none is kept"))?;
        Ok(Header { constants, unkept, keeps_none, width, numbers, strings, string_bytes, hashes })
    }

    /// Its arrays, which `bytes` stands before.
    pub fn arrays<'a>(self, bytes: &mut Bytes<'a>) -> Result<Arrays<'a>> {
        let width = if self.width == 2 { 16 } else { 8 };
        let taken = bytes.take(product(width, u64::from(self.numbers))?)?;
        let mut inner = Bytes::new(taken, "numbers");
        let number = |_| number(&mut inner, self.width);
        let numbers = (0..self.numbers).map(number).collect::<Result<Vec<_>>>()?;
        ensure(numbers.is_sorted_by(|a, b| a.less(*b)), || format!("numbers {numbers:?}"))?;
        let mut array = |count: u32| {
            let array = bytes.u32s(u64::from(count))?;
            bytes.zeros_to(8)?;
            Ok(array)
        };
        let number_rows = array(self.numbers)?;
        let ends = array(self.strings)?;
        let string_rows = array(self.strings)?;
        let strings = texts(bytes.take(u64::from(self.string_bytes))?, &ends, "strings")?;
        bytes.zeros_to(8)?;
        ensure(strings.is_sorted_by(|a, b| a < b), || format!("strings {strings:?}"))?;
        let mut array = |count: u32| {
            let array = bytes.u32s(u64::from(count))?;
            bytes.zeros_to(8)?;
            Ok(array)
        };
        let hashes: Vec<u32> = array(self.hashes)?;
        let hashes: Vec<_> = hashes.into_iter().zip(array(self.hashes)?).collect();
        ensure(hashes.is_sorted_by(|a, b| a < b), || format!("hashes {hashes:?}"))?;
        Ok(Arrays { header: self, numbers, number_rows, strings, string_rows, hashes })
    }
}

fn number(bytes: &mut Bytes, width: u32) -> Result<Number> {
    let low = bytes.u64()?;
    match width {
        0 => Ok(Number::Integer(i128::from(low as i64))),
        1 => finite(low),
        _ => match bytes.i64()? {
            1 => finite(low),
            high @ (0 | -1) => Ok(Number::Integer(i128::from(high) << 64 | i128::from(low))),
            other => corrupt(format!("a number with {other} in its high bits")),
        },
    }
}

fn finite(bits: u64) -> Result<Number> {
    let float = f64::from_bits(bits);
    ensure(float.is_finite(), || format!("the number {float}"))?;
    Ok(Number::of(float))
}

impl Arrays<'_> {
    /// The values, each with its rows.
    pub fn values(self, postings: &Postings) -> Result<Values> {
        let [null, no, yes] = self.header.constants;
        let numbers = self.numbers.into_iter().zip(self.number_rows);
        let numbers = numbers.map(|(number, rows)| Ok((number, postings.get(rows)?)));
        let strings = self.strings.into_iter().zip(self.string_rows);
        let strings = strings.map(|(text, rows)| Ok((text.to_owned(), postings.get(rows)?)));
        Ok(Values {
            null: postings.get(null)?,
            no: postings.get(no)?,
            yes: postings.get(yes)?,
            unkept: postings.get(self.header.unkept)?,
            keeps_none: self.header.keeps_none,
            numbers: numbers.collect::<Result<_>>()?,
            strings: strings.collect::<Result<_>>()?,
            hashes: self.hashes,
        })
    }
}
