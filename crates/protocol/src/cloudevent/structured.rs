//! The structured JSON form.

use std::collections::BTreeMap;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::value::RawValue;

use super::{CloudEvent, EnvelopeError, ExtensionValue, attribute};

impl CloudEvent {
    /// Reads a structured JSON event.
    pub fn from_json(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let mut fields: BTreeMap<String, &RawValue> = serde_json::from_slice(bytes)?;
        fields.retain(|_, value| value.get() != "null");
        let mut take = |name: &'static str| -> Result<Option<String>, EnvelopeError> {
            fields
                .remove(name)
                .map(|raw| serde_json::from_str(raw.get()).map_err(|e| attribute(name, e)))
                .transpose()
        };
        let version = take("specversion")?.ok_or(EnvelopeError::Missing("specversion"))?;
        if version != "1.0" && version != "0.3" {
            return Err(attribute(
                "specversion",
                format!("unsupported version {version}"),
            ));
        }
        let id = take("id")?.ok_or(EnvelopeError::Missing("id"))?;
        let source = take("source")?.ok_or(EnvelopeError::Missing("source"))?;
        let event_type = take("type")?.ok_or(EnvelopeError::Missing("type"))?;
        let time = take("time")?
            .map(|text| text.parse().map_err(|e: jiff::Error| attribute("time", e)))
            .transpose()?;
        let content_type = take("datacontenttype")?;
        let subject = take("subject")?;
        let data_schema = take("dataschema")?;
        let base64 = take("data_base64")?;
        let data = match (fields.remove("data"), base64) {
            (Some(_), Some(_)) => {
                return Err(attribute("data", "data and data_base64 exclude each other"));
            }
            (Some(raw), None) => Some(data_bytes(raw, content_type.as_deref())?),
            (None, Some(text)) => Some(
                STANDARD
                    .decode(text)
                    .map_err(|e| attribute("data_base64", e))?
                    .into(),
            ),
            (None, None) => None,
        };
        let mut extensions = BTreeMap::new();
        for (name, raw) in fields {
            let value = extension(&name, raw)?;
            extensions.insert(name, value);
        }
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

    /// Writes the event as structured JSON. JSON payloads are embedded, others are base64.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512 + self.payload().len());
        out.extend_from_slice(b"{\"specversion\":\"1.0\"");
        field(&mut out, "id", &self.id);
        field(&mut out, "source", &self.source);
        field(&mut out, "type", &self.event_type);
        for (name, value) in [
            ("datacontenttype", &self.content_type),
            ("subject", &self.subject),
            ("dataschema", &self.data_schema),
        ] {
            if let Some(value) = value {
                field(&mut out, name, value);
            }
        }
        if let Some(time) = self.time {
            field(&mut out, "time", &time.to_string());
        }
        if let Some(data) = &self.data {
            if is_json(self.content_type.as_deref())
                && serde_json::from_slice::<&RawValue>(data).is_ok()
            {
                out.extend_from_slice(b",\"data\":");
                out.extend_from_slice(data);
            } else {
                field(&mut out, "data_base64", &STANDARD.encode(data));
            }
        }
        let extensions = self
            .extensions
            .iter()
            .filter(|(name, _)| !RESERVED.contains(&name.as_str()));
        for (name, value) in extensions {
            match value {
                ExtensionValue::Bool(value) => raw_field(&mut out, name, &value.to_string()),
                ExtensionValue::Integer(value) => raw_field(&mut out, name, &value.to_string()),
                other => field(&mut out, name, &other.to_text()),
            }
        }
        out.push(b'}');
        out
    }
}

/// Members of the JSON format that are no extensions: an extension of such a name, which other formats let through, would make
/// an event that nobody can read (CloudEvents JSON format, section 3).
const RESERVED: &[&str] = &[
    "specversion",
    "id",
    "source",
    "type",
    "datacontenttype",
    "subject",
    "dataschema",
    "time",
    "data",
    "data_base64",
];

fn is_json(content_type: Option<&str>) -> bool {
    content_type.is_none_or(|content_type| {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        essence.ends_with("/json") || essence.ends_with("+json")
    })
}

fn data_bytes(raw: &RawValue, content_type: Option<&str>) -> Result<Bytes, EnvelopeError> {
    if is_json(content_type) {
        return Ok(Bytes::copy_from_slice(raw.get().as_bytes()));
    }
    let text: String = serde_json::from_str(raw.get()).map_err(|e| attribute("data", e))?;
    Ok(text.into())
}

fn extension(name: &str, raw: &RawValue) -> Result<ExtensionValue, EnvelopeError> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str(text)
            .map(ExtensionValue::String)
            .map_err(|e| attribute(name, e)),
        Some(b't' | b'f') => Ok(ExtensionValue::Bool(text == "true")),
        Some(b'-' | b'0'..=b'9') => text
            .parse()
            .map(ExtensionValue::Integer)
            .map_err(|_| attribute(name, format!("{text} is no 32 bit integer"))),
        Some(_) | None => Err(attribute(
            name,
            "an extension is a string, a number or a boolean",
        )),
    }
}

fn quoted(out: &mut Vec<u8>, text: &str) {
    let quoted = serde_json::Value::from(text);
    write!(out, "{quoted}").expect("a Vec takes every write");
}

fn raw_field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(b',');
    quoted(out, name);
    out.push(b':');
    out.extend_from_slice(value.as_bytes());
}

fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    raw_field(out, name, "");
    quoted(out, value);
}
