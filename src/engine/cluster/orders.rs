//! What is asked of this instance is done, without a restart.
//!
//! 1. A role is taken at the next heartbeat. One that begins to write first finds out that the store can
//!    be trusted with it, as at start; one that stops writing admits no write any more and finishes those
//!    in flight before it says so.
//! 2. What it was asked for last counts, also after a restart, until the settings say another role than
//!    they did when it was asked.

use super::Cluster;
use crate::base::Result;
use crate::base::backoff::Backoff;
use crate::base::settings::Role;
use crate::cluster::{self, Membership, Standing, Status};
use crate::engine::context::Context;
use crate::engine::duty::Station;
use crate::store::probe::{Effort, probe, require_safe};
use std::time::Duration;
use tokio::time::Instant;

/// How long until an order that could not be carried out is tried again: the first time, and at most.
const RETRY: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(300);

/// Carries out what is asked of this instance.
#[derive(Debug)]
pub(super) struct Orders {
    cluster: Cluster,
    membership: Membership,
    /// What the others were told last.
    told: (Role, Status),
    /// Whether the store has been found safe for writers.
    trusted: bool,
}

impl Orders {
    pub(super) fn new(cluster: Cluster, membership: Membership) -> Orders {
        let configured = cluster.0.configured;
        let trusted = configured.writes();
        Orders { cluster, membership, told: (configured, Status::Active), trusted }
    }

    fn context(&self) -> &Context {
        &self.cluster.0.context
    }

    /// Until the instance stops or leaves.
    pub(super) async fn run(mut self) {
        let stop = self.context().env.tasks.stopping().clone();
        let mut orders = self.membership.orders();
        let mut views = self.membership.changed();
        let mut backoff = Backoff::new(RETRY, RETRY_MAX);
        loop {
            let again = backoff.until();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                // Before the orders: where the membership has ended, the last view says why.
                changed = views.changed() => {
                    if changed.is_err() || views.borrow_and_update().standing == Standing::Left {
                        return;
                    }
                    if views.borrow().standing == Standing::Superseded {
                        return self.cluster.0.ousted.cancel();
                    }
                    // Collections that nobody reads are kept up to date as often as heartbeats tell.
                    self.keep_current().await;
                    self.cluster.weigh_lag().await;
                    self.report().await;
                }
                changed = orders.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
            }
            let wanted = *orders.borrow_and_update();
            let result = self.carry_out(wanted).await;
            if result.is_ok() {
                backoff.succeeded();
            }
            if let Err(error) = result {
                let again_in_ms = backoff.failed(&*self.context().env.rng).as_millis() as u64;
                tracing::error!(
                    target: "brainy::role", %error, ?wanted, again_in_ms,
                    "an order could not be carried out"
                );
            }
        }
    }

    async fn carry_out(&mut self, wanted: cluster::Orders) -> Result<()> {
        let role = wanted.role.unwrap_or(self.cluster.0.configured);
        let station = Station { role, standby: wanted.standby && role.writes() };
        let duty = self.context().duty.clone();
        let before = duty.station();
        if before == station {
            // One that leaves and joins again joins as configured.
            if self.told.0 != role {
                self.tell(role, Status::Active).await;
            }
            return Ok(());
        }
        if role.writes() && !self.trusted {
            let Context { store, env, .. } = self.context();
            require_safe(&probe(store, env, Effort::START).await?)?;
            self.trusted = true;
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
        tracing::info!(
            target: "brainy::role", role = role.name(), standby = station.standby,
            before = before.role.name(), "the role has changed"
        );
        self.tell(role, Status::Active).await;
        Ok(())
    }

    /// Others learn of it now, or else with the next heartbeat.
    async fn tell(&mut self, role: Role, status: Status) {
        heard(self.membership.update_self(role, status.clone()).await);
        self.told = (role, status);
    }

    /// Tells the others when this instance is no longer as it should be, or is so again.
    async fn report(&mut self) {
        let condition = self.cluster.condition();
        let status = match condition.fatal.is_empty() && condition.degraded.is_empty() {
            true => Status::Active,
            false => Status::Degraded,
        };
        let told = &mut self.told.1;
        if *told != status && matches!(told, Status::Active | Status::Degraded) {
            *told = status.clone();
            heard(self.membership.report(status).await);
        }
    }

    async fn keep_current(&self) {
        if !self.context().duty.station().role.reads() {
            return;
        }
        for collection in self.cluster.0.collections.all() {
            if let Err(error) = collection.keep_current().await {
                tracing::debug!(%error, "a collection could not be brought up to date");
            }
        }
    }
}

/// What does not get through now goes with the next heartbeat.
fn heard(told: Result<()>) {
    if let Err(error) = told {
        tracing::warn!(target: "brainy::role", %error, "the cluster could not be told; trying again");
    }
}
