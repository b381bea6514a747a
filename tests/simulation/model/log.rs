//! One collection's log, as it was written, and what it means.

use super::record::{Contents, Live, Record};
use brainy::base::ids::{CollectionName, Seq};
use brainy::log::chunk::{Chunk, Operation};
use brainy::log::entry::{Entry, Part};
use brainy::store::{Key, paths};
use bytes::Bytes;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::time::Instant;

/// One operation of an entry.
#[derive(Debug, Clone)]
pub enum Step {
    Upsert {
        id: String,
        record: Arc<Record>,
    },
    /// Kills what was written up to `limit`, or whatever there is.
    Delete {
        id: String,
        limit: Option<Seq>,
    },
}

/// A log entry as far as the model needs it.
#[derive(Debug, Clone)]
pub struct LogEntry {
    pub incarnation: u64,
    pub created: Instant,
    pub seal: bool,
    pub steps: Vec<Step>,
    /// The data objects that it names.
    pub objects: Vec<Key>,
    /// The dimensions of its vectors.
    pub dimensions: BTreeSet<u32>,
}

/// First creation of each position: what everyone must read there.
#[derive(Debug, Default)]
pub struct Log {
    entries: BTreeMap<Seq, LogEntry>,
    /// What is shown at each position.
    contents: BTreeMap<Seq, Arc<Contents>>,
    /// Bytes of data objects that were ever put.
    pub data: BTreeMap<Key, Bytes>,
    /// Data objects that were deleted again.
    pub deleted_data: BTreeSet<Key>,
}

impl Log {
    /// The last position.
    pub fn tail(&self) -> Seq {
        self.entries.keys().next_back().copied().unwrap_or_default()
    }

    pub fn entry(&self, seq: Seq) -> Option<&LogEntry> {
        self.entries.get(&seq)
    }

    pub fn entries(&self) -> impl Iterator<Item = (Seq, &LogEntry)> {
        self.entries.iter().map(|(seq, entry)| (*seq, entry))
    }

    /// The entry from `floor` on that names a data object.
    pub fn names(&self, floor: Seq, key: &Key) -> Option<Seq> {
        let mut entries = self.entries.range(floor..);
        entries.find(|(_, entry)| entry.objects.contains(key)).map(|(seq, _)| *seq)
    }

    /// What is shown after the entries up to `version`.
    pub fn contents(&self, version: Seq) -> Arc<Contents> {
        let last = self.contents.range(..=version).next_back();
        last.map(|(_, contents)| contents.clone()).unwrap_or_default()
    }

    /// What was shown at each version of a range that differs from the one before.
    pub fn between(&self, from: Seq, to: Seq) -> impl Iterator<Item = (Seq, Arc<Contents>)> {
        let first = (from, self.contents(from));
        let later = self.contents.range(from.next()..=to.max(from.next()));
        let later = later.filter(move |(seq, _)| **seq <= to);
        [first].into_iter().chain(later.map(|(seq, contents)| (*seq, contents.clone())))
    }

    /// The ids that the entry at `version` deletes.
    pub fn deleted(&self, version: Seq) -> BTreeSet<&String> {
        let steps = self.entries.get(&version).into_iter().flat_map(|entry| &entry.steps);
        let deletes = steps.filter_map(|step| match step {
            Step::Delete { id, .. } => Some(id),
            Step::Upsert { .. } => None,
        });
        deletes.collect()
    }

    /// Whether the entry at `version` deletes what was written of an id up to `limit`, and nothing later.
    pub fn deletes_until(&self, version: Seq, id: &String, limit: Seq) -> bool {
        let mut steps = self.entries.get(&version).into_iter().flat_map(|entry| &entry.steps);
        steps.any(|step| match step {
            Step::Delete { id: deleted, limit: until } => deleted == id && *until == Some(limit),
            Step::Upsert { .. } => false,
        })
    }

    /// Notes a new entry at the end.
    pub fn append(&mut self, name: &CollectionName, seq: Seq, body: &Bytes) -> Result<(), String> {
        if seq != self.tail().next() {
            return Err(format!("entry {seq} of {name} created after {}: a gap", self.tail()));
        }
        let entry = self.read(name, seq, body)?;
        let before = self.tail();
        let life = self.entries.get(&before).map_or(0, |last| last.incarnation);
        if entry.incarnation < life {
            return Err(format!(
                "entry {seq} of {name} is of life {} behind {life}",
                entry.incarnation
            ));
        }
        let fresh = entry.incarnation > life || entry.seal;
        let mut contents = if fresh { Contents::new() } else { (*self.contents(before)).clone() };
        for step in &entry.steps {
            match step {
                Step::Upsert { id, record } => {
                    contents.insert(id.clone(), Live { record: record.clone(), written: seq });
                }
                Step::Delete { id, limit } => {
                    let dies = |live: &Live| limit.is_none_or(|limit| live.written <= limit);
                    if contents.get(id).is_some_and(dies) {
                        contents.remove(id);
                    }
                }
            }
        }
        self.contents.insert(seq, Arc::new(contents));
        self.entries.insert(seq, entry);
        Ok(())
    }

    fn read(&self, name: &CollectionName, seq: Seq, body: &Bytes) -> Result<LogEntry, String> {
        let entry = Entry::decode(body)
            .map_err(|error| format!("entry {seq} of {name} cannot be read: {error}"))?;
        let mut noted = LogEntry {
            incarnation: entry.header.incarnation,
            created: Instant::now(),
            seal: entry.header.seal,
            steps: Vec::new(),
            objects: Vec::new(),
            dimensions: BTreeSet::new(),
        };
        for part in &entry.parts {
            let bytes = match part {
                Part::Inline { chunk, .. } => chunk.clone(),
                Part::Object { id, .. } => {
                    let key = paths::wal_data(name, *id);
                    noted.objects.push(key.clone());
                    let there = self.data.get(&key).filter(|_| !self.deleted_data.contains(&key));
                    let missing =
                        || format!("entry {seq} of {name} names {key}, which is not there");
                    there.ok_or_else(missing)?.clone()
                }
            };
            let chunk =
                Chunk::open(bytes).map_err(|error| format!("entry {seq} of {name}: {error}"))?;
            if chunk.vectors() > 0 {
                noted.dimensions.insert(chunk.dimensions());
            }
            noted.steps.extend(chunk.iter().map(step));
        }
        Ok(noted)
    }
}

fn step(operation: Operation<'_>) -> Step {
    match operation {
        Operation::Upsert { id, vector, metadata, text } => {
            let metadata: Value = serde_json::from_str(metadata).unwrap_or_default();
            let record = Record {
                operation: metadata["op"].as_u64().unwrap_or(u64::MAX),
                vector: vector.to_vec(),
                metadata,
                text: text.map(str::to_owned),
            };
            Step::Upsert { id: id.to_owned(), record: Arc::new(record) }
        }
        Operation::Delete { id, limit } => Step::Delete { id: id.to_owned(), limit },
    }
}
