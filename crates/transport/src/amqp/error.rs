//! What can go wrong, told apart by what helps.

use std::io;

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

use super::identity::IdentityError;

/// Why a message is not known to be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmqpError {
    /// The address is no address.
    #[error(
        "the broker's URL is wrong: {0}; it looks like amqps://host:5671/vhost, the vhost percent-encoded (/pubsub is %2Fpubsub)"
    )]
    Url(String),
    /// TLS without a certificate.
    #[error("the broker wants TLS: give an authority, a certificate and its key")]
    NoIdentity,
    /// The certificate cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A part of the message cannot travel.
    #[error("the message cannot be sent: {0}")]
    Invalid(String),
    /// Nobody there, or nobody answers.
    #[error("failed to reach the broker: {0}")]
    Unreachable(String),
    /// The broker is not who it should be, or does not like our certificate.
    #[error("failed to agree on TLS with the broker: {0}; check the authority and the certificate")]
    Tls(String),
    /// The broker does not let us in.
    #[error(
        "the broker refused the login: {0}; the certificate's common name must be a user of the broker and of the vhost"
    )]
    Login(String),
    /// Not this topic, or not this exchange.
    #[error("the broker forbade the message: {0}")]
    Forbidden(String),
    /// There is no such exchange.
    #[error("the broker has no such exchange: {0}")]
    NoExchange(String),
    /// A queue was full.
    #[error("the broker rejected the message: a queue took no more")]
    Rejected,
    /// The broker said that it takes nothing now; the message was not written.
    #[error("the broker takes no messages now: it is short of memory or disk space")]
    Blocked,
    /// Written, and not heard of since.
    #[error("nobody knows whether the message arrived: {0}")]
    Uncertain(String),
}

/// What helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: the message or the place is wrong.
    Never,
    /// Somebody must change a certificate, an authority or rights.
    AfterChange,
    /// Time; nothing was sent.
    Later,
    /// The same message again: it may have been sent.
    Again,
}

impl AmqpError {
    /// What helps.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Url(_) | Self::Invalid(_) | Self::Forbidden(_) | Self::NoExchange(_) => {
                Verdict::Never
            }
            Self::NoIdentity | Self::Identity(_) | Self::Tls(_) | Self::Login(_) => {
                Verdict::AfterChange
            }
            Self::Unreachable(_) | Self::Blocked | Self::Rejected => Verdict::Later,
            Self::Uncertain(_) => Verdict::Again,
        }
    }

    pub(super) fn no_channel() -> Self {
        Self::Unreachable("the broker opens no channel".to_owned())
    }

    pub(super) fn of_io(error: &io::Error) -> Self {
        let tls = error
            .get_ref()
            .is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>);
        if tls || error.kind() == io::ErrorKind::InvalidData {
            Self::Tls(error.to_string())
        } else {
            Self::Unreachable(error.to_string())
        }
    }

    /// An error before anything was published.
    pub(super) fn of_connect(error: &lapin::Error) -> Self {
        match error.kind() {
            ErrorKind::IOError(io) => Self::of_io(io),
            ErrorKind::ProtocolError(refusal) => {
                let text = refusal.get_message().to_string();
                match refusal.kind() {
                    AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)
                    | AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => Self::Login(text),
                    _ => Self::Unreachable(text),
                }
            }
            _ => Self::Unreachable(error.to_string()),
        }
    }

    /// Whether the other side ended the connection.
    pub(super) fn hung_up(error: &lapin::Error) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        matches!(error.kind(), ErrorKind::IOError(io)
            if matches!(io.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof))
    }

    /// An error while the message was handed over: where there was no channel any more, nothing was written.
    pub(super) fn of_write(error: &lapin::Error, routing_key: &str) -> Self {
        match error.kind() {
            ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidConnectionState(_) => {
                Self::Unreachable(error.to_string())
            }
            _ => Self::of_publish(error, routing_key),
        }
    }

    /// An error after the message may have been written. One refusal closes the channel for all that are on their way: only
    /// the message that it names was certainly refused.
    pub(super) fn of_publish(error: &lapin::Error, routing_key: &str) -> Self {
        if let ErrorKind::ProtocolError(refusal) = error.kind() {
            let text = refusal.get_message().to_string();
            // A reply has 255 bytes at most: a long topic is cut, and dots stand for the rest.
            let named = text.split_once("access to topic '").map(|(_, rest)| rest);
            let mine = named.is_none_or(|rest| match rest.split_once('\'') {
                Some((topic, _)) => topic == routing_key,
                None => routing_key.starts_with(rest.trim_end_matches('.')),
            });
            match refusal.kind() {
                AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) if mine => {
                    return Self::Forbidden(text);
                }
                AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => return Self::NoExchange(text),
                _ => return Self::Uncertain(text),
            }
        }
        Self::Uncertain(error.to_string())
    }
}
