//! Which rows are near which?
//!
//! A flat graph of fixed degree: for each row a fixed number of neighbours in one array. It has no
//! levels; a walk starts at those of a few evenly spread rows, the entries, that are closest to the
//! query. (Measured: the upper levels of HNSW gain nothing where a start costs a microsecond.)
//!
//! The rows lie in an order of proximity (`order.rs`). A graph is built in bulk ([`Bulk`]): near
//! rows are found by comparing groups of codes with themselves (`candidates.rs`), neighbours are
//! chosen among them in different directions (`prune.rs`), linked back, and refined by walks
//! (`walk.rs`) over the graph so far. Rows are added to a graph, and graphs are merged, by
//! [`link()`]; `take.rs` says what is kept of a graph when some of its rows are left out. Every step reads what the
//! step before it left and writes each row once, so the outcome does not depend on the number of threads.
//!
//! With the feature `hnsw_rs` that crate builds instead where it is asked for, for comparison.

mod build;
mod candidates;
#[cfg(feature = "hnsw_rs")]
mod hnsw_rs;
mod order;
mod prune;
mod repair;
mod take;
mod walk;

#[cfg(feature = "hnsw_rs")]
pub(in crate::index) use self::hnsw_rs::HnswRs;
pub(in crate::index) use build::{Bulk, Plan, link};
pub(in crate::index) use order::by_proximity;
pub(in crate::index) use repair::connect;
pub(in crate::index) use take::{take_all, take_some};
pub(in crate::index) use walk::{Coded, Walk, prefetch};

use crate::index::RowSet;
use crate::index::machine::buffer::Buffer;
use crate::index::machine::integer::Line;
use crate::index::machine::parallel::Threads;
use crate::index::quantize::code::{Code, RowQueries, Short};

/// Fills up a row of neighbours.
pub(in crate::index) const NONE: u32 = u32::MAX;
/// Most rows that a walk may start from.
const ENTRIES_MAX: usize = 1_024;

/// The rows of a graph, as codes and as queries.
#[derive(Debug, Clone, Copy)]
pub(in crate::index) struct Rows<'a> {
    pub(in crate::index) short: &'a Short,
    pub(in crate::index) lines: &'a [Line],
    pub(in crate::index) queries: &'a RowQueries,
}

impl<'a> Rows<'a> {
    pub(in crate::index) fn count(&self) -> usize {
        self.lines.len() / self.short.lines()
    }

    fn line(&self, row: u32) -> &'a [Line] {
        self.coded().row(row)
    }

    pub(in crate::index) fn coded(&self) -> Coded<'a, Short> {
        Coded { code: self.short, lines: self.lines }
    }
}

/// What a graph is built from: rows that lie in an order of proximity.
pub(in crate::index) struct Input<'a> {
    pub(in crate::index) rows: Rows<'a>,
    /// Writes the full-precision vector of a row, placed in the space of the graph, into a slice of
    /// `dims` values.
    #[cfg_attr(
        not(feature = "hnsw_rs"),
        expect(dead_code, reason = "our own builder works on codes")
    )]
    pub(in crate::index) placed: &'a (dyn Fn(u32, &mut [f32]) + Sync),
    #[cfg_attr(
        not(feature = "hnsw_rs"),
        expect(dead_code, reason = "our own builder works on codes")
    )]
    pub(in crate::index) dims: usize,
    pub(in crate::index) plan: Plan,
    pub(in crate::index) threads: Threads,
}

/// A way to build a graph.
///
/// What it returns has a place for each of `rows`, no row is its own neighbour or has one twice, and
/// every row can be reached from one of the [`entries()`]. With [`Threads::One`] the same input gives
/// the same graph.
pub(in crate::index) trait GraphBuilder {
    fn build(&self, input: &Input<'_>) -> Graph;
}

/// For each row its neighbours.
#[derive(Debug, Clone)]
pub(in crate::index) struct Graph {
    pub(in crate::index) degree: usize,
    /// `degree` for each row, filled up with [`NONE`].
    pub(in crate::index) neighbours: Buffer<u32>,
}

impl Graph {
    /// A graph without an edge.
    pub(in crate::index) fn empty(rows: usize, degree: usize) -> Graph {
        Graph { degree, neighbours: vec![NONE; rows * degree].into() }
    }

    /// All places for neighbours of a row.
    #[inline]
    pub(in crate::index) fn places(&self, row: u32) -> &[u32] {
        &self.neighbours[row as usize * self.degree..][..self.degree]
    }

    /// The neighbours of a row.
    pub(in crate::index) fn neighbours(&self, row: u32) -> impl Iterator<Item = u32> + '_ {
        let rows = self.rows();
        // Also ends at what a damaged file may hold.
        self.places(row).iter().copied().take_while(move |&neighbour| (neighbour as usize) < rows)
    }

    pub(in crate::index) fn rows(&self) -> usize {
        self.neighbours.len() / self.degree
    }

    /// The same with ways to these rows only.
    pub(in crate::index) fn among(&self, rows: &RowSet) -> Graph {
        let mut graph = Graph::empty(self.rows(), self.degree);
        let all_places = graph.neighbours.to_mut().chunks_exact_mut(self.degree);
        for (row, places) in (0..).zip(all_places) {
            let left = self.neighbours(row).filter(|&neighbour| rows.contains(neighbour));
            places.iter_mut().zip(left).for_each(|(place, neighbour)| *place = neighbour);
        }
        graph
    }

    /// Puts the rows into another order: `order` says which row comes first, second, and so on.
    pub(in crate::index) fn reorder(&mut self, order: &[u32], threads: Threads) {
        /// Rows that are moved together.
        const CHUNK: usize = 256;
        let mut place = vec![0u32; order.len()];
        for (at, &row) in order.iter().enumerate() {
            place[row as usize] = at as u32;
        }
        let mut ordered = vec![NONE; self.neighbours.len()];
        threads.chunks_mut(&mut ordered, CHUNK * self.degree, |chunk, ordered| {
            let rows = order[chunk * CHUNK..].iter();
            for (places, &row) in ordered.chunks_exact_mut(self.degree).zip(rows) {
                for (into, neighbour) in places.iter_mut().zip(self.neighbours(row)) {
                    *into = place[neighbour as usize];
                }
            }
        });
        self.neighbours = ordered.into();
    }
}

/// The rows that walks start from, of `rows` in an order of proximity.
pub(in crate::index) fn entries(rows: usize) -> Vec<u32> {
    let count = rows.isqrt().min(ENTRIES_MAX);
    (0..count).map(|at| (at * rows / count) as u32).collect()
}

#[cfg(test)]
mod tests;
