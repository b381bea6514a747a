//! The writer's side: one [`Appender`] per collection and process takes positions in the log.

use crate::base::clock::Mark;
use crate::base::defect::Defect;
use crate::base::ids::{CollectionName, Seq, Totals, WriteId};
use crate::base::settings::GC_GRACE_MS_DEFAULT;
use crate::base::{Code, Env, Error, Result};
use crate::log::entry::{Draft, HEADER_BYTES, Header, Part};
use crate::log::pace::Pace;
use crate::log::read::{header_at, positions_after};
use crate::log::{Bounds, BoundsSource};
use crate::store::cas::{self, Created};
use crate::store::{DynStore, Precondition, paths};
use std::sync::Arc;
use std::time::Duration;

/// What is wrong with an entry that is not there.
pub const MISSING: &str = "it is missing, and the log goes on behind it";
/// How often the listing is looked at for entries that are missing, while something is appended.
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// How often a look at the listing is repeated because it differs from what is read.
const CHECKS_MAX: u32 = 8;
/// What is relied on, at most, where the manifest does not say: others may be set to it.
const GRACE_DEFAULT: Duration = Duration::from_millis(GC_GRACE_MS_DEFAULT);
/// How often a seal may lose a race before the caller hears of it.
const RACES_MAX: u32 = 1_000;

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
    /// When the listing was last looked at.
    checked: Mark,
    pace: Pace,
}

/// What to do where entries are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gaps {
    /// Nothing is appended: nobody could read it.
    Refuse,
    /// What is appended comes behind the last entry there is.
    Skip,
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
        let mut appender = Appender {
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
            pace: Pace::default(),
        };
        appender.check_listing(gaps).await?;
        appender.find_tail().await?;
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

    /// How long to collect writes before the next append, where others are appending too.
    pub fn pause(&self) -> Option<Duration> {
        self.pace.is_contended().then(|| self.pace.next(&*self.env.rng))
    }

    /// Tries once to append an entry of `parts`. Where it did not work, add what has arrived since
    /// and try again after [`Appender::pause`].
    ///
    /// `uploaded` was taken before the first of the data objects among them was put. They are named only
    /// while that is less than half a grace period ago *after* the position was chosen: whoever has seen
    /// one for a whole grace period appends an entry, and knows that only entries before that name it.
    pub async fn append(&mut self, parts: &[Part], uploaded: Option<Mark>) -> Result<Tried> {
        let (id, now) = (WriteId::random(&*self.env.rng), self.env.clock.now());
        let draft = Draft::data(self.bounds.incarnation, id, now, parts);
        self.append_once(&draft, uploaded).await
    }

    /// Appends the entry that ends the collection's life. Every write that was acknowledged is
    /// before it; every later one is told that the collection is gone.
    pub async fn seal(&mut self) -> Result<Appended> {
        for _ in 0..RACES_MAX {
            if let Some(sealed) = self.sealed() {
                return Ok(sealed);
            }
            let (id, now) = (WriteId::random(&*self.env.rng), self.env.clock.now());
            let draft = Draft::seal(self.bounds.incarnation, id, now);
            match self.append_once(&draft, None).await {
                Ok(Tried::Appended(sealed)) => return Ok(sealed),
                Ok(Tried::Lost | Tried::Stray | Tried::Aged) => {}
                // Somebody else sealed it in between.
                Err(_) if self.sealed => continue,
                Err(error) => return Err(error),
            }
            tokio::time::sleep(self.pause().unwrap_or_default()).await;
        }
        Err(Error::new(Code::Overloaded, "too many writers append to this collection; try again")
            .retry_after_ms(1_000))
    }

    async fn append_once(&mut self, draft: &Draft, uploaded: Option<Mark>) -> Result<Tried> {
        if self.env.clock.since(self.bounds.looked) > self.grace() / 4 {
            self.look().await?;
        }
        if self.env.clock.since(self.checked) > CHECK_EVERY {
            self.check_listing(Gaps::Refuse).await?;
        }
        if self.stale || self.pace.is_contended() {
            self.find_tail().await?;
        }
        if self.sealed {
            return Err(gone(&self.collection));
        }
        // The tail is known by now, and the position with it.
        if uploaded.is_some_and(|uploaded| self.is_aged(uploaded)) {
            return Ok(Tried::Aged);
        }
        let header = draft.header(self.tail.seq.next(), self.tail.totals);
        let put = self.put(draft, &header).await?;
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

    /// One conditional PUT at the position after the tail, until its outcome is known.
    async fn put(&mut self, draft: &Draft, header: &Header) -> Result<Put> {
        let key = paths::wal_entry(&self.collection, header.seq);
        let body = draft.encode(header);
        if self.env.defects.has(Defect::AckBeforePut) {
            let store = self.store.clone();
            let put = async move { store.put_if(&key, body, Precondition::Absent).await };
            drop(self.env.tasks.spawn("defect", put));
            self.tail = Tail::of(header);
            return Ok(Put::Won);
        }
        let started = self.env.clock.mark();
        let ours = |bytes: &[u8]| {
            Header::decode(bytes).is_ok_and(|found| found.write_id == draft.write_id())
        };
        // Until the outcome is known, the entry may be there or appear.
        self.stale = true;
        let created = cas::create(&*self.store, &self.env, &key, body, HEADER_BYTES as u64, ours);
        match created.await {
            Ok(Created::Won) => {
                self.tail = Tail::of(header);
                self.stale = false;
                self.pace.won();
                Ok(Put::Won)
            }
            Ok(Created::Lost { lingering, .. }) => {
                self.env.metrics.wal_appends_lost.inc();
                self.pace.lost(self.env.clock.since(started));
                Ok(if lingering { Put::LostAfterCut } else { Put::Lost })
            }
            Err(error) => {
                self.env.metrics.wal_appends_ambiguous.inc();
                Err(error)
            }
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
        if self.env.clock.since(self.bounds.looked) <= self.grace() / 2
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

    fn grace(&self) -> Duration {
        match self.env.defects.has(Defect::OwnGrace) {
            true => self.grace,
            false => self.bounds.grace.unwrap_or(self.grace.min(GRACE_DEFAULT)),
        }
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
            self.stale = true;
        }
        Ok(())
    }

    /// Moves to the last entry that the store lists, and makes sure that none is missing before it. An entry
    /// that is missing looks like the end of the log, and would be written anew.
    async fn check_listing(&mut self, gaps: Gaps) -> Result<()> {
        if self.env.defects.has(Defect::AppendIntoGap) {
            return Ok(());
        }
        let looked = self.env.clock.mark();
        let mut last = self.tail.seq.max(self.bounds.indexed);
        let mut checks = 0;
        loop {
            let (listed, more) = positions_after(&self.store, &self.collection, last).await?;
            let mut gap = None;
            for seq in listed {
                if seq != last.next() && gaps == Gaps::Refuse {
                    gap = Some(last.next());
                    break;
                }
                last = seq;
            }
            match gap {
                Some(missing) => {
                    checks += 1;
                    self.check_gap(missing, checks).await?;
                    last = last.max(self.bounds.floor.previous());
                }
                None if more => {}
                None => break,
            }
        }
        // It may have been collected since.
        if last > self.tail.seq
            && let Some(header) = header_at(&self.store, &self.collection, last).await?
        {
            self.tail = Tail::of(&header);
            self.stale = true;
            self.sealed = header.seal && header.incarnation == self.bounds.incarnation;
        }
        self.checked = looked;
        Ok(())
    }

    /// An entry behind `missing` was listed, but not that one. Fails unless it came meanwhile, or was collected.
    async fn check_gap(&mut self, missing: Seq, checks: u32) -> Result<()> {
        let found = header_at(&self.store, &self.collection, missing).await;
        // One that cannot be read is there all the same; who reads the log tells of it.
        let is_there = match found {
            Ok(found) => found.is_some(),
            Err(error) if error.code() == Code::Corrupt => true,
            Err(error) => return Err(error),
        };
        self.look().await?;
        if (is_there || missing < self.bounds.floor) && checks < CHECKS_MAX {
            return Ok(());
        }
        let key = paths::wal_entry(&self.collection, missing);
        Err(Error::new(Code::LogDamaged, MISSING)
            .with("key", key.as_str())
            .with("position", missing.0))
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
            match header_at(&self.store, &self.collection, Seq(probe)).await? {
                Some(header) => {
                    self.tail = Tail::of(&header);
                    step *= 2;
                    if header.incarnation > self.bounds.incarnation {
                        return Err(gone(&self.collection));
                    }
                    self.sealed = header.seal && header.incarnation == self.bounds.incarnation;
                }
                None => missing = Some(probe),
            }
        }
        self.stale = false;
        Ok(())
    }
}

impl Tail {
    fn of(header: &Header) -> Self {
        Tail { seq: header.seq, totals: header.totals }
    }

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
