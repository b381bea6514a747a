//! The same input gives the same index.

use super::*;

#[track_caller]
fn assert_same(a: &(Index, Vec<u32>), b: &(Index, Vec<u32>)) {
    assert_eq!(a.1, b.1);
    let (a, b) = (&a.0, &b.0);
    assert!(*a.graph.neighbours == *b.graph.neighbours, "another graph");
    assert!(*a.codes.short_lines == *b.codes.short_lines, "other short codes");
    assert!(*a.codes.scalar_lines == *b.codes.scalar_lines, "other codes of 8 bits");
    assert_eq!(a.codes.space, b.codes.space);
    assert_eq!(a.calibration, b.calibration);
    assert_eq!(a.entries, b.entries);
}

#[test]
fn on_any_number_of_threads() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    for set in [data::clustered(2_000, 24), data::duplicates(1_000, 8)] {
        for metric in METRICS {
            let build = |threads| {
                Index::build(metric, set.dims, &set.rows, params(Builder::Brainy), threads)
            };
            let alone = build(Threads::One);
            assert_same(&alone, &build(Threads::One));
            assert_same(&alone, &pool.install(|| build(Threads::Pool)));
        }
    }
}

#[test]
#[cfg(feature = "hnsw_rs")]
fn by_the_other_builder_on_one_thread() {
    let set = data::clustered(800, 24);
    let build = || {
        let params = params(Builder::HnswRs);
        Index::build(Metric::Cosine, set.dims, &set.rows, params, Threads::One)
    };
    assert_same(&build(), &build());
}

/// On several threads it promises no particular graph, but a sound one.
#[test]
#[cfg(feature = "hnsw_rs")]
fn by_the_other_builder_on_several_threads() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let set = data::clustered(1_500, 24);
    let (index, order) = pool.install(|| {
        let params = params(Builder::HnswRs);
        Index::build(Metric::Euclidean, set.dims, &set.rows, params, Threads::Pool)
    });
    assert_permutation(&order, set.count());
    let built = Built { index, vectors: gather(&set.rows, set.dims, &order) };
    built.assert_contract();
    let recall = built.recall(&set.queries, Effort::Default);
    assert!(recall >= 0.95, "{recall}");
}

/// Growing and merging are steps of the same kind.
#[test]
fn appended_and_merged_on_any_number_of_threads() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let set = data::clustered(1_500, 24);
    let params = params(Builder::Brainy);
    let (old, new) = set.rows.split_at(1_000 * set.dims);
    let make = |threads| {
        let (mut index, mut order) = Index::build(Metric::Dot, set.dims, old, params, threads);
        index.append(new, params, threads);
        order.extend(1_000..1_500);
        let vectors = gather(&set.rows, set.dims, &order);
        let merged =
            Index::merge(&[MergePart::whole(&index); 2], &vectors.repeat(2), params, threads);
        ((index, order), merged)
    };
    let alone = make(Threads::One);
    let together = pool.install(|| make(Threads::Pool));
    assert_same(&alone.0, &together.0);
    assert_same(&alone.1, &together.1);
}
