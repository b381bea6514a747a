//! How close are two vectors, and which of many are closest?
//!
//! [`PreparedQuery`] measures one query against rows of vectors (`distance.rs`, with the machine
//! code chosen at run time in `kernels.rs`); [`TopK`] keeps the closest (`topk.rs`).
//!
//! Error semantics: nothing here fails. Callers check lengths and reject NaN and infinities at the
//! door; finite vectors, however large or small, always get a finite distance.

mod buffer;
mod calibrate;
mod clusters;
mod code;
mod codes;
mod distance;
mod flat;
mod format;
mod graph;
// The module's name is that of its folder's subject.
#[allow(clippy::module_inception)]
mod index;
mod integer;
mod isa;
mod kernels;
mod measure;
mod merge;
mod more;
mod parallel;
mod parts;
mod pool;
#[cfg(test)]
mod random;
mod rows;
mod scan;
mod search;
mod space;
#[cfg(test)]
mod tests;
mod topk;
mod vectors;

pub use buffer::Bytes;
pub use distance::{PreparedQuery, inverse_norm};
pub use flat::Flat;
pub use format::{NotAnIndex, Placed, Section, Sections};
pub use index::{Builder, INDEX_DIMENSIONS_MAX, INDEX_ROWS_MAX, Index, IndexParams};
pub use merge::MergePart;
pub use more::Nearest;
pub use parallel::Threads;
pub use parts::{Found, Part, Rows, search_parts};
pub use rows::RowSet;
pub use search::{EF_MAX, Effort, Neighbour, Scratch, Search, ThreadScratch};
pub use topk::TopK;
pub use vectors::Vectors;

use serde::{Deserialize, Serialize};

/// How distance is measured. Lower is always closer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// 1 - cosine similarity, in 0..=2.
    #[default]
    Cosine,
    /// L2 distance (not squared).
    Euclidean,
    /// Minus the inner product.
    Dot,
}
