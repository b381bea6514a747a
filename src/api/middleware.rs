//! What happens to every request around its handler.
//!
//! From the outside in: request id, observation (span, metrics, traffic, the JSON form of errors
//! that layers raise), the door (which pages may ask, and by which name), panics, compression of answers; then for `/v1` only load shedding, the time
//! limit (not for import and export) and decompression of bodies. The size limit of a body is the
//! extractor's, because it counts what decompression yields.

pub mod door;
mod flight;
mod ids;
pub mod unpack;

use self::door::Door;
use crate::api::error::{ApiError, Told};
use crate::api::openapi::Queries;
use crate::base::env::Env;
use crate::base::metrics::{HttpLabels, RouteLabels};
use crate::base::{Code, Error};
use axum::Router;
use axum::body::Body;
use axum::error_handling::HandleErrorLayer;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower::util::{MapRequestLayer, option_layer};
use tower::{BoxError, ServiceBuilder};
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;
use tower_http::request_id::{
    MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer,
};
use tower_http::timeout::{RequestBodyTimeoutLayer, TimeoutBody, TimeoutLayer};
use tracing::Instrument;
use tracing::field::Empty;
use url::form_urlencoded;

/// Answers of at least this many bytes are compressed where the client accepts it.
const COMPRESS_BYTES_MIN: u64 = 1_024;
/// The metrics' label for a path that is no route: never the path itself, of which there is no end.
const NO_ROUTE: &str = "unmatched";

/// What the outer layers need to know.
#[derive(Clone)]
pub struct Observer(Arc<Observed>);

struct Observed {
    env: Env,
    timeout_ms: u64,
}

impl Observer {
    /// Observes into the metrics of `env`.
    pub fn new(env: Env, timeout_ms: u64) -> Self {
        Observer(Arc::new(Observed { env, timeout_ms }))
    }
}

impl MakeRequestId for Observer {
    fn make_request_id<B>(&mut self, _: &axum::http::Request<B>) -> Option<RequestId> {
        HeaderValue::try_from(self.0.env.record_id()).ok().map(RequestId::new)
    }
}

/// Wraps all routes.
pub fn outer(router: Router, observer: Observer, door: Door) -> Router {
    let compression = CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(COMPRESS_BYTES_MIN));
    router.layer(
        ServiceBuilder::new()
            .layer(from_fn(ids::vet))
            .layer(SetRequestIdLayer::x_request_id(observer.clone()))
            .layer(PropagateRequestIdLayer::x_request_id())
            .layer(from_fn_with_state(observer, observe))
            .layer(option_layer(door.cors()))
            .layer(from_fn_with_state(door, door::guard))
            .layer(compression)
            .layer(CatchPanicLayer::custom(panicked)),
    )
}

/// Refuses query parameters that a call does not take, whether it takes any or none: one that is misspelt would
/// be passed over in silence. The description of the API says what each takes. Health and metrics are left
/// out, whose callers cannot always choose.
pub fn known_queries(router: Router, queries: Arc<Queries>) -> Router {
    router.layer(from_fn(move |request: Request, next: Next| {
        let unknown = unknown_parameter(&request, &queries);
        async move {
            match unknown {
                Some(error) => ApiError(error).into_response(),
                None => next.run(request).await,
            }
        }
    }))
}

fn unknown_parameter(request: &Request, queries: &Queries) -> Option<Error> {
    let query = request.uri().query()?;
    let path = request.extensions().get::<MatchedPath>()?.as_str();
    if !["/v1/", "/cluster/"].iter().any(|start| path.starts_with(start)) {
        return None;
    }
    let known = queries.get(&(path.to_owned(), request.method().clone()));
    // A path that another one hides is described under that, with its own method.
    if known.is_none() && *request.method() != Method::GET {
        return None;
    }
    let mut names = form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name);
    let unknown = names.find(|name| !known.is_some_and(|known| known.contains(&**name)))?;
    let known: Vec<&str> = known.into_iter().flatten().map(String::as_str).collect();
    let takes = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let shown: String = unknown.chars().take(80).collect();
    Some(Error::invalid(format!(
        "the query string is not valid: there is no parameter {shown:?}; this call takes {takes}"
    )))
}

/// Bounds how long a request may take.
pub fn timed<S: Clone + Send + Sync + 'static>(router: Router<S>, limit: Duration) -> Router<S> {
    router.layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, limit))
}

/// Bounds how many requests are in flight, over all routes that it guards, and for how long the body of
/// one may stand still. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Gate {
    permits: Arc<Semaphore>,
    /// Of those that last as long as their clients like; the others always find room beside them.
    streams: Arc<Semaphore>,
    body_idle: Duration,
    /// When a request ended last.
    ended: watch::Sender<Instant>,
}

impl Gate {
    /// Lets `limit` requests in at a time, half of them streams at most, and turns the others away at once.
    pub fn new(limit: usize, body_idle: Duration) -> Self {
        let permits = limit.clamp(1, Semaphore::MAX_PERMITS);
        Gate {
            permits: Arc::new(Semaphore::new(permits)),
            streams: Arc::new(Semaphore::new(permits.div_ceil(2))),
            body_idle,
            ended: watch::Sender::new(Instant::now()),
        }
    }

    /// For how long no request has got through because all that are let in stand still, where they do.
    pub fn stuck(&self) -> Option<Duration> {
        (self.permits.available_permits() == 0).then(|| self.ended.borrow().elapsed())
    }

    /// Puts the gate, and behind it decompression of bodies, in front of the routes.
    pub fn guard<S: Clone + Send + Sync + 'static>(&self, router: Router<S>) -> Router<S> {
        let ended = self.ended.clone();
        let note = move |request: Request, next: Next| {
            let ended = ended.clone();
            async move {
                let answer = next.run(request).await;
                ended.send_replace(Instant::now());
                answer
            }
        };
        router.layer(
            ServiceBuilder::new()
                .layer(HandleErrorLayer::new(shed))
                .layer(LoadShedLayer::new())
                .layer(GlobalConcurrencyLimitLayer::with_semaphore(self.permits.clone()))
                .layer(from_fn(note))
                .layer(RequestBodyTimeoutLayer::new(self.body_idle))
                .layer(MapRequestLayer::new(|request: axum::http::Request<TimeoutBody<Body>>| {
                    request.map(Body::new)
                }))
                .layer(from_fn(unpack::unpack)),
        )
    }

    /// Keeps routes that last as long as their clients like to their share.
    pub fn share<S: Clone + Send + Sync + 'static>(&self, router: Router<S>) -> Router<S> {
        router.layer(
            ServiceBuilder::new()
                .layer(HandleErrorLayer::new(shed))
                .layer(LoadShedLayer::new())
                .layer(GlobalConcurrencyLimitLayer::with_semaphore(self.streams.clone())),
        )
    }
}

async fn shed(_: BoxError) -> ApiError {
    ApiError(Error::new(
        Code::Overloaded,
        "this instance is answering as many requests of this kind as it takes; retry later or ask another \
         instance",
    ))
}

fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = (panic.downcast_ref::<String>().map(String::as_str))
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(panic = text, "a request panicked");
    ApiError(Error::internal("this request met a defect; please report it with the request id"))
        .into_response()
}

/// The method as a label; methods that HTTP does not name share one.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "OTHER",
    }
}

async fn observe(State(observer): State<Observer>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let under_way = flight::UnderWay::begin(observer.0.env.metrics.clone());
    let method = request.method().clone();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    let path = matched.is_none().then(|| request.uri().path().to_owned());
    let id = request.extensions().get::<RequestId>().cloned();
    let id = id.as_ref().and_then(|id| id.header_value().to_str().ok()).unwrap_or_default();
    // The fields with `otel` are what OpenTelemetry calls and colours the span by.
    let span = tracing::debug_span!(
        "request", id, method = method.as_str(), route, status = Empty,
        otel.name = %format_args!("{method} {route}"), otel.kind = "server", otel.status_code = Empty
    );

    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status();
    span.record("status", status.as_u16());
    let mut failed = status.is_server_error();
    if failed || status.is_client_error() {
        // Answers of our own are JSON already: errors, and health that is not good.
        let kind = response.headers().get(header::CONTENT_TYPE);
        if kind.is_none_or(|kind| kind != "application/json") {
            let path = path.as_deref().unwrap_or(route);
            response = told(response, &method, path, observer.0.timeout_ms);
        }
        let code = response.extensions().get::<Told>().map(|told| told.0);
        // How long to wait for a version is the client's choice: no failure of this instance.
        failed &= code != Some(Code::VersionTimeout);
        let (code, status) = (code.map(Code::name), status.as_u16());
        let (method, took_ms) = (method.as_str(), start.elapsed().as_millis());
        if failed {
            span.record("otel.status_code", "ERROR");
            tracing::warn!(parent: &span, id, method, route, status, code, took_ms, "failed");
        } else {
            tracing::debug!(parent: &span, id, method, route, status, code, took_ms, "refused");
        }
    }
    let took = start.elapsed();
    let metrics = &observer.0.env.metrics;
    let (route_label, method) = (route.to_owned(), method_label(&method));
    let times = RouteLabels { route: route_label.clone(), method };
    let labels = HttpLabels { route: route_label, method, status: status.as_u16() };
    metrics.http_requests.get_or_create(&labels).inc();
    metrics.http_seconds.get_or_create(&times).observe(took.as_secs_f64());
    if route.starts_with("/v1/") {
        metrics.traffic.record(took, failed);
    }
    flight::until_sent(response, under_way)
}

/// Gives an error of a layer or of the router our JSON form.
fn told(response: Response, method: &Method, path: &str, timeout_ms: u64) -> Response {
    let error = match response.status() {
        StatusCode::NOT_FOUND => Error::new(
            Code::RouteNotFound,
            format!("there is no route {method} {path}; /docs lists the routes"),
        ),
        StatusCode::METHOD_NOT_ALLOWED => Error::new(
            Code::MethodNotAllowed,
            format!("{path} does not take {method}; the header allow names what it takes"),
        ),
        StatusCode::GATEWAY_TIMEOUT => timed_out(method, path, timeout_ms),
        StatusCode::PAYLOAD_TOO_LARGE => {
            Error::new(Code::PayloadTooLarge, "the body is too large; send less at a time")
        }
        status if status.is_client_error() => {
            Error::invalid(format!("the request could not be read ({status})"))
        }
        status => Error::internal(format!("the request failed with {status}; please report it")),
    };
    let status = response.status();
    let mut told = ApiError(error).into_response();
    *told.status_mut() = status;
    if let Some(value) = response.headers().get(header::ALLOW) {
        told.headers_mut().insert(header::ALLOW, value.clone());
    }
    told
}

fn timed_out(method: &Method, path: &str, timeout_ms: u64) -> Error {
    let error = Error::new(
        Code::RequestTimeout,
        format!(
            "the request took longer than request_timeout_ms ({timeout_ms}); retry, or send less at \
             a time"
        ),
    );
    let writes = method == Method::DELETE
        || (method == Method::POST
            && ["/collections", "/vectors", "/vectors/delete"]
                .iter()
                .any(|end| path.ends_with(end)));
    error.ambiguous_if(writes)
}

#[cfg(test)]
mod tests;
