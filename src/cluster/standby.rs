//! Standby writers: when no other instance writes any more, exactly one of those that wait steps in.

use super::config::SharedConfig;
use super::lease::Lease;
use super::liveness::Observer;
use super::member::{BEAT_ATTEMPTS, Member, change};
use super::membership::MemberOptions;
use super::view::Standing;
use crate::base::Result;
use crate::store::paths;
use tokio::time::Instant;

/// Whether anybody but `own` writes, as far as `observer` can tell.
pub(super) fn has_writer(config: &SharedConfig, own: &str, observer: &Observer) -> bool {
    config
        .instances
        .iter()
        .any(|(id, entry)| id != own && entry.is_active_writer() && !observer.is_dead(id, entry))
}

impl Member {
    /// Steps in for the writer that this standby waits for, if it is gone. A lease spares several the
    /// attempt, and the shared config's compare-and-swap decides; while that is broken, heartbeats beside it
    /// tell the next one to hold the lease.
    pub(super) async fn stand_in(&mut self) -> Result<()> {
        let waits = self.own.standby && self.own.role.writes() && self.own.status.serves();
        let broken = self.shared.fault.is_some();
        let member = self.standing == Standing::Member && (self.shared.is_writable() || broken);
        let MemberOptions { env, id, store, timing, .. } = &*self.options;
        if !waits || !member || has_writer(self.shared.config(), id, &self.observer) {
            self.saw_writer |= waits && member;
            self.writerless = None;
            return Ok(());
        }
        let since = *self.writerless.get_or_insert_with(Instant::now);
        // A cluster that starts may have its writer yet to come.
        if !self.saw_writer && since.elapsed() < timing.instance_timeout {
            return Ok(());
        }
        // Kept from round to round: a lease expires only for those that go on looking at it.
        let mut lease = self.writer_lease.take().unwrap_or_else(|| {
            let (key, ttl) = (paths::cluster_lease("writer"), timing.leader_lease);
            let holder = super::election::holder(id, &self.session);
            Lease::new(store.clone(), env.clone(), key, holder, ttl)
        });
        let stepped_in = self.step_in(&mut lease, broken).await;
        self.writer_lease = Some(lease);
        if stepped_in? {
            tracing::warn!("no other instance writes: this standby steps in");
            self.writerless = None;
        }
        Ok(())
    }

    /// Steps in where the lease is free; whether it did.
    async fn step_in(&mut self, lease: &mut Lease, broken: bool) -> Result<bool> {
        if lease.hold().await?.is_none() {
            return Ok(false);
        }
        let stepped_in = match broken {
            true => self.step_in_beside().await,
            false => self.step_in_within().await,
        };
        lease.release().await?;
        self.own.standby &= !matches!(stepped_in, Ok(true));
        stepped_in
    }

    async fn step_in_within(&mut self) -> Result<bool> {
        self.shared.look().await?;
        let MemberOptions { env, id, .. } = &*self.options;
        let (observer, mut alone) = (&self.observer, false);
        change(&mut self.shared, env, BEAT_ATTEMPTS, |config, _| {
            alone = !has_writer(config, id, observer);
            let Some(entry) = config.instances.get_mut(&**id).filter(|_| alone) else {
                return Ok(false);
            };
            if !std::mem::replace(&mut entry.standby, false) {
                return Ok(false);
            }
            config.failover.count += 1;
            config.failover.last_at = Some(env.clock.now());
            Ok(true)
        })
        .await?;
        Ok(alone)
    }

    /// While the shared config is broken: says so in a heartbeat before the lease is given back.
    async fn step_in_beside(&mut self) -> Result<bool> {
        self.overflow.collect().await?;
        self.keep_folded();
        let id = &self.options.id;
        if has_writer(self.shared.config(), id, &self.observer) {
            return Ok(false);
        }
        let mut heartbeat = self.heartbeat();
        heartbeat.instance.standby = false;
        heartbeat.instance.beat += 1;
        self.overflow.put(id, &heartbeat).await?;
        self.own.beat = heartbeat.instance.beat;
        Ok(true)
    }
}
