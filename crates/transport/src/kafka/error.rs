//! What errors of the Kafka client mean for a link.

use krafka::ProtocolErrorKind;
use std::sync::Arc;

use krafka::error::{ErrorCode, KrafkaError};

use crate::link::TransportError;
use crate::service::ServiceError;

/// An error while connecting.
pub(super) fn connect(to: &str, error: &KrafkaError) -> TransportError {
    match lost(error) {
        TransportError::Lost(why) => TransportError::Connect {
            to: to.to_owned(),
            why,
        },
        other => other,
    }
}

/// An error of an open link, or while it is opened on a connection.
pub(super) fn lost(error: &KrafkaError) -> TransportError {
    match error {
        KrafkaError::Config { message } => TransportError::Config(message.clone()),
        KrafkaError::Auth { .. } => TransportError::Access(words(error)),
        KrafkaError::Broker { code, .. } if denied(*code) => TransportError::Access(words(error)),
        other if alerted(other) => TransportError::Access(words(other)),
        other => TransportError::Lost(words(other)),
    }
}

/// An error of one event.
pub(super) fn publish(error: &KrafkaError) -> TransportError {
    let refused = |code: u16, reason: &str| {
        TransportError::Refused(Box::new(ServiceError::new(
            code,
            reason,
            format!("Kafka does not take the event: {error}"),
        )))
    };
    match error {
        // What is wrong with the configuration of a producer shows when it is made.
        KrafkaError::Config { .. }
        | KrafkaError::Protocol {
            kind: ProtocolErrorKind::FrameTooLarge | ProtocolErrorKind::InvalidLength,
            ..
        }
        | KrafkaError::Broker {
            code: ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge,
            ..
        } => refused(413, "RequestEntityTooLarge"),
        KrafkaError::Broker {
            code: ErrorCode::InvalidRecord | ErrorCode::InvalidTimestamp,
            ..
        }
        | KrafkaError::Serialization { .. } => refused(400, "BadRequest"),
        other => lost(other),
    }
}

/// Whether the same may succeed soon on the same link: brokers restart, leaders move.
pub(super) fn passes(error: &KrafkaError) -> bool {
    error.is_retriable() && !error.is_fatal()
}

/// Whether the broker ended the handshake: it does not know the client's certificate, or wants one.
fn alerted(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error
            .downcast_ref::<std::io::Error>()
            .or_else(|| error.downcast_ref::<Arc<std::io::Error>>().map(|io| &**io));
        let inner = io.and_then(std::io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if matches!(tls, Some(rustls::Error::AlertReceived(_))) {
            return true;
        }
        next = error.source();
    }
    false
}

fn denied(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::TopicAuthorizationFailed
            | ErrorCode::GroupAuthorizationFailed
            | ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::SaslAuthenticationFailed
    )
}

/// An error with its causes.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use krafka::ProtocolErrorKind;
    use krafka::error::{ErrorCode, KrafkaError};

    use super::{connect, lost, publish};
    use crate::link::Remedy;

    #[test]
    fn remedies() {
        let check = |error: KrafkaError, on_connect: Remedy, on_link: Remedy, of_event: Remedy| {
            assert_eq!(connect("k:1", &error).remedy(), on_connect, "{error}");
            assert_eq!(lost(&error).remedy(), on_link, "{error}");
            assert_eq!(publish(&error).remedy(), of_event, "{error}");
        };
        let (fix, later) = (Remedy::FixConfig, Remedy::RetryLater);
        let (again, never) = (Remedy::Reconnect, Remedy::DropAndReport);
        check(KrafkaError::config("no"), fix, fix, never);
        check(KrafkaError::auth("no"), fix, fix, fix);
        let broker = |code| KrafkaError::broker(code, "no");
        check(broker(ErrorCode::TopicAuthorizationFailed), fix, fix, fix);
        check(broker(ErrorCode::GroupAuthorizationFailed), fix, fix, fix);
        check(
            broker(ErrorCode::NotLeaderForPartition),
            later,
            again,
            again,
        );
        check(broker(ErrorCode::MessageTooLarge), later, again, never);
        check(broker(ErrorCode::InvalidRecord), later, again, never);
        check(KrafkaError::timeout("fetch"), later, again, again);
        check(
            KrafkaError::delivery_timeout(true, "?"),
            later,
            again,
            again,
        );
        check(KrafkaError::fenced("by another"), later, again, again);
        let large = KrafkaError::protocol_kind(ProtocolErrorKind::FrameTooLarge, "large");
        check(large, later, again, never);
    }
}
