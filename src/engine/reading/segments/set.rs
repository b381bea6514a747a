//! Which segments there are, and which of their rows are dead.

use super::Resident;
use crate::base::Result;
use crate::base::ids::{Seq, Ulid};
use crate::base::request::Work;
use crate::engine::damage::Damage;
use crate::engine::reading::allowed::{Allowed, AllowedRows, row_set};
use crate::filter::Filter;
use crate::index::RowSet;
use crate::manifest::{Manifest, SegmentMeta};
use crate::partition::Partitioner;
use crate::segment::Deletions;
use crate::store::{Key, paths};
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// A segment of a set.
#[derive(Debug)]
pub struct Member {
    /// The number of its partition.
    pub partition: u32,
    /// What the manifest says of it.
    pub meta: SegmentMeta,
    /// Its dead rows.
    pub dead: RoaringBitmap,
    /// Whether all its dead rows are known: an object that names some may be damaged.
    pub known: bool,
    live: OnceLock<RowSet>,
    allowed: AllowedRows,
}

impl Member {
    /// Its rows that are not dead; worked out when it is first asked for.
    pub fn live(&self) -> &RowSet {
        self.live.get_or_init(|| {
            let all = RoaringBitmap::from_sorted_iter(0..self.meta.rows).unwrap_or_default();
            row_set(&(all - &self.dead))
        })
    }

    /// Those that a filter lets through.
    pub fn allowed(
        &self,
        filter: &Filter,
        resident: &Resident,
        work: &Work<'_>,
    ) -> Result<Arc<Allowed>> {
        self.allowed.of(filter, resident.segment().filter_index(), &self.dead, work)
    }

    /// The same, decided by the metadata where the index cannot tell.
    pub fn remember(&self, filter: &Filter, allowed: Arc<Allowed>) {
        self.allowed.remember(filter, allowed);
    }
}

/// The segments of one version of the manifest.
#[derive(Debug)]
pub struct SegmentSet {
    manifest: Arc<Manifest>,
    partitioner: Arc<dyn Partitioner>,
    members: Vec<Member>,
    /// Of each partition of the manifest, which members are in it.
    of_partition: Vec<Range<usize>>,
    deletions: BTreeMap<Ulid, Arc<Deletions>>,
    damaged: Vec<Damage>,
}

impl SegmentSet {
    /// The segments of `manifest`, of which `deletions` are the files that it names, but for those that
    /// are `damaged`.
    pub fn new(
        manifest: Arc<Manifest>,
        partitioner: Arc<dyn Partitioner>,
        deletions: BTreeMap<Ulid, Arc<Deletions>>,
        damaged: Vec<Damage>,
    ) -> SegmentSet {
        let dead_of = |id| {
            let parts = deletions.values().filter_map(|file| file.of(id));
            parts.fold(RoaringBitmap::new(), |all, rows| all | rows)
        };
        let (mut members, mut of_partition) = (Vec::new(), Vec::new());
        for partition in &manifest.partitions {
            let start = members.len();
            members.extend(partition.segments.iter().map(|meta| {
                let dead = dead_of(meta.id);
                Member {
                    partition: partition.number,
                    meta: meta.clone(),
                    known: damaged.is_empty() || dead.len() >= u64::from(meta.dead),
                    dead,
                    live: OnceLock::new(),
                    allowed: AllowedRows::new(meta.bytes as usize),
                }
            }));
            of_partition.push(start..members.len());
        }
        SegmentSet { manifest, partitioner, members, of_partition, deletions, damaged }
    }

    /// The manifest whose segments these are.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// The log position up to which everything is in these segments.
    pub fn base(&self) -> Seq {
        self.manifest.wal_indexed
    }

    /// The segments, partition after partition.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The files that name dead rows.
    pub fn deletions(&self) -> &BTreeMap<Ulid, Arc<Deletions>> {
        &self.deletions
    }

    /// The files that name dead rows and cannot be read.
    pub fn damaged(&self) -> &[Damage] {
        &self.damaged
    }

    /// The keys of all its objects.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        let name = &self.manifest.name;
        let segments = self.manifest.segments();
        let segments =
            segments.map(|(partition, meta)| paths::segment(name, partition.number, meta.id));
        segments.chain(self.manifest.deletions.iter().map(|meta| paths::deletions(name, meta.id)))
    }

    /// Fails unless all dead rows are known: what is to be committed builds on them.
    pub fn check_whole(&self) -> Result<()> {
        match self.damaged.first() {
            Some(damage) => Err(damage.error(&self.manifest.name)),
            None => Ok(()),
        }
    }

    /// Rows that are not dead.
    pub fn live(&self) -> u64 {
        let live = |member: &Member| u64::from(member.meta.rows) - member.dead.len();
        self.members.iter().map(live).sum()
    }

    /// The members that may hold an id of this hash.
    pub fn holding(&self, hash: u64, id: &str) -> Range<usize> {
        let partition = self.manifest.partition_of(self.partitioner.group(id), hash);
        partition.map_or(0..0, |partition| self.of_partition[partition].clone())
    }
}

/// A set whose segments are at hand, but for those that are damaged.
#[derive(Debug, Clone)]
pub struct OpenSet {
    set: Arc<SegmentSet>,
    residents: Vec<Result<Arc<Resident>, Arc<Damage>>>,
    damaged: Arc<[Damage]>,
}

impl OpenSet {
    /// Of a set and its segments, in the order of its members.
    pub fn new(
        set: Arc<SegmentSet>,
        residents: Vec<Result<Arc<Resident>, Arc<Damage>>>,
    ) -> OpenSet {
        let damaged: Vec<&Damage> =
            residents.iter().filter_map(|resident| Some(&**resident.as_ref().err()?)).collect();
        let files = set.damaged.iter().filter(|file| !damaged.contains(file));
        let damaged = files.chain(damaged.iter().copied()).cloned().collect();
        OpenSet { set, residents, damaged }
    }

    /// What is damaged: segments that are left out, and files that name dead rows.
    pub fn damaged(&self) -> &Arc<[Damage]> {
        &self.damaged
    }

    /// The segments with what is known of them.
    pub fn iter(&self) -> impl Iterator<Item = (&Member, &Resident)> {
        let all = self.set.members.iter().zip(&self.residents);
        all.filter_map(|(member, resident)| Some((member, &**resident.as_ref().ok()?)))
    }

    /// The segments.
    pub fn residents(&self) -> impl Iterator<Item = Arc<Resident>> {
        self.residents.iter().filter_map(|resident| resident.as_ref().ok().cloned())
    }

    /// Where the record with this id is live. Fails where it may be in a segment that is left out.
    pub fn find(&self, hash: u64, id: &str) -> Result<Option<(&Resident, u32)>> {
        let mut left_out = None;
        for at in self.set.holding(hash, id) {
            let (member, resident) = (&self.set.members[at], &self.residents[at]);
            match resident {
                Err(damage) => left_out = Some(damage),
                Ok(resident) => {
                    if let Some(row) = resident.segment().find(id)?
                        && !member.dead.contains(row)
                    {
                        return Ok(Some((resident, row)));
                    }
                }
            }
        }
        match left_out {
            Some(damage) => Err(damage.error(&self.set.manifest.name)),
            None => Ok(None),
        }
    }
}
