//! What requests in flight may hold together: a budget of bytes, and the shares that they take of it.
//!
//! Guarantees:
//! 1. The shares never add up to more than the budget.
//! 2. A share is given back when its [`Reservation`] is dropped, however the request ended.
//! 3. Who waits, waits in turn and no longer than [`WAIT`]: two requests that hold a part each and wait
//!    for the rest of the other cannot hold each other up for longer.
//!
//! Errors: `overloaded` where there is no room.

use crate::base::metrics::Gauge;
use crate::base::{Code, Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a request waits for its share.
pub const WAIT: Duration = Duration::from_secs(2);
/// What every request may hold without asking: most need no more, and pay nothing. The number of requests
/// in flight bounds it.
pub const FREE_BYTES: usize = 64 << 10;
/// Shares are multiples of this, so that a share that grows seldom has to ask.
const UNIT_BYTES: usize = 64 << 10;

/// A budget of bytes. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    units: Arc<Semaphore>,
    total: usize,
    peak: AtomicUsize,
    held: Gauge,
}

impl Budget {
    /// One of `bytes`; `held` shows how many of them are taken.
    pub fn new(bytes: usize, held: Gauge) -> Budget {
        let total = (bytes / UNIT_BYTES).clamp(1, (u32::MAX as usize).min(Semaphore::MAX_PERMITS));
        let units = Arc::new(Semaphore::new(total));
        Budget(Arc::new(Inner { units, total, peak: AtomicUsize::new(0), held }))
    }

    /// A share of nothing yet.
    pub fn reserve(&self) -> Reservation {
        Reservation { budget: self.clone(), units: None }
    }

    /// The most bytes that were taken at a time.
    pub fn peak_bytes(&self) -> usize {
        self.0.peak.load(Ordering::Relaxed) * UNIT_BYTES
    }

    /// The bytes that are taken.
    pub fn held_bytes(&self) -> usize {
        (self.0.total - self.0.units.available_permits()) * UNIT_BYTES
    }

    fn taken(&self, units: usize) {
        self.0.peak.fetch_max(self.held_bytes() / UNIT_BYTES, Ordering::Relaxed);
        self.0.held.inc_by((units * UNIT_BYTES) as i64);
    }

    fn full(&self) -> Error {
        Error::new(
            Code::Overloaded,
            "the requests in flight hold as much memory as request_memory_bytes allows; retry later, \
             send or ask for less at a time, or ask another instance",
        )
        .with("requestMemoryBytes", (self.0.total * UNIT_BYTES) as u64)
    }
}

/// A share of a budget, for as long as it lives.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    units: Option<OwnedSemaphorePermit>,
}

impl Reservation {
    /// Bytes that are covered.
    pub fn bytes(&self) -> usize {
        FREE_BYTES + self.units() * UNIT_BYTES
    }

    fn units(&self) -> usize {
        self.units.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// How many units are missing for `bytes`; `None` where there can never be as many.
    fn missing(&self, bytes: usize) -> Option<u32> {
        let wanted = bytes.saturating_sub(FREE_BYTES).div_ceil(UNIT_BYTES);
        let missing = wanted.saturating_sub(self.units());
        (wanted <= self.budget.0.total).then(|| u32::try_from(missing).unwrap_or(u32::MAX))
    }

    fn add(&mut self, permit: OwnedSemaphorePermit) {
        self.budget.taken(permit.num_permits());
        match &mut self.units {
            Some(units) => units.merge(permit),
            None => self.units = Some(permit),
        }
    }

    /// Covers `bytes` in all, where there is room now.
    pub fn cover(&mut self, bytes: usize) -> Result<()> {
        if bytes <= self.bytes() {
            return Ok(());
        }
        let missing = self.missing(bytes).ok_or_else(|| self.budget.full())?;
        let permit = self.budget.0.units.clone().try_acquire_many_owned(missing);
        self.add(permit.map_err(|_| self.budget.full())?);
        Ok(())
    }

    /// Covers `bytes` in all; waits for its turn, at most [`WAIT`].
    pub async fn cover_in_turn(&mut self, bytes: usize) -> Result<()> {
        if bytes <= self.bytes() {
            return Ok(());
        }
        let missing = self.missing(bytes).ok_or_else(|| self.budget.full())?;
        let turn = self.budget.0.units.clone().acquire_many_owned(missing);
        match tokio::time::timeout(WAIT, turn).await {
            Ok(Ok(permit)) => self.add(permit),
            // Nobody closes it.
            Ok(Err(_)) | Err(_) => return Err(self.budget.full()),
        }
        Ok(())
    }

    /// Gives back what is covered beyond `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        let kept = bytes.saturating_sub(FREE_BYTES).div_ceil(UNIT_BYTES);
        let surplus = self.units().saturating_sub(kept);
        if let Some(units) = &mut self.units
            && let Some(surplus) = units.split(surplus)
        {
            self.budget.0.held.dec_by((surplus.num_permits() * UNIT_BYTES) as i64);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.0.held.dec_by((self.units() * UNIT_BYTES) as i64);
    }
}

/// The budgets of an instance. What comes in and what goes out have one each, so that bodies that wait
/// for room never keep answers from being given, which make room.
#[derive(Debug, Clone)]
pub struct RequestMemory {
    /// Of bodies, and of what they were parsed into.
    pub bodies: Budget,
    /// Of answers.
    pub answers: Budget,
}

impl RequestMemory {
    /// Half of `bytes` for each.
    pub fn new(bytes: u64, held: &Gauge) -> RequestMemory {
        let half = usize::try_from(bytes / 2).unwrap_or(usize::MAX);
        let budget = || Budget::new(half, held.clone());
        RequestMemory { bodies: budget(), answers: budget() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::poll;
    use std::pin::pin;

    const MIB: usize = 1 << 20;

    fn budget(bytes: usize) -> (Budget, Gauge) {
        let held = Gauge::default();
        (Budget::new(bytes, held.clone()), held)
    }

    #[tokio::test(start_paused = true)]
    async fn shares_never_add_up_to_more_than_the_budget() {
        let (budget, held) = budget(MIB);
        let mut small = budget.reserve();
        small.cover(FREE_BYTES).unwrap();
        assert_eq!((budget.held_bytes(), held.get()), (0, 0), "small ones pay nothing");
        let (mut one, mut other) = (budget.reserve(), budget.reserve());
        one.cover(MIB / 2 + FREE_BYTES).unwrap();
        other.cover(MIB / 2 + FREE_BYTES).unwrap();
        assert_eq!((budget.held_bytes(), held.get()), (MIB, MIB as i64));
        let error = one.cover(MIB).unwrap_err();
        assert_eq!(error.code(), Code::Overloaded);
        assert_eq!(error.details()["requestMemoryBytes"], MIB);
        drop(other);
        one.cover(MIB).unwrap();
        one.shrink(MIB / 2 + FREE_BYTES);
        assert_eq!((budget.held_bytes(), held.get()), (MIB / 2, MIB as i64 / 2));
        drop(one);
        assert_eq!((budget.held_bytes(), held.get(), budget.peak_bytes()), (0, 0, MIB));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_a_turn_or_is_told_in_time() {
        let (budget, _) = budget(MIB);
        let (mut one, mut other) = (budget.reserve(), budget.reserve());
        one.cover_in_turn(MIB / 2).await.unwrap();
        other.cover_in_turn(MIB / 2).await.unwrap();
        // Each holds what the other waits for.
        let start = tokio::time::Instant::now();
        let both = tokio::join!(one.cover_in_turn(MIB), other.cover_in_turn(MIB));
        assert_eq!(start.elapsed(), WAIT);
        assert!(both.0.is_err() && both.1.is_err());

        let mut third = budget.reserve();
        let mut waits = pin!(third.cover_in_turn(MIB / 2));
        assert!(poll!(&mut waits).is_pending());
        drop(one);
        waits.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_fits_does_not_wait() {
        let (budget, _) = budget(MIB);
        let start = tokio::time::Instant::now();
        assert!(budget.reserve().cover_in_turn(2 * MIB).await.is_err());
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
