//! The closest candidates so far, sorted, each with a mark that says whether it was looked at.

/// A candidate: its score in an order-preserving form above, its row below, and a mark in the last
/// bit. Sorting keys sorts by score, then by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::index) struct Key(u64);

/// Rows have numbers below this: a key has 31 bits for them.
pub(in crate::index) const ROWS_MAX: usize = 1 << 31;

impl Key {
    #[inline]
    pub(in crate::index) fn new(score: f32, row: u32) -> Key {
        let bits = score.to_bits();
        // Flips negative numbers' order and puts them below the positive ones.
        let ordered = bits ^ (((bits as i32 >> 31) as u32) | 0x8000_0000);
        Key(u64::from(ordered) << 32 | u64::from(row) << 1)
    }

    #[inline]
    pub(in crate::index) fn row(self) -> u32 {
        self.0 as u32 >> 1
    }

    #[inline]
    pub(in crate::index) fn score(self) -> f32 {
        let ordered = (self.0 >> 32) as u32;
        f32::from_bits(if ordered >> 31 == 1 { ordered ^ 0x8000_0000 } else { !ordered })
    }

    /// A key in which rows of the same score follow each other from `origin` on, around `count` rows:
    /// so that among many equal rows each prefers its own successors.
    #[inline]
    pub(in crate::index) fn relative(score: f32, row: u32, origin: u32, count: u32) -> Key {
        Key::new(score, if row >= origin { row - origin } else { row + (count - origin) })
    }

    /// The key of the row that a [relative](Key::relative) one stands for.
    #[inline]
    pub(in crate::index) fn absolute(self, origin: u32, count: u32) -> Key {
        let row = u64::from(self.row()) + u64::from(origin);
        let row = if row >= u64::from(count) { row - u64::from(count) } else { row };
        Key(self.0 & !0xffff_ffff | row << 1)
    }

    #[inline]
    fn is_marked(self) -> bool {
        self.0 & 1 == 1
    }
}

/// The best `capacity` keys.
#[derive(Debug, Clone, Default)]
pub(in crate::index) struct Pool {
    keys: Vec<Key>,
    capacity: usize,
    /// No unmarked key lies before this one.
    next: usize,
}

impl Pool {
    /// Empties it.
    pub(in crate::index) fn reset(&mut self, capacity: usize) {
        self.keys.clear();
        self.keys.reserve(capacity + 1);
        self.capacity = capacity;
        self.next = 0;
    }

    pub(in crate::index) fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Only lower scores can enter.
    #[inline]
    pub(in crate::index) fn threshold(&self) -> f32 {
        if self.keys.len() < self.capacity {
            f32::INFINITY
        } else {
            self.keys.last().map_or(f32::NEG_INFINITY, |key| key.score())
        }
    }

    /// Enters a candidate that is not in yet and whose score is below the threshold; says whether it
    /// is known to be the best unmarked one now.
    #[inline]
    pub(in crate::index) fn insert(&mut self, score: f32, row: u32) -> bool {
        let key = Key::new(score, row);
        let at = self.keys.partition_point(|&other| other < key);
        if self.keys.len() < self.capacity {
            self.keys.push(key);
        }
        let last = self.keys.len() - 1;
        self.keys.copy_within(at..last, at + 1);
        self.keys[at] = key;
        let best = at <= self.next;
        self.next = self.next.min(at);
        best
    }

    /// Marks the best unmarked candidate and returns it.
    #[inline]
    pub(in crate::index) fn take_next(&mut self) -> Option<Key> {
        while let Some(key) = self.keys.get_mut(self.next) {
            self.next += 1;
            if !key.is_marked() {
                let taken = *key;
                key.0 |= 1;
                return Some(taken);
            }
        }
        None
    }

    /// The best unmarked candidate.
    #[inline]
    pub(in crate::index) fn peek_next(&self) -> Option<Key> {
        self.keys[self.next.min(self.keys.len())..].iter().find(|key| !key.is_marked()).copied()
    }
}

#[cfg(test)]
mod tests;
