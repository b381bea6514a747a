//! The rules of `docs/filters.md`, one by one.

use super::*;
use serde_json::json;

fn matches(filter: Value, metadata: &Value) -> bool {
    Filter::parse(&filter).unwrap().matches(metadata)
}

/// Asserts which of `filters` pass.
fn table(metadata: Value, filters: &[(Value, bool)]) {
    for (filter, expected) in filters {
        assert_eq!(matches(filter.clone(), &metadata), *expected, "{filter} on {metadata}");
    }
}

/// The path and the message of the fault in `filter`.
fn fault(filter: &Value) -> (String, String) {
    let error = Filter::parse(filter).unwrap_err();
    assert_eq!(error.code(), Code::InvalidFilter);
    let path = error.details()["path"].as_str().unwrap().to_owned();
    (path, error.message().to_owned())
}

#[test]
fn equality_and_its_negation_on_every_type() {
    table(
        json!({"s": "x", "n": 3, "t": true, "z": null, "a": ["x", 3, true, null], "o": {"x": 1}}),
        &[
            (json!({"s": "x"}), true),
            (json!({"s": "X"}), false),
            (json!({"s": {"$eq": "x"}}), true),
            (json!({"s": {"$ne": "x"}}), false),
            (json!({"n": 3.0}), true),
            (json!({"n": "3"}), false),
            (json!({"n": {"$ne": "3"}}), true),
            (json!({"t": true}), true),
            (json!({"t": 1}), false),
            (json!({"z": null}), true),
            (json!({"z": false}), false),
            (json!({"a": "x"}), true),
            (json!({"a": 3}), true),
            (json!({"a": true}), true),
            (json!({"a": null}), true),
            (json!({"a": "y"}), false),
            (json!({"a": {"$ne": "x"}}), false),
            (json!({"a": {"$ne": "y"}}), true),
            (json!({"o": {"$ne": 1}}), true),
        ],
    );
}

#[test]
fn a_missing_field_fails_every_test_but_the_negations() {
    for metadata in [json!({}), json!({"f": {"y": 1}}), Value::Null, json!([1])] {
        table(
            metadata,
            &[
                (json!({"f.x": null}), false),
                (json!({"f.x": {"$gt": 0}}), false),
                (json!({"f.x": {"$lte": 0}}), false),
                (json!({"f.x": {"$in": [null]}}), false),
                (json!({"f.x": {"$exists": true}}), false),
                (json!({"f.x": {"$contains": ""}}), false),
                (json!({"f.x": {"$startsWith": ""}}), false),
                (json!({"f.x": {"$exists": false}}), true),
                (json!({"f.x": {"$ne": null}}), true),
                (json!({"f.x": {"$nin": [null]}}), true),
                (json!({"f.x": {"$not": {"$gt": 0}}}), true),
                (json!({"$not": {"f.x": 1}}), true),
            ],
        );
    }
}

#[test]
fn order_is_within_numbers_and_within_strings() {
    table(
        json!({"n": 5, "s": "2024-03-01T00:00:00Z", "t": true, "a": [5]}),
        &[
            (json!({"n": {"$gt": 4.5, "$lt": 5.5}}), true),
            (json!({"n": {"$gte": 5, "$lte": 5}}), true),
            (json!({"n": {"$gt": 5}}), false),
            (json!({"n": {"$lt": 5}}), false),
            (json!({"n": {"$gt": "4"}}), false),
            (json!({"s": {"$gt": "2023-12-31T23:59:59Z"}}), true),
            (json!({"s": {"$lt": "2024"}}), false),
            (json!({"s": {"$gt": 0}}), false),
            (json!({"t": {"$gte": 0}}), false),
            (json!({"a": {"$gte": 5}}), false),
        ],
    );
    table(json!({"s": "\u{ff5e}"}), &[(json!({"s": {"$lt": "\u{1f600}"}}), true)]);
}

#[test]
fn numbers_compare_by_their_exact_value() {
    let numbers = [
        json!(-1e300),
        json!(i64::MIN),
        json!(-9_007_199_254_740_993_i64),
        json!(-9_007_199_254_740_992_i64),
        json!(-0.5),
        json!(0),
        json!(5e-324),
        json!(9_007_199_254_740_992_f64),
        json!(9_007_199_254_740_993_i64),
        json!(i64::MAX),
        json!(9_223_372_036_854_775_808_f64),
        json!(9_223_372_036_854_775_809_u64),
        json!(u64::MAX),
        json!(18_446_744_073_709_551_616_f64),
        json!(f64::MAX),
    ];
    for (i, a) in numbers.iter().enumerate() {
        for (j, b) in numbers.iter().enumerate() {
            table(
                json!({"n": a}),
                &[
                    (json!({"n": {"$eq": b}}), i == j),
                    (json!({"n": {"$gt": b}}), i > j),
                    (json!({"n": {"$gte": b}}), i >= j),
                    (json!({"n": {"$lt": b}}), i < j),
                    (json!({"n": {"$lte": b}}), i <= j),
                ],
            );
        }
    }
    table(json!({"n": -0.0}), &[(json!({"n": 0}), true), (json!({"n": {"$lt": 0}}), false)]);
}

#[test]
fn lists_short_and_long_find_the_same() {
    let long: Vec<Value> = (0..1000).map(|i| json!(format!("v{i}"))).collect();
    for extra in [vec![], long] {
        let mut values = vec![json!("x"), json!(7), json!(2.5), json!(false), json!(null)];
        values.extend(extra);
        for (field, found) in [
            (json!("x"), true),
            (json!("y"), false),
            (json!(7.0), true),
            (json!(2.5), true),
            (json!(8), false),
            (json!(false), true),
            (json!(true), false),
            (json!(null), true),
            (json!(["y", "x"]), true),
            (json!(["y", 9]), false),
            (json!([]), false),
            (json!([["x"]]), false),
            (json!({"x": 1}), false),
        ] {
            table(
                json!({"f": field}),
                &[(json!({"f": {"$in": values}}), found), (json!({"f": {"$nin": values}}), !found)],
            );
        }
    }
    table(
        json!({"f": 1}),
        &[(json!({"f": {"$in": []}}), false), (json!({"f": {"$nin": []}}), true)],
    );
}

#[test]
fn contains_and_starts_with() {
    table(
        json!({"s": "object storage", "a": ["red", 3, null], "n": 33}),
        &[
            (json!({"s": {"$contains": "ct sto"}}), true),
            (json!({"s": {"$contains": "Object"}}), false),
            (json!({"s": {"$contains": ""}}), true),
            (json!({"s": {"$contains": 3}}), false),
            (json!({"a": {"$contains": "red"}}), true),
            (json!({"a": {"$contains": "re"}}), false),
            (json!({"a": {"$contains": 3.0}}), true),
            (json!({"a": {"$contains": null}}), true),
            (json!({"n": {"$contains": 3}}), false),
            (json!({"s": {"$startsWith": "object"}}), true),
            (json!({"s": {"$startsWith": "storage"}}), false),
            (json!({"a": {"$startsWith": "r"}}), false),
        ],
    );
}

#[test]
fn exists_is_about_the_key_not_the_value() {
    table(
        json!({"z": null, "o": {"p": 0}}),
        &[
            (json!({"z": {"$exists": true}}), true),
            (json!({"z": {"$exists": false}}), false),
            (json!({"o": {"$exists": true}}), true),
            (json!({"o.p": {"$exists": true}}), true),
            (json!({"o.q": {"$exists": false}}), true),
        ],
    );
}

#[test]
fn a_literal_key_with_dots_wins_over_the_nested_one() {
    let both = json!({"a.b": 1, "a": {"b": 2, "c": {"d": 3}, "x.y": 4}, "l": [{"m": 5}]});
    table(
        both,
        &[
            (json!({"a.b": 1}), true),
            (json!({"a.b": 2}), false),
            (json!({"a.c.d": 3}), true),
            (json!({"a.x.y": 4}), false),
            (json!({"l.m": 5}), false),
            (json!({"l.0.m": 5}), false),
            (json!({"a.": {"$exists": true}}), false),
        ],
    );
}

#[test]
fn conditions_combine() {
    table(
        json!({"a": 1, "b": 2}),
        &[
            (json!({}), true),
            (json!({"a": 1, "b": 2}), true),
            (json!({"a": 1, "b": 3}), false),
            (json!({"$or": [{"a": 9}, {"b": 2}]}), true),
            (json!({"$or": [{"a": 9}, {"b": 9}]}), false),
            (json!({"$and": [{"a": 1}, {"b": 2}]}), true),
            (json!({"$not": {"a": 1, "b": 3}}), true),
            (json!({"a": {"$not": {"$gt": 0, "$lt": 2}}}), false),
            (json!({"a": {"$not": {"$not": {"$eq": 1}}}, "$or": [{"b": 2}]}), true),
        ],
    );
}

#[test]
fn faults_are_located() {
    for (filter, path, message) in [
        (json!(3), "$", "not a number"),
        (json!({"a": {}}), "$.a", "at least one operator"),
        (json!({"": 1}), "$[\"\"]", "must not be empty"),
        (json!({"price": {"$gt": true}}), "$.price.$gt", "a number or a string"),
        (json!({"price": {"$gt": []}}), "$.price.$gt", "not an array"),
        (json!({"a.b": {"$exists": 1}}), "$[\"a.b\"].$exists", "true or false"),
        (json!({"a": ["x"]}), "$.a", "use $in"),
        (json!({"a": {"$in": "x"}}), "$.a.$in", "an array of values"),
        (json!({"a": {"$in": ["x", {}]}}), "$.a.$in[1]", "not an object"),
        (json!({"a": {"$startsWith": 1}}), "$.a.$startsWith", "a string"),
        (json!({"a": {"$not": 1}}), "$.a.$not", "use $ne"),
        (json!({"a": {"$not": {}}}), "$.a.$not", "at least one operator"),
        (json!({"a": {"b": 1}}), "$.a.b", "\"a.b\""),
        (json!({"a": {"$and": []}}), "$.a.$and", "stands around fields"),
        (json!({"$gt": 1}), "$.$gt", "stands inside a field"),
        (json!({"$or": []}), "$.$or", "non-empty array"),
        (json!({"$or": {"a": 1}}), "$.$or", "not an object"),
        (json!({"$not": [{"a": 1}]}), "$.$not", "not an array"),
        (json!({"$and": [{"a": 1}, {"b": {"$gr": 1}}]}), "$.$and[1].b.$gr", "did you mean $gt"),
        (json!({"a": {"$startswith": "x"}}), "$.a.$startswith", "did you mean $startsWith"),
        (json!({"$ands": []}), "$.$ands", "did you mean $and"),
        (json!({"a": {"$regularExpression": "x"}}), "$.a.$regularExpression", "there are $eq"),
    ] {
        let (at, said) = fault(&filter);
        assert_eq!(at, path, "{filter}: {said}");
        assert!(said.contains(message), "{filter}: {said}");
    }
    let error = Filter::from_json_str("{\"a\": ").unwrap_err();
    assert_eq!(error.code(), Code::InvalidFilter);
    assert_eq!(error.details()["path"], "$");
}

/// `levels` of `$not` around a test, hence `levels + 1` deep.
fn nested(levels: usize) -> Value {
    (0..levels).fold(json!({"a": 1}), |inner, _| json!({"$not": inner}))
}

#[test]
fn limits_hold_to_the_unit() {
    assert!(Filter::parse(&nested(DEPTH_MAX - 1)).is_ok());
    assert!(fault(&nested(DEPTH_MAX)).1.contains("levels deep"));
    assert!(fault(&nested(120)).1.contains("levels deep"));

    // The `$or` itself is one.
    let wide = |tests: usize| json!({"$or": vec![json!({"a": 1}); tests]});
    assert!(Filter::parse(&wide(NODES_MAX - 1)).is_ok());
    let (path, message) = fault(&wide(NODES_MAX));
    assert_eq!(path, format!("$.$or[{}].a", NODES_MAX - 1));
    assert!(message.contains("more than 1024 conditions"));

    let list = |values: usize| json!({"a": {"$in": vec![1; values]}});
    assert!(Filter::parse(&list(LIST_VALUES_MAX)).is_ok());
    assert_eq!(fault(&list(LIST_VALUES_MAX + 1)).0, "$.a.$in");

    let path = |bytes: usize| json!({"p".repeat(bytes): 1});
    assert!(Filter::parse(&path(PATH_BYTES_MAX)).is_ok());
    let (at, message) = fault(&path(PATH_BYTES_MAX + 1));
    assert!(message.contains("at most 512 bytes") && at.len() < 100, "{at}");
}

#[test]
fn the_canonical_form_is_stable() {
    let filter = json!({"year": {"$gte": 2020, "$lt": 2.5e3}, "tags": "new"});
    let filter = Filter::parse(&filter).unwrap();
    let text = filter.to_string();
    assert_eq!(
        text,
        r#"{"$and":[{"tags":{"$eq":"new"}},{"$and":[{"year":{"$gte":2020}},{"year":{"$lt":2500}}]}]}"#
    );
    assert_eq!(Filter::from_json_str(&text).unwrap(), filter);
    assert!(!filter.is_empty());
    assert!(Filter::parse(&json!({})).unwrap().is_empty());
}
