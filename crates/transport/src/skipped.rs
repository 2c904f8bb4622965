//! Messages that are no events: counted, and logged once for each cause.

use std::collections::BTreeSet;
use std::mem::discriminant;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use drover_protocol::cloudevent::EnvelopeError;

/// How many messages were skipped. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Skipped(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: AtomicU64,
    causes: Mutex<BTreeSet<String>>,
}

impl Skipped {
    /// Messages skipped until now.
    pub fn count(&self) -> u64 {
        self.0.all.load(Ordering::Relaxed)
    }

    /// Counts a message that came over `transport`: loudly the first time for a cause, then quietly.
    pub(crate) fn add(&self, transport: &'static str, error: &EnvelopeError) {
        self.0.all.fetch_add(1, Ordering::Relaxed);
        let mut causes = self.0.causes.lock().unwrap_or_else(PoisonError::into_inner);
        // The cause without what differs from message to message; there are few.
        let first = causes.insert(format!("{transport} {:?}", discriminant(error)));
        drop(causes);
        if first {
            tracing::warn!(%error, transport, "skipped a message that is no event; more of this kind are logged at level debug");
        } else {
            tracing::debug!(%error, transport, "skipped a message that is no event");
        }
    }
}
