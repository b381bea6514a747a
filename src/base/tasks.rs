//! The one place that spawns tasks: every task has a name, a way to stop and an owner that waits.

use crate::base::gate::Gate;
use futures::FutureExt;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of one instance.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    kill: CancellationToken,
    panicked: Arc<AtomicBool>,
    gate: Gate,
}

impl Tasks {
    /// Runs `future` until it ends or the instance is killed. A panic is logged, makes the
    /// instance unhealthy, and stays inside the task.
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let kill = self.kill.clone();
        let panicked = self.panicked.clone();
        let gate = self.gate.clone();
        self.tracker.spawn(async move {
            let mut guarded = pin!(AssertUnwindSafe(future).catch_unwind());
            let guarded = poll_fn(|cx| match gate.holds(cx.waker()) {
                true => Poll::Pending,
                false => guarded.as_mut().poll(cx),
            });
            tokio::select! {
                biased;
                () = kill.cancelled() => None,
                result = guarded => match result {
                    Ok(value) => Some(value),
                    Err(_) => {
                        panicked.store(true, Ordering::Relaxed);
                        tracing::error!(task = name, "task panicked");
                        None
                    }
                },
            }
        })
    }

    /// Runs blocking file work on tokio's blocking threads. Never used under simulation.
    #[expect(clippy::disallowed_methods, reason = "the one place that blocks")]
    pub async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
        match tokio::task::spawn_blocking(work).await {
            Ok(value) => value,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Is cancelled when the instance shuts down; every loop waits for it.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// What holds all tasks where they stand: always open outside the simulation.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Whether the instance shuts down, or is dropped where it stands.
    pub fn are_ending(&self) -> bool {
        self.stop.is_cancelled() || self.kill.is_cancelled()
    }

    /// Whether any task has panicked.
    pub fn has_panicked(&self) -> bool {
        self.panicked.load(Ordering::Relaxed)
    }

    /// Asks every task to finish and waits up to `bound`; whether all did. The rest are dropped.
    pub async fn shutdown(&self, bound: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        let finished = tokio::time::timeout(bound, self.tracker.wait()).await.is_ok();
        self.kill.cancel();
        finished
    }

    /// Asks every task to finish, and drops after `bound` those that have not. Nobody waits; without a runtime
    /// to finish in they are dropped at once.
    pub fn let_go(&self, bound: Duration) {
        if self.are_ending() {
            return;
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                let tasks = self.clone();
                tasks.stop.cancel();
                drop(runtime.spawn(async move { tasks.shutdown(bound).await }));
            }
            Err(_) => self.kill(),
        }
    }

    /// How many tasks have not ended.
    pub fn count(&self) -> usize {
        self.tracker.len()
    }

    /// Drops every task where it stands, as a crash would.
    pub fn kill(&self) {
        self.kill.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn shutdown_waits_for_tasks_and_drops_those_that_hang() {
        let tasks = Tasks::default();
        let stop = tasks.stopping().clone();
        let polite = tasks.spawn("polite", async move {
            stop.cancelled().await;
            7
        });
        assert!(tasks.shutdown(Duration::from_secs(1)).await);
        assert_eq!(polite.await.unwrap(), Some(7));

        let tasks = Tasks::default();
        let stuck = tasks.spawn("stuck", std::future::pending::<()>());
        assert!(!tasks.shutdown(Duration::from_secs(1)).await);
        assert_eq!(stuck.await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn behind_a_closed_gate_time_passes_and_nothing_happens() {
        let (tasks, done) = (Tasks::default(), Arc::new(AtomicBool::new(false)));
        let told = done.clone();
        let task = tasks.spawn("sleeper", async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            told.store(true, Ordering::Relaxed);
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        tasks.gate().close();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!done.load(Ordering::Relaxed), "it ran behind the gate");
        tasks.gate().open();
        assert_eq!(task.await.unwrap(), Some(()));
    }

    #[tokio::test]
    async fn a_panic_is_noticed_and_contained() {
        let tasks = Tasks::default();
        let result = tasks.spawn("bad", async { panic!("on purpose") }).await;
        assert_eq!(result.unwrap(), None::<()>);
        assert!(tasks.has_panicked());
    }
}
