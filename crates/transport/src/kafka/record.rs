//! Events as records. Written in binary mode as the Go implementation does: headers `ce-NAME` and `content-type`, data as the
//! value. Read in binary mode with that prefix or with `ce_`, which the CloudEvents Kafka binding has, and in structured mode.

use bytes::Bytes;
use drover_protocol::CloudEvent;
use drover_protocol::cloudevent::EnvelopeError;
use krafka::{Headers, Record};

use super::route::{self, Filter};

const CONTENT_TYPE: &str = "content-type";
const STRUCTURED: &str = "application/cloudevents";

/// The record of an event.
pub(super) fn to_record(topic: &'static str, event: &CloudEvent) -> Record {
    let record = Record::new(topic, event.data.clone().unwrap_or_default());
    let mut record = record.key(route::key(event, topic));
    record.headers = to_headers(event);
    record
}

fn to_headers(event: &CloudEvent) -> Headers {
    let content_type = event.content_type.clone();
    let attributes = event.to_pairs().into_iter();
    attributes
        .chain(content_type.map(|text| (CONTENT_TYPE.to_owned(), text)))
        .map(|(name, value)| (name, Some(Bytes::from(value))))
        .collect()
}

/// Reads a record; `None` when it is for somebody else.
pub(super) fn from_record(
    headers: &Headers,
    value: Option<Bytes>,
    filter: &Filter,
) -> Result<Option<CloudEvent>, EnvelopeError> {
    let value = value.unwrap_or_default();
    let content_type = header(headers, CONTENT_TYPE);
    if content_type.is_some_and(|text| text.starts_with(STRUCTURED)) {
        let event = CloudEvent::from_json(&value)?;
        return Ok(filter.takes_event(&event).then_some(event));
    }
    // Most records are for other clusters: those are not decoded.
    let known = attribute(headers, "type").is_some();
    if known && !filter.takes(|name| attribute(headers, name)) {
        return Ok(None);
    }
    let mut pairs = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let (Some(name), Some(value)) = (named(name), value) else {
            continue;
        };
        let text = std::str::from_utf8(value).map_err(|e| EnvelopeError::Attribute {
            name: name.to_owned(),
            why: e.to_string(),
        })?;
        pairs.push((format!("ce-{name}"), text));
    }
    let pairs = pairs.iter().map(|(name, text)| (name.as_str(), *text));
    CloudEvent::from_pairs(pairs, content_type, value).map(Some)
}

/// The attribute of a header.
fn named(header: &str) -> Option<&str> {
    header
        .strip_prefix("ce-")
        .or_else(|| header.strip_prefix("ce_"))
}

/// The last header of a name, if it is text.
fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    let found = headers.iter().rev().find(|(key, _)| key == name);
    std::str::from_utf8(found?.1.as_deref()?).ok()
}

fn attribute<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    let found = headers
        .iter()
        .rev()
        .find(|(key, _)| named(key) == Some(name));
    std::str::from_utf8(found?.1.as_deref()?).ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use drover_protocol::{CloudEvent, DataType, ExtensionValue};
    use krafka::Headers;

    use super::{from_record, to_record};
    use crate::kafka::route::{Filter, SOURCE_EVENTS};

    const E1: &str = include_str!("../../../protocol/src/vectors/e1.json");

    fn filter(cluster: &str) -> Filter {
        Filter::agent(&DataType::MANIFEST_BUNDLES, cluster.to_owned())
    }

    fn e1() -> CloudEvent {
        CloudEvent::from_json(E1.as_bytes()).unwrap()
    }

    #[test]
    fn binary_records() {
        let record = to_record(SOURCE_EVENTS, &e1());
        assert_eq!(record.key_str(), Some("hub-a@edge-7"));
        let headers: Vec<(&str, &str)> = record
            .headers
            .iter()
            .map(|(name, value)| {
                let value = value.as_ref().unwrap();
                (name.as_str(), std::str::from_utf8(value).unwrap())
            })
            .collect();
        for expected in [
            ("ce-specversion", "1.0"),
            ("ce-id", "0b6f0d3c-6a43-4d0e-9a57-2f6c1f3f7a01"),
            ("ce-source", "hub-a"),
            ("ce-time", "2026-05-30T09:00:00.5Z"),
            ("ce-clustername", "edge-7"),
            ("ce-originalsource", ""),
            ("ce-resourceversion", "3"),
            ("content-type", "application/json"),
        ] {
            assert!(headers.contains(&expected), "{expected:?} in {headers:?}");
        }

        let mut expected = e1();
        // Everything is text once it has been in headers.
        for value in expected.extensions.values_mut() {
            *value = ExtensionValue::String(value.to_text());
        }
        let back = from_record(&record.headers, record.value.clone(), &filter("edge-7"));
        assert_eq!(back.unwrap(), Some(expected.clone()));
        let other = from_record(&record.headers, record.value.clone(), &filter("edge-8"));
        assert_eq!(other.unwrap(), None);

        let by_the_binding = |(name, value): (String, _)| (name.replace("ce-", "ce_"), value);
        let headers: Headers = record.headers.into_iter().map(by_the_binding).collect();
        let back = from_record(&headers, record.value, &filter("edge-7"));
        assert_eq!(back.unwrap(), Some(expected));
    }

    #[test]
    fn structured_records() {
        let headers: Headers = vec![(
            "content-type".to_owned(),
            Some(Bytes::from_static(
                b"application/cloudevents+json; charset=UTF-8",
            )),
        )];
        let value = Some(Bytes::from_static(E1.as_bytes()));
        let read = |cluster| from_record(&headers, value.clone(), &filter(cluster)).unwrap();
        assert_eq!(read("edge-7"), Some(e1()));
        assert_eq!(read("edge-8"), None);
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let check = |headers: &[(&str, &[u8])], value: &'static str, expected: &str| {
            let headers: Headers = headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Some(Bytes::copy_from_slice(value))))
                .collect();
            let error = from_record(&headers, Some(value.into()), &filter("edge-7")).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        let create = b"io.open-cluster-management.works.v1alpha1.manifestbundles.spec.x".as_slice();
        check(&[], "hello", "unknown Message encoding");
        check(&[("specversion", b"1.0")], "{}", "unknown Message encoding");
        check(&[("ce_specversion", b"1.0")], "{}", "id is missing");
        let bad = [("ce_type", create), ("ce_id", b"\xff")];
        check(&bad, "{}", "the attribute id: invalid utf-8");
        let structured = [("content-type", b"application/cloudevents+json".as_slice())];
        check(&structured, "{", "EOF while parsing");
    }

    proptest::proptest! {
        #[test]
        fn any_record_is_read_or_refused(
            names in proptest::collection::vec("(ce[-_](type|id|source|specversion|time|clustername|x)|content-type)", 0..9),
            values in proptest::collection::vec(proptest::option::of(proptest::collection::vec(proptest::num::u8::ANY, 0..9)), 9),
            value in proptest::option::of(proptest::collection::vec(proptest::num::u8::ANY, 0..99)),
        ) {
            let values = values.into_iter().map(|value| value.map(Bytes::from));
            let mut headers: Headers = names.into_iter().zip(values).collect();
            let _read = from_record(&headers, value.clone().map(Bytes::from), &filter("edge-7"));
            let structured = Bytes::from_static(b"application/cloudevents+json");
            headers.push(("content-type".to_owned(), Some(structured)));
            let _read = from_record(&headers, value.map(Bytes::from), &filter("edge-7"));
        }
    }
}
