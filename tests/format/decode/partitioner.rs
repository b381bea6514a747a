//! Which group an id belongs to.

use super::shared::Object;
use super::{Result, corrupt};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partitioner {
    Hash,
    Prefix(Vec<(String, String)>),
    /// Of an embedding program: nobody else knows its groups.
    Custom(String),
}

impl Partitioner {
    /// The group of an id, where the document says enough to tell: that of the longest prefix of it.
    pub fn group(&self, id: &str) -> Option<&str> {
        match self {
            Partitioner::Hash => Some(""),
            Partitioner::Prefix(rules) => {
                let fitting = rules.iter().filter(|(prefix, _)| id.starts_with(prefix));
                let longest = fitting.max_by_key(|(prefix, _)| prefix.len());
                Some(longest.map_or("", |(_, group)| group))
            }
            Partitioner::Custom(_) => None,
        }
    }

    pub fn decode(object: &Object) -> Result<Partitioner> {
        match object.text("kind")? {
            "hash" => object.closed(&["kind"]).map(|()| Partitioner::Hash),
            "custom" => {
                object.closed(&["kind", "name"])?;
                Ok(Partitioner::Custom(object.text("name")?.to_owned()))
            }
            "prefix" => {
                object.closed(&["kind", "rules"])?;
                let rule = |rule: Object| {
                    rule.closed(&["prefix", "group"])?;
                    Ok((rule.text("prefix")?.to_owned(), rule.text("group")?.to_owned()))
                };
                let rules = object.objects("rules")?.into_iter().map(rule);
                Ok(Partitioner::Prefix(rules.collect::<Result<_>>()?))
            }
            other => corrupt(format!("a partitioner of kind {other}")),
        }
    }
}
