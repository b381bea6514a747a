//! Which live rows do these ids have?
//!
//! Whoever writes a record anew, or deletes it, has to find the row that is dead by it. Segments in memory
//! are asked there; of others the list of ids is read by ranges, a GET for each segment and 64 KiB of
//! ids wanted, and none for a segment that has none of them.

use super::{Member, SegmentSet, Shelf};
use crate::base::Result;
use crate::base::ids::{Ulid, record_hash};
use futures::stream::{self, StreamExt, TryStreamExt};

/// Segments that are asked at a time.
const AT_A_TIME: usize = 4;

/// A row of a segment.
pub type RowPlace = (Ulid, u32);

impl Shelf {
    /// For each of `ids` the row in `set` that is live.
    pub async fn places(&self, set: &SegmentSet, ids: &[&str]) -> Result<Vec<Option<RowPlace>>> {
        let mut asked: Vec<Vec<usize>> = vec![Vec::new(); set.members().len()];
        for (at, id) in ids.iter().enumerate() {
            for member in set.holding(record_hash(id), id) {
                asked[member].push(at);
            }
        }
        let mut looks = Vec::new();
        for (member, asked) in set.members().iter().zip(asked) {
            if !asked.is_empty() {
                looks.push(self.places_in(set, member, ids, asked));
            }
        }
        let found: Vec<Vec<(usize, RowPlace)>> =
            stream::iter(looks).buffered(AT_A_TIME).try_collect().await?;
        let mut places = vec![None; ids.len()];
        for (at, place) in found.into_iter().flatten() {
            places[at] = Some(place);
        }
        Ok(places)
    }

    /// The live rows of those of `ids` that are `asked` for, in one segment.
    async fn places_in(
        &self,
        set: &SegmentSet,
        member: &Member,
        ids: &[&str],
        asked: Vec<usize>,
    ) -> Result<Vec<(usize, RowPlace)>> {
        let wanted: Vec<&str> = asked.iter().map(|at| ids[*at]).collect();
        let rows: Vec<Option<u32>> = match self.resident(member.meta.id).await {
            Some(resident) => {
                let rows = wanted.iter().map(|id| resident.segment().find(id));
                rows.collect::<Result<_>>()?
            }
            None => {
                let segment = self.ranged(&set.manifest().name, member).await?;
                segment.find(self.store(), &wanted).await?
            }
        };
        let found = asked.into_iter().zip(rows);
        let live = found.filter_map(|(at, row)| Some((at, row?)));
        let live = live.filter(|(_, row)| !member.dead.contains(*row));
        Ok(live.map(|(at, row)| (at, (member.meta.id, row))).collect())
    }
}
