//! Shapes on the wire, and how they become the engine's values.
//!
//! Every input type is strict: an unknown field is an error, because ignoring a misspelt option is worse than
//! refusing it.

pub mod cluster;
pub mod collections;
pub mod damage;
pub mod health;
pub mod partitions;
pub mod recall;
pub mod records;
pub mod search;
pub mod vector;

use crate::base::settings::Settings;
use crate::base::{Error, Result};
use crate::filter::MEMORY_PER_BYTE;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use std::ops::RangeInclusive;

/// What the settings say about requests.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest body after decompression, in bytes.
    pub body_bytes_max: usize,
    /// Longest time that a search may wait for a version, in milliseconds.
    pub wait_ms_max: u64,
}

impl From<&Settings> for Limits {
    fn from(settings: &Settings) -> Self {
        Limits {
            body_bytes_max: usize::try_from(settings.max_body_bytes).unwrap_or(usize::MAX),
            wait_ms_max: settings.wait_ms_max,
        }
    }
}

/// A value of the engine that comes from a JSON body.
pub trait Decode: Sized + Send + 'static {
    /// Its shape on the wire; may borrow from the body.
    type Wire<'a>: Deserialize<'a>;

    /// Bytes of memory that it takes beyond twice those of the body.
    fn more_bytes(_: &Self::Wire<'_>) -> usize {
        0
    }

    /// Checks what the shape alone cannot say.
    fn decode(wire: Self::Wire<'_>, limits: &Limits) -> Result<Self>;
}

/// Bytes of memory that a filter takes.
fn filter_bytes(filter: Option<&RawValue>) -> usize {
    filter.map_or(0, |filter| filter.get().len().saturating_mul(MEMORY_PER_BYTE))
}

/// Fails where `value` is outside `range`; `path` names the field.
pub fn in_range(path: &str, value: u64, range: RangeInclusive<u64>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let (min, max) = (*range.start(), *range.end());
    let error = Error::invalid(format!("{path} must be {min} to {max}, got {value}"));
    Err(error.with("path", path).with("min", min).with("max", max).with("value", value))
}

/// Writes a figure with at most three decimals: what is behind them was not measured.
fn brief<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((value * 1_000.0).round() / 1_000.0)
}

/// Like [`brief`], for a figure that may not be known.
fn brief_option<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => brief(value, serializer),
        None => serializer.serialize_none(),
    }
}

/// Writes stored JSON text as JSON. Text that is not valid fails instead of breaking the answer.
fn raw<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let raw: &RawValue = serde_json::from_str(text).map_err(serde::ser::Error::custom)?;
    raw.serialize(serializer)
}

/// Like [`raw`], for a field that may be left out.
fn raw_option<S: Serializer>(text: &Option<&str>, serializer: S) -> Result<S::Ok, S::Error> {
    raw(text.unwrap_or("null"), serializer)
}
