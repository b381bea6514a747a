//! Names and ids: their types, their rules, and how new ones are made.

use crate::base::clock::Timestamp;
use crate::base::rng::Rng;
use crate::base::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

pub use ulid::Ulid;

/// The longest record id, in bytes of UTF-8.
pub const RECORD_ID_BYTES_MAX: usize = 512;

/// The hash by which a record is found and assigned to a partition: XXH3, 64 bits, seed 0.
pub fn record_hash(id: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(id.as_bytes())
}

/// A position in a collection's log; also the version that a reader has applied. 0 is "nothing".
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }

    /// The position before this one; 0 stays 0.
    #[must_use]
    pub fn previous(self) -> Seq {
        Seq(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Running totals over the log up to a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Operations in all entries so far.
    pub records: u64,
    /// Bytes of all entries and their data objects so far.
    pub bytes: u64,
}

/// A collection's name: `[a-z0-9][a-z0-9_-]{0,62}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CollectionName(String);

impl CollectionName {
    /// Checks the rule.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let valid = name.len() <= 63
            && name.bytes().next().is_some_and(lower)
            && name.bytes().all(|byte| lower(byte) || byte == b'_' || byte == b'-');
        if valid {
            return Ok(CollectionName(name));
        }
        let shown: String = name.chars().take(80).collect();
        Err(Error::new(
            Code::InvalidCollectionName,
            format!(
                "collection name {shown:?} is not valid: use 1 to 63 characters of a-z, 0-9, _ and -, \
                 starting with a letter or digit"
            ),
        ))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CollectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CollectionName {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        CollectionName::new(name)
    }
}

impl From<CollectionName> for String {
    fn from(name: CollectionName) -> String {
        name.0
    }
}

/// Identifies one attempt to change an object, so that an ambiguous outcome can be read back.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WriteId(pub [u8; 16]);

impl WriteId {
    /// A new random id.
    pub fn random(rng: &dyn Rng) -> Self {
        let mut bytes = [0; 16];
        rng.fill(&mut bytes);
        WriteId(bytes)
    }
}

impl fmt::Display for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Checks a record id: 1..=512 bytes of UTF-8 without control characters.
pub fn check_record_id(id: &str) -> Result<()> {
    let fault = if id.is_empty() {
        "is empty".to_owned()
    } else if id.len() > RECORD_ID_BYTES_MAX {
        format!("has {} bytes", id.len())
    } else if let Some(at) = id.find(char::is_control) {
        format!("has a control character at byte {at}")
    } else {
        return Ok(());
    };
    Err(Error::new(
        Code::InvalidId,
        format!(
            "the id {fault}: use 1 to {RECORD_ID_BYTES_MAX} bytes of UTF-8 without control characters"
        ),
    ))
}

/// A new ULID.
pub fn ulid(now: Timestamp, rng: &dyn Rng) -> Ulid {
    let mut random = [0; 16];
    rng.fill(&mut random);
    Ulid::from_parts(now.0, u128::from_le_bytes(random))
}

/// A new UUIDv7, as text.
pub fn uuid_v7(now: Timestamp, rng: &dyn Rng) -> String {
    let mut random = [0; 10];
    rng.fill(&mut random);
    uuid::Builder::from_unix_timestamp_millis(now.0, &random).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collection_names_follow_the_rule() {
        for good in ["default", "a", "0x", "my-col_1", &"a".repeat(63)] {
            assert!(CollectionName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "_a", "A", "a/b", "..", "é", &"a".repeat(64)] {
            let error = CollectionName::new(bad).unwrap_err();
            assert_eq!(error.code(), Code::InvalidCollectionName, "{bad}");
        }
    }

    #[test]
    fn record_ids_follow_the_rule() {
        for good in ["a", "é/ö 漢", &"x".repeat(512)] {
            assert!(check_record_id(good).is_ok());
        }
        for bad in ["", "a\nb", "\u{0}", "\u{85}", &"x".repeat(513)] {
            assert_eq!(check_record_id(bad).unwrap_err().code(), Code::InvalidId);
        }
    }
}
