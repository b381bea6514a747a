//! How close are two vectors, and which of many are closest?

use serde::{Deserialize, Serialize};

/// How distance is measured. Lower is always closer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// 1 - cosine similarity, in 0..=2.
    #[default]
    Cosine,
    /// L2 distance (not squared).
    Euclidean,
    /// Minus the inner product.
    Dot,
}
