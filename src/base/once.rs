//! A value that is made once, by a task, for whoever waits for it.
//!
//! Who asks first has it made; who asks meanwhile waits for the same. The work is a task of the instance: a
//! caller that goes away takes nothing with it. A failure is told to all who wait, and the next call begins
//! anew.

use crate::base::tasks::Tasks;
use crate::base::{Error, Result};
use futures::FutureExt;
use futures::future::Shared;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::oneshot;

type Outcome<T> = Shared<oneshot::Receiver<Result<T, Arc<Error>>>>;

enum State<T> {
    Unmade,
    Making(Outcome<T>),
    Made(T),
}

/// See the [module](self). Values are handles: cloning one is cheap.
pub struct Once<T> {
    state: Arc<Mutex<State<T>>>,
}

impl<T> fmt::Debug for Once<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Once")
    }
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Once { state: Arc::new(Mutex::new(State::Unmade)) }
    }
}

fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl<T: Clone + Send + Sync + 'static> Once<T> {
    /// The value, where it is made.
    pub fn get(&self) -> Option<T> {
        match &*lock(&self.state) {
            State::Made(value) => Some(value.clone()),
            _ => None,
        }
    }

    /// The value, made by a task `name` where nobody has begun to.
    pub async fn get_or_make<F>(
        &self,
        tasks: &Tasks,
        name: &'static str,
        make: impl FnOnce() -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let outcome = {
            let mut state = lock(&self.state);
            match &*state {
                State::Made(value) => return Ok(value.clone()),
                // A task that ended before it told makes room for another.
                State::Making(outcome)
                    if !matches!(outcome.clone().now_or_never(), Some(Err(_))) =>
                {
                    outcome.clone()
                }
                _ => {
                    let (tell, outcome) = oneshot::channel();
                    let outcome: Outcome<T> = outcome.shared();
                    let (making, shared) = (make(), self.state.clone());
                    drop(tasks.spawn(name, async move {
                        let made = making.await;
                        *lock(&shared) = match &made {
                            Ok(value) => State::Made(value.clone()),
                            Err(_) => State::Unmade,
                        };
                        // Nobody may wait any more.
                        let _ = tell.send(made.map_err(Arc::new));
                    }));
                    *state = State::Making(outcome.clone());
                    outcome
                }
            }
        };
        let stopped = || match tasks.are_ending() {
            true => Error::shutting_down(),
            false => Error::internal("a task ended before its work was done; see the log"),
        };
        match outcome.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(error.replicate()),
            Err(_) => Err(stopped()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Code;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;
    use tokio::time::{sleep, timeout};

    #[tokio::test(start_paused = true)]
    async fn whoever_goes_away_takes_nothing_with_it() {
        let (tasks, once, begun) = (Tasks::default(), Once::default(), Arc::new(AtomicU32::new(0)));
        let make = || {
            let begun = begun.clone();
            async move {
                begun.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_secs(10)).await;
                Ok(7)
            }
        };
        for _ in 0..4 {
            let asked = once.get_or_make(&tasks, "test", make);
            assert!(timeout(Duration::from_secs(2), asked).await.is_err());
        }
        assert_eq!(once.get(), None);
        let asked = once.get_or_make(&tasks, "test", make);
        assert_eq!(timeout(Duration::from_secs(3), asked).await.unwrap().unwrap(), 7);
        assert_eq!((once.get(), begun.load(Ordering::Relaxed)), (Some(7), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ended_before_it_told_is_followed_by_another() {
        let (tasks, once) = (Tasks::default(), Once::default());
        let panic = || async {
            sleep(Duration::from_secs(1)).await;
            panic!("on purpose")
        };
        let asked = once.get_or_make(&tasks, "test", panic);
        assert!(timeout(Duration::from_millis(1), asked).await.is_err());
        // Nobody waits for it when it ends.
        sleep(Duration::from_secs(2)).await;
        assert_eq!(once.get_or_make(&tasks, "test", || async { Ok(3) }).await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_to_all_and_the_next_call_begins_anew() {
        let (tasks, once) = (Tasks::default(), Once::<u8>::default());
        let fail = || async {
            sleep(Duration::from_secs(1)).await;
            Err(Error::unavailable("no"))
        };
        let both = tokio::join!(
            once.get_or_make(&tasks, "test", fail),
            once.get_or_make(&tasks, "test", || async { Ok(1) })
        );
        assert!(both.0.is_err() && both.1.is_err());
        assert_eq!(once.get_or_make(&tasks, "test", || async { Ok(2) }).await.unwrap(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_leaves_no_one_waiting() {
        let (tasks, once) = (Tasks::default(), Once::<u8>::default());
        let bad = || async { panic!("on purpose") };
        let error = once.get_or_make(&tasks, "test", bad).await.unwrap_err();
        assert_eq!(error.code(), Code::Internal);
        assert_eq!(once.get_or_make(&tasks, "test", || async { Ok(2) }).await.unwrap(), 2);
    }
}
