//! What other writers wait with, for the holder of the turn to take along.
//!
//! Each writer has one object, `wal/waiting/<writer>.bin`, which it alone writes: a log entry whose
//! position is the last one that its writer knew, and whose write id is the submission. Its parts are
//! copied into the next entry. Without parts it asks for a turn of its own: parts that are data objects
//! are never taken along, because whoever appends for others may leave a stray attempt, and a
//! data object must not be named twice.
//!
//! A submission is in at most one entry: whoever appends it at position p has seen the heads of all
//! entries after its base and before p, and none had it. Past [`WINDOW`] positions nobody appends it
//! any more, so its writer knows then that it is in none.

use crate::base::clock::Timestamp;
use crate::base::defect::Defect;
use crate::base::ids::{CollectionName, Seq};
use crate::base::{Env, Result};
use crate::log::entry::{Draft, Entry, HEADER_BYTES, Header, PARTS_MAX, Part, Submission};
use crate::log::turns::{Turns, WINDOW};
use crate::store::{ByteRange, DynStore, Etag, Fetched, GetOptions, Listed, paths};
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use std::collections::BTreeMap;
use std::time::Duration;

/// The most bytes and parts of one submission that is taken along.
pub const JOIN_BYTES_MAX: u64 = 512 << 10;
const JOIN_PARTS_MAX: usize = 1_024;
/// The most bytes that one entry takes along.
const JOINED_BYTES_MAX: u64 = 4 << 20;
/// A submission that is older or newer than this by the clocks of its writer and the holder is not
/// taken along: its client has long been told that nobody knows what became of it.
const AGE_MAX_MS: u64 = 30_000;
/// How many writers are looked at, and how often in vain.
const WRITERS_MAX: usize = 256;
const LOOKS_MAX: u32 = 256;
/// Keys listed at a time by the collector.
const LIST_PAGE: usize = 1_000;
/// How many of them at a time.
const AT_A_TIME: usize = 32;

/// Whether `parts` may wait for somebody else to append them.
pub fn may_join(parts: &[Part]) -> bool {
    let inline = parts.iter().all(|part| matches!(part, Part::Inline { .. }));
    let bytes: u64 = parts.iter().map(Part::length).sum();
    inline && parts.len() <= JOIN_PARTS_MAX && bytes <= JOIN_BYTES_MAX
}

/// What [`remove_old`] found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    /// Objects that it deleted.
    pub deleted: u64,
    /// Whether others are left, which are younger.
    pub others: bool,
}

/// Deletes what writers that are gone have left, and what is older than `age` by the clocks of both sides:
/// its client has long been answered. Should it be deleted under a writer that has just come back to it,
/// that one loses patience and appends by itself.
pub async fn remove_old(
    store: &DynStore,
    collection: &CollectionName,
    now: Timestamp,
    age: Duration,
) -> Result<Left> {
    let age = (age.as_millis() as u64).max(AGE_MAX_MS);
    let listing = store.list(&paths::wal_waiting_all(collection), None, LIST_PAGE).await?;
    let mut left = Left { deleted: 0, others: listing.more };
    for object in listing.objects {
        let range = Some(ByteRange::Bounded(0..HEADER_BYTES as u64));
        let found = store.get(&object.key, GetOptions { range, if_none_match: None }).await?;
        let Fetched::Found(found) = found else {
            continue;
        };
        // What cannot be read is not taken along either.
        if Header::decode(&found.bytes)
            .map_or(true, |header| header.created.0.abs_diff(now.0) > age)
        {
            store.delete(&object.key).await?;
            left.deleted += 1;
        } else {
            left.others = true;
        }
    }
    Ok(left)
}

/// What one writer waits with.
#[derive(Debug, Clone)]
struct Waiting {
    submission: Submission,
    incarnation: u64,
    base: Seq,
    created: Timestamp,
    parts: Vec<Part>,
}

impl Waiting {
    fn decode(writer: u64, bytes: &Bytes) -> Option<Self> {
        let Entry { header, parts } = Entry::decode(bytes).ok()?;
        let submission = Submission::waiting_in(header.write_id);
        let fits = submission.writer == writer && !header.seal && may_join(&parts);
        fits.then_some(Waiting {
            submission,
            incarnation: header.incarnation,
            base: header.seq,
            created: header.created,
            parts,
        })
    }

    fn bytes(&self) -> u64 {
        self.parts.iter().map(Part::length).sum()
    }
}

/// One writer's place.
#[derive(Debug, Default)]
struct Place {
    /// The content that was read last.
    etag: Option<Etag>,
    /// What the last listing called it.
    listed: Option<Etag>,
    waiting: Option<Waiting>,
    /// How often it was looked at since it changed.
    looks: u32,
}

/// What goes into the next entry beside the holder's own.
#[derive(Debug, Default)]
pub struct Joined {
    /// Submissions with their parts.
    pub groups: Vec<(Submission, Vec<Part>)>,
    /// The writer that asked for a turn of its own and has it next.
    pub next: Option<u64>,
}

/// The places of all writers that are known.
#[derive(Debug)]
pub struct Places {
    store: DynStore,
    env: Env,
    collection: CollectionName,
    me: u64,
    others: BTreeMap<u64, Place>,
    /// Whether this writer has an object of its own.
    posted: bool,
}

impl Places {
    /// Those of a collection; none is known yet.
    pub fn new(store: DynStore, env: Env, collection: CollectionName, me: u64) -> Self {
        Places { store, env, collection, me, others: BTreeMap::new(), posted: false }
    }

    /// Whether this writer has left something there.
    pub fn has_posted(&self) -> bool {
        self.posted
    }

    /// Asks whoever appends after `base` to take `parts` along, or for a turn.
    pub async fn post(
        &mut self,
        incarnation: u64,
        submission: Submission,
        base: Seq,
        parts: &[Part],
    ) -> Result<()> {
        let now = self.env.clock.now();
        let draft = Draft::data(incarnation, submission.write_id(), now, parts);
        let body = draft.encode(&draft.header(base, Default::default()));
        self.posted = true;
        let key = paths::wal_waiting(&self.collection, self.me);
        self.store.put(&key, body).await.map(drop)
    }

    /// Removes this writer's object, beside other work.
    pub fn leave(&mut self) -> impl Future<Output = Result<()>> + Send + 'static {
        self.posted = false;
        let (store, key) = (self.store.clone(), paths::wal_waiting(&self.collection, self.me));
        async move { store.delete(&key).await }
    }

    /// Makes a writer known that has appended something just now or had it appended: it may soon wait again.
    pub fn meet(&mut self, writer: u64) {
        if let Some(place) = self.others.get_mut(&writer) {
            place.looks = 0;
        } else if writer != self.me && self.others.len() < WRITERS_MAX {
            self.others.entry(writer).or_default();
        }
    }

    /// Lists the places, beside other work.
    pub fn list(&self) -> impl Future<Output = Result<Vec<Listed>>> + Send + 'static {
        let (store, prefix) = (self.store.clone(), paths::wal_waiting_all(&self.collection));
        async move { Ok(store.list(&prefix, None, WRITERS_MAX).await?.objects) }
    }

    /// Takes in a listing; whether a place has changed since the one before.
    pub fn take_in(&mut self, listed: Vec<Listed>) -> bool {
        let mut changed = false;
        for object in listed {
            let Some(writer) = paths::parse_wal_waiting(&object.key) else {
                continue;
            };
            self.meet(writer);
            if let Some(place) = self.others.get_mut(&writer)
                && (place.listed.is_none() || place.listed != object.etag)
            {
                (place.listed, place.looks, changed) = (object.etag, 0, true);
            }
        }
        changed
    }

    /// Reads the places of all that are known and may have something.
    pub async fn look(&mut self) {
        let places = self.others.iter().filter(|(_, place)| place.looks < LOOKS_MAX);
        let wanted: Vec<(u64, Option<Etag>)> =
            places.map(|(writer, place)| (*writer, place.etag.clone())).collect();
        let (store, collection) = (&self.store, &self.collection);
        let found: Vec<_> = stream::iter(wanted)
            .map(|(writer, if_none_match)| async move {
                let key = paths::wal_waiting(collection, writer);
                (writer, store.get(&key, GetOptions { range: None, if_none_match }).await)
            })
            .buffered(AT_A_TIME)
            .collect()
            .await;
        for (writer, fetched) in found {
            let place = self.others.entry(writer).or_default();
            place.looks += 1;
            match fetched {
                Ok(Fetched::Found(object)) => {
                    place.waiting = Waiting::decode(writer, &object.bytes);
                    (place.etag, place.looks) = (Some(object.etag), 0);
                }
                Ok(Fetched::Unmodified) => {}
                Ok(Fetched::Missing) => (place.etag, place.waiting) = (None, None),
                // It stays for the next entry.
                Err(error) => {
                    place.waiting = None;
                    tracing::debug!(%error, "could not read what a writer waits with");
                }
            }
        }
    }

    /// The lowest base of what may be taken along after `tail`.
    pub fn lowest_base(&self, incarnation: u64, tail: Seq) -> Option<Seq> {
        self.current(incarnation, tail).map(|waiting| waiting.base).min()
    }

    fn current(&self, incarnation: u64, tail: Seq) -> impl Iterator<Item = &Waiting> {
        let now = self.env.clock.now().0;
        self.others.values().filter_map(|place| place.waiting.as_ref()).filter(move |waiting| {
            waiting.incarnation == incarnation
                && waiting.base <= tail
                && tail.0 < waiting.base.0 + WINDOW
                && waiting.created.0.abs_diff(now) <= AGE_MAX_MS
        })
    }

    /// What goes into the entry after `tail`, beside `own` parts.
    pub fn join(&self, incarnation: u64, tail: Seq, turns: &Turns, own: usize) -> Joined {
        let known = |waiting: &&Waiting| {
            waiting.base == tail
                || turns.known_from().is_some_and(|first| first.0 <= waiting.base.0 + 1)
        };
        let mut waiting: Vec<&Waiting> = self.current(incarnation, tail).filter(known).collect();
        waiting.sort_by_key(|waiting| turns.in_turn(waiting.submission.writer));
        let mut joined = Joined::default();
        let (mut parts, mut bytes) = (own, 0);
        for waiting in waiting {
            let submission = waiting.submission;
            if waiting.parts.is_empty() {
                if joined.next.is_none() && !turns.had_turn_after(waiting.base, submission.writer) {
                    joined.next = Some(submission.writer);
                }
                continue;
            }
            let fits = parts + waiting.parts.len() <= PARTS_MAX
                && bytes + waiting.bytes() <= JOINED_BYTES_MAX;
            let again = self.env.defects.has(Defect::JoinTwice);
            if fits && (again || turns.find(submission).is_none()) {
                parts += waiting.parts.len();
                bytes += waiting.bytes();
                joined.groups.push((submission, waiting.parts.clone()));
            }
        }
        joined
    }
}
