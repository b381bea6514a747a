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
    /// attempt, and the shared config's compare-and-swap decides.
    pub(super) async fn stand_in(&mut self) -> Result<()> {
        let waits = self.own.standby && self.own.role.writes() && self.own.status.serves();
        let member = self.standing == Standing::Member && self.shared.is_writable();
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
        let lease = self.writer_lease.get_or_insert_with(|| {
            let (key, ttl) = (paths::cluster_lease("writer"), timing.leader_lease);
            let holder = super::election::holder(id, &self.session);
            Lease::new(store.clone(), env.clone(), key, holder, ttl)
        });
        if lease.hold().await?.is_none() {
            return Ok(());
        }
        self.shared.look().await?;
        let (observer, mut promoted) = (&self.observer, false);
        let changed = change(&mut self.shared, env, BEAT_ATTEMPTS, |config, _| {
            promoted = !has_writer(config, id, observer);
            let Some(entry) = config.instances.get_mut(&**id).filter(|_| promoted) else {
                return Ok(false);
            };
            if !std::mem::replace(&mut entry.standby, false) {
                return Ok(false);
            }
            config.failover.count += 1;
            config.failover.last_at = Some(env.clock.now());
            Ok(true)
        })
        .await;
        lease.release().await?;
        changed?;
        if promoted {
            tracing::warn!("no other instance writes: this standby steps in");
            self.own.standby = false;
            self.writerless = None;
        }
        Ok(())
    }
}
