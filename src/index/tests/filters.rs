//! Searches of which only some rows may be results.

use super::*;
use std::sync::OnceLock;

/// Enough rows that walks, not only scans, are asked for.
const ROWS: usize = 10_000;
const QUERIES: usize = 10;

/// An index, and for each query of its set all rows by their distance.
struct Case {
    built: Built,
    queries: Vec<(Vec<f32>, Vec<Neighbour>)>,
}

impl Case {
    fn of(metric: Metric, rows: usize, builder: Builder) -> Case {
        let set = data::clustered(rows, 16);
        let built = Built::of(metric, &set, builder);
        let ranked = |query: &[f32]| (query.to_vec(), built.exact(query, rows, None));
        let queries = set.queries().take(QUERIES).map(ranked).collect();
        Case { built, queries }
    }
}

/// The case of each metric, made once for all tests.
fn case(metric: Metric) -> &'static Case {
    static CASES: [OnceLock<Case>; 3] = [const { OnceLock::new() }; 3];
    CASES[metric as usize].get_or_init(|| Case::of(metric, ROWS, Builder::Brainy))
}

/// Where the allowed rows lie.
#[derive(Debug, Clone, Copy)]
enum Where {
    Anywhere,
    Near,
    Far,
}

const EVERYWHERE: [Where; 3] = [Where::Anywhere, Where::Near, Where::Far];

fn allowed(ranked: &[Neighbour], count: usize, place: Where) -> RowSet {
    let rows = ranked.len();
    let ranked = || ranked.iter().map(|result| result.row);
    match place {
        Where::Anywhere => {
            let mut random = crate::index::build::random::Random::new(count as u64);
            (0..rows as u32).filter(|_| random.below(rows) < count).collect()
        }
        Where::Near => ranked().take(count).collect(),
        Where::Far => ranked().skip(rows - count).collect(),
    }
}

/// The mean recall of some queries, each with a filter of its own.
fn recall(case: &Case, count: usize, place: Where, effort: Effort) -> f32 {
    mean(case.queries.iter().map(|(query, ranked)| {
        let allowed = allowed(ranked, count, place);
        let search = Search { allowed: Some(&allowed), effort, ..TEN };
        let found = case.built.search(query, search);
        assert_sound(&found, search.k.min(allowed.len()));
        assert!(found.iter().all(|result| allowed.contains(result.row)), "not allowed");
        let exact = ranked.iter().filter(|result| allowed.contains(result.row));
        share(&found, &exact.take(search.k).copied().collect::<Vec<_>>())
    }))
}

#[test]
fn filters_of_every_size_and_place() {
    for metric in METRICS {
        let case = case(metric);
        for place in EVERYWHERE {
            for per_mille in [500, 100, 10, 1] {
                let count = ROWS * per_mille / 1_000;
                let recall = recall(case, count, place, Effort::Default);
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
        let case = case(metric);
        for place in EVERYWHERE {
            for (count, effort, least) in
                [(ROWS / 2, Effort::Ef(16), 0.8), (ROWS / 2, Effort::Ef(49), 0.95)]
            {
                let recall = recall(case, count, place, effort);
                println!("{metric:?} {place:?} {count} {effort:?}: {recall:.3}");
                assert!(recall >= least, "{metric:?} {place:?} {effort:?}: {recall}");
            }
        }
    }
}

#[test]
#[cfg(feature = "hnsw_rs")]
fn another_builder() {
    let case = Case::of(Metric::Euclidean, 4_000, Builder::HnswRs);
    for place in EVERYWHERE {
        for (count, effort) in
            [(2_000, Effort::Default), (3_500, Effort::Ef(16)), (40, Effort::Default)]
        {
            let recall = recall(&case, count, place, effort);
            println!("hnsw_rs {place:?} {count} {effort:?}: {recall:.3}");
            assert!(recall >= 0.8 + 0.15 * f32::from(u8::from(effort == Effort::Default)));
        }
    }
}

#[test]
fn few_rows_or_none() {
    let case = case(Metric::Euclidean);
    for (query, _) in &case.queries {
        for rows in [vec![], vec![0], vec![ROWS as u32 - 1], vec![3, 4_999, 8_000]] {
            let allowed: RowSet = rows.iter().copied().collect();
            for effort in [Effort::Default, Effort::Ef(1), Effort::Ef(100_000)] {
                let search = Search { allowed: Some(&allowed), effort, ..TEN };
                let found = case.built.search(query, search);
                assert_sound(&found, rows.len());
                assert!(found.iter().all(|result| rows.contains(&result.row)));
            }
        }
    }
}
