use super::*;
use crate::base::clock::VirtualClock;
use crate::base::defect::{Defect, Defects};
use crate::base::ids::{Seq, Totals, Ulid, WriteId};
use crate::base::metrics::TextFormat;
use crate::base::settings::{Role, Settings};
use crate::base::{Env, Timestamp};
use crate::engine::view::ManifestView;
use crate::index::Metric;
use crate::log::entry::{Draft, Entry, Part};
use crate::log::{Appender, Tried};
use crate::manifest::{self, CollectionSettings, Manifest, SegmentMeta, State};
use crate::store::cas::Change;
use crate::store::memory::MemoryStore;
use crate::store::{DynStore, Fetched, GetOptions, Store};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::sleep;
use watched::Watched;

mod bodies;
mod watched;

const GRACE: Duration = Duration::from_secs(300);
const HOUR: Duration = Duration::from_secs(3_600);

/// The first manifest of a collection.
pub(super) fn first_manifest(name: &CollectionName, now: Timestamp) -> Manifest {
    let settings = CollectionSettings::new(2, Metric::default(), 1);
    Manifest::create(name, settings, now, None)
}

fn context(store: &DynStore, env: &Env) -> Context {
    let settings = Settings::default();
    Context::new(&settings, Role::Writer, "one", store.clone(), env.clone(), Arc::default())
}

pub(super) fn visitor(store: &DynStore, env: &Env) -> Visitor {
    Visitor::new(&context(store, env))
}

fn name(name: &str) -> CollectionName {
    CollectionName::new(name).unwrap()
}

fn env(seed: u64) -> Env {
    let clock = VirtualClock::starting_at(Timestamp(1_768_473_000_000));
    Env::deterministic(seed, Arc::new(clock))
}

async fn commit(
    store: &DynStore,
    env: &Env,
    name: &CollectionName,
    change: impl Fn(&mut Manifest),
) -> Manifest {
    let now = env.clock.now();
    let write = |current: Option<&Manifest>| {
        let mut next = current.cloned().unwrap_or_else(|| first_manifest(name, now));
        change(&mut next);
        Ok(Change::Write(next))
    };
    manifest::update(store, env, name, write).await.unwrap().unwrap().value
}

async fn entry(store: &DynStore, env: &Env, name: &CollectionName, seq: u64, objects: &[Ulid]) {
    let part = |id: &Ulid| Part::Object { operations: 1, id: *id, length: 4, crc: 0 };
    let parts: Vec<Part> = objects.iter().map(part).collect();
    let draft = Draft::data(1, WriteId::random(&*env.rng), env.clock.now(), &parts);
    let entry = draft.encode(&draft.header(Seq(seq), Totals::default()));
    store.put(&paths::wal_entry(name, Seq(seq)), entry).await.unwrap();
}

async fn body(store: &DynStore, env: &Env, name: &CollectionName) -> Ulid {
    let id = env.ulid();
    store.put(&paths::wal_data(name, id), "body".into()).await.unwrap();
    id
}

async fn bodies(store: &DynStore, name: &CollectionName) -> Vec<Ulid> {
    let listing = store.list(&paths::wal_data_all(name), None, 1_000).await.unwrap();
    listing.objects.iter().filter_map(|object| paths::parse_wal_data(&object.key)).collect()
}

/// A collection of three log entries, all of them indexed, and a segment that nothing names.
async fn left_over(store: &DynStore, env: &Env, name: &CollectionName) {
    commit(store, env, name, |manifest| manifest.wal_indexed = Seq(3)).await;
    for seq in 1..=3 {
        entry(store, env, name, seq, &[]).await;
    }
    store.put(&paths::segment(name, 0, env.ulid()), "left".into()).await.unwrap();
}

async fn tail(store: &DynStore, name: &CollectionName) -> Seq {
    let listing = store.list(&paths::wal_entries(name), None, 1_000).await.unwrap();
    let keys = listing.objects.iter();
    keys.filter_map(|object| paths::parse_wal_entry(&object.key)).max().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_ahead_takes_nothing_from_the_grace_period() {
    let clock = Arc::new(VirtualClock::starting_at(Timestamp(1_768_473_000_000)));
    let (store, env): (DynStore, _) =
        (Arc::new(MemoryStore::default()), Env::deterministic(1, clock.clone()));
    let things = name("things");
    left_over(&store, &env, &things).await;
    let (visitor, mut known) = (visitor(&store, &env), Known::default());
    let mut deleted = Vec::new();
    for hours in [0, 24, -24, 24 * 365] {
        clock.set_ahead_ms(hours * 3_600_000);
        deleted.push(visitor.visit(&things, &mut known).await.unwrap().deleted);
    }
    for _ in 0..2 {
        sleep(GRACE).await;
        clock.set_ahead_ms(-24 * 3_600_000);
        deleted.push(visitor.visit(&things, &mut known).await.unwrap().deleted);
    }
    assert_eq!(deleted, [0, 0, 0, 0, 3, 1]);
}

/// The append of a writer that died may come days later; nothing moves the floor of a collection that nobody uses.
#[tokio::test(start_paused = true)]
async fn an_entry_that_comes_late_below_the_floor_is_found_within_a_day() {
    let (env, things) = (env(1), name("things"));
    let store: DynStore = Arc::new(MemoryStore::default());
    left_over(&store, &env, &things).await;
    let (visitor, mut known) = (visitor(&store, &env), Known::default());
    for late in [false, true] {
        if late {
            entry(&store, &env, &things, 2, &[]).await;
        }
        let end = Instant::now() + 26 * HOUR;
        while Instant::now() < end {
            visitor.visit(&things, &mut known).await.unwrap();
            sleep(visitor.pause()).await;
        }
        assert_eq!(tail(&store, &things).await, Seq(0), "late: {late}");
    }
}

fn segment(id: Ulid) -> SegmentMeta {
    SegmentMeta {
        id,
        rows: 1,
        dead: 0,
        bytes: 4,
        crc32c: 0,
        written: (Seq(1), Seq(1)),
        extra: Default::default(),
    }
}

/// Passes put objects, name them after a while and replace them after another; several collectors visit, one of
/// them starts anew, one stands still for hours.
async fn passes_and_collectors(seed: u64, defects: Defects) -> Arc<Watched> {
    let env = Env { defects, ..env(seed) };
    // Answers may be late by most of a grace period.
    let watched =
        Watched::new(&env, if seed.is_multiple_of(2) { Duration::ZERO } else { GRACE / 2 });
    let store: DynStore = watched.clone();
    let things = name("things");
    commit(&store, &env, &things, |_| {}).await;
    let passes = async {
        for round in 0..30u64 {
            let current = manifest::load(&store, &things).await.unwrap().unwrap().value;
            let id = crate::base::ids::ulid(current.time_of_names(env.clock.now()), &*env.rng);
            store.put(&paths::segment(&things, 0, id), "seg".into()).await.unwrap();
            sleep(env.rng.jitter(GRACE)).await;
            commit(&store, &env, &things, |next| {
                // As a pass does: what may have been swept is not named.
                if next.may_name(id) {
                    next.partitions[0].segments = vec![segment(id)];
                }
                next.wal_indexed = Seq(round);
            })
            .await;
            entry(&store, &env, &things, round + 1, &[]).await;
            sleep(env.rng.jitter(GRACE * 2)).await;
        }
    };
    let collector = |stands_still: Duration, restarts: bool| {
        let (store, env, things) = (store.clone(), env.clone(), things.clone());
        async move {
            let (visitor, mut known) = (visitor(&store, &env), Known::default());
            loop {
                visitor.visit(&things, &mut known).await.unwrap();
                sleep(visitor.pause() + env.rng.jitter(stands_still)).await;
                if restarts && env.rng.below(4) == 0 {
                    known = Known::default();
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = passes => {}
        () = collector(Duration::ZERO, false) => {}
        () = collector(Duration::ZERO, true) => {}
        () = collector(HOUR, false) => {}
    }
    watched
}

#[tokio::test(start_paused = true)]
async fn what_was_replaced_stays_for_a_whole_grace_period() {
    let mut deleted = 0;
    for seed in 0..40 {
        let watched = passes_and_collectors(seed, Defects::default()).await;
        assert_eq!(watched.fault(), None, "seed {seed}");
        deleted += watched.noted().deleted;
    }
    assert!(deleted > 1_000, "only {deleted} objects were deleted");
}

#[tokio::test(start_paused = true)]
async fn a_grace_period_that_counts_from_the_first_sight_is_noticed() {
    let broken = Defects::only(Defect::GraceFromFirstSight);
    let mut caught = 0;
    for seed in 0..40 {
        caught += u32::from(passes_and_collectors(seed, broken).await.fault().is_some());
    }
    assert!(caught > 0);
}

#[tokio::test(start_paused = true)]
async fn an_earlier_manifest_that_is_put_back_starts_the_time_anew() {
    let env = env(1);
    let watched = Watched::new(&env, Duration::ZERO);
    let (store, things): (DynStore, _) = (watched.clone(), name("things"));
    let id = env.ulid();
    let key = paths::segment(&things, 0, id);
    store.put(&key, "seg".into()).await.unwrap();
    let earlier = commit(&store, &env, &things, |manifest| {
        manifest.partitions[0].segments = vec![segment(id)];
    });
    let earlier = earlier.await;
    commit(&store, &env, &things, |manifest| manifest.partitions[0].segments.clear()).await;
    let (visitor, mut known) = (visitor(&store, &env), Known::default());
    for _ in 0..2 {
        visitor.visit(&things, &mut known).await.unwrap();
        sleep(GRACE).await;
    }
    // It would be deleted by the next visit.
    let bytes = serde_json::to_vec(&earlier).unwrap();
    store.put(&paths::manifest(&things), bytes.into()).await.unwrap();
    assert_eq!(visitor.visit(&things, &mut known).await.unwrap().deleted, 0);
    assert_eq!(known.version(), Some(earlier.stamp.version));
    watched.check();
}

/// A backlog of so many log entries behind 20 ms a request: how long until it is gone, from the end of its grace
/// period on.
async fn backlog(entries: u64, with_bodies: bool) -> Duration {
    let env = env(1);
    let watched = Watched::new(&env, Duration::ZERO);
    let (store, things): (DynStore, _) = (watched.clone(), name("things"));
    commit(&store, &env, &things, |manifest| manifest.wal_indexed = Seq(entries)).await;
    for seq in 1..=entries {
        let objects = match with_bodies && seq % 10 == 0 {
            true => vec![body(&store, &env, &things).await],
            false => Vec::new(),
        };
        entry(&store, &env, &things, seq, &objects).await;
    }
    let slow = Arc::new(Watched {
        objects: Arc::into_inner({
            drop(store);
            watched
        })
        .unwrap()
        .objects,
        ..Arc::into_inner(Watched::new(&env, Duration::from_millis(13))).unwrap()
    });
    let store: DynStore = slow.clone();
    let (visitor, mut known) = (visitor(&store, &env), Known::default());
    visitor.visit(&things, &mut known).await.unwrap();
    sleep(GRACE).await;
    let started = Instant::now();
    while visitor.visit(&things, &mut known).await.unwrap().more {}
    let took = started.elapsed();
    assert_eq!(tail(&store, &things).await, Seq(0));
    assert!(bodies(&store, &things).await.is_empty());
    assert!(slow.in_flight_max.load(Ordering::Relaxed) <= visitor.requests);
    took
}

#[tokio::test(start_paused = true)]
async fn a_backlog_is_gone_in_minutes() {
    // Two of 100 of what took hours one by one.
    let took = backlog(8_600, false).await;
    println!("8,600 entries: {took:?}");
    assert!(took < Duration::from_secs(8), "{took:?}");
    let took = backlog(8_600, true).await;
    println!("8,600 entries, 860 of them with bodies: {took:?}");
    assert!(took < Duration::from_secs(16), "{took:?}");
}

/// Measures; the same as above takes too long for every run.
#[tokio::test(start_paused = true)]
#[ignore = "measures"]
async fn what_430_000_entries_take() {
    println!("430,000 entries: {:?}", backlog(430_000, false).await);
    println!("430,000 entries, with bodies: {:?}", backlog(430_000, true).await);
}

fn run(store: &DynStore, env: &Env) -> Arc<Collections> {
    let context = context(store, env);
    let collections = Arc::new(Collections::new(context.clone()));
    env.tasks.spawn("collector", Collector::new(context, collections.clone()).run());
    collections
}

#[tokio::test(start_paused = true)]
async fn neither_a_broken_collection_nor_a_huge_one_keeps_the_others() {
    let env = env(1);
    let watched = Watched::new(&env, Duration::from_millis(400));
    let store: DynStore = watched.clone();
    let huge = name("a-huge-one");
    commit(&store, &env, &huge, |manifest| manifest.wal_indexed = Seq(30_000)).await;
    for seq in 1..=30_000 {
        let key = paths::wal_entry(&huge, Seq(seq));
        watched.objects.put(&key, "any".into()).await.unwrap();
    }
    let broken = paths::manifest(&name("broken"));
    store.put(&broken, "{".into()).await.unwrap();
    let small: Vec<_> = (0..20).map(|number| name(&format!("small-{number}"))).collect();
    for small in &small {
        left_over(&store, &env, small).await;
    }
    let _collections = run(&store, &env);
    let metrics = env.metrics.clone();
    let has_entries = async |name: &CollectionName| {
        let listing = watched.objects.list(&paths::wal_entries(name), None, 1).await.unwrap();
        !listing.objects.is_empty()
    };
    // The small ones are done before the huge one is.
    for small in &small {
        while has_entries(small).await {
            sleep(GRACE / 20).await;
        }
    }
    assert!(has_entries(&huge).await, "the huge one was first");
    assert!(
        metrics
            .encode(TextFormat::Prometheus)
            .contains("brainy_collector_failing{collection=\"broken\"} 1")
    );
    let failures = metrics.collector_failures.get();
    assert!((1..20).contains(&failures), "{failures}");
    // Once it is mended it is named no longer.
    let mended = serde_json::to_vec(&first_manifest(&name("broken"), env.clock.now())).unwrap();
    store.put(&broken, mended.into()).await.unwrap();
    sleep(2 * HOUR).await;
    assert!(!metrics.encode(TextFormat::Prometheus).contains("brainy_collector_failing{"));
    assert_eq!(metrics.wal_entries_collected.get(), 30_060);
    assert!(watched.in_flight_max.load(Ordering::Relaxed) <= 32 + VISITS_MAX + 1);
    watched.check();
    env.tasks.kill();
}

#[tokio::test(start_paused = true)]
async fn an_entry_below_the_floor_that_cannot_be_read_keeps_none_of_the_others() {
    let (env, things) = (env(1), name("things"));
    let store: DynStore = Watched::new(&env, Duration::ZERO);
    commit(&store, &env, &things, |manifest| manifest.wal_indexed = Seq(3)).await;
    for seq in 1..=3 {
        let id = body(&store, &env, &things).await;
        entry(&store, &env, &things, seq, &[id]).await;
    }
    store.put(&paths::wal_entry(&things, Seq(2)), "broken".into()).await.unwrap();
    let _collections = run(&store, &env);
    sleep(HOUR).await;
    assert_eq!(env.metrics.wal_entries_collected.get(), 3);
    // What it named is found when it is gone.
    sleep(HOUR).await;
    assert!(bodies(&store, &things).await.is_empty());
    env.tasks.kill();
}

/// Requests an hour to a store of so many collections that nobody uses, after so many hours.
async fn idle(collections: u64) -> Vec<u64> {
    let env = env(collections);
    let watched = Watched::new(&env, Duration::ZERO);
    let store: DynStore = watched.clone();
    for number in 0..collections {
        left_over(&store, &env, &name(&format!("c{number}"))).await;
    }
    let _collections = run(&store, &env);
    let mut hours = Vec::new();
    for _ in 0..72 {
        let before = watched.requests.load(Ordering::Relaxed);
        sleep(HOUR).await;
        hours.push(watched.requests.load(Ordering::Relaxed) - before);
    }
    env.tasks.kill();
    watched.check();
    hours
}

#[tokio::test(start_paused = true)]
async fn an_idle_store_costs_next_to_nothing() {
    for collections in [1, 100, 1_000] {
        let hours = idle(collections).await;
        let mean = |hours: &[u64]| hours.iter().sum::<u64>() / hours.len() as u64;
        let (second, day, later) = (hours[1], mean(&hours[2..24]), mean(&hours[24..]));
        println!(
            "{collections} collections: {} requests in the first hour, {second} in the second, {day} an hour \
             in the first day, {later} after it",
            hours[0]
        );
        // A listing every half an hour; a look at each every six hours, and three listings a day.
        assert!(later <= 3 + collections / 2, "{later}");
        assert!(day <= 3 + collections * 2, "{day}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_collection_that_is_open_here_is_not_waited_for() {
    let (env, things) = (env(1), name("things"));
    let store: DynStore = Watched::new(&env, Duration::ZERO);
    commit(&store, &env, &things, |_| {}).await;
    let collections = run(&store, &env);
    // It is looked at every six hours by now.
    sleep(48 * HOUR).await;
    let open = collections.open(&things).await.unwrap();
    left_over(&store, &env, &things).await;
    open.view().look_now().await.unwrap();
    sleep(GRACE * 5).await;
    assert_eq!(env.metrics.wal_entries_collected.get(), 3);
    assert_eq!(env.metrics.objects_collected.get(), 1);
    env.tasks.kill();
}
