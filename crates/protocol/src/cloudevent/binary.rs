//! The textual binary form: one `ce-` string per attribute beside the payload (MQTT user properties, Pub/Sub attributes).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::{CloudEvent, EnvelopeError, ExtensionValue, attribute};

/// Prefix of every attribute in binary form.
const PREFIX: &str = "ce-";

impl ExtensionValue {
    /// The value as text: integers decimal, times RFC 3339 in UTC, bytes base64.
    pub fn to_text(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::String(value) | Self::Uri(value) | Self::UriRef(value) => value.clone(),
            Self::Bytes(value) => STANDARD.encode(value),
            Self::Timestamp(value) => value.to_string(),
        }
    }
}

impl CloudEvent {
    /// The attributes as `ce-` pairs; content type and payload travel beside them.
    pub fn to_pairs(&self) -> Vec<(String, String)> {
        let mut pairs = vec![
            ("ce-specversion".to_owned(), "1.0".to_owned()),
            ("ce-id".to_owned(), self.id.clone()),
            ("ce-source".to_owned(), self.source.clone()),
            ("ce-type".to_owned(), self.event_type.clone()),
        ];
        if let Some(time) = self.time {
            pairs.push(("ce-time".to_owned(), time.to_string()));
        }
        for (name, value) in [
            ("ce-subject", &self.subject),
            ("ce-dataschema", &self.data_schema),
        ] {
            if let Some(value) = value {
                pairs.push((name.to_owned(), value.clone()));
            }
        }
        pairs.extend(
            self.extensions
                .iter()
                .map(|(name, value)| (format!("{PREFIX}{name}"), value.to_text())),
        );
        pairs
    }

    /// Reads an event from text pairs. A structured content type means that the payload is the event; pairs without the
    /// prefix are ignored; every extension arrives as text.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
        content_type: Option<&str>,
        payload: Bytes,
    ) -> Result<Self, EnvelopeError> {
        if content_type.is_some_and(|t| t.starts_with("application/cloudevents")) {
            return Self::from_json(&payload);
        }
        let mut attributes: BTreeMap<&str, &str> = pairs
            .into_iter()
            .filter_map(|(k, v)| Some((k.strip_prefix(PREFIX)?, v)))
            .collect();
        match attributes.remove("specversion") {
            Some("1.0" | "0.3") => (),
            Some(_) | None => return Err(EnvelopeError::UnknownEncoding),
        }
        let mut take = |name: &'static str| {
            attributes
                .remove(name)
                .map(str::to_owned)
                .ok_or(EnvelopeError::Missing(name))
        };
        let (id, source, event_type) = (take("id")?, take("source")?, take("type")?);
        let time = match take("time") {
            Ok(text) => Some(
                text.parse()
                    .map_err(|e: jiff::Error| attribute("time", e))?,
            ),
            Err(_) => None,
        };
        let (subject, data_schema) = (take("subject").ok(), take("dataschema").ok());
        let extensions = attributes
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v.into()))
            .collect();
        let data = (!payload.is_empty()).then_some(payload);
        let content_type = content_type.filter(|t| !t.is_empty()).map(str::to_owned);
        Ok(Self {
            id,
            source,
            event_type,
            time,
            content_type,
            subject,
            data_schema,
            extensions,
            data,
        })
    }
}
