//! Who lives? Judged by the observer's own clock.
//!
//! 1. What counts is for how long an instance's heartbeat was seen not to change, while the observer was
//!    looking. Clocks of different machines are never compared.
//! 2. An observer that could not look for a while (the store did not answer, the process stood still)
//!    knows nothing about that while: it starts over with everybody.

use super::config::{Instance, SharedConfig};
use crate::base::Env;
use crate::base::clock::Mark;
use crate::base::ids::record_hash;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Identifies one heartbeat of one life.
type Pulse = (u64, u64, u64);

fn pulse(instance: &Instance) -> Pulse {
    let session = instance.session.as_deref().map_or(0, record_hash);
    (session, instance.beat, instance.last_heartbeat.0)
}

#[derive(Debug)]
struct Heard {
    pulse: Pulse,
    silent: Duration,
    timeout: Duration,
}

impl Heard {
    fn is_dead(&self) -> bool {
        self.silent >= self.timeout
    }
}

/// What one instance has seen of the others.
#[derive(Debug)]
pub(super) struct Observer {
    env: Env,
    timeout: Duration,
    looked: Option<Mark>,
    heard: BTreeMap<String, Heard>,
}

impl Observer {
    /// Nobody was seen yet; who is silent for `timeout` is dead.
    pub(super) fn new(env: Env, timeout: Duration) -> Self {
        Observer { env, timeout, looked: None, heard: BTreeMap::new() }
    }

    /// Takes a look that was meant to come `planned` after the one before.
    pub(super) fn look(&mut self, config: &SharedConfig, planned: Duration) {
        let gap = self.looked.map(|looked| self.env.clock.steady_since(looked));
        self.looked = Some(self.env.clock.mark());
        let blind = gap.is_none_or(|gap| gap > planned * 2);
        let credit = gap.unwrap_or_default().min(planned * 5 / 4);
        self.heard.retain(|id, _| config.instances.contains_key(id));
        for (id, instance) in &config.instances {
            let pulse = pulse(instance);
            // An instance that was set to beat less often must not die of our settings.
            let interval = Duration::from_millis(instance.interval_ms.unwrap_or(0));
            let timeout = self.timeout.max(interval.saturating_mul(2));
            let fresh = Heard { pulse, silent: Duration::ZERO, timeout };
            match self.heard.get_mut(id) {
                Some(heard) if heard.pulse == pulse && !blind => heard.silent += credit,
                Some(heard) => *heard = fresh,
                None => {
                    self.heard.insert(id.clone(), fresh);
                }
            }
        }
    }

    /// For how long `id` was seen to be silent.
    pub(super) fn silent(&self, id: &str) -> Duration {
        self.heard.get(id).map_or(Duration::ZERO, |heard| heard.silent)
    }

    /// Whether `instance`, as it stands in a config that may be newer than the last look, is dead.
    pub(super) fn is_dead(&self, id: &str, instance: &Instance) -> bool {
        self.heard.get(id).is_some_and(|heard| heard.is_dead() && heard.pulse == pulse(instance))
    }

    /// Everybody who is dead.
    pub(super) fn dead(&self) -> BTreeSet<String> {
        let dead = self.heard.iter().filter(|(_, heard)| heard.is_dead());
        dead.map(|(id, _)| id.clone()).collect()
    }

    /// In how long the next of the living will be dead, should nothing be heard of it.
    pub(super) fn next_death(&self) -> Option<Duration> {
        let living = self.heard.values().filter(|heard| !heard.is_dead());
        let next = living.map(|heard| heard.timeout - heard.silent).min()?;
        let gone = self.looked.map_or(Duration::ZERO, |at| self.env.clock.steady_since(at));
        Some(next.saturating_sub(gone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::base::clock::VirtualClock;
    use std::sync::Arc;

    const STEP: Duration = Duration::from_secs(10);

    fn config(beats: &[(&str, u64)]) -> SharedConfig {
        let entry = |beat: u64| {
            serde_json::from_value(serde_json::json!({ "role": "reader", "beat": beat })).unwrap()
        };
        let instances = beats.iter().map(|(id, beat)| ((*id).to_owned(), entry(*beat)));
        SharedConfig { instances: instances.collect(), ..Default::default() }
    }

    fn observer() -> Observer {
        let clock = Arc::new(VirtualClock::starting_at(Timestamp(1_000)));
        Observer::new(Env::deterministic(1, clock), Duration::from_secs(60))
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_for_long_enough_is_dead_until_heard_again() {
        let mut observer = observer();
        for step in 0..7 {
            assert_eq!(observer.dead().len(), 0, "{step}");
            observer.look(&config(&[("a", 1), ("b", step)]), STEP);
            tokio::time::sleep(STEP).await;
        }
        assert_eq!(observer.dead().into_iter().collect::<Vec<_>>(), ["a"]);
        observer.look(&config(&[("a", 2), ("b", 9)]), STEP);
        assert!(observer.dead().is_empty());
        assert_eq!(observer.next_death(), Some(Duration::from_secs(60)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_observer_that_could_not_look_buries_nobody() {
        let mut observer = observer();
        for _ in 0..4 {
            observer.look(&config(&[("a", 1)]), STEP);
            tokio::time::sleep(STEP).await;
        }
        // An hour in which nothing could be read.
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        observer.look(&config(&[("a", 1)]), STEP);
        assert!(observer.dead().is_empty());
        assert_eq!(observer.silent("a"), Duration::ZERO);
    }
}
