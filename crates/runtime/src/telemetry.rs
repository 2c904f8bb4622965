//! Logging for the whole process, and traces for who wants them.

#[cfg(feature = "otel")]
mod otel;

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A filter that cannot be read.
    #[error(
        "log filter {filter:?} is malformed: {why}; try \"info\" or \"warn,drover_agent=debug\""
    )]
    Filter {
        /// As it was given.
        filter: String,
        /// What is wrong with it.
        why: String,
    },
    /// Logging was set up before.
    #[error("logging is set up already: {0}")]
    Twice(String),
    /// Spans cannot be exported.
    #[error("failed to export spans: {0}; check OTEL_EXPORTER_OTLP_ENDPOINT")]
    Export(String),
}

/// Keep it until the end of the process: what is left to be exported is exported when it goes.
#[derive(Debug, Default)]
#[must_use = "dropping it ends the export of spans"]
pub struct Telemetry {
    #[cfg(feature = "otel")]
    _export: Option<otel::Export>,
}

/// Sends log lines to stderr, as chosen by `filter` (see `tracing_subscriber::EnvFilter`). With the feature `otel`, spans of
/// events on their way go where the standard variable `OTEL_EXPORTER_OTLP_ENDPOINT` says, if it says anything; then it must be
/// called inside the runtime.
///
/// # Errors
/// When the filter is malformed, spans cannot be exported, or logging was set up before.
pub fn init(filter: &str, format: Format) -> Result<Telemetry, TelemetryError> {
    let env = EnvFilter::try_new(filter).map_err(|error| TelemetryError::Filter {
        filter: filter.to_owned(),
        why: error.to_string(),
    })?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = match format {
        Format::Text => lines.compact().boxed(),
        Format::Json => lines.json().boxed(),
    };
    let registry = tracing_subscriber::registry().with(lines.with_filter(env));
    #[cfg(feature = "otel")]
    {
        let export = otel::layer().map_err(|error| TelemetryError::Export(error.to_string()))?;
        if let Some((spans, export)) = export {
            let only = tracing_subscriber::filter::Targets::new()
                .with_target(otel::TARGET, tracing::Level::DEBUG);
            registry
                .with(spans.with_filter(only))
                .try_init()
                .map_err(|error| TelemetryError::Twice(error.to_string()))?;
            return Ok(Telemetry {
                _export: Some(export),
            });
        }
    }
    registry
        .try_init()
        .map_err(|error| TelemetryError::Twice(error.to_string()))?;
    Ok(Telemetry::default())
}
