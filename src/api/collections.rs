//! Calls about collections.

use crate::api::extract::{InCollection, Input, Query};
use crate::api::types::collections::{
    CollectionBody, CollectionDeletedBody, CollectionPageBody, CollectionsQuery, CreateBody,
    StatsBody,
};
use crate::api::types::partitions::{Reshard, ReshardBody, ReworkedBody, UnnamedBody, WarmedBody};
use crate::api::{Reply, Shared, json};
use crate::engine::model::CollectionSpec;
use axum::extract::State;
use axum::http::StatusCode;

/// Create a collection
///
/// The same settings again answer 200, other settings 409 `settings_conflict` with both values.
#[utoipa::path(post, path = "/v1/collections", tag = "collections",
    operation_id = "createCollection",
    request_body = CreateBody,
    responses(
        (status = 201, description = "Created", body = CollectionBody),
        (status = 200, description = "Was there, with the same settings", body = CollectionBody)))]
pub async fn create(State(app): State<Shared>, Input(spec, ..): Input<CollectionSpec>) -> Reply {
    let (info, created) = app.brainy.create_collection(spec).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    json(status, &CollectionBody::from(&info))
}

/// List collections, ordered by name
#[utoipa::path(get, path = "/v1/collections", tag = "collections",
    operation_id = "listCollections",
    params(CollectionsQuery),
    responses((status = 200, body = CollectionPageBody)))]
pub async fn list(State(app): State<Shared>, Query(query): Query<CollectionsQuery>) -> Reply {
    let (limit, cursor) = query.page()?;
    let page = app.brainy.collections(limit, cursor).await?;
    json(StatusCode::OK, &CollectionPageBody::from(&page))
}

/// A collection
#[utoipa::path(get, path = "/v1/collections/{collection}", tag = "collections",
    operation_id = "getCollection",
    params(InCollection),
    responses((status = 200, body = CollectionBody)))]
pub async fn get(State(app): State<Shared>, InCollection(name): InCollection) -> Reply {
    let info = app.brainy.describe(&name).await?;
    json(StatusCode::OK, &CollectionBody::from(&info))
}

/// Delete a collection with all its records
#[utoipa::path(delete, path = "/v1/collections/{collection}", tag = "collections",
    operation_id = "deleteCollection",
    params(InCollection),
    responses((status = 200, body = CollectionDeletedBody)))]
pub async fn delete(State(app): State<Shared>, InCollection(name): InCollection) -> Reply {
    app.brainy.delete_collection(&name).await?;
    json(StatusCode::OK, &CollectionDeletedBody { deleted: true })
}

/// Counts and sizes of a collection
#[utoipa::path(get, path = "/v1/collections/{collection}/stats", tag = "collections",
    operation_id = "getCollectionStats",
    params(InCollection),
    responses((status = 200, body = StatsBody)))]
pub async fn stats(State(app): State<Shared>, InCollection(name): InCollection) -> Reply {
    let stats = app.brainy.stats(&name).await?;
    json(StatusCode::OK, &StatsBody::from(&stats))
}

/// Index what is in the log, and make one segment of each partition
///
/// Instances that write do as much by themselves as is worth it; this does all of it now, and answers
/// when it is done.
#[utoipa::path(post, path = "/v1/collections/{collection}/compact", tag = "collections",
    operation_id = "compactCollection",
    params(InCollection),
    responses((status = 200, body = ReworkedBody)))]
pub async fn compact(State(app): State<Shared>, InCollection(name): InCollection) -> Reply {
    json(StatusCode::OK, &ReworkedBody::from(app.brainy.compacted(&name).await?))
}

/// Bring a collection into memory
///
/// Loads the segments that are not in memory, and reads those that are mapped files once, so that the next search waits
/// for neither the store nor a disk. What is larger than `cache_max_bytes` does not stay.
#[utoipa::path(post, path = "/v1/collections/{collection}/warm", tag = "collections",
    operation_id = "warmCollection",
    params(InCollection),
    responses((status = 200, body = WarmedBody)))]
pub async fn warm(State(app): State<Shared>, InCollection(name): InCollection) -> Reply {
    let context = app.brainy.request(None);
    let warmed = app.brainy.within(&context).warm(&name).await?;
    json(StatusCode::OK, &WarmedBody::from(&warmed))
}

/// Objects that are not part of the collection
///
/// What is being made, what was replaced a short while ago, and what a process has left behind when it
/// died, beside the segments and in the log. Instances that write delete what stays without a name.
#[utoipa::path(get, path = "/v1/collections/{collection}/unnamed", tag = "collections",
    operation_id = "listUnnamedObjects",
    params(InCollection),
    responses((status = 200, body = UnnamedBody)))]
pub async fn unnamed(State(app): State<Shared>, InCollection(name): InCollection) -> Reply {
    let objects = app.brainy.unnamed_objects(&name).await?;
    json(StatusCode::OK, &UnnamedBody::from(&objects[..]))
}

/// Split the partitions of a collection
///
/// There are more partitions afterwards, never fewer; answers when it is done.
#[utoipa::path(post, path = "/v1/collections/{collection}/reshard", tag = "collections",
    operation_id = "reshardCollection",
    params(InCollection),
    request_body = ReshardBody,
    responses((status = 200, body = ReworkedBody)))]
pub async fn reshard(
    State(app): State<Shared>,
    InCollection(name): InCollection,
    Input(Reshard(count), ..): Input<Reshard>,
) -> Reply {
    json(StatusCode::OK, &ReworkedBody::from(app.brainy.resharded(&name, count).await?))
}
