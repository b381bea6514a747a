//! Calls about the shared state: small JSON values that all instances see.

use crate::api::extract::{Input, Query, StateKey};
use crate::api::types::cluster::{
    DamagedStateBody, StateBody, StateDeletedBody, StatePageBody, StateQuery, StateValue,
    StateValueBody,
};
use crate::api::{Reply, Shared, json};
use crate::base::{Error, Result};
use crate::cluster::{Expected, StateEntry};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// Entries of a page where nobody says how many.
const LIMIT_DEFAULT: u64 = 100;

/// What `If-Match` and `If-None-Match` demand.
fn expected(headers: &HeaderMap) -> Result<Expected> {
    let text = |name: HeaderName| match headers.get(&name) {
        None => Ok(None),
        Some(value) => match value.to_str() {
            Ok(text) => Ok(Some(text.trim())),
            Err(_) => Err(Error::invalid(format!("{name} is not text; send the etag as returned"))),
        },
    };
    match (text(header::IF_MATCH)?, text(header::IF_NONE_MATCH)?) {
        (None, None) => Ok(Expected::Anything),
        (None, Some("*")) => Ok(Expected::Absent),
        (Some(etag), None) if etag != "*" && !etag.contains(',') => {
            let bare = etag.strip_prefix('"').and_then(|etag| etag.strip_suffix('"'));
            Ok(Expected::Etag(bare.unwrap_or(etag).to_owned()))
        }
        _ => Err(Error::invalid(
            "use If-Match with one etag as returned, or If-None-Match: *, or neither",
        )),
    }
}

fn entry(entry: &StateEntry) -> Reply {
    let mut answer = json(StatusCode::OK, &StateBody::from(entry))?;
    // An etag is letters and digits.
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", entry.etag)) {
        answer.headers_mut().insert(header::ETAG, etag);
    }
    Ok(answer)
}

/// List entries of the shared state, ordered by key
#[utoipa::path(get, path = "/cluster/state", tag = "cluster",
    operation_id = "listState",
    params(StateQuery),
    responses((status = 200, body = StatePageBody)))]
pub async fn list(State(app): State<Shared>, Query(query): Query<StateQuery>) -> Reply {
    let limit = usize::try_from(query.limit.unwrap_or(LIMIT_DEFAULT)).unwrap_or(usize::MAX);
    let state = app.brainy.cluster().state();
    let page = state.list(&query.prefix, query.cursor.as_deref(), limit).await?;
    let entries = page.entries.iter().map(StateBody::from).collect();
    let damaged = page.damaged.iter();
    let damaged =
        damaged.map(|(key, error)| DamagedStateBody { key, reason: error.message().to_owned() });
    let (damaged, next_cursor) = (damaged.collect(), page.next.as_deref());
    json(StatusCode::OK, &StatePageBody { entries, damaged, next_cursor })
}

/// An entry of the shared state
#[utoipa::path(get, path = "/cluster/state/{key}", tag = "cluster",
    operation_id = "getState",
    params(StateKey),
    responses((status = 200, body = StateBody)))]
pub async fn get(State(app): State<Shared>, StateKey(key): StateKey) -> Reply {
    entry(&app.brainy.cluster().state().get(&key).await?)
}

/// Set an entry of the shared state
///
/// `If-Match` with the etag of the entry that is to be replaced, `If-None-Match: *` to create one:
/// 412 `precondition_failed` where somebody was first.
#[utoipa::path(put, path = "/cluster/state/{key}", tag = "cluster",
    operation_id = "setState",
    params(
        StateKey,
        ("If-Match" = Option<String>, Header, description = "The etag that the entry must have"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: there must be no entry")),
    request_body = StateValueBody,
    responses((status = 200, body = StateBody)))]
pub async fn put(
    State(app): State<Shared>,
    StateKey(key): StateKey,
    headers: HeaderMap,
    Input(StateValue(value), ..): Input<StateValue>,
) -> Reply {
    let expected = expected(&headers)?;
    entry(&app.brainy.cluster().state().put(&key, value, &expected).await?)
}

/// Delete an entry of the shared state
#[utoipa::path(delete, path = "/cluster/state/{key}", tag = "cluster",
    operation_id = "deleteState",
    params(
        StateKey,
        ("If-Match" = Option<String>, Header, description = "The etag that the entry must have")),
    responses((status = 200, body = StateDeletedBody)))]
pub async fn delete(
    State(app): State<Shared>,
    StateKey(key): StateKey,
    headers: HeaderMap,
) -> Reply {
    let deleted = app.brainy.cluster().state().delete(&key, &expected(&headers)?).await?;
    json(StatusCode::OK, &StateDeletedBody { deleted })
}
