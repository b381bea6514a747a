//! Under dot, rows of lengths that differ little or much: in one index or several, through filters, merged, added.

use super::*;
use crate::index::build::random::Random;
use crate::index::tests::data::Set;

const ROWS: usize = 6_000;
const DIMS: usize = 48;

/// Rows in all directions, of lengths `exp(N(0, sigma))`.
fn set(sigma: f32) -> Set {
    let mut random = Random::new(7);
    Set::new(ROWS, DIMS, |row| {
        row.fill_with(|| random.normal());
        let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        let length = (sigma * random.normal()).exp();
        row.iter_mut().for_each(|value| *value *= length / norm);
    })
}

fn built(sigma: f32) -> (Set, Built) {
    let set = set(sigma);
    let built = Built::of(Metric::Dot, &set, Builder::Brainy);
    (set, built)
}

fn part(set: &Set, rows: std::ops::Range<usize>) -> Built {
    let rows = set.rows[rows.start * DIMS..rows.end * DIMS].to_vec();
    Built::of(Metric::Dot, &Set { dims: DIMS, rows, queries: vec![] }, Builder::Brainy)
}

#[track_caller]
fn assert_finds(built: &Built, set: &Set, what: &str) {
    built.assert_contract();
    let recall = built.recall(&set.queries, Effort::Default);
    assert!(recall >= 0.97, "{what}: {recall}");
}

#[test]
fn the_largest_products_are_found_whatever_the_lengths_are() {
    for sigma in [0.0, 0.1, 0.3, 0.7, 1.3, 2.0] {
        let (set, built) = built(sigma);
        assert_finds(&built, &set, &format!("{sigma}"));
        assert!(built.index.recall_reached().is_some_and(|recall| recall >= 0.97), "{sigma}");
        assert!(built.index.is_by_length() || sigma < 0.3, "{sigma}");
        // As wide as a walk needs to be.
        let recall = built.recall(&set.queries, Effort::Ef(256));
        assert!(recall >= 0.95, "{sigma}: {recall}");
        for every in [2, 50, 3_000] {
            let allowed: RowSet = (0..ROWS as u32).filter(|row| row % every == 1).collect();
            let recalls = set.queries().map(|query| {
                let found = built.search(query, Search { allowed: Some(&allowed), ..TEN });
                assert_eq!(found.len(), allowed.len().min(10));
                share(&found, &built.exact(query, 10, Some(&allowed)))
            });
            let recall = mean(recalls);
            assert!(recall >= 0.97, "{sigma} {every}: {recall}");
        }
    }
}

#[test]
fn parts_of_other_lengths_are_merged_and_added_to() {
    let set = set(0.9);
    let (first, second) = (part(&set, 0..4_000), part(&set, 4_000..ROWS));
    let vectors = [&first.vectors[..], &second.vectors[..]].concat();
    let parts = [MergePart::whole(&first.index), MergePart::whole(&second.index)];
    let (index, order) = Index::merge(&parts, &vectors, params(Builder::Brainy), Threads::One);
    assert_permutation(&order, ROWS);
    let merged = Built { index, vectors: gather(&vectors, DIMS, &order) };
    assert!(merged.index.is_by_length());
    assert_finds(&merged, &set, "merged");

    let Built { mut index, mut vectors } = first;
    for rest in second.vectors.chunks(700 * DIMS) {
        index.append(rest, params(Builder::Brainy), Threads::One);
        vectors.extend_from_slice(rest);
    }
    assert_finds(&Built { index, vectors }, &set, "added to");

    // Two of few rows, which have a graph each that is of no use for both together.
    let set = self::set(0.3);
    let (first, second) = (part(&set, 0..3_000), part(&set, 3_000..ROWS));
    assert!(!first.index.is_by_length() && !second.index.is_by_length());
    let vectors = [&first.vectors[..], &second.vectors[..]].concat();
    let parts = [MergePart::whole(&first.index), MergePart::whole(&second.index)];
    let (index, order) = Index::merge(&parts, &vectors, params(Builder::Brainy), Threads::One);
    let merged = Built { index, vectors: gather(&vectors, DIMS, &order) };
    assert!(merged.index.is_by_length());
    assert_finds(&merged, &set, "merged of graphs");

    // With rows of hardly different lengths, which have a graph.
    let set = self::set(0.9);
    let alike = self::set(0.0);
    let (first, second) = (part(&set, 0..3_000), part(&alike, 0..3_000));
    assert!(first.index.is_by_length() && !second.index.is_by_length());
    let vectors = [&first.vectors[..], &second.vectors[..]].concat();
    let parts = [MergePart::whole(&first.index), MergePart::whole(&second.index)];
    let (index, order) = Index::merge(&parts, &vectors, params(Builder::Brainy), Threads::One);
    let merged = Built { index, vectors: gather(&vectors, DIMS, &order) };
    assert_finds(&merged, &set, "merged with a graph");
}

#[test]
fn parts_are_searched_together() {
    let set = set(1.0);
    let cuts = [part(&set, 0..1_500), part(&set, 1_500..4_000), part(&set, 4_000..ROWS)];
    let whole = Built { index: part(&set, 0..ROWS).index, vectors: set.rows.clone() };
    let flat = Flat::build(Metric::Dot, DIMS, &cuts[0].vectors, Threads::One);
    let vectors: Vec<&[f32]> = cuts.iter().map(|cut| &cut.vectors[..]).collect();
    let of = |at: usize| match at {
        0 => Rows::Flat(&flat),
        at => Rows::Index(&cuts[at].index),
    };
    let parts: Vec<Part<'_>> =
        (0..3).map(|at| Part { rows: of(at), allowed: None, vectors: &vectors[at] }).collect();
    let recalls = set.queries().map(|query| {
        let mut scratch = Scratch::default();
        let found = search_parts(query, &parts, 10, Effort::Default, Threads::One, &mut scratch);
        let last = whole.exact(query, 10, None)[9].distance;
        found.iter().filter(|found| found.distance <= last).count() as f32 / 10.0
    });
    let recall = mean(recalls);
    assert!(recall >= 0.97, "{recall}");
}
