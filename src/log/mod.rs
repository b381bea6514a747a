//! What was written, and in which order?
//!
//! A collection's log is a sequence of objects `wal/<seq>.wal` without gaps. Guarantees:
//!
//! 1. One position has one entry: it is created if absent and never changed.
//! 2. Whoever appends position n+1 has seen the header of n (or n+1 is the floor). So nobody
//!    appends behind a *seal* without knowing, and the running totals in the headers are exact.
//! 3. What [`Appender::append`] returns is durable and will be read by everyone, once. If the
//!    floor may have passed the position meanwhile (the forgotten-id hazard), it says that the
//!    outcome is ambiguous rather than append again: the first entry may have been applied.
//! 4. An error that is not ambiguous means that the entry is not and will not be in the log.
//! 5. A data object is named by at most one entry that exists or may still appear, so whoever
//!    collects an entry may delete what it names.
//! 6. A submission is in at most one entry, whoever appends it: at a position for which the entry's author has seen
//!    that no entry since the submission's base holds it. Its writer acknowledges it once it has
//!    read it there. While a submission may still be taken along, its writer's errors are ambiguous.
//! 7. Once an entry has been created that is a grace period younger than a data object, only entries before
//!    it can name the object ([`Appender::append`]; docs/decisions/0012-orphans.md).
//!
//! [`chunk`] is the columnar batch of operations, [`vectors`] its largest column, and [`entry`] the envelope around
//! it. [`append`] is the writer's side, [`read`] the reader's, [`names`] the collector's. When several writers want
//! to append, [`turns`] says whose turn it is, and [`waiting`] holds what that writer takes along for the others.
//! docs/format.md has every byte.

pub mod append;
pub mod chunk;
pub mod entry;
pub mod names;
pub mod read;
pub mod turns;
pub mod vectors;
pub mod waiting;

use crate::base::Result;
use crate::base::clock::Mark;
use crate::base::ids::{Seq, Totals};
use async_trait::async_trait;
use std::time::Duration;

pub use append::{Appended, Appender, Tried};
pub use chunk::{Chunk, ChunkBuilder, Operation};
pub use entry::{Entry, Header, Part};

/// What the manifest says of the log.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Which life of the collection's name this is; grows when it is deleted and created again.
    pub incarnation: u64,
    /// Positions below this one may be gone and must not be believed.
    pub floor: Seq,
    /// Entries up to this one are not needed any more: it does not matter whether they are there.
    pub indexed: Seq,
    /// The entry before the floor, as far as an appender needs it.
    pub base: Totals,
    /// Taken before the manifest was asked.
    pub looked: Mark,
    /// How long after the floor has passed them entries are deleted, at the soonest; `None` where the
    /// manifest does not say.
    pub grace: Option<Duration>,
}

/// Asks the manifest. The log does not know how: the engine does.
#[async_trait]
pub trait BoundsSource: std::fmt::Debug + Send + Sync + 'static {
    /// Reads the manifest now. `collection_not_found` where the collection is gone.
    async fn look(&self) -> Result<Bounds>;
}
