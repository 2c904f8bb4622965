//! Types, envelopes, uids, hashes, sequence ids (C01-C03, C14, C22-C27, C33, C49, C53, C54).

use crate::bundle::{counted, work_uid};
use crate::codec::event_version;
use crate::sequence::{Sequence, is_newer};
use crate::work::{Condition, ManifestCondition};
use crate::{
    Action, AgentBundleCodec, CloudEvent, Codec as _, DataType, EventType, ExtensionValue, Object,
    ObjectCodec, SourceBundleCodec, Stamp, SubResource, WorkStatus, names,
};

use super::{E1, E4, E5, event, now};

#[track_caller]
fn check_type(text: &str, expected: &str) {
    let found = match text.parse::<EventType>() {
        Ok(t) => {
            let d = &t.data_type;
            assert_eq!(t.to_string(), text);
            format!(
                "{} {} {} {} {}",
                d.group(),
                d.version(),
                d.resource(),
                t.subresource.as_str(),
                t.action.as_str()
            )
        }
        Err(error) => error.to_string(),
    };
    assert_eq!(found, expected);
}

#[test]
fn types_parse_from_the_right() {
    check_type(
        "io.open-cluster-management.works.v1alpha1.manifestbundles.spec.create_request",
        "io.open-cluster-management.works v1alpha1 manifestbundles spec create_request",
    );
    check_type(
        "a.b.spec.d",
        "unsupported cloudevents type format: a.b.spec.d",
    );
    check_type(
        "g.v1.r.scale.update_request",
        "unsupported subresource scale",
    );
    check_type("a.b.c.spec.d", "a b c spec d");
    check_type(
        "coordination.k8s.io.v1.leases.status.x",
        "coordination.k8s.io v1 leases status x",
    );
    check_type(
        names::HEARTBEAT_TYPE,
        &format!(
            "unsupported cloudevents type format: {}",
            names::HEARTBEAT_TYPE
        ),
    );
    assert_eq!(
        "a.b".parse::<DataType>().unwrap_err().to_string(),
        "unsupported cloudevents data type format"
    );
}

#[test]
fn uids_follow_from_source_cluster_and_name() {
    assert_eq!(work_uid("hub-a", "edge-7", "web").to_string(), super::WEB);
    assert_eq!(work_uid("hub-a", "edge-7", "api").to_string(), super::API);
}

#[test]
fn the_size_of_a_manifest_counts_its_frame() {
    assert_eq!(
        [512_000, 511_997, 511_996].map(counted),
        [512_004, 512_001, 512_000]
    );
    assert_eq!([0, 127, 128].map(counted), [2, 129, 131]);
}

#[test]
fn structured_events_survive_both_ways() {
    for json in [E1, E4, E5] {
        let read = event(json);
        assert_eq!(CloudEvent::from_json(&read.to_json()).unwrap(), read);
    }
    let e1 = event(E1);
    assert_eq!(
        e1.extension("resourceversion"),
        Some(&ExtensionValue::Integer(3))
    );
    assert_eq!(
        e1.extension("originalsource"),
        Some(&ExtensionValue::String(String::new()))
    );
    assert_eq!(e1.time.unwrap().to_string(), "2026-05-30T09:00:00.5Z");
}

#[track_caller]
fn check_bad_json(json: &str, expected: &str) {
    assert_eq!(
        CloudEvent::from_json(json.as_bytes())
            .unwrap_err()
            .to_string(),
        expected
    );
}

#[test]
fn broken_structured_events_say_what_is_wrong() {
    check_bad_json("{}", "failed to read the event: specversion is missing");
    check_bad_json(
        r#"{"specversion":"1.0","source":"s","type":"t"}"#,
        "failed to read the event: id is missing",
    );
    check_bad_json(
        r#"{"specversion":"1.0","id":"a","source":"s","type":"t","resourceversion":3000000000}"#,
        "failed to read the attribute resourceversion: 3000000000 is no 32 bit integer",
    );
    check_bad_json(
        r#"{"specversion":"1.0","id":"a","source":"s","type":"t","x":{}}"#,
        "failed to read the attribute x: an extension is a string, a number or a boolean",
    );
}

#[test]
fn binary_events_carry_text() {
    let e1 = event(E1);
    let pairs = e1.to_pairs();
    assert!(pairs.contains(&("ce-resourceversion".into(), "3".into())));
    assert!(pairs.contains(&("ce-time".into(), "2026-05-30T09:00:00.5Z".into())));
    assert!(pairs.contains(&("ce-originalsource".into(), String::new())));
    let borrowed = || pairs.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    let data = e1.data.clone().unwrap();
    let read =
        CloudEvent::from_pairs(borrowed(), e1.content_type.as_deref(), data.clone()).unwrap();
    assert_eq!(
        read.extension("resourceversion"),
        Some(&ExtensionValue::String("3".into()))
    );
    assert_eq!(
        AgentBundleCodec.decode(&read).unwrap(),
        AgentBundleCodec.decode(&e1).unwrap()
    );
    let structured = CloudEvent::from_pairs(
        [],
        Some("application/cloudevents+json; charset=utf-8"),
        E1.into(),
    );
    assert_eq!(structured.unwrap(), e1);
    let unknown =
        CloudEvent::from_pairs([("ce-id", "a")], Some("application/json"), data).unwrap_err();
    assert_eq!(unknown.to_string(), "unknown Message encoding");
}

#[track_caller]
fn check_hash(status: &WorkStatus, expected: &str) {
    assert_eq!(
        status.hash(),
        expected,
        "{}",
        serde_json::to_string(status).unwrap()
    );
}

#[test]
fn status_hashes_equal_those_of_peers() {
    check_hash(
        &WorkStatus::default(),
        "3a4ba43801251ccdf889a3154674d23a35ab996aacfc00de92e61dbb2f5cf189",
    );
    let e5 = SourceBundleCodec.decode(&event(E5)).unwrap();
    check_hash(
        &e5.status,
        "296636f0de68531c76091f17a76c008aafe4b835b3ea45168415289ab657623c",
    );
    let with = |condition: Condition| WorkStatus {
        conditions: vec![condition],
        ..WorkStatus::default()
    };
    let created = Condition {
        condition_type: "Created".into(),
        status: "True".into(),
        ..Condition::default()
    };
    check_hash(
        &with(created),
        "51e9de1bc565e05d4176d9a6f3bdd17559afd83d86f3e372f8e0411a37469a69",
    );
    let available = Condition {
        condition_type: "Available".into(),
        status: "True".into(),
        reason: "Ok".into(),
        last_transition_time: "2026-05-30T09:00:00Z".parse().ok(),
        ..Condition::default()
    };
    check_hash(
        &with(available),
        "51eaef307c4f31a9cfdbcd24bbad414ddeaeedb3284ca0d78aa349c005ca4929",
    );
    let mut empty = WorkStatus::default();
    empty
        .resource_status
        .manifests
        .push(ManifestCondition::default());
    check_hash(
        &empty,
        "252231c39ea9f5a8c427f6a190630f737b449c8ef76a3c3e62716a0a55faae1b",
    );
}

#[track_caller]
fn check_newer(last: &str, current: &str, expected: &str) {
    let found = match is_newer(last, current) {
        Ok(true) => "newer".to_owned(),
        Ok(false) => "not newer".to_owned(),
        Err(error) => error.to_string(),
    };
    assert_eq!(found, expected);
}

#[test]
fn sequence_ids_compare_by_time_and_step() {
    let a = "2060647406105530368";
    check_newer("", "1", "newer");
    check_newer(a, a, "not newer");
    check_newer(a, "2060647406105530369", "newer");
    check_newer(a, "2060647401911226375", "not newer");
    check_newer(
        a,
        "2060647406105534464",
        &format!("sequence IDs ({a},2060647406105534464) are not from the same node"),
    );
    check_newer("abc", a, "failed to read the sequence ID \"abc\"");
    check_newer("", "", "failed to read the sequence ID \"\"");
}

#[test]
fn sequence_ids_only_grow() {
    let mut sequence = Sequence::default();
    assert_eq!(sequence.next_id(now()).to_string(), "2060647406105530368");
    let mut last = sequence.next_id(now());
    let earlier = "2020-01-01T00:00:00Z".parse().unwrap();
    for step in 0..10_000 {
        let next = sequence.next_id(if step % 2 == 0 { earlier } else { now() });
        assert!(is_newer(&last.to_string(), &next.to_string()).unwrap());
        last = next;
    }
}

#[test]
fn whole_objects_carry_their_version_as_text() {
    let codec = ObjectCodec::of(&DataType::LEASES).unwrap();
    let lease = serde_json::json!({"metadata": {"name": "l", "namespace": "edge-7", "uid": "u",
        "resourceVersion": "9007199254740993"}, "spec": {"leaseDurationSeconds": 60}});
    let lease = Object::from_value(lease).unwrap();
    let stamp = Stamp {
        id: "i".into(),
        time: now(),
        source: "a",
        sequence: None,
    };
    let sent = codec
        .encode(
            stamp,
            &DataType::LEASES.event(SubResource::Spec, Action::Update),
            &lease,
        )
        .unwrap();
    assert_eq!(
        sent.extension("resourceversion"),
        Some(&ExtensionValue::String("9007199254740993".into()))
    );
    assert_eq!(
        event_version(&sent, &DataType::LEASES),
        Some(9_007_199_254_740_993)
    );
    let read = codec.decode(&sent).unwrap();
    assert_eq!(read.metadata, lease.metadata);
    assert_eq!(read.field("kind").unwrap(), "Lease");
    assert_eq!(read.field("apiVersion").unwrap(), "coordination.k8s.io/v1");
}
