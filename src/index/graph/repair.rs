//! Every row can be reached from an entry.

use super::walk::{Coded, Walk};
use super::{Graph, NONE, entries};
use crate::index::quantize::code::{Code, Short};

/// How many rows are looked at for one that can take a link.
const WIDTH: usize = 32;

/// Links rows that no walk could reach to the closest row that one can.
///
/// The ways by which rows were reached are a tree, and no link that belongs to it is given up: so
/// what can be reached stays within reach. There is always a row to link to: a tree over n rows has
/// fewer than n links, and rows have several places each.
pub(in crate::index) fn connect(graph: &mut Graph, coded: Coded<'_, Short>) {
    let starts = entries(graph.rows());
    let (mut walk, mut query) = (Walk::default(), coded.code.query());
    let mut from = vec![NONE; graph.rows()];
    for &start in &starts {
        reach(graph, &mut from, start, start);
    }
    for row in 0..graph.rows() as u32 {
        if from[row as usize] != NONE {
            continue;
        }
        coded.code.prepare_row(coded.row(row), &mut query);
        walk.run(graph, coded, query.view(), &starts, WIDTH);
        let near = walk.pool.keys().iter().map(|key| key.row());
        let spare = near.filter_map(|host| Some((host, spare_place(graph, &from, host)?)));
        let is_taken =
            |&(host, place): &(u32, usize)| (graph.places(host)[place] as usize) < graph.rows();
        let others = || {
            let mut reached = (0..graph.rows() as u32).filter(|&host| from[host as usize] != NONE);
            reached.find_map(|host| Some((host, spare_place(graph, &from, host)?)))
        };
        let Some((host, place)) = spare.min_by_key(is_taken).or_else(others) else { return };
        let degree = graph.degree;
        graph.neighbours.to_mut()[host as usize * degree + place] = row;
        reach(graph, &mut from, host, row);
    }
}

/// The place of `host` for another neighbour: the first free one, or that of the last neighbour that
/// is not reached by this link.
fn spare_place(graph: &Graph, from: &[u32], host: u32) -> Option<usize> {
    let places = graph.places(host);
    let free = places.iter().position(|&neighbour| neighbour as usize >= from.len());
    free.or_else(|| places.iter().rposition(|&neighbour| from[neighbour as usize] != host))
}

/// Notes of all rows not reached before that lead on from `row` where they are reached from; of `row`
/// itself, that it is from `host`.
fn reach(graph: &Graph, from: &mut [u32], host: u32, row: u32) {
    if from[row as usize] != NONE {
        return;
    }
    from[row as usize] = host;
    let mut open = vec![row];
    while let Some(row) = open.pop() {
        for next in graph.neighbours(row) {
            if from[next as usize] == NONE {
                from[next as usize] = row;
                open.push(next);
            }
        }
    }
}
