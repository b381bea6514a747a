//! Indexes against the rows that they stand for. `tests/filters` does the same at random.

use super::*;
use crate::base::Code;
use proptest::prelude::*;
use serde_json::{Value, json};

const NOTHING: [u32; 0] = [];

fn index_of(rows: &[Value], limits: Limits) -> FilterIndex {
    let mut builder = FilterIndexBuilder::with_limits(limits);
    rows.iter().for_each(|row| builder.push(Some(row)));
    FilterIndex::open(builder.finish().into()).unwrap()
}

/// Asserts that `filter` selects what it lets through; gives what the index could not tell.
fn unsure(filter: Value, rows: &[Value], index: &FilterIndex) -> Vec<u32> {
    let parsed = Filter::parse(&filter).unwrap();
    let selection = parsed.select(index).unwrap();
    assert!(selection.unsure.is_subset(&selection.rows));
    for (row, metadata) in (0..).zip(rows) {
        let passes = parsed.matches(metadata);
        if !selection.unsure.contains(row) {
            assert_eq!(selection.rows.contains(row), passes, "{filter} on {metadata}");
        }
    }
    selection.unsure.iter().collect()
}

fn exact(filters: &[Value], rows: &[Value]) {
    let index = index_of(rows, Limits::default());
    for filter in filters {
        assert_eq!(unsure(filter.clone(), rows, &index), NOTHING, "{filter}");
    }
}

#[test]
fn literal_keys_and_nested_ones_are_told_apart() {
    let rows = [
        json!({"a.b": 1, "a": {"b": 2, "c": {"d": 3}, "x.y": 4}, "l": [{"m": 5}]}),
        json!({"a": {"b": 1, "": 7, "$x": 8}, "": {"b": 9}, "$y": 1, "$z": {"b": 1}}),
        json!({"a.b": {"c": 1}, "a": {"b": {"c": 2, "d": 3}}}),
        json!({"a.b.c": 6, "a.b": null, "a": []}),
        json!({"c.": 1, "c": {"": 2}}),
        json!([1]),
        Value::Null,
    ];
    let paths =
        ["a", "a.b", "a.c.d", "a.x.y", "l.m", "a.", ".b", "a.$x", "a.b.c", "a.b.d", "c.", ".", "b"];
    let filters: Vec<Value> = paths
        .iter()
        .flat_map(|path| {
            let tests = [
                json!(1),
                json!(2),
                json!({"$gte": 2}),
                json!({"$exists": true}),
                json!({"$exists": false}),
                json!({"$ne": 1}),
                json!(null),
            ];
            tests.map(|test| json!({ *path: test }))
        })
        .collect();
    exact(&filters, &rows);
}

#[test]
fn numbers_of_every_kind_keep_their_order() {
    let integers = vec![json!(i64::MIN), json!(-1), json!(0), json!(i64::MAX), json!(3.0)];
    let floats = vec![json!(-1e300), json!(0.5), json!(-0.0), json!(1_i64 << 53), json!(f64::MAX)];
    let wide: Vec<Value> = [integers.clone(), floats.clone()]
        .concat()
        .into_iter()
        .chain([json!((1_i64 << 53) + 1), json!(u64::MAX), json!(i64::MAX as u64 + 1)])
        .chain([json!(18_446_744_073_709_551_616_f64), json!(9_223_372_036_854_775_808_f64)])
        .collect();
    for numbers in [integers, floats, wide.clone()] {
        let rows: Vec<Value> = numbers.iter().map(|number| json!({"n": number})).collect();
        let filters: Vec<Value> = wide
            .iter()
            .flat_map(|number| {
                ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]
                    .map(|operator| json!({"n": {operator: number}}))
            })
            .collect();
        exact(&filters, &rows);
    }
}

#[test]
fn elements_and_single_values_are_told_apart() {
    let rows = [
        json!({"f": "ab"}),
        json!({"f": ["ab", "b", "ab", 3, null, true]}),
        json!({"f": 3}),
        json!({"f": [["ab"], {"f": "ab"}]}),
        json!({"f": []}),
        json!({"f": "b"}),
    ];
    exact(
        &[
            json!({"f": "ab"}),
            json!({"f": {"$ne": "ab"}}),
            json!({"f": {"$in": ["b", 3]}}),
            json!({"f": {"$nin": ["b", true]}}),
            json!({"f": {"$gte": "ab"}}),
            json!({"f": {"$lte": 3}}),
            json!({"f": {"$startsWith": "a"}}),
            json!({"f": {"$contains": "b"}}),
            json!({"f": {"$contains": ""}}),
            json!({"f": {"$contains": null}}),
            json!({"f": {"$not": {"$contains": "a"}}}),
        ],
        &rows,
    );
}

/// Many rows, with values of one row, of some and of most.
fn many() -> Vec<Value> {
    let row = |at: usize| {
        json!({"id": format!("id-{at:05}"), "kind": (["x", "y"][at % 2]), "n": at % 17,
               "price": (at * 7_919 % 5_003) as f64 / 4.0, "rare": at.is_multiple_of(501),
               "tags": [format!("t{}", at % 11), format!("t{}", at / 1_000)]})
    };
    (0..5_000).map(row).collect()
}

#[test]
fn sets_of_every_size_are_read() {
    let rows = many();
    exact(
        &[
            json!({}),
            json!({"kind": "x"}),
            json!({"rare": true}),
            json!({"rare": {"$ne": true}, "kind": "y"}),
            json!({"id": "id-00017"}),
            json!({"id": {"$gt": "id-02"}}),
            json!({"id": {"$lt": "id-0001"}}),
            json!({"id": {"$contains": "99"}}),
            json!({"price": {"$gte": 100, "$lt": 1000.5}}),
            json!({"price": {"$gt": 1250}}),
            json!({"n": {"$in": [1, 2, 3, 40]}}),
            json!({"$or": [{"tags": "t3"}, {"n": 0}, {"id": "id-04999"}]}),
            json!({"$not": {"$and": [{"tags": "t4"}, {"kind": "x"}]}}),
            json!({"none": {"$exists": false}}),
        ],
        &rows,
    );
}

#[test]
fn long_strings_are_found_by_their_hash() {
    let long = |name: &str| format!("{name}{}", "-".repeat(64));
    let rows = [
        json!({"s": long("a"), "l": [long("a"), "short"]}),
        json!({"s": "short", "l": [long("b")]}),
        json!({"s": long("b"), "l": "short"}),
        json!({"s": 3}),
    ];
    let index = index_of(&rows, Limits::default());
    let unsure = |filter: Value| unsure(filter, &rows, &index);
    assert_eq!(unsure(json!({"s": "short"})), NOTHING);
    assert_eq!(unsure(json!({"s": {"$ne": "other"}})), NOTHING);
    assert_eq!(unsure(json!({"l": {"$contains": "short"}})), NOTHING);
    assert_eq!(unsure(json!({"s": long("a")})), [0]);
    assert_eq!(unsure(json!({"s": long("c")})), NOTHING);
    assert_eq!(unsure(json!({"l": {"$in": [long("a"), long("b")]}})), [0, 1]);
    assert_eq!(unsure(json!({"s": {"$startsWith": "s"}})), [0, 2]);
    assert_eq!(unsure(json!({"s": {"$not": {"$gt": "s"}}})), [0, 2]);
    assert_eq!(unsure(json!({"s": {"$contains": "-"}, "l": {"$exists": true}})), [0, 2]);
    assert_eq!(unsure(json!({"l": {"$startsWith": "s"}})), NOTHING);
}

#[test]
fn prose_and_fields_with_too_many_strings_are_hashed() {
    let sentence = |at: usize| format!("sentence number {at} of a text without end");
    let rows: Vec<Value> = (0..50)
        .map(|at| json!({"prose": sentence(at), "often": sentence(at % 5), "id": at.to_string()}))
        .collect();
    let index = index_of(&rows, Limits::default());
    assert_eq!(unsure(json!({"prose": sentence(7)}), &rows, &index), [7]);
    assert_eq!(unsure(json!({"prose": {"$gt": "t"}}), &rows, &index).len(), 50);
    assert_eq!(unsure(json!({"often": {"$contains": "number 3"}}), &rows, &index), NOTHING);
    assert_eq!(unsure(json!({"id": {"$gte": "4"}}), &rows, &index), NOTHING);

    let index = index_of(&rows, Limits { strings: 40, ..Limits::default() });
    assert_eq!(unsure(json!({"id": "7"}), &rows, &index), [7]);
    assert_eq!(unsure(json!({"id": "70"}), &rows, &index), NOTHING);
    assert_eq!(unsure(json!({"id": {"$startsWith": "1"}}), &rows, &index).len(), 50);
}

#[test]
fn fields_beyond_the_limit_are_left_to_the_caller() {
    let rows =
        [json!({"a": 1}), json!({"b": 1}), json!({"c": 1}), json!({"a": 2, "c": 2}), json!({})];
    let index = index_of(&rows, Limits { fields: 2, ..Limits::default() });
    assert_eq!((index.rows(), index.fields()), (5, 2));
    assert_eq!(unsure(json!({"a": 1}), &rows, &index), NOTHING);
    assert_eq!(unsure(json!({"c": 1}), &rows, &index), [2, 3]);
    assert_eq!(unsure(json!({"c": {"$ne": 1}}), &rows, &index), [2, 3]);
    assert_eq!(unsure(json!({"$or": [{"a": 2}, {"c": 2}]}), &rows, &index), [2]);
    assert_eq!(unsure(json!({"c": 1, "a": {"$exists": true}}), &rows, &index), [3]);
}

#[test]
fn an_empty_index_selects_nothing() {
    let index = index_of(&[], Limits::default());
    for filter in [json!({}), json!({"a": 1}), json!({"a": {"$ne": 1}})] {
        assert_eq!(unsure(filter.clone(), &[], &index), NOTHING);
        assert!(Filter::parse(&filter).unwrap().select(&index).unwrap().rows.is_empty());
    }
}

#[test]
fn a_newer_version_is_named() {
    let mut bytes = FilterIndexBuilder::new().finish();
    bytes[8] = 9;
    assert_eq!(FilterIndex::open(bytes.into()).unwrap_err().code(), Code::NewerFormat);
}

/// Rows that make every part of an index.
fn varied() -> Vec<Value> {
    let mut rows: Vec<Value> = (0..40)
        .map(|at| {
            json!({"k": (["red", "green", "blue"][at % 3]), "n": at as f64 / 2.0, "t": at.is_multiple_of(2),
                   "l": ["x", at, null, "l".repeat(70)], "long": "y".repeat(60 + at), "z": null})
        })
        .collect();
    rows.push(json!({"w": u64::MAX, "left": {"out": 1}}));
    rows.push(json!({"w": 0.5}));
    rows
}

/// Asks for everything; whatever comes back names only rows that exist.
fn ask_everything(bytes: Vec<u8>, filters: &[Filter]) {
    let index = match FilterIndex::open(bytes.into()) {
        Ok(index) => index,
        Err(error) => {
            return assert!(matches!(error.code(), Code::Corrupt | Code::NewerFormat));
        }
    };
    for filter in filters {
        match filter.select(&index) {
            Ok(selection) => {
                assert!(selection.rows.max().is_none_or(|row| row < index.rows()));
                assert!(selection.unsure.is_subset(&selection.rows));
            }
            Err(error) => assert_eq!(error.code(), Code::Corrupt),
        }
    }
}

fn damage() -> (Vec<u8>, Vec<Filter>) {
    let mut builder = FilterIndexBuilder::with_limits(Limits { fields: 7, ..Limits::default() });
    varied().iter().for_each(|row| builder.push(Some(row)));
    let filters = [
        json!({"k": {"$in": ["red", "blue"]}}),
        json!({"k": {"$gte": "c"}, "t": true}),
        json!({"n": {"$gt": 3, "$lte": 12.5}}),
        json!({"w": {"$lt": 3}}),
        json!({"w": {"$ne": u64::MAX}}),
        json!({"l": {"$contains": "x"}, "z": null}),
        json!({"l": {"$nin": [3, "l".repeat(70)]}}),
        json!({"long": {"$startsWith": "y"}}),
        json!({"long": {"$contains": "yy"}}),
        json!({"$or": [{"left.out": 1}, {"left": {"$exists": true}}]}),
    ];
    (builder.finish(), filters.iter().map(|filter| Filter::parse(filter).unwrap()).collect())
}

#[test]
fn every_truncation_is_refused_or_answers() {
    let (bytes, filters) = damage();
    for length in 0..bytes.len() {
        ask_everything(bytes[..length].to_vec(), &filters);
    }
}

#[test]
fn every_damaged_byte_is_refused_or_answers() {
    let (bytes, filters) = damage();
    for at in 0..bytes.len() {
        for flip in [1, 0x80] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            ask_everything(damaged, &filters);
        }
    }
}

proptest! {
    #[test]
    fn any_damage_is_refused_or_answers(
        patches in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)
    ) {
        let (mut bytes, filters) = damage();
        for (at, byte) in patches {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        ask_everything(bytes, &filters);
    }

    #[test]
    fn the_same_rows_give_the_same_bytes(rows in prop::collection::vec(0usize..40, 0..40)) {
        let varied = varied();
        let written = || {
            let mut builder = FilterIndexBuilder::new();
            rows.iter().for_each(|&row| builder.push(Some(&varied[row])));
            builder.finish()
        };
        prop_assert_eq!(written(), written());
    }
}
