//! A client that upserts and deletes, and remembers what it was told.

use crate::model::{Told, Written};
use crate::world::{IDS, Instance, World};
use brainy::base::rng::Rng;
use brainy::base::settings::Role;
use brainy::base::{Code, Error};
use brainy::engine::model::{DeleteTarget, NewRecord};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub async fn act(world: Arc<World>, client: u64) {
    let mut next = 0;
    while world.pause(Duration::from_millis(900)).await {
        let Some(instance) = world.any(Role::writes) else {
            continue;
        };
        if world.rng.below(5) == 0 {
            delete(&world, &instance).await;
        } else {
            let operations = 1 + world.rng.below(4);
            let first = client * 1_000_000 + next;
            next += operations;
            upsert(&world, &instance, first..first + operations).await;
        }
    }
}

fn any_id(world: &World) -> String {
    format!("r{}", world.rng.below(IDS))
}

async fn upsert(world: &World, instance: &Instance, operations: std::ops::Range<u64>) {
    // One id once per request: of two, the first would never be seen.
    let records: BTreeMap<String, u64> =
        operations.map(|operation| (any_id(world), operation)).collect();
    let operations: Vec<u64> = records.values().copied().collect();
    {
        let mut model = world.model();
        let known_before = model.acknowledged;
        for operation in &operations {
            let told = Told::Unknown;
            model.operations.insert(*operation, Written { told, known_before });
        }
    }
    // Sometimes long, so that the write becomes a data object.
    let text = "x".repeat(world.rng.below(500) as usize);
    let records: Vec<NewRecord> = records
        .into_iter()
        .map(|(id, operation)| NewRecord {
            id: Some(id),
            vector: vec![1.0, operation as f32],
            metadata: Some(format!("{{\"op\":{operation}}}")),
            text: Some(text.clone()),
        })
        .collect();
    let (brainy, name) = (instance.brainy.clone(), world.collection.clone());
    let call = async move { brainy.upsert(&name, records).await };
    let result = world.call(instance, call).await;
    let number = instance.number;
    match result {
        Ok(upserted) => {
            world.event(format_args!("{operations:?} written at {} by {number}", upserted.version));
            world.count(|count| count.writes += 1);
            world.model().told_durable(&operations, upserted.version);
        }
        Err(error) => {
            world.event(format_args!("{operations:?} failed at {number}: {}", error.code()));
            world.count(|count| count.writes_uncertain += 1);
            if !error.is_ambiguous() {
                refused(world, &operations, &error);
            }
        }
    }
}

/// An error that is not ambiguous is a promise.
fn refused(world: &World, operations: &[u64], error: &Error) {
    if error.code() == Code::Internal {
        return;
    }
    let mut model = world.model();
    for operation in operations {
        if let Some(written) = model.operations.get_mut(operation) {
            written.told = Told::Refused;
        }
    }
}

async fn delete(world: &World, instance: &Instance) {
    let ids: Vec<String> = (0..1 + world.rng.below(3)).map(|_| any_id(world)).collect();
    let mut distinct = ids.clone();
    distinct.sort();
    distinct.dedup();
    let (brainy, name) = (instance.brainy.clone(), world.collection.clone());
    let call = async move { brainy.delete(&name, DeleteTarget::Ids(ids)).await };
    let Ok(deleted) = world.call(instance, call).await else {
        return;
    };
    world.event(format_args!("{distinct:?} deleted at {}: {}", deleted.version, deleted.deleted));
    let mut model = world.model();
    if deleted.deleted == distinct.len() && !model.deletes(deleted.version, &distinct) {
        model.violated(format!("the delete of {distinct:?} is not at {}", deleted.version));
    }
    if deleted.deleted > 0 {
        model.told_durable(&[], deleted.version);
    }
}
