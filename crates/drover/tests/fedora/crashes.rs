//! A publisher that dies at any point of an attempt, and pods that meet any fate: the message is sent, or the status says why not, and
//! every copy is the same.

use std::collections::BTreeMap;
use std::time::Duration;

use drover_api::fedora::v1alpha1::{Environment, FedoraMessage, FedoraMessageStatus};
use drover_core::publish::pod::{PodSettings, Program, pod_name};
use drover_core::publish::{Place, attempt, conclude};
use drover_publisher::{Publisher, Sender, Target, install};
use drover_runtime::clock::Clock;
use drover_runtime::election::Leadership;
use drover_testkit::pki::Authority;
use drover_testkit::rabbitmq::CAPTURE;
use drover_testkit::{KubeApi, KubeOptions, Line, Process, Proxy, RabbitMq, eventually};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, LimitRange, Pod, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::stage::{
    LONG, create, everything, fm, give_secret, header, id_of, message, namespace, program, reason,
    take, traces,
};

/// Certificates that no broker ever sees.
fn unused(folder: &std::path::Path) -> Secret {
    let authority = Authority::new(folder).unwrap();
    let pair = authority.client("client", "client").unwrap();
    let files = [
        ("ca", authority.ca()),
        ("cert", pair.cert),
        ("key", pair.key),
    ];
    let data = files.map(|(key, path)| (key.to_owned(), ByteString(std::fs::read(path).unwrap())));
    let mut secret: Secret = serde_json::from_value(json!({"metadata": {"name": "fm"}})).unwrap();
    secret.data = Some(data.into());
    secret
}

fn by_pods(client: &Client) -> DropGuard {
    let publisher = Publisher {
        client: client.clone(),
        targets: BTreeMap::from([(Environment::Stg, Target::of_fedora(Environment::Stg))]),
        sender: Sender::Pod(PodSettings {
            image: "registry.example/drover:1".to_owned(),
            program: Program::Drover,
            pull_secret: None,
        }),
        cross_namespace: false,
        patience: Duration::from_secs(30),
        clock: Clock::system(),
        leadership: Leadership::alone(),
        metrics: None,
    };
    let cancel = CancellationToken::new();
    let run = publisher.run(cancel.clone());
    tokio::spawn(async move { run.await.unwrap() });
    cancel.drop_guard()
}

/// Waits until the attempt of this number has its pod.
async fn sender(client: &Client, namespace: &str, name: &str, number: u32) -> (Pod, ConfigMap) {
    let messages: Api<FedoraMessage> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let check = async || {
        let status = messages.get(name).await?.status.unwrap_or_default();
        anyhow::ensure!(status.attempts == number, "{name}: {status:?}");
        let pod = pods.get(&status.sender_pod.unwrap_or_default()).await?;
        let map = maps.get(&pod.name_any()).await?;
        Ok((pod, map))
    };
    eventually("the pod", LONG, check).await.unwrap()
}

async fn bind(client: &Client, pod: &Pod) {
    let (namespace, name) = (pod.namespace().unwrap(), pod.name_any());
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
                         "target": {"kind": "Node", "name": "n1"}});
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/binding");
    let request = http::Request::post(path)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&binding).unwrap())
        .unwrap();
    client.request_text(request).await.unwrap();
}

/// Reports what a kubelet, or who speaks for it, says of a pod.
async fn report(client: &Client, pod: &Pod, phase: &str, state: Value, more: Value) {
    let mut status = json!({"phase": phase, "containerStatuses": [{
        "name": "publish", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state,
    }]});
    for (field, value) in more.as_object().unwrap() {
        status[field] = value.clone();
    }
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap());
    let patch = Patch::Merge(json!({"status": status}));
    let params = PatchParams::default();
    api.patch_status(&pod.name_any(), &params, &patch)
        .await
        .unwrap();
}

fn ended(code: i32, why: &str) -> Value {
    json!({"terminated": {"exitCode": code, "reason": why, "message": ""}})
}

async fn meet(client: &Client, pod: &Pod, fate: &str) {
    let running = || json!({"running": {}});
    let waiting = |why: &str| json!({"waiting": {"reason": why}});
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap());
    bind(client, pod).await;
    match fate {
        "deleted" => {
            report(client, pod, "Running", running(), json!({})).await;
            let now = DeleteParams {
                grace_period_seconds: Some(0),
                ..DeleteParams::default()
            };
            api.delete(&pod.name_any(), &now).await.unwrap();
        }
        "evicted" => {
            let why = json!({"reason": "Evicted"});
            report(client, pod, "Failed", waiting("PodInitializing"), why).await;
        }
        "unpulled" => {
            let why = json!({"reason": "DeadlineExceeded"});
            report(client, pod, "Failed", waiting("ImagePullBackOff"), why).await;
        }
        "unfit" => report(client, pod, "Failed", ended(128, "StartError"), json!({})).await,
        "greedy" => report(client, pod, "Failed", ended(137, "OOMKilled"), json!({})).await,
        "orphaned" => {
            report(client, pod, "Running", running(), json!({})).await;
            let why = json!({"conditions": [{"type": "DisruptionTarget", "status": "True",
                                             "reason": "DeletionByPodGC"}]});
            report(client, pod, "Failed", running(), why).await;
        }
        other => panic!("{other}"),
    }
}

async fn fate(client: &Client, name: &str, expected: &str, part: &str) {
    create(client, "default", &message(name, "a.b", &json!({}))).await;
    let (pod, map) = sender(client, "default", name, 1).await;
    meet(client, &pod, name).await;
    let status = reason(client, "default", name, expected).await;
    let text = status.message.unwrap();
    assert!(text.contains(part), "{name}: {text}");
    let doubt = u32::from(expected == "DeliveryUncertain");
    assert_eq!(status.uncertain_attempts, doubt, "{name}");
    // The next one sends the very same message.
    let (next, again) = sender(client, "default", name, 2).await;
    assert_eq!(map.data, again.data, "{name}");
    assert!(map.data.unwrap()["message.json"].contains(status.message_id.as_deref().unwrap()));
    assert_ne!(pod.name_any(), next.name_any());
    if name == "deleted" {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
        let gone = async || {
            let found = maps.get_opt(&pod.name_any()).await?;
            anyhow::ensure!(found.is_none(), "{found:?}");
            Ok(())
        };
        eventually("its ConfigMap goes too", LONG, gone)
            .await
            .unwrap();
    }
    bind(client, &next).await;
    report(client, &next, "Succeeded", ended(0, "Completed"), json!({})).await;
    let sent = reason(client, "default", name, "Sent").await;
    assert_eq!((sent.attempts, sent.uncertain_attempts), (2, doubt));
    assert_eq!(sent.message_id, status.message_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_every_fate_end_in_a_reason_and_the_next_sends_the_same() {
    let kube = KubeApi::start(KubeOptions::default()).await.unwrap();
    let client = kube.client().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    install::install(&client).await.unwrap();
    let secret = unused(folder.path());
    for name in ["default", "narrow"] {
        namespace(&client, name).await;
        give_secret(&client, name, &secret).await;
    }
    // The strictest of the Pod Security Standards lets our pods in.
    let strict =
        json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    let (params, strict) = (PatchParams::default(), Patch::Merge(strict));
    namespaces.patch("default", &params, &strict).await.unwrap();
    let limits: LimitRange = serde_json::from_value(json!({
        "metadata": {"name": "limits"}, "spec": {"limits": [{"type": "Container", "max": {"memory": "10Mi"}}]},
    }))
    .unwrap();
    let ranges: Api<LimitRange> = Api::namespaced(client.clone(), "narrow");
    ranges
        .create(&PostParams::default(), &limits)
        .await
        .unwrap();
    let _publisher = by_pods(&client);
    let unsent = "SenderPodFailed";
    let uncertain = "DeliveryUncertain";
    let refused = async {
        create(&client, "narrow", &message("refused", "a.b", &json!({}))).await;
        let status = reason(&client, "narrow", "refused", unsent).await;
        let text = status.message.unwrap();
        assert!(
            text.contains("the API refused") && text.contains("10Mi"),
            "{text}"
        );
        assert_eq!(status.uncertain_attempts, 0);
    };
    tokio::join!(
        fate(&client, "deleted", uncertain, "the pod went"),
        fate(&client, "evicted", unsent, "before it sent: Evicted"),
        fate(&client, "unpulled", unsent, "ImagePullBackOff"),
        fate(&client, "unfit", unsent, "did not start"),
        fate(&client, "greedy", uncertain, "OOMKilled"),
        fate(&client, "orphaned", uncertain, "while it sent"),
        refused,
    );
}

/// What a publisher had written when it died.
async fn left_behind(client: &Client, name: &str, sent: bool) -> FedoraMessage {
    let made = create(client, "default", &message(name, "a.b", &json!({}))).await;
    let place = Place {
        topic_prefix: "org.fedoraproject.stg".to_owned(),
    };
    let begun = attempt(&made, &place, Timestamp::now()).unwrap();
    let mut status: FedoraMessageStatus = begun.status;
    status.sender_pod = Some(pod_name(&made, 1));
    let mut found = FedoraMessage {
        status: Some(status),
        ..made
    };
    if sent {
        found.status = conclude(&found, &found, Ok(()), Timestamp::now());
    }
    let api: Api<FedoraMessage> = Api::namespaced(client.clone(), "default");
    api.replace_status(name, &PostParams::default(), &found)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_finds_a_begun_message_goes_on_where_its_publisher_died() {
    let kube = KubeApi::start(KubeOptions::default()).await.unwrap();
    let client = kube.client().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    install::install(&client).await.unwrap();
    namespace(&client, "default").await;
    give_secret(&client, "default", &unused(folder.path())).await;
    // Before anything was made; between ConfigMap and pod; before the mark on a sent message.
    left_behind(&client, "begun", false).await;
    let prepared = left_behind(&client, "prepared", false).await;
    let sent = left_behind(&client, "sent", true).await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let map = json!({"metadata": {"name": pod_name(&prepared, 1)}});
    let map = serde_json::from_value(map).unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
    let _publisher = by_pods(&client);

    let (pod, _) = sender(&client, "default", "begun", 1).await;
    bind(&client, &pod).await;
    report(&client, &pod, "Succeeded", ended(0, "Completed"), json!({})).await;
    let status = reason(&client, "default", "begun", "Sent").await;
    assert_eq!((status.attempts, status.uncertain_attempts), (1, 0));
    // Whether that pod was there nobody knows.
    let (pod, map) = sender(&client, "default", "prepared", 2).await;
    let id = prepared.status.unwrap().message_id.unwrap();
    assert!(map.data.unwrap()["message.json"].contains(&id));
    bind(&client, &pod).await;
    report(&client, &pod, "Succeeded", ended(0, "Completed"), json!({})).await;
    let status = reason(&client, "default", "prepared", "Sent").await;
    assert_eq!((status.attempts, status.uncertain_attempts), (2, 1));
    assert_eq!(status.message_id.unwrap(), id);
    // One that was sent is marked, and nothing else.
    let api: Api<FedoraMessage> = Api::namespaced(client.clone(), "default");
    let id = sent.status.clone().unwrap().message_id;
    let marked = async || {
        let found = api.get("sent").await?;
        let mark = found.annotations().get("apps.fedoraproject.org/sent-id");
        anyhow::ensure!(mark == id.as_ref(), "{found:?}");
        assert_eq!(found.status, sent.status);
        Ok(())
    };
    eventually("it is marked", LONG, marked).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    assert_eq!(pods.get_opt(&pod_name(&sent, 1)).await.unwrap(), None);
}

/// A publisher of its own process that sends by itself and says everything, with its API behind a proxy.
fn process(kube: &KubeApi, api: u16, broker: u16, folder: &std::path::Path, name: &str) -> Process {
    let text = std::fs::read_to_string(kube.kubeconfig()).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["clusters"][0]["cluster"]["server"] = json!(format!("https://127.0.0.1:{api}"));
    let path = folder.join("kubeconfig");
    std::fs::write(&path, config.to_string()).unwrap();
    let args = [
        "publisher".to_owned(),
        "--no-install".to_owned(),
        "--disable-leader-election".to_owned(),
        "--log=trace".to_owned(),
        format!("--kubeconfig={}", path.display()),
        format!("--messaging-url=stg=amqps://localhost:{broker}/%2Fpubsub"),
    ];
    Process::start(name, program(), args, folder).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_dies_before_and_after_it_sent_sends_one_message_and_tells_no_secret() {
    let (broker, kube) = tokio::join!(RabbitMq::start(), KubeApi::start(KubeOptions::default()));
    let (broker, kube) = (broker.unwrap(), kube.unwrap());
    let client = kube.client().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    install::install(&client).await.unwrap();
    namespace(&client, "default").await;
    let secret = fm(&broker);
    give_secret(&client, "default", &secret).await;
    let port = kube.url().rsplit(':').next().unwrap().parse().unwrap();
    let (api, line) = (
        Proxy::start(port).await.unwrap(),
        Proxy::start(broker.port()).await.unwrap(),
    );
    let reader = broker.reader().await.unwrap();
    let start = |name: &str| process(&kube, api.port(), line.port(), folder.path(), name);

    // The attempt is written down; the broker does not even greet.
    line.set(Line::Mute);
    let mut first = start("first");
    create(&client, "default", &message("before", "a.b", &json!({}))).await;
    let begun = reason(&client, "default", "before", "Pending").await;
    first.kill();
    line.set(Line::Cut);
    line.set(Line::Open);
    let mut second = start("second");
    let status = reason(&client, "default", "before", "Sent").await;
    assert_eq!((status.attempts, status.uncertain_attempts), (2, 1));
    assert_eq!(status.message_id, begun.message_id);
    assert_eq!(status.sent_at, begun.sent_at);
    let got = take(&reader).await;
    assert_eq!(Some(id_of(&got)), status.message_id);
    assert!(reader.take(CAPTURE).await.unwrap().is_none(), "one copy");

    // The broker confirmed; the status cannot be written any more.
    broker.block(true).unwrap();
    create(&client, "default", &message("after", "a.b", &json!({}))).await;
    reason(&client, "default", "after", "Pending").await;
    api.set(Line::Cut);
    broker.block(false).unwrap();
    let one = take(&reader).await;
    second.kill();
    api.set(Line::Open);
    let third = start("third");
    let status = reason(&client, "default", "after", "Sent").await;
    assert_eq!((status.attempts, status.uncertain_attempts), (2, 1));
    let other = take(&reader).await;
    assert_eq!(Some(id_of(&one)), status.message_id);
    assert_eq!(id_of(&one), id_of(&other));
    assert_eq!(header(&one, "sent-at"), header(&other, "sent-at"));
    assert_eq!(one.data, other.data);
    assert!(reader.take(CAPTURE).await.unwrap().is_none(), "two copies");

    // Nothing of the key is anywhere but in its secret.
    let kinds = [
        "/api/v1/pods",
        "/api/v1/configmaps",
        "/api/v1/events",
        "/apis/apps.fedoraproject.org/v1alpha1/fedoramessages",
    ];
    let told = everything(&client, &kinds).await.unwrap()
        + &[first.log(), second.log(), third.log()].concat();
    assert!(told.contains("TRACE") && told.contains(&id_of(&one)));
    for trace in traces(&secret) {
        assert!(!told.contains(&trace), "a part of the key is told");
    }
}
