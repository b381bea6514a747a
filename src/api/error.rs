//! Errors on the wire: the one table from codes to HTTP statuses, and the JSON form.

use crate::base::{Code, Error};
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Seconds after which a client retries where the engine knows no better.
const RETRY_AFTER_SECONDS_DEFAULT: u64 = 1;

/// The HTTP status of a code. `docs/errors.md` shows the same table.
pub fn status(code: Code) -> StatusCode {
    match code {
        Code::InvalidRequest
        | Code::DimensionMismatch
        | Code::InvalidVector
        | Code::InvalidId
        | Code::InvalidMetadata
        | Code::InvalidFilter
        | Code::InvalidCollectionName
        | Code::InvalidSettings => StatusCode::BAD_REQUEST,
        Code::OriginNotAllowed
        | Code::HostNotAllowed
        | Code::ReadOnlyInstance
        | Code::WriteOnlyInstance => StatusCode::FORBIDDEN,
        Code::CollectionNotFound
        | Code::VectorNotFound
        | Code::RouteNotFound
        | Code::InstanceNotFound
        | Code::StateNotFound => StatusCode::NOT_FOUND,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::SettingsConflict
        | Code::NotAMember
        | Code::InstanceIdInUse
        | Code::InstanceAlive
        | Code::LastWriter
        | Code::InstanceSuperseded => StatusCode::CONFLICT,
        Code::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        Code::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        Code::PayloadTooLarge | Code::AnswerTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::Backpressure => StatusCode::TOO_MANY_REQUESTS,
        Code::Overloaded
        | Code::ShuttingDown
        | Code::StoreUnavailable
        | Code::SharedConfigInvalid
        | Code::StoreDenied
        | Code::StoreNotFound
        | Code::LogDamaged
        | Code::StoreUnsafe
        | Code::ServerUnavailable
        | Code::ClockSkew => StatusCode::SERVICE_UNAVAILABLE,
        // Whom nobody hears: only a program that embeds the engine cancels and stays.
        Code::Cancelled
        | Code::VersionTimeout
        | Code::RequestTimeout
        | Code::ReplicationTimeout => StatusCode::GATEWAY_TIMEOUT,
        Code::AddressUnavailable | Code::ResourcesExhausted | Code::UnexpectedAnswer => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        Code::NewerFormat | Code::Corrupt | Code::RuntimeUnsuitable | Code::Internal => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// Whether answers with this code always say when to retry.
fn retries(code: Code) -> bool {
    matches!(
        code,
        Code::Backpressure | Code::Overloaded | Code::ShuttingDown | Code::StoreUnavailable
    )
}

/// An error on its way to the client.
#[derive(Debug)]
pub struct ApiError(pub Error);

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        ApiError(error)
    }
}

/// Marks a response whose body already has the JSON form of an error.
#[derive(Debug, Clone, Copy)]
pub struct Told(pub Code);

/// The body of every answer that is not a success.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody<'a> {
    /// What went wrong.
    #[serde(borrow)]
    pub error: ErrorFields<'a>,
}

/// What went wrong, for programs (`code`, `details`) and for people (`message`).
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorFields<'a> {
    /// The stable reason; docs/errors.md lists all of them.
    #[schema(example = "dimension_mismatch")]
    pub code: &'a str,
    /// A sentence that says what to do next; it may change between releases.
    pub message: &'a str,
    /// Values that a program may want to act on, in camelCase; empty where there are none.
    #[schema(value_type = Object)]
    pub details: &'a Map<String, Value>,
}

impl ApiError {
    /// The body of the answer.
    pub fn body(&self) -> Vec<u8> {
        let error = &self.0;
        let body = ErrorBody {
            error: ErrorFields {
                code: error.code().name(),
                message: error.message(),
                details: error.details(),
            },
        };
        // A map of JSON values always serialises.
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let bytes = self.body();
        let error = self.0;
        let status = status(error.code());
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(code = error.code().name(), source, "{}", error.message());
        }
        let mut response = Response::new(Body::from(bytes));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, super::JSON);
        let after = match error.retry_after() {
            Some(ms) => Some(ms.div_ceil(1_000).max(1)),
            None => retries(error.code()).then_some(RETRY_AFTER_SECONDS_DEFAULT),
        };
        if let Some(seconds) = after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(Told(error.code()));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_documented_table_is_complete_and_right() {
        let page = include_str!("../../docs/errors.md");
        let documented: BTreeMap<&str, u16> = page
            .lines()
            .filter_map(|line| {
                let mut cells = line.split('|').map(str::trim).skip(1);
                let code = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
                Some((code, cells.next()?.parse().ok()?))
            })
            .collect();
        let actual: BTreeMap<&str, u16> =
            Code::ALL.iter().map(|code| (code.name(), status(*code).as_u16())).collect();
        assert_eq!(documented, actual);
    }

    #[test]
    fn retry_after_is_in_whole_seconds_and_never_zero() {
        let after = |error: Error| {
            let response = ApiError(error).into_response();
            response.headers().get(header::RETRY_AFTER).cloned()
        };
        let full = || Error::new(Code::Backpressure, "the queue is full");
        assert_eq!(after(full().retry_after_ms(1_001)).unwrap(), "2");
        assert_eq!(after(full().retry_after_ms(1)).unwrap(), "1");
        assert_eq!(after(full()).unwrap(), "1");
        assert_eq!(after(Error::invalid("no")), None);
    }
}
