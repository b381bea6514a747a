//! Owners of collections: they create them with settings of every kind, and delete them now and then.

use crate::model::life::Intent;
use crate::world::{Instance, World};
use brainy::base::ids::CollectionName;
use brainy::base::rng::Rng;
use brainy::base::settings::Role;
use brainy::engine::model::{CollectionSpec, Metric};
use std::sync::Arc;
use std::time::Duration;

pub async fn act(world: Arc<World>) {
    loop {
        let name = world.any_collection();
        let exists = world.model().of(&name).lives.exists();
        if exists && !world.pause(Duration::from_secs(40)).await {
            return;
        }
        if let Some(instance) = world.any(Role::writes) {
            if exists {
                delete(&world, &instance, &name).await;
            } else if world.rng.below(3) > 0 {
                create(&world, &instance, &name).await;
            }
        }
        if !exists && !world.pause(Duration::from_secs(3)).await {
            return;
        }
    }
}

/// Settings that no write would make a collection with.
fn any_spec(world: &World, name: &CollectionName) -> CollectionSpec {
    let metrics = [Metric::Euclidean, Metric::Dot, Metric::Cosine];
    let metric = metrics[world.rng.below(3) as usize];
    let more = if metric == Metric::Cosine { 2 } else { 1 };
    CollectionSpec {
        name: name.clone(),
        dimensions: [1, 2, 3, 7, 20][world.rng.below(5) as usize],
        metric,
        partition_count: Some(more + world.rng.below(4) as u32),
        partitioner: None,
        description: None,
    }
}

async fn create(world: &World, instance: &Instance, name: &CollectionName) {
    let spec = any_spec(world, name);
    let at = {
        let mut model = world.model();
        let intents = &mut model.of_mut(name).lives.intents;
        intents.push(Intent { spec: spec.clone(), settled: false });
        intents.len() - 1
    };
    let brainy = instance.brainy.clone();
    let text = format!("{spec:?}");
    let call = async move { brainy.create_collection(spec).await };
    let result = world.call(instance, name, call).await;
    let mut model = world.model();
    // After an error it may be made all the same, and later.
    model.of_mut(name).lives.intents[at].settled = result.is_ok();
    drop(model);
    world.count(|count| count.created += u64::from(result.is_ok()));
    let code = result.map_or_else(|error| error.code().name(), |_| "ok");
    world.event(format_args!("{text} created by {}: {code}", instance.number));
}

async fn delete(world: &World, instance: &Instance, name: &CollectionName) {
    let (brainy, of) = (instance.brainy.clone(), name.clone());
    let call = async move { brainy.delete_collection(&of).await };
    let result = world.call(instance, name, call).await;
    world.count(|count| count.deletions += u64::from(result.is_ok()));
    let code = result.map_or_else(|error| error.code().name(), |()| "ok");
    world.event(format_args!("{name} deleted by {}: {code}", instance.number));
}
