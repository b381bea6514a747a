//! Which records does a filter let through?
//!
//! A [`Filter`] is parsed once from JSON (`parse.rs`), becomes a small tree with paths split and
//! `$in` lists indexed (`ast.rs`), and then decides about one metadata object after another
//! without allocating (`eval.rs`). If an `$or` looks for many words, one pass finds them all (`words.rs`). [`index`]
//! answers for all rows of a segment at once, from the values of their fields. The language is documented in
//! `docs/filters.md`; its rules in short:
//!
//! - A test on a missing field, or on a value of a type that it does not understand, is false.
//! - `$ne`, `$nin` and `$not` are the exact negations of `$eq`, `$in` and what they enclose; hence
//!   they are true for a missing field.
//! - `$eq`, `$in` and `$contains` look at the elements of an array; no other test does.
//! - Numbers compare by their exact value, whatever their notation; strings compare by bytes.
//!
//! Errors: everything that is not of the documented form is `invalid_filter`, and `details.path`
//! names the place, for example `$.price.$gt`.

mod ast;
mod eval;
pub mod index;
mod parse;
#[cfg(test)]
mod tests;
mod words;

use crate::base::json::longer_than;
use crate::base::{Code, Error, Result};
use serde_json::Value;
use std::fmt;

/// How deep a filter may be: a single test is 1, each `$and`, `$or`, `$not` or object with several
/// conditions around it adds 1.
pub const DEPTH_MAX: usize = 16;
/// How many tests, `$and`, `$or` and `$not` a filter may have.
pub const NODES_MAX: usize = 1_024;
/// How many values one `$in` or `$nin` may list.
pub const LIST_VALUES_MAX: usize = 10_000;
/// How many bytes of JSON a filter may have: parsed, a list of short values takes many times as much.
pub const BYTES_MAX: usize = 2 << 20;
/// Bytes of memory that a byte of a filter's JSON becomes at most, as in a list of digits.
pub const MEMORY_PER_BYTE: usize = 40;
/// Longest path of a field, in bytes.
pub const PATH_BYTES_MAX: usize = 512;

/// A parsed filter. Two filters are equal if they test the same in the same order.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    root: ast::Node,
}

impl Filter {
    /// Parses the JSON form; a fault is `invalid_filter` with `details.path`.
    pub fn parse(json: &Value) -> Result<Filter> {
        parse::parse(json).map(|root| Filter { root })
    }

    /// Parses the JSON form from text.
    pub fn from_json_str(text: &str) -> Result<Filter> {
        if let Some(bytes) = longer_than(BYTES_MAX, text) {
            return Err(Error::new(
                Code::InvalidFilter,
                format!(
                    "the filter has {bytes} bytes of JSON: use at most {BYTES_MAX}, and split the search"
                ),
            )
            .with("path", "$"));
        }
        let json: Value = serde_json::from_str(text).map_err(|error| {
            Error::new(Code::InvalidFilter, format!("the filter is not valid JSON: {error}"))
                .with("path", "$")
        })?;
        Self::parse(&json)
    }

    /// Whether a record's metadata (a JSON object) passes. A record without metadata is `null`
    /// here: all its fields are missing.
    pub fn matches(&self, metadata: &Value) -> bool {
        eval::matches(&self.root, metadata)
    }

    /// The canonical JSON form, with every `$eq` and `$and` written out. Parsing it gives an equal
    /// filter.
    pub fn to_json(&self) -> Value {
        self.root.to_json()
    }

    /// How many tests, `$and`, `$or` and `$not` it has.
    pub fn tests(&self) -> usize {
        self.root.count()
    }

    /// Bytes of memory that it takes, about.
    pub fn bytes(&self) -> usize {
        self.root.bytes()
    }

    /// Whether this is the empty filter `{}`, which lets everything through.
    pub fn is_empty(&self) -> bool {
        matches!(self.root, ast::Node::All)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_json().fmt(f)
    }
}
