//! Rows added to an index, and indices merged, are found like those of an index built at once.

use super::*;
use crate::index::build::random::Random;

/// An effort at which graphs can be compared: high enough to be good, low enough to tell.
const EFFORT: Effort = Effort::Ef(32);

#[track_caller]
fn assert_like(grown: &Built, whole: &Built, set: &Set, what: &str) {
    grown.assert_contract();
    let (recall, at_once) =
        (grown.recall(&set.queries, EFFORT), whole.recall(&set.queries, EFFORT));
    println!("{what}: {recall:.3}, at once {at_once:.3}");
    assert!(recall >= at_once - 0.02, "{what}: {recall}, at once {at_once}");
    // What was measured of a part need not hold for the whole, but should about.
    let recall = grown.recall(&set.queries, Effort::Default);
    println!("{what}, default: {recall:.3}");
    assert!(recall >= 0.95, "{what}, default: {recall}");
}

/// Every row is what is closest to its own vector (or something as close).
fn assert_findable(built: &Built) {
    let dims = built.index.dimensions();
    let lost = built.vectors.chunks_exact(dims).filter(|vector| {
        let found = built.search(vector, Search { k: 1, ..TEN });
        share(&found, &built.exact(vector, 1, None)) < 1.0
    });
    assert_eq!(lost.count(), 0, "rows that are not found");
}

#[test]
fn appended_in_batches() {
    let set = data::clustered(1_600, 24);
    let dims = set.dims;
    for builder in BUILDERS {
        for metric in METRICS {
            let whole = Built::of(metric, &set, builder);
            let half = Set { dims, rows: set.rows[..800 * dims].to_vec(), queries: vec![] };
            let Built { mut index, mut vectors } = Built::of(metric, &half, builder);
            let mut rest = &set.rows[800 * dims..];
            for batch in [1, 7, 0, 300, 7, 485] {
                let (now, later) = rest.split_at(batch * dims);
                index.append(now, params(builder), Threads::One);
                vectors.extend_from_slice(now);
                rest = later;
            }
            assert!(rest.is_empty());
            assert_eq!(index.len(), set.count());
            let grown = Built { index, vectors };
            assert_like(&grown, &whole, &set, &format!("appended {builder:?} {metric:?}"));
            if metric == Metric::Euclidean {
                assert_findable(&grown);
            }
        }
    }
}

#[test]
fn appended_to_nothing_and_one_by_one() {
    let set = data::gaussian(60, 8);
    for builder in BUILDERS {
        let empty = Set { dims: 8, rows: vec![], queries: vec![] };
        let Built { mut index, .. } = Built::of(Metric::Euclidean, &empty, builder);
        for row in set.rows.chunks_exact(8) {
            index.append(row, params(builder), Threads::One);
        }
        let grown = Built { index, vectors: set.rows.clone() };
        grown.assert_contract();
        let recall = grown.recall(&set.queries, Effort::Default);
        assert!(recall >= 0.95, "{builder:?}: {recall}");
    }
}

/// Merges what `sizes` cut the rows of `set` into.
fn merged(metric: Metric, set: &Set, builder: Builder, sizes: &[usize]) -> Built {
    let mut rest = &set.rows[..];
    let parts: Vec<Built> = sizes
        .iter()
        .map(|size| {
            let (now, later) = rest.split_at(size * set.dims);
            rest = later;
            let part = Set { dims: set.dims, rows: now.to_vec(), queries: vec![] };
            Built::of(metric, &part, builder)
        })
        .collect();
    assert!(rest.is_empty());
    let vectors: Vec<f32> = parts.iter().flat_map(|part| &part.vectors).copied().collect();
    let indices: Vec<MergePart<'_>> =
        parts.iter().map(|part| MergePart::whole(&part.index)).collect();
    let (index, order) = Index::merge(&indices, &vectors, params(builder), Threads::One);
    assert_permutation(&order, set.count());
    Built { index, vectors: gather(&vectors, set.dims, &order) }
}

#[test]
fn merged_like_built() {
    let set = data::clustered(1_200, 24);
    for builder in BUILDERS {
        for metric in METRICS {
            let whole = Built::of(metric, &set, builder);
            let cuts: [&[usize]; 5] =
                [&[600, 600], &[900, 100, 200], &[700, 0, 500], &[1, 1_199], &[0, 1_199, 1]];
            // The other builder is slow, and its graph no different to merge.
            let count = if builder == Builder::Brainy { cuts.len() } else { 2 };
            for sizes in &cuts[..count] {
                let merged = merged(metric, &set, builder, sizes);
                assert_like(&merged, &whole, &set, &format!("{sizes:?} {builder:?} {metric:?}"));
            }
        }
    }
}

#[test]
fn merged_of_hardly_anything() {
    for sizes in [&[0usize, 0][..], &[0], &[1], &[1, 1], &[1, 0, 2, 30]] {
        let set = data::gaussian(sizes.iter().sum(), 6);
        for builder in BUILDERS {
            for metric in METRICS {
                let merged = merged(metric, &set, builder, sizes);
                merged.assert_contract();
                let recall = merged.recall(&set.queries, Effort::Default);
                assert!(recall >= 0.9, "{sizes:?} {builder:?} {metric:?}: {recall}");
            }
        }
    }
}

/// Parts that lie far from each other are linked, too, and the formats of one are not kept for both.
#[test]
fn merged_of_parts_far_apart() {
    let mut set = data::gaussian(2_500, 16);
    for value in &mut set.rows[..1_500 * 16] {
        *value += 100.0;
    }
    for value in &mut set.queries[..25 * 16] {
        *value += 100.0;
    }
    for builder in BUILDERS {
        let merged = merged(Metric::Euclidean, &set, builder, &[1_500, 1_000]);
        merged.assert_contract();
        let recall = merged.recall(&set.queries, Effort::Default);
        println!("far apart {builder:?}: {recall:.3}");
        assert!(recall >= 0.95, "{builder:?}: {recall}");
    }
}

/// What is left of two parts when a share of each is left out is found as if it had been built.
#[test]
fn merged_without_some_rows() {
    let set = data::clustered(1_600, 24);
    for metric in METRICS {
        for (share, sizes) in
            [(5usize, &[1_600usize][..]), (20, &[1_350, 250][..]), (50, &[800, 800][..])]
        {
            let mut rest = &set.rows[..];
            let (mut parts, mut left) = (Vec::new(), Vec::new());
            let mut random = Random::new(share as u64);
            for size in sizes {
                let (now, later) = rest.split_at(size * set.dims);
                rest = later;
                let part = Set { dims: set.dims, rows: now.to_vec(), queries: vec![] };
                let built = Built::of(metric, &part, Builder::Brainy);
                let kept: Vec<u32> =
                    (0..*size as u32).filter(|_| random.below(100) >= share).collect();
                left.extend(gather(&built.vectors, set.dims, &kept));
                parts.push((built, kept));
            }
            let merged: Vec<MergePart<'_>> = parts
                .iter()
                .map(|(part, kept)| MergePart { index: &part.index, kept: Some(kept) })
                .collect();
            let params = params(Builder::Brainy);
            let (index, order) = Index::merge(&merged, &left, params, Threads::One);
            assert_permutation(&order, left.len() / set.dims);
            let merged = Built { index, vectors: gather(&left, set.dims, &order) };
            let left = Set { dims: set.dims, rows: left, queries: set.queries.clone() };
            let whole = Built::of(metric, &left, Builder::Brainy);
            assert_like(&merged, &whole, &left, &format!("without {share} % {metric:?}"));
            if metric == Metric::Euclidean {
                assert_findable(&merged);
            }
        }
    }
}

/// Nothing, or one row, may be left of a part.
#[test]
fn merged_of_hardly_anything_that_is_left() {
    let set = data::gaussian(50, 6);
    let part = Built::of(Metric::Euclidean, &set, Builder::Brainy);
    for kept in [&[][..], &[7], &[0, 49]] {
        let other: Vec<u32> = (10..30).collect();
        let parts =
            [kept, &other[..]].map(|kept| MergePart { index: &part.index, kept: Some(kept) });
        let rows = [kept, &other[..]].concat();
        let vectors = gather(&part.vectors, set.dims, &rows);
        let params = params(Builder::Brainy);
        let (index, order) = Index::merge(&parts, &vectors, params, Threads::One);
        assert_permutation(&order, rows.len());
        let merged = Built { index, vectors: gather(&vectors, set.dims, &order) };
        merged.assert_contract();
        let recall = merged.recall(&set.queries, Effort::Default);
        assert!(recall >= 0.95, "{kept:?}: {recall}");
    }
}
