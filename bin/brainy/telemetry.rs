//! Spans and log lines go to an OpenTelemetry collector, where a setting says so and the build can.
//!
//! By OTLP over HTTP, as protobuf: spans of HTTP requests to `<otlp_endpoint>/v1/traces`, log lines to
//! `<otlp_endpoint>/v1/logs`. They are sent in batches by threads of their own, from queues with a bound:
//! what a collector does not take in time is dropped, and no request waits for it. The standard variables
//! `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_TRACES_SAMPLER` and `OTEL_RESOURCE_ATTRIBUTES` hold.

use crate::failure::Result;
use brainy::base::settings::Settings;
use tracing_subscriber::{Layer, Registry};

/// What is told of every span and log line.
pub type Layers = Vec<Box<dyn Layer<Registry> + Send + Sync>>;

/// Keeps the export going; sends what is left when it is dropped.
#[derive(Debug, Default)]
pub struct Telemetry {
    #[cfg(feature = "otlp")]
    _export: Option<export::Export>,
}

/// Adds the export that `settings` ask for; `filter` says which log lines are sent.
#[cfg(feature = "otlp")]
pub fn start(settings: &Settings, filter: &str, layers: &mut Layers) -> Result<Telemetry> {
    let Some(endpoint) = &settings.otlp_endpoint else {
        return Ok(Telemetry::default());
    };
    let export = export::Export::start(endpoint, settings.instance_id.as_deref())?;
    layers.push(export.spans());
    layers.push(export.lines(filter)?);
    Ok(Telemetry { _export: Some(export) })
}

/// Refuses an export that this build cannot do.
#[cfg(not(feature = "otlp"))]
pub fn start(settings: &Settings, _filter: &str, _layers: &mut Layers) -> Result<Telemetry> {
    use crate::failure::Failure;
    use brainy::base::Code;
    if settings.otlp_endpoint.is_some() {
        return Err(Failure::new(
            Code::InvalidSettings,
            "otlp_endpoint is set, and this build cannot export: build it with `cargo build --release \
             --features otlp`, or leave otlp_endpoint away",
        ));
    }
    Ok(Telemetry::default())
}

#[cfg(feature = "otlp")]
mod export {
    use crate::failure::{Failure, Result};
    use brainy::base::Code;
    use opentelemetry::KeyValue;
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
    use opentelemetry_otlp::{LogExporter, Protocol, SpanExporter, WithExportConfig};
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::logs::SdkLoggerProvider;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use std::fmt;
    use std::time::Duration;
    use tracing_subscriber::filter::{FilterExt, LevelFilter, Targets, filter_fn};
    use tracing_subscriber::{EnvFilter, Layer, Registry};

    /// How long the last batch may take when the process ends.
    const FLUSH_MAX: Duration = Duration::from_secs(5);
    /// Whose spans and lines are sent: never those of the client that sends them.
    const OWN: &str = "brainy";

    /// The export of one process.
    #[derive(Debug)]
    pub struct Export {
        spans: SdkTracerProvider,
        lines: SdkLoggerProvider,
    }

    impl Export {
        /// Sends to the collector at `endpoint`.
        pub fn start(endpoint: &str, instance: Option<&str>) -> Result<Export> {
            let fault = |error: &dyn fmt::Display| {
                Failure::new(
                    Code::InvalidSettings,
                    format!("otlp_endpoint {endpoint}: {error}; use for example http://host:4318"),
                )
            };
            let url = |signal: &str| format!("{}/v1/{signal}", endpoint.trim_end_matches('/'));
            let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
            let id = instance.map(|id| KeyValue::new("service.instance.id", id.to_owned()));
            let attributes = id.into_iter().chain([version]);
            let resource =
                Resource::builder().with_service_name(OWN).with_attributes(attributes).build();
            let spans = SpanExporter::builder()
                .with_http()
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(url("traces"))
                .build()
                .map_err(|error| fault(&error))?;
            let lines = LogExporter::builder()
                .with_http()
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(url("logs"))
                .build()
                .map_err(|error| fault(&error))?;
            let spans = SdkTracerProvider::builder()
                .with_batch_exporter(spans)
                .with_resource(resource.clone())
                .build();
            let lines =
                SdkLoggerProvider::builder().with_batch_exporter(lines).with_resource(resource);
            Ok(Export { spans, lines: lines.build() })
        }

        /// Takes spans, with the log lines inside them.
        pub fn spans(&self) -> Box<dyn Layer<Registry> + Send + Sync> {
            let own = Targets::new().with_target(OWN, LevelFilter::DEBUG);
            let layer = tracing_opentelemetry::layer().with_tracer(self.spans.tracer(OWN));
            layer.with_filter(own).boxed()
        }

        /// Takes the log lines that `filter` lets through.
        pub fn lines(&self, filter: &str) -> Result<Box<dyn Layer<Registry> + Send + Sync>> {
            let chosen = EnvFilter::try_new(filter)
                .map_err(|error| Failure::usage(format!("log_level {filter:?}: {error}")))?;
            let own = filter_fn(|line| line.target().starts_with(OWN));
            let layer = OpenTelemetryTracingBridge::new(&self.lines);
            Ok(layer.with_filter(chosen.and(own)).boxed())
        }
    }

    impl Drop for Export {
        fn drop(&mut self) {
            // A collector that is gone is no reason to end otherwise than well.
            let ended = self.spans.shutdown_with_timeout(FLUSH_MAX);
            if let Err(error) = ended.and(self.lines.shutdown_with_timeout(FLUSH_MAX)) {
                tracing::warn!(%error, "the last spans or log lines were not sent");
            }
        }
    }
}
