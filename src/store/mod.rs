//! Where do the bytes live, and what may we believe about them?
//!
//! [`Store`] is the small core trait over memory, a local directory and S3. Its guarantees, which
//! one conformance suite (`store::conformance`) checks on every implementation:
//!
//! 1. An object appears whole or not at all, and what was acknowledged survives any crash.
//! 2. A read that starts after a write was acknowledged sees that write or a later one.
//! 3. Of any number of [`Store::put_if`] racing with [`Precondition::Absent`] on one key, at most
//!    one is ever [`PutOutcome::Won`]; with [`Precondition::Matches`], at most one per etag.
//! 4. `put_if` is attempted once: no layer below the caller repeats it, because a repeat that
//!    meets its own first attempt looks lost. [`cas`] resolves ambiguity by reading back.
//! 5. Listings include every acknowledged write. Keys in one folder come in ascending byte order
//!    (over several folders a server may keep `a/b` before `a-b`; pages still fit together).
//!
//! Features are composed as wrappers around the trait: [`layers`].

#[cfg(feature = "s3")]
pub mod aws;
#[cfg(feature = "s3")]
pub mod bucket;
pub mod cas;
pub mod conformance;
pub mod layers;
pub mod local;
pub mod memory;
pub mod open;
pub mod paths;
pub mod probe;
#[cfg(feature = "s3")]
pub mod s3;

use crate::base::{Error, Result};
use async_trait::async_trait;
use bytes::Bytes;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

pub use paths::{Key, Prefix};

/// Identifies one content of one key, as the store chose to name it. On S3 this is a digest of the
/// content, so the same bytes written again have the same etag: every object that is changed by
/// compare-and-swap carries something that never repeats.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Etag(pub Arc<str>);

impl Etag {
    /// Whether it is good for noticing a change and no more: no conditional PUT takes it.
    pub fn is_weak(&self) -> bool {
        self.0.starts_with("W/")
    }
}

/// Which bytes of an object to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ByteRange {
    /// From `start` to before `end`; a range that passes the object's end is cut to it.
    Bounded(Range<u64>),
    /// The last so many bytes, or the whole object where it is shorter.
    Suffix(u64),
}

/// What to read.
#[derive(Debug, Clone, Default)]
pub struct GetOptions {
    /// Only these bytes.
    pub range: Option<ByteRange>,
    /// Nothing, where the object still has this etag.
    pub if_none_match: Option<Etag>,
}

/// An object, or the asked-for part of it.
#[derive(Debug, Clone)]
pub struct Object {
    /// The bytes that were asked for.
    pub bytes: Bytes,
    /// The etag of the whole object.
    pub etag: Etag,
    /// The size of the whole object in bytes.
    pub size: u64,
    /// Whether the bytes are those of a mapped file: the machine takes their memory back where it is short of it.
    pub mapped: bool,
}

/// The answer to a read.
#[derive(Debug, Clone)]
pub enum Fetched {
    /// The object is there.
    Found(Object),
    /// The object still has the etag in `if_none_match`.
    Unmodified,
    /// There is no such object.
    Missing,
}

impl Fetched {
    /// The object, or an error that names the key.
    pub fn required(self, key: &Key) -> Result<Object> {
        match self {
            Fetched::Found(object) => Ok(object),
            _ => Err(Error::corrupt(format!(
                "object {key} is named by another object but missing; \
                 restore it from a backup or remove the collection"
            ))),
        }
    }
}

/// What must hold for a conditional PUT to take effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// There is no such object.
    Absent,
    /// The object has this etag.
    Matches(Etag),
}

/// How a conditional PUT ended.
#[derive(Debug)]
#[must_use]
pub enum PutOutcome {
    /// It took effect; the object now has this etag.
    Won(Etag),
    /// It did not and never will take effect: the precondition did not hold, or the store saw a
    /// conflicting request (409) and took none. Read before trying again.
    Lost,
    /// It may have taken effect, or may still do so: read back.
    Ambiguous(Error),
    /// It did not and never will take effect, for a reason that a retry does not cure.
    Failed(Error),
}

/// One object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: Key,
    /// Its size in bytes.
    pub size: u64,
    /// Changes whenever the object does. A read takes it as `if_none_match`, but no conditional PUT
    /// takes it: a store may list other names than it answers reads with.
    pub etag: Option<Etag>,
}

/// One page of a listing.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// The objects; those in one folder are in ascending byte order of their keys.
    pub objects: Vec<Listed>,
    /// Whether there may be more after the last one.
    pub more: bool,
}

/// An object store. See the module's guarantees.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Reads an object or a part of it.
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Fetched>;

    /// Writes an object unconditionally; an error may leave it written.
    async fn put(&self, key: &Key, body: Bytes) -> Result<Etag>;

    /// Writes an object if the precondition holds.
    async fn put_if(&self, key: &Key, body: Bytes, condition: Precondition) -> PutOutcome;

    /// Deletes an object; that it is not there is no error.
    async fn delete(&self, key: &Key) -> Result<()>;

    /// Makes sure that an object which somebody else wrote, and which a read has shown, survives any
    /// crash. Most stores show nothing before that.
    async fn settle(&self, _key: &Key) -> Result<()> {
        Ok(())
    }

    /// Lists up to `limit` (1..=1000) objects whose keys start with `prefix` and are greater than
    /// `after`.
    async fn list(&self, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Listing>;

    /// The distinct next path components below `prefix` (which ends in `/`) that have something
    /// below them, in ascending byte order. Some servers name one for a while after its last object
    /// was deleted.
    async fn list_dirs(&self, prefix: &Prefix) -> Result<Vec<String>>;
}

/// A shared store.
pub type DynStore = Arc<dyn Store>;

/// Reads a whole object.
pub async fn get(store: &dyn Store, key: &Key) -> Result<Fetched> {
    store.get(key, GetOptions::default()).await
}

/// Reads an object that has to be small. Of one that has more than `bytes_max` bytes no more than those are
/// read, and its `size` tells.
pub async fn get_up_to(
    store: &dyn Store,
    key: &Key,
    if_none_match: Option<Etag>,
    bytes_max: u64,
) -> Result<Fetched> {
    let range = (bytes_max < u64::MAX).then_some(ByteRange::Bounded(0..bytes_max));
    let fetched =
        store.get(key, GetOptions { range, if_none_match: if_none_match.clone() }).await?;
    match fetched {
        // What a range of a large file is called in a folder guards no write.
        Fetched::Found(object) if object.size <= bytes_max && object.etag.is_weak() => {
            store.get(key, GetOptions { range: None, if_none_match }).await
        }
        fetched => Ok(fetched),
    }
}
