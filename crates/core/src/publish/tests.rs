mod histories;

use std::collections::{BTreeMap, BTreeSet};

use drover_api::conditions::{Status, is};
use drover_api::{ObjectMeta, Time};
use serde_json::json;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("small seconds are valid")
}

fn place() -> Place {
    Place {
        topic_prefix: "org.fedoraproject.prod".to_owned(),
    }
}

/// The example of the proposal.
fn message() -> FedoraMessage {
    FedoraMessage {
        metadata: ObjectMeta {
            name: Some("example".to_owned()),
            namespace: Some("default".to_owned()),
            uid: Some("11111111-2222-3333-4444-555555555555".to_owned()),
            generation: Some(1),
            creation_timestamp: Some(Time(at(0))),
            ..ObjectMeta::default()
        },
        spec: serde_json::from_value(json!({
            "env": "prod",
            "message": {"topic": "nice.message", "headers": {"niceness": "very"}, "body": {"encouragement": "You're doing great!"}},
            "authentication": {"secret_ref": {"name": "fedora-messaging", "namespace": "default"}},
        }))
        .expect("it is a spec"),
        status: None,
    }
}

fn changed(change: impl FnOnce(&mut FedoraMessage)) -> FedoraMessage {
    let mut message = message();
    change(&mut message);
    message
}

/// The end of the attempt that was begun last.
fn end(message: &FedoraMessage, outcome: Result<(), Fault>, now: Timestamp) -> FedoraMessageStatus {
    conclude(message, message, outcome, now).expect("it was begun")
}

/// As the publisher does when it is told to.
fn mark(message: &mut FedoraMessage) {
    message.metadata.annotations =
        Some([(names::SENT_ID_ANNOTATION.to_owned(), "x".to_owned())].into());
}

fn reason_of(status: &FedoraMessageStatus) -> String {
    assert_eq!(status.type_.as_deref(), Some("FedoraMessageSent"));
    assert_eq!(
        status.status,
        Some(is(&status.conditions, names::SENT, Status::True)),
        "the flat form says the same"
    );
    status.reason.clone().unwrap_or_default()
}

/// A broker that takes the message.
fn send(message: &mut FedoraMessage, now: Timestamp) -> Outgoing {
    let attempt = attempt(message, &place(), now).expect("it can be sent");
    message.status = Some(attempt.status);
    attempt.message
}

#[test]
fn the_example_ends_as_the_proposal_says() {
    let mut message = message();
    let Step::Identify(secret) = next(&message, Some(&place()), at(1)) else {
        panic!("a new message wants its secret");
    };
    assert_eq!(secret.name, "fedora-messaging");
    let outgoing = send(&mut message, at(1));
    assert_eq!(outgoing.routing_key, "org.fedoraproject.prod.nice.message");
    assert_eq!(outgoing.message_id, "f4300d3c-42ae-49ae-9a79-0c6f6249cfd1");
    assert_eq!(
        reason_of(message.status.as_ref().expect("it was written")),
        "Pending"
    );
    let status = end(&message, Ok(()), at(2));
    let written = serde_json::to_value(&status).expect("it is JSON");
    for (key, expected) in [
        ("type", json!("FedoraMessageSent")),
        ("status", json!(true)),
        ("reason", json!("Sent")),
        ("message", json!("Message was sent successfully")),
        ("observedGeneration", json!(1)),
        ("attempts", json!(1)),
        ("messageId", json!("f4300d3c-42ae-49ae-9a79-0c6f6249cfd1")),
        ("topic", json!("org.fedoraproject.prod.nice.message")),
    ] {
        assert_eq!(written[key], expected, "{key}");
    }
    message.status = Some(status);
    let id = "f4300d3c-42ae-49ae-9a79-0c6f6249cfd1".to_owned();
    assert_eq!(next(&message, Some(&place()), at(9)), Step::Mark(id));
    mark(&mut message);
    assert_eq!(next(&message, Some(&place()), at(9)), Step::Rest);
}

#[test]
fn what_can_never_be_sent_says_why_and_is_over() {
    let check = |change: fn(&mut FedoraMessage), reason: &str, part: &str| {
        let mut message = changed(change);
        let Step::Write(status) = next(&message, Some(&place()), at(1)) else {
            panic!("{reason}: a fault is written");
        };
        assert_eq!(reason_of(&status), reason);
        let text = status.message.clone().unwrap_or_default();
        assert!(text.contains(part), "{reason}: {text}");
        assert!(status.completion_time.is_some(), "{reason} is final");
        message.status = Some(*status);
        assert_eq!(next(&message, Some(&place()), at(2)), Step::Rest);
    };
    let invalid = "InvalidMessage";
    check(
        |m| m.spec.message.topic = "a..b".to_owned(),
        invalid,
        "empty word",
    );
    check(
        |m| m.spec.message.topic = "x".repeat(240),
        invalid,
        "263 bytes",
    );
    check(
        |m| {
            m.spec
                .message
                .headers
                .insert("sent-at".to_owned(), json!("now"));
        },
        invalid,
        "written by the sender",
    );
    check(
        |m| {
            m.spec
                .message
                .body
                .insert("x".to_owned(), json!("x".repeat(300_000)));
        },
        invalid,
        "is the most",
    );
    check(
        |m| m.spec.message.id = Some("x".to_owned()),
        invalid,
        "no UUID",
    );
    check(
        |m| m.spec.authentication.secret_ref = None,
        invalid,
        "name the secret",
    );
    check(
        |m| m.spec.authentication.secret_ref_camel = m.spec.authentication.secret_ref.clone(),
        invalid,
        "keep one",
    );
    check(
        |m| m.metadata.creation_timestamp = Some(Time(at(-3600))),
        "DeadlineExceeded",
        "its deadline passed",
    );
}

#[test]
fn what_waits_for_somebody_is_written_once_and_goes_on_when_they_did_it() {
    let mut message = changed(|m| m.spec.suspend = true);
    let Step::Write(status) = next(&message, Some(&place()), at(1)) else {
        panic!("it is written");
    };
    assert_eq!(reason_of(&status), "Suspended");
    assert!(is(&status.conditions, names::SENT, Status::Unknown));
    message.status = Some(*status);
    assert_eq!(next(&message, Some(&place()), at(2)), Step::Rest);
    message.spec.suspend = false;
    message.metadata.generation = Some(2);
    assert!(matches!(
        next(&message, Some(&place()), at(3)),
        Step::Identify(_)
    ));

    let Step::Write(status) = next(&message, None, at(3)) else {
        panic!("it is written");
    };
    assert_eq!(reason_of(&status), "UnsupportedEnvironment");
    message.status = Some(*status);
    assert_eq!(next(&message, None, at(4)), Step::Rest);
    assert!(matches!(
        next(&message, Some(&place()), at(5)),
        Step::Identify(_)
    ));
}

#[test]
fn faults_of_time_are_tried_again_and_end() {
    let mut message = changed(|m| m.spec.max_attempts = Some(3));
    let mut now = at(0);
    let refused = || Fault::new(names::REASON_CONNECTION_FAILED, Verdict::Later, "refused");
    let mut ids = BTreeSet::new();
    for round in 1..=3 {
        assert!(
            matches!(next(&message, Some(&place()), now), Step::Identify(_)),
            "round {round}"
        );
        ids.insert(send(&mut message, now).message_id);
        message.status = Some(end(&message, Err(refused()), now));
        if round < 3 {
            let Step::WakeAt(time) = next(&message, Some(&place()), now) else {
                panic!("round {round}: it waits");
            };
            let waited = time.duration_since(now).as_secs();
            assert!(
                (4 * (1 << (round - 1))..=6 * (1 << (round - 1))).contains(&waited),
                "{waited} s"
            );
            now = time;
        }
    }
    assert_eq!(ids.len(), 1, "every attempt is the same message");
    let Step::Write(status) = next(&message, Some(&place()), now) else {
        panic!("it is given up");
    };
    assert_eq!(reason_of(&status), "RetriesExhausted");
    let text = status.message.unwrap_or_default();
    assert!(
        text.contains("failed 3 times") && text.contains("ConnectionFailed: refused"),
        "{text}"
    );
    assert!(!text.contains("may have been delivered"), "{text}");
}

#[test]
fn an_unconfirmed_attempt_is_admitted_to_the_end() {
    let mut message = changed(|m| m.spec.max_attempts = Some(1));
    send(&mut message, at(0));
    let fault = Fault::new(names::REASON_UNCERTAIN, Verdict::Again, "no confirm");
    message.status = Some(end(&message, Err(fault), at(1)));
    assert!(is(
        &message.status.as_ref().expect("written").conditions,
        names::SENT,
        Status::Unknown
    ));
    let Step::Write(status) = next(&message, Some(&place()), at(2)) else {
        panic!("it is given up");
    };
    assert!(
        status
            .message
            .unwrap_or_default()
            .contains("may have been delivered")
    );
}

#[test]
fn a_finished_message_goes_after_its_time_and_not_before() {
    let mut message = changed(|m| m.spec.ttl_seconds_after_finished = Some(60));
    send(&mut message, at(0));
    message.status = Some(end(&message, Ok(()), at(10)));
    mark(&mut message);
    assert_eq!(next(&message, Some(&place()), at(11)), Step::WakeAt(at(70)));
    assert_eq!(next(&message, Some(&place()), at(70)), Step::Delete);
}

#[test]
fn what_was_sent_is_never_sent_again() {
    let mut message = message();
    send(&mut message, at(0));
    message.status = Some(end(&message, Ok(()), at(1)));
    message.metadata.generation = Some(2);
    message.spec.message.topic = "other".to_owned();
    let Step::Write(status) = next(&message, Some(&place()), at(2)) else {
        panic!("the drift is written");
    };
    assert!(is(&status.conditions, names::SPEC_DRIFT, Status::True));
    assert!(is(&status.conditions, names::SENT, Status::True));
    message.status = Some(*status);
    assert_eq!(next(&message, Some(&place()), at(3)), Step::Rest);
}

#[test]
fn a_copy_says_that_it_is_not_sent_and_is_sent_when_somebody_wants_it() {
    let mut copy = changed(|m| {
        mark(m);
        m.spec.ttl_seconds_after_finished = Some(60);
    });
    let Step::Write(status) = next(&copy, Some(&place()), at(1)) else {
        panic!("it says why");
    };
    assert_eq!(reason_of(&status), "NotSentAgain");
    assert!(is(&status.conditions, names::SENT, Status::False));
    let text = status.message.clone().unwrap_or_default();
    assert!(
        text.contains(names::SENT_ID_ANNOTATION) && text.contains("remove the annotation"),
        "{text}"
    );
    copy.status = Some(*status);
    let told = notice(None, &copy).expect("somebody wonders");
    assert_eq!((told.reason, told.warning), ("NotSentAgain", false));
    assert_eq!(next(&copy, Some(&place()), at(2)), Step::WakeAt(at(61)));
    assert_eq!(next(&copy, Some(&place()), at(61)), Step::Delete);

    // It is not sent when the spec changes either, and the status is about the new one.
    let mut other = copy.clone();
    other.metadata.generation = Some(2);
    other.spec.message.topic = "other".to_owned();
    let Step::Write(status) = next(&other, Some(&place()), at(3)) else {
        panic!("it says so again");
    };
    assert_eq!(reason_of(&status), "NotSentAgain");
    assert_eq!(status.observed_generation, Some(2));

    // Without the mark it is a message as any other, to its end.
    copy.metadata.annotations = None;
    assert!(matches!(
        next(&copy, Some(&place()), at(4)),
        Step::Identify(_)
    ));
    let lacking = Fault::new(names::REASON_SECRET_NOT_FOUND, Verdict::AfterChange, "none");
    let mut waiting = copy.clone();
    waiting.status = Some(unidentified(&copy, &lacking, at(4)));
    assert!(matches!(
        next(&waiting, Some(&place()), at(5)),
        Step::Identify(_)
    ));
    send(&mut copy, at(5));
    assert!(interrupted(&copy));
    let begun = copy.status.as_ref().expect("it was begun");
    assert_eq!((begun.completion_time.as_ref(), begun.attempts), (None, 1));
    copy.status = Some(end(&copy, Ok(()), at(6)));
    assert!(matches!(next(&copy, Some(&place()), at(7)), Step::Mark(_)));
    // A backup that was restored with its status: it was sent.
    mark(&mut copy);
    assert_eq!(next(&copy, Some(&place()), at(8)), Step::WakeAt(at(66)));
}

#[test]
fn what_cannot_be_read_is_over_and_keeps_what_was_known() {
    let why = "recursion limit exceeded";
    let mut rest = changed(|m| {
        m.spec = serde_json::from_value(json!({"ttl_seconds_after_finished": 60})).expect("spec");
    });
    let write = |rest: &FedoraMessage| match unreadable(rest, why, at(10)) {
        Step::Write(status) => *status,
        step => panic!("{step:?}"),
    };
    let status = write(&rest);
    assert_eq!(reason_of(&status), "InvalidMessage");
    let text = status.message.clone().unwrap_or_default();
    assert!(text.contains(why) && text.contains("64 levels"), "{text}");
    rest.status = Some(status);
    assert_eq!(unreadable(&rest, why, at(11)), Step::WakeAt(at(70)));
    assert_eq!(unreadable(&rest, why, at(70)), Step::Delete);

    let with = |status: FedoraMessageStatus| FedoraMessage {
        status: Some(status),
        ..rest.clone()
    };
    let mut other = message();
    send(&mut other, at(1));
    let status = write(&with(other.status.clone().expect("it was begun")));
    assert_eq!((status.attempts, status.uncertain_attempts), (1, 1));
    let text = status.message.unwrap_or_default();
    assert!(text.contains("may have been delivered"), "{text}");
    let sent = with(end(&other, Ok(()), at(2)));
    assert_eq!(unreadable(&sent, why, at(3)), Step::WakeAt(at(62)));
}

#[test]
fn a_body_is_as_deep_as_the_limit_and_no_deeper() {
    for (levels, expected) in [(1, true), (2, true), (64, true), (65, false), (100, false)] {
        for list in [false, true] {
            let inner = (2..levels).fold(if list { json!([]) } else { json!({}) }, |inner, _| {
                if list {
                    json!([1, inner])
                } else {
                    json!({"x": inner})
                }
            });
            let message = changed(|m| {
                m.spec.message.body = serde_json::Map::new();
                if levels > 1 {
                    m.spec.message.body.insert("x".to_owned(), inner);
                }
            });
            let found = check(&message, &place());
            assert_eq!(found.is_ok(), expected, "{levels}: {found:?}");
            if let Err(fault) = found {
                assert!(fault.text.contains("64 levels"), "{}", fault.text);
            }
        }
    }
}

#[test]
fn the_names_of_a_secret_are_names_and_no_paths() {
    let long = |part: &str, length: usize| part.repeat(length);
    let label = long("a", 63);
    for (name, namespace, expected) in [
        ("fm", None, true),
        ("my.secret-1", Some("team-a"), true),
        (long("a", 253).as_str(), Some(label.as_str()), true),
        (long("a", 254).as_str(), None, false),
        ("fm", Some(long("a", 64).as_str()), false),
        ("../../team-b/secrets/fm", None, false),
        ("fm?resourceVersion=0", None, false),
        ("fm/status", None, false),
        ("fm%2f", None, false),
        ("..", None, false),
        (".fm", None, false),
        ("fm.", None, false),
        ("-fm", None, false),
        ("fm-", None, false),
        ("Fm", None, false),
        ("fm\n", None, false),
        ("fm", Some("a/../b"), false),
        ("fm", Some("a.b"), false),
        ("fm", Some(""), false),
        ("", None, false),
    ] {
        let secret = SecretRef {
            name: name.to_owned(),
            namespace: namespace.map(str::to_owned),
        };
        for camel in [false, true] {
            let message = changed(|m| {
                let authentication = &mut m.spec.authentication;
                authentication.secret_ref = (!camel).then(|| secret.clone());
                authentication.secret_ref_camel = camel.then(|| secret.clone());
            });
            let found = check(&message, &place());
            assert_eq!(found.is_ok(), expected, "{secret:?}: {found:?}");
            if let Err(fault) = found {
                assert_eq!(fault.reason, "InvalidMessage");
            }
        }
    }
}

#[test]
fn the_end_of_an_attempt_is_written_once_and_only_where_it_belongs() {
    let mut begun = message();
    send(&mut begun, at(1));
    let lost = || Fault::new(names::REASON_UNCERTAIN, Verdict::Again, "");
    let end = |found: &FedoraMessage, outcome| conclude(found, &begun, outcome, at(5));
    let with = |status| FedoraMessage {
        status,
        ..begun.clone()
    };
    let failed = with(end(&begun, Err(lost())));
    let status = failed.status.as_ref().expect("it was written");
    assert_eq!((status.attempts, status.uncertain_attempts), (1, 1));
    assert_eq!(end(&failed, Err(lost())), None, "it is written already");
    let mut second = failed.clone();
    send(&mut second, at(2));
    assert_eq!(end(&second, Err(lost())), None, "another attempt runs");
    // A confirm is a confirm, whatever happened since.
    for found in [&begun, &failed, &second] {
        let status = end(found, Ok(())).expect("it was not known");
        assert_eq!(reason_of(&status), "Sent");
    }
    let sent = with(end(&begun, Ok(())));
    assert_eq!(end(&sent, Err(lost())), None);
    assert_eq!(end(&sent, Ok(())), None);
    let mut other = begun.clone();
    other.spec.message.topic = "other".to_owned();
    assert_eq!(end(&other, Ok(())), None, "that is another message");
    assert_eq!(end(&message(), Ok(())), None, "nobody began it");
}

#[test]
fn an_attempt_that_was_cut_off_is_not_forgotten() {
    let mut message = message();
    send(&mut message, at(1));
    message.spec.suspend = true;
    let Step::Write(status) = next(&message, Some(&place()), at(2)) else {
        panic!("it is written");
    };
    assert_eq!(status.uncertain_attempts, 1);
    message.status = Some(*status);
    assert_eq!(next(&message, Some(&place()), at(3)), Step::Rest);
    message.spec.suspend = false;
    let Step::Write(status) = next(&message, Some(&place()), at(3600)) else {
        panic!("it is given up");
    };
    let text = status.message.unwrap_or_default();
    assert!(text.contains("may have been delivered"), "{text}");
}

#[test]
fn a_change_of_something_else_keeps_the_message() {
    let mut message = message();
    let first = send(&mut message, at(1));
    // Suspended between two attempts, and let go again: still the same message.
    let fault = Fault::new(names::REASON_CONNECTION_FAILED, Verdict::Later, "");
    message.status = Some(end(&message, Err(fault), at(2)));
    message.metadata.generation = Some(3);
    message.spec.max_attempts = Some(9);
    let second = send(&mut message, at(100));
    assert_eq!(first, second);
    message.status = Some(end(&message, Ok(()), at(101)));
    message.metadata.generation = Some(4);
    message.spec.ttl_seconds_after_finished = Some(0);
    let Step::Write(status) = next(&message, Some(&place()), at(102)) else {
        panic!("the generation was seen");
    };
    assert_eq!(status.observed_generation, Some(4));
    assert_eq!(reason_of(&status), "Sent");
    message.status = Some(*status);
    mark(&mut message);
    assert_eq!(next(&message, Some(&place()), at(103)), Step::Delete);
}

#[test]
fn one_event_tells_of_a_message_that_is_sent_at_once_and_others_say_what_comes() {
    let fault = |reason: &'static str, verdict| Fault::new(reason, verdict, "why");
    let mut message = changed(|m| m.spec.max_attempts = Some(2));
    let mut told = Vec::new();
    let mut write = |message: &mut FedoraMessage, status: FedoraMessageStatus| {
        let before = message.status.replace(status);
        let found = notice(before.as_ref(), message);
        told.extend(found.map(|notice| (notice.reason, notice.warning, notice.note)));
    };
    let sent = |write: &mut dyn FnMut(&mut FedoraMessage, FedoraMessageStatus)| {
        let mut message = changed(|_| ());
        let begun = attempt(&message, &place(), at(1))
            .expect("it can be sent")
            .status;
        write(&mut message, begun);
        let status = end(&message, Ok(()), at(2));
        write(&mut message, status.clone());
        // Once more: nothing new.
        write(&mut message, status);
    };
    sent(&mut write);
    let absent = fault("SecretNotFound", Verdict::AfterChange);
    let status = unidentified(&message, &absent, at(1));
    write(&mut message, status);
    let begun = attempt(&message, &place(), at(2))
        .expect("it can be sent")
        .status;
    write(&mut message, begun);
    let status = end(
        &message,
        Err(fault("ConnectionFailed", Verdict::Later)),
        at(3),
    );
    write(&mut message, status);
    let next = retry::not_before(&message).expect("it is tried again");
    let begun = attempt(&message, &place(), next)
        .expect("it can be sent")
        .status;
    write(&mut message, begun);
    let status = end(
        &message,
        Err(fault("DeliveryUncertain", Verdict::Again)),
        next,
    );
    write(&mut message, status);
    let Step::Write(status) = super::next(&message, Some(&place()), at(60)) else {
        panic!("it is given up");
    };
    write(&mut message, *status);
    let secret = "SecretNotFound: why; it is looked at again and again until 2027-01-15T09:00:00Z";
    let retry = format!("attempt 2 of 2 at {next:.0}, after ConnectionFailed: why");
    let id = "f4300d3c-42ae-49ae-9a79-0c6f6249cfd1";
    let expected = [
        ("Sent", false, format!("Message was sent successfully: {id} to org.fedoraproject.prod.nice.message")),
        ("SecretUnavailable", true, secret.to_owned()),
        ("RetryScheduled", true, retry),
        ("Sending", false, "attempt 2 of 2 begins".to_owned()),
        ("SendFailed", true, "RetriesExhausted: The message was given up: it failed 2 times; last: DeliveryUncertain: why; an attempt was not confirmed, so it may have been delivered".to_owned()),
    ];
    assert_eq!(told, expected);
}

#[test]
fn events_say_why_nothing_is_sent() {
    let check = |fault: &Fault, expected: Option<(&str, bool)>| {
        let mut message = message();
        message.status = Some(write(&message, fault, at(1)));
        let found = notice(None, &message);
        let found = found.map(|notice| (notice.reason, notice.warning));
        assert_eq!(found, expected, "{}", fault.reason);
    };
    check(&Fault::suspended(), Some(("Suspended", false)));
    check(
        &Fault::unsupported(Environment::Stg),
        Some(("SendFailed", true)),
    );
    check(&Fault::no_secret(), Some(("SendFailed", true)));
    check(&Fault::deadline(&message()), Some(("Expired", true)));
    let other = |text: &str| {
        write(
            &message(),
            &Fault::new("InvalidMessage", Verdict::Never, text),
            at(1),
        )
    };
    let next = changed(|m| m.status = Some(other("b")));
    assert!(
        notice(Some(&other("a")), &next).is_some(),
        "another fault of the same kind"
    );
    assert!(notice(Some(&other("b")), &next).is_none());
    for (reason, verdict) in [
        ("SecretKeyMissing", Verdict::AfterChange),
        ("SecretInvalid", Verdict::AfterChange),
        ("SecretNotPermitted", Verdict::AfterChange),
    ] {
        let expected = Some(("SecretUnavailable", true));
        check(&Fault::new(reason, verdict, "why"), expected);
    }
}
