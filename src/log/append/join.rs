//! What an appender does while others append too: it takes along what they wait with, or waits itself.

use super::tail::{cannot_tell, unsure};
use super::{Appended, Appender, Tried, Wish, gone};
use crate::base::Result;
use crate::base::defect::Defect;
use crate::base::ids::Seq;
use crate::log::entry::{PARTS_MAX, Part, Submission};
use crate::log::read::head_at;
use crate::log::turns::WINDOW;
use crate::log::waiting::{Joined, may_join};
use crate::store::paths;
use std::time::Duration;
use tokio::time::Instant;

/// How many patiences one that waits gives a holder that appends and never takes it along: one of an
/// older build.
const PATIENCES_MAX: u32 = 3;
/// Of the PUT's time, after how much one that waits looks for the first time; and of a cycle, how
/// often then.
const FIRST_LOOK: f64 = 0.6;
const LOOKS_PER_CYCLE: u32 = 4;
const LOOK_MIN: Duration = Duration::from_micros(500);
/// How long an object of our own stays after it was last needed.
const STAY: Duration = Duration::from_secs(2);

impl Appender {
    /// What others wait with and may go into the next entry beside `own` parts. Call
    /// [`Appender::look_around`] before.
    pub(super) fn join(&mut self, own: usize) -> Joined {
        if !self.turns.serves() || self.env.defects.has(Defect::HogTheLog) {
            return Joined::default();
        }
        let (incarnation, tail) = (self.bounds.incarnation, self.tail.seq);
        let joined = self.places.join(incarnation, tail, &self.turns, own.min(PARTS_MAX));
        if !joined.groups.is_empty() || joined.next.is_some() {
            self.turns.contend();
        }
        joined
    }

    /// Reads what others wait with, and whether somebody has appended; whether the tail is where it was.
    pub(super) async fn look_around(&mut self) -> Result<bool> {
        let tail = self.tail.seq;
        let (store, collection) = (self.store.clone(), self.collection.clone());
        let started = Instant::now();
        let (next, ()) =
            futures::join!(head_at(&store, &collection, tail.next()), self.places.look());
        self.turns.get_took(started.elapsed());
        match next? {
            Some(head) => {
                self.arrive(&head)?;
                self.stale = true;
                return Ok(false);
            }
            None => self.stale = false,
        }
        self.know_back_to(self.places.lowest_base(self.bounds.incarnation, tail)).await?;
        Ok(true)
    }

    /// Reads the heads of entries between `base` and those that are known. One that cannot be had
    /// leaves a gap, and what needs to know what is before it is not taken along.
    async fn know_back_to(&mut self, base: Option<Seq>) -> Result<()> {
        let first = self.turns.known_from().unwrap_or(self.tail.seq.next());
        let Some(base) = base.filter(|base| base.next() < first) else {
            return Ok(());
        };
        for seq in (base.0 + 1..first.0).rev() {
            match head_at(&self.store, &self.collection, Seq(seq)).await? {
                Some(head) => self.turns.note_before(&head),
                None => break,
            }
        }
        Ok(())
    }

    /// Waits with `wish` until whoever appends has taken it along, or until it is our turn.
    pub(super) async fn wait_in_turn(&mut self, wish: Wish<'_>) -> Result<Tried> {
        let (submission, parts) = match wish {
            Wish::Parts(submission, parts, _) if may_join(parts) => (submission, parts),
            Wish::Parts(submission, ..) | Wish::Seal(submission) => (submission, &[][..]),
            Wish::Nothing => return Ok(Tried::Lost),
        };
        match self.wait(wish, submission, parts).await {
            // Whoever has seen it may still append it, except behind a seal.
            Err(error) if !parts.is_empty() && !self.sealed => Err(unsure(error)),
            ended => ended,
        }
    }

    async fn wait(
        &mut self,
        wish: Wish<'_>,
        submission: Submission,
        parts: &[Part],
    ) -> Result<Tried> {
        let base = self.tail.seq;
        let started = Instant::now();
        self.places.post(self.bounds.incarnation, submission, base, parts).await?;
        self.turns.put_took(started.elapsed());
        let begun = Instant::now();
        let mut deadline = begun + self.turns.patience();
        let last = begun + self.turns.patience() * PATIENCES_MAX;
        let mut pause = started.elapsed().mul_f64(FIRST_LOOK);
        loop {
            tokio::time::sleep_until((Instant::now() + pause).min(deadline)).await;
            pause = (self.turns.cycle() / LOOKS_PER_CYCLE).max(LOOK_MIN);
            let before = self.tail.seq;
            self.look_again().await?;
            let at_end = self.follow(1).await?;
            if let Some((seq, totals)) = self.turns.find(submission) {
                self.was_taken_along(seq, base).await?;
                return Ok(Tried::Appended(Appended { seq, totals }));
            }
            if self.sealed {
                return Err(gone(&self.collection));
            }
            if !self.knows_all_after(base) {
                return Err(cannot_tell());
            }
            if self.tail.seq.0 >= base.0 + WINDOW {
                // Nobody appends it any more.
                return Ok(Tried::Lost);
            }
            if !at_end {
                pause = Duration::ZERO;
                continue;
            }
            if self.tail.seq > before {
                deadline = (Instant::now() + self.turns.patience()).min(last);
            }
            let is_mine = self.turns.is_mine();
            if self.turns.is_anothers() && Instant::now() < deadline {
                continue;
            }
            let tail = self.tail.seq;
            match self.look_around_and_try(wish).await? {
                Tried::Lost => {}
                Tried::Stray if !parts.is_empty() => {}
                ended => {
                    self.turns.took_over(true);
                    return Ok(ended);
                }
            }
            // Where the tail has only moved, nobody was overtaken.
            if self.tail.seq == tail {
                self.turns.took_over(is_mine);
            }
            self.turns.contend();
            deadline = Instant::now() + self.turns.patience();
            pause = Duration::ZERO;
        }
    }

    async fn look_around_and_try(&mut self, wish: Wish<'_>) -> Result<Tried> {
        // Nobody was met yet where the holder died before it appended.
        let listed = self.places.list().await.unwrap_or_default();
        self.places.take_in(listed);
        if !self.look_around().await? {
            return Ok(Tried::Lost);
        }
        self.try_once(wish).await
    }

    /// Looks at the manifest and the listing where that was long ago, and stays where it is: whoever waits
    /// reads every entry.
    async fn look_again(&mut self) -> Result<()> {
        if self.env.clock.since(self.bounds.looked) > self.grace() / 4 {
            self.look().await?;
        }
        self.check_at_times().await
    }

    /// Whether every entry after `base` was read: not so where the floor has passed the tail.
    fn knows_all_after(&self, base: Seq) -> bool {
        let first = self.turns.known_from();
        self.tail.seq == base || first.is_some_and(|first| first <= base.next())
    }

    /// After our submission was found in the entry at `seq`, which is not yet certain to stay where a
    /// store shows an object before it is durable.
    async fn was_taken_along(&mut self, seq: Seq, base: Seq) -> Result<()> {
        self.store.settle(&paths::wal_entry(&self.collection, seq)).await?;
        self.check_floor(seq).await?;
        self.env.metrics.wal_joined.inc();
        self.turns.served();
        // Alone with the holder's patience, it could as well have appended itself.
        if self.turns.others_after(base, self.me) || self.turns.is_mine() {
            self.turns.contend();
        }
        Ok(())
    }

    /// When [`Appender::serve`] has something to do while this writer itself has nothing to append.
    pub fn serve_in(&self) -> Option<Duration> {
        if self.turns.serves() && self.turns.is_mine() {
            return Some((self.turns.cycle() / 2).max(LOOK_MIN));
        }
        self.places.has_posted().then_some(STAY)
    }

    /// Appends what others wait with, if it is this writer's turn; else it takes its own object away,
    /// which nobody needs any more.
    pub async fn serve(&mut self) -> Result<Option<Appended>> {
        if !(self.turns.serves() && self.turns.is_mine()) {
            if self.places.has_posted() {
                self.places.leave().await?;
            }
            return Ok(None);
        }
        self.look_at_times().await?;
        if self.sealed || !self.look_around().await? {
            return Ok(None);
        }
        match self.try_once(Wish::Nothing).await? {
            Tried::Appended(appended) => Ok(Some(appended)),
            Tried::Lost | Tried::Stray | Tried::Aged => Ok(None),
        }
    }

    /// Takes away what this writer has posted, beside other work: it does not append any more.
    pub fn leave(&mut self) {
        if self.places.has_posted() {
            let leaving = self.places.leave();
            drop(self.env.tasks.spawn("leave", leaving));
        }
    }
}
