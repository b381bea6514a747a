//! Dead rows of segments.

use super::bytes::{Bytes, check};
use super::{Result, bitmap, corrupt, ensure, newer};
use std::collections::BTreeMap;

/// The dead rows of each segment that is named, by its ULID.
#[derive(Debug, Clone, PartialEq)]
pub struct Deletions {
    pub dead: BTreeMap<u128, Vec<u32>>,
}

impl Deletions {
    /// How many rows it names.
    pub fn rows(&self) -> u64 {
        self.dead.values().map(|rows| rows.len() as u64).sum()
    }
}

/// Decodes an object of dead rows.
pub fn decode(data: &[u8]) -> Result<Deletions> {
    let mut bytes = Bytes::new(data, "deletions");
    bytes.magic(b"BRNYDEL1")?;
    let version = bytes.u32()?;
    if version > 1 {
        return newer(format!("deletions: version {version}"));
    }
    ensure(version == 1, || "deletions: version 0".to_owned())?;
    let Some((body, crc)) = data.split_last_chunk::<4>() else {
        return corrupt("deletions: too short");
    };
    check(body, u32::from_le_bytes(*crc), "deletions")?;
    let count = bytes.u32()?;
    let mut list = Vec::new();
    for _ in 0..count {
        list.push((bytes.u128()?, bytes.u32()?));
    }
    let ascending = list.is_sorted_by(|a, b| a.0 < b.0);
    ensure(ascending, || "deletions: segments out of order".to_owned())?;
    let mut dead = BTreeMap::new();
    for (segment, length) in list {
        let mut inner = Bytes::new(bytes.take(u64::from(length))?, "deletions: bitmap");
        let bitmap = bitmap::decode(&mut inner)?;
        inner.end()?;
        ensure(!bitmap.rows.is_empty(), || "deletions: a bitmap without rows".to_owned())?;
        ensure(bitmap.shortest, || format!("deletions: forms {:?}", bitmap.forms))?;
        dead.insert(segment, bitmap.rows);
    }
    // The checksum.
    bytes.u32()?;
    bytes.end()?;
    Ok(Deletions { dead })
}
