//! Holds all tasks of an instance where they stand, as a stopped process or a suspended machine does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// Open, or closed: then no task goes on before it is open again. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_closed: AtomicBool,
    /// Tasks that something happened to meanwhile, in the order in which it did.
    waiting: Mutex<Vec<Waker>>,
}

impl Gate {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No task goes on from now on.
    pub fn close(&self) {
        self.0.is_closed.store(true, Ordering::SeqCst);
    }

    /// All go on, and find that time has passed.
    pub fn open(&self) {
        let waiting = {
            let mut waiting = self.waiting();
            self.0.is_closed.store(false, Ordering::SeqCst);
            std::mem::take(&mut *waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Whether a task has to wait; then it is woken when the gate opens.
    pub fn holds(&self, waker: &Waker) -> bool {
        if !self.0.is_closed.load(Ordering::Relaxed) {
            return false;
        }
        let mut waiting = self.waiting();
        let is_closed = self.0.is_closed.load(Ordering::SeqCst);
        if is_closed && !waiting.iter().any(|other| other.will_wake(waker)) {
            waiting.push(waker.clone());
        }
        is_closed
    }
}
