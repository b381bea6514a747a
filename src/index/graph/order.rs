//! Rows in an order in which near rows are close together.

use super::Rows;

/// Rows per group whose order does not matter.
const GROUP: usize = 16;

/// Splits the rows in two by which of two of them they are closer to, in equal halves, and each half
/// again: returns the rows, group after group.
pub(in crate::index) fn by_proximity(rows: Rows<'_>) -> Vec<u32> {
    let count = rows.count();
    let mut order: Vec<u32> = (0..count as u32).collect();
    let mut keyed = Vec::new();
    let mut scores = [vec![0.0; count], vec![0.0; count]];
    split(rows, &mut order, &mut scores, &mut keyed, 1);
    order
}

fn split(
    rows: Rows<'_>,
    some: &mut [u32],
    scores: &mut [Vec<f32>; 2],
    keyed: &mut Vec<(f32, u32)>,
    seed: u64,
) {
    if some.len() <= GROUP {
        return;
    }
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let pick = |n: u64| ((mixed >> (n * 20)) as usize & 0xf_ffff) % some.len();
    // The farthest of the first row's and then of that one's: two ends of the group.
    let mut end = some[pick(0)];
    for scores in scores.iter_mut() {
        let query = rows.queries.of(end);
        rows.short.scores_of(query, rows.lines, some, &mut scores[..some.len()]);
        let far = scores[..some.len()].iter().enumerate().skip(pick(1) % 7).step_by(7);
        let far = far.max_by(|a, b| a.1.total_cmp(b.1));
        end = far.map_or(end, |(at, _)| some[at]);
    }
    keyed.clear();
    let [a, b] = scores;
    keyed.extend(a.iter().zip(b.iter()).zip(some.iter()).map(|((a, b), &row)| (a - b, row)));
    let half = some.len() / 2;
    keyed.select_nth_unstable_by(half, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    for (row, (_, keyed)) in some.iter_mut().zip(keyed.iter()) {
        *row = *keyed;
    }
    let (left, right) = some.split_at_mut(half);
    split(rows, left, scores, keyed, seed * 2 + 1);
    split(rows, right, scores, keyed, seed * 2 + 2);
}
