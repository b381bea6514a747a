//! What may writes of all collections together hold in memory?
//!
//! Each collection bounds its own tail; an instance has many, and one memory. So what waits to be written, the
//! tails, and the process as a whole have a bound each, past which a write is told to come back later. Errors:
//! `backpressure`, before anything is stored.

use crate::base::metrics::Metrics;
use crate::base::settings::Settings;
use crate::base::units::Units;
use crate::base::{Code, Error, Result};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Memory of waiting writes is counted in these units.
const QUEUE_UNIT_BYTES: u64 = 1 << 10;
/// How long a client that is turned away should wait.
pub const RETRY_AFTER_MS: u64 = 1_000;
/// Share of the memory that the process may hold before writes are refused: the rest is for what indexing takes
/// until it has caught up.
const MEMORY_SHARE_MAX: f64 = 0.85;

/// The bounds of an instance. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Units,
    queue_max_bytes: u64,
    tails_max_bytes: u64,
    memory_max_bytes: Option<u64>,
    metrics: Arc<Metrics>,
}

impl Admission {
    /// Those of an instance with these settings.
    pub fn new(settings: &Settings, metrics: Arc<Metrics>) -> Admission {
        let queue_max_bytes = settings.write_queue_max_bytes;
        Admission(Arc::new(Inner {
            queue: Units::new(queue_max_bytes, QUEUE_UNIT_BYTES),
            queue_max_bytes,
            tails_max_bytes: settings.tail_total_max_bytes,
            memory_max_bytes: settings.memory_limit_bytes,
            metrics,
        }))
    }

    /// Room for `bytes` that wait to be written. What is larger than all of it takes all of it.
    pub fn wait_in_queue(&self, bytes: u64) -> Result<OwnedSemaphorePermit> {
        self.0.queue.try_take(bytes).map_err(|_| {
            let limit = self.0.queue_max_bytes;
            refused(format!("more than {limit} bytes of writes wait for the store; retry later"))
        })
    }

    /// Refuses a write where the tails, or the process, hold too much.
    pub fn check_memory(&self) -> Result<()> {
        let Inner { tails_max_bytes, memory_max_bytes, metrics, .. } = &*self.0;
        let tails = u64::try_from(metrics.tail_bytes.get()).unwrap_or(0);
        if tails > *tails_max_bytes {
            return Err(refused(format!(
                "the collections hold {tails} bytes of log in memory that are not indexed yet, the limit is \
                 tail_total_max_bytes ({tails_max_bytes}); retry later"
            ))
            .with("tailBytes", tails)
            .with("tailTotalMaxBytes", *tails_max_bytes));
        }
        let Some(limit) = *memory_max_bytes else { return Ok(()) };
        let held = metrics.process.private_bytes();
        if held as f64 <= limit as f64 * MEMORY_SHARE_MAX {
            return Ok(());
        }
        Err(refused(format!(
            "this process holds {held} of the {limit} bytes of memory that it may use; retry later, and if it \
             lasts, give it more memory or lower cache_max_bytes"
        ))
        .with("memoryBytes", held)
        .with("memoryLimitBytes", limit))
    }
}

fn refused(message: String) -> Error {
    Error::new(Code::Backpressure, message).retry_after_ms(RETRY_AFTER_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(settings: Settings, metrics: Metrics) -> (Admission, Arc<Metrics>) {
        let metrics = Arc::new(metrics);
        (Admission::new(&settings, metrics.clone()), metrics)
    }

    #[test]
    fn one_queue_is_for_all_collections_and_takes_one_that_is_larger() {
        let settings = Settings { write_queue_max_bytes: 64 << 10, ..Settings::default() };
        let (one, _) = admission(settings, Metrics::default());
        let other = one.clone();
        let held = one.wait_in_queue(48 << 10).unwrap();
        let error = other.wait_in_queue(32 << 10).unwrap_err();
        assert_eq!((error.code(), error.retry_after()), (Code::Backpressure, Some(RETRY_AFTER_MS)));
        drop(held);
        let _all = other.wait_in_queue(1 << 30).unwrap();
        assert!(one.wait_in_queue(1).is_err());
    }

    #[test]
    fn tails_count_together_and_the_process_as_a_whole() {
        let settings = Settings { tail_total_max_bytes: 100, ..Settings::default() };
        let (admission, metrics) = self::admission(settings, Metrics::default());
        metrics.tail_bytes.set(100);
        admission.check_memory().unwrap();
        metrics.tail_bytes.set(101);
        assert_eq!(admission.check_memory().unwrap_err().details()["tailBytes"], 101);

        for (limit, passes) in [(16 << 20, false), (1 << 40, true)] {
            let settings = Settings { memory_limit_bytes: Some(limit), ..Settings::default() };
            let (admission, _) = self::admission(settings, Metrics::of_process());
            let _held = std::hint::black_box(vec![1_u8; 32 << 20]);
            assert_eq!(admission.check_memory().is_ok(), passes, "{limit}");
        }
    }
}
