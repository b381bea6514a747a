//! Who lives? Judged by the observer's own clock.
//!
//! 1. What counts is for how long an instance's heartbeat was seen not to change, while the observer was
//!    looking. Clocks of different machines are never compared.
//! 2. An observer that could not look for a while (the store did not answer, the process stood still)
//!    knows nothing about that while: it starts over with everybody.

use super::config::{Instance, SharedConfig};
use crate::base::clock::Mark;
use crate::base::{Env, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Tells one heartbeat of one life from every other.
fn pulse(instance: &Instance) -> (Option<&str>, u64, Timestamp) {
    (instance.session.as_deref(), instance.beat, instance.last_heartbeat)
}

/// What one instance has seen of the others: what it read last, and what it thinks of it. That is all that
/// it keeps, because there may be thousands.
#[derive(Debug)]
pub(super) struct Observer {
    env: Env,
    timeout: Duration,
    looked: Option<Mark>,
    seen: Arc<SharedConfig>,
    /// For how long each instance in `seen` was silent, in their order.
    silent: Vec<Duration>,
    /// Those that were for too long.
    dead: BTreeMap<String, Duration>,
}

impl Observer {
    /// Nobody was seen yet; who is silent for `timeout` is dead.
    pub(super) fn new(env: Env, timeout: Duration) -> Self {
        let (looked, seen, silent, dead) = (None, Arc::default(), Vec::new(), BTreeMap::new());
        Observer { env, timeout, looked, seen, silent, dead }
    }

    /// Takes a look that was meant to come `planned` after the one before.
    pub(super) fn look(&mut self, config: &Arc<SharedConfig>, planned: Duration) {
        let gap = self.looked.map(|looked| self.env.clock.steady_since(looked));
        self.looked = Some(self.env.clock.mark());
        let blind = gap.is_none_or(|gap| gap > planned * 2);
        let credit = gap.unwrap_or_default().min(planned * 5 / 4);
        // Both are in the order of the ids.
        let mut before = self.seen.instances.iter().zip(&self.silent).peekable();
        let mut all = Vec::with_capacity(config.instances.len());
        for (id, instance) in &config.instances {
            while before.next_if(|((known, _), _)| *known < id).is_some() {}
            let known = before.next_if(|((known, _), _)| *known == id);
            let still = known.filter(|((_, entry), _)| !blind && pulse(entry) == pulse(instance));
            all.push(still.map_or(Duration::ZERO, |(_, silent)| *silent + credit));
        }
        let judged = config.instances.iter().zip(&all);
        let dead = judged.filter(|((_, instance), silent)| **silent >= self.timeout_of(instance));
        self.dead = dead.map(|((id, _), silent)| (id.clone(), *silent)).collect();
        (self.seen, self.silent) = (config.clone(), all);
    }

    /// An instance that was set to beat less often must not die of our settings.
    fn timeout_of(&self, instance: &Instance) -> Duration {
        let interval = Duration::from_millis(instance.interval_ms.unwrap_or(0));
        self.timeout.max(interval.saturating_mul(2))
    }

    /// For how long `id`, which is dead, was seen to be silent; not at all where it is not.
    pub(super) fn silent(&self, id: &str) -> Duration {
        self.dead.get(id).copied().unwrap_or_default()
    }

    /// Whether `instance`, as it stands in a config that may be newer than the last look, is dead.
    pub(super) fn is_dead(&self, id: &str, instance: &Instance) -> bool {
        let unchanged = |seen: &Instance| pulse(seen) == pulse(instance);
        self.dead.contains_key(id) && self.seen.instances.get(id).is_some_and(unchanged)
    }

    /// Everybody who is dead.
    pub(super) fn dead(&self) -> BTreeSet<String> {
        self.dead.keys().cloned().collect()
    }

    /// In how long the next of the living will be dead, should nothing be heard of it.
    pub(super) fn next_death(&self) -> Option<Duration> {
        let judged = self.seen.instances.values().zip(&self.silent);
        let left =
            judged.map(|(instance, silent)| self.timeout_of(instance).saturating_sub(*silent));
        let next = left.filter(|left| !left.is_zero()).min()?;
        let gone = self.looked.map_or(Duration::ZERO, |at| self.env.clock.steady_since(at));
        Some(next.saturating_sub(gone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::VirtualClock;

    const STEP: Duration = Duration::from_secs(10);

    fn config(beats: &[(&str, u64)]) -> Arc<SharedConfig> {
        let entry = |beat: u64| {
            serde_json::from_value(serde_json::json!({ "role": "reader", "beat": beat })).unwrap()
        };
        let instances = beats.iter().map(|(id, beat)| ((*id).to_owned(), entry(*beat)));
        Arc::new(SharedConfig { instances: instances.collect(), ..Default::default() })
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
    async fn silence_stays_with_its_instance_while_others_come_and_go() {
        let mut observer = observer();
        for step in 0..8 {
            let beats = [("a", step), ("b", 1), ("c", step), ("d", 1), ("e", step)];
            // One half comes and goes, before and after those that are silent.
            let there = beats.into_iter().filter(|(id, _)| step % 2 == 0 || "bd".contains(id));
            observer.look(&config(&there.collect::<Vec<_>>()), STEP);
            tokio::time::sleep(STEP).await;
        }
        assert_eq!(observer.dead().into_iter().collect::<Vec<_>>(), ["b", "d"]);
        assert_eq!(observer.silent("b"), STEP * 7);
        assert_eq!(observer.silent("a"), Duration::ZERO);
        // Another life of it is another instance.
        let mut next = (*config(&[("b", 1), ("d", 1)])).clone();
        next.instances.get_mut("b").unwrap().session = Some("another".to_owned());
        assert!(!observer.is_dead("b", &next.instances["b"]));
        assert!(observer.is_dead("d", &next.instances["d"]));
        observer.look(&Arc::new(next), STEP);
        assert_eq!(observer.dead().into_iter().collect::<Vec<_>>(), ["d"]);
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
