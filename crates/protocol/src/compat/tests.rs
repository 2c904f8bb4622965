//! What v0.13 writes and reads. The texts of its agent were recorded from its codecs.

use std::sync::Arc;

use jiff::Timestamp;

use super::{AgentV013Codec, SourceV013Codec, V013, status_hash};
use crate::codec::{Codec, Stamp};
use crate::eventtype::{Action, SubResource};
use crate::raw::Raw;
use crate::session::{
    AgentConfig, AgentSession, Aspect, Change, Input, Output, Owned, Session, SourceConfig,
    SourceSession,
};
use crate::vectors::{E5, drain, event, now};
use crate::work::{Condition, FeedbackValue, FieldValue, ManifestCondition, StatusFeedback};
use crate::{CloudEvent, ExtensionValue, SourceBundleCodec, Work, WorkSpec, WorkStatus, names};

const MANIFEST: &str = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"cm","namespace":"demo"},"data":{"k":"<v>"}}"#;
const CONFIGS: &str = r#"[{"resourceIdentifier":{"group":"","resource":"configmaps","name":"cm","namespace":"demo"},"feedbackRules":[{"type":"WellKnownStatus"}],"updateStrategy":{"type":"Update"}}]"#;

fn work() -> Work {
    let mut work = Work::default();
    work.metadata.name = "web".into();
    work.metadata.namespace = "edge-7".into();
    work.metadata.uid = "u1".into();
    work.metadata.generation = 3;
    work.metadata.labels.insert("team".into(), "blue".into());
    let spec = WorkSpec {
        manifests: vec![Raw::from_text(MANIFEST).unwrap()],
        delete_option: Some(Raw::from_text(r#"{"propagationPolicy":"Orphan"}"#).unwrap()),
        manifest_configs: Some(Raw::from_text(CONFIGS).unwrap()),
        executor: None,
    };
    work.spec = Arc::new(spec);
    work
}

fn status() -> WorkStatus {
    let condition = |condition_type: &str, generation: i64| Condition {
        condition_type: condition_type.into(),
        status: "True".into(),
        observed_generation: generation,
        last_transition_time: "2024-02-01T10:00:00Z".parse().ok(),
        reason: "Done".into(),
        message: "a<b>&c".into(),
    };
    let value = |name: &str, field_value: FieldValue| FeedbackValue {
        name: name.into(),
        field_value,
    };
    let manifest = ManifestCondition {
        conditions: Some(vec![condition("Applied", 0)]),
        status_feedback: StatusFeedback {
            values: vec![
                value(
                    "replicas",
                    FieldValue {
                        value_type: "Integer".into(),
                        integer: Some(3),
                        ..FieldValue::default()
                    },
                ),
                value(
                    "raw",
                    FieldValue {
                        value_type: "JsonRaw".into(),
                        json_raw: Some(r#"{"a":1}"#.into()),
                        ..FieldValue::default()
                    },
                ),
            ],
        },
        ..ManifestCondition::default()
    };
    let mut status = WorkStatus {
        conditions: vec![condition("Applied", 3)],
        ..WorkStatus::default()
    };
    status.resource_status.manifests = vec![manifest, ManifestCondition::default()];
    status.resource_status.manifests[0].resource_meta.name = "cm".into();
    status
}

fn stamp(source: &str) -> Stamp<'_> {
    Stamp {
        id: "e".into(),
        time: Timestamp::UNIX_EPOCH,
        source,
        sequence: Some("7".into()),
    }
}

fn encode<C: Codec<Object = Work>>(
    codec: C,
    sub: SubResource,
    source: &str,
    work: &Work,
) -> String {
    let event_type = codec.data_type().event(sub, Action::Update);
    let event = codec.encode(stamp(source), &event_type, work).unwrap();
    String::from_utf8(event.to_json()).unwrap()
}

#[test]
fn hashes() {
    let codec = SourceBundleCodec;
    let e5 = codec.decode(&event(E5)).unwrap();
    let check = |status: &WorkStatus, expected: &str| assert_eq!(status_hash(status), expected);
    check(
        &e5.status,
        "0ca7853425532ff6abf6fef239de6d1b6cf7d0a20efe932be0a30b7e8b36e9f4",
    );
    check(
        &WorkStatus::default(),
        "3a4ba43801251ccdf889a3154674d23a35ab996aacfc00de92e61dbb2f5cf189",
    );
    check(&status(), RECORDED_HASH);
}

#[test]
fn specs_as_they_are_sent() {
    let check = |format: V013, data_type: &str, data: &str| {
        let expected = format!(
            r#"{{"specversion":"1.0","id":"e","source":"hub-a","type":"io.open-cluster-management.works.v1alpha1.{data_type}.spec.update_request","datacontenttype":"application/json","time":"1970-01-01T00:00:00Z","data":{data},"clustername":"edge-7","originalsource":"","resourceid":"u1","resourceversion":"3"}}"#
        );
        let codec = SourceV013Codec(format);
        assert_eq!(encode(codec, SubResource::Spec, "hub-a", &work()), expected);
        // The other end understands it, whether numbers are typed or not.
        let mut sent = event(&expected);
        for version in [ExtensionValue::Integer(3), "3".into()] {
            sent.set(names::EXT_RESOURCE_VERSION, version);
            let copy = AgentV013Codec(format).decode(&sent).unwrap();
            assert_eq!(copy.spec.manifests, work().spec.manifests);
            assert_eq!(copy.spec.delete_option, work().spec.delete_option);
            assert_eq!(copy.metadata.generation, 3);
            assert_eq!(copy.metadata.name, "u1");
            assert_eq!(copy.metadata.namespace, "edge-7");
            let origin = copy
                .metadata
                .annotations
                .get(names::ANNOTATION_ORIGINAL_SOURCE);
            assert_eq!(origin.map(String::as_str), Some("hub-a"));
            let config: serde_json::Value = copy
                .spec
                .manifest_configs
                .as_ref()
                .unwrap()
                .parse()
                .unwrap();
            let expected: serde_json::Value = serde_json::from_str(CONFIGS).unwrap();
            assert_eq!(config, expected);
        }
    };
    let options = r#""deleteOption":{"propagationPolicy":"Orphan"}"#;
    check(
        V013::Bundles,
        "manifestbundles",
        &format!(r#"{{"manifests":[{MANIFEST}],{options},"manifestConfigs":{CONFIGS}}}"#),
    );
    check(
        V013::Manifests,
        "manifests",
        &format!(
            r#"{{"manifest":{MANIFEST},{options},"configOption":{{"feedbackRules":[{{"type":"WellKnownStatus"}}],"updateStrategy":{{"type":"Update"}}}}}}"#
        ),
    );
}

#[test]
fn statuses_as_the_agent_of_v013_sends_them() {
    let check = |format: V013, recorded: &str| {
        let mut work = work();
        work.status = status();
        let key = names::ANNOTATION_ORIGINAL_SOURCE.to_owned();
        work.metadata.annotations.insert(key, "hub-a".into());
        let ours = encode(
            AgentV013Codec(format),
            SubResource::Status,
            "edge-7-agent",
            &work,
        );
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        let (ours, recorded) = (parse(&ours), event(recorded));
        let mut expected = parse(std::str::from_utf8(&recorded.to_json()).unwrap());
        // What differs from event to event.
        for name in ["id", "time", "sequenceid"] {
            expected[name] = ours[name].clone();
        }
        assert_eq!(ours, expected);

        let read = SourceV013Codec(format).decode(&recorded).unwrap();
        let manifests = match format {
            V013::Bundles => 2,
            V013::Manifests => 1,
        };
        assert_eq!(read.status.conditions, status().conditions);
        let known = status().resource_status.manifests[..manifests].to_vec();
        assert_eq!(read.status.resource_status.manifests, known);
        assert_eq!(read.metadata.generation, 3);
    };
    check(V013::Bundles, RECORDED_BUNDLE);
    check(V013::Manifests, RECORDED_MANIFEST);
}

#[test]
fn what_cannot_travel_is_refused() {
    let check = |format: V013, change: fn(&mut WorkSpec), expected: &str| {
        let mut work = work();
        change(Arc::make_mut(&mut work.spec));
        let error = SourceV013Codec(format).validate(&work).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    let executor = |spec: &mut WorkSpec| spec.executor = Some(Raw::from_text("{}").unwrap());
    check(V013::Bundles, executor, "spec.executor: Forbidden");
    let twice = |spec: &mut WorkSpec| spec.manifests.push(Raw::from_text(MANIFEST).unwrap());
    check(V013::Manifests, twice, "takes one manifest, not 2");
    let none = |spec: &mut WorkSpec| spec.manifests.clear();
    check(V013::Manifests, none, "should not be empty");
}

/// Carries events between the two ends until both are silent.
fn talk(
    source: &mut SourceSession<SourceV013Codec>,
    agent: &mut AgentSession<AgentV013Codec>,
) -> (Vec<CloudEvent>, Vec<Output<Work>>) {
    let (mut sent, mut out) = (Vec::new(), Vec::new());
    loop {
        let (specs, statuses) = (drain(source), drain(agent));
        if specs.is_empty() && statuses.is_empty() {
            return (sent, out);
        }
        for event in specs {
            sent.push(event.clone());
            agent.handle(now(), Input::Wire(event), &mut out);
        }
        for event in statuses {
            sent.push(event.clone());
            source.handle(now(), Input::Wire(event), &mut out);
        }
    }
}

fn ends(format: V013) -> (SourceSession<SourceV013Codec>, AgentSession<AgentV013Codec>) {
    let source = SourceConfig {
        source: "hub-a".into(),
        resync: true,
        seed: 1,
    };
    let agent = AgentConfig {
        agent: "edge-7-agent".into(),
        cluster: "edge-7".into(),
        resync: true,
        seed: 2,
    };
    let mut source = SourceSession::new(SourceV013Codec(format), source, Owned::default());
    let mut agent = AgentSession::new(AgentV013Codec(format), agent);
    let mut out = Vec::new();
    source.handle(now(), Input::Up, &mut out);
    agent.handle(now(), Input::Up, &mut out);
    (source, agent)
}

#[test]
fn a_work_lives_and_dies() {
    for format in [V013::Bundles, V013::Manifests] {
        let (mut source, mut agent) = ends(format);
        let mut out = Vec::new();
        source.create(now(), work(), &mut out).unwrap();
        talk(&mut source, &mut agent);
        let copy = agent.store().iter().next().unwrap().clone();
        assert_eq!(copy.metadata.name, copy.metadata.uid, "names do not travel");
        let mut report = Work::clone(&copy);
        report.metadata.finalizers = vec![names::WORK_FINALIZER.into()];
        let copy = agent.update(&report, Aspect::Metadata, &mut out).unwrap();
        let mut report = Work::clone(&copy);
        report.status = status();
        agent.update(&report, Aspect::Status, &mut out).unwrap();
        talk(&mut source, &mut agent);
        let known = source.store().get_named("edge-7", "web").unwrap().clone();
        assert_eq!(known.status.conditions, status().conditions);

        // Both count the status alike: a resync moves nothing.
        if format == V013::Bundles {
            source.handle(now(), Input::Resync, &mut out);
            let (sent, _) = talk(&mut source, &mut agent);
            let reported = |event: &CloudEvent| event.event_type.ends_with("resync_response");
            assert!(!sent.iter().any(reported), "{sent:?}");
        }

        source.delete(now(), "edge-7", "web", &mut out);
        talk(&mut source, &mut agent);
        let copy = agent.store().iter().next().unwrap().clone();
        assert!(copy.metadata.deleting());
        let mut report = Work::clone(&copy);
        report.metadata.finalizers.clear();
        agent.update(&report, Aspect::Metadata, &mut out).unwrap();
        let (sent, _) = talk(&mut source, &mut agent);
        let last = sent.iter().rfind(|event| event.source == "edge-7-agent");
        assert!(last.unwrap().event_type.ends_with(".status.delete_request"));
        assert_eq!(
            source.store().iter().count() + agent.store().iter().count(),
            0
        );
    }
}

#[test]
fn the_deletion_of_an_unknown_work_has_no_finalizer() {
    let (_, mut agent) = ends(V013::Bundles);
    drain(&mut agent);
    let mut out = Vec::new();
    let deletion = r#"{"specversion":"1.0","id":"e","source":"hub-a","type":"io.open-cluster-management.works.v1alpha1.manifestbundles.spec.delete_request","time":"2024-02-01T10:00:00Z","clustername":"edge-7","originalsource":"","resourceid":"u1","resourceversion":"3","deletiontimestamp":"2024-02-01T10:00:00Z"}"#;
    agent.handle(now(), Input::Wire(event(deletion)), &mut out);
    let Some(Output::Change(Change::Added(copy))) = out.pop() else {
        panic!("{out:?}");
    };
    assert!(copy.metadata.deleting() && copy.metadata.finalizers.is_empty());
    assert!(
        drain(&mut agent).is_empty(),
        "it is for its controller to say"
    );
    agent.update(&copy, Aspect::Metadata, &mut out).unwrap();
    let sent = drain(&mut agent);
    assert!(sent[0].event_type.ends_with(".status.delete_request"));
    assert!(agent.store().iter().next().is_none());
}

const RECORDED_HASH: &str = "082a12ea30b2ab91ab2a5e9e1900a65f2a0b27929880736928e7a0f349913a75";
const RECORDED_BUNDLE: &str = r#"{"specversion":"1.0","id":"73d3dbdd-f29a-4ad0-a276-5b019e68ed0c","source":"edge-7-agent","type":"io.open-cluster-management.works.v1alpha1.manifestbundles.status.update_request","datacontenttype":"application/json","time":"2026-11-21T04:19:11.27187585Z","data":{"conditions":[{"type":"Applied","status":"True","observedGeneration":3,"lastTransitionTime":"2024-02-01T10:00:00Z","reason":"Done","message":"a\u003cb\u003e\u0026c"}],"resourceStatus":[{"resourceMeta":{"ordinal":0,"group":"","version":"","kind":"","resource":"","name":"cm","namespace":""},"statusFeedback":{"values":[{"name":"replicas","fieldValue":{"type":"Integer","integer":3}},{"name":"raw","fieldValue":{"type":"JsonRaw","jsonRaw":"{\"a\":1}"}}]},"conditions":[{"type":"Applied","status":"True","lastTransitionTime":"2024-02-01T10:00:00Z","reason":"Done","message":"a\u003cb\u003e\u0026c"}]},{"resourceMeta":{"ordinal":0,"group":"","version":"","kind":"","resource":"","name":"","namespace":""},"statusFeedback":{},"conditions":null}]},"sequenceid":"2123994608651210752","clustername":"edge-7","originalsource":"hub-a","resourceid":"u1","resourceversion":3}"#;
const RECORDED_MANIFEST: &str = r#"{"specversion":"1.0","id":"74a6e523-dd0f-477a-99dc-d0910b8cce0b","source":"edge-7-agent","type":"io.open-cluster-management.works.v1alpha1.manifests.status.update_request","datacontenttype":"application/json","time":"2026-11-21T04:19:11.27193521Z","data":{"conditions":[{"type":"Applied","status":"True","observedGeneration":3,"lastTransitionTime":"2024-02-01T10:00:00Z","reason":"Done","message":"a\u003cb\u003e\u0026c"}],"status":{"resourceMeta":{"ordinal":0,"group":"","version":"","kind":"","resource":"","name":"cm","namespace":""},"statusFeedback":{"values":[{"name":"replicas","fieldValue":{"type":"Integer","integer":3}},{"name":"raw","fieldValue":{"type":"JsonRaw","jsonRaw":"{\"a\":1}"}}]},"conditions":[{"type":"Applied","status":"True","lastTransitionTime":"2024-02-01T10:00:00Z","reason":"Done","message":"a\u003cb\u003e\u0026c"}]}},"resourceid":"u1","resourceversion":3,"sequenceid":"2123994608651210753","clustername":"edge-7","originalsource":"hub-a"}"#;
