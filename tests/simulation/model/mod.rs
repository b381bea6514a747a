//! What is true, worked out without the engine: from the objects that were created and from what
//! clients were told.

pub mod collection;
pub mod condition;
mod damage;
pub mod life;
mod log;
mod objects;
pub mod record;

pub use collection::Collection;
pub use condition::Condition;
pub use damage::Damages;
pub use log::Step;
pub use record::{Contents, Live, Record};

use brainy::base::ids::{CollectionName, Seq};
use brainy::store::{Key, paths};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

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
#[derive(Debug, Clone)]
pub struct Written {
    pub collection: CollectionName,
    pub id: String,
    pub record: Arc<Record>,
    pub told: Told,
    /// The largest position that any client had been told of when this operation began.
    pub known_before: Seq,
    /// Where it is in the log.
    at: Vec<Seq>,
}

/// The truth about all collections, and the first violation of it.
#[derive(Debug)]
pub struct Model {
    pub violation: Option<String>,
    pub collections: BTreeMap<CollectionName, Collection>,
    pub operations: BTreeMap<u64, Written>,
    pub damages: Damages,
    /// The shortest grace period that was ever agreed on.
    grace: Duration,
}

impl Model {
    pub fn new(names: &[CollectionName], grace: Duration) -> Model {
        let new = |name: &CollectionName| (name.clone(), Collection::new(name.clone()));
        Model {
            violation: None,
            collections: names.iter().map(new).collect(),
            operations: BTreeMap::new(),
            damages: Damages::default(),
            grace,
        }
    }

    pub fn violated(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    pub fn check(&mut self, checked: Result<(), String>) {
        if let Err(what) = checked {
            self.violated(what);
        }
    }

    pub fn of(&self, name: &CollectionName) -> &Collection {
        &self.collections[name]
    }

    pub fn of_mut(&mut self, name: &CollectionName) -> &mut Collection {
        self.collections.get_mut(name).expect("a collection of this run")
    }

    pub fn object_written(&mut self, key: &Key, body: &Bytes) {
        let Some(name) = self.owner(key) else { return };
        let seq = paths::parse_wal_entry(key);
        match self.of_mut(&name).written(key, body) {
            Ok(steps) => steps.iter().for_each(|step| self.stored(&name, seq, step)),
            Err(what) => self.violated(what),
        }
    }

    pub fn object_deleted(&mut self, key: &Key) {
        let grace = self.grace;
        if let Some(name) = self.owner(key) {
            let checked = self.of_mut(&name).deleted(key, grace);
            self.check(checked);
        }
    }

    /// A damaged object is to be put back; whether anybody still needs it.
    pub fn mended(&mut self, key: &Key) -> bool {
        self.damages.mended(key);
        self.owner(key).is_some_and(|name| self.of(&name).needs(key))
    }

    fn owner(&self, key: &Key) -> Option<CollectionName> {
        let rest = key.as_str().strip_prefix(paths::collections().as_str())?;
        let (name, _) = rest.split_once('/')?;
        self.collections.keys().find(|known| known.as_str() == name).cloned()
    }

    /// A step of the log at `seq`: what stands there is what the client sent.
    fn stored(&mut self, name: &CollectionName, seq: Option<Seq>, step: &Step) {
        let (Step::Upsert { id, record }, Some(seq)) = (step, seq) else { return };
        let operation = record.operation;
        let Some(written) = self.operations.get_mut(&operation) else {
            return self.violated(format!("entry {seq} of {name} has a record that nobody wrote"));
        };
        written.at.push(seq);
        if written.collection != *name || written.id != *id || written.record != *record {
            let meant = format!("{} in {}: {:?}", written.id, written.collection, written.record);
            self.violated(format!(
                "entry {seq} of {name} has {id}: {record:?}, and was to have {meant}"
            ));
        }
    }

    /// A client is about to write records.
    pub fn begin(&mut self, name: &CollectionName, records: &BTreeMap<String, Arc<Record>>) {
        let known_before = self.of(name).acknowledged.last();
        for (id, record) in records {
            let written = Written {
                collection: name.clone(),
                id: id.clone(),
                record: record.clone(),
                told: Told::Unknown,
                known_before,
                at: Vec::new(),
            };
            self.operations.insert(record.operation, written);
        }
    }

    /// A client was told that operations are durable at `version`.
    pub fn told_durable(&mut self, name: &CollectionName, operations: &[u64], version: Seq) {
        for operation in operations {
            let Some(written) = self.operations.get_mut(operation) else { continue };
            written.told = Told::Durable(version);
            if version <= written.known_before {
                let known = written.known_before;
                self.violated(format!(
                    "operation {operation} began after {known} was known and was put at {version}"
                ));
            }
        }
        self.of_mut(name).acknowledged.raise(version);
    }

    /// A client was told that operations will never happen.
    pub fn told_refused(&mut self, operations: &[u64]) {
        for operation in operations {
            if let Some(written) = self.operations.get_mut(operation) {
                written.told = Told::Refused;
            }
        }
    }

    /// Checks what clients were told against the log.
    pub fn audit(&mut self) {
        let fault = self.operations.iter().find_map(|(operation, written)| {
            let (at, name) = (&written.at[..], &written.collection);
            match written.told {
                Told::Durable(seq) if at != [seq] => Some(format!(
                    "operation {operation} on {name} was acknowledged at {seq}, it is at {at:?}"
                )),
                Told::Refused if !at.is_empty() => {
                    Some(format!("operation {operation} on {name} was refused, it is at {at:?}"))
                }
                _ if at.len() > 1 => {
                    Some(format!("operation {operation} is in the log of {name} at {at:?}"))
                }
                _ => None,
            }
        });
        self.check(fault.map_or(Ok(()), Err));
    }
}
