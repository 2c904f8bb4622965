//! Events as messages: binary mode with `ce-` user properties; structured mode is read, and written where binary cannot be.

use bytes::Bytes;
use drover_protocol::CloudEvent;
use drover_protocol::cloudevent::{EnvelopeError, STRUCTURED_JSON};

use super::packet::Publish;
use super::packet::properties::{Value, id};
use super::packet::write::{Message, MessageError};
use crate::link::TransportError;
use crate::service::ServiceError;

/// The message of an event, ready for a topic.
pub fn to_message(event: &CloudEvent, topic: &str, qos: u8) -> Result<Message, TransportError> {
    let pairs = event.to_pairs();
    let pairs = pairs
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    let binary = Message::new(
        topic,
        qos,
        event.content_type.as_deref(),
        pairs,
        event.payload(),
    );
    let written = match binary {
        // The metadata of a work can be longer than a user property: JSON has no such limit, and every peer reads it.
        Err(MessageError::Text { name, bytes }) if name != "topic" => {
            tracing::debug!(name, bytes, "an attribute does not fit a user property");
            let none = std::iter::empty();
            Message::new(topic, qos, Some(STRUCTURED_JSON), none, &event.to_json())
        }
        other => other,
    };
    written.map_err(|error| match error {
        MessageError::Text { name, bytes } => TransportError::Refused(Box::new(
            ServiceError::bad_request(format!("failed to send: the {name} has {bytes} bytes")),
        )),
        MessageError::Size(size) => too_large(event, size, super::packet::write::MAX_BODY),
    })
}

/// Says that a broker will never take an event.
pub(super) fn too_large(event: &CloudEvent, size: usize, limit: usize) -> TransportError {
    let resource = event.resource_id().unwrap_or("no resource");
    TransportError::Refused(Box::new(ServiceError::new(
        413,
        "RequestEntityTooLarge",
        format!(
            "failed to send an event of {resource}: it makes a packet of {size} bytes, the MQTT broker takes at most {limit}; split the resource or raise the broker's limit"
        ),
    )))
}

/// The event of a message.
pub fn from_message(message: &Publish<'_>) -> Result<CloudEvent, EnvelopeError> {
    let damaged = |name: &str, why: &dyn std::fmt::Display| EnvelopeError::Attribute {
        name: name.to_owned(),
        why: why.to_string(),
    };
    let text = |bytes| std::str::from_utf8(bytes).map_err(|e| damaged("user property", &e));
    let mut content_type = None;
    let mut pairs = Vec::with_capacity(16);
    for property in message.properties.iter() {
        match property.map_err(|e| damaged("user property", &e))? {
            (id::CONTENT_TYPE, Value::Text(value)) => content_type = Some(text(value)?),
            (id::USER_PROPERTY, Value::Pair(key, value)) => pairs.push((text(key)?, text(value)?)),
            _ => (),
        }
    }
    // A copy of its own: what is kept of the payload must not keep the whole buffer.
    let payload = Bytes::copy_from_slice(message.payload);
    CloudEvent::from_pairs(pairs, content_type, payload)
}

#[cfg(test)]
mod tests;
