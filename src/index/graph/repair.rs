//! Every row can be reached from an entry.

use super::walk::Walk;
use super::{Graph, NONE, Rows, entries};

/// Each round links what the one before left out; a link may take the place of one that others
/// needed, so there is more than one.
const ROUNDS: usize = 4;
/// How many rows are looked at for one that can take a link; four times as many in each later round.
const WIDTH: usize = 32;

/// Links rows that no walk could reach to the closest row that one can.
pub(super) fn connect(graph: &mut Graph, rows: Rows<'_>) {
    let starts = entries(graph.rows());
    let mut walk = Walk::default();
    // Rows that gave up a neighbour for a link keep that link, or the same few would trade places in
    // every round.
    let mut used = vec![false; graph.rows()];
    for round in 0..ROUNDS {
        let mut reached = vec![false; graph.rows()];
        reach(graph, &mut reached, &starts);
        let lost: Vec<u32> =
            (0..graph.rows() as u32).filter(|&row| !reached[row as usize]).collect();
        if lost.is_empty() {
            return;
        }
        for row in lost {
            if reached[row as usize] {
                continue;
            }
            walk.run(graph, rows.coded(), rows.queries.of(row), &starts, WIDTH << (2 * round));
            let found = walk.pool.keys().iter().map(|key| key.row());
            let host = found.filter(|&host| host != row && !used[host as usize]);
            let Some(host) = host.min_by_key(|&host| graph.places(host).last() != Some(&NONE))
            else {
                continue;
            };
            used[host as usize] = graph.places(host).last() != Some(&NONE);
            adopt(graph, host, row);
            reach(graph, &mut reached, &[row]);
        }
    }
}

/// Gives `host` the neighbour `row`, in the last place where there is none free.
fn adopt(graph: &mut Graph, host: u32, row: u32) {
    let degree = graph.degree;
    let free = graph.neighbours(host).count().min(degree - 1);
    graph.neighbours.to_mut()[host as usize * degree + free] = row;
}

/// Marks what can be reached from `starts`.
fn reach(graph: &Graph, reached: &mut [bool], starts: &[u32]) {
    let mut open: Vec<u32> = Vec::new();
    for &start in starts {
        if !std::mem::replace(&mut reached[start as usize], true) {
            open.push(start);
        }
    }
    while let Some(row) = open.pop() {
        for next in graph.neighbours(row) {
            if !std::mem::replace(&mut reached[next as usize], true) {
                open.push(next);
            }
        }
    }
}
