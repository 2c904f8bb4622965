//! The agent's end (C04-C21, C28-C30, C38, C50, C52).

use crate::session::{Aspect, Fate, Input, Session as _};
use crate::work::Condition;
use crate::{AgentBundleCodec, CloudEvent, Codec as _, Work, names};

use super::{API, E1, E4, WEB, agent, drain, event, feed, now, words};

#[track_caller]
fn check_fresh(event: CloudEvent, expected: &[&str]) {
    assert_eq!(words(&feed(&mut agent(), event)), expected);
}

fn without(name: &str) -> CloudEvent {
    let mut changed = event(E1);
    changed.extensions.remove(name);
    changed
}

fn retyped(event_type: &str) -> CloudEvent {
    CloudEvent {
        event_type: event_type.into(),
        ..event(E1)
    }
}

fn with_data(data: &str) -> CloudEvent {
    event(E1).with_json(data.to_owned())
}

#[test]
fn a_spec_becomes_a_work() {
    let mut session = agent();
    assert_eq!(words(&feed(&mut session, event(E1))), ["Added web"]);
    let work = session.store().get_named("edge-7", "web").unwrap();
    let meta = &work.metadata;
    assert_eq!(
        (
            meta.uid.as_str(),
            meta.generation,
            meta.resource_version.as_str()
        ),
        (WEB, 3, "1")
    );
    assert_eq!(meta.labels[names::LABEL_ORIGINAL_SOURCE], "hub-a");
    assert_eq!(meta.labels["team"], "blue");
    assert_eq!(
        meta.annotations[names::ANNOTATION_DATA_TYPE],
        "io.open-cluster-management.works.v1alpha1.manifestbundles"
    );
    assert_eq!(meta.annotations[names::ANNOTATION_RESOURCE_VERSION], "3");
    assert_eq!(
        meta.annotations["logging.open-cluster-management.io/op-id"],
        "op-42"
    );
    let whole: serde_json::Value = work.to_object().unwrap();
    assert_eq!(
        whole["spec"]["executor"]["subject"]["serviceAccount"]["name"],
        "deployer"
    );
    assert_eq!(whole["spec"]["workload"]["manifests"][0]["data"]["k"], "v");
    let again: serde_json::Value = Work::from_object(&whole).unwrap().to_object().unwrap();
    assert_eq!(again, whole);
}

#[test]
fn events_that_are_not_for_this_agent_have_no_effect() {
    check_fresh(
        event(E1).with("clustername", "edge-8"),
        &["other_cluster: for cluster Some(\"edge-8\")"],
    );
    check_fresh(without("clustername"), &["other_cluster: for cluster None"]);
    let single = "io.open-cluster-management.works.v1alpha1.manifests.spec.create_request";
    check_fresh(retyped(single), &[&format!("other_data_type: {single}")]);
    let status = "io.open-cluster-management.works.v1alpha1.manifestbundles.status.update_request";
    check_fresh(retyped(status), &[&format!("wrong_subresource: {status}")]);
    check_fresh(
        retyped("a.b"),
        &["bad_type: unsupported cloudevents type format: a.b"],
    );
    check_fresh(retyped(names::HEARTBEAT_TYPE), &[]);
}

#[test]
fn broken_specs_are_dropped_with_the_reason() {
    check_fresh(
        without("resourceversion"),
        &["undecodable: failed to get resourceversion extension: invalid CloudEvents value: <nil>"],
    );
    check_fresh(
        event(E1).with("resourceversion", "3000000000"),
        &[
            "undecodable: failed to get resourceversion extension: cannot convert 3000000000 to int32: out of range",
        ],
    );
    check_fresh(
        with_data(r#"{"manifests":[]}"#),
        &["undecodable: manifests are invalid, Workload manifests should not be empty"],
    );
    check_fresh(
        with_data(r#"{"manifests":[{"kind":"A"}]}"#),
        &["undecodable: manifests are invalid, name must be set in manifest"],
    );
    check_fresh(
        with_data(r#"{"manifests":[{"kind":"A","metadata":{"name":"a","generateName":"b"}}]}"#),
        &["undecodable: manifests are invalid, generateName must not be set in manifest"],
    );
    let logs = words(&feed(
        &mut agent(),
        event(E1).with("logtracing", "not-json"),
    ));
    assert!(
        logs[0].starts_with("undecodable: failed to get logtracing extension"),
        "{logs:?}"
    );
}

#[test]
fn manifests_are_limited_to_half_a_mebibyte() {
    for (bytes, taken) in [(512_000, false), (511_997, false), (511_996, true)] {
        let frame = r#"{"kind":"A","metadata":{"name":"a"},"x":""}"#;
        let manifest = frame.replace(
            r#""x":"""#,
            &format!(r#""x":"{}""#, "y".repeat(bytes - frame.len())),
        );
        assert_eq!(manifest.len(), bytes);
        let out = words(&feed(
            &mut agent(),
            with_data(&format!("{{\"manifests\":[{manifest}]}}")),
        ));
        assert_eq!(out == ["Added web"], taken, "{out:?}");
    }
}

#[test]
fn versions_may_come_as_text() {
    for (version, generation) in [("3", 3), ("3.9", 3)] {
        let work = AgentBundleCodec
            .decode(&event(E1).with("resourceversion", version))
            .unwrap();
        assert_eq!(work.metadata.generation, generation);
    }
    let unnamed = AgentBundleCodec.decode(&without("metadata")).unwrap();
    assert_eq!(
        (
            unnamed.metadata.name.as_str(),
            unnamed.metadata.namespace.as_str()
        ),
        (WEB, "edge-7")
    );
}

#[test]
fn older_generations_are_ignored_and_unversioned_ones_win() {
    let mut session = agent();
    feed(&mut session, event(E1).with("resourceversion", 5));
    assert_eq!(
        words(&feed(&mut session, event(E1))),
        ["stale: generation 3, known 5"]
    );
    assert_eq!(
        words(&feed(&mut session, event(E1).with("resourceversion", 0))),
        ["Modified web"]
    );
    assert_eq!(session.store().get(WEB).unwrap().metadata.generation, 0);
}

fn applied(session: &super::AgentSession<AgentBundleCodec>) -> Work {
    let mut work = Work::clone(session.store().get(WEB).unwrap());
    let applied = Condition {
        condition_type: "Applied".into(),
        status: "True".into(),
        ..Condition::default()
    };
    work.status.conditions = vec![applied];
    work
}

fn set_finalizers(session: &mut super::AgentSession<AgentBundleCodec>, finalizers: &[&str]) {
    let mut work = Work::clone(session.store().get(WEB).unwrap());
    work.metadata.finalizers = finalizers.iter().map(|&f| f.to_owned()).collect();
    session
        .update(&work, Aspect::Metadata, &mut Vec::new())
        .unwrap();
}

#[test]
fn a_new_spec_keeps_status_and_finalizers() {
    let mut session = agent();
    feed(&mut session, event(E1));
    set_finalizers(&mut session, &["f"]);
    let work = applied(&session);
    session
        .update(&work, Aspect::Status, &mut Vec::new())
        .unwrap();
    let mut changed = event(E1);
    changed.set("metadata", r#"{"name":"web","labels":{"team":"red"}}"#);
    assert_eq!(
        words(&feed(&mut session, changed.clone())),
        ["Modified web"]
    );
    let work = session.store().get(WEB).unwrap();
    assert_eq!(
        (
            work.metadata.resource_version.as_str(),
            work.metadata.labels["team"].as_str()
        ),
        ("4", "red")
    );
    assert_eq!(work.metadata.finalizers, ["f"]);
    assert!(work.status.is_true("Applied"));
    assert!(
        feed(&mut session, changed).is_empty(),
        "the same again changes nothing"
    );
}

#[test]
fn a_deletion_of_an_unknown_work_is_carried_out() {
    for with_payload in [false, true] {
        let mut session = agent();
        session.handle(now(), Input::Up, &mut Vec::new());
        drain(&mut session);
        let delete = if with_payload {
            event(E4).with_json("{}")
        } else {
            event(E4)
        };
        assert_eq!(words(&feed(&mut session, delete)), ["Added web"]);
        let work = session.store().get(WEB).unwrap();
        assert_eq!(work.metadata.finalizers, [names::WORK_FINALIZER]);
        assert_eq!(
            work.metadata.deletion_timestamp.unwrap().to_string(),
            "2026-05-30T10:11:12Z"
        );
        assert!(work.spec.manifests.is_empty());
        assert!(drain(&mut session).is_empty());
        set_finalizers(&mut session, &[]);
        let sent = drain(&mut session);
        assert_eq!(sent.len(), 1);
        assert_eq!(
            sent[0].event_type,
            "io.open-cluster-management.works.v1alpha1.manifestbundles.status.update_request"
        );
        let text = String::from_utf8(sent[0].payload().to_vec()).unwrap();
        assert!(
            text.contains("The manifests are deleted from the cluster edge-7"),
            "{text}"
        );
        assert_eq!(sent[0].text("originalsource").unwrap(), "hub-a");
        assert!(session.store().is_empty());
    }
}

#[test]
fn a_deletion_marks_a_known_work_for_ever() {
    let mut session = agent();
    feed(&mut session, event(E1));
    set_finalizers(&mut session, &["f"]);
    assert_eq!(words(&feed(&mut session, event(E4))), ["Modified web"]);
    assert_eq!(session.store().get(WEB).unwrap().spec.manifests.len(), 1);
    let later = event(E1).with("resourceversion", 9);
    assert_eq!(
        words(&feed(&mut session, later)),
        [format!("deleting: {WEB}")]
    );
    assert!(session.store().get(WEB).unwrap().metadata.deleting());
}

#[test]
fn deletions_of_a_broker_need_no_version_but_their_owner() {
    for line in include_str!("deletes.jsonl").lines() {
        let mut session = agent();
        let mut api = event(E1).with("resourceid", API);
        api.set("metadata", r#"{"name":"api"}"#);
        feed(&mut session, api);
        assert_eq!(words(&feed(&mut session, event(line))), ["Modified api"]);
    }
    let mut session = agent();
    feed(&mut session, event(E1));
    let foreign = CloudEvent {
        source: "hub-b".into(),
        ..event(E4)
    };
    assert_eq!(
        words(&feed(&mut session, foreign)),
        [format!(
            "other_source: {WEB} belongs to another source than hub-b"
        )]
    );
}

#[test]
fn a_new_name_replaces_the_old() {
    let mut session = agent();
    feed(&mut session, event(E1));
    let renamed = event(E1).with("metadata", r#"{"name":"web2"}"#);
    assert_eq!(
        words(&feed(&mut session, renamed)),
        ["Deleted web", "Added web2"]
    );
    assert!(session.store().get_named("edge-7", "web").is_none());
}

fn status_request(hashes: &str) -> CloudEvent {
    let event_type =
        "io.open-cluster-management.works.v1alpha1.manifestbundles.status.resync_request";
    CloudEvent::new("r", "hub-a", event_type, now())
        .with("clustername", "")
        .with_json(format!("{{\"statusHashes\":{hashes}}}"))
}

/// A source that asks was away, so it is asked in turn, alone.
#[track_caller]
fn asked_back(sent: &mut Vec<CloudEvent>, source: &str) {
    let request = sent.remove(0);
    assert!(request.event_type.ends_with("spec.resync_request"));
    assert_eq!(request.text("originalsource").unwrap(), source);
}

#[test]
fn a_status_resync_sends_what_differs() {
    let empty = "3a4ba43801251ccdf889a3154674d23a35ab996aacfc00de92e61dbb2f5cf189";
    let both = format!("{WEB} {API}");
    for (hashes, expected) in [
        ("[]".to_owned(), both.as_str()),
        (
            format!(
                r#"[{{"resourceID":"{WEB}","statusHash":"{empty}"}},{{"resourceID":"x","statusHash":""}}]"#
            ),
            "",
        ),
        (
            format!(
                r#"[{{"resourceID":"{WEB}","statusHash":"other"}},{{"resourceID":"{API}","statusHash":"not known yet here"}}]"#
            ),
            WEB,
        ),
    ] {
        let mut session = agent();
        feed(&mut session, event(E1));
        let mut api = event(E1).with("resourceid", API);
        api.set("metadata", r#"{"name":"api"}"#);
        feed(&mut session, api);
        if expected == WEB {
            let mut web = Work::clone(session.store().get(WEB).unwrap());
            web.status.conditions = vec![Condition::default()];
            let mut out = Vec::new();
            session.update(&web, Aspect::Status, &mut out).unwrap();
        }
        session.handle(now(), Input::Up, &mut Vec::new());
        drain(&mut session);
        feed(&mut session, status_request(&hashes));
        let mut sent = drain(&mut session);
        asked_back(&mut sent, "hub-a");
        let ids: Vec<_> = sent.iter().map(|e| e.resource_id().unwrap()).collect();
        assert_eq!(ids.join(" "), expected);
        assert!(
            sent.iter()
                .all(|e| e.event_type.ends_with("status.resync_response"))
        );
        feed(
            &mut session,
            status_request(&hashes).with("clustername", "edge-8"),
        );
        assert!(drain(&mut session).is_empty());
        let other = CloudEvent {
            source: "hub-b".into(),
            ..status_request("[]")
        };
        feed(&mut session, other);
        let mut sent = drain(&mut session);
        asked_back(&mut sent, "hub-b");
        assert!(sent.is_empty());
    }
}

#[test]
fn changes_need_the_newest_version_or_force() {
    let mut session = agent();
    feed(&mut session, event(E1));
    set_finalizers(&mut session, &["a"]);
    let stored = Work::clone(session.store().get(WEB).unwrap());
    for (version, expected) in [
        ("0", "ok"),
        ("", "the resource version of the work cannot be empty"),
        (
            "1",
            "the resource version of the work is outdated, new 1, old 2",
        ),
        ("2", "ok"),
        ("x", "the resource version \"x\" is no number"),
    ] {
        let mut work = stored.clone();
        work.metadata.resource_version = version.to_owned();
        let found = session.update(&work, Aspect::Metadata, &mut Vec::new());
        assert_eq!(
            found.map_or_else(|e| e.to_string(), |_| "ok".into()),
            expected
        );
    }
}

#[test]
fn statuses_wait_for_the_link_and_are_sent_in_their_newest_state() {
    let mut session = agent();
    feed(&mut session, event(E1));
    let work = applied(&session);
    session
        .update(&work, Aspect::Status, &mut Vec::new())
        .unwrap();
    assert!(session.poll_transmit(now(), &mut Vec::new()).is_none());
    session.handle(now(), Input::Up, &mut Vec::new());
    let lost = session.poll_transmit(now(), &mut Vec::new()).unwrap();
    assert!(lost.event.event_type.ends_with("spec.resync_request"));
    assert_eq!(
        lost.event.payload(),
        format!(r#"{{"resourceVersions":[{{"resourceID":"{WEB}","resourceVersion":3}}]}}"#)
            .as_bytes()
    );
    let status = session.poll_transmit(now(), &mut Vec::new()).unwrap();
    session.handle(now(), Input::Down, &mut Vec::new());
    session.handle(now(), Input::Up, &mut Vec::new());
    let again = drain(&mut session);
    assert_eq!(again.len(), 2, "what was in flight is owed again");
    assert_eq!(again[1].payload(), status.event.payload());
    assert_ne!(
        again[1].text("sequenceid").unwrap(),
        status.event.text("sequenceid").unwrap()
    );
    assert!(drain(&mut session).is_empty());
}

#[test]
fn what_only_waits_for_its_last_word_is_asked_for_no_more() {
    let mut session = agent();
    feed(&mut session, event(E4));
    session.handle(now(), Input::Up, &mut Vec::new());
    drain(&mut session);
    set_finalizers(&mut session, &[]);
    let last = session.poll_transmit(now(), &mut Vec::new()).unwrap();
    feed(&mut session, status_request("[]"));
    let request = session.poll_transmit(now(), &mut Vec::new()).unwrap();
    assert_eq!(request.event.payload(), br#"{"resourceVersions":[]}"#);
    session.handle(now(), Input::Sent(last.ticket), &mut Vec::new());
    assert!(session.store().is_empty());
}

#[test]
fn a_pause_survives_every_early_wake_and_a_clock_that_goes_back() {
    let mut session = agent();
    session.handle(now(), Input::Up, &mut Vec::new());
    let lost = session.poll_transmit(now(), &mut Vec::new()).unwrap();
    let mut out = Vec::new();
    session.handle(now(), Input::Failed(lost.ticket, Fate::Retry), &mut out);
    let paused = words(&out);
    assert!(paused[0].starts_with("wake "), "{paused:?}");
    assert!(session.poll_transmit(now(), &mut Vec::new()).is_none());
    let mut out = Vec::new();
    session.handle(now(), Input::Tick, &mut out);
    assert_eq!(words(&out), paused);
    let earlier = now()
        .checked_sub(jiff::SignedDuration::from_hours(1))
        .unwrap();
    assert!(session.poll_transmit(earlier, &mut Vec::new()).is_some());
}
