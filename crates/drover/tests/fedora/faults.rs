//! Every fault of a sender ends in its reason, whoever sends: a pod with `drover publish`, a pod with the Python command, or the
//! publisher itself. On a real kube-apiserver, with real brokers.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use drover_api::fedora::v1alpha1::Environment;
use drover_core::publish::pod::{PodSettings, Program};
use drover_publisher::{Publisher, Sender, Target, install};
use drover_runtime::clock::Clock;
use drover_runtime::election::Leadership;
use drover_testkit::pki::Authority;
use drover_testkit::process::free_port;
use drover_testkit::rabbitmq::{CAPTURE, POWERLESS};
use drover_testkit::{KubeApi, KubeOptions, RabbitMq};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::util::MapRequestLayer;

use crate::node::{Image, Node};
use crate::python::{looks, python};
use crate::stage::{
    Witness, create, fm, give_secret, header, id_of, message, namespace, program, reason, secret,
    take,
};
use jiff::Timestamp;

/// A client that sees one namespace where it asks for all: one API serves many publishers, each with a configuration of its own.
async fn within(kube: &KubeApi, namespace: &str) -> Client {
    let config = Kubeconfig::read_from(kube.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
        .await
        .unwrap();
    let namespace = namespace.to_owned();
    let layer = MapRequestLayer::new(move |mut request: http::Request<Body>| {
        let uri = request.uri().to_string();
        for kind in ["/apis/apps.fedoraproject.org/v1alpha1/", "/api/v1/"] {
            let Some(rest) = uri
                .strip_prefix(kind)
                .filter(|it| !it.starts_with("namespaces/"))
            else {
                continue;
            };
            let uri = format!("{kind}namespaces/{namespace}/{rest}");
            *request.uri_mut() = uri.parse().unwrap();
        }
        request
    });
    ClientBuilder::try_from(config)
        .unwrap()
        .with_layer(&layer)
        .build()
}

/// A publisher of one namespace.
async fn publisher(kube: &KubeApi, namespace: &str, target: &Target, sender: Sender) -> DropGuard {
    let publisher = Publisher {
        client: within(kube, namespace).await,
        targets: BTreeMap::from([(Environment::Stg, target.clone())]),
        sender,
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

fn pods(program: Program) -> Sender {
    Sender::Pod(PodSettings {
        image: "registry.example/sender:1".to_owned(),
        program,
        pull_secret: None,
    })
}

/// The identities of a namespace: good ones, one of a stranger, one without rights, one that trusts another authority.
async fn secrets(client: &Client, broker: &RabbitMq, namespace: &str, folder: &Path) {
    let other = Authority::new(&folder.join("other")).unwrap();
    let mut deceived = fm(broker);
    deceived.metadata.name = Some("deceived".to_owned());
    let ca = ByteString(std::fs::read(other.ca()).unwrap());
    deceived.data.as_mut().unwrap().insert("ca".to_owned(), ca);
    // An authority that is renewed has two certificates of one name for a while.
    let mut renewed = fm(broker);
    renewed.metadata.name = Some("renewed".to_owned());
    let both = [other.ca(), broker.authority().ca()].map(|path| std::fs::read(path).unwrap());
    let data = renewed.data.as_mut().unwrap();
    data.insert("ca".to_owned(), ByteString(both.concat()));
    let called = |name: &str, keys: [&str; 3]| {
        let mut secret = fm(broker);
        secret.metadata.name = Some(name.to_owned());
        let data = ["ca", "cert", "key"].iter().zip(keys);
        let known = fm(broker).data.unwrap();
        secret.data = Some(
            data.map(|(from, to)| (to.to_owned(), known[*from].clone()))
                .collect(),
        );
        secret
    };
    let all: [Secret; 7] = [
        fm(broker),
        renewed,
        called("tls", ["ca.crt", "tls.crt", "tls.key"]),
        called("files", ["cacert.pem", "cert.pem", "key.pem"]),
        secret(broker, "stranger", "nobody"),
        secret(broker, "weak", POWERLESS),
        deceived,
    ];
    for secret in &all {
        give_secret(client, namespace, secret).await;
    }
}

/// What becomes of a message.
struct Case {
    place: &'static str,
    name: &'static str,
    topic: String,
    secret: &'static str,
    reason: &'static str,
    /// Nothing helps.
    last: bool,
}

fn cases() -> Vec<Case> {
    let case = |place, name, topic: &str, secret, reason, last| Case {
        place,
        name,
        topic: topic.to_owned(),
        secret,
        reason,
        last,
    };
    vec![
        case("main", "fine", "nice.message", "fm", "Sent", true),
        case("main", "renewed", "a.b", "renewed", "Sent", true),
        case("main", "tls", "a.b", "tls", "Sent", true),
        case("main", "files", "a.b", "files", "Sent", true),
        case(
            "main",
            "deceived",
            "a.b",
            "deceived",
            "TLSVerificationFailed",
            false,
        ),
        case(
            "main",
            "stranger",
            "a.b",
            "stranger",
            "AuthenticationRefused",
            false,
        ),
        case(
            "main",
            "weak",
            "a.b",
            "weak",
            "AuthenticationRefused",
            false,
        ),
        case("main", "full", "full.x", "fm", "PublishRejected", false),
        case(
            "main",
            "long",
            &"x".repeat(240),
            "fm",
            "InvalidMessage",
            true,
        ),
        case("main", "absent", "a.b", "absent", "SecretNotFound", false),
        case(
            "elsewhere",
            "forbidden",
            "a.b",
            "fm",
            "PublishForbidden",
            true,
        ),
        case("nowhere", "lost", "a.b", "fm", "ExchangeNotFound", true),
        case("silent", "waiting", "a.b", "fm", "DeliveryUncertain", false),
        case("closed", "unheard", "a.b", "fm", "ConnectionFailed", false),
    ]
}

/// Where each place is.
fn places(main: &RabbitMq, silent: &RabbitMq) -> BTreeMap<&'static str, Target> {
    let stg = Target::of_fedora(Environment::Stg);
    let on = |broker: &RabbitMq| Target {
        url: broker.url(),
        ..stg.clone()
    };
    let closed = format!("amqps://localhost:{}/%2Fpubsub", free_port().unwrap());
    BTreeMap::from([
        ("main", on(main)),
        (
            "elsewhere",
            Target {
                topic_prefix: "org.elsewhere".to_owned(),
                ..on(main)
            },
        ),
        (
            "nowhere",
            Target {
                exchange: "nowhere".to_owned(),
                ..on(main)
            },
        ),
        ("silent", on(silent)),
        (
            "closed",
            Target {
                url: closed,
                ..stg.clone()
            },
        ),
    ])
}

async fn check(client: &Client, witness: &Witness, namespace: &str, case: &Case) {
    let more = json!({
        "authentication": {"secret_ref": {"name": case.secret}}, "max_attempts": 20,
        "message": {
            "topic": case.topic, "body": {"é": "ü", "n": [1, 2.5, null]}, "severity": "warning", "priority": 3,
            "headers": {"k": "v", "yes": true, "n": 7, "big": 5_000_000_000_i64, "fedora_messaging_user_me": true},
        },
    });
    create(client, namespace, &message(case.name, "a", &more)).await;
    let status = witness.reason(namespace, case.name, case.reason).await;
    let told = format!("{namespace}/{}: {status:?}", case.name);
    assert_eq!(status.completion_time.is_some(), case.last, "{told}");
    let tried = u32::from(!["InvalidMessage", "SecretNotFound"].contains(&case.reason));
    // On a busy machine the first attempt may be too slow to find out.
    let more = status.attempts.checked_sub(tried);
    assert!(more.is_some_and(|more| more * tried == more), "{told}");
    let doubt = ["PublishRejected", "DeliveryUncertain"].contains(&case.reason);
    let doubts = u32::from(doubt)..=u32::from(doubt) + more.unwrap();
    assert!(doubts.contains(&status.uncertain_attempts), "{told}");
    let by_pod = tried == 1 && !namespace.starts_with("inside");
    assert_eq!(status.sender_pod.is_some(), by_pod, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_ends_in_its_reason_whoever_sends() {
    let start = (RabbitMq::start(), RabbitMq::start());
    let kube = KubeApi::start(KubeOptions::default());
    let (main, silent, kube) = tokio::join!(start.0, start.1, kube);
    let (main, silent, kube) = (main.unwrap(), silent.unwrap(), kube.unwrap());
    let client = kube.client().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    install::install(&client).await.unwrap();
    let image = Image {
        entry_point: program().to_owned(),
        commands: python().parent().unwrap().to_owned(),
    };
    let _node = Node::start(client.clone(), image, "-silent");
    silent.block(true).unwrap();
    let reader = main.reader().await.unwrap();
    // The queue that holds one message holds one.
    reader.fill("org.fedoraproject.stg.full.x").await.unwrap();
    take(&reader).await;
    let places = places(&main, &silent);
    let senders = [
        ("drover", pods(Program::Drover)),
        ("python", pods(Program::Python)),
        ("inside", Sender::InProcess),
    ];
    let mut publishers = Vec::new();
    for (who, sender) in &senders {
        for (place, target) in &places {
            let name = format!("{who}-{place}");
            namespace(&client, &name).await;
            let broker = if *place == "silent" { &silent } else { &main };
            secrets(&client, broker, &name, folder.path()).await;
            publishers.push(publisher(&kube, &name, target, sender.clone()).await);
        }
    }
    let all = senders.iter().flat_map(|(who, _)| {
        let of = |case: Case| (format!("{who}-{}", case.place), case);
        cases().into_iter().map(of).collect::<Vec<_>>()
    });
    let (client, witness) = (&client, &Witness::of(&client));
    let checks = all.map(|(name, case)| async move { check(client, witness, &name, &case).await });
    futures::future::join_all(checks).await;
    same_on_the_wire(client, &main).await;
    goes_on(client, &silent).await;
}

/// What the three senders sent is the same but for id and time.
async fn same_on_the_wire(client: &Client, broker: &RabbitMq) {
    let reader = broker.reader().await.unwrap();
    let mut seen: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    // Of a message that one queue rejects the others have copies.
    while let Some(found) = reader.take(CAPTURE).await.unwrap() {
        if found.routing_key.as_str().ends_with("nice.message") {
            let mut looks = looks(&found);
            looks.insert("header sent-at".to_owned(), header(&found, "sent-at"));
            assert!(seen.insert(id_of(&found), looks).is_none(), "once");
        }
    }
    let mut same: Vec<BTreeMap<String, String>> = Vec::new();
    for who in ["drover", "python", "inside"] {
        let status = reason(client, &format!("{who}-main"), "fine", "Sent").await;
        let mut looks = seen.remove(&status.message_id.unwrap()).unwrap();
        looks.remove("id");
        let at = looks.remove("header sent-at").unwrap();
        let at: Timestamp = at.parse().unwrap();
        assert_eq!(at, status.sent_at.unwrap().0, "{who}");
        same.push(looks);
    }
    assert_eq!(same[0], same[1], "a pod with drover, and with Python");
    assert_eq!(same[0], same[2], "a pod, and the publisher itself");
    assert!(seen.is_empty(), "{seen:?}");
}

/// A broker that takes nothing takes what it got once it can; every copy is the same message.
async fn goes_on(client: &Client, broker: &RabbitMq) {
    broker.block(false).unwrap();
    let mut ids = BTreeMap::new();
    for who in ["drover", "python", "inside"] {
        let status = reason(client, &format!("{who}-silent"), "waiting", "Sent").await;
        assert!(status.uncertain_attempts > 0, "{status:?}");
        ids.insert(status.message_id.unwrap(), Value::Null);
    }
    let reader = broker.reader().await.unwrap();
    while let Some(found) = reader.take(CAPTURE).await.unwrap() {
        let first = ids.get_mut(&id_of(&found)).unwrap();
        let copy = json!(looks(&found));
        if first.is_null() {
            *first = copy.clone();
        }
        assert_eq!(*first, copy, "every copy is the same");
    }
    assert!(ids.values().all(|copy| !copy.is_null()), "{ids:?}");
}
