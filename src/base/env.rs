//! Everything nondeterministic that an instance depends on, in one value.

use crate::base::clock::{Clock, SystemClock};
use crate::base::compute::{Compute, Priority};
use crate::base::defect::Defects;
use crate::base::metrics::Metrics;
use crate::base::rng::{Rng, SeededRng};
use crate::base::tasks::Tasks;
use crate::base::{Result, ids};
use std::num::NonZeroUsize;
use std::sync::Arc;

/// An instance's surroundings. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Env {
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
    /// The instance's tasks.
    pub tasks: Tasks,
    /// Where searches run, and nothing that takes longer.
    pub searches: Compute,
    /// Where searches run that turned out to be dear: they stand back behind the others.
    pub heavy: Compute,
    /// Where other CPU-heavy work runs for which somebody waits: large bodies, the tail, segments on their
    /// way into memory.
    pub compute: Compute,
    /// Where CPU-heavy work runs that gives way to it.
    pub background: Compute,
    /// The instance's counters.
    pub metrics: Arc<Metrics>,
    /// Deliberate faults; none outside the simulation.
    pub defects: Defects,
}

/// For what is dear half as many threads as for what is cheap, and no fewer than two: one that takes a
/// minute does not keep all others from their turn.
fn heavy_threads(threads: usize) -> usize {
    let all = match threads {
        0 => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        threads => threads,
    };
    all.div_ceil(2).max(2)
}

impl Env {
    /// The real machine, with `threads` threads for each kind of work (0: one per core).
    pub fn system(threads: usize) -> Result<Self> {
        Ok(Env {
            clock: Arc::new(SystemClock),
            rng: Arc::new(SeededRng::from_os()),
            tasks: Tasks::default(),
            searches: Compute::pool("search", threads, Priority::Normal)?,
            heavy: Compute::pool("heavy", heavy_threads(threads), Priority::Background)?,
            compute: Compute::pool("compute", threads, Priority::Lower)?,
            background: Compute::pool("background", threads, Priority::Background)?,
            metrics: Arc::new(Metrics::of_process()),
            defects: Defects::default(),
        })
    }

    /// A deterministic environment on tokio's (paused) time: tests and simulation.
    pub fn deterministic(seed: u64, clock: Arc<dyn Clock>) -> Self {
        Env {
            clock,
            rng: Arc::new(SeededRng::new(seed)),
            tasks: Tasks::default(),
            searches: Compute::Inline,
            heavy: Compute::Inline,
            compute: Compute::Inline,
            background: Compute::Inline,
            metrics: Arc::default(),
            defects: Defects::default(),
        }
    }

    /// A new time-ordered id for an object.
    pub fn ulid(&self) -> ids::Ulid {
        ids::ulid(self.clock.now(), &*self.rng)
    }

    /// A new time-ordered id for a record.
    pub fn record_id(&self) -> String {
        ids::uuid_v7(self.clock.now(), &*self.rng)
    }
}
