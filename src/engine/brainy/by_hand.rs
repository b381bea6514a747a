//! What is done to a collection's segments because somebody asks for it.

use super::Brainy;
use crate::base::Result;
use crate::base::ids::CollectionName;
use crate::engine::catalog::PARTITIONS_MAX;
use crate::engine::collection::Collection;
use crate::engine::collector::{unnamed, unnamed_bodies};
use crate::engine::model::{Reworked, UnnamedObject};
use crate::engine::upkeep;
use crate::engine::writing::validate;
use crate::store::Listed;
use std::sync::Arc;

impl Brainy {
    /// Puts what is in the log into segments.
    pub async fn index(&self, name: &CollectionName) -> Result<()> {
        let _admitted = self.0.context.duty.admit_write()?;
        let index = |collection: Arc<Collection>| async move {
            upkeep::index_all(&self.0.context, &collection).await.map(drop)
        };
        self.0.collections.on_life(name, index).await
    }

    /// Indexes what is in the log, and makes one segment of each partition; in how many it wrote any.
    pub async fn compact(&self, name: &CollectionName) -> Result<u64> {
        self.compacted(name).await.map(|done| done.rewritten)
    }

    /// The same, and what the collection is made of then.
    pub async fn compacted(&self, name: &CollectionName) -> Result<Reworked> {
        let _admitted = self.0.context.duty.admit_write()?;
        let compact = |collection: Arc<Collection>| async move {
            let mut written = upkeep::index_all(&self.0.context, &collection).await?;
            written.extend(upkeep::compact_all(&self.0.context, &collection).await?);
            Ok(reworked(&collection, written.len()))
        };
        self.0.collections.on_life(name, compact).await
    }

    /// The objects of a collection without a name: those beside its segments that its manifest does not name,
    /// and data objects that no entry of its log names. They are being made, were replaced, or were left behind
    /// by a process that died; the collector deletes what stays without a name.
    pub async fn unnamed_objects(&self, name: &CollectionName) -> Result<Vec<UnnamedObject>> {
        let look = |collection: Arc<Collection>| async move { collection.view().look_now().await };
        let manifest = self.0.collections.on_life(name, look).await?.manifest;
        let found = unnamed(&self.0.context.store, &manifest).await?;
        let bodies = unnamed_bodies(&self.0.context.store, name).await?;
        let objects = found.into_iter().map(|(object, _)| object).chain(bodies);
        Ok(objects.map(|Listed { key, size, .. }| UnnamedObject { key, bytes: size }).collect())
    }

    /// Splits partitions until the group of most records has `count` (1..=4,096) even ranges of the
    /// hash, or parts of them; how many partitions were split.
    pub async fn reshard(&self, name: &CollectionName, count: u32) -> Result<u64> {
        self.resharded(name, count).await.map(|done| done.rewritten)
    }

    /// The same, and what the collection is made of then.
    pub async fn resharded(&self, name: &CollectionName, count: u32) -> Result<Reworked> {
        validate::check_count("partitionCount", count as usize, PARTITIONS_MAX as usize)?;
        let _admitted = self.0.context.duty.admit_write()?;
        let reshard = |collection: Arc<Collection>| async move {
            upkeep::index_all(&self.0.context, &collection).await?;
            let rewritten = upkeep::reshard(&self.0.context, &collection, count).await?;
            Ok(reworked(&collection, rewritten))
        };
        self.0.collections.on_life(name, reshard).await
    }
}

fn reworked(collection: &Collection, rewritten: usize) -> Reworked {
    let manifest = collection.manifest();
    Reworked {
        rewritten: rewritten as u64,
        segments: manifest.segments().count() as u64,
        partitions: manifest.partitions.len() as u64,
    }
}
