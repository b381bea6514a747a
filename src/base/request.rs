//! One request on its way: whether anybody still waits for its answer, until when, and how much that
//! answer may hold.
//!
//! A [`RequestContext`] is made where a request comes in and goes with it. Whoever works for it for
//! long asks [`RequestContext::check`] at coarse steps and stops where that fails; whoever collects an
//! answer says so with [`RequestContext::charge`] before the bytes are there. What is
//! charged is given back when the last clone is dropped: at the earliest when the answer was sent.
//!
//! [`Work`] is a piece of such work on one thread. It counts in units of about a microsecond, so that
//! what turns out to be dear can be moved to where it stands back.
//!
//! Errors: `cancelled`, `request_timeout`, `answer_too_large`, `overloaded`.

use crate::base::memory::{Budget, Reservation};
use crate::base::metrics::{Counter, Gauge};
use crate::base::{Code, Error, Result};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// Units of work between two looks at whether anybody still waits.
const UNITS_PER_CHECK: u64 = 500;
/// Memory for each byte of an answer: its values, and the JSON that they are written as.
const HELD_PER_BYTE: usize = 2;
/// Bytes of JSON for each byte of memory where it is never written.
const BYTES_PER_HELD: usize = 2;
/// No answer holds more.
const ANSWER_MAX: usize = usize::MAX / 4;
/// Answers ask for memory in steps of this, not for each record.
const STEP_BYTES: usize = 256 << 10;

/// One request on its way. Cloning shares it.
#[derive(Debug, Clone)]
pub struct RequestContext(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cancelled: AtomicBool,
    deadline: Option<Instant>,
    /// How many more checks it passes; for tests.
    checks_left: Option<AtomicU64>,
    answer_max: usize,
    /// Whether the answer will be written as JSON.
    is_written: bool,
    answer_bytes: AtomicUsize,
    /// Memory that is reserved for the answer.
    covered: AtomicUsize,
    memory: Mutex<Reservation>,
}

impl RequestContext {
    /// A request whose answer holds at most `answer_max` bytes, from a budget.
    pub fn new(budget: &Budget, answer_max: usize, deadline: Option<Instant>) -> RequestContext {
        Self::build(budget, (answer_max, true), deadline, None)
    }

    /// A call of the embedding program: its answer is not written as JSON, and may be as large as there is memory in
    /// the budget.
    pub fn embedded(budget: &Budget) -> RequestContext {
        Self::build(budget, (ANSWER_MAX, false), None, None)
    }

    /// A request that nobody else knows of, without limits.
    pub fn unlimited() -> RequestContext {
        let budget = Budget::new(usize::MAX, Gauge::default());
        Self::new(&budget, ANSWER_MAX, None)
    }

    /// The same, that is cancelled by its check after so many: cancellation in the middle of work, at the
    /// same place each time.
    pub fn cancelled_after(checks: u64) -> RequestContext {
        let budget = Budget::new(usize::MAX, Gauge::default());
        Self::build(&budget, (ANSWER_MAX, true), None, Some(AtomicU64::new(checks)))
    }

    fn build(
        budget: &Budget,
        (answer_max, is_written): (usize, bool),
        deadline: Option<Instant>,
        checks_left: Option<AtomicU64>,
    ) -> RequestContext {
        let memory = budget.reserve();
        RequestContext(Arc::new(Inner {
            cancelled: AtomicBool::new(false),
            deadline,
            checks_left,
            answer_max,
            is_written,
            answer_bytes: AtomicUsize::new(0),
            covered: AtomicUsize::new(memory.bytes()),
            memory: Mutex::new(memory),
        }))
    }

    /// Says that nobody waits for the answer any more.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    /// Cancels it when the guard is dropped before it was told that the work is done, which `ended_early`
    /// counts. Held by a future, it notices that whoever waited has gone.
    pub fn guard(&self, ended_early: &Counter) -> CancelGuard {
        CancelGuard { context: self.clone(), ended_early: ended_early.clone(), done: false }
    }

    /// Fails where nobody waits any more, or the time is over.
    pub fn check(&self) -> Result<()> {
        if let Some(left) = &self.0.checks_left {
            let left =
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            if left.is_err() {
                self.cancel();
            }
        }
        if self.0.cancelled.load(Ordering::Relaxed) {
            return Err(Error::new(
                Code::Cancelled,
                "the request was cancelled before it was answered; send it again",
            ));
        }
        match self.0.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Error::new(
                Code::RequestTimeout,
                "the time of this request was over before it was answered; retry, or ask for less at \
                 a time",
            )),
            _ => Ok(()),
        }
    }

    /// Most bytes that the answer may hold.
    pub fn answer_max(&self) -> usize {
        self.0.answer_max
    }

    /// Bytes of the answer so far.
    pub fn answer_bytes(&self) -> usize {
        self.0.answer_bytes.load(Ordering::Relaxed)
    }

    /// Whether so many more bytes fit into the answer. The first record always does, or one that is larger
    /// than an answer could never be had.
    pub fn fits(&self, bytes: usize) -> bool {
        let before = self.answer_bytes();
        before == 0 || before.saturating_add(bytes) <= self.0.answer_max
    }

    /// Adds a record of so many bytes to the answer; `answer_too_large` where it [does not
    /// fit](RequestContext::fits), `overloaded` where all answers together hold too much.
    pub fn charge(&self, bytes: usize) -> Result<()> {
        let before = self.0.answer_bytes.fetch_add(bytes, Ordering::Relaxed);
        let all = before.saturating_add(bytes);
        if before > 0 && all > self.0.answer_max {
            return Err(self.too_large());
        }
        self.cover(all)
    }

    /// Memory that so many bytes of an answer take.
    fn held(&self, bytes: usize) -> usize {
        match self.0.is_written {
            true => bytes.saturating_mul(HELD_PER_BYTE),
            false => bytes / BYTES_PER_HELD,
        }
    }

    fn cover(&self, bytes: usize) -> Result<()> {
        if self.held(bytes) <= self.0.covered.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut memory = self.0.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = bytes.next_multiple_of(STEP_BYTES).min(self.0.answer_max.max(bytes));
        memory.cover(self.held(wanted))?;
        self.0.covered.store(memory.bytes(), Ordering::Relaxed);
        Ok(())
    }

    /// For an answer that goes out in pieces: this one holds `bytes`, and the one before is gone.
    pub fn next_piece(&self, bytes: usize) -> Result<()> {
        self.0.answer_bytes.store(bytes, Ordering::Relaxed);
        self.cover(bytes)?;
        let mut memory = self.0.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.shrink(self.held(bytes));
        self.0.covered.store(memory.bytes(), Ordering::Relaxed);
        Ok(())
    }

    /// The error for an answer that would hold too much.
    pub fn too_large(&self) -> Error {
        let max = self.0.answer_max;
        Error::new(
            Code::AnswerTooLarge,
            format!(
                "the answer would hold more than max_answer_bytes ({max}) bytes; ask for fewer records at \
                 a time (k, ids, searches), or without includeVector or includeMetadata"
            ),
        )
        .with("maxBytes", max as u64)
    }
}

/// Cancels a request when it is dropped too early.
#[derive(Debug)]
pub struct CancelGuard {
    context: RequestContext,
    ended_early: Counter,
    done: bool,
}

impl CancelGuard {
    /// The work is done, and what came of it; what ended early is counted. Where it failed, what others
    /// still do for it ends, too.
    pub fn done<T>(mut self, outcome: Result<T>) -> Result<T> {
        if let Err(error) = &outcome {
            self.context.cancel();
            self.done = !matches!(error.code(), Code::Cancelled | Code::RequestTimeout);
        } else {
            self.done = true;
        }
        outcome
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        if !self.done {
            self.context.cancel();
            self.ended_early.inc();
        }
    }
}

/// Work for a request on one thread.
#[derive(Debug)]
pub struct Work<'a> {
    context: &'a RequestContext,
    /// Units until the next check.
    unchecked: Cell<u64>,
    /// Units until the last check.
    spent: Cell<u64>,
    /// With so many it is dear.
    patience: u64,
}

impl<'a> Work<'a> {
    /// Work that may take `units` of about a microsecond before it [is dear](Work::is_dear).
    pub fn within(context: &'a RequestContext, units: u64) -> Work<'a> {
        Work { context, unchecked: Cell::new(0), spent: Cell::new(0), patience: units }
    }

    /// Work that may take as long as it takes.
    pub fn unbounded(context: &'a RequestContext) -> Work<'a> {
        Work::within(context, u64::MAX)
    }

    /// The request.
    pub fn context(&self) -> &'a RequestContext {
        self.context
    }

    /// Units are about to be spent; fails where nobody waits any more, the time is over, or it
    /// [is dear](Work::is_dear).
    pub fn spend(&self, units: u64) -> Result<()> {
        let unchecked = self.unchecked.get().saturating_add(units);
        self.unchecked.set(unchecked);
        if unchecked < UNITS_PER_CHECK {
            return Ok(());
        }
        self.unchecked.set(0);
        self.context.check()?;
        self.spent.set(self.spent().saturating_add(unchecked));
        match self.is_dear() {
            true => Err(Error::internal("work that is dear was not moved to where it stands back")),
            false => Ok(()),
        }
    }

    /// Whether it took so long that it has to go on elsewhere: what it found does not count.
    pub fn is_dear(&self) -> bool {
        self.spent() >= self.patience
    }

    /// Units that were spent, but for the last few.
    pub fn spent(&self) -> u64 {
        self.spent.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn context(budget: &Budget, max: usize) -> RequestContext {
        RequestContext::new(budget, max, None)
    }

    #[test]
    fn an_answer_is_refused_before_it_holds_too_much() {
        let budget = Budget::new(16 << 20, Gauge::default());
        let asked = context(&budget, 1 << 20);
        asked.charge(1 << 20).unwrap();
        assert!(!asked.fits(1) && asked.fits(0));
        assert_eq!(budget.held_bytes() + crate::base::memory::FREE_BYTES, 2 << 20);
        let error = asked.charge(1).unwrap_err();
        assert_eq!(error.code(), Code::AnswerTooLarge);
        assert_eq!(error.details()["maxBytes"], 1 << 20);
        drop(asked);
        assert_eq!(budget.held_bytes(), 0);
    }

    #[test]
    fn small_answers_ask_for_nothing_and_all_together_hold_no_more_than_the_budget() {
        let budget = Budget::new(1 << 20, Gauge::default());
        let small = context(&budget, 1 << 20);
        small.charge(30_000).unwrap();
        assert_eq!(budget.held_bytes(), 0);
        let large = context(&budget, 1 << 20);
        large.charge(500_000).unwrap();
        let error = context(&budget, 1 << 20).charge(500_000).unwrap_err();
        assert_eq!(error.code(), Code::Overloaded);
        large.next_piece(1_000).unwrap();
        assert_eq!(budget.held_bytes(), 0);
        context(&budget, 1 << 20).charge(500_000).unwrap();
    }

    #[test]
    fn an_embedding_program_has_all_the_memory_that_there_is() {
        let budget = Budget::new(1 << 20, Gauge::default());
        let asked = RequestContext::embedded(&budget);
        asked.charge(2_000_000).unwrap();
        assert!(asked.fits(1 << 30));
        assert_eq!(asked.charge(200_000).unwrap_err().code(), Code::Overloaded);
        drop(asked);
        assert_eq!(budget.held_bytes(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn work_ends_when_nobody_waits_or_the_time_is_over() {
        let asked = RequestContext::cancelled_after(2);
        let work = Work::unbounded(&asked);
        let steps = (0..).take_while(|_| work.spend(UNITS_PER_CHECK / 2).is_ok()).count();
        assert_eq!(steps, 5, "it looks at every second step");
        assert_eq!(asked.check().unwrap_err().code(), Code::Cancelled);

        let deadline = Instant::now() + Duration::from_secs(1);
        let budget = Budget::new(1 << 20, Gauge::default());
        let asked = RequestContext::new(&budget, 1, Some(deadline));
        asked.check().unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(asked.check().unwrap_err().code(), Code::RequestTimeout);
    }

    #[test]
    fn a_guard_that_is_dropped_cancels_and_counts() {
        let (asked, counter) = (RequestContext::unlimited(), Counter::default());
        let done = asked.guard(&counter);
        done.done(Ok(())).unwrap();
        asked.check().unwrap();
        drop(asked.guard(&counter));
        assert!(asked.check().is_err());
        let late = asked.guard(&counter).done(asked.check());
        assert!(late.is_err());
        assert_eq!(counter.get(), 2);
    }

    #[test]
    fn what_is_dear_is_noticed() {
        let asked = RequestContext::unlimited();
        let work = Work::within(&asked, 1_000);
        work.spend(500).unwrap();
        assert!(!work.is_dear() && work.spend(400).is_ok());
        assert!(work.spend(200).is_err() && work.is_dear());
    }
}
