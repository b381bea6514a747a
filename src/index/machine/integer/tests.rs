//! The portable loops against sums by the book, all others against the portable ones, bit for bit.

use super::*;
use crate::index::build::random::Random;
use proptest::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

const ROWS: usize = if cfg!(miri) { 5 } else { 11 };

/// Lines of bytes, each of them made by `byte`.
fn lines(count: usize, mut byte: impl FnMut() -> u8) -> Vec<Line> {
    (0..count).map(|_| Line(std::array::from_fn(|_| byte()))).collect()
}

/// Rows: any bytes, the ends of their range, or the upper end alone.
fn codes(random: &mut Random, count: usize) -> Vec<Line> {
    match random.below(3) {
        0 => lines(count, || random.bits() as u8),
        1 => lines(count, || random.pick(&[0, 255])),
        _ => lines(count, || 255),
    }
}

/// Signed bytes from `-most` to 127, or only its ends, or only one of them.
fn factors(random: &mut Random, count: usize, most: i8) -> Vec<Line> {
    let lowest = most.wrapping_neg();
    match random.below(4) {
        0 => lines(count, || (random.bits() as i8).max(lowest) as u8),
        1 => lines(count, || random.pick(&[lowest, 127]) as u8),
        2 => lines(count, || lowest as u8),
        _ => lines(count, || 127),
    }
}

/// Four queries with the same masks.
struct Queries {
    masks: Vec<Line>,
    low: Vec<Vec<Line>>,
    high: Vec<Vec<Line>>,
}

impl Queries {
    fn new(random: &mut Random, count: usize) -> Queries {
        let one = random.pick(&[127, 15, 0]);
        let mixed = random.below(2) == 0;
        // Where nothing is taken from the lower part, its mask may be anything.
        let masks = lines(count, || if mixed { random.pick(&[127, 15, 0, 255]) } else { one });
        let mut low: Vec<_> = (0..4).map(|_| factors(random, count, 127)).collect();
        for low in low.iter_mut().flatten().zip(masks.iter().cycle()) {
            let bytes = low.0.0.iter_mut().zip(&low.1.0);
            bytes.filter(|(_, mask)| **mask == 255).for_each(|(low, _)| *low = 0);
        }
        let high = (0..4).map(|_| factors(random, count, 127)).collect();
        Queries { masks, low, high }
    }

    fn of(&self, query: usize) -> Nibbles<'_> {
        Nibbles { masks: &self.masks, low: &self.low[query], high: &self.high[query] }
    }
}

fn nibbles_by_the_book(query: Nibbles<'_>, row: &[Line]) -> i32 {
    let mut sum = 0i64;
    for (line, row) in row.iter().enumerate().take(query.low.len()) {
        for (at, &byte) in row.0.iter().enumerate() {
            let (low, high) = (query.low[line].0[at] as i8, query.high[line].0[at] as i8);
            sum += i64::from(byte & query.masks[line].0[at]) * i64::from(low);
            sum += i64::from(byte / 16) * i64::from(high);
        }
    }
    sum.try_into().expect("within the documented bounds")
}

fn bytes_by_the_book(query: &[Line], row: &[Line]) -> i32 {
    let pairs = query.iter().zip(row).flat_map(|(query, row)| query.0.into_iter().zip(row.0));
    let sum: i64 = pairs.map(|(query, byte)| i64::from(query as i8) * i64::from(byte)).sum();
    sum.try_into().expect("within the documented bounds")
}

/// What no sum here is: the largest is 6 * 64 * 255 * 128.
const UNTOUCHED: i32 = i32::MIN;

fn check_bytes<const PARTS: usize>(
    random: &mut Random,
    count: usize,
    spare: usize,
    picked: &[u32],
) {
    let stride = count + spare;
    let codes = codes(random, ROWS * stride);
    let parts: [Vec<Line>; PARTS] = std::array::from_fn(|_| factors(random, count, -128));
    let query = std::array::from_fn(|part| &*parts[part]);
    for isa in Isa::all() {
        let mut out = vec![[UNTOUCHED; PARTS]; picked.len() + 1];
        isa.byte_dots(query, &codes, stride, picked, &mut out);
        for (&row, out) in picked.iter().zip(&out) {
            let row = &codes[row as usize * stride..][..stride];
            assert_eq!(*out, query.map(|part| bytes_by_the_book(part, row)), "{isa:?}");
        }
        assert_eq!(out[picked.len()], [UNTOUCHED; PARTS], "{isa:?}");
    }
}

proptest! {
    #[test]
    fn nibbles_of_picked_rows(
        seed: u64, count in 1usize..=6, spare in 0usize..3,
        picked in proptest::collection::vec(0u32..ROWS as u32, 0..=ROWS),
    ) {
        let random = &mut Random::new(seed);
        let stride = count + spare;
        let (codes, queries) = (codes(random, ROWS * stride), Queries::new(random, count));
        for isa in Isa::all() {
            let mut out = vec![UNTOUCHED; picked.len() + 1];
            isa.nibble_dots(queries.of(0), &codes, stride, &picked, &mut out);
            let rows = picked.iter().map(|&row| &codes[row as usize * stride..][..stride]);
            let book: Vec<i32> = rows.map(|row| nibbles_by_the_book(queries.of(0), row)).collect();
            prop_assert_eq!(&out[..picked.len()], book, "{:?}", isa);
            prop_assert_eq!(out[picked.len()], UNTOUCHED);
        }
    }

    #[test]
    fn nibbles_of_all_rows(seed: u64, count in 1usize..=6, rows in 0usize..=ROWS) {
        let random = &mut Random::new(seed);
        // More rows than are asked for.
        let (codes, queries) = (codes(random, ROWS * count), Queries::new(random, count));
        let book: Vec<[i32; 4]> = codes
            .chunks_exact(count)
            .map(|row| std::array::from_fn(|at| nibbles_by_the_book(queries.of(at), row)))
            .collect();
        for isa in Isa::all() {
            let mut tile = vec![[UNTOUCHED; 4]; rows];
            isa.nibble_tile(std::array::from_fn(|at| queries.of(at)), &codes, &mut tile);
            prop_assert_eq!(&*tile, &book[..rows], "{:?}", isa);
            let mut run = vec![UNTOUCHED; rows];
            isa.nibble_run(queries.of(3), &codes, &mut run);
            let book: Vec<i32> = book[..rows].iter().map(|sums| sums[3]).collect();
            prop_assert_eq!(run, book, "{:?}", isa);
        }
    }

    #[test]
    fn bytes_of_picked_rows(
        seed: u64, count in 1usize..=6, spare in 0usize..3,
        picked in proptest::collection::vec(0u32..ROWS as u32, 0..=ROWS),
    ) {
        let random = &mut Random::new(seed);
        check_bytes::<1>(random, count, spare, &picked);
        check_bytes::<2>(random, count, spare, &picked);
    }
}

/// The longest row with the largest values, of either sign.
#[test]
#[cfg_attr(miri, ignore = "minutes of arithmetic")]
fn the_documented_bounds_do_not_overflow() {
    let count = ROW_BYTES_MAX / Line::BYTES;
    let row = vec![Line([255; 64]); count];
    let masks = vec![Line([127; 64]); count];
    for isa in Isa::all() {
        for factor in [-128i8, 127] {
            let query = vec![Line([factor as u8; 64]); count];
            let mut out = [[0]];
            isa.byte_dots([&query], &row, count, &[0], &mut out);
            assert_eq!(out, [[255 * i32::from(factor) * ROW_BYTES_MAX as i32]], "{isa:?}");
        }
        for factor in [-127i8, 127] {
            let query = vec![Line([factor as u8; 64]); count];
            let mut out = [0];
            let nibbles = Nibbles { masks: &masks, low: &query, high: &query };
            isa.nibble_dots(nibbles, &row, count, &[0], &mut out);
            assert_eq!(out, [142 * i32::from(factor) * ROW_BYTES_MAX as i32], "{isa:?}");
        }
    }
}

/// Whatever a caller gets wrong, nothing outside of the slices is read or written.
#[test]
fn wrong_lengths_panic() {
    let panics = |call: &mut dyn FnMut()| catch_unwind(AssertUnwindSafe(call)).is_err();
    let (two, three) = ([Line::ZERO; 2], [Line::ZERO; 3]);
    let query = Nibbles { masks: &two, low: &two, high: &two };
    for isa in Isa::all() {
        // Three lines hold one row of two and a half of the next.
        assert!(!panics(&mut || isa.nibble_dots(query, &three, 2, &[0], &mut [0])));
        assert!(panics(&mut || isa.nibble_dots(query, &three, 2, &[0, 1], &mut [0; 2])));
        assert!(panics(&mut || isa.nibble_dots(query, &three, 2, &[0, 0], &mut [0])));
        assert!(panics(&mut || isa.nibble_run(query, &three, &mut [0; 2])));
        assert!(panics(&mut || isa.nibble_tile([query; 4], &three, &mut [[0; 4]; 2])));
        assert!(!panics(&mut || isa.byte_dots([&two, &two], &three, 2, &[0], &mut [[0; 2]])));
        assert!(panics(&mut || isa.byte_dots([&two, &two], &three, 2, &[1], &mut [[0; 2]])));
        assert!(panics(&mut || isa.byte_dots([&two, &two[..1]], &three, 2, &[0], &mut [[0; 2]])));
        let short = [
            Nibbles { masks: &two[..1], ..query },
            Nibbles { high: &two[..1], ..query },
            Nibbles { low: &three, ..query },
        ];
        for short in short {
            assert!(panics(&mut || isa.nibble_dots(short, &three, 2, &[0], &mut [0])));
            assert!(panics(&mut || isa.nibble_run(short, &three, &mut [0])));
            let mut queries = [short; 4];
            assert!(panics(&mut || isa.nibble_tile(queries, &three, &mut [[0; 4]])));
            // The masks are those of the first.
            queries[..3].fill(query);
            let harmless = short.masks.len() == 1 || short.low.len() == 3;
            let panicked = panics(&mut || isa.nibble_tile(queries, &three, &mut [[0; 4]]));
            assert_eq!(panicked, !harmless, "{isa:?}");
        }
    }
}
