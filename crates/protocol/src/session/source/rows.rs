//! What a source must find again after a crash: a row for every resource that it owns, deleted, or owes word of.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::super::outbox::{Due, Outbox};
use super::super::{Output, Store};
use super::{Outputs, SourceSession};
use crate::codec::{Codec, Resource};
use crate::eventtype::Action;

/// What is stored of one uid.
#[derive(Clone, Debug, PartialEq)]
pub enum Row<R> {
    /// The resource.
    Owned {
        /// Its newest state.
        object: Arc<R>,
        /// The event that is owed.
        unsent: Option<Action>,
    },
    /// It was deleted.
    Buried {
        /// Its last generation, to be kept until the agent confirms; see [`super::Owned::graves`].
        generation: Option<i64>,
        /// The order that is owed.
        unsent: Option<Unsent>,
    },
    /// Nothing is known of it any more: the row goes.
    Nothing,
}

/// An order to delete that was not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsent {
    /// Which cluster gets it.
    pub cluster: String,
    /// The version it names.
    pub version: i64,
}

/// Which rows are stored with the mark of something unsent; nothing is stored unless somebody wants it.
#[derive(Debug, Default)]
pub(super) struct Rows {
    kept: bool,
    unsent: HashSet<Arc<str>>,
}

impl Rows {
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }

    fn put<R: Resource>(
        &mut self,
        uid: &str,
        before_sending: bool,
        (store, graves, outbox): (&Store<R>, &BTreeMap<String, i64>, &Outbox),
        out: &mut Vec<Output<R>>,
    ) {
        if !self.kept {
            return;
        }
        let uid: Arc<str> = uid.into();
        let row = row(&uid, store, graves, outbox);
        let marked = match &row {
            Row::Owned { unsent, .. } => unsent.is_some(),
            Row::Buried { unsent, .. } => unsent.is_some(),
            Row::Nothing => false,
        };
        if marked {
            self.unsent.insert(Arc::clone(&uid));
        } else {
            self.unsent.remove(&uid);
        }
        out.push(Output::Store {
            uid,
            row,
            before_sending,
        });
    }

    /// An event landed: if its row says that it is unsent, that is to be taken back.
    pub(super) fn landed<R: Resource>(
        &mut self,
        uid: &str,
        store: &Store<R>,
        graves: &BTreeMap<String, i64>,
        outbox: &Outbox,
        out: &mut Vec<Output<R>>,
    ) {
        if self.unsent.contains(uid) && outbox.owed(uid).is_none() {
            self.put(uid, false, (store, graves, outbox), out);
        }
    }
}

fn row<R: Resource>(
    uid: &str,
    store: &Store<R>,
    graves: &BTreeMap<String, i64>,
    outbox: &Outbox,
) -> Row<R> {
    let owed = outbox.owed(uid);
    if let Some(object) = store.get(uid) {
        let unsent = match owed {
            Some(Due::State(_, action)) => Some(action.clone()),
            Some(Due::Request(_) | Due::Last(_) | Due::Gone { .. }) | None => None,
        };
        return Row::Owned {
            object: Arc::clone(object),
            unsent,
        };
    }
    let generation = graves.get(uid).copied();
    let unsent = match owed {
        Some(Due::Gone {
            cluster, version, ..
        }) => Some(Unsent {
            cluster: cluster.clone(),
            version: *version,
        }),
        Some(Due::Request(_) | Due::Last(_) | Due::State(..)) | None => None,
    };
    if generation.is_none() && unsent.is_none() {
        Row::Nothing
    } else {
        Row::Buried { generation, unsent }
    }
}

impl<C: Codec> SourceSession<C> {
    /// Wants a row stored, in time.
    pub(super) fn keep(&mut self, uid: &str, out: &mut Outputs<C>) {
        self.rows
            .put(uid, false, (&self.store, &self.graves, &self.outbox), out);
    }

    /// Wants a row stored before anything is sent that follows from it.
    pub(super) fn keep_first(&mut self, uid: &str, out: &mut Outputs<C>) {
        self.rows
            .put(uid, true, (&self.store, &self.graves, &self.outbox), out);
    }

    pub(super) fn restore(&mut self, uid: &str, row: Row<C::Object>) {
        let due = match row {
            Row::Nothing => None,
            Row::Owned { object, unsent } => {
                self.store.put(Arc::unwrap_or_clone(object));
                unsent.map(|action| Due::state(uid, action))
            }
            Row::Buried { generation, unsent } => {
                if let Some(generation) = generation {
                    self.graves.insert(uid.to_owned(), generation);
                }
                unsent.map(|Unsent { cluster, version }| Due::Gone {
                    uid: uid.into(),
                    cluster,
                    version,
                })
            }
        };
        if let Some(due) = due {
            self.rows.unsent.insert(uid.into());
            self.outbox.push(due);
        }
    }
}
