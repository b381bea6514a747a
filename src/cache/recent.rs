//! What was worked out lately and is cheap to hold, next to what it was worked out from.

use std::sync::{Arc, Mutex, MutexGuard};

/// Most values of one [`Recent`]: they are looked through one by one.
const VALUES_MAX: usize = 256;

/// The values used last, by what they were worked out from, up to a budget of bytes. For what does not
/// change as long as its owner lives, so nothing in it can be stale.
#[derive(Debug)]
pub struct Recent<K, V> {
    bytes_max: usize,
    held: Mutex<Held<K, V>>,
}

#[derive(Debug)]
struct Held<K, V> {
    bytes: usize,
    /// The one used last is the last one.
    values: Vec<(K, Arc<V>, usize)>,
}

impl<K: PartialEq, V> Recent<K, V> {
    /// Nothing yet; `bytes_max` at most.
    pub fn new(bytes_max: usize) -> Recent<K, V> {
        Recent { bytes_max, held: Mutex::new(Held { bytes: 0, values: Vec::new() }) }
    }

    fn lock(&self) -> MutexGuard<'_, Held<K, V>> {
        self.held.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The value of `key`, where it is here.
    pub fn get(&self, key: &K) -> Option<Arc<V>> {
        let values = &mut self.lock().values;
        let at = values.iter().rposition(|(other, ..)| other == key)?;
        values[at..].rotate_left(1);
        values.last().map(|(_, value, _)| value.clone())
    }

    /// Keeps a value of `bytes` in place of those that were not used for longest; one that is too large
    /// is not kept.
    pub fn put(&self, key: K, value: Arc<V>, bytes: usize) {
        if bytes > self.bytes_max {
            return;
        }
        let held = &mut *self.lock();
        let is_same = |(other, ..): &(K, Arc<V>, usize)| *other == key;
        if let Some(at) = held.values.iter().position(is_same) {
            held.bytes -= held.values.remove(at).2;
        }
        held.values.push((key, value, bytes));
        held.bytes += bytes;
        let mut dropped = 0;
        while held.bytes > self.bytes_max || held.values.len() - dropped > VALUES_MAX {
            held.bytes -= held.values[dropped].2;
            dropped += 1;
        }
        held.values.drain(..dropped);
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let recent = Recent::new(30);
        for key in 0..3 {
            recent.put(key, Arc::new(key), 10);
        }
        assert_eq!(recent.get(&0).as_deref(), Some(&0));
        recent.put(3, Arc::new(3), 10);
        assert!(recent.get(&1).is_none(), "0 was used since");
        for key in [0, 2, 3] {
            assert_eq!(recent.get(&key).as_deref(), Some(&key));
        }
        assert_eq!(recent.bytes(), 30);
    }

    #[test]
    fn the_budget_is_kept() {
        let recent = Recent::new(100);
        recent.put(0, Arc::new("large"), 101);
        assert!(recent.get(&0).is_none());
        recent.put(1, Arc::new("small"), 60);
        recent.put(1, Arc::new("again"), 60);
        assert_eq!((recent.get(&1).as_deref(), recent.bytes()), (Some(&"again"), 60));
        recent.put(2, Arc::new("other"), 90);
        assert!(recent.get(&1).is_none());
        assert_eq!(recent.bytes(), 90);
    }

    #[test]
    fn there_are_never_more_than_can_be_looked_through() {
        let recent = Recent::new(usize::MAX);
        for key in 0..=VALUES_MAX {
            recent.put(key, Arc::new(()), 1);
        }
        assert_eq!(recent.bytes(), VALUES_MAX);
        assert!(recent.get(&0).is_none() && recent.get(&VALUES_MAX).is_some());
    }
}
