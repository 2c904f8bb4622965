//! On `drover up`, where pods run as processes.

use std::process::Command;

use drover_api::fedora::v1alpha1::FedoraMessage;
use drover_testkit::rabbitmq::{CAPTURE, POWERLESS, PUBLISHER};
use drover_testkit::{Fleet, Line, Proxy, RabbitMq, eventually, process::free_port};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::stage::{
    LONG, create, everything, example, fm, give_secret, header, id_of, message, namespace, program,
    reason, secret, take, traces,
};

async fn up(urls: &[(&str, &str)], more: &[&str]) -> (Fleet, Client) {
    let urls: Vec<String> = urls
        .iter()
        .map(|(environment, url)| format!("--messaging-url={environment}={url}"))
        .collect();
    let mut args = vec!["--hubs=1", "--clusters=0", "--ephemeral"];
    args.extend(urls.iter().map(String::as_str));
    args.extend(more);
    let fleet = Fleet::up(program(), &args, LONG).await.unwrap();
    let client = fleet.client("hub1").await.unwrap();
    (fleet, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_the_request_ends_with_its_status_by_a_pod() {
    let broker = RabbitMq::start().await.unwrap();
    let url = broker.url();
    let (fleet, client) = up(&[("prod", &url)], &[]).await;
    let secret = secret(&broker, "fedora-messaging-certs", PUBLISHER);
    give_secret(&client, "default", &secret).await;
    let kubeconfig = fleet.kubeconfig().display().to_string();
    let file = example().display().to_string();
    let apply = [
        "apply",
        "--file",
        &file,
        "--kubeconfig",
        &kubeconfig,
        "--context",
        "hub1",
    ];
    // The definition may come a moment later than the fleet is ready.
    let applied = async || {
        let done = Command::new(program()).args(apply).output()?;
        anyhow::ensure!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(())
    };
    eventually("it is applied", LONG, applied).await.unwrap();
    let status = reason(&client, "default", "hello-world", "Sent").await;
    let told = serde_json::to_value(&status).unwrap();
    for (field, expected) in [
        ("type", json!("FedoraMessageSent")),
        ("status", json!(true)),
        ("reason", json!("Sent")),
        ("message", json!("Message was sent successfully")),
        ("attempts", json!(1)),
        ("topic", json!("org.fedoraproject.prod.nice.message")),
    ] {
        assert_eq!(told[field], expected, "{field}");
    }
    assert_eq!(told["conditions"][0]["status"], "True");
    let reader = broker.reader().await.unwrap();
    let got = take(&reader).await;
    assert_eq!(
        got.routing_key.as_str(),
        "org.fedoraproject.prod.nice.message"
    );
    assert_eq!(Some(id_of(&got)), status.message_id);
    assert!(header(&got, "niceness").contains("very"));
    let body: serde_json::Value = serde_json::from_slice(&got.data).unwrap();
    assert_eq!(body, json!({"encouragement": "You're doing great!"}));

    // The pod ran, and what it was given is nowhere else.
    let pod = status.sender_pod.unwrap();
    let kinds = [
        "/api/v1/pods",
        "/api/v1/configmaps",
        "/apis/events.k8s.io/v1/events",
        "/apis/apps.fedoraproject.org/v1alpha1/fedoramessages",
    ];
    let text = everything(&client, &kinds).await.unwrap() + &fleet.log();
    assert!(
        text.contains(&pod) && text.contains("\"exitCode\":0"),
        "{text}"
    );
    for trace in traces(&secret) {
        assert!(!text.contains(&trace), "a part of the key is told");
    }
    assert!(reader.take(CAPTURE).await.unwrap().is_none(), "once");
    assert_eq!(fleet.stop().unwrap(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_tells_why_it_did_not_send() {
    let broker = RabbitMq::start().await.unwrap();
    let url = broker.url();
    let (_fleet, client) = up(
        &[("stg", &url)],
        &["--messaging-topic-prefix=stg=org.elsewhere"],
    )
    .await;
    give_secret(&client, "default", &fm(&broker)).await;
    give_secret(&client, "default", &secret(&broker, "weak", POWERLESS)).await;
    create(&client, "default", &message("forbidden", "a.b", &json!({}))).await;
    let weak = json!({"authentication": {"secretRef": {"name": "weak"}}});
    create(&client, "default", &message("weak", "a.b", &weak)).await;
    let absent = json!({"authentication": {"secret_ref": {"name": "absent"}}});
    create(&client, "default", &message("absent", "a.b", &absent)).await;
    let forbidden = reason(&client, "default", "forbidden", "PublishForbidden").await;
    assert!(forbidden.completion_time.is_some() && forbidden.sender_pod.is_some());
    assert!(forbidden.message.unwrap().contains("ACCESS_REFUSED"));
    reason(&client, "default", "weak", "AuthenticationRefused").await;
    let absent = reason(&client, "default", "absent", "SecretNotFound").await;
    assert_eq!((absent.attempts, absent.completion_time), (0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_another_namespace_needs_its_owners_consent() {
    let broker = RabbitMq::start().await.unwrap();
    let url = broker.url();
    let (_fleet, client) = up(&[("stg", &url)], &["--messaging-cross-namespace"]).await;
    namespace(&client, "owner").await;
    namespace(&client, "guest").await;
    let mut shared = fm(&broker);
    give_secret(&client, "owner", &shared).await;
    let of = |name: &str| json!({"authentication": {"secret_ref": {"name": name, "namespace": "owner"}}});
    create(&client, "guest", &message("present", "a.b", &of("fm"))).await;
    create(&client, "guest", &message("absent", "a.b", &of("nothing"))).await;
    let one = reason(&client, "guest", "present", "SecretNotPermitted").await;
    let other = reason(&client, "guest", "absent", "SecretNotPermitted").await;
    let same = other.message.unwrap().replace("nothing", "fm");
    assert_eq!(
        one.message.unwrap(),
        same,
        "whether it is there is not told"
    );
    shared.metadata.annotations = Some(
        [(
            "apps.fedoraproject.org/allowed-namespaces".to_owned(),
            "other, guest".to_owned(),
        )]
        .into(),
    );
    shared.metadata.managed_fields = None;
    let api: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(client.clone(), "owner");
    let note = json!({"metadata": {"annotations": shared.metadata.annotations}});
    api.patch("fm", &PatchParams::default(), &Patch::Merge(note))
        .await
        .unwrap();
    let sent = reason(&client, "guest", "present", "Sent").await;
    assert_eq!(sent.sender_pod, None, "no pod can mount it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_waits_while_suspended_does_not_change_once_sent_and_goes_in_its_time() {
    let broker = RabbitMq::start().await.unwrap();
    let url = broker.url();
    let (_fleet, client) = up(&[("stg", &url)], &["--messaging-in-process"]).await;
    give_secret(&client, "default", &fm(&broker)).await;
    let api: Api<FedoraMessage> = Api::namespaced(client.clone(), "default");
    let refused = message("wrong", "a..b", &json!({}));
    let check = async || match api.create(&PostParams::default(), &refused).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 422) => {
            Ok(status.message.clone())
        }
        other => anyhow::bail!("{other:?}"),
    };
    eventually("a wrong topic is refused", LONG, check)
        .await
        .unwrap();

    create(
        &client,
        "default",
        &message("calm", "a.b", &json!({"suspend": true})),
    )
    .await;
    reason(&client, "default", "calm", "Suspended").await;
    let change = |spec: serde_json::Value| {
        let api = api.clone();
        async move {
            let patch = Patch::Merge(json!({"spec": spec}));
            api.patch("calm", &PatchParams::default(), &patch).await
        }
    };
    // Nothing was sent: it may still change.
    change(json!({"message": {"body": {"more": 1}}}))
        .await
        .unwrap();
    change(json!({"suspend": false})).await.unwrap();
    reason(&client, "default", "calm", "Sent").await;
    let got = take(&broker.reader().await.unwrap()).await;
    let body: serde_json::Value = serde_json::from_slice(&got.data).unwrap();
    assert_eq!(body, json!({"name": "calm", "more": 1}));
    let error = change(json!({"message": {"body": {"more": 2}}}))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("cannot change any more"),
        "{error}"
    );
    let error = change(json!({"env": "prod"})).await.unwrap_err();
    assert!(
        error.to_string().contains("cannot change any more"),
        "{error}"
    );
    change(json!({"ttlSecondsAfterFinished": 0})).await.unwrap();
    let gone = async || match api.get_opt("calm").await? {
        None => Ok(()),
        Some(left) => anyhow::bail!("{left:?}"),
    };
    eventually("it is deleted", LONG, gone).await.unwrap();
}

/// What Prometheus reads.
async fn metrics_at(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_sent_message_is_not_sent_and_many_are_sent_once() {
    let broker = RabbitMq::start().await.unwrap();
    let url = broker.url();
    let port = free_port().unwrap();
    let metrics = format!("--metrics=127.0.0.1:{port}");
    let (_fleet, client) = up(&[("stg", &url)], &["--messaging-in-process", &metrics]).await;
    give_secret(&client, "default", &fm(&broker)).await;
    let mut copy = message("copy", "a.b", &json!({}));
    copy.metadata.annotations =
        Some([("apps.fedoraproject.org/sent-id".to_owned(), "x".to_owned())].into());
    create(&client, "default", &copy).await;
    let count = 300;
    for number in 0..count {
        create(
            &client,
            "default",
            &message(&format!("m{number}"), "a.b", &json!({})),
        )
        .await;
    }
    let api: Api<FedoraMessage> = Api::namespaced(client.clone(), "default");
    let check = async || {
        let all = api.list(&kube::api::ListParams::default()).await?;
        let sent = all
            .iter()
            .filter(|one| one.status.as_ref().is_some_and(|s| s.status == Some(true)));
        let sent = sent.count();
        anyhow::ensure!(sent == count, "{sent} of {count}");
        Ok(())
    };
    eventually("all are sent", LONG, check).await.unwrap();
    let status = reason(&client, "default", "copy", "NotSentAgain").await;
    assert!(status.completion_time.is_some());
    let reader = broker.reader().await.unwrap();
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..count {
        ids.insert(id_of(&take(&reader).await));
    }
    assert_eq!(ids.len(), count, "none twice");
    assert!(reader.take(CAPTURE).await.unwrap().is_none());
    let counted = metrics_at(port).await;
    let line = format!("fmsg_messages_total{{hub=\"hub1\",env=\"stg\",reason=\"Sent\"}} {count}");
    assert!(counted.lines().any(|found| found == line), "{counted}");
    let free = json!({"metadata": {"annotations": {"apps.fedoraproject.org/sent-id": null}}});
    api.patch("copy", &PatchParams::default(), &Patch::Merge(free))
        .await
        .unwrap();
    reason(&client, "default", "copy", "Sent").await;
    assert!(ids.insert(id_of(&take(&reader).await)));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_confirm_and_status_it_sends_the_same_message_again() {
    let broker = RabbitMq::start().await.unwrap();
    let proxy = Proxy::start(broker.port()).await.unwrap();
    let url = format!("amqps://localhost:{}/%2Fpubsub", proxy.port());
    let folder = tempfile::tempdir().unwrap();
    let data = format!("--data={}", folder.path().display());
    let start = async || {
        let environment = format!("--messaging-url=stg={url}");
        let args = [
            "--hubs=1",
            "--clusters=0",
            &data,
            &environment,
            "--messaging-in-process",
        ];
        Fleet::up(program(), &args, LONG).await.unwrap()
    };
    let fleet = start().await;
    let client = fleet.client("hub1").await.unwrap();
    give_secret(&client, "default", &fm(&broker)).await;
    create(&client, "default", &message("first", "a.b", &json!({}))).await;
    reason(&client, "default", "first", "Sent").await;
    let reader = broker.reader().await.unwrap();
    take(&reader).await;
    // From now on the broker has what is sent, and its confirm never comes.
    proxy.set(Line::Mute);
    create(&client, "default", &message("twice", "a.b", &json!({}))).await;
    let one = take(&reader).await;
    fleet.kill();
    proxy.set(Line::Cut);
    proxy.set(Line::Open);
    let fleet = start().await;
    let client = fleet.client("hub1").await.unwrap();
    let status = reason(&client, "default", "twice", "Sent").await;
    let other = take(&reader).await;
    assert_eq!(id_of(&one), id_of(&other));
    assert_eq!(header(&one, "sent-at"), header(&other, "sent-at"));
    assert_eq!(one.data, other.data);
    assert_eq!((status.attempts, status.uncertain_attempts), (2, 1));
    assert!(status.last_attempt_time.unwrap().0 <= Timestamp::now());
    assert!(reader.take(CAPTURE).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_use_a_topic_puts_nobody_else_in_doubt() {
    let broker = RabbitMq::start().await.unwrap();
    let url = broker.url();
    // One connection for both: the broker forbids all topics of one of them.
    let urls = [("stg", url.as_str()), ("prod", url.as_str())];
    let foreign = "--messaging-topic-prefix=prod=org.example";
    let (_fleet, client) = up(&urls, &["--messaging-in-process", foreign]).await;
    give_secret(&client, "default", &fm(&broker)).await;
    let count = 150;
    let messages: Vec<_> = (0..count)
        .map(|number| {
            let environment = if number % 3 == 0 { "prod" } else { "stg" };
            let topic = format!("some.{}", number % 7);
            message(&format!("m{number}"), &topic, &json!({"env": environment}))
        })
        .collect();
    let made = messages
        .iter()
        .map(|message| create(&client, "default", message));
    futures::future::join_all(made).await;
    for number in 0..count {
        let expected = if number % 3 == 0 {
            "PublishForbidden"
        } else {
            "Sent"
        };
        let status = reason(&client, "default", &format!("m{number}"), expected).await;
        assert_eq!(
            (status.attempts, status.uncertain_attempts),
            (1, 0),
            "{number}: {status:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_died_in_silence_is_replaced() {
    let broker = RabbitMq::start().await.unwrap();
    let proxy = Proxy::start(broker.port()).await.unwrap();
    let url = format!("amqps://localhost:{}/%2Fpubsub", proxy.port());
    let (_fleet, client) = up(&[("stg", &url)], &["--messaging-in-process"]).await;
    give_secret(&client, "default", &fm(&broker)).await;
    create(&client, "default", &message("first", "a.b", &json!({}))).await;
    reason(&client, "default", "first", "Sent").await;
    proxy.forget();
    create(&client, "default", &message("next", "a.b", &json!({}))).await;
    let status = reason(&client, "default", "next", "Sent").await;
    assert_eq!(
        (status.attempts, status.uncertain_attempts),
        (2, 1),
        "{status:?}"
    );
}
