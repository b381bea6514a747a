//! Which live rows do these ids have?
//!
//! Whoever writes a record anew, or deletes it, has to find the row that is dead by it. Segments in memory
//! are asked there; of others the list of ids is read by ranges, a GET for each segment and 64 KiB of
//! ids wanted, and none for a segment that has none of them.
//!
//! A delete with a limit spares what was written after it. The manifest says of each segment when its oldest
//! and its newest row were written; only where that does not decide it, the row's own position is read.

use super::{Member, Resident, SegmentSet, Shelf};
use crate::base::compute::Compute;
use crate::base::ids::{Seq, Ulid, record_hash};
use crate::base::{Error, Result};
use crate::store::paths;
use futures::TryFutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::sync::Arc;

/// Segments that are asked at a time.
const AT_A_TIME: usize = 4;

/// An id that is looked for.
#[derive(Debug, Clone)]
pub struct Sought {
    /// The id.
    pub id: String,
    /// The log position that its row is compared with.
    pub limit: Seq,
}

/// A row of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowPlace {
    /// The segment.
    pub segment: Ulid,
    /// The row.
    pub row: u32,
    /// Whether it was written at the limit or before.
    pub within: bool,
}

/// The numbers of ids that a member is to be asked for.
type Asked = (usize, Vec<usize>);

impl Shelf {
    /// For each of `ids` the row in `set` that is live; `pool` does the looking.
    pub async fn places(
        &self,
        set: &Arc<SegmentSet>,
        ids: &Arc<[Sought]>,
        pool: &Compute,
    ) -> Result<Vec<Option<RowPlace>>> {
        set.check_whole()?;
        let mut residents = Vec::with_capacity(set.members().len());
        for member in set.members() {
            residents.push(self.resident(member.meta.id).await);
        }
        let (held, wanted) = (set.clone(), ids.clone());
        let look = move || places_in_memory(&held, &residents, &wanted);
        let (mut places, others) = pool.run(look).await??;
        let mut looks = Vec::with_capacity(others.len());
        for (member, asked) in others {
            let member = &set.members()[member];
            let key = paths::segment(&set.manifest().name, member.partition, member.meta.id);
            let look = self.places_by_ranges(set, member, ids, asked);
            looks.push(look.map_err(move |error| error.with("key", key.as_str())));
        }
        let found: Vec<Vec<(usize, RowPlace)>> =
            stream::iter(looks).buffered(AT_A_TIME).try_collect().await?;
        for (at, place) in found.into_iter().flatten() {
            places[at] = Some(place);
        }
        Ok(places)
    }

    /// The live rows of those of `ids` that are `asked` for, in a segment that is not in memory.
    async fn places_by_ranges(
        &self,
        set: &SegmentSet,
        member: &Member,
        ids: &[Sought],
        asked: Vec<usize>,
    ) -> Result<Vec<(usize, RowPlace)>> {
        let wanted: Vec<&str> = asked.iter().map(|at| ids[*at].id.as_str()).collect();
        let segment = self.ranged(&set.manifest().name, member).await?;
        let rows = segment.find(self.store(), &wanted).await?;
        let found = asked.into_iter().zip(rows).filter_map(|(at, row)| Some((at, row?)));
        let live: Vec<(usize, u32)> =
            found.filter(|(_, row)| !member.dead.contains(*row)).collect();
        let is_open = |(at, _): &&(usize, u32)| within(member, ids[*at].limit).is_none();
        let open: Vec<u32> = live.iter().filter(is_open).map(|(_, row)| *row).collect();
        let mut positions = segment.written(self.store(), &open).await?.into_iter();
        let mut places = Vec::with_capacity(live.len());
        for (at, row) in live {
            let limit = ids[at].limit;
            let within = match within(member, limit) {
                Some(within) => within,
                None => {
                    let written = positions.next();
                    let written =
                        written.ok_or_else(|| Error::internal("a position is missing"))?;
                    written <= limit
                }
            };
            places.push((at, RowPlace { segment: member.meta.id, row, within }));
        }
        Ok(places)
    }
}

/// Whether all rows of a segment were written at `limit` or before, or none was; `None` where that differs.
fn within(member: &Member, limit: Seq) -> Option<bool> {
    let (oldest, newest) = member.meta.written;
    match (newest <= limit, oldest > limit) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

/// The places in segments that are in memory, and what the other members are to be asked for.
fn places_in_memory(
    set: &SegmentSet,
    residents: &[Option<Arc<Resident>>],
    ids: &[Sought],
) -> Result<(Vec<Option<RowPlace>>, Vec<Asked>)> {
    let mut places = vec![None; ids.len()];
    let mut others: Vec<Vec<usize>> = vec![Vec::new(); residents.len()];
    for (at, Sought { id, limit }) in ids.iter().enumerate() {
        for number in set.holding(record_hash(id), id) {
            let Some(resident) = &residents[number] else {
                others[number].push(at);
                continue;
            };
            let member = &set.members()[number];
            if let Some(row) = resident.segment().find(id)?
                && !member.dead.contains(row)
            {
                let within = resident.segment().written(row) <= *limit;
                places[at] = Some(RowPlace { segment: member.meta.id, row, within });
            }
        }
    }
    let others = others.into_iter().enumerate().filter(|(_, asked)| !asked.is_empty());
    Ok((places, others.collect()))
}
