//! Where does the log end? An entry that is missing looks like its end.

use super::{Appender, STEPS_MAX, gone};
use crate::base::defect::Defect;
use crate::base::ids::{Seq, Totals};
use crate::base::{Code, Error, Result};
use crate::log::Bounds;
use crate::log::entry::Head;
use crate::log::read::{head_at, header_at, positions_after};
use crate::store::paths;
use std::time::Duration;
use tokio::time::Instant;

/// What is wrong with an entry that is not there.
pub const MISSING: &str = "it is missing, and the log goes on behind it";
/// How often the listing is looked at for entries that are missing, while something is appended.
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// How often a look at the listing is repeated because it differs from what is read.
const CHECKS_MAX: u32 = 8;

/// The last entry that an appender knows of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tail {
    pub(super) seq: Seq,
    pub(super) totals: Totals,
}

/// What to do where entries are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gaps {
    /// Nothing is appended: nobody could read it.
    Refuse,
    /// What is appended comes behind the last entry there is.
    Skip,
}

impl Appender {
    /// Moves the tail to the entry that follows it, or to a later one.
    pub(super) fn advance(&mut self, head: &Head) {
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
    pub(super) async fn check_floor(&mut self, seq: Seq) -> Result<()> {
        if self.env.clock.since(self.bounds.looked) <= self.grace() / 2
            || self.env.defects.has(Defect::SkipFloorCheck)
        {
            return Ok(());
        }
        self.look().await.map_err(unsure)?;
        if seq >= self.bounds.floor {
            return Ok(());
        }
        self.env.metrics.wal_appends_below_floor.inc();
        Err(cannot_tell())
    }

    /// Reads the manifest again and moves to the floor where it has passed our tail.
    pub(super) async fn look(&mut self) -> Result<()> {
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

    /// Looks at the manifest and at the listing where that was long ago.
    pub(super) async fn look_at_times(&mut self) -> Result<()> {
        if self.env.clock.since(self.bounds.looked) > self.grace() / 4 {
            self.look().await?;
        }
        if self.env.clock.since(self.checked) > CHECK_EVERY {
            self.move_past_listed(Gaps::Refuse).await?;
        }
        Ok(())
    }

    /// Moves to the last entry that the store lists, and makes sure that none is missing before it. An entry
    /// that is missing looks like the end of the log, and would be written anew. Nothing of ours may wait
    /// meanwhile: what the entries hold that are passed over is not known.
    pub(super) async fn move_past_listed(&mut self, gaps: Gaps) -> Result<()> {
        if self.env.defects.has(Defect::AppendIntoGap) {
            return Ok(());
        }
        let looked = self.env.clock.mark();
        let last = self.last_listed(gaps).await?;
        // It may have been collected since.
        if last > self.tail.seq
            && let Some(head) = head_at(&self.store, &self.collection, last).await?
        {
            self.arrive(&head)?;
            self.stale = true;
        }
        self.checked = looked;
        Ok(())
    }

    /// Makes sure now and then that no entry is missing before one that is listed.
    pub(super) async fn check_at_times(&mut self) -> Result<()> {
        if self.env.clock.since(self.checked) <= CHECK_EVERY
            || self.env.defects.has(Defect::AppendIntoGap)
        {
            return Ok(());
        }
        let looked = self.env.clock.mark();
        self.last_listed(Gaps::Refuse).await?;
        self.checked = looked;
        Ok(())
    }

    async fn last_listed(&mut self, gaps: Gaps) -> Result<Seq> {
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
                None => return Ok(last),
            }
        }
    }

    /// An entry behind `missing` is there, but not that one. Fails unless it came meanwhile, or was collected.
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

    /// Reads on from the tail; whether the end of the log was reached within `steps` entries. In between
    /// no entry is skipped. As many are asked for at a time as there were the last time, and one more.
    /// One that is missing before another is not the end: see [`Appender::missed`].
    pub(super) async fn follow(&mut self, steps: u64) -> Result<bool> {
        let mut read = 0;
        while read < steps {
            let wanted = self.window.min(steps - read);
            let started = Instant::now();
            let (store, name, tail) =
                (self.store.clone(), self.collection.clone(), self.tail.seq.0);
            let heads = (1..=wanted).map(|step| head_at(&store, &name, Seq(tail + step)));
            let heads = futures::future::join_all(heads).await;
            self.turns.get_took(started.elapsed());
            let mut heads = heads.into_iter();
            while let Some(head) = heads.next() {
                let Some(head) = head? else {
                    if heads.any(|behind| matches!(behind, Ok(Some(_)))) {
                        return self.missed().await;
                    }
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

    /// After an entry was read, but not the one before it. Either that came meanwhile, or it was collected, or
    /// the log is damaged.
    async fn missed(&mut self) -> Result<bool> {
        self.stale = true;
        self.window = 1;
        if !self.env.defects.has(Defect::AppendIntoGap) {
            self.check_gap(self.tail.seq.next(), 1).await?;
        }
        Ok(false)
    }

    /// Moves to the end of the log: one read where nothing was appended, steps that double where
    /// much was. Positions have no gaps, so existence is monotonic and can be searched.
    pub(super) async fn find_tail(&mut self) -> Result<()> {
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
    pub(super) fn arrive(&mut self, head: &Head) -> Result<()> {
        self.advance(head);
        if !head.is_fence() {
            self.turns.met_another();
        }
        let age = self.env.clock.now().0.saturating_sub(head.header.created.0);
        if head.takes_along() && self.turns.is_lately(Duration::from_millis(age)) {
            self.turns.contend();
        }
        if head.header.incarnation > self.bounds.incarnation {
            return Err(gone(&self.collection));
        }
        self.sealed = head.header.seal && head.header.incarnation == self.bounds.incarnation;
        Ok(())
    }
}

/// The error of a write that is in the log, or may come into it, where `error` keeps us from finding out. That the
/// collection has ended says nothing of the write: it may have been part of what was deleted.
pub(super) fn unsure(error: Error) -> Error {
    match error.code() {
        Code::CollectionNotFound => cannot_tell(),
        _ => error.ambiguous(),
    }
}

/// The error of a writer that stood still until nobody knows any more what became of its entry.
pub(super) fn cannot_tell() -> Error {
    Error::unavailable(
        "this instance stood still for so long that it cannot tell whether the write is in the log; \
         read the records back before writing them again",
    )
    .ambiguous()
}

impl Tail {
    pub(super) fn below(bounds: &Bounds) -> Self {
        Tail { seq: bounds.floor.previous(), totals: bounds.base }
    }
}
