//! Which collection is next?
//!
//! What there is to do stands in line, first come, first served, in one of three lanes with places of its
//! own: little work is never kept waiting by much, and what is found in the logs of others never by what this
//! instance has written itself, nor the other way round.

use super::Known;
use crate::base::ids::CollectionName;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tokio::time::Instant;

/// Where something waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// A pass over less than is worth one by its size.
    Little,
    /// A pass that may take minutes and much memory.
    Much,
    /// A log that nobody indexes.
    Found,
}

impl Lane {
    const ALL: [Lane; 3] = [Lane::Little, Lane::Much, Lane::Found];

    /// How many are worked on at a time.
    fn places(self) -> usize {
        match self {
            Lane::Little => 6,
            Lane::Much | Lane::Found => 2,
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<CollectionName>,
    busy: usize,
}

/// What waits, what is being worked on, and what is remembered in between.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    lanes: [Queue; Lane::ALL.len()],
    /// Waiting or being worked on.
    names: BTreeSet<CollectionName>,
    known: BTreeMap<CollectionName, Known>,
}

impl Agenda {
    /// Puts a collection in line, unless it is there or has to wait before it is tried again.
    pub(super) fn offer(&mut self, name: CollectionName, lane: Lane, now: Instant) {
        let waits = self.known.get(&name).and_then(|known| known.not_before);
        if waits.is_some_and(|until| until > now) || !self.names.insert(name.clone()) {
            return;
        }
        self.lanes[lane as usize].waiting.push_back(name);
    }

    /// How many wait in a lane.
    pub(super) fn waiting(&self, lane: Lane) -> usize {
        self.lanes[lane as usize].waiting.len()
    }

    /// The next one for which there is a place, with what is remembered of it.
    pub(super) fn next(&mut self) -> Option<(CollectionName, Lane, Known)> {
        Lane::ALL.into_iter().find_map(|lane| {
            let queue = &mut self.lanes[lane as usize];
            if queue.busy >= lane.places() {
                return None;
            }
            let name = queue.waiting.pop_front()?;
            queue.busy += 1;
            let mut known = self.known.remove(&name).unwrap_or_default();
            known.overdue |= lane == Lane::Found;
            Some((name, lane, known))
        })
    }

    /// One is no longer worked on; what is to be remembered of it.
    pub(super) fn done(&mut self, name: CollectionName, lane: Lane, known: Option<Known>) {
        self.lanes[lane as usize].busy -= 1;
        self.names.remove(&name);
        self.known.extend(known.map(|known| (name, known)));
    }

    /// Forgets what waits.
    pub(super) fn clear(&mut self) {
        for queue in &mut self.lanes {
            for name in queue.waiting.drain(..) {
                self.names.remove(&name);
            }
        }
        self.known.clear();
    }

    /// Forgets what is remembered of all but `names`.
    pub(super) fn remember_only(&mut self, names: &BTreeSet<CollectionName>) {
        self.known.retain(|name, _| names.contains(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn name(text: &str) -> CollectionName {
        CollectionName::new(text).unwrap()
    }

    /// The names of those that can be begun now.
    fn begun(agenda: &mut Agenda) -> Vec<(String, Lane)> {
        let next = std::iter::from_fn(|| agenda.next());
        next.map(|(name, lane, _)| (name.to_string(), lane)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn little_work_waits_for_neither_much_nor_what_was_found() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        for n in 0..20 {
            agenda.offer(name(&format!("much{n}")), Lane::Much, now);
            agenda.offer(name(&format!("found{n}")), Lane::Found, now);
        }
        assert_eq!(begun(&mut agenda).len(), 4);
        agenda.offer(name("little"), Lane::Little, now);
        agenda.offer(name("little"), Lane::Little, now);
        assert_eq!(begun(&mut agenda), [("little".to_owned(), Lane::Little)]);
        // In line, in the order in which they came.
        agenda.done(name("much0"), Lane::Much, None);
        assert_eq!(begun(&mut agenda), [("much2".to_owned(), Lane::Much)]);
        agenda.offer(name("much0"), Lane::Much, now);
        agenda.done(name("much1"), Lane::Much, None);
        assert_eq!(begun(&mut agenda), [("much3".to_owned(), Lane::Much)]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_failed_is_left_alone_until_it_is_time() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        let later = now + Duration::from_secs(60);
        agenda.offer(name("a"), Lane::Little, now);
        let (a, lane, mut known) = agenda.next().unwrap();
        known.not_before = Some(later);
        agenda.done(a, lane, Some(known));
        agenda.offer(name("a"), Lane::Little, now);
        assert!(agenda.next().is_none());
        agenda.offer(name("a"), Lane::Little, later);
        assert_eq!(agenda.next().unwrap().2.not_before, Some(later));
    }
}
