//! The facade that the HTTP layer, the command line and embedding programs use.

mod by_hand;
mod writes;

pub use writes::Target;

use crate::base::ids::{CollectionName, Seq};
use crate::base::settings::{Role, Settings};
use crate::base::{Code, Env, Error, Result};
use crate::engine::catalog;
use crate::engine::cluster::Cluster;
use crate::engine::collection::{Collection, described};
use crate::engine::collections::Collections;
use crate::engine::collector::Collector;
use crate::engine::condition::Condition;
use crate::engine::context::Context;
use crate::engine::model::*;
use crate::engine::snapshot::{OpenSnapshot, Payloads, Snapshot};
use crate::engine::upkeep::{Task, Upkeep};
use crate::engine::{identity, records, search, transfer, validate};
use crate::partition::Partitioner;
use crate::store::layers::Usage;
use crate::store::{self, DynStore};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The collection that needs no creating: its first write makes it, whatever the settings say.
pub const DEFAULT_COLLECTION: &str = "default";
/// Largest page of a listing of collections.
const COLLECTIONS_PAGE_MAX: usize = 1_000;

#[derive(Debug)]
struct Inner {
    settings: Settings,
    context: Context,
    collections: Arc<Collections>,
    cluster: Cluster,
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
        Self::start_with(settings, role, store, env, Vec::new()).await
    }

    /// The same with partitioners of the embedding program.
    pub async fn start_with(
        settings: Settings,
        role: Role,
        store: DynStore,
        env: Env,
        partitioners: Vec<Arc<dyn Partitioner>>,
    ) -> Result<Self> {
        let instance_id = identity::instance_id(&settings, role, &env).await?;
        let context = Context::new(&settings, role, &instance_id, store, env, partitioners.into());
        let collections = Arc::new(Collections::new(context.clone()));
        let env = &context.env;
        env.tasks.spawn("collector", Collector::new(context.clone()).run());
        if context.upkeep.enabled {
            for task in [Task::Index, Task::Compact] {
                let upkeep = Upkeep::new(context.clone(), collections.clone(), task);
                env.tasks.spawn("upkeep", upkeep.run());
            }
        }
        let cluster = Cluster::new(context.clone(), collections.clone(), settings.clone());
        Ok(Brainy(Arc::new(Inner { settings, context, collections, cluster })))
    }

    /// This instance's role.
    pub fn role(&self) -> Role {
        self.0.context.duty.station().role
    }

    /// This instance among the others.
    pub fn cluster(&self) -> &Cluster {
        &self.0.cluster
    }

    /// This instance's name.
    pub fn instance_id(&self) -> &str {
        &self.0.context.instance_id
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// The surroundings: clock, tasks, metrics.
    pub fn env(&self) -> &Env {
        &self.0.context.env
    }

    /// Whether this instance is as it should be, without asking the store.
    pub fn condition(&self) -> Condition {
        self.0.cluster.condition()
    }

    /// What this instance shows of a collection, once that is what `wanted` says. `None` where it does not
    /// have it open: whoever asks for it first has the log read to its end.
    pub async fn applied(&self, name: &CollectionName, wanted: Consistency) -> Result<Option<Seq>> {
        self.0.context.duty.check_read()?;
        let Some(collection) = self.0.collections.known(name) else { return Ok(None) };
        let snapshot = collection.snapshot(wanted, self.wait_max()).await;
        match self.0.collections.forget_if_gone(&collection, snapshot) {
            Err(error) if error.code() == Code::CollectionNotFound => Ok(None),
            snapshot => snapshot.map(|snapshot| Some(snapshot.version())),
        }
    }

    /// Asks the store one cheap question, to find out whether it answers.
    pub async fn check_store(&self) -> Result<()> {
        store::get(&*self.0.context.store, &store::paths::config(&self.0.settings.config_path))
            .await
            .map(drop)
    }

    /// Creates a collection; `false` where it was there with the same settings.
    pub async fn create_collection(&self, spec: CollectionSpec) -> Result<(CollectionInfo, bool)> {
        let _admitted = self.0.context.duty.admit_write()?;
        catalog::check_spec(&spec)?;
        if let Some(partitioner) = &spec.partitioner {
            // Nothing is created that cannot be used here.
            partitioner.resolve(&self.0.context.partitioners)?;
        }
        let Context { store, env, limits, .. } = &self.0.context;
        let partitions = self.0.cluster.partition_count();
        let (manifest, created) =
            catalog::create(store, env, limits.grace, &spec, partitions).await?;
        let info = async {
            self.0.collections.open_from(&spec.name, manifest.incarnation).await?;
            self.collection(&spec.name).await
        };
        match info.await {
            // It was there, and somebody has deleted it since.
            Err(error) if error.code() == Code::CollectionNotFound => {
                Ok((described(&manifest), created))
            }
            info => Ok((info?, created)),
        }
    }

    /// One page of the collections, ordered by name; `limit` 1..=1,000.
    pub async fn collections(
        &self,
        limit: usize,
        cursor: Option<String>,
    ) -> Result<CollectionPage> {
        validate::check_count("limit", limit, COLLECTIONS_PAGE_MAX)?;
        let (manifests, next_cursor) =
            catalog::list(&self.0.context.store, limit, cursor.as_deref()).await?;
        let mut collections = Vec::with_capacity(manifests.len());
        for manifest in manifests {
            // One that is deleted while we look is left out.
            match self.collection(&manifest.name).await {
                Ok(info) => collections.push(info),
                Err(error) if error.code() == Code::CollectionNotFound => {}
                // That its partitioner is not here keeps nobody from the others.
                Err(error) if error.code() == Code::SettingsConflict => {
                    collections.push(described(&manifest));
                }
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
        Ok(collection.stats(snapshot.as_ref()).await)
    }

    /// Deletes a collection and, a grace period later, its log.
    pub async fn delete_collection(&self, name: &CollectionName) -> Result<()> {
        let _admitted = self.0.context.duty.admit_write()?;
        let Context { store, env, limits, .. } = &self.0.context;
        let known = self.0.collections.known(name);
        let result = catalog::delete(store, env, limits.grace, name).await;
        if let Some(known) = known {
            self.0.collections.forget(&known);
        }
        result
    }

    /// One record, with its vector.
    pub async fn get(&self, name: &CollectionName, id: &str) -> Result<Record> {
        let snapshot = self.read(name).await?;
        let place = snapshot.find(id)?.ok_or_else(|| search::not_found(id))?;
        Payloads::default().record(place, true)
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
        let ids = ids.to_vec();
        let fetch = move || {
            let version = snapshot.version();
            let (mut records, mut missing) = (Vec::new(), Vec::new());
            let mut payloads = Payloads::default();
            for id in ids {
                match snapshot.find(&id)? {
                    Some(place) => records.push(payloads.record(place, include_vector)?),
                    None => missing.push(id),
                }
            }
            Ok(FetchedRecords { records, missing, version })
        };
        self.0.context.env.searches.run(fetch).await?
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
        let cursor = cursor.as_deref().map(Cursor::decode).transpose()?;
        let (life, snapshot) = self.read_from(name, cursor.as_ref()).await?;
        let page = self.0.context.env.compute.run(move || {
            let (mut records, mut payloads) = (Vec::new(), Payloads::default());
            let after = cursor.as_ref().map(|cursor| cursor.after.as_str());
            let more = records::visit(&snapshot, after, limit, |place| {
                records.push(payloads.record(place, include_vector)?);
                Ok(())
            })?;
            let last: Option<&Record> = records.last().filter(|_| more);
            Ok(RecordPage {
                next_cursor: last.map(|last| Cursor::encode(life, &last.id)),
                records,
                version: snapshot.version(),
            })
        });
        page.await?
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
        self.0.context.duty.check_read()?;
        validate::check_count("searches", requests.len(), SEARCHES_PER_BATCH_MAX)?;
        let started = Instant::now();
        let asked = Usage::default();
        let mut wanted: Vec<Consistency> = Vec::new();
        for SearchRequest { consistency, .. } in &requests {
            if *consistency != Consistency::Eventual && !wanted.contains(consistency) {
                wanted.push(*consistency);
            }
        }
        let (asked_for, wanted) = (&requests, &wanted);
        let pin = |collection: Arc<Collection>| async move {
            let settings = collection.settings();
            search::check_all(asked_for, &settings)?;
            let snapshot = collection.open_snapshot(wanted, self.wait_max()).await?;
            Ok((settings.metric, snapshot))
        };
        let (metric, snapshot) = asked.scope(self.0.collections.on_life(name, pin)).await?;
        let mut responses =
            search::run_all(&self.0.context.env.searches, snapshot, metric, requests).await?;
        let took = started.elapsed();
        responses.iter_mut().for_each(|response| response.stats.took = took);
        self.0.context.env.metrics.searches.inc_by(responses.len() as u64);
        self.0.context.env.metrics.search_seconds.observe(took.as_secs_f64());
        Ok(responses)
    }

    /// All records at one version, ordered by id, as NDJSON.
    pub async fn export(&self, name: &CollectionName, include_vector: bool) -> Result<Export> {
        let snapshot = self.read(name).await?;
        Ok(transfer::export(snapshot, self.0.context.env.clone(), include_vector))
    }

    /// Finishes what is in flight within the settings' bound and stops; whether all ended in time.
    pub async fn shutdown(&self) -> bool {
        let bound = Duration::from_millis(self.0.settings.shutdown_timeout_ms);
        let started = Instant::now();
        // Writes in flight end before the tasks that they wait for; the membership leaves with those.
        let drained = tokio::time::timeout(bound, self.0.context.duty.drained()).await.is_ok();
        let rest = bound.saturating_sub(started.elapsed());
        self.0.context.env.tasks.shutdown(rest).await && drained
    }

    fn wait_max(&self) -> Duration {
        Duration::from_millis(self.0.settings.wait_ms_max)
    }

    /// What this instance shows of the life of `name` that there is now.
    async fn read(&self, name: &CollectionName) -> Result<OpenSnapshot> {
        self.read_from(name, None).await.map(|(_, snapshot)| snapshot)
    }

    /// The same, and which life that is: the one that `cursor` is of.
    async fn read_from(
        &self,
        name: &CollectionName,
        cursor: Option<&Cursor>,
    ) -> Result<(u64, OpenSnapshot)> {
        self.0.context.duty.check_read()?;
        let pin = |collection: Arc<Collection>| async move {
            let life = collection.life();
            if cursor.is_some_and(|cursor| cursor.life != life) {
                // Perhaps this instance has not heard of the life that it is of.
                collection.view().look_now().await?;
                return Err(Error::invalid(
                    "the cursor is of a collection that was deleted since; list again from the beginning",
                ));
            }
            Ok((life, collection.open_snapshot(&[], self.wait_max()).await?))
        };
        self.0.collections.on_life(name, pin).await
    }

    /// A collection, and a snapshot where this instance reads.
    async fn look(&self, name: &CollectionName) -> Result<(Arc<Collection>, Option<Snapshot>)> {
        let look = |collection: Arc<Collection>| async move {
            if !self.0.context.duty.station().role.reads() {
                // Nothing else would tell it of the end of a life.
                collection.view().look_now().await?;
                return Ok((collection, None));
            }
            let snapshot = collection.snapshot(Consistency::Eventual, self.wait_max()).await?;
            Ok((collection, Some(snapshot)))
        };
        self.0.collections.on_life(name, look).await
    }
}

/// Where the next page of a listing begins.
struct Cursor {
    /// The life of the collection that the page before was of.
    life: u64,
    /// The last id of that page.
    after: String,
}

impl Cursor {
    fn encode(life: u64, after: &str) -> String {
        URL_SAFE_NO_PAD.encode(format!("{life}/{after}"))
    }

    fn decode(cursor: &str) -> Result<Cursor> {
        let text = URL_SAFE_NO_PAD.decode(cursor).ok();
        let text = text.and_then(|text| String::from_utf8(text).ok());
        let parts = text.as_deref().and_then(|text| text.split_once('/'));
        let cursor = parts.and_then(|(life, after)| {
            Some(Cursor { life: life.parse().ok()?, after: after.to_owned() })
        });
        cursor.ok_or_else(|| {
            Error::invalid("the cursor is not valid; pass nextCursor as it was returned")
        })
    }
}
