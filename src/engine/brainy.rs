//! The facade that the HTTP layer, the command line and embedding programs use.

use crate::base::ids::CollectionName;
use crate::base::settings::{Role, Settings};
use crate::base::{Env, Result};
use crate::engine::model::*;
use crate::store::DynStore;
use bytes::Bytes;
use futures::stream::BoxStream;

/// One instance: a writer, a reader or both, on one store. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Brainy {}

impl Brainy {
    /// Opens a store with default settings, as a hybrid: `s3://bucket/prefix`, `file:///folder`,
    /// a folder, or `memory:`.
    pub async fn open(_store_url: &str) -> Result<Self> {
        todo!()
    }

    /// Opens an instance on a store that is already open and probed.
    pub async fn start(
        _settings: Settings,
        _role: Role,
        _store: DynStore,
        _env: Env,
    ) -> Result<Self> {
        todo!()
    }

    /// This instance's role.
    pub fn role(&self) -> Role {
        todo!()
    }

    /// This instance's name.
    pub fn instance_id(&self) -> &str {
        todo!()
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        todo!()
    }

    /// The surroundings: clock, tasks, metrics.
    pub fn env(&self) -> &Env {
        todo!()
    }

    /// Asks the store one cheap question, to find out whether it answers.
    pub async fn check_store(&self) -> Result<()> {
        todo!()
    }

    /// Creates a collection; `false` where it was there with the same settings.
    pub async fn create_collection(&self, _spec: CollectionSpec) -> Result<(CollectionInfo, bool)> {
        todo!()
    }

    /// One page of the collections, ordered by name; `limit` 1..=1,000.
    pub async fn collections(
        &self,
        _limit: usize,
        _cursor: Option<String>,
    ) -> Result<CollectionPage> {
        todo!()
    }

    /// A collection.
    pub async fn collection(&self, _name: &CollectionName) -> Result<CollectionInfo> {
        todo!()
    }

    /// Deletes a collection and, a grace period later, its objects.
    pub async fn delete_collection(&self, _name: &CollectionName) -> Result<()> {
        todo!()
    }

    /// Counts and sizes of a collection.
    pub async fn stats(&self, _name: &CollectionName) -> Result<CollectionStats> {
        todo!()
    }

    /// Stores records (1..=10,000); returns when they are durable. Of several records with one id
    /// in one request the last one stays.
    pub async fn upsert(
        &self,
        _name: &CollectionName,
        _records: Vec<NewRecord>,
    ) -> Result<Upserted> {
        todo!()
    }

    /// Deletes records; returns when that is durable.
    pub async fn delete(&self, _name: &CollectionName, _target: DeleteTarget) -> Result<Deleted> {
        todo!()
    }

    /// One record, with its vector.
    pub async fn get(&self, _name: &CollectionName, _id: &str) -> Result<Record> {
        todo!()
    }

    /// Several records by id (1..=10,000).
    pub async fn fetch(
        &self,
        _name: &CollectionName,
        _ids: &[String],
        _include_vector: bool,
    ) -> Result<FetchedRecords> {
        todo!()
    }

    /// One page of records, ordered by id; `limit` 1..=10,000.
    pub async fn list(
        &self,
        _name: &CollectionName,
        _limit: usize,
        _cursor: Option<String>,
        _include_vector: bool,
    ) -> Result<RecordPage> {
        todo!()
    }

    /// Searches.
    pub async fn search(
        &self,
        _name: &CollectionName,
        _request: SearchRequest,
    ) -> Result<SearchResponse> {
        todo!()
    }

    /// Answers up to 1,000 searches on one snapshot (the one that satisfies all of them).
    pub async fn search_batch(
        &self,
        _name: &CollectionName,
        _requests: Vec<SearchRequest>,
    ) -> Result<Vec<SearchResponse>> {
        todo!()
    }

    /// All records at one version, ordered by id, as NDJSON.
    pub async fn export(&self, _name: &CollectionName, _include_vector: bool) -> Result<Export> {
        todo!()
    }

    /// Stores NDJSON, one record a line, in constant memory. Lines that are not valid are counted
    /// and reported; an error of the stream or the store ends the import and carries
    /// `details.imported`.
    pub async fn import(
        &self,
        _name: &CollectionName,
        _body: BoxStream<'static, Result<Bytes>>,
    ) -> Result<ImportReport> {
        todo!()
    }

    /// Finishes what is in flight within the settings' bound and stops; whether all ended in time.
    pub async fn shutdown(&self) -> bool {
        todo!()
    }
}
