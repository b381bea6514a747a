//! Keys of objects, and the ULIDs in them.

use super::{Result, corrupt, ensure};

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// What an object is, as its key says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    SharedConfig,
    Heartbeat,
    Lease,
    State,
    Probe,
    Manifest { collection: String },
    EarlierManifest { collection: String, version: u64 },
    Entry { collection: String, position: u64 },
    Body { collection: String, id: u128 },
    Waiting { collection: String, writer: u64 },
    Segment { collection: String, partition: u64, id: u128 },
    Deletions { collection: String, id: u128 },
}

/// What the object under this key is.
pub fn kind(key: &str) -> Result<Kind> {
    let unknown = || corrupt(format!("nothing has the key {key}"));
    let parts: Vec<&str> = key.split('/').collect();
    match parts[..] {
        ["_brainy", "config.json"] => Ok(Kind::SharedConfig),
        ["_brainy", "heartbeats", name] if name.ends_with(".json") => Ok(Kind::Heartbeat),
        ["_brainy", "leases", name] if name.ends_with(".json") => Ok(Kind::Lease),
        ["_brainy", "state", .., name] if name.ends_with(".json") => Ok(Kind::State),
        ["_brainy", "probe", _, ..] => Ok(Kind::Probe),
        ["collections", collection, ref rest @ ..] => match of_collection(collection, rest)? {
            Some(kind) => Ok(kind),
            None => unknown(),
        },
        _ => unknown(),
    }
}

fn of_collection(collection: &str, rest: &[&str]) -> Result<Option<Kind>> {
    let collection = collection.to_owned();
    Ok(match *rest {
        ["manifest.json"] => Some(Kind::Manifest { collection }),
        ["manifests", name] => match name.strip_suffix(".json") {
            Some(digits) => Some(Kind::EarlierManifest { collection, version: number(digits)? }),
            None => None,
        },
        ["wal", "data", name] => match name.strip_suffix(".bin") {
            Some(id) => Some(Kind::Body { collection, id: ulid(id)? }),
            None => None,
        },
        ["wal", "waiting", name] => match name.strip_suffix(".bin") {
            Some(digits) if digits.len() == 16 => match u64::from_str_radix(digits, 16) {
                Ok(writer) => Some(Kind::Waiting { collection, writer }),
                Err(_) => None,
            },
            _ => None,
        },
        ["wal", name] => match name.strip_suffix(".wal") {
            Some(digits) => Some(Kind::Entry { collection, position: number(digits)? }),
            None => None,
        },
        ["vectors", "dead", name] => match name.strip_suffix(".del") {
            Some(id) => Some(Kind::Deletions { collection, id: ulid(id)? }),
            None => None,
        },
        ["vectors", folder, name] => match (folder.strip_prefix('p'), name.strip_suffix(".seg")) {
            (Some(digits), Some(id)) if digits.len() >= 3 => match digits.parse() {
                Ok(partition) => Some(Kind::Segment { collection, partition, id: ulid(id)? }),
                Err(_) => None,
            },
            _ => None,
        },
        _ => None,
    })
}

/// A number of 20 digits.
fn number(digits: &str) -> Result<u64> {
    let right = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    ensure(right, || format!("{digits} is no number of 20 digits"))?;
    digits.parse().or_else(|error| corrupt(format!("{digits}: {error}")))
}

/// The number that a ULID's text stands for: 26 digits of base 32 by Crockford.
pub fn ulid(text: &str) -> Result<u128> {
    ensure(text.len() == 26 && text.as_bytes()[0] <= b'7', || format!("{text} is no ULID"))?;
    let mut number = 0;
    for byte in text.bytes() {
        match ALPHABET.iter().position(|digit| *digit == byte) {
            Some(digit) => number = number << 5 | digit as u128,
            None => return corrupt(format!("{text} is no ULID")),
        }
    }
    Ok(number)
}

/// A ULID as text.
pub fn ulid_text(number: u128) -> String {
    let digit = |place: u32| char::from(ALPHABET[(number >> (5 * place) & 31) as usize]);
    (0..26).rev().map(digit).collect()
}

/// The milliseconds since 1970 in a ULID.
pub fn ulid_ms(number: u128) -> u64 {
    (number >> 80) as u64
}

/// Where the objects of a collection lie.
pub fn manifest(collection: &str) -> String {
    format!("collections/{collection}/manifest.json")
}

pub fn entry(collection: &str, position: u64) -> String {
    format!("collections/{collection}/wal/{position:020}.wal")
}

pub fn body(collection: &str, id: u128) -> String {
    format!("collections/{collection}/wal/data/{}.bin", ulid_text(id))
}

pub fn segment(collection: &str, partition: u64, id: u128) -> String {
    format!("collections/{collection}/vectors/p{partition:03}/{}.seg", ulid_text(id))
}

pub fn deletions(collection: &str, id: u128) -> String {
    format!("collections/{collection}/vectors/dead/{}.del", ulid_text(id))
}
