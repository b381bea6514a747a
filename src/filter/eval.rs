//! Deciding about one metadata object. Nothing here allocates.

use super::ast::{List, Node, Num, Order, Scalar, Test};
use serde_json::Value;

/// Whether `metadata` passes. The parser bounds the depth of the recursion.
pub(super) fn matches(node: &Node, metadata: &Value) -> bool {
    match node {
        Node::All => true,
        Node::And(nodes) => nodes.iter().all(|node| matches(node, metadata)),
        Node::Or(nodes) => {
            nodes.words().iter().any(|words| words.matches(metadata))
                || nodes.others().any(|node| matches(node, metadata))
        }
        Node::Not(node) => !matches(node, metadata),
        Node::Test(path, test) => passes(test, path.find(metadata)),
    }
}

fn passes(test: &Test, field: Option<&Value>) -> bool {
    match test {
        Test::Eq(scalar) => field.is_some_and(|value| equals(scalar, value)),
        Test::Ne(scalar) => !field.is_some_and(|value| equals(scalar, value)),
        Test::Order(order, scalar) => field.is_some_and(|value| ordered(*order, scalar, value)),
        Test::In(list) => field.is_some_and(|value| listed(list, value)),
        Test::Nin(list) => !field.is_some_and(|value| listed(list, value)),
        Test::Exists(exists) => field.is_some() == *exists,
        Test::Contains(scalar) => field.is_some_and(|value| contains(scalar, value)),
        Test::StartsWith(prefix) => {
            field.and_then(Value::as_str).is_some_and(|string| string.starts_with(&**prefix))
        }
    }
}

/// The value itself or, in an array, one of its elements.
fn any(value: &Value, is: impl Fn(&Value) -> bool) -> bool {
    match value {
        Value::Array(elements) => elements.iter().any(is),
        single => is(single),
    }
}

fn equals(scalar: &Scalar, value: &Value) -> bool {
    any(value, |element| scalar.is(element))
}

fn listed(list: &List, value: &Value) -> bool {
    any(value, |element| list.has(element))
}

fn ordered(order: Order, operand: &Scalar, value: &Value) -> bool {
    match (value, operand) {
        (Value::Number(number), Scalar::Num(num)) => order.accepts(Num::new(number).compare(*num)),
        // `str` orders by bytes.
        (Value::String(a), Scalar::Str(b)) => order.accepts(a.as_str().cmp(b)),
        _ => false,
    }
}

fn contains(scalar: &Scalar, value: &Value) -> bool {
    match (value, scalar) {
        (Value::Array(elements), _) => elements.iter().any(|element| scalar.is(element)),
        (Value::String(string), Scalar::Str(part)) => {
            memchr::memmem::find(string.as_bytes(), part.as_bytes()).is_some()
        }
        _ => false,
    }
}
