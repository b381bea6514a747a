//! Which live rows do these ids have?
//!
//! Whoever writes a record anew, or deletes it, has to find the row that is dead by it. Segments in memory
//! are asked there; of others the list of ids is read by ranges, a GET for each segment and 64 KiB of
//! ids wanted, and none for a segment that has none of them.

use super::{Member, Resident, SegmentSet, Shelf};
use crate::base::Result;
use crate::base::compute::Compute;
use crate::base::ids::{Ulid, record_hash};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::sync::Arc;

/// Segments that are asked at a time.
const AT_A_TIME: usize = 4;

/// A row of a segment.
pub type RowPlace = (Ulid, u32);

/// The numbers of ids that a member is to be asked for.
type Asked = (usize, Vec<usize>);

impl Shelf {
    /// For each of `ids` the row in `set` that is live; `pool` does the looking.
    pub async fn places(
        &self,
        set: &Arc<SegmentSet>,
        ids: &Arc<[String]>,
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
            looks.push(self.places_by_ranges(set, &set.members()[member], ids, asked));
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
        ids: &[String],
        asked: Vec<usize>,
    ) -> Result<Vec<(usize, RowPlace)>> {
        let wanted: Vec<&str> = asked.iter().map(|at| ids[*at].as_str()).collect();
        let segment = self.ranged(&set.manifest().name, member).await?;
        let rows = segment.find(self.store(), &wanted).await?;
        let found = asked.into_iter().zip(rows);
        let live = found.filter_map(|(at, row)| Some((at, live_place(member, row?)?)));
        Ok(live.collect())
    }
}

/// The places in segments that are in memory, and what the other members are to be asked for.
fn places_in_memory(
    set: &SegmentSet,
    residents: &[Option<Arc<Resident>>],
    ids: &[String],
) -> Result<(Vec<Option<RowPlace>>, Vec<Asked>)> {
    let mut places = vec![None; ids.len()];
    let mut others: Vec<Vec<usize>> = vec![Vec::new(); residents.len()];
    for (at, id) in ids.iter().enumerate() {
        for member in set.holding(record_hash(id), id) {
            let Some(resident) = &residents[member] else {
                others[member].push(at);
                continue;
            };
            if let Some(row) = resident.segment().find(id)?
                && let Some(place) = live_place(&set.members()[member], row)
            {
                places[at] = Some(place);
            }
        }
    }
    let others = others.into_iter().enumerate().filter(|(_, asked)| !asked.is_empty());
    Ok((places, others.collect()))
}

fn live_place(member: &Member, row: u32) -> Option<RowPlace> {
    (!member.dead.contains(row)).then_some((member.meta.id, row))
}
