//! Segments and deletions that no manifest names.
//!
//! An object without a name is either left over or about to be named, and no clock tells which: the pass that made
//! it may stand still. So there are two periods of grace:
//!
//! 1. For passes: what was without a name at every look for a grace period counts as left over. `sweptBefore` in
//!    the manifest is set past its id, by compare-and-swap. Either the manifest names it by then, or none ever
//!    will ([`Manifest::may_name`]).
//! 2. For readers of earlier manifests: what has been without a name *for good*, and for a grace period, is deleted.
//!    An object that was named and then replaced has an id from long ago, often not after `sweptBefore`; otherwise
//!    it waits for both.
//!
//! That an object was seen without a name, had one, and lost it counts for nothing: the second period begins only
//! where no name can come in between.
//!
//! Earlier manifests under `manifests/` retain nothing: they say what the collection was made of, and objects that
//! only they name are deleted. Whatever is to keep objects longer (snapshots, recovery to a point in time) has its
//! place in [`retained`].

use super::visit::{LIST_PAGE, LOOK_ANYWAY, Visited, Visitor};
use crate::base::clock::Mark;
use crate::base::defect::Defect;
use crate::base::ids::{CollectionName, Ulid};
use crate::base::{Result, Timestamp};
use crate::manifest::{self, Manifest};
use crate::store::cas::Change;
use crate::store::{DynStore, Key, Listed, paths};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of a collection's objects without a name.
#[derive(Debug, Default)]
pub(super) struct Unnamed {
    objects: BTreeMap<Key, Since>,
    /// The version of the manifest at the last look, and when that was.
    looked: Option<(u64, Mark)>,
}

/// Since when an object is without a name.
#[derive(Debug, Clone, Copy)]
struct Since {
    /// At every look.
    first: Mark,
    /// For good.
    for_good: Option<Mark>,
}

impl Unnamed {
    /// Whether nothing is to be done until the manifest is not the one of this version any more.
    pub(super) fn rests(&self, visitor: &Visitor, version: u64) -> bool {
        self.objects.is_empty()
            && self.looked.is_some_and(|(looked, at)| {
                looked == version && visitor.env.clock.since(at) < LOOK_ANYWAY
            })
    }
}

impl Visitor {
    /// One look at the objects of a collection of which `manifest` was in force just now.
    pub(super) async fn sweep(&self, manifest: &Manifest, known: &mut Unnamed) -> Result<Visited> {
        if known.rests(self, manifest.stamp.version) {
            return Ok(Visited::default());
        }
        let found = unnamed(&self.store, manifest).await?;
        let now = self.env.clock.mark();
        let mut objects = BTreeMap::new();
        for (object, id) in &found {
            let before = known.objects.get(&object.key).copied();
            let mut since = before.unwrap_or(Since { first: now, for_good: None });
            if !manifest.may_name(*id) {
                since.for_good = since.for_good.or(Some(now));
            }
            objects.insert(object.key.clone(), since);
        }
        known.objects = objects;
        let is_hasty = self.env.defects.has(Defect::SweepWithoutGrace);
        let is_over = |since: Mark| is_hasty || self.is_old(manifest, since);
        let left_over = found.iter().filter(|(object, _)| {
            let since = known.objects.get(&object.key);
            since.is_some_and(|since| since.for_good.is_none() && is_over(since.first))
        });
        let left_over: Vec<(Key, Ulid)> =
            left_over.map(|(object, id)| (object.key.clone(), *id)).collect();
        self.forbid(&manifest.name, left_over, known).await?;
        let old = known.objects.iter().filter(|(_, since)| {
            let since = match self.env.defects.has(Defect::GraceFromFirstSight) {
                true => since.for_good.map(|_| since.first),
                false => since.for_good,
            };
            since.is_some_and(is_over)
        });
        let old: BTreeSet<Key> = old.map(|(key, _)| key.clone()).collect();
        if !old.is_empty() && !self.is_kept(manifest).await? {
            return Ok(Visited { more: true, ..Visited::default() });
        }
        let deleted = self.delete_all(old.iter().cloned().collect()).await?;
        known.objects.retain(|key, _| !old.contains(key));
        known.looked = Some((manifest.stamp.version, now));
        self.env.metrics.objects_collected.inc_by(deleted);
        Ok(Visited { deleted, more: false })
    }

    /// Sees to it that no manifest names `objects` from now on; those that one names by now are known no more.
    async fn forbid(
        &self,
        name: &CollectionName,
        objects: Vec<(Key, Ulid)>,
        known: &mut Unnamed,
    ) -> Result<()> {
        let newest = objects.iter().map(|(_, id)| Timestamp(id.timestamp_ms())).max();
        let Some(newest) = newest else { return Ok(()) };
        let in_force = manifest::update(&self.store, &self.env, name, |current| match current {
            Some(current) if current.swept_before < newest => {
                Ok(Change::Write(Manifest { swept_before: newest, ..current.clone() }))
            }
            _ => Ok(Change::Keep),
        });
        let Some(in_force) = in_force.await?.map(|loaded| loaded.value) else { return Ok(()) };
        let (names, now) = (retained(&in_force), self.env.clock.mark());
        for (key, id) in objects {
            if names.contains(&id) {
                known.objects.remove(&key);
            } else if let Some(since) = known.objects.get_mut(&key)
                && !in_force.may_name(id)
            {
                since.for_good = Some(now);
            }
        }
        Ok(())
    }
}

/// The ids of all objects that must stay.
fn retained(manifest: &Manifest) -> BTreeSet<Ulid> {
    manifest.names()
}

/// The objects beside the segments of `manifest` that it does not name: what is being made, what was
/// replaced a short while ago, and what a process has left behind when it died.
pub async fn unnamed(store: &DynStore, manifest: &Manifest) -> Result<Vec<(Listed, Ulid)>> {
    let names = retained(manifest);
    let prefix = paths::vectors_all(&manifest.name);
    let (mut unnamed, mut after) = (Vec::new(), None::<Key>);
    loop {
        let listing = store.list(&prefix, after.as_ref(), LIST_PAGE).await?;
        after = listing.objects.last().map(|object| object.key.clone());
        for object in listing.objects {
            if let Some(id) = paths::parse_vectors(&object.key)
                && !names.contains(&id)
            {
                unnamed.push((object, id));
            }
        }
        if !listing.more {
            return Ok(unnamed);
        }
    }
}
