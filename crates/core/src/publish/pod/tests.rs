use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateWaiting, ContainerStatus, PodStatus,
};
use serde_json::json;

use super::super::{Attempt, Fault, Place, Verdict, attempt, conclude};
use super::*;
use drover_api::Time;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ContainerStateTerminated;

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
    let message = begun().0;
    pod(&message, &pod_name(&message, 1), &ROUTE, &secret, &settings)
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
    let map = map(&message, "a", &attempt.message, &ROUTE);
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
        container_statuses: Some(vec![
            // A cluster may add containers, and names come in order.
            ContainerStatus {
                name: "added".to_owned(),
                ..ContainerStatus::default()
            },
            ContainerStatus {
                name: "publish".to_owned(),
                state: Some(state),
                ..ContainerStatus::default()
            },
        ]),
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
    // An end without a report.
    check(Program::Drover, 2, "", "SenderPodFailed", Verdict::Later);
    check(
        Program::Drover,
        111,
        "",
        "DeliveryUncertain",
        Verdict::Again,
    );
    let fine = outcome(
        &begun().0,
        &seen("Succeeded", ended(0, "")),
        Program::Python,
        at(2),
    );
    assert_eq!(fine, Some(Ok(())));
    let mut never = ended(128, "exec: \"drover\": not found");
    never.terminated.as_mut().expect("it ended").reason = Some("StartError".to_owned());
    let fault = outcome(&begun().0, &seen("Failed", never), Program::Drover, at(2));
    let fault = fault.expect("it ended").expect_err("it failed");
    assert_eq!(fault.reason, "SenderPodFailed");
}

/// The last words are those of fedora-messaging 3.9.1 with the configuration of the pod.
#[test]
fn the_words_of_the_python_command_are_understood() {
    #[track_caller]
    fn check(code: i32, words: &str, reason: &str, verdict: Verdict) {
        let pod = seen("Failed", ended(code, words));
        let fault = outcome(&begun().0, &pod, Program::Python, at(2));
        let fault = fault.expect("it ended").expect_err("it failed");
        let text = &fault.text;
        assert_eq!((fault.reason, fault.verdict), (reason, verdict), "{text}");
        assert!(!text.contains("  File"), "{text}");
    }
    let said = |lines: &[&str]| {
        let first = "Publishing message with topic a.b";
        [&[first], lines].concat().join("\n")
    };
    let lost = "[pika.adapters.twisted_connection ERROR] connection_lost: ConnectionLost()";
    let let_in = "[fedora_messaging.twisted.factory DEBUG] AMQP handshake completed; connection ready for use";
    let late =
        "Unable to connect to the message broker: Publishing timed out after waiting 30 seconds.";
    let trace = "  File \"factory.py\", line 212, in when_connected\n    yield self._client_deferred\nfedora_messaging.exceptions.ConnectionException";
    check(1, "ImportError: no", "SenderPodFailed", Verdict::Later);
    check(
        1,
        &[trace, "[pika.adapters.twisted_connection ERROR] connection_lost: Error([('SSL routines', '', 'certificate verify failed')])"].join("\n"),
        "TLSVerificationFailed",
        Verdict::AfterChange,
    );
    check(
        1,
        &[trace, "[pika.connection INFO] pending-error=ConnectionClosedByBroker: (403) 'ACCESS_REFUSED - Login was refused using authentication mechanism EXTERNAL.'", lost].join("\n"),
        "AuthenticationRefused",
        Verdict::AfterChange,
    );
    check(
        2,
        "Error: Unable to validate message: [] is not of type 'object'",
        "InvalidMessage",
        Verdict::Never,
    );
    check(111, &said(&[late]), "ConnectionFailed", Verdict::Later);
    check(
        111,
        &said(&[late, let_in]),
        "DeliveryUncertain",
        Verdict::Again,
    );
    // The beginning is lost: it may have been let in.
    check(111, late, "DeliveryUncertain", Verdict::Again);
    check(
        111,
        "[pika.channel WARNING] Received remote Channel.Close (404): \"NOT_FOUND - no exchange 'nowhere' in vhost '/pubsub'\" on <Channel>",
        "ExchangeNotFound",
        Verdict::Never,
    );
    check(
        121,
        "Unable to publish message: (403, \"ACCESS_REFUSED - access to topic 'x.403' refused\")",
        "PublishForbidden",
        Verdict::Never,
    );
    check(
        121,
        &said(&["Unable to publish message: 1 message(s) NACKed, topic a.403"]),
        "PublishRejected",
        Verdict::Later,
    );
    check(137, "", "DeliveryUncertain", Verdict::Again);
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
    let on_node = |mut pod: Pod| {
        let spec = pod.spec.as_mut().expect("it has a spec");
        spec.node_name = Some("n1".to_owned());
        pod
    };
    let because = |mut pod: Pod, reason: &str| {
        let status = pod.status.as_mut().expect("it has a status");
        status.reason = Some(reason.to_owned());
        pod
    };
    let (unsent, uncertain) = (Some("SenderPodFailed"), Some("DeliveryUncertain"));
    for (pod, second, expected) in vec![
        (seen("Pending", waiting("ImagePullBackOff")), 10, None),
        (seen("Pending", waiting("ContainerCreating")), 1000, unsent),
        (
            because(
                on_node(seen("Failed", waiting("ImagePullBackOff"))),
                "DeadlineExceeded",
            ),
            100,
            unsent,
        ),
        // It was about to start when its node fell silent.
        (
            on_node(seen("Pending", waiting("ContainerCreating"))),
            1000,
            uncertain,
        ),
        (on_node(made(Program::Drover)), 10, None),
        (seen("Running", running()), 10, None),
        (seen("Running", running()), 1000, uncertain),
        (seen("Failed", running()), 10, uncertain),
        (seen("Failed", waiting("x")), 10, unsent),
        (
            because(on_node(seen("Failed", waiting("x"))), "Evicted"),
            10,
            unsent,
        ),
        (
            because(on_node(seen("Failed", waiting("x"))), "NodeLost"),
            10,
            uncertain,
        ),
    ] {
        assert_eq!(look(&pod, second), expected, "{:?}", pod.status);
    }
    for (pod, expected) in [
        (made(Program::Drover), true),
        (seen("Pending", waiting("ContainerCreating")), true),
        (on_node(made(Program::Drover)), false),
        (seen("Pending", running()), false),
        (seen("Pending", ended(0, "")), false),
        (seen("Running", ContainerState::default()), false),
        (seen("Failed", waiting("x")), false),
    ] {
        assert_eq!(untaken(&pod), expected, "{:?}", pod.status);
    }
    let mut started_late = seen("Running", running());
    let status = started_late.status.as_mut().expect("it has a status");
    status.start_time = Some(Time(at(900)));
    assert_eq!(look(&started_late, 1000), None);
}

#[test]
fn a_pod_that_is_not_there_was_not_made_or_went() {
    let (message, _) = begun();
    let map = ConfigMap::default();
    assert_eq!(missing(&message, None, at(5)), Missing::Make);
    // The publisher was away for long.
    assert_eq!(missing(&message, None, at(600)), Missing::Make);
    for (map, second, reason) in [
        (Some(&map), 5, "DeliveryUncertain"),
        (None, 3600, "SenderPodFailed"),
    ] {
        let Missing::Gone(fault) = missing(&message, map, at(second)) else {
            panic!("{reason}");
        };
        assert_eq!(fault.reason, reason);
    }
}

#[test]
fn a_pod_stays_until_its_end_is_written_down_and_a_while_longer() {
    let (mut message, _) = begun();
    let pod = seen("Succeeded", ended(0, ""));
    assert_eq!(removable_at(&message, &pod), None);
    message.status = conclude(&message, &message, Ok(()), at(3));
    assert_eq!(removable_at(&message, &pod), Some(at(63)));
    let (mut message, _) = begun();
    let fault = Fault::new(names::REASON_REJECTED, Verdict::Later, "");
    message.status = conclude(&message, &message, Err(fault), at(3));
    assert_eq!(removable_at(&message, &pod), Some(at(3601)));
    // One that was given up and may still come to send.
    let pending = seen("Pending", ContainerState::default());
    assert_eq!(removable_at(&message, &pending), Some(Timestamp::MIN));
}
