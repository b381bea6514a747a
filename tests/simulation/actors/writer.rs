//! A client that upserts and deletes, and remembers what it was told.

use crate::checks::records;
use crate::model::record::any_id;
use crate::model::{Condition, Record};
use crate::world::{Instance, World};
use brainy::base::ids::{CollectionName, Seq};
use brainy::base::rng::Rng;
use brainy::base::settings::Role;
use brainy::base::{Code, Error, Result};
use brainy::engine::model::{DeleteTarget, Deleted, NewRecord};
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Operations of one client are numbered from its number times this.
const OPERATIONS: u64 = 1_000_000;

pub async fn act(world: Arc<World>, client: u64) {
    let mut next = client * OPERATIONS;
    while world.pause(Duration::from_millis(900)).await {
        let Some(instance) = world.any(Role::writes) else {
            continue;
        };
        let name = world.any_collection();
        match world.rng.below(10) {
            0 => delete_ids(&world, &instance, &name).await,
            1 => delete_by_filter(&world, &instance, &name).await,
            kind => {
                let records = some_records(&world, &name, &mut next);
                write(&world, &instance, &name, records, kind == 2).await.ok();
            }
        }
    }
}

/// A few records for a collection as it is now.
pub fn some_records(
    world: &World,
    name: &CollectionName,
    next: &mut u64,
) -> BTreeMap<String, Arc<Record>> {
    let last =
        world.model().of(name).lives.last().map(|life| life.settings.vector().dimensions as usize);
    let dimensions = last.unwrap_or_else(|| [2, 3, 20][world.rng.below(3) as usize]);
    // One id once per request: of two, the first would never be seen.
    let mut records = BTreeMap::new();
    for _ in 0..=world.rng.below(4) {
        let record = Record::any(&world.rng, *next, dimensions);
        records.insert(any_id(&world.rng), Arc::new(record));
        *next += 1;
    }
    records
}

/// Upserts or imports records.
pub async fn write(
    world: &World,
    instance: &Instance,
    name: &CollectionName,
    records: BTreeMap<String, Arc<Record>>,
    imports: bool,
) -> Result<Seq> {
    let operations: Vec<u64> = records.values().map(|record| record.operation).collect();
    let dimensions = records.values().next().map_or(0, |record| record.vector.len());
    world.model().begin(name, &records);
    let began = Instant::now();
    let sent: Vec<NewRecord> = records.iter().map(|(id, record)| record.to_send(id)).collect();
    let (brainy, of, count) = (instance.brainy.clone(), name.clone(), sent.len());
    let call = async move {
        if !imports {
            return brainy.upsert(&of, sent).await.map(|upserted| upserted.version);
        }
        let lines = sent.iter().map(|record| Ok(Bytes::from(line(record)))).collect::<Vec<_>>();
        let report = brainy.import(&of, stream::iter(lines).boxed()).await?;
        match report.imported as usize == count && report.failed == 0 {
            true => Ok(report.version),
            false => Err(Error::invalid(format!("imported: {report:?}"))),
        }
    };
    let result = world.call(instance, name, call).await;
    let number = instance.number;
    match &result {
        Ok(version) => {
            world.event(format_args!("{operations:?} written to {name} at {version} by {number}"));
            world.count(|count| count.writes += 1);
            instance.has_written(name, *version);
            world.model().told_durable(name, &operations, *version);
        }
        Err(error) => {
            let (ms, how) =
                (began.elapsed().as_millis(), if imports { "import" } else { "upsert" });
            world.event(format_args!(
                "{how} of {operations:?} to {name} failed at {number} after {ms} ms: {error}"
            ));
            world.count(|count| count.writes_uncertain += 1);
            failed(world, name, began, dimensions, &operations, error);
        }
    }
    result
}

fn line(record: &NewRecord) -> String {
    let metadata = record.metadata.as_deref().unwrap_or("{}");
    let metadata: serde_json::Value = serde_json::from_str(metadata).expect("JSON");
    let line = serde_json::json!({
        "id": record.id, "vector": record.vector, "metadata": metadata, "text": record.text
    });
    format!("{line}\n")
}

/// An error that is not ambiguous is a promise, and nothing is refused that is right.
fn failed(
    world: &World,
    name: &CollectionName,
    began: Instant,
    dimensions: usize,
    operations: &[u64],
    error: &Error,
) {
    let mut model = world.model();
    let is_wrong = match error.code() {
        Code::DimensionMismatch => !model.of(name).lives.had_other_dimensions(began, dimensions),
        Code::InvalidRequest | Code::InvalidVector | Code::InvalidMetadata | Code::InvalidId => {
            // An import that was cut off in between says so in its own words.
            !error.message().starts_with("imported") || model.of(name).lives.existed_since(began)
        }
        _ => false,
    };
    if is_wrong {
        model.violated(format!("a right write to {name} was refused: {error}"));
    }
    if !error.is_ambiguous() && error.code() != Code::Internal {
        model.told_refused(operations);
    }
}

async fn delete_ids(world: &World, instance: &Instance, name: &CollectionName) {
    let ids: BTreeSet<String> = (0..=world.rng.below(3)).map(|_| any_id(&world.rng)).collect();
    let target = DeleteTarget::Ids(ids.iter().cloned().collect());
    let before = world.model().of(name).acknowledged.last();
    let Some(deleted) = delete(world, instance, name, target).await else { return };
    let mut model = world.model();
    let checked = records::deleted(model.of(name), before, &deleted, |id, _| ids.contains(id));
    model.check(checked);
}

async fn delete_by_filter(world: &World, instance: &Instance, name: &CollectionName) {
    let condition = Condition::any(&world.rng);
    let target = DeleteTarget::Filter(condition.to_send());
    let before = world.model().of(name).acknowledged.last();
    let Some(deleted) = delete(world, instance, name, target).await else { return };
    let mut model = world.model();
    let checked = records::deleted_by(model.of(name), before, &deleted, &condition);
    model.check(checked);
}

async fn delete(
    world: &World,
    instance: &Instance,
    name: &CollectionName,
    target: DeleteTarget,
) -> Option<Deleted> {
    let text = format!("{target:?}");
    let (brainy, of) = (instance.brainy.clone(), name.clone());
    let call = async move { brainy.delete(&of, target).await };
    let deleted = match world.call(instance, name, call).await {
        Ok(deleted) => deleted,
        Err(error) => {
            world.event(format_args!("{text} not deleted from {name}: {}", error.code()));
            return None;
        }
    };
    world.event(format_args!("{text} deleted from {name} by {}: {deleted:?}", instance.number));
    world.count(|count| count.deletes += 1);
    if deleted.deleted > 0 {
        instance.has_written(name, deleted.version);
        world.model().told_durable(name, &[], deleted.version);
    }
    Some(deleted)
}
