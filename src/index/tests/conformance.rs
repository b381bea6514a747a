//! Graphs and recall, on kind data and on unkind.

use super::*;

/// Recall of 10 at the default effort, on queries that the index was not calibrated by.
fn check(set: &Set, metrics: &[Metric]) {
    for builder in BUILDERS {
        for &metric in metrics {
            let built = Built::of(metric, set, builder);
            built.assert_contract();
            let recall = built.recall(&set.queries, Effort::Default);
            println!("{builder:?} {metric:?} x{}: {recall:.3}", set.dims);
            assert!(recall >= 0.95, "{builder:?} {metric:?}: {recall}");
        }
    }
}

#[test]
fn uniform() {
    check(&data::uniform(2_000, 3), &METRICS);
}

#[test]
fn clustered() {
    check(&data::clustered(2_000, 64), &METRICS);
}

#[test]
fn gaussian() {
    check(&data::gaussian(2_000, 128), &METRICS);
}

#[test]
fn many_dimensions() {
    check(&data::clustered(1_500, 1_536), &[Metric::Cosine]);
}

#[test]
fn heavy_duplicates() {
    check(&data::duplicates(2_000, 24), &METRICS);
}

#[test]
fn norms_that_differ_a_hundredfold() {
    check(&data::long_and_short(2_000, 32), &[Metric::Dot]);
}

#[test]
fn few_distinct_values() {
    check(&data::few_values(2_000, 8), &METRICS);
}

/// Nothing panics, and results are as many as there can be.
#[test]
fn degenerate_sets() {
    let sets = [
        data::uniform(0, 4),
        data::uniform(1, 4),
        data::uniform(2, 1),
        data::gaussian(20, 8),
        data::zeros(2, 3),
        data::zeros(300, 5),
        data::constant(300, 6),
        data::scaled(300, 8, 1e30),
        data::scaled(300, 8, 1e38),
        data::scaled(300, 8, 1e-40),
        data::scaled(300, 8, 1e-45),
    ];
    for (at, set) in sets.iter().enumerate() {
        for builder in BUILDERS {
            for metric in METRICS {
                let built = Built::of(metric, set, builder);
                built.assert_contract();
                for query in set.queries().take(5).chain([&*vec![0.0; set.dims]]) {
                    for k in [1, 10, set.count() + 5] {
                        for vectors in [true, false] {
                            let found = match vectors {
                                true => built.search(query, Search { k, ..TEN }),
                                false => {
                                    let search = Search { k, ..TEN };
                                    let mut scratch = Scratch::default();
                                    built.index.search(query, &search, &mut scratch).to_vec()
                                }
                            };
                            println!("set {at} {builder:?} {metric:?} k {k} vectors {vectors}");
                            assert_sound(&found, k.min(set.count()));
                        }
                    }
                }
            }
        }
    }
}

/// A scale that fits no square into an `f32` makes no difference to recall.
#[test]
fn extreme_scales() {
    check(&data::scaled(1_000, 16, 1e30), &METRICS);
    check(&data::scaled(1_000, 16, 1e-25), &METRICS);
}
