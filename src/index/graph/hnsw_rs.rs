//! A graph built by the crate `hnsw_rs`, for comparison with our own.
//!
//! HNSW (Malkov and Yashunin, TPAMI 2018) inserts row after row at full precision. What walks need of
//! its levels is the lowest, which becomes a [`Graph`].

use super::repair::connect;
use super::{Graph, GraphBuilder, Input};
use crate::index::machine::isa::Isa;
use crate::index::machine::kernels::Sum;
use hnsw_rs::prelude::{Distance, Hnsw};

/// Most levels that the crate can make.
const LEVELS: usize = 16;

/// Builds a graph by inserting rows one after the other.
///
/// The crate draws levels from a generator of fixed seed and has no other randomness, so with
/// [`Threads::One`](crate::index::Threads::One) the same rows give the same graph. With
/// [`Threads::Pool`](crate::index::Threads::Pool) rows are inserted concurrently, and the graph depends
/// on how the threads interleave. When done, the crate frees its memory on the threads of the rayon
/// pool in either case.
#[derive(Debug, Clone, Copy)]
pub(in crate::index) struct HnswRs;

impl GraphBuilder for HnswRs {
    fn build(&self, input: &Input<'_>) -> Graph {
        let Input { rows, placed, dims, plan, threads } = *input;
        let count = rows.count();
        let mut graph = Graph::empty(count, plan.degree);
        // The crate's iterator over points panics where there are none.
        if count == 0 {
            return graph;
        }
        let distance = SquaredL2(Isa::detect());
        let hnsw = Hnsw::new(plan.degree / 2, count, LEVELS, 3 * plan.walked, distance);
        let insert = |vector: &mut Vec<f32>, row: u32| {
            placed(row, vector);
            hnsw.insert_slice((vector, row as usize));
        };
        let order = scattered(count);
        // Rows inserted while there is no entry point yet would stay without neighbours.
        insert(&mut vec![0.0; dims], order[0]);
        threads.map(count - 1, || vec![0.0; dims], |vector, at| insert(vector, order[at + 1]));
        take_lowest(&hnsw, &mut graph);
        drop(hnsw);
        connect(&mut graph, rows.coded());
        graph
    }
}

/// All rows, far from each other in turn. They lie in an order of proximity, in which HNSW makes a
/// worse graph (measured with another such order, recall of 10: 0.83 against 0.89 on inner products
/// of norms that differ 100 times, 0.95 against 1.00 on copies of 60 rows).
fn scattered(count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    // An odd factor gives each row another key.
    order.sort_unstable_by_key(|row| row.wrapping_mul(0x9e37_79b1));
    order
}

/// Writes the neighbours of the lowest level, closest first.
fn take_lowest(hnsw: &Hnsw<'_, f32, SquaredL2>, graph: &mut Graph) {
    let degree = graph.degree;
    let places = graph.neighbours.to_mut();
    let mut closest: Vec<(f32, u32)> = Vec::new();
    for point in hnsw.get_point_indexation() {
        let row = point.get_origin_id();
        let levels = point.get_neighborhood_id();
        closest.clear();
        let others = levels.first().into_iter().flatten();
        let others = others.filter(|other| other.d_id != row);
        closest.extend(others.map(|other| (other.distance, other.d_id as u32)));
        closest.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        // Two threads can link the same two rows; equal pairs lie side by side.
        closest.dedup_by_key(|&mut (_, other)| other);
        let places = &mut places[row * degree..][..degree];
        for (place, &(_, other)) in places.iter_mut().zip(&closest) {
            *place = other;
        }
    }
}

/// Squared L2 distance, of which the crate only ever asks which of two is smaller. Our own loop needs
/// none of the crate's features for SIMD.
struct SquaredL2(Isa);

impl Distance<f32> for SquaredL2 {
    fn eval(&self, a: &[f32], b: &[f32]) -> f32 {
        let mut out = [0.0];
        self.0.sums(Sum::SquaredDifferences, a, b, &mut out);
        out[0]
    }
}
