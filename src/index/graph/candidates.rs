//! Near rows for every row, by exact comparison within overlapping groups.
//!
//! Some rows, the pivots, are picked; every row joins the groups of the few pivots closest to it,
//! and is compared with all members of its groups. Comparing codes that lie one after the other
//! takes about a nanosecond each, a small part of what a walk through a graph takes for a row.

use super::Rows;
use crate::index::machine::integer::Line;
use crate::index::machine::parallel::Threads;
use crate::index::query::pool::{Key, Pool};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

/// Rows in a group, about.
const GROUP_ROWS: usize = 256;
/// Groups that a row joins.
const JOINED: usize = 4;
/// A larger group (heaps of equal rows make one) is cut into parts, each compared with itself.
const GROUP_ROWS_MAX: usize = 32 * GROUP_ROWS;
/// Most pivots that every row is compared with; with more rows than that allows, groups are larger.
const PIVOTS_MAX: usize = 16_384;
/// Rows that are worked on together.
const CHUNK: usize = 256;

/// The `kept` rows nearest to one; sorts only now and then.
#[derive(Debug)]
struct Nearest {
    keys: Vec<Key>,
    threshold: f32,
}

impl Nearest {
    fn new(kept: usize) -> Nearest {
        Nearest { keys: Vec::with_capacity(2 * kept), threshold: f32::INFINITY }
    }

    #[inline]
    fn push(&mut self, key: Key, kept: usize) {
        if self.keys.len() == 2 * kept {
            self.shrink(kept);
        }
        self.keys.push(key);
    }

    fn shrink(&mut self, kept: usize) {
        // The same row twice has the same key twice.
        self.keys.sort_unstable();
        self.keys.dedup();
        self.keys.truncate(kept);
        if let Some(last) = self.keys.last().filter(|_| self.keys.len() == kept) {
            // Equal scores are still let in, for their rows to decide.
            self.threshold = last.score().next_up();
        }
    }
}

/// For each of the rows in `range` the `kept` closest rows of it that its groups hold, closest first.
pub(super) fn near_rows(
    rows: Rows<'_>,
    range: Range<u32>,
    kept: usize,
    threads: Threads,
) -> Vec<Vec<u32>> {
    if range.is_empty() {
        return Vec::new();
    }
    let groups = form_groups(rows, range.clone(), threads);
    let nearest: Vec<Mutex<Nearest>> =
        range.clone().map(|_| Mutex::new(Nearest::new(kept + 1))).collect();
    threads.map(groups.len(), Vec::new, |scores, group| {
        let members = &groups[group];
        let lines: Vec<Line> = members.iter().flat_map(|&row| rows.line(row)).copied().collect();
        for some in members.chunks(4) {
            compare(rows, some, &lines, scores);
            let mut nearest: Vec<_> = some
                .iter()
                // In ascending order everywhere, so that no two threads wait for each other.
                .map(|&row| nearest[(row - range.start) as usize].lock().expect("nobody panicked"))
                .collect();
            offer(&mut nearest, some, scores, members, (kept + 1, rows.count() as u32));
        }
    });
    threads.map(
        range.len(),
        || (),
        |(), at| {
            let row = range.start + at as u32;
            let mut nearest = nearest[at].lock().expect("nobody panicked");
            nearest.shrink(kept + 1);
            let keys = std::mem::take(&mut nearest.keys).into_iter();
            let others = keys.map(|key| key.absolute(row, rows.count() as u32).row());
            others.filter(|&other| other != row).take(kept).collect()
        },
    )
}

/// Offers all members to the nearest of one to four rows.
fn offer(
    nearest: &mut [MutexGuard<'_, Nearest>],
    some: &[u32],
    scores: &[[f32; 4]],
    members: &[u32],
    (kept, count): (usize, u32),
) {
    let mut thresholds = [f32::NEG_INFINITY; 4];
    for (threshold, nearest) in thresholds.iter_mut().zip(&*nearest) {
        *threshold = nearest.threshold;
    }
    each_below(scores, &mut thresholds, |score, at, member| {
        let key = Key::relative(score, members[member], some[at], count);
        nearest[at].push(key, kept);
        nearest[at].threshold
    });
}

/// Calls `take` for each score that is below the threshold for its place in a row, with the score,
/// its place and the row's number; it returns the new threshold.
fn each_below(
    scores: &[[f32; 4]],
    thresholds: &mut [f32; 4],
    mut take: impl FnMut(f32, usize, usize) -> f32,
) {
    /// Rows that are looked at without a branch for each: next to none is below.
    const ROWS: usize = 4;
    for (block, scores) in scores.chunks(ROWS).enumerate() {
        let mut any = false;
        for scores in scores {
            for at in 0..4 {
                any |= scores[at] < thresholds[at];
            }
        }
        if !any {
            continue;
        }
        for (row, scores) in scores.iter().enumerate() {
            for at in 0..4 {
                if scores[at] < thresholds[at] {
                    thresholds[at] = take(scores[at], at, block * ROWS + row);
                }
            }
        }
    }
}

/// The scores of one to four rows against the codes in `lines`.
fn compare(rows: Rows<'_>, some: &[u32], lines: &[Line], scores: &mut Vec<[f32; 4]>) {
    let queries = std::array::from_fn(|at| rows.queries.of(some[at.min(some.len() - 1)]));
    rows.short.scores_of_four(queries, lines, scores);
}

/// The members of each group, in ascending order.
fn form_groups(rows: Rows<'_>, range: Range<u32>, threads: Threads) -> Vec<Vec<u32>> {
    let count = range.len();
    let pivots = (count * JOINED / GROUP_ROWS).clamp(1, PIVOTS_MAX);
    let joined = JOINED.min(pivots);
    // Rows are ordered by proximity: evenly spaced ones are spread over all of them.
    let pivot_row = |pivot: usize| range.start + (pivot * count / pivots) as u32;
    let lines = (0..pivots).flat_map(|pivot| rows.line(pivot_row(pivot)));
    let lines: Vec<Line> = lines.copied().collect();
    let state = || (Vec::new(), <[Pool; 4]>::default());
    let memberships = threads.map(count.div_ceil(CHUNK), state, |(scores, closest), chunk| {
        let first = range.start + (chunk * CHUNK) as u32;
        let numbers: Vec<u32> = (first..range.end.min(first + CHUNK as u32)).collect();
        let mut memberships = Vec::with_capacity(numbers.len() * joined);
        for some in numbers.chunks(4) {
            compare(rows, some, &lines, scores);
            closest.iter_mut().for_each(|closest| closest.reset(joined));
            each_below(scores, &mut [f32::INFINITY; 4], |score, at, pivot| {
                closest[at].insert(score, pivot as u32);
                closest[at].threshold()
            });
            let found = closest[..some.len()].iter().flat_map(Pool::keys);
            memberships.extend(found.map(|key| key.row()));
        }
        memberships
    });
    let mut members = vec![Vec::new(); pivots];
    for (at, &pivot) in memberships.iter().flatten().enumerate() {
        members[pivot as usize].push(range.start + (at / joined) as u32);
    }
    let parts = members.iter().flat_map(|members| members.chunks(GROUP_ROWS_MAX));
    parts.map(<[u32]>::to_vec).collect()
}
