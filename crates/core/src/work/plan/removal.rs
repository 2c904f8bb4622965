//! How one object that is no longer wanted goes.

use drover_api::work::v1::AppliedManifestResourceMeta;
use serde_json::Value;

use super::{Action, Live};
use crate::work::owners::{self, Owner};

/// What is left to do for an object that is no longer wanted.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Removal {
    /// Nothing: it is gone, or it is not the work's.
    Gone,
    /// It is on its way out, or nobody can tell.
    Waits,
    /// It is the work's alone.
    Delete(String),
    /// It is another work's too.
    Release(Value),
}

impl Removal {
    pub(super) fn action(self, target: &AppliedManifestResourceMeta) -> Option<Action> {
        match self {
            Self::Gone | Self::Waits => None,
            Self::Delete(uid) => Some(Action::Delete {
                target: target.clone(),
                uid,
            }),
            Self::Release(patch) => Some(Action::Release {
                target: target.clone(),
                patch,
            }),
        }
    }
}

/// Decides about the object of an entry of the record.
pub(super) fn decide(live: &Live, owner: &Owner) -> Removal {
    let live = match live {
        Live::Absent => return Removal::Gone,
        Live::Unread(_) => return Removal::Waits,
        Live::Present(live) => live,
    };
    let uid = live
        .pointer("/metadata/uid")
        .and_then(Value::as_str)
        .unwrap_or_default();
    // Whose it is, it says itself: one that was made anew may not be in the record yet.
    if !owners::owns(owner, live) {
        return Removal::Gone;
    }
    if owners::shared(owner, live)
        && let Some(references) = owners::change(live, owner, false)
    {
        return Removal::Release(owners::patch(live, references));
    }
    if live.pointer("/metadata/deletionTimestamp").is_some() {
        Removal::Waits
    } else {
        Removal::Delete(uid.to_owned())
    }
}
