//! One search over rows that are in several parts, each with codes of its own.
//!
//! A part holds about its share of the results, and they need be found among the best of all rows, not
//! of the part: so where a width is given for all rows, walks are narrower the smaller a part's share is. Parts that are
//! scanned are scanned as if they were one. What was found is measured
//! exactly at the end and together, as many rows as if there were one part. Where a part turns out to
//! hold far more of the results than its share, as one does whose rows are all alike, it is looked
//! through once more as if it were alone.

use crate::index::flat::Flat;
use crate::index::quantize::codes::Codes;
use crate::index::query::measure::measured_first;
use crate::index::query::scan::{Kept, Run};
use crate::index::query::search::{EF_MAX, SCANNED_PER_KEPT};
use crate::index::{Effort, Index, RowSet, Scratch, ThreadScratch, Threads, Vectors};
use std::cmp::Ordering;

/// A walk over a share of all rows is as wide as one over all of them times this power of the share
/// (measured: 4 and 16 equal parts of three sets).
const NARROWING: f32 = 0.5;
/// Rows that are scanned as one, at most: every one of them has a score in memory.
const TOGETHER_ROWS_MAX: usize = 1 << 22;
/// A part holds more results than its share, by chance, by no more standard deviations than this, and
/// one more.
const DEVIATIONS: f32 = 3.0;

/// Rows in an index or without one.
#[derive(Debug, Clone, Copy)]
pub enum Rows<'a> {
    /// In an index.
    Index(&'a Index),
    /// Without a graph.
    Flat(&'a Flat),
}

/// Some of the rows that are searched.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// The rows.
    pub rows: Rows<'a>,
    /// Only these of them are results.
    pub allowed: Option<&'a RowSet>,
    /// Their full-precision vectors.
    pub vectors: &'a dyn Vectors,
}

/// A result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// The part that holds it.
    pub part: u32,
    /// The row of that part.
    pub row: u32,
    /// Its distance from the query; lower is closer.
    pub distance: f32,
}

impl Found {
    /// Closest first.
    pub(in crate::index) fn order(&self, other: &Found) -> Ordering {
        let rows = || (self.part, self.row).cmp(&(other.part, other.row));
        self.distance.total_cmp(&other.distance).then_with(rows)
    }
}

/// Where a row that was found can be measured.
pub(in crate::index) trait Source {
    fn codes(&self) -> &Codes;
    fn vectors(&self) -> &dyn Vectors;
}

impl Source for (&Codes, &dyn Vectors) {
    fn codes(&self) -> &Codes {
        self.0
    }

    fn vectors(&self) -> &dyn Vectors {
        self.1
    }
}

impl Source for Part<'_> {
    fn codes(&self) -> &Codes {
        match self.rows {
            Rows::Index(index) => &index.codes,
            Rows::Flat(flat) => flat.codes(),
        }
    }

    fn vectors(&self) -> &dyn Vectors {
        self.vectors
    }
}

impl Part<'_> {
    /// Rows that may be results.
    fn len(&self) -> usize {
        let rows = self.codes().rows();
        self.allowed.map_or(rows, |allowed| allowed.len().min(rows))
    }

    /// How wide a walk is for its share of all rows.
    fn ef(&self, index: &Index, aim: Aim, share: f32) -> usize {
        if index.is_by_length() {
            // How far it reads follows from what was found, and where it lies.
            return index.ef(aim.effort, aim.k);
        }
        let ef = index.ef(aim.effort, aim.k);
        let ef = match aim.effort {
            Effort::Ef(_) => (ef as f32 * share.powf(NARROWING)).ceil() as usize,
            // It was measured over the part alone, and the fewer results of the part count, the surer they are found. That
            // makes up for queries that are less like the rows than the rows are like each other.
            Effort::Default | Effort::Recall(_) => ef,
        };
        ef.max(most(aim.k, share))
    }

    /// How many rows of the best a scan keeps, where all rows are to be scanned by codes that tell.
    fn scanned(&self, aim: Aim, share: f32) -> Option<usize> {
        match (self.rows, self.allowed) {
            (Rows::Flat(flat), _) if flat.tells() && !self.run(0).is_picked() => {
                Some(flat.kept(aim.k))
            }
            (Rows::Index(index), None) if !index.is_by_length() => {
                let ef = self.ef(index, aim, share);
                let few = index.len() <= ef.saturating_mul(SCANNED_PER_KEPT);
                few.then(|| index.ef(aim.effort, aim.k))
            }
            _ => None,
        }
    }

    /// Adds to what was found what it may hold of the best, it being `share` of all rows.
    fn look(&self, number: u32, aim: Aim, share: f32, bound: f32, scratch: &mut Scratch) {
        let (run, k) = (self.run(number), most(aim.k, share));
        match self.rows {
            Rows::Flat(flat) => scratch.scan(run, Kept { ef: flat.kept(k), k, bound }),
            Rows::Index(index) => {
                let kept = Kept { ef: self.ef(index, aim, share), k, bound };
                index.look(run, kept, scratch);
            }
        }
    }

    /// Its rows, to be named by the number of the part.
    fn run(&self, number: u32) -> Run<'_> {
        Run { part: number, codes: self.codes(), allowed: self.allowed }
    }
}

/// How many results are wanted, and how hard to look.
#[derive(Clone, Copy)]
struct Aim {
    k: usize,
    effort: Effort,
}

/// As many of the best `k` as a part is to be expected to hold at most that is `share` of all rows
/// without being different from the others.
fn most(k: usize, share: f32) -> usize {
    let mean = k as f32 * share;
    let deviation = (mean * (1.0 - share)).max(0.0).sqrt();
    ((mean + DEVIATIONS * deviation).ceil() as usize + 1).min(k)
}

/// The closest rows of all parts to `query`, closest first, at exact distances. The effort is meant as
/// if all rows were in one index. The outcome is the same on any `threads`.
///
/// # Panics
///
/// If the parts have different metrics, or `query` another number of dimensions: defects of the
/// caller.
pub fn search_parts<'s>(
    query: &[f32],
    parts: &[Part<'_>],
    k: usize,
    effort: Effort,
    threads: Threads,
    scratch: &'s mut Scratch,
) -> &'s [Found] {
    scratch.found.clear();
    let Some(metric) = parts.first().map(|part| part.codes().space.metric) else {
        return &scratch.found;
    };
    for part in parts {
        let space = &part.codes().space;
        assert_eq!((space.dims, space.metric), (query.len(), metric), "of another kind");
    }
    let aim = Aim { k: k.clamp(1, EF_MAX), effort };
    let all: usize = parts.iter().map(Part::len).sum();
    let share = |part: usize| parts[part].len() as f32 / all as f32;
    // The largest first: it is the likeliest to hold what makes the others easier.
    let mut order: Vec<usize> = (0..parts.len()).filter(|&part| parts[part].len() > 0).collect();
    order.sort_by_key(|&part| std::cmp::Reverse(parts[part].len()));
    let (together, kept) = together(parts, &order, aim, share);
    order.retain(|part| !together.contains(part));
    if threads == Threads::Pool
        && order.len() > 1
        && order.iter().all(|&part| parts[part].allowed.is_none())
    {
        scratch.look_into_all(query, parts, &order, aim, share);
    } else {
        for &part in &order {
            scratch.look_into(query, parts, part, aim, share(part));
        }
    }
    if !together.is_empty() {
        scratch.scan_together(query, parts, &together, kept, aim, threads);
    }
    for part in scratch.crowded(aim.k, &order, share) {
        scratch.found.retain(|found| found.part as usize != part);
        scratch.look_into(query, parts, part, aim, 1.0);
    }
    if !scratch.found.is_empty() {
        scratch.measure(metric, query, parts, aim.k);
    }
    &scratch.found
}

/// Which of the parts in `order` are scanned as one, and how many rows that scan keeps.
fn together(
    parts: &[Part<'_>],
    order: &[usize],
    aim: Aim,
    share: impl Fn(usize) -> f32,
) -> (Vec<usize>, usize) {
    let (mut together, mut kept, mut rows) = (Vec::new(), 0, 0);
    for &part in order {
        let codes = parts[part].codes();
        let first = together.first().map_or(codes, |&first: &usize| parts[first].codes());
        let (times, more) = codes.space.scores_into(&first.space);
        // Where rows of one are as nothing beside those of another, their scores cannot be compared.
        if times.is_normal()
            && more.is_finite()
            && rows + codes.rows() <= TOGETHER_ROWS_MAX
            && let Some(kept_of_part) = parts[part].scanned(aim, share(part))
        {
            rows += codes.rows();
            kept = kept.max(kept_of_part);
            together.push(part);
        }
    }
    (together, kept)
}

impl Scratch {
    /// Adds to what was found what a part holds that may be among the best.
    fn look_into(&mut self, query: &[f32], parts: &[Part<'_>], part: usize, aim: Aim, share: f32) {
        self.prepare(0, parts[part].codes(), query);
        let bound = self.bound_so_far(aim.k);
        parts[part].look(part as u32, aim, share, bound, self);
    }

    /// The same for parts without a filter, each by the thread that comes to it first. (What one finds is
    /// no bound for the others then, but walks make no use of one.)
    fn look_into_all(
        &mut self,
        query: &[f32],
        parts: &[Part<'_>],
        order: &[usize],
        aim: Aim,
        share: impl Fn(usize) -> f32 + Sync,
    ) {
        let found = Threads::Pool.map(order.len(), ThreadScratch::default, |scratch, at| {
            scratch.found.clear();
            scratch.look_into(query, parts, order[at], aim, share(order[at]));
            scratch.found.clone()
        });
        found.into_iter().for_each(|found| self.found.extend(found));
    }

    /// The same for several parts, all of whose rows are scanned, as if they were one.
    fn scan_together(
        &mut self,
        query: &[f32],
        parts: &[Part<'_>],
        together: &[usize],
        kept: usize,
        aim: Aim,
        threads: Threads,
    ) {
        let run = |&part: &usize| parts[part].run(part as u32);
        let runs: Vec<Run<'_>> = together.iter().map(run).collect();
        for (at, run) in runs.iter().enumerate() {
            self.prepare(at, run.codes, query);
        }
        let bound = self.bound_so_far(aim.k);
        self.scan_runs(&runs, Kept { ef: kept, k: aim.k, bound }, threads);
    }

    /// The distance beyond which no row is of use, going by what was found.
    fn bound_so_far(&mut self, k: usize) -> f32 {
        let enough = measured_first(k);
        match self.found.len() >= enough {
            true => self.found.select_nth_unstable_by(enough - 1, Found::order).1.distance,
            false => f32::INFINITY,
        }
    }

    /// Those of `parts` that hold more of the best `k` than could be expected.
    fn crowded(&mut self, k: usize, parts: &[usize], share: impl Fn(usize) -> f32) -> Vec<usize> {
        if self.found.len() > k {
            self.found.select_nth_unstable_by(k - 1, Found::order);
        }
        let best = &self.found[..k.min(self.found.len())];
        let count = |part| best.iter().filter(|found| found.part as usize == part).count();
        let is_crowded = |&part: &usize| {
            let most = most(k, share(part));
            most < k && count(part) >= most
        };
        parts.iter().copied().filter(is_crowded).collect()
    }
}
