//! A value that tasks look at, and wait on.
//!
//! As `tokio::sync::watch`, but whoever waits is woken in the order in which they began to: tokio draws lots
//! among them, and then no run of the simulation could be repeated.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::Notify;

/// See the [module](self).
#[derive(Debug)]
pub struct Watched<T> {
    value: RwLock<T>,
    changed: Notify,
}

impl<T> Watched<T> {
    /// Holds `value` first.
    pub fn new(value: T) -> Self {
        Watched { value: RwLock::new(value), changed: Notify::new() }
    }

    /// The value now. Not to be held over an await or a change.
    pub fn borrow(&self) -> RwLockReadGuard<'_, T> {
        self.value.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the value, and wakes all who wait.
    pub fn modify(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.value.write().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_waiters();
    }

    /// Waits until the value is such.
    pub async fn wait_for(&self, mut is_such: impl FnMut(&T) -> bool) {
        loop {
            // Registered before the look: a change in between is not missed.
            let changed = self.changed.notified();
            if is_such(&self.borrow()) {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[tokio::test]
    async fn all_who_wait_are_woken_in_their_order() {
        let (watched, order) = (Arc::new(Watched::new(0)), Arc::new(Mutex::new(Vec::new())));
        let waiting = (0..50).map(|number| {
            let (watched, order) = (watched.clone(), order.clone());
            async move {
                watched.wait_for(|value| *value >= 2).await;
                order.lock().unwrap().push(number);
            }
        });
        let tasks: tokio::task::JoinSet<()> = waiting.collect();
        tokio::task::yield_now().await;
        watched.modify(|value| *value = 1);
        tokio::task::yield_now().await;
        assert!(order.lock().unwrap().is_empty());
        watched.modify(|value| *value = 2);
        tasks.join_all().await;
        assert_eq!(*order.lock().unwrap(), (0..50).collect::<Vec<_>>());
        watched.wait_for(|value| *value == 2).await;
    }
}
