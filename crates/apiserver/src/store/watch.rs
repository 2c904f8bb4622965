//! The way through the history: a place, and someone to wake the reader.
//!
//! A watch holds no queue of its own beyond a handful of changes, so a slow reader costs nothing
//! and slows nobody; when it falls behind what is kept it is told so.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Notify;

use super::database::Shared;
use super::{Change, Expired};

/// Changes that are fetched under one lock.
const BATCH: usize = 64;

/// A place in the history of a resource.
#[derive(Debug)]
pub struct Watch {
    store: Arc<Shared>,
    resource: Option<Arc<str>>,
    notify: Arc<Notify>,
    /// The revision of the last change that was returned.
    place: u64,
    fetched: VecDeque<Arc<Change>>,
}

impl Watch {
    pub(super) fn new(
        store: Arc<Shared>,
        resource: Option<Arc<str>>,
        from: u64,
    ) -> Result<Self, Expired> {
        let notify = {
            let mut state = store.write();
            state.changes(resource.as_deref(), from, 0)?;
            state.notify(resource.as_ref())
        };
        Ok(Self {
            store,
            resource,
            notify,
            place: from,
            fetched: VecDeque::new(),
        })
    }

    /// The next change; waits for it. `Err` when this reader fell behind the history that is kept.
    ///
    /// # Cancel safety
    /// A dropped call loses nothing.
    pub async fn next(&mut self) -> Result<Arc<Change>, Expired> {
        loop {
            let notify = Arc::clone(&self.notify);
            let mut woken = std::pin::pin!(notify.notified());
            // From here on no change goes by unnoticed.
            woken.as_mut().enable();
            if let Some(change) = self.try_next()? {
                return Ok(change);
            }
            woken.await;
        }
    }

    /// The next change when there is one already.
    pub fn try_next(&mut self) -> Result<Option<Arc<Change>>, Expired> {
        if self.fetched.is_empty() {
            self.fetched = self
                .store
                .read()
                .changes(self.resource.as_deref(), self.place, BATCH)?
                .into();
        }
        let next = self.fetched.pop_front();
        if let Some(change) = &next {
            self.place = change.revision;
        }
        Ok(next)
    }

    /// Everything up to this revision has been returned by [`Self::next`] (for bookmarks).
    pub fn progress(&self) -> u64 {
        if !self.fetched.is_empty() {
            return self.place;
        }
        let state = self.store.read();
        match state.changes(self.resource.as_deref(), self.place, 1) {
            Ok(waiting) if waiting.is_empty() => state.revision().max(self.place),
            Ok(_) | Err(_) => self.place,
        }
    }
}
