//! What a builder promises, and what a walk finds, on sets small enough to be checked by hand.

use super::*;
use crate::index::build::random::Random;
use crate::index::quantize::code::LINES_MAX;
use crate::index::quantize::codes::Codes;
use crate::index::quantize::space::Form;
use crate::index::vectors::Picked;
use crate::index::{Metric, RowSet};
use std::collections::BTreeSet;

const DIMS: usize = 6;
const PLAN: Plan = Plan { degree: 8, near: 12, walked: 12 };

/// Clusters, and some rows several times: what makes a graph fall apart.
fn codes(random: &mut Random, count: usize) -> Codes {
    let centres: Vec<Vec<f32>> = (0..4).map(|_| random.vector(DIMS, 10.0)).collect();
    let mut vectors = Vec::new();
    for row in 0..count {
        let noise = random.vector(DIMS, if row % 5 == 0 { 0.0 } else { 0.3 });
        vectors.extend(centres[row % 4].iter().zip(noise).map(|(centre, noise)| centre + noise));
    }
    let (mut codes, _) =
        Codes::fit((Metric::Euclidean, Form::Distances), DIMS, &vectors, LINES_MAX, Threads::One);
    let rows: Vec<u32> = (0..count as u32).collect();
    codes.append(Picked { vectors: &vectors, dims: DIMS, rows: &rows }, Threads::One);
    codes
}

fn build(codes: &Codes, threads: Threads) -> Graph {
    let queries = codes.row_queries(threads);
    let placed = |_, _: &mut [f32]| unreachable!("it builds from codes");
    let rows = codes.graph_rows(&queries);
    Bulk.build(&Input { rows, placed: &placed, dims: DIMS, plan: PLAN, threads })
}

fn check(graph: &Graph, count: usize) {
    assert_eq!(graph.rows(), count);
    for row in 0..count as u32 {
        let neighbours: Vec<u32> = graph.neighbours(row).collect();
        assert!(graph.places(row)[neighbours.len()..].iter().all(|&place| place == NONE));
        assert!(neighbours.iter().all(|&neighbour| neighbour != row && neighbour < count as u32));
        assert_eq!(neighbours.iter().collect::<BTreeSet<_>>().len(), neighbours.len());
    }
    let mut reached: BTreeSet<u32> = entries(count).into_iter().collect();
    let mut left: Vec<u32> = reached.iter().copied().collect();
    while let Some(row) = left.pop() {
        left.extend(graph.neighbours(row).filter(|&neighbour| reached.insert(neighbour)));
    }
    assert_eq!(reached.len(), count, "every row can be reached");
}

fn counts() -> &'static [usize] {
    if cfg!(miri) { &[1, 9] } else { &[0, 1, 2, 3, 17, 65, 300] }
}

#[test]
fn a_graph_keeps_the_promises_of_its_builder() {
    for &count in counts() {
        let codes = codes(&mut Random::new(count as u64), count);
        let graph = build(&codes, Threads::One);
        check(&graph, count);
        if !cfg!(miri) {
            assert_eq!(*graph.neighbours, *build(&codes, Threads::Pool).neighbours);
        }
    }
}

#[test]
fn rows_that_are_linked_later_keep_them_too() {
    for &count in counts() {
        for kept in [count / 2, count.saturating_sub(1)] {
            let random = &mut Random::new(count as u64);
            let all = codes(random, count);
            let queries = all.row_queries(Threads::One);
            let rows = all.graph_rows(&queries);
            let first = Rows { lines: &rows.lines[..kept * rows.short.lines()], ..rows };
            let placed = |_, _: &mut [f32]| unreachable!("it builds from codes");
            let (plan, threads) = (PLAN, Threads::One);
            let input = Input { rows: first, placed: &placed, dims: DIMS, plan, threads };
            let mut graph = Bulk.build(&input);
            graph.neighbours.to_mut().resize(count * PLAN.degree, NONE);
            link(&mut graph, rows, kept as u32..count as u32, true, PLAN, Threads::One);
            check(&graph, count);
        }
    }
}

#[test]
fn the_order_of_proximity_has_every_row_once() {
    for &count in counts() {
        let codes = codes(&mut Random::new(count as u64), count);
        let mut order = by_proximity(codes.coded(), Threads::One);
        order.sort_unstable();
        assert!(order.into_iter().eq(0..count as u32));
    }
}

/// A walk that keeps every row finds every row, in the order of their scores.
#[test]
fn the_widest_walk_finds_all() {
    let count = if cfg!(miri) { 9 } else { 300 };
    let codes = codes(&mut Random::new(1), count);
    let graph = build(&codes, Threads::One);
    let queries = codes.row_queries(Threads::One);
    let rows = codes.graph_rows(&queries);
    let (all, starts): (Vec<u32>, _) = ((0..count as u32).collect(), entries(count));
    let mut walk = Walk::default();
    for row in [0, count as u32 / 2] {
        let query = queries.of(row);
        let mut scores = vec![0.0; count];
        rows.short.scores_of(query, rows.lines, &all, &mut scores);
        let mut expected = all.clone();
        expected
            .sort_by(|&a, &b| scores[a as usize].total_cmp(&scores[b as usize]).then(a.cmp(&b)));
        walk.run(&graph, rows.coded(), query, &starts, count);
        assert!(walk.pool.keys().iter().map(|key| key.row()).eq(expected.iter().copied()));
        // What is kept of a narrow one is sorted too, and nothing is in twice.
        walk.run(&graph, rows.coded(), query, &starts, 7);
        let keys = walk.pool.keys();
        assert!(keys.len() == 7 && keys.is_sorted_by(|a, b| a < b));
        let allowed: RowSet = all.iter().copied().filter(|row| row % 3 == 1).collect();
        walk.run_within(&graph, rows.coded(), query, &starts, count, &allowed);
        let kept: BTreeSet<u32> = walk.pool.keys().iter().map(|key| key.row()).collect();
        assert_eq!(kept.len(), walk.pool.keys().len());
        assert!(kept.iter().all(|&row| allowed.contains(row)));
        let starting = allowed.iter().step_by((allowed.len() / 48).max(1)).take(2 * PLAN.degree);
        assert!(starting.into_iter().all(|row| kept.contains(&row)));
    }
}
