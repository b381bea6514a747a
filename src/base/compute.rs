//! Pools of threads: all CPU-heavy work (search, index builds, compression) goes through here, so
//! that it never stalls the I/O threads and the simulation can run it inline.
//!
//! A pool takes one piece of work after another, so what is short must not stand behind what is long:
//! each kind has threads of its own, and the system shares the cores out among them by priority.

use crate::base::{Code, Error, Result};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// How far threads stand back behind others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Not at all.
    Normal,
    /// Beside a busy thread of normal priority they get a quarter of a core's time.
    Lower,
    /// Beside a busy thread they get about a tenth of a core's time, so that indexing goes on, if slowly,
    /// on a machine that is never idle.
    Background,
}

impl Priority {
    /// On Linux a priority is a thread's own; elsewhere it would be the whole process's.
    #[cfg(target_os = "linux")]
    fn niceness(self) -> Option<i32> {
        match self {
            Priority::Normal => None,
            Priority::Lower => Some(5),
            Priority::Background => Some(10),
        }
    }
}

/// What is compressed, parsed or copied in less time than others may be kept waiting for: 100 us, about.
pub const AT_ONCE_BYTES_MAX: usize = 16 << 10;

/// Where CPU-heavy work runs.
#[derive(Debug, Clone)]
pub enum Compute {
    /// In the caller's task: deterministic, for simulation.
    Inline,
    /// The same with pauses before and after it, as where threads have much else to do.
    Paused(Arc<dyn Pauses>),
    /// On a pool of threads.
    Pool(Arc<Pool>),
}

/// How long computations wait for a thread, and those who wait for them for theirs.
pub trait Pauses: std::fmt::Debug + Send + Sync {
    /// The next pause.
    fn next(&self) -> Duration;
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
    pub fn pool(name: &'static str, threads: usize, priority: Priority) -> Result<Self> {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(move |index| format!("brainy-{name}-{index}"))
            .start_handler(move |_| stand_back(priority))
            .build()
            .map(|threads| Pool { threads, under_way: AtomicUsize::new(0) })
            .map(|pool| Compute::Pool(Arc::new(pool)))
            .map_err(|error| {
                Error::new(
                    Code::ResourcesExhausted,
                    "could not start the threads that this instance needs; raise the limit of threads \
                     (ulimit -u, the container's pids limit), or set compute_threads lower",
                )
                .caused_by(error)
            })
    }

    /// How many pieces of work run at a time.
    pub fn threads(&self) -> usize {
        match self {
            Compute::Inline => 1,
            Compute::Paused(_) => 2,
            Compute::Pool(pool) => pool.threads.current_num_threads(),
        }
    }

    /// Whether there are threads without work beside the one that runs the only piece under way.
    pub fn is_idle(&self) -> bool {
        match self {
            Compute::Inline | Compute::Paused(_) => false,
            Compute::Pool(pool) => {
                self.threads() > 1 && pool.under_way.load(Ordering::Relaxed) <= 1
            }
        }
    }

    /// As [`Compute::run`]; what goes through few `bytes` runs at once: to wake a thread, and to let it go to
    /// sleep again, costs more than that, all the more where cores are few.
    pub async fn run_over<R: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R> {
        match self {
            Compute::Pool(_) if bytes <= AT_ONCE_BYTES_MAX => here(work),
            _ => self.run(work).await,
        }
    }

    /// Runs `work` to its end. A panic in it becomes an `internal` error.
    pub async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R> {
        match self {
            Compute::Inline => here(work),
            Compute::Paused(pauses) => {
                tokio::time::sleep(pauses.next()).await;
                let done = here(work);
                tokio::time::sleep(pauses.next()).await;
                done
            }
            Compute::Pool(pool) => {
                let (send, receive) = oneshot::channel();
                // The receiver may be gone (the request was cancelled): then nobody wants it.
                let under_way = UnderWay::on(pool);
                pool.threads.spawn(move || {
                    let done = here(work);
                    // Before anybody hears of it and hands over the next piece.
                    drop(under_way);
                    drop(send.send(done));
                });
                receive.await.map_err(|_| Error::internal("the compute pool is gone"))?
            }
        }
    }
}

/// Runs `work` on the calling thread, to its end. For what takes less time than another thread takes to
/// wake up, twice. A panic in it becomes an `internal` error.
pub fn here<R>(work: impl FnOnce() -> R) -> Result<R> {
    std::panic::catch_unwind(AssertUnwindSafe(work))
        .map_err(|_| Error::internal("a computation panicked; please report it"))
}

/// Gives the calling thread its priority where the system knows of such.
fn stand_back(priority: Priority) {
    #[cfg(target_os = "linux")]
    if let Some(niceness) = priority.niceness()
        && let Err(error) = rustix::process::setpriority_process(None, niceness)
    {
        tracing::debug!(%error, "a thread keeps its priority");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = priority;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pool_knows_whether_it_has_nothing_else_to_do() {
        let compute = Compute::pool("test", 2, Priority::Normal).unwrap();
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
        assert!(
            !Compute::Inline.is_idle()
                && !Compute::pool("test", 1, Priority::Lower).unwrap().is_idle()
        );
    }

    #[tokio::test]
    async fn what_is_short_wakes_no_thread() {
        let compute = Compute::pool("test", 2, Priority::Normal).unwrap();
        let here = std::thread::current().id();
        for (bytes, same) in [(0, true), (AT_ONCE_BYTES_MAX, true), (AT_ONCE_BYTES_MAX + 1, false)]
        {
            let ran = compute.run_over(bytes, || std::thread::current().id()).await.unwrap();
            assert_eq!(ran == here, same, "{bytes}");
        }
    }

    #[tokio::test]
    async fn work_runs_and_panics_become_errors() {
        for compute in [Compute::Inline, Compute::pool("test", 2, Priority::Background).unwrap()] {
            assert_eq!(compute.run(|| 6 * 7).await.unwrap(), 42);
            let error = compute.run(|| panic!("on purpose")).await.unwrap_err();
            assert_eq!(error.code(), Code::Internal);
        }
    }
}
