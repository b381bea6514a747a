//! One run: the instances, their connections to the store, and what all actors share.

use crate::actors;
use crate::checks::rest;
use crate::counts::Counts;
use crate::dated::Dated;
use crate::instance::{Busy, GRACE, settings};
use crate::model::Model;
use crate::profile::{Mode, Profile};
use crate::recorder::Recorder;
use crate::trace::Trace;
use brainy::base::clock::{Clock, VirtualClock};
use brainy::base::compute::Compute;
use brainy::base::defect::{Defect, Defects};
use brainy::base::ids::CollectionName;
use brainy::base::rng::{Rng, SeededRng};
use brainy::base::settings::Role;
use brainy::base::tasks::Tasks;
use brainy::base::{Env, Error, Result, Timestamp};
use brainy::engine::Brainy;
use brainy::store::DynStore;
use brainy::store::layers::{FaultSettings, Faults, Retry, Timeout, Whole};
use brainy::store::memory::MemoryStore;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use crate::instance::Instance;

const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than the grace period: a stalled conditional PUT must be able to outlive it.
const STORE_CAS_TIMEOUT: Duration = Duration::from_secs(40);
/// What clocks show at the start of a run.
pub const START: Timestamp = Timestamp(1_768_473_000_000);

/// How a run ended.
pub struct Outcome {
    pub violation: Option<String>,
    pub hash: u64,
    pub counts: Counts,
}

/// Everything that actors share.
pub struct World {
    pub rng: SeededRng,
    pub profile: Profile,
    /// The store without a network in between.
    pub recorder: DynStore,
    /// What is in it, for changes that nobody is to know of.
    pub objects: Arc<MemoryStore>,
    pub network: Tasks,
    /// Ends the actors.
    pub stop: CancellationToken,
    defects: Defects,
    started: Instant,
    model: Arc<Mutex<Model>>,
    trace: Mutex<Trace>,
    pub counts: Mutex<Counts>,
    instances: Mutex<Vec<Arc<Instance>>>,
    next_number: Mutex<u64>,
}

/// Runs one seed.
pub fn run(seed: u64, mode: Mode, defects: Defects, prints: bool) -> Outcome {
    #[cfg(debug_assertions)]
    brainy::base::defect::set_here(defects.active());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let world = World::new(seed, mode, defects, prints);
        world.event(format_args!("{:?}", world.profile));
        actors::spawn_all(&world).await;
        tokio::time::sleep(world.profile.active).await;
        world.finish().await
    })
}

impl World {
    fn new(seed: u64, mode: Mode, defects: Defects, prints: bool) -> Arc<World> {
        let rng = SeededRng::new(seed);
        let profile = Profile::draw(mode, &rng);
        let model = Arc::new(Mutex::new(Model::new(&profile.collections, GRACE)));
        let objects = Arc::new(MemoryStore::default());
        Arc::new(World {
            rng,
            profile,
            recorder: Arc::new(Recorder::new(objects.clone(), model.clone())),
            objects,
            network: Tasks::default(),
            stop: CancellationToken::new(),
            defects,
            started: Instant::now(),
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
        let now = self.started.elapsed().as_millis();
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

    /// One of the collections.
    pub fn any_collection(&self) -> CollectionName {
        let all = &self.profile.collections;
        all[self.rng.below(all.len() as u64) as usize].clone()
    }

    fn env(&self, clock: Arc<dyn Clock>) -> Env {
        let computing = || match self.profile.computing {
            Duration::ZERO => Compute::Inline,
            longest => {
                let rng = SeededRng::new(self.rng.next_u64());
                Compute::Paused(Arc::new(Busy { rng, longest }))
            }
        };
        Env {
            defects: self.defects,
            searches: computing(),
            compute: computing(),
            background: computing(),
            ..Env::deterministic(self.rng.next_u64(), clock)
        }
    }

    /// Starts a process behind its own connection.
    pub async fn start(&self, role: Role, weather: FaultSettings) -> Arc<Instance> {
        let number = {
            let mut next = self.next_number.lock().unwrap();
            *next += 1;
            *next
        };
        let now = Timestamp(START.0 + self.started.elapsed().as_millis() as u64);
        let clock = Arc::new(VirtualClock::starting_at(now));
        let env = self.env(clock.clone());
        let rng = Arc::new(SeededRng::new(self.rng.next_u64()));
        let told = Dated::new(self.recorder.clone(), clock.clone(), now);
        let faults = Faults::new(Arc::new(told), weather, rng, self.network.clone());
        let timeout = Timeout::new(Arc::new(faults.clone()), STORE_TIMEOUT, STORE_CAS_TIMEOUT);
        let mut store: DynStore = Arc::new(timeout);
        if !self.defects.has(Defect::TruncatedBodyBelieved) {
            store = Arc::new(Whole::new(store));
        }
        let store = Arc::new(Retry::new(store, env.rng.clone(), 3));
        let settings = settings(&self.profile, &self.rng);
        let (tasks, poll) = (env.tasks.clone(), Duration::from_millis(settings.poll_interval_ms));
        let brainy = Brainy::start(settings, role, store, env).await.expect("starting does no I/O");
        let (answered, wrote, stood_still) = Default::default();
        let instance = Arc::new(Instance {
            number,
            role,
            brainy,
            faults,
            tasks,
            clock,
            poll,
            answered,
            wrote,
            stood_still,
        });
        self.event(format_args!("instance {number} starts as {role:?}"));
        self.instances.lock().unwrap().push(instance.clone());
        instance
    }

    /// Stops a process where it stands.
    pub fn kill(&self, instance: &Instance) {
        self.event(format_args!("instance {} killed", instance.number));
        if instance.tasks.has_panicked() {
            self.model().violated(format!("a task of instance {} panicked", instance.number));
        }
        let (faults, requests) = (instance.faults.counts().total(), instance.faults.requests());
        let metrics = instance.brainy.env().metrics.clone();
        self.count(|count| count.instance(&metrics, requests, faults));
        instance.tasks.kill();
        self.instances.lock().unwrap().retain(|other| other.number != instance.number);
    }

    /// All processes.
    pub fn instances(&self) -> Vec<Arc<Instance>> {
        self.instances.lock().unwrap().clone()
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
        name: &CollectionName,
        call: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let began = Instant::now();
        let answer = instance.tasks.spawn("call", call).await;
        let cut = || Error::unavailable("the instance died").ambiguous();
        let result = answer.ok().flatten().unwrap_or_else(|| Err(cut()));
        if let Err(error) = &result {
            let mut model = self.model();
            let checked = crate::checks::refused(instance, &model, name, began, error);
            model.check(checked);
        }
        result
    }

    async fn finish(self: &Arc<Self>) -> Outcome {
        self.stop.cancel();
        rest::check(self).await;
        for instance in self.instances() {
            self.kill(&instance);
        }
        self.network.kill();
        let mut model = self.model();
        model.audit();
        let mut counts = self.counts.lock().unwrap().clone();
        for collection in model.collections.values() {
            counts.entries += collection.log.tail().0;
            counts.strays += collection.strays;
        }
        Outcome {
            violation: model.violation.take(),
            hash: self.trace.lock().unwrap().hash(),
            counts,
        }
    }
}
