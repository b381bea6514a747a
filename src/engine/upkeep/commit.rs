//! The outcome of a pass becomes part of the collection, or is thrown away.

use super::Passed;
use super::objects::Objects;
use crate::base::defect::Defect;
use crate::base::ids::Ulid;
use crate::base::{Code, Error, Result};
use crate::engine::collection::Collection;
use crate::engine::context::Context;
use crate::engine::reading::segments::SegmentSet;
use crate::manifest::{self, Manifest};
use crate::segment::Deletions;
use crate::store::cas::Change;
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How often a pass is brought up to date with what others commit meanwhile.
const ATTEMPTS_MAX: usize = 16;
/// Objects that name dead rows, at most: past it the newest are merged, whatever their sizes.
const DELETIONS_MAX: usize = 16;

/// What a pass changes.
#[async_trait]
pub(super) trait Commit: Sync {
    /// Whether what was made from `before` can become part of `current`, perhaps with other dead rows.
    fn still_fits(&self, context: &Context, before: &Manifest, current: &Manifest) -> bool;

    /// The rows that die by it, when it is committed to `set`.
    async fn dead(&self, context: &Context, set: &Arc<SegmentSet>) -> Result<Deletions>;

    /// Changes everything in a manifest but its deletions.
    fn apply(&self, manifest: &mut Manifest) -> Result<()>;
}

/// Commits what was made from `before`. Where it comes to nothing, objects are deleted that the manifest
/// was just seen not to name; those of which that is not known are left to the collector.
pub(super) async fn commit(
    context: &Context,
    collection: &Collection,
    mut objects: Objects<'_>,
    before: Arc<Manifest>,
    pass: &impl Commit,
) -> Result<Passed> {
    let mut base = before.clone();
    let mut known: Option<Arc<SegmentSet>> = None;
    for _ in 0..ATTEMPTS_MAX {
        let set = match collection.segments_of(&base, known).await {
            // What an old manifest names may be gone.
            Err(error) if error.code() == Code::Corrupt => {
                let now = collection.view().look_now().await?.manifest;
                if now.stamp.version == base.stamp.version {
                    return Err(error);
                }
                if !pass.still_fits(context, &before, &now) {
                    objects.discard_all(&now).await;
                    return Ok(Passed::Lost);
                }
                (base, known) = (now, None);
                continue;
            }
            set => set?,
        };
        let mut next = (*base).clone();
        pass.apply(&mut next)?;
        let dead = match pass.dead(context, &set).await {
            Err(error) => return Err(context.shelf.told(collection.view(), &set, error).await),
            dead => dead?,
        };
        let file = add_deletions(&mut next, &set, dead, &mut objects).await?;
        let offered = offer(context, &before, &base, &next, &objects, pass).await;
        if offered.is_err() && context.env.defects.has(Defect::DiscardWhenUnsure) {
            break;
        }
        match offered? {
            Offered::Won => {
                collection.view().look_now().await?;
                objects.named().await?;
                return Ok(Passed::Done);
            }
            Offered::Changed(current) => base = Arc::new(*current),
            Offered::Lost(current) => {
                if let Some(current) = current {
                    objects.discard_all(&current).await;
                }
                return Ok(Passed::Lost);
            }
        }
        if let Some(file) = file {
            objects.discard(file, &base).await;
        }
        known = Some(set);
    }
    objects.discard_all(&base).await;
    Ok(Passed::Lost)
}

enum Offered {
    Won,
    /// The segments have changed; the pass may still fit.
    Changed(Box<Manifest>),
    /// It does not fit any more; the manifest that says so, if there is one.
    Lost(Option<Box<Manifest>>),
}

/// Replaces `base` by `next`, where it is still in force. An error leaves open whether it did.
async fn offer(
    context: &Context,
    before: &Manifest,
    base: &Manifest,
    next: &Manifest,
    objects: &Objects<'_>,
    pass: &impl Commit,
) -> Result<Offered> {
    let mut offered = Offered::Lost(None);
    let change = |current: Option<&Manifest>| {
        let Some(current) = current else {
            offered = Offered::Lost(None);
            return Ok(Change::Keep);
        };
        if objects.may_be_named(current) && current.same_segments(base) {
            offered = Offered::Won;
            return Ok(Change::Write(Manifest {
                partitions: next.partitions.clone(),
                deletions: next.deletions.clone(),
                wal_indexed: next.wal_indexed,
                indexed: next.indexed,
                ..current.clone()
            }));
        }
        let fits = objects.may_be_named(current)
            && current.is_live()
            && current.incarnation == before.incarnation
            && pass.still_fits(context, before, current);
        let current = Box::new(current.clone());
        offered = if fits { Offered::Changed(current) } else { Offered::Lost(Some(current)) };
        Ok(Change::Keep)
    };
    manifest::update(&context.store, &context.env, &before.name, change).await?;
    Ok(offered)
}

/// Adds newly dead rows to a manifest: as one object, which takes in those before it that are not much
/// larger. So a row is written again a few times at most, and there are few objects. Objects that name
/// rows of no segment any more are left out.
async fn add_deletions(
    next: &mut Manifest,
    set: &SegmentSet,
    mut dead: Deletions,
    objects: &mut Objects<'_>,
) -> Result<Option<Ulid>> {
    let alive: BTreeSet<Ulid> = next.segments().map(|(_, segment)| segment.id).collect();
    let file = |id: &Ulid| {
        let file = set.deletions().get(id);
        file.ok_or_else(|| Error::internal("an object of deletions was not read"))
    };
    let mut kept = Vec::with_capacity(next.deletions.len());
    for meta in &next.deletions {
        if file(&meta.id)?.iter().any(|(segment, _)| alive.contains(&segment)) {
            kept.push(meta.clone());
        }
    }
    next.deletions = kept;
    dead.retain(|segment| alive.contains(&segment));
    if dead.is_empty() {
        return Ok(None);
    }
    let segments = next.partitions.iter_mut().flat_map(|partition| &mut partition.segments);
    for segment in segments {
        segment.dead += dead.of(segment.id).map_or(0, |rows| rows.len() as u32);
    }
    while let Some(last) = next.deletions.last()
        && (last.rows <= 2 * dead.rows() || next.deletions.len() >= DELETIONS_MAX)
    {
        dead.union(file(&last.id)?);
        next.deletions.pop();
    }
    dead.retain(|segment| alive.contains(&segment));
    let meta = objects.deletions(&dead).await?;
    let id = meta.id;
    next.deletions.push(meta);
    Ok(Some(id))
}
