//! Collects the metadata of row after row.

use super::super::PATH_BYTES_MAX;
use super::super::ast::Num;
use super::read::hash;
use super::{DAMAGED, Limits, ROWS_MAX, write};
use roaring::RoaringBitmap;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::hash::Hash;

/// Builds the index of a segment's rows. The same rows give the same bytes.
#[derive(Debug, Default)]
pub struct FilterIndexBuilder {
    pub(super) limits: Limits,
    pub(super) rows: u32,
    pub(super) fields: HashMap<Box<str>, FieldRows>,
    /// The rows with a field beyond the limit.
    pub(super) left_out: RoaringBitmap,
}

/// What was seen of one field.
#[derive(Debug, Default)]
pub(super) struct FieldRows {
    pub(super) exists: RoaringBitmap,
    pub(super) single: FacetRows,
    pub(super) elements: FacetRows,
}

/// The scalars of a field: its own, or those in its arrays.
#[derive(Debug, Default)]
pub(super) struct FacetRows {
    pub(super) null: RoaringBitmap,
    pub(super) falsehood: RoaringBitmap,
    pub(super) truth: RoaringBitmap,
    pub(super) numbers: Values<Num>,
    pub(super) strings: Values<Box<str>>,
    /// Hashes and rows of the strings that are not kept.
    pub(super) hashes: Vec<(u32, u32)>,
    /// Whether no string is kept.
    pub(super) all_hashed: bool,
}

/// Distinct values and where they appear.
#[derive(Debug)]
pub(super) struct Values<T> {
    ids: HashMap<T, u32>,
    /// Numbers of values and rows, in the order in which they came.
    uses: Vec<(u32, u32)>,
}

impl<T> Default for Values<T> {
    fn default() -> Self {
        Values { ids: HashMap::new(), uses: Vec::new() }
    }
}

impl FilterIndexBuilder {
    /// A builder with the default limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// A builder with other limits, which the bytes remember.
    pub fn with_limits(limits: Limits) -> Self {
        FilterIndexBuilder { limits, ..Self::default() }
    }

    /// Adds the next row; `None` and null stand for a record without metadata.
    ///
    /// # Panics
    ///
    /// If there are [`ROWS_MAX`] rows already.
    pub fn push(&mut self, metadata: Option<&Value>) {
        let row = self.rows;
        assert!(row < ROWS_MAX, "an index has at most {ROWS_MAX} rows");
        self.rows += 1;
        let Some(Value::Object(top)) = metadata else { return };
        for (key, value) in top {
            // No path begins like an operator.
            if key.starts_with('$') || key.len() > PATH_BYTES_MAX {
                continue;
            }
            if !key.is_empty() {
                self.add(key, value, row);
            }
            if let Value::Object(object) = value
                && !key.contains('.')
            {
                self.nested(top, &mut key.clone(), object, row);
            }
        }
    }

    /// Adds a row whose metadata cannot be read: no filter lets it through.
    ///
    /// # Panics
    ///
    /// If there are [`ROWS_MAX`] rows already.
    pub fn push_damaged(&mut self) {
        let row = self.rows;
        self.push(None);
        self.fields.entry(DAMAGED.into()).or_default().exists.insert(row);
    }

    /// Adds the row of this JSON text, or of none; whether it can be read.
    ///
    /// # Panics
    ///
    /// If there are [`ROWS_MAX`] rows already.
    pub fn push_text(&mut self, metadata: &str) -> bool {
        if metadata.is_empty() {
            self.push(None);
            return true;
        }
        match serde_json::from_str::<Value>(metadata) {
            Ok(value @ Value::Object(_)) => {
                self.push(Some(&value));
                true
            }
            _ => {
                self.push_damaged();
                false
            }
        }
    }

    /// Adds what is below `path`, which names `object`. Every level is at least a byte of the path.
    fn nested(
        &mut self,
        top: &Map<String, Value>,
        path: &mut String,
        object: &Map<String, Value>,
        row: u32,
    ) {
        let length = path.len();
        for (key, value) in object {
            // Paths are split at every dot.
            if key.contains('.') || length + 1 + key.len() > PATH_BYTES_MAX {
                continue;
            }
            path.push('.');
            path.push_str(key);
            // A literal key at the top wins over the path, but not over what is below it.
            if !top.contains_key(path.as_str()) {
                self.add(path, value, row);
            }
            if let Value::Object(object) = value {
                self.nested(top, path, object, row);
            }
            path.truncate(length);
        }
    }

    fn add(&mut self, path: &str, value: &Value, row: u32) {
        if !self.fields.contains_key(path) {
            if self.fields.len() == self.limits.fields {
                self.left_out.insert(row);
                return;
            }
            self.fields.insert(path.into(), FieldRows::default());
        }
        let Some(field) = self.fields.get_mut(path) else { return };
        field.exists.insert(row);
        match value {
            Value::Array(elements) => {
                for element in elements {
                    field.elements.add(element, row, &self.limits);
                }
            }
            single => field.single.add(single, row, &self.limits),
        }
    }

    /// The index as bytes.
    pub fn finish(self) -> Vec<u8> {
        write::write(self)
    }
}

impl FacetRows {
    fn add(&mut self, value: &Value, row: u32, limits: &Limits) {
        match value {
            Value::Null => drop(self.null.insert(row)),
            Value::Bool(false) => drop(self.falsehood.insert(row)),
            Value::Bool(true) => drop(self.truth.insert(row)),
            Value::Number(number) => self.numbers.add(Num::new(number), row),
            Value::String(string) => self.add_string(string, row, limits),
            // Nothing is equal to them, and nothing is said about their order.
            Value::Array(_) | Value::Object(_) => {}
        }
    }

    fn add_string(&mut self, string: &str, row: u32, limits: &Limits) {
        if self.all_hashed || string.len() > limits.string_bytes as usize {
            self.hashes.push((hash(string), row));
            return;
        }
        match self.strings.ids.get(string) {
            Some(&id) => self.strings.uses.push((id, row)),
            None => self.strings.add(string.into(), row),
        }
        if self.strings.ids.len() > limits.strings {
            self.hash_all();
        }
    }

    /// Turns all strings into hashes where they take too many bytes for how often they appear.
    pub(super) fn weigh(&mut self, limits: &Limits) {
        let bytes: usize = self.strings.ids.keys().map(|string| string.len()).sum();
        if bytes > self.strings.uses.len() * limits.string_bytes_per_use {
            self.hash_all();
        }
    }

    fn hash_all(&mut self) {
        self.all_hashed = true;
        let Values { ids, uses } = std::mem::take(&mut self.strings);
        let mut hashes = vec![0; ids.len()];
        for (string, id) in ids {
            hashes[id as usize] = hash(&string);
        }
        self.hashes.extend(uses.into_iter().map(|(id, row)| (hashes[id as usize], row)));
    }
}

impl<T: Eq + Hash> Values<T> {
    fn add(&mut self, value: T, row: u32) {
        let next = self.ids.len() as u32;
        let id = *self.ids.entry(value).or_insert(next);
        self.uses.push((id, row));
    }

    /// The values in the order of `compare`, each with its rows in ascending order.
    pub(super) fn sorted(
        self,
        compare: impl Fn(&T, &T) -> std::cmp::Ordering,
    ) -> (Vec<T>, Vec<Vec<u32>>) {
        let mut values: Vec<(T, u32)> = self.ids.into_iter().collect();
        values.sort_unstable_by(|(a, _), (b, _)| compare(a, b));
        let mut places = vec![0; values.len()];
        for (place, (_, id)) in values.iter().enumerate() {
            places[*id as usize] = place;
        }
        let mut rows = vec![Vec::new(); values.len()];
        for (id, row) in self.uses {
            // Rows come in order; an array may hold a value twice.
            let rows: &mut Vec<u32> = &mut rows[places[id as usize]];
            if rows.last() != Some(&row) {
                rows.push(row);
            }
        }
        (values.into_iter().map(|(value, _)| value).collect(), rows)
    }
}
