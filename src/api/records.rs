//! Calls about records.

use crate::api::extract::{InCollection, Input, Query, RecordId};
use crate::api::types::records::{
    DeleteBody, DeletedBody, Fetch, FetchBody, FetchedBody, FoundRecordBody, ListQuery,
    RecordPageBody, Records, UpsertBody, UpsertedBody,
};
use crate::api::{Reply, Shared, json, memory};
use crate::base::ids::CollectionName;
use crate::engine::model::{DeleteTarget, Upserted};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing;

/// Store records
///
/// Answered once the records are durable in the store. A record with an id that exists replaces
/// the one that is there. A collection that does not exist is created (cosine) unless the setting
/// `create_collections` is false.
#[utoipa::path(post, path = "/v1/collections/{collection}/vectors", tag = "vectors",
    operation_id = "upsertVectors",
    params(InCollection), request_body = UpsertBody,
    responses((status = 200, body = UpsertedBody)))]
pub async fn upsert(
    State(app): State<Shared>,
    InCollection(name): InCollection,
    Input(Records(records), ..): Input<Records>,
) -> Reply {
    let done = app.brainy.upsert(&name, records).await?;
    let Upserted { version, upserted, created, ids } = done;
    let body = UpsertedBody { version: version.0, upserted, created, ids };
    json(StatusCode::OK, &body)
}

/// List records, ordered by id
///
/// A page ends early where more would not fit into an answer; `nextCursor` goes on from there.
#[utoipa::path(get, path = "/v1/collections/{collection}/vectors", tag = "vectors",
    operation_id = "listVectors",
    params(InCollection, ListQuery),
    responses((status = 200, body = RecordPageBody)))]
pub async fn list(
    State(app): State<Shared>,
    InCollection(name): InCollection,
    Query(query): Query<ListQuery>,
) -> Reply {
    let include_vector = query.include_vector;
    let (limit, cursor) = query.page()?;
    let context = app.request();
    let page = app.brainy.within(&context).list(&name, limit, cursor, include_vector).await?;
    memory::answer(context, &RecordPageBody::from(&page))
}

/// One record, with its vector
#[utoipa::path(get, path = "/v1/collections/{collection}/vectors/{id}", tag = "vectors",
    operation_id = "getVector",
    params(InCollection, RecordId),
    responses((status = 200, body = FoundRecordBody)))]
pub async fn get(
    State(app): State<Shared>,
    InCollection(name): InCollection,
    RecordId(id): RecordId,
) -> Reply {
    one(&app, &name, &id).await
}

async fn one(app: &Shared, name: &CollectionName, id: &str) -> Reply {
    let context = app.request();
    let found = app.brainy.within(&context).get(name, id).await?;
    memory::answer(context, &FoundRecordBody::from(&found))
}

/// The ids `fetch` and `delete`, which the paths of the two calls below would hide.
pub fn shadowed_ids() -> Router<Shared> {
    let get = |id: &'static str| {
        routing::get(async move |State(app): State<Shared>, InCollection(name): InCollection| {
            one(&app, &name, id).await
        })
    };
    Router::new()
        .route("/v1/collections/{collection}/vectors/fetch", get("fetch"))
        .route("/v1/collections/{collection}/vectors/delete", get("delete"))
}

/// Several records by id
///
/// Each once, however often it is named. Where they would be more than an answer holds,
/// `details.idsThatFit` says how many of the first ids do.
#[utoipa::path(post, path = "/v1/collections/{collection}/vectors/fetch", tag = "vectors",
    operation_id = "fetchVectors",
    params(InCollection), request_body = FetchBody,
    responses((status = 200, body = FetchedBody)))]
pub async fn fetch(
    State(app): State<Shared>,
    InCollection(name): InCollection,
    Input(Fetch { ids, include_vector }, ..): Input<Fetch>,
) -> Reply {
    let context = app.request();
    let fetched = app.brainy.within(&context).fetch(&name, &ids, include_vector).await?;
    memory::answer(context, &FetchedBody::from(&fetched))
}

/// Delete records, by id or by filter
///
/// Answered once the delete is durable in the store. A filter deletes what matches at the version that
/// the answer names as `asOf`, unless it was written again after that.
#[utoipa::path(post, path = "/v1/collections/{collection}/vectors/delete", tag = "vectors",
    operation_id = "deleteVectors",
    params(InCollection), request_body = DeleteBody,
    responses((status = 200, body = DeletedBody)))]
pub async fn delete(
    State(app): State<Shared>,
    InCollection(name): InCollection,
    Input(target, ..): Input<DeleteTarget>,
) -> Reply {
    let done = app.brainy.delete(&name, target).await?;
    json(StatusCode::OK, &DeletedBody::from(done))
}
