//! How is this instance doing? What its heartbeats say.

use crate::cluster::{InstanceMetrics, Vitals};
use crate::engine::collections::Collections;
use crate::engine::context::Context;
use std::sync::Arc;

/// Looks at the instance's own counters.
#[derive(Debug)]
pub(super) struct Sampled {
    context: Context,
    collections: Arc<Collections>,
}

impl Sampled {
    pub(super) fn new(context: Context, collections: Arc<Collections>) -> Sampled {
        Sampled { context, collections }
    }
}

impl Vitals for Sampled {
    fn sample(&self) -> InstanceMetrics {
        let metrics = &self.context.env.metrics;
        let traffic = metrics.traffic.summary();
        let collections = self.collections.all();
        let applied = collections.iter().filter_map(|collection| {
            let version = collection.known_version()?;
            Some((collection.manifest().name.to_string(), version.0))
        });
        let lag = collections.iter().filter_map(|collection| collection.lag()).max();
        InstanceMetrics {
            vector_count: u64::try_from(metrics.vector_count.get()).unwrap_or(0),
            cache_hit_rate: metrics.cache_hit_rate().unwrap_or(0.0),
            memory_usage: metrics.process.usage().memory_bytes,
            requests_per_second: traffic.per_second,
            average_latency_ms: traffic.latency_ms,
            error_rate: traffic.failure_share,
            applied_versions: applied.collect(),
            resident_segments: self.context.shelf.segments(),
            lag_seconds: lag.unwrap_or_default().as_secs_f64(),
            ..InstanceMetrics::default()
        }
    }
}
