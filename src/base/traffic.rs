//! How busy was this instance in the last minute?
//!
//! A ring of one-second buckets of atomics: recording a request takes three additions. At the turn
//! of a second a few requests may be counted into a bucket that is being cleared; the figures are
//! for people and for load balancers, not for bills.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// Length of the window.
const WINDOW_SECONDS: u64 = 60;
/// One bucket a second, and a few more so that the one being cleared is never read.
const BUCKETS: u64 = 64;

#[derive(Debug, Default)]
struct Bucket {
    second: AtomicU64,
    requests: AtomicU64,
    failures: AtomicU64,
    micros: AtomicU64,
}

/// The requests of the last minute.
#[derive(Debug)]
pub struct Traffic {
    start: Instant,
    buckets: [Bucket; BUCKETS as usize],
}

/// Figures over the window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Requests answered.
    pub requests: u64,
    /// Requests answered a second.
    pub per_second: f64,
    /// Mean time to an answer, in milliseconds; 0 without requests.
    pub latency_ms: f64,
    /// Share of answers with a status of 500 or more, 0..=1; 0 without requests.
    pub failure_share: f64,
}

impl Default for Traffic {
    fn default() -> Self {
        Traffic { start: Instant::now(), buckets: std::array::from_fn(|_| Bucket::default()) }
    }
}

impl Traffic {
    /// Counts one answered request.
    pub fn record(&self, took: Duration, failed: bool) {
        // Counted from 1, so that a bucket of second 0 is one that was never used.
        let second = self.start.elapsed().as_secs() + 1;
        let bucket = &self.buckets[(second % BUCKETS) as usize];
        let seen = bucket.second.load(Relaxed);
        if seen != second
            && (bucket.second.compare_exchange(seen, second, Relaxed, Relaxed)).is_ok()
        {
            bucket.requests.store(0, Relaxed);
            bucket.failures.store(0, Relaxed);
            bucket.micros.store(0, Relaxed);
        }
        bucket.requests.fetch_add(1, Relaxed);
        bucket.failures.fetch_add(u64::from(failed), Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        bucket.micros.fetch_add(micros, Relaxed);
    }

    /// The figures of the last minute, the current second included.
    pub fn summary(&self) -> Summary {
        let elapsed = self.start.elapsed();
        let now = elapsed.as_secs() + 1;
        let oldest = now.saturating_sub(WINDOW_SECONDS - 1).max(1);
        let (mut requests, mut failures, mut micros) = (0, 0, 0);
        for bucket in &self.buckets {
            if (oldest..=now).contains(&bucket.second.load(Relaxed)) {
                requests += bucket.requests.load(Relaxed);
                failures += bucket.failures.load(Relaxed);
                micros += bucket.micros.load(Relaxed);
            }
        }
        let begun = (oldest - 1) as f64;
        let seconds = (elapsed.as_secs_f64() - begun).max(1.0);
        let each = |sum: f64| {
            if requests == 0 { 0.0 } else { sum / requests as f64 }
        };
        Summary {
            requests,
            per_second: requests as f64 / seconds,
            latency_ms: each(micros as f64 / 1_000.0),
            failure_share: each(failures as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn figures_cover_the_last_minute_and_forget_older_ones() {
        let traffic = Traffic::default();
        assert_eq!(traffic.summary().requests, 0);
        assert_eq!(traffic.summary().latency_ms, 0.0);
        for second in 0..10 {
            traffic.record(Duration::from_millis(4), second == 0);
            traffic.record(Duration::from_millis(8), false);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let summary = traffic.summary();
        assert_eq!(summary.requests, 20);
        assert_eq!(summary.per_second, 2.0);
        assert_eq!(summary.latency_ms, 6.0);
        assert_eq!(summary.failure_share, 0.05);

        tokio::time::advance(Duration::from_secs(54)).await;
        assert_eq!(traffic.summary().requests, 10, "seconds 0 to 4 have left the window");
        // Second 64 takes the bucket of second 0 and must not inherit its counts.
        traffic.record(Duration::from_millis(1), false);
        assert_eq!(traffic.summary().requests, 11);
        tokio::time::advance(Duration::from_secs(600)).await;
        assert_eq!(traffic.summary().requests, 0);
    }
}
