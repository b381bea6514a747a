//! Takes away or changes objects that are needed, and puts them back a while later.

use crate::actors::reader;
use crate::world::World;
use brainy::base::Code;
use brainy::base::rng::Rng;
use brainy::base::settings::Role;
use brainy::engine::model::Consistency;
use brainy::store::layers::FaultSettings;
use brainy::store::{Fetched, Key, Store, get, paths};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Writers look once a minute whether the log still has what it should go on with: what they all know of is older.
const KNOWN_TO_WRITERS: Duration = Duration::from_secs(65);
const DAMAGED_FOR: Duration = Duration::from_secs(40);

pub async fn act(world: Arc<World>) {
    while world.pause(Duration::from_secs(40)).await {
        let Some(key) = any_needed(&world) else { continue };
        let Ok(Fetched::Found(object)) = get(&*world.objects, &key).await else { continue };
        let gone = world.rng.below(2) == 0;
        world.model().damages.damaged(key.clone());
        world.count(|count| count.damages += 1);
        world.event(format_args!("{key} is damaged, gone: {gone}"));
        match gone {
            true => world.objects.delete(&key).await,
            false => world.objects.put(&key, changed(&world, &object.bytes)).await.map(|_| ()),
        }
        .expect("memory takes it");
        look(&world, &key).await;
        // It is put back although the run ends.
        world.pause(DAMAGED_FOR).await;
        let needed = world.model().mended(&key);
        if needed {
            world.objects.put(&key, object.bytes).await.expect("memory takes it");
        }
        world.event(format_args!("{key} is put back: {needed}"));
    }
}

/// An object without which not all can be read.
fn any_needed(world: &World) -> Option<Key> {
    let (name, model) = (world.any_collection(), world.model());
    let collection = model.of(&name);
    let manifest = collection.manifest.as_ref()?;
    let mut needed: Vec<Key> = collection.vectors_named().into_iter().collect();
    // Nobody can know that the last one is missing, and who was held up by another not within a minute.
    let (indexed, tail) = (manifest.wal_indexed, collection.log.tail());
    let held_up = model.damages.excuse(Instant::now());
    let unindexed = collection.log.entries().filter(|(seq, entry)| {
        let known = entry.created.elapsed() > KNOWN_TO_WRITERS && !held_up;
        *seq > indexed && *seq < tail && known
    });
    for (seq, entry) in unindexed {
        needed.push(paths::wal_entry(&name, seq));
        needed.extend(entry.objects.iter().cloned());
    }
    let chosen = world.rng.below(needed.len() as u64) as usize;
    needed.get(chosen).cloned()
}

/// The same bytes but one.
fn changed(world: &World, bytes: &Bytes) -> Bytes {
    let mut changed = bytes.to_vec();
    let at = world.rng.below(changed.len() as u64) as usize;
    changed[at] ^= 0x55;
    changed.into()
}

/// Who looks now has all, or says what is missing. (What was found is checked as for every read.)
async fn look(world: &Arc<World>, key: &Key) {
    let newcomer = world.start(Role::Reader, FaultSettings::default()).await;
    let name = world.any_collection();
    let read = reader::everything(world, &newcomer, &name, Consistency::Strong).await;
    let is_damage = |code| matches!(code, Code::Corrupt | Code::LogDamaged);
    let says = newcomer.brainy.condition().degraded.iter().any(|what| what.contains(key.as_str()));
    world.event(format_args!(
        "a newcomer reads: {:?}, says: {says}",
        read.as_ref().map_err(|error| error.code())
    ));
    if read.is_err_and(|error| is_damage(error.code())) && !says {
        world
            .model()
            .violated(format!("{key} is damaged, and a newcomer that met it does not say so"));
    }
    world.kill(&newcomer);
}
