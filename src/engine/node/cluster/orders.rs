//! What is asked of this instance is done, without a restart.
//!
//! 1. A role is taken at the next heartbeat. One that begins to write first finds out that the store can
//!    be trusted with it, as at start; one that stops writing admits no write any more and finishes those
//!    in flight before it says so.
//! 2. What it was asked for last counts, also after a restart, until the settings say another role than
//!    they did when it was asked.

use super::{Cluster, lag};
use crate::base::Result;
use crate::base::backoff::Backoff;
use crate::base::settings::Role;
use crate::cluster::{self, ClusterView, Membership, Standing, Status};
use crate::engine::context::Context;
use crate::engine::node::condition;
use crate::engine::node::duty::Station;
use crate::store::probe;
use futures::stream::{self, StreamExt};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

/// How long until an order that could not be carried out is tried again: the first time, and at most.
const RETRY: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// Collections that are brought up to date at a time.
const AT_A_TIME: usize = 16;

/// Carries out what is asked of this instance.
#[derive(Debug)]
pub(super) struct Orders {
    cluster: Cluster,
    membership: Membership,
    /// What the others were told last.
    told: Mutex<(Role, Status)>,
}

impl Orders {
    pub(super) fn new(cluster: Cluster, membership: Membership) -> Orders {
        let told = Mutex::new((cluster.0.configured, Status::Active));
        Orders { cluster, membership, told }
    }

    fn context(&self) -> &Context {
        &self.cluster.0.context
    }

    fn told(&self) -> MutexGuard<'_, (Role, Status)> {
        self.told.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Until the instance stops or leaves. Neither of the three waits for another: an order takes as long as
    /// the writes in flight, and a look at the log as long as the store.
    pub(super) async fn run(self) {
        let stop = self.context().env.tasks.stopping().clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.watch() => {}
            () = self.obey() => {}
            () = self.keep_informed() => {}
        }
    }

    /// Until this instance is no member any more.
    async fn watch(&self) {
        let mut views = self.membership.changed();
        let mut writers = BTreeSet::new();
        while views.changed().await.is_ok() {
            let view = views.borrow_and_update().clone();
            match view.standing {
                Standing::Left => return,
                Standing::Superseded => return self.cluster.0.ousted.cancel(),
                Standing::Joining | Standing::Member | Standing::Unlisted => {}
            }
            let before = std::mem::replace(&mut writers, other_writers(&view));
            if !before.is_subset(&writers) {
                self.context().writer_lost.notify_one();
            }
        }
    }

    async fn obey(&self) {
        let mut orders = self.membership.orders();
        // Whether the store has been found safe for writers.
        let mut trusted = self.cluster.0.configured.writes();
        let mut backoff = Backoff::new(RETRY, RETRY_MAX);
        loop {
            let wanted = *orders.borrow_and_update();
            match self.carry_out(wanted, &mut trusted).await {
                Ok(()) => backoff.succeeded(),
                Err(error) => {
                    let again_in_ms = backoff.failed(&*self.context().env.rng).as_millis() as u64;
                    tracing::error!(
                        target: "brainy::role", %error, ?wanted, again_in_ms,
                        "an order could not be carried out"
                    );
                }
            }
            let again = backoff.until();
            tokio::select! {
                biased;
                changed = orders.changed() => if changed.is_err() {
                    // The last view says why.
                    return std::future::pending().await;
                },
                () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
            }
        }
    }

    /// After each look at the shared config: takes up what others say they have written, and says how this
    /// instance is.
    async fn keep_informed(&self) {
        let mut views = self.membership.changed();
        while views.changed().await.is_ok() {
            let view = views.borrow_and_update().clone();
            self.keep_current(&view).await;
            self.cluster.weigh_lag().await;
            self.report().await;
        }
        std::future::pending().await
    }

    async fn carry_out(&self, wanted: cluster::Orders, trusted: &mut bool) -> Result<()> {
        let role = wanted.role.unwrap_or(self.cluster.0.configured);
        let station = Station { role, standby: wanted.standby && role.writes() };
        let duty = self.context().duty.clone();
        let before = duty.station();
        if before == station {
            // One that leaves and joins again joins as configured.
            let told = self.told().0;
            if told != role {
                self.tell(role, Status::Active).await;
            }
            return Ok(());
        }
        if role.writes() && !*trusted {
            let Context { store, env, .. } = self.context();
            probe::fit(role.writes(), store, env).await?;
            *trusted = true;
        }
        if role.reads() && !before.role.reads() {
            // Read paths that were made for a writer keep nothing in memory to search.
            self.cluster.0.collections.forget_all();
        }
        duty.set(station);
        if before.takes_writes() && !station.takes_writes() {
            self.tell(role, Status::Draining).await;
            let bound = Duration::from_millis(self.cluster.0.settings.shutdown_timeout_ms);
            if tokio::time::timeout(bound, duty.drained()).await.is_err() {
                tracing::warn!(target: "brainy::role", "writes are still in flight after the bound");
            }
        }
        self.say_why(wanted.role, before, station);
        self.tell(role, Status::Active).await;
        Ok(())
    }

    fn say_why(&self, wanted: Option<Role>, before: Station, now: Station) {
        let configured = self.cluster.0.configured.name();
        let reason = match wanted {
            Some(_) => {
                "an operator has asked for it, and that stands until it is taken back: brainy cluster \
                 clear-role"
            }
            None if before.role == now.role => "the others have come or gone",
            None => "nothing is asked of it any more, so it is what its settings say",
        };
        tracing::info!(
            target: "brainy::role", role = now.role.name(), standby = now.standby,
            before = before.role.name(), configured, reason, "the role has changed"
        );
    }

    /// Others learn of it now, or else with the next heartbeat.
    async fn tell(&self, role: Role, status: Status) {
        *self.told() = (role, status.clone());
        heard(self.membership.update_self(role, status).await);
    }

    /// Tells the others when this instance is no longer as it should be, or is so again.
    async fn report(&self) {
        let condition = self.cluster.condition();
        let status = match condition.fatal.is_empty() && condition.degraded.is_empty() {
            true => Status::Active,
            false => Status::Degraded,
        };
        {
            let told = &mut self.told().1;
            if *told == status || !matches!(told, Status::Active | Status::Degraded) {
                return;
            }
            *told = status.clone();
        }
        heard(self.membership.report(status).await);
    }

    /// Collections that nobody reads for a while are brought up to date where the heartbeats say that they
    /// are behind, or where health suffers from what was seen last: a synchronous write may wait for this
    /// instance. Where nothing was written, nothing is asked.
    async fn keep_current(&self, view: &ClusterView) {
        if !self.context().duty.station().role.reads() {
            return;
        }
        let heads = lag::heads(view, &self.cluster.vitals());
        let behind = self.cluster.0.collections.all_named().into_iter().filter(|(name, open)| {
            let head = heads.get(name.as_str()).copied().unwrap_or(0);
            let shown = open.shown_version().map_or(u64::MAX, |shown| shown.0);
            shown < head || condition::is_tail_long(&self.cluster.0.settings, open)
        });
        let looks = behind.map(|(_, open)| async move {
            if let Err(error) = open.keep_current().await {
                tracing::debug!(%error, "a collection could not be brought up to date");
            }
        });
        stream::iter(looks).buffer_unordered(AT_A_TIME).collect::<()>().await;
    }
}

/// The other instances that live and take writes.
fn other_writers(view: &ClusterView) -> BTreeSet<String> {
    let writers = view
        .nodes()
        .filter(|node| *node.id != *view.id && node.alive && node.entry.is_active_writer());
    writers.map(|node| node.id.to_owned()).collect()
}

/// What does not get through now goes with the next heartbeat.
fn heard(told: Result<()>) {
    if let Err(error) = told {
        tracing::warn!(target: "brainy::role", %error, "the cluster could not be told; trying again");
    }
}
