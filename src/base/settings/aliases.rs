//! Names that people bring from elsewhere, and what they are called here.
//!
//! Other stores replicate from a master to replicas and are told so by `CLUSTER_*` variables or a
//! `[cluster]` section. [`ALIASES`] says which of those settings exist here under another name, and
//! [`NOT_NEEDED`] which have no meaning here and why. Both have one name that is looked for in all
//! layers: `node_id` is `CLUSTER_NODE_ID` in the environment, `node_id` in `[cluster]` of a file, and
//! `cluster.node_id` in a flag. Each that is used makes a [`Notice`], to be logged once.
//!
//! Error semantics: a value that cannot be translated is an error about the setting that it stands
//! for. Unknown names in `[cluster]` are errors; unknown `CLUSTER_*` variables belong to somebody else.

use super::value::Raw;
use jiff::SignedDuration;
use serde_json::Value;
use std::fmt;

/// What the variables start with.
const PREFIX: &str = "CLUSTER_";
/// The section of a file, and what flags start with.
pub(super) const SECTION: &str = "cluster";

/// A setting's name elsewhere.
#[derive(Debug)]
pub struct Alias {
    /// Its name in the section `[cluster]`, and in upper case behind `CLUSTER_`.
    pub name: &'static str,
    /// The setting that it stands for.
    pub key: &'static str,
    read: Read,
}

/// From a value elsewhere to ours. `None` says that ours stays as it is.
type Read = fn(&Raw) -> Result<Option<Raw>, String>;

/// Every alias. Where several stand for the same setting, the last one that is given counts.
pub const ALIASES: &[Alias] = &[
    Alias { name: "node_id", key: "instance_id", read: same },
    Alias { name: "node_role", key: "role", read: role },
    Alias { name: "mode", key: "role", read: role },
    Alias { name: "enabled", key: "role", read: enabled },
    Alias { name: "advertise_address", key: "service_endpoint", read: address },
    Alias { name: "replication_mode", key: "replication_mode", read: replication },
    Alias { name: "batch_size", key: "batch_max_records", read: same },
    Alias { name: "heartbeat_interval_ms", key: "heartbeat_interval_ms", read: duration },
    Alias { name: "heartbeat_timeout_ms", key: "instance_timeout_ms", read: duration },
    Alias { name: "leader_election_timeout_ms", key: "leader_lease_ms", read: duration },
    Alias { name: "max_lag_time", key: "lag_max_ms", read: duration },
    Alias { name: "max_lag_bytes", key: "lag_max_bytes", read: same },
    Alias { name: "max_reconnect_tries", key: "store_retries", read: same },
];

/// A setting that has no meaning here.
#[derive(Debug)]
pub struct NotNeeded {
    /// Its name in the section `[cluster]`, and in upper case behind `CLUSTER_`.
    pub name: &'static str,
    /// Why, to follow "is not needed: ".
    pub why: &'static str,
}

const ALWAYS_ON: &str = "every instance on a store is in its cluster";
const NO_PEERS: &str = "instances find each other in the shared config on the store";
const NO_PORT: &str = "instances do not connect to each other to agree on anything, so there is no port \
                       between them; listen is the address for clients";
const NO_QUORUM: &str = "instances agree by compare-and-swap on the store, so nobody votes";
const NO_COPIES: &str = "the store keeps the copies, and every reader sees all of them";

macro_rules! not_needed {
    ($($why:expr => $($name:literal)*;)*) => {
        &[$($(NotNeeded { name: $name, why: $why },)*)*]
    };
}

/// Every setting that is known and not needed.
pub const NOT_NEEDED: &[NotNeeded] = not_needed! {
    NO_PEERS => "peers" "seeds" "seed_nodes" "nodes" "primary_address" "discovery";
    NO_PORT => "port" "bind_address" "bind_port" "gossip_port" "raft_port";
    NO_QUORUM => "quorum" "quorum_size" "min_nodes" "expected_nodes";
    NO_COPIES => "replication_factor" "replicas";
    "pauses before a repeated request grow by themselves, with jitter" => "reconnect_interval";
};

/// Something that a person should know about a name that he used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The name as it was written: `CLUSTER_NODE_ID`, `node_id in [cluster] of a.toml`, `--node-id`; empty
    /// where it is about several.
    pub name: String,
    /// The setting that it stands for; `None` where it is not needed.
    pub key: Option<&'static str>,
    message: String,
}

impl Notice {
    /// About several names at once.
    pub(super) fn plain(message: String) -> Notice {
        Notice { name: String::new(), key: None, message }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What a name elsewhere means.
#[derive(Debug, Clone, Copy)]
pub(super) enum Meaning {
    /// One of our settings.
    Alias(&'static Alias),
    /// Nothing, for a reason.
    NotNeeded(&'static NotNeeded),
}

impl Meaning {
    /// What a name of the section means, if anything.
    pub(super) fn of(name: &str) -> Option<Meaning> {
        let alias = ALIASES.iter().find(|alias| alias.name == name).map(Meaning::Alias);
        let not_needed = || NOT_NEEDED.iter().find(|one| one.name == name);
        alias.or_else(|| not_needed().map(Meaning::NotNeeded))
    }

    /// What a variable means, if anything.
    pub(super) fn of_variable(name: &str) -> Option<Meaning> {
        let name = name.strip_prefix(PREFIX)?;
        (name == name.to_ascii_uppercase()).then(|| Meaning::of(&name.to_ascii_lowercase()))?
    }

    /// What a flag's key means, if anything.
    pub(super) fn of_flag(key: &str) -> Option<Meaning> {
        Meaning::of(key.strip_prefix(SECTION)?.strip_prefix('.')?)
    }

    /// The place in the order of the table.
    pub(super) fn order(self) -> usize {
        match self {
            Meaning::Alias(alias) => {
                ALIASES.iter().position(|other| other.name == alias.name).unwrap_or_default()
            }
            Meaning::NotNeeded(_) => ALIASES.len(),
        }
    }

    /// What to tell a person who wrote it as `name`; `used` where it sets something.
    pub(super) fn notice(self, name: String, used: bool) -> Notice {
        let (key, message) = match self {
            Meaning::Alias(alias) if used => {
                (Some(alias.key), format!("{name} is an alias of {}", alias.key))
            }
            Meaning::Alias(_) => (None, format!("{name} is not needed: {ALWAYS_ON}")),
            Meaning::NotNeeded(one) => (None, format!("{name} is not needed: {}", one.why)),
        };
        Notice { name, key, message }
    }
}

/// Every name of the section.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ALIASES.iter().map(|alias| alias.name).chain(NOT_NEEDED.iter().map(|one| one.name))
}

impl Alias {
    /// The value of our setting; `None` where it stays as it is. The error follows the key.
    pub(super) fn translate(&self, raw: &Raw) -> Result<Option<Raw>, String> {
        (self.read)(raw)
    }
}

fn same(raw: &Raw) -> Result<Option<Raw>, String> {
    Ok(Some(raw.clone()))
}

fn to(text: impl Into<String>) -> Result<Option<Raw>, String> {
    Ok(Some(Raw::Text(text.into())))
}

/// The text of a value, or as it would be written where it has another type.
fn text(raw: &Raw) -> String {
    match raw {
        Raw::Typed(Value::String(text)) | Raw::Text(text) => text.clone(),
        Raw::Typed(value) => value.to_string(),
    }
}

/// A master answers reads as well, so it is a hybrid, and so is a server without a cluster.
fn role(raw: &Raw) -> Result<Option<Raw>, String> {
    match text(raw).as_str() {
        "master" | "primary" | "none" => to("hybrid"),
        "replica" => to("reader"),
        own @ ("writer" | "reader" | "hybrid") => to(own),
        other => Err(format!(
            "must be one of master, primary, replica, none, writer, reader, hybrid, not {other:?}"
        )),
    }
}

/// Who switches the cluster off has one server that does everything.
fn enabled(raw: &Raw) -> Result<Option<Raw>, String> {
    match text(raw).as_str() {
        "true" => Ok(None),
        "false" => to("hybrid"),
        other => Err(format!("must be true or false, not {other:?}")),
    }
}

fn address(raw: &Raw) -> Result<Option<Raw>, String> {
    match text(raw) {
        url if url.contains("://") => to(url),
        host => to(format!("http://{host}")),
    }
}

fn replication(raw: &Raw) -> Result<Option<Raw>, String> {
    match text(raw).as_str() {
        "async" | "eventual" => to("eventual"),
        "sync" => to("sync"),
        other => Err(format!("must be one of async, sync, not {other:?}")),
    }
}

/// A number of milliseconds, or a number with a unit.
fn duration(raw: &Raw) -> Result<Option<Raw>, String> {
    let (Raw::Typed(Value::String(written)) | Raw::Text(written)) = raw else {
        return same(raw);
    };
    if !written.is_empty() && written.bytes().all(|byte| byte.is_ascii_digit()) {
        return to(written.clone());
    }
    let parsed = written.parse::<SignedDuration>().ok();
    let millis = parsed.and_then(|duration| u64::try_from(duration.as_millis()).ok());
    let millis = millis.ok_or_else(|| {
        format!("must be a number of milliseconds or a time such as \"30s\", not {written:?}")
    })?;
    to(millis.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::*;

    fn ours(name: &str, value: Value) -> Result<Option<String>, String> {
        let alias = ALIASES.iter().find(|alias| alias.name == name).unwrap();
        Ok(alias.translate(&Raw::Typed(value))?.as_ref().map(text))
    }

    #[test]
    fn aliases_stand_for_settings_and_no_name_has_two_meanings() {
        for alias in ALIASES {
            assert!(keys().contains(&alias.key), "{}", alias.key);
        }
        let mut all: Vec<&str> = names().collect();
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn times_may_have_units() {
        for (written, millis) in [
            ("30s", "30000"),
            ("1500", "1500"),
            ("250ms", "250"),
            ("2m", "120000"),
            ("1m 30s", "90000"),
            ("1h", "3600000"),
        ] {
            assert_eq!(ours("max_lag_time", written.into()).unwrap().unwrap(), millis, "{written}");
        }
        assert_eq!(ours("max_lag_time", 30_000.into()).unwrap().unwrap(), "30000");
        for wrong in ["", "soon", "-3s", "30 parsecs", "+5"] {
            let error = ours("max_lag_time", wrong.into()).unwrap_err();
            assert!(error.contains("\"30s\""), "{error}");
        }
    }

    #[test]
    fn roles_and_switches_are_translated() {
        for (name, value, role) in [
            ("mode", "none", Some("hybrid")),
            ("mode", "primary", Some("hybrid")),
            ("node_role", "master", Some("hybrid")),
            ("node_role", "replica", Some("reader")),
            ("node_role", "writer", Some("writer")),
            ("enabled", "true", None),
            ("enabled", "false", Some("hybrid")),
        ] {
            let found = ours(name, value.into()).unwrap();
            assert_eq!(found.as_deref(), role, "{name} = {value}");
        }
        assert_eq!(ours("enabled", false.into()).unwrap().as_deref(), Some("hybrid"));
        assert!(ours("node_role", "boss".into()).unwrap_err().contains("master"));
        assert!(ours("enabled", 1.into()).is_err());
        assert!(ours("replication_mode", "quorum".into()).unwrap_err().contains("async, sync"));
    }

    #[test]
    fn only_known_variables_are_ours() {
        assert!(Meaning::of_variable("CLUSTER_NODE_ID").is_some());
        assert!(Meaning::of_variable("CLUSTER_PEERS").is_some());
        for other in ["CLUSTER_NAME", "CLUSTER_node_id", "NODE_ID", "CLUSTER_"] {
            assert!(Meaning::of_variable(other).is_none(), "{other}");
        }
    }
}
