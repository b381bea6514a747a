//! Whose turn is it to append?
//!
//! While writers meet, one of them, the *holder*, appends for all: whoever appended the last entry, or
//! whom that entry names as next. The others put what they have where the holder finds it
//! ([`waiting`](crate::log::waiting)) and look for it in the entries that follow. A holder that does
//! not get on is followed by the next writer after it, in the order of their numbers, then by the one
//! after that: so those who wait do not race either.
//!
//! Nothing here is needed for correctness, which rests on the conditional PUT of each position.

use crate::base::ids::{Seq, Totals};
use crate::log::entry::{Author, Head, Submission};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// A submission may be appended at so many positions after the tail that its writer knew.
pub const WINDOW: u64 = 64;
/// How many of the last entries are remembered.
const RECENT_MAX: usize = 2 * WINDOW as usize;
/// For how many cycles after the last sign of contention writers go on waiting for each other.
const CONTENDED_CYCLES: u32 = 32;
const CONTENDED_MIN: Duration = Duration::from_millis(100);
const CONTENDED_MAX: Duration = Duration::from_secs(4);
/// And how much longer a holder goes on taking along what they wait with: nobody should wait for one that
/// does not look any more.
const SERVES_FACTOR: u32 = 2;
/// How many cycles a holder has before the next writer takes over.
const PATIENCE_CYCLES: u32 = 3;
/// A holder hands its turn to one of the others after so many entries, because it has its own writes
/// in each of them, and the others in about every second one. Not sooner than after this time: all wait
/// for the next one to notice, so among many entries that is to be rare.
const HELD_MAX: usize = 16;
const HELD_MIN: Duration = Duration::from_millis(500);
/// So many lost races in a row are no chance.
const LOSSES: u32 = 3;
/// Nor is this share of those of late: two writers that never pause win by turns.
const LOSSES_SHARE: f64 = 0.35;
/// A writer that has met another reads on before it appends, until it has appended so often alone.
const ALONE: u32 = 64;
/// Of so many at most one waits longer before it takes over.
const AHEAD_MAX: usize = 3;
const CYCLE_MIN: Duration = Duration::from_millis(1);
const CYCLE_MAX: Duration = Duration::from_secs(4);
/// How much a new measurement counts.
const WEIGHT: f64 = 0.125;

/// What is known of an entry.
#[derive(Debug, Clone)]
struct Seen {
    seq: Seq,
    totals: Totals,
    author: Option<Author>,
    submissions: Vec<Submission>,
    /// Whether it is a fence of a collector, which has no part in the turns.
    is_fence: bool,
    /// When it was read or written here.
    noted: Instant,
}

impl Seen {
    fn of(head: &Head) -> Self {
        Seen {
            seq: head.header.seq,
            totals: head.header.totals,
            author: head.author,
            submissions: head.submissions.clone(),
            is_fence: head.is_fence(),
            noted: Instant::now(),
        }
    }
}

/// What one writer knows of the others.
#[derive(Debug)]
pub struct Turns {
    me: u64,
    /// The last entries, without gaps, up to the tail.
    recent: VecDeque<Seen>,
    /// How many of the last entries in a row are this writer's, and since when.
    held: Option<(usize, Instant)>,
    contended_until: Option<Instant>,
    serves_until: Option<Instant>,
    /// How long a PUT takes, and a GET.
    put: Smoothed,
    get: Smoothed,
    /// How often in a row a turn was taken that was not ours to take.
    taken_in_vain: u32,
    /// Lost races in a row.
    losses: u32,
    /// Their share of late.
    losses_share: f64,
    /// Entries of this writer's own since it met another.
    alone: u32,
}

/// A mean that follows its measurements, and how far they are from it.
#[derive(Debug, Clone, Copy, Default)]
struct Smoothed {
    mean: f64,
    deviation: f64,
}

impl Smoothed {
    fn add(&mut self, measured: Duration) {
        let measured = measured.as_secs_f64();
        if self.mean == 0.0 {
            (self.mean, self.deviation) = (measured, measured / 4.0);
            return;
        }
        self.deviation += WEIGHT * ((measured - self.mean).abs() - self.deviation);
        self.mean += WEIGHT * (measured - self.mean);
    }
}

impl Turns {
    /// A writer that knows of nobody yet.
    pub fn new(me: u64) -> Self {
        Turns {
            me,
            recent: VecDeque::new(),
            held: None,
            contended_until: None,
            serves_until: None,
            put: Smoothed::default(),
            get: Smoothed::default(),
            taken_in_vain: 0,
            losses: 0,
            losses_share: 0.0,
            alone: ALONE,
        }
    }

    /// Takes in how long a PUT took.
    pub fn put_took(&mut self, time: Duration) {
        self.put.add(time);
    }

    /// Takes in how long a GET took.
    pub fn get_took(&mut self, time: Duration) {
        self.get.add(time);
    }

    /// How long a holder needs from one entry to the next: it looks at what waits, and appends.
    pub fn cycle(&self) -> Duration {
        let seconds = self.put.mean + 2.0 * self.get.mean;
        Duration::from_secs_f64(seconds).clamp(CYCLE_MIN, CYCLE_MAX)
    }

    /// How long one that waits gives the holder, counted from when it began to wait or from the last
    /// entry.
    pub fn patience(&self) -> Duration {
        let deviation = Duration::from_secs_f64(4.0 * (self.put.deviation + self.get.deviation));
        let first = self.cycle() * PATIENCE_CYCLES + deviation;
        let turn = self.cycle() * 3 / 2 * self.ahead();
        ((first + turn) * (1 << self.taken_in_vain.min(4))).min(CYCLE_MAX)
    }

    /// How many others come before this writer when the holder does not get on. Few of them may wait just
    /// now, so past a few it is better to meet one than to wait for all.
    fn ahead(&self) -> u32 {
        let holder = self.holder().unwrap_or(self.me);
        let distance = |writer: u64| writer.wrapping_sub(holder);
        let others = self.others();
        let ahead = others.iter().filter(|other| **other != holder);
        ahead.filter(|other| distance(**other) < distance(self.me)).take(AHEAD_MAX).count() as u32
    }

    /// Notes an entry that follows those that are known, or starts over from it.
    pub fn note(&mut self, head: &Head) {
        if self.recent.back().is_some_and(|last| last.seq.next() != head.header.seq) {
            self.forget();
        }
        if !head.is_fence() {
            let is_mine = head.author.is_some_and(|author| author.writer == self.me);
            let (count, since) = self.held.unwrap_or((0, Instant::now()));
            self.held = is_mine.then_some((count + 1, since));
        }
        self.recent.push_back(Seen::of(head));
        if self.recent.len() > RECENT_MAX {
            self.recent.pop_front();
        }
    }

    /// Notes an entry before those that are known.
    pub fn note_before(&mut self, head: &Head) {
        if self.recent.front().is_some_and(|first| head.header.seq.next() == first.seq) {
            self.recent.push_front(Seen::of(head));
        }
    }

    /// Forgets all entries: what lies between them and the tail is not known.
    pub fn forget(&mut self) {
        self.recent.clear();
        self.held = None;
    }

    /// The first of the entries that are known without a gap up to the tail.
    pub fn known_from(&self) -> Option<Seq> {
        self.recent.front().map(|seen| seen.seq)
    }

    /// The entry that holds a submission, of those that are known.
    pub fn find(&self, submission: Submission) -> Option<(Seq, Totals)> {
        let holds = |seen: &&Seen| seen.submissions.contains(&submission);
        self.recent.iter().find(holds).map(|seen| (seen.seq, seen.totals))
    }

    /// Whether `writer` has appended, or was named as next, after `base`.
    pub fn had_turn_after(&self, base: Seq, writer: u64) -> bool {
        let after = self.recent.iter().filter(|seen| seen.seq > base);
        after.filter_map(|seen| seen.author).any(|author| {
            author.writer == writer || (author.next != 0 && author.next == writer as u32)
        })
    }

    /// Whether an entry after `base` holds anything of another's than `writer`.
    pub fn others_after(&self, base: Seq, writer: u64) -> bool {
        let after = self.recent.iter().filter(|seen| seen.seq > base);
        let mut held = after.flat_map(|seen| &seen.submissions);
        held.any(|submission| submission.writer != writer)
    }

    /// The other writers of the last entries.
    pub fn others(&self) -> BTreeSet<u64> {
        let authors = self.recent.iter().filter_map(|seen| seen.author).map(|author| author.writer);
        let held = self.recent.iter().flat_map(|seen| &seen.submissions);
        let all = authors.chain(held.map(|submission| submission.writer));
        all.filter(|writer| *writer != self.me).collect()
    }

    /// Who appends next for all, where that is known.
    fn holder(&self) -> Option<u64> {
        let last = self.last_serving()?;
        match last.next {
            0 => Some(last.writer),
            next if next == self.me as u32 => Some(self.me),
            next => {
                let named = self.others().into_iter().find(|writer| *writer as u32 == next);
                Some(named.unwrap_or(u64::from(next)))
            }
        }
    }

    /// Whether another writer appends next, and takes along what waits. Where nobody knows, everybody may.
    pub fn is_anothers(&self) -> bool {
        self.holder().is_some_and(|holder| holder != self.me)
    }

    /// The author of the last entry that says that it takes others along, and may still do so. One that
    /// appends something for itself in between, since it has met nobody yet, does not take the turn.
    fn last_serving(&self) -> Option<Author> {
        let lately = self.contended_time();
        let entries = self.recent.iter().rev().filter(|seen| !seen.is_fence);
        let entries = entries.take_while(|seen| seen.noted.elapsed() < lately);
        entries.filter_map(|seen| seen.author).find(|author| author.serves || author.next != 0)
    }

    /// Whether this writer appends next for all.
    pub fn is_mine(&self) -> bool {
        self.holder() == Some(self.me)
    }

    /// After a PUT that won.
    pub fn won(&mut self) {
        self.losses = 0;
        self.losses_share -= WEIGHT * self.losses_share;
        self.alone = self.alone.saturating_add(1);
    }

    /// After a PUT that lost. A few may be by chance: so many in a row are contention.
    pub fn lost(&mut self) {
        self.met_another();
        self.losses += 1;
        self.losses_share += WEIGHT * (1.0 - self.losses_share);
        let often = self.losses_share > LOSSES_SHARE;
        if self.losses >= LOSSES || often || self.is_contended() {
            self.contend();
        }
    }

    /// After an entry of another was read.
    pub fn met_another(&mut self) {
        self.alone = 0;
    }

    /// Starts as if nobody had been met yet.
    pub fn forget_others(&mut self) {
        self.alone = ALONE;
    }

    /// Whether another has appended lately, so that the tail may have moved.
    pub fn has_met_others(&self) -> bool {
        self.alone < ALONE
    }

    /// Who is to have the turn after this writer's next entry, which takes `joined` along: one that is
    /// there, because it is in it, once this writer has had it for long enough.
    pub fn hand_over<T>(&self, joined: &[(Submission, T)]) -> Option<u64> {
        let (count, since) = self.held?;
        let long = count >= HELD_MAX && since.elapsed() >= HELD_MIN;
        joined.first().filter(|_| long).map(|(submission, _)| submission.writer)
    }

    /// Whether what is as old as this is a sign of what is going on now.
    pub fn is_lately(&self, age: Duration) -> bool {
        age < self.contended_time()
    }

    fn contended_time(&self) -> Duration {
        (self.cycle() * CONTENDED_CYCLES).clamp(CONTENDED_MIN, CONTENDED_MAX)
    }

    /// Notes a sign that others append too.
    pub fn contend(&mut self) {
        let time = self.contended_time();
        self.contended_until = Some(Instant::now() + time);
        self.serves_until = Some(Instant::now() + time * SERVES_FACTOR);
    }

    /// Whether there was one lately.
    pub fn is_contended(&self) -> bool {
        self.contended_until.is_some_and(|until| Instant::now() < until)
    }

    /// Whether this writer takes along what others wait with: there was a sign of others less lately.
    pub fn serves(&self) -> bool {
        self.serves_until.is_some_and(|until| Instant::now() < until)
    }

    /// After a turn was taken over from a holder that did not get on.
    pub fn took_over(&mut self, won: bool) {
        self.taken_in_vain = if won { 0 } else { self.taken_in_vain + 1 };
    }

    /// After a turn that others left to us, or that was used for us.
    pub fn served(&mut self) {
        self.taken_in_vain = 0;
    }

    /// Puts those who wait into the order in which they come after this writer.
    pub fn in_turn(&self, writer: u64) -> u64 {
        writer.wrapping_sub(self.me)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::log::entry::{Draft, Part};
    use bytes::Bytes;

    fn entry(seq: u64, writer: u64, next: u32, held: &[u64]) -> Head {
        let author = Author { writer, next, serves: true };
        let part = |_| Part::Inline { operations: 1, chunk: Bytes::from_static(b"a") };
        let parts: Vec<Part> = held.iter().map(part).collect();
        let header = Draft::data(1, author.write_id(0), Timestamp(0), &parts)
            .header(Seq(seq), Totals::default());
        let submissions = held.iter().map(|writer| Submission { writer: *writer, number: seq });
        Head { header, author: Some(author), submissions: submissions.collect() }
    }

    #[test]
    fn the_turn_is_the_last_authors_or_whose_it_names() {
        let mut turns = Turns::new(2);
        assert!(!turns.is_mine() && !turns.is_anothers());
        turns.note(&entry(1, 1, 0, &[1]));
        assert!(turns.is_anothers());
        turns.note(&entry(2, 1, 2, &[1]));
        assert!(turns.is_mine() && turns.had_turn_after(Seq(1), 2));
        turns.note(&entry(3, 2, 9, &[2]));
        assert!(turns.is_anothers());
        turns.note(&entry(4, 2, 0, &[2]));
        assert!(turns.is_mine());
        // One of an older build, and one that has met nobody yet, take no turn.
        turns.note(&Head { author: None, ..entry(5, 1, 0, &[1]) });
        let mut alone = entry(6, 7, 0, &[7]);
        alone.author = alone.author.map(|author| Author { serves: false, ..author });
        turns.note(&alone);
        assert!(turns.is_mine() && !turns.is_anothers());
    }

    #[tokio::test(start_paused = true)]
    async fn a_fence_leaves_the_turn_where_it_is() {
        let mut turns = Turns::new(1);
        turns.note(&entry(1, 1, 0, &[1, 3]));
        // As others read it: no part says who appended it.
        turns.note(&Head { author: None, ..entry(2, 9, 0, &[]) });
        assert!(turns.is_mine() && turns.known_from() == Some(Seq(1)));
        let joined = [(Submission { writer: 3, number: 1 }, ())];
        for seq in 3..=HELD_MAX as u64 {
            turns.note(&entry(seq, 1, 0, &[1, 3]));
        }
        tokio::time::sleep(HELD_MIN).await;
        assert_eq!(turns.hand_over(&joined), None);
        turns.note(&entry(HELD_MAX as u64 + 1, 1, 0, &[1, 3]));
        assert_eq!(turns.hand_over(&joined), Some(3));
    }

    #[test]
    fn entries_are_known_without_gaps() {
        let mut turns = Turns::new(9);
        turns.note(&entry(1, 1, 0, &[1, 2]));
        let second = Submission { writer: 2, number: 1 };
        assert_eq!(turns.find(second).map(|found| found.0), Some(Seq(1)));
        turns.note(&entry(5, 1, 0, &[]));
        assert_eq!((turns.find(second), turns.known_from()), (None, Some(Seq(5))));
        turns.note_before(&entry(4, 3, 0, &[]));
        turns.note_before(&entry(2, 4, 0, &[]));
        assert_eq!(turns.known_from(), Some(Seq(4)));
        assert_eq!(turns.others(), BTreeSet::from([1, 3]));
    }

    /// However the numbers lie, no two of those who wait lose patience at the same time.
    #[test]
    fn those_who_wait_take_over_one_after_the_other() {
        let writers = [5, 17, 1 << 40, u64::MAX - 3, 9];
        for holder in writers {
            let patience = |me: u64| {
                let mut turns = Turns::new(me);
                turns.put_took(Duration::from_millis(60));
                turns.get_took(Duration::from_millis(10));
                turns.note(&entry(1, holder, 0, &writers));
                turns.patience()
            };
            let others = writers.iter().filter(|writer| **writer != holder);
            let mut times: Vec<Duration> = others.map(|writer| patience(*writer)).collect();
            times.sort_unstable();
            assert!(times[0] >= Duration::from_millis(240), "{times:?}");
            assert!(times.windows(2).all(|two| two[1] - two[0] >= Duration::from_millis(80)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_hands_over_in_the_end() {
        let mut turns = Turns::new(1);
        let joined = [(Submission { writer: 3, number: 1 }, ())];
        for seq in 1..=HELD_MAX as u64 {
            assert_eq!(turns.hand_over(&joined), None);
            turns.note(&entry(seq, 1, 0, &[1, 3]));
        }
        // Where entries take a millisecond, that was too soon.
        assert_eq!(turns.hand_over(&joined), None);
        tokio::time::sleep(HELD_MIN).await;
        assert_eq!(turns.hand_over(&joined), Some(3));
        assert_eq!(turns.hand_over::<()>(&[]), None);
        turns.note(&entry(HELD_MAX as u64 + 1, 3, 0, &[1, 3]));
        assert_eq!(turns.hand_over(&joined), None, "it is another's");
    }

    #[tokio::test(start_paused = true)]
    async fn lost_races_in_a_row_are_contention() {
        let mut turns = Turns::new(1);
        turns.put_took(Duration::from_millis(10));
        turns.lost();
        assert!(turns.has_met_others() && !turns.is_contended());
        turns.won();
        (1..LOSSES).for_each(|_| turns.lost());
        assert!(!turns.is_contended());
        turns.lost();
        assert!(turns.is_contended());
        tokio::time::sleep(Duration::from_millis(10) * (CONTENDED_CYCLES + 4)).await;
        assert!(!turns.is_contended());
        (0..ALONE).for_each(|_| turns.won());
        assert!(!turns.has_met_others());
    }

    #[tokio::test(start_paused = true)]
    async fn so_are_those_that_win_every_other_race() {
        let mut turns = Turns::new(1);
        for _ in 0..6 {
            turns.won();
            turns.lost();
        }
        assert!(turns.is_contended());
    }
}
