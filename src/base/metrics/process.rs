//! What every program tells of its process, under the names that dashboards know.

use crate::base::process::Sampler;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::fmt;
use std::sync::Arc;

/// Figures of this process; what the operating system does not tell is left out.
#[derive(Debug)]
pub(super) struct ProcessFigures(pub(super) Arc<Sampler>);

impl Collector for ProcessFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(usage) = self.0.of_system() else { return Ok(()) };
        let cpu = ConstCounter::new(usage.cpu_ms as f64 / 1_000.0);
        let (name, help) = ("process_cpu", "User and system CPU time spent in seconds");
        let kind = cpu.metric_type();
        cpu.encode(encoder.encode_descriptor(name, help, Some(&Unit::Seconds), kind)?)?;
        for (name, help, unit, value) in [
            (
                "process_start_time",
                "When the process started, in seconds since 1970",
                Some(&Unit::Seconds),
                Some(usage.started_s),
            ),
            (
                "process_resident_memory",
                "Resident memory in bytes",
                Some(&Unit::Bytes),
                Some(usage.memory_bytes),
            ),
            (
                "process_virtual_memory",
                "Virtual memory in bytes",
                Some(&Unit::Bytes),
                Some(usage.virtual_bytes),
            ),
            ("process_open_fds", "Open file descriptors", None, usage.open_files),
            ("process_max_fds", "File descriptors that may be open", None, usage.open_files_max),
        ] {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let kind = gauge.metric_type();
            gauge.encode(encoder.encode_descriptor(name, help, unit, kind)?)?;
        }
        Ok(())
    }
}
