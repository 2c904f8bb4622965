use serde_json::{Value, json};

use super::*;

fn time(text: &str) -> Timestamp {
    text.parse().expect("the times of this file are valid")
}

#[test]
fn the_id_of_a_resource_is_reproducible() {
    let uid = "11111111-2222-3333-4444-555555555555";
    assert_eq!(message_id(uid, 1), "f4300d3c-42ae-49ae-9a79-0c6f6249cfd1");
    assert_ne!(message_id(uid, 2), message_id(uid, 1));
    assert!(is_uuid(&message_id(uid, 2)) && !is_uuid("f4300d3c42ae49ae9a790c6f6249cfd1"));
}

#[test]
fn a_prefix_goes_before_the_topic() {
    for (prefix, topic, expected) in [
        ("", "a.b", "a.b"),
        ("org.fedoraproject.stg", "a.b", "org.fedoraproject.stg.a.b"),
        ("org.fedoraproject.stg.", "a.b", "org.fedoraproject.stg.a.b"),
        ("p", "", "p."),
    ] {
        assert_eq!(routing_key(prefix, topic), expected);
    }
}

#[test]
fn packages_are_compared_as_python_compares_them() {
    for (name, expected) in [
        ("fedora_messaging", "fedora_messaging"),
        ("Bodhi.Messages", "bodhi_messages"),
        ("a--b__c", "a_b_c"),
    ] {
        assert_eq!(package_name(name), expected);
    }
}

#[test]
fn a_line_becomes_a_message() {
    let line = Line::parse(
        r#"{"topic": "nice.message", "body": {"é": 123456789012345678901234567890}, "headers": {"niceness": "very", "n": 5, "big": 5000000000, "yes": true}, "extra": 1}"#,
    );
    let outgoing = line
        .and_then(|line| line.outgoing("org.fedoraproject.stg", time("2026-11-20T21:43:07.9Z"), 7))
        .expect("the line is a message");
    assert_eq!(outgoing.routing_key, "org.fedoraproject.stg.nice.message");
    assert_eq!(
        String::from_utf8_lossy(&outgoing.body),
        r#"{"é": 123456789012345678901234567890}"#,
        "the body travels as it was written"
    );
    let text = |value: &str| Header::Text(value.to_owned());
    let expected: BTreeMap<String, Header> = [
        ("niceness", text("very")),
        ("n", Header::Int(5)),
        ("big", Header::Long(5_000_000_000)),
        ("yes", Header::Bool(true)),
        (HEADER_SCHEMA, text("base.message")),
        (HEADER_SCHEMA_PACKAGE, text("fedora_messaging")),
        (HEADER_SEVERITY, Header::Int(20)),
        (HEADER_SENT_AT, text("2026-11-20T21:43:07+00:00")),
        (HEADER_PRIORITY, Header::Int(0)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    assert_eq!(outgoing.headers, expected);
    assert!(is_uuid(&outgoing.message_id));
}

#[test]
fn a_copy_of_a_message_keeps_its_id_and_time() {
    let line = r#"{"topic":"t","body":{},"id":"abc","priority":3,"headers":{"sent-at":"2026-01-02T03:04:05.5+01:00","fedora_messaging_severity":40}}"#;
    let outgoing = Line::parse(line)
        .and_then(|line| line.outgoing("", time("2030-01-01T00:00:00Z"), 7))
        .expect("the line is a message");
    assert_eq!(outgoing.message_id, "abc");
    assert_eq!(outgoing.priority, 3);
    assert_eq!(
        outgoing.headers[HEADER_SENT_AT],
        Header::Text("2026-01-02T03:04:05.5+01:00".to_owned())
    );
    assert_eq!(outgoing.headers[HEADER_SEVERITY], Header::Int(40));
    assert_eq!(outgoing.headers[HEADER_PRIORITY], Header::Int(3));
}

#[test]
fn what_is_no_message_is_refused_with_the_reason() {
    let long = format!(r#"{{"topic":"{}","body":{{}}}}"#, "x".repeat(256));
    for (line, expected) in [
        ("", "not a message"),
        ("{", "not a message"),
        (r#"{"body":{}}"#, "missing field `topic`"),
        (r#"{"topic":"t"}"#, "missing field `body`"),
        (r#"{"topic":"t","body":[]}"#, "must be a JSON object"),
        (r#"{"topic":"t","body":{},"priority":-1}"#, "not a message"),
        (
            r#"{"topic":"t","body":{},"headers":{"x":1.5}}"#,
            "header x is a number with a fraction",
        ),
        (
            r#"{"topic":"t","body":{},"headers":{"x":{"y":[18446744073709551615]}}}"#,
            "header y is a number",
        ),
        (
            r#"{"topic":"t","body":{},"headers":{"fedora_messaging_severity":15}}"#,
            "must be 10, 20, 30 or 40",
        ),
        (
            r#"{"topic":"t","body":{},"headers":{"sent-at":"soon"}}"#,
            "must be a time",
        ),
        (&long, "is 256 bytes long"),
    ] {
        let error = Line::parse(line)
            .and_then(|line| line.outgoing("", time("2026-01-01T00:00:00Z"), 0))
            .expect_err(line);
        assert!(error.to_string().contains(expected), "{line}: {error}");
    }
}

#[test]
fn topics_are_words_and_dots() {
    for (topic, fine) in [
        ("nice.message", true),
        ("a", true),
        ("a-b_c.D9", true),
        ("", false),
        (".a", false),
        ("a.", false),
        ("a..b", false),
        ("a.*.b", false),
        ("#", false),
        ("a b", false),
        ("a\tb", false),
        ("ä", false),
    ] {
        assert_eq!(check_topic("p", topic).is_ok(), fine, "{topic:?}");
    }
    assert!(check_topic("p", &"x".repeat(253)).is_ok());
    assert!(matches!(
        check_topic("p", &"x".repeat(254)),
        Err(Rule::Long(_, 256))
    ));
}

#[test]
fn headers_of_users_are_limited() {
    for (name, value, fine) in [
        ("niceness", json!("very"), true),
        ("n", json!(1), true),
        ("n", json!(1.5), false),
        ("n", json!(u64::MAX), false),
        ("n", Value::Null, false),
        ("n", json!([]), false),
        ("n", json!({}), false),
        ("", json!(1), false),
        ("sent-at", json!("x"), false),
        ("priority", json!(1), false),
        ("fedora_messaging_schema", json!("x"), false),
        ("fedora_messaging_schema_package", json!("x"), false),
        ("fedora_messaging_severity", json!(10), false),
        ("fedora_messaging_user_me", json!(true), true),
        ("fedora_messaging_user_me", json!(false), false),
        ("fedora_messaging_rpm_", json!(true), true),
    ] {
        let headers = serde_json::Map::from_iter([(name.to_owned(), value.clone())]);
        assert_eq!(check_headers(&headers).is_ok(), fine, "{name}: {value}");
    }
    let many = (0..65).map(|number| (number.to_string(), json!(1)));
    assert_eq!(check_headers(&many.collect()), Err(Rule::Headers(65)));
}
