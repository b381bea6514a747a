//! What a loop does when its work fails: it waits longer each time, and does not say the same for ever.
//!
//! Every loop that can fail has a [`Backoff`], and a [`Complaint`] where it would otherwise log each failure.

use crate::base::rng::Rng;
use std::time::Duration;
use tokio::time::Instant;

/// How long a loop waits after a failure: the first time for about `first`, then twice as long each time, up
/// to `longest`. Between half and all of it, by chance, so that many that failed together come back apart.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    /// Nothing has failed yet.
    pub fn new(first: Duration, longest: Duration) -> Backoff {
        Backoff { first, longest, failures: 0, until: None }
    }

    /// Notes a failure; how long to wait.
    pub fn failed(&mut self, rng: &dyn Rng) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.failures.min(20)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        let wait = doubled / 2 + rng.jitter(doubled / 2);
        self.until = Some(Instant::now() + wait);
        wait
    }

    /// Notes that it went well: the next failure is the first again.
    pub fn succeeded(&mut self) {
        (self.failures, self.until) = (0, None);
    }

    /// Whether the wait after the last failure is not over yet.
    pub fn is_waiting(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }

    /// When the wait after the last failure ends, where there was one.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }
}

/// Says what keeps happening: at once, then after a minute, and each time after twice as long, up to an hour.
#[derive(Debug, Clone, Copy, Default)]
pub struct Complaint {
    said: Option<Instant>,
    every: Duration,
    unsaid: u64,
}

impl Complaint {
    const FIRST: Duration = Duration::from_secs(60);
    const LONGEST: Duration = Duration::from_secs(3_600);

    /// Notes that it happened; how often it has since it was said last, where it is to be said now.
    pub fn due(&mut self) -> Option<u64> {
        self.unsaid += 1;
        if self.said.is_some_and(|said| said.elapsed() < self.every) {
            return None;
        }
        self.every = match self.said {
            None => Self::FIRST,
            Some(_) => (self.every * 2).min(Self::LONGEST),
        };
        self.said = Some(Instant::now());
        Some(std::mem::take(&mut self.unsaid))
    }

    /// Notes that it is over.
    pub fn over(&mut self) {
        *self = Complaint::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::SeededRng;

    #[tokio::test(start_paused = true)]
    async fn waits_double_up_to_the_longest_and_begin_anew_after_a_success() {
        let rng = SeededRng::new(1);
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(60));
        let mut backoff = Backoff::new(first, longest);
        assert!(!backoff.is_waiting());
        for round in 0..100 {
            let whole = first.saturating_mul(1 << round.min(20)).min(longest);
            let wait = backoff.failed(&rng);
            assert!(wait >= whole / 2 && wait <= whole, "{round}: {wait:?}");
            assert!(backoff.is_waiting());
            tokio::time::sleep(wait).await;
            assert!(!backoff.is_waiting());
        }
        backoff.succeeded();
        assert!(backoff.failed(&rng) <= first);
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_every_second_for_a_day_is_said_a_few_times_and_counted() {
        let mut complaint = Complaint::default();
        let (mut said, mut counted) = (0, 0);
        for _ in 0..86_400 {
            if let Some(since) = complaint.due() {
                (said, counted) = (said + 1, counted + since);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!((20..40).contains(&said), "{said}");
        assert!(counted > 80_000, "{counted}");
        complaint.over();
        assert_eq!(complaint.due(), Some(1));
    }
}
