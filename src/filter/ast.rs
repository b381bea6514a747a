//! The tree that a filter becomes: paths split, numbers canonical, long lists indexed.

use super::words::Nodes;
use serde_json::{Map, Number, Value, json};
use std::cmp::Ordering;
use std::collections::HashSet;

/// Lists longer than this are looked up by hash; shorter ones are faster to walk.
const WALKED_VALUES_MAX: usize = 16;

/// One node of a filter.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// The empty filter: always true.
    All,
    And(Nodes),
    Or(Nodes),
    Not(Box<Node>),
    Test(Path, Test),
}

/// What is asked of one field.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    Eq(Scalar),
    Ne(Scalar),
    Order(Order, Scalar),
    In(List),
    Nin(List),
    Exists(bool),
    Contains(Scalar),
    StartsWith(Box<str>),
}

/// The four order tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Gt,
    Gte,
    Lt,
    Lte,
}

impl Order {
    /// Whether a value that compares as `ordering` to the operand passes.
    pub(super) fn accepts(self, ordering: Ordering) -> bool {
        match self {
            Order::Gt => ordering.is_gt(),
            Order::Gte => ordering.is_ge(),
            Order::Lt => ordering.is_lt(),
            Order::Lte => ordering.is_le(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Order::Gt => "$gt",
            Order::Gte => "$gte",
            Order::Lt => "$lt",
            Order::Lte => "$lte",
        }
    }
}

/// Where a field is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Path {
    /// As written: tried first, as a literal key of the metadata.
    whole: Box<str>,
    /// Split at the dots; empty if there are none.
    steps: Box<[Box<str>]>,
}

impl Path {
    pub(super) fn new(path: &str) -> Self {
        let steps = match path.contains('.') {
            true => path.split('.').map(Box::from).collect(),
            false => Box::default(),
        };
        Path { whole: path.into(), steps }
    }

    /// As written.
    pub(super) fn whole(&self) -> &str {
        &self.whole
    }

    /// The field's value; `None` where it is missing.
    pub(super) fn find<'v>(&self, metadata: &'v Value) -> Option<&'v Value> {
        let object = metadata.as_object()?;
        if let Some(value) = object.get(&*self.whole) {
            return Some(value);
        }
        let (first, rest) = self.steps.split_first()?;
        rest.iter().try_fold(object.get(&**first)?, |value, step| value.as_object()?.get(&**step))
    }
}

/// A number by its value alone: `1`, `1.0` and `1e0` are one, and no integer is ever rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Num {
    /// An integer within `i64::MIN..=u64::MAX`, whichever way it was written.
    Int(i128),
    /// The bits of any other finite float: with a fraction, or beyond 64 bits.
    Float(u64),
}

const TWO_POW_63: f64 = 9_223_372_036_854_775_808.0;
const TWO_POW_64: f64 = 18_446_744_073_709_551_616.0;

impl Num {
    pub(super) fn new(number: &Number) -> Self {
        if let Some(int) = number.as_i64() {
            Num::Int(int.into())
        } else if let Some(int) = number.as_u64() {
            Num::Int(int.into())
        } else {
            // Without serde_json's arbitrary precision every other number is a finite f64.
            Num::from_f64(number.as_f64().unwrap_or(f64::MAX))
        }
    }

    pub(super) fn from_f64(float: f64) -> Self {
        if float.fract() == 0.0 && (-TWO_POW_63..TWO_POW_64).contains(&float) {
            Num::Int(float as i128)
        } else {
            Num::Float(float.to_bits())
        }
    }

    fn to_json(self) -> Value {
        match self {
            Num::Int(int) => match (i64::try_from(int), u64::try_from(int)) {
                (Ok(int), _) => int.into(),
                (_, Ok(int)) => int.into(),
                _ => Value::Null, // No such number is ever built, see `Int`.
            },
            Num::Float(bits) => f64::from_bits(bits).into(),
        }
    }

    /// The value as an integer, where it is one within 64 bits with a sign.
    pub(super) fn to_i64(self) -> Option<i64> {
        match self {
            Num::Int(int) => i64::try_from(int).ok(),
            Num::Float(_) => None,
        }
    }

    /// The value as a float, where that is exact.
    pub(super) fn to_f64(self) -> Option<f64> {
        match self {
            Num::Int(int) => Some(int as f64).filter(|float| *float as i128 == int),
            Num::Float(bits) => Some(f64::from_bits(bits)),
        }
    }

    /// Compares the values exactly.
    pub(super) fn compare(self, other: Num) -> Ordering {
        match (self, other) {
            (Num::Int(a), Num::Int(b)) => a.cmp(&b),
            (Num::Float(a), Num::Float(b)) => f64::from_bits(a).total_cmp(&f64::from_bits(b)),
            (Num::Int(a), Num::Float(b)) => compare_int_float(a, f64::from_bits(b)),
            (Num::Float(a), Num::Int(b)) => compare_int_float(b, f64::from_bits(a)).reverse(),
        }
    }
}

/// `float` has a fraction or is beyond 64 bits, so the two are never equal.
fn compare_int_float(int: i128, float: f64) -> Ordering {
    // The cast saturates far outside of 64 bits; a float with a fraction is small enough to be
    // cast exactly after the floor.
    if int <= float.floor() as i128 { Ordering::Less } else { Ordering::Greater }
}

/// A value that a field can be compared to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Num(Num),
    Str(Box<str>),
}

impl Scalar {
    /// `None` for arrays and objects.
    pub(super) fn new(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(Scalar::Null),
            Value::Bool(bool) => Some(Scalar::Bool(*bool)),
            Value::Number(number) => Some(Scalar::Num(Num::new(number))),
            Value::String(string) => Some(Scalar::Str(string.as_str().into())),
            Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Bytes that it takes besides its own.
    fn bytes(&self) -> usize {
        match self {
            Scalar::Str(string) => string.len(),
            Scalar::Null | Scalar::Bool(_) | Scalar::Num(_) => 0,
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Scalar::Null => Value::Null,
            Scalar::Bool(bool) => (*bool).into(),
            Scalar::Num(num) => num.to_json(),
            Scalar::Str(string) => (**string).into(),
        }
    }

    /// Whether `value` is this very scalar; elements of arrays are the caller's business.
    pub(super) fn is(&self, value: &Value) -> bool {
        match (self, value) {
            (Scalar::Null, Value::Null) => true,
            (Scalar::Bool(a), Value::Bool(b)) => a == b,
            (Scalar::Num(a), Value::Number(b)) => *a == Num::new(b),
            (Scalar::Str(a), Value::String(b)) => **a == **b,
            _ => false,
        }
    }
}

/// The values of an `$in` or `$nin`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct List {
    values: Box<[Scalar]>,
    /// For lists too long to be walked.
    index: Option<Box<Index>>,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Index {
    null: bool,
    falsehood: bool,
    truth: bool,
    numbers: HashSet<Num>,
    strings: HashSet<Box<str>>,
}

impl List {
    pub(super) fn new(values: Box<[Scalar]>) -> Self {
        let index = (values.len() > WALKED_VALUES_MAX).then(|| Box::new(Index::new(&values)));
        List { values, index }
    }

    pub(super) fn values(&self) -> &[Scalar] {
        &self.values
    }

    /// Whether `value` is one of the list's.
    pub(super) fn has(&self, value: &Value) -> bool {
        match &self.index {
            Some(index) => index.has(value),
            None => self.values.iter().any(|scalar| scalar.is(value)),
        }
    }

    fn bytes(&self) -> usize {
        let values = self.values.iter().map(|value| size_of::<Scalar>() + value.bytes());
        let values: usize = values.sum();
        // Its index holds each once more, with room to spare.
        if self.index.is_some() { 3 * values } else { values }
    }

    fn to_json(&self) -> Value {
        self.values.iter().map(Scalar::to_json).collect()
    }
}

impl Index {
    fn new(values: &[Scalar]) -> Self {
        let mut index = Index::default();
        for value in values {
            match value {
                Scalar::Null => index.null = true,
                Scalar::Bool(false) => index.falsehood = true,
                Scalar::Bool(true) => index.truth = true,
                Scalar::Num(num) => drop(index.numbers.insert(*num)),
                Scalar::Str(string) => drop(index.strings.insert(string.clone())),
            }
        }
        index
    }

    fn has(&self, value: &Value) -> bool {
        match value {
            Value::Null => self.null,
            Value::Bool(false) => self.falsehood,
            Value::Bool(true) => self.truth,
            Value::Number(number) => self.numbers.contains(&Num::new(number)),
            Value::String(string) => self.strings.contains(string.as_str()),
            Value::Array(_) | Value::Object(_) => false,
        }
    }
}

impl Node {
    /// How many nodes there are.
    pub(super) fn count(&self) -> usize {
        match self {
            Node::All | Node::Test(..) => 1,
            Node::And(nodes) | Node::Or(nodes) => 1 + nodes.iter().map(Node::count).sum::<usize>(),
            Node::Not(node) => 1 + node.count(),
        }
    }

    /// Bytes of memory that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let inner = match self {
            Node::All => 0,
            Node::And(nodes) | Node::Or(nodes) => {
                nodes.words_bytes() + nodes.iter().map(Node::bytes).sum::<usize>()
            }
            Node::Not(node) => node.bytes(),
            // The path as written, and in steps that have their own length.
            Node::Test(path, test) => 3 * path.whole.len() + test.bytes(),
        };
        size_of::<Node>() + inner
    }

    /// The canonical JSON form. It has exactly one JSON object per node, so that parsing it gives
    /// this node again and stays within the same limits.
    pub(super) fn to_json(&self) -> Value {
        let all = |nodes: &[Node]| nodes.iter().map(Node::to_json).collect::<Value>();
        match self {
            Node::All => json!({}),
            Node::And(nodes) => json!({ "$and": all(nodes) }),
            Node::Or(nodes) => json!({ "$or": all(nodes) }),
            Node::Not(node) => json!({ "$not": node.to_json() }),
            Node::Test(path, test) => {
                let mut field = Map::new();
                field.insert(path.whole.to_string(), test.to_json());
                Value::Object(field)
            }
        }
    }
}

impl Test {
    fn bytes(&self) -> usize {
        match self {
            Test::Eq(scalar)
            | Test::Ne(scalar)
            | Test::Order(_, scalar)
            | Test::Contains(scalar) => scalar.bytes(),
            Test::In(list) | Test::Nin(list) => list.bytes(),
            Test::Exists(_) => 0,
            Test::StartsWith(prefix) => prefix.len(),
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Test::Eq(scalar) => json!({ "$eq": scalar.to_json() }),
            Test::Ne(scalar) => json!({ "$ne": scalar.to_json() }),
            Test::Order(order, scalar) => json!({ order.name(): scalar.to_json() }),
            Test::In(list) => json!({ "$in": list.to_json() }),
            Test::Nin(list) => json!({ "$nin": list.to_json() }),
            Test::Exists(exists) => json!({ "$exists": exists }),
            Test::Contains(scalar) => json!({ "$contains": scalar.to_json() }),
            Test::StartsWith(prefix) => json!({ "$startsWith": prefix }),
        }
    }
}
