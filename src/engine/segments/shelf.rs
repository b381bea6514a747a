//! Segments come into memory.

use super::{Member, OpenSet, Resident, SegmentSet};
use crate::base::ids::{CollectionName, Ulid};
use crate::base::metrics::Metrics;
use crate::base::{Code, Env, Error, Result};
use crate::cache::{Asked, Cache, Weighed};
use crate::engine::view::ManifestView;
use crate::manifest::{DeletionsMeta, Manifest, SegmentMeta};
use crate::partition::Partitioner;
use crate::segment::Deletions;
use crate::segment::RangedSegment;
use crate::segment::Segment;
use crate::store::{DynStore, get, paths};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Objects that are read at a time.
const AT_A_TIME: usize = 8;

/// Brings segments into memory and keeps those that are used.
#[derive(Debug)]
pub struct Shelf {
    store: DynStore,
    env: Env,
    cache: Cache<Resident>,
    ranged: Cache<RangedSegment>,
}

/// The share of the budget that goes to what is known of segments that are not in memory: a few bytes
/// a row.
const RANGED_SHARE: u64 = 16;

impl Shelf {
    /// A shelf for segments of `bytes` in all; those in use may be more.
    pub fn new(store: DynStore, env: Env, bytes: u64) -> Shelf {
        let ranged = Cache::new(bytes / RANGED_SHARE);
        let Metrics { cache_hits, cache_misses, .. } = &*env.metrics;
        let asked = Asked { hits: cache_hits.clone(), misses: cache_misses.clone() };
        Shelf { store, env, cache: Cache::counted(bytes, asked), ranged }
    }

    /// Where segments come from.
    pub fn store(&self) -> &DynStore {
        &self.store
    }

    /// Bytes and segments held.
    pub async fn held(&self) -> (u64, u64) {
        self.cache.held().await
    }

    /// Segments held, about.
    pub fn segments(&self) -> u64 {
        self.cache.count()
    }

    /// A segment, where it is in memory.
    pub async fn resident(&self, id: Ulid) -> Option<Arc<Resident>> {
        self.cache.get(id).await
    }

    /// A segment, brought into memory where it is not there.
    pub async fn segment(
        &self,
        collection: &CollectionName,
        partition: u32,
        meta: &SegmentMeta,
    ) -> Result<Arc<Resident>> {
        self.cache.get_or_load(meta.id, self.load(collection, partition, meta)).await
    }

    /// A segment of which only the directory of its ids is in memory.
    pub async fn ranged(
        &self,
        collection: &CollectionName,
        member: &Member,
    ) -> Result<Arc<RangedSegment>> {
        let key = paths::segment(collection, member.partition, member.meta.id);
        let open = RangedSegment::open(&self.store, &key, member.meta.bytes);
        self.ranged.get_or_load(member.meta.id, open).await
    }

    async fn load(
        &self,
        collection: &CollectionName,
        partition: u32,
        meta: &SegmentMeta,
    ) -> Result<Resident> {
        let key = paths::segment(collection, partition, meta.id);
        let bytes = get(&*self.store, &key).await?.required(&key)?.bytes;
        let (length, crc) = (meta.bytes, meta.crc32c);
        let open = move || {
            if bytes.len() as u64 != length || crc32c::crc32c(&bytes) != crc {
                return Err(Error::corrupt("it differs from what the manifest says"));
            }
            Segment::from_bytes(bytes)
        };
        let opened = self.env.compute.run(open).await?;
        self.env.metrics.segments_loaded.inc();
        opened.map(Resident::new).map_err(|error| error.context(&key))
    }

    async fn deletions(
        &self,
        collection: &CollectionName,
        meta: &DeletionsMeta,
        known: Option<Arc<Deletions>>,
    ) -> Result<(Ulid, Arc<Deletions>)> {
        if let Some(known) = known {
            return Ok((meta.id, known));
        }
        let key = paths::deletions(collection, meta.id);
        let object = get(&*self.store, &key).await?.required(&key)?;
        let read = Deletions::read(&object.bytes).map_err(|error| error.context(&key))?;
        Ok((meta.id, Arc::new(read)))
    }

    /// The segments of `manifest`; what `before` knows of them already is not read again.
    pub async fn set(
        &self,
        manifest: Arc<Manifest>,
        partitioner: Arc<dyn Partitioner>,
        before: Option<&SegmentSet>,
    ) -> Result<SegmentSet> {
        let mut files = Vec::with_capacity(manifest.deletions.len());
        for meta in &manifest.deletions {
            let known = before.and_then(|before| before.deletions().get(&meta.id).cloned());
            files.push(self.deletions(&manifest.name, meta, known));
        }
        let files: BTreeMap<_, _> = stream::iter(files).buffered(AT_A_TIME).try_collect().await?;
        Ok(SegmentSet::new(manifest.clone(), partitioner, files))
    }

    /// The segments of the collection as it is now, in memory where `prefetch` says so.
    pub async fn current(
        &self,
        view: &ManifestView,
        partitioner: &Arc<dyn Partitioner>,
        before: Option<&SegmentSet>,
        prefetch: bool,
    ) -> Result<Arc<SegmentSet>> {
        loop {
            let manifest = view.last().manifest;
            let version = manifest.stamp.version;
            let load = async {
                let set = Arc::new(self.set(manifest, partitioner.clone(), before).await?);
                if prefetch {
                    self.open(&set).await?;
                }
                Ok::<_, Error>(set)
            };
            match load.await {
                // What an old manifest names may be gone.
                Err(error) if error.code() == Code::Corrupt => {
                    if view.look_now().await?.manifest.stamp.version == version {
                        return Err(error);
                    }
                }
                result => return result,
            }
        }
    }

    /// The same with its segments at hand.
    pub async fn open(&self, set: &Arc<SegmentSet>) -> Result<OpenSet> {
        let name = &set.manifest().name;
        let members = set.members().iter();
        let loads: Vec<_> =
            members.map(|member| self.segment(name, member.partition, &member.meta)).collect();
        let residents = stream::iter(loads).buffered(AT_A_TIME).try_collect().await?;
        Ok(OpenSet::new(set.clone(), residents))
    }
}

impl Weighed for RangedSegment {
    fn bytes(&self) -> usize {
        self.memory_bytes()
    }
}
