//! Why a call did not do what it should.

use crate::journal::DiskError;
use drover_protocol::EncodeError;
use drover_protocol::session::ChangeError;
use drover_transport::{Remedy, TransportError};

/// Error of the clients.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The change does not fit the local copy.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The object cannot travel.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The event was not taken.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The object is not of the expected shape.
    #[error("failed to convert the object: {0}")]
    Json(#[from] serde_json::Error),
    /// A patch does not fit the object.
    #[error("failed to patch: {0}")]
    Patch(#[from] json_patch::PatchError),
    /// Resources have no such part. The text is that of the Go clients.
    #[error(
        "the server does not allow this method on the requested resource (patch {name}, subresource {subresource})"
    )]
    NotAllowed {
        /// Of the resource.
        name: String,
        /// What was to be patched.
        subresource: String,
    },
    /// The state of a source cannot be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// No answer came.
    #[error("failed to get an answer within {0:?}")]
    Timeout(std::time::Duration),
}

impl ClientError {
    /// What can be done about it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Transport(error) => error.remedy(),
            Self::Change(ChangeError::Conflict { .. }) | Self::Timeout(_) => Remedy::RetryLater,
            Self::Disk(_) => Remedy::FixConfig,
            Self::Change(_)
            | Self::Encode(_)
            | Self::Json(_)
            | Self::Patch(_)
            | Self::NotAllowed { .. } => Remedy::DropAndReport,
        }
    }

    /// The HTTP status that a Kubernetes API would answer with.
    pub fn code(&self) -> u16 {
        match self {
            Self::Change(ChangeError::NotFound(_)) => 404,
            Self::NotAllowed { .. } => 405,
            Self::Change(
                ChangeError::AlreadyExists(_)
                | ChangeError::Conflict { .. }
                | ChangeError::NoVersion,
            ) => 409,
            Self::Change(ChangeError::Invalid(_)) => 422,
            Self::Transport(TransportError::Refused(error)) => error.code,
            Self::Timeout(_) => 504,
            Self::Transport(_)
            | Self::Encode(_)
            | Self::Json(_)
            | Self::Patch(_)
            | Self::Disk(_) => 500,
        }
    }

    /// Whether somebody else changed the object first: read it again, decide again.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Change(ChangeError::Conflict { .. } | ChangeError::NoVersion) => true,
            Self::Transport(TransportError::Refused(error)) => {
                error.code == 409 && error.reason == "Conflict"
            }
            _ => false,
        }
    }

    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Change(ChangeError::NotFound(_)) => true,
            Self::Transport(TransportError::Refused(error)) => error.code == 404,
            _ => false,
        }
    }
}
