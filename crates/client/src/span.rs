//! Spans of events on their way: `drover_client::events` at level DEBUG, with the ids of the trace that the event is in as
//! fields, so that a layer can join them to the spans of other processes.

use drover_protocol::{CloudEvent, TraceContext};
use tracing::{Span, debug_span};

/// The target of the spans.
pub const TARGET: &str = "drover_client::events";

/// Around the sending of an event: the span of the trace that the event carries.
pub fn publish(event: &CloudEvent) -> Span {
    let span = debug_span!(
        target: TARGET,
        "publish",
        otel.kind = "producer",
        event.id = event.id,
        event.r#type = event.event_type,
        trace_id = tracing::field::Empty,
        span_id = tracing::field::Empty,
    );
    record(&span, event, "span_id");
    span
}

/// Around the handling of an event: caused by the span that it carries.
pub fn receive(event: &CloudEvent) -> Span {
    let span = debug_span!(
        target: TARGET,
        "receive",
        otel.kind = "consumer",
        event.id = event.id,
        event.r#type = event.event_type,
        event.source = event.source,
        trace_id = tracing::field::Empty,
        parent_id = tracing::field::Empty,
    );
    record(&span, event, "parent_id");
    span
}

fn record(span: &Span, event: &CloudEvent, step: &'static str) {
    if span.is_disabled() {
        return;
    }
    if let Some(context) = TraceContext::of(event) {
        span.record(
            "trace_id",
            format_args!("{:032x}", context.trace_id()).to_string(),
        );
        span.record(step, format_args!("{:016x}", context.span_id()).to_string());
    }
}
