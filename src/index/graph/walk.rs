//! From the entries towards the query, always on from the closest row not yet looked at.

use super::Graph;
use crate::index::RowSet;
use crate::index::machine::integer::Line;
use crate::index::quantize::code::{Code, RowQuery, Short};
use crate::index::query::pool::Pool;

/// Rows that one step of a walk within allowed rows may see, for each place for a neighbour.
const SEEN_PER_DEGREE: usize = 2;
/// Allowed rows, spread over all of them, that such a walk starts from besides the entries: where
/// what is allowed lies far from the query, nothing near an entry is.
const OWN_STARTS: usize = 48;

/// Rows with their codes.
#[derive(Debug)]
pub(in crate::index) struct Coded<'a, C> {
    pub(in crate::index) code: &'a C,
    pub(in crate::index) lines: &'a [Line],
}

impl<C> Clone for Coded<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for Coded<'_, C> {}

impl<'a, C: Code> Coded<'a, C> {
    /// The code of a row.
    #[inline]
    pub(in crate::index) fn row(&self, row: u32) -> &'a [Line] {
        let lines = self.code.lines();
        &self.lines[row as usize * lines..][..lines]
    }
}

/// What a walk needs besides the index; reused from one to the next.
#[derive(Debug, Clone, Default)]
pub(in crate::index) struct Walk {
    pub(in crate::index) pool: Pool,
    visited: Vec<u64>,
    rows: Vec<u32>,
    scores: Vec<f32>,
}

impl Walk {
    fn start(&mut self, graph: &Graph, ef: usize) {
        self.visited.resize(graph.rows().div_ceil(64), 0);
        self.visited.fill(0);
        self.pool.reset(ef);
        self.rows.resize(graph.degree.max(self.rows.len()), 0);
        self.scores.resize(graph.degree.max(self.scores.len()), 0.0);
    }

    /// Fills the pool with the `ef` closest rows to be found from `entries`.
    pub(in crate::index) fn run(
        &mut self,
        graph: &Graph,
        coded: Coded<'_, Short>,
        query: RowQuery<'_>,
        entries: &[u32],
        ef: usize,
    ) {
        self.start(graph, ef);
        for entries in entries.chunks(self.rows.len()) {
            let mut count = 0;
            for &row in entries {
                self.rows[count] = row;
                count += usize::from(visit(&mut self.visited, row));
            }
            self.offer(graph, coded, query, count);
        }
        while let Some(key) = self.pool.take_next() {
            // While this row's neighbours are measured, those of the next one are fetched.
            if let Some(next) = self.pool.peek_next() {
                prefetch(graph.places(next.row()));
            }
            let count = gather(graph, key.row(), &mut self.visited, &mut self.rows);
            for &row in &self.rows[..count] {
                prefetch(coded.row(row));
            }
            self.offer(graph, coded, query, count);
        }
    }

    /// Fills the pool with the `ef` closest rows of `allowed` to be found from `entries` and from
    /// some of its own rows.
    ///
    /// The walk leads over allowed rows only, but sees past the others: where a neighbour is not
    /// allowed, its neighbours stand in for it (ACORN, Patel et al., SIGMOD 2024).
    pub(in crate::index) fn run_within(
        &mut self,
        graph: &Graph,
        coded: Coded<'_, Short>,
        query: RowQuery<'_>,
        entries: &[u32],
        ef: usize,
        allowed: &RowSet,
    ) {
        let most = SEEN_PER_DEGREE * graph.degree;
        self.start(graph, ef);
        self.rows.resize(most.max(self.rows.len()), 0);
        self.scores.resize(most.max(self.scores.len()), 0.0);
        let step = (allowed.len() / OWN_STARTS).max(1);
        let own = allowed.iter().step_by(step).take(OWN_STARTS);
        let mut count = 0;
        for row in own.take_while(|&row| (row as usize) < graph.rows()).take(most) {
            self.rows[count] = row;
            count += usize::from(visit(&mut self.visited, row));
        }
        self.offer(graph, coded, query, count);
        for &entry in entries {
            let count = self.gather_within(graph, entry, allowed);
            self.offer(graph, coded, query, count);
        }
        while let Some(key) = self.pool.take_next() {
            let count = self.gather_within(graph, key.row(), allowed);
            for &row in &self.rows[..count] {
                prefetch(coded.row(row));
            }
            self.offer(graph, coded, query, count);
        }
    }

    /// Writes the allowed rows not yet visited among the neighbours of `row`, and the neighbours of
    /// those that are not allowed, to the front of `self.rows`; returns how many there are.
    fn gather_within(&mut self, graph: &Graph, row: u32, allowed: &RowSet) -> usize {
        let most = SEEN_PER_DEGREE * graph.degree;
        let mut count = 0;
        for neighbour in graph.neighbours(row) {
            prefetch(if allowed.contains(neighbour) { &[] } else { graph.places(neighbour) });
        }
        for neighbour in graph.neighbours(row) {
            if count == most {
                break;
            }
            if !visit(&mut self.visited, neighbour) {
                continue;
            }
            if allowed.contains(neighbour) {
                self.rows[count] = neighbour;
                count += 1;
                continue;
            }
            for second in graph.neighbours(neighbour) {
                if count < most && allowed.contains(second) && visit(&mut self.visited, second) {
                    self.rows[count] = second;
                    count += 1;
                }
            }
        }
        count
    }

    #[inline]
    fn offer(&mut self, graph: &Graph, coded: Coded<'_, Short>, query: RowQuery<'_>, count: usize) {
        let (rows, scores) = (&self.rows[..count], &mut self.scores[..count]);
        coded.code.scores_of(query, coded.lines, rows, scores);
        let mut threshold = self.pool.threshold();
        for (&row, &score) in rows.iter().zip(&*scores) {
            if score < threshold {
                if self.pool.insert(score, row) {
                    prefetch(graph.places(row));
                }
                threshold = self.pool.threshold();
            }
        }
    }
}

/// Writes those neighbours of `row` that were not visited before to the front of `rows`; returns how
/// many there are.
#[inline]
fn gather(graph: &Graph, row: u32, visited: &mut [u64], rows: &mut [u32]) -> usize {
    let count_all = graph.rows() as u32;
    let neighbours = graph.places(row);
    let rows = &mut rows[..neighbours.len()];
    let mut count = 0;
    for &row in neighbours {
        // Ends at `NONE`, and at what a damaged file may hold.
        if row >= count_all {
            break;
        }
        rows[count] = row;
        count += usize::from(visit(visited, row));
    }
    count
}

/// Whether this is the first visit.
#[inline]
fn visit(visited: &mut [u64], row: u32) -> bool {
    let word = &mut visited[row as usize / 64];
    let bit = 1 << (row % 64);
    let first = *word & bit == 0;
    *word |= bit;
    first
}

/// Asks for the cache lines of `items`, which are about to be read.
#[inline]
#[allow(unsafe_code)]
pub(in crate::index) fn prefetch<T>(items: &[T]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    for offset in (0..size_of_val(items)).step_by(Line::BYTES) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the address lies within `items`; a prefetch reads nothing that the program sees.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(items.as_ptr().cast::<i8>().add(offset)) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = items;
}
