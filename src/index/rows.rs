//! Sets of rows: what a filter allows.

/// A set of rows of an index, a bit for each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowSet {
    words: Vec<u64>,
    count: usize,
}

impl RowSet {
    /// Rows in a word.
    pub(in crate::index) const WORD_ROWS: usize = u64::BITS as usize;

    /// The rows whose bits are set in `words`, the lowest bit of the first being row 0's.
    pub fn from_words(words: Vec<u64>) -> RowSet {
        let count = words.iter().map(|word| word.count_ones() as usize).sum();
        RowSet { words, count }
    }

    /// An empty set, with room for rows below `rows`.
    pub fn new(rows: usize) -> RowSet {
        RowSet { words: vec![0; rows.div_ceil(64)], count: 0 }
    }

    /// Adds a row; says whether it was not in yet.
    ///
    /// # Panics
    ///
    /// If the set has no room for it.
    pub fn insert(&mut self, row: u32) -> bool {
        let word = &mut self.words[row as usize / 64];
        let bit = 1 << (row % 64);
        let new = *word & bit == 0;
        *word |= bit;
        self.count += usize::from(new);
        new
    }

    /// Whether a row is in.
    #[inline]
    pub fn contains(&self, row: u32) -> bool {
        self.words.get(row as usize / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// The rows from `at` times [`WORD_ROWS`](Self::WORD_ROWS) on, a bit for each.
    pub(in crate::index) fn word(&self, at: usize) -> u64 {
        self.words.get(at).copied().unwrap_or(0)
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.words.len() * size_of::<u64>()
    }

    /// How many rows are in.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether no row is in.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The rows, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(at, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(at as u32 * 64 + bit)
            })
        })
    }
}

impl FromIterator<u32> for RowSet {
    fn from_iter<I: IntoIterator<Item = u32>>(rows: I) -> RowSet {
        let mut set = RowSet::default();
        for row in rows {
            if set.words.len() <= row as usize / 64 {
                set.words.resize(row as usize / 64 + 1, 0);
            }
            set.insert(row);
        }
        set
    }
}

#[cfg(test)]
mod tests;
