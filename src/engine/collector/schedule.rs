//! Which collection is visited next?
//!
//! The one whose time came first: whoever has more to do is put behind all whose time has come already, so a
//! huge backlog takes its turns like everybody else.

use super::visit::Known;
use crate::base::ids::CollectionName;
use std::collections::{BTreeMap, BTreeSet};
use tokio::time::Instant;

/// Collections and when they are due. Those that are being visited are known, and not due.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    known: BTreeMap<CollectionName, Option<(Instant, Box<Known>)>>,
    due: BTreeSet<(Instant, CollectionName)>,
}

impl Schedule {
    /// Takes up a collection that is not known yet.
    pub(super) fn add(&mut self, name: CollectionName, at: Instant) {
        if !self.known.contains_key(&name) {
            self.put(name, Box::default(), at);
        }
    }

    /// Puts one back after a visit, unless it was forgotten meanwhile and is taken up anew.
    pub(super) fn put(&mut self, name: CollectionName, known: Box<Known>, at: Instant) {
        self.due.insert((at, name.clone()));
        self.known.insert(name, Some((at, known)));
    }

    /// Takes the one that is due first, where its time has come.
    pub(super) fn take(&mut self, now: Instant) -> Option<(CollectionName, Box<Known>)> {
        if self.next()? > now {
            return None;
        }
        let (_, name) = self.due.pop_first()?;
        let (_, known) = self.known.get_mut(&name)?.take()?;
        Some((name, known))
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Has a collection visited by `at`, where its manifest is not the one of the last visit.
    pub(super) fn hasten(&mut self, name: &CollectionName, version: u64, at: Instant) {
        let Some(known) = self.known.get_mut(name) else { return self.add(name.clone(), at) };
        if let Some((due, known)) = known
            && *due > at
            && known.version() != Some(version)
        {
            self.due.remove(&(*due, name.clone()));
            self.due.insert((at, name.clone()));
            *due = at;
        }
    }

    /// Forgets all but `names`; one that is being visited is forgotten the next time.
    pub(super) fn retain(&mut self, names: &BTreeSet<CollectionName>) {
        self.known.retain(|name, known| known.is_none() || names.contains(name));
        let known = &self.known;
        self.due.retain(|(_, name)| known.contains_key(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn whoever_was_due_first_is_next_and_more_work_waits_for_its_turn() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let name = |name: &str| CollectionName::new(name).unwrap();
        let mut schedule = Schedule::default();
        for (at, of) in ["huge", "b", "c"].into_iter().enumerate() {
            schedule.add(name(of), now + second * at as u32);
        }
        assert!(schedule.take(now - second).is_none());
        let late = now + second * 9;
        let (first, known) = schedule.take(late).unwrap();
        assert_eq!(first, name("huge"));
        // Known while it is visited.
        schedule.add(first.clone(), now);
        schedule.put(first, known, late);
        let order: Vec<_> =
            std::iter::from_fn(|| schedule.take(late)).map(|(name, _)| name).collect();
        assert_eq!(order, ["b", "c", "huge"].map(name));
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_changed_does_not_wait_and_what_is_gone_is_forgotten() {
        let (now, hour) = (Instant::now(), Duration::from_secs(3_600));
        let name = |name: &str| CollectionName::new(name).unwrap();
        let mut schedule = Schedule::default();
        schedule.add(name("a"), now + 6 * hour);
        schedule.add(name("b"), now + 7 * hour);
        schedule.hasten(&name("b"), 7, now + hour);
        schedule.hasten(&name("b"), 7, now + 2 * hour);
        assert_eq!(schedule.next(), Some(now + hour));
        schedule.retain(&BTreeSet::from([name("a")]));
        assert_eq!(schedule.next(), Some(now + 6 * hour));
        assert_eq!(schedule.take(now + 9 * hour).unwrap().0, name("a"));
        assert!(schedule.take(now + 9 * hour).is_none());
    }
}
