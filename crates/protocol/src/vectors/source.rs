//! The source's end (C10, C22, C31, C32, C34-C37) and the plan of a broker's answer.

use crate::bundle::work_uid;
use crate::codec::EncodeError;
use crate::ids::Ids;
use crate::resync::{Answering, Versions, answer};
use crate::session::{Input, Session as _};
use crate::{
    Action, CloudEvent, Codec as _, DataType, ExtensionValue, SourceBundleCodec, Stamp,
    SubResource, Work, names,
};

use super::{E1, E4, E5, WEB, drain, event, feed, now, source, words};

fn owned(name: &str, generation: i64) -> Work {
    let mut work = crate::AgentBundleCodec.decode(&event(E1)).unwrap();
    work.metadata = crate::ObjectMeta {
        name: name.into(),
        namespace: "edge-7".into(),
        uid: work_uid("hub-a", "edge-7", name).to_string(),
        generation,
        ..Default::default()
    };
    work.metadata.annotations.insert(
        names::ANNOTATION_RESOURCE_VERSION.into(),
        generation.to_string(),
    );
    work
}

fn request(items: &[(&str, i64)]) -> CloudEvent {
    let known = items
        .iter()
        .map(|(name, version)| (work_uid("hub-a", "edge-7", name).to_string(), *version))
        .collect();
    let event_type = DataType::MANIFEST_BUNDLES.event(SubResource::Spec, Action::ResyncRequest);
    CloudEvent::new("r", "edge-7-work-agent", event_type, now())
        .with("clustername", "edge-7")
        .with("originalsource", "")
        .with_json(Versions(known).to_json().unwrap())
}

/// What is sent to an agent that asked, after the question in turn: its statuses may have reached nobody.
#[track_caller]
fn answers(session: &mut crate::session::SourceSession<SourceBundleCodec>) -> Vec<CloudEvent> {
    let mut sent = drain(session);
    let asked = sent.remove(0);
    assert!(asked.event_type.ends_with("status.resync_request"));
    assert_eq!(asked.cluster(), Some("edge-7"));
    sent
}

#[test]
fn an_agent_that_was_asked_is_not_asked_again() {
    let mut session = source(vec![owned("w1", 3)]);
    session.handle(now(), Input::Up, &mut Vec::new());
    drain(&mut session);
    feed(
        &mut session,
        request(&[("w1", 3)]).with("originalsource", "hub-a"),
    );
    assert!(drain(&mut session).is_empty());
}

#[test]
fn a_spec_resync_sends_what_the_agent_lacks() {
    let mut deleting = owned("w3", 1);
    deleting.metadata.deletion_timestamp = Some(now());
    let mut session = source(vec![owned("w1", 3), owned("w2", 0), deleting]);
    session.handle(now(), Input::Up, &mut Vec::new());
    drain(&mut session);
    feed(&mut session, request(&[("w1", 3), ("w2", 9), ("w4", 2)]));
    let sent = answers(&mut session);
    let uid = |name| work_uid("hub-a", "edge-7", name).to_string();
    let mut found: Vec<_> = sent
        .iter()
        .map(|e| (e.resource_id().unwrap().to_owned(), e.is_deletion()))
        .collect();
    let mut expected = vec![(uid("w2"), false), (uid("w3"), true), (uid("w4"), true)];
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    assert!(
        sent.iter()
            .all(|e| e.event_type.ends_with("spec.resync_response"))
    );
    let order = sent
        .iter()
        .find(|e| e.resource_id() == Some(&uid("w4")))
        .unwrap();
    assert_eq!(
        order.extension("resourceversion"),
        Some(&ExtensionValue::Integer(2))
    );
    assert!(order.data.is_none() && order.content_type.is_none());
}

#[test]
fn an_empty_source_orders_deletions_only_once_it_is_complete() {
    let mut session = source(Vec::new());
    session.handle(now(), Input::Up, &mut Vec::new());
    let asked = drain(&mut session);
    assert_eq!(asked.len(), 1, "whoever holds something says so");
    assert_eq!(asked[0].payload(), br#"{"statusHashes":[]}"#);
    feed(&mut session, request(&[("w4", 2)]));
    assert_eq!(drain(&mut session).len(), 1);
    let config = crate::session::SourceConfig {
        source: "hub-a".into(),
        resync: true,
        seed: 1,
    };
    let mut loading = crate::session::SourceSession::new(
        SourceBundleCodec,
        config,
        crate::session::Owned {
            complete: false,
            ..Default::default()
        },
    );
    loading.handle(now(), Input::Up, &mut Vec::new());
    drain(&mut loading);
    feed(&mut loading, request(&[("w4", 2)]));
    assert!(drain(&mut loading).is_empty());
    loading.set_synced();
    assert_eq!(
        drain(&mut loading).len(),
        1,
        "asks again what it may judge now"
    );
}

#[test]
fn the_answer_of_a_broker_is_the_same_and_has_versions() {
    let event_type = DataType::MANIFEST_BUNDLES.event(SubResource::Spec, Action::Update);
    let encode = |work: &Work| {
        let stamp = Stamp {
            id: "i".into(),
            time: now(),
            source: "kube",
            sequence: None,
        };
        SourceBundleCodec.encode(stamp, &event_type, work).unwrap()
    };
    let listed = vec![encode(&owned("w1", 3)), encode(&owned("w2", 0))];
    let known = Versions::from_event(&request(&[("w1", 3), ("w4", 2)])).unwrap();
    let to = Answering {
        data_type: &DataType::MANIFEST_BUNDLES,
        cluster: "edge-7",
        source: "kube",
    };
    let sent = answer(listed, &known, &to, &mut Ids::new(1), now());
    assert_eq!(sent.len(), 2);
    assert!(!sent[0].is_deletion() && sent[1].is_deletion());
    assert_eq!(
        sent[1].extension("resourceversion"),
        Some(&ExtensionValue::Integer(2))
    );
}

#[test]
fn statuses_pass_in_order_only() {
    let mut session = source(vec![owned("web", 3)]);
    assert_eq!(
        words(&feed(&mut session, event(E5))),
        ["StatusModified web"]
    );
    let work = session.store().get(WEB).unwrap();
    assert_eq!(work.metadata.finalizers, [names::WORK_FINALIZER]);
    assert_eq!(
        work.metadata.annotations[names::ANNOTATION_SEQUENCE_ID],
        "2060647406105530368"
    );
    assert_eq!(
        words(&feed(&mut session, event(E5))),
        ["stale: 2060647406105530368"]
    );
    let mut next = event(E5).with("sequenceid", "2060647406109724672");
    next = next.with_json(r#"{"conditions":null}"#);
    assert_eq!(words(&feed(&mut session, next)), ["StatusModified web"]);
}

#[track_caller]
fn check_status(generation: i64, event: CloudEvent, expected: &str) {
    let out = words(&feed(&mut source(vec![owned("web", generation)]), event));
    assert_eq!(out.join(" "), expected);
}

#[test]
fn statuses_must_match_what_was_sent() {
    check_status(2, event(E5), "ahead: generation 3, sent 2");
    check_status(0, event(E5), "StatusModified web");
    check_status(4, event(E5), "StatusModified web");
    let mut unordered = event(E5);
    unordered.extensions.remove("sequenceid");
    check_status(
        3,
        unordered,
        "undecodable: failed to get sequenceid extension: invalid CloudEvents value: <nil>",
    );
    check_status(
        3,
        event(E5).with("originalsource", "hub-b"),
        "other_source: hub-b",
    );
    check_status(3, event(E5).with("resourceid", "x"), "unknown: x");
}

#[test]
fn the_last_word_of_an_agent_ends_a_deletion() {
    let mut session = source(vec![owned("web", 3)]);
    feed(&mut session, event(E5));
    let mut out = Vec::new();
    session.delete(now(), "edge-7", "web", &mut out);
    assert_eq!(words(&out), ["Modified web"]);
    session.handle(now(), Input::Up, &mut Vec::new());
    let sent = drain(&mut session);
    let delete = sent.iter().find(|e| e.is_deletion()).unwrap();
    assert!(delete.event_type.ends_with("spec.delete_request") && delete.data.is_none());
    let gone = event(E5).with_json(r#"{"conditions":[{"type":"Deleted","status":"True"}]}"#);
    assert_eq!(words(&feed(&mut session, gone.clone())), ["Deleted web"]);
    assert_eq!(
        words(&feed(&mut session, gone)),
        [format!("unknown: {WEB}")]
    );
}

#[test]
fn encoding_a_deletion_sends_no_data_and_a_wide_generation_fails() {
    let mut work = owned("web", 3);
    work.metadata.deletion_timestamp = "2026-05-30T10:11:12Z".parse().ok();
    let event_type = DataType::MANIFEST_BUNDLES.event(SubResource::Spec, Action::Delete);
    let stamp = || Stamp {
        id: event(E4).id,
        time: event(E4).time.unwrap(),
        source: "hub-a",
        sequence: None,
    };
    let sent = SourceBundleCodec
        .encode(stamp(), &event_type, &work)
        .unwrap();
    assert!(sent.data.is_none() && sent.content_type.is_none() && sent.is_deletion());
    work.metadata.generation = 3_000_000_000;
    let refused = SourceBundleCodec
        .encode(stamp(), &event_type, &work)
        .unwrap_err();
    assert!(matches!(refused, EncodeError::Generation(3_000_000_000)));
}

#[test]
fn a_source_that_lost_its_count_overtakes_its_agents() {
    let mut session = source(Vec::new());
    let mut work = owned("web", 0);
    work.metadata.annotations.clear();
    session.create(now(), work, &mut Vec::new()).unwrap();
    session.handle(now(), Input::Up, &mut Vec::new());
    drain(&mut session);
    feed(&mut session, request(&[("web", 7)]));
    let sent = answers(&mut session);
    assert_eq!(
        sent[0].extension("resourceversion"),
        Some(&ExtensionValue::Integer(8))
    );
}
