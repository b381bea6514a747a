//! What searches give back, in all the ways to ask.

use super::*;
use crate::index::quantize::code::Code;

#[test]
fn a_batch_is_its_searches() {
    let set = data::clustered(1_500, 16);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    for metric in METRICS {
        let built = Built::of(metric, &set, Builder::Brainy);
        let vectors = &built.vectors[..];
        let allowed: RowSet = (0..1_500).filter(|row| row % 2 == 0).collect();
        for allowed in [None, Some(&allowed)] {
            for vectors in [None, Some(&vectors as &dyn Vectors)] {
                let search = Search { allowed, vectors, effort: Effort::Ef(20), ..TEN };
                let single: Vec<Vec<Neighbour>> = set
                    .queries()
                    .map(|query| {
                        built.index.search(query, &search, &mut Scratch::default()).to_vec()
                    })
                    .collect();
                let alone = built.index.search_batch(&set.queries, &search, Threads::One);
                assert_eq!(alone, single);
                let together =
                    pool.install(|| built.index.search_batch(&set.queries, &search, Threads::Pool));
                assert_eq!(together, single);
            }
        }
    }
}

/// One scratch space serves indices of different shapes, one after the other.
#[test]
fn scratch_is_reused() {
    let sets = [data::gaussian(600, 12), data::gaussian(100, 90), data::uniform(1_500, 3)];
    let built: Vec<Built> = sets
        .iter()
        .zip(METRICS)
        .map(|(set, metric)| Built::of(metric, set, Builder::Brainy))
        .collect();
    let mut scratch = Scratch::default();
    for at in 0..20 {
        for (set, built) in sets.iter().zip(&built) {
            let query = set.queries().nth(at).unwrap();
            let search = Search { effort: Effort::Ef(20), ..TEN };
            let fresh = built.index.search(query, &search, &mut Scratch::default()).to_vec();
            assert_eq!(built.index.search(query, &search, &mut scratch), fresh);
        }
    }
}

/// On queries that it was not measured by.
#[test]
fn efforts_reach_their_recall() {
    let mut set = data::gaussian(2_000, 24);
    let held_out = set.rows.split_off(1_800 * set.dims);
    for builder in BUILDERS {
        for metric in METRICS {
            let built = Built::of(metric, &set, builder);
            for wanted in [0.9, 0.99] {
                let recall = built.recall(&held_out, Effort::Recall(wanted));
                println!("{builder:?} {metric:?} asked for {wanted}: {recall:.3}");
                assert!(recall >= wanted - 0.03, "{builder:?} {metric:?} {wanted}: {recall}");
            }
        }
    }
}

#[test]
fn one_result_and_more_than_there_are() {
    let set = data::clustered(900, 16);
    for builder in BUILDERS {
        for metric in METRICS {
            let built = Built::of(metric, &set, builder);
            let mut firsts = Vec::new();
            for query in set.queries() {
                let all = built.search(query, Search { k: 5_000, ..TEN });
                assert_sound(&all, 900);
                assert_eq!(share(&all, &built.exact(query, 900, None)), 1.0);
                let found = built.search(query, Search { k: 1, ..TEN });
                assert_sound(&found, 1);
                firsts.push(share(&found, &all[..1]));
            }
            assert!(mean(firsts.into_iter()) >= 0.95);
        }
    }
}

/// Without full-precision vectors the distances are those of the codes: right to about a percent of
/// the largest there can be.
#[test]
fn distances_of_codes() {
    for set in [data::clustered(1_500, 48), data::long_and_short(1_500, 20)] {
        for metric in METRICS {
            let built = Built::of(metric, &set, Builder::Brainy);
            for query in set.queries() {
                let prepared = PreparedQuery::new(metric, query);
                let farthest = built.exact(query, 1_500, None);
                let largest = farthest.iter().map(|result| result.distance.abs());
                let largest = largest.fold(0.0, f32::max);
                let mut scratch = Scratch::default();
                for result in built.index.search(query, &TEN, &mut scratch) {
                    let vector = &built.vectors[result.row as usize * set.dims..][..set.dims];
                    let exact = prepared.distance(vector, inverse_norm(vector));
                    let error = (result.distance - exact).abs() / largest;
                    assert!(
                        error <= 0.01,
                        "{metric:?} x{}: {error} {} for {exact}",
                        set.dims,
                        result.distance
                    );
                }
            }
        }
    }
}

/// Two indexes whose short codes take as many lines, but split them differently: what the query of
/// one keeps in the upper halves of bytes is beyond what the other writes.
#[test]
fn scratch_of_another_index_leaves_no_trace() {
    let falling = |by: f32| {
        let mut set = data::gaussian(1_200, 90);
        for row in set.rows.chunks_exact_mut(90).chain(set.queries.chunks_exact_mut(90)) {
            for (at, value) in row.iter_mut().enumerate() {
                *value *= by.powi(at as i32);
            }
        }
        set
    };
    let sets = [falling(0.99), falling(0.94)];
    let built = sets.each_ref().map(|set| Built::of(Metric::Euclidean, set, Builder::Brainy));
    let lines = built.each_ref().map(|built| built.index.codes.short.lines());
    assert_eq!(lines[0], lines[1]);
    assert_ne!(built[0].index.codes.shape(), built[1].index.codes.shape());
    let mut scratch = Scratch::default();
    for at in 0..20 {
        for (set, built) in sets.iter().zip(&built) {
            let query = set.queries().nth(at).unwrap();
            let reused = built.index.search(query, &TEN, &mut scratch).to_vec();
            assert_eq!(reused, built.index.search(query, &TEN, &mut Scratch::default()));
        }
    }
}
