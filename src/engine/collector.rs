//! Removes what nothing can name any more: log entries below the floor, data objects that no entry names,
//! segments and deletions that the manifest does not name, and manifests from long ago.
//!
//! Guarantees:
//!
//! 1. What is deleted is without a name for good, and was for a whole grace period by this instance's own
//!    monotonic clock, which never runs ahead of the time that others were given. That time is counted from a
//!    moment *after* the answer that showed it: what an answer shows came to be while it was under way.
//! 2. *Log entries* are below a floor that has been in the manifest for a grace period ([`floor`]).
//! 3. *Segments and deletions* are not named, and their ids are not after `sweptBefore`, so they are never named
//!    anew ([`sweep`]).
//! 4. *Data objects* go with the entry that names them, or, where none does, once an entry stands in the log
//!    that is a grace period younger than they are ([`bodies`]).
//! 5. A collection that fails keeps no other waiting, nor does one with much to delete: each is visited for
//!    itself, and a visit ends after so many requests and goes on where it stopped when the others had theirs.
//! 6. What does not change is looked at ever more rarely ([`visit`]), so an idle store costs next to nothing.
//!
//! Whatever an instance knows only of what it has seen itself, so it starts over when it starts. Of the instances
//! that write, one visits a collection ([`Duty::falls_to_us`]): several repeat work and break nothing.

mod bodies;
mod floor;
mod history;
mod schedule;
mod sweep;
#[cfg(test)]
mod tests;
mod visit;

pub use bodies::unnamed_bodies;
pub use sweep::unnamed;

use crate::base::Result;
use crate::base::ids::CollectionName;
use crate::engine::collections::Collections;
use crate::engine::context::Context;
use crate::engine::node::duty::Duty;
use crate::store::paths;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use schedule::Schedule;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::time::{Instant, sleep_until};
use visit::{Known, Visited, Visitor};

/// Collections that are visited at a time.
const VISITS_MAX: usize = 8;
/// How often all collections of the store are listed, in grace periods.
const LIST_GRACES: u32 = 6;

/// Collects, over all collections, as long as the instance runs.
#[derive(Debug)]
pub struct Collector {
    visitor: Visitor,
    duty: Duty,
    collections: Arc<Collections>,
    schedule: Schedule,
    /// When the collections are listed next.
    list_at: Instant,
    is_listing: bool,
}

/// Something that was under way.
enum Done {
    Visited(CollectionName, Box<Known>, Result<Visited>),
    Listed(Result<Vec<String>>),
}

type Busy = FuturesUnordered<BoxFuture<'static, Done>>;

impl Collector {
    /// A collector; see [`Collector::run`].
    pub fn new(context: Context, collections: Arc<Collections>) -> Self {
        let (visitor, duty) = (Visitor::new(&context), context.duty);
        let list_at = Instant::now() + visitor.pause();
        let schedule = Schedule::default();
        Collector { visitor, duty, collections, schedule, list_at, is_listing: false }
    }

    /// Collects while this instance writes, until it stops.
    pub async fn run(mut self) {
        let stop = self.visitor.env.tasks.stopping().clone();
        let mut busy = Busy::new();
        let mut tick = self.list_at;
        loop {
            let writes = self.duty.station().takes_writes();
            if writes {
                self.begin(&mut busy);
            }
            let due = self.schedule.next().filter(|_| writes && busy.len() < VISITS_MAX);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(done) = busy.next(), if !busy.is_empty() => self.settle(done),
                () = sleep_until(due.unwrap_or(tick).min(tick)) => {
                    if Instant::now() >= tick {
                        tick = Instant::now() + self.visitor.grace / 4;
                        self.hasten();
                    }
                }
            }
        }
    }

    /// Begins what is due.
    fn begin(&mut self, busy: &mut Busy) {
        let now = Instant::now();
        if now >= self.list_at && !self.is_listing {
            self.is_listing = true;
            self.list_at = now + self.visitor.grace * LIST_GRACES;
            let store = self.visitor.store.clone();
            busy.push(Box::pin(async move {
                Done::Listed(store.list_dirs(&paths::collections()).await)
            }));
        }
        while busy.len() < VISITS_MAX
            && let Some((name, mut known)) = self.schedule.take(now)
        {
            if !self.duty.falls_to_us(name.as_str()) {
                // Whoever it falls to remembers what is to be remembered.
                self.schedule.put(name, Box::default(), now + self.visitor.grace);
                continue;
            }
            let visitor = self.visitor.clone();
            busy.push(Box::pin(async move {
                let visited = visitor.visit(&name, &mut known).await;
                Done::Visited(name, known, visited)
            }));
        }
    }

    fn settle(&mut self, done: Done) {
        match done {
            Done::Visited(name, mut known, visited) => {
                let pause = self.visitor.settle(&name, &mut known, visited);
                self.schedule.put(name, known, Instant::now() + pause);
            }
            Done::Listed(listed) => {
                self.is_listing = false;
                match listed {
                    Ok(dirs) => self.know(dirs),
                    Err(error) => {
                        self.list_at = Instant::now() + self.visitor.pause();
                        tracing::warn!(%error, "collections could not be listed; trying again later");
                    }
                }
            }
        }
    }

    /// Takes up what is new, and forgets what is gone.
    fn know(&mut self, dirs: Vec<String>) {
        // A folder that is not ours is none of our business.
        let listed = dirs.into_iter().filter_map(|dir| CollectionName::new(dir).ok());
        let mut names: BTreeSet<CollectionName> = listed.collect();
        names.extend(self.collections.all_named().into_iter().map(|(name, _)| name));
        self.schedule.retain(&names);
        for name in names {
            // Not all at once.
            let at = Instant::now() + self.visitor.env.rng.jitter(self.visitor.grace / 4);
            self.schedule.add(name, at);
        }
    }

    /// Collections that are open here tell by themselves that they have changed, so they are not waited for
    /// as long as those that nobody uses.
    fn hasten(&mut self) {
        for collection in self.collections.all() {
            let manifest = collection.manifest();
            let at = Instant::now() + self.visitor.pause();
            self.schedule.hasten(&manifest.name, manifest.stamp.version, at);
        }
    }
}
