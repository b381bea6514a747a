//! What Brainy keeps in a bucket, read as `docs/format.md` says: nothing here is imported from the crate, so
//! where both find the same, the document is right.

pub mod bitmap;
pub mod bytes;
pub mod chunk;
pub mod deletions;
pub mod entry;
pub mod filter_index;
pub mod filter_values;
pub mod fuse;
pub mod ids;
pub mod kernel;
pub mod keys;
pub mod manifest;
pub mod partitioner;
pub mod records;
pub mod segment;
pub mod shared;

use std::fmt;

/// Why something was not read, with the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A newer build wrote it, and says that this one must not read it.
    Newer(String),
    /// It does not fit the document.
    Corrupt(String),
}

pub type Result<T> = std::result::Result<T, Fault>;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Newer(what) => write!(f, "newer format: {what}"),
            Fault::Corrupt(what) => write!(f, "corrupt: {what}"),
        }
    }
}

impl Fault {
    /// The same fault, of a part of `place`.
    pub fn within(self, place: &str) -> Fault {
        match self {
            Fault::Newer(what) => Fault::Newer(format!("{place}: {what}")),
            Fault::Corrupt(what) => Fault::Corrupt(format!("{place}: {what}")),
        }
    }
}

pub fn corrupt<T>(what: impl Into<String>) -> Result<T> {
    Err(Fault::Corrupt(what.into()))
}

pub fn newer<T>(what: impl Into<String>) -> Result<T> {
    Err(Fault::Newer(what.into()))
}

/// An error unless it holds.
pub fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { corrupt(what()) }
}
