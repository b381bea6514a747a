//! Earlier versions of a manifest that nobody asks for any more.
//!
//! What is kept answers "what was the collection made of?" for every moment of the last
//! `manifest_history_ms`: a version goes when the one after it is older than that. So the last one
//! before the manifest in force always stays.
//!
//! Ages are by the clocks of those that wrote the versions. One that is set ahead deletes nothing early:
//! what it wrote then is as old as the version after it, and where it is ours, only the time counts that
//! has passed since the start. Nor does one that cannot be read keep those after it for ever: it, too, is as old
//! as the version after it.

use super::visit::{LIST_PAGE, LOOK_ANYWAY, PAGES_MAX, Visited, Visitor};
use crate::base::clock::Mark;
use crate::base::{Result, Timestamp};
use crate::manifest::{self, Manifest};
use crate::store::cas::{Change, Stamp};
use crate::store::{Fetched, Key, get, paths};
use futures::stream::{self, StreamExt};
use serde::Deserialize;
use std::time::Duration;

/// How often, at most, a collection's history is looked at; and how often while it lasts.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);
const LOOKS: u32 = 8;

/// What is known of a collection's history.
#[derive(Debug, Default)]
pub(super) struct History {
    next: Option<Next>,
}

/// When to look next: so long after the last look, or, where nothing but the last version is left, when the
/// manifest is not the one of this version any more, or once a day.
#[derive(Debug, Clone, Copy)]
struct Next {
    looked: Mark,
    pause: Duration,
    settled: Option<u64>,
}

impl History {
    /// Whether nothing is to be done yet.
    pub(super) fn rests(&self, visitor: &Visitor, version: u64) -> bool {
        self.next.is_some_and(|next| {
            let since = visitor.env.clock.since(next.looked);
            // A write that was held up may still leave one.
            let settled = next.settled == Some(version) && since < LOOK_ANYWAY;
            settled || since < next.pause
        })
    }
}

impl Visitor {
    /// One look at the history of a collection, of which `manifest` is in force, where it is time for one.
    pub(super) async fn collect_history(
        &self,
        manifest: &Manifest,
        known: &mut History,
    ) -> Result<Visited> {
        let version = manifest.stamp.version;
        if known.rests(self, version) {
            return Ok(Visited::default());
        }
        let looked = self.env.clock.mark();
        let every = LOOK_EVERY.min(self.kept_for / LOOKS);
        let Some(kept_for) = self.agreed(manifest).await? else {
            known.next = Some(Next { looked, pause: every, settled: None });
            return Ok(Visited::default());
        };
        let prefix = paths::manifest_history_all(&manifest.name);
        let (mut visited, mut after, mut last_old) = (Visited::default(), None::<Key>, None::<Key>);
        for page in 1.. {
            let listing = self.store.list(&prefix, after.as_ref(), LIST_PAGE).await?;
            after = listing.objects.last().map(|object| object.key.clone());
            let keys = listing.objects.into_iter().map(|object| object.key);
            let mut old: Vec<Key> = keys
                .filter(|key| {
                    paths::parse_manifest_history(key).is_some_and(|earlier| earlier < version)
                })
                .collect();
            let (all, young) = (old.len(), self.old(&old, kept_for).await?);
            old.truncate(young.at);
            // Each is deleted when the next one is known to be old, too.
            let mut known_old: Vec<Key> = last_old.take().into_iter().chain(old).collect();
            last_old = known_old.pop();
            visited.deleted += self.delete_all(known_old).await?;
            let ended = young.at < all || !listing.more;
            if ended || page == PAGES_MAX {
                visited.more = !ended;
                let pause = if ended { every.max(young.pause) } else { Duration::ZERO };
                let settled = (young.at == all && ended).then_some(version);
                known.next = Some(Next { looked, pause, settled });
                break;
            }
        }
        Ok(visited)
    }

    /// How long the versions of a collection are kept: for the longest that any instance has asked for. Who
    /// asks for more than the manifest says has it written there, and deletes nothing (`None`) before the
    /// next look: so others have the time to do the same.
    async fn agreed(&self, manifest: &Manifest) -> Result<Option<Duration>> {
        let own = self.kept_for.as_millis() as u64;
        match manifest.history_ms {
            Some(agreed) if agreed >= own => Ok(Some(Duration::from_millis(agreed))),
            _ => {
                manifest::update(&self.store, &self.env, &manifest.name, |current| {
                    Ok(match current {
                        Some(current) if current.history_ms.is_none_or(|agreed| agreed < own) => {
                            Change::Write(Manifest { history_ms: Some(own), ..current.clone() })
                        }
                        _ => Change::Keep,
                    })
                })
                .await?;
                Ok(None)
            }
        }
    }

    /// How many of some versions, in ascending order, are from before what is kept: all before the first
    /// that is not. Each of them is asked, because times do not ascend where a clock was set back.
    async fn old(&self, keys: &[Key], kept_for: Duration) -> Result<Young> {
        let now = self.env.clock.now_at_most(self.started);
        let limit = Timestamp(now.0.saturating_sub(kept_for.as_millis() as u64));
        let times = keys.iter().cloned().map(|key| async move { self.written(&key).await });
        let mut times = stream::iter(times).buffered(self.requests).enumerate();
        let mut young = Young { at: 0, pause: Duration::ZERO };
        while let Some((at, written)) = times.next().await {
            match written? {
                // By a clock that was ahead, or nobody knows: the next one decides.
                None => {}
                Some(written) if written > now => {}
                Some(written) if written < limit => young.at = at + 1,
                Some(written) => {
                    young.pause = Duration::from_millis(written.0 - limit.0);
                    break;
                }
            }
        }
        Ok(young)
    }

    /// When a version was written; long ago where it is gone already, `None` where it cannot be read.
    async fn written(&self, key: &Key) -> Result<Option<Timestamp>> {
        #[derive(Deserialize)]
        struct Stamped {
            stamp: Stamp,
        }
        let _permit = self.permit().await?;
        let Fetched::Found(object) = get(&*self.store, key).await? else {
            return Ok(Some(Timestamp(0)));
        };
        let stamped = serde_json::from_slice::<Stamped>(&object.bytes);
        let stamped = stamped.inspect_err(|error| {
            tracing::warn!(%error, %key, "this earlier manifest cannot be read");
        });
        Ok(stamped.ok().map(|stamped| stamped.stamp.updated))
    }
}

/// The first of some versions that is not old, and in how long it will be.
struct Young {
    at: usize,
    pause: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Env;
    use crate::base::clock::VirtualClock;
    use crate::base::ids::CollectionName;
    use crate::engine::collector::tests::{first_manifest, visitor};
    use crate::manifest;
    use crate::store::DynStore;
    use crate::store::cas::Change;
    use crate::store::memory::MemoryStore;
    use std::sync::Arc;

    const DAY: Duration = Duration::from_secs(24 * 3_600);

    struct Scene {
        store: DynStore,
        clock: Arc<VirtualClock>,
        env: Env,
        name: CollectionName,
        visitor: Visitor,
        known: History,
    }

    impl Scene {
        fn new() -> Scene {
            let store: DynStore = Arc::new(MemoryStore::default());
            let clock = Arc::new(VirtualClock::starting_at(Timestamp(1_000_000_000_000)));
            let env = Env::deterministic(1, clock.clone());
            let name = CollectionName::new("things").unwrap();
            let mut visitor = visitor(&store, &env);
            visitor.kept_for = 7 * DAY;
            Scene { store, clock, env, name, visitor, known: History::default() }
        }

        /// Writes the next version.
        async fn commit(&self) -> Manifest {
            let now = self.env.clock.now();
            let change = |current: Option<&Manifest>| {
                let history_ms = Some((7 * DAY).as_millis() as u64);
                let first = || Manifest { history_ms, ..first_manifest(&self.name, now) };
                Ok(Change::Write(current.cloned().unwrap_or_else(first)))
            };
            manifest::update(&self.store, &self.env, &self.name, change)
                .await
                .unwrap()
                .unwrap()
                .value
        }

        async fn collect(&mut self, manifest: &Manifest) -> u64 {
            self.visitor.collect_history(manifest, &mut self.known).await.unwrap().deleted
        }

        async fn versions(&self) -> Vec<u64> {
            let prefix = paths::manifest_history_all(&self.name);
            let listing = self.store.list(&prefix, None, LIST_PAGE).await.unwrap();
            let keys = listing.objects.iter().map(|object| &object.key);
            keys.filter_map(paths::parse_manifest_history).collect()
        }

        fn set_days_ahead(&self, days: i64) {
            self.clock.set_ahead_ms(days * DAY.as_millis() as i64);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_in_force_lately_is_kept() {
        let mut scene = Scene::new();
        let mut kept = Vec::new();
        // A version a day.
        for _ in 0..12 {
            let manifest = scene.commit().await;
            scene.collect(&manifest).await;
            kept = scene.versions().await;
            assert_eq!(*kept.last().unwrap_or(&0), manifest.stamp.version - 1);
            tokio::time::sleep(DAY).await;
        }
        // Version 12 was written on day 11; seven days before that, version 5 was just written.
        assert_eq!(kept, [4, 5, 6, 7, 8, 9, 10, 11]);
        // Of a collection that nobody changes any more, what was before the manifest in force stays.
        tokio::time::sleep(30 * DAY).await;
        let current = manifest::load(&scene.store, &scene.name).await.unwrap().unwrap().value;
        assert_eq!(scene.collect(&current).await, 7);
        assert_eq!(scene.versions().await, [11]);
        assert_eq!(scene.collect(&current).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn clocks_that_jump_cost_no_version_that_is_kept() {
        let mut scene = Scene::new();
        let mut manifest = scene.commit().await;
        // A version a day, one of them by a clock that was set back, one by a clock that was ahead.
        for ahead in [0, 0, -30, 0, 30, 0, 0] {
            tokio::time::sleep(DAY).await;
            scene.set_days_ahead(ahead);
            manifest = scene.commit().await;
        }
        tokio::time::sleep(DAY * 7 / 2).await;
        // Half of day 10: what was in force from the middle of day 3 on is kept, whatever our clock says.
        for ahead in [-35, 0, 30] {
            scene.set_days_ahead(ahead);
            scene.collect(&manifest).await;
            let kept: &[u64] = if ahead < 0 { &[1, 2, 3, 4, 5, 6, 7] } else { &[4, 5, 6, 7] };
            assert_eq!(scene.versions().await, kept, "{ahead}");
            tokio::time::sleep(Duration::from_secs(3_600)).await;
        }
        // The one from the future does not keep those before it for ever.
        scene.set_days_ahead(0);
        tokio::time::sleep(4 * DAY).await;
        scene.collect(&manifest).await;
        assert_eq!(scene.versions().await, [7]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_cannot_be_read_keeps_none_of_the_others() {
        let mut scene = Scene::new();
        let mut manifest = scene.commit().await;
        for _ in 0..12 {
            tokio::time::sleep(DAY).await;
            manifest = scene.commit().await;
        }
        for broken in [1, 3] {
            let key = paths::manifest_history(&scene.name, broken);
            scene.store.put(&key, "{".into()).await.unwrap();
        }
        scene.collect(&manifest).await;
        assert_eq!(scene.versions().await, [5, 6, 7, 8, 9, 10, 11, 12]);
    }
}
