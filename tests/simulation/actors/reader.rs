//! A client that reads in every way, at every level of consistency.

use crate::checks::search::Search;
use crate::checks::{Asked, records};
use crate::model::collection::Checked;
use crate::model::record::{any_id, any_vector};
use crate::model::{Condition, Contents};
use crate::world::{Instance, World};
use brainy::base::ids::{CollectionName, Seq};
use brainy::base::rng::Rng;
use brainy::base::settings::Role;
use brainy::base::{Code, Error, Result};
use brainy::engine::model::{Consistency, Metric, Partial, Query};
use futures::TryStreamExt;
use std::sync::Arc;
use std::time::Duration;

pub async fn act(world: Arc<World>) {
    while world.pause(Duration::from_millis(1_200)).await {
        let Some(instance) = world.any(Role::reads) else {
            continue;
        };
        let name = world.any_collection();
        let result = read(&world, &instance, &name).await;
        world.count(|count| {
            count.reads += 1;
            count.reads_failed += u64::from(result.is_err());
        });
        if let Err(error) = result {
            world.event(format_args!("read of {name} failed at {}: {error}", instance.number));
        }
    }
}

async fn read(world: &Arc<World>, instance: &Arc<Instance>, name: &CollectionName) -> Result<()> {
    let consistency = match world.rng.below(3) {
        0 => Consistency::Eventual,
        1 => Consistency::Strong,
        _ => Consistency::AtLeast {
            version: world.model().of(name).acknowledged.last(),
            wait: Duration::from_secs(20),
        },
    };
    match world.rng.below(10) {
        0 => get(world, instance, name).await,
        1 => fetch(world, instance, name).await,
        2 => list(world, instance, name).await,
        3 => export(world, instance, name).await,
        4 => info(world, instance, name).await,
        5 => {
            let count = 2 + world.rng.below(3);
            let searches = (0..count).map(|_| any_search(world, name)).collect();
            search(world, instance, name, searches, consistency).await
        }
        6 => everything(world, instance, name, consistency).await,
        _ => search(world, instance, name, vec![any_search(world, name)], consistency).await,
    }
}

fn dimensions(world: &World, name: &CollectionName) -> usize {
    let model = world.model();
    model.of(name).lives.last().map_or(2, |life| life.settings.vector().dimensions as usize)
}

fn any_search(world: &World, name: &CollectionName) -> Search {
    let rng = &world.rng;
    Search {
        query: match rng.below(4) {
            0 => Query::Id(any_id(rng)),
            _ => Query::Vector(any_vector(rng, dimensions(world, name))),
        },
        k: 1 + rng.below(30) as usize,
        offset: if rng.below(3) == 0 { rng.below(10) as usize } else { 0 },
        condition: (rng.below(2) == 0).then(|| Condition::any(rng)),
        include_metadata: rng.below(4) > 0,
        include_vector: rng.below(2) == 0,
    }
}

/// Reads all that an instance shows.
pub async fn everything(
    world: &World,
    instance: &Arc<Instance>,
    name: &CollectionName,
    consistency: Consistency,
) -> Result<()> {
    let all = Search::all(dimensions(world, name));
    search(world, instance, name, vec![all], consistency).await
}

async fn search(
    world: &World,
    instance: &Arc<Instance>,
    name: &CollectionName,
    searches: Vec<Search>,
    consistency: Consistency,
) -> Result<()> {
    let asked = Asked::new(world, instance, name, consistency);
    let requests = searches.iter().map(|search| search.to_send(consistency)).collect();
    let (brainy, of) = (instance.brainy.clone(), name.clone());
    let call = async move { brainy.search_batch(&of, requests).await };
    let responses = match world.call(instance, name, call).await {
        // A search by the id of a record that is not there.
        Err(error) if error.code() == Code::VectorNotFound => {
            return not_there(world, &asked, &searches, error);
        }
        responses => responses?,
    };
    for (search, response) in searches.iter().zip(&responses) {
        answered(world, &asked, response.version, &response.partial, |contents, metric| {
            match response.partial {
                None => search.check(metric, contents, &response.hits),
                Some(_) => search.check_some(metric, contents, &response.hits),
            }
        });
    }
    Ok(())
}

fn not_there(world: &World, asked: &Asked, searches: &[Search], error: Error) -> Result<()> {
    let mut model = world.model();
    let collection = model.of(&asked.name);
    let (log, least) = (&collection.log, asked.least(collection));
    let right = log.between(least, log.tail()).any(|(_, contents)| {
        searches.iter().any(|search| match &search.query {
            Query::Id(id) => !contents.contains_key(id),
            Query::Vector(_) => false,
        })
    });
    if !right {
        model.violated(format!("{}: {error}, and it is there", asked.who(least)));
    }
    Err(error)
}

/// Checks an answer at a version.
fn answered(
    world: &World,
    asked: &Asked,
    version: Seq,
    partial: &Partial,
    check: impl FnOnce(&Contents, Metric) -> Checked,
) {
    world.event(format_args!("{} read", asked.who(version)));
    world.count(|count| count.partial += u64::from(partial.is_some()));
    let mut model = world.model();
    let collection = model.of(&asked.name);
    let checked = asked.version(&model, version, partial).and_then(|()| {
        let life = collection.log.entry(version).map_or(1, |entry| entry.incarnation);
        let metric =
            collection.lives.settings(life).map_or(Metric::Cosine, |known| known.vector().metric);
        check(&collection.log.contents(version), metric)
            .map_err(|what| format!("{}: {what}", asked.who(version)))
    });
    model.check(checked);
}

async fn get(world: &World, instance: &Arc<Instance>, name: &CollectionName) -> Result<()> {
    let asked = Asked::new(world, instance, name, Consistency::Eventual);
    let id = any_id(&world.rng);
    let (brainy, of, wanted) = (instance.brainy.clone(), name.clone(), id.clone());
    let call = async move { brainy.get(&of, &wanted).await };
    let found = match world.call(instance, name, call).await {
        Err(error) if error.code() == Code::VectorNotFound => None,
        found => Some(found?),
    };
    let mut model = world.model();
    let partial = found.as_ref().is_some_and(|found| found.partial.is_some());
    if partial && asked.excuses(&model) {
        return Ok(());
    }
    let record = found.map(|found| found.record);
    let checked = records::get(&asked, model.of(name), &id, record.as_ref());
    model.check(checked);
    Ok(())
}

async fn fetch(world: &World, instance: &Arc<Instance>, name: &CollectionName) -> Result<()> {
    let asked = Asked::new(world, instance, name, Consistency::Eventual);
    let ids: Vec<String> = (0..=world.rng.below(8)).map(|_| any_id(&world.rng)).collect();
    let (has_vector, wanted) = (world.rng.below(2) == 0, ids.clone());
    let (brainy, of) = (instance.brainy.clone(), name.clone());
    let call = async move { brainy.fetch(&of, &wanted, has_vector).await };
    let fetched = world.call(instance, name, call).await?;
    answered(world, &asked, fetched.version, &fetched.partial, |contents, _| {
        match fetched.partial {
            None => records::fetch(contents, &ids, has_vector, &fetched),
            Some(_) => records::some(contents, &fetched.records, has_vector),
        }
    });
    Ok(())
}

async fn list(world: &World, instance: &Arc<Instance>, name: &CollectionName) -> Result<()> {
    let limit = 1 + world.rng.below(15) as usize;
    let has_vector = world.rng.below(2) == 0;
    let (mut cursor, mut after): (Option<String>, Option<String>) = (None, None);
    loop {
        let asked = Asked::new(world, instance, name, Consistency::Eventual);
        let (brainy, of) = (instance.brainy.clone(), name.clone());
        let call = async move { brainy.list(&of, limit, cursor, has_vector).await };
        let page = world.call(instance, name, call).await?;
        answered(world, &asked, page.version, &page.partial, |contents, _| match page.partial {
            None => records::page(contents, after.as_deref(), limit, has_vector, &page),
            Some(_) => records::some(contents, &page.records, has_vector),
        });
        after = page.records.last().map(|record| record.id.clone());
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

async fn export(world: &World, instance: &Arc<Instance>, name: &CollectionName) -> Result<()> {
    let asked = Asked::new(world, instance, name, Consistency::Eventual);
    let has_vector = world.rng.below(2) == 0;
    let (brainy, of) = (instance.brainy.clone(), name.clone());
    let call = async move {
        let export = brainy.export(&of, has_vector).await?;
        let pieces: Vec<_> = export.lines.try_collect().await?;
        Ok((export.version, export.partial, pieces.concat()))
    };
    let (version, partial, lines) = world.call(instance, name, call).await?;
    answered(world, &asked, version, &partial, |contents, _| match partial {
        None => records::export(contents, has_vector, &lines),
        Some(_) => Ok(()),
    });
    Ok(())
}

async fn info(world: &World, instance: &Arc<Instance>, name: &CollectionName) -> Result<()> {
    let asked = Asked::new(world, instance, name, Consistency::Eventual);
    let (brainy, of) = (instance.brainy.clone(), name.clone());
    let call = async move { brainy.describe(&of).await };
    let info = world.call(instance, name, call).await?;
    let mut model = world.model();
    // What is missing is not counted.
    if !asked.excuses(&model) {
        let checked = records::info(&asked, model.of(name), &info);
        model.check(checked);
    }
    Ok(())
}
