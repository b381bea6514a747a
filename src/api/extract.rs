//! From an HTTP request to the engine's values, with faults that name where they are.
//!
//! A body is parsed twice at most: first at full speed, and only where that fails a second time to
//! learn the path of the fault. Large bodies are parsed on the compute pool, so that they do not
//! stall the threads that serve others.

use crate::api::error::ApiError;
use crate::api::types::{Decode, Limits};
use crate::api::{Shared, memory};
use crate::base::ids::CollectionName;
use crate::base::json::Object;
use crate::base::memory::Reservation;
use crate::base::{Code, Error, Result};
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_path_to_error::{Path, Segment};
use utoipa::IntoParams;

/// JSON of so many bytes counts for one: numbers are long, and become short.
const PARSED_PER_COPIED: usize = 4;

/// A JSON body, and the memory that it takes, which is given back when the request ends.
pub struct Input<T>(
    pub T,
    #[expect(dead_code, reason = "it is there to be dropped with the request")] pub Reservation,
);

impl<T: Decode> FromRequest<Shared> for Input<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        check_type(&parts.headers, &["application/json"])?;
        let limits = app.limits;
        check_length(&parts.headers, limits.body_bytes_max)?;
        let mut held = app.brainy.request_memory().bodies.reserve();
        let bytes = memory::read(body, limits.body_bytes_max, &mut held).await?;
        let (length, compute) = (bytes.len(), &app.brainy.env().compute);
        let parse = move || Ok::<_, Error>((decode(&bytes, &limits, &mut held)?, held));
        let (value, held) = compute.run_over(length / PARSED_PER_COPIED, parse).await??;
        Ok(Input(value, held))
    }
}

/// Refuses a body that says that it is too long before any of it is read.
fn check_length(headers: &HeaderMap, max: usize) -> Result<()> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    match declared.and_then(|text| text.parse::<usize>().ok()) {
        Some(declared) if declared > max => Err(memory::too_large(max)),
        _ => Ok(()),
    }
}

/// What `curl -d` and scripts send where nobody said what the body is.
const UNSAID: [&str; 2] = ["", "application/x-www-form-urlencoded"];

/// Refuses bodies that say that they are something else. A body whose type nobody said is taken
/// for what is expected, unless it comes from a web page (`Origin`): what a browser sends to
/// another site without asking must never be a write.
pub fn check_type(headers: &HeaderMap, accepted: &[&str]) -> Result<()> {
    let value = headers.get(header::CONTENT_TYPE);
    let text = value.map_or("", |value| value.to_str().unwrap_or("?"));
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let unsaid = UNSAID.contains(&essence.as_str()) && !headers.contains_key(header::ORIGIN);
    if accepted.contains(&essence.as_str()) || unsaid {
        return Ok(());
    }
    let shown: String = text.chars().take(80).collect();
    Err(Error::new(
        Code::UnsupportedMediaType,
        format!("the content-type {shown:?} is not supported; send {}", accepted[0]),
    )
    .with("accepted", accepted))
}

fn decode<T: Decode>(bytes: &[u8], limits: &Limits, held: &mut Reservation) -> Result<T> {
    // Some editors put a mark in front of UTF-8, which RFC 8259 lets us pass over.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match serde_json::from_slice::<Object<T::Wire<'_>>>(bytes) {
        Ok(Object(wire)) => {
            held.cover(held.bytes().saturating_add(T::more_bytes(&wire)))?;
            T::decode(wire, limits)
        }
        Err(error) => Err(explain::<T>(bytes, error)),
    }
}

/// Says where a body is wrong.
fn explain<T: Decode>(bytes: &[u8], error: serde_json::Error) -> Error {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Error::invalid("the body is empty; send a JSON object");
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let fault = match serde_path_to_error::deserialize::<_, Object<T::Wire<'_>>>(&mut json) {
        Err(fault) => fault,
        // The value itself is right, so something follows it.
        Ok(_) => return Error::invalid(format!("the body is not one JSON value: {error}")),
    };
    let path = fault.path().clone();
    let shown = path.to_string();
    let code = if in_vector(&path) && is_number_fault(bytes, fault.inner()) {
        Code::InvalidVector
    } else {
        Code::InvalidRequest
    };
    let place = if shown == "." { "the body".to_owned() } else { shown.clone() };
    let error = Error::new(code, format!("{place}: {}", fault.inner())).with("path", shown);
    match path.iter().find_map(index) {
        Some(at) => {
            let error = error.with("index", at);
            match id_of(bytes, at) {
                Some(id) => error.with("id", id),
                None => error,
            }
        }
        None => error,
    }
}

fn index(segment: &Segment) -> Option<usize> {
    match segment {
        Segment::Seq { index } => Some(*index),
        _ => None,
    }
}

/// Whether the fault is inside a vector. Metadata and filters are not parsed by then, so a field
/// of theirs cannot be meant.
fn in_vector(path: &Path) -> bool {
    path.iter().any(|segment| matches!(segment, Segment::Map { key } if key == "vector"))
}

/// Whether a vector holds something that is not a finite number, as opposed to broken JSON. Some
/// clients write NaN and Infinity, which JSON does not have.
fn is_number_fault(bytes: &[u8], error: &serde_json::Error) -> bool {
    if error.is_data() || error.to_string().starts_with("number out of range") {
        return true;
    }
    let line_start = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .take(error.line().saturating_sub(1))
        .map(<[u8]>::len)
        .sum::<usize>();
    let at = line_start + error.column();
    let near = at.saturating_sub(3)..=at;
    near.filter_map(|start| bytes.get(start..)).any(|rest| {
        ["NaN", "nan", "Inf", "inf"].iter().any(|word| rest.starts_with(word.as_bytes()))
    })
}

/// The id of the record at `at`, for the error's details.
fn id_of(bytes: &[u8], at: usize) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        vectors: Vec<Named>,
    }
    #[derive(Deserialize)]
    struct Named {
        #[serde(default)]
        id: Option<String>,
        #[serde(flatten)]
        _rest: std::collections::BTreeMap<String, IgnoredAny>,
    }
    let body: Body = serde_json::from_slice(bytes).ok()?;
    body.vectors.into_iter().nth(at)?.id
}

/// The query string.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, ApiError> {
        match axum::extract::Query::<T>::from_request_parts(parts, app).await {
            Ok(axum::extract::Query(value)) => Ok(Query(value)),
            Err(QueryRejection::FailedToDeserializeQueryString(error)) => {
                let reason = error.body_text();
                Err(Error::invalid(format!("the query string is not valid: {reason}")).into())
            }
            Err(_) => Err(Error::invalid("the query string is not valid").into()),
        }
    }
}

/// The collection that a path names.
#[derive(IntoParams)]
#[into_params(parameter_in = Path, names("collection"))]
pub struct InCollection(
    /// The collection's name.
    #[param(pattern = "^[a-z0-9][a-z0-9_-]{0,62}$", value_type = String, example = "articles")]
    pub CollectionName,
);

impl FromRequestParts<Shared> for InCollection {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, ApiError> {
        let name = parameter(parts, app, "collection").await?;
        Ok(InCollection(CollectionName::new(name)?))
    }
}

/// What a path names by one of its segments; percent-decoded, so that it may hold any character.
macro_rules! named {
    ($(#[doc = $doc:literal] $name:ident, $parameter:tt, #[doc = $inner:literal] ($($rule:tt)*);)*) => {$(
        #[doc = $doc]
        #[derive(IntoParams)]
        #[into_params(parameter_in = Path, names($parameter))]
        pub struct $name(
            #[doc = $inner]
            #[param($($rule)*)]
            pub String,
        );

        impl FromRequestParts<Shared> for $name {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, ApiError> {
                Ok($name(parameter(parts, app, $parameter).await?))
            }
        }
    )*};
}

named! {
    /// The record that a path names.
    RecordId, "id",
        /// The record's id, percent-encoded (`/` as `%2F`).
        (min_length = 1, max_length = 512, example = "doc-1");
    /// The instance that a path names.
    NodeId, "id",
        /// The instance's id.
        (min_length = 1, max_length = 128, example = "reader-01");
    /// The entry of the shared state that a path names.
    StateKey, "key",
        /// The entry's key, percent-encoded (`/` as `%2F`).
        (pattern = "^[A-Za-z0-9._/-]{1,256}$", example = "jobs%2Fnightly");
}

async fn parameter(parts: &mut Parts, app: &Shared, name: &str) -> Result<String> {
    let all = RawPathParams::from_request_parts(parts, app).await.map_err(|_| {
        Error::invalid("the path is not UTF-8; percent-encode the bytes of its UTF-8 form")
    })?;
    match all.iter().find(|(key, _)| *key == name) {
        Some((_, value)) => Ok(value.to_owned()),
        None => Err(Error::internal(format!("the route has no parameter {name}"))),
    }
}

#[cfg(test)]
mod tests;
