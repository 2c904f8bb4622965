//! Reason codes of servers: what they mean, and what can be done.

use super::session::Refusal;
use crate::link::TransportError;
use crate::service::ServiceError;

/// What a server says, in words: the name of the code, and its own.
fn words(refusal: &Refusal) -> String {
    let name = match refusal.reason {
        0x00 => "normal disconnection",
        0x04 => "disconnected with will",
        0x80 => "unspecified error",
        0x81 => "malformed packet",
        0x82 => "protocol error",
        0x83 => "implementation specific error",
        0x84 => "unsupported protocol version",
        0x85 => "client identifier not valid",
        0x86 => "bad user name or password",
        0x87 => "not authorized",
        0x88 => "server unavailable",
        0x89 => "server busy",
        0x8a => "banned",
        0x8b => "server shutting down",
        0x8c => "bad authentication method",
        0x8d => "keep alive timeout",
        0x8e => "session taken over",
        0x8f => "topic filter invalid",
        0x90 => "topic name invalid",
        0x91 => "packet identifier in use",
        0x93 => "receive maximum exceeded",
        0x94 => "topic alias invalid",
        0x95 => "packet too large",
        0x96 => "message rate too high",
        0x97 => "quota exceeded",
        0x98 => "administrative action",
        0x99 => "payload format invalid",
        0x9a => "retain not supported",
        0x9b => "QoS not supported",
        0x9c => "use another server",
        0x9d => "server moved",
        0x9e => "shared subscriptions not supported",
        0x9f => "connection rate exceeded",
        0xa0 => "maximum connect time",
        0xa1 => "subscription identifiers not supported",
        0xa2 => "wildcard subscriptions not supported",
        _ => "unknown reason",
    };
    match &refusal.why {
        Some(why) => format!("{name} (0x{:02x}): {why}", refusal.reason),
        None => format!("{name} (0x{:02x})", refusal.reason),
    }
}

/// Why the server does not take the client.
pub(super) fn not_connected(broker: &str, refusal: &Refusal) -> TransportError {
    let said = words(refusal);
    match refusal.reason {
        0x86 | 0x87 | 0x8a | 0x8c => TransportError::Access(said),
        // 0x01 is how servers of the version before refuse this one.
        0x01 | 0x84 => TransportError::Config(format!("{broker} does not speak MQTT 5: {said}")),
        0x85 | 0x90 | 0x95 | 0x9a | 0x9b | 0x9c | 0x9d => TransportError::Config(said),
        _ => TransportError::Connect {
            to: broker.to_owned(),
            why: said,
        },
    }
}

/// Why the server does not give a topic.
pub(super) fn not_subscribed(filter: &str, refusal: &Refusal) -> TransportError {
    let said = format!("{filter}: {}", words(refusal));
    match refusal.reason {
        0x87 => TransportError::Access(said),
        0x8f | 0x9e | 0xa1 | 0xa2 => TransportError::Config(said),
        _ => TransportError::Protocol(said),
    }
}

/// Why the server ended the connection.
pub(super) fn said_good_bye(refusal: &Refusal) -> TransportError {
    let said = words(refusal);
    match refusal.reason {
        0x87 => TransportError::Access(said),
        0x8e => TransportError::Config(format!(
            "{said}; another client has the same client id, and each needs its own"
        )),
        _ => TransportError::Lost(said),
    }
}

/// Why an event was not taken.
pub(super) fn refused(refusal: Refusal) -> TransportError {
    let said = format!("the MQTT broker refused the event: {}", words(&refusal));
    let (code, reason) = match refusal.reason {
        0x87 => return TransportError::Access(said),
        0x91 => return TransportError::Lost(said),
        0x90 | 0x99 => (400, "BadRequest"),
        0x95 => (413, "RequestEntityTooLarge"),
        0x97 => (429, "TooManyRequests"),
        _ => (500, "InternalError"),
    };
    TransportError::Refused(Box::new(ServiceError::new(code, reason, said)))
}

#[cfg(test)]
mod tests;
