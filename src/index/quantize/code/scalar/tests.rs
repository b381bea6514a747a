//! Scores against the definition, in `f64`, within what rounding to 8 bits (of a row) and to 15 (of a
//! query) can cost.

use super::*;
use crate::index::build::random::Random;
use proptest::prelude::*;

fn placed(values: Vec<f32>) -> Placed {
    let mut placed = Placed::new(values.len());
    placed.values = values;
    placed.split();
    placed
}

fn half_square(values: &[f32]) -> f64 {
    0.5 * values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>()
}

fn half_squared_distance(a: &[f32], b: &[f32]) -> f64 {
    0.5 * a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum::<f64>()
}

fn sum_of_sizes(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value).abs()).sum()
}

fn encode(scalar: &Scalar, rows: &[Vec<f32>]) -> Vec<Line> {
    let width = scalar.lines();
    let mut codes = vec![Line([0xaa; 64]); rows.len() * width];
    for (row, lines) in rows.iter().zip(codes.chunks_exact_mut(width)) {
        scalar.encode(&placed(row.clone()), half_square(row) as f32, lines, &mut scalar.query());
    }
    codes
}

/// The scores of all rows, backwards, the same on every machine.
fn scores(scalar: &Scalar, query: &[f32], codes: &[Line]) -> Vec<f32> {
    let all: Vec<Vec<u32>> = Isa::all()
        .into_iter()
        .map(|isa| {
            let scalar = Scalar { isa, ..scalar.clone() };
            let mut prepared = scalar.query();
            // What it was prepared for before must not matter.
            scalar.prepare(&placed(vec![3.0; query.len()]), &mut prepared);
            scalar.prepare(&placed(query.to_vec()), &mut prepared);
            let rows: Vec<u32> = (0..(codes.len() / scalar.lines()) as u32).rev().collect();
            let mut out = vec![f32::NAN; rows.len()];
            scalar.scores(&prepared, codes, &rows, &mut out);
            out.iter().rev().map(|score| score.to_bits()).collect()
        })
        .collect();
    assert!(all.iter().all(|scores| *scores == all[0]));
    all[0].iter().map(|&bits| f32::from_bits(bits)).collect()
}

/// Of `f32` sums of numbers of such a size.
const ROUNDING: f64 = 4e-7;

proptest! {
    #[test]
    fn scores_are_off_by_no_more_than_rounding(
        seed: u64, dims in 1usize..=140, count in 0usize..=70,
        scale in proptest::sample::select(vec![1e-3f32, 1.0, 1e5]),
        shift in proptest::sample::select(vec![0.0f32, 0.5, -3.0]),
    ) {
        let random = &mut Random::new(seed);
        let mut vector = || -> Vec<f32> {
            random.vector(dims, scale).iter().map(|value| value + shift * scale).collect()
        };
        let rows: Vec<Vec<f32>> = (0..count).map(|_| vector()).collect();
        let query = vector();
        let scalar = Scalar::new(Isa::detect(), dims, None);
        let codes = encode(&scalar, &rows);
        let query_step = f64::from(query.iter().fold(0f32, |a, b| a.max(b.abs()))) / 16_319.0;
        for (row, score) in rows.iter().zip(scores(&scalar, &query, &codes)) {
            let lowest = row.iter().copied().fold(f32::INFINITY, f32::min);
            let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let step = f64::from(highest - lowest) / 255.0;
            let largest = f64::from(highest.abs().max(lowest.abs()));
            let sizes = sum_of_sizes(&query);
            let bound = 0.5 * step * sizes + 0.5 * query_step * (sum_of_sizes(row) + dims as f64 * step)
                + ROUNDING * (3.0 * sizes * largest + half_square(row) + half_square(&query));
            let error = (f64::from(score) - half_squared_distance(&query, row)).abs();
            prop_assert!(error <= bound, "{} > {}", error, bound);
        }
    }

    #[test]
    fn whole_numbers_are_kept_as_they_are(
        seed: u64, dims in 1usize..=140, centre in proptest::collection::vec(0f32..=255.0, 140),
    ) {
        let random = &mut Random::new(seed);
        let mut vector = || -> Vec<u8> {
            (0..dims).map(|_| random.pick(&[0, 255, random.clone().bits() as u8])).collect()
        };
        let (bytes, query) = ([vector(), vector(), vector()], vector());
        let centred = |bytes: &Vec<u8>| -> Vec<f32> {
            bytes.iter().zip(&centre).map(|(&byte, centre)| f32::from(byte) - centre).collect()
        };
        let rows: Vec<Vec<f32>> = bytes.iter().map(centred).collect();
        let query = centred(&query);
        let scalar = Scalar::new(Isa::detect(), dims, Some(centre[..dims].into()));
        prop_assert!(scalar.is_exact());
        let codes = encode(&scalar, &rows);
        for (bytes, lines) in bytes.iter().zip(codes.chunks_exact(scalar.lines())) {
            let stored = lines.iter().flat_map(|line| line.0).take(dims);
            prop_assert!(stored.eq(bytes.iter().copied()));
        }
        let query_step = f64::from(query.iter().fold(0f32, |a, b| a.max(b.abs()))) / 16_319.0;
        let sizes = 255.0 * sum_of_sizes(&query);
        for ((row, bytes), score) in rows.iter().zip(&bytes).zip(scores(&scalar, &query, &codes)) {
            let sum: f64 = bytes.iter().map(|&byte| f64::from(byte)).sum();
            let bound = 0.5 * query_step * sum
                + ROUNDING * (3.0 * sizes + half_square(row) + half_square(&query));
            let error = (f64::from(score) - half_squared_distance(&query, row)).abs();
            prop_assert!(error <= bound, "{} > {}", error, bound);
        }
    }

    #[test]
    fn the_parts_of_a_query_make_up_its_values(
        seed: u64, dims in 1usize..=140,
        scale in proptest::sample::select(vec![1e-40f32, 1e-30, 1e-3, 1.0, 1e15]),
    ) {
        let placed = placed(Random::new(seed).vector(dims, scale));
        let parts = placed.coarse.iter().zip(&placed.fine).flat_map(|(a, b)| a.0.into_iter().zip(b.0));
        let integers: Vec<i64> =
            parts.map(|(a, b)| 128 * i64::from(a as i8) + i64::from(b as i8)).collect();
        prop_assert_eq!(integers.iter().sum::<i64>(), placed.sum);
        prop_assert!(integers[dims..].iter().all(|&integer| integer == 0));
        let largest = placed.values.iter().fold(0f32, |a, b| a.max(b.abs()));
        for (&integer, &value) in integers.iter().zip(&placed.values) {
            let error = (integer as f64 * f64::from(placed.step) - f64::from(value)).abs();
            // A vector too small for a step is none at all.
            let share = if scale < 1e-35 { 1.0 } else { 0.51 / 16_319.0 };
            prop_assert!(error <= f64::from(largest) * share);
        }
    }
}

#[test]
fn equal_values_need_no_step() {
    let scalar = Scalar::new(Isa::detect(), 70, None);
    for value in [0.0, 1.5, -1e9, 1e-40] {
        let codes = encode(&scalar, &[vec![value; 70]]);
        let score = scores(&scalar, &[value; 70], &codes)[0];
        assert!(score.abs() <= 1e-4 * value * value, "{value}: {score}");
    }
}
