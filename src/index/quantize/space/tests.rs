//! Scores of placed vectors against distances by the book.

use super::*;
use crate::index::build::random::Random;
use crate::index::quantize::code::Placed;
use proptest::prelude::*;

const KINDS: [(Metric, Form); 4] = [
    (Metric::Cosine, Form::Distances),
    (Metric::Euclidean, Form::Distances),
    (Metric::Dot, Form::Distances),
    (Metric::Dot, Form::Products),
];

/// From the largest that is finite to less than the smallest normal one.
const SCALES: [f32; 9] = [f32::MAX, 1e30, 1e12, 1e3, 1.0, 1e-3, 1e-12, 1e-30, 1e-41];

/// The score of placed vectors, summed up as the code formats do.
fn score(space: &Space, query: &[f32], row: &[f32]) -> f32 {
    let mut placed = [vec![f32::NAN; space.placed_dims()], vec![f32::NAN; space.placed_dims()]];
    space.place_query(query, &mut placed[0]);
    let bias = space.place_row(row, &mut placed[1]);
    let constant = space.constant(&placed[0], dot(&placed[0], &placed[0]) as f32);
    let (row, mut score) = ((bias, dot(&placed[0], &placed[1]) as f32), [0.0]);
    space.form.scores([row].into_iter(), constant, &mut score);
    score[0]
}

/// The distance, and the size that its error is relative to.
fn by_the_book(metric: Metric, query: &[f32], row: &[f32]) -> (f64, f64) {
    let norms = norm(query) * norm(row);
    match metric {
        Metric::Cosine if norms == 0.0 => (1.0, 1.0),
        Metric::Cosine => (1.0 - dot(query, row) / norms, 1.0),
        Metric::Euclidean => {
            let pairs = query.iter().zip(row);
            let square: f64 = pairs.map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
            (square.sqrt(), norm(query) + norm(row))
        }
        Metric::Dot => (-dot(query, row), norms),
    }
}

fn rows(random: &mut Random, dims: usize, scale: f32) -> Vec<f32> {
    // Of different lengths, apart from the middle.
    let mut rows = random.vector(8 * dims, 0.5 * scale);
    for row in rows.chunks_exact_mut(dims) {
        let length = 0.5 + 0.25 * random.signed();
        row.iter_mut().for_each(|value| *value = *value * length + 0.2 * scale);
    }
    rows
}

proptest! {
    #[test]
    fn a_score_stands_for_the_distance(
        seed: u64, dims in 1usize..=20,
        scale in proptest::sample::select(SCALES.to_vec()),
        // So much longer or shorter than the rows may a query be.
        factor in proptest::sample::select(vec![1e-2f32, 1.0, 10.0]),
    ) {
        let random = &mut Random::new(seed);
        for (metric, form) in KINDS {
            let rows = rows(random, dims, scale);
            let query = random.vector(dims, (scale * factor).min(f32::MAX));
            let space = Space::fit((metric, form), dims, &rows, &rows, Threads::One);
            for row in rows.chunks_exact(dims) {
                let (book, size) = by_the_book(metric, &query, row);
                // Placed vectors are relative to the middle.
                let size = size + norm(&space.centre) / f64::from(space.scale);
                let found = f64::from(space.distance(score(&space, &query, row), norm(&query)));
                let (error, tolerance) = match metric {
                    // Rounding is relative to the square, of which this is the root.
                    Metric::Euclidean => ((found * found - book * book).abs(), 1e-5 * size * size),
                    // The rows' length stands in for theirs.
                    Metric::Dot => {
                        let longest = rows.chunks_exact(dims).map(norm).fold(0.0, f64::max);
                        ((found - book).abs(), 1e-5 * norm(&query) * longest)
                    }
                    Metric::Cosine => ((found - book).abs(), 1e-5),
                };
                let limit = f64::from(f32::MAX) * 0.99;
                let tolerance = tolerance + f64::from(f32::MIN_POSITIVE);
                prop_assert!(
                    error <= tolerance || (found.abs() >= limit && book.abs() >= limit),
                    "{:?} {:?} {} {}: {} is not {}", metric, form, scale, factor, found, book
                );
            }
        }
    }

    /// A query may be so short that nothing of it is left.
    #[test]
    fn a_query_of_zeros_is_as_far_as_the_book_says(
        seed: u64, dims in 1usize..=20, scale in proptest::sample::select(SCALES.to_vec()),
    ) {
        let rows = rows(&mut Random::new(seed), dims, scale);
        let query = vec![0.0; dims];
        for (metric, form) in KINDS.into_iter().filter(|kind| kind.0 != Metric::Euclidean) {
            let space = Space::fit((metric, form), dims, &rows, &rows, Threads::One);
            for row in rows.chunks_exact(dims) {
                let found = space.distance(score(&space, &query, row), 0.0);
                prop_assert_eq!(f64::from(found), by_the_book(metric, &query, row).0);
            }
        }
    }

    /// Of a query only the direction counts, however long or short it is.
    #[test]
    fn under_dot_scores_rank_like_the_inner_product(
        seed: u64, dims in 1usize..=20,
        scale in proptest::sample::select(SCALES[..8].to_vec()),
        query_scale in proptest::sample::select(SCALES[..8].to_vec()),
    ) {
        let random = &mut Random::new(seed);
        let rows = rows(random, dims, scale);
        let query = random.vector(dims, query_scale);
        for form in [Form::Distances, Form::Products] {
            let space = Space::fit((Metric::Dot, form), dims, &rows, &rows, Threads::One);
            let longest = rows.chunks_exact(dims).map(norm).fold(0.0, f64::max);
            let clear = 1e-5 * norm(&query) * longest;
            for a in rows.chunks_exact(dims) {
                for b in rows.chunks_exact(dims) {
                    if dot(&query, a) > dot(&query, b) + clear {
                        prop_assert!(score(&space, &query, a) < score(&space, &query, b));
                    }
                }
            }
        }
    }

    #[test]
    fn placed_rows_lie_around_their_middle(
        seed: u64, dims in 1usize..=20, scale in proptest::sample::select(SCALES.to_vec()),
    ) {
        for (metric, form) in KINDS {
            let rows = rows(&mut Random::new(seed), dims, scale);
            let space = Space::fit((metric, form), dims, &rows, &rows, Threads::One);
            let mut placed = vec![f32::NAN; space.placed_dims()];
            let (mut sums, mut largest) = (vec![0f64; space.placed_dims()], 0f64);
            for row in rows.chunks_exact(dims) {
                let bias = f64::from(space.place_row(row, &mut placed));
                sums.iter_mut().zip(&placed).for_each(|(sum, &value)| *sum += f64::from(value));
                largest = largest.max(norm(&placed));
                let square = dot(&placed, &placed) + dot(&space.centre, &space.centre);
                if form == Form::Distances {
                    prop_assert!((bias - 0.5 * dot(&placed, &placed)).abs() <= 1e-5 * square);
                }
            }
            let around = sums.iter().all(|sum| sum.abs() <= 1e-5 * (largest + norm(&space.centre)));
            prop_assert!(around, "{:?} {:?}", metric, sums);
        }
    }

    /// Whatever a space was fitted to, whatever is placed in it.
    #[test]
    fn everything_stays_finite(
        seed: u64, dims in 1usize..=20,
        scales in proptest::array::uniform3(proptest::sample::select([&SCALES[..], &[0.0]].concat())),
    ) {
        let random = &mut Random::new(seed);
        let [rows, row, query] = [8 * dims, dims, dims];
        let rows = random.vector(rows, scales[0]);
        let [row, query] = [random.vector(row, scales[1]), random.vector(query, scales[2])];
        for (metric, form) in KINDS {
            let space = Space::fit((metric, form), dims, &rows, &rows, Threads::One);
            prop_assert!(space.scale.is_normal() && space.radius.is_finite());
            let mut placed = Placed::new(space.placed_dims());
            for row in rows.chunks_exact(dims).chain([&*row]) {
                prop_assert!(space.place_row(row, &mut placed.values).is_finite());
                placed.split();
                prop_assert!(placed.square.is_finite() && placed.step.is_finite());
                let score = score(&space, &query, row);
                prop_assert!(score.is_finite(), "{:?} {:?}", metric, scales);
                let distance = space.distance(score, norm(&query));
                prop_assert!(distance.is_finite(), "{:?} {:?}", metric, scales);
            }
            space.place_query(&query, &mut placed.values);
            placed.split();
            prop_assert!(placed.square.is_finite() && placed.step.is_finite());
        }
    }
}

#[test]
fn values_are_kept_where_they_do_no_harm() {
    let kept = |metric, rows: &[f32]| {
        let kind = (metric, Form::Distances);
        Space::fit(kind, 2, rows, rows, Threads::One).keeps_values()
    };
    assert!(kept(Metric::Euclidean, &[0.0, 255.0, 3.0, 7.0]));
    assert!(kept(Metric::Euclidean, &[0.0, 0.0]) && kept(Metric::Euclidean, &[]));
    assert!(!kept(Metric::Euclidean, &[1e9, 0.0]) && !kept(Metric::Euclidean, &[1e-9, 0.0]));
    assert!(!kept(Metric::Cosine, &[1.0, 0.0]) && !kept(Metric::Dot, &[1.0, 0.0]));
}
