//! The writer's side: one [`Appender`] per collection and process takes positions in the log.
//!
//! A writer that meets nobody puts its entry behind the tail that it knows: one request. Once it has met
//! others, either it holds the turn and takes along what they wait with, or it waits with its own
//! (`join.rs`). `tail.rs` is about where the log ends.

mod join;
mod tail;
#[cfg(test)]
mod tests;

use crate::base::clock::Mark;
use crate::base::defect::Defect;
use crate::base::ids::{CollectionName, Seq, Totals};
use crate::base::settings::GC_GRACE_MS_DEFAULT;
use crate::base::{Code, Env, Error, Result};
use crate::log::entry::{Author, Draft, HEADER_BYTES, Head, Header, Part, Submission};
use crate::log::turns::Turns;
use crate::log::waiting::{Joined, Places};
use crate::log::{Bounds, BoundsSource};
use crate::store::cas::{self, Created};
use crate::store::{DynStore, Precondition, paths};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

pub use tail::MISSING;
use tail::{Gaps, Tail};

/// What is relied on, at most, where the manifest does not say: others may be set to it.
const GRACE_DEFAULT: Duration = Duration::from_millis(GC_GRACE_MS_DEFAULT);
/// How often a seal may lose a race before the caller hears of it.
const RACES_MAX: u32 = 1_000;
/// Entries that are read one after the other to find the tail. Past that they are skipped.
const STEPS_MAX: u64 = 8;
/// A writer that meets nobody looks for others that wait after two appends in a row, then after twice as
/// many, up to so many, and not more often than this.
const APPENDS_BETWEEN_LISTS: (u32, u32) = (2, 16);
const LIST_INTERVAL: Duration = Duration::from_millis(100);
const LINGER_OF_CYCLE: u32 = 8;

/// Where an entry went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its position.
    pub seq: Seq,
    /// Totals over the log up to and including it.
    pub totals: Totals,
}

/// How a try to append ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Tried {
    /// The entry is durable and will be read by everyone.
    Appended(Appended),
    /// Somebody else took the position, and no entry of ours exists or ever will.
    Lost,
    /// Somebody else took the position, but an attempt of ours was cut off and may appear there
    /// one day, after the position was collected. Data objects that it names must not be named
    /// again: the collector would delete them with it.
    Stray,
    /// Nothing was tried: data objects are so old that the collector may be about to delete them. They
    /// must be uploaded again under new names.
    Aged,
}

/// How a conditional PUT of an entry ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    /// The entry is there.
    Won,
    /// Somebody else has the position.
    Lost,
    /// Somebody else has the position, and an attempt of ours may still be under way.
    LostAfterCut,
}

/// What one writer wants to have in the log.
#[derive(Debug, Clone, Copy)]
enum Wish<'a> {
    /// These parts; when the first of the data objects among them was uploaded.
    Parts(Submission, &'a [Part], Option<Mark>),
    /// The end of the collection's life.
    Seal(Submission),
    /// Nothing but what others wait with.
    Nothing,
}

/// Appends to one collection's log.
#[derive(Debug)]
pub struct Appender {
    store: DynStore,
    env: Env,
    collection: CollectionName,
    source: Arc<dyn BoundsSource>,
    grace: Duration,
    bounds: Bounds,
    tail: Tail,
    /// Whether somebody may have appended behind our back since the tail was found.
    stale: bool,
    /// Whether the tail is the seal of this life of the collection.
    sealed: bool,
    /// When the listing was last looked at.
    checked: Mark,
    /// The number that this appender is known by to others.
    me: u64,
    /// How many submissions it has made.
    submissions: u64,
    turns: Turns,
    places: Places,
    /// How many entries are asked for at a time when reading on.
    window: u64,
    /// Appends since the places of others were listed, and when that was.
    since_list: u32,
    list_after: u32,
    listed: Option<Instant>,
}

impl Appender {
    /// Finds the end of the log, sealed or not. Where entries are missing that are not in segments yet, that is
    /// `log_damaged`: what is appended behind could not be read. The time between the floor's advance and the
    /// deletion of what is below it stands in the manifest; where it does not, `grace` is what this instance is
    /// set to.
    pub async fn open(
        store: DynStore,
        env: Env,
        collection: CollectionName,
        source: Arc<dyn BoundsSource>,
        grace: Duration,
    ) -> Result<Self> {
        Self::open_with(Gaps::Refuse, store, env, collection, source, grace).await
    }

    /// The same for who ends the log, whatever is missing of it.
    pub async fn open_past_gaps(
        store: DynStore,
        env: Env,
        collection: CollectionName,
        source: Arc<dyn BoundsSource>,
        grace: Duration,
    ) -> Result<Self> {
        Self::open_with(Gaps::Skip, store, env, collection, source, grace).await
    }

    async fn open_with(
        gaps: Gaps,
        store: DynStore,
        env: Env,
        collection: CollectionName,
        source: Arc<dyn BoundsSource>,
        grace: Duration,
    ) -> Result<Self> {
        let bounds = source.look().await?;
        let checked = env.clock.mark();
        let me = env.rng.next_u64();
        let mut appender = Appender {
            places: Places::new(store.clone(), env.clone(), collection.clone(), me),
            store,
            env,
            collection,
            source,
            grace,
            tail: Tail::below(&bounds),
            bounds,
            stale: true,
            sealed: false,
            checked,
            me,
            submissions: 0,
            turns: Turns::new(me),
            window: 1,
            since_list: 0,
            list_after: APPENDS_BETWEEN_LISTS.0,
            listed: None,
        };
        appender.move_past_listed(gaps).await?;
        appender.find_tail().await?;
        // What was there before says nothing about who else appends now.
        appender.turns.forget_others();
        Ok(appender)
    }

    /// Which life of the collection this appender writes to.
    pub fn incarnation(&self) -> u64 {
        self.bounds.incarnation
    }

    /// Where the log was sealed, if it was.
    pub fn sealed(&self) -> Option<Appended> {
        self.sealed.then(|| self.tail())
    }

    /// The last known position and the totals up to it.
    pub fn tail(&self) -> Appended {
        Appended { seq: self.tail.seq, totals: self.tail.totals }
    }

    /// Whether others have appended at the same time lately.
    pub fn is_contended(&self) -> bool {
        self.turns.is_contended()
    }

    /// How long to collect writes before the next append, where several wait at a time and others append
    /// too: those that were answered together come back together.
    pub fn linger(&self) -> Duration {
        if self.turns.is_contended() {
            self.turns.cycle() / LINGER_OF_CYCLE
        } else {
            Duration::ZERO
        }
    }

    /// Tries to append an entry of `parts`, or has them taken along by whoever appends. Where
    /// it did not work, add what has arrived since and try again.
    ///
    /// `uploaded` was taken before the first of the data objects among them was put. They are named only
    /// while that is less than half a grace period ago *after* the position was chosen: whoever has seen
    /// one for a whole grace period appends an entry, and knows that only entries before that name it.
    pub async fn append(&mut self, parts: &[Part], uploaded: Option<Mark>) -> Result<Tried> {
        let submission = self.next_submission();
        self.get(Wish::Parts(submission, parts, uploaded)).await
    }

    /// Appends the entry that ends the collection's life. Every write that was acknowledged is
    /// before it; every later one is told that the collection is gone.
    pub async fn seal(&mut self) -> Result<Appended> {
        for _ in 0..RACES_MAX {
            if let Some(sealed) = self.sealed() {
                return Ok(sealed);
            }
            let submission = self.next_submission();
            match self.get(Wish::Seal(submission)).await {
                Ok(Tried::Appended(sealed)) => {
                    self.leave();
                    return Ok(sealed);
                }
                Ok(Tried::Lost | Tried::Stray | Tried::Aged) => {}
                // Somebody else sealed it in between.
                Err(_) if self.sealed => continue,
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(Code::Overloaded, "too many writers append to this collection; try again")
            .retry_after_ms(1_000))
    }

    fn next_submission(&mut self) -> Submission {
        self.submissions += 1;
        Submission { writer: self.me, number: self.submissions }
    }

    async fn get(&mut self, wish: Wish<'_>) -> Result<Tried> {
        self.look_at_times().await?;
        let serves = self.turns.serves() && self.turns.is_mine();
        let is_known = if serves { self.look_around().await? } else { self.is_alone() };
        if !is_known && !self.follow(STEPS_MAX).await? {
            self.find_tail().await?;
        }
        if self.sealed {
            return Err(gone(&self.collection));
        }
        if self.turns.is_contended() && self.turns.is_anothers() {
            return self.wait_in_turn(wish).await;
        }
        self.try_once(wish).await
    }

    /// Whether the tail is where it was, as far as it has always been lately.
    fn is_alone(&self) -> bool {
        !self.stale && !self.turns.is_contended() && !self.turns.has_met_others()
    }

    /// Tries once to put an entry behind the tail: `wish`, and what others wait with.
    async fn try_once(&mut self, wish: Wish<'_>) -> Result<Tried> {
        // The tail is known by now, and the position with it. What is taken along has no data objects.
        if let Wish::Parts(_, _, Some(uploaded)) = wish
            && self.is_aged(uploaded)
        {
            return Ok(Tried::Aged);
        }
        let (own, joined) = match wish {
            Wish::Parts(submission, parts, _) => {
                (Some((submission, parts)), self.join(parts.len()))
            }
            Wish::Nothing => (None, self.join(0)),
            Wish::Seal(_) => (None, Joined::default()),
        };
        let groups = joined.groups.iter().map(|(submission, parts)| (*submission, &parts[..]));
        let groups: Vec<(Submission, &[Part])> = own.into_iter().chain(groups).collect();
        if groups.is_empty() && matches!(wish, Wish::Nothing) {
            return Ok(Tried::Lost);
        }
        let next = joined.next.or_else(|| self.turns.hand_over(&joined.groups));
        let next = next.unwrap_or_default() as u32;
        let author = Author { writer: self.me, next, serves: self.turns.is_contended() };
        let (id, now) = (author.write_id(self.env.rng.next_u64() as u32), self.env.clock.now());
        let draft = match wish {
            Wish::Seal(_) => Draft::seal(self.bounds.incarnation, id, now),
            _ => Draft::shared(self.bounds.incarnation, id, now, &groups),
        };
        let header = draft.header(self.tail.seq.next(), self.tail.totals);
        let submissions = groups.iter().map(|(submission, _)| *submission).collect();
        let head = Head { header, author: Some(author), submissions };
        let put = self.put_beside_list(&draft, &head).await?;
        if put != Put::Lost {
            self.check_floor(header.seq).await?;
        }
        Ok(match put {
            Put::Won => {
                self.env.metrics.wal_appends.inc();
                Tried::Appended(self.tail())
            }
            Put::Lost => Tried::Lost,
            Put::LostAfterCut => Tried::Stray,
        })
    }

    /// Whether data objects that were put after `uploaded` may not be named any more.
    fn is_aged(&self, uploaded: Mark) -> bool {
        self.env.clock.since(uploaded) > self.grace() / 2
            && !self.env.defects.has(Defect::NameOldBodies)
    }

    fn grace(&self) -> Duration {
        match self.env.defects.has(Defect::OwnGrace) {
            true => self.grace,
            false => self.bounds.grace.unwrap_or(self.grace.min(GRACE_DEFAULT)),
        }
    }

    /// Puts the entry, and now and then looks meanwhile whether there is somebody who waits: a writer that
    /// appends without a pause would win against all others for ever.
    async fn put_beside_list(&mut self, draft: &Draft, head: &Head) -> Result<Put> {
        self.since_list += 1;
        let recently = |listed: Instant| listed.elapsed() < LIST_INTERVAL;
        if self.since_list < self.list_after
            || self.listed.is_some_and(recently)
            || self.env.defects.has(Defect::HogTheLog)
        {
            return self.put(draft, head).await;
        }
        (self.since_list, self.listed) = (0, Some(Instant::now()));
        self.list_after = (self.list_after * 2).min(APPENDS_BETWEEN_LISTS.1);
        let list = self.places.list();
        let (put, listed) = futures::join!(self.put(draft, head), list);
        // Whoever waits tries by itself in the end.
        if self.places.take_in(listed.unwrap_or_default()) {
            self.turns.contend();
        }
        put
    }

    /// One conditional PUT at the position after the tail, until its outcome is known.
    async fn put(&mut self, draft: &Draft, head: &Head) -> Result<Put> {
        let header = &head.header;
        let key = paths::wal_entry(&self.collection, header.seq);
        let body = draft.encode(header);
        if self.env.defects.has(Defect::AckBeforePut) {
            let store = self.store.clone();
            let put = async move { store.put_if(&key, body, Precondition::Absent).await };
            drop(self.env.tasks.spawn("defect", put));
            self.advance(head);
            return Ok(Put::Won);
        }
        let started = Instant::now();
        let ours = |bytes: &[u8]| {
            Header::decode(bytes).is_ok_and(|found| found.write_id == draft.write_id())
        };
        // Until the outcome is known, the entry may be there or appear.
        self.stale = true;
        let created = cas::create(&*self.store, &self.env, &key, body, HEADER_BYTES as u64, ours);
        match created.await {
            Ok(Created::Won) => {
                self.advance(head);
                self.stale = false;
                self.turns.put_took(started.elapsed());
                self.turns.won();
                Ok(Put::Won)
            }
            Ok(Created::Lost { lingering, .. }) => {
                self.env.metrics.wal_appends_lost.inc();
                self.turns.put_took(started.elapsed());
                self.turns.lost();
                Ok(if lingering { Put::LostAfterCut } else { Put::Lost })
            }
            Err(error) => {
                if error.is_ambiguous() {
                    self.env.metrics.wal_appends_ambiguous.inc();
                }
                Err(error)
            }
        }
    }
}

/// The error for a collection that was deleted under a writer.
pub fn gone(collection: &CollectionName) -> Error {
    Error::new(
        Code::CollectionNotFound,
        format!("collection {collection} does not exist; create it first"),
    )
}
