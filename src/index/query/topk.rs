//! The k closest of many.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Room made at once; a larger `k` grows as it fills.
const RESERVED_MAX: usize = 1_024;

/// Keeps the `k` smallest of the pairs (distance, item) pushed into it. Equal distances are
/// ordered by item, so the outcome does not depend on the order of the pushes. A NaN distance never
/// enters.
#[derive(Debug, Clone)]
pub struct TopK<T: Ord> {
    k: usize,
    /// The farthest of the kept is on top.
    heap: BinaryHeap<Entry<T>>,
}

#[derive(Debug, Clone)]
struct Entry<T> {
    /// Never NaN, and never -0.0, which would not equal 0.0 under `total_cmp`.
    distance: f32,
    item: T,
}

impl<T: Ord> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.distance.total_cmp(&other.distance).then_with(|| self.item.cmp(&other.item))
    }
}

impl<T: Ord> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ord> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T: Ord> Eq for Entry<T> {}

impl<T: Ord> TopK<T> {
    /// An empty collector of at most `k` pairs.
    pub fn new(k: usize) -> Self {
        TopK { k, heap: BinaryHeap::with_capacity(k.min(RESERVED_MAX)) }
    }

    /// The largest distance that may still enter; one that equals it enters only with a smaller
    /// item. Infinite until `k` pairs are kept, then falling; minus infinity if `k` is 0.
    ///
    /// Skip a pair without building its item where `distance > threshold()`.
    #[inline]
    pub fn threshold(&self) -> f32 {
        match self.heap.peek() {
            Some(farthest) if self.heap.len() >= self.k => farthest.distance,
            _ if self.k == 0 => f32::NEG_INFINITY,
            _ => f32::INFINITY,
        }
    }

    /// Offers a pair; says whether it was kept (for now).
    #[inline]
    pub fn push(&mut self, distance: f32, item: T) -> bool {
        if distance.is_nan() || distance > self.threshold() || self.k == 0 {
            return false;
        }
        let entry = Entry { distance: distance + 0.0, item };
        if self.heap.len() < self.k {
            self.heap.push(entry);
            return true;
        }
        match self.heap.peek_mut() {
            Some(mut farthest) if entry < *farthest => {
                *farthest = entry;
                true
            }
            _ => false,
        }
    }

    /// Takes over what another collector kept.
    pub fn merge(&mut self, other: TopK<T>) {
        for entry in other.heap {
            self.push(entry.distance, entry.item);
        }
    }

    /// How many pairs are kept.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// The kept pairs, closest first.
    pub fn into_sorted(self) -> Vec<(f32, T)> {
        let sorted = self.heap.into_sorted_vec().into_iter();
        sorted.map(|entry| (entry.distance, entry.item)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nan_never_enters_and_zeros_of_both_signs_are_equal() {
        let mut top = TopK::new(2);
        assert!(!top.push(f32::NAN, 0));
        assert!(!top.push(-f32::NAN, 0));
        assert_eq!(top.threshold(), f32::INFINITY);
        assert!(top.push(0.0, 1));
        assert!(top.push(-0.0, 9));
        assert!(top.push(-0.0, 2), "9 must give way to 2 at the same distance");
        assert!(!top.push(0.0, 3));
        assert_eq!(top.into_sorted(), [(0.0, 1), (0.0, 2)]);
    }

    #[test]
    fn zero_keeps_nothing_and_rejects_everything_early() {
        let mut top = TopK::new(0);
        assert!(top.threshold() == f32::NEG_INFINITY);
        assert!(!top.push(f32::NEG_INFINITY, 1));
        assert!(top.is_empty());
    }

    #[test]
    fn infinities_are_distances_too() {
        let mut top = TopK::new(2);
        assert!(top.push(f32::INFINITY, 1));
        assert!(top.push(f32::INFINITY, 0));
        assert!(top.push(f32::NEG_INFINITY, 5));
        assert_eq!(top.into_sorted(), [(f32::NEG_INFINITY, 5), (f32::INFINITY, 0)]);
    }

    proptest! {
        #[test]
        fn it_keeps_what_a_full_sort_would(
            pairs in proptest::collection::vec((-3i8..3, 0u16..500), 0..200),
            k in 0usize..40,
            cut in 0usize..200,
        ) {
            let mut expected: Vec<(f32, u16)> =
                pairs.iter().map(|&(d, item)| (f32::from(d) / 2.0, item)).collect();
            let (mut left, mut right) = (TopK::new(k), TopK::new(k));
            for (index, &(distance, item)) in expected.iter().enumerate() {
                let top = if index < cut { &mut left } else { &mut right };
                let threshold = top.threshold();
                let kept = top.push(distance, item);
                prop_assert!(!(kept && distance > threshold));
            }
            left.merge(right);
            expected.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            expected.truncate(k);
            prop_assert_eq!(left.into_sorted(), expected);
        }
    }
}
