//! Searches of which only some rows may be results.

use super::*;
use std::sync::OnceLock;

/// Enough rows that walks, not only scans, are asked for.
const ROWS: usize = 20_000;

/// The index of each metric, built once for all tests.
fn built(metric: Metric) -> &'static (Set, Built) {
    static BUILT: [OnceLock<(Set, Built)>; 3] = [const { OnceLock::new() }; 3];
    BUILT[metric as usize].get_or_init(|| {
        let set = data::clustered(ROWS, 16);
        let built = Built::of(metric, &set, Builder::Brainy);
        (set, built)
    })
}

/// Where the allowed rows lie.
#[derive(Debug, Clone, Copy)]
enum Where {
    Anywhere,
    Near,
    Far,
}

const EVERYWHERE: [Where; 3] = [Where::Anywhere, Where::Near, Where::Far];

fn allowed(built: &Built, query: &[f32], count: usize, place: Where) -> RowSet {
    let rows = built.index.len();
    let ranked = || built.exact(query, rows, None).into_iter().map(|result| result.row);
    match place {
        Where::Anywhere => {
            let mut random = data::Random(count as u64);
            (0..rows as u32).filter(|_| random.below(rows) < count).collect()
        }
        Where::Near => ranked().take(count).collect(),
        Where::Far => ranked().skip(rows - count).collect(),
    }
}

/// The mean recall of some queries, each with a filter of its own.
fn recall(set: &Set, built: &Built, count: usize, place: Where, effort: Effort) -> f32 {
    mean(set.queries().take(12).map(|query| {
        let allowed = allowed(built, query, count, place);
        let search = Search { allowed: Some(&allowed), effort, ..TEN };
        let found = built.search(query, search);
        assert_sound(&found, search.k.min(allowed.len()));
        assert!(found.iter().all(|result| allowed.contains(result.row)), "not allowed");
        share(&found, &built.exact(query, search.k, Some(&allowed)))
    }))
}

#[test]
fn filters_of_every_size_and_place() {
    for metric in METRICS {
        let (set, built) = built(metric);
        for place in EVERYWHERE {
            for per_mille in [500, 100, 10, 1] {
                let count = ROWS * per_mille / 1_000;
                let recall = recall(set, built, count, place, Effort::Default);
                println!("{metric:?} {place:?} {per_mille}/1000: {recall:.3}");
                assert!(recall >= 0.95, "{metric:?} {place:?} {per_mille}: {recall}");
            }
        }
    }
}

/// So little effort that half of the rows are too many to be scanned.
#[test]
fn walks_within_allowed_rows() {
    for metric in METRICS {
        let (set, built) = built(metric);
        for place in EVERYWHERE {
            for (count, effort, least) in
                [(ROWS / 2, Effort::Ef(16), 0.8), (ROWS / 2, Effort::Ef(49), 0.95)]
            {
                let recall = recall(set, built, count, place, effort);
                println!("{metric:?} {place:?} {count} {effort:?}: {recall:.3}");
                assert!(recall >= least, "{metric:?} {place:?} {effort:?}: {recall}");
            }
        }
    }
}

#[test]
fn another_builder() {
    let set = data::clustered(8_000, 16);
    let built = Built::of(Metric::Euclidean, &set, Builder::HnswRs);
    for place in EVERYWHERE {
        for (count, effort) in
            [(4_000, Effort::Default), (4_000, Effort::Ef(19)), (80, Effort::Default)]
        {
            let recall = recall(&set, &built, count, place, effort);
            println!("hnsw_rs {place:?} {count} {effort:?}: {recall:.3}");
            assert!(recall >= 0.8 + 0.15 * f32::from(u8::from(effort == Effort::Default)));
        }
    }
}

#[test]
fn few_rows_or_none() {
    let (set, built) = built(Metric::Euclidean);
    for query in set.queries().take(5) {
        for rows in [vec![], vec![0], vec![ROWS as u32 - 1], vec![3, 9_999, 17_000]] {
            let allowed: RowSet = rows.iter().copied().collect();
            for effort in [Effort::Default, Effort::Ef(1), Effort::Ef(100_000)] {
                let search = Search { allowed: Some(&allowed), effort, ..TEN };
                let found = built.search(query, search);
                assert_sound(&found, rows.len());
                assert!(found.iter().all(|result| rows.contains(&result.row)));
            }
        }
    }
}
