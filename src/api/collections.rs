//! Calls about collections.

use crate::api::extract::{InCollection, Input, Query};
use crate::api::types::collections::{
    CollectionBody, CollectionDeletedBody, CollectionPageBody, CollectionsQuery, CreateBody,
    StatsBody,
};
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
pub async fn create(State(app): State<Shared>, Input(spec): Input<CollectionSpec>) -> Reply {
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
    let info = app.brainy.collection(&name).await?;
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
