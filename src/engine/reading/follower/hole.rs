//! Does the log end here, or is something missing?
//!
//! An entry that is not there looks like the end of the log. That it is missing shows where one behind it is
//! there: in the entries that are read ahead, or in the store's listing.

use super::task::FollowTask;
use crate::base::defect::Defect;
use crate::base::ids::Seq;
use crate::base::{Code, Result};
use crate::engine::damage::{Damage, DamageKind};
use crate::log::append::MISSING;
use crate::log::read::{Fault, Stop, header_at, listed_after};
use crate::store::paths;
use std::sync::Arc;
use std::time::Duration;

/// How often the listing is looked at while the log seems to have ended and somebody reads.
const LIST_EVERY: Duration = Duration::from_secs(60);
/// How often it is where the log should go on.
const LIST_MISSED_EVERY: Duration = Duration::from_secs(5);
/// How often an object that cannot be read is read again, before that counts: its bytes may have been cut off
/// on the way.
const REREADS: u32 = 2;

/// What comes behind what was applied.
pub(super) enum End {
    /// Something may have changed: to be read again.
    Again,
    /// Nothing that can be applied.
    Reached,
}

/// What the store lists behind the tail.
enum Listed {
    /// It was asked lately.
    Unknown,
    /// Nothing.
    No,
    /// This entry first.
    At(Seq),
}

impl FollowTask {
    /// Finds out why nothing could be read behind the tail, after so many `rereads` of the same place.
    pub(super) async fn end_of(&mut self, stop: Stop, rereads: u32) -> Result<End> {
        if self.env.defects.has(Defect::GapIsEnd) && !matches!(stop, Stop::Window) {
            return Ok(End::Reached);
        }
        let damage = match stop {
            Stop::Window => return Ok(End::Again),
            // A reader that was slow may find half of an entry that is being collected.
            Stop::Damaged(_) if self.is_passed().await? || rereads < REREADS => {
                return Ok(End::Again);
            }
            Stop::Damaged(fault) => Some(unreadable(fault)),
            Stop::Gap(missing) => match self.confirmed(missing).await? {
                None => return Ok(End::Again),
                damage => damage,
            },
            Stop::End => match self.listed_behind().await? {
                Listed::No => None,
                Listed::At(seq) if seq == self.tail.version().next() => return Ok(End::Again),
                Listed::At(_) => {
                    let confirmed = self.confirmed(self.tail.version().next()).await;
                    // What the listing has shown is not settled: it is looked at again.
                    match confirmed.inspect_err(|_| self.listed = None)? {
                        None => return Ok(End::Again),
                        damage => damage,
                    }
                }
                // Where it was missing, nobody has put it back.
                Listed::Unknown => {
                    self.hole.as_deref().filter(|_| self.is_still_missing()).cloned()
                }
            },
        };
        match &damage {
            Some(damage) => {
                self.reading.damage.log_is_read_to(self.tail.version());
                self.reading.damage.report(damage.clone());
            }
            None => self.reading.damage.log_is_read_to(Seq(u64::MAX)),
        }
        self.hole = damage.map(Arc::new);
        Ok(End::Reached)
    }

    fn is_still_missing(&self) -> bool {
        let next = Some(self.tail.version().next());
        self.hole.as_ref().is_some_and(|hole| hole.position == next)
    }

    /// The first entry that the store lists behind the tail, where it is time to look.
    async fn listed_behind(&mut self) -> Result<Listed> {
        let every = if self.missed { LIST_MISSED_EVERY } else { LIST_EVERY };
        if self.listed.is_some_and(|listed| self.env.clock.since(listed) < every) {
            return Ok(Listed::Unknown);
        }
        let (now, collection) = (self.env.clock.mark(), &self.view.last().manifest.name);
        let listed = listed_after(self.log.store(), collection, self.tail.version()).await?;
        self.listed = Some(now);
        Ok(listed.map_or(Listed::No, Listed::At))
    }

    /// That an entry is missing although one behind it was seen: it is not there now, although it was put
    /// before that one, and nothing has collected it.
    async fn confirmed(&self, missing: Seq) -> Result<Option<Damage>> {
        let collection = &self.view.last().manifest.name;
        match header_at(self.log.store(), collection, missing).await {
            Ok(None) => {}
            Ok(Some(_)) => return Ok(None),
            Err(error) if error.code() == Code::Corrupt => return Ok(None),
            Err(error) => return Err(error),
        }
        let floor = self.view.look_now().await?.manifest.wal_floor;
        let key = paths::wal_entry(collection, missing);
        Ok((missing >= floor)
            .then(|| Damage::new(DamageKind::LogEntry, key, Some(missing), MISSING)))
    }
}

fn unreadable(fault: Fault) -> Damage {
    let kind = if fault.of_data { DamageKind::LogData } else { DamageKind::LogEntry };
    Damage::new(kind, &fault.key, Some(fault.seq), fault.error.message())
}
