//! The largest inner products where rows differ in length: the longest rows first.
//!
//! The longer a row, the likelier it is among the largest inner products of any query, and where lengths differ
//! much, hardly any other is: 2 % of all rows hold 98 % of the answers where lengths are spread like `exp(N(0, 0.7))`.
//! A graph is of no use then. What makes inner products distances (Bachrach et al.) puts nearly all rows at one
//! pole, and codes that have to hold all lengths hold no directions. So such rows have no graph. They lie in the
//! order of their lengths, codes hold their directions, and a search reads on until no row that follows is long
//! enough: until its length times the *reach* is no more than the inner product of the last result. At a reach of
//! 1 nothing can be missed but by the codes. In many dimensions hardly a row has the query's direction, and less
//! does: how much less gives which recall is measured when the index is built.

use crate::index::build::clusters::Clusters;
use crate::index::machine::distance::norm;
use crate::index::machine::integer::Line;
use crate::index::machine::parallel::Threads;
use crate::index::quantize::code::Code;
use crate::index::quantize::codes::Codes;
use crate::index::quantize::space::Form;
use crate::index::query::scan::{Kept, Run, keep_best, leave_only, lowest};
use crate::index::{Builder, Index, Metric, PreparedQuery, RowSet, Scratch, TopK};

/// A walk's width that stands for a reach of 1. What is more of it are further rows that are scored by the 8-bit
/// codes.
pub(in crate::index) const WHOLE_REACH: usize = 1_000;
/// Rows scored by the 8-bit codes at least, and for each result.
const KEPT: usize = 20;
const KEPT_PER_RESULT: usize = 6;
/// How many times as many are held where a filter may leave rows that are much alike.
const HELD_TIMES: usize = 16;
/// With more results the last one is not looked for after each block.
const FEW_RESULTS: usize = 256;
/// Rows scored at a time.
const BLOCK: usize = RowSet::WORD_ROWS;
/// Of a block with fewer rows that are allowed, those are picked.
const PICKED: u32 = 16;

/// Rows that are tried as queries to find out how many of the longest rows they need.
const TRIED: usize = 64;
/// That many read the same rows while those are near.
const TOGETHER: usize = 8;
/// How many of the longest are tried, and how many results of each query are looked for.
const TRIED_ROWS: usize = 1 << 16;
const TRIED_RESULTS: usize = 10;
/// Reading as many rows as are needed then costs about as much as a walk, as more are read than are needed.
const NEEDED_MAX: usize = 8_192;
/// The share of all rows, one in so many, that may be needed at most.
const SHARE_NEEDED: usize = 8;
/// With fewer rows a scan of all is as quick.
const ROWS_MIN: usize = 1_024;

/// What suits rows: to lie by their lengths where few of those would be read, else a graph. Builders of others
/// build a graph, whatever that is good for.
pub(in crate::index) fn form_for(
    (metric, builder): (Metric, Builder),
    dims: usize,
    vectors: &[f32],
    threads: Threads,
) -> Form {
    let rows = vectors.len() / dims;
    if metric != Metric::Dot || builder != Builder::Brainy || rows < ROWS_MIN {
        return Form::Distances;
    }
    let row = |at: usize| &vectors[at * dims..][..dims];
    let lengths: Vec<f64> = threads.map(rows, || (), |(), at| norm(row(at)));
    let mut order: Vec<usize> = (0..rows).collect();
    if rows > TRIED_ROWS {
        order.select_nth_unstable_by(TRIED_ROWS, |a, b| lengths[*b].total_cmp(&lengths[*a]));
        order.truncate(TRIED_ROWS);
    }
    order.sort_unstable_by(|a, b| lengths[*b].total_cmp(&lengths[*a]).then(a.cmp(b)));
    let needed = threads.map(
        TRIED / TOGETHER,
        || (),
        |(), at| {
            let queries = (at * TOGETHER..(at + 1) * TOGETHER).map(|at| at * rows / TRIED);
            let mut tried: Vec<Tried> =
                queries.map(|query| Tried::new(query, row(query), lengths[query])).collect();
            for (block, others) in order.chunks(BLOCK).enumerate() {
                for tried in tried.iter_mut().filter(|tried| !tried.ended) {
                    for (read, &other) in (block * BLOCK..).zip(others) {
                        if !tried.read(read, other, row(other), lengths[other]) {
                            break;
                        }
                    }
                }
            }
            tried.into_iter().map(|tried| tried.needed(order.len())).sum::<usize>()
        },
    );
    let mean = needed.into_iter().sum::<usize>() / TRIED;
    let few = mean < NEEDED_MAX && mean < rows / SHARE_NEEDED;
    if few { Form::Products } else { Form::Distances }
}

/// A row that is tried as a query, and what it has met among the rows in the order of their lengths.
struct Tried {
    query: usize,
    prepared: PreparedQuery,
    length: f64,
    /// The largest products, and where they were met.
    best: TopK<usize>,
    /// Whether no row that follows is long enough.
    ended: bool,
}

impl Tried {
    fn new(query: usize, vector: &[f32], length: f64) -> Tried {
        let prepared = PreparedQuery::new(Metric::Dot, vector);
        Tried { query, prepared, length, best: TopK::new(TRIED_RESULTS), ended: false }
    }

    /// Takes the next row; whether others may be of use.
    fn read(&mut self, read: usize, other: usize, vector: &[f32], length: f64) -> bool {
        self.ended = -(length * self.length) as f32 >= self.best.threshold();
        if !self.ended && other != self.query {
            self.best.push(self.prepared.distance(vector, 0.0), read);
        }
        !self.ended
    }

    /// How many of `all` rows had to be read.
    fn needed(self, all: usize) -> usize {
        match self.ended {
            true => self.best.into_sorted().into_iter().map(|(_, read)| read).max().unwrap_or(0),
            false => all,
        }
    }
}

/// The order of falling length.
pub(in crate::index) fn arrange(codes: &Codes) -> (Vec<u32>, Clusters) {
    /// Rows that are named as one.
    const CLUSTER_ROWS: u32 = 64;
    let lengths: Vec<f32> = codes.short.biases(&codes.short_lines).collect();
    let mut order: Vec<u32> = (0..lengths.len() as u32).collect();
    order.sort_unstable_by(|a, b| {
        lengths[*b as usize].total_cmp(&lengths[*a as usize]).then(a.cmp(b))
    });
    let rows = order.len() as u32;
    let mut starts: Vec<u32> = (0..rows).step_by(CLUSTER_ROWS as usize).collect();
    starts.push(rows);
    // All are equally near to any query: what comes first counts.
    let centroids = vec![Line::ZERO; (starts.len() - 1) * codes.short.lines()];
    (order, Clusters { starts: starts.into(), centroids: centroids.into() })
}

/// About the recall of a walk of some width, as graphs have it.
pub(in crate::index) fn recall_like(ef: usize) -> f32 {
    1.0 - 1.2 * (ef as f32).powf(-0.9)
}

impl Index {
    /// Whether its rows lie by their lengths, without a graph.
    pub(in crate::index) fn is_by_length(&self) -> bool {
        self.codes.space.form == Form::Products
    }
}

impl Scratch {
    /// Adds the best of the rows of an index that lie by their lengths to what was found.
    pub(in crate::index) fn scan_by_length(&mut self, index: &Index, run: Run<'_>, kept: Kept) {
        let Kept { ef, k, bound } = kept;
        let codes = run.codes;
        // The fourth root: a search as wide as a walk of a few dozen rows reads about as far as is worth it.
        let reach = (ef as f32 / WHOLE_REACH as f32).min(1.0).sqrt().sqrt();
        let bound = codes.space.score(bound, self.queries[0].norm);
        let sorted = index.clusters.starts.last().map_or(0, |&end| end as usize).min(codes.rows());
        let mut best = Best::new(k, ef, run.allowed.is_some(), self);
        let mut ended = 0;
        for first in (0..codes.rows()).step_by(BLOCK) {
            let enough = best.last(self).min(bound);
            if first < ended || (first + BLOCK <= sorted && -codes.length(first) * reach >= enough)
            {
                // So are all that follow, up to the block of the first that was added later.
                ended = sorted / BLOCK * BLOCK;
                continue;
            }
            let word = run.allowed.map_or(u64::MAX, |allowed| allowed.word(first / BLOCK));
            if self.score_block(codes, first, word) < best.use_up_to {
                best.offer(first, self);
            }
        }
        if run.allowed.is_some() {
            // Those that are left may be much alike, however far they are.
            return self.rescore_likely(run, Kept { ef: best.keep, ..kept });
        }
        let count = keep_best(&mut self.scanned, best.keep);
        self.rescore(0, run, 0, 0..count);
    }

    /// Scores those of a block's rows that are in `word` into `scores`, where others are infinitely far; the lowest.
    fn score_block(&mut self, codes: &Codes, first: usize, word: u64) -> f32 {
        let rows = (codes.rows() - first).min(BLOCK);
        let word = word & (u64::MAX >> (BLOCK - rows));
        if word == 0 {
            return f32::INFINITY;
        }
        let query = self.queries[0].short.view();
        self.scores.resize(rows, 0.0);
        if word.count_ones() < PICKED {
            let picked = (0..rows as u32).filter(|row| word >> row & 1 == 1);
            self.rows.clear();
            self.rows.extend(picked.map(|row| first as u32 + row));
            let mut scores = [0.0; PICKED as usize];
            codes.short.scores_of(query, &codes.short_lines, &self.rows, &mut scores);
            self.scores.fill(f32::INFINITY);
            for (row, score) in self.rows.iter().zip(scores) {
                self.scores[*row as usize - first] = score;
            }
        } else {
            let width = codes.short.lines();
            let lines = &codes.short_lines[first * width..][..rows * width];
            codes.short.scores_of_run(query, lines, &mut self.scores);
            if word != u64::MAX {
                leave_only(word, &mut self.scores);
            }
        }
        lowest(&self.scores)
    }
}

/// The best rows so far, in `scanned`, and the score of the last result.
struct Best {
    k: usize,
    /// How many are scored by the 8-bit codes.
    keep: usize,
    /// How many are held until it is known whether those are enough.
    held: usize,
    /// No row with a higher score is of use.
    use_up_to: f32,
    /// The score of the last result, where there are many.
    last_of_many: f32,
}

impl Best {
    fn new(k: usize, ef: usize, filtered: bool, scratch: &mut Scratch) -> Best {
        scratch.scanned.clear();
        scratch.starts.reset(if k <= FEW_RESULTS { k } else { 0 });
        let more = ef.saturating_sub(WHOLE_REACH);
        let keep = KEPT + KEPT_PER_RESULT * k + more;
        let held = if filtered { HELD_TIMES * keep } else { keep };
        Best { k, keep, held, use_up_to: f32::INFINITY, last_of_many: f32::INFINITY }
    }

    fn last(&self, scratch: &Scratch) -> f32 {
        if self.k <= FEW_RESULTS { scratch.starts.threshold() } else { self.last_of_many }
    }

    /// Takes the rows of the block that was scored last.
    fn offer(&mut self, first: usize, scratch: &mut Scratch) {
        for (row, &score) in (first as u32..).zip(&scratch.scores) {
            if score < self.use_up_to {
                scratch.scanned.push((score, row));
                if self.k <= FEW_RESULTS && score < scratch.starts.threshold() {
                    scratch.starts.insert(score, row);
                }
            }
        }
        if scratch.scanned.len() >= 2 * self.held {
            keep_best(&mut scratch.scanned, self.held);
            scratch.scanned.truncate(self.held);
            self.use_up_to = scratch.scanned[self.held - 1].0;
            if self.k > FEW_RESULTS {
                keep_best(&mut scratch.scanned, self.k);
                self.last_of_many = scratch.scanned[self.k - 1].0;
            }
        }
    }
}
