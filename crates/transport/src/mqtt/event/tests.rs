use drover_protocol::names;
use jiff::Timestamp;

use super::super::packet::{Framed, Packet, frame};
use super::*;

const E1: &str = include_str!("../../../../protocol/src/vectors/e1.json");

fn e1() -> CloudEvent {
    CloudEvent::from_json(E1.as_bytes()).unwrap()
}

/// Writes a message and reads it as the other side does.
fn through(message: &Message) -> Result<CloudEvent, EnvelopeError> {
    let mut out = Vec::new();
    message.write(&mut out, 1);
    let Framed::Whole(frame) = frame(&out, usize::MAX).unwrap() else {
        panic!("a whole packet")
    };
    let Packet::Publish(publish) = Packet::read(frame).unwrap() else {
        panic!("a message")
    };
    from_message(&publish)
}

fn pairs(message: &Message) -> Vec<(String, String)> {
    let mut out = Vec::new();
    message.write(&mut out, 1);
    let Framed::Whole(frame) = frame(&out, usize::MAX).unwrap() else {
        panic!("a whole packet")
    };
    let Packet::Publish(publish) = Packet::read(frame).unwrap() else {
        panic!("a message")
    };
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let list = publish.properties.iter().map(Result::unwrap);
    list.map(|(number, value)| match (number, value) {
        (id::USER_PROPERTY, Value::Pair(key, value)) => (text(key), text(value)),
        (id::CONTENT_TYPE, Value::Text(value)) => ("content type".to_owned(), text(value)),
        other => panic!("{other:?}"),
    })
    .collect()
}

#[test]
fn binary_mode_is_what_peers_write() {
    let message = to_message(&e1(), "t", 1).unwrap();
    let pairs = pairs(&message);
    let names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "content type",
        "ce-specversion",
        "ce-id",
        "ce-source",
        "ce-type",
        "ce-time",
        "ce-clustername",
        "ce-logtracing",
        "ce-metadata",
        "ce-originalsource",
        "ce-resourceid",
        "ce-resourceversion",
    ];
    assert_eq!(names, expected);
    for (name, value) in [
        ("content type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-time", "2026-05-30T09:00:00.5Z"),
        ("ce-originalsource", ""),
        ("ce-resourceversion", "3"),
    ] {
        assert!(
            pairs.contains(&(name.to_owned(), value.to_owned())),
            "{name}"
        );
    }
    let got = through(&message).unwrap();
    assert_eq!(got, e1().with(names::EXT_RESOURCE_VERSION, "3"));
}

#[test]
fn structured_mode_is_read() {
    let none = std::iter::empty();
    let content = Some("application/cloudevents+json; charset=UTF-8");
    let message = Message::new("t", 1, content, none, E1.as_bytes()).unwrap();
    assert_eq!(through(&message).unwrap(), e1());
}

#[test]
fn no_event() {
    fn check(content: Option<&str>, pairs: &[(&str, &str)], expected: &str) {
        let message = Message::new("t", 1, content, pairs.iter().copied(), b"x").unwrap();
        assert_eq!(through(&message).unwrap_err().to_string(), expected);
    }
    let version = ("ce-specversion", "1.0");
    check(None, &[], "unknown Message encoding");
    check(
        Some("application/json"),
        &[("specversion", "1.0")],
        "unknown Message encoding",
    );
    check(
        None,
        &[("ce-specversion", "2.0")],
        "unknown Message encoding",
    );
    check(None, &[version], "failed to read the event: id is missing");
    check(
        Some("application/cloudevents+json"),
        &[version],
        "failed to read the event: expected value at line 1 column 1",
    );
}

#[test]
fn text_that_is_no_utf8_is_no_event() {
    let pair = std::iter::once(("ce-specversion", "1.0"));
    let mut out = Vec::new();
    let message = Message::new("t", 1, None, pair, b"").unwrap();
    message.write(&mut out, 1);
    let place = out.windows(3).position(|w| w == b"1.0").unwrap();
    out[place] = 0xff;
    let Framed::Whole(frame) = frame(&out, 1000).unwrap() else {
        panic!("a whole packet")
    };
    let Packet::Publish(publish) = Packet::read(frame).unwrap() else {
        panic!("a message")
    };
    let error = from_message(&publish).unwrap_err().to_string();
    assert!(
        error.starts_with("failed to read the attribute user property"),
        "{error}"
    );
}

#[test]
fn what_does_not_fit_a_property_goes_structured() {
    let time = Timestamp::UNIX_EPOCH;
    for metadata in ["x".repeat(70_000), "\0".to_owned()] {
        let event = CloudEvent::new("1", "s", "t", time)
            .with(names::EXT_METADATA, metadata)
            .with_json("{}");
        let message = to_message(&event, "t", 1).unwrap();
        assert_eq!(pairs(&message).len(), 1);
        assert_eq!(through(&message).unwrap(), event);
    }
}

#[test]
fn what_no_broker_takes_is_refused() {
    let event = CloudEvent::new("1", "s", "t", Timestamp::UNIX_EPOCH);
    let topic = "t".repeat(70_000);
    let error = to_message(&event, &topic, 1).unwrap_err();
    assert_eq!(error.remedy(), crate::Remedy::DropAndReport, "{error}");
}
