//! Kafka: what is sent arrives, whatever happens to the broker or to other readers.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use drover_client::{
    AgentOptions, AgentWorks, Change, SourceOptions, SourceWorks, Watch, Work, WorkSpec, WorkStatus,
};
use drover_protocol::raw::Raw;
use drover_protocol::work::Condition;
use drover_protocol::{CloudEvent, DataType, names};
use drover_testkit::{Kafka, KafkaOptions, program};
use drover_transport::kafka::{KafkaConfig, KafkaTransport};
use drover_transport::{Link, Remedy, Subscription, Transport};
use futures::StreamExt as _;
use futures::stream;
use jiff::Timestamp;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_mins(2);
const CREATE: &str =
    "io.open-cluster-management.works.v1alpha1.manifestbundles.spec.create_request";
const STATUS: &str =
    "io.open-cluster-management.works.v1alpha1.manifestbundles.status.update_request";

fn spec(number: usize, cluster: &str) -> CloudEvent {
    CloudEvent::new(number.to_string(), "hub-a", CREATE, Timestamp::now())
        .with("clustername", cluster)
        .with("originalsource", "")
        .with_json(format!("{{\"number\":{number}}}"))
}

fn status(number: usize, cluster: &str) -> CloudEvent {
    let agent = format!("{cluster}-agent");
    CloudEvent::new(number.to_string(), agent, STATUS, Timestamp::now())
        .with("clustername", cluster)
        .with("originalsource", "hub-a")
        .with_json("{}")
}

fn to_agent(cluster: &str) -> Subscription {
    Subscription::Agent {
        cluster: cluster.to_owned(),
        data_type: DataType::MANIFEST_BUNDLES,
    }
}

fn to_source() -> Subscription {
    Subscription::Source {
        source: "hub-a".to_owned(),
        data_type: DataType::MANIFEST_BUNDLES,
    }
}

async fn open(transport: &KafkaTransport, subscription: Subscription) -> Link {
    let opened = tokio::time::timeout(PATIENCE, transport.open(subscription)).await;
    opened.expect("it opens in time").expect("it opens")
}

/// The next event.
async fn next(link: &mut Link) -> CloudEvent {
    let event = tokio::time::timeout(PATIENCE, link.events.next()).await;
    event
        .expect("an event comes in time")
        .expect("the link lives")
        .expect("it is an event")
}

fn number(event: &CloudEvent) -> usize {
    event.id.parse().expect("ids are numbers here")
}

/// Publishes many, several at a time, as a pipelining driver does.
async fn publish_all(link: &Link, events: impl Iterator<Item = CloudEvent>) {
    let publisher = &link.publisher;
    let sends = stream::iter(events.map(|event| publisher.publish(event)));
    let mut sends = sends.buffered(256);
    while let Some(sent) = sends.next().await {
        sent.expect("the broker takes it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_events_each_way_with_a_broker_restart_in_the_middle() {
    const EVENTS: usize = 10_000;
    let mut kafka = Kafka::start(KafkaOptions::default()).await.unwrap();
    let config = KafkaConfig::new(kafka.plain());
    let source = KafkaTransport::for_source(config.clone(), "hub-a");
    let agent = KafkaTransport::for_agent(config, "edge-7-agent");
    let mut at_source = open(&source, to_source()).await;
    let mut at_agent = open(&agent, to_agent("edge-7")).await;

    let specs = (0..EVENTS).map(|number| spec(number, "edge-7"));
    let (half, rest): (Vec<_>, Vec<_>) = specs.partition(|event| number(event) < EVENTS / 2);
    publish_all(&at_source, half.into_iter()).await;
    for expected in 0..EVENTS / 4 {
        assert_eq!(number(&next(&mut at_agent).await), expected);
    }
    kafka.kill();
    // The publisher waits for the broker, which comes back meanwhile; what it repeats is not there twice.
    let (restarted, ()) = tokio::join!(kafka.restart(), publish_all(&at_source, rest.into_iter()));
    restarted.unwrap();
    for expected in EVENTS / 4..EVENTS {
        let event = next(&mut at_agent).await;
        assert_eq!(
            number(&event),
            expected,
            "none is lost, doubled or overtaken"
        );
        assert_eq!(
            event.payload(),
            format!("{{\"number\":{expected}}}").as_bytes()
        );
        assert_eq!(event.source, "hub-a");
    }

    publish_all(
        &at_agent,
        (0..EVENTS).map(|number| status(number, "edge-7")),
    )
    .await;
    for expected in 0..EVENTS {
        let event = next(&mut at_source).await;
        assert_eq!(number(&event), expected);
        assert_eq!(event.text("originalsource").unwrap(), "hub-a");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_of_a_group_share_the_events_and_hand_them_over() {
    const EVENTS: usize = 2_000;
    let options = KafkaOptions {
        partitions: 4,
        ..KafkaOptions::default()
    };
    let kafka = Kafka::start(options).await.unwrap();
    let config = KafkaConfig::new(kafka.plain());
    let agent = KafkaTransport::for_agent(config.clone(), "agents");
    let sender = open(&agent, Subscription::PublishOnly).await;
    // Statuses of many clusters: their keys spread over the partitions.
    let send = async |from: usize| {
        let statuses = (from..from + EVENTS).map(|n| status(n, &format!("edge-{}", n % 40)));
        publish_all(&sender, statuses).await;
    };
    let mut members = Vec::new();
    for _ in 0..2 {
        let transport = KafkaTransport::for_source(config.clone(), "hub-a");
        members.push(open(&transport, to_source()).await);
    }
    let (mut first, mut second) = (members.remove(0), members.remove(0));
    let (mut by_first, mut by_second) = (BTreeSet::new(), BTreeSet::new());
    send(0).await;
    // Both read, until each of the events was seen by one of them.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while by_first.union(&by_second).count() < EVENTS || by_first.is_empty() || by_second.is_empty()
    {
        tokio::select! {
            event = first.events.next() => by_first.insert(number(&event.unwrap().unwrap())),
            event = second.events.next() => by_second.insert(number(&event.unwrap().unwrap())),
            () = tokio::time::sleep_until(deadline) => panic!("{} and {}", by_first.len(), by_second.len()),
            // One member may have taken all before the other had joined.
            () = tokio::time::sleep(Duration::from_secs(5)) => { send(0).await; true }
        };
    }
    // One leaves: the other gets all, and what was handed on before does not come again.
    drop(first);
    send(EVENTS).await;
    let mut rest = BTreeSet::new();
    while rest.len() < EVENTS {
        let number = number(&next(&mut second).await);
        if number >= EVENTS {
            rest.insert(number);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_handed_on_comes_again() {
    let kafka = Kafka::start(KafkaOptions::default()).await.unwrap();
    let config = KafkaConfig::new(kafka.plain());
    let source = KafkaTransport::for_source(config.clone(), "hub-a");
    let at_source = open(&source, to_source()).await;
    publish_all(&at_source, (0..1000).map(|number| spec(number, "edge-7"))).await;
    let mut seen = 0;
    // Several lives of one agent, each of which takes a part of what is there.
    for life in 1..=4 {
        let agent = KafkaTransport::for_agent(config.clone(), "edge-7-agent");
        let mut link = open(&agent, to_agent("edge-7")).await;
        while seen < life * 250 {
            assert_eq!(number(&next(&mut link).await), seen);
            seen += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_take_what_is_for_them_and_pass_over_what_is_no_event() {
    let kafka = Kafka::start(KafkaOptions::default()).await.unwrap();
    let config = KafkaConfig::new(kafka.plain());
    let source = KafkaTransport::for_source(config.clone(), "hub-a");
    let at_source = open(&source, to_source()).await;
    let agent = KafkaTransport::for_agent(config, "edge-7-agent");
    let mut link = open(&agent, to_agent("edge-7")).await;
    let raw = krafka::Kafka::builder(kafka.plain())
        .connect()
        .await
        .unwrap();
    let raw = raw.producer().build().await.unwrap();
    for text in ["no event", "neither"] {
        let record = krafka::Record::new("sourceevents", text);
        drop(raw.send(record).await.unwrap());
    }
    let mut other = spec(2, "edge-7");
    other.event_type = "coordination.k8s.io.v1.leases.spec.update_request".to_owned();
    let events = [
        spec(0, "edge-8"),
        spec(1, "edge-7"),
        other,
        spec(3, ""),
        spec(4, "edge-7"),
    ];
    publish_all(&at_source, events.into_iter()).await;
    for expected in [1, 3, 4] {
        assert_eq!(number(&next(&mut link).await), expected);
    }
    assert_eq!(agent.skipped(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_for_good_and_the_link_goes_on() {
    let kafka = Kafka::start(KafkaOptions::default()).await.unwrap();
    let config = KafkaConfig::new(kafka.plain());
    let source = KafkaTransport::for_source(config.clone(), "hub-a");
    let at_source = open(&source, to_source()).await;
    let agent = KafkaTransport::for_agent(config, "edge-7-agent");
    let mut link = open(&agent, to_agent("edge-7")).await;
    let sized = |number: usize, bytes: usize| {
        spec(number, "edge-7").with_json(format!("{:?}", "x".repeat(bytes)))
    };
    for bytes in [2 * 1024 * 1024, 200 * 1024 * 1024] {
        let error = at_source.publisher.publish(sized(0, bytes)).await;
        let error = error.unwrap_err();
        assert_eq!(error.remedy(), Remedy::DropAndReport, "{error}");
    }
    let large = sized(1, 900 * 1024);
    publish_all(&at_source, [large.clone(), spec(2, "edge-7")].into_iter()).await;
    assert_eq!(next(&mut link).await.data, large.data);
    assert_eq!(number(&next(&mut link).await), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_client_certificates() {
    let kafka = Kafka::start(KafkaOptions::default()).await.unwrap();
    let file = |path: std::path::PathBuf| Some(path.display().to_string());
    let identity = kafka.authority().client("edge-7-agent", "edge-7-agent");
    let identity = identity.unwrap();
    let config = KafkaConfig {
        ca_file: file(kafka.authority().ca()),
        client_cert_file: file(identity.cert),
        client_key_file: file(identity.key),
        ..KafkaConfig::new(kafka.tls())
    };
    let agent = KafkaTransport::for_agent(config.clone(), "edge-7-agent");
    let mut link = open(&agent, to_agent("edge-7")).await;
    let source = KafkaTransport::for_source(config.clone(), "hub-a");
    let at_source = open(&source, to_source()).await;
    publish_all(&at_source, [spec(1, "edge-7")].into_iter()).await;
    assert_eq!(number(&next(&mut link).await), 1);

    let refused = async |config: KafkaConfig| {
        let transport = KafkaTransport::for_agent(config, "edge-8-agent");
        let opened = transport.open(to_agent("edge-8")).await;
        opened.err().expect("it must not open")
    };
    let anonymous = KafkaConfig {
        client_cert_file: None,
        client_key_file: None,
        ..config.clone()
    };
    let error = refused(anonymous).await;
    assert_eq!(error.remedy(), Remedy::FixConfig, "{error}");
    // An authority that did not sign the broker's certificate.
    let other = Kafka::start(KafkaOptions::default()).await.unwrap();
    let stranger = KafkaConfig {
        ca_file: file(other.authority().ca()),
        ..config.clone()
    };
    let error = refused(stranger).await;
    assert_eq!(error.remedy(), Remedy::FixConfig, "{error}");
    let missing = KafkaConfig {
        ca_file: Some("/nowhere/ca.crt".to_owned()),
        ..config
    };
    let error = refused(missing).await;
    assert_eq!(error.remedy(), Remedy::FixConfig, "{error}");
}

#[tokio::test]
async fn nobody_listens() {
    let config = KafkaConfig::new("127.0.0.1:1");
    let agent = KafkaTransport::for_agent(config, "edge-7-agent");
    let error = agent.open(to_agent("edge-7")).await.err().unwrap();
    assert_eq!(error.remedy(), Remedy::RetryLater, "{error}");
    let error = agent.open(to_source()).await.err().unwrap();
    assert_eq!(error.remedy(), Remedy::FixConfig, "{error}");
}

fn work(name: &str, value: u32) -> Work {
    let manifest = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm"}, "data": {"value": value.to_string()}
    });
    let mut work = Work::default();
    let spec = WorkSpec {
        manifests: vec![Raw::of(&manifest).expect("a value is JSON")],
        ..WorkSpec::default()
    };
    work.spec = Arc::new(spec);
    (work.metadata.name, work.metadata.namespace) = (name.into(), "edge-7".into());
    work
}

/// The next change that fits.
async fn wait(watch: &mut Watch<Work>, fits: impl Fn(&Change<Work>) -> bool) -> Arc<Work> {
    let found = async {
        loop {
            let change = watch.next().await.expect("the client lives");
            if fits(&change) {
                return Arc::clone(change.object());
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.expect("the change comes in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_work_lives_and_dies_though_the_broker_restarts() {
    let mut kafka = Kafka::start(KafkaOptions::default()).await.unwrap();
    let config = KafkaConfig::new(kafka.plain());
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let transport = KafkaTransport::for_source(config.clone(), "hub-a");
    let (source, driver) = SourceWorks::new(SourceOptions::new("hub-a"), Arc::new(transport));
    tokio::spawn(driver.run(stop.clone()));
    let transport = KafkaTransport::for_agent(config, "edge-7-agent");
    let options = AgentOptions::new("edge-7-agent", "edge-7");
    let (agent, driver) = AgentWorks::new(options, Arc::new(transport));
    tokio::spawn(driver.run(stop));
    let (mut at_source, mut at_agent) = (source.watch(), agent.watch());

    source.create(work("web", 1)).unwrap();
    let copy = wait(&mut at_agent, |change| matches!(change, Change::Added(_))).await;
    let uid = copy.metadata.uid.clone();
    agent.add_finalizer(&uid, names::WORK_FINALIZER).unwrap();
    let applied = |generation: i64| WorkStatus {
        conditions: vec![Condition {
            condition_type: "Applied".to_owned(),
            status: "True".to_owned(),
            observed_generation: generation,
            ..Condition::default()
        }],
        ..WorkStatus::default()
    };
    agent.set_status(&uid, applied(1)).unwrap();
    let known = wait(&mut at_source, |c| c.object().status.is_true("Applied")).await;
    assert_eq!(known.metadata.finalizers, [names::WORK_FINALIZER]);

    kafka.stop().unwrap();
    source.update(work("web", 2)).unwrap();
    agent.set_status(&uid, applied(7)).unwrap();
    kafka.restart().await.unwrap();
    let copy = wait(&mut at_agent, |c| c.object().metadata.generation == 2).await;
    assert_eq!(copy.spec, work("web", 2).spec);
    wait(&mut at_source, |change| {
        let conditions = &change.object().status.conditions;
        conditions.iter().any(|c| c.observed_generation == 7)
    })
    .await;

    source.delete("edge-7", "web");
    wait(&mut at_agent, |c| c.object().metadata.deleting()).await;
    agent.remove_finalizer(&uid, names::WORK_FINALIZER).unwrap();
    wait(&mut at_source, |c| matches!(c, Change::Deleted(_))).await;
    wait(&mut at_agent, |c| matches!(c, Change::Deleted(_))).await;
    assert!(source.list_all().is_empty() && agent.list().is_empty());
}

/// The Go implementation of the last release with Kafka, in one of its roles; ends when dropped.
fn go_peer(kafka: &Kafka, role: &str, folder: &std::path::Path) -> Command {
    let file = folder.join("kafka.yaml");
    let identity = kafka.authority().client("peer", "peer");
    let identity = identity.expect("there is room");
    let config = format!(
        "bootstrapServer: {}\ncaFile: {}\nclientCertFile: {}\nclientKeyFile: {}\n",
        kafka.tls(),
        kafka.authority().ca().display(),
        identity.cert.display(),
        identity.key.display()
    );
    std::fs::write(&file, config).expect("there is room");
    let mut peer = Command::new(program("sdkgo-kafka-probe").expect("the peer is built"));
    peer.args([
        "-role", role, "-cluster", "edge-7", "-source", "hub-a", "-config",
    ])
    .arg(file)
    .stdin(Stdio::null())
    .kill_on_drop(true);
    peer
}

#[tokio::test(flavor = "multi_thread")]
async fn works_to_an_agent_of_the_go_implementation() {
    let kafka = Kafka::start(KafkaOptions::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let transport = KafkaTransport::for_source(KafkaConfig::new(kafka.plain()), "hub-a");
    let (source, driver) = SourceWorks::new(SourceOptions::new("hub-a"), Arc::new(transport));
    tokio::spawn(driver.run(stop));
    source.connected().await;
    let mut watch = source.watch();
    let mut peer = go_peer(&kafka, "agent", folder.path()).spawn().unwrap();
    source.create(work("web", 1)).unwrap();
    let says = |change: &Change<Work>, message: &str| {
        let conditions = &change.object().status.conditions;
        conditions.iter().any(|c| c.message == message)
    };
    wait(&mut watch, |change| says(change, "generation 1")).await;
    source.update(work("web", 2)).unwrap();
    wait(&mut watch, |change| says(change, "generation 2")).await;
    source.delete("edge-7", "web");
    wait(&mut watch, |change| matches!(change, Change::Deleted(_))).await;
    peer.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn works_from_a_source_of_the_go_implementation() {
    let kafka = Kafka::start(KafkaOptions::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let transport = KafkaTransport::for_agent(KafkaConfig::new(kafka.plain()), "edge-7-agent");
    let options = AgentOptions::new("edge-7-agent", "edge-7");
    let (agent, driver) = AgentWorks::new(options, Arc::new(transport));
    tokio::spawn(driver.run(stop));
    let mut watch = agent.watch();
    let controller = async {
        while let Some(change) = watch.next().await {
            let (Change::Added(copy) | Change::Modified(copy)) = change else {
                continue;
            };
            let uid = &copy.metadata.uid;
            if copy.metadata.deleting() {
                agent.remove_finalizer(uid, names::WORK_FINALIZER).unwrap();
                continue;
            }
            agent.add_finalizer(uid, names::WORK_FINALIZER).unwrap();
            let manifest: serde_json::Value = copy.spec.manifests[0].parse().unwrap();
            let value = manifest["data"]["value"].as_str().unwrap();
            let status = WorkStatus {
                conditions: vec![Condition {
                    condition_type: "Applied".to_owned(),
                    status: "True".to_owned(),
                    message: format!("value {value}"),
                    ..Condition::default()
                }],
                ..WorkStatus::default()
            };
            agent.set_status(uid, status).unwrap();
        }
    };
    let mut peer = go_peer(&kafka, "source", folder.path());
    let seen = async {
        let ended = tokio::time::timeout(PATIENCE, peer.output()).await;
        ended.expect("it ends in time").unwrap()
    };
    let output = tokio::select! {
        output = seen => output,
        () = controller => panic!("the client ended"),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{wrong}");
    assert!(said.contains("seen: deleted"), "{said}");
}
