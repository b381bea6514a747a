//! Segments come into memory.

use super::{Member, OpenSet, Resident, SegmentSet};
use crate::base::ids::{CollectionName, Ulid};
use crate::base::metrics::Metrics;
use crate::base::spill::Spill;
use crate::base::{Code, Env, Error, Result};
use crate::cache::{Asked, Cache, Weighed};
use crate::engine::damage::{Damage, DamageKind, Damaged, Registry, UNREADABLE};
use crate::engine::view::ManifestView;
use crate::manifest::{DeletionsMeta, Manifest, SegmentMeta};
use crate::partition::Partitioner;
use crate::segment::Deletions;
use crate::segment::RangedSegment;
use crate::segment::Segment;
use crate::store::layers::Usage;
use crate::store::{ByteRange, DynStore, GetOptions, Key, Object, get, paths};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Objects that are read at a time.
const AT_A_TIME: usize = 8;
/// Bytes of an object that are read by ranges, a range; and how many of them at a time.
const RANGE_BYTES: u64 = 16 << 20;
const RANGES_AT_A_TIME: usize = 4;
/// How long after a segment was found damaged it is tried again: somebody may have restored it.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Brings segments into memory and keeps those that are used.
#[derive(Debug)]
pub struct Shelf {
    store: DynStore,
    env: Env,
    damage: Registry,
    cache: Cache<Resident>,
    ranged: Cache<RangedSegment>,
    /// Whether reading an object whole takes as much memory: the store is no folder.
    is_remote: bool,
}

/// The share of the budget that goes to what is known of segments that are not in memory: a few bytes
/// a row.
const RANGED_SHARE: u64 = 16;

impl Shelf {
    /// A shelf for segments of `bytes` in all; those in use may be more.
    pub fn new(store: DynStore, env: Env, damage: Registry, bytes: u64, is_remote: bool) -> Shelf {
        let ranged = Cache::new(bytes / RANGED_SHARE);
        let Metrics { cache_hits, cache_misses, .. } = &*env.metrics;
        let asked = Asked { hits: cache_hits.clone(), misses: cache_misses.clone() };
        let cache = Cache::counted(bytes, asked);
        Shelf { store, env, damage, cache, ranged, is_remote }
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

    /// Lets go of a segment that no collection has any more.
    pub async fn forget(&self, id: Ulid) {
        self.cache.forget(id).await;
        self.ranged.forget(id).await;
    }

    /// A segment, where it is in memory.
    pub async fn resident(&self, id: Ulid) -> Option<Arc<Resident>> {
        self.cache.get(id).await
    }

    fn load(&self, collection: &CollectionName, partition: u32, meta: &SegmentMeta) -> Load {
        Load {
            store: self.store.clone(),
            env: self.env.clone(),
            damage: self.damage.of(collection),
            key: paths::segment(collection, partition, meta.id),
            meta: meta.clone(),
        }
    }

    /// A segment, brought into memory where it is not there. Whoever goes away meanwhile leaves the work to the
    /// next who asks.
    pub async fn segment(
        &self,
        collection: &CollectionName,
        partition: u32,
        meta: &SegmentMeta,
    ) -> Result<Arc<Resident>> {
        if let Some(resident) = self.cache.find(meta.id).await {
            return Ok(resident);
        }
        let load = self.load(collection, partition, meta);
        let (cache, id, asked) = (self.cache.clone(), meta.id, Usage::default());
        let work = {
            let asked = asked.clone();
            async move { asked.scope(cache.get_or_load(id, load.run())).await }
        };
        let loaded = self.env.tasks.spawn("segment load", work).await;
        if let Some(usage) = Usage::current() {
            usage.absorb(&asked);
        }
        let stopped = || match self.env.tasks.are_ending() {
            true => Error::shutting_down(),
            false => Error::internal("loading a segment ended early; see the log"),
        };
        loaded.ok().flatten().ok_or_else(stopped)?
    }

    /// A segment for one who reads it once. One that is not in memory is not kept there for others, and is read to
    /// where `spill` says: into memory, where that is nowhere or the store maps its objects.
    pub async fn segment_once(
        &self,
        collection: &CollectionName,
        partition: u32,
        meta: &SegmentMeta,
        spill: &Spill,
    ) -> Result<Arc<Resident>> {
        if !spill.is_on_disk() || !self.is_remote {
            return self.segment(collection, partition, meta).await;
        }
        if let Some(resident) = self.cache.find(meta.id).await {
            return Ok(resident);
        }
        Ok(Arc::new(self.load(collection, partition, meta).run_onto(spill).await?))
    }

    /// The same, or what is damaged of it: it is not tried again and again.
    async fn segment_or_damage(
        &self,
        collection: &CollectionName,
        member: &Member,
    ) -> Result<Result<Arc<Resident>, Arc<Damage>>> {
        if let Some(resident) = self.cache.find(member.meta.id).await {
            return Ok(Ok(resident));
        }
        let key = paths::segment(collection, member.partition, member.meta.id);
        let damage = self.damage.of(collection);
        if let Some(known) = damage.met(DamageKind::Segment, key.as_str(), RETRY_AFTER) {
            return Ok(Err(Arc::new(known)));
        }
        match self.segment(collection, member.partition, &member.meta).await {
            Ok(resident) => {
                damage.mended(DamageKind::Segment, key.as_str());
                Ok(Ok(resident))
            }
            Err(error) if error.code() == Code::Corrupt => {
                Ok(Err(Arc::new(Damage::new(DamageKind::Segment, key, None, error.message()))))
            }
            Err(error) => Err(error),
        }
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

    /// `error`, which reading `set` gave. It is told of where a segment of the collection as it is now is damaged: what
    /// an old manifest names may be gone.
    pub async fn told(&self, view: &ManifestView, set: &SegmentSet, error: Error) -> Error {
        let key = error.details().get("key").and_then(Value::as_str).unwrap_or_default();
        let is_segment =
            error.code() == Code::Corrupt && set.keys().any(|named| named.as_str() == key);
        let version = set.manifest().stamp.version;
        if is_segment
            && view.look_now().await.is_ok_and(|seen| seen.manifest.stamp.version == version)
        {
            let damage = Damage::new(DamageKind::Segment, key, None, error.message());
            self.damage.of(&set.manifest().name).report(damage);
        }
        error
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
        let files: Vec<_> = stream::iter(files).buffered(AT_A_TIME).collect().await;
        let (mut read, mut damaged) = (BTreeMap::new(), Vec::new());
        for (file, meta) in files.into_iter().zip(&manifest.deletions) {
            match file {
                Ok((id, file)) => drop(read.insert(id, file)),
                Err(error) if error.code() == Code::Corrupt => {
                    let key = paths::deletions(&manifest.name, meta.id);
                    damaged.push(Damage::new(DamageKind::Deletions, key, None, error.message()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(SegmentSet::new(manifest.clone(), partitioner, read, damaged))
    }

    /// The segments of the collection as it is now, in memory where `prefetch` says so. Those that are damaged
    /// are left out, and told of.
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
            let set = Arc::new(self.set(manifest, partitioner.clone(), before).await?);
            let damaged = match prefetch {
                true => self.open(&set).await?.damaged().clone(),
                false => set.damaged().into(),
            };
            // What an old manifest names may be gone.
            if !damaged.is_empty() && view.look_now().await?.manifest.stamp.version != version {
                continue;
            }
            self.tell(&set, &damaged);
            return Ok(set);
        }
    }

    /// Tells what is damaged of a set that is in force, and that what it does not name is not.
    pub fn tell(&self, set: &SegmentSet, damaged: &[Damage]) {
        let damage = self.damage.of(&set.manifest().name);
        let names = |key: &str| set.keys().any(|named| named.as_str() == key);
        damage.retain(|known| match known.kind {
            DamageKind::Segment => names(&known.place),
            DamageKind::Deletions => set.damaged().iter().any(|file| file.place == known.place),
            _ => true,
        });
        damaged.iter().for_each(|damaged| damage.report(damaged.clone()));
    }

    /// The same with its segments at hand, but for those that are damaged.
    pub async fn open(&self, set: &Arc<SegmentSet>) -> Result<OpenSet> {
        let (name, unknown) = (&set.manifest().name, set.damaged().first().cloned().map(Arc::new));
        let mut loads = Vec::with_capacity(set.members().len());
        for member in set.members() {
            let unknown = unknown.clone().filter(|_| !member.known);
            loads.push(async move {
                match unknown {
                    Some(file) => Ok(Err(file)),
                    None => self.segment_or_damage(name, member).await,
                }
            });
        }
        let residents = stream::iter(loads).buffered(AT_A_TIME).try_collect().await?;
        Ok(OpenSet::new(set.clone(), residents))
    }
}

/// A segment on its way into memory.
struct Load {
    store: DynStore,
    env: Env,
    damage: Damaged,
    key: Key,
    meta: SegmentMeta,
}

impl Load {
    async fn run(self) -> Result<Resident> {
        let Object { bytes, mapped, .. } =
            get(&*self.store, &self.key).await?.required(&self.key)?;
        self.opened(bytes, mapped).await
    }

    /// The same by way of the disk: of the memory it takes no more than a few ranges.
    async fn run_onto(self, spill: &Spill) -> Result<Resident> {
        let mut all = spill.buffer::<u8>();
        let ranges = (0..self.meta.bytes).step_by(RANGE_BYTES as usize);
        let reads = ranges.map(|start| {
            let range = Some(ByteRange::Bounded(start..self.meta.bytes.min(start + RANGE_BYTES)));
            let options = GetOptions { range, ..GetOptions::default() };
            async { self.store.get(&self.key, options).await?.required(&self.key) }
        });
        let mut reads = stream::iter(reads.collect::<Vec<_>>()).buffered(RANGES_AT_A_TIME);
        while let Some(object) = reads.try_next().await? {
            let add = move || all.extend_from_slice(&object.bytes).map(|()| all);
            all = self.env.background.run(add).await??;
        }
        drop(reads);
        let bytes = all.freeze()?;
        self.opened(bytes, true).await
    }

    async fn opened(self, bytes: Bytes, mapped: bool) -> Result<Resident> {
        let Load { store: _, env, damage, key, meta } = self;
        let open = move || {
            if bytes.len() as u64 != meta.bytes || crc32c::crc32c(&bytes) != meta.crc32c {
                return Err(Error::corrupt("it differs from what the manifest says"));
            }
            Segment::from_bytes(bytes)
        };
        let segment = env.compute.run(open).await??;
        env.metrics.segments_loaded.inc();
        if !segment.index().finds_enough() {
            const MESSAGE: &str = "the index finds too little: the rows are searched one by one";
            let (rows, recall) = (meta.rows, segment.index().recall_reached());
            match segment.index().has_few_rows() {
                true => tracing::debug!(%key, rows, recall, "{MESSAGE}"),
                false => tracing::warn!(%key, rows, recall, "{MESSAGE}"),
            }
            env.metrics.segments_scanned.inc();
        }
        for row in segment.filter_index().damaged()? {
            let (id, written) = (segment.id(row)?, segment.written(row));
            damage.report(Damage::new(DamageKind::Record, id, Some(written), UNREADABLE));
        }
        Ok(Resident::new(segment, mapped))
    }
}

impl Weighed for RangedSegment {
    fn bytes(&self) -> usize {
        self.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Seq;
    use crate::index::{IndexParams, Metric, Threads};
    use crate::segment::SegmentBuilder;
    use crate::store::memory::MemoryStore;

    /// A segment of more than one range, as texts that no codec makes small.
    fn large() -> Bytes {
        let mut builder = SegmentBuilder::new(2, Metric::Euclidean);
        let mut state = 1u64;
        for row in 0..24u64 {
            let letter = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                char::from(b'0' + (state >> 58) as u8)
            };
            let text: String = std::iter::repeat_with(letter).take(1 << 20).collect();
            let vector = [row as f32, 1.0];
            builder.push(&format!("r{row}"), Seq(row + 1), &vector, "", Some(&text)).unwrap();
        }
        builder.finish(IndexParams::default(), Threads::One).unwrap()
    }

    #[tokio::test]
    async fn what_is_read_once_is_read_by_ranges_onto_the_disk_and_not_kept() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let spill = Spill::to(folder.path().to_str());
        let env = Env::system(1).unwrap();
        let store: DynStore = Arc::new(MemoryStore::default());
        let shelf =
            Shelf::new(store.clone(), env.clone(), Registry::new(env.clone()), 1 << 30, true);
        let (name, file) = (CollectionName::new("c").unwrap(), large());
        let mut meta = SegmentMeta {
            id: Ulid(1 << 80),
            rows: 24,
            dead: 0,
            bytes: file.len() as u64,
            crc32c: crc32c::crc32c(&file),
            written: (Seq(1), Seq(24)),
            extra: Default::default(),
        };
        assert!(meta.bytes > RANGE_BYTES, "{}", meta.bytes);
        store.put(&paths::segment(&name, 0, meta.id), file).await.unwrap();
        let once = shelf.segment_once(&name, 0, &meta, &spill).await.unwrap();
        assert!(once.segment().verify().is_ok() && once.segment().find("r7").unwrap().is_some());
        if spill.is_on_disk() {
            assert!(shelf.resident(meta.id).await.is_none(), "it is for nobody else");
        }
        meta.crc32c ^= 1;
        let error = shelf.segment_once(&name, 1, &meta, &spill).await.unwrap_err();
        assert!(!error.message().is_empty(), "another object, or none");
    }
}
