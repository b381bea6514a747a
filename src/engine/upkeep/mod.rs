//! How does the log become segments, and how do segments stay few and clean?
//!
//! Every instance that writes has two tasks for it. One indexes: it takes what the tail holds, builds segments from
//! it, partition by partition, finds the older rows of the same ids, and names both in the manifest (`index.rs`). The
//! other merges segments and splits partitions: `plan.rs` says which, `compact.rs` does the pass, and `rewrite.rs`
//! makes new segments of the live rows. A third task looks for logs that nobody indexes, on one instance for all
//! (`scan.rs`). Guarantees:
//!
//! 1. Leases keep each to one instance at a time, for economy. What makes it safe is the manifest's
//!    compare-and-swap: a pass is committed only to the segments and the log position that it started
//!    from; otherwise its outcome is brought up to date or thrown away.
//! 2. Objects are put before they are named ([`objects`]). The objects of a pass that comes to nothing are deleted by
//!    the pass, or found by the collector.
//! 3. A row that dies while its segment is merged is dead in the outcome.
//! 4. Passes of all collections together take no more memory than there is room for ([`room`]), unless a single pass
//!    needs more than that.

mod agenda;
mod by_hand;
mod commit;
mod compact;
mod index;
mod objects;
mod plan;
mod rewrite;
mod room;
mod runs;
mod scan;
mod turns;
mod worker;

pub use by_hand::{compact_all, index_all, reshard};
pub use room::Room;
pub use turns::Turns;

use crate::base::Env;
use crate::base::backoff::Backoff;
use crate::base::clock::Mark;
use crate::base::ids::CollectionName;
use crate::engine::collection::Collection;
use crate::engine::collections::Collections;
use crate::engine::context::Context;
use agenda::{Agenda, Lane};
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use scan::Scan;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use worker::Worker;

/// The longest pause before what keeps failing is tried again.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// Collections with this many rows take long to compact.
const MANY_ROWS: u64 = 100_000;
/// Collections with logs that nobody indexes, found and not yet worked on.
const FOUND_MAX: usize = 16;

/// Which of the two tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// The log becomes segments.
    Index,
    /// Segments are merged, partitions split.
    Compact,
}

impl Task {
    fn name(self) -> &'static str {
        match self {
            Task::Index => "index",
            Task::Compact => "compact",
        }
    }
}

/// What a pass has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passed {
    /// There was nothing to do, or it is not time yet.
    Idle,
    /// It is somebody else's turn.
    Theirs,
    /// The manifest has changed for the better.
    Done,
    /// Somebody else changed it first.
    Lost,
}

/// What is remembered of a collection between looks at it.
#[derive(Debug, Default)]
struct Known {
    /// The position up to which the log is indexed, or the version of the manifest, and since when it is
    /// that.
    state: Option<(u64, Mark)>,
    /// The end of the log, and since when it is there.
    end: Option<(u64, Mark)>,
    /// When far more waited to be indexed than is worth a pass.
    far_behind: Option<Mark>,
    /// Whether the last pass had all the bytes that are worth one: then what comes behind is the rest.
    in_a_row: bool,
    /// When the log was last looked at.
    looked: Option<Mark>,
    /// Whether it is known that entries have waited for long.
    overdue: bool,
    /// After passes that failed.
    backoff: Option<Backoff>,
    /// It is left alone until then.
    not_before: Option<Instant>,
}

impl Known {
    /// Leaves it alone for a while, longer each time, because a pass failed. With jitter: what fails for one
    /// often fails for all.
    fn back_off(&mut self, env: &Env, first: Duration) -> Duration {
        let backoff = self.backoff.get_or_insert(Backoff::new(first, PAUSE_MAX.max(first)));
        let wait = backoff.failed(&*env.rng);
        self.not_before = backoff.until();
        wait
    }
}

/// What came to an end.
enum Ended {
    Attended(CollectionName, Lane, Option<Box<Known>>),
    GaveBack,
}

/// Indexes or compacts, over all collections, as long as the instance runs.
#[derive(Debug)]
pub struct Upkeep {
    worker: Worker,
    agenda: Agenda,
    found: mpsc::Receiver<CollectionName>,
    /// Whether leases are being given back.
    giving_back: bool,
}

impl Upkeep {
    /// Starts the tasks.
    pub fn start(context: &Context, collections: &Arc<Collections>) {
        let (find, found) = mpsc::channel(FOUND_MAX);
        // Nobody looks for what to compact: whoever has a collection open does it.
        let (_, none) = mpsc::channel(1);
        for (task, found) in [(Task::Index, found), (Task::Compact, none)] {
            let upkeep = Upkeep {
                worker: Worker { context: context.clone(), collections: collections.clone(), task },
                agenda: Agenda::default(),
                found,
                giving_back: false,
            };
            context.env.tasks.spawn("upkeep", upkeep.run());
        }
        context.env.tasks.spawn("upkeep scan", Scan::new(context.clone(), find).run());
    }

    /// Works while this instance writes, until it stops. Nothing is waited for but here.
    async fn run(mut self) {
        let stop = self.worker.context.env.tasks.stopping().clone();
        let mut busy: FuturesUnordered<BoxFuture<'static, Ended>> = FuturesUnordered::new();
        let mut next = self.next_look();
        loop {
            while let Some((name, lane, known)) = self.agenda.next() {
                let attended = self.worker.clone().attend(name, known);
                let ended = attended
                    .map(move |(name, known)| Ended::Attended(name, lane, known.map(Box::new)));
                busy.push(ended.boxed());
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = busy.next(), if !busy.is_empty() => match ended {
                    Ended::Attended(name, lane, known) => self.agenda.done(name, lane, known.map(|known| *known)),
                    Ended::GaveBack => self.giving_back = false,
                },
                () = sleep_until(next) => {
                    next = self.next_look();
                    if self.worker.context.duty.station().takes_writes() {
                        self.look();
                    } else {
                        // What is under way comes to its end; the rest is for others.
                        self.agenda.clear();
                        if !std::mem::replace(&mut self.giving_back, true) {
                            let give_back = self.worker.clone().give_back();
                            busy.push(give_back.map(|()| Ended::GaveBack).boxed());
                        }
                    }
                }
                Some(name) = self.found.recv(), if self.agenda.waiting(Lane::Found) < FOUND_MAX => {
                    self.agenda.offer(name, Lane::Found, Instant::now());
                }
            }
        }
        drop(busy);
        self.worker.give_back().await;
    }

    fn next_look(&self) -> Instant {
        let Context { env, upkeep, .. } = &self.worker.context;
        Instant::now() + upkeep.interval / 2 + env.rng.jitter(upkeep.interval)
    }

    /// Puts the open collections in line for which there is something to do. Asks the store for nothing.
    fn look(&mut self) {
        let task = self.worker.task;
        let now = Instant::now();
        let mut needed = BTreeSet::new();
        for (name, collection) in self.worker.collections.all_named() {
            if collection.needs(task) {
                let lane = self.lane(&collection);
                self.agenda.offer(name.clone(), lane, now);
                needed.insert(name);
            }
        }
        self.agenda.remember_only(&needed);
    }

    fn lane(&self, collection: &Collection) -> Lane {
        let limits = &self.worker.context.upkeep;
        let much = match self.worker.task {
            Task::Index => collection.unindexed_bytes() >= limits.index_after_bytes,
            Task::Compact => {
                let manifest = collection.manifest();
                let rows = manifest.segments().map(|(_, segment)| u64::from(segment.rows));
                rows.sum::<u64>() >= MANY_ROWS
            }
        };
        if much { Lane::Much } else { Lane::Little }
    }
}
