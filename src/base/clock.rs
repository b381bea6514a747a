//! Time as a dependency: wall time for people and files, elapsed time for decisions.
//!
//! Sleeping and timeouts go through `tokio::time`, which the simulation pauses. Wall time never
//! decides anything alone. A machine that was suspended may have stopped its monotonic clock, and an
//! operator may have set the wall clock; a virtual machine that was paused, or restored from a snapshot, has
//! stopped both. But the store says what time it is in every answer ([`Clock::saw_store_time`]), and its
//! clock went on. So what this instance relies on itself ends by the clock that says longest
//! ([`Clock::since`]), and what others were given time for by the monotonic one ([`Clock::steady_since`]).

use jiff::Timestamp as Jiff;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Milliseconds since 1970-01-01 UTC; in JSON an RFC 3339 string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Jiff::from_millisecond(i64::try_from(self.0).unwrap_or(i64::MAX)) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => write!(f, "out-of-range"),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let time = Jiff::deserialize(deserializer)?;
        u64::try_from(time.as_millisecond())
            .map(Timestamp)
            .map_err(|_| serde::de::Error::custom("time before 1970"))
    }
}

/// The store's clock, as its answers show it.
///
/// Only the latest time counts that was ever seen: answers arrive out of order, and the machines of a store
/// do not agree to the second. One that is ahead makes what was relied on before end early, and hides for so
/// long that our own clocks stand still.
#[derive(Debug, Default)]
pub struct StoreClock(Mutex<Option<(Timestamp, Instant)>>);

impl StoreClock {
    /// Stores tell the time to the second (`Date` of HTTP); so much later it may have been.
    const RESOLUTION_MS: u64 = 1_000;

    /// Takes up what an answer says that was seen at `now`.
    fn saw(&self, time: Timestamp, now: Instant) {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.is_none_or(|(latest, _)| latest < time) {
            *latest = Some((time, now));
        }
    }

    fn latest(&self) -> Option<(Timestamp, Instant)> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the store's clock shows now if our monotonic clock has not stood still since the last answer.
    fn expected(&self, now: Instant) -> Option<Timestamp> {
        let (time, seen) = self.latest()?;
        let passed = now.saturating_duration_since(seen);
        let passed = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        Some(Timestamp(time.0.saturating_add(passed)))
    }

    /// How much later than at `expected` the store's clock was seen, for certain.
    fn since(&self, expected: Option<Timestamp>) -> Duration {
        let (Some((latest, _)), Some(expected)) = (self.latest(), expected) else {
            return Duration::ZERO;
        };
        let later = latest.0.saturating_sub(expected.0);
        Duration::from_millis(later.saturating_sub(Self::RESOLUTION_MS))
    }
}

/// A source of wall time.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The wall time now.
    fn now(&self) -> Timestamp;

    /// The monotonic time now.
    fn monotonic(&self) -> Instant {
        Instant::now()
    }

    /// The store's clock.
    fn store_clock(&self) -> &StoreClock;

    /// Takes up what an answer of the store says about the time.
    fn saw_store_time(&self, time: Timestamp) {
        self.store_clock().saw(time, self.monotonic());
    }

    /// Starts measuring elapsed time.
    fn mark(&self) -> Mark {
        let monotonic = self.monotonic();
        Mark { monotonic, wall: self.now(), store: self.store_clock().expected(monotonic) }
    }

    /// How long ago `mark` was taken, by the clock that says longest: the monotonic one, the wall clock, or
    /// the store's by what was seen of it last.
    fn since(&self, mark: Mark) -> Duration {
        let wall = Duration::from_millis(self.now().0.saturating_sub(mark.wall.0));
        self.steady_since(mark).max(wall).max(self.store_clock().since(mark.store))
    }

    /// How long ago `mark` was taken, by the monotonic clock alone: for judging others, and for what they
    /// are given time for. A wall clock that was set ahead must not make them late.
    fn steady_since(&self, mark: Mark) -> Duration {
        self.monotonic().saturating_duration_since(mark.monotonic)
    }

    /// The wall time, but no later than the monotonic clock says since `start`: for what is deleted by its
    /// age, which a clock that is set ahead must not hasten.
    fn now_at_most(&self, start: Mark) -> Timestamp {
        let steady = u64::try_from(self.steady_since(start).as_millis()).unwrap_or(u64::MAX);
        self.now().min(Timestamp(start.wall.0.saturating_add(steady)))
    }
}

/// A moment from which elapsed time is measured.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    monotonic: Instant,
    wall: Timestamp,
    /// What the store's clock showed then, if ours ran on since its last answer.
    store: Option<Timestamp>,
}

/// The machine's clock, and what this process has seen of its store's.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn store_clock(&self) -> &StoreClock {
        static STORE: StoreClock = StoreClock(Mutex::new(None));
        &STORE
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let millis = since_epoch.unwrap_or_default().as_millis();
        Timestamp(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

/// A wall clock that follows tokio's time from a fixed start: the simulation's and the tests'.
#[derive(Debug)]
pub struct VirtualClock {
    start: Instant,
    wall: Timestamp,
    /// By how many milliseconds it was set ahead; less than 0: back.
    ahead: AtomicI64,
    /// For how many milliseconds it and the monotonic clock have stood still.
    stood_still: AtomicU64,
    store: StoreClock,
}

impl VirtualClock {
    /// A clock that shows `wall` now.
    pub fn starting_at(wall: Timestamp) -> Self {
        let (ahead, stood_still) = Default::default();
        VirtualClock {
            start: Instant::now(),
            wall,
            ahead,
            stood_still,
            store: StoreClock::default(),
        }
    }

    /// Sets it so far ahead of the time that has passed since its start; less than 0: back.
    pub fn set_ahead_ms(&self, ahead: i64) {
        self.ahead.store(ahead, Ordering::Relaxed);
    }

    /// It and the monotonic clock have just stood still for so long, as where a virtual machine was paused.
    pub fn stood_still_ms(&self, paused: u64) {
        self.stood_still.fetch_add(paused, Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn store_clock(&self) -> &StoreClock {
        &self.store
    }

    fn monotonic(&self) -> Instant {
        let stood_still = Duration::from_millis(self.stood_still.load(Ordering::Relaxed));
        // Never before its start.
        Instant::now().checked_sub(stood_still).unwrap_or(self.start).max(self.start)
    }

    fn now(&self) -> Timestamp {
        let elapsed = (self.monotonic() - self.start).as_millis();
        let steady = self.wall.0 + u64::try_from(elapsed).unwrap_or(u64::MAX);
        Timestamp(steady.saturating_add_signed(self.ahead.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_rfc_3339_in_json() {
        let time = Timestamp(1_768_473_000_000);
        let text = serde_json::to_string(&time).unwrap();
        assert_eq!(text, "\"2026-01-15T10:30:00.000Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&text).unwrap(), time);
    }

    #[tokio::test(start_paused = true)]
    async fn a_virtual_clock_follows_paused_time() {
        let clock = VirtualClock::starting_at(Timestamp(1_000));
        let mark = clock.mark();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(clock.now(), Timestamp(6_000));
        assert_eq!(clock.since(mark), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn the_store_tells_when_our_clocks_stood_still() {
        let clock = VirtualClock::starting_at(Timestamp(1_000_000));
        let second = Duration::from_secs(1);
        // Whatever its clock shows, and without an answer, nothing has passed.
        assert_eq!(clock.since(clock.mark()), Duration::ZERO);
        let mut store = 7_000_000;
        for _ in 0..100 {
            clock.saw_store_time(Timestamp(store));
            // An hour without requests, and then an answer whose time was cut to the second.
            let idle = clock.mark();
            tokio::time::sleep(second * 3_600).await;
            let mark = clock.mark();
            store += 3_600_999;
            clock.saw_store_time(Timestamp(store / 1_000 * 1_000));
            assert_eq!(clock.since(mark), Duration::ZERO);
            assert_eq!(clock.since(idle), second * 3_600);
        }
        // An hour in which both of our clocks stand still.
        let mark = clock.mark();
        tokio::time::sleep(second * 3_600).await;
        clock.stood_still_ms(3_600_000);
        assert_eq!(clock.since(mark), Duration::ZERO);
        clock.saw_store_time(Timestamp(store + 3_600_000));
        assert!(clock.since(mark) >= second * 3_598, "{:?}", clock.since(mark));
        assert_eq!(clock.steady_since(mark), Duration::ZERO);
        assert_eq!(clock.since(clock.mark()), Duration::ZERO);
        // An answer that is late, or from a machine that is behind, changes nothing.
        let before = clock.since(mark);
        clock.saw_store_time(Timestamp(5));
        assert_eq!(clock.since(mark), before);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_ends_what_we_rely_on_and_hastens_nothing_else() {
        let clock = VirtualClock::starting_at(Timestamp(1_000_000));
        let mark = clock.mark();
        tokio::time::sleep(Duration::from_secs(5)).await;
        for (ahead, since, now) in [(60_000, 65, 1_005_000), (-60_000, 5, 945_000)] {
            clock.set_ahead_ms(ahead);
            assert_eq!(clock.since(mark), Duration::from_secs(since), "{ahead}");
            assert_eq!(clock.steady_since(mark), Duration::from_secs(5), "{ahead}");
            assert_eq!(clock.now_at_most(mark), Timestamp(now), "{ahead}");
        }
    }
}
