//! One record on its way from a file to the API.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use brainy::base::Code;
use brainy::base::clock::{Clock, SystemClock};
use brainy::base::ids;
use brainy::base::rng::SeededRng;
use brainy::embed::{Embedder, HashingEmbedder};
use brainy::engine::transfer::lines;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// A line of NDJSON, in the form of the records of an upsert or an export.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line<'a> {
    pub id: Option<String>,
    pub vector: Option<Vector>,
    #[serde(borrow)]
    pub metadata: Option<&'a RawValue>,
    pub text: Option<String>,
    /// Exports have it; it means nothing to another store.
    #[serde(rename = "version")]
    _version: Option<IgnoredAny>,
}

impl<'a> Line<'a> {
    /// Reads a line; the error says what is wrong with it.
    pub fn parse(line: &'a lines::Line) -> Result<Self, Fault> {
        let text = line.utf8().map_err(|error| Fault::new(error.code(), error.message()))?;
        serde_json::from_str(text)
            .map_err(|error| Fault::new(Code::InvalidRequest, format!("not a record: {error}")))
    }
}

/// A vector as numbers, or as base64 that is passed on unread.
#[derive(Debug)]
pub enum Vector {
    Numbers(Vec<f32>),
    Base64(String),
}

impl<'de> Deserialize<'de> for Vector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Vector;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of numbers or base64 of little-endian f32")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vector, A::Error> {
                let mut numbers = Vec::new();
                while let Some(number) = items.next_element()? {
                    numbers.push(number);
                }
                Ok(Vector::Numbers(numbers))
            }

            fn visit_str<E>(self, text: &str) -> Result<Vector, E> {
                Ok(Vector::Base64(text.to_owned()))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// What is wrong with one record.
#[derive(Debug, Clone)]
pub struct Fault {
    pub code: String,
    pub message: String,
}

impl Fault {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Fault { code: code.name().to_owned(), message: message.into() }
    }
}

#[derive(Serialize)]
struct Wire<'a> {
    id: &'a str,
    vector: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

/// Turns lines into the JSON that the API takes.
pub struct Encoder {
    /// Makes vectors from texts, where that is wanted.
    pub embedder: Option<HashingEmbedder>,
    /// Makes the ids that are missing. The server could, but a request that is repeated after a
    /// broken connection would then store its records twice.
    pub rng: SeededRng,
}

impl Encoder {
    /// The record as JSON, and the hash of its id.
    pub fn encode(&self, line: Line<'_>) -> Result<(u64, Vec<u8>), Fault> {
        let id = match line.id {
            Some(id) => id,
            None => ids::uuid_v7(SystemClock.now(), &self.rng),
        };
        let vector = match (line.vector, &line.text, &self.embedder) {
            (Some(Vector::Numbers(numbers)), _, _) => base64(&numbers).into(),
            (Some(Vector::Base64(text)), _, _) => text.into(),
            (None, Some(text), Some(embedder)) => base64(&embedder.embed(text)).into(),
            (None, None, Some(_)) => {
                let message = "has neither a vector nor a text to embed";
                return Err(Fault::new(Code::InvalidVector, message));
            }
            (None, _, None) => {
                let message = "has no vector; --embed-text would make one from its text";
                return Err(Fault::new(Code::InvalidVector, message));
            }
        };
        let wire = Wire { id: &id, vector, metadata: line.metadata, text: line.text.as_deref() };
        let json = serde_json::to_vec(&wire);
        let json = json.map_err(|error| Fault::new(Code::Internal, error.to_string()))?;
        Ok((ids::record_hash(&id), json))
    }
}

fn base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    BASE64_STANDARD.encode(bytes)
}

impl Line<'static> {
    /// A record that is only a vector.
    pub fn of_row(id: String, vector: Vec<f32>) -> Self {
        Line {
            id: Some(id),
            vector: Some(Vector::Numbers(vector)),
            metadata: None,
            text: None,
            _version: None,
        }
    }
}

impl Line<'_> {
    /// The record with this vector.
    pub fn with(self, vector: Vec<f32>) -> Self {
        Line { vector: Some(Vector::Numbers(vector)), ..self }
    }
}
