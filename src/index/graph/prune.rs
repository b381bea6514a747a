//! Which candidates become neighbours: near ones in different directions.
//!
//! The rule is that of Vamana (Subramanya et al., "DiskANN", NeurIPS 2019): a candidate is left out
//! where a neighbour already chosen is `alpha` times closer to it than the row itself is; candidates
//! left out by a narrower margin fill up what room is left. Distances are those of the short codes,
//! which are what walks will see (measured: choosing by 8-bit codes gives the same graph).

use super::Rows;
use crate::index::machine::integer::Line;
use crate::index::quantize::code::Code;
use crate::index::query::pool::Key;

/// Chooses neighbours; keeps its buffers from one row to the next.
pub(super) struct Pruner<'a> {
    rows: Rows<'a>,
    degree: usize,
    /// Squared, as scores are.
    alpha: f32,
    /// Candidates by distance.
    keys: Vec<Key>,
    /// Their codes, one after the other.
    lines: Vec<Line>,
    /// The distance of each from the row.
    distances: Vec<f32>,
    /// The distance of each from the closest one chosen before it was its turn.
    closest: Vec<f32>,
    candidates: Vec<u32>,
    scores: Vec<f32>,
    pub(super) chosen: Vec<u32>,
}

/// Stands for a distance of a candidate that was chosen.
const CHOSEN: f32 = f32::NEG_INFINITY;

impl<'a> Pruner<'a> {
    pub(super) fn new(rows: Rows<'a>, degree: usize, alpha: f32) -> Self {
        Pruner {
            rows,
            degree,
            alpha: alpha * alpha,
            keys: Vec::new(),
            lines: Vec::new(),
            distances: Vec::new(),
            closest: Vec::new(),
            candidates: Vec::new(),
            scores: Vec::new(),
            chosen: Vec::new(),
        }
    }

    /// Chooses neighbours of `row` among `candidates` into `self.chosen`.
    pub(super) fn choose(&mut self, row: u32, candidates: impl Iterator<Item = u32>) {
        self.rank(row, candidates);
        self.distances.clear();
        self.distances.extend(self.keys.iter().map(|key| key.score()));
        self.closest.clear();
        self.closest.resize(self.keys.len(), f32::INFINITY);
        self.scores.resize(self.keys.len(), 0.0);
        self.chosen.clear();
        self.round(1.0);
        if self.alpha > 1.0 {
            self.round(self.alpha);
        }
    }

    /// Sorts the candidates by distance into `keys`, with their codes in `lines`.
    fn rank(&mut self, row: u32, candidates: impl Iterator<Item = u32>) {
        let Rows { short, lines, queries } = self.rows;
        self.candidates.clear();
        self.candidates.extend(candidates.filter(|&candidate| candidate != row));
        self.scores.resize(self.candidates.len(), 0.0);
        short.scores_of(queries.of(row), lines, &self.candidates, &mut self.scores);
        self.keys.clear();
        let count = self.rows.count() as u32;
        let scored = self.candidates.iter().zip(&self.scores);
        self.keys.extend(
            scored.map(|(&other, &score)| Key::relative(score.max(0.0), other, row, count)),
        );
        self.keys.sort_unstable();
        self.keys.dedup();
        self.lines.clear();
        let own = self.rows.line(row);
        let mut same_left = (self.degree / 2).max(1);
        self.keys.retain_mut(|key| {
            *key = key.absolute(row, count);
            let line = self.rows.line(key.row());
            if line == own {
                // Rows with the same code must not take all places: no way would lead away.
                if same_left == 0 {
                    return false;
                }
                same_left -= 1;
            }
            self.lines.extend_from_slice(line);
            true
        });
    }

    /// Chooses every candidate to which no chosen one is `margin` times closer than the row, closest
    /// first.
    fn round(&mut self, margin: f32) {
        for at in 0..self.keys.len() {
            if self.chosen.len() == self.degree {
                return;
            }
            if self.distances[at] <= margin * self.closest[at] {
                self.take(at);
            }
        }
    }

    fn take(&mut self, at: usize) {
        let Rows { short, queries, .. } = self.rows;
        let row = self.keys[at].row();
        self.chosen.push(row);
        self.closest[at] = CHOSEN;
        // Those before it were closer, and have been decided on.
        let later = at + 1..self.keys.len();
        let lines = &self.lines[later.start * short.lines()..];
        let scores = &mut self.scores[later.clone()];
        short.scores_of_run(queries.of(row), lines, scores);
        for (closest, &score) in self.closest[later].iter_mut().zip(&*scores) {
            *closest = closest.min(score);
        }
    }
}
