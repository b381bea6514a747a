//! The compute pool: all CPU-heavy work (search, index builds, compression) goes through here, so
//! that it never stalls the I/O threads and the simulation can run it inline.

use crate::base::{Error, Result};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::oneshot;

/// How far background threads stand back: beside busy threads they get about a tenth of a core's time,
/// so that indexing goes on, if slowly, on a machine that is never idle.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Where CPU-heavy work runs.
#[derive(Debug, Clone)]
pub enum Compute {
    /// In the caller's task: deterministic, for simulation.
    Inline,
    /// On a pool of threads.
    Pool(Arc<Pool>),
}

/// Threads, and how much is under way on them.
#[derive(Debug)]
pub struct Pool {
    threads: rayon::ThreadPool,
    /// Pieces of work that were handed over and have not ended.
    under_way: AtomicUsize,
}

/// A piece of work until it ends, however it ends.
struct UnderWay(Arc<Pool>);

impl UnderWay {
    fn on(pool: &Arc<Pool>) -> UnderWay {
        pool.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(pool.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Compute {
    /// A pool with one thread per core, or `threads` where that is not 0.
    pub fn pool(threads: usize) -> Result<Self> {
        Self::build(rayon::ThreadPoolBuilder::new().num_threads(threads), "compute")
    }

    /// The same, of threads that give way to all others where the system knows of priorities.
    pub fn background_pool(threads: usize) -> Result<Self> {
        let builder = rayon::ThreadPoolBuilder::new().num_threads(threads);
        Self::build(builder.start_handler(|_| give_way()), "background")
    }

    fn build(builder: rayon::ThreadPoolBuilder, name: &'static str) -> Result<Self> {
        builder
            .thread_name(move |index| format!("brainy-{name}-{index}"))
            .build()
            .map(|threads| Pool { threads, under_way: AtomicUsize::new(0) })
            .map(|pool| Compute::Pool(Arc::new(pool)))
            .map_err(|error| Error::internal("could not start the compute pool").caused_by(error))
    }

    /// How many pieces of work run at a time.
    pub fn threads(&self) -> usize {
        match self {
            Compute::Inline => 1,
            Compute::Pool(pool) => pool.threads.current_num_threads(),
        }
    }

    /// Whether there are threads without work beside the one that runs the only piece under way.
    pub fn is_idle(&self) -> bool {
        match self {
            Compute::Inline => false,
            Compute::Pool(pool) => {
                self.threads() > 1 && pool.under_way.load(Ordering::Relaxed) <= 1
            }
        }
    }

    /// Runs `work` to its end. A panic in it becomes an `internal` error.
    pub async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R> {
        let guarded = || {
            std::panic::catch_unwind(AssertUnwindSafe(work))
                .map_err(|_| Error::internal("a computation panicked; please report it"))
        };
        match self {
            Compute::Inline => guarded(),
            Compute::Pool(pool) => {
                let (send, receive) = oneshot::channel();
                // The receiver may be gone (the request was cancelled): then nobody wants it.
                let under_way = UnderWay::on(pool);
                pool.threads.spawn(move || {
                    let done = guarded();
                    // Before anybody hears of it and hands over the next piece.
                    drop(under_way);
                    drop(send.send(done));
                });
                receive.await.map_err(|_| Error::internal("the compute pool is gone"))?
            }
        }
    }
}

/// Lets other threads go before the calling one.
fn give_way() {
    // On Linux a priority is a thread's own; elsewhere it would be the whole process's.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "background threads keep their priority");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Code;

    #[tokio::test]
    async fn a_pool_knows_whether_it_has_nothing_else_to_do() {
        let compute = Compute::pool(2).unwrap();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let seen = compute.clone();
        assert!(compute.run(move || seen.is_idle()).await.unwrap());
        let pool = compute.clone();
        let mut blocked = std::pin::pin!(pool.run(move || held.recv()));
        assert!(futures::poll!(&mut blocked).is_pending(), "its work was handed over");
        let seen = compute.clone();
        assert!(!compute.run(move || seen.is_idle()).await.unwrap());
        drop(release);
        blocked.await.unwrap().unwrap_err();
        assert!(!Compute::Inline.is_idle() && !Compute::pool(1).unwrap().is_idle());
    }

    #[tokio::test]
    async fn work_runs_and_panics_become_errors() {
        for compute in [Compute::Inline, Compute::pool(2).unwrap()] {
            assert_eq!(compute.run(|| 6 * 7).await.unwrap(), 42);
            let error = compute.run(|| panic!("on purpose")).await.unwrap_err();
            assert_eq!(error.code(), Code::Internal);
        }
    }
}
