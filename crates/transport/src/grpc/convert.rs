//! Events as messages: typed attributes under `ce-` keys, the content type under `contenttype`, data always as bytes.

use std::collections::BTreeMap;

use bytes::Bytes;
use drover_protocol::cloudevent::EnvelopeError;
use drover_protocol::{CloudEvent, ExtensionValue};
use jiff::Timestamp;

use prost::Message as _;

use super::proto::cloud_event::Data;
use super::proto::cloud_event_attribute_value::Attr;
use super::proto::{self, CloudEventAttributeValue, PublishRequest};

const CONTENT_TYPE: &str = "contenttype";
const STRUCTURED: &str = "application/cloudevents";

/// Why bytes are no event.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Not the protobuf message.
    #[error("failed to decode Protobuf message: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// The message has no event in it.
    #[error("the request has no event")]
    NoEvent,
    /// The message is not an event.
    #[error("failed to convert protobuf to cloudevent: {0}")]
    Event(#[from] EnvelopeError),
}

/// The bytes of the message of an event.
pub fn encode(event: &CloudEvent) -> Bytes {
    to_proto(event).encode_to_vec().into()
}

/// The event of the bytes of a message; `None` for a sign of life.
pub fn decode(message: Bytes) -> Result<Option<CloudEvent>, MessageError> {
    let message = proto::CloudEvent::decode(message)?;
    if message.r#type == drover_protocol::names::HEARTBEAT_TYPE {
        return Ok(None);
    }
    Ok(Some(from_proto(message)?))
}

/// The bytes of the request to publish an event.
pub fn encode_publish(event: &CloudEvent) -> Bytes {
    let event = Some(to_proto(event));
    PublishRequest { event }.encode_to_vec().into()
}

/// What somebody publishes: the event, and its message as it can be sent on.
#[derive(Debug)]
pub struct Published {
    /// The event.
    pub event: CloudEvent,
    /// Its message.
    pub message: Bytes,
}

/// Reads a request to publish. The message is the one that came, if every peer can read it.
pub fn decode_publish(request: Bytes) -> Result<Published, MessageError> {
    let decoded = PublishRequest::decode(request.clone())?;
    let decoded = decoded.event.ok_or(MessageError::NoEvent)?;
    let as_is = only_field(&request).filter(|_| is_usual(&decoded));
    let event = from_proto(decoded)?;
    Ok(Published {
        message: as_is.unwrap_or_else(|| encode(&event)),
        event,
    })
}

/// Whether every peer reads a message.
fn is_usual(message: &proto::CloudEvent) -> bool {
    let binary = message.attributes.get(CONTENT_TYPE).is_none_or(
        |value| matches!(&value.attr, Some(Attr::CeString(text)) if !text.starts_with(STRUCTURED)),
    );
    let bytes = matches!(message.data, None | Some(Data::BinaryData(_)));
    binary && bytes && message.spec_version == "1.0"
}

/// The content of the first field of a message that has no other.
fn only_field(request: &Bytes) -> Option<Bytes> {
    const EVENT_FIELD: u8 = 1 << 3 | 2;
    let (&key, mut rest) = request.split_first()?;
    let length = prost::decode_length_delimiter(&mut rest).ok()?;
    (key == EVENT_FIELD && length == rest.len()).then(|| request.slice_ref(rest))
}

/// The message of an event.
pub fn to_proto(event: &CloudEvent) -> proto::CloudEvent {
    let mut attributes = BTreeMap::new();
    let mut put = |key: String, attr: Attr| {
        attributes.insert(key, CloudEventAttributeValue { attr: Some(attr) });
    };
    for (name, value) in &event.extensions {
        put(format!("ce-{name}"), attr(value));
    }
    if let Some(time) = event.time {
        put("ce-time".to_owned(), Attr::CeTimestamp(timestamp(time)));
    }
    for (key, value) in [
        ("ce-subject", &event.subject),
        ("ce-dataschema", &event.data_schema),
        (CONTENT_TYPE, &event.content_type),
    ] {
        if let Some(value) = value {
            put(key.to_owned(), Attr::CeString(value.clone()));
        }
    }
    proto::CloudEvent {
        id: event.id.clone(),
        source: event.source.clone(),
        spec_version: "1.0".to_owned(),
        r#type: event.event_type.clone(),
        attributes,
        data: event.data.clone().map(Data::BinaryData),
    }
}

/// The event of a message: structured when its content type says so, else binary. A message without attributes is none.
pub fn from_proto(message: proto::CloudEvent) -> Result<CloudEvent, EnvelopeError> {
    let mut attributes = message.attributes;
    let data = match message.data {
        None | Some(Data::ProtoData(_)) => None,
        Some(Data::BinaryData(bytes)) => Some(bytes),
        Some(Data::TextData(text)) => Some(Bytes::from(text)),
    };
    let content_type = attributes.remove(CONTENT_TYPE).map(text_attr);
    if content_type
        .as_deref()
        .is_some_and(|t| t.starts_with(STRUCTURED))
    {
        return CloudEvent::from_json(&data.unwrap_or_default());
    }
    let known_version = matches!(message.spec_version.as_str(), "1.0" | "0.3");
    if (attributes.is_empty() && content_type.is_none()) || !known_version {
        return Err(EnvelopeError::UnknownEncoding);
    }
    let mut event = CloudEvent {
        id: message.id,
        source: message.source,
        event_type: message.r#type,
        time: None,
        content_type: content_type.filter(|t| !t.is_empty()),
        subject: None,
        data_schema: None,
        extensions: BTreeMap::new(),
        data: data.filter(|bytes| !bytes.is_empty()),
    };
    for (key, value) in attributes {
        let Some(name) = key.strip_prefix("ce-") else {
            continue;
        };
        match name {
            "time" => event.time = time_attr(value)?,
            "subject" => event.subject = Some(text_attr(value)),
            "dataschema" => event.data_schema = Some(text_attr(value)),
            _ => {
                let value = extension(name, value)?;
                event.extensions.insert(name.to_owned(), value);
            }
        }
    }
    Ok(event)
}

fn attr(value: &ExtensionValue) -> Attr {
    match value {
        ExtensionValue::Bool(value) => Attr::CeBoolean(*value),
        ExtensionValue::Integer(value) => Attr::CeInteger(*value),
        ExtensionValue::String(value) => Attr::CeString(value.clone()),
        ExtensionValue::Bytes(value) => Attr::CeBytes(value.clone()),
        ExtensionValue::Uri(value) => Attr::CeUri(value.clone()),
        ExtensionValue::UriRef(value) => Attr::CeUriRef(value.clone()),
        ExtensionValue::Timestamp(value) => Attr::CeTimestamp(timestamp(*value)),
    }
}

fn extension(name: &str, value: CloudEventAttributeValue) -> Result<ExtensionValue, EnvelopeError> {
    let bad = |why: String| EnvelopeError::Attribute {
        name: name.to_owned(),
        why,
    };
    Ok(
        match value
            .attr
            .ok_or_else(|| bad("unsupported attribute type".to_owned()))?
        {
            Attr::CeBoolean(value) => ExtensionValue::Bool(value),
            Attr::CeInteger(value) => ExtensionValue::Integer(value),
            Attr::CeString(value) => ExtensionValue::String(value),
            Attr::CeBytes(value) => ExtensionValue::Bytes(value),
            Attr::CeUri(value) => ExtensionValue::Uri(value),
            Attr::CeUriRef(value) => ExtensionValue::UriRef(value),
            Attr::CeTimestamp(time) => ExtensionValue::Timestamp(
                Timestamp::new(time.seconds, time.nanos).map_err(|e| bad(e.to_string()))?,
            ),
        },
    )
}

fn time_attr(value: CloudEventAttributeValue) -> Result<Option<Timestamp>, EnvelopeError> {
    match extension("time", value)? {
        ExtensionValue::Timestamp(time) => Ok(Some(time)),
        other => {
            other
                .to_text()
                .parse()
                .map(Some)
                .map_err(|e: jiff::Error| EnvelopeError::Attribute {
                    name: "time".to_owned(),
                    why: e.to_string(),
                })
        }
    }
}

fn text_attr(value: CloudEventAttributeValue) -> String {
    extension("", value)
        .map(|value| value.to_text())
        .unwrap_or_default()
}

fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    // Before 1970 jiff counts nanoseconds downwards, the message upwards.
    let (seconds, nanos) = (time.as_second(), time.subsec_nanosecond());
    if nanos < 0 {
        prost_types::Timestamp {
            seconds: seconds - 1,
            nanos: nanos + 1_000_000_000,
        }
    } else {
        prost_types::Timestamp { seconds, nanos }
    }
}

#[cfg(test)]
mod tests;
