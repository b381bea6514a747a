//! The rows of another graph, or some of them, with their neighbours.
//!
//! Where a row's neighbours are left out, the way on led over them, so their own neighbours are
//! candidates for their places (Singh et al., "FreshDiskANN", 2021), and are chosen by the rule by which
//! all neighbours are.

use super::build::{ALPHA, CHUNK, write};
use super::prune::Pruner;
use super::{Graph, NONE, Rows};
use crate::index::machine::parallel::Threads;

/// Adds all rows of `part` to `graph`; of more neighbours than there are places the closest are kept.
pub(in crate::index) fn take_all(graph: &mut Graph, part: &Graph) {
    let (degree, first) = (graph.degree, graph.rows() as u32);
    let neighbours = graph.neighbours.to_mut();
    for row in 0..part.rows() as u32 {
        let start = neighbours.len();
        neighbours.extend(part.neighbours(row).take(degree).map(|neighbour| neighbour + first));
        neighbours.resize(start + degree, NONE);
    }
}

/// Adds the `kept` rows of `part` to `graph`, in ascending order. `rows` are all those that the graph
/// is to have, or more. A row may be left without a way to it: see [`connect`](super::connect).
pub(in crate::index) fn take_some(
    graph: &mut Graph,
    rows: Rows<'_>,
    part: &Graph,
    kept: &[u32],
    threads: Threads,
) {
    let (degree, first) = (graph.degree, graph.rows());
    let mut place = vec![NONE; part.rows()];
    for (at, &row) in kept.iter().enumerate() {
        place[row as usize] = (first + at) as u32;
    }
    let neighbours = graph.neighbours.to_mut();
    neighbours.resize((first + kept.len()) * degree, NONE);
    let new = &mut neighbours[first * degree..];
    threads.chunks_mut(new, CHUNK * degree, |chunk, places| {
        let mut pruner = Pruner::new(rows, degree, ALPHA);
        let mut candidates = Vec::new();
        for (at, places) in places.chunks_exact_mut(degree).enumerate() {
            let at = chunk * CHUNK + at;
            let lost = gather(part, kept[at], &place, &mut candidates);
            if lost {
                pruner.choose((first + at) as u32, candidates.iter().copied());
                write(places, &pruner.chosen);
            } else {
                candidates.truncate(degree);
                write(places, &candidates);
            }
        }
    });
}

/// The neighbours of `row` that are kept and those of the others; says whether there are others.
fn gather(part: &Graph, row: u32, place: &[u32], candidates: &mut Vec<u32>) -> bool {
    candidates.clear();
    let mut lost = false;
    for neighbour in part.neighbours(row) {
        match place[neighbour as usize] {
            NONE => {
                lost = true;
                let beyond = part.neighbours(neighbour).map(|second| place[second as usize]);
                candidates.extend(beyond.filter(|&second| second != NONE));
            }
            kept => candidates.push(kept),
        }
    }
    lost
}
