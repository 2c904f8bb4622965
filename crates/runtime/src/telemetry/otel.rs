//! Spans of events on their way, exported by OpenTelemetry (OTLP over gRPC).
//!
//! The ids of these spans are those that the events carry, so the steps of a change join to one trace whatever process made
//! them, and whatever language it is written in.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanProcessor as _};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Where the spans come from (drover-client: `span`).
pub(super) const TARGET: &str = "drover_client::events";
/// Says where to, and by its absence that nothing is exported (OpenTelemetry specification: OTLP exporter).
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];
/// How long the last spans may take.
const LAST: Duration = Duration::from_secs(2);

/// Exports spans until it is dropped; then what is left is exported.
#[derive(Debug)]
pub(super) struct Export(Arc<BatchSpanProcessor>);

impl Drop for Export {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST) {
            tracing::debug!(%error, "the last spans were not exported");
        }
    }
}

/// The layer, if the environment says where to; must be called inside the runtime.
pub(super) fn layer() -> Result<Option<(Spans, Export)>, ExporterBuildError> {
    let said = |name: &&'static str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if !ENDPOINTS.iter().any(said) {
        return Ok(None);
    }
    to(None).map(Some)
}

/// Exports to an endpoint, or to the one that the environment names.
fn to(endpoint: Option<String>) -> Result<(Spans, Export), ExporterBuildError> {
    let exporter = SpanExporter::builder().with_tonic();
    let exporter = match endpoint {
        Some(endpoint) => exporter.with_endpoint(endpoint),
        None => exporter,
    };
    let exporter = exporter.build()?;
    let mut processor = BatchSpanProcessor::builder(exporter).build();
    // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say more, and say otherwise.
    processor.set_resource(&resource());
    let processor = Arc::new(processor);
    let spans = Spans(Arc::clone(&processor));
    Ok((spans, Export(processor)))
}

fn resource() -> Resource {
    let named = std::env::var_os("OTEL_SERVICE_NAME").is_some();
    let builder = Resource::builder();
    if named {
        builder.build()
    } else {
        builder.with_service_name("drover").build()
    }
}

/// Turns spans of [`TARGET`] into spans of OpenTelemetry.
#[derive(Debug)]
pub(super) struct Spans(Arc<BatchSpanProcessor>);

/// What a span says of itself.
#[derive(Debug)]
struct Step {
    start: SystemTime,
    trace: TraceId,
    span: SpanId,
    parent: SpanId,
    kind: SpanKind,
    attributes: Vec<KeyValue>,
}

impl<S> Layer<S> for Spans
where
    S: tracing::Subscriber + for<'s> LookupSpan<'s>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut step = Step {
            start: SystemTime::now(),
            trace: TraceId::INVALID,
            span: SpanId::INVALID,
            parent: SpanId::INVALID,
            kind: SpanKind::Internal,
            attributes: Vec::new(),
        };
        attributes.record(&mut step);
        span.extensions_mut().insert(step);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(step) = span.extensions_mut().get_mut::<Step>() {
            values.record(step);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else {
            return;
        };
        let step = span.extensions_mut().remove::<Step>();
        let Some(step) = step.filter(|step| step.trace != TraceId::INVALID) else {
            return;
        };
        // Who receives has no id of its own in the event: it makes one.
        let own = if step.span == SpanId::INVALID {
            SpanId::from(rand::random::<u64>() | 1)
        } else {
            step.span
        };
        self.0.on_end(SpanData {
            span_context: SpanContext::new(
                step.trace,
                own,
                TraceFlags::SAMPLED,
                false,
                TraceState::default(),
            ),
            parent_span_id: step.parent,
            parent_span_is_remote: step.parent != SpanId::INVALID,
            span_kind: step.kind,
            name: span.name().into(),
            start_time: step.start,
            end_time: SystemTime::now(),
            attributes: step.attributes,
            dropped_attributes_count: 0,
            events: opentelemetry_sdk::trace::SpanEvents::default(),
            links: opentelemetry_sdk::trace::SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder(TARGET).build(),
        });
    }
}

impl Visit for Step {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "trace_id" => self.trace = TraceId::from_hex(value).unwrap_or(TraceId::INVALID),
            "span_id" => self.span = SpanId::from_hex(value).unwrap_or(SpanId::INVALID),
            "parent_id" => self.parent = SpanId::from_hex(value).unwrap_or(SpanId::INVALID),
            "otel.kind" if value == "producer" => self.kind = SpanKind::Producer,
            "otel.kind" if value == "consumer" => self.kind = SpanKind::Consumer,
            name => self
                .attributes
                .push(KeyValue::new(name.to_owned(), value.to_owned())),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests;
