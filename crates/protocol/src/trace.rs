//! Trace contexts in events: the CloudEvents extension for distributed tracing, which carries the W3C trace context.
//!
//! A source gives every change a trace, the agent sends its reports about the change in the same one. Peers that do not know
//! the two extensions ignore them. They are no part of a resource, so no hash and no comparison sees them.

use std::fmt;

use crate::cloudevent::CloudEvent;
use crate::ids::Ids;
use crate::names;

/// Longest `tracestate` that is kept, in bytes: what everybody has to be able to propagate.
const MAX_STATE: usize = 512;

/// Which trace something belongs to, and which step of it caused it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace: u128,
    span: u64,
    flags: u8,
    state: Option<Box<str>>,
}

impl TraceContext {
    /// A context; `None` when one of the ids is zero, which stands for "none".
    pub fn new(trace: u128, span: u64, sampled: bool) -> Option<Self> {
        (trace != 0 && span != 0).then_some(Self {
            trace,
            span,
            flags: u8::from(sampled),
            state: None,
        })
    }

    /// With vendors' `tracestate`, unless it is longer than everybody can take.
    pub fn with_state(mut self, state: &str) -> Self {
        let fits = !state.is_empty() && state.len() <= MAX_STATE && state.is_ascii();
        self.state = fits.then(|| state.into());
        self
    }

    /// The beginning of a trace of its own.
    pub fn fresh(ids: &mut Ids) -> Self {
        // Both ids stay random and are never zero.
        Self {
            trace: ids.next_bits() | 1,
            span: ids.next_bits() as u64 | 1,
            flags: 1,
            state: None,
        }
    }

    /// The next step in the same trace.
    pub fn next(&self, ids: &mut Ids) -> Self {
        Self {
            span: ids.next_bits() as u64 | 1,
            ..self.clone()
        }
    }

    /// Reads a `traceparent`: version 00, or the same fields of a later one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut hex = |digits: usize| {
            let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            let part = parts.next()?;
            (part.len() == digits && part.bytes().all(lower)).then_some(part)
        };
        let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let context = Self::new(
            u128::from_str_radix(trace, 16).ok()?,
            u64::from_str_radix(span, 16).ok()?,
            false,
        )?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Some(Self { flags, ..context })
    }

    /// The context that an event carries. One that cannot be read is as none.
    pub fn of(event: &CloudEvent) -> Option<Self> {
        let context = Self::parse(event.text(names::EXT_TRACE_PARENT).ok()?)?;
        Some(match event.text(names::EXT_TRACE_STATE) {
            Ok(state) => context.with_state(state),
            Err(_) => context,
        })
    }

    /// Writes the context into an event.
    pub fn write(&self, event: &mut CloudEvent) {
        event.set(names::EXT_TRACE_PARENT, self.to_string());
        if let Some(state) = &self.state {
            event.set(names::EXT_TRACE_STATE, &**state);
        }
    }

    /// Id of the trace.
    pub fn trace_id(&self) -> u128 {
        self.trace
    }

    /// Id of the step.
    pub fn span_id(&self) -> u64 {
        self.span
    }

    /// Whether the trace is recorded.
    pub fn sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// Vendors' part.
    pub fn state(&self) -> &str {
        self.state.as_deref().unwrap_or_default()
    }
}

/// The `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace, span, flags, ..
        } = self;
        write!(f, "00-{trace:032x}-{span:016x}-{flags:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let read = TraceContext::parse(text).map(|context| context.to_string());
        assert_eq!(read.as_deref(), expected, "{text}");
    }

    #[test]
    fn parents_are_read_and_written() {
        check(PARENT, Some(PARENT));
        let later = PARENT.replacen("00", "cc", 1) + "-more";
        check(&later, Some(PARENT));
        check(
            &PARENT.replace("-01", "-fe"),
            Some(&PARENT.replace("-01", "-fe")),
        );
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn steps_stay_in_their_trace() {
        let ids = &mut Ids::new(7);
        let first = TraceContext::fresh(ids).with_state("vendor=1");
        let next = first.next(ids);
        assert_eq!(next.trace_id(), first.trace_id());
        assert_ne!(next.span_id(), first.span_id());
        let mut event = CloudEvent::new("1", "s", "t", jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(TraceContext::of(&event), None);
        next.write(&mut event);
        assert_eq!(TraceContext::of(&event), Some(next));
        assert!(TraceContext::fresh(ids).sampled());
        assert_eq!(first.with_state(&"x".repeat(513)).state(), "");
    }
}
