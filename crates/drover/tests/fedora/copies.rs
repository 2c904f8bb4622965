//! Several copies of a publisher on a real kube-apiserver, with what `drover manifests` prints and no other right.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use drover_api::fedora::v1alpha1::{FedoraMessage, FedoraMessageStatus};
use drover_testkit::rabbitmq::{CAPTURE, Reader};
use drover_testkit::{
    KubeApi, KubeOptions, Line, Process, Proxy, RabbitMq, eventually, process::free_port,
};
use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt};
use lapin::message::BasicGetMessage;
use serde_json::{Value, json};

use crate::real::end;
use crate::stage::{
    LONG, create, fm, give_secret, header, id_of, message, namespace, program, reason, uid,
};

const SPACE: &str = "drover-publisher";
/// client-go's times: a copy that is killed is replaced soon enough for a test.
const TIMES: [&str; 3] = [
    "--leader-election-lease-duration=15s",
    "--leader-election-renew-deadline=10s",
    "--leader-election-retry-period=2s",
];

/// What is printed for a publisher that sends to a broker.
fn manifests(more: &[String]) -> String {
    let output = Command::new(program())
        .args([
            "manifests",
            "--role=publisher",
            "--image=example.com/drover:1",
        ])
        .args(["--message-namespace=default", "--network-policy"])
        .args(more)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The arguments of the program in the Deployment that is printed.
fn arguments(printed: &str) -> Vec<String> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(printed).unwrap();
    let found = objects.iter().find(|object| object["kind"] == "Deployment");
    let container = &found.unwrap()["spec"]["template"]["spec"]["containers"][0];
    let args = container["args"].as_array().unwrap().iter();
    args.map(|arg| arg.as_str().unwrap().to_owned()).collect()
}

/// An API on which a publisher is installed, and its broker.
struct Bed {
    broker: RabbitMq,
    kube: KubeApi,
    client: Client,
    printed: String,
    folder: tempfile::TempDir,
}

impl Bed {
    async fn start(more: &[&str]) -> Self {
        let options = KubeOptions {
            audit: Some(SPACE),
            ..KubeOptions::default()
        };
        let (broker, kube) = tokio::join!(RabbitMq::start(), KubeApi::start(options));
        let (broker, kube) = (broker.unwrap(), kube.unwrap());
        let client = kube.client().await.unwrap();
        namespace(&client, "default").await;
        let url = format!("--messaging-url=stg={}", broker.url());
        let more = more.iter().map(|&flag| flag.to_owned());
        let printed = manifests(&more.chain([url]).collect::<Vec<_>>());
        let apply = ["apply", "--server-side", "--validate=strict", "-f", "-"];
        let said = kube.kubectl(&apply, &printed).unwrap();
        assert!(!said.contains("Warning"), "{said}");
        let said = kube.kubectl(&["diff", "--server-side", "-f", "-"], &printed);
        assert_eq!(said.unwrap(), "", "a second time changes nothing");
        give_secret(&client, "default", &fm(&broker)).await;
        Self {
            broker,
            kube,
            client,
            printed,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// A copy as the Deployment starts it, with other addresses.
    fn copy(&self, name: &str, kubeconfig: &Path, others: &[(&str, String)]) -> Process {
        let health = ("--health", "--health=127.0.0.1:0".to_owned());
        let metrics = ("--metrics", "--metrics=127.0.0.1:0".to_owned());
        let mut args = arguments(&self.printed);
        for (flag, other) in [health, metrics].iter().chain(others) {
            let prefix = format!("{flag}=");
            match args.iter_mut().find(|arg| arg.starts_with(&prefix)) {
                Some(arg) => arg.clone_from(other),
                None => args.push(other.clone()),
            }
        }
        args.push(format!("--kubeconfig={}", kubeconfig.display()));
        args.extend(TIMES.map(ToOwned::to_owned));
        let host = [("HOSTNAME", name.to_owned())];
        Process::start_in(name, program(), args, &host, self.folder.path()).unwrap()
    }

    async fn leader(&self, expected: &str) {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), SPACE);
        let leads = async || {
            let spec = leases.get("drover-publisher").await?.spec;
            let holder = spec.and_then(|spec| spec.holder_identity);
            let holder = holder.unwrap_or_default();
            ensure!(
                holder.starts_with(&format!("{expected}_")),
                "{holder:?} leads"
            );
            Ok(())
        };
        eventually(expected, LONG, leads).await.unwrap();
    }

    fn messages(&self) -> Api<FedoraMessage> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Makes messages with these numbers, several at once.
    async fn create(&self, numbers: std::ops::Range<u32>) {
        let made = futures::stream::iter(numbers).map(|number| {
            let (client, name) = (self.client.clone(), format!("m{number}"));
            async move { create(&client, "default", &message(&name, "a.b", &json!({}))).await }
        });
        made.buffer_unordered(16).count().await;
    }

    /// Waits until all messages are sent.
    async fn all_sent(&self, count: usize) -> BTreeMap<String, FedoraMessageStatus> {
        let check = async || {
            let all = self.messages().list(&ListParams::default()).await?;
            let status = |one: FedoraMessage| Some((one.name_any(), one.status?));
            let all: BTreeMap<_, _> = all.into_iter().filter_map(status).collect();
            let sent = all.values().filter(|one| one.status == Some(true)).count();
            ensure!(sent >= count, "{sent} of {count}");
            Ok(all)
        };
        eventually("all are sent", LONG, check).await.unwrap()
    }
}

async fn drain(reader: &Reader, got: &mut Vec<BasicGetMessage>) {
    while let Some(one) = reader.take(CAPTURE).await.unwrap() {
        got.push(one);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_killed_amid_messages_loses_none_and_repeats_only_what_was_in_flight() {
    let bed = Bed::start(&["--messaging-in-process", "--messaging-environments=stg"]).await;
    let account = bed.kube.account(SPACE, "drover-publisher").await.unwrap();
    let proxy = Proxy::start(bed.broker.port()).await.unwrap();
    let url = format!(
        "--messaging-url=stg=amqps://localhost:{}/%2Fpubsub",
        proxy.port()
    );
    let url = [("--messaging-url", url)];
    let mut first = bed.copy("first", &account, &url);
    bed.leader("first").await;
    let mut second = bed.copy("second", &account, &url);
    bed.create(0..150).await;
    bed.all_sent(150).await;
    let reader = bed.broker.reader().await.unwrap();
    let mut got = Vec::new();
    drain(&reader, &mut got).await;
    assert_eq!(got.len(), 150, "one sends, once");

    // The broker gets what is sent, and its confirms never come: so many are in flight when the leader dies.
    proxy.set(Line::Mute);
    bed.create(150..300).await;
    let some = async || {
        let mut more = Vec::new();
        drain(&reader, &mut more).await;
        ensure!(!more.is_empty(), "nothing came");
        Ok(more)
    };
    while got.len() < 200 {
        got.extend(eventually("some arrive", LONG, some).await.unwrap());
    }
    first.kill();
    proxy.set(Line::Cut);
    proxy.set(Line::Open);
    bed.leader("second").await;
    let told = bed.all_sent(300).await;
    drain(&reader, &mut got).await;

    let mut copies = BTreeMap::<String, Vec<&BasicGetMessage>>::new();
    for one in &got {
        copies.entry(id_of(one)).or_default().push(one);
    }
    let ids: BTreeSet<String> = told
        .values()
        .filter_map(|one| one.message_id.clone())
        .collect();
    assert_eq!(ids.len(), 300, "each has an id of its own");
    assert_eq!(copies.keys().cloned().collect::<BTreeSet<_>>(), ids);
    for (name, status) in &told {
        let of = &copies[status.message_id.as_ref().unwrap()];
        let early = name[1..].parse::<u32>().unwrap() < 150;
        assert!(of.len() <= if early { 1 } else { 2 }, "{name}: {status:?}");
        assert!(of.len() <= status.attempts as usize, "{name}: {status:?}");
        assert_eq!(
            status.uncertain_attempts,
            status.attempts - 1,
            "{name}: {status:?}"
        );
        for copy in of {
            assert_eq!(header(copy, "sent-at"), header(of[0], "sent-at"));
            assert_eq!(copy.data, of[0].data);
        }
    }
    assert!(
        copies.values().any(|of| of.len() == 2),
        "what was in flight came twice"
    );

    // One that ends gives the lease up at once, and nothing is lost either.
    let _third = bed.copy("third", &account, &url);
    let (ended, ()) = tokio::join!(
        async {
            bed.all_sent(320).await;
            tokio::task::block_in_place(|| second.terminate(LONG))
        },
        bed.create(300..500)
    );
    assert_eq!(ended.unwrap(), Some(0), "{}", second.tail());
    bed.leader("third").await;
    let told = bed.all_sent(500).await;
    drain(&reader, &mut got).await;
    let ids: BTreeSet<String> = got.iter().map(id_of).collect();
    let wanted = told.values().filter_map(|one| one.message_id.clone());
    assert_eq!(ids, wanted.collect());
    let attempts: u32 = told.values().map(|one| one.attempts).sum();
    assert!(got.len() <= attempts as usize, "{} {attempts}", got.len());
}

/// A kubeconfig whose API is behind a proxy.
fn behind(kubeconfig: &Path, port: u16, folder: &Path) -> std::path::PathBuf {
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["clusters"][0]["cluster"]["server"] = json!(format!("https://127.0.0.1:{port}"));
    let path = folder.join("behind.kubeconfig");
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_lost_its_lease_sends_nothing_and_spoils_nothing() {
    let bed = Bed::start(&["--messaging-in-process"]).await;
    let account = bed.kube.account(SPACE, "drover-publisher").await.unwrap();
    let port = bed.kube.url().rsplit(':').next().unwrap().parse().unwrap();
    let (api, line) = tokio::join!(Proxy::start(port), Proxy::start(bed.broker.port()));
    let (api, line) = (api.unwrap(), line.unwrap());
    let url = format!(
        "--messaging-url=stg=amqps://localhost:{}/%2Fpubsub",
        line.port()
    );
    let cut_off = behind(&account, api.port(), bed.folder.path());
    let first = bed.copy("first", &cut_off, &[("--messaging-url", url)]);
    bed.leader("first").await;
    let _second = bed.copy("second", &account, &[]);
    bed.create(0..1).await;
    bed.all_sent(1).await;
    let reader = bed.broker.reader().await.unwrap();
    let mut got = Vec::new();
    drain(&reader, &mut got).await;

    // One message is in flight when the leader loses its way to the API; others come when it does not see them.
    line.set(Line::Mute);
    bed.create(1..2).await;
    let flying = async || {
        let one = reader.take(CAPTURE).await?;
        one.ok_or_else(|| anyhow::anyhow!("it did not arrive"))
    };
    got.push(eventually("it is in flight", LONG, flying).await.unwrap());
    api.set(Line::Cut);
    bed.create(2..20).await;
    bed.leader("second").await;
    let before = bed.all_sent(20).await;
    // It comes back, to the broker too, and looks again.
    line.set(Line::Open);
    api.set(Line::Open);
    let over = async || {
        let log = first.log();
        ensure!(log.contains("does not lead any more"), "{log}");
        Ok(())
    };
    eventually("it knows", LONG, over).await.unwrap();
    bed.create(20..21).await;
    let after = bed.all_sent(21).await;
    drain(&reader, &mut got).await;
    for (name, status) in &before {
        assert_eq!(
            after.get(name),
            Some(status),
            "{name} does not change any more"
        );
    }
    let twice = &after["m1"];
    assert_eq!((twice.attempts, twice.uncertain_attempts), (2, 1));
    assert_eq!(got.len(), 22, "only the one in flight came twice");
    let ids: BTreeSet<String> = got.iter().map(id_of).collect();
    assert_eq!(ids.len(), 21);
}

/// Rights that the test does not use, and why the publisher has them.
const KEEPS: &[(&str, &str)] = &[
    (
        "get apps.fedoraproject.org/fedoramessages",
        "looks again when somebody else wrote meanwhile",
    ),
    (
        "update apps.fedoraproject.org/fedoramessages/finalizers",
        "admission asks for it; the record shows the write alone",
    ),
];

/// The rights in what is printed, as `verb group/resource`.
fn granted(printed: &str) -> BTreeSet<String> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(printed).unwrap();
    let roles = objects
        .iter()
        .filter(|one| one["kind"] == "ClusterRole" || one["kind"] == "Role");
    let list = |value: &Value| -> Vec<String> {
        let items = value.as_array().unwrap().iter();
        items
            .map(|item| item.as_str().unwrap().to_owned())
            .collect()
    };
    let mut rights = BTreeSet::new();
    for rule in roles.flat_map(|role| role["rules"].as_array().unwrap()) {
        for verb in list(&rule["verbs"]) {
            for group in list(&rule["apiGroups"]) {
                for resource in list(&rule["resources"]) {
                    rights.insert(format!("{verb} {group}/{resource}"));
                }
            }
        }
    }
    rights
}

/// Nothing was refused, and everything that is granted was asked for or is in the list.
fn compare(bed: &Bed, keeps: &[(&str, &str)]) {
    let asked = bed.kube.asked().unwrap();
    let refused: Vec<_> = asked.iter().filter(|one| one.code == 403).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let used: BTreeSet<String> = asked
        .iter()
        .map(|one| format!("{} {}/{}", one.verb, one.group, one.resource))
        .collect();
    let explained = |right: &String| keeps.iter().any(|(kept, _)| kept == right);
    let unused: Vec<_> = granted(&bed.printed)
        .into_iter()
        .filter(|right| !used.contains(right) && !explained(right))
        .collect();
    assert!(
        unused.is_empty(),
        "granted and neither used nor explained: {unused:#?}"
    );
}

/// Asks for metrics as Prometheus does: with a token, and with the authority of the certificate.
async fn scraper(ca: &Path, port: u16, token: &str) -> Client {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "x", "cluster": {
            "server": format!("https://localhost:{port}"), "certificate-authority": ca,
        }}],
        "users": [{"name": "x", "user": {"token": token}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    });
    let config: Kubeconfig = serde_json::from_value(config).unwrap();
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(config, &options).await;
    Client::try_from(config.unwrap()).unwrap()
}

async fn scrape(client: &Client) -> Result<String, u16> {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    client
        .request_text(request)
        .await
        .map_err(|error| match error {
            kube::Error::Api(status) => status.code,
            other => panic!("{other}"),
        })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_works_is_watched_and_scraped_with_exactly_the_printed_rights() {
    let bed = Bed::start(&["--messaging-in-process"]).await;
    let account = bed.kube.account(SPACE, "drover-publisher").await.unwrap();
    let (port, pair) = (
        free_port().unwrap(),
        bed.broker.authority().server("metrics").unwrap(),
    );
    let secured = [
        ("--metrics", format!("--metrics=127.0.0.1:{port}")),
        (
            "--metrics-tls-cert",
            format!("--metrics-tls-cert={}", pair.cert.display()),
        ),
        (
            "--metrics-tls-key",
            format!("--metrics-tls-key={}", pair.key.display()),
        ),
    ];
    let mut publisher = bed.copy("only", &account, &secured);
    let client = &bed.client;
    create(client, "default", &message("good", "a.b", &json!({}))).await;
    reason(client, "default", "good", "Sent").await;
    let gone = json!({"ttl_seconds_after_finished": 0});
    create(client, "default", &message("gone", "a.b", &gone)).await;
    // What is told twice is one event with a count.
    let absent = json!({"authentication": {"secret_ref": {"name": "absent"}}});
    create(client, "default", &message("bad", "a.b", &absent)).await;
    reason(client, "default", "bad", "SecretNotFound").await;
    for (suspend, expected) in [(true, "Suspended"), (false, "SecretNotFound")] {
        let patch = Patch::Merge(json!({"spec": {"suspend": suspend}}));
        let params = PatchParams::default();
        bed.messages().patch("bad", &params, &patch).await.unwrap();
        reason(client, "default", "bad", expected).await;
    }
    let events: Api<Event> = Api::namespaced(client.clone(), "default");
    let told = async || {
        let mut told = BTreeSet::new();
        for event in events.list(&ListParams::default()).await? {
            let about = event
                .regarding
                .and_then(|about| about.name)
                .unwrap_or_default();
            let count = event.series.map_or(1, |series| series.count);
            told.insert((about, event.reason.unwrap_or_default(), count));
        }
        let is = |about: &str, reason: &str, count| (about.to_owned(), reason.to_owned(), count);
        let expected = [
            is("good", "Sent", 1),
            is("bad", "SecretUnavailable", 2),
            is("bad", "Suspended", 1),
        ];
        ensure!(expected.iter().all(|one| told.contains(one)), "{told:?}");
        Ok(told)
    };
    let told = eventually("events", LONG, told).await.unwrap();
    let good = told.iter().filter(|(about, ..)| about == "good").count();
    assert_eq!(good, 1, "one event for what is sent at once: {told:?}");
    let deleted = async || {
        let found = bed.messages().get_opt("gone").await?;
        ensure!(found.is_none(), "{found:?}");
        Ok(())
    };
    eventually("it goes", LONG, deleted).await.unwrap();

    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "prometheus", "namespace": "default"}});
    bed.kube
        .kubectl(&["create", "-f", "-"], &account.to_string())
        .unwrap();
    let token = bed.kube.token("default", "prometheus").await.unwrap();
    let ca = bed.broker.authority().ca();
    assert_eq!(scrape(&scraper(&ca, port, "nobodys").await).await, Err(401));
    let prometheus = scraper(&ca, port, &token).await;
    assert_eq!(scrape(&prometheus).await, Err(403));
    bed.kube
        .kubectl(
            &[
                "create",
                "clusterrole",
                "scraper",
                "--verb=get",
                "--non-resource-url=/metrics",
            ],
            "",
        )
        .unwrap();
    let bind = [
        "create",
        "clusterrolebinding",
        "scraper",
        "--clusterrole=scraper",
        "--serviceaccount=default:prometheus",
    ];
    bed.kube.kubectl(&bind, "").unwrap();
    let served = async || {
        let text = scrape(&prometheus).await;
        text.map_err(|code| anyhow::anyhow!("{code}"))
    };
    let text = eventually("it is let in", LONG, served).await.unwrap();
    for line in [
        "fmsg_messages_total{env=\"stg\",reason=\"Sent\"} 2",
        "fmsg_attempts_total{env=\"stg\"} 2",
        "fmsg_send_seconds_count{env=\"stg\"} 2",
        "fmsg_pending{env=\"stg\"} 1",
        "leader_election_master_status{name=\"drover-publisher\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }

    assert_eq!(
        publisher.terminate(LONG).unwrap(),
        Some(0),
        "{}",
        publisher.tail()
    );
    compare(&bed, KEEPS);
}

/// Rights that a publisher whose pods send has besides, and the test does not use.
const PODS_KEEP: &[(&str, &str)] = &[
    (
        "get /pods",
        "looks for a pod that the cache does not have yet",
    ),
    (
        "get /configmaps",
        "looks at one that was there before it was made",
    ),
    (
        "delete apps.fedoraproject.org/fedoramessages",
        "those with a time to live, in the other test",
    ),
    (
        "patch events.k8s.io/events",
        "counts what is told again, in the other test",
    ),
    (
        "create authentication.k8s.io/tokenreviews",
        "metrics, in the other test",
    ),
    (
        "create authorization.k8s.io/subjectaccessreviews",
        "metrics, in the other test",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_made_and_removed_with_exactly_the_printed_rights() {
    let bed = Bed::start(&[]).await;
    let account = bed.kube.account(SPACE, "drover-publisher").await.unwrap();
    let mut publisher = bed.copy("only", &account, &[]);
    let made = create(&bed.client, "default", &message("one", "a.b", &json!({}))).await;
    let status = reason(&bed.client, "default", "one", "Pending").await;
    let pods: Api<Pod> = Api::namespaced(bed.client.clone(), "default");
    let name = status.sender_pod.unwrap();
    let there = async || Ok(pods.get(&name).await?);
    let pod = eventually("the pod", LONG, there).await.unwrap();
    assert_eq!(pod.owner_references()[0].uid, uid(&made));
    let spec = pod.spec.unwrap();
    assert_eq!(
        spec.containers[0].image.as_deref(),
        Some("example.com/drover:1")
    );
    end(&pods, &name, 0, "").await;
    reason(&bed.client, "default", "one", "Sent").await;
    // A minute later nothing of it is left.
    let maps: Api<ConfigMap> = Api::namespaced(bed.client.clone(), "default");
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=drover-publisher");
    let gone = async || {
        let left = (pods.list(&ours).await?.items, maps.list(&ours).await?.items);
        // Without a kubelet nobody says that the container ended.
        let left: Vec<String> = left
            .0
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .map(ResourceExt::name_any)
            .chain(left.1.iter().map(ResourceExt::name_any))
            .collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    };
    eventually("they go", LONG, gone).await.unwrap();
    assert_eq!(publisher.terminate(LONG).unwrap(), Some(0));
    compare(&bed, &[KEEPS, PODS_KEEP].concat());
}
