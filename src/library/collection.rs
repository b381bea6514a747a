//! A collection by its name.

use super::{Brainy, IntoFilter, Search};
use crate::base::Result;
use crate::base::ids::CollectionName;
use crate::engine::model::{
    CollectionInfo, CollectionSpec, CollectionStats, DeleteTarget, Deleted, FoundRecord, Metric,
    NewRecord, PartitionerKind, Query, RecallReport, RecallRequest, RecordPage, Reworked, Upserted,
    Warmed,
};
use std::future::IntoFuture;
use std::pin::Pin;

/// A collection of an instance. It is looked up with every call: one that is deleted and made again goes on under
/// the same handle. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Collection {
    db: Brainy,
    name: String,
}

impl Brainy {
    /// A handle on a collection, whether or not it is there. A name that no collection can have is
    /// `invalid_collection_name` with the first call.
    pub fn collection(&self, name: impl Into<String>) -> Collection {
        Collection { db: self.clone(), name: name.into() }
    }
}

impl Collection {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn checked(&self) -> Result<CollectionName> {
        CollectionName::new(self.name.clone())
    }

    /// Creates it for vectors of so many dimensions (1 to 4,096), unless it is there with the same settings. With
    /// others it is `settings_conflict`.
    pub fn create(&self, dimensions: u32) -> Create {
        let (partitions, partitioner, description) = (None, None, None);
        let (of, metric) = (self.clone(), Metric::default());
        Create { of, dimensions, metric, partitions, partitioner, description }
    }

    /// Stores records (1 to 10,000); returns when they are durable. Of several with one id the last one stays. The
    /// collection is made with the first write where the settings allow that.
    pub async fn upsert<R>(&self, records: impl IntoIterator<Item = R>) -> Result<Upserted>
    where
        R: Into<NewRecord>,
    {
        let records = records.into_iter().map(Into::into).collect();
        self.db.upsert(&self.checked()?, records).await
    }

    /// The records closest to a vector: set what it is to be like, then await it.
    pub fn search(&self, vector: impl Into<Vec<f32>>) -> Search {
        Search::new(self.db.clone(), self.checked(), Query::Vector(vector.into()))
    }

    /// The records closest to one of the collection, without that one.
    pub fn search_like(&self, id: impl Into<String>) -> Search {
        Search::new(self.db.clone(), self.checked(), Query::Id(id.into()))
    }

    /// Measures how much of the true results searches find: of records drawn at random, or of your users' queries.
    pub async fn recall(&self, request: RecallRequest) -> Result<RecallReport> {
        self.db.recall(&self.checked()?, request).await
    }

    /// Brings all segments into memory, so that the next search waits for neither the store nor a disk.
    pub async fn warm(&self) -> Result<Warmed> {
        self.db.warm(&self.checked()?).await
    }

    /// One record with its vector; `vector_not_found` where there is none.
    pub async fn get(&self, id: &str) -> Result<FoundRecord> {
        self.db.get(&self.checked()?, id).await
    }

    /// One page of records in the order of their ids; `limit` 1 to 10,000, `cursor` as the page before says.
    pub async fn list(&self, limit: usize, cursor: Option<String>) -> Result<RecordPage> {
        self.db.list(&self.checked()?, limit, cursor, false).await
    }

    /// Deletes records by their ids (1 to 10,000).
    pub async fn delete<I: Into<String>>(
        &self,
        ids: impl IntoIterator<Item = I>,
    ) -> Result<Deleted> {
        let ids = ids.into_iter().map(Into::into).collect();
        self.db.delete(&self.checked()?, DeleteTarget::Ids(ids)).await
    }

    /// Deletes every record that matches now; what is written again meanwhile stays.
    pub async fn delete_where(&self, filter: impl IntoFilter) -> Result<Deleted> {
        let filter = filter.into_filter()?;
        self.db.delete(&self.checked()?, DeleteTarget::Filter(filter)).await
    }

    /// Its settings, counts and versions.
    pub async fn info(&self) -> Result<CollectionInfo> {
        self.db.describe(&self.checked()?).await
    }

    /// Its partitions, segments and what is damaged of it.
    pub async fn stats(&self) -> Result<CollectionStats> {
        self.db.stats(&self.checked()?).await
    }

    /// Indexes what is not in segments yet and merges these into few.
    pub async fn compact(&self) -> Result<Reworked> {
        self.db.compacted(&self.checked()?).await
    }

    /// Deletes the collection.
    pub async fn drop(&self) -> Result<()> {
        self.db.delete_collection(&self.checked()?).await
    }
}

/// A collection that is yet to be created: await it.
#[derive(Debug)]
#[must_use = "nothing is created before it is awaited"]
pub struct Create {
    of: Collection,
    dimensions: u32,
    metric: Metric,
    partitions: Option<u32>,
    partitioner: Option<PartitionerKind>,
    description: Option<String>,
}

impl Create {
    /// How distance is measured; by the cosine where nothing is said.
    pub fn metric(mut self, metric: Metric) -> Create {
        self.metric = metric;
        self
    }

    /// Number of hash ranges at the start, 1 to 4,096.
    pub fn partitions(mut self, count: u32) -> Create {
        self.partitions = Some(count);
        self
    }

    /// Which records belong together.
    pub fn partitioner(mut self, partitioner: PartitionerKind) -> Create {
        self.partitioner = Some(partitioner);
        self
    }

    /// Free text for people.
    pub fn description(mut self, text: impl Into<String>) -> Create {
        self.description = Some(text.into());
        self
    }
}

impl IntoFuture for Create {
    type Output = Result<CollectionInfo>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Create { of, dimensions, metric, partitions, partitioner, description } = self;
        Box::pin(async move {
            let spec = CollectionSpec {
                name: of.checked()?,
                dimensions,
                metric,
                partition_count: partitions,
                partitioner,
                description,
            };
            of.db.create_collection(spec).await.map(|(info, _)| info)
        })
    }
}
