//! Calls that stream a whole collection in or out, in constant memory.

use crate::api::extract::{InCollection, Query, check_type};
use crate::api::memory::broken_body;
use crate::api::middleware::unpack::{DECODER_BYTES, Unpacked};
use crate::api::types::records::{ExportQuery, ImportBody, ImportFaultBody};
use crate::api::{Reply, Shared, json};
use crate::base::Error;
use crate::engine::model::ImportReport;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use futures::StreamExt;
use serde_json::json;

const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");
const PARTIAL: HeaderName = HeaderName::from_static("x-brainy-partial");
const VERSION: HeaderName = HeaderName::from_static("x-brainy-version");

/// What an import may say that it is.
const IMPORT_TYPES: &[&str] = &[
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonlines",
    "application/json",
    "application/octet-stream",
];

/// Export all records as NDJSON
///
/// One record a line, ordered by id, all at the version that the header `x-brainy-version` names.
/// An export that fails on the way ends without the end of the chunked body, which clients see as
/// a cut connection.
#[utoipa::path(get, path = "/v1/collections/{collection}/export", tag = "transfer",
    operation_id = "exportCollection",
    params(InCollection, ExportQuery),
    responses((status = 200, description = "One record a line", body = String,
        content_type = "application/x-ndjson",
        headers(("x-brainy-version" = u64, description = "The version that is exported"),
            ("x-brainy-partial" = String,
                description = "`true` where records are left out because objects are damaged")))))]
pub async fn export(
    State(app): State<Shared>,
    InCollection(name): InCollection,
    Query(query): Query<ExportQuery>,
) -> Reply {
    let export = app.brainy.export(&name, query.include_vector).await?;
    // Compression asks again after the end, which a stream need not survive.
    let lines = export.lines.fuse().inspect(|piece| {
        if let Err(error) = piece {
            tracing::error!(code = error.code().name(), "an export was cut: {}", error.message());
        }
    });
    let headers = [(header::CONTENT_TYPE, NDJSON), (VERSION, HeaderValue::from(export.version.0))];
    let mut response = (headers, Body::from_stream(lines)).into_response();
    if export.partial.is_some() {
        response.headers_mut().insert(PARTIAL, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Import NDJSON, of any size
///
/// One record a line, in the form of the records of an upsert. Lines that are not valid are
/// counted and the first 100 of them reported; where no line is valid, that is `invalid_request` and nothing
/// is stored or created. Of several lines with one id the last one stays. A body that ends early stores the
/// complete lines that arrived and answers `invalid_request` with `details.imported`.
#[utoipa::path(post, path = "/v1/collections/{collection}/import", tag = "transfer",
    operation_id = "importCollection",
    params(InCollection),
    request_body(content = String, content_type = "application/x-ndjson"),
    responses((status = 200, body = ImportBody)))]
pub async fn import(
    State(app): State<Shared>,
    InCollection(name): InCollection,
    request: Request,
) -> Reply {
    check_type(request.headers(), IMPORT_TYPES)?;
    // What reaches back in a body without end is all in memory at some time.
    let mut decoder = app.brainy.request_memory().bodies.reserve();
    if request.extensions().get::<Unpacked>().is_some() {
        decoder.cover_in_turn(DECODER_BYTES).await?;
    }
    let body = request.into_body().into_data_stream();
    let pieces = body.map(|piece| piece.map_err(|error| broken_body(&error))).boxed();
    let report = app.brainy.import(&name, pieces).await?;
    if report.imported == 0 && report.failed > 0 {
        return Err(nothing_stored(&report).into());
    }
    let body = ImportBody {
        imported: report.imported,
        failed: report.failed,
        created: report.created,
        version: report.version.0,
        errors: faults(&report),
    };
    json(StatusCode::OK, &body)
}

fn faults(report: &ImportReport) -> Vec<ImportFaultBody<'_>> {
    let faults = report.errors.iter().map(|fault| ImportFaultBody {
        line: fault.line,
        code: fault.code,
        message: &fault.message,
    });
    faults.collect()
}

/// The error for an import of which no line was stored.
fn nothing_stored(report: &ImportReport) -> Error {
    let lines = report.failed;
    let what = match report.given_up {
        true => format!("none of the first {lines} lines is a record, so the rest was not read"),
        false => format!("none of the {lines} lines was stored"),
    };
    let first = report.errors.first();
    let first = first.map_or_else(String::new, |fault| {
        format!("; line {}: {} ({})", fault.line, fault.message, fault.code)
    });
    Error::invalid(format!("{what}{first}"))
        .with("imported", 0)
        .with("failed", lines)
        .with("errors", json!(faults(report)))
}
