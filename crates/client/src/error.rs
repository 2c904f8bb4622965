//! Why a call did not do what it should.

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
            Self::Change(_) | Self::Encode(_) | Self::Json(_) => Remedy::DropAndReport,
        }
    }

    /// Whether somebody else changed the object first: read it again, decide again.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Change(ChangeError::Conflict { .. }) => true,
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
