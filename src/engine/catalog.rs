//! Which collections are there? Creating, listing and deleting them, all through their manifests.

use crate::base::defect::Defect;
use crate::base::ids::CollectionName;
use crate::base::{Code, Env, Error, Result};
use crate::engine::model::{CollectionSpec, DIMENSIONS_MAX};
use crate::engine::view::ManifestView;
use crate::log::append::{Appended, Appender};
use crate::manifest::{self, CollectionSettings, Manifest, State};
use crate::partition::PartitionerKind;
use crate::store::cas::{self, Change};
use crate::store::{DynStore, paths};
use futures::stream::{self, StreamExt};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Largest number of partitions at the start.
pub const PARTITIONS_MAX: u32 = 4_096;
/// Manifests that are read at a time while collections are listed.
const READS_MAX: usize = 16;
/// Longest description, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 4_096;

/// Checks what a client says against the documented ranges.
pub fn check_spec(spec: &CollectionSpec) -> Result<()> {
    let fault = if !(1..=DIMENSIONS_MAX).contains(&spec.dimensions) {
        format!("dimensions must be 1 to {DIMENSIONS_MAX}, not {}", spec.dimensions)
    } else if spec.partition_count.is_some_and(|count| !(1..=PARTITIONS_MAX).contains(&count)) {
        format!("partitionCount must be 1 to {PARTITIONS_MAX}")
    } else if spec.description.as_ref().is_some_and(|text| text.len() > DESCRIPTION_BYTES_MAX) {
        format!("description must be at most {DESCRIPTION_BYTES_MAX} bytes")
    } else {
        return spec.partitioner.as_ref().map_or(Ok(()), PartitionerKind::check);
    };
    Err(Error::invalid(fault))
}

/// The settings of a collection as `spec` says, with `partitions` where it does not say how many.
pub fn settings_of(spec: &CollectionSpec, partitions: Option<u32>) -> Result<CollectionSettings> {
    check_spec(spec)?;
    let partitions = spec.partition_count.or(partitions).unwrap_or(1);
    let mut settings = CollectionSettings::new(spec.dimensions, spec.metric, partitions);
    settings.partitioner = spec.partitioner.clone().unwrap_or_default();
    settings.description.clone_from(&spec.description);
    Ok(settings)
}

/// Creates a collection, with `partitions` where `spec` does not say how many and with this grace period;
/// `false` where it was there with the same settings. A deletion that was cut off is finished first.
pub async fn create(
    store: &DynStore,
    env: &Env,
    grace: Duration,
    spec: &CollectionSpec,
    partitions: Option<u32>,
) -> Result<(Manifest, bool)> {
    let settings = settings_of(spec, partitions)?;
    finish_deletion(store, env, grace, &spec.name).await?;
    let mut created = false;
    let loaded = manifest::update(store, env, &spec.name, |current| {
        created = !current.is_some_and(Manifest::is_live);
        match current {
            Some(current) if current.is_live() => {
                check_same(spec, &current.settings)?;
                Ok(Change::Keep)
            }
            earlier => {
                let (settings, now) = (settings.clone(), env.clock.now());
                let first = Manifest::create(&spec.name, settings, now, earlier);
                Ok(Change::Write(first.agreeing(grace)))
            }
        }
    })
    .await?;
    let manifest = loaded.map(|loaded| loaded.value).filter(Manifest::is_live);
    manifest.map(|manifest| (manifest, created)).ok_or_else(|| contended(&spec.name))
}

/// A life of a name that a write may begin.
#[derive(Debug, Clone)]
pub struct NextLife {
    name: CollectionName,
    settings: CollectionSettings,
    grace: Duration,
    /// The life before it; 0 where there was none.
    after: u64,
}

impl NextLife {
    /// The collection's name.
    pub fn name(&self) -> &CollectionName {
        &self.name
    }

    /// Whether there never was a collection of this name.
    pub fn is_first(&self) -> bool {
        self.after == 0
    }

    /// What the collection is to be like.
    pub fn settings(&self) -> &CollectionSettings {
        &self.settings
    }
}

/// The next life of a name that is not in use, once a deletion that was cut off is finished: with the
/// settings of the life before it, or what `wanted` says of one that never was there. `None` where the name
/// is in use.
pub async fn next_life(
    store: &DynStore,
    env: &Env,
    grace: Duration,
    name: &CollectionName,
    wanted: impl FnOnce() -> Result<CollectionSettings>,
) -> Result<Option<NextLife>> {
    finish_deletion(store, env, grace, name).await?;
    let loaded = manifest::load(store, name).await?;
    let (settings, after) = match loaded.map(|loaded| loaded.value) {
        Some(manifest) if manifest.is_live() => return Ok(None),
        Some(earlier) if !env.defects.has(Defect::ForgetSettings) => {
            (earlier.settings, earlier.incarnation)
        }
        earlier => (wanted()?, earlier.map_or(0, |earlier| earlier.incarnation)),
    };
    Ok(Some(NextLife { name: name.clone(), settings, grace, after }))
}

/// Begins a life; `None` where somebody else has begun one, whatever became of it.
pub async fn begin(store: &DynStore, env: &Env, life: &NextLife) -> Result<Option<u64>> {
    let mut begun = false;
    let NextLife { name, settings, grace, after } = life;
    let made = manifest::update(store, env, name, |current| {
        let before = current.map_or(0, |current| current.incarnation);
        begun = before == *after && !current.is_some_and(Manifest::is_live);
        match begun {
            true => {
                let (settings, now) = (settings.clone(), env.clock.now());
                let first = Manifest::create(name, settings, now, current);
                Ok(Change::Write(first.agreeing(*grace)))
            }
            false => Ok(Change::Keep),
        }
    })
    .await?;
    if let Some(made) = made.filter(|_| begun && *after > 0)
        && let Err(error) = cas::keep_in_force(&**store, env, &made).await
    {
        tracing::warn!(%error, collection = %name, "its first manifest is kept with the next change only");
    }
    Ok(begun.then_some(after + 1))
}

/// The error of whoever is always too late.
pub fn contended(name: &CollectionName) -> Error {
    let message =
        format!("collection {name} is created and deleted by others all the time; try again");
    Error::new(Code::Overloaded, message).retry_after_ms(1_000)
}

/// The same name with other settings is a conflict; a description is no reason for one.
fn check_same(spec: &CollectionSpec, existing: &CollectionSettings) -> Result<()> {
    let vector = existing.vector();
    let wanted_partitions = spec.partition_count.unwrap_or(existing.partition_count);
    let wanted_partitioner = spec.partitioner.as_ref().unwrap_or(&existing.partitioner);
    if spec.dimensions == vector.dimensions
        && spec.metric == vector.metric
        && wanted_partitions == existing.partition_count
        && *wanted_partitioner == existing.partitioner
    {
        return Ok(());
    }
    Err(Error::new(
        Code::SettingsConflict,
        format!(
            "collection {} exists with other settings; use them, or another name, or delete it first",
            spec.name
        ),
    )
    .with(
        "existing",
        json!({
            "dimensions": vector.dimensions,
            "metric": vector.metric,
            "partitionCount": existing.partition_count,
            "partitioner": existing.partitioner,
        }),
    )
    .with(
        "requested",
        json!({
            "dimensions": spec.dimensions,
            "metric": spec.metric,
            "partitionCount": wanted_partitions,
            "partitioner": wanted_partitioner,
        }),
    ))
}

/// Deletes a collection, or finishes a deletion that was cut off. Every write that was
/// acknowledged before is part of what is deleted; every later one is refused.
///
/// 1. The log is sealed. That is the moment of the deletion: a failure before it has changed nothing, and
///    after it nobody reads or writes this life any more, whatever its manifest says.
/// 2. The manifest says `deleted` and where the log ends, and the name may be used again.
///
/// What is left of a deletion that fails between the two is finished by the next one who comes to the name:
/// a delete, a write, whoever creates it, or the task that indexes. There is no mark of the intent before
/// the seal: whoever finished a deletion of which it was not known whether it had begun would take with it what was
/// acknowledged in between.
pub async fn delete(
    store: &DynStore,
    env: &Env,
    grace: Duration,
    name: &CollectionName,
) -> Result<()> {
    let mut appender = open_appender(store, env, grace, name).await?;
    let seal = match env.defects.has(Defect::DeleteWithoutSeal) {
        true => appender.tail(),
        false => appender.seal().await?,
    };
    let marked = mark_deleted(store, env, name, appender.incarnation(), seal).await;
    marked.map_err(|error| {
        let hint =
            "nobody finds the collection any more, but its name is not free yet; delete it again";
        error.context(hint).ambiguous()
    })
}

/// Finishes a deletion that was cut off after the seal; otherwise does nothing.
pub async fn finish_deletion(
    store: &DynStore,
    env: &Env,
    grace: Duration,
    name: &CollectionName,
) -> Result<()> {
    match open_appender(store, env, grace, name).await {
        Ok(appender) => match appender.sealed() {
            Some(seal) => mark_deleted(store, env, name, appender.incarnation(), seal).await,
            None => Ok(()),
        },
        Err(error) if error.code() == Code::CollectionNotFound => Ok(()),
        Err(error) => Err(error),
    }
}

async fn open_appender(
    store: &DynStore,
    env: &Env,
    grace: Duration,
    name: &CollectionName,
) -> Result<Appender> {
    let view = ManifestView::open(store.clone(), env.clone(), name.clone()).await?;
    let (store, env, view) = (store.clone(), env.clone(), Arc::new(view));
    Appender::open_past_gaps(store, env, name.clone(), view, grace).await
}

async fn mark_deleted(
    store: &DynStore,
    env: &Env,
    name: &CollectionName,
    life: u64,
    seal: Appended,
) -> Result<()> {
    manifest::update(store, env, name, |current| match current {
        Some(current) if current.is_live() && current.incarnation == life => {
            Ok(Change::Write(Manifest {
                state: State::Deleted,
                wal_floor: seal.seq.next(),
                wal_indexed: seal.seq,
                indexed: seal.totals,
                floor_totals: seal.totals,
                ..current.without_segments()
            }))
        }
        _ => Ok(Change::Keep),
    })
    .await
    .map(drop)
}

/// One page of the collections.
#[derive(Debug, Default)]
pub struct Listed {
    /// Their manifests, in the order of their names.
    pub manifests: Vec<Manifest>,
    /// Those whose manifest cannot be read, with the reasons.
    pub damaged: Vec<(CollectionName, Error)>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<String>,
}

/// One page of the names in use after `cursor`, in order. One manifest that cannot be read keeps nobody from
/// the others.
pub async fn list(store: &DynStore, limit: usize, cursor: Option<&str>) -> Result<Listed> {
    let dirs = store.list_dirs(&paths::collections()).await?;
    let after = dirs.into_iter().filter(|dir| cursor.is_none_or(|cursor| dir.as_str() > cursor));
    // A folder that is not ours is none of our business.
    let names = after.filter_map(|dir| CollectionName::new(dir).ok());
    let loads = names.map(|name| async move {
        let loaded = manifest::load(store, &name).await;
        (name, loaded.map(|loaded| loaded.map(|loaded| loaded.value)))
    });
    let mut loads = stream::iter(loads).buffered(READS_MAX);
    let (mut page, mut last) = (Listed::default(), None);
    while let Some((name, loaded)) = loads.next().await {
        let found = match loaded {
            Ok(loaded) => match loaded.filter(Manifest::is_live) {
                Some(manifest) => Ok(manifest),
                None => continue,
            },
            Err(error) if error.is_about_content() => Err(error),
            Err(error) => return Err(error),
        };
        if page.manifests.len() + page.damaged.len() == limit {
            page.next = last;
            break;
        }
        last = Some(name.to_string());
        match found {
            Ok(manifest) => page.manifests.push(manifest),
            Err(error) => page.damaged.push((name, error)),
        }
    }
    Ok(page)
}
