//! What JSON says to serde.

use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::marker::PhantomData;

/// A struct that stands in JSON as an object. Derived, a struct is read from an array of its fields, too,
/// which nobody means to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Object)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// An array of which the first `MAX` elements are kept: the rest is checked to be JSON, counted, and takes
/// no memory, for small elements can take many times as much of it as of JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounded<T, const MAX: usize> {
    /// The first elements.
    pub items: Vec<T>,
    /// How many there were.
    pub count: u64,
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(BoundedVisitor(PhantomData))
    }
}

struct BoundedVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for BoundedVisitor<T, MAX> {
    type Value = Bounded<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < MAX
            && let Some(item) = seq.next_element()?
        {
            items.push(item);
        }
        let mut count = items.len() as u64;
        while items.len() == MAX && seq.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Bounded { items, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;

    #[derive(Deserialize)]
    struct Pair<'a> {
        name: &'a str,
        #[serde(borrow)]
        rest: Option<&'a RawValue>,
    }

    #[test]
    fn an_object_is_read_as_ever_and_an_array_is_not_one() {
        let text = r#" {"name": "a", "rest": [1, {"b": 2}]}"#;
        let Object(pair) = serde_json::from_str::<Object<Pair<'_>>>(text).unwrap();
        assert_eq!((pair.name, pair.rest.map(RawValue::get)), ("a", Some(r#"[1, {"b": 2}]"#)));
        assert!(serde_json::from_str::<Pair<'_>>(r#"["a", null]"#).is_ok(), "or this is no mend");
        for text in [r#"["a", null]"#, "null", "1", "\"a\"", r#"{"name": 1}"#] {
            let error = serde_json::from_str::<Object<Pair<'_>>>(text).err().expect(text);
            assert_eq!(
                error.to_string().contains("a JSON object"),
                !text.starts_with('{'),
                "{text}"
            );
        }
    }

    #[test]
    fn an_array_keeps_so_many_elements_and_counts_all() {
        let parse = |text| serde_json::from_str::<Bounded<u8, 2>>(text);
        let Bounded { items, count } = parse("[1, 2, 3, {\"a\": []}]").unwrap();
        assert_eq!((items, count), (vec![1, 2], 4));
        assert_eq!(parse("[1]").unwrap(), Bounded { items: vec![1], count: 1 });
        assert_eq!(parse("[]").unwrap().count, 0);
        for text in ["[1, 2, 3", "[1, \"a\"]", "{}", "[1, 2, x]"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
