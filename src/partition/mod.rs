//! Which records belong together?
//!
//! A [`Partitioner`] gives every id a *group*. Within a group, ranges of the 64-bit hash of the id
//! ([`HashRange`]) divide the records into partitions, which split in two as they grow. The built-in
//! kinds are data ([`PartitionerKind`]) and stand in the collection's manifest. A program that embeds Brainy may
//! bring its own, and then the manifest has its name. An instance that does not have that partitioner, or has
//! another, is refused: otherwise records would go where nobody looks for them.
//!
//! Errors: `settings_conflict` if a collection's partitioner is not here, `invalid_request` if
//! rules are out of range.

use crate::base::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Most rules of a partitioner by prefix.
pub const PREFIX_RULES_MAX: usize = 1_024;
/// Longest name of a group, in bytes.
pub const GROUP_BYTES_MAX: usize = 64;

/// Gives every id a group.
///
/// 1. The same id gets the same group, always and everywhere.
/// 2. The name says which rules these are: other rules, another name.
pub trait Partitioner: fmt::Debug + Send + Sync {
    /// What the manifest records, 1 to 64 bytes.
    fn name(&self) -> &str;

    /// The group of an id, up to 64 bytes; `""` is the group of whatever has none of its own.
    fn group<'a>(&'a self, id: &'a str) -> &'a str;
}

/// Ids that start with `prefix` go to `group`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrefixRule {
    /// What ids start with, at least one byte.
    pub prefix: String,
    /// The group that they belong to.
    pub group: String,
}

/// Which partitioner a collection has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", deny_unknown_fields)]
pub enum PartitionerKind {
    /// All records in one group: partitions are ranges of the hash.
    #[default]
    Hash,
    /// Groups by what ids start with; the longest prefix counts.
    Prefix {
        /// At most 1,024.
        rules: Vec<PrefixRule>,
    },
    /// A partitioner of the embedding program.
    Custom {
        /// What [`Partitioner::name`] says.
        name: String,
    },
}

impl PartitionerKind {
    /// Whether rules and names are within their ranges.
    pub fn check(&self) -> Result<()> {
        let name_fault = |name: &str| name.is_empty() || name.len() > GROUP_BYTES_MAX;
        match self {
            PartitionerKind::Prefix { rules }
                if rules.is_empty() || rules.len() > PREFIX_RULES_MAX =>
            {
                Err(Error::invalid(format!(
                    "a prefix partitioner needs 1 to {PREFIX_RULES_MAX} rules, not {}",
                    rules.len()
                )))
            }
            PartitionerKind::Prefix { rules } => {
                match rules.iter().find(|rule| rule.prefix.is_empty() || name_fault(&rule.group)) {
                    Some(rule) => Err(Error::invalid(format!(
                        "the prefix rule {:?} to {:?} needs a prefix, and a group of 1 to \
                     {GROUP_BYTES_MAX} bytes",
                        rule.prefix, rule.group
                    ))),
                    None => Ok(()),
                }
            }
            PartitionerKind::Custom { name } if name_fault(name) => Err(Error::invalid(format!(
                "a partitioner's name must have 1 to {GROUP_BYTES_MAX} bytes"
            ))),
            PartitionerKind::Hash | PartitionerKind::Custom { .. } => Ok(()),
        }
    }

    /// The partitioner itself; `custom` are those that the embedding program brings.
    pub fn resolve(&self, custom: &[Arc<dyn Partitioner>]) -> Result<Arc<dyn Partitioner>> {
        match self {
            PartitionerKind::Hash => Ok(Arc::new(Hash)),
            PartitionerKind::Prefix { rules } => Ok(Arc::new(Prefix::new(rules.clone()))),
            PartitionerKind::Custom { name } => {
                let found = custom.iter().find(|custom| custom.name() == name);
                found.cloned().ok_or_else(|| {
                    let here: Vec<&str> = custom.iter().map(|custom| custom.name()).collect();
                    Error::new(
                        Code::SettingsConflict,
                        format!(
                            "the collection's records are partitioned by {name:?}, and this \
                             instance has {here:?}; start it with that partitioner"
                        ),
                    )
                    .with("existing", name.as_str())
                    .with("here", here)
                })
            }
        }
    }
}

/// One group for all.
#[derive(Debug)]
struct Hash;

impl Partitioner for Hash {
    fn name(&self) -> &str {
        "hash"
    }

    fn group<'a>(&'a self, _: &'a str) -> &'a str {
        ""
    }
}

/// Groups by prefix.
#[derive(Debug)]
struct Prefix {
    /// Longest prefixes first.
    rules: Vec<PrefixRule>,
}

impl Prefix {
    fn new(mut rules: Vec<PrefixRule>) -> Prefix {
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.prefix.len()));
        Prefix { rules }
    }
}

impl Partitioner for Prefix {
    fn name(&self) -> &str {
        "prefix"
    }

    fn group<'a>(&'a self, id: &'a str) -> &'a str {
        let rule = self.rules.iter().find(|rule| id.starts_with(rule.prefix.as_str()));
        rule.map_or("", |rule| rule.group.as_str())
    }
}

/// Hashes from `first` to `last`, both included. In JSON, two strings of 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(String, String)", into = "(String, String)")]
pub struct HashRange {
    /// The lowest hash.
    pub first: u64,
    /// The highest hash.
    pub last: u64,
}

impl HashRange {
    /// Every hash.
    pub const ALL: HashRange = HashRange { first: 0, last: u64::MAX };

    /// All hashes in `count` ranges of the same size, in order.
    pub fn even(count: u32) -> Vec<HashRange> {
        let count = u128::from(count.max(1));
        let start = |at: u128| ((at << 64) / count) as u64;
        (0..count)
            .map(|at| HashRange {
                first: start(at),
                last: if at + 1 == count { u64::MAX } else { start(at + 1) - 1 },
            })
            .collect()
    }

    /// Whether a hash is in it.
    pub fn contains(&self, hash: u64) -> bool {
        (self.first..=self.last).contains(&hash)
    }

    /// What it has in common with another.
    pub fn common(&self, other: &HashRange) -> Option<HashRange> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (first <= last).then_some(HashRange { first, last })
    }

    /// Its two halves; `None` where it has one hash.
    pub fn halves(&self) -> Option<(HashRange, HashRange)> {
        let middle = u64::midpoint(self.first, self.last);
        (self.first < self.last).then_some((
            HashRange { first: self.first, last: middle },
            HashRange { first: middle + 1, last: self.last },
        ))
    }

    /// How much of all hashes it has, 0 to 1.
    pub fn share(&self) -> f64 {
        (self.last - self.first) as f64 / u64::MAX as f64
    }
}

impl From<HashRange> for (String, String) {
    fn from(range: HashRange) -> Self {
        (format!("{:016x}", range.first), format!("{:016x}", range.last))
    }
}

impl TryFrom<(String, String)> for HashRange {
    type Error = String;

    fn try_from((first, last): (String, String)) -> std::result::Result<Self, String> {
        let number = |text: &str| {
            let parsed = u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16);
            parsed.ok_or_else(|| format!("{text:?} is not a hash of 16 hexadecimal digits"))
        };
        let range = HashRange { first: number(&first)?, last: number(&last)? };
        if range.first > range.last {
            return Err(format!("the range of hashes {first} to {last} goes backward"));
        }
        Ok(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_ranges_and_halves_cover_every_hash_once() {
        for count in [1, 2, 3, 7, 100, 4_096] {
            let mut ranges = HashRange::even(count);
            assert_eq!(ranges.len(), count as usize);
            let (left, right) = ranges[0].halves().unwrap();
            ranges.splice(0..1, [left, right]);
            assert_eq!((ranges[0].first, ranges.last().unwrap().last), (0, u64::MAX));
            assert!(ranges.windows(2).all(|pair| pair[0].last + 1 == pair[1].first), "{count}");
        }
        assert_eq!(HashRange { first: 5, last: 5 }.halves(), None);
    }

    #[test]
    fn ranges_survive_json_and_bad_ones_are_refused() {
        let range = HashRange { first: 1, last: u64::MAX };
        let json = serde_json::to_string(&range).unwrap();
        assert_eq!(json, r#"["0000000000000001","ffffffffffffffff"]"#);
        assert_eq!(serde_json::from_str::<HashRange>(&json).unwrap(), range);
        for bad in [r#"["1","2"]"#, r#"["0000000000000002","0000000000000001"]"#] {
            assert!(serde_json::from_str::<HashRange>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_longest_prefix_counts() {
        let rule =
            |prefix: &str, group: &str| PrefixRule { prefix: prefix.into(), group: group.into() };
        let kind = PartitionerKind::Prefix { rules: vec![rule("a", "short"), rule("ab", "long")] };
        kind.check().unwrap();
        let partitioner = kind.resolve(&[]).unwrap();
        let groups = ["abc", "ac", "b"].map(|id| partitioner.group(id).to_owned());
        assert_eq!(groups, ["long", "short", ""]);
    }

    #[test]
    fn a_partitioner_that_is_not_here_is_refused_with_both_values() {
        let error =
            PartitionerKind::Custom { name: "mine".into() }.resolve(&[Arc::new(Hash)]).unwrap_err();
        assert_eq!(error.code(), Code::SettingsConflict);
        assert!(error.message().contains("mine") && error.message().contains("hash"), "{error}");
        for bad in [
            PartitionerKind::Prefix { rules: Vec::new() },
            PartitionerKind::Prefix {
                rules: vec![PrefixRule { prefix: String::new(), group: "g".into() }],
            },
            PartitionerKind::Custom { name: "x".repeat(65) },
        ] {
            assert_eq!(bad.check().unwrap_err().code(), Code::InvalidRequest);
        }
    }
}
