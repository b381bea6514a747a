//! When the weather is good again and nobody acts any more: every writer can write, everything gets
//! indexed, everyone reads all of it, and the store holds what manifest, history and floor account for.

use crate::actors::{reader, writer};
use crate::guarantees;
use crate::instance::GRACE;
use crate::model::Collection;
use crate::model::collection::Checked;
use crate::profile::Mode;
use crate::world::{Instance, World};
use brainy::base::Code;
use brainy::base::ids::CollectionName;
use brainy::base::settings::Role;
use brainy::engine::model::Consistency;
use brainy::log::names::names_at;
use brainy::store::layers::FaultSettings;
use brainy::store::{DynStore, Key, paths};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// By then every actor has ended.
const ACTORS_END: Duration = Duration::from_secs(3);
/// Longer than any effect that the network may still carry.
const SETTLE: Duration = Duration::from_secs(130);
/// A write in good weather takes no longer.
const WRITE_MAX: Duration = Duration::from_secs(30);
/// Everything is indexed within so long.
const INDEXED_MAX: Duration = Duration::from_secs(90);
/// After so long, nothing is left to collect but what a PUT that was held up has left behind: that is looked for
/// once a day where nothing changes, and stays for a grace period or two.
const COLLECTED_MAX: Duration = Duration::from_secs(450);
const ALL_COLLECTED_MAX: Duration = Duration::from_secs(32 * 3_600);
/// Requests of one instance in [`IDLE`] when nothing happens.
const IDLE: Duration = Duration::from_secs(60);
const IDLE_REQUESTS_MAX: u64 = 1_500;
/// Client numbers of those who write at rest.
const CLIENT: u64 = 900;

pub async fn check(world: &Arc<World>) {
    // Who was about to act has done so, and nobody changes the weather any more.
    tokio::time::sleep(ACTORS_END).await;
    for instance in world.instances() {
        instance.tasks.gate().open();
        instance.clock.set_ahead_ms(0);
        instance.faults.partition(false);
        instance.faults.set(FaultSettings::default());
    }
    if world.profile.mode == Mode::Fair {
        return;
    }
    tokio::time::sleep(SETTLE).await;
    world.event(format_args!("at rest"));
    for (at, instance) in world.instances().into_iter().enumerate() {
        if instance.role.writes() {
            writes(world, &instance, CLIENT + at as u64).await;
        }
    }
    is_indexed(world).await;
    let newcomer = world.start(Role::Reader, FaultSettings::default()).await;
    for instance in world.instances().iter().filter(|instance| instance.role.reads()) {
        reads(world, instance).await;
    }
    world.kill(&newcomer);
    if world.model().violation.is_none() {
        let rest = if world.profile.rests_long { ALL_COLLECTED_MAX } else { COLLECTED_MAX };
        tokio::time::sleep(rest - IDLE).await;
        idles(world).await;
        accounted(world).await;
    }
}

/// Every writer can write to every collection that is there.
async fn writes(world: &World, instance: &Arc<Instance>, client: u64) {
    let mut next = client * 1_000_000;
    for name in &world.profile.collections {
        if !world.model().of(name).lives.exists() {
            continue;
        }
        let records = writer::some_records(world, name, &mut next);
        let write = writer::write(world, instance, name, records, false);
        let fault = match timeout(WRITE_MAX, write).await {
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("nothing within {WRITE_MAX:?}"),
        };
        let number = instance.number;
        world
            .model()
            .violated(format!("instance {number} cannot write to {name} at rest: {fault}"));
    }
}

async fn is_indexed(world: &World) {
    let started = Instant::now();
    let most = if world.profile.indexes_late { 2 * INDEXED_MAX } else { INDEXED_MAX };
    loop {
        let late = world.model().collections.values().find_map(|collection| {
            let manifest = collection.manifest.as_ref().filter(|manifest| manifest.is_live())?;
            let (indexed, tail) = (manifest.wal_indexed, collection.log.tail());
            (indexed < tail)
                .then(|| format!("{} is indexed up to {indexed} of {tail}", collection.name))
        });
        let Some(late) = late else { return };
        if started.elapsed() > most {
            return world.model().violated(format!("{late} after {most:?} at rest"));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// It reads everything that was acknowledged.
async fn reads(world: &World, instance: &Arc<Instance>) {
    for name in &world.profile.collections {
        let read = reader::everything(world, instance, name, Consistency::Strong).await;
        let exists = world.model().of(name).lives.exists();
        match read {
            Ok(()) => {}
            Err(error) if error.code() == Code::CollectionNotFound && !exists => {}
            Err(error) => {
                let number = instance.number;
                world
                    .model()
                    .violated(format!("instance {number} cannot read {name} at rest: {error}"));
            }
        }
    }
}

/// Nothing happens, and so hardly anything is asked for.
async fn idles(world: &World) {
    let asked = |instance: &Instance| {
        let requests = instance.faults.requests();
        requests.reads + requests.listings + requests.writes + requests.conditional
    };
    let before: Vec<u64> = world.instances().iter().map(|instance| asked(instance)).collect();
    tokio::time::sleep(IDLE).await;
    for (instance, before) in world.instances().iter().zip(before) {
        let requests = asked(instance) - before;
        world.count(|count| count.idle = count.idle.max(requests));
        if guarantees::IDLE_IS_CHEAP && requests > IDLE_REQUESTS_MAX {
            let number = instance.number;
            world
                .model()
                .violated(format!("instance {number} asked {requests} times in {IDLE:?} of rest"));
        }
    }
}

/// What is left in the store is what manifest, history and floor account for.
async fn accounted(world: &World) {
    let mut after: Option<Key> = None;
    let mut found = BTreeSet::new();
    loop {
        let listing = world.recorder.list(&paths::everything(), after.as_ref(), 1_000).await;
        let listing = listing.expect("memory answers");
        after = listing.objects.last().map(|object| object.key.clone());
        found.extend(listing.objects.into_iter().map(|object| object.key));
        if !listing.more {
            break;
        }
    }
    let named_late = named_by_entries(world, &found).await;
    let mut model = world.model();
    let checked =
        model.collections.values().try_for_each(|collection| account(collection, &mut found));
    model.check(checked);
    if !world.profile.rests_long {
        let may_be_late = |key: &Key| {
            paths::parse_vectors(key).is_some()
                || paths::parse_wal_entry(key).is_some()
                || named_late.contains(key)
                || model.collections.values().any(|collection| collection.was_put_late(key))
        };
        found.retain(|key| !may_be_late(key));
    }
    let other = found.iter().find(|key| !key.as_str().contains("/leases/"));
    if let Some(key) = other.filter(|_| model.violation.is_none()) {
        model.violated(format!("{key} is left over"));
    }
}

/// The data objects that the log entries among `found` name: one that comes late goes with its objects.
async fn named_by_entries(world: &World, found: &BTreeSet<Key>) -> BTreeSet<Key> {
    let store: DynStore = world.recorder.clone();
    let mut named = BTreeSet::new();
    for name in &world.profile.collections {
        let of_this = |key: &&Key| key.as_str().starts_with(paths::wal_entries(name).as_str());
        for seq in found.iter().filter(of_this).filter_map(paths::parse_wal_entry) {
            let ids = names_at(&store, name, seq).await.ok().flatten().unwrap_or_default();
            named.extend(ids.into_iter().map(|id| paths::wal_data(name, id)));
        }
    }
    named
}

/// Takes what belongs to a collection out of `found`.
fn account(collection: &Collection, found: &mut BTreeSet<Key>) -> Checked {
    let Some(manifest) = &collection.manifest else { return Ok(()) };
    let name: &CollectionName = &collection.name;
    let mut named = BTreeSet::from([paths::manifest(name)]);
    let version = manifest.stamp.version;
    if version > 1 {
        named.insert(paths::manifest_history(name, version - 1));
    }
    for (seq, entry) in collection.log.entries().filter(|(seq, _)| *seq >= manifest.wal_floor) {
        named.insert(paths::wal_entry(name, seq));
        named.extend(entry.objects.iter().cloned());
    }
    named.extend(collection.vectors_named());
    if let Some(missing) = named.difference(found).next() {
        return Err(format!("{missing} is missing at rest, at floor {}", manifest.wal_floor));
    }
    // The one in force is among the earlier ones where something was deleted that only it allows to delete.
    named.insert(paths::manifest_history(name, version));
    found.retain(|key| !named.contains(key));
    if !guarantees::ORPHANS_ARE_COLLECTED {
        found.retain(|key| !key.as_str().starts_with(paths::wal_data_all(name).as_str()));
    }
    // Versions that were in force lately are kept.
    let then = Instant::now() - 2 * GRACE - Duration::from_secs(60);
    // Where a clock was ahead, it is a while before anybody looks again at a manifest that has not changed.
    let said = then - COLLECTED_MAX / 2;
    let history = paths::manifest_history_all(name);
    let is_kept = |key: &Key| {
        let version = paths::parse_manifest_history(key);
        key.as_str().starts_with(history.as_str())
            && version.is_some_and(|version| collection.is_kept(version, then, said))
    };
    found.retain(|key| !is_kept(key));
    Ok(())
}
