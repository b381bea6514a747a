//! A graph from scratch, and more rows for a graph.

use super::candidates::near_rows;
use super::prune::Pruner;
use super::repair::connect;
use super::walk::Walk;
use super::{Graph, GraphBuilder, Input, NONE, Rows, entries};
use crate::index::machine::parallel::Threads;
use std::ops::Range;

/// A chosen neighbour may be this much farther from a candidate than the row is (measured: from 1.1
/// to 1.3 makes no difference on three sets).
pub(super) const ALPHA: f32 = 1.2;
/// Rows that are worked on together.
pub(super) const CHUNK: usize = 256;

/// How a graph is built.
#[derive(Debug, Clone, Copy)]
pub(in crate::index) struct Plan {
    /// Neighbours of a row, at most.
    pub(in crate::index) degree: usize,
    /// Candidates for each row from its groups.
    pub(in crate::index) near: usize,
    /// And from its walk.
    pub(in crate::index) walked: usize,
}

/// Builds a graph in bulk steps; the same on any number of threads.
#[derive(Debug, Clone, Copy)]
pub(in crate::index) struct Bulk;

impl GraphBuilder for Bulk {
    fn build(&self, input: &Input<'_>) -> Graph {
        let Input { rows, plan, threads, .. } = *input;
        let mut graph = Graph::empty(rows.count(), plan.degree);
        let all = 0..rows.count() as u32;
        let near = near_rows(rows, all.clone(), plan.near, threads);
        choose(&mut graph, rows, all.clone(), threads, |row| near[row as usize].iter().copied());
        drop(near);
        link_back(&mut graph, rows, all.clone(), threads);
        // A row's walk starts at itself: what counts is what else is near it.
        let found = walks(&graph, rows, all.clone(), threads, plan.walked, |row| vec![row]);
        let before = graph.clone();
        choose(&mut graph, rows, all.clone(), threads, |row| {
            before.neighbours(row).chain(found[row as usize].iter().copied())
        });
        drop((before, found));
        link_back(&mut graph, rows, all, threads);
        connect(&mut graph, rows.coded());
        graph
    }
}

/// Links the rows in `range`, the last ones of `graph`, with those before them. They may have
/// neighbours among themselves; where they have none, `find_near` says to look for some.
pub(in crate::index) fn link(
    graph: &mut Graph,
    rows: Rows<'_>,
    range: Range<u32>,
    find_near: bool,
    plan: Plan,
    threads: Threads,
) {
    let starts: Vec<u32> = entries(range.start as usize);
    // Their other neighbours are known, or come from their groups.
    let width = plan.walked * 2 / 5;
    let found = walks(graph, rows, range.clone(), threads, width, |row| {
        nearest_entries(rows, &starts, row)
    });
    let near = if find_near {
        near_rows(rows, range.clone(), plan.near, threads)
    } else {
        vec![Vec::new(); range.len()]
    };
    let before = graph.clone();
    choose(graph, rows, range.clone(), threads, |row| {
        let at = (row - range.start) as usize;
        let others = found[at].iter().chain(&near[at]).copied();
        before.neighbours(row).chain(others)
    });
    drop((before, found, near));
    link_back(graph, rows, range, threads);
    connect(graph, rows.coded());
}

/// The few of `entries` closest to a row.
fn nearest_entries(rows: Rows<'_>, entries: &[u32], row: u32) -> Vec<u32> {
    let mut scores = vec![0.0; entries.len()];
    rows.short.scores_of(rows.queries.of(row), rows.lines, entries, &mut scores);
    let closest = scores.iter().zip(entries).min_by(|a, b| a.0.total_cmp(b.0));
    closest.map(|(_, &entry)| entry).into_iter().collect()
}

/// What walks towards each row of `range` find.
fn walks(
    graph: &Graph,
    rows: Rows<'_>,
    range: Range<u32>,
    threads: Threads,
    width: usize,
    starts: impl Fn(u32) -> Vec<u32> + Sync + Send,
) -> Vec<Vec<u32>> {
    threads.map(range.len(), Walk::default, |walk, at| {
        let row = range.start + at as u32;
        walk.run(graph, rows.coded(), rows.queries.of(row), &starts(row), width);
        walk.pool.keys().iter().map(|key| key.row()).collect()
    })
}

/// Chooses the neighbours of the rows in `range` anew.
fn choose<I: Iterator<Item = u32>>(
    graph: &mut Graph,
    rows: Rows<'_>,
    range: Range<u32>,
    threads: Threads,
    candidates: impl Fn(u32) -> I + Sync,
) {
    let degree = graph.degree;
    let places = &mut graph.neighbours.to_mut()[range.start as usize * degree..];
    threads.chunks_mut(&mut places[..range.len() * degree], CHUNK * degree, |chunk, places| {
        let mut pruner = Pruner::new(rows, degree, ALPHA);
        for (at, places) in places.chunks_exact_mut(degree).enumerate() {
            let row = range.start + (chunk * CHUNK + at) as u32;
            pruner.choose(row, candidates(row));
            write(places, &pruner.chosen);
        }
    });
}

/// Fills a row's places.
pub(super) fn write(places: &mut [u32], neighbours: &[u32]) {
    places[..neighbours.len()].copy_from_slice(neighbours);
    places[neighbours.len()..].fill(NONE);
}

/// Links the neighbours of the rows in `range` back to them, as far as there is room or the way
/// back is worth more.
fn link_back(graph: &mut Graph, rows: Rows<'_>, range: Range<u32>, threads: Threads) {
    let sources = Sources::of(graph, range);
    let degree = graph.degree;
    threads.chunks_mut(graph.neighbours.to_mut(), CHUNK * degree, |chunk, places| {
        let mut pruner = Pruner::new(rows, degree, ALPHA);
        let mut all = Vec::new();
        for (at, places) in places.chunks_exact_mut(degree).enumerate() {
            let row = (chunk * CHUNK + at) as u32;
            let sources = sources.of_row(row);
            if sources.is_empty() {
                continue;
            }
            all.clear();
            all.extend(places.iter().copied().take_while(|&neighbour| neighbour != NONE));
            let known = all.len();
            let new = sources.iter().filter(|source| !places[..known].contains(source));
            all.extend(new);
            if all.len() > degree {
                pruner.choose(row, all.iter().copied());
                write(places, &pruner.chosen);
            } else {
                write(places, &all);
            }
        }
    });
}

/// For each row the rows that have it as a neighbour.
struct Sources {
    starts: Vec<usize>,
    sources: Vec<u32>,
}

impl Sources {
    /// As far as they lie in `range`.
    fn of(graph: &Graph, range: Range<u32>) -> Sources {
        let rows = graph.rows();
        let mut starts = vec![0usize; rows + 1];
        for to in range.clone().flat_map(|row| graph.neighbours(row)) {
            starts[to as usize + 1] += 1;
        }
        for row in 0..rows {
            starts[row + 1] += starts[row];
        }
        let mut next = starts.clone();
        let mut sources = vec![0u32; starts[rows]];
        for row in range {
            for to in graph.neighbours(row) {
                sources[next[to as usize]] = row;
                next[to as usize] += 1;
            }
        }
        Sources { starts, sources }
    }

    fn of_row(&self, row: u32) -> &[u32] {
        &self.sources[self.starts[row as usize]..self.starts[row as usize + 1]]
    }
}
