//! What is missing or damaged, on the wire.

use crate::engine::damage::{Damage, DamageKind};
use serde::Serialize;
use utoipa::ToSchema;

/// A place that is missing or damaged in the bucket.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DamageBody<'a> {
    /// `manifest`, `logEntry`, `logData`, `segment`, `deletions` or `record`.
    #[schema(example = "segment")]
    pub kind: &'a str,
    /// The object's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<&'a str>,
    /// The record's id, where it is a record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a str>,
    /// The log position of the entry, or of what wrote the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// What is wrong with it, for people.
    pub fault: &'a str,
}

impl<'a> From<&'a Damage> for DamageBody<'a> {
    fn from(damage: &'a Damage) -> Self {
        let is_record = damage.kind == DamageKind::Record;
        DamageBody {
            kind: damage.kind.name(),
            key: (!is_record).then_some(&*damage.place),
            id: is_record.then_some(&*damage.place),
            position: damage.position.map(|position| position.0),
            fault: &damage.fault,
        }
    }
}

/// What an answer says that is not complete because of damage.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct PartialFields<'a> {
    /// Whether something is left out because it is missing or damaged in the bucket; not there otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partial: Option<bool>,
    /// What that is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<DamageBody<'a>>,
}

impl<'a> PartialFields<'a> {
    /// For an answer from which this is left out.
    pub fn of(damaged: Option<&'a [Damage]>) -> Self {
        match damaged {
            None => PartialFields::default(),
            Some(damaged) => PartialFields {
                partial: Some(true),
                damaged: damaged.iter().map(DamageBody::from).collect(),
            },
        }
    }
}
