//! Which records does a filter let through?

use crate::base::Result;
use serde_json::Value;

/// A parsed filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {}

impl Filter {
    /// Parses the JSON form; a fault is `invalid_filter` with `details.path`.
    pub fn parse(_json: &Value) -> Result<Filter> {
        todo!()
    }

    /// Whether a record's metadata (a JSON object) passes.
    pub fn matches(&self, _metadata: &Value) -> bool {
        todo!()
    }
}
