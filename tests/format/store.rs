//! A collection's records, folded from its objects as `docs/format.md` says.

use crate::decode::entry::{Body, Entry, Kind};
use crate::decode::manifest::Manifest;
use crate::decode::segment::Segment;
use crate::decode::{Fault, Result, chunk, corrupt, deletions, ensure, entry, keys, manifest};
use crate::decode::{segment, shared};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// Objects by their keys.
pub trait Objects {
    /// The keys of all.
    fn keys(&self) -> Vec<String>;
    /// An object, where there is one.
    fn read(&self, key: &str) -> Option<Vec<u8>>;
}

/// A store in a folder. What is below `.brainy` is no object.
pub struct Folder(pub PathBuf);

impl Folder {
    fn walk(&self, folder: &Path, found: &mut Vec<String>) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let Ok(key) = path.strip_prefix(&self.0) else { continue };
            if key == Path::new(".brainy") {
                continue;
            }
            if path.is_dir() {
                self.walk(&path, found);
            } else if let Some(key) = key.to_str() {
                found.push(key.to_owned());
            }
        }
    }
}

impl Objects for Folder {
    fn keys(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.walk(&self.0, &mut found);
        found.sort_unstable();
        found
    }

    fn read(&self, key: &str) -> Option<Vec<u8>> {
        std::fs::read(self.0.join(key)).ok()
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// As bits.
    pub vector: Vec<u32>,
    /// As they are stored; empty where there are none.
    pub metadata: String,
    pub text: Option<String>,
    /// The position that wrote it.
    pub version: u64,
}

/// A collection at its newest version.
#[derive(Debug)]
pub struct Collection {
    pub manifest: Manifest,
    pub version: u64,
    pub records: BTreeMap<String, Record>,
    pub segments: Vec<Segment>,
    /// Entries behind `walIndexed`.
    pub tail: u64,
}

/// Where the fold of a log stands.
struct Fold<'a> {
    objects: &'a dyn Objects,
    name: &'a str,
    dimensions: u32,
    records: BTreeMap<String, Record>,
}

/// What the objects say of a collection; `None` where it was deleted or never was.
pub fn collection(objects: &dyn Objects, name: &str) -> Result<Option<Collection>> {
    let Some(data) = objects.read(&keys::manifest(name)) else { return Ok(None) };
    let manifest = manifest::decode(&data, name)?;
    if !manifest.live {
        return Ok(None);
    }
    let (records, segments) = indexed(objects, &manifest)?;
    let dimensions = manifest.settings.dimensions;
    let mut fold = Fold { objects, name, dimensions, records };
    let mut totals = (manifest.indexed.records, manifest.indexed.bytes);
    let mut version = manifest.wal_indexed;
    loop {
        let position = version + 1;
        let Some(data) = objects.read(&keys::entry(name, position)) else { break };
        let entry = entry::decode(&data).map_err(|fault| at(position, fault))?;
        check_entry(&entry, position)?;
        let (operations, bytes) = entry.own_totals(data.len() as u64);
        totals = (totals.0 + operations, totals.1 + bytes);
        let found = (entry.total_operations, entry.total_bytes);
        // What one of a newer build counts, only that build knows.
        let is_right = found == totals || matches!(entry.kind, Kind::Skipped(_));
        ensure(is_right, || format!("entry {position}: totals {found:?}, not {totals:?}"))?;
        totals = found;
        match (entry.incarnation.cmp(&manifest.incarnation), entry.kind) {
            // Of an earlier life, also its seal: nothing of it comes back.
            (Ordering::Less, _) | (Ordering::Equal, Kind::Skipped(_)) => {}
            (Ordering::Greater, _) | (Ordering::Equal, Kind::Seal) => return Ok(None),
            (Ordering::Equal, Kind::Data) => {
                fold.entry(&entry).map_err(|fault| at(position, fault))?;
            }
        }
        version = position;
    }
    check_end(objects, name, version)?;
    let tail = version - manifest.wal_indexed;
    Ok(Some(Collection { manifest, version, records: fold.records, segments, tail }))
}

fn at(position: u64, fault: Fault) -> Fault {
    fault.within(&format!("entry {position}"))
}

fn check_entry(entry: &Entry, position: u64) -> Result<()> {
    ensure(entry.position == position, || format!("entry {position} says {}", entry.position))
}

/// A log has no gaps: behind the first position without an entry there is none.
fn check_end(objects: &dyn Objects, name: &str, version: u64) -> Result<()> {
    for key in objects.keys() {
        if let Ok(keys::Kind::Entry { collection, position }) = keys::kind(&key) {
            // The next one may have come since.
            let is_behind = collection == name && position > version + 1;
            let is_gap = is_behind && objects.read(&keys::entry(name, version + 1)).is_none();
            ensure(!is_gap, || format!("there is no entry {}, but {key}", version + 1))?;
        }
    }
    Ok(())
}

impl Fold<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<()> {
        for part in &entry.parts {
            let chunk = match &part.body {
                Body::Inline { chunk, .. } => chunk::decode(chunk)?,
                Body::Object(id) => {
                    let key = keys::body(self.name, *id);
                    let Some(data) = self.objects.read(&key) else {
                        return corrupt(format!("{key} is missing"));
                    };
                    ensure(data.len() as u64 == part.length, || format!("{key}: length"))?;
                    crate::decode::bytes::check(&data, part.crc, &key)?;
                    chunk::decode(&data)?
                }
            };
            let count = chunk.count;
            ensure(count == part.operations, || format!("a chunk of {count} operations"))?;
            if chunk.fits(self.dimensions) {
                chunk.operations.into_iter().for_each(|op| self.apply(op, entry.position));
            }
        }
        Ok(())
    }

    fn apply(&mut self, operation: chunk::Operation, position: u64) {
        match operation.deed() {
            chunk::Deed::Skipped => {}
            chunk::Deed::Delete => {
                // One with a limit spares what stands in its own entry.
                let limit = operation.limit.map_or(position, |limit| limit.min(position - 1));
                if self.records.get(&operation.id).is_some_and(|record| record.version <= limit) {
                    self.records.remove(&operation.id);
                }
            }
            chunk::Deed::Upsert => {
                let record = Record {
                    vector: operation.vector.unwrap_or_default(),
                    metadata: operation.metadata,
                    text: operation.text,
                    version: position,
                };
                self.records.insert(operation.id, record);
            }
        }
    }
}

type Indexed = (BTreeMap<String, Record>, Vec<Segment>);

/// What the segments hold, but for their dead rows.
fn indexed(objects: &dyn Objects, manifest: &Manifest) -> Result<Indexed> {
    let dead = dead_rows(objects, manifest)?;
    let (mut records, mut segments) = (BTreeMap::new(), Vec::new());
    for partition in &manifest.partitions {
        for meta in &partition.segments {
            let key = keys::segment(&manifest.name, partition.number, meta.id);
            let Some(data) = objects.read(&key) else {
                return corrupt(format!("{key} is missing"));
            };
            let crc = crc32c::crc32c(&data);
            ensure(data.len() as u64 == meta.bytes && crc == meta.crc32c, || {
                format!("{key}: {} bytes with {crc:08x}", data.len())
            })?;
            let segment = segment::decode(&data).map_err(|fault| fault.within(&key))?;
            let none = BTreeSet::new();
            let dead = dead.get(&meta.id).unwrap_or(&none);
            check_segment(&segment, meta, manifest, dead).map_err(|fault| fault.within(&key))?;
            for (number, row) in segment.rows.iter().enumerate() {
                let hash = xxh3_64(row.id.as_bytes());
                let group = manifest.settings.partitioner.group(&row.id);
                let in_range = (partition.hashes.0..=partition.hashes.1).contains(&hash);
                ensure(in_range && group.is_none_or(|group| group == partition.group), || {
                    format!("{key}: {:?} belongs elsewhere", row.id)
                })?;
                if dead.contains(&(number as u32)) {
                    continue;
                }
                let record = Record {
                    vector: row.vector.clone(),
                    metadata: row.metadata.clone(),
                    text: row.text.clone(),
                    version: row.written,
                };
                let twice = records.insert(row.id.clone(), record).is_some();
                ensure(!twice, || format!("{key}: {:?} lives in another row, too", row.id))?;
            }
            segments.push(segment);
        }
    }
    Ok((records, segments))
}

fn check_segment(
    segment: &Segment,
    meta: &manifest::SegmentMeta,
    manifest: &Manifest,
    dead: &BTreeSet<u32>,
) -> Result<()> {
    let contents = &segment.contents;
    let settings = &manifest.settings;
    ensure(
        u64::from(contents.rows) == meta.rows
            && contents.written == meta.written
            && contents.dimensions == settings.dimensions
            && contents.metric == settings.metric,
        || format!("{contents:?}, of which the manifest says {meta:?}"),
    )?;
    ensure(contents.written.1 <= manifest.wal_indexed, || "rows of the tail".to_owned())?;
    ensure(dead.len() as u64 == meta.dead, || format!("{} dead rows", dead.len()))?;
    ensure(dead.last().is_none_or(|row| *row < contents.rows), || "a dead row too many".to_owned())
}

fn dead_rows(objects: &dyn Objects, manifest: &Manifest) -> Result<BTreeMap<u128, BTreeSet<u32>>> {
    let mut dead: BTreeMap<u128, BTreeSet<u32>> = BTreeMap::new();
    for meta in &manifest.deletions {
        let key = keys::deletions(&manifest.name, meta.id);
        let Some(data) = objects.read(&key) else { return corrupt(format!("{key} is missing")) };
        let found = deletions::decode(&data).map_err(|fault| fault.within(&key))?;
        let (bytes, rows) = (data.len() as u64, found.rows());
        ensure(bytes == meta.bytes && rows == meta.rows, || {
            format!("{key}: {rows} rows in {bytes} bytes")
        })?;
        for (segment, rows) in found.dead {
            dead.entry(segment).or_default().extend(rows);
        }
    }
    Ok(dead)
}

/// Decodes every object that there is by what its key says, and counts them by kind.
pub fn decode_all(objects: &dyn Objects) -> Result<BTreeMap<&'static str, u64>> {
    let mut counts = BTreeMap::new();
    for key in objects.keys() {
        // Gone since it was listed.
        let Some(data) = objects.read(&key) else { continue };
        let kind = one(&key, &data).map_err(|fault| fault.within(&key))?;
        *counts.entry(kind).or_default() += 1;
    }
    Ok(counts)
}

fn one(key: &str, data: &[u8]) -> Result<&'static str> {
    Ok(match keys::kind(key)? {
        keys::Kind::SharedConfig => shared::decode_config(data).map(|_| "config")?,
        keys::Kind::Heartbeat => shared::decode_heartbeat(data).map(|_| "heartbeat")?,
        keys::Kind::Lease => shared::decode_lease(data).map(|_| "lease")?,
        keys::Kind::State => shared::decode_state(data).map(|_| "state")?,
        keys::Kind::Probe => "probe",
        keys::Kind::Manifest { collection } => {
            manifest::decode(data, &collection).map(|_| "manifest")?
        }
        keys::Kind::EarlierManifest { collection, version } => {
            let found = manifest::decode(data, &collection)?.stamp.version;
            ensure(found == version, || format!("it is version {found}"))?;
            "earlier manifest"
        }
        keys::Kind::Entry { position, .. } => {
            let found = entry::decode(data)?;
            check_entry(&found, position)?;
            "entry"
        }
        keys::Kind::Body { .. } => chunk::decode(data).map(|_| "body")?,
        keys::Kind::Waiting { writer, .. } => {
            entry::decode_waiting(data, writer).map(|_| "waiting")?
        }
        keys::Kind::Segment { .. } => segment::decode(data).map(|_| "segment")?,
        keys::Kind::Deletions { .. } => deletions::decode(data).map(|_| "deletions")?,
    })
}
