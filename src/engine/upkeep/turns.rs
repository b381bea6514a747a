//! Whose turn is it to index or to compact a collection?
//!
//! Within an instance a lock says so, among instances a lease, which whoever has the lock takes. Both
//! are for economy: what is done out of turn is wasted, and breaks nothing.

use super::Task;
use crate::base::Result;
use crate::base::ids::CollectionName;
use crate::cluster::lease::Lease;
use crate::engine::collection::Collection;
use crate::engine::context::Context;
use crate::store::paths;
use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep, timeout_at};

/// How many times as long as a lease lasts is waited for a turn: whoever died with it is out after one.
const WAIT_TTLS: u32 = 2;
/// Looks at a lease that another holds, while it lasts.
const LOOKS: u32 = 10;

/// The turns of one collection.
#[derive(Debug)]
pub struct Turns {
    index: Mutex<Lease>,
    compact: Mutex<Lease>,
}

impl Turns {
    /// Nobody's turn yet.
    pub fn new(context: &Context, name: &CollectionName) -> Turns {
        let lease = |task: Task| {
            let key = paths::upkeep_lease(task.name(), name);
            let (store, env) = (context.store.clone(), context.env.clone());
            let holder = context.instance_id.to_string();
            Mutex::new(Lease::new(store, env, key, holder, context.upkeep.lease_ttl))
        };
        Turns { index: lease(Task::Index), compact: lease(Task::Compact) }
    }

    fn of(&self, task: Task) -> &Mutex<Lease> {
        match task {
            Task::Index => &self.index,
            Task::Compact => &self.compact,
        }
    }

    /// Whether this instance holds the lease although nobody here works under it.
    pub(in crate::engine) fn holds(&self, task: Task) -> bool {
        self.free(task).is_some_and(|lease| lease.held().is_some())
    }

    /// The lease, where nobody in this instance works under it.
    pub(super) fn free(&self, task: Task) -> Option<MutexGuard<'_, Lease>> {
        self.of(task).try_lock().ok()
    }
}

/// Does `work` and renews the lease meanwhile. That it cannot be renewed is no reason to stop: the
/// compare-and-swap at the end decides.
pub(super) async fn renewing<T>(
    lease: &mut Lease,
    ttl: Duration,
    work: impl Future<Output = T>,
) -> T {
    tokio::select! {
        biased;
        done = work => done,
        never = renewals(lease, ttl / 3) => match never {},
    }
}

async fn renewals(lease: &mut Lease, pause: Duration) -> Infallible {
    loop {
        sleep(pause).await;
        drop(lease.hold().await);
    }
}

/// Does `work` when it is its turn; out of turn where that does not come for twice as long as a lease
/// lasts.
pub(super) async fn in_turn<T>(
    context: &Context,
    collection: &Collection,
    task: Task,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let ttl = context.upkeep.lease_ttl;
    let deadline = Instant::now() + WAIT_TTLS * ttl;
    while let Ok(mut lease) = timeout_at(deadline, collection.turns().of(task).lock()).await {
        if lease.hold().await?.is_some() {
            let done = renewing(&mut lease, ttl, work).await;
            // Whoever asks for this by hand may end soon, and others need not wait for that.
            lease.give_back().await;
            return done;
        }
        drop(lease);
        if Instant::now() >= deadline {
            break;
        }
        sleep(ttl / LOOKS).await;
    }
    let (name, task) = (&collection.manifest().name, task.name());
    tracing::info!(collection = %name, task, "working beside another, whose turn does not end");
    work.await
}
