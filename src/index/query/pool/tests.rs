//! Keys against the total order of numbers, the pool against a list that is sorted every time.

use super::*;
use crate::index::build::random::Random;
use proptest::prelude::*;

const LARGEST_ROW: u32 = ROWS_MAX as u32 - 1;

fn check_order(a: (f32, u32), b: (f32, u32)) {
    let keys = Key::new(a.0, a.1).cmp(&Key::new(b.0, b.1));
    assert_eq!(keys, a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)), "{a:?} {b:?}");
}

#[test]
fn keys_order_the_ends_of_all_ranges() {
    let positive = [0.0, f32::from_bits(1), f32::MIN_POSITIVE, 1.0, f32::MAX, f32::INFINITY];
    let scores: Vec<f32> = positive.iter().flat_map(|&score| [score, -score]).collect();
    for &a in &scores {
        for &b in &scores {
            for rows in [(0, 0), (0, 1), (LARGEST_ROW, 0), (LARGEST_ROW, LARGEST_ROW)] {
                check_order((a, rows.0), (b, rows.1));
            }
        }
    }
}

/// One candidate of a pool that sorts all it has every time.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    key: Key,
    taken: bool,
}

#[derive(Debug, Default)]
struct Naive {
    candidates: Vec<Candidate>,
}

impl Naive {
    fn insert(&mut self, score: f32, row: u32, capacity: usize) {
        self.candidates.push(Candidate { key: Key::new(score, row), taken: false });
        self.candidates.sort_by_key(|candidate| candidate.key);
        self.candidates.truncate(capacity);
    }

    fn next(&mut self) -> Option<&mut Candidate> {
        self.candidates.iter_mut().find(|candidate| !candidate.taken)
    }

    fn rows(&self) -> Vec<(f32, u32)> {
        let keys = self.candidates.iter().map(|candidate| candidate.key);
        keys.map(|key| (key.score(), key.row())).collect()
    }
}

proptest! {
    #[test]
    fn keys_order_any_bits(a: u32, b: u32, rows in (0..=LARGEST_ROW, 0..=LARGEST_ROW)) {
        let (a, b) = (f32::from_bits(a), f32::from_bits(b));
        check_order((a, rows.0), (b, rows.1));
        check_order((a, rows.0), (a, rows.1));
        let key = Key::new(a, rows.0);
        prop_assert_eq!((key.score().to_bits(), key.row()), (a.to_bits(), rows.0));
    }

    #[test]
    fn a_relative_key_stands_for_its_row(
        score in -1e9f32..1e9,
        (count, a, b, origin) in (1..=ROWS_MAX as u32)
            .prop_flat_map(|count| (Just(count), 0..count, 0..count, 0..count)),
    ) {
        let [of_a, of_b] = [a, b].map(|row| Key::relative(score, row, origin, count));
        prop_assert_eq!(of_a.absolute(origin, count), Key::new(score, a));
        prop_assert_eq!(of_b.absolute(origin, count), Key::new(score, b));
        // Equal rows follow each other from the origin on.
        let after = |row: u32| (u64::from(row) + u64::from(count) - u64::from(origin)) % u64::from(count);
        prop_assert_eq!(of_a.cmp(&of_b), after(a).cmp(&after(b)));
    }

    #[test]
    fn a_pool_keeps_and_hands_out_what_a_sorted_list_would(
        seed: u64, capacity in 1usize..12, steps in 0usize..60,
    ) {
        let random = &mut Random::new(seed);
        let (mut pool, mut naive) = (Pool::default(), Naive::default());
        // What was in it before must not matter.
        pool.reset(3);
        pool.insert(1.0, 1);
        pool.take_next();
        pool.reset(capacity);
        for row in 0..steps as u32 {
            if random.below(3) == 0 {
                let next = naive.next().map(|next| { next.taken = true; next.key });
                prop_assert_eq!(pool.peek_next(), next);
                prop_assert_eq!(pool.take_next(), next);
                continue;
            }
            // Few different scores, so that rows decide too.
            let (score, row) = (random.pick(&[-2.0, -0.0, 0.0, 1.0, 3.5]), row ^ 21);
            if score >= pool.threshold() {
                prop_assert!(naive.candidates.len() == capacity);
                prop_assert!(score >= naive.candidates[capacity - 1].key.score());
                continue;
            }
            naive.insert(score, row, capacity);
            if pool.insert(score, row) {
                prop_assert_eq!(naive.next().map(|next| next.key), Some(Key::new(score, row)));
            }
            let kept: Vec<_> = pool.keys().iter().map(|key| (key.score(), key.row())).collect();
            prop_assert_eq!(kept, naive.rows());
        }
    }
}

#[test]
fn a_new_candidate_before_all_others_is_the_best() {
    let mut pool = Pool::default();
    pool.reset(3);
    assert!(pool.insert(2.0, 7));
    assert!(!pool.insert(3.0, 8));
    assert!(pool.insert(1.0, 9));
    assert_eq!(pool.threshold(), 3.0);
    assert_eq!(pool.take_next().map(Key::row), Some(9));
    assert!(pool.insert(0.5, 1), "before one that was taken");
    assert_eq!(pool.threshold(), 2.0);
    assert_eq!(
        [pool.take_next(), pool.take_next()].map(|key| key.map(Key::row)),
        [Some(1), Some(7)]
    );
    assert_eq!(pool.take_next(), None);
}
