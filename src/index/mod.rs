//! Which vectors are closest to a query?
//!
//! The kernel knows rows by number and nothing else. An [`Index`] holds codes of the rows of a segment and a graph
//! over them: it is made in `index.rs` and `build/`, and searched in `query/`. Codes are made in `quantize/`. A [`Flat`]
//! holds codes alone, for rows that are too new for a graph. [`search_parts`] searches several of both as one.
//! [`Effort`] says how hard to look, and a [`RowSet`] which rows may be results.
//!
//! [`PreparedQuery`] measures one query against rows of vectors exactly, with the machine code
//! that `machine/` chooses at run time, and [`TopK`] keeps the closest.
//!
//! Error semantics: a search and a build never fail; only opening bytes as an index does ([`NotAnIndex`]). Callers
//! check lengths and reject NaN and infinities at the door; finite vectors, however large or small, always get a
//! finite distance.

mod build;
mod flat;
mod format;
mod graph;
// The module's name is that of its folder's subject.
#[allow(clippy::module_inception)]
mod index;
mod machine;
mod quantize;
mod query;
mod rows;
#[cfg(test)]
mod tests;
mod vectors;

pub use build::merge::MergePart;
pub use flat::Flat;
pub use format::{NotAnIndex, Placed, Section, Sections};
pub use index::{Builder, INDEX_DIMENSIONS_MAX, INDEX_ROWS_MAX, Index, IndexParams};
pub use machine::buffer::Bytes;
pub use machine::distance::{PreparedQuery, inverse_norm};
pub use machine::parallel::Threads;
pub use query::parts::{Found, Part, Rows, search_parts};
pub use query::search::{EF_MAX, Effort, Neighbour, Scratch, Search, ThreadScratch};
pub use query::topk::TopK;
pub use rows::RowSet;
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
