//! The trace that each resource is in, beside the copies: it is no part of them.

use std::collections::HashMap;

use super::Store;
use super::outbox::Outbox;
use crate::cloudevent::CloudEvent;
use crate::codec::Resource;
use crate::ids::Ids;
use crate::trace::TraceContext;

/// Contexts by uid.
#[derive(Debug, Default)]
pub(super) struct Traces(HashMap<String, TraceContext>);

impl Traces {
    pub(super) fn get(&self, uid: &str) -> Option<&TraceContext> {
        self.0.get(uid)
    }

    /// Remembers a context for as long as the resource is stored or word of it is owed.
    pub(super) fn set<R: Resource>(
        &mut self,
        uid: &str,
        context: TraceContext,
        store: &Store<R>,
        outbox: &Outbox,
    ) {
        self.0.insert(uid.to_owned(), context);
        // Seldom enough to cost nothing.
        if self.0.len() > 2 * store.len() + 64 {
            self.0
                .retain(|uid, _| store.get(uid).is_some() || outbox.owed(uid).is_some());
        }
    }

    pub(super) fn forget(&mut self, uid: &str) {
        self.0.remove(uid);
    }

    /// Marks an event as the next step of the trace of its resource, if it is in one.
    pub(super) fn stamp(&self, uid: &str, ids: &mut Ids, event: &mut CloudEvent) {
        if let Some(context) = self.0.get(uid) {
            context.next(ids).write(event);
        }
    }
}
