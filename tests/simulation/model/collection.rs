//! What is true of one collection.

use super::life::{Acknowledged, Lives};
use super::log::{Log, Step};
use super::objects::Objects;
use crate::guarantees;
use crate::world::START;
use brainy::base::ids::{CollectionName, Seq};
use brainy::manifest::Manifest;
use brainy::store::{Key, paths};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// A violation, or none.
pub type Checked = Result<(), String>;

#[derive(Debug)]
pub struct Collection {
    pub name: CollectionName,
    pub log: Log,
    pub lives: Lives,
    pub objects: Objects,
    pub manifest: Option<Manifest>,
    /// The largest position that any client was told of.
    pub acknowledged: Acknowledged,
    /// How often a position was created again after it had been deleted.
    pub strays: u64,
    /// Each version of the manifest.
    versions: Vec<Version>,
    began: Instant,
    /// When each object was put last.
    put: BTreeMap<Key, Instant>,
}

/// When a version of the manifest came into force, and when its writer's clock says so.
#[derive(Debug, Clone, Copy)]
struct Version {
    came: Instant,
    says: Instant,
}

impl Collection {
    pub fn new(name: CollectionName) -> Collection {
        Collection {
            name,
            log: Log::default(),
            lives: Lives::default(),
            objects: Objects::default(),
            manifest: None,
            acknowledged: Acknowledged::default(),
            strays: 0,
            versions: Vec::new(),
            began: Instant::now(),
            put: BTreeMap::new(),
        }
    }

    pub fn floor(&self) -> Seq {
        self.manifest.as_ref().map_or(Seq(0), |manifest| manifest.wal_floor)
    }

    /// Whether a version of the manifest that is no longer in force is kept: those behind it came into force after
    /// `then`, or after `said` by the clocks of their writers.
    pub fn is_kept(&self, version: u64, then: Instant, said: Instant) -> bool {
        let last = self.versions.len().saturating_sub(1);
        let after = self.versions.get(version as usize..last).unwrap_or_default();
        after.iter().all(|version| version.came > then || version.says > said)
    }

    /// Whether an object was put after the manifest has changed for the last time: nobody looks soon.
    pub fn was_put_late(&self, key: &Key) -> bool {
        let put = self.put.get(key);
        put.is_some_and(|put| self.versions.last().is_none_or(|last| *put > last.came))
    }

    /// Notes an object that is there now; the steps of a new log entry.
    pub fn written(&mut self, key: &Key, body: &Bytes) -> Result<Vec<Step>, String> {
        self.put.insert(key.clone(), Instant::now());
        if let Some(seq) = paths::parse_wal_entry(key) {
            return self.entry_created(seq, body);
        }
        if *key == paths::manifest(&self.name) {
            self.manifest_changed(body)?;
        } else if key.as_str().starts_with(paths::wal_data_all(&self.name).as_str()) {
            self.log.data.insert(key.clone(), body.clone());
        } else if let Some(id) = paths::parse_vectors(key) {
            self.objects.vectors.insert(id, key.clone());
        }
        Ok(Vec::new())
    }

    fn entry_created(&mut self, seq: Seq, body: &Bytes) -> Result<Vec<Step>, String> {
        if self.log.entry(seq).is_some() {
            // It had been collected. Nobody may believe this one; checked where it matters.
            self.strays += 1;
            return Ok(Vec::new());
        }
        self.log.append(&self.name, seq, body)?;
        let Some(entry) = self.log.entry(seq).cloned() else { return Ok(Vec::new()) };
        if entry.seal {
            self.lives.sealed();
        }
        let settings = self.lives.settings(entry.incarnation);
        let dimensions = settings.map_or(0, |settings| settings.vector().dimensions);
        if guarantees::WRITES_STAY_IN_THEIR_LIFE
            && entry.dimensions.iter().any(|found| *found != dimensions)
        {
            return Err(format!(
                "entry {seq} of {} has vectors of {:?} dimensions in a life of {dimensions}",
                self.name, entry.dimensions
            ));
        }
        Ok(entry.steps)
    }

    fn manifest_changed(&mut self, body: &Bytes) -> Checked {
        let name = &self.name;
        let next = brainy::manifest::parse(name, body)
            .map_err(|error| format!("a manifest of {name} cannot be read: {error}"))?;
        let version = next.stamp.version;
        if let Some(last) = &self.manifest {
            let sound = version == last.stamp.version + 1
                && next.wal_floor >= last.wal_floor
                && next.wal_indexed >= last.wal_indexed
                && next.incarnation >= last.incarnation;
            if !sound {
                return Err(format!(
                    "manifest {version} of {name} does not follow {}",
                    last.stamp.version
                ));
            }
            indexed_once(last, &next)?;
        }
        let there = &self.objects.vectors;
        if let Some(missing) = next.names().iter().find(|id| !there.contains_key(id)) {
            return Err(format!(
                "manifest {version} of {name} names {missing}, which is not there"
            ));
        }
        if next.wal_indexed > self.log.tail() {
            return Err(format!("manifest {version} of {name} indexes more than there is"));
        }
        self.objects.manifest(self.manifest.as_ref(), &next);
        let says = Duration::from_millis(next.stamp.updated.0.saturating_sub(START.0));
        self.versions.push(Version { came: Instant::now(), says: self.began + says });
        let came_back = self.lives.manifest(&next);
        self.manifest = Some(next);
        match guarantees::RETURNS_WITH_ITS_SETTINGS {
            true => came_back,
            false => Ok(()),
        }
    }

    /// The segments, and what names their dead rows, of the manifest in force.
    pub fn vectors_named(&self) -> BTreeSet<Key> {
        let Some(manifest) = &self.manifest else { return BTreeSet::new() };
        let segments = manifest.segments();
        let segments =
            segments.map(|(of, segment)| paths::segment(&self.name, of.number, segment.id));
        let deletions = manifest.deletions.iter();
        let deletions = deletions.map(|deletions| paths::deletions(&self.name, deletions.id));
        segments.chain(deletions).collect()
    }

    /// Whether manifest or log name an object.
    pub fn needs(&self, key: &Key) -> bool {
        let manifest = self.manifest.as_ref();
        match (paths::parse_vectors(key), paths::parse_wal_entry(key)) {
            (Some(id), _) => manifest.is_some_and(|manifest| manifest.names().contains(&id)),
            (_, Some(seq)) => seq >= self.floor(),
            _ => self.log.names(self.floor(), key).is_some(),
        }
    }

    /// Invariant 6: nothing goes that can still be named, or that was within `grace`.
    pub fn deleted(&mut self, key: &Key, grace: Duration) -> Checked {
        let (name, floor) = (&self.name, self.floor());
        let too_early = |since: Option<Duration>| {
            let since = since.filter(|since| *since < grace);
            since.map_or(Ok(()), |since| Err(format!("{key} deleted after {since:?} of {grace:?}")))
        };
        if let Some(id) = paths::parse_vectors(key) {
            self.objects.vectors.remove(&id);
            if self.manifest.as_ref().is_some_and(|manifest| manifest.names().contains(&id)) {
                return Err(format!("{key} deleted although the manifest names it"));
            }
            if guarantees::SEGMENTS_STAY_A_GRACE_PERIOD {
                return too_early(self.objects.unnamed_for(id));
            }
        } else if let Some(seq) = paths::parse_wal_entry(key) {
            if seq >= floor {
                return Err(format!("entry {seq} of {name} deleted at floor {floor}"));
            }
            if guarantees::LOG_ENTRIES_STAY_A_GRACE_PERIOD {
                return too_early(self.objects.below_floor_for(seq));
            }
        } else if key.as_str().starts_with(paths::wal_data_all(name).as_str()) {
            self.log.deleted_data.insert(key.clone());
            if let Some(seq) = self.log.names(floor, key) {
                return Err(format!("{key} deleted although entry {seq} names it"));
            }
        }
        Ok(())
    }
}

/// Invariant 3: what is indexed anew was not indexed before.
fn indexed_once(last: &Manifest, next: &Manifest) -> Checked {
    let (before, after) = (last.names(), next.names());
    let is_pass = last.segments().all(|(_, segment)| after.contains(&segment.id));
    for (_, added) in next.segments().filter(|(_, segment)| !before.contains(&segment.id)) {
        if is_pass && (added.written.0 <= last.wal_indexed || added.written.1 > next.wal_indexed) {
            let (version, written) = (next.stamp.version, added.written);
            return Err(format!("manifest {version} of {} indexes {written:?} again", next.name));
        }
    }
    Ok(())
}
