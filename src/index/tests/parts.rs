//! Rows in several parts are found as if they were in one, and rows without a graph as any others.

use super::*;

/// A part and its vectors, and the number in the set of each of its rows.
struct Cut {
    rows: Kind,
    vectors: Vec<f32>,
    numbers: Vec<u32>,
}

enum Kind {
    Index(Box<Index>),
    Flat(Box<Flat>),
}

/// Cuts a set into parts of these sizes, each of the rows that follow those of the one before in
/// `order`; those after the first `graphs` get no graph.
fn cut(metric: Metric, set: &Set, order: &[u32], sizes: &[usize], graphs: usize) -> Vec<Cut> {
    let mut rest = order;
    let mut parts = Vec::new();
    for (at, &size) in sizes.iter().enumerate() {
        let (numbers, later) = rest.split_at(size);
        rest = later;
        let vectors = gather(&set.rows, set.dims, numbers);
        if at >= graphs {
            let flat = Flat::build(metric, set.dims, &vectors, Threads::One);
            parts.push(Cut {
                rows: Kind::Flat(Box::new(flat)),
                vectors,
                numbers: numbers.to_vec(),
            });
            continue;
        }
        let part = Set { dims: set.dims, rows: vectors, queries: vec![] };
        let params = params(Builder::Brainy);
        let (index, own) = Index::build(metric, set.dims, &part.rows, params, Threads::One);
        let vectors = gather(&part.rows, set.dims, &own);
        let numbers = own.iter().map(|&row| numbers[row as usize]).collect();
        parts.push(Cut { rows: Kind::Index(Box::new(index)), vectors, numbers });
    }
    parts
}

/// Searches parts; names results by their numbers in the set.
fn search(
    query: &[f32],
    parts: &[Cut],
    allowed: Option<&dyn Fn(u32) -> bool>,
    (k, effort): (usize, Effort),
    scratch: &mut Scratch,
) -> Vec<Neighbour> {
    search_on(Threads::One, query, parts, allowed, (k, effort), scratch)
}

fn search_on(
    threads: Threads,
    query: &[f32],
    parts: &[Cut],
    allowed: Option<&dyn Fn(u32) -> bool>,
    (k, effort): (usize, Effort),
    scratch: &mut Scratch,
) -> Vec<Neighbour> {
    let sets: Vec<Option<RowSet>> = parts
        .iter()
        .map(|part| {
            let rows = part.numbers.iter().enumerate();
            allowed.map(|allowed| {
                rows.filter(|(_, row)| allowed(**row)).map(|(at, _)| at as u32).collect()
            })
        })
        .collect();
    let vectors: Vec<&[f32]> = parts.iter().map(|part| &part.vectors[..]).collect();
    let searched: Vec<Part<'_>> = parts
        .iter()
        .zip(&sets)
        .zip(&vectors)
        .map(|((part, allowed), vectors)| {
            let rows = match &part.rows {
                Kind::Index(index) => Rows::Index(index),
                Kind::Flat(flat) => Rows::Flat(flat),
            };
            Part { rows, allowed: allowed.as_ref(), vectors }
        })
        .collect();
    let found = search_parts(query, &searched, k, effort, threads, scratch).iter();
    let number = |found: &Found| parts[found.part as usize].numbers[found.row as usize];
    found.map(|found| Neighbour { row: number(found), distance: found.distance }).collect()
}

fn exact(
    metric: Metric,
    set: &Set,
    query: &[f32],
    k: usize,
    allowed: &dyn Fn(u32) -> bool,
) -> Vec<Neighbour> {
    let prepared = PreparedQuery::new(metric, query);
    let mut top = TopK::new(k);
    for (row, vector) in set.rows.chunks_exact(set.dims).enumerate() {
        if allowed(row as u32) {
            top.push(prepared.distance(vector, inverse_norm(vector)), row as u32);
        }
    }
    let sorted = top.into_sorted().into_iter();
    sorted.map(|(distance, row)| Neighbour { row, distance }).collect()
}

/// The numbers of all rows, mixed.
fn mixed(set: &Set) -> Vec<u32> {
    let mut rows: Vec<u32> = (0..set.count() as u32).collect();
    rows.sort_unstable_by_key(|&row| (row + 1).wrapping_mul(0x9e37_79b1));
    rows
}

/// The mean recall of `k` results over the set's queries.
fn recall(metric: Metric, set: &Set, parts: &[Cut], k: usize, effort: Effort) -> f32 {
    let mut scratch = Scratch::default();
    mean(set.queries().map(|query| {
        let found = search(query, parts, None, (k, effort), &mut scratch);
        assert_sound(&found, k.min(set.count()));
        share(&found, &exact(metric, set, query, k, &|_| true))
    }))
}

#[test]
fn parts_are_searched_like_one() {
    let set = data::clustered(6_000, 24);
    for metric in METRICS {
        let cuts: [(&[usize], usize); 9] = [
            (&[6_000], 1),
            (&[1_500; 4], 4),
            (&[375; 16], 16),
            (&[4_500, 1_000, 400, 0, 100], 5),
            (&[3_000, 2_000, 1_000], 0),
            (&[3_000, 2_000, 1_000], 3),
            (&[3_000, 2_000, 1_000], 2),
            (&[3_000, 2_000, 1_000], 1),
            (&[5_999, 1], 1),
        ];
        for (sizes, graphs) in cuts {
            let parts = cut(metric, &set, &mixed(&set), sizes, graphs);
            // The default is measured to give .98; so few queries in so few heaps err by two points, and the numbers
            // of the set differ in their last bits from machine to machine.
            for (effort, least) in [(Effort::Default, 0.94), (Effort::Ef(60), 0.96)] {
                let recall = recall(metric, &set, &parts, 10, effort);
                println!("{metric:?} {sizes:?} {graphs} {effort:?}: {recall:.3}");
                assert!(recall >= least, "{metric:?} {sizes:?} {graphs} {effort:?}: {recall}");
            }
        }
    }
}

/// Parts whose rows are alike: all results are in one of them, whichever it is.
#[test]
fn parts_of_like_rows() {
    let set = data::clustered(6_000, 24);
    let mut order: Vec<u32> = (0..6_000).collect();
    let nearest = |row: u32| {
        let row = &set.rows[row as usize * 24..][..24];
        let distance = |pivot: usize| {
            PreparedQuery::new(Metric::Euclidean, &set.rows[pivot * 24..][..24]).distance(row, 0.0)
        };
        (0..30).min_by(|&a, &b| distance(a).total_cmp(&distance(b)))
    };
    order.sort_by_cached_key(|&row| nearest(row));
    for metric in METRICS {
        for graphs in [0, 12] {
            let parts = cut(metric, &set, &order, &[500; 12], graphs);
            let recall = recall(metric, &set, &parts, 10, Effort::Default);
            println!("{metric:?} {graphs}: {recall:.3}");
            assert!(recall >= 0.97, "{metric:?} {graphs}: {recall}");
        }
    }
}

/// Walks, not scans: so many rows that the narrowest walk is cheaper.
#[test]
fn narrow_walks_find_their_share() {
    let set = data::gaussian(12_000, 12);
    let parts = cut(Metric::Euclidean, &set, &mixed(&set), &[3_000; 4], 4);
    let whole = cut(Metric::Euclidean, &set, &mixed(&set), &[12_000], 1);
    for ef in [20, 50] {
        let [whole, parts] = [&whole, &parts]
            .map(|parts| recall(Metric::Euclidean, &set, parts, 10, Effort::Ef(ef)));
        println!("{ef}: {whole:.3} {parts:.3}");
        assert!(parts >= whole - 0.02, "{ef}: {parts}, in one {whole}");
    }
}

#[test]
fn filters_within_parts() {
    let set = data::clustered(4_000, 16);
    let mut scratch = Scratch::default();
    for metric in METRICS {
        let parts = cut(metric, &set, &mixed(&set), &[1_800, 1_200, 1_000], 2);
        for every in [1, 2, 3, 40, 1_000, 5_000] {
            let allowed = |row: u32| row % every == 1 % every;
            let recall = mean(set.queries().map(|query| {
                let found =
                    search(query, &parts, Some(&allowed), (10, Effort::Default), &mut scratch);
                let exact = exact(metric, &set, query, 10, &allowed);
                assert_sound(&found, exact.len());
                assert!(found.iter().all(|result| allowed(result.row)), "not allowed");
                share(&found, &exact)
            }));
            assert!(recall >= 0.97, "{metric:?} {every}: {recall}");
        }
        let none = search(
            &set.queries[..16],
            &parts,
            Some(&|_| false),
            (10, Effort::Default),
            &mut scratch,
        );
        assert!(none.is_empty());
    }
}

/// Without a graph: few rows or many, of which many are alike, lie in clusters, or nowhere near each
/// other, and some are allowed.
#[test]
fn rows_without_a_graph() {
    let sets = [
        data::uniform(1, 3),
        data::gaussian(70, 130),
        data::clustered(5_000, 48),
        data::duplicates(3_000, 16),
        data::few_values(1_000, 7),
        data::long_and_short(3_000, 20),
    ];
    let mut scratch = Scratch::default();
    for (number, set) in sets.iter().enumerate() {
        for metric in METRICS {
            let flat = Flat::build(metric, set.dims, &set.rows, Threads::One);
            let vectors = &set.rows[..];
            for (k, every) in [(1, 1), (10, 1), (100, 1), (10, 2), (10, 16), (10, 900)] {
                let allowed: RowSet =
                    (0..set.count() as u32).filter(|row| row % every == 0).collect();
                let recall = mean(set.queries().take(20).map(|query| {
                    let allowed = (every > 1).then_some(&allowed);
                    let search = Search { k, allowed, vectors: Some(&vectors), ..TEN };
                    let found = flat.search(query, &search, &mut scratch).to_vec();
                    let exact = exact(metric, set, query, k, &|row| row % every == 0);
                    assert_sound(&found, exact.len());
                    assert!(found.iter().all(|result| result.row % every == 0), "not allowed");
                    share(&found, &exact)
                }));
                assert!(recall >= 0.99, "{number} {metric:?} {k} of every {every}th: {recall}");
            }
        }
    }
}

#[test]
fn more_rows_without_a_graph() {
    let set = data::clustered(3_000, 20);
    let (first, rest) = set.rows.split_at(2_000 * 20);
    for metric in METRICS {
        let mut grown = Flat::build(metric, 20, first, Threads::One);
        let beside = grown.beside(rest, Threads::One);
        for batch in rest.chunks(70 * 20) {
            grown.append(batch, Threads::One);
        }
        grown.append(&[], Threads::One);
        assert_eq!(grown.len(), 3_000);
        let numbers: Vec<u32> = (0..3_000).collect();
        let part = |rows, numbers: &[u32]| Cut {
            rows: Kind::Flat(Box::new(rows)),
            vectors: gather(&set.rows, 20, numbers),
            numbers: numbers.to_vec(),
        };
        let of_grown = recall(metric, &set, &[part(grown.clone(), &numbers)], 10, Effort::Default);
        assert!(of_grown >= 0.99, "{metric:?}: {of_grown}");
        // There may be a row that is far longer than the first ones.
        let Some(beside) = beside else { continue };
        let first = Flat::build(metric, 20, first, Threads::One);
        let parts = [part(first, &numbers[..2_000]), part(beside, &numbers[2_000..])];
        let of_both = recall(metric, &set, &parts, 10, Effort::Default);
        assert!(of_both >= 0.99, "{metric:?}: {of_both}");
    }
    let flat = Flat::build(Metric::Dot, 1, &[1.0, -0.5], Threads::One);
    assert!(flat.beside(&[3.0], Threads::One).is_some());
    assert!(flat.beside(&[1e30], Threads::One).is_none());
    assert!(
        search_parts(&[1.0], &[], 10, Effort::Default, Threads::One, &mut Scratch::default())
            .is_empty()
    );
}

/// Whoever scores the rows: blocks of a tail, one of which is cut into pieces, and small segments.
#[test]
fn threads_make_no_difference() {
    let set = data::clustered(12_000, 8);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    for metric in METRICS {
        let parts = cut(metric, &set, &mixed(&set), &[900, 700, 9_000, 1_400], 2);
        let odd = |row: u32| row % 2 == 1;
        for allowed in [None, Some(&odd as &dyn Fn(u32) -> bool)] {
            for query in set.queries().take(10) {
                let mut scratch = Scratch::default();
                let aim = (10, Effort::Default);
                let one = search(query, &parts, allowed, aim, &mut scratch);
                let numbers = allowed.map(|_| ());
                let several = pool.install(|| {
                    let allowed = numbers.map(|()| &odd as &dyn Fn(u32) -> bool);
                    search_on(Threads::Pool, query, &parts, allowed, aim, &mut Scratch::default())
                });
                assert_eq!(one, several);
            }
        }
    }
}

/// Rows without a graph in spaces of different scales, or beside which others are as nothing.
#[test]
fn runs_of_different_scales_are_compared() {
    let small = data::clustered(2_000, 12);
    for metric in METRICS {
        for times in [1.0, 1e3, 1e9, 1e30, 0.0] {
            let half = 1_000 * small.dims;
            let mut set =
                Set { dims: small.dims, rows: small.rows.clone(), queries: small.queries.clone() };
            set.rows[half..].iter_mut().for_each(|value| *value *= times);
            // Queries near the one half, and near the other.
            let far = small.queries.iter().map(|value| value * times);
            set.queries.extend(far.collect::<Vec<_>>());
            let order: Vec<u32> = (0..2_000).collect();
            for order in [order.clone(), order.into_iter().rev().collect()] {
                let parts = cut(metric, &set, &order, &[1_000, 1_000], 0);
                let recall = recall(metric, &set, &parts, 10, Effort::Default);
                println!("{metric:?} {times}: {recall:.3}");
                assert!(recall >= 0.97, "{metric:?} {times}: {recall}");
            }
        }
    }
}
