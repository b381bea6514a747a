//! Filters against an evaluator that knows nothing of them: it reads the JSON as the rules of
//! `docs/filters.md` say, slowly, without parsing, without sets and with its own arithmetic.

mod answers;

use brainy::filter::Filter;
use brainy::filter::index::{FilterIndex, FilterIndexBuilder, Limits};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// What the documentation says about `filter`, taken at its word.
fn naive(filter: &Value, metadata: &Value) -> bool {
    let all = |filters: &Value| -> Vec<bool> {
        let filters = filters.as_array().unwrap();
        filters.iter().map(|filter| naive(filter, metadata)).collect()
    };
    filter.as_object().unwrap().iter().all(|(key, operand)| match key.as_str() {
        "$and" => !all(operand).contains(&false),
        "$or" => all(operand).contains(&true),
        "$not" => !naive(operand, metadata),
        path => condition(operand, &look_up(path, metadata)),
    })
}

/// The field's value, in a vector that is empty where it is missing.
fn look_up(path: &str, metadata: &Value) -> Vec<Value> {
    if let Some(value) = metadata.get(path) {
        return vec![value.clone()];
    }
    let pointer = format!("/{}", path.replace('.', "/"));
    let through_array = (1..pointer.len()).any(|end| {
        pointer.is_char_boundary(end)
            && metadata.pointer(&pointer[..end]).is_some_and(Value::is_array)
            && pointer[end..].starts_with('/')
    });
    match metadata.pointer(&pointer) {
        Some(value) if !through_array => vec![value.clone()],
        _ => vec![],
    }
}

fn condition(operand: &Value, field: &[Value]) -> bool {
    let Value::Object(operators) = operand else {
        return operator("$eq", operand, field);
    };
    operators.iter().all(|(name, operand)| operator(name, operand, field))
}

fn operator(name: &str, operand: &Value, field: &[Value]) -> bool {
    match name {
        "$not" => return !condition(operand, field),
        "$ne" => return !operator("$eq", operand, field),
        "$nin" => return !operator("$in", operand, field),
        "$exists" => return json!(!field.is_empty()) == *operand,
        _ => {}
    }
    let Some(value) = field.first() else {
        return false;
    };
    let with_elements: Vec<&Value> = match value {
        Value::Array(elements) => elements.iter().collect(),
        value => vec![value],
    };
    let equal = |operand: &Value| with_elements.iter().any(|value| same(value, operand));
    match name {
        "$eq" => equal(operand),
        "$in" => operand.as_array().unwrap().iter().any(equal),
        "$contains" if value.is_array() => equal(operand),
        "$contains" => match (value.as_str(), operand.as_str()) {
            (Some(value), Some(part)) => value.split(part).count() > 1,
            _ => false,
        },
        "$startsWith" => match (value.as_str(), operand.as_str()) {
            (Some(value), Some(prefix)) => value.as_bytes().starts_with(prefix.as_bytes()),
            _ => false,
        },
        "$gt" => less(operand, value) == Some(true),
        "$lt" => less(value, operand) == Some(true),
        "$gte" => less(value, operand) == Some(false),
        "$lte" => less(operand, value) == Some(false),
        other => panic!("the generator made {other}"),
    }
}

/// Every generated number is a multiple of an eighth below 2^70: this many of them, exactly.
fn eighths(value: &Value) -> Option<i128> {
    let number = value.as_number()?;
    match number.as_i128() {
        Some(integer) => Some(integer * 8),
        None => Some((number.as_f64()? * 8.0) as i128),
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (eighths(a), eighths(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b && !a.is_object() && !a.is_array(),
    }
}

/// `None` where the two have no order.
fn less(a: &Value, b: &Value) -> Option<bool> {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => Some(eighths(a)? < eighths(b)?),
        (Value::String(a), Value::String(b)) => Some(a.as_bytes() < b.as_bytes()),
        _ => None,
    }
}

fn number() -> impl Strategy<Value = Value> {
    let two = |power: i32| 2f64.powi(power);
    prop_oneof![
        4 => (-2i64..4).prop_map(|n| json!(n)),
        4 => (-16i32..32).prop_map(|n| json!(f64::from(n) / 8.0)),
        1 => (-2i64..3).prop_map(|n| json!((1i64 << 53) + n)),
        1 => (-2i64..3).prop_map(|n| json!(-(1i64 << 53) + n)),
        1 => (0u64..3).prop_map(|n| json!((1u64 << 63) - 1 + n)),
        1 => (0u64..3).prop_map(|n| json!(u64::MAX - n)),
        1 => prop::sample::select(vec![
            json!(i64::MIN), json!(i64::MIN + 1), json!(-0.0), json!(two(53)), json!(-two(53)),
            json!(two(63)), json!(-two(63)), json!(two(64)), json!(two(69)), json!(-two(64)),
        ]),
    ]
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => Just(Value::Null),
        2 => any::<bool>().prop_map(Value::from),
        4 => number(),
        4 => "[ab\u{e9}\u{1f600}]{0,3}".prop_map(Value::from),
    ]
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "a.b", "b.a", "a.a.b", "c.", "0"]).prop_map(String::from)
}

fn metadata() -> impl Strategy<Value = Value> {
    let value = scalar().prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(key(), inner, 0..3)
                .prop_map(|map| map.into_iter().collect::<Value>()),
        ]
    });
    prop::collection::btree_map(key(), value, 0..5)
        .prop_map(|map| map.into_iter().collect::<Value>())
}

/// An operator and its operand.
fn operation() -> impl Strategy<Value = (String, Value)> {
    let equality = prop::sample::select(vec!["$eq", "$ne", "$contains"]);
    let order = prop::sample::select(vec!["$gt", "$gte", "$lt", "$lte"]);
    let list = prop::sample::select(vec!["$in", "$nin"]);
    let ordered = prop_oneof![number(), "[ab\u{e9}]{0,2}".prop_map(Value::from)];
    prop_oneof![
        (equality, scalar()),
        (order, ordered),
        (list, prop::collection::vec(scalar(), 0..24).prop_map(Value::from)),
        (Just("$exists"), any::<bool>().prop_map(Value::from)),
        (Just("$startsWith"), "[ab\u{e9}]{0,2}".prop_map(Value::from)),
    ]
    .prop_map(|(name, operand)| (name.to_owned(), operand))
}

fn field_condition() -> impl Strategy<Value = Value> {
    let operators = prop::collection::btree_map("", operation(), 1..2)
        .prop_map(|map| map.into_values().collect::<Map<_, _>>());
    let several = prop::collection::vec(operation(), 1..4)
        .prop_map(|list| list.into_iter().collect::<Map<_, _>>());
    let operators = prop_oneof![operators, several].prop_map(Value::Object);
    prop_oneof![
        1 => scalar(),
        3 => operators.clone(),
        1 => operators.prop_map(|inner| json!({ "$not": inner })),
    ]
}

fn filter() -> impl Strategy<Value = Value> {
    let fields = prop::collection::btree_map(key(), field_condition(), 0..3)
        .prop_map(|map| map.into_iter().collect::<Value>());
    fields.prop_recursive(4, 24, 3, |inner| {
        let several = prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            several.clone().prop_map(|filters| json!({ "$and": filters })),
            several.prop_map(|filters| json!({ "$or": filters })),
            inner.clone().prop_map(|filter| json!({ "$not": filter })),
            (inner, key(), field_condition())
                .prop_map(|(filter, key, condition)| json!({ "$not": filter, key: condition })),
        ]
    })
}

/// Which rows pass, by an index of them: `None` where it cannot tell.
fn selected(filter: &Filter, rows: &[Option<Value>], limits: Limits) -> Vec<Option<bool>> {
    let mut builder = FilterIndexBuilder::with_limits(limits);
    rows.iter().for_each(|row| builder.push(row.as_ref()));
    let index = FilterIndex::open(builder.finish().into()).unwrap();
    let selection = filter.select(&index).unwrap();
    assert!(selection.rows.max().is_none_or(|last| (last as usize) < rows.len()));
    assert!(selection.unsure.is_subset(&selection.rows));
    assert_eq!(selection.exact(), selection.unsure.is_empty());
    (0..rows.len() as u32)
        .map(|row| (!selection.unsure.contains(row)).then(|| selection.rows.contains(row)))
        .collect()
}

/// Rows of an index, some without metadata, some with a key that hides a nested one.
fn rows() -> impl Strategy<Value = Vec<Option<Value>>> {
    let hidden = (scalar(), scalar())
        .prop_map(|(literal, nested)| json!({"a.b": literal, "a": {"b": nested}}));
    let row = prop_oneof![3 => metadata(), 1 => hidden];
    prop::collection::vec(prop::option::weighted(0.9, row), 0..40)
}

/// One condition or many: among many, one that is wrong is easily hidden.
fn filter_of_any_size() -> impl Strategy<Value = Value> {
    let single = (key(), field_condition()).prop_map(|(key, condition)| json!({ key: condition }));
    prop_oneof![single, filter()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_048))]

    #[test]
    fn an_index_selects_the_rows_that_pass(filter in filter_of_any_size(), rows in rows()) {
        let filter = Filter::parse(&filter).unwrap();
        let passes: Vec<bool> =
            rows.iter().map(|row| filter.matches(row.as_ref().unwrap_or(&Value::Null))).collect();
        // All that is generated is short, so nothing is left out and nothing is unsure.
        let limits = Limits::default();
        let exactly: Vec<_> = passes.iter().copied().map(Some).collect();
        prop_assert_eq!(selected(&filter, &rows, limits), exactly);

        for limits in [
            Limits { fields: 3, ..limits },
            Limits { string_bytes: 2, ..limits },
            Limits { strings: 2, ..limits },
            Limits { fields: 4, string_bytes: 4, strings: 3, string_bytes_per_use: 2 },
        ] {
            for (row, answer) in selected(&filter, &rows, limits).into_iter().enumerate() {
                prop_assert!(answer.is_none_or(|answer| answer == passes[row]), "row {}", row);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn a_filter_means_what_the_documentation_says(filter in filter(), metadata in metadata()) {
        let parsed = Filter::parse(&filter).unwrap();
        prop_assert_eq!(parsed.matches(&metadata), naive(&filter, &metadata));
    }

    #[test]
    fn the_canonical_form_is_the_same_filter(filter in filter()) {
        let parsed = Filter::parse(&filter).unwrap();
        prop_assert_eq!(&Filter::parse(&parsed.to_json()).unwrap(), &parsed);
        prop_assert_eq!(Filter::from_json_str(&parsed.to_string()).unwrap(), parsed);
    }

    #[test]
    fn any_json_parses_or_names_its_fault(filter in metadata(), metadata in metadata()) {
        match Filter::parse(&filter) {
            Ok(parsed) => prop_assert_eq!(parsed.matches(&metadata), naive(&filter, &metadata)),
            Err(error) => prop_assert!(error.details()["path"].as_str().unwrap().starts_with('$')),
        }
    }
}
