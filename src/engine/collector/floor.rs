//! Log entries below the floor, and the data objects that they name.
//!
//! Two steps a grace period apart close the forgotten-id hazard: first the floor is advanced in the manifest, then,
//! once this instance has seen that floor for a whole grace period, the entries below it are deleted. The floor is
//! in force from a moment before the answer that showed it, so a mark taken after the answer is never too early:
//! whoever relies on a look at the manifest from before the floor relies on it for half a grace period at most.
//! What others make of the floor meanwhile changes nothing: it only grows, and the time starts over with each.
//!
//! An append that was held up may put an entry below a floor that is clean and does not move: so it is looked at again
//! once a day.

use super::visit::{LIST_PAGE, LOOK_ANYWAY, PAGES_MAX, Visited, Visitor};
use crate::base::Result;
use crate::base::clock::Mark;
use crate::base::defect::Defect;
use crate::base::ids::{CollectionName, Seq};
use crate::log::names::names_at;
use crate::manifest::{self, Manifest};
use crate::store::cas::Change;
use crate::store::paths;
use futures::stream::{self, StreamExt};

/// What is known of one collection's floor.
#[derive(Debug, Default)]
pub(super) struct Floor {
    seen: Option<Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    floor: Seq,
    /// Taken when it was in the manifest already.
    since: Mark,
    /// When a look found nothing below it any more.
    clean: Option<Mark>,
    /// Whether it may move on: more is indexed.
    moves: bool,
}

impl Seen {
    fn new(manifest: &Manifest, since: Mark) -> Seen {
        let floor = manifest.wal_floor;
        Seen { floor, since, clean: None, moves: floor <= manifest.wal_indexed }
    }

    /// Whether nothing is below it, as far as is known: an append that was held up may come late.
    fn is_clean(&self, visitor: &Visitor) -> bool {
        let lately = |clean| visitor.env.clock.since(clean) < LOOK_ANYWAY;
        self.floor == Seq(1) || self.clean.is_some_and(lately)
    }
}

impl Floor {
    /// Whether nothing is to be done until the manifest changes.
    pub(super) fn rests(&self, visitor: &Visitor) -> bool {
        self.seen.is_some_and(|seen| seen.is_clean(visitor) && !seen.moves)
    }
}

impl Visitor {
    /// Deletes what has been below the floor for a grace period, and moves the floor on where nothing is.
    pub(super) async fn collect_log(
        &self,
        manifest: &Manifest,
        now: Mark,
        known: &mut Floor,
    ) -> Result<Visited> {
        let seen = match known.seen {
            Some(seen) if seen.floor == manifest.wal_floor => seen,
            _ => Seen::new(manifest, now),
        };
        let seen = known.seen.insert(Seen { moves: seen.floor <= manifest.wal_indexed, ..seen });
        let mut visited = Visited::default();
        let is_hasty = self.env.defects.has(Defect::CollectWithoutGrace);
        let is_over = is_hasty || self.is_old(manifest, seen.since);
        if !seen.is_clean(self) && is_over {
            let looked = self.env.clock.mark();
            visited = self.delete_below(manifest, seen.floor).await?;
            seen.clean = (!visited.more).then_some(looked);
        }
        // Only a clean floor moves on: otherwise it might move faster than it is cleaned.
        if seen.is_clean(self)
            && seen.moves
            && let Some(moved) = self.advance(&manifest.name).await?
        {
            *seen = Seen::new(&moved, self.env.clock.mark());
        }
        Ok(visited)
    }

    async fn advance(&self, name: &CollectionName) -> Result<Option<Manifest>> {
        let moved = manifest::update(&self.store, &self.env, name, |current| match current {
            Some(current) if current.wal_floor <= current.wal_indexed => {
                Ok(Change::Write(Manifest {
                    wal_floor: current.wal_indexed.next(),
                    floor_totals: current.indexed,
                    // From now on it says so itself.
                    grace_ms: Some(current.grace_to_wait(self.grace).as_millis() as u64),
                    ..current.clone()
                }))
            }
            _ => Ok(Change::Keep),
        });
        Ok(moved.await?.map(|loaded| loaded.value))
    }

    /// Deletes entries below `floor`, page by page, up to so many pages.
    async fn delete_below(&self, manifest: &Manifest, floor: Seq) -> Result<Visited> {
        let name = &manifest.name;
        // Of a collection that has no data objects no entry names any, and none has to be read.
        let bodies = self.store.list(&paths::wal_data_all(name), None, 1).await?;
        let has_bodies = !bodies.objects.is_empty();
        let (mut visited, mut after) = (Visited::default(), None);
        for page in 0..PAGES_MAX {
            let listing =
                self.store.list(&paths::wal_entries(name), after.as_ref(), LIST_PAGE).await?;
            after = listing.objects.last().map(|object| object.key.clone());
            let seqs =
                listing.objects.iter().filter_map(|object| paths::parse_wal_entry(&object.key));
            let below: Vec<Seq> = seqs.take_while(|seq| *seq < floor).collect();
            let ended = !listing.more || below.len() < listing.objects.len();
            if page == 0 && !below.is_empty() && !self.is_kept(manifest).await? {
                return Ok(Visited { more: true, ..visited });
            }
            visited.deleted += self.delete_entries(name, below, has_bodies).await?;
            if ended {
                return Ok(visited);
            }
        }
        Ok(Visited { more: true, ..visited })
    }

    async fn delete_entries(
        &self,
        name: &CollectionName,
        below: Vec<Seq>,
        has_bodies: bool,
    ) -> Result<u64> {
        let works: Vec<_> = below
            .into_iter()
            .map(|seq| async move { self.delete_entry(name, seq, has_bodies).await })
            .collect();
        let mut works = stream::iter(works).buffer_unordered(self.requests);
        let mut deleted = 0;
        while let Some(done) = works.next().await {
            deleted += done?;
        }
        Ok(deleted)
    }

    /// Deletes an entry after the data objects that it names: cut off in between, the entry is still there to
    /// name the rest. One that cannot be read is in segments like the others; what it names is found by
    /// [`Visitor::collect_bodies`] when it is gone.
    async fn delete_entry(&self, name: &CollectionName, seq: Seq, has_bodies: bool) -> Result<u64> {
        let _permit = self.permit().await?;
        let mut deleted = 1;
        if has_bodies {
            let names = match names_at(&self.store, name, seq).await {
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => {
                    let found = "a log entry below the floor cannot be read; it is deleted";
                    tracing::warn!(%error, collection = %name, %seq, found);
                    None
                }
                Ok(names) => names,
            };
            for id in names.into_iter().flatten() {
                self.store.delete(&paths::wal_data(name, id)).await?;
                deleted += 1;
            }
        }
        self.store.delete(&paths::wal_entry(name, seq)).await?;
        self.env.metrics.wal_entries_collected.inc();
        Ok(deleted)
    }
}
