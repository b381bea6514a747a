//! What JSON says to serde.

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
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
}
