//! A search that looks at every allowed row: where those are few, or hardly any lies near the query,
//! or there is no graph.
//!
//! All are scored by the short codes, and the best of them by the 8-bit codes. How far the one is
//! from the other is measured on a few rows in passing; where rows beyond the best might still belong
//! to the result by that, they are scored by the 8-bit codes too. For a filter that allows only rows
//! far from the query, whose distances hardly differ, those can be many.

use super::codes::Codes;
use super::measure::largest_likely;
use super::{Index, Neighbour, RowSet, Scratch, Vectors};
use std::ops::Range;

/// Rows scored at a time.
const BLOCK: usize = 64;
/// Rows of which the lowest score is known, where all are scored: most groups need no other look.
const GROUP: usize = 16;
/// Rows that the difference of the codes is measured on.
const MEASURED: usize = 64;
/// Rows scored by the 8-bit codes at least, for each result, where all rows are to be looked at.
const KEPT_PER_RESULT: usize = 20;
/// Where a filter allows no fewer than one row in so many, scoring all rows, which lie one after the
/// other, is cheaper than picking those.
const PICKED: usize = 4;

/// How many rows a scan leaves, and which.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    /// About so many are scored by the 8-bit codes, and left.
    pub(super) ef: usize,
    /// Results for whose sake more are, where they might belong to them.
    pub(super) k: usize,
    /// Rows whose score is higher are of no use.
    pub(super) bound: f32,
}

impl Index {
    /// The `k` closest rows to `query`, whatever it takes.
    pub(super) fn search_all<'s>(
        &self,
        query: &[f32],
        k: usize,
        vectors: &dyn Vectors,
        scratch: &'s mut Scratch,
    ) -> &'s [Neighbour] {
        scratch.results.clear();
        if !self.is_empty() {
            scratch.prepare(&self.codes, query);
            let kept = Kept { ef: KEPT_PER_RESULT * k, k, bound: f32::INFINITY };
            scratch.scan(&self.codes, None, kept);
            scratch.finish(&self.codes, query, Some(vectors), k);
        }
        &scratch.results
    }
}

impl Scratch {
    /// Scores allowed rows; leaves the best, at least `kept.k` and about `kept.ef` where there are so
    /// many, in `keys`, sorted.
    pub(super) fn scan(&mut self, codes: &Codes, allowed: Option<&RowSet>, kept: Kept) {
        self.keys.clear();
        match allowed {
            Some(few) if few.len() < codes.rows() / PICKED => self.scan_picked(codes, few, kept),
            allowed => self.scan_run(codes, allowed, kept),
        }
        self.keys.sort_unstable();
    }

    fn scan_picked(&mut self, codes: &Codes, allowed: &RowSet, kept: Kept) {
        self.score_picked(codes, allowed);
        let first = keep_best(&mut self.scanned, kept.ef);
        let first = first.min(self.scanned.len());
        self.rescore_scanned(codes, 0..first);
        if first < self.scanned.len() && first >= kept.k {
            let step = (self.scanned.len() / MEASURED).max(1);
            let sample: Vec<_> = self.scanned.iter().step_by(step).copied().collect();
            let bound = self.bound(kept) + self.difference(codes, &sample);
            let mut end = first;
            for at in first..self.scanned.len() {
                if self.scanned[at].0 <= bound {
                    self.scanned.swap(end, at);
                    end += 1;
                }
            }
            self.rescore_scanned(codes, first..end);
        }
    }

    /// Scores every allowed row by the short codes into `scanned`.
    fn score_picked(&mut self, codes: &Codes, allowed: &RowSet) {
        let end = codes.rows() as u32;
        let inside = allowed.iter().take_while(|&row| row < end);
        self.scanned.clear();
        self.scanned.extend(inside.map(|row| (0.0, row)));
        let query = self.queries[0].short.view();
        let (mut rows, mut scores) = ([0; BLOCK], [0.0; BLOCK]);
        for block in self.scanned.chunks_mut(BLOCK) {
            for (into, (_, row)) in rows.iter_mut().zip(&*block) {
                *into = *row;
            }
            let rows = &rows[..block.len()];
            codes.short.scores_of(query, &codes.short_lines, rows, &mut scores);
            for ((into, _), score) in block.iter_mut().zip(scores) {
                *into = score;
            }
        }
    }

    /// The same where many rows are allowed.
    fn scan_run(&mut self, codes: &Codes, allowed: Option<&RowSet>, kept: Kept) {
        self.score_run(codes, allowed);
        let last = self.threshold(kept.ef);
        self.collect(f32::NEG_INFINITY, last);
        let first = keep_best(&mut self.scanned, kept.ef);
        self.scanned.truncate(first);
        self.rescore_scanned(codes, 0..first);
        if first < kept.ef || first < kept.k {
            return;
        }
        let last = self.scanned.iter().fold(f32::MIN, |last, scanned| last.max(scanned.0));
        let step = (codes.rows() / MEASURED).max(1);
        let is_allowed = |row: &usize| self.run[*row] < f32::INFINITY;
        let next = |from| (from..codes.rows().min(from + step)).find(is_allowed);
        let rows = (0..codes.rows()).step_by(step).filter_map(next);
        let sample: Vec<_> = rows.map(|row| (self.run[row], row as u32)).collect();
        let bound = self.bound(kept) + self.difference(codes, &sample);
        if bound >= last {
            // Of those that score as the last one does some are in already.
            let mut ties: Vec<u32> = self.scanned.iter().map(|scanned| scanned.1).collect();
            ties.sort_unstable();
            self.collect(last, bound.min(f32::MAX));
            self.scanned.retain(|(score, row)| *score > last || ties.binary_search(row).is_err());
            self.rescore_scanned(codes, 0..self.scanned.len());
        }
    }

    /// Scores all rows by the short codes into `run`; those that are not allowed are infinitely far.
    fn score_run(&mut self, codes: &Codes, allowed: Option<&RowSet>) {
        self.run.resize(codes.rows(), 0.0);
        codes.short.scores_of_run(self.queries[0].short.view(), &codes.short_lines, &mut self.run);
        if let Some(allowed) = allowed {
            for (row, score) in self.run.iter_mut().enumerate() {
                *score = if allowed.contains(row as u32) { *score } else { f32::INFINITY };
            }
        }
        self.lowest.clear();
        self.lowest.extend(self.run.chunks(GROUP).map(lowest));
    }

    /// A score that at least `count` rows, if there are so many, and few more, do not exceed.
    fn threshold(&mut self, count: usize) -> f32 {
        if self.lowest.len() < count {
            return f32::MAX;
        }
        self.scores.clear();
        self.scores.extend_from_slice(&self.lowest);
        let (_, threshold, _) = self.scores.select_nth_unstable_by(count - 1, f32::total_cmp);
        threshold.min(f32::MAX)
    }

    /// Leaves the rows with scores from `least` to `most` in `scanned`.
    fn collect(&mut self, least: f32, most: f32) {
        self.scanned.clear();
        let groups = self.run.chunks(GROUP).zip(&self.lowest).enumerate();
        for (group, (scores, _)) in groups.filter(|(_, (_, lowest))| **lowest <= most) {
            let rows = (group * GROUP) as u32..;
            let scored = scores.iter().copied().zip(rows);
            self.scanned.extend(scored.filter(|(score, _)| (least..=most).contains(score)));
        }
    }

    /// The highest score by the 8-bit codes that is of use; `keys` are sorted for it.
    fn bound(&mut self, kept: Kept) -> f32 {
        self.keys.sort_unstable();
        self.keys[kept.k - 1].score().min(kept.bound)
    }

    /// Scores these of the scanned rows by the 8-bit codes into `keys`.
    fn rescore_scanned(&mut self, codes: &Codes, range: Range<usize>) {
        self.rows.clear();
        self.rows.extend(self.scanned[range].iter().map(|scanned| scanned.1));
        self.add_keys(codes);
    }

    /// How much higher than by the 8-bit codes the short score of a row may be, going by a sample.
    fn difference(&mut self, codes: &Codes, sample: &[(f32, u32)]) -> f32 {
        self.rows.clear();
        self.rows.extend(sample.iter().map(|scored| scored.1));
        self.score_exactly(codes);
        let short = sample.iter().map(|scored| scored.0);
        largest_likely(short.zip(&self.scores).map(|(short, exact)| short - exact))
    }
}

/// The lowest of some scores.
fn lowest(scores: &[f32]) -> f32 {
    let mut lanes = [f32::INFINITY; 8];
    let (blocks, rest) = scores.as_chunks::<8>();
    let less = |a: f32, b: f32| if b < a { b } else { a };
    for block in blocks {
        for (lane, &score) in lanes.iter_mut().zip(block) {
            *lane = less(*lane, score);
        }
    }
    lanes.into_iter().chain(rest.iter().copied()).fold(f32::INFINITY, less)
}

/// Brings the best `count` to the front; says how many they are.
fn keep_best(scored: &mut [(f32, u32)], count: usize) -> usize {
    if scored.len() > count {
        scored.select_nth_unstable_by(count - 1, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    }
    count.min(scored.len())
}
