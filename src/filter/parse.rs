//! From JSON to the tree, with every limit checked and every fault located.

use super::ast::{List, Node, Order, Path, Scalar, Test};
use super::words::Nodes;
use super::{DEPTH_MAX, LIST_VALUES_MAX, NODES_MAX, PATH_BYTES_MAX};
use crate::base::{Code, Error, Result};
use serde_json::{Map, Value};
use std::fmt;

/// Every operator; those from `$not` on may stand around fields, those up to `$not` inside one.
const OPERATORS: [&str; 14] = [
    "$eq",
    "$ne",
    "$gt",
    "$gte",
    "$lt",
    "$lte",
    "$in",
    "$nin",
    "$exists",
    "$contains",
    "$startsWith",
    "$not",
    "$and",
    "$or",
];
/// How much of a key is repeated in a message or a path.
const SHOWN_CHARS_MAX: usize = 64;

pub(super) fn parse(json: &Value) -> Result<Node> {
    let mut parser = Parser { nodes: 0 };
    parser.filter(json, &Place::ROOT, 1)
}

/// Where the parser is, linked towards the root: costs nothing until a fault prints it.
struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl<'a> Place<'a> {
    const ROOT: Place<'static> = Place { parent: None, step: Step::Root };

    fn key(&'a self, key: &'a str) -> Place<'a> {
        Place { parent: Some(self), step: Step::Key(key) }
    }

    fn index(&'a self, index: usize) -> Place<'a> {
        Place { parent: Some(self), step: Step::Index(index) }
    }

    fn fault(&self, message: impl Into<String>) -> Error {
        Error::new(Code::InvalidFilter, message).with("path", self.to_string())
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => f.write_str("$"),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => {
                let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '$');
                match !key.is_empty() && key.chars().all(plain) {
                    true => write!(f, ".{}", shown(key)),
                    false => write!(f, "[{}]", Value::from(shown(key))),
                }
            }
        }
    }
}

/// The key, cut where it is too long to be repeated.
fn shown(key: &str) -> String {
    match key.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &key[..end]),
        None => key.to_owned(),
    }
}

/// What a value is, for messages.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

struct Parser {
    /// Nodes built so far.
    nodes: usize,
}

impl Parser {
    /// Counts a node that is `depth` deep.
    fn count(&mut self, place: &Place<'_>, depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(place.fault(format!(
                "the filter is more than {DEPTH_MAX} levels deep; flatten its $and, $or and $not"
            )));
        }
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(place.fault(format!(
                "the filter has more than {NODES_MAX} conditions; use $in instead of many $or"
            )));
        }
        Ok(())
    }

    /// A whole filter: an object of fields and logical operators, all of which must hold.
    fn filter(&mut self, json: &Value, place: &Place<'_>, depth: usize) -> Result<Node> {
        let Value::Object(object) = json else {
            return Err(place.fault(format!(
                "a filter is an object such as {{\"year\": {{\"$gte\": 2020}}}}, not {}",
                kind(json)
            )));
        };
        if object.is_empty() {
            self.count(place, depth)?;
            return Ok(Node::All);
        }
        self.conjunction(object, place, depth, |parser, key, value, place, depth| match key {
            "$and" => Ok(Node::And(Nodes::all(parser.filters(value, place, depth)?))),
            "$or" => Ok(Node::Or(Nodes::any(parser.filters(value, place, depth)?))),
            "$not" => {
                parser.count(place, depth)?;
                Ok(Node::Not(Box::new(parser.filter(value, place, depth + 1)?)))
            }
            _ if key.starts_with('$') => Err(place.fault(misplaced_outside(key))),
            _ => parser.field(key, value, place, depth),
        })
    }

    /// One node per entry of a non-empty object; several are joined by an `And` of their own.
    fn conjunction(
        &mut self,
        object: &Map<String, Value>,
        place: &Place<'_>,
        depth: usize,
        mut entry: impl FnMut(&mut Self, &str, &Value, &Place<'_>, usize) -> Result<Node>,
    ) -> Result<Node> {
        if let (1, Some((key, value))) = (object.len(), object.iter().next()) {
            return entry(self, key, value, &place.key(key), depth);
        }
        self.count(place, depth)?;
        let nodes = object
            .iter()
            .map(|(key, value)| entry(self, key, value, &place.key(key), depth + 1))
            .collect::<Result<_>>()?;
        Ok(Node::And(Nodes::all(nodes)))
    }

    /// The filters of an `$and` or `$or`.
    fn filters(&mut self, json: &Value, place: &Place<'_>, depth: usize) -> Result<Box<[Node]>> {
        self.count(place, depth)?;
        match json {
            Value::Array(filters) if !filters.is_empty() => filters
                .iter()
                .enumerate()
                .map(|(index, filter)| self.filter(filter, &place.index(index), depth + 1))
                .collect(),
            other => Err(place.fault(format!(
                "needs a non-empty array of filters, not {}",
                match other {
                    Value::Array(_) => "an empty one",
                    other => kind(other),
                }
            ))),
        }
    }

    /// A field and what is asked of it.
    fn field(
        &mut self,
        field: &str,
        json: &Value,
        place: &Place<'_>,
        depth: usize,
    ) -> Result<Node> {
        if field.is_empty() {
            return Err(place.fault("a field's name must not be empty"));
        }
        if field.len() > PATH_BYTES_MAX {
            return Err(place.fault(format!(
                "a field's path is at most {PATH_BYTES_MAX} bytes long, not {}",
                field.len()
            )));
        }
        match json {
            Value::Object(operators) => self.operators(field, operators, place, depth),
            Value::Array(_) => {
                Err(place
                    .fault("an array is not a value to compare to; use $in for one of several"))
            }
            scalar => {
                self.count(place, depth)?;
                Ok(Node::Test(Path::new(field), Test::Eq(operand(scalar, place)?)))
            }
        }
    }

    /// The operators on one field, all of which must hold.
    fn operators(
        &mut self,
        field: &str,
        operators: &Map<String, Value>,
        place: &Place<'_>,
        depth: usize,
    ) -> Result<Node> {
        if operators.is_empty() {
            return Err(place.fault("needs at least one operator, such as {\"$eq\": ...}"));
        }
        self.conjunction(operators, place, depth, |parser, key, value, place, depth| {
            parser.count(place, depth)?;
            if key != "$not" {
                return Ok(Node::Test(Path::new(field), test(field, key, value, place)?));
            }
            let Value::Object(negated) = value else {
                return Err(place.fault(format!(
                    "needs an object of operators, not {}; use $ne for a single value",
                    kind(value)
                )));
            };
            let negated = parser.operators(field, negated, place, depth + 1)?;
            Ok(Node::Not(Box::new(negated)))
        })
    }
}

/// One operator on a field.
fn test(field: &str, operator: &str, json: &Value, place: &Place<'_>) -> Result<Test> {
    Ok(match operator {
        "$eq" => Test::Eq(operand(json, place)?),
        "$ne" => Test::Ne(operand(json, place)?),
        "$gt" => Test::Order(Order::Gt, ordered(json, place)?),
        "$gte" => Test::Order(Order::Gte, ordered(json, place)?),
        "$lt" => Test::Order(Order::Lt, ordered(json, place)?),
        "$lte" => Test::Order(Order::Lte, ordered(json, place)?),
        "$in" => Test::In(list(json, place)?),
        "$nin" => Test::Nin(list(json, place)?),
        "$contains" => Test::Contains(operand(json, place)?),
        "$exists" => match json {
            Value::Bool(exists) => Test::Exists(*exists),
            other => {
                return Err(place.fault(format!("needs true or false, not {}", kind(other))));
            }
        },
        "$startsWith" => match json {
            Value::String(prefix) => Test::StartsWith(prefix.as_str().into()),
            other => return Err(place.fault(format!("needs a string, not {}", kind(other)))),
        },
        _ => return Err(place.fault(misplaced_inside(field, operator))),
    })
}

/// A value that a field is compared to.
fn operand(json: &Value, place: &Place<'_>) -> Result<Scalar> {
    Scalar::new(json).ok_or_else(|| {
        place.fault(format!("needs a string, a number, a boolean or null, not {}", kind(json)))
    })
}

/// A value that has an order.
fn ordered(json: &Value, place: &Place<'_>) -> Result<Scalar> {
    match operand(json, place)? {
        scalar @ (Scalar::Num(_) | Scalar::Str(_)) => Ok(scalar),
        _ => Err(place.fault(format!("needs a number or a string, not {}", kind(json)))),
    }
}

/// The values of `$in` or `$nin`.
fn list(json: &Value, place: &Place<'_>) -> Result<List> {
    let Value::Array(values) = json else {
        return Err(place.fault(format!("needs an array of values, not {}", kind(json))));
    };
    if values.len() > LIST_VALUES_MAX {
        return Err(place.fault(format!(
            "lists at most {LIST_VALUES_MAX} values, not {}; split the search",
            values.len()
        )));
    }
    values
        .iter()
        .enumerate()
        .map(|(index, value)| operand(value, &place.index(index)))
        .collect::<Result<_>>()
        .map(List::new)
}

/// Why `key` cannot stand where a field or a logical operator is expected.
fn misplaced_outside(key: &str) -> String {
    match OPERATORS.contains(&key) {
        true => format!("{key} stands inside a field: {{\"field\": {{\"{key}\": ...}}}}"),
        false => unknown(key),
    }
}

/// Why `key` cannot stand where an operator on `field` is expected.
fn misplaced_inside(field: &str, key: &str) -> String {
    if OPERATORS.contains(&key) {
        return format!("{key} stands around fields: {{\"{key}\": [{{\"field\": ...}}, ...]}}");
    }
    if key.starts_with('$') {
        return unknown(key);
    }
    format!(
        "expected an operator such as $eq; the field inside is written with a dot: {}",
        Value::from(shown(&format!("{field}.{key}")))
    )
}

/// Names the operator that looks most like `key`, or all of them.
fn unknown(key: &str) -> String {
    let key = shown(key);
    let lower = key.to_lowercase();
    let distance = |operator: &str| strsim::osa_distance(&lower, &operator.to_lowercase());
    match OPERATORS.iter().min_by_key(|operator| distance(operator)) {
        Some(best) if distance(best) * 3 <= best.len() => {
            format!("{key} is not an operator; did you mean {best}")
        }
        _ => format!("{key} is not an operator; there are {}", OPERATORS.join(" ")),
    }
}
