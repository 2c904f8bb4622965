//! Who says what when: the two ends of the protocol as state machines without I/O.
//!
//! A driver feeds [`Input`]s with the time, acts on [`Output`]s, and while the link is up pulls events to send with
//! `poll_transmit`, one ticket each, whose fate it reports back. Events are made at the moment of sending from the newest
//! state, so what is owed is bounded by the number of resources, and nothing is forgotten while the link is down.

mod store;
mod traces;
mod outbox;
mod agent;
mod aliases;
mod source;

use std::sync::Arc;

use jiff::Timestamp;

pub use agent::{AgentConfig, AgentSession, Aspect};
pub use outbox::Ticket;
pub use source::{Owned, Row, SourceConfig, SourceSession, Unsent};
pub use store::Store;

use crate::cloudevent::CloudEvent;
use crate::codec::DecodeError;

/// What a session reacts to.
#[expect(
    clippy::large_enum_variant,
    reason = "events are the common case, and moved once"
)]
#[derive(Clone, Debug)]
pub enum Input {
    /// Subscribed: events can be sent and will be received.
    Up,
    /// The link is gone; what was in flight may or may not have arrived.
    Down,
    /// An event arrived.
    Wire(CloudEvent),
    /// Ask the other side what differs, now.
    Resync,
    /// The transport took responsibility for an event.
    Sent(Ticket),
    /// The transport or the other side did not take it.
    Failed(Ticket, Fate),
    /// Time passed; useful after [`Output::WakeAt`].
    Tick,
}

/// What becomes of an event that could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Send the newest state again later.
    Retry,
    /// The other side refused it for good.
    Drop,
}

/// What a session wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output<R> {
    /// Tell those who watch.
    Change(Change<R>),
    /// An event had no effect; count it, log it once per cause.
    Dropped(Dropped),
    /// Feed [`Input::Tick`] at this time.
    WakeAt(Timestamp),
    /// Store this row, if the process shall find it again after a crash. Only the last row of a uid counts. Only sources that
    /// were [restored](SourceSession::restored) want it.
    Store {
        /// Uid of the resource.
        uid: Arc<str>,
        /// What to store.
        row: Row<R>,
        /// Nothing that is polled from now on may leave before this is stored.
        before_sending: bool,
    },
}

/// A change of the local copies.
#[derive(Clone, Debug, PartialEq)]
pub enum Change<R> {
    /// Was unknown.
    Added(Arc<R>),
    /// New spec or metadata, or the deletion began.
    Modified(Arc<R>),
    /// Only the status is new.
    StatusModified(Arc<R>),
    /// Gone; this is its last state.
    Deleted(Arc<R>),
}

impl<R> Change<R> {
    /// The object that changed.
    pub fn object(&self) -> &Arc<R> {
        match self {
            Self::Added(object)
            | Self::Modified(object)
            | Self::StatusModified(object)
            | Self::Deleted(object) => object,
        }
    }
}

/// Why an event had no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Id of the event.
    pub id: String,
    /// The cause, a closed list for counters.
    pub cause: Cause,
    /// Words for the log.
    pub why: String,
}

/// Causes of [`Dropped`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The type does not parse.
    BadType,
    /// Another data type than the session's.
    OtherDataType,
    /// The half of the resource that this side sends itself.
    WrongSubResource,
    /// For another cluster, or for none.
    OtherCluster,
    /// From or for another source.
    OtherSource,
    /// Cannot be decoded.
    Undecodable,
    /// Larger than a resource may be.
    TooLarge,
    /// Older than what is known.
    Stale,
    /// Newer than what the owner ever sent.
    Ahead,
    /// Nobody knows the resource.
    Unknown,
    /// The resource is being deleted: only its end is awaited.
    Deleting,
    /// Cannot be encoded.
    Unencodable,
    /// The other side refused it.
    Refused,
}

impl Cause {
    /// A short word for metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadType => "bad_type",
            Self::OtherDataType => "other_data_type",
            Self::WrongSubResource => "wrong_subresource",
            Self::OtherCluster => "other_cluster",
            Self::OtherSource => "other_source",
            Self::Undecodable => "undecodable",
            Self::TooLarge => "too_large",
            Self::Stale => "stale",
            Self::Ahead => "ahead",
            Self::Unknown => "unknown",
            Self::Deleting => "deleting",
            Self::Unencodable => "unencodable",
            Self::Refused => "refused",
        }
    }
}

/// An event to send now.
#[derive(Clone, Debug)]
pub struct Transmit {
    /// Under which its fate is reported.
    pub ticket: Ticket,
    /// What to send.
    pub event: CloudEvent,
}

/// Why a local change was not accepted. The texts are those of the Go clients.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// No such resource.
    #[error("{0:?} not found")]
    NotFound(String),
    /// The resource exists.
    #[error("{0:?} already exists")]
    AlreadyExists(String),
    /// Changes need the version they are based on.
    #[error("the resource version of the work cannot be empty")]
    NoVersion,
    /// Somebody else was faster.
    #[error("the resource version of the work is outdated, new {new}, old {old}")]
    Conflict {
        /// Version the change is based on.
        new: i64,
        /// Version that is stored.
        old: i64,
    },
    /// The resource breaks a rule.
    #[error("{0}")]
    Invalid(String),
}

/// The common interface, for drivers and simulations.
pub trait Session: Send + 'static {
    /// What travels.
    type Object: crate::codec::Resource;
    /// Reacts.
    fn handle(&mut self, now: Timestamp, input: Input, out: &mut Vec<Output<Self::Object>>);
    /// The next event to send, while the link is up.
    fn poll_transmit(
        &mut self,
        now: Timestamp,
        out: &mut Vec<Output<Self::Object>>,
    ) -> Option<Transmit>;
    /// Local copies.
    fn store(&self) -> &Store<Self::Object>;
}

fn dropped<R>(out: &mut Vec<Output<R>>, id: &str, cause: Cause, why: impl ToString) {
    out.push(Output::Dropped(Dropped {
        id: id.to_owned(),
        cause,
        why: why.to_string(),
    }));
}

/// An event that is no resource.
fn undecodable<R>(out: &mut Vec<Output<R>>, id: &str, error: &DecodeError) {
    let cause = match error {
        DecodeError::TooLarge { .. } => Cause::TooLarge,
        DecodeError::Extension { .. }
        | DecodeError::Data(_)
        | DecodeError::Manifests(_)
        | DecodeError::Invalid(_) => Cause::Undecodable,
    };
    dropped(out, id, cause, error);
}

/// Versions of local copies are counters: 1, 2, 3.
fn next_version(meta: &crate::meta::ObjectMeta) -> String {
    (meta.resource_version.parse::<u64>().unwrap_or(0) + 1).to_string()
}

/// Optimistic concurrency on a local counter; `0` means by force.
fn check_version(based_on: &str, stored: &str) -> Result<(), ChangeError> {
    let number = |text: &str| {
        text.parse::<i64>().map_err(|_| {
            ChangeError::Invalid(format!("the resource version {text:?} is no number"))
        })
    };
    match based_on {
        "0" => Ok(()),
        "" => Err(ChangeError::NoVersion),
        text => {
            let (new, old) = (number(text)?, number(stored)?);
            if new < old {
                Err(ChangeError::Conflict { new, old })
            } else {
                Ok(())
            }
        }
    }
}
