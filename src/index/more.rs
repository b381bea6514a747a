//! Results on demand: as many as the caller turns out to need.

use super::search::EF_MAX;
use super::{Effort, Index, Neighbour, RowSet, Scratch, Search, Vectors};

/// Results of the first round.
const FIRST: usize = 32;

/// The rows of an index by their distance from a query, found as they are asked for: for filters
/// that no set of rows can say, and for paging. Made by [`Index::nearest`].
///
/// Each round looks for twice as many as the one before and passes on what is new, so asking for
/// all of `n` results costs about twice what a search for `n` costs. A result found later than it
/// should have been comes later; none comes twice; in the end all allowed rows have come, up to
/// [`EF_MAX`] of them.
pub struct Nearest<'a> {
    index: &'a Index,
    query: Vec<f32>,
    allowed: Option<&'a RowSet>,
    vectors: Option<&'a dyn Vectors>,
    effort: Effort,
    scratch: Scratch,
    /// Of the round under way: results yet to be passed on, the next one last.
    waiting: Vec<Neighbour>,
    /// Rows passed on.
    passed: RowSet,
    wanted: usize,
}

impl Index {
    /// The rows by their distance from `query`, as they are asked for. `search.k` is how many are
    /// expected to be.
    pub fn nearest<'a>(&'a self, query: &[f32], search: Search<'a>) -> Nearest<'a> {
        Nearest {
            index: self,
            query: query.to_vec(),
            allowed: search.allowed,
            vectors: search.vectors,
            effort: search.effort,
            scratch: Scratch::default(),
            waiting: Vec::new(),
            passed: RowSet::new(self.len()),
            wanted: search.k.clamp(FIRST, EF_MAX),
        }
    }
}

impl Nearest<'_> {
    /// Looks further; says whether there was anything left to look for.
    fn look(&mut self) -> bool {
        let most = self.allowed.map_or(self.index.len(), RowSet::len).min(EF_MAX);
        if self.passed.len() >= most {
            return false;
        }
        // Effort measured for few results does not say how to find many.
        let effort = match self.effort {
            Effort::Ef(ef) => Effort::Ef(ef.max(self.wanted)),
            effort => effort,
        };
        let search =
            Search { k: self.wanted, effort, allowed: self.allowed, vectors: self.vectors };
        let results = self.index.search(&self.query, &search, &mut self.scratch);
        self.waiting
            .extend(results.iter().rev().filter(|result| !self.passed.contains(result.row)));
        let last = self.wanted >= most;
        self.wanted = (2 * self.wanted).min(EF_MAX);
        !last || !self.waiting.is_empty()
    }
}

impl Iterator for Nearest<'_> {
    type Item = Neighbour;

    fn next(&mut self) -> Option<Neighbour> {
        while self.waiting.is_empty() {
            if !self.look() {
                return None;
            }
        }
        let next = self.waiting.pop()?;
        self.passed.insert(next.row);
        Some(next)
    }
}
