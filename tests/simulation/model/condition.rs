//! Filters, evaluated without the engine.

use brainy::base::rng::Rng;
use brainy::filter::Filter;
use serde_json::{Value, json};

/// What is asked of metadata.
#[derive(Debug, Clone)]
pub enum Condition {
    Tag(&'static str),
    TagIn(Vec<&'static str>),
    TagStarts(&'static str),
    TagHas(&'static str),
    /// A long string, of which indexes keep a hash alone.
    ProseEnds(u64),
    AtLeast(f64),
    Below(f64),
    Flag(bool),
    HasExtra(bool),
    Lists(&'static str),
    DeepAtMost(i64),
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
}

const TAGS: [&str; 5] = ["red", "green", "blue", "größe", "none"];

impl Condition {
    pub fn any(rng: &dyn Rng) -> Condition {
        let two = |rng: &dyn Rng| vec![Condition::simple(rng), Condition::simple(rng)];
        match rng.below(8) {
            0 => Condition::All(two(rng)),
            1 => Condition::Any(two(rng)),
            2 => Condition::Not(Box::new(Condition::simple(rng))),
            _ => Condition::simple(rng),
        }
    }

    fn simple(rng: &dyn Rng) -> Condition {
        let tag = |rng: &dyn Rng| TAGS[rng.below(TAGS.len() as u64) as usize];
        match rng.below(11) {
            0 => Condition::Tag(tag(rng)),
            1 => Condition::TagIn(vec![tag(rng), tag(rng)]),
            2 => Condition::TagStarts(["gr", "b", ""][rng.below(3) as usize]),
            3 => Condition::AtLeast(rng.below(20) as f64 / 2.0 - 5.0),
            4 => Condition::Below(rng.below(20) as f64 / 2.0 - 5.0),
            5 => Condition::Flag(rng.below(2) == 0),
            6 => Condition::HasExtra(rng.below(2) == 0),
            7 => Condition::TagHas(["e", "re", "ö"][rng.below(3) as usize]),
            8 => Condition::ProseEnds(rng.below(3)),
            9 => Condition::Lists(["x", "y", "z"][rng.below(3) as usize]),
            _ => Condition::DeepAtMost(rng.below(4) as i64),
        }
    }

    /// As a client sends it.
    pub fn to_send(&self) -> Filter {
        Filter::parse(&self.json()).expect("a filter of the documented form")
    }

    fn json(&self) -> Value {
        let list = |all: &[Condition]| all.iter().map(Condition::json).collect::<Vec<_>>();
        match self {
            Condition::Tag(tag) => json!({ "tag": tag }),
            Condition::TagIn(tags) => json!({ "tag": { "$in": tags } }),
            Condition::TagStarts(start) => json!({ "tag": { "$startsWith": start } }),
            Condition::TagHas(part) => json!({ "tag": { "$contains": part } }),
            Condition::ProseEnds(with) => {
                json!({ "prose": { "$contains": format!("so on {with}") } })
            }
            Condition::AtLeast(n) => json!({ "n": { "$gte": n } }),
            Condition::Below(n) => json!({ "n": { "$lt": n } }),
            Condition::Flag(flag) => json!({ "flag": flag }),
            Condition::HasExtra(has) => json!({ "extra": { "$exists": has } }),
            Condition::Lists(word) => json!({ "list": { "$contains": word } }),
            Condition::DeepAtMost(x) => json!({ "deep.x": { "$lte": x } }),
            Condition::All(all) => json!({ "$and": list(all) }),
            Condition::Any(any) => json!({ "$or": list(any) }),
            Condition::Not(one) => json!({ "$not": one.json() }),
        }
    }

    /// Whether metadata pass.
    pub fn passes(&self, metadata: &Value) -> bool {
        let tag = || metadata["tag"].as_str().unwrap_or_default();
        let n = || metadata["n"].as_f64().unwrap_or(f64::NAN);
        match self {
            Condition::Tag(wanted) => tag() == *wanted,
            Condition::TagIn(wanted) => wanted.contains(&tag()),
            Condition::TagStarts(start) => tag().starts_with(start),
            Condition::TagHas(part) => tag().contains(part),
            Condition::ProseEnds(with) => {
                metadata["prose"].as_str().is_some_and(|prose| prose.ends_with(&with.to_string()))
            }
            Condition::AtLeast(least) => n() >= *least,
            Condition::Below(bound) => n() < *bound,
            Condition::Flag(flag) => metadata["flag"] == json!(flag),
            Condition::HasExtra(has) => metadata.get("extra").is_some() == *has,
            Condition::Lists(word) => {
                metadata["list"].as_array().is_some_and(|list| list.contains(&json!(word)))
            }
            Condition::DeepAtMost(most) => metadata["deep"]["x"].as_i64().unwrap() <= *most,
            Condition::All(all) => all.iter().all(|one| one.passes(metadata)),
            Condition::Any(any) => any.iter().any(|one| one.passes(metadata)),
            Condition::Not(one) => !one.passes(metadata),
        }
    }
}
