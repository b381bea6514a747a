//! The facade that the HTTP layer, the command line and embedding programs use.

use crate::base::ids::CollectionName;
use crate::base::settings::{Role, Settings};
use crate::base::{Code, Env, Error, Result};
use crate::engine::catalog;
use crate::engine::collection::{Collection, check_role, limits};
use crate::engine::collector::Collector;
use crate::engine::model::*;
use crate::engine::tail::Snapshot;
use crate::engine::{records, search, transfer, validate};
use crate::log::chunk::ChunkBuilder;
use crate::manifest::CollectionSettings;
use crate::store::layers::Usage;
use crate::store::{self, DynStore};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

/// The collection that needs no creating: its first write makes it, whatever the settings say.
pub const DEFAULT_COLLECTION: &str = "default";
/// Largest page of a listing of collections.
const COLLECTIONS_PAGE_MAX: usize = 1_000;

#[derive(Debug)]
struct Inner {
    settings: Settings,
    role: Role,
    instance_id: String,
    store: DynStore,
    env: Env,
    collections: Mutex<HashMap<CollectionName, Arc<Collection>>>,
}

/// One instance: a writer, a reader or both, on one store. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Brainy(Arc<Inner>);

impl Brainy {
    /// Opens a store with default settings, as a hybrid: `s3://bucket/prefix`, `file:///folder`,
    /// a folder, or `memory:`.
    pub async fn open(store_url: &str) -> Result<Self> {
        let settings = Settings { store: store_url.to_owned(), ..Settings::default() };
        let env = Env::system(settings.compute_threads)?;
        let store = store::open::open(&settings, &env).await?;
        Self::start(settings, Role::Hybrid, store, env).await
    }

    /// Starts an instance on a store that is open and known to be safe.
    pub async fn start(settings: Settings, role: Role, store: DynStore, env: Env) -> Result<Self> {
        let instance_id = settings.instance_id.clone();
        let instance_id = instance_id.unwrap_or_else(|| {
            format!("{}-{}", role.name(), env.ulid().to_string().to_lowercase())
        });
        if role.writes() {
            let grace = limits(&settings).grace;
            let collector = Collector::new(store.clone(), env.clone(), grace);
            env.tasks.spawn("collector", collector.run());
        }
        Ok(Brainy(Arc::new(Inner {
            settings,
            role,
            instance_id,
            store,
            env,
            collections: Mutex::default(),
        })))
    }

    /// This instance's role.
    pub fn role(&self) -> Role {
        self.0.role
    }

    /// This instance's name.
    pub fn instance_id(&self) -> &str {
        &self.0.instance_id
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// The surroundings: clock, tasks, metrics.
    pub fn env(&self) -> &Env {
        &self.0.env
    }

    /// Asks the store one cheap question, to find out whether it answers.
    pub async fn check_store(&self) -> Result<()> {
        store::get(&*self.0.store, &store::paths::config()).await.map(drop)
    }

    /// Creates a collection; `false` where it was there with the same settings.
    pub async fn create_collection(&self, spec: CollectionSpec) -> Result<(CollectionInfo, bool)> {
        check_role(self.0.role, true)?;
        let (_, created) = catalog::create(&self.0.store, &self.0.env, &spec).await?;
        if created {
            self.forget(&spec.name);
        }
        Ok((self.collection(&spec.name).await?, created))
    }

    /// One page of the collections, ordered by name; `limit` 1..=1,000.
    pub async fn collections(
        &self,
        limit: usize,
        cursor: Option<String>,
    ) -> Result<CollectionPage> {
        validate::check_count("limit", limit, COLLECTIONS_PAGE_MAX)?;
        let (manifests, next_cursor) =
            catalog::list(&self.0.store, limit, cursor.as_deref()).await?;
        let mut collections = Vec::with_capacity(manifests.len());
        for manifest in manifests {
            // One that is deleted while we look is left out.
            match self.collection(&manifest.name).await {
                Ok(info) => collections.push(info),
                Err(error) if error.code() == Code::CollectionNotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(CollectionPage { collections, next_cursor })
    }

    /// A collection.
    pub async fn collection(&self, name: &CollectionName) -> Result<CollectionInfo> {
        let (collection, snapshot) = self.look(name).await?;
        Ok(collection.info(snapshot.as_ref()))
    }

    /// Counts and sizes of a collection.
    pub async fn stats(&self, name: &CollectionName) -> Result<CollectionStats> {
        let (collection, snapshot) = self.look(name).await?;
        Ok(collection.stats(snapshot.as_ref()))
    }

    /// Deletes a collection and, a grace period later, its log.
    pub async fn delete_collection(&self, name: &CollectionName) -> Result<()> {
        check_role(self.0.role, true)?;
        let grace = limits(&self.0.settings).grace;
        let result = catalog::delete(&self.0.store, &self.0.env, name, grace).await;
        self.forget(name);
        result
    }

    /// Stores records (1..=10,000); returns when they are durable. Of several records with one id
    /// in one request the last one stays.
    pub async fn upsert(&self, name: &CollectionName, records: Vec<NewRecord>) -> Result<Upserted> {
        check_role(self.0.role, true)?;
        validate::check_count("vectors", records.len(), RECORDS_PER_WRITE_MAX)?;
        let records = Arc::new(records);
        let mut may_recreate = true;
        loop {
            let settings = self.settings_for_write(name, &records[0].vector).await?;
            let (env, batch) = (self.0.env.clone(), records.clone());
            let prepare = move || validate::prepare(&batch, &settings, &env);
            let prepared = self.0.env.compute.run(prepare).await??;
            let written = self.write(name, prepared.chunk, prepared.operations).await;
            match written {
                // It was deleted before this write, which makes it again.
                Err(error)
                    if error.code() == Code::CollectionNotFound
                        && !error.is_ambiguous()
                        && may_recreate =>
                {
                    may_recreate = false;
                }
                Err(error) => return Err(error),
                Ok(version) => {
                    return Ok(Upserted { version, upserted: records.len(), ids: prepared.ids });
                }
            }
        }
    }

    /// Deletes records; returns when that is durable.
    pub async fn delete(&self, name: &CollectionName, target: DeleteTarget) -> Result<Deleted> {
        check_role(self.0.role, true)?;
        if let DeleteTarget::Ids(ids) = &target {
            validate::check_count("ids", ids.len(), PAGE_MAX)?;
            ids.iter().try_for_each(|id| crate::base::ids::check_record_id(id))?;
        }
        let collection = self.open_collection(name).await?;
        let snapshot = self.pin(&collection, Consistency::Strong).await?;
        let version = snapshot.version;
        let found = self.0.env.compute.run(move || match target {
            DeleteTarget::Filter(filter) => records::matching_ids(&snapshot, &filter),
            DeleteTarget::Ids(mut ids) => {
                ids.sort_unstable();
                ids.dedup();
                ids.retain(|id| snapshot.find(id).is_some());
                ids
            }
        });
        let ids = found.await?;
        let mut last = version;
        for ids in ids.chunks(RECORDS_PER_WRITE_MAX) {
            let mut builder = ChunkBuilder::new(0);
            ids.iter().for_each(|id| builder.delete(id));
            last = self.write(name, builder.finish()?, ids.len() as u32).await?;
        }
        Ok(Deleted { version: last, deleted: ids.len() })
    }

    /// One record, with its vector.
    pub async fn get(&self, name: &CollectionName, id: &str) -> Result<Record> {
        let snapshot = self.read(name).await?;
        let found = snapshot.find(id).map(|(block, row)| records::record(block, row, true));
        found.ok_or_else(|| search::not_found(id))
    }

    /// Several records by id (1..=10,000).
    pub async fn fetch(
        &self,
        name: &CollectionName,
        ids: &[String],
        include_vector: bool,
    ) -> Result<FetchedRecords> {
        validate::check_count("ids", ids.len(), PAGE_MAX)?;
        let snapshot = self.read(name).await?;
        let mut fetched =
            FetchedRecords { records: Vec::new(), missing: Vec::new(), version: snapshot.version };
        for id in ids {
            match snapshot.find(id) {
                Some((block, row)) => {
                    fetched.records.push(records::record(block, row, include_vector));
                }
                None => fetched.missing.push(id.clone()),
            }
        }
        Ok(fetched)
    }

    /// One page of records, ordered by id; `limit` 1..=10,000.
    pub async fn list(
        &self,
        name: &CollectionName,
        limit: usize,
        cursor: Option<String>,
        include_vector: bool,
    ) -> Result<RecordPage> {
        validate::check_count("limit", limit, PAGE_MAX)?;
        let after = cursor.as_deref().map(decode_cursor).transpose()?;
        let snapshot = self.read(name).await?;
        let page = self.0.env.compute.run(move || {
            let mut records = Vec::new();
            let more = records::visit(&snapshot, after.as_deref(), limit, |block, row| {
                records.push(records::record(block, row, include_vector));
            });
            let last = records.last().filter(|_| more);
            RecordPage {
                next_cursor: last.map(|last| URL_SAFE_NO_PAD.encode(&last.id)),
                records,
                version: snapshot.version,
            }
        });
        page.await
    }

    /// Searches.
    pub async fn search(
        &self,
        name: &CollectionName,
        request: SearchRequest,
    ) -> Result<SearchResponse> {
        let mut responses = self.search_batch(name, vec![request]).await?;
        responses.pop().ok_or_else(|| Error::internal("a search gave no answer"))
    }

    /// Answers 1..=1,000 searches on one snapshot: the one that satisfies the strictest of them.
    pub async fn search_batch(
        &self,
        name: &CollectionName,
        requests: Vec<SearchRequest>,
    ) -> Result<Vec<SearchResponse>> {
        check_role(self.0.role, false)?;
        validate::check_count("searches", requests.len(), SEARCHES_PER_BATCH_MAX)?;
        let started = Instant::now();
        let collection = self.open_collection(name).await?;
        let settings = collection.settings();
        for (index, request) in requests.iter().enumerate() {
            search::check(request, &settings).map_err(|error| match requests.len() {
                1 => error,
                _ => error.context(format!("searches[{index}]")).with("index", index),
            })?;
        }
        let asked = Usage::default();
        let snapshot = asked.scope(self.pin_for(&collection, &requests)).await?;
        let run = move || search::run(&snapshot, settings.metric, &requests);
        let mut responses = self.0.env.compute.run(run).await??;
        let took = started.elapsed();
        responses.iter_mut().for_each(|response| response.stats.took = took);
        self.0.env.metrics.searches.inc_by(responses.len() as u64);
        self.0.env.metrics.search_seconds.observe(took.as_secs_f64());
        Ok(responses)
    }

    /// All records at one version, ordered by id, as NDJSON.
    pub async fn export(&self, name: &CollectionName, include_vector: bool) -> Result<Export> {
        let snapshot = self.read(name).await?;
        Ok(transfer::export(snapshot, self.0.env.clone(), include_vector))
    }

    /// Stores NDJSON, one record a line, in constant memory. Lines that are not valid are counted
    /// and reported; an error of the stream or the store ends the import and carries
    /// `details.imported`.
    pub async fn import(
        &self,
        name: &CollectionName,
        body: BoxStream<'static, Result<Bytes>>,
    ) -> Result<ImportReport> {
        check_role(self.0.role, true)?;
        transfer::import(self, name, body).await
    }

    /// Finishes what is in flight within the settings' bound and stops; whether all ended in time.
    pub async fn shutdown(&self) -> bool {
        let bound = Duration::from_millis(self.0.settings.shutdown_timeout_ms);
        self.0.env.tasks.shutdown(bound).await
    }

    /// The settings of a collection that is about to be written; where there is none and it may be
    /// created, it is, with the dimensions of `example` and cosine.
    pub(super) async fn settings_for_write(
        &self,
        name: &CollectionName,
        example: &[f32],
    ) -> Result<CollectionSettings> {
        let missing = match self.open_collection(name).await {
            Ok(collection) => return Ok(collection.settings()),
            Err(error) if error.code() == Code::CollectionNotFound => error,
            Err(error) => return Err(error),
        };
        if !self.0.settings.create_collections && name.as_str() != DEFAULT_COLLECTION {
            return Err(missing);
        }
        let spec = CollectionSpec {
            name: name.clone(),
            dimensions: u32::try_from(example.len()).unwrap_or(u32::MAX),
            metric: Metric::Cosine,
            partition_count: None,
            description: None,
        };
        match catalog::create(&self.0.store, &self.0.env, &spec).await {
            Ok((manifest, _)) => {
                self.forget(name);
                Ok(manifest.settings)
            }
            // Somebody else made it first: its settings count.
            Err(error) if error.code() == Code::SettingsConflict => {
                Ok(self.open_collection(name).await?.settings())
            }
            Err(error) => Err(error.context("the collection could not be created by this write")),
        }
    }

    async fn write(
        &self,
        name: &CollectionName,
        chunk: Bytes,
        operations: u32,
    ) -> Result<crate::base::ids::Seq> {
        let collection = self.open_collection(name).await?;
        match collection.writer().write(chunk, operations).await {
            Ok(appended) => Ok(appended.seq),
            Err(error) if error.code() == Code::CollectionNotFound => {
                self.forget(name);
                let grace = limits(&self.0.settings).grace;
                catalog::finish_deletion(&self.0.store, &self.0.env, name, grace).await?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CollectionName, Arc<Collection>>> {
        self.0.collections.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn forget(&self, name: &CollectionName) {
        self.lock().remove(name);
    }

    /// Only a collection that is gone is forgotten: a second read path beside a living one could
    /// answer with an older version.
    fn forget_if_gone<T>(&self, name: &CollectionName, result: Result<T>) -> Result<T> {
        result.inspect_err(|error| {
            if error.code() == Code::CollectionNotFound {
                self.forget(name);
            }
        })
    }

    /// The collection in use, opened when it is first asked for.
    async fn open_collection(&self, name: &CollectionName) -> Result<Arc<Collection>> {
        let known = self.lock().get(name).cloned();
        if let Some(known) = known
            && !known.has_ended()
        {
            return Ok(known);
        }
        let inner = &self.0;
        let (store, env) = (inner.store.clone(), inner.env.clone());
        let opened = Collection::open(store, env, &inner.settings, name.clone()).await;
        let opened = Arc::new(self.forget_if_gone(name, opened)?);
        let mut collections = self.lock();
        match collections.get(name) {
            // Somebody else opened it meanwhile: one read path and one write path are enough.
            Some(other) if !other.has_ended() => Ok(other.clone()),
            _ => {
                collections.insert(name.clone(), opened.clone());
                Ok(opened)
            }
        }
    }

    /// A snapshot that shows what `consistency` asks for.
    async fn pin(&self, collection: &Collection, consistency: Consistency) -> Result<Snapshot> {
        let wait_max = Duration::from_millis(self.0.settings.wait_ms_max);
        let pinned = collection.snapshot(consistency, wait_max).await;
        self.forget_if_gone(&collection.manifest().name, pinned)
    }

    /// A snapshot that satisfies every one of `requests`: versions never go backward, so what is
    /// pinned last satisfies what was pinned before.
    async fn pin_for(
        &self,
        collection: &Collection,
        requests: &[SearchRequest],
    ) -> Result<Snapshot> {
        let mut wanted: Vec<Consistency> = Vec::new();
        for request in requests {
            if !wanted.contains(&request.consistency) {
                wanted.push(request.consistency);
            }
        }
        let mut snapshot = self.pin(collection, wanted[0]).await?;
        for consistency in &wanted[1..] {
            snapshot = self.pin(collection, *consistency).await?;
        }
        Ok(snapshot)
    }

    async fn read(&self, name: &CollectionName) -> Result<Snapshot> {
        check_role(self.0.role, false)?;
        let collection = self.open_collection(name).await?;
        self.pin(&collection, Consistency::Eventual).await
    }

    /// A collection, and a snapshot where this instance reads.
    async fn look(&self, name: &CollectionName) -> Result<(Arc<Collection>, Option<Snapshot>)> {
        let collection = self.open_collection(name).await?;
        if !self.0.role.reads() {
            return Ok((collection, None));
        }
        let snapshot = self.pin(&collection, Consistency::Eventual).await?;
        Ok((collection, Some(snapshot)))
    }
}

fn decode_cursor(cursor: &str) -> Result<String> {
    let id = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|id| String::from_utf8(id).ok());
    id.ok_or_else(|| Error::invalid("the cursor is not valid; pass nextCursor as it was returned"))
}
