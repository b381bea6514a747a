//! Electing a leader: one coordinator for housekeeping, by a lease.
//!
//! 1. Whoever leads has an epoch of its own, also among processes that share an id.
//! 2. A leader acts only as long as the lease cannot have expired for anybody else, by its own clock.
//! 3. Only a few instances stand for election, those that have been there longest: each of them asks
//!    the store about twice in a third of the lease.

use super::lease::Lease;
use crate::base::Env;
use crate::base::backoff::Backoff;
use crate::base::clock::Mark;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long giving the lease back may take.
const RELEASE_MAX: Duration = Duration::from_secs(2);

/// Whether this instance leads.
#[derive(Debug, Clone)]
pub struct Leadership {
    env: Env,
    ttl: Duration,
    held: Arc<Mutex<Option<(u64, Mark)>>>,
}

impl Leadership {
    pub(super) fn new(env: Env, ttl: Duration) -> Self {
        Leadership { env, ttl, held: Arc::default() }
    }

    /// The epoch under which this instance may act as the leader now; ask again before every action.
    pub fn epoch(&self) -> Option<u64> {
        let held = *self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // A tenth stays unused: clocks do not run equally fast.
        held.filter(|(_, since)| self.env.clock.since(*since) < self.ttl * 9 / 10)
            .map(|(epoch, _)| epoch)
    }

    pub(super) fn set(&self, held: Option<(u64, Mark)>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }
}

/// Whether to stand for election.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Candidacy {
    pub stands: bool,
    /// The greatest epoch that the shared config knows of.
    pub epoch: u64,
}

/// The leader as this instance saw it in the lease.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Seat {
    /// The instance, `None` while nobody leads.
    pub id: Option<String>,
    /// The last epoch.
    pub epoch: u64,
    /// Whether the lease has expired or was given back.
    pub vacant: bool,
}

/// The holder's name in the lease: processes that share an id must not share an epoch.
pub(super) fn holder(id: &str, session: &str) -> String {
    format!("{id}/{session}")
}

fn holder_id(holder: &str) -> &str {
    holder.rsplit_once('/').map_or(holder, |(id, _)| id)
}

pub(super) struct Election {
    pub env: Env,
    pub lease: Lease,
    pub ttl: Duration,
    pub candidacy: watch::Receiver<Candidacy>,
    pub leadership: Leadership,
    /// `None` while this instance does not look at the lease.
    pub seat: watch::Sender<Option<Seat>>,
    pub stop: CancellationToken,
    pub polled: Option<Mark>,
    /// Whether it is known to within a step when the leader renewed last.
    pub precise: bool,
    /// After looks at the lease that failed, while somebody else may lead.
    pub backoff: Backoff,
}

impl Election {
    /// Stands for election, leads and steps down until it is told to stop.
    pub(super) async fn run(mut self) {
        loop {
            let candidacy = *self.candidacy.borrow_and_update();
            self.lease.set_epoch_floor(candidacy.epoch);
            let idle = !candidacy.stands && self.lease.held().is_none();
            let rest = if idle {
                self.seat.send_replace(None);
                self.polled = None;
                Duration::MAX
            } else {
                self.round().await
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                changed = self.candidacy.changed(), if idle => if changed.is_err() { break },
                () = tokio::time::sleep(rest), if !idle => {}
            }
        }
        self.leadership.set(None);
        let _ = tokio::time::timeout(RELEASE_MAX, self.lease.release()).await;
    }

    /// Takes, renews or watches the lease once; how long to rest.
    async fn round(&mut self) -> Duration {
        let before = self.lease.seen().map(|seen| seen.since);
        let started = self.env.clock.mark();
        let polled = self.polled.replace(started);
        let hold = tokio::time::timeout(self.ttl / 3, self.lease.hold()).await;
        if let Ok(Err(error)) = &hold {
            tracing::debug!(%error, "could not look at the leader's lease");
        }
        let held = self.lease.held();
        self.leadership.set(held);
        self.publish();
        let step = self.ttl / 20;
        if matches!(hold, Ok(Ok(_))) {
            self.backoff.succeeded();
        }
        match held {
            // Renewed, or to be tried again at once: the lease goes on.
            Some(_) if matches!(hold, Ok(Ok(_))) => self.ttl / 3,
            Some(_) => step,
            None if !matches!(hold, Ok(Ok(_))) => self.backoff.failed(&*self.env.rng).max(step),
            None => self.watch_again(before.is_none(), started, polled),
        }
    }

    /// When to look again at a lease that somebody else holds: when the next renewal is due, and then
    /// step by step, so that it is known to within a step when it was renewed.
    fn watch_again(&mut self, first: bool, started: Mark, polled: Option<Mark>) -> Duration {
        let Some(seen) = self.lease.seen() else { return self.ttl / 20 };
        let step = seen.ttl.min(self.ttl) / 20;
        let clock = &self.env.clock;
        let age = clock.steady_since(seen.since);
        // What changed was seen to change in this very look.
        let changed = clock.steady_since(started) >= age;
        if changed {
            let gap = polled.map_or(self.ttl, |polled| clock.steady_since(polled));
            self.precise = !first && (self.precise || gap <= step * 2);
        }
        let rest = if changed && self.precise { seen.ttl * 3 / 10 } else { step };
        let expiry = seen.ttl.saturating_sub(age) + Duration::from_millis(1);
        rest.min(expiry).max(Duration::from_millis(10))
    }

    fn publish(&self) {
        let seat = self.lease.seen().map(|seen| {
            let expired = self.env.clock.steady_since(seen.since) >= seen.ttl;
            let id = seen.holder.as_deref().map(|holder| holder_id(holder).to_owned());
            Seat { vacant: expired || id.is_none(), id, epoch: seen.epoch }
        });
        self.seat.send_if_modified(|now| {
            let changed = *now != seat;
            *now = seat;
            changed
        });
    }
}
