//! The status of a work written the way Go writes it: once, for the payload and for the hash.

use std::io::Write as _;
use std::ops::Range;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::meta::whole_seconds;
use crate::raw::go_json;
use crate::work::{
    Condition, ManifestCondition, ManifestResourceMeta, StatusFeedback, WorkStatus, hex,
};

/// A status as the payload of its event. The same arrays, framed differently, are its canonical form.
pub(crate) struct StatusText {
    payload: Vec<u8>,
    conditions: Range<usize>,
    manifests: Range<usize>,
}

impl StatusText {
    /// Writes a status.
    pub(crate) fn of(status: &WorkStatus) -> Result<Self, serde_json::Error> {
        let manifests = &status.resource_status.manifests;
        let mut writer = Writer {
            out: Vec::with_capacity(64 + 320 * status.conditions.len() + 640 * manifests.len()),
            time: None,
        };
        writer.raw("{\"conditions\":");
        let start = writer.out.len();
        writer.conditions(&status.conditions);
        let conditions = start..writer.out.len();
        let mut written = conditions.end..conditions.end;
        if !manifests.is_empty() {
            writer.raw(",\"resourceStatus\":");
            let start = writer.out.len();
            writer.list(manifests, Writer::manifest)?;
            written = start..writer.out.len();
        }
        writer.raw("}");
        Ok(Self {
            payload: writer.out,
            conditions,
            manifests: written,
        })
    }

    /// Lower-case hex SHA-256 of the canonical form, in which what is empty is left out.
    pub(crate) fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        let part = |range: &Range<usize>| self.payload.get(range.clone()).unwrap_or_default();
        hasher.update("{");
        if self.conditions.len() > "[]".len() {
            hasher.update("\"conditions\":");
            hasher.update(part(&self.conditions));
            hasher.update(",");
        }
        hasher.update("\"resourceStatus\":{");
        if !self.manifests.is_empty() {
            hasher.update("\"manifests\":");
            hasher.update(part(&self.manifests));
        }
        hasher.update("}}");
        hex(&hasher.finalize())
    }

    /// The payload of the event.
    pub(crate) fn into_payload(self) -> Vec<u8> {
        self.payload
    }
}

/// How a byte of a string is written: 0 = as it is, `u` = by its number, else behind a backslash. The first byte of U+2028
/// and U+2029 is marked too, and looked at twice.
static ESCAPES: [u8; 256] = {
    let mut escapes = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        escapes[control] = b'u';
        control += 1;
    }
    escapes[0x08] = b'b';
    escapes[0x09] = b't';
    escapes[0x0a] = b'n';
    escapes[0x0c] = b'f';
    escapes[0x0d] = b'r';
    escapes[b'"' as usize] = b'"';
    escapes[b'\\' as usize] = b'\\';
    escapes[b'<' as usize] = b'u';
    escapes[b'>' as usize] = b'u';
    escapes[b'&' as usize] = b'u';
    escapes[0xe2] = b'u';
    escapes
};

struct Writer {
    out: Vec<u8>,
    /// The last time that was written, and its text: those of one status are mostly the same.
    time: Option<(Timestamp, String)>,
}

impl Writer {
    fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn number(&mut self, number: i64) {
        write!(self.out, "{number}").expect("a Vec takes every write");
    }

    fn string(&mut self, text: &str) {
        let bytes = text.as_bytes();
        self.out.push(b'"');
        let mut written = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            let escape = ESCAPES[usize::from(byte)];
            if escape == 0 {
                continue;
            }
            let (number, length) = match bytes[at..] {
                [0xe2, 0x80, last @ (0xa8 | 0xa9), ..] => (0x2028 + u32::from(last - 0xa8), 3),
                [0xe2, ..] => continue,
                _ => (u32::from(byte), 1),
            };
            self.out.extend_from_slice(&bytes[written..at]);
            if escape == b'u' {
                write!(self.out, "\\u{number:04x}").expect("a Vec takes every write");
            } else {
                self.out.extend_from_slice(&[b'\\', escape]);
            }
            written = at + length;
        }
        self.out.extend_from_slice(&bytes[written..]);
        self.out.push(b'"');
    }

    fn field(&mut self, name: &str, text: &str) {
        self.raw(name);
        self.string(text);
    }

    fn time(&mut self, time: Option<Timestamp>) {
        let Some(time) = time else {
            return self.raw("null");
        };
        self.out.push(b'"');
        match &self.time {
            Some((same, text)) if *same == time => self.out.extend_from_slice(text.as_bytes()),
            Some(_) | None => {
                let text = whole_seconds(time).to_string();
                self.out.extend_from_slice(text.as_bytes());
                self.time = Some((time, text));
            }
        }
        self.out.push(b'"');
    }

    fn list<T>(
        &mut self,
        items: &[T],
        mut write: impl FnMut(&mut Self, &T) -> Result<(), serde_json::Error>,
    ) -> Result<(), serde_json::Error> {
        self.out.push(b'[');
        for (number, item) in items.iter().enumerate() {
            if number > 0 {
                self.out.push(b',');
            }
            write(self, item)?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn conditions(&mut self, conditions: &[Condition]) {
        self.out.push(b'[');
        for (number, condition) in conditions.iter().enumerate() {
            if number > 0 {
                self.out.push(b',');
            }
            self.condition(condition);
        }
        self.out.push(b']');
    }

    fn condition(&mut self, condition: &Condition) {
        self.raw("{\"lastTransitionTime\":");
        self.time(condition.last_transition_time);
        self.field(",\"message\":", &condition.message);
        if condition.observed_generation != 0 {
            self.raw(",\"observedGeneration\":");
            self.number(condition.observed_generation);
        }
        self.field(",\"reason\":", &condition.reason);
        self.field(",\"status\":", &condition.status);
        self.field(",\"type\":", &condition.condition_type);
        self.raw("}");
    }

    fn manifest(&mut self, manifest: &ManifestCondition) -> Result<(), serde_json::Error> {
        let ManifestCondition {
            conditions,
            resource_meta,
            status_feedback,
        } = manifest;
        self.raw("{\"conditions\":");
        match conditions {
            None => self.raw("null"),
            Some(conditions) => self.conditions(conditions),
        }
        self.raw(",\"resourceMeta\":");
        self.resource(resource_meta);
        self.raw(",\"statusFeedback\":");
        self.feedback(status_feedback)?;
        self.raw("}");
        Ok(())
    }

    fn resource(&mut self, meta: &ManifestResourceMeta) {
        self.field("{\"group\":", &meta.group);
        self.field(",\"kind\":", &meta.kind);
        self.field(",\"name\":", &meta.name);
        self.field(",\"namespace\":", &meta.namespace);
        self.raw(",\"ordinal\":");
        self.number(meta.ordinal.into());
        self.field(",\"resource\":", &meta.resource);
        self.field(",\"version\":", &meta.version);
        self.raw("}");
    }

    fn feedback(&mut self, feedback: &StatusFeedback) -> Result<(), serde_json::Error> {
        if feedback.values.is_empty() {
            self.raw("{}");
        } else {
            self.out.extend_from_slice(&go_json(feedback)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::StatusText;
    use crate::raw::go_json;
    use crate::work::{
        Condition, FeedbackValue, FieldValue, ManifestCondition, ManifestResourceMeta,
        ResourceStatus, StatusFeedback, WorkStatus, hex,
    };
    use sha2::{Digest as _, Sha256};

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-zA-Z]{0,12}",
            ".{0,8}",
            "[<>&\"\\\\/\u{0}-\u{1f}\u{7f}\u{e2}\u{2027}-\u{202a}]{0,6}",
        ]
    }

    prop_compose! {
        fn condition()(
            time in proptest::option::of(-100_000_i64..4_000_000_000), nanos in -999_999_999..1_000_000_000_i32,
            texts in proptest::array::uniform4(text()), observed_generation in prop_oneof![Just(0), any::<i64>()],
        ) -> Condition {
            let [message, reason, status, condition_type] = texts;
            let nanos = if time.is_some_and(|time| time < 0) { -nanos.abs() } else { nanos.abs() };
            let last_transition_time = time.map(|time| jiff::Timestamp::new(time, nanos).unwrap());
            Condition { last_transition_time, message, observed_generation, reason, status, condition_type }
        }
    }

    prop_compose! {
        fn manifest()(
            conditions in proptest::option::of(proptest::collection::vec(condition(), 0..3)),
            texts in proptest::array::uniform7(text()), ordinal in any::<i32>(),
            integer in proptest::option::of(any::<i64>()),
        ) -> ManifestCondition {
            let [group, kind, name, namespace, resource, version, string] = texts;
            let value = integer.map(|integer| FeedbackValue {
                name: kind.clone(),
                field_value: FieldValue { integer: Some(integer), string: Some(string), value_type: "Integer".into(), ..FieldValue::default() },
            });
            ManifestCondition {
                conditions,
                resource_meta: ManifestResourceMeta { group, kind, name, namespace, ordinal, resource, version },
                status_feedback: StatusFeedback { values: value.into_iter().collect() },
            }
        }
    }

    prop_compose! {
        fn status()(
            conditions in proptest::collection::vec(condition(), 0..3),
            manifests in proptest::collection::vec(manifest(), 0..3),
        ) -> WorkStatus {
            WorkStatus { conditions, resource_status: ResourceStatus { manifests } }
        }
    }

    proptest! {
        /// The types say the canonical form too, slowly.
        #[test]
        fn hashes_are_those_of_the_canonical_form(status in status()) {
            let canonical = go_json(&status).unwrap();
            prop_assert_eq!(StatusText::of(&status).unwrap().hash(), hex(&Sha256::digest(canonical)));
        }

        #[test]
        fn payloads_are_those_of_the_types(status in status()) {
            let conditions = String::from_utf8(go_json(&status.conditions).unwrap()).unwrap();
            let manifests = &status.resource_status.manifests;
            let expected = if manifests.is_empty() {
                format!("{{\"conditions\":{conditions}}}")
            } else {
                let manifests = String::from_utf8(go_json(manifests).unwrap()).unwrap();
                format!("{{\"conditions\":{conditions},\"resourceStatus\":{manifests}}}")
            };
            let payload = StatusText::of(&status).unwrap().into_payload();
            prop_assert_eq!(String::from_utf8(payload).unwrap(), expected);
        }
    }
}
