//! The description of the API: generated from the handlers, completed here with what all share.

use crate::api::JSON;
use crate::api::error::{ErrorBody, status};
use crate::base::{Code, Error, Result};
use axum::Router;
use axum::http::{Method, header};
use axum::routing;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use utoipa::openapi::path::{HttpMethod, Operation, ParameterIn};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder};
use utoipa_swagger_ui::{Config, SwaggerUi};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Brainy",
        description = "A vector store whose only shared infrastructure is one object-storage \
                       bucket. Field names are camelCase, times are RFC 3339 UTC, durations carry \
                       their unit in the name. Every failure has the form of ErrorBody."
    ),
    components(schemas(ErrorBody)),
    tags(
        (name = "collections", description = "Create, describe and delete collections"),
        (name = "vectors", description = "Write, read and delete records"),
        (name = "search", description = "Find the closest records"),
        (name = "transfer", description = "Move whole collections"),
        (name = "operations", description = "Health and counters"),
        (name = "cluster", description = "See and steer the instances")
    )
)]
struct Base;

/// What is known before any route.
pub fn base() -> OpenApi {
    <Base as utoipa::OpenApi>::openapi()
}

/// The names of the query parameters of each call, by its path and method.
pub type Queries = HashMap<(String, Method), BTreeSet<String>>;

/// What each call takes in its query string.
pub fn queries(api: &OpenApi) -> Queries {
    let mut queries = Queries::new();
    for (path, item) in &api.paths.paths {
        let operations = [
            (Method::GET, &item.get),
            (Method::POST, &item.post),
            (Method::PUT, &item.put),
            (Method::DELETE, &item.delete),
        ];
        for (method, operation) in operations {
            let Some(operation) = operation else { continue };
            let parameters = operation.parameters.iter().flatten();
            let names = parameters.filter_map(|parameter| match parameter {
                RefOr::T(it) if it.parameter_in == ParameterIn::Query => Some(it.name.clone()),
                _ => None,
            });
            queries.insert((path.clone(), method), names.collect());
        }
    }
    queries
}

/// Adds to every call the failures that it may answer with.
pub fn complete(api: &mut OpenApi) {
    for (path, item) in &mut api.paths.paths {
        let operations = [
            (HttpMethod::Get, item.get.as_mut()),
            (HttpMethod::Post, item.post.as_mut()),
            (HttpMethod::Put, item.put.as_mut()),
            (HttpMethod::Delete, item.delete.as_mut()),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                describe_successes(operation);
                add_failures(operation, path, &method);
            }
        }
    }
}

/// OpenAPI wants a description of every response; mostly the call's summary says it all.
fn describe_successes(operation: &mut Operation) {
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            response.description = operation.summary.clone().unwrap_or_default();
        }
    }
}

fn add_failures(operation: &mut Operation, path: &str, method: &HttpMethod) {
    let has_body = operation.request_body.is_some();
    let mut by_status: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for code in Code::ALL {
        if may_answer(*code, path, method, has_body) {
            by_status.entry(status(*code).as_u16()).or_default().push(code.name());
        }
    }
    for (status, codes) in by_status {
        let response =
            ResponseBuilder::new().description(format!("`{}`", codes.join("`, `"))).content(
                "application/json",
                ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build(),
            );
        let responses = &mut operation.responses.responses;
        responses.entry(status.to_string()).or_insert(RefOr::T(response.build()));
    }
}

/// Whether a call may fail with a code.
fn may_answer(code: Code, path: &str, method: &HttpMethod, has_body: bool) -> bool {
    if !path.starts_with("/v1/") {
        let in_cluster = path.starts_with("/cluster/");
        let refused = code == Code::OriginNotAllowed && *method != HttpMethod::Get
            || code == Code::HostNotAllowed;
        return code == Code::Internal
            || refused
            || in_cluster && may_refuse(code, path, method, has_body);
    }
    let writes = *method == HttpMethod::Delete
        || (*method == HttpMethod::Post
            && ["/collections", "/vectors", "/vectors/delete", "/import", "/compact", "/reshard"]
                .iter()
                .any(|end| path.ends_with(end)));
    let reworks = path.ends_with("/compact") || path.ends_with("/reshard");
    let upserts = writes && path.ends_with("/vectors");
    let in_collection = path.contains("{collection}");
    match code {
        Code::RouteNotFound | Code::MethodNotAllowed | Code::InvalidSettings => false,
        // At start, in commands, in programs, and of the cluster.
        Code::AddressUnavailable
        | Code::ResourcesExhausted
        | Code::ServerUnavailable
        | Code::UnexpectedAnswer
        | Code::RuntimeUnsuitable
        | Code::LastWriter => false,
        Code::OriginNotAllowed => *method != HttpMethod::Get,
        // Also where an instance does not have the collection's partitioner.
        Code::SettingsConflict => match *method {
            HttpMethod::Delete => false,
            _ => in_collection || writes,
        },
        Code::ReadOnlyInstance => writes,
        Code::Backpressure => writes && !reworks,
        Code::WriteOnlyInstance => !writes || path.ends_with("/vectors/delete"),
        Code::VersionTimeout => path.contains("/search"),
        Code::PayloadTooLarge => has_body && !path.ends_with("/import"),
        Code::UnsupportedMediaType | Code::BodyTimeout => has_body,
        Code::CollectionNotFound => in_collection,
        Code::VectorNotFound => path.ends_with("/{id}") || path.contains("/search"),
        Code::DimensionMismatch | Code::InvalidVector => upserts || path.contains("/search"),
        Code::InvalidId => path.contains("/vectors") || path.contains("/search"),
        Code::InvalidMetadata => upserts,
        Code::InvalidFilter => path.contains("/search") || path.ends_with("/delete"),
        _ => true,
    }
}

/// Whether a call about the cluster may fail with a code, beside `internal`.
fn may_refuse(code: Code, path: &str, method: &HttpMethod, has_body: bool) -> bool {
    let reads = *method == HttpMethod::Get;
    let ends = |end: &str| path.ends_with(end);
    let (state, entry, node) = (path.starts_with("/cluster/state"), ends("/{key}"), "/{id}");
    let steers = path.contains(node) && !reads;
    let (joins, leaves, config, applied) =
        (ends("/join"), ends("/leave"), ends("/config"), ends("/applied"));
    match code {
        Code::InvalidRequest => state || applied || has_body,
        Code::PayloadTooLarge => has_body,
        Code::UnsupportedMediaType => has_body || joins || leaves,
        Code::NotAMember => !(state || applied || config || ends("/status")),
        Code::InstanceNotFound => path.contains(node),
        Code::InstanceAlive => steers && !has_body && !ends("/role"),
        Code::LastWriter => steers && ends("/role"),
        Code::InstanceIdInUse => joins,
        Code::SettingsConflict => joins || applied,
        Code::SharedConfigInvalid => steers || config,
        Code::Overloaded => steers || entry && !reads,
        Code::ShuttingDown => steers || joins || leaves,
        Code::StateNotFound => entry && reads,
        Code::PreconditionFailed => entry && !reads,
        Code::InvalidCollectionName
        | Code::CollectionNotFound
        | Code::WriteOnlyInstance
        | Code::VersionTimeout => applied,
        Code::StoreUnavailable | Code::StoreDenied | Code::StoreNotFound => {
            state || steers || joins || leaves || config || path.contains("/replication/")
        }
        _ => false,
    }
}

/// The description as JSON.
pub fn render(api: OpenApi) -> Result<String> {
    api.to_pretty_json()
        .map_err(|error| Error::internal("the description is not valid").caused_by(error))
}

/// `/openapi.json` and `/docs`.
pub fn pages(api: OpenApi) -> Router {
    // It was built from constants; a test renders it.
    let text = Bytes::from(render(api).unwrap_or_default());
    let document = routing::get(async move || ([(header::CONTENT_TYPE, JSON)], text));
    let ui =
        SwaggerUi::new("/docs").config(Config::new(["/openapi.json"]).try_it_out_enabled(true));
    Router::new().route("/openapi.json", document).merge(ui)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    fn description() -> Value {
        serde_json::from_str(&crate::api::openapi_json().unwrap()).unwrap()
    }

    #[test]
    fn every_call_of_the_contract_is_described_with_its_failures() {
        let api = description();
        let calls = [
            ("post", "/v1/collections", "409"),
            ("get", "/v1/collections", "400"),
            ("get", "/v1/collections/{collection}", "404"),
            ("delete", "/v1/collections/{collection}", "403"),
            ("get", "/v1/collections/{collection}/stats", "404"),
            ("get", "/v1/collections/{collection}/unnamed", "409"),
            ("post", "/v1/collections/{collection}/compact", "403"),
            ("post", "/v1/collections/{collection}/reshard", "415"),
            ("post", "/v1/collections/{collection}/vectors", "429"),
            ("get", "/v1/collections/{collection}/vectors", "403"),
            ("get", "/v1/collections/{collection}/vectors/{id}", "404"),
            ("post", "/v1/collections/{collection}/vectors/fetch", "413"),
            ("post", "/v1/collections/{collection}/vectors/delete", "415"),
            ("post", "/v1/collections/{collection}/search", "504"),
            ("post", "/v1/collections/{collection}/search/batch", "400"),
            ("post", "/v1/collections/{collection}/recall", "404"),
            ("post", "/v1/collections/{collection}/warm", "403"),
            ("get", "/v1/collections/{collection}/export", "503"),
            ("post", "/v1/collections/{collection}/import", "429"),
            ("get", "/health", "503"),
            ("get", "/health/live", "503"),
            ("get", "/health/ready", "503"),
            ("get", "/metrics", "200"),
            ("get", "/cluster/status", "200"),
            ("get", "/cluster/nodes", "409"),
            ("get", "/cluster/nodes/{id}", "404"),
            ("delete", "/cluster/nodes/{id}", "409"),
            ("post", "/cluster/nodes/{id}/role", "404"),
            ("delete", "/cluster/nodes/{id}/role", "409"),
            ("get", "/cluster/health", "409"),
            ("get", "/cluster/config", "503"),
            ("get", "/cluster/replication/stats", "409"),
            ("get", "/cluster/replication/applied", "504"),
            ("post", "/cluster/join", "415"),
            ("post", "/cluster/leave", "409"),
            ("get", "/cluster/state", "400"),
            ("get", "/cluster/state/{key}", "404"),
            ("put", "/cluster/state/{key}", "412"),
            ("delete", "/cluster/state/{key}", "412"),
        ];
        let mut described = 0;
        for item in api["paths"].as_object().unwrap().values() {
            described += item.as_object().unwrap().len();
        }
        assert_eq!(described, calls.len(), "a call is described that this test does not know");
        for (method, path, status) in calls {
            let call = &api["paths"][path][method];
            assert!(call["responses"][status].is_object(), "{method} {path} {status}: {call}");
            assert!(call["summary"].is_string() && call["operationId"].is_string(), "{call}");
            for parameter in path.split('{').skip(1).filter_map(|part| part.split('}').next()) {
                let named = call["parameters"].as_array().unwrap().iter();
                let mut named = named.filter(|p| p["in"] == "path" && p["name"] == parameter);
                assert!(named.next().is_some(), "{method} {path} does not describe {parameter}");
            }
        }
    }

    #[test]
    fn operation_ids_are_unique_and_references_lead_somewhere() {
        fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
            match value {
                Value::Object(map) => {
                    found.extend(map.get("$ref").and_then(Value::as_str));
                    map.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                _ => {}
            }
        }
        let api = description();
        let mut found = Vec::new();
        references(&api, &mut found);
        assert!(found.len() > 50);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(api.pointer(pointer).is_some(), "{reference}");
        }
        let items = api["paths"].as_object().unwrap().values();
        let mut ids: Vec<_> = items
            .flat_map(|item| item.as_object().unwrap().values())
            .map(|call| call["operationId"].as_str().unwrap())
            .collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all, "{ids:?}");
    }
}
