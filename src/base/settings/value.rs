//! From values in layers to the struct: every field's own type decides how its text is read, so
//! there is no second list of settings that could fall behind.

use super::{Settings, Source};
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::Value;
use std::fmt;
use std::sync::LazyLock;

/// Every setting's name, in the order of the struct.
pub fn keys() -> &'static [&'static str] {
    static KEYS: LazyLock<&'static [&'static str]> = LazyLock::new(|| {
        let mut fields: &'static [&'static str] = &[];
        // The derived code offers the names before it looks at any value.
        let _ = Settings::deserialize(Fields(&mut fields));
        fields
    });
    *KEYS
}

/// A deserializer that only notes which fields the struct asks for.
struct Fields<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = Fault;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Fault> {
        *self.0 = fields;
        Err(Fault::default())
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Fault> {
        Err(Fault::default())
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// What is wrong with a value.
#[derive(Debug, Default)]
pub(super) struct Fault {
    /// The setting.
    pub key: &'static str,
    /// What is wrong, to follow the key.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.message)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Fault { key: "", message: message.to_string() }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let expected = expected.join(", ");
        de::Error::custom(format!("must be one of {expected}, not {variant:?}"))
    }
}

/// One value as a layer gave it.
#[derive(Debug, Clone)]
pub(super) enum Raw {
    /// From a file.
    Typed(Value),
    /// From the environment or a flag.
    Text(String),
}

/// The value of one setting and where it came from.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The setting.
    pub key: &'static str,
    /// Its value.
    pub raw: Raw,
    /// Where it came from.
    pub source: Source,
}

/// Settings from these values and, for all others, the defaults.
pub(super) fn settings(entries: &[Entry]) -> Result<Settings, Fault> {
    Settings::deserialize(de::value::MapAccessDeserializer::new(Entries { entries, next: 0 }))
}

struct Entries<'a> {
    entries: &'a [Entry],
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some(entry) = self.entries.get(self.next) else {
            return Ok(None);
        };
        seed.deserialize(entry.key.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let entries = self.entries;
        let Some(entry) = entries.get(self.next) else {
            return Err(de::Error::custom("has no value"));
        };
        self.next += 1;
        seed.deserialize(Item(&entry.raw)).map_err(|fault| Fault { key: entry.key, ..fault })
    }
}

struct Item<'a>(&'a Raw);

impl Item<'_> {
    fn unexpected(&self, expected: &str) -> Fault {
        let found = match self.0 {
            Raw::Text(text) => format!("{text:?}"),
            Raw::Typed(Value::Object(_)) => "a table".to_owned(),
            Raw::Typed(Value::Array(_)) => "a list".to_owned(),
            Raw::Typed(value) => value.to_string(),
        };
        de::Error::custom(format!("must be {expected}, not {found}"))
    }

    fn integer(&self, max: u64) -> Result<u64, Fault> {
        let number = match self.0 {
            Raw::Typed(value) => value.as_u64(),
            // Not `str::parse` alone: it takes a leading plus.
            Raw::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            Raw::Text(_) => None,
        };
        match number {
            Some(number) if number <= max => Ok(number),
            _ => Err(self.unexpected(&format!("an integer of 0 to {max}"))),
        }
    }

    fn text(&self) -> Result<&str, Fault> {
        match self.0 {
            Raw::Typed(Value::String(text)) | Raw::Text(text) => Ok(text),
            Raw::Typed(_) => Err(self.unexpected("a string")),
        }
    }
}

impl<'de> Deserializer<'de> for Item<'_> {
    type Error = Fault;

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Raw::Typed(Value::Bool(value)) => visitor.visit_bool(*value),
            Raw::Text(text) if text == "true" => visitor.visit_bool(true),
            Raw::Text(text) if text == "false" => visitor.visit_bool(false),
            _ => Err(self.unexpected("true or false")),
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_u64(self.integer(u64::from(u32::MAX))?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        // Files cannot hold more than a signed 64-bit integer in TOML.
        visitor.visit_u64(self.integer(i64::MAX as u64)?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_str(self.text()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Raw::Typed(Value::Null) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let expected = format!("one of {}", variants.join(", "));
        let text = self.text().map_err(|_| self.unexpected(&expected))?;
        visitor.visit_enum(text.into_deserializer())
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Fault> {
        // A field of a new type needs its own line above, so that its text is read as it says.
        Err(de::Error::custom("has a type that settings cannot have"))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char str bytes byte_buf
        unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
