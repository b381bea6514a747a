//! Is this instance as it should be?
//!
//! What degrades an instance makes its work late or its place in the cluster unsure: it lags, its tail
//! grows faster than it is indexed, its heartbeats do not get through, its memory is over budget. What
//! only deserves a look is a warning. Each says what to do.

use crate::base::settings::Settings;
use crate::cluster::{ClusterView, InstanceMetrics, Standing};
use crate::engine::collection::Collection;
use crate::engine::collections::Collections;
use crate::engine::context::Context;
use crate::engine::reading::follower::Skipped;

/// Share of `tail_max_bytes` from which writers are about to be refused.
const TAIL_SHARE_MAX: f64 = 0.8;
/// Heartbeats that fail in a row before it counts.
const HEARTBEAT_FAILURES_MAX: u32 = 2;

/// What is wrong with an instance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Condition {
    /// Why it must stop.
    pub fatal: Vec<String>,
    /// Why it is degraded.
    pub degraded: Vec<String>,
    /// What deserves a look.
    pub warnings: Vec<String>,
}

impl Condition {
    /// Of an instance, without asking the store. `lag_bytes`: of log that it is behind, where that was found
    /// out. `view`: the cluster, where it has joined.
    pub(in crate::engine) fn of(
        settings: &Settings,
        context: &Context,
        collections: &Collections,
        vitals: &InstanceMetrics,
        lag_bytes: u64,
        view: Option<&ClusterView>,
    ) -> Condition {
        let mut condition = Condition { fatal: fatal(context, view), ..Condition::default() };
        condition.of_memory(settings, vitals.memory_usage);
        if context.duty.station().role.reads() {
            condition.of_lag(settings, vitals.lag_seconds);
            condition.of_lag_bytes(settings, lag_bytes);
        }
        for collection in collections.all() {
            let name = collection.name().as_str();
            condition.of_tail(settings, name, collection.unindexed_bytes());
            condition.of_skipped(name, &collection.skipped());
        }
        if let Some(view) = view {
            condition.of_cluster(settings, view);
        }
        let damage = context.damage.sentences();
        condition.degraded.extend(damage.grave);
        condition.warnings.extend(damage.minor);
        condition
    }

    fn of_memory(&mut self, settings: &Settings, used: u64) {
        let most = settings.memory_max_bytes;
        if most > 0 && used > most {
            self.degraded.push(format!(
                "{used} bytes of memory are in use, over memory_max_bytes ({most}); lower cache_max_bytes \
                 or give the instance more"
            ));
        }
    }

    fn of_lag(&mut self, settings: &Settings, seconds: f64) {
        let most = settings.lag_max_ms as f64 / 1_000.0;
        if most > 0.0 && seconds > most {
            self.degraded.push(format!(
                "what is shown is {seconds:.0} s old, over lag_max_ms ({most:.0} s); see whether the store \
                 answers and whether the instance has CPU to spare"
            ));
        }
    }

    fn of_lag_bytes(&mut self, settings: &Settings, bytes: u64) {
        let most = settings.lag_max_bytes;
        if most > 0 && bytes > most {
            self.degraded.push(format!(
                "{bytes} bytes of log are not shown yet, over lag_max_bytes ({most}); see whether the store \
                 answers and whether the instance has CPU to spare"
            ));
        }
    }

    fn of_tail(&mut self, settings: &Settings, collection: &str, bytes: u64) {
        let most = settings.tail_max_bytes;
        if is_long(settings, bytes) {
            self.degraded.push(format!(
                "{bytes} bytes of the log of {collection} are not indexed, and writes are refused from \
                 {most} on; add a writer with index_enabled, or write more slowly"
            ));
        }
    }

    fn of_skipped(&mut self, collection: &str, skipped: &Skipped) {
        let Some(first) = skipped.first.first() else { return };
        let named: Vec<String> =
            skipped.first.iter().map(|misfit| misfit.seq.to_string()).collect();
        self.warnings.push(format!(
            "{} writes in the log of {collection} do not fit it and are skipped, the first in entry {}: \
             {} (entries {}); write their records again",
            skipped.chunks,
            first.seq,
            first.reason,
            named.join(", ")
        ));
    }

    fn of_cluster(&mut self, settings: &Settings, view: &ClusterView) {
        if view.standing == Standing::Unlisted {
            self.warnings.push(
                "this reader may not write to the store, so it is not listed in the cluster: it serves, but others \
                 do not know of it, and synchronous writes do not wait for it; that is as it should be where it is \
                 to have no more rights than to read"
                    .to_owned(),
            );
        } else if view.heartbeat.failures >= HEARTBEAT_FAILURES_MAX {
            let reason = view.heartbeat.error.as_deref().unwrap_or("no reason is known");
            self.degraded.push(format!(
                "heartbeats do not get through ({reason}); the others will count this instance as dead; see \
                 whether it may write to {}",
                settings.config_path
            ));
        }
        let own = view.node(&view.id).map(|own| own.entry);
        if let Some((wanted, configured)) =
            own.and_then(|own| own.wanted_role.zip(own.configured_role))
            && wanted != configured
        {
            self.warnings.push(format!(
                "this instance is a {} by an order, and a {} by its settings; `brainy cluster clear-role {}` \
                 takes the order back",
                wanted.name(),
                configured.name(),
                view.id
            ));
        }
        if let Some(fault) = &view.fault {
            self.warnings.push(format!("{}; the last good one stays in force", fault.message));
        }
        if view.leader.id.is_none() {
            self.warnings.push("the cluster has no leader; one is being elected".to_owned());
        }
    }
}

fn is_long(settings: &Settings, bytes: u64) -> bool {
    bytes as f64 > TAIL_SHARE_MAX * settings.tail_max_bytes as f64
}

/// Whether so much of a collection's log is not indexed, as it was seen last, that the instance is degraded.
pub(in crate::engine) fn is_tail_long(settings: &Settings, collection: &Collection) -> bool {
    is_long(settings, collection.unindexed_bytes())
}

/// Why an instance must stop. Cheap: probes ask for nothing else.
pub(in crate::engine) fn fatal(context: &Context, view: Option<&ClusterView>) -> Vec<String> {
    let panicked =
        context.env.tasks.has_panicked().then(|| {
            "a background task panicked; restart this instance and report the log".to_owned()
        });
    let superseded = view.filter(|view| view.standing == Standing::Superseded).map(|view| {
        format!(
            "another process took over the id {}; stop this one, or give it an instance_id of its own",
            view.id
        )
    });
    panicked.into_iter().chain(superseded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_settings_and_zero_is_none() {
        let mut settings =
            Settings { memory_max_bytes: 100, lag_max_ms: 5_000, ..Default::default() };
        settings.lag_max_bytes = 100;
        let mut condition = Condition::default();
        condition.of_memory(&settings, 100);
        condition.of_lag(&settings, 5.0);
        condition.of_lag_bytes(&settings, 100);
        condition.of_tail(&settings, "c", settings.tail_max_bytes / 2);
        assert_eq!(condition, Condition::default());
        condition.of_memory(&settings, 101);
        condition.of_lag(&settings, 5.1);
        condition.of_lag_bytes(&settings, 101);
        condition.of_tail(&settings, "c", settings.tail_max_bytes);
        assert_eq!(condition.degraded.len(), 4);
        settings.lag_max_bytes = 0;
        (settings.memory_max_bytes, settings.lag_max_ms) = (0, 0);
        condition.of_memory(&settings, u64::MAX);
        condition.of_lag(&settings, f64::MAX);
        condition.of_lag_bytes(&settings, u64::MAX);
        assert_eq!(condition.degraded.len(), 4);
    }
}
