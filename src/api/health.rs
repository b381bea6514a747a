//! Is this instance alive, ready, healthy?
//!
//! `live` asks the process only: an orchestrator restarts what is not alive, and no restart cures
//! an unreachable store. `ready` asks the store as well: a load balancer leaves out what is not
//! ready. The store is asked at most once every few seconds, however many ask for health.

use crate::api::types::health::{HealthBody, HealthMetrics, HealthStatus, LiveBody};
use crate::api::{App, Reply, Shared, json};
use crate::base::metrics::TextFormat;
use crate::base::{Error, Timestamp};
use crate::engine::node::condition::Condition;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::time::Duration;
use tokio::time::Instant;

/// How long an answer of the store is believed.
const STORE_CHECK_INTERVAL: Duration = Duration::from_secs(3);
/// How long the store may take to answer.
const STORE_CHECK_LIMIT: Duration = Duration::from_secs(2);
/// How long nothing may get through before clients are sent elsewhere.
const STUCK_MAX: Duration = Duration::from_secs(5);
/// Share of failed requests from which people should look.
const FAILURE_SHARE_WARNING: f64 = 0.05;
/// Fewer requests than this say nothing about a share.
const FAILURE_REQUESTS_MIN: u64 = 20;

/// What is kept between questions.
#[derive(Debug)]
pub struct Health {
    start_time: Timestamp,
    started: Instant,
    /// When the store was asked last, and what was wrong with it. Who holds the lock asks; others
    /// that come meanwhile wait for the same answer.
    store: tokio::sync::Mutex<Option<(Instant, Option<String>)>>,
}

impl Health {
    /// Health of an instance that starts now, at `start_time` by the wall clock.
    pub fn new(start_time: Timestamp) -> Self {
        Health { start_time, started: Instant::now(), store: tokio::sync::Mutex::new(None) }
    }

    /// Since when and for how many seconds the instance has been running.
    pub fn running(&self) -> (Timestamp, f64) {
        (self.start_time, self.started.elapsed().as_secs_f64())
    }

    /// What is wrong with the store, by an answer that is a few seconds old at most.
    async fn store_fault<F>(&self, check: impl FnOnce() -> F) -> Option<String>
    where
        F: Future<Output = Result<(), Error>>,
    {
        let mut last = self.store.lock().await;
        if let Some((asked, fault)) = &*last
            && asked.elapsed() < STORE_CHECK_INTERVAL
        {
            return fault.clone();
        }
        let fault = match tokio::time::timeout(STORE_CHECK_LIMIT, check()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("the store fails: {error}")),
            Err(_) => Some(format!(
                "the store did not answer within {} ms",
                STORE_CHECK_LIMIT.as_millis()
            )),
        };
        *last = Some((Instant::now(), fault.clone()));
        fault
    }
}

impl App {
    fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled() || self.brainy.env().tasks.stopping().is_cancelled()
    }

    /// What is wrong with the store, as this instance sees it.
    pub async fn store_fault(&self) -> Option<String> {
        self.health.store_fault(|| self.brainy.check_store()).await
    }

    /// Why this instance should get no requests.
    async fn not_ready(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.is_stopping() {
            faults.push("this instance is shutting down".to_owned());
        }
        if let Some(stuck) = self.gate.stuck().filter(|stuck| *stuck >= STUCK_MAX) {
            let seconds = stuck.as_secs();
            faults.push(format!(
                "as many requests as max_concurrent_requests are in flight, and none has ended for {seconds} s; \
                 see what they wait for, or ask another instance"
            ));
        }
        faults.extend(self.store_fault().await);
        faults
    }

    fn live_body(&self, good: &'static str, bad: &'static str, warnings: Vec<String>) -> Reply {
        let (code, status) = match warnings.is_empty() {
            true => (StatusCode::OK, good),
            false => (StatusCode::SERVICE_UNAVAILABLE, bad),
        };
        let member = self.brainy.cluster().member();
        let session = member.as_ref().map(|member| &**member.session());
        let instance_id = self.brainy.instance_id();
        json(code, &LiveBody { status, instance_id, session, warnings })
    }
}

/// Whether the process runs
///
/// 503 once a background task has panicked, or another process took over the instance's name: restart
/// the instance.
#[utoipa::path(get, path = "/health/live", tag = "operations",
    operation_id = "getLiveness",
    responses((status = 200, body = LiveBody), (status = 503, body = LiveBody)))]
pub async fn live(State(app): State<Shared>) -> Reply {
    app.live_body("alive", "failed", app.brainy.cluster().fatal())
}

/// Whether the instance should get requests
///
/// 503 while the store does not answer and once the instance is shutting down. An instance that is
/// only degraded is ready: half an answer is better than none.
#[utoipa::path(get, path = "/health/ready", tag = "operations",
    operation_id = "getReadiness",
    responses((status = 200, body = LiveBody), (status = 503, body = LiveBody)))]
pub async fn ready(State(app): State<Shared>) -> Reply {
    let mut warnings = app.not_ready().await;
    warnings.extend(app.brainy.cluster().fatal());
    app.live_body("ready", "not ready", warnings)
}

/// Health, with figures for people
///
/// 200 healthy; 503 degraded: the store does not answer, the instance is shutting down, lags, holds too
/// much that is not indexed, is over its memory budget, or its heartbeats do not get through; 500
/// unhealthy: a background task has panicked, or another process took over its name.
#[utoipa::path(get, path = "/health", tag = "operations",
    operation_id = "getHealth",
    responses(
        (status = 200, description = "Healthy", body = HealthBody),
        (status = 503, description = "Degraded", body = HealthBody),
        (status = 500, description = "Unhealthy", body = HealthBody)))]
pub async fn report(State(app): State<Shared>) -> Reply {
    let Condition { fatal, degraded, warnings } = app.brainy.condition();
    let degraded = [app.not_ready().await, degraded].concat();
    let (code, status) = if !fatal.is_empty() {
        (StatusCode::INTERNAL_SERVER_ERROR, HealthStatus::Unhealthy)
    } else if !degraded.is_empty() {
        (StatusCode::SERVICE_UNAVAILABLE, HealthStatus::Degraded)
    } else {
        (StatusCode::OK, HealthStatus::Healthy)
    };
    let mut warnings = [fatal, degraded, warnings].concat();
    let env = app.brainy.env();
    let traffic = env.metrics.traffic.summary();
    if traffic.requests >= FAILURE_REQUESTS_MIN && traffic.failure_share >= FAILURE_SHARE_WARNING {
        let percent = traffic.failure_share * 100.0;
        warnings.push(format!("{percent:.1} % of the requests of the last minute failed"));
    }
    tracing::debug!(target: "brainy::health", status = code.as_u16(), ?warnings, "health checked");
    let usage = env.metrics.process.usage();
    let (_, uptime) = app.health.running();
    let body = HealthBody {
        status,
        instance_id: app.brainy.instance_id(),
        role: app.brainy.role().name(),
        standby: app.brainy.cluster().is_standby(),
        uptime,
        metrics: HealthMetrics {
            vector_count: u64::try_from(env.metrics.vector_count.get()).unwrap_or(0),
            cache_hit_rate: env.metrics.cache_hit_rate(),
            memory_usage_mb: usage.memory_bytes as f64 / 1e6,
            cpu_usage_percent: usage.cpu_percent,
            requests_per_second: traffic.per_second,
            average_latency_ms: traffic.latency_ms,
            error_rate: traffic.failure_share,
        },
        warnings,
    };
    json(code, &body)
}

/// Figures for Prometheus
///
/// In its text format 0.0.4, or in OpenMetrics 1.0 where the header `accept` would rather have that.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    operation_id = "getMetrics",
    responses((status = 200, content(
        (String = "text/plain"),
        (String = "application/openmetrics-text")))))]
pub async fn metrics(State(app): State<Shared>, headers: HeaderMap) -> Response {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = TextFormat::accepted_by(&accept.collect::<Vec<_>>().join(","));
    app.brainy.measure();
    let kind = HeaderValue::from_static(format.media_type());
    let told = [(header::CONTENT_TYPE, kind), (header::VARY, HeaderValue::from_static("accept"))];
    (told, app.brainy.env().metrics.encode(format)).into_response()
}
