use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateWaiting, ContainerStatus, PodStatus,
};
use serde_json::json;

use super::super::{Attempt, Place, attempt};
use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("small seconds are valid")
}

fn begun() -> (FedoraMessage, Attempt) {
    let mut message: FedoraMessage = serde_json::from_value(json!({
        "apiVersion": "apps.fedoraproject.org/v1alpha1", "kind": "FedoraMessage",
        "metadata": {"name": "example", "namespace": "team", "uid": "11111111-2222-3333-4444-555555555555",
                     "generation": 1, "creationTimestamp": at(0).to_string()},
        "spec": {"env": "stg", "message": {"topic": "nice.message", "headers": {"niceness": "very", "n": 3},
                 "body": {"text": "two\nlines"}}, "authentication": {"secret_ref": {"name": "fm"}}},
    }))
    .expect("it is a message");
    let place = Place {
        topic_prefix: "org.fedoraproject.stg".to_owned(),
    };
    let mut attempt = attempt(&message, &place, at(1)).expect("it can be sent");
    attempt.status.sender_pod = Some(pod_name(&message, 1));
    message.status = Some(attempt.status.clone());
    (message, attempt)
}

const ROUTE: Route<'static> = Route {
    url: "amqps://broker/%2Fpubsub",
    topic_prefix: "org.fedoraproject.stg",
    exchange: "amq.topic",
};

fn made(program: Program) -> Pod {
    let settings = PodSettings {
        image: "registry/drover@sha256:0".to_owned(),
        program,
        pull_secret: None,
    };
    let secret = Mounted {
        secret: "fm",
        keys: ["ca", "cert", "key"],
    };
    pod(&begun().0, 1, &ROUTE, &secret, &settings)
}

#[test]
fn a_pod_is_hardened_and_owned_and_runs_the_command() {
    let (message, _) = begun();
    for program in [Program::Drover, Program::Python] {
        let pod = made(program);
        assert_eq!(pod.name_any(), "fmsg-111111112222-g1-a1");
        assert!(made_for(&message, &pod.metadata));
        let text = serde_json::to_value(&pod).expect("it is JSON");
        for (pointer, expected) in [
            ("/spec/restartPolicy", json!("Never")),
            ("/spec/automountServiceAccountToken", json!(false)),
            ("/spec/enableServiceLinks", json!(false)),
            ("/spec/activeDeadlineSeconds", json!(90)),
            ("/spec/securityContext/runAsNonRoot", json!(true)),
            (
                "/spec/securityContext/seccompProfile/type",
                json!("RuntimeDefault"),
            ),
            (
                "/spec/containers/0/securityContext/readOnlyRootFilesystem",
                json!(true),
            ),
            (
                "/spec/containers/0/securityContext/allowPrivilegeEscalation",
                json!(false),
            ),
            (
                "/spec/containers/0/securityContext/capabilities/drop",
                json!(["ALL"]),
            ),
            ("/spec/containers/0/resources/limits/memory", json!("256Mi")),
            ("/spec/volumes/1/secret/secretName", json!("fm")),
            (
                "/spec/volumes/1/secret/items/2",
                json!({"key": "key", "path": "key.pem"}),
            ),
            (
                "/metadata/ownerReferences/0/blockOwnerDeletion",
                json!(true),
            ),
        ] {
            assert_eq!(text.pointer(pointer), Some(&expected), "{pointer}");
        }
    }
    let args = |pod: Pod| {
        let container = pod
            .spec
            .map(|spec| spec.containers[0].clone())
            .unwrap_or_default();
        [container.command, container.args]
            .into_iter()
            .flatten()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(
        args(made(Program::Python)),
        "fedora-messaging --conf /etc/fmsg/config.toml publish --exchange amq.topic /etc/fmsg/message.json"
    );
    assert!(args(made(Program::Drover)).starts_with("publish --url amqps://broker/%2Fpubsub "));
}

#[test]
fn the_file_of_the_pod_is_read_back_as_the_same_message() {
    let (message, attempt) = begun();
    let map = map(&message, &attempt.message, &ROUTE);
    assert_eq!(map.immutable, Some(true));
    let data = map.data.expect("it has files");
    let line = &data["message.json"];
    assert!(!line.contains('\n'), "{line}");
    let read = drover_protocol::fedora::Line::parse(line)
        .and_then(|line| line.outgoing(ROUTE.topic_prefix, at(99), 1))
        .expect("it is a message");
    assert_eq!(read, attempt.message);
    assert!(data["config.toml"].starts_with("amqp_url = \"amqps://broker/%2Fpubsub\"\n"));
}

fn seen(phase: &str, state: ContainerState) -> Pod {
    let mut pod = made(Program::Drover);
    pod.metadata.creation_timestamp = Some(Time(at(1)));
    pod.status = Some(PodStatus {
        phase: Some(phase.to_owned()),
        container_statuses: Some(vec![ContainerStatus {
            state: Some(state),
            ..ContainerStatus::default()
        }]),
        ..PodStatus::default()
    });
    pod
}

fn ended(code: i32, text: &str) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: code,
            message: Some(text.to_owned()),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

#[test]
fn every_end_of_a_pod_has_a_reason_and_a_remedy() {
    #[track_caller]
    fn check(program: Program, code: i32, text: &str, reason: &str, verdict: Verdict) {
        let fault = outcome(
            &begun().0,
            &seen("Failed", ended(code, text)),
            program,
            at(2),
        )
        .expect("it ended")
        .expect_err("it failed");
        assert_eq!(
            (fault.reason, fault.verdict),
            (reason, verdict),
            "{}",
            fault.text
        );
    }
    let report = |reason: &str| json!({"reason": reason, "message": "why"}).to_string();
    for (reason, verdict) in [
        ("PublishForbidden", Verdict::Never),
        ("ExchangeNotFound", Verdict::Never),
        ("TLSVerificationFailed", Verdict::AfterChange),
        ("ConnectionFailed", Verdict::Later),
        ("DeliveryUncertain", Verdict::Again),
    ] {
        check(Program::Drover, 1, &report(reason), reason, verdict);
    }
    // A reason that nobody knows promises nothing.
    check(
        Program::Drover,
        1,
        &report("Sent"),
        "SenderPodFailed",
        Verdict::Later,
    );
    let python = Program::Python;
    check(python, 1, "Traceback", "SenderPodFailed", Verdict::Later);
    check(python, 2, "", "InvalidMessage", Verdict::Never);
    check(
        python,
        111,
        "Unable to connect to the message broker",
        "ConnectionFailed",
        Verdict::Later,
    );
    check(
        python,
        111,
        "Publishing timed out",
        "DeliveryUncertain",
        Verdict::Again,
    );
    check(
        python,
        121,
        "ACCESS_REFUSED - access to topic",
        "PublishForbidden",
        Verdict::Never,
    );
    check(python, 121, "nack", "PublishRejected", Verdict::Later);
    check(python, 137, "", "DeliveryUncertain", Verdict::Again);
    let fine = outcome(&begun().0, &seen("Succeeded", ended(0, "")), python, at(2));
    assert_eq!(fine, Some(Ok(())));
}

#[test]
fn a_pod_that_never_ran_sent_nothing_and_one_that_is_lost_may_have() {
    let waiting = |reason: &str| ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            ..ContainerStateWaiting::default()
        }),
        ..ContainerState::default()
    };
    let running = || ContainerState {
        running: Some(ContainerStateRunning::default()),
        ..ContainerState::default()
    };
    let look = |pod: &Pod, second| {
        let found = outcome(&begun().0, pod, Program::Drover, at(second))?;
        Some(found.expect_err("it did not succeed").reason)
    };
    let pulling = seen("Pending", waiting("ImagePullBackOff"));
    assert_eq!(look(&pulling, 10), None);
    assert_eq!(look(&pulling, 1000), Some("SenderPodFailed"));
    assert_eq!(look(&seen("Running", running()), 10), None);
    assert_eq!(
        look(&seen("Running", running()), 1000),
        Some("DeliveryUncertain")
    );
    assert_eq!(
        look(&seen("Failed", running()), 10),
        Some("DeliveryUncertain")
    );
    assert_eq!(
        look(&seen("Failed", waiting("x")), 10),
        Some("SenderPodFailed")
    );
    let (message, _) = begun();
    assert_eq!(missing(&message, at(5)), Missing::Make);
    assert!(matches!(missing(&message, at(60)), Missing::Gone(_)));
}

#[test]
fn a_pod_stays_until_its_end_is_written_down_and_a_while_longer() {
    let (mut message, _) = begun();
    let meta = made(Program::Drover).metadata;
    assert_eq!(removable_at(&message, &meta), None);
    message.status = Some(super::super::conclude(&message, Ok(()), at(3)));
    assert_eq!(removable_at(&message, &meta), Some(at(63)));
    let (mut message, _) = begun();
    let fault = Fault::new(names::REASON_REJECTED, Verdict::Later, "");
    message.status = Some(super::super::conclude(&message, Err(fault), at(3)));
    assert_eq!(removable_at(&message, &meta), Some(at(3601)));
}
