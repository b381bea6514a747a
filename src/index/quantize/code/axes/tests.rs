//! Against data whose directions are known.

use super::*;
use crate::index::build::random::Random;
use proptest::prelude::*;

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn directions(axes: &Axes, dims: usize) -> Vec<&[f32]> {
    axes.directions.chunks_exact(dims).collect()
}

/// Every direction is of length 1 and at right angles to all others, or 0.
fn check_orthonormal(axes: &Axes, dims: usize) {
    let directions = directions(axes, dims);
    for (at, a) in directions.iter().enumerate() {
        let square = dot(a, a);
        assert!((square - 1.0).abs() < 1e-5 || square == 0.0, "{at}: {square}");
        for b in &directions[..at] {
            assert!(dot(a, b).abs() < 1e-5, "{at}: {}", dot(a, b));
        }
    }
}

/// As many random directions as there are `spreads`, at right angles, and rows spread along them.
fn planted(random: &mut Random, dims: usize, rows: usize, spreads: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let mut directions = random.vector(dims * spreads.len(), 1.0);
    orthonormalise(&mut directions, dims, Isa::PORTABLE, Threads::One);
    let mut all = vec![0.0; rows * dims];
    for row in all.chunks_exact_mut(dims) {
        for (direction, spread) in directions.chunks_exact(dims).zip(spreads) {
            let share = random.signed() * spread;
            row.iter_mut()
                .zip(direction)
                .for_each(|(value, direction)| *value += share * direction);
        }
    }
    (directions, all)
}

proptest! {
    #[test]
    #[cfg_attr(miri, ignore = "minutes of safe code")]
    fn any_rows_have_orthonormal_axes(
        seed: u64, dims in 1usize..=24, rows in 0usize..40, count in 1usize..30,
        scale in proptest::sample::select(vec![1e-9f32, 1e-4, 1.0, 1e6]),
    ) {
        let rows = Random::new(seed).vector(rows * dims, scale);
        let axes = Axes::fit(&rows, dims, count, Threads::One);
        prop_assert_eq!(axes.variances.len(), count.min(dims));
        prop_assert_eq!(axes.directions.len(), axes.variances.len() * dims);
        prop_assert!(axes.variances.is_sorted_by(|a, b| a >= b));
        check_orthonormal(&axes, dims);
        // All directions together hold all of the variance.
        if count >= dims && !rows.is_empty() {
            let total = dot(&rows, &rows) / (rows.len() / dims) as f64;
            let held: f64 = axes.variances.iter().copied().map(f64::from).sum();
            prop_assert!((held / total - 1.0).abs() < 1e-4, "{} of {}", held, total);
        }
    }

    /// At any scale that a space leaves as it is, and in any size of the rest.
    #[test]
    #[cfg_attr(miri, ignore = "minutes of safe code")]
    fn a_planted_subspace_is_found(
        seed: u64, dims in 12usize..=40,
        scale in proptest::sample::select(vec![1e-8f32, 1e-4, 1.0, 1e6]),
    ) {
        let random = &mut Random::new(seed);
        let (rows, spreads) = (200, [8.0, 4.0, 2.0].map(|spread| spread * scale));
        let (truth, mut all) = planted(random, dims, rows, &spreads);
        let noise = random.vector(all.len(), 0.02 * scale);
        all.iter_mut().zip(noise).for_each(|(value, noise)| *value += noise);
        let axes = Axes::fit(&all, dims, 3, Threads::One);
        check_orthonormal(&axes, dims);
        for truth in truth.chunks_exact(dims) {
            let shares = directions(&axes, dims).into_iter().map(|axis| dot(axis, truth).powi(2));
            let inside: f64 = shares.sum();
            prop_assert!(inside > 0.999, "{}", inside);
        }
        for (axis, &variance) in directions(&axes, dims).into_iter().zip(&axes.variances) {
            let squares = all.chunks_exact(dims).map(|row| dot(row, axis).powi(2));
            let along = squares.sum::<f64>() / rows as f64;
            prop_assert!((f64::from(variance) / along - 1.0).abs() < 1e-3);
        }
    }
}

#[test]
fn where_nothing_varies_there_is_no_direction() {
    let axes = Axes::fit(&[0.0; 6 * 5], 5, 3, Threads::One);
    assert_eq!((axes.directions, axes.variances), (vec![0.0; 15], vec![0.0; 3]));
}

#[test]
fn rows_within_a_plane_have_two_axes_that_vary() {
    let (_, rows) = planted(&mut Random::new(3), 10, 50, &[1.0, 0.5]);
    let axes = Axes::fit(&rows, 10, 5, Threads::One);
    check_orthonormal(&axes, 10);
    assert!(axes.variances[1] > 0.01, "{:?}", axes.variances);
    assert!(axes.variances[2] < 1e-6 * axes.variances[0], "{:?}", axes.variances);
}

#[test]
fn threads_change_nothing() {
    let rows = Random::new(5).vector(60 * 20, 1.0);
    let [a, b] = [Threads::One, if cfg!(miri) { Threads::One } else { Threads::Pool }]
        .map(|threads| Axes::fit(&rows, 20, 8, threads));
    assert_eq!((a.directions, a.variances), (b.directions, b.variances));
}
