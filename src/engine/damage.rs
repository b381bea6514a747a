//! What is known to be missing or damaged in the bucket?
//!
//! Whoever reads an object that another one names, and finds it missing or not what was written, reports it
//! here, and takes it back once it can be read again. Health, statistics, metrics and errors read it. Nothing
//! is repaired: a tool that does begins with this list.
//!
//! 1. Everything that is reported has a place (the object's key, or a record's id) and, where the log wrote
//!    it, a position. The same place is listed once, however often it is met.
//! 2. The list is bounded: of each collection [`PLACES_MAX`] places are kept and the others counted.
//! 3. A place is logged when it is found and again after [`LOG_EVERY`] at the earliest.

use crate::base::clock::Mark;
use crate::base::ids::{CollectionName, Seq};
use crate::base::metrics::DamageLabels;
use crate::base::{Code, Env, Error, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Places that are kept of one collection.
const PLACES_MAX: usize = 256;
/// How often one place is logged at most.
const LOG_EVERY: Duration = Duration::from_secs(600);

/// What is wrong with metadata that cannot be read.
pub const UNREADABLE: &str = "its metadata are stored in a form that no JSON parser reads";

/// What is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DamageKind {
    /// The collection's manifest.
    Manifest,
    /// An entry of the log: nothing behind it can be applied.
    LogEntry,
    /// A data object that an entry of the log names: the entry cannot be applied, nor what is behind it.
    LogData,
    /// A segment: its rows cannot be found.
    Segment,
    /// An object that names dead rows: segments of which it is not known which rows are dead are left out.
    Deletions,
    /// A record whose metadata no parser reads: it is kept, and matches no filter.
    Record,
}

impl DamageKind {
    /// Its name in metrics, errors and statistics.
    pub fn name(self) -> &'static str {
        match self {
            DamageKind::Manifest => "manifest",
            DamageKind::LogEntry => "logEntry",
            DamageKind::LogData => "logData",
            DamageKind::Segment => "segment",
            DamageKind::Deletions => "deletions",
            DamageKind::Record => "record",
        }
    }

    /// Whether what is appended behind it could not be read, so that nothing may be acknowledged.
    pub fn stops_log(self) -> bool {
        matches!(self, DamageKind::Manifest | DamageKind::LogEntry | DamageKind::LogData)
    }

    /// Whether it hides records, so that answers are not complete.
    pub fn hides_records(self) -> bool {
        matches!(
            self,
            DamageKind::LogEntry
                | DamageKind::LogData
                | DamageKind::Segment
                | DamageKind::Deletions
        )
    }

    fn remedy(self) -> &'static str {
        match self {
            DamageKind::Manifest => {
                "restore it from a backup or an earlier version of the object, or correct it where it was edited"
            }
            DamageKind::LogEntry | DamageKind::LogData => {
                "restore it from a backup or an earlier version of the object; until then nothing behind it is \
                 shown and writes are refused"
            }
            DamageKind::Segment => {
                "restore it from a backup or an earlier version of the object; until then its records are not \
                 found and the log is not indexed"
            }
            DamageKind::Deletions => {
                "restore it from a backup or an earlier version of the object; until then the segments whose \
                 dead rows it names are left out"
            }
            DamageKind::Record => {
                "its metadata match no filter; write the record again, or delete it by its id"
            }
        }
    }
}

/// One place that is missing or damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What it is.
    pub kind: DamageKind,
    /// The object's key; of a [`DamageKind::Record`] its id.
    pub place: String,
    /// The log position of the entry, or of what wrote the record.
    pub position: Option<Seq>,
    /// What is wrong, for people.
    pub fault: String,
    /// When this instance met it first.
    pub first_seen: Timestamp,
}

impl Damage {
    /// A place of which nobody has told yet.
    pub fn new(
        kind: DamageKind,
        place: impl ToString,
        position: Option<Seq>,
        fault: impl ToString,
    ) -> Damage {
        let (place, fault) = (place.to_string(), fault.to_string());
        Damage { kind, place, position, fault, first_seen: Timestamp::default() }
    }

    /// What is wrong where, and what to do.
    pub fn sentence(&self, collection: &CollectionName) -> String {
        let Damage { kind, place, fault, .. } = self;
        let what = match (kind, self.position) {
            (DamageKind::Record, Some(position)) => {
                format!("record {place:?} of version {position}")
            }
            (DamageKind::Record, None) => format!("record {place:?}"),
            (_, Some(position)) => format!("{place} (log position {position})"),
            (_, None) => place.clone(),
        };
        format!("{what} of collection {collection} is damaged: {fault}; {}", kind.remedy())
    }

    /// The error of a call that cannot do without it.
    pub fn error(&self, collection: &CollectionName) -> Error {
        let code = match self.kind {
            DamageKind::LogEntry | DamageKind::LogData => Code::LogDamaged,
            _ => Code::Corrupt,
        };
        let error = Error::new(code, self.sentence(collection))
            .with("kind", self.kind.name())
            .with(if self.kind == DamageKind::Record { "id" } else { "key" }, &*self.place);
        match self.position {
            Some(position) => error.with("position", position.0),
            None => error,
        }
    }
}

/// A place with what is remembered of it beside what it is.
#[derive(Debug)]
struct Known {
    damage: Damage,
    met: Mark,
    logged: Mark,
}

#[derive(Debug, Default)]
struct Places {
    known: BTreeMap<(DamageKind, String), Known>,
    /// Places met when there was no room for another.
    more: u64,
}

#[derive(Debug)]
struct Inner {
    env: Env,
    collections: Mutex<BTreeMap<CollectionName, Places>>,
}

/// What one instance knows to be damaged, over all collections. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Inner>);

impl Registry {
    /// Nothing is damaged as far as is known.
    pub fn new(env: Env) -> Registry {
        Registry(Arc::new(Inner { env, collections: Mutex::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<CollectionName, Places>> {
        self.0.collections.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What is known of one collection.
    pub fn of(&self, collection: &CollectionName) -> Damaged {
        Damaged { registry: self.clone(), collection: collection.clone() }
    }

    /// A sentence for each place; what is in the way of reads or writes first.
    pub fn sentences(&self) -> Sentences {
        let mut sentences = Sentences::default();
        for (collection, places) in &*self.lock() {
            for Known { damage, .. } in places.known.values() {
                let grave = damage.kind.stops_log() || damage.kind.hides_records();
                let list = if grave { &mut sentences.grave } else { &mut sentences.minor };
                list.push(damage.sentence(collection));
            }
            if places.more > 0 {
                let more = places.more;
                sentences.minor.push(format!(
                    "{more} more damaged places of collection {collection} were met"
                ));
            }
        }
        sentences
    }

    /// A collection that is gone has no damage.
    pub fn forget(&self, collection: &CollectionName) {
        if let Some(places) = self.lock().remove(collection) {
            places.known.keys().for_each(|(kind, _)| self.count(*kind, -1));
        }
    }

    fn count(&self, kind: DamageKind, by: i64) {
        let labels = DamageLabels { kind: kind.name() };
        self.0.env.metrics.damaged.get_or_create(&labels).inc_by(by);
        if by > 0 {
            self.0.env.metrics.damage_found.get_or_create(&labels).inc();
        }
    }
}

/// What [`Registry::sentences`] says.
#[derive(Debug, Default)]
pub struct Sentences {
    /// Of what hides records or stops the log.
    pub grave: Vec<String>,
    /// Of the rest.
    pub minor: Vec<String>,
}

/// What an instance knows to be damaged of one collection. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Damaged {
    registry: Registry,
    collection: CollectionName,
}

impl Damaged {
    /// The collection.
    pub fn collection(&self) -> &CollectionName {
        &self.collection
    }

    /// A place was met that is missing or damaged.
    pub fn report(&self, damage: Damage) {
        let Inner { env, .. } = &*self.registry.0;
        let (now, met) = (env.clock.now(), env.clock.mark());
        let mut collections = self.registry.lock();
        let places = collections.entry(self.collection.clone()).or_default();
        let name = (damage.kind, damage.place.clone());
        if let Some(known) = places.known.get_mut(&name) {
            known.met = met;
            if env.clock.since(known.logged) >= LOG_EVERY {
                known.logged = met;
                tracing::error!("{}", known.damage.sentence(&self.collection));
            }
            return;
        }
        if places.known.len() >= PLACES_MAX {
            places.more += 1;
            return;
        }
        tracing::error!("{}", damage.sentence(&self.collection));
        self.registry.count(damage.kind, 1);
        let damage = Damage { first_seen: now, ..damage };
        places.known.insert(name, Known { damage, met, logged: met });
    }

    /// A place was read that may have been damaged before.
    pub fn mended(&self, kind: DamageKind, place: &str) {
        self.retain(|damage| !(damage.kind == kind && damage.place == place));
    }

    /// The log was read up to `version`, or is in segments up to there.
    pub fn log_is_read_to(&self, version: Seq) {
        self.retain(|damage| {
            let of_log = matches!(damage.kind, DamageKind::LogEntry | DamageKind::LogData);
            !of_log || damage.position.is_none_or(|position| position > version)
        });
    }

    /// Drops everything that `is_damaged` says is well again.
    pub fn retain(&self, is_damaged: impl Fn(&Damage) -> bool) {
        let mut collections = self.registry.lock();
        let Some(places) = collections.get_mut(&self.collection) else { return };
        places.known.retain(|(kind, place), known| {
            let stays = is_damaged(&known.damage);
            if !stays {
                self.registry.count(*kind, -1);
                tracing::info!(collection = %self.collection, place, "can be read again");
            }
            stays
        });
        if places.known.is_empty() {
            collections.remove(&self.collection);
        }
    }

    /// Everything that is known, by kind and place.
    pub fn list(&self) -> Vec<Damage> {
        let collections = self.registry.lock();
        let places = collections.get(&self.collection);
        places.map_or_else(Vec::new, |places| {
            places.known.values().map(|known| known.damage.clone()).collect()
        })
    }

    /// Places that are not in the list for want of room.
    pub fn more(&self) -> u64 {
        self.registry.lock().get(&self.collection).map_or(0, |places| places.more)
    }

    /// The damage at a place, where it was met less than `within` ago.
    pub fn met(&self, kind: DamageKind, place: &str, within: Duration) -> Option<Damage> {
        let collections = self.registry.lock();
        let known = collections.get(&self.collection)?.known.get(&(kind, place.to_owned()))?;
        let age = self.registry.0.env.clock.since(known.met);
        (age < within).then(|| known.damage.clone())
    }

    /// What nothing behind can be read of, if anything is, and how long ago it was met.
    pub fn log_fault(&self) -> Option<(Damage, Duration)> {
        let collections = self.registry.lock();
        let known = collections.get(&self.collection)?.known.values();
        let first = known
            .filter(|known| known.damage.kind.stops_log())
            .min_by_key(|known| known.damage.position)?;
        Some((first.damage.clone(), self.registry.0.env.clock.since(first.met)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::VirtualClock;

    fn registry() -> (Registry, Damaged) {
        let clock = Arc::new(VirtualClock::starting_at(Timestamp(1_768_473_000_000)));
        let registry = Registry::new(Env::deterministic(1, clock));
        let things = registry.of(&CollectionName::new("things").unwrap());
        (registry, things)
    }

    fn found(registry: &Registry, kind: DamageKind) -> (i64, u64) {
        let labels = DamageLabels { kind: kind.name() };
        let metrics = &registry.0.env.metrics;
        (
            metrics.damaged.get_or_create(&labels).get(),
            metrics.damage_found.get_or_create(&labels).get(),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_listed_once_and_taken_back_when_it_can_be_read() {
        let (registry, things) = registry();
        let entry = Damage::new(DamageKind::LogEntry, "wal/7", Some(Seq(7)), "it is missing");
        for _ in 0..3 {
            things.report(entry.clone());
        }
        assert_eq!(things.list().len(), 1);
        assert_eq!(found(&registry, DamageKind::LogEntry), (1, 1));
        let (damage, _) = things.log_fault().unwrap();
        let error = damage.error(things.collection());
        assert_eq!((error.code(), &error.details()["position"]), (Code::LogDamaged, &7.into()));
        assert_eq!(registry.sentences().grave.len(), 1);
        things.log_is_read_to(Seq(6));
        assert!(things.log_fault().is_some());
        things.log_is_read_to(Seq(7));
        assert!(things.log_fault().is_none() && things.list().is_empty());
        assert_eq!(found(&registry, DamageKind::LogEntry), (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_bounded_and_the_others_counted() {
        let (registry, things) = registry();
        for n in 0..PLACES_MAX + 5 {
            things.report(Damage::new(DamageKind::Record, n, None, "no JSON"));
        }
        assert_eq!((things.list().len(), things.more()), (PLACES_MAX, 5));
        assert!(things.log_fault().is_none(), "a bad record stops nobody");
        assert_eq!(registry.sentences().minor.len(), PLACES_MAX + 1);
        registry.forget(things.collection());
        assert_eq!(found(&registry, DamageKind::Record).0, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_met_lately_is_known_without_another_look() {
        let (_, things) = registry();
        things.report(Damage::new(DamageKind::Segment, "s", None, "it is missing"));
        let within = Duration::from_secs(30);
        assert!(things.met(DamageKind::Segment, "s", within).is_some());
        tokio::time::sleep(within).await;
        assert!(things.met(DamageKind::Segment, "s", within).is_none());
        things.mended(DamageKind::Segment, "s");
        assert!(things.list().is_empty());
    }
}
