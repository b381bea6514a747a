//! Every kernel against the portable one and against plain `f64`.

use super::*;
use proptest::prelude::*;

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Euclidean, Metric::Dot];

/// The distance by the book, in `f64`, and the scale that its error is relative to.
fn by_the_book(metric: Metric, query: &[f32], row: &[f32]) -> (f64, f64) {
    let pairs = || query.iter().zip(row).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    let dot: f64 = pairs().map(|(a, b)| a * b).sum();
    let size: f64 = pairs().map(|(a, b)| (a * b).abs()).sum();
    let norms: f64 = pairs().map(|(a, _)| a * a).sum::<f64>().sqrt()
        * pairs().map(|(_, b)| b * b).sum::<f64>().sqrt();
    match metric {
        Metric::Cosine if norms == 0.0 => (1.0, 1.0),
        Metric::Cosine => ((1.0 - dot / norms).clamp(0.0, 2.0), 1.0),
        Metric::Euclidean => {
            let l2 = pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
            (l2, l2)
        }
        Metric::Dot => (-dot, size),
    }
}

/// Every kernel on `rows`: the portable one against the book, the others against both.
fn check(query: &[f32], rows: &[f32]) {
    let dims = query.len();
    let inverses: Vec<f32> = rows.chunks(dims).map(inverse_norm).collect();
    for metric in METRICS {
        let mut oracle = Vec::new();
        for isa in Isa::all() {
            let prepared = PreparedQuery::with_isa(metric, query, isa);
            let mut out = vec![f32::NAN; inverses.len()];
            prepared.distances(rows, &inverses, &mut out);
            if isa == Isa::PORTABLE {
                oracle.clone_from(&out);
            }
            for (index, row) in rows.chunks(dims).enumerate() {
                let (book, scale) = by_the_book(metric, query, row);
                let tolerance = 1e-5 * scale + f64::from(f32::MIN_POSITIVE);
                let near = |other: f64| (f64::from(out[index]) - other).abs() <= tolerance;
                // A row alone goes through the loop for what is left of a block.
                let alone = prepared.distance(row, inverses[index]);
                assert!(
                    out[index].is_finite()
                        && near(f64::from(clamp_to_f32(book)))
                        && near(oracle[index].into())
                        && near(alone.into()),
                    "{metric:?} {isa:?} dims {dims}: {}, alone {alone}, portable {}, book {book}",
                    out[index],
                    oracle[index],
                );
            }
        }
    }
}

/// Reproducible values in -1..1, from a counter mixed by a multiplication.
fn values(count: usize, seed: u32) -> Vec<f32> {
    let mix = |index: u32| {
        let x = (index ^ seed.rotate_left(16)).wrapping_mul(0x9e37_79b9);
        (x ^ (x >> 15)).wrapping_mul(0x85eb_ca6b)
    };
    let signed = |x: u32| (x >> 8) as f32 / (1 << 23) as f32 - 1.0;
    (0..count as u32).map(|index| signed(mix(index))).collect()
}

#[test]
#[cfg_attr(miri, ignore = "minutes of safe code")]
fn every_length_and_every_remainder_of_rows() {
    for dims in (1..=130).chain([255, 383, 384, 385, 768, 1023, 1536, 4096]) {
        for rows in [0, 1, 3, 4, 5, 9] {
            check(&values(dims, 1), &values(rows * dims, dims as u32 + 2));
        }
    }
}

#[test]
fn a_row_never_reads_its_neighbour() {
    for dims in [1, 5, 15, 16, 17, 31, 33] {
        let query = values(dims, 3);
        let mut rows = vec![f32::NAN; 7 * dims];
        rows[2 * dims..3 * dims].copy_from_slice(&query);
        rows[6 * dims..].copy_from_slice(&query);
        for isa in Isa::all() {
            let prepared = PreparedQuery::with_isa(Metric::Euclidean, &query, isa);
            let mut out = [0.0; 7];
            prepared.distances(&rows, &[], &mut out);
            let finite: Vec<bool> = out.iter().map(|out| *out == 0.0).collect();
            assert_eq!(finite, [false, false, true, false, false, false, true]);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "minutes of safe code")]
fn huge_and_tiny_values_have_finite_and_accurate_distances() {
    let scales = [f32::MAX, 1e30, 1e20, 1.0, 1e-20, 1e-30, 1e-38, 1e-41];
    for dims in [1, 2, 7, 64, 384] {
        for scale_query in scales {
            for scale_row in scales {
                let scaled = |values: Vec<f32>, scale: f32| -> Vec<f32> {
                    values.into_iter().map(|value| value * scale).collect()
                };
                let query = scaled(values(dims, 5), scale_query);
                check(&query, &scaled(values(5 * dims, 6), scale_row));
            }
        }
    }
}

#[test]
fn the_inverse_norm_is_finite_and_undone_by_the_norm() {
    assert_eq!(inverse_norm(&[0.0; 9]), 0.0);
    assert_eq!(inverse_norm(&[3.0, 4.0]), 0.2);
    assert!(inverse_norm(&[f32::MAX; 4096]) > 0.0);
    assert_eq!(inverse_norm(&[f32::from_bits(1)]), f32::MAX);
    assert!((inverse_norm(&[1e-30; 100]) / 1e29 - 1.0).abs() < 1e-6);
}

#[test]
fn a_vector_is_at_distance_zero_from_itself_and_two_from_its_opposite() {
    for dims in [1, 3, 100, 384] {
        let vector = values(dims, 7);
        let opposite: Vec<f32> = vector.iter().map(|value| -value).collect();
        let inverse = inverse_norm(&vector);
        let cosine = PreparedQuery::new(Metric::Cosine, &vector);
        assert!(cosine.distance(&vector, inverse) < 1e-6);
        assert!(cosine.distance(&opposite, inverse) > 2.0 - 1e-6);
        assert_eq!(cosine.distance(&vec![0.0; dims], 0.0), 1.0);
        assert_eq!(PreparedQuery::new(Metric::Euclidean, &vector).distance(&vector, 0.0), 0.0);
    }
}

#[test]
fn no_distance_is_minus_zero() {
    for isa in Isa::all() {
        let dot = PreparedQuery::with_isa(Metric::Dot, &[0.0, 1.0], isa);
        assert!(dot.distance(&[1.0, 0.0], 0.0).is_sign_positive());
        assert!(dot.distance(&[-1.0, -0.0], 0.0).is_sign_positive());
    }
}

proptest! {
    #[test]
    fn any_finite_input_agrees_with_the_book(
        (query, rows) in (1usize..=130, 0usize..10).prop_flat_map(|(dims, rows)| {
            let value = -1e3f32..1e3;
            let vector = proptest::collection::vec(value.clone(), dims);
            (vector, proptest::collection::vec(value, dims * rows))
        }),
    ) {
        check(&query, &rows);
    }

    #[test]
    fn any_bits_agree_with_the_book(
        (query, rows) in (1usize..40, 1usize..6).prop_flat_map(|(dims, rows)| {
            use proptest::num::f32::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
            let value = POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO;
            let vector = proptest::collection::vec(value, dims);
            (vector, proptest::collection::vec(value, dims * rows))
        }),
    ) {
        check(&query, &rows);
    }
}
