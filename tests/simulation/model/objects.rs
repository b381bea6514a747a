//! The objects beside a collection's log: since when no manifest has named each, and what is left over.

use brainy::base::ids::{Seq, Ulid};
use brainy::manifest::Manifest;
use brainy::store::Key;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// What is known of objects that come and go.
#[derive(Debug, Default)]
pub struct Objects {
    /// The segments and deletions that are in the store.
    pub vectors: BTreeMap<Ulid, Key>,
    /// When a manifest last named each of those that none names any more.
    unnamed: BTreeMap<Ulid, Instant>,
    /// When the floor passed each position, the newest last.
    floors: Vec<(Instant, Seq)>,
}

impl Objects {
    /// `next` came into force after `last`.
    pub fn manifest(&mut self, last: Option<&Manifest>, next: &Manifest) {
        let now = Instant::now();
        let names = next.names();
        let before = last.map(Manifest::names).unwrap_or_default();
        for id in before.difference(&names) {
            self.unnamed.insert(*id, now);
        }
        self.unnamed.retain(|id, _| !names.contains(id));
        if self.floors.last().is_none_or(|(_, floor)| *floor < next.wal_floor) {
            self.floors.push((now, next.wal_floor));
        }
    }

    /// For how long no manifest has named a segment that one has named before.
    pub fn unnamed_for(&self, id: Ulid) -> Option<Duration> {
        self.unnamed.get(&id).map(Instant::elapsed)
    }

    /// For how long the floor has been above a position.
    pub fn below_floor_for(&self, seq: Seq) -> Option<Duration> {
        let passed = self.floors.iter().find(|(_, floor)| *floor > seq);
        passed.map(|(when, _)| when.elapsed())
    }
}
