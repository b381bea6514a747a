//! One run: the instances, their connections to the store, and what holds at the end.

use crate::actors;
use crate::checker::{self, Read};
use crate::model::{Contents, Model};
use crate::recorder::Recorder;
use crate::trace::Trace;
use brainy::base::clock::{Clock, VirtualClock};
use brainy::base::defect::Defects;
use brainy::base::ids::{CollectionName, Seq};
use brainy::base::rng::{Rng, SeededRng};
use brainy::base::settings::{Role, Settings};
use brainy::base::tasks::Tasks;
use brainy::base::{Code, Env, Error, Result, Timestamp};
use brainy::engine::Brainy;
use brainy::engine::model::{Consistency, Query, SearchRequest, SearchResponse};
use brainy::store::DynStore;
use brainy::store::layers::{FaultSettings, Faults, Retry, Timeout};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Simulated time during which the actors act.
const ACTIVE: Duration = Duration::from_secs(90);
/// Longer than any effect that the network may still carry.
const SETTLE: Duration = Duration::from_secs(200);
/// The grace period: short, so that a run sees many.
const GRACE: Duration = Duration::from_secs(10);
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than the grace period: a stalled conditional PUT must be able to outlive it.
const STORE_CAS_TIMEOUT: Duration = Duration::from_secs(40);
/// The number of distinct record ids: small, so that writes meet.
pub const IDS: u64 = 24;

/// One process.
pub struct Instance {
    pub number: u64,
    pub role: Role,
    pub brainy: Brainy,
    pub faults: Faults,
    pub tasks: Tasks,
    /// The largest version that this instance has answered with.
    pub answered: Mutex<Seq>,
}

/// How much a run did.
#[derive(Debug, Default, Clone)]
pub struct Counts {
    pub writes: u64,
    pub writes_uncertain: u64,
    pub reads: u64,
    pub reads_failed: u64,
    pub kills: u64,
    pub entries: u64,
    pub strays: u64,
    pub faults: u64,
    pub deletions: u64,
    pub passes: u64,
    pub compactions: u64,
    pub passes_lost: u64,
    pub collected: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        self.writes += other.writes;
        self.writes_uncertain += other.writes_uncertain;
        self.reads += other.reads;
        self.reads_failed += other.reads_failed;
        self.kills += other.kills;
        self.entries += other.entries;
        self.strays += other.strays;
        self.faults += other.faults;
        self.deletions += other.deletions;
        self.passes += other.passes;
        self.compactions += other.compactions;
        self.passes_lost += other.passes_lost;
        self.collected += other.collected;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} writes ({} uncertain), {} reads ({} refused), {} kills, {} log entries, \
             {} created below the floor, {} store faults, {} collections deleted, {} indexing passes, \
             {} compactions, {} of both lost, {} objects collected",
            self.writes,
            self.writes_uncertain,
            self.reads,
            self.reads_failed,
            self.kills,
            self.entries,
            self.strays,
            self.faults,
            self.deletions,
            self.passes,
            self.compactions,
            self.passes_lost,
            self.collected,
        )
    }
}

/// How a run ended.
pub struct Outcome {
    pub violation: Option<String>,
    pub hash: u64,
    pub counts: Counts,
}

/// Everything that actors share.
pub struct World {
    pub rng: SeededRng,
    pub collection: CollectionName,
    pub clock: Arc<dyn Clock>,
    /// The store without a network in between: for the actors that stand in for later parts.
    pub recorder: DynStore,
    pub network: Tasks,
    /// Ends the actors.
    pub stop: CancellationToken,
    defects: Defects,
    model: Arc<Mutex<Model>>,
    trace: Mutex<Trace>,
    pub counts: Mutex<Counts>,
    instances: Mutex<Vec<Arc<Instance>>>,
    next_number: Mutex<u64>,
}

/// Runs one seed.
pub fn run(seed: u64, defects: Defects, prints: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let world = World::new(seed, defects, prints);
        actors::spawn_all(&world).await;
        tokio::time::sleep(ACTIVE).await;
        world.finish().await
    })
}

impl World {
    fn new(seed: u64, defects: Defects, prints: bool) -> Arc<World> {
        let collection = CollectionName::new("sim").unwrap();
        let model = Arc::new(Mutex::new(Model::new(collection.clone())));
        Arc::new(World {
            rng: SeededRng::new(seed),
            clock: Arc::new(VirtualClock::starting_at(Timestamp(1_768_473_000_000))),
            recorder: Arc::new(Recorder::new(model.clone())),
            network: Tasks::default(),
            stop: CancellationToken::new(),
            collection,
            defects,
            model,
            trace: Mutex::new(Trace::new(prints)),
            counts: Mutex::default(),
            instances: Mutex::default(),
            next_number: Mutex::new(0),
        })
    }

    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }

    pub fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.counts.lock().unwrap());
    }

    pub fn event(&self, event: fmt::Arguments<'_>) {
        let now = self.clock.now().0 - 1_768_473_000_000;
        self.trace.lock().unwrap().event(format_args!("{now:>7} {event}"));
    }

    /// A pause of up to `max`, or the end of the run.
    pub async fn pause(&self, max: Duration) -> bool {
        let pause = self.rng.jitter(max);
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }

    /// An environment of its own for whoever acts like an instance.
    pub fn env(&self, number: u64) -> Env {
        Env {
            defects: self.defects,
            ..Env::deterministic(self.rng.next_u64() ^ number, self.clock.clone())
        }
    }

    /// Starts a process behind its own connection.
    pub async fn start(&self, role: Role, weather: FaultSettings) -> Arc<Instance> {
        let number = {
            let mut next = self.next_number.lock().unwrap();
            *next += 1;
            *next
        };
        let env = self.env(number);
        let rng = Arc::new(SeededRng::new(self.rng.next_u64()));
        let faults = Faults::new(self.recorder.clone(), weather, rng, self.network.clone());
        let timeout = Timeout::new(Arc::new(faults.clone()), STORE_TIMEOUT, STORE_CAS_TIMEOUT);
        let store: DynStore = Arc::new(Retry::new(Arc::new(timeout), env.rng.clone(), 3));
        let settings = Settings {
            gc_grace_ms: GRACE.as_millis() as u64,
            // Small enough that some writes go through data objects.
            wal_inline_max_bytes: 300,
            batch_max_bytes: 600,
            // Everything is indexed soon, and partitions are small enough to be split.
            index_interval_ms: 700,
            index_after_bytes: 2_000,
            index_after_ms: 3_000,
            compaction_fanout: 2,
            partition_max_vectors: IDS / 2,
            lease_ttl_ms: 5_000,
            // Collections are closed between two uses, and what the dead left is found soon.
            collection_idle_ms: 3_000,
            index_scan_interval_ms: 20_000,
            ..Settings::default()
        };
        let tasks = env.tasks.clone();
        let brainy = Brainy::start(settings, role, store, env).await.expect("starting does no I/O");
        let instance =
            Arc::new(Instance { number, role, brainy, faults, tasks, answered: Mutex::default() });
        self.event(format_args!("instance {number} starts as {role:?}"));
        self.instances.lock().unwrap().push(instance.clone());
        instance
    }

    /// Stops a process where it stands.
    pub fn kill(&self, instance: &Instance) {
        self.event(format_args!("instance {} killed", instance.number));
        let counts = instance.faults.counts();
        let metrics = instance.brainy.env().metrics.clone();
        self.count(|count| {
            count.kills += 1;
            count.faults += counts.total();
            count.passes += metrics.index_passes.get();
            count.compactions += metrics.compactions.get();
            count.passes_lost += metrics.upkeep_lost.get();
            count.collected += metrics.objects_collected.get();
        });
        instance.tasks.kill();
        self.instances.lock().unwrap().retain(|other| other.number != instance.number);
    }

    /// A random process that `can`.
    pub fn any(&self, can: impl Fn(Role) -> bool) -> Option<Arc<Instance>> {
        let instances = self.instances.lock().unwrap();
        let able: Vec<_> = instances.iter().filter(|instance| can(instance.role)).collect();
        let chosen = self.rng.below(able.len() as u64) as usize;
        able.get(chosen).map(|instance| Arc::clone(instance))
    }

    /// A call to an instance, as over a connection: it ends without an answer when the instance
    /// is killed.
    pub async fn call<T: Send + 'static>(
        &self,
        instance: &Instance,
        call: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let answer = instance.tasks.spawn("call", call).await;
        let cut = || Error::unavailable("the instance died").ambiguous();
        let result = answer.ok().flatten().unwrap_or_else(|| Err(cut()));
        if let Err(error) = &result
            && matches!(error.code(), Code::Internal | Code::Corrupt)
        {
            self.model().violated(format!("instance {}: {error}", instance.number));
        }
        result
    }

    /// Reads everything an instance shows and checks it.
    pub async fn read(&self, instance: &Arc<Instance>, consistency: Consistency) -> Result<()> {
        let acknowledged_before = self.model().acknowledged;
        let answered_before = *instance.answered.lock().unwrap();
        let at_least = match consistency {
            Consistency::Eventual => Seq(0),
            Consistency::Strong => acknowledged_before,
            Consistency::AtLeast { version, .. } => version,
        };
        let request = SearchRequest {
            query: Query::Vector(vec![1.0, 0.0]),
            k: 1_000,
            offset: 0,
            filter: None,
            include_metadata: true,
            include_vector: false,
            consistency,
        };
        let (brainy, name) = (instance.brainy.clone(), self.collection.clone());
        let call = async move { brainy.search(&name, request).await };
        let response = self.call(instance, call).await?;
        let read = Read {
            instance: instance.number,
            at_least,
            answered_before,
            version: response.version,
            contents: contents(&response),
        };
        let version = response.version;
        self.event(format_args!("instance {} read at {version}", instance.number));
        checker::check(&mut self.model(), &read);
        let mut answered = instance.answered.lock().unwrap();
        *answered = (*answered).max(version);
        Ok(())
    }

    async fn finish(self: &Arc<Self>) -> Outcome {
        self.stop.cancel();
        let instances = self.instances.lock().unwrap().clone();
        for instance in &instances {
            instance.faults.partition(false);
            instance.faults.set(FaultSettings::default());
        }
        tokio::time::sleep(SETTLE).await;
        if self.model().violation.is_none() {
            self.read_at_rest(&instances).await;
        }
        for instance in &instances {
            if instance.tasks.has_panicked() {
                self.model().violated(format!("a task of instance {} panicked", instance.number));
            }
            self.kill(instance);
        }
        self.network.kill();
        let mut model = self.model();
        model.audit();
        let mut counts = self.counts.lock().unwrap().clone();
        counts.entries = model.tail().0;
        counts.strays = model.strays;
        Outcome {
            violation: model.violation.take(),
            hash: self.trace.lock().unwrap().hash(),
            counts,
        }
    }

    /// In good weather a newcomer and every survivor read everything that was acknowledged.
    async fn read_at_rest(self: &Arc<Self>, instances: &[Arc<Instance>]) {
        let newcomer = self.start(Role::Reader, FaultSettings::default()).await;
        let readers = instances.iter().filter(|instance| instance.role.reads());
        for reader in readers.chain([&newcomer]) {
            match self.read(reader, Consistency::Strong).await {
                Ok(()) => {}
                Err(error) if error.code() == Code::CollectionNotFound => {}
                Err(error) => {
                    let number = reader.number;
                    self.model()
                        .violated(format!("instance {number} cannot read at rest: {error}"));
                }
            }
        }
        self.kill(&newcomer);
    }
}

fn contents(response: &SearchResponse) -> Contents {
    let operation = |metadata: &str| {
        let metadata: serde_json::Value = serde_json::from_str(metadata).unwrap();
        metadata["op"].as_u64().unwrap()
    };
    let hits = response.hits.iter();
    hits.map(|hit| (hit.id.clone(), operation(hit.metadata.as_deref().unwrap()))).collect()
}
