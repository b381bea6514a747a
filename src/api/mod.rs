//! What may a client ask over HTTP, and what does it get back?
//!
//! The only place that knows status codes and JSON names. A request passes the layers of [`middleware`] and an
//! extractor of [`extract`] that turns it into the engine's values (`types`); then one call of the engine's facade
//! answers it. The routes are listed in this file. Every failure, including one in a layer, has the JSON form of
//! [`error`], which also has the table from error codes to statuses and sets the headers.

mod cluster;
mod collections;
mod connections;
mod error;
mod extract;
mod health;
mod linger;
mod memory;
mod middleware;
mod openapi;
mod peers;
mod records;
mod search;
mod transfer;
mod types;

use self::middleware::door::Door;
use crate::api::connections::{ConnectionLimits, Connections};
use crate::base::request::RequestContext;
use crate::base::{Error, Result};
use crate::engine::Brainy;
use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use error::status;
pub use peers::HttpPeers;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What every handler may use.
struct App {
    brainy: Brainy,
    limits: types::Limits,
    health: health::Health,
    gate: middleware::Gate,
    /// Cancelled when the server stops taking requests.
    stopping: CancellationToken,
}

impl App {
    /// A request that comes in now, with what it may hold and until when it is of use.
    fn request(&self) -> RequestContext {
        let limit = Duration::from_millis(self.brainy.settings().request_timeout_ms);
        self.brainy.request(Some(Instant::now() + limit))
    }
}

type Shared = Arc<App>;

/// What a handler returns.
type Reply = Result<Response, error::ApiError>;

/// A JSON answer.
fn json(status: StatusCode, body: &impl Serialize) -> Reply {
    let bytes = serde_json::to_vec(body).map_err(|error| {
        Error::internal("an answer could not be written as JSON").caused_by(error)
    })?;
    Ok((status, [(header::CONTENT_TYPE, JSON)], bytes).into_response())
}

/// All routes of an instance.
pub fn router(brainy: Brainy) -> Router {
    build(brainy, CancellationToken::new(), None)
}

/// The OpenAPI description of all routes, as JSON.
pub fn openapi_json() -> Result<String> {
    let (_, description) = described();
    openapi::render(description)
}

/// Answers requests until `stop`. Then it is not ready, but goes on for `shutdown_delay_ms`, so that load
/// balancers find out; after that it takes no more, finishes what is in flight within
/// `shutdown_timeout_ms`, and returns.
pub async fn serve(brainy: Brainy, listener: TcpListener, stop: CancellationToken) -> Result<()> {
    let (env, settings) = (brainy.env().clone(), brainy.settings().clone());
    let router = build(brainy, stop.clone(), listener.local_addr().ok());
    let limits = ConnectionLimits::new(&settings);
    let connections = Connections::new(env, limits, stop.clone());
    let enough = CancellationToken::new();
    let known = async {
        stop.cancelled().await;
        tokio::time::sleep(Duration::from_millis(settings.shutdown_delay_ms)).await;
        enough.cancel();
    };
    tokio::join!(known, connections.accept(listener, &router, enough.clone()));
    let bound = Duration::from_millis(settings.shutdown_timeout_ms);
    if tokio::time::timeout(bound, connections.close()).await.is_err() {
        tracing::warn!(bound_ms = bound.as_millis(), "requests in flight were dropped");
    }
    Ok(())
}

/// The routes by how they are protected.
struct Routes {
    /// Bounded in time and number.
    data: OpenApiRouter<Shared>,
    /// Bounded in number only: they last as long as the client sends or takes, or the work is long.
    streams: OpenApiRouter<Shared>,
    /// Answered also by an instance that sheds load; bounded by the store's own limits.
    operations: OpenApiRouter<Shared>,
}

/// The routes and their description.
fn described() -> (Routes, utoipa::openapi::OpenApi) {
    let mut routes = Routes {
        data: OpenApiRouter::new()
            .routes(routes!(collections::create, collections::list))
            .routes(routes!(collections::get, collections::delete))
            .routes(routes!(collections::stats))
            .routes(routes!(collections::unnamed))
            .routes(routes!(records::upsert, records::list))
            .routes(routes!(records::get))
            .routes(routes!(records::fetch))
            .routes(routes!(records::delete))
            .routes(routes!(search::search))
            .routes(routes!(search::batch)),
        streams: OpenApiRouter::new()
            .routes(routes!(collections::compact))
            .routes(routes!(collections::reshard))
            .routes(routes!(search::recall))
            .routes(routes!(collections::warm))
            .routes(routes!(transfer::export))
            .routes(routes!(transfer::import)),
        operations: OpenApiRouter::new()
            .routes(routes!(health::report))
            .routes(routes!(health::live))
            .routes(routes!(health::ready))
            .routes(routes!(health::metrics))
            .routes(routes!(cluster::status))
            .routes(routes!(cluster::nodes))
            .routes(routes!(cluster::node, cluster::remove))
            .routes(routes!(cluster::set_role, cluster::clear_role))
            .routes(routes!(cluster::health))
            .routes(routes!(cluster::config))
            .routes(routes!(cluster::replication))
            .routes(routes!(cluster::applied))
            .routes(routes!(cluster::join))
            .routes(routes!(cluster::leave))
            .routes(routes!(cluster::state::list))
            .routes(routes!(cluster::state::get, cluster::state::put, cluster::state::delete)),
    };
    let mut description = openapi::base();
    for part in [&mut routes.data, &mut routes.streams, &mut routes.operations] {
        description.merge(part.to_openapi());
    }
    openapi::complete(&mut description);
    (routes, description)
}

fn build(brainy: Brainy, stopping: CancellationToken, address: Option<SocketAddr>) -> Router {
    let settings = brainy.settings().clone();
    let env = brainy.env().clone();
    let body_idle = Duration::from_millis(settings.body_idle_timeout_ms);
    let gate = middleware::Gate::new(settings.max_concurrent_requests, body_idle);
    let app = Arc::new(App {
        gate: gate.clone(),
        limits: types::Limits::from(&settings),
        health: health::Health::new(env.clock.now()),
        stopping,
        brainy,
    });
    let (routes, description) = described();
    let data = Router::from(routes.data).merge(records::shadowed_ids());
    let data = middleware::timed(data, Duration::from_millis(settings.request_timeout_ms));
    let gated = gate.guard(data.merge(gate.share(Router::from(routes.streams))));
    let router = gated.merge(Router::from(routes.operations)).with_state(app);
    let queries = Arc::new(openapi::queries(&description));
    let router = middleware::known_queries(router, queries).merge(openapi::pages(description));
    let door = Door::new(&settings, address);
    middleware::outer(router, middleware::Observer::new(env, settings.request_timeout_ms), door)
}
