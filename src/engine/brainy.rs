//! The facade that the HTTP layer, the command line and embedding programs use.

mod by_hand;
mod reads;
mod writes;

pub use writes::Target;

use crate::base::ids::{CollectionName, Seq};
use crate::base::memory::RequestMemory;
use crate::base::settings::{Role, Settings};
use crate::base::{Code, Env, Result, runtime};
use crate::engine::catalog;
use crate::engine::collection::{Collection, described};
use crate::engine::collections::{Closer, Collections};
use crate::engine::collector::Collector;
use crate::engine::context::Context;
use crate::engine::model::*;
use crate::engine::node::cluster::Cluster;
use crate::engine::node::condition::Condition;
use crate::engine::node::identity;
use crate::engine::reading::snapshot::Snapshot;
use crate::engine::upkeep::Upkeep;
use crate::engine::writing::validate;
use crate::manifest::Manifest;
use crate::partition::Partitioner;
use crate::store::{self, DynStore, probe};
use futures::stream::{self, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The collection that needs no creating: its first write makes it, whatever the settings say.
pub const DEFAULT_COLLECTION: &str = "default";
/// Largest page of a listing of collections.
const COLLECTIONS_PAGE_MAX: usize = 1_000;
/// Logs that are looked at a time while collections are listed.
const LOOKS_AT_A_TIME: usize = 16;

#[derive(Debug)]
struct Inner {
    settings: Settings,
    context: Context,
    collections: Arc<Collections>,
    cluster: Cluster,
}

impl Drop for Inner {
    /// Nobody is left to ask for a shutdown.
    fn drop(&mut self) {
        let bound = Duration::from_millis(self.settings.shutdown_timeout_ms);
        self.context.env.tasks.let_go(bound);
    }
}

/// One instance: a writer, a reader or both, on one store. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Brainy(Arc<Inner>);

impl Brainy {
    /// Opens the store of the settings, in a role and with partitioners of the embedding program. What the last clone
    /// leaves behind when it is dropped without [`shutdown`](Self::shutdown) ends in the background.
    pub async fn open_with(
        settings: Settings,
        role: Role,
        partitioners: Vec<Arc<dyn Partitioner>>,
    ) -> Result<Self> {
        let env = Self::surroundings(&settings, settings.store_is_s3())?;
        let store = store::open::open(&settings, &env).await?;
        Self::start_proved(settings, role, store, env, partitioners).await
    }

    /// The same on a store of the embedding program, whatever `settings.store` says.
    pub async fn open_on(
        settings: Settings,
        role: Role,
        store: DynStore,
        partitioners: Vec<Arc<dyn Partitioner>>,
    ) -> Result<Self> {
        let env = Self::surroundings(&settings, false)?;
        let store = store::open::layered(store, &settings, &env);
        Self::start_proved(settings, role, store, env, partitioners).await
    }

    fn surroundings(settings: &Settings, network: bool) -> Result<Env> {
        settings.validate()?;
        runtime::check(network)?;
        Env::system(settings.compute_threads)
    }

    async fn start_proved(
        settings: Settings,
        role: Role,
        store: DynStore,
        env: Env,
        partitioners: Vec<Arc<dyn Partitioner>>,
    ) -> Result<Self> {
        probe::fit(role.writes(), &store, &env).await?;
        Self::start_with(settings, role, store, env, partitioners).await
    }

    /// Starts an instance on a store that is open and was proved ([`probe::fit`]). Most programs want
    /// [`open_with`](Self::open_with) or [`open_on`](Self::open_on), which prove it.
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
        runtime::check(false)?;
        let instance_id = identity::instance_id(&settings, role, &env).await?;
        let context = Context::new(&settings, role, &instance_id, store, env, partitioners.into());
        let collections = Arc::new(Collections::new(context.clone()));
        let env = &context.env;
        let collector = Collector::new(context.clone(), collections.clone());
        env.tasks.spawn("collector", collector.run());
        env.tasks.spawn("closer", Closer::new(context.clone(), collections.clone()).run());
        if context.upkeep.enabled {
            Upkeep::start(&context, &collections);
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

    /// What the requests in flight hold.
    pub fn request_memory(&self) -> &RequestMemory {
        &self.0.context.memory
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

    /// Sets the figures that nobody counts as things happen: of the cluster, and of the largest collections that
    /// are open.
    pub fn measure(&self) {
        self.0.cluster.measure();
        let open = self.0.collections.all();
        let figures = open.iter().map(|collection| collection.figures()).collect();
        self.0.context.env.metrics.largest_collections.set(figures);
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
            self.describe(&spec.name).await
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
        let listed = catalog::list(&self.0.context.store, limit, cursor.as_deref()).await?;
        let infos = listed.manifests.into_iter().map(|manifest| self.listed(manifest));
        let collections = stream::iter(infos).buffered(LOOKS_AT_A_TIME).collect().await;
        Ok(CollectionPage { collections, damaged: listed.damaged, next_cursor: listed.next })
    }

    /// What a listing says of a collection: what its manifest says, and what is known where it is open. Nothing
    /// is opened for it, and no segment is read.
    async fn listed(&self, manifest: Manifest) -> CollectionInfo {
        let mut info = described(&manifest);
        let reads = self.0.context.duty.station().role.reads();
        info.vector_count = reads.then(|| manifest.live());
        let Some(open) = self.0.collections.known(&manifest.name) else { return info };
        if open.view().life() != manifest.incarnation {
            return info;
        }
        let shown = match open.applied() {
            // What this instance has written itself counts.
            None if reads && open.has_unindexed() => open.look().await.ok(),
            applied => applied,
        };
        let newer = shown.filter(|shown| shown.version() >= manifest.wal_indexed);
        info.version = info.version.max(open.known_version().unwrap_or_default());
        if let Some(newer) = newer.filter(|_| reads) {
            info.vector_count = Some(newer.live());
            info.version = info.version.max(newer.version());
        }
        info
    }

    /// What a collection is like: its settings, counts and versions.
    pub async fn describe(&self, name: &CollectionName) -> Result<CollectionInfo> {
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
        let Some(known) = known else { return result };
        match &result {
            Ok(()) => self.0.collections.forget(&known),
            // Where it came to nothing, requests go on with what is open: a second read path beside it could show
            // less. It ends by itself where it finds the seal.
            Err(error) if error.is_ambiguous() => drop(known.look().await),
            Err(_) => {}
        }
        self.0.collections.forget_if_gone(&known, result)
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
