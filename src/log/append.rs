//! The writer's side: one [`Appender`] per collection and process takes positions in the log.
//!
//! A writer that meets nobody puts its entry behind the tail that it knows: one request. Once it has met
//! others, either it holds the turn and takes along what they wait with, or it waits with its own
//! (`join.rs`).

mod join;
#[cfg(test)]
mod tests;

use crate::base::defect::Defect;
use crate::base::ids::{CollectionName, Seq, Totals};
use crate::base::{Code, Env, Error, Result};
use crate::log::entry::{Author, Draft, HEADER_BYTES, Head, Header, Part, Submission};
use crate::log::read::head_at;
use crate::log::turns::Turns;
use crate::log::waiting::{Joined, Places};
use crate::log::{Bounds, BoundsSource};
use crate::store::cas::{self, Created};
use crate::store::{DynStore, Precondition, paths};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

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
    /// These parts.
    Parts(Submission, &'a [Part]),
    /// The end of the collection's life.
    Seal(Submission),
    /// Nothing but what others wait with.
    Nothing,
}

/// The last entry that an appender knows of.
#[derive(Debug, Clone, Copy)]
struct Tail {
    seq: Seq,
    totals: Totals,
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
    /// Finds the end of the log, sealed or not. `grace` is the time between the floor's advance and the deletion
    /// of what is below it; all instances must agree on it.
    pub async fn open(
        store: DynStore,
        env: Env,
        collection: CollectionName,
        source: Arc<dyn BoundsSource>,
        grace: Duration,
    ) -> Result<Self> {
        let bounds = source.look().await?;
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
            me,
            submissions: 0,
            turns: Turns::new(me),
            window: 1,
            since_list: 0,
            list_after: APPENDS_BETWEEN_LISTS.0,
            listed: None,
        };
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
    pub async fn append(&mut self, parts: &[Part]) -> Result<Tried> {
        let submission = self.next_submission();
        self.get(Wish::Parts(submission, parts)).await
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
                Ok(Tried::Lost | Tried::Stray) => {}
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
        if self.env.clock.since(self.bounds.looked) > self.grace / 4 {
            self.look().await?;
        }
        let serves = self.turns.is_contended() && self.turns.is_mine();
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
        let (own, joined) = match wish {
            Wish::Parts(submission, parts) => (Some((submission, parts)), self.join(parts.len())),
            Wish::Nothing => (None, self.join(0)),
            Wish::Seal(_) => (None, Joined::default()),
        };
        let groups = joined.groups.iter().map(|(submission, parts)| (*submission, &parts[..]));
        let groups: Vec<(Submission, &[Part])> = own.into_iter().chain(groups).collect();
        if groups.is_empty() && matches!(wish, Wish::Nothing) {
            return Ok(Tried::Lost);
        }
        let next = joined.next.or_else(|| self.turns.hand_over(&joined.groups));
        let author = Author { writer: self.me, next: next.unwrap_or_default() as u32 };
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
                self.env.metrics.wal_appends_ambiguous.inc();
                Err(error)
            }
        }
    }

    /// Moves the tail to the entry that follows it, or to a later one.
    fn advance(&mut self, head: &Head) {
        self.tail = Tail { seq: head.header.seq, totals: head.header.totals };
        self.turns.note(head);
        let held = head.submissions.iter().map(|submission| submission.writer);
        for writer in head.author.map(|author| author.writer).into_iter().chain(held) {
            self.places.meet(writer);
        }
    }

    /// Makes sure that what was seen at `seq` is the log. With a look at the manifest that is
    /// younger than half the grace period it is: the floor was not above `seq` then, and nothing is
    /// deleted sooner than a grace period after the floor passes it.
    ///
    /// A writer that stood still for longer looks again. If the floor has passed its position
    /// meanwhile, its entry may have been read by everyone and collected since, or it may have
    /// been created after the collection, where nobody reads it. Nothing is left to tell the two
    /// apart, so the outcome is ambiguous: to append again could apply the write twice.
    async fn check_floor(&mut self, seq: Seq) -> Result<()> {
        if self.env.clock.since(self.bounds.looked) <= self.grace / 2
            || self.env.defects.has(Defect::SkipFloorCheck)
        {
            return Ok(());
        }
        self.look().await.map_err(Error::ambiguous)?;
        if seq >= self.bounds.floor {
            return Ok(());
        }
        self.env.metrics.wal_appends_below_floor.inc();
        Err(Error::unavailable(
            "this instance stood still for so long that it cannot tell whether the write is in \
             the log; read the records back before writing them again",
        )
        .ambiguous())
    }

    /// Reads the manifest again and moves to the floor where it has passed our tail.
    async fn look(&mut self) -> Result<()> {
        let bounds = self.source.look().await?;
        if bounds.incarnation != self.bounds.incarnation {
            return Err(gone(&self.collection));
        }
        self.bounds = bounds;
        if self.tail.seq.next() < bounds.floor {
            self.tail = Tail::below(&bounds);
            self.turns.forget();
            self.stale = true;
        }
        Ok(())
    }

    /// Reads on from the tail; whether the end of the log was reached within `steps` entries. In between
    /// no entry is skipped. As many are asked for at a time as there were the last time, and one more.
    async fn follow(&mut self, steps: u64) -> Result<bool> {
        let mut read = 0;
        while read < steps {
            let wanted = self.window.min(steps - read);
            let started = Instant::now();
            let (store, name, tail) =
                (self.store.clone(), self.collection.clone(), self.tail.seq.0);
            let heads = (1..=wanted).map(|step| head_at(&store, &name, Seq(tail + step)));
            let heads = futures::future::join_all(heads).await;
            self.turns.get_took(started.elapsed());
            for head in heads {
                let Some(head) = head? else {
                    self.stale = false;
                    self.window = (read + 1).min(STEPS_MAX);
                    return Ok(true);
                };
                self.arrive(&head)?;
                read += 1;
                if self.sealed {
                    return Ok(true);
                }
            }
            self.window = (self.window * 2).min(STEPS_MAX);
        }
        Ok(false)
    }

    /// Moves to the end of the log: one read where nothing was appended, steps that double where
    /// much was. Positions have no gaps, so existence is monotonic and can be searched.
    async fn find_tail(&mut self) -> Result<()> {
        let mut step = 1;
        let mut missing: Option<u64> = None;
        loop {
            let from = self.tail.seq.0;
            let probe = match missing {
                Some(missing) if missing == from + 1 => break,
                Some(missing) => (from + step).min(from + (missing - from) / 2),
                None => from + step,
            };
            match head_at(&self.store, &self.collection, Seq(probe)).await? {
                Some(head) => {
                    step *= 2;
                    self.arrive(&head)?;
                }
                None => missing = Some(probe),
            }
        }
        self.stale = false;
        Ok(())
    }

    /// Takes in an entry at or behind the tail.
    fn arrive(&mut self, head: &Head) -> Result<()> {
        self.advance(head);
        self.turns.met_another();
        if head.header.incarnation > self.bounds.incarnation {
            return Err(gone(&self.collection));
        }
        self.sealed = head.header.seal && head.header.incarnation == self.bounds.incarnation;
        Ok(())
    }
}

impl Tail {
    fn below(bounds: &Bounds) -> Self {
        Tail { seq: bounds.floor.previous(), totals: bounds.base }
    }
}

/// The error for a collection that was deleted under a writer.
pub fn gone(collection: &CollectionName) -> Error {
    Error::new(
        Code::CollectionNotFound,
        format!("collection {collection} does not exist; create it first"),
    )
}
