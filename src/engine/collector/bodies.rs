//! Data objects that no log entry names: a writer has uploaded one and died, or lost its turn. And what writers
//! that died have left for others to take along (`wal/waiting/`), which is nobody's once it is old.
//!
//! A data object without a name is either left over or about to be named by an append that is under way, perhaps
//! for hours. What tells them apart is the log itself, where positions have no gaps and each is taken once:
//!
//! 1. A writer names a data object only if, after it has seen the entry before the position that it takes, the
//!    object was uploaded less than half a grace period ago ([`Appender::append`]).
//! 2. What this instance has seen listed for a whole grace period is a candidate. It appends a *fence*, an
//!    entry without parts. An append that has seen the fence finds all candidates too old; one that has not is
//!    for a position at or below the fence, all of which are taken: it has lost, or its entry is there to be read.
//! 3. So what no entry up to the fence names, no entry that anybody believes ever will, and it is deleted.
//!
//! The seal of a deleted collection is such a fence for whatever was uploaded in its lives so far.
//! Where what is listed has names, or nothing is listed, there is no fence. Of each entry the part table is read
//! once. An entry that is missing or cannot be read might name anything: nothing is deleted then.
//!
//! [`Appender::append`]: crate::log::Appender::append

use super::visit::{LIST_PAGE, LOOK_ANYWAY, Visited, Visitor};
use crate::base::clock::Mark;
use crate::base::defect::Defect;
use crate::base::ids::{CollectionName, Seq, Ulid};
use crate::base::{Code, Error, Result};
use crate::engine::view::ManifestView;
use crate::log::Appender;
use crate::log::names::names_at;
use crate::log::waiting;
use crate::manifest::{self, Manifest};
use crate::store::{DynStore, Key, Listed, paths};
use futures::stream::{self, StreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How often, at most, data objects are listed, in grace periods.
const LOOK_GRACES: u32 = 4;
/// Entries whose part tables are read at a time for whoever asks what is without a name.
const READS_MAX: usize = 32;

/// What is known of a collection's data objects.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    /// When each was first listed.
    first_listed: BTreeMap<Ulid, Mark>,
    /// What entries up to `read_to` name, and the last of them that does.
    named: BTreeMap<Ulid, Seq>,
    read_to: Seq,
    /// The log's floor at the last look. What only entries below it named was to go with them.
    floor: Seq,
    /// Whether writers have left something that was to be taken along.
    has_waiting: bool,
    /// The version of the manifest at the last look, and when that was.
    looked: Option<(u64, Mark)>,
}

impl Bodies {
    /// Whether nothing is to be done until the manifest is not the one of this version any more.
    pub(super) fn rests(&self, visitor: &Visitor, version: u64) -> bool {
        !self.is_open() && !self.is_due(visitor, version)
    }

    /// Whether something is left that may have to be deleted, whatever the manifest says.
    fn is_open(&self) -> bool {
        self.has_waiting || self.first_listed.keys().any(|id| !self.named.contains_key(id))
    }

    /// Whether it is time for a look.
    fn is_due(&self, visitor: &Visitor, version: u64) -> bool {
        let Some((looked, at)) = self.looked else { return true };
        let since = visitor.env.clock.since(at);
        let open = looked != version || self.is_open();
        since >= LOOK_ANYWAY || (open && since >= visitor.grace * LOOK_GRACES)
    }

    /// Those that were listed a grace period ago and that no entry names that was read.
    fn candidates(&self, visitor: &Visitor, manifest: &Manifest) -> BTreeSet<Ulid> {
        let old = self.first_listed.iter().filter(|(_, first)| visitor.is_old(manifest, **first));
        let ids = old.map(|(id, _)| *id);
        ids.filter(|id| !self.named.contains_key(id)).collect()
    }
}

impl Visitor {
    /// One look at the data objects of a collection, where it is time for one.
    pub(super) async fn collect_bodies(
        &self,
        manifest: &Manifest,
        known: &mut Bodies,
    ) -> Result<Visited> {
        let (name, version) = (&manifest.name, manifest.stamp.version);
        if !known.is_due(self, version) {
            return Ok(Visited::default());
        }
        let listed = list(&self.store, name).await?;
        let listed: BTreeSet<Ulid> = listed.into_iter().map(|(_, id)| id).collect();
        let now = self.env.clock.mark();
        known.first_listed.retain(|id, _| listed.contains(id));
        // Looks are further apart than a grace period.
        let floor = std::mem::replace(&mut known.floor, manifest.wal_floor);
        known.named.retain(|id, seq| listed.contains(id) && *seq >= floor);
        for id in listed {
            known.first_listed.entry(id).or_insert(now);
        }
        let mut visited = self.remove_waiting(name, known).await?;
        if !known.candidates(self, manifest).is_empty() {
            self.read_names(manifest, known, None).await?;
        }
        // What only grows old while the rest is done may be named behind the fence.
        let candidates = known.candidates(self, manifest);
        if !candidates.is_empty()
            && let Some(fence) = self.fence(name).await?
        {
            self.read_names(manifest, known, Some(fence)).await?;
            visited.deleted += self.delete_unnamed(name, candidates, known).await?;
        }
        known.looked = Some((version, now));
        Ok(visited)
    }

    /// Removes what writers that died wanted others to take along, of deleted collections too. Nobody needs
    /// it, whatever the log holds of it.
    async fn remove_waiting(&self, name: &CollectionName, known: &mut Bodies) -> Result<Visited> {
        let _permit = self.permit().await?;
        let now = self.env.clock.now();
        let left = waiting::remove_old(&self.store, name, now, self.grace).await?;
        known.has_waiting = left.others;
        Ok(Visited { deleted: left.deleted, more: false })
    }

    async fn delete_unnamed(
        &self,
        name: &CollectionName,
        mut ids: BTreeSet<Ulid>,
        known: &mut Bodies,
    ) -> Result<u64> {
        ids.retain(|id| !known.named.contains_key(id));
        if self.env.defects.has(Defect::SweepNamedBodies) {
            ids = known.first_listed.keys().copied().collect();
        }
        let deleted = self.delete_all(ids.iter().map(|id| paths::wal_data(name, *id)).collect());
        let deleted = deleted.await?;
        known.first_listed.retain(|id, _| !ids.contains(id));
        self.env.metrics.wal_orphans_collected.inc_by(deleted);
        tracing::info!(collection = %name, deleted, "deleted log bodies that no entry names");
        Ok(deleted)
    }

    /// A position that is taken, and that was free when this began; of a deleted collection its seal. `None`
    /// where a deletion is not finished.
    async fn fence(&self, name: &CollectionName) -> Result<Option<Seq>> {
        let Some(current) = manifest::load(&self.store, name).await? else { return Ok(None) };
        if !current.value.is_live() {
            return Ok(Some(current.value.wal_floor.previous()));
        }
        let fenced = async {
            let (store, env) = (&self.store, &self.env);
            let view = ManifestView::open(store.clone(), env.clone(), name.clone()).await?;
            let (store, env, grace) = (store.clone(), env.clone(), self.grace);
            let mut appender =
                Appender::open(store, env, name.clone(), Arc::new(view), grace).await?;
            if self.env.defects.has(Defect::SweepWithoutFence) {
                return Ok(appender.tail().seq);
            }
            let fence = appender.tail().seq.next();
            // Where it is lost, somebody else's entry is at the position, and as young.
            appender.append(&[], None).await.map(|_| fence)
        };
        match fenced.await {
            Ok(fence) => Ok(Some(fence)),
            Err(error) if error.code() == Code::CollectionNotFound => Ok(None),
            Err(error) => Err(error.context("a fence could not be appended to the log")),
        }
    }

    /// Reads what the entries name that were not read yet: all that there are, those up to `fence` at least.
    async fn read_names(
        &self,
        manifest: &Manifest,
        known: &mut Bodies,
        fence: Option<Seq>,
    ) -> Result<()> {
        let name = &manifest.name;
        // What is below the floor may be gone with what it named.
        let mut expected = known.read_to.next().max(manifest.wal_floor);
        loop {
            let after = paths::wal_entry(name, known.read_to);
            let listing =
                self.store.list(&paths::wal_entries(name), Some(&after), LIST_PAGE).await?;
            let keys = listing.objects.iter();
            let seqs: Vec<Seq> =
                keys.filter_map(|object| paths::parse_wal_entry(&object.key)).collect();
            let Some(last) = seqs.last().copied() else { break };
            for seq in &seqs {
                if *seq > expected {
                    self.check_passed(name, seq.previous()).await?;
                }
                expected = expected.max(seq.next());
            }
            let works: Vec<_> = seqs.into_iter().map(|seq| self.names_of(name, seq)).collect();
            let mut works = stream::iter(works).buffer_unordered(self.requests);
            while let Some(names) = works.next().await {
                for (id, seq) in names? {
                    let last = known.named.entry(id).or_insert(seq);
                    *last = seq.max(*last);
                }
            }
            known.read_to = last;
            if !listing.more {
                break;
            }
        }
        match fence {
            Some(fence) if expected <= fence => self.check_passed(name, fence).await,
            _ => Ok(()),
        }
    }

    async fn names_of(&self, name: &CollectionName, seq: Seq) -> Result<Vec<(Ulid, Seq)>> {
        let _permit = self.permit().await?;
        match names_at(&self.store, name, seq).await? {
            Some(names) => Ok(names.into_iter().map(|id| (id, seq)).collect()),
            None => self.check_passed(name, seq).await.map(|()| Vec::new()),
        }
    }

    /// An entry that is not there is below the floor by now, or it is missing.
    async fn check_passed(&self, name: &CollectionName, seq: Seq) -> Result<()> {
        let current = manifest::load(&self.store, name).await?;
        if current.is_none_or(|current| seq < current.value.wal_floor) {
            return Ok(());
        }
        let key = paths::wal_entry(name, seq);
        Err(Error::corrupt(format!(
            "{key} is missing, so it is unknown which data objects it names and none is deleted; restore it \
             from a backup or remove the collection"
        )))
    }
}

/// All data objects of a collection.
async fn list(store: &DynStore, name: &CollectionName) -> Result<Vec<(Listed, Ulid)>> {
    let (prefix, mut found, mut after) = (paths::wal_data_all(name), Vec::new(), None::<Key>);
    loop {
        let listing = store.list(&prefix, after.as_ref(), LIST_PAGE).await?;
        after = listing.objects.last().map(|object| object.key.clone());
        let ids = listing.objects.into_iter().filter_map(|object| {
            let id = paths::parse_wal_data(&object.key)?;
            Some((object, id))
        });
        found.extend(ids);
        if !listing.more {
            return Ok(found);
        }
    }
}

/// The data objects of a collection that no log entry names: what is being written, and what a process has left
/// behind when it died.
pub async fn unnamed_bodies(store: &DynStore, name: &CollectionName) -> Result<Vec<Listed>> {
    // Listed first: what is named later is not among them.
    let mut bodies = list(store, name).await?;
    let mut after = None::<Key>;
    while !bodies.is_empty() {
        let listing = store.list(&paths::wal_entries(name), after.as_ref(), LIST_PAGE).await?;
        after = listing.objects.last().map(|object| object.key.clone());
        let keys = listing.objects.iter();
        let seqs: Vec<Seq> =
            keys.filter_map(|object| paths::parse_wal_entry(&object.key)).collect();
        let works: Vec<_> = seqs.into_iter().map(|seq| names_at(store, name, seq)).collect();
        let mut works = stream::iter(works).buffer_unordered(READS_MAX);
        let mut named = BTreeSet::new();
        while let Some(names) = works.next().await {
            named.extend(names?.into_iter().flatten());
        }
        bodies.retain(|(_, id)| !named.contains(id));
        if !listing.more {
            break;
        }
    }
    Ok(bodies.into_iter().map(|(object, _)| object).collect())
}
