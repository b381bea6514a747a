//! Calls that search.

use crate::api::extract::{InCollection, Input};
use crate::api::types::recall::{RecallBody, RecalledBody};
use crate::api::types::search::{
    BatchBody, Search, SearchBatchBody, SearchBody, SearchedBody, Searches,
};
use crate::api::{Reply, Shared, memory};
use crate::engine::model::{RecallRequest, SearchResponse};
use axum::extract::State;
use tokio::time::Instant;

/// Search
///
/// The records whose vectors are closest to `vector`, or to that of the record `id`.
#[utoipa::path(post, path = "/v1/collections/{collection}/search", tag = "search",
    operation_id = "search",
    params(InCollection), request_body = SearchBody,
    responses((status = 200, body = SearchedBody)))]
pub async fn search(
    State(app): State<Shared>,
    InCollection(name): InCollection,
    Input(search, ..): Input<Search>,
) -> Reply {
    let floor = search.floor();
    let context = app.request();
    let response = app.brainy.within(&context).search(&name, search.request).await?;
    floor.check(response.version)?;
    memory::answer(context, &SearchedBody::from(&response))
}

/// Search several times at once
///
/// All searches see the same version of the collection.
#[utoipa::path(post, path = "/v1/collections/{collection}/search/batch", tag = "search",
    operation_id = "searchBatch",
    params(InCollection), request_body = SearchBatchBody,
    responses((status = 200, body = BatchBody)))]
pub async fn batch(
    State(app): State<Shared>,
    InCollection(name): InCollection,
    Input(Searches(searches), ..): Input<Searches>,
) -> Reply {
    let start = Instant::now();
    let floors: Vec<_> = searches.iter().map(Search::floor).collect();
    let requests = searches.into_iter().map(|search| search.request).collect();
    let context = app.request();
    let responses: Vec<SearchResponse> =
        app.brainy.within(&context).search_batch(&name, requests).await?;
    for (floor, response) in floors.iter().zip(&responses) {
        floor.check(response.version)?;
    }
    memory::answer(context, &BatchBody::new(&responses, start.elapsed()))
}

/// Measure recall
///
/// Queries are answered twice, as a search would and by measuring every record. What takes long ends when the client
/// goes away.
#[utoipa::path(post, path = "/v1/collections/{collection}/recall", tag = "search",
    operation_id = "recall",
    params(InCollection), request_body = RecallBody,
    responses((status = 200, body = RecalledBody)))]
pub async fn recall(
    State(app): State<Shared>,
    InCollection(name): InCollection,
    Input(request, ..): Input<RecallRequest>,
) -> Reply {
    let context = app.brainy.request(None);
    let report = app.brainy.within(&context).recall(&name, request).await?;
    memory::answer(context, &RecalledBody::from(&report))
}
