//! Rows in an order in which near rows are close together.

use super::Coded;
use crate::index::machine::parallel::Threads;
use crate::index::quantize::code::{Code, Short, ShortQuery};

/// Rows per group whose order does not matter.
const GROUP: usize = 16;
/// Halves of more rows than this are worth a thread each.
const FORKED: usize = 2_048;

/// Splits the rows in two by which of two of them they are closer to, in equal halves, and each half
/// again: returns the rows, group after group.
pub(in crate::index) fn by_proximity(coded: Coded<'_, Short>, threads: Threads) -> Vec<u32> {
    let count = coded.lines.len() / coded.code.lines();
    let mut order: Vec<u32> = (0..count as u32).collect();
    split(coded, threads, &mut order, 1, &mut Halves::new(coded.code));
    order
}

fn split(
    coded: Coded<'_, Short>,
    threads: Threads,
    some: &mut [u32],
    seed: u64,
    halves: &mut Halves,
) {
    if some.len() <= GROUP {
        return;
    }
    halves.part(coded, some, seed);
    let (left, right) = some.split_at_mut(some.len() / 2);
    if left.len() <= FORKED {
        split(coded, threads, left, seed * 2 + 1, halves);
        split(coded, threads, right, seed * 2 + 2, halves);
    } else {
        let halves = || Halves::new(coded.code);
        threads.join(
            || split(coded, threads, left, seed * 2 + 1, &mut halves()),
            || split(coded, threads, right, seed * 2 + 2, &mut halves()),
        );
    }
}

/// What parting rows in halves needs, kept from one time to the next.
struct Halves {
    query: ShortQuery,
    scores: [Vec<f32>; 2],
    keyed: Vec<(f32, u32)>,
}

impl Halves {
    fn new(code: &Short) -> Halves {
        Halves { query: code.query(), scores: [Vec::new(), Vec::new()], keyed: Vec::new() }
    }

    /// Puts the half of the rows that is closer to one end of them before the other half.
    fn part(&mut self, coded: Coded<'_, Short>, some: &mut [u32], seed: u64) {
        let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let pick = |n: u64| ((mixed >> (n * 20)) as usize & 0xf_ffff) % some.len();
        // The farthest of the first row's and then of that one's: two ends of the group.
        let mut end = some[pick(0)];
        for scores in &mut self.scores {
            scores.resize(some.len().max(scores.len()), 0.0);
            let scores = &mut scores[..some.len()];
            coded.code.prepare_row(coded.row(end), &mut self.query);
            coded.code.scores_of(self.query.view(), coded.lines, some, scores);
            let far = scores.iter().enumerate().skip(pick(1) % 7).step_by(7);
            let far = far.max_by(|a, b| a.1.total_cmp(b.1));
            end = far.map_or(end, |(at, _)| some[at]);
        }
        self.keyed.clear();
        let [a, b] = &self.scores;
        let scored = a.iter().zip(b).zip(some.iter());
        self.keyed.extend(scored.map(|((a, b), &row)| (a - b, row)));
        let by_key = |a: &(f32, u32), b: &(f32, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        self.keyed.select_nth_unstable_by(some.len() / 2, by_key);
        for (row, (_, keyed)) in some.iter_mut().zip(&self.keyed) {
            *row = *keyed;
        }
    }
}
