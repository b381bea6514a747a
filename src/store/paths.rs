//! The only place that builds or parses object keys.
//!
//! ```text
//! _brainy/config.json                        shared config            compare-and-swap
//! _brainy/heartbeats/<instance>.json         overflow heartbeats      plain PUT, one owner each
//! _brainy/state/<key>.json                   shared state             compare-and-swap
//! _brainy/probe/<ulid>                       start-up probe           removed by the prober
//! collections/<c>/manifest.json              current manifest         compare-and-swap
//! collections/<c>/manifests/<version>.json   manifest history         create-if-absent
//! collections/<c>/wal/<seq, 20 digits>.wal   log entries              create-if-absent
//! collections/<c>/wal/data/<ulid>.bin        bodies of large entries  immutable
//! collections/<c>/wal/waiting/<writer>.bin   what a writer waits with plain PUT, one owner each
//! collections/<c>/vectors/p<NNN>/<ulid>.seg  segments                 immutable
//! collections/<c>/vectors/dead/<ulid>.del    dead rows of segments    immutable
//! _brainy/leases/<name>.json                 leases                   compare-and-swap
//! ```

use crate::base::ids::{CollectionName, Seq, Ulid};
use std::fmt;
use std::sync::Arc;

/// The key of one object, relative to the store's root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Whether it names an object that may be large and that is written once: a segment, dead rows, or the
    /// body of a log entry.
    pub fn is_bulk(&self) -> bool {
        [".seg", ".del", ".bin"].iter().any(|kind| self.0.ends_with(kind))
    }
}

/// What the keys of a listing start with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Prefix(Arc<str>);

macro_rules! text {
    ($name:ident) => {
        impl $name {
            /// The text, as the store sees it.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Takes text that a store returned from a listing, or that a test made up.
            pub(crate) fn raw(text: impl Into<Arc<str>>) -> Self {
                $name(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(Key);
text!(Prefix);

const COLLECTIONS: &str = "collections/";
const HEARTBEATS: &str = "_brainy/heartbeats/";
const STATE: &str = "_brainy/state/";

/// The shared config, where the setting `config_path` says.
pub fn config(path: &str) -> Key {
    Key::raw(path)
}

/// An instance's overflow heartbeat.
pub fn heartbeat(instance: &str) -> Key {
    Key::raw(format!("{HEARTBEATS}{instance}.json"))
}

/// What the keys of all overflow heartbeats start with.
pub fn heartbeats() -> Prefix {
    Prefix::raw(HEARTBEATS)
}

/// The instance whose overflow heartbeat `key` is.
pub fn parse_heartbeat(key: &Key) -> Option<&str> {
    key.as_str().strip_prefix(HEARTBEATS)?.strip_suffix(".json")
}

/// The lease on a duty in the whole cluster.
pub fn cluster_lease(duty: &str) -> Key {
    Key::raw(format!("_brainy/leases/{duty}.json"))
}

/// An entry of the shared state.
pub fn state(key: &str) -> Key {
    Key::raw(format!("{STATE}{key}.json"))
}

/// What the keys of the entries of the shared state that start with `prefix` start with.
pub fn states(prefix: &str) -> Prefix {
    Prefix::raw(format!("{STATE}{prefix}"))
}

/// The entry of the shared state that stands at `key`.
pub fn parse_state(key: &Key) -> Option<&str> {
    key.as_str().strip_prefix(STATE)?.strip_suffix(".json")
}

/// An object of the start-up probe; every prober has its own `run`.
pub fn probe(run: Ulid, check: &str) -> Key {
    Key::raw(format!("_brainy/probe/{run}/{check}"))
}

/// The objects of one run of the start-up probe.
pub fn probe_run(run: Ulid) -> Prefix {
    Prefix::raw(format!("_brainy/probe/{run}/"))
}

/// The objects of the probe's check of listings.
pub fn probe_list(run: Ulid) -> Prefix {
    Prefix::raw(format!("_brainy/probe/{run}/list/"))
}

/// Everything that the store holds.
pub fn everything() -> Prefix {
    Prefix::raw("")
}

/// The folder that has one folder per collection.
pub fn collections() -> Prefix {
    Prefix::raw(COLLECTIONS)
}

/// A collection's manifest.
pub fn manifest(collection: &CollectionName) -> Key {
    Key::raw(format!("{COLLECTIONS}{collection}/manifest.json"))
}

/// An earlier version of a collection's manifest.
pub fn manifest_history(collection: &CollectionName, version: u64) -> Key {
    Key::raw(format!("{COLLECTIONS}{collection}/manifests/{version:020}.json"))
}

/// What the keys of the earlier versions of a collection's manifest start with.
pub fn manifest_history_all(collection: &CollectionName) -> Prefix {
    Prefix::raw(format!("{COLLECTIONS}{collection}/manifests/"))
}

/// The version that the key of an earlier manifest names.
pub fn parse_manifest_history(key: &Key) -> Option<u64> {
    let digits = key.as_str().rsplit('/').next()?.strip_suffix(".json")?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

/// A log entry.
pub fn wal_entry(collection: &CollectionName, seq: Seq) -> Key {
    Key::raw(format!("{COLLECTIONS}{collection}/wal/{:020}.wal", seq.0))
}

/// What the keys of a collection's log entries start with. Their first digit is always 0 before
/// 10^19 entries, which keeps `wal/data/` out of the listing.
pub fn wal_entries(collection: &CollectionName) -> Prefix {
    Prefix::raw(format!("{COLLECTIONS}{collection}/wal/0"))
}

/// The position that a log entry's key names.
pub fn parse_wal_entry(key: &Key) -> Option<Seq> {
    let name = key.as_str().rsplit('/').next()?;
    let digits = name.strip_suffix(".wal")?;
    (digits.len() == 20).then(|| digits.parse().ok().map(Seq))?
}

/// The body of a large log entry.
pub fn wal_data(collection: &CollectionName, id: Ulid) -> Key {
    Key::raw(format!("{COLLECTIONS}{collection}/wal/data/{id}.bin"))
}

/// What the keys of the bodies of a collection's large log entries start with.
pub fn wal_data_all(collection: &CollectionName) -> Prefix {
    Prefix::raw(format!("{COLLECTIONS}{collection}/wal/data/"))
}

/// What one writer asks whoever appends next to take along.
pub fn wal_waiting(collection: &CollectionName, writer: u64) -> Key {
    Key::raw(format!("{COLLECTIONS}{collection}/wal/waiting/{writer:016x}.bin"))
}

/// What the keys of everything that a collection's writers wait with start with.
pub fn wal_waiting_all(collection: &CollectionName) -> Prefix {
    Prefix::raw(format!("{COLLECTIONS}{collection}/wal/waiting/"))
}

/// The writer whose waiting writes stand at `key`.
pub fn parse_wal_waiting(key: &Key) -> Option<u64> {
    let (folder, name) = key.as_str().rsplit_once('/')?;
    let digits = name.strip_suffix(".bin").filter(|digits| digits.len() == 16)?;
    folder.ends_with("/wal/waiting").then(|| u64::from_str_radix(digits, 16).ok())?
}

/// Whether what stands at `key` only matters while the process that wrote it lives, so that nobody misses it after
/// a power failure.
pub fn is_passing(key: &Key) -> bool {
    parse_wal_waiting(key).is_some()
}

/// The id in the key of the body of a large log entry.
pub fn parse_wal_data(key: &Key) -> Option<Ulid> {
    let id = key.as_str().rsplit('/').next()?.strip_suffix(".bin")?;
    Ulid::from_string(id).ok()
}

/// A segment of a partition.
pub fn segment(collection: &CollectionName, partition: u32, id: Ulid) -> Key {
    Key::raw(format!("{COLLECTIONS}{collection}/vectors/p{partition:03}/{id}.seg"))
}

/// Dead rows of segments.
pub fn deletions(collection: &CollectionName, id: Ulid) -> Key {
    Key::raw(format!("{COLLECTIONS}{collection}/vectors/dead/{id}.del"))
}

/// What the keys of a collection's segments and deletions start with.
pub fn vectors_all(collection: &CollectionName) -> Prefix {
    Prefix::raw(format!("{COLLECTIONS}{collection}/vectors/"))
}

/// The id in the key of a segment or of deletions.
pub fn parse_vectors(key: &Key) -> Option<Ulid> {
    let name = key.as_str().rsplit('/').next()?;
    let id = name.strip_suffix(".seg").or_else(|| name.strip_suffix(".del"))?;
    Ulid::from_string(id).ok()
}

/// The lease on one of the tasks of a collection's upkeep.
pub fn upkeep_lease(task: &str, collection: &CollectionName) -> Key {
    Key::raw(format!("_brainy/leases/{task}-{collection}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_segments_and_deletions_parse_back() {
        let name = CollectionName::new("c").unwrap();
        for key in [segment(&name, 7, Ulid(9)), deletions(&name, Ulid(9))] {
            assert!(key.as_str().starts_with(vectors_all(&name).as_str()), "{key}");
            assert_eq!(parse_vectors(&key), Some(Ulid(9)));
        }
        assert_eq!(parse_vectors(&wal_data(&name, Ulid(9))), None);
    }

    #[test]
    fn keys_of_earlier_manifests_parse_back() {
        let name = CollectionName::new("c").unwrap();
        let key = manifest_history(&name, 7);
        assert!(key.as_str().starts_with(manifest_history_all(&name).as_str()), "{key}");
        assert_eq!(parse_manifest_history(&key), Some(7));
        assert_eq!(parse_manifest_history(&manifest(&name)), None);
    }

    #[test]
    fn keys_of_heartbeats_and_state_parse_back() {
        assert_eq!(parse_heartbeat(&heartbeat("a.json")), Some("a.json"));
        assert_eq!(parse_state(&state("a/b")), Some("a/b"));
        assert_eq!(parse_state(&heartbeat("a")), None);
        assert!(state("a/b").as_str().starts_with(states("a/").as_str()));
    }

    #[test]
    fn log_keys_sort_like_their_numbers_and_parse_back() {
        let name = CollectionName::new("c").unwrap();
        let (nine, ten) = (wal_entry(&name, Seq(9)), wal_entry(&name, Seq(10)));
        assert!(nine < ten);
        assert_eq!(parse_wal_entry(&ten), Some(Seq(10)));
        assert_eq!(parse_wal_entry(&wal_data(&name, Ulid(1))), None);
        assert!(nine.as_str().starts_with(wal_entries(&name).as_str()));
        for other in [wal_data(&name, Ulid(1)), wal_waiting(&name, 1)] {
            assert!(!other.as_str().starts_with(wal_entries(&name).as_str()), "{other}");
        }
    }

    #[test]
    fn keys_of_waiting_writes_parse_back() {
        let name = CollectionName::new("c").unwrap();
        let key = wal_waiting(&name, 0xab << 56);
        assert!(key.as_str().starts_with(wal_waiting_all(&name).as_str()), "{key}");
        assert_eq!(parse_wal_waiting(&key), Some(0xab << 56));
        assert_eq!(parse_wal_waiting(&wal_data(&name, Ulid(9))), None);
    }
}
