//! What JSON says to serde, and which JSON can be kept.
//!
//! Stored JSON is read again by `serde_json`, as a `Value`. What that cannot hold (half surrogate pairs, numbers
//! beyond a double, nesting beyond 128 levels) is found out by reading it so once, at the door: [`compact`]
//! is the form to store.

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
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

/// An object with more members is made compact by way of a [`Value`], which finds members of the same name in
/// less than a comparison of each with each.
const MEMBERS_MAX: usize = 32;
/// The name by which `serde_json` asks itself for text: a `Value` takes an object that begins with it for
/// something else.
const RAW_TOKEN: &str = "$serde_json::private::RawValue";
/// Why an object is left to a [`Value`]; told to nobody.
const BY_VALUE: &str = "by value";

/// The same JSON object without spaces, on one line: it reads as the same `Value`, which is that of the text,
/// so of several members of one name the last one stays. Fails where a `Value` cannot hold it.
pub fn compact(text: &str) -> Result<String, serde_json::Error> {
    let mut out = Vec::with_capacity(text.len());
    match write_object(text, Compact { out: &mut out, strict: true }) {
        Ok(()) => String::from_utf8(out).map_err(serde_json::Error::custom),
        Err(error) if error.to_string().starts_with(BY_VALUE) => {
            out.clear();
            write_object(text, Compact { out: &mut out, strict: false })?;
            let object: Map<String, Value> = serde_json::from_str(text)?;
            Ok(Value::Object(object).to_string())
        }
        Err(error) => Err(error),
    }
}

/// How many bytes JSON has where they are more than `most`. Escapes do not count, but what they stand for.
pub fn longer_than(most: usize, text: &str) -> Option<usize> {
    (text.len() > most).then(|| unescaped_len(text)).filter(|bytes| *bytes > most)
}

/// Bytes of JSON where every character that was escaped stands for itself: how long it is, not how it was written.
fn unescaped_len(text: &str) -> usize {
    let (mut length, mut rest) = (text.len(), text.as_bytes());
    while let Some(at) = memchr::memchr(b'\\', rest) {
        rest = &rest[at..];
        let unit = |at: usize| {
            let digits = rest.get(at..at + 6)?.strip_prefix(b"\\u")?;
            u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        };
        let (escape, character) = match unit(0) {
            None => (2, None),
            // Two halves are one character.
            Some(0xd800..0xdc00) if matches!(unit(6), Some(0xdc00..0xe000)) => (12, Some(4)),
            Some(unit) => (6, char::from_u32(unit).map(char::len_utf8)),
        };
        length -= character.map_or(0, |bytes| escape - bytes);
        rest = rest.get(escape..).unwrap_or_default();
    }
    length
}

/// Whether text is a JSON object that a `Value` holds.
pub fn is_object(text: &str) -> bool {
    compact(text).is_ok()
}

fn write_object(text: &str, to: Compact<'_>) -> Result<(), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    (&mut reader).deserialize_map(to)?;
    reader.end()
}

fn reserved<E: serde::de::Error>() -> E {
    E::custom(format!("the name {RAW_TOKEN} is reserved"))
}

/// Writes what it visits.
struct Compact<'a> {
    out: &'a mut Vec<u8>,
    /// Whether to stop at members of one name, or at many.
    strict: bool,
}

impl Compact<'_> {
    fn scalar<E: serde::de::Error>(self, scalar: impl serde::Serialize) -> Result<(), E> {
        serde_json::to_writer(self.out, &scalar).map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for Compact<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Compact<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.scalar(())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let Compact { out, strict } = self;
        out.push(b'[');
        let mut end = out.len();
        while elements.next_element_seed(Compact { out: &mut *out, strict })?.is_some() {
            end = out.len();
            out.push(b',');
        }
        out.truncate(end);
        out.push(b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Compact { out, strict } = self;
        out.push(b'{');
        let mut names: Vec<std::ops::Range<usize>> = Vec::new();
        let (mut start, mut end) = (out.len(), out.len());
        while members.next_key_seed(Name { out: &mut *out })?.is_some() {
            let name = start..out.len();
            let mut others = names.iter().map(|other| &out[other.clone()]);
            if strict
                && (names.len() >= MEMBERS_MAX || others.any(|other| *other == out[name.clone()]))
            {
                return Err(A::Error::custom(BY_VALUE));
            }
            if strict {
                names.push(name);
            }
            out.push(b':');
            members.next_value_seed(Compact { out: &mut *out, strict })?;
            end = out.len();
            out.push(b',');
            start = out.len();
        }
        out.truncate(end);
        out.push(b'}');
        Ok(())
    }
}

/// Writes the name of a member.
struct Name<'a> {
    out: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<(), E> {
        match name {
            RAW_TOKEN => Err(reserved()),
            name => serde_json::to_writer(self.out, name).map_err(E::custom),
        }
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
    use proptest::prelude::*;

    /// JSON as people write it: values, with spaces, escapes and repeated names in their text.
    fn json() -> impl Strategy<Value = String> {
        let scalar = prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|value| value.to_string()),
            any::<i64>().prop_map(|value| value.to_string()),
            any::<u64>().prop_map(|value| value.to_string()),
            any::<f64>().prop_map(|value| format!("{value:e}")),
            "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
            ".{0,6}".prop_map(|text| Value::String(text).to_string()),
            "(\\\\u[0-9a-fd][0-9a-f]{3}|\\\\n|\\\\/|a){0,4}".prop_map(|text| format!("\"{text}\"")),
        ];
        let space = "[ \n\r\t]{0,2}";
        let value = scalar.prop_recursive(4, 40, 6, move |inner| {
            let name = prop_oneof![
                "[a-c]".prop_map(|name| format!("\"{name}\"")),
                Just("\"\\u0061\"".to_owned()),
                ".{0,4}".prop_map(|name| Value::String(name).to_string()),
            ];
            let member = (name, space, inner.clone())
                .prop_map(|(name, space, value)| format!("{space}{name}{space}:{space}{value}"));
            prop_oneof![
                (prop::collection::vec(inner, 0..6), space)
                    .prop_map(|(all, space)| format!("[{space}{}{space}]", all.join(","))),
                (prop::collection::vec(member, 0..6), space)
                    .prop_map(|(all, space)| format!("{{{}{space}}}", all.join(","))),
            ]
        });
        prop_oneof![8 => value.prop_map(|value| format!("{{ \"k\" :{value} }}")), 1 => ".{0,20}"]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn the_compact_form_is_the_same_value_and_is_there_where_a_value_is(text in json()) {
            let value = serde_json::from_str::<Map<String, Value>>(&text);
            match (value, compact(&text)) {
                (Ok(value), Ok(compacted)) => {
                    prop_assert!(!compacted.contains(['\n', '\r']));
                    let again: Value = serde_json::from_str(&compacted).unwrap();
                    prop_assert_eq!(&again, &Value::Object(value));
                    prop_assert_eq!(compact(&compacted).unwrap(), compacted);
                }
                (Err(_), Err(_)) => {}
                (value, compacted) => prop_assert!(false, "{:?} but {:?}", value, compacted),
            }
        }
    }

    #[test]
    fn escapes_do_not_count() {
        for (text, bytes) in [
            ("\"中\"", 5),
            (r#""\u4e2d""#, 5),
            (r#""\u0041\u00e9""#, 5),
            (r#""\ud83d\ude00""#, 6),
            (r#""a\\u0041""#, 10),
            (r#""\n""#, 4),
            (r#""\ud83d""#, 8),
            (r#""\u12"#, 5),
            ("\\", 1),
        ] {
            assert_eq!(unescaped_len(text), bytes, "{text}");
        }
    }

    #[test]
    fn what_a_value_cannot_hold_is_refused_and_the_last_of_a_name_stays() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        let token = format!("{{\"a\":{{\"{RAW_TOKEN}\":\"nothing\"}}}}");
        let twice = format!("{{\"x\":1,\"x\":2,\"a\":{{\"{RAW_TOKEN}\":\"1\"}}}}");
        for bad in [
            r#"{"t":"\ud83d"}"#,
            r#"{"n":1e999}"#,
            r#"{"\udc00":1}"#,
            "[]",
            "null",
            "",
            "{} {}",
            "{\"a\":}",
            deep.as_str(),
            token.as_str(),
            twice.as_str(),
        ] {
            assert!(compact(bad).is_err(), "{bad}");
        }
        let many: Vec<String> = (0..100).map(|n| format!(" \"{n}\" : {n}")).collect();
        let many = compact(&format!("{{{},\"7\": [ ] }}", many.join(","))).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&many).unwrap()["7"], serde_json::json!([]));
        for (text, expected) in [
            ("{ }", "{}"),
            ("{\"a\" : 1 ,\n \"b\": [ 1.0, 2e0 , -0 ] }", "{\"a\":1,\"b\":[1.0,2.0,-0.0]}"),
            (r#"{"a":1,"\u0061":2}"#, r#"{"a":2}"#),
            (
                r#"{"big":18446744073709551615,"more":18446744073709551616}"#,
                r#"{"big":18446744073709551615,"more":1.8446744073709552e+19}"#,
            ),
        ] {
            assert_eq!(compact(text).unwrap(), expected);
        }
    }
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
