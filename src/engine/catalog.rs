//! Which collections are there? Creating, listing and deleting them, all through their manifests.

use crate::base::ids::CollectionName;
use crate::base::{Code, Env, Error, Result};
use crate::engine::model::{CollectionSpec, DIMENSIONS_MAX};
use crate::engine::view::ManifestView;
use crate::log::append::{Appended, Appender, gone};
use crate::manifest::{self, CollectionSettings, Manifest, State};
use crate::partition::Kind;
use crate::store::cas::Change;
use crate::store::{DynStore, paths};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Largest number of partitions at the start.
pub const PARTITIONS_MAX: u32 = 4_096;
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
        return spec.partitioner.as_ref().map_or(Ok(()), Kind::check);
    };
    Err(Error::invalid(fault))
}

/// Creates a collection, with `partitions` where `spec` does not say how many and with this grace period;
/// `false` where it was there with the same settings.
pub async fn create(
    store: &DynStore,
    env: &Env,
    grace: Duration,
    spec: &CollectionSpec,
    partitions: Option<u32>,
) -> Result<(Manifest, bool)> {
    check_spec(spec)?;
    let settings = CollectionSettings {
        dimensions: spec.dimensions,
        metric: spec.metric,
        partition_count: spec.partition_count.or(partitions).unwrap_or(1),
        partitioner: spec.partitioner.clone().unwrap_or_default(),
        description: spec.description.clone(),
    };
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
    manifest.map(|manifest| (manifest, created)).ok_or_else(|| gone(&spec.name))
}

/// The same name with other settings is a conflict; a description is no reason for one.
fn check_same(spec: &CollectionSpec, existing: &CollectionSettings) -> Result<()> {
    let wanted_partitions = spec.partition_count.unwrap_or(existing.partition_count);
    let wanted_partitioner = spec.partitioner.as_ref().unwrap_or(&existing.partitioner);
    if spec.dimensions == existing.dimensions
        && spec.metric == existing.metric
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
            "dimensions": existing.dimensions,
            "metric": existing.metric,
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
pub async fn delete(
    store: &DynStore,
    env: &Env,
    name: &CollectionName,
    grace: Duration,
) -> Result<()> {
    let mut appender = open_appender(store, env, name, grace).await?;
    let seal = appender.seal().await?;
    mark_deleted(store, env, name, appender.incarnation(), seal).await
}

/// Finishes a deletion that was cut off after the seal; otherwise does nothing.
pub async fn finish_deletion(
    store: &DynStore,
    env: &Env,
    name: &CollectionName,
    grace: Duration,
) -> Result<()> {
    match open_appender(store, env, name, grace).await {
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
    name: &CollectionName,
    grace: Duration,
) -> Result<Appender> {
    let view = ManifestView::open(store.clone(), env.clone(), name.clone()).await?;
    let grace = view.last().manifest.grace_to_rely_on(grace);
    Appender::open(store.clone(), env.clone(), name.clone(), Arc::new(view), grace).await
}

async fn mark_deleted(
    store: &DynStore,
    env: &Env,
    name: &CollectionName,
    incarnation: u64,
    seal: Appended,
) -> Result<()> {
    manifest::update(store, env, name, |current| match current {
        Some(current) if current.is_live() && current.incarnation == incarnation => {
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

/// One page of the names in use after `cursor`, in order, with their manifests.
pub async fn list(
    store: &DynStore,
    limit: usize,
    cursor: Option<&str>,
) -> Result<(Vec<Manifest>, Option<String>)> {
    let dirs = store.list_dirs(&paths::collections()).await?;
    let mut page = Vec::new();
    for dir in dirs.into_iter().filter(|dir| cursor.is_none_or(|cursor| dir.as_str() > cursor)) {
        // A folder that is not ours is none of our business.
        let Ok(name) = CollectionName::new(dir) else {
            continue;
        };
        let loaded = manifest::load(store, &name).await?;
        if let Some(manifest) = loaded.map(|loaded| loaded.value).filter(Manifest::is_live) {
            if page.len() == limit {
                let last = page.last().map(|manifest: &Manifest| manifest.name.to_string());
                return Ok((page, last));
            }
            page.push(manifest);
        }
    }
    Ok((page, None))
}
