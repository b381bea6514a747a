//! Health on the wire.

use crate::api::types::{brief, brief_option};
use serde::Serialize;
use utoipa::ToSchema;

/// Whether an instance is alive or ready.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LiveBody<'a> {
    /// `alive` or `failed`; `ready` or `not ready`.
    #[schema(example = "ready")]
    pub status: &'static str,
    /// The instance's name.
    #[schema(example = "writer-01")]
    pub instance_id: &'a str,
    /// Which life of that name in the cluster this process is; null where it has not joined.
    pub session: Option<&'a str>,
    /// What is wrong, for people.
    pub warnings: Vec<String>,
}

/// How an instance is.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// It is as it should be.
    Healthy,
    /// It serves, or will again: `warnings` say what is wrong and what to do.
    Degraded,
    /// It has to be restarted: a defect stopped a part of it, or another process took over its name.
    Unhealthy,
}

/// How an instance is, with figures.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthBody<'a> {
    /// The verdict.
    pub status: HealthStatus,
    /// The instance's name.
    #[schema(example = "writer-01")]
    pub instance_id: &'a str,
    /// `writer`, `reader` or `hybrid`.
    #[schema(example = "hybrid")]
    pub role: &'a str,
    /// Whether it waits to write until nobody else does.
    pub standby: bool,
    /// Seconds since the start.
    #[serde(serialize_with = "brief")]
    pub uptime: f64,
    /// Figures.
    pub metrics: HealthMetrics,
    /// What people should look at.
    pub warnings: Vec<String>,
}

/// Figures of an instance. Rates are over the calls of `/v1` in the last 60 seconds.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthMetrics {
    /// Live records over all collections that this instance has open.
    pub vector_count: u64,
    /// Share of the segments asked for that were in memory, 0..=1, since the start; null before the
    /// first.
    #[serde(serialize_with = "brief_option")]
    pub cache_hit_rate: Option<f64>,
    /// Resident memory, in megabytes (10^6 bytes).
    #[serde(rename = "memoryUsageMB", serialize_with = "brief")]
    pub memory_usage_mb: f64,
    /// CPU time over wall time since the look before, in percent of one core.
    #[serde(serialize_with = "brief")]
    pub cpu_usage_percent: f64,
    /// Calls answered a second.
    #[serde(serialize_with = "brief")]
    pub requests_per_second: f64,
    /// Mean time to an answer, in milliseconds; 0 without calls.
    #[serde(serialize_with = "brief")]
    pub average_latency_ms: f64,
    /// Share of answers with a status of 500 or more, `version_timeout` excepted, 0..=1; 0 without
    /// calls.
    #[serde(serialize_with = "brief")]
    pub error_rate: f64,
}
