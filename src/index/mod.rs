//! Which vectors are closest to a query?
//!
//! The kernel knows rows by number and nothing else. An [`Index`] holds codes of the rows of a segment and a graph
//! over them: it is built, added to and merged in `index.rs` and `merge.rs`, and searched in `search.rs`. A [`Flat`]
//! holds codes alone, for rows that are too new for a graph. [`search_parts`] searches several of both as one.
//! [`Effort`] says how hard to look, and a [`RowSet`] which rows may be results.
//!
//! [`PreparedQuery`] measures one query against rows of vectors exactly (`distance.rs`, with the machine
//! code chosen at run time in `kernels.rs`), and [`TopK`] keeps the closest (`topk.rs`).
//!
//! Error semantics: a search and a build never fail; only opening bytes as an index does ([`NotAnIndex`]). Callers
//! check lengths and reject NaN and infinities at the door; finite vectors, however large or small, always get a
//! finite distance.

mod buffer;
mod by_length;
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
