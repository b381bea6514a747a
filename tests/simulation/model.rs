//! What is true, worked out without the engine: from the objects that were created and from what
//! clients were told.

use brainy::base::ids::{Seq, Ulid};
use brainy::log::chunk::{Chunk, Operation};
use brainy::log::entry::{Entry, Part};
use brainy::manifest::Manifest;
use brainy::store::{Key, paths};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Live records: id to the number of the operation that wrote it.
pub type Contents = BTreeMap<String, u64>;

/// What a client was told about an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Nothing yet, or nothing certain.
    Unknown,
    /// That it is durable at this position.
    Durable(Seq),
    /// That it did not and will not happen.
    Refused,
}

/// One upsert of one record by a client.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    pub told: Told,
    /// The largest position that any client had been told of when this operation began.
    pub known_before: Seq,
}

/// A log entry as far as the model needs it.
#[derive(Debug, Clone)]
struct LogEntry {
    incarnation: u64,
    seal: bool,
    upserts: Vec<(String, u64)>,
    deletes: Vec<String>,
    /// In order: Ok(index into upserts) or Err(index into deletes).
    order: Vec<Result<usize, usize>>,
    objects: Vec<Key>,
}

/// The truth about one collection, and the first violation of it.
#[derive(Debug, Default)]
pub struct Model {
    pub violation: Option<String>,
    /// First creation of each position: what everyone must read there.
    entries: BTreeMap<Seq, LogEntry>,
    /// Bytes of data objects that were ever put.
    data: BTreeMap<Key, Bytes>,
    deleted_data: BTreeSet<Key>,
    pub operations: BTreeMap<u64, Written>,
    /// The largest position that any client was told of.
    pub acknowledged: Seq,
    /// The segments and deletions that are in the store.
    vectors: BTreeMap<Ulid, Key>,
    manifest: Option<Manifest>,
    collection: Option<brainy::base::ids::CollectionName>,
    /// How often a position was created again after it had been deleted.
    pub strays: u64,
}

impl Model {
    pub fn new(collection: brainy::base::ids::CollectionName) -> Self {
        Model { collection: Some(collection), ..Model::default() }
    }

    pub fn violated(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    fn name(&self) -> brainy::base::ids::CollectionName {
        self.collection.clone().unwrap()
    }

    /// The last position of the log.
    pub fn tail(&self) -> Seq {
        self.entries.keys().next_back().copied().unwrap_or_default()
    }

    pub fn object_written(&mut self, key: &Key, body: &Bytes) {
        if let Some(seq) = paths::parse_wal_entry(key) {
            self.entry_created(seq, body);
        } else if *key == paths::manifest(&self.name()) {
            self.manifest_changed(body);
        } else if key.as_str().contains("/wal/data/") {
            self.data.insert(key.clone(), body.clone());
        } else if let Some(id) = paths::parse_vectors(key) {
            self.vectors.insert(id, key.clone());
        }
    }

    pub fn object_deleted(&mut self, key: &Key) {
        if let Some(id) = paths::parse_vectors(key) {
            self.vectors.remove(&id);
            if self.manifest.as_ref().is_some_and(|manifest| manifest.names().contains(&id)) {
                self.violated(format!("{key} deleted although the manifest names it"));
            }
            return;
        }
        let floor = self.manifest.as_ref().map_or(Seq(0), |manifest| manifest.wal_floor);
        if let Some(seq) = paths::parse_wal_entry(key) {
            if seq >= floor {
                self.violated(format!("entry {seq} deleted at floor {floor}"));
            }
        } else if key.as_str().contains("/wal/data/") {
            self.deleted_data.insert(key.clone());
            let naming = self.entries.range(floor..).find(|(_, entry)| entry.objects.contains(key));
            if let Some(seq) = naming.map(|(seq, _)| *seq) {
                self.violated(format!("{key} deleted although entry {seq} names it"));
            }
        }
    }

    fn manifest_changed(&mut self, body: &Bytes) {
        let next = match brainy::manifest::parse(&self.name(), body) {
            Ok(next) => next,
            Err(error) => return self.violated(format!("a manifest cannot be read: {error}")),
        };
        if let Some(last) = &self.manifest {
            let sound = next.stamp.version == last.stamp.version + 1
                && next.wal_floor >= last.wal_floor
                && next.wal_indexed >= last.wal_indexed
                && next.incarnation >= last.incarnation;
            if !sound {
                let (from, to) = (last.stamp.version, next.stamp.version);
                self.violated(format!("manifest {to} does not follow {from}"));
            }
        }
        if let Some(missing) = next.names().iter().find(|id| !self.vectors.contains_key(id)) {
            let version = next.stamp.version;
            self.violated(format!("manifest {version} names {missing}, which is not there"));
        }
        if let Some(last) = self.manifest.take() {
            self.check_indexed(&last, &next);
        }
        self.manifest = Some(next);
    }

    /// Invariant 3: what is indexed anew was not indexed before.
    fn check_indexed(&mut self, last: &Manifest, next: &Manifest) {
        let (before, after) = (last.names(), next.names());
        let is_pass = last.segments().all(|(_, segment)| after.contains(&segment.id));
        for (_, added) in next.segments().filter(|(_, segment)| !before.contains(&segment.id)) {
            if is_pass
                && (added.written.0 <= last.wal_indexed || added.written.1 > next.wal_indexed)
            {
                let (version, written) = (next.stamp.version, added.written);
                self.violated(format!("manifest {version} indexes {written:?} again"));
            }
        }
    }

    fn entry_created(&mut self, seq: Seq, body: &Bytes) {
        if self.entries.contains_key(&seq) {
            // It had been collected. Nobody may believe this one; checked where it matters.
            self.strays += 1;
            return;
        }
        if seq != self.tail().next() {
            let tail = self.tail();
            return self.violated(format!("entry {seq} created after {tail}: a gap"));
        }
        let entry = match Entry::decode(body) {
            Ok(entry) => entry,
            Err(error) => return self.violated(format!("entry {seq} cannot be read: {error}")),
        };
        let mut noted = LogEntry {
            incarnation: entry.header.incarnation,
            seal: entry.header.seal,
            upserts: Vec::new(),
            deletes: Vec::new(),
            order: Vec::new(),
            objects: Vec::new(),
        };
        for part in &entry.parts {
            let bytes = match part {
                Part::Inline { chunk, .. } => chunk.clone(),
                Part::Object { id, .. } => {
                    let key = paths::wal_data(&self.name(), *id);
                    noted.objects.push(key.clone());
                    match self.data.get(&key) {
                        Some(bytes) if !self.deleted_data.contains(&key) => bytes.clone(),
                        _ => {
                            return self
                                .violated(format!("entry {seq} names {key}, which is not there"));
                        }
                    }
                }
            };
            match Chunk::open(bytes) {
                Ok(chunk) => noted.add(&chunk),
                Err(error) => return self.violated(format!("entry {seq}: {error}")),
            }
        }
        self.entries.insert(seq, noted);
    }

    /// The contents after the entries up to `version`.
    pub fn contents(&self, version: Seq) -> Contents {
        let mut contents = Contents::new();
        let mut life = 0;
        for entry in self.entries.range(..=version).map(|(_, entry)| entry) {
            if entry.incarnation > life {
                life = entry.incarnation;
                contents.clear();
            }
            if entry.seal {
                contents.clear();
            }
            for step in &entry.order {
                match step {
                    Ok(index) => {
                        let (id, operation) = &entry.upserts[*index];
                        contents.insert(id.clone(), *operation);
                    }
                    Err(index) => drop(contents.remove(&entry.deletes[*index])),
                }
            }
        }
        contents
    }

    /// Whether the entry at `version` deletes all of `ids`.
    pub fn deletes(&self, version: Seq, ids: &[String]) -> bool {
        let entry = self.entries.get(&version);
        entry.is_some_and(|entry| ids.iter().all(|id| entry.deletes.contains(id)))
    }

    /// A client was told that operations are durable at `version`.
    pub fn told_durable(&mut self, operations: &[u64], version: Seq) {
        for operation in operations {
            if let Some(written) = self.operations.get_mut(operation) {
                written.told = Told::Durable(version);
                if version <= written.known_before {
                    let known = written.known_before;
                    self.violated(format!(
                        "operation {operation} began after {known} was known and was put at {version}"
                    ));
                    return;
                }
            }
        }
        self.acknowledged = self.acknowledged.max(version);
    }

    /// Checks what clients were told against the log.
    pub fn audit(&mut self) {
        let mut found: BTreeMap<u64, Vec<Seq>> = BTreeMap::new();
        for (seq, entry) in &self.entries {
            for (_, operation) in &entry.upserts {
                found.entry(*operation).or_default().push(*seq);
            }
        }
        let mut faults = Vec::new();
        for (operation, written) in &self.operations {
            let at = found.get(operation).map(Vec::as_slice).unwrap_or_default();
            match written.told {
                Told::Durable(seq) if at != [seq] => {
                    faults.push(format!(
                        "operation {operation} was acknowledged at {seq}, it is at {at:?}"
                    ));
                }
                Told::Refused if !at.is_empty() => {
                    faults.push(format!("operation {operation} was refused, it is at {at:?}"));
                }
                _ if at.len() > 1 => {
                    faults.push(format!("operation {operation} is in the log at {at:?}"));
                }
                _ => {}
            }
        }
        if let Some(fault) = faults.into_iter().next() {
            self.violated(fault);
        }
    }
}

impl LogEntry {
    fn add(&mut self, chunk: &Chunk) {
        for operation in chunk.iter() {
            match operation {
                Operation::Upsert { id, metadata, .. } => {
                    let metadata: serde_json::Value = serde_json::from_str(metadata).unwrap();
                    self.order.push(Ok(self.upserts.len()));
                    self.upserts.push((id.to_owned(), metadata["op"].as_u64().unwrap()));
                }
                Operation::Delete { id, .. } => {
                    self.order.push(Err(self.deletes.len()));
                    self.deletes.push(id.to_owned());
                }
            }
        }
    }
}
