//! On a real kube-apiserver, with no more rights than the publisher asks for.

use std::path::{Path, PathBuf};

use drover_api::fedora::v1alpha1::FedoraMessage;
use drover_publisher::install;
use drover_testkit::rabbitmq::PUBLISHER;
use drover_testkit::{KubeApi, KubeOptions, Process, RabbitMq, eventually};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::stage::{
    LONG, create, example, fm, give_secret, message, namespace, program, reason, secret, take, uid,
};

const USER: &str = "publisher";

async fn make<K>(api: &Api<K>, object: Value)
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let object: K = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

/// Gives a user the rights of a publisher, and nothing else; the answer is its kubeconfig.
async fn rights(kube: &KubeApi, client: &Client, folder: &Path) -> PathBuf {
    let meta = json!({"name": USER});
    let who = json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": USER}]);
    let role =
        |kind: &str| json!({"kind": kind, "apiGroup": "rbac.authorization.k8s.io", "name": USER});
    let all = Api::<ClusterRole>::all(client.clone());
    make(
        &all,
        json!({"metadata": meta, "rules": install::rules(true)}),
    )
    .await;
    let bindings = Api::<ClusterRoleBinding>::all(client.clone());
    make(
        &bindings,
        json!({"metadata": meta, "subjects": who, "roleRef": role("ClusterRole")}),
    )
    .await;
    rights_in(client, "default", install::namespace_rules(true)).await;
    let text = std::fs::read_to_string(kube.kubeconfig()).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["users"][0]["user"]["as"] = json!(USER);
    let path = folder.join("publisher.kubeconfig");
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

async fn rights_in(client: &Client, namespace: &str, rules: Vec<PolicyRule>) {
    let meta = json!({"name": USER});
    let group = "rbac.authorization.k8s.io";
    let roles = Api::<Role>::namespaced(client.clone(), namespace);
    make(&roles, json!({"metadata": meta, "rules": rules})).await;
    let bindings = Api::<RoleBinding>::namespaced(client.clone(), namespace);
    let who = json!([{"kind": "User", "apiGroup": group, "name": USER}]);
    let role = json!({"kind": "Role", "apiGroup": group, "name": USER});
    make(
        &bindings,
        json!({"metadata": meta, "subjects": who, "roleRef": role}),
    )
    .await;
}

fn publisher(name: &str, kubeconfig: &Path, folder: &Path, more: &[String]) -> Process {
    let mut args = vec![
        "publisher".to_owned(),
        "--no-install".to_owned(),
        format!("--kubeconfig={}", kubeconfig.display()),
        "--log=info".to_owned(),
    ];
    args.extend_from_slice(more);
    Process::start(name, program(), args, folder).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_the_request_is_sent_and_does_not_change() {
    let (broker, kube) = tokio::join!(RabbitMq::start(), KubeApi::start(KubeOptions::default()));
    let (broker, kube) = (broker.unwrap(), kube.unwrap());
    let client = kube.client().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    install::install(&client).await.unwrap();
    namespace(&client, "default").await;
    let kubeconfig = rights(&kube, &client, folder.path()).await;
    let urls = [format!("--messaging-url=stg={0},prod={0}", broker.url())];
    let _publisher = publisher("publisher", &kubeconfig, folder.path(), &urls);
    give_secret(
        &client,
        "default",
        &secret(&broker, "fedora-messaging-certs", PUBLISHER),
    )
    .await;
    let applied = std::process::Command::new(drover_testkit::program("kubectl").unwrap())
        .args(["apply", "-f"])
        .arg(example())
        .arg(format!("--kubeconfig={}", kube.kubeconfig().display()))
        .output()
        .unwrap();
    assert!(applied.status.success(), "{applied:?}");
    let status = reason(&client, "default", "hello-world", "Sent").await;
    assert_eq!(
        status.message.as_deref(),
        Some("Message was sent successfully")
    );
    let got = take(&broker.reader().await.unwrap()).await;
    assert_eq!(
        got.routing_key.as_str(),
        "org.fedoraproject.prod.nice.message"
    );

    // The rules of the definition and of the policy hold without any code of ours.
    let api: Api<FedoraMessage> = Api::namespaced(client.clone(), "default");
    let change = async |spec: Value| {
        let patch = Patch::Merge(json!({"spec": spec}));
        api.patch("hello-world", &PatchParams::default(), &patch)
            .await
    };
    let refused =
        async || match change(json!({"message": {"body": {"encouragement": "less"}}})).await {
            Err(error) if error.to_string().contains("cannot change any more") => Ok(()),
            // A policy works a moment after it was made.
            other => anyhow::bail!("{other:?}"),
        };
    eventually("a change of the body is refused", LONG, refused)
        .await
        .unwrap();
    change(json!({"suspend": true, "ttl_seconds_after_finished": 86400}))
        .await
        .unwrap();
    for (wrong, expected) in [
        (json!({"message": {"topic": "a..b", "body": {}}}), "topic"),
        (
            json!({"message": {"topic": "a", "body": {}, "headers": {"sent-at": "x"}}}),
            "written by the sender",
        ),
        (json!({"env": "dev"}), "env"),
        (json!({"authentication": {}}), "secret_ref or secretRef"),
        (
            json!({"authentication": {"secret_ref": {"name": "../../b/secrets/fm"}}}),
            "secret_ref.name",
        ),
        (
            json!({"authentication": {"secretRef": {"name": "fm?resourceVersion=0"}}}),
            "secretRef.name",
        ),
        (
            json!({"authentication": {"secretRef": {"name": "fm", "namespace": "a/b"}}}),
            "secretRef.namespace",
        ),
        (json!({"max_attempts": 3, "maxAttempts": 4}), "not both"),
        (json!({"message": {"topic": "a", "body": "text"}}), "body"),
    ] {
        let mut object = serde_json::to_value(message("wrong", "a", &json!({}))).unwrap();
        for (field, value) in wrong.as_object().unwrap() {
            object["spec"][field] = value.clone();
        }
        let request = http::Request::post(
            "/apis/apps.fedoraproject.org/v1alpha1/namespaces/default/fedoramessages",
        )
        .header("content-type", "application/json")
        .body(object.to_string().into_bytes())
        .unwrap();
        let error = client.request_text(request).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{wrong}: {error}");
    }
    // Where it may not read the secret it says no more than that.
    namespace(&client, "foreign").await;
    create(&client, "foreign", &message("unread", "a", &json!({}))).await;
    let status = reason(&client, "foreign", "unread", "SecretNotPermitted").await;
    let text = status.message.unwrap_or_default();
    assert!(text.contains("--message-namespace"), "{text}");
}

const MESSAGES: &str = "/apis/apps.fedoraproject.org/v1alpha1/namespaces/default/fedoramessages";

/// Makes a message with a body of so many levels, of which no reader in this program can read back a thing.
async fn create_deep(client: &Client, name: &str, levels: usize, more: &Value) {
    let object = serde_json::to_string(&message(name, "a", more)).unwrap();
    let body = format!("{}null{}", r#"{"x":"#.repeat(levels), "}".repeat(levels));
    let shallow = format!(r#"{{"name":"{name}"}}"#);
    let (start, end) = object.split_once(&format!(r#""body":{shallow}"#)).unwrap();
    let object = format!(r#"{start}"body":{body}{end}"#);
    let request = http::Request::post(MESSAGES)
        .header("content-type", "application/json")
        .body(object.into_bytes())
        .unwrap();
    client.request_text(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_deep_to_be_read_concerns_no_other_message() {
    let (broker, kube) = tokio::join!(RabbitMq::start(), KubeApi::start(KubeOptions::default()));
    let (broker, kube) = (broker.unwrap(), kube.unwrap());
    let client = kube.client().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    install::install(&client).await.unwrap();
    namespace(&client, "default").await;
    let kubeconfig = rights(&kube, &client, folder.path()).await;
    give_secret(&client, "default", &fm(&broker)).await;
    // One that is there when the publisher lists, and one that comes while it watches.
    create_deep(&client, "listed", 2000, &json!({})).await;
    let urls = [format!("--messaging-url=stg={}", broker.url())];
    let _publisher = publisher("publisher", &kubeconfig, folder.path(), &urls);
    let api: Api<FedoraMessage> = Api::namespaced(client.clone(), "default");
    let send = async |name: &str| {
        let good = message(name, "a.b", &json!({}));
        api.create(&PostParams::default(), &good).await.unwrap();
        reason(&client, "default", name, "Sent").await;
    };
    let get = async |name: &str| {
        let request = http::Request::get(format!("{MESSAGES}/{name}"));
        let request = request.body(Vec::new()).unwrap();
        client.request_text(request).await
    };
    send("first").await;
    create_deep(&client, "watched", 2000, &json!({})).await;
    let over = json!({"ttl_seconds_after_finished": 0});
    create_deep(&client, "deleted", 2000, &over).await;
    send("second").await;
    for name in ["listed", "watched"] {
        let told = async || {
            let text = get(name).await?;
            let found = text.contains("InvalidMessage") && text.contains("cannot be read");
            anyhow::ensure!(found, "{}", text.replace(r#"{"x":"#, ""));
            Ok(())
        };
        eventually("it says so", LONG, told).await.unwrap();
    }
    let gone = async || match get("deleted").await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => anyhow::bail!("{other:?}"),
    };
    eventually("it goes after its time", LONG, gone)
        .await
        .unwrap();
    // What is written once stays as it is.
    let before = get("listed").await.unwrap();
    send("third").await;
    assert!(get("listed").await.unwrap() == before);
}

/// Reports, as a kubelet does, how the container of a pod ended.
pub(crate) async fn end(pods: &Api<Pod>, name: &str, code: i32, words: &str) {
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    let status = json!({"status": {"phase": phase, "containerStatuses": [{
        "name": "publish", "image": "registry.example/drover:1", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": code, "reason": "Error", "message": words}},
    }]}});
    let params = PatchParams::default();
    pods.patch_status(name, &params, &Patch::Merge(status))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_made_watched_and_read_also_after_a_crash() {
    let (broker, kube) = tokio::join!(RabbitMq::start(), KubeApi::start(KubeOptions::default()));
    let (broker, kube) = (broker.unwrap(), kube.unwrap());
    let client = kube.client().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    install::install(&client).await.unwrap();
    namespace(&client, "default").await;
    let kubeconfig = rights(&kube, &client, folder.path()).await;
    let options = [
        format!("--messaging-url=stg={}", broker.url()),
        "--pod-image=registry.example/drover:1".to_owned(),
    ];
    let mut first = publisher("first", &kubeconfig, folder.path(), &options);
    give_secret(&client, "default", &fm(&broker)).await;
    let made = create(&client, "default", &message("one", "a.b", &json!({}))).await;
    let status = reason(&client, "default", "one", "Pending").await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let name = status.sender_pod.unwrap();
    let there = async |name: &str| {
        let check = async || Ok(pods.get(name).await?);
        eventually("the pod", LONG, check).await.unwrap()
    };
    let pod = there(&name).await;
    assert_eq!(pod.owner_references()[0].uid, uid(&made));
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let labels = ListParams::default().labels("app.kubernetes.io/managed-by=drover-publisher");
    assert_eq!(maps.list(&labels).await.unwrap().items.len(), 1);

    // Nobody watches while it ends; the next publisher reads it.
    first.kill();
    end(
        &pods,
        &name,
        1,
        r#"{"reason": "ConnectionFailed", "message": "no route"}"#,
    )
    .await;
    let _second = publisher("second", &kubeconfig, folder.path(), &options);
    let status = reason(&client, "default", "one", "ConnectionFailed").await;
    assert_eq!(status.message.as_deref(), Some("no route"));
    let again = async || {
        let status = Api::<FedoraMessage>::namespaced(client.clone(), "default")
            .get("one")
            .await?
            .status;
        let status = status.unwrap_or_default();
        anyhow::ensure!(status.attempts == 2, "{status:?}");
        Ok(status)
    };
    let next = eventually("the next attempt", LONG, again).await.unwrap();
    assert_eq!(next.message_id, status.message_id);
    let next = next.sender_pod.unwrap();
    assert_ne!(next, name);
    there(&next).await;
    end(&pods, &next, 0, "").await;
    let sent = reason(&client, "default", "one", "Sent").await;
    assert_eq!((sent.attempts, sent.uncertain_attempts), (2, 0));

    create(
        &client,
        "default",
        &message("two", "a.b", &json!({"maxAttempts": 1})),
    )
    .await;
    let name = reason(&client, "default", "two", "Pending")
        .await
        .sender_pod
        .unwrap();
    there(&name).await;
    end(&pods, &name, 137, "").await;
    let status = reason(&client, "default", "two", "RetriesExhausted").await;
    assert!(status.message.unwrap().contains("may have been delivered"));

    // Where it may read secrets and make no pods, the status says who could give the right.
    namespace(&client, "narrow").await;
    rights_in(&client, "narrow", install::namespace_rules(false)).await;
    give_secret(&client, "narrow", &fm(&broker)).await;
    create(&client, "narrow", &message("three", "a.b", &json!({}))).await;
    let status = reason(&client, "narrow", "three", "SenderPodFailed").await;
    let text = status.message.unwrap();
    assert!(
        text.contains("cannot create resource") && text.contains("--message-namespace"),
        "{text}"
    );
}
