//! Which rows of which segments do these ids have?
//!
//! A pass that writes a record anew, or deletes it, has to find the rows that are dead by it. Segments
//! in memory are asked there; of others the list of ids is read by ranges, a GET for each segment and
//! 64 KiB of ids wanted, and none for a segment that has none of them.

use crate::base::Result;
use crate::base::ids::record_hash;
use crate::engine::context::Context;
use crate::engine::segments::{Member, SegmentSet};
use crate::segment::Deletions;
use futures::stream::{self, StreamExt, TryStreamExt};
use roaring::RoaringBitmap;

/// Segments that are asked at a time.
const AT_A_TIME: usize = 4;

/// The rows of `set` that have one of `ids` and are not dead yet.
pub(super) async fn rows(
    context: &Context,
    set: &SegmentSet,
    ids: &[impl AsRef<str> + Sync],
) -> Result<Deletions> {
    let mut asked: Vec<Vec<&str>> = vec![Vec::new(); set.members().len()];
    for id in ids.iter().map(AsRef::as_ref) {
        for member in set.holding(record_hash(id), id) {
            asked[member].push(id);
        }
    }
    let mut looks = Vec::new();
    for (member, ids) in set.members().iter().zip(asked) {
        if !ids.is_empty() {
            looks.push(of_segment(context, set, member, ids));
        }
    }
    let found: Vec<(&Member, RoaringBitmap)> =
        stream::iter(looks).buffered(AT_A_TIME).try_collect().await?;
    let mut deletions = Deletions::default();
    for (member, rows) in found {
        for row in rows - &member.dead {
            deletions.insert(member.meta.id, row);
        }
    }
    Ok(deletions)
}

async fn of_segment<'a>(
    context: &Context,
    set: &SegmentSet,
    member: &'a Member,
    ids: Vec<&str>,
) -> Result<(&'a Member, RoaringBitmap)> {
    if let Some(resident) = context.shelf.resident(member.meta.id).await {
        let rows = ids.iter().map(|id| resident.segment().find(id));
        return Ok((member, rows.filter_map(Result::transpose).collect::<Result<_>>()?));
    }
    let segment = context.shelf.ranged(&set.manifest().name, member).await?;
    let rows = segment.find(&context.store, &ids).await?;
    Ok((member, rows.into_iter().flatten().collect()))
}
