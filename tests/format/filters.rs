//! What the filter index of a segment should say, found out from the metadata of its rows by the document's rules.

use crate::decode::filter_index::{DAMAGED, FilterIndex, is_path};
use crate::decode::filter_values::{Number, Values};
use crate::decode::segment::Segment;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::xxh3_64;

/// Panics where the index of a segment says something else than its records.
pub fn check(segment: &Segment) {
    let mut expected: BTreeMap<String, Vec<(u32, Value)>> = BTreeMap::new();
    for (row, record) in (0..).zip(&segment.rows) {
        for (path, value) in fields(&record.metadata) {
            expected.entry(path).or_default().push((row, value));
        }
    }
    let index = &segment.filter;
    for field in &index.fields {
        let Some(rows) = expected.remove(&field.path) else {
            panic!("no row has the field {:?}", field.path);
        };
        assert!(rows.iter().map(|(row, _)| row).eq(&field.rows), "rows of {:?}", field.path);
        let kept = [field.plain.keeps_none, field.elements.keeps_none];
        let [plain, elements] = values(index, kept, &rows);
        assert_eq!(field.plain, plain, "values of {:?}", field.path);
        assert_eq!(field.elements, elements, "elements of {:?}", field.path);
    }
    let rest: BTreeSet<u32> = expected.values().flatten().map(|(row, _)| *row).collect();
    assert!(index.left_out.iter().eq(&rest), "rows with a field that is left out");
}

/// All fields of a record that a filter can name.
fn fields(metadata: &str) -> BTreeMap<String, Value> {
    if metadata.is_empty() {
        return BTreeMap::new();
    }
    let Ok(Value::Object(object)) = serde_json::from_str(metadata) else {
        return BTreeMap::from([(DAMAGED.to_owned(), Value::Null)]);
    };
    let mut found = BTreeMap::new();
    joined("", &object, &mut found);
    // A key that is the whole path wins.
    found.extend(object);
    found.retain(|path, _| is_path(path) && path != DAMAGED);
    found
}

/// Fields behind steps, none of which has a dot in it: a filter splits its path at every one.
fn joined(before: &str, object: &Map<String, Value>, found: &mut BTreeMap<String, Value>) {
    for (key, value) in object.iter().filter(|(key, _)| !key.contains('.')) {
        let path = format!("{before}{key}");
        if let Value::Object(inner) = value {
            joined(&format!("{path}."), inner, found);
        }
        found.insert(path, value.clone());
    }
}

/// The values of a field that are not arrays, and the elements of those that are.
fn values(index: &FilterIndex, keeps_none: [bool; 2], rows: &[(u32, Value)]) -> [Values; 2] {
    let [mut plain, mut elements] = keeps_none.map(|keeps_none| Found::new(index, keeps_none));
    for (row, value) in rows {
        match value {
            Value::Array(array) => array.iter().for_each(|value| elements.add(*row, value)),
            value => plain.add(*row, value),
        }
    }
    [plain.done(), elements.done()]
}

struct Found {
    values: Values,
    string_max: usize,
    numbers: Vec<(Number, u32)>,
    strings: BTreeMap<String, Vec<u32>>,
}

impl Found {
    fn new(index: &FilterIndex, keeps_none: bool) -> Found {
        let values = Values { keeps_none, ..Values::default() };
        let string_max = index.string_max as usize;
        Found { values, string_max, numbers: Vec::new(), strings: BTreeMap::new() }
    }

    fn add(&mut self, row: u32, value: &Value) {
        match value {
            Value::Null => self.values.null.push(row),
            Value::Bool(false) => self.values.no.push(row),
            Value::Bool(true) => self.values.yes.push(row),
            Value::Number(number) => {
                let integer = number.as_i128().map(Number::Integer);
                let number = integer.unwrap_or_else(|| Number::of(number.as_f64().unwrap()));
                self.numbers.push((number, row));
            }
            Value::String(text) if self.values.keeps_none || text.len() > self.string_max => {
                self.values.unkept.push(row);
                self.values.hashes.push((xxh3_64(text.as_bytes()) as u32, row));
            }
            Value::String(text) => self.strings.entry(text.clone()).or_default().push(row),
            // Equal to nothing.
            Value::Array(_) | Value::Object(_) => {}
        }
    }

    fn done(mut self) -> Values {
        let values = &mut self.values;
        [&mut values.null, &mut values.no, &mut values.yes, &mut values.unkept]
            .into_iter()
            .for_each(Vec::dedup);
        values.hashes.sort_unstable();
        values.hashes.dedup();
        self.numbers.sort_by(|(a, x), (b, y)| a.order(*b).unwrap().then(x.cmp(y)));
        self.numbers.dedup();
        for number in self.numbers.chunk_by(|(a, _), (b, _)| a == b) {
            values.numbers.push((number[0].0, number.iter().map(|(_, row)| *row).collect()));
        }
        for (text, mut rows) in self.strings {
            rows.dedup();
            values.strings.push((text, rows));
        }
        self.values
    }
}
