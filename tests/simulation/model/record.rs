//! Records as clients meant them, and how far they are from a query, worked out in double precision.

use crate::guarantees;
use brainy::base::ids::Seq;
use brainy::base::rng::Rng;
use brainy::engine::model::{Metric, NewRecord};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The number of distinct record ids of a collection: small, so that writes meet.
pub const IDS: u64 = 24;

/// What one upsert stores.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The operation that writes it, which its metadata carry.
    pub operation: u64,
    pub vector: Vec<f32>,
    pub metadata: Value,
    pub text: Option<String>,
}

/// A record in force.
#[derive(Debug, Clone)]
pub struct Live {
    pub record: Arc<Record>,
    /// The log position that wrote it.
    pub written: Seq,
}

/// Live records by id.
pub type Contents = BTreeMap<String, Live>;

pub fn any_id(rng: &dyn Rng) -> String {
    format!("r{}", rng.below(IDS))
}

/// A vector of small integers, so that many distances tie, and now and then of tenths, which need
/// all 32 bits. Never zero.
pub fn any_vector(rng: &dyn Rng, dimensions: usize) -> Vec<f32> {
    let scale = if rng.below(4) == 0 { 0.1 } else { 1.0 };
    let mut vector: Vec<f32> =
        (0..dimensions).map(|_| (rng.below(5) as f32 - 2.0) * scale).collect();
    if vector.iter().all(|value| *value == 0.0) {
        vector[0] = 1.0;
    }
    vector
}

impl Record {
    /// A record with something of every type of metadata.
    pub fn any(rng: &dyn Rng, operation: u64, dimensions: usize) -> Record {
        let mut metadata = json!({ "op": operation, "deep": { "x": rng.below(4) } });
        let n = rng.below(11) as i64 - 5;
        metadata["n"] = if rng.below(3) == 0 { json!(n as f64 + 0.5) } else { json!(n) };
        metadata["tag"] = json!(["red", "green", "blue", "größe"][rng.below(4) as usize]);
        if rng.below(3) > 0 {
            metadata["flag"] = json!(rng.below(2) == 0);
        }
        if rng.below(4) == 0 {
            metadata["prose"] = format!("{}so on {}", "and ".repeat(100), rng.below(3)).into();
        }
        let words = ["x", "y", "z"];
        metadata["list"] = words[..rng.below(4) as usize].into();
        if rng.below(3) == 0 {
            metadata["extra"] = if rng.below(2) == 0 { Value::Null } else { json!("so\nmuch") };
        }
        // Sometimes long, so that the write becomes a data object.
        let text = match rng.below(4) {
            0 => None,
            1 => Some("x".repeat(rng.below(500) as usize)),
            _ => Some(format!("text of {operation}")),
        };
        Record { operation, vector: any_vector(rng, dimensions), metadata, text }
    }

    /// As a client sends it. Metadata over several lines are the same value.
    pub fn to_send(&self, id: &str) -> NewRecord {
        let metadata = match self.operation % 2 {
            _ if !guarantees::METADATA_ARE_COMPACT => self.metadata.to_string(),
            0 => self.metadata.to_string(),
            _ => format!("{:#}", self.metadata),
        };
        NewRecord {
            id: Some(id.to_owned()),
            vector: self.vector.clone(),
            metadata: Some(metadata),
            text: self.text.clone(),
        }
    }
}

/// The distance, lower is closer.
pub fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    match metric {
        Metric::Cosine => 1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
        // Never -0.0, which would come before 0.0.
        Metric::Dot => 0.0 - dot(a, b),
        Metric::Euclidean => {
            let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
            a.iter().zip(b).map(square).sum::<f64>().sqrt()
        }
    }
}

/// Whether two records are at the very same distance of `query`, whatever the rounding.
pub fn ties(metric: Metric, query: &[f32], a: &[f32], b: &[f32]) -> bool {
    let whole = |vector: &[f32]| vector.iter().all(|value| value.fract() == 0.0);
    a == b
        || (metric != Metric::Cosine
            && whole(query)
            && whole(a)
            && whole(b)
            && distance(metric, query, a) == distance(metric, query, b))
}
