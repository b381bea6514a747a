//! What cannot change during a collection's life: its fields, and how its records are spread.
//!
//! In the manifest `fields` maps the name of each field to what it is. `dimensions` and `metric` stand beside it, for
//! builds that know of one vector and no map: both say the same of the field [`VECTOR`], or the manifest is refused. A
//! field of a kind that this build does not know is kept as it is; whether a build that does not know it may go on is
//! what the manifest's `minReader` and `minWriter` say.

use super::Extra;
use crate::index::Metric;
use crate::partition::PartitionerKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The name of the field that has the vector that every record has.
pub const VECTOR: &str = "vector";

/// What cannot change during a collection's life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct CollectionSettings {
    vector: VectorField,
    others: BTreeMap<String, Field>,
    /// Number of hash ranges at the start.
    pub partition_count: u32,
    /// Which records belong together.
    pub partitioner: PartitionerKind,
    /// Free text for people.
    pub description: Option<String>,
    /// What newer builds have written.
    pub extra: Extra,
}

/// What a field of the records is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
#[non_exhaustive]
pub enum Field {
    /// A vector, the same length in every record.
    Vector(VectorField),
    /// Of a newer build.
    #[serde(untagged)]
    Unknown(Extra),
}

/// A field whose values are vectors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct VectorField {
    /// Length of every vector.
    pub dimensions: u32,
    /// How distance is measured.
    pub metric: Metric,
    /// What its values are in segments.
    pub stored_as: StoredAs,
    /// What newer builds have written.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What the values of a vector are in segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum StoredAs {
    /// 32-bit floats.
    F32,
}

impl VectorField {
    fn new(dimensions: u32, metric: Metric) -> VectorField {
        VectorField { dimensions, metric, stored_as: StoredAs::F32, extra: Extra::new() }
    }
}

impl CollectionSettings {
    /// Those of a collection of one vector, in `partition_count` hash ranges at the start.
    pub fn new(dimensions: u32, metric: Metric, partition_count: u32) -> CollectionSettings {
        CollectionSettings {
            vector: VectorField::new(dimensions, metric),
            others: BTreeMap::new(),
            partition_count,
            partitioner: PartitionerKind::default(),
            description: None,
            extra: Extra::new(),
        }
    }

    /// The vector that every record has.
    pub fn vector(&self) -> &VectorField {
        &self.vector
    }

    /// All fields by name.
    pub fn fields(&self) -> BTreeMap<String, Field> {
        let mut fields = self.others.clone();
        fields.insert(VECTOR.to_owned(), Field::Vector(self.vector.clone()));
        fields
    }
}

/// The settings as the manifest has them.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    /// Missing where a build wrote it that knew of one vector.
    #[serde(default)]
    fields: BTreeMap<String, Field>,
    dimensions: u32,
    metric: Metric,
    partition_count: u32,
    #[serde(default)]
    partitioner: PartitionerKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(flatten)]
    extra: Extra,
}

impl From<CollectionSettings> for Wire {
    fn from(settings: CollectionSettings) -> Wire {
        Wire {
            fields: settings.fields(),
            dimensions: settings.vector.dimensions,
            metric: settings.vector.metric,
            partition_count: settings.partition_count,
            partitioner: settings.partitioner,
            description: settings.description,
            extra: settings.extra,
        }
    }
}

impl TryFrom<Wire> for CollectionSettings {
    type Error = &'static str;

    fn try_from(wire: Wire) -> Result<CollectionSettings, &'static str> {
        let Wire { mut fields, dimensions, metric, partition_count, partitioner, .. } = wire;
        let vector = match fields.remove(VECTOR) {
            None if fields.is_empty() => VectorField::new(dimensions, metric),
            Some(Field::Vector(vector))
                if (vector.dimensions, vector.metric) == (dimensions, metric) =>
            {
                vector
            }
            _ => return Err("the field \"vector\" is not what dimensions and metric say"),
        };
        let (description, extra) = (wire.description, wire.extra);
        let others = fields;
        Ok(CollectionSettings { vector, others, partition_count, partitioner, description, extra })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(value: &Value) -> Result<CollectionSettings, String> {
        serde_json::from_value(value.clone()).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_of_builds_that_knew_one_vector_are_read() {
        let old = json!({"dimensions": 3, "metric": "dot", "partitionCount": 4, "later": [1]});
        let settings = read(&old).unwrap();
        assert_eq!(settings.vector().dimensions, 3);
        assert_eq!(settings.vector().metric, Metric::Dot);
        let mut written = serde_json::to_value(&settings).unwrap();
        let fields = written.as_object_mut().unwrap().remove("fields").unwrap();
        let vector = json!({"type": "vector", "dimensions": 3, "metric": "dot", "storedAs": "f32"});
        assert_eq!(fields, json!({ "vector": vector }));
        written.as_object_mut().unwrap().remove("partitioner");
        assert_eq!(written, old, "older builds find what they know");
    }

    #[test]
    fn fields_that_are_not_known_are_kept() {
        let vector = json!({"type": "vector", "dimensions": 3, "metric": "dot", "storedAs": "f32"});
        let fields = json!({
            "vector": vector,
            "body": {"type": "text", "language": "en"},
            "small": {"type": "vector", "dimensions": 2, "metric": "dot", "storedAs": "i8"},
            "title": {"type": "vector", "dimensions": 2, "metric": "cosine", "storedAs": "f32", "as": 1},
        });
        let wire = json!({"fields": fields, "dimensions": 3, "metric": "dot", "partitionCount": 1});
        let settings = read(&wire).unwrap();
        assert!(matches!(settings.fields()["title"], Field::Vector(_)));
        assert!(matches!(settings.fields()["small"], Field::Unknown(_)));
        assert_eq!(serde_json::to_value(&settings).unwrap()["fields"], fields);
    }

    #[test]
    fn a_vector_that_is_two_things_is_refused() {
        for (dimensions, vector) in [
            (4, json!({"type": "vector", "dimensions": 3, "metric": "dot", "storedAs": "f32"})),
            (3, json!({"type": "vector", "dimensions": 3, "metric": "dot", "storedAs": "i4"})),
            (3, json!({"type": "text"})),
        ] {
            let fields = json!({ "vector": vector });
            let wire = json!({
                "fields": fields, "dimensions": dimensions, "metric": "dot", "partitionCount": 1
            });
            assert!(read(&wire).unwrap_err().contains("the field \"vector\""), "{wire}");
        }
    }
}
