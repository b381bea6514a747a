//! A search that looks at every allowed row: where those are few, or hardly any lies near the query,
//! or there is no graph.
//!
//! All are scored by the short codes, and the best of them by the 8-bit codes. How far the one is
//! from the other is measured on a few rows in passing; where rows beyond the best might still belong
//! to the result by that, they are scored by the 8-bit codes too. For a filter that allows only rows
//! far from the query, whose distances hardly differ, those can be many.
//!
//! Several runs of rows, each with codes of its own, are scanned as one: the best of all are scored by
//! the 8-bit codes, however many runs there are. Scores of different codes are made comparable by
//! what a score of one is in the space of the first.

use crate::index::quantize::code::Code;
use crate::index::quantize::codes::Codes;
use crate::index::query::measure::largest_likely;
use crate::index::query::parts::Found;
use crate::index::query::search::Queries;
use crate::index::{Index, Neighbour, RowSet, Scratch, Threads, Vectors};
use std::ops::Range;

/// Rows scored at a time.
const BLOCK: usize = 64;
/// Rows of which the lowest score is known, where all are scored: most groups need no other look.
const GROUP: usize = 16;
/// Rows that a thread takes over from another to score, at least.
const PIECE: usize = 4_096;
/// Rows that the difference of the codes is measured on; of several runs at least so many of each.
const MEASURED: usize = 64;
const MEASURED_MIN: usize = 16;
/// Rows scored by the 8-bit codes at least, for each result, where all rows are to be looked at.
const KEPT_PER_RESULT: usize = 20;
/// Where a filter allows no fewer than one row in so many, scoring all rows, which lie one after the
/// other, is cheaper than picking those.
const PICKED: usize = 4;

/// How many rows a scan leaves, and which.
#[derive(Debug, Clone, Copy)]
pub(in crate::index) struct Kept {
    /// About so many are scored by the 8-bit codes, and left.
    pub(in crate::index) ef: usize,
    /// Results for whose sake more are, where they might belong to them.
    pub(in crate::index) k: usize,
    /// Rows whose distance is larger are of no use.
    pub(in crate::index) bound: f32,
}

/// Rows that follow each other, and how they are named when they are found.
#[derive(Clone, Copy)]
pub(in crate::index) struct Run<'a> {
    pub(in crate::index) part: u32,
    pub(in crate::index) codes: &'a Codes,
    /// Only these of them are looked at.
    pub(in crate::index) allowed: Option<&'a RowSet>,
}

impl Run<'_> {
    /// Whether its allowed rows are so few that they are picked, not all rows scored.
    pub(in crate::index) fn is_picked(&self) -> bool {
        self.allowed.is_some_and(|allowed| allowed.len() < self.codes.rows() / PICKED)
    }
}

/// Some rows of a run, to be scored.
struct Piece<'a> {
    run: Run<'a>,
    queries: &'a Queries,
    /// What its scores are in the space of the first run: so many times as much, and so much more.
    scale: (f32, f32),
    first: usize,
    scores: &'a mut [f32],
    lowest: &'a mut [f32],
}

impl Piece<'_> {
    /// Scores its rows by the short codes; places that are not allowed, or behind the last row, are
    /// infinitely far.
    fn score(&mut self) {
        let Run { codes, allowed, .. } = self.run;
        let rows = (codes.rows() - self.first).min(self.scores.len());
        let (scores, behind) = self.scores.split_at_mut(rows);
        behind.fill(f32::INFINITY);
        let lines = &codes.short_lines[self.first * codes.short.lines()..];
        codes.short.scores_of_run(self.queries.short.view(), lines, scores);
        if self.scale != (1.0, 0.0) {
            let (times, more) = self.scale;
            scores.iter_mut().for_each(|score| *score = *score * times + more);
        }
        if let Some(allowed) = allowed {
            for (at, scores) in scores.chunks_mut(RowSet::WORD_ROWS).enumerate() {
                let word = allowed.word(self.first / RowSet::WORD_ROWS + at);
                leave_only(word, scores);
            }
        }
        for (lowest_of, scores) in self.lowest.iter_mut().zip(self.scores.chunks(GROUP)) {
            *lowest_of = lowest(scores);
        }
    }
}

impl Index {
    /// The `k` closest rows to `query`, whatever it takes.
    pub(in crate::index) fn search_all<'s>(
        &self,
        query: &[f32],
        k: usize,
        allowed: Option<&RowSet>,
        vectors: &dyn Vectors,
        scratch: &'s mut Scratch,
    ) -> &'s [Neighbour] {
        let kept = Kept { ef: KEPT_PER_RESULT * k, k, bound: f32::INFINITY };
        scratch.search(&self.codes, query, (k, allowed, Some(vectors)), |scratch, run| {
            scratch.scan(run, kept);
        })
    }
}

impl Scratch {
    /// Scores the allowed rows of a run that the query is prepared for, and adds the best, at least
    /// `kept.k` and about `kept.ef` where there are so many, to what was found.
    pub(in crate::index) fn scan(&mut self, run: Run<'_>, kept: Kept) {
        match run.allowed {
            Some(few) if run.is_picked() => self.scan_picked(run, few, kept),
            _ => self.scan_runs(&[run], kept, Threads::One),
        }
    }

    fn scan_picked(&mut self, run: Run<'_>, allowed: &RowSet, kept: Kept) {
        self.score_picked(run.codes, allowed);
        self.rescore_likely(run, kept);
    }

    /// Adds the best of the scanned, scored by the 8-bit codes, to what was found, and those that might belong to the
    /// results as well.
    pub(in crate::index) fn rescore_likely(&mut self, run: Run<'_>, kept: Kept) {
        let codes = run.codes;
        let first = keep_best(&mut self.scanned, kept.ef);
        let before = self.found.len();
        let mut end = first;
        self.rescore(0, run, 0, 0..first);
        if first < self.scanned.len() && first >= kept.k {
            let step = (self.scanned.len() / MEASURED).max(1);
            let sample: Vec<_> = self.scanned.iter().step_by(step).copied().collect();
            let bound = codes.space.score(self.bound(before, kept), self.queries[0].norm);
            let bound = bound + self.difference(0, codes, &sample);
            for at in first..self.scanned.len() {
                if self.scanned[at].0 <= bound {
                    self.scanned.swap(end, at);
                    end += 1;
                }
            }
            self.rescore(0, run, 0, first..end);
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

    /// Scores all rows of some runs, of which the first `queries` are, and adds the best of all to what
    /// was found. Which threads score them makes no difference to the outcome.
    pub(in crate::index) fn scan_runs(&mut self, runs: &[Run<'_>], kept: Kept, threads: Threads) {
        self.score_runs(runs, threads);
        let last = self.threshold(kept.ef);
        self.collect(0..self.lowest.len(), f32::NEG_INFINITY, last);
        let first = keep_best(&mut self.scanned, kept.ef);
        self.scanned.truncate(first);
        let before = self.found.len();
        self.rescore_places(runs);
        if first < kept.ef || first < kept.k {
            return;
        }
        let last = self.scanned.iter().fold(f32::MIN, |last, scanned| last.max(scanned.0));
        let bound = self.bound(before, kept);
        let bound = runs[0].codes.space.score(bound, self.queries[0].norm);
        // Of those that score as the last one does some are in already: they are in order.
        let ties: Vec<u32> = self.scanned.iter().map(|scanned| scanned.1).collect();
        for at in 0..runs.len() {
            let bound = (bound + self.difference_of_run(at, runs)).min(f32::MAX);
            if bound >= last {
                let groups =
                    self.offsets[at] as usize / GROUP..self.offsets[at + 1] as usize / GROUP;
                self.collect(groups, last, bound);
                self.scanned
                    .retain(|&(score, at)| score > last || ties.binary_search(&at).is_err());
                self.rescore(at, runs[at], self.offsets[at], 0..self.scanned.len());
            }
        }
    }

    /// Scores all rows of all runs by the short codes into `run`, those of each from a place in
    /// `offsets` on, as if all were in the space of the first.
    fn score_runs(&mut self, runs: &[Run<'_>], threads: Threads) {
        self.offsets.clear();
        self.offsets.push(0);
        for run in runs {
            let end = self.offsets[self.offsets.len() - 1] as usize + run.codes.rows();
            self.offsets.push(end.next_multiple_of(GROUP) as u32);
        }
        let places = self.offsets[runs.len()] as usize;
        self.run.resize(places, 0.0);
        self.lowest.resize(places / GROUP, 0.0);
        let (mut scores, mut lowest) = (&mut self.run[..], &mut self.lowest[..]);
        let mut pieces = Vec::with_capacity(runs.len() + places / PIECE);
        for ((run, queries), offsets) in runs.iter().zip(&self.queries).zip(self.offsets.windows(2))
        {
            let places = (offsets[1] - offsets[0]) as usize;
            let scale = run.codes.space.scores_into(&runs[0].codes.space);
            let own = scores.split_off_mut(..places).unwrap_or_default().chunks_mut(PIECE);
            let own_lowest = lowest.split_off_mut(..places / GROUP).unwrap_or_default();
            let own = own.zip(own_lowest.chunks_mut(PIECE / GROUP)).enumerate();
            pieces.extend(own.map(|(at, (scores, lowest))| Piece {
                run: *run,
                queries,
                scale,
                first: at * PIECE,
                scores,
                lowest,
            }));
        }
        threads.chunks_mut(&mut pieces, 1, |_, piece| piece.iter_mut().for_each(Piece::score));
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

    /// Leaves the places in these groups with scores from `least` to `most` in `scanned`, in order.
    fn collect(&mut self, groups: Range<usize>, least: f32, most: f32) {
        self.scanned.clear();
        let first = groups.start;
        let lowest = self.lowest[groups].iter().zip(first..);
        for (_, group) in lowest.filter(|(lowest, _)| **lowest <= most) {
            let places = (group * GROUP) as u32..;
            let scores = self.run[group * GROUP..][..GROUP].iter().copied();
            let scored = scores.zip(places);
            self.scanned.extend(scored.filter(|(score, _)| (least..=most).contains(score)));
        }
    }

    /// The largest distance that is of use, what was found from `before` on being of this scan.
    fn bound(&mut self, before: usize, kept: Kept) -> f32 {
        let own = &mut self.found[before..];
        own.select_nth_unstable_by(kept.k - 1, Found::order).1.distance.min(kept.bound)
    }

    /// Puts the scanned places into order and adds them, scored by the 8-bit codes, to what was found.
    fn rescore_places(&mut self, runs: &[Run<'_>]) {
        self.scanned.sort_unstable_by_key(|scanned| scanned.1);
        let mut start = 0;
        for (at, run) in runs.iter().enumerate() {
            let end = self.offsets[at + 1];
            let count = self.scanned[start..].partition_point(|scanned| scanned.1 < end);
            self.rescore(at, *run, self.offsets[at], start..start + count);
            start += count;
        }
    }

    /// Adds these of the scanned, scored by the 8-bit codes, to what was found.
    pub(in crate::index) fn rescore(
        &mut self,
        queries: usize,
        run: Run<'_>,
        offset: u32,
        range: Range<usize>,
    ) {
        self.rows.clear();
        self.rows.extend(self.scanned[range].iter().map(|scanned| scanned.1 - offset));
        self.find_rows(queries, run);
    }

    /// How much higher than by the 8-bit codes the short scores of a run may be.
    fn difference_of_run(&mut self, at: usize, runs: &[Run<'_>]) -> f32 {
        let Run { codes, .. } = runs[at];
        let measured = (MEASURED / runs.len()).max(MEASURED_MIN);
        let (times, more) = codes.space.scores_into(&runs[0].codes.space);
        let rows = codes.rows();
        let step = (rows / measured).max(1);
        let scores = &self.run[self.offsets[at] as usize..][..rows];
        let next = |from| (from..rows.min(from + step)).find(|row| scores[*row] < f32::INFINITY);
        let sampled = (0..rows).step_by(step).filter_map(next);
        let sample: Vec<_> =
            sampled.map(|row| ((scores[row] - more) / times, row as u32)).collect();
        if times == 0.0 || sample.is_empty() {
            // All rows are equally far, or none is allowed.
            return 0.0;
        }
        times * self.difference(at, codes, &sample)
    }

    /// How much higher than by the 8-bit codes the short score of a row may be, going by a sample.
    fn difference(&mut self, queries: usize, codes: &Codes, sample: &[(f32, u32)]) -> f32 {
        self.rows.clear();
        self.rows.extend(sample.iter().map(|scored| scored.1));
        self.queries[queries].score_exactly(codes, &self.rows, &mut self.scores);
        let short = sample.iter().map(|scored| scored.0);
        largest_likely(short.zip(&self.scores).map(|(short, exact)| short - exact))
    }
}

/// Makes those infinitely far whose bit is not in `word`.
pub(in crate::index) fn leave_only(word: u64, scores: &mut [f32]) {
    for (bit, score) in scores.iter_mut().enumerate() {
        *score = if word >> bit & 1 == 1 { *score } else { f32::INFINITY };
    }
}

/// The lowest of some scores.
pub(in crate::index) fn lowest(scores: &[f32]) -> f32 {
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
pub(in crate::index) fn keep_best(scored: &mut [(f32, u32)], count: usize) -> usize {
    if scored.len() > count {
        scored.select_nth_unstable_by(count - 1, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    }
    count.min(scored.len())
}
