//! Writes: each is checked against one life of a collection, and goes into that life or fails.
//!
//! 1. The name is looked up once, in [`Brainy::target`]; what comes after acts on what was found.
//! 2. A collection that is not there is created when all of the request has been found good. A name that was
//!    deleted gets the settings back that it had.
//! 3. Where the life ends meanwhile, nothing of the request was done, and all of it begins again.
//! 4. A delete by filter carries the version at which the filter was asked: what was written later stays.

use super::{Brainy, DEFAULT_COLLECTION};
use crate::base::defect::Defect;
use crate::base::ids::{CollectionName, Seq, check_record_id};
use crate::base::{Code, Error, Result};
use crate::engine::catalog::{self, NextLife};
use crate::engine::collection::Collection;
use crate::engine::collections::is_over;
use crate::engine::context::Context;
use crate::engine::model::*;
use crate::engine::reading::records;
use crate::engine::transfer;
use crate::engine::writing::validate::{self, Prepared};
use crate::log::chunk::ChunkBuilder;
use crate::manifest::CollectionSettings;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::sync::Arc;

/// How often a write begins again because its collection was deleted meanwhile. More often than once: it
/// makes the collection again, so that there is none is no answer to it.
const ATTEMPTS_MAX: u32 = 8;

/// What a write goes into.
#[derive(Debug, Clone)]
pub enum Target {
    /// A life of a collection.
    Life(Arc<Collection>),
    /// One that the write begins.
    Next(NextLife),
}

/// The life that a write goes into.
#[derive(Debug)]
pub struct Begun {
    /// That life.
    pub collection: Arc<Collection>,
    /// Whether this write began it.
    pub created: bool,
}

impl Target {
    /// What records have to be like.
    pub fn settings(&self) -> CollectionSettings {
        match self {
            Target::Life(collection) => collection.settings(),
            Target::Next(next) => next.settings().clone(),
        }
    }
}

impl Brainy {
    /// Stores records (1..=10,000); returns when they are durable. Of several records with one id
    /// in one request the last one stays.
    pub async fn upsert(&self, name: &CollectionName, records: Vec<NewRecord>) -> Result<Upserted> {
        let _admitted = self.0.context.duty.admit_write()?;
        validate::check_count("vectors", records.len(), RECORDS_PER_WRITE_MAX)?;
        let records = Arc::new(records);
        let mut attempt = 1;
        loop {
            match self.upsert_once(name, &records).await {
                Ok(Some(upserted)) => return Ok(upserted),
                Err(error) if attempt == ATTEMPTS_MAX || !is_over(&error) => return Err(error),
                Ok(None) if attempt == ATTEMPTS_MAX => return Err(catalog::contended(name)),
                // It was deleted before this write, which makes it again, or made by somebody else.
                Ok(None) | Err(_) => attempt += 1,
            }
        }
    }

    /// `None` where the collection was created by somebody else while the records were checked.
    async fn upsert_once(
        &self,
        name: &CollectionName,
        records: &Arc<Vec<NewRecord>>,
    ) -> Result<Option<Upserted>> {
        let target = self.target(name, &records[0].vector).await?;
        let prepared = self.prepared(&target, records).await;
        let Prepared { chunk, operations, distinct, ids } = match &target {
            Target::Life(known) => self.0.collections.unless_ended(known, prepared).await?,
            Target::Next(_) => prepared?,
        };
        let Some(Begun { mut collection, created }) = self.begun(target).await? else {
            return Ok(None);
        };
        if self.0.context.env.defects.has(Defect::WriteToNextLife) {
            collection = self.0.collections.open(name).await?;
        }
        let version = self.append(&collection, chunk, operations).await?;
        Ok(Some(Upserted { version, upserted: distinct, created, ids }))
    }

    /// As [`Brainy::target`], and not a life that has ended elsewhere: a stream is held to what it begins with.
    pub(in crate::engine) async fn target_of_now(
        &self,
        name: &CollectionName,
        example: &[f32],
    ) -> Result<Target> {
        let target = self.target(name, example).await?;
        let Target::Life(known) = &target else { return Ok(target) };
        match known.view().look_now().await {
            Ok(_) => Ok(target),
            Err(gone) if is_over(&gone) => {
                self.0.collections.forget(known);
                self.target(name, example).await
            }
            Err(fault) => Err(fault),
        }
    }

    /// Stores some records of a stream, in the life of the collection that it began with.
    pub(in crate::engine) async fn upsert_into(
        &self,
        collection: Arc<Collection>,
        records: Vec<NewRecord>,
    ) -> Result<Upserted> {
        // A stream may outlast this instance's time as a writer.
        let _admitted = self.0.context.duty.admit_write()?;
        let (target, records) = (Target::Life(collection.clone()), Arc::new(records));
        let Prepared { chunk, operations, distinct, ids } =
            self.prepared(&target, &records).await?;
        let version = self.append(&collection, chunk, operations).await?;
        Ok(Upserted { version, upserted: distinct, created: false, ids })
    }

    async fn prepared(&self, target: &Target, records: &Arc<Vec<NewRecord>>) -> Result<Prepared> {
        let (env, batch, settings) =
            (self.0.context.env.clone(), records.clone(), target.settings());
        let bytes = records.iter().map(NewRecord::bytes).sum();
        let prepare = move || validate::prepare(&batch, &settings, &env);
        self.0.context.env.compute.run_over(bytes, prepare).await?
    }

    /// Stores NDJSON, one record a line, in constant memory. Lines that are not valid are counted
    /// and reported; an error of the stream or the store, or the end of the collection, ends the import and
    /// carries `details.imported`.
    pub async fn import(
        &self,
        name: &CollectionName,
        body: BoxStream<'static, Result<Bytes>>,
    ) -> Result<ImportReport> {
        let _admitted = self.0.context.duty.admit_write()?;
        transfer::import(self, name, body).await
    }

    /// Deletes records; returns when that is durable.
    pub async fn delete(&self, name: &CollectionName, target: DeleteTarget) -> Result<Deleted> {
        let _admitted = self.0.context.duty.admit_write()?;
        if let DeleteTarget::Ids(ids) = &target {
            validate::check_count("ids", ids.len(), PAGE_MAX)?;
            ids.iter().try_for_each(|id| check_record_id(id))?;
        }
        let target = &target;
        let delete = |collection: Arc<Collection>| async move {
            match target {
                DeleteTarget::Ids(ids) => self.delete_ids(&collection, ids.clone()).await,
                DeleteTarget::Filter(filter) => self.delete_matching(&collection, filter).await,
            }
        };
        self.0.collections.on_life(name, delete).await
    }

    async fn delete_ids(
        &self,
        collection: &Arc<Collection>,
        mut ids: Vec<String>,
    ) -> Result<Deleted> {
        ids.sort_unstable();
        ids.dedup();
        let ids: Arc<[String]> = ids.into();
        let (version, present) = collection.present(&ids, self.wait_max()).await?;
        let present = ids.iter().zip(present).filter(|(_, present)| *present);
        let ids: Vec<&String> = present.map(|(id, _)| id).collect();
        let mut builder = ChunkBuilder::new(0);
        ids.iter().for_each(|id| builder.delete(id));
        let version = match ids.len() {
            0 => version,
            count => self.append(collection, builder.finish()?, count as u32).await?,
        };
        Ok(Deleted { version, deleted: ids.len(), as_of: None })
    }

    async fn delete_matching(
        &self,
        collection: &Arc<Collection>,
        filter: &crate::filter::Filter,
    ) -> Result<Deleted> {
        let snapshot = collection.open_snapshot(&[Consistency::Strong], self.wait_max()).await?;
        // What it cannot look at would stay, and nobody would know.
        snapshot.check_complete()?;
        let (as_of, filter) = (snapshot.version(), filter.clone());
        let (env, context) = (&self.0.context.env, self.request(None));
        let guard = context.guard(&env.metrics.searches_cancelled);
        let matching = move || records::matching_ids(&snapshot, &filter, &context);
        let ids = guard.done(env.heavy.run(matching).await.and_then(|ids| ids))?;
        let mut version = as_of;
        for ids in ids.chunks(RECORDS_PER_WRITE_MAX) {
            let mut builder = ChunkBuilder::new(0);
            for id in ids {
                match self.0.context.env.defects.has(Defect::DeleteWithoutLimit) {
                    true => builder.delete(id),
                    false => builder.delete_until(id, as_of),
                }
            }
            version = self.append(collection, builder.finish()?, ids.len() as u32).await?;
        }
        Ok(Deleted { version, deleted: ids.len(), as_of: Some(as_of) })
    }

    /// What a write to `name` goes into; where there is no such collection and it may be created, that is
    /// one as it was before, or as the cluster's settings say with the dimensions of `example`.
    pub(in crate::engine) async fn target(
        &self,
        name: &CollectionName,
        example: &[f32],
    ) -> Result<Target> {
        for _ in 0..ATTEMPTS_MAX {
            let missing = match self.0.collections.open(name).await {
                Ok(collection) => return Ok(Target::Life(collection)),
                Err(error) if error.code() == Code::CollectionNotFound => error,
                Err(error) => return Err(error),
            };
            if !self.0.settings.create_collections && name.as_str() != DEFAULT_COLLECTION {
                return Err(missing);
            }
            let Context { store, env, limits, partitioners, .. } = &self.0.context;
            let wanted = || self.0.cluster.new_collection(name, example.len());
            let wanted = || catalog::settings_of(&wanted()?, self.0.cluster.partition_count());
            if let Some(next) =
                catalog::next_life(store, env, limits.grace, name, wanted).await.map_err(refused)?
            {
                // Nothing is created that cannot be used here.
                next.settings().partitioner.resolve(partitioners)?;
                return Ok(Target::Next(next));
            }
        }
        Err(catalog::contended(name))
    }

    /// The life that a write goes into, begun where it has to be; `None` where somebody else has begun one
    /// with settings of its own.
    pub(in crate::engine) async fn begun(&self, target: Target) -> Result<Option<Begun>> {
        let next = match target {
            Target::Life(collection) => return Ok(Some(Begun { collection, created: false })),
            Target::Next(next) => next,
        };
        let Context { store, env, .. } = &self.0.context;
        let life = catalog::begin(store, env, &next).await.map_err(refused)?;
        let collection = match self.0.collections.open_from(next.name(), life.unwrap_or(0)).await {
            Err(error) if is_over(&error) => return Ok(None),
            collection => collection?,
        };
        let (wanted, found) = (next.settings().vector(), collection.settings());
        let found = found.vector();
        let same = wanted.dimensions == found.dimensions && wanted.metric == found.metric;
        let fits = life.map_or(same, |life| collection.life() == life);
        Ok(fits.then_some(Begun { collection, created: life.is_some() }))
    }

    /// Puts a chunk into the log of a life of a collection.
    async fn append(
        &self,
        collection: &Arc<Collection>,
        chunk: Bytes,
        operations: u32,
    ) -> Result<Seq> {
        match collection.writer().write(chunk, operations).await {
            Ok(appended) => {
                // Positions are never used again, so a name and a position mean one life.
                self.0.cluster.replicated(collection.name(), appended.seq).await?;
                Ok(appended.seq)
            }
            Err(error) if error.code() == Code::CollectionNotFound => {
                self.0.collections.forget(collection);
                let Context { store, env, limits, .. } = &self.0.context;
                let finished =
                    catalog::finish_deletion(store, env, limits.grace, collection.name()).await;
                if let Err(error) = finished {
                    tracing::warn!(%error, collection = %collection.name(), "a deletion is not finished");
                }
                Err(error)
            }
            Err(error) => Err(error),
        }
    }
}

fn refused(error: Error) -> Error {
    match error.code() {
        // It says itself what the record has to be like.
        Code::DimensionMismatch => error,
        _ => error.context("the collection could not be created by this write"),
    }
}
