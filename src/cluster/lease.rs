//! Leases: one instance at a time does what one is enough for.
//!
//! 1. A lease is for economy only. Two may believe that they hold it, for a while; what they do must be
//!    safe by itself, by compare-and-swap on what is changed.
//! 2. Nobody compares clocks: a lease has expired for whoever has seen it unchanged for as long as it
//!    says, by their own monotonic clock.
//! 3. Every holder has an epoch of its own, and epochs grow.
//! 4. A holder counts from before it asked, everybody else from after they saw: so the holder's time is
//!    over first ([`Lease::held`]).

use crate::base::clock::Mark;
use crate::base::{Env, Result, Timestamp};
use crate::store::cas::{self, Change, Document, Loaded, Stamp};
use crate::store::{DynStore, Key};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;

/// What stands in the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseDocument {
    /// The format of this object.
    pub format_version: u64,
    /// Version and write ids.
    pub stamp: Stamp,
    /// The instance that holds it; `None` once it was given back.
    pub holder: Option<String>,
    /// Which holder this is, from 1.
    pub epoch: u64,
    /// When this holder took it, by the holder's clock; for people only.
    pub since: Timestamp,
    /// How long it lasts without a renewal.
    pub ttl_ms: u64,
    /// What newer builds have written.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Document for LeaseDocument {
    const FORMAT_VERSION: u64 = 1;
    const BYTES_MAX: u64 = 1 << 20;

    fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    fn stamp_mut(&mut self) -> &mut Stamp {
        &mut self.stamp
    }
}

/// A lease as it was seen last.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Which change of the object this is.
    pub version: u64,
    /// When this version was first seen.
    pub since: Mark,
    /// Who holds it; `None` once it was given back.
    pub holder: Option<String>,
    /// Which holder that is.
    pub epoch: u64,
    /// How long it lasts without a renewal, as its holder has said, whatever we are set to.
    pub ttl: Duration,
}

/// One instance's view of a lease.
#[derive(Debug)]
pub struct Lease {
    store: DynStore,
    env: Env,
    key: Key,
    holder: String,
    ttl: Duration,
    /// What was seen last.
    seen: Option<Seen>,
    /// Epochs up to this one were there already, whatever the object says.
    epoch_floor: u64,
    /// The epoch under which we hold it, and when we last took or renewed it.
    held: Option<(u64, Mark)>,
}

impl Lease {
    /// The lease at `key` as `holder` sees it; it lasts for `ttl` without a renewal.
    pub fn new(store: DynStore, env: Env, key: Key, holder: String, ttl: Duration) -> Lease {
        Lease { store, env, key, holder, ttl, seen: None, epoch_floor: 0, held: None }
    }

    /// The lease as it was seen last.
    pub fn seen(&self) -> Option<&Seen> {
        self.seen.as_ref()
    }

    /// The epoch under which this instance holds the lease as far as it knows, and since when it lasts.
    pub fn held(&self) -> Option<(u64, Mark)> {
        self.held
    }

    /// Takes no epoch up to `epoch`, also where the object was deleted by hand.
    pub fn set_epoch_floor(&mut self, epoch: u64) {
        self.epoch_floor = self.epoch_floor.max(epoch);
    }

    /// Looks at the lease and leaves it as it is; how often it has changed, 0 where nobody has ever held it.
    pub async fn look(&mut self) -> Result<u64> {
        let found = cas::load::<LeaseDocument>(&*self.store, &self.key).await?;
        let Some(found) = found.map(|loaded| loaded.value) else { return Ok(0) };
        let LeaseDocument { stamp, holder, epoch, ttl_ms, .. } = found;
        self.note(stamp.version, holder, epoch, ttl_ms);
        Ok(stamp.version)
    }

    fn note(&mut self, version: u64, holder: Option<String>, epoch: u64, ttl_ms: u64) {
        if self.seen.as_ref().is_none_or(|seen| seen.version != version) {
            let since = self.env.clock.mark();
            let ttl = Duration::from_millis(ttl_ms);
            self.seen = Some(Seen { version, since, holder, epoch, ttl });
        }
    }

    /// Takes the lease or renews it where that is due; the epoch under which this instance holds it,
    /// `None` where another does.
    pub async fn hold(&mut self) -> Result<Option<u64>> {
        if let Some((epoch, since)) = self.held
            && self.env.clock.since(since) < self.ttl / 3
        {
            return Ok(Some(epoch));
        }
        let now = self.env.clock.mark();
        let expired_version = self
            .seen
            .as_ref()
            .filter(|seen| self.env.clock.steady_since(seen.since) >= seen.ttl)
            .map(|seen| seen.version);
        let (holder, ttl, floor) = (&self.holder, self.ttl, self.epoch_floor);
        let change = |current: Option<&Loaded<LeaseDocument>>| {
            let current = current.map(|loaded| &loaded.value);
            let ours = current.is_some_and(|lease| lease.holder.as_deref() == Some(holder));
            let free = current.is_none_or(|lease| {
                lease.holder.is_none() || expired_version == Some(lease.stamp.version)
            });
            if !ours && !free {
                return Ok(Change::Keep);
            }
            let epoch = current.map_or(0, |lease| lease.epoch);
            let next = epoch.max(floor) + 1;
            Ok(Change::Write(LeaseDocument {
                format_version: current
                    .map_or(0, |lease| lease.format_version)
                    .max(LeaseDocument::FORMAT_VERSION),
                stamp: Stamp::default(),
                holder: Some(holder.clone()),
                epoch: if ours { epoch } else { next },
                since: match current {
                    Some(lease) if ours => lease.since,
                    _ => self.env.clock.now(),
                },
                ttl_ms: ttl.as_millis() as u64,
                extra: current.map(|lease| lease.extra.clone()).unwrap_or_default(),
            }))
        };
        let outcome = cas::update(&*self.store, &self.env, &self.key, change).await;
        let Some(found) = outcome?.map(|loaded| loaded.value) else {
            self.held = None;
            return Ok(None);
        };
        let ours = found.holder.as_deref() == Some(self.holder.as_str());
        let LeaseDocument { stamp: Stamp { version, .. }, holder, epoch, ttl_ms, .. } = found;
        self.note(version, holder, epoch, ttl_ms);
        self.held = ours.then_some((epoch, now));
        Ok(ours.then_some(epoch))
    }

    /// Gives back what is not in use: a lease that would have to be renewed now costs as much.
    pub async fn give_back_idle(&mut self) {
        if self.held.is_some_and(|(_, since)| self.env.clock.since(since) >= self.ttl / 3) {
            self.give_back().await;
        }
    }

    /// Gives the lease back where that is possible; otherwise it expires.
    pub async fn give_back(&mut self) {
        if let Err(error) = self.release().await {
            tracing::debug!(%error, "a lease could not be given back; it will expire");
        }
    }

    /// Gives the lease back, so that others need not wait.
    pub async fn release(&mut self) -> Result<()> {
        if self.held.take().is_none() {
            return Ok(());
        }
        let holder = &self.holder;
        let change = |current: Option<&Loaded<LeaseDocument>>| match current {
            Some(Loaded { value, .. }) if value.holder.as_ref() == Some(holder) => {
                Ok(Change::Write(LeaseDocument { holder: None, ..value.clone() }))
            }
            _ => Ok(Change::Keep),
        };
        cas::update(&*self.store, &self.env, &self.key, change).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::VirtualClock;
    use crate::store::memory::MemoryStore;
    use std::sync::Arc;

    const TTL: Duration = Duration::from_secs(30);

    fn lease(store: &DynStore, seed: u64, holder: &str) -> Lease {
        let clock = Arc::new(VirtualClock::starting_at(Timestamp(1_000_000)));
        let env = Env::deterministic(seed, clock);
        Lease::new(store.clone(), env, Key::raw("lease"), holder.to_owned(), TTL)
    }

    #[tokio::test(start_paused = true)]
    async fn one_holds_it_until_it_is_given_back_or_expires() {
        let store: DynStore = Arc::new(MemoryStore::default());
        let (mut a, mut b) = (lease(&store, 1, "a"), lease(&store, 2, "b"));
        assert_eq!(a.hold().await.unwrap(), Some(1));
        assert_eq!(b.hold().await.unwrap(), None);
        a.release().await.unwrap();
        assert_eq!(b.hold().await.unwrap(), Some(2));
        // Renewed in time, it stays; the epoch too.
        for _ in 0..5 {
            tokio::time::sleep(TTL / 2).await;
            assert_eq!(b.hold().await.unwrap(), Some(2));
            assert_eq!(a.hold().await.unwrap(), None);
        }
        // Abandoned, it goes to whoever has watched it for long enough.
        tokio::time::sleep(TTL / 2).await;
        assert_eq!(a.hold().await.unwrap(), None);
        tokio::time::sleep(TTL).await;
        assert_eq!(a.hold().await.unwrap(), Some(3));
        assert_eq!(b.hold().await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn it_lasts_for_as_long_as_its_holder_says() {
        let store: DynStore = Arc::new(MemoryStore::default());
        let (mut a, mut b) = (lease(&store, 1, "a"), lease(&store, 2, "b"));
        b.ttl = TTL / 10;
        assert_eq!(a.hold().await.unwrap(), Some(1));
        for _ in 0..9 {
            assert_eq!(b.hold().await.unwrap(), None);
            tokio::time::sleep(TTL / 10).await;
        }
        tokio::time::sleep(TTL / 10).await;
        assert_eq!(b.hold().await.unwrap(), Some(2));
        // And no longer, where we would wait for more.
        assert_eq!(a.hold().await.unwrap(), None);
        tokio::time::sleep(TTL / 10).await;
        assert_eq!(a.hold().await.unwrap(), Some(3));
    }
}
