//! The MQTT transport against a real broker.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is a failed test"
)]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use drover_client::{
    AgentOptions, AgentWorks, Change, DriverConfig, SourceOptions, SourceWorks, Watch, Work,
    WorkSpec,
};
use drover_protocol::raw::Raw;
use drover_protocol::{CloudEvent, DataType, TopicNames, Topics, names};
use drover_testkit::{Mosquitto, MosquittoOptions};
use drover_transport::config::{Client, Config, Driver};
use drover_transport::identity::{ClientTls, Pem};
use drover_transport::mqtt::{MqttConfig, MqttTransport};
use drover_transport::{Link, Remedy, Subscription, Transport, TransportError};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_mins(1);
const SPEC: &str = "io.open-cluster-management.works.v1alpha1.manifestbundles.spec";
const STATUS: &str = "io.open-cluster-management.works.v1alpha1.manifestbundles.status";

fn topics(source: &str) -> Topics {
    Topics::new(&TopicNames {
        source_events: format!("sources/{source}/clusters/+/sourceevents"),
        agent_events: format!("sources/{source}/clusters/+/agentevents"),
        source_broadcast: "sources/+/sourcebroadcast".into(),
        agent_broadcast: "clusters/+/agentbroadcast".into(),
    })
    .unwrap()
}

fn config(broker: &Mosquitto, client: &str) -> MqttConfig {
    MqttConfig::new(broker.address(), client, topics("hub-a"))
}

fn transport(broker: &Mosquitto, client: &str) -> Arc<MqttTransport> {
    Arc::new(MqttTransport::new(config(broker, client)))
}

fn as_agent(cluster: &str) -> Subscription {
    Subscription::Agent {
        cluster: cluster.into(),
        data_type: DataType::MANIFEST_BUNDLES,
    }
}

fn as_source() -> Subscription {
    Subscription::Source {
        source: "hub-a".into(),
        data_type: DataType::MANIFEST_BUNDLES,
    }
}

fn event(id: impl ToString, event_type: &str, cluster: &str, source: &str) -> CloudEvent {
    let time = "2026-05-30T09:00:00.5Z".parse::<Timestamp>().unwrap();
    CloudEvent::new(id.to_string(), "sender", event_type, time)
        .with(names::EXT_CLUSTER_NAME, cluster)
        .with(names::EXT_ORIGINAL_SOURCE, source)
}

fn spec(id: impl ToString, cluster: &str) -> CloudEvent {
    event(id, &format!("{SPEC}.create_request"), cluster, "")
}

async fn next(link: &mut Link) -> Result<CloudEvent, TransportError> {
    timeout(PATIENCE, link.events.next())
        .await
        .expect("an event comes in time")
        .expect("the stream tells why it ends")
}

async fn plain() -> Mosquitto {
    Mosquitto::start(MosquittoOptions::default()).await.unwrap()
}

#[tokio::test]
async fn events_go_both_ways() {
    let broker = plain().await;
    let (hub, edge) = (transport(&broker, "hub"), transport(&broker, "edge-client"));
    let mut source = hub.open(as_source()).await.unwrap();
    let mut agent = edge.open(as_agent("edge-7")).await.unwrap();
    let mut other = edge.open(as_agent("edge-8")).await.unwrap();

    let sent = spec("e1", "edge-7")
        .with(names::EXT_RESOURCE_VERSION, 3)
        .with_json(r#"{"manifests":[]}"#);
    source.publisher.publish(sent.clone()).await.unwrap();
    let got = next(&mut agent).await.unwrap();
    // As text everything is text.
    assert_eq!(got, sent.with(names::EXT_RESOURCE_VERSION, "3"));

    let status = event("e2", &format!("{STATUS}.update_request"), "edge-7", "hub-a");
    agent.publisher.publish(status.clone()).await.unwrap();
    assert_eq!(next(&mut source).await.unwrap(), status);

    let all = event("e3", &format!("{STATUS}.resync_request"), "", "");
    source.publisher.publish(all.clone()).await.unwrap();
    assert_eq!(next(&mut agent).await.unwrap(), all);
    assert_eq!(
        next(&mut other).await.unwrap(),
        all,
        "and nothing of edge-7 before"
    );

    let resync = event("e4", &format!("{SPEC}.resync_request"), "edge-8", "");
    other.publisher.publish(resync.clone()).await.unwrap();
    assert_eq!(next(&mut source).await.unwrap(), resync);
}

#[tokio::test]
async fn a_burst_loses_nothing() {
    const EVENTS: usize = 10_000;
    let broker = plain().await;
    let source = transport(&broker, "hub").open(as_source()).await.unwrap();
    let mut agent = transport(&broker, "edge")
        .open(as_agent("c1"))
        .await
        .unwrap();
    let data = vec![b'7'; 10_000];
    let publish = async {
        let mut flying = FuturesUnordered::new();
        for number in 0..EVENTS {
            if flying.len() == 64 {
                flying.next().await.transpose().unwrap();
            }
            let event = spec(number, "c1").with_json(data.clone());
            flying.push(source.publisher.publish(event));
        }
        while flying.next().await.transpose().unwrap().is_some() {}
    };
    // Those that are published at the same time may overtake each other.
    let receive = async {
        let mut got = HashSet::new();
        while got.len() < EVENTS {
            let id = next(&mut agent).await.unwrap().id;
            assert!(got.insert(id.clone()), "{id} came twice");
        }
        got
    };
    let ((), got) = timeout(PATIENCE, async { tokio::join!(publish, receive) })
        .await
        .unwrap();
    assert_eq!(got, (0..EVENTS).map(|number| number.to_string()).collect());
}

fn quick() -> DriverConfig {
    DriverConfig {
        min_backoff: Duration::from_millis(5),
        max_backoff: Duration::from_millis(100),
        rate: None,
        ..DriverConfig::default()
    }
}

struct Pair {
    source: SourceWorks,
    agent: AgentWorks,
    _stop: tokio_util::sync::DropGuard,
}

async fn pair(hub: Arc<dyn Transport>, edge: Arc<dyn Transport>) -> Pair {
    let stop = CancellationToken::new();
    let options = SourceOptions {
        driver: quick(),
        ..SourceOptions::new("hub-a")
    };
    let (source, driver) = SourceWorks::new(options, hub);
    tokio::spawn(driver.run(stop.clone()));
    let options = AgentOptions {
        driver: quick(),
        ..AgentOptions::new("c1-agent", "c1")
    };
    let (agent, driver) = AgentWorks::new(options, edge);
    tokio::spawn(driver.run(stop.clone()));
    source.connected().await;
    agent.connected().await;
    Pair {
        source,
        agent,
        _stop: stop.drop_guard(),
    }
}

fn work(name: &str, value: u32) -> Work {
    let manifest = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm"}, "data": {"value": value.to_string()}});
    let spec = WorkSpec {
        manifests: vec![Raw::of(&manifest).unwrap()],
        ..WorkSpec::default()
    };
    let mut work = Work {
        spec: Arc::new(spec),
        ..Work::default()
    };
    (work.metadata.name, work.metadata.namespace) = (name.into(), "c1".into());
    work
}

/// The next change that fits; what comes before is skipped.
async fn wait(watch: &mut Watch<Work>, fits: impl Fn(&Change<Work>) -> bool) -> Arc<Work> {
    let found = async {
        loop {
            let change = watch.next().await.expect("the client lives");
            if fits(&change) {
                return Arc::clone(change.object());
            }
        }
    };
    timeout(PATIENCE, found)
        .await
        .expect("the change comes in time")
}

/// A work goes to the agent, its status comes back, and the deletion is finished.
async fn live_and_die(pair: &Pair, name: &str) {
    let Pair { source, agent, .. } = pair;
    let (mut at_source, mut at_agent) = (source.watch(), agent.watch());
    source.create(work(name, 1)).unwrap();
    let copy = wait(&mut at_agent, |c| c.object().metadata.name == name).await;
    agent
        .add_finalizer(&copy.metadata.uid, names::WORK_FINALIZER)
        .unwrap();
    let mut applied = Work::clone(&agent.get(name).unwrap());
    applied.status.conditions = vec![drover_protocol::work::Condition {
        condition_type: "Applied".into(),
        status: "True".into(),
        observed_generation: applied.metadata.generation,
        ..Default::default()
    }];
    agent.update_status(&applied).unwrap();
    wait(&mut at_source, |c| c.object().status.is_true("Applied")).await;
    source.delete("c1", name);
    let copy = wait(&mut at_agent, |c| c.object().metadata.deleting()).await;
    agent
        .remove_finalizer(&copy.metadata.uid, names::WORK_FINALIZER)
        .unwrap();
    wait(&mut at_source, |c| matches!(c, Change::Deleted(_))).await;
}

#[tokio::test]
async fn works_live_and_die_and_survive_the_broker() {
    let mut broker = plain().await;
    let pair = pair(transport(&broker, "hub"), transport(&broker, "edge-client")).await;
    live_and_die(&pair, "web").await;
    broker.kill();
    // What is written while the broker is away arrives after it is back.
    let mut at_agent = pair.agent.watch();
    pair.source.create(work("api", 1)).unwrap();
    broker.restart().await.unwrap();
    wait(&mut at_agent, |c| c.object().metadata.name == "api").await;
    live_and_die(&pair, "web2").await;
}

#[tokio::test]
async fn a_lost_broker_ends_the_link() {
    let mut broker = plain().await;
    let edge = transport(&broker, "edge-client");
    let mut agent = edge.open(as_agent("c1")).await.unwrap();
    broker.kill();
    let error = next(&mut agent).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::Reconnect, "{error}");
    assert!(agent.events.next().await.is_none());
    let status = event("x", &format!("{STATUS}.update_request"), "c1", "hub-a");
    let refused = agent.publisher.publish(status).await.unwrap_err();
    assert_eq!(refused.to_string(), error.to_string());
    let unreachable = edge.open(as_agent("c1")).await.err().unwrap();
    assert_eq!(unreachable.remedy(), Remedy::RetryLater, "{unreachable}");
    broker.restart().await.unwrap();
    edge.open(as_agent("c1")).await.unwrap();
}

async fn guarded(require_cert: bool) -> Mosquitto {
    let options = MosquittoOptions {
        tls: true,
        require_cert,
        user: Some(("drover".into(), "secret".into())),
        ..MosquittoOptions::default()
    };
    Mosquitto::start(options).await.unwrap()
}

fn guarded_config(broker: &Mosquitto, client: &str) -> MqttConfig {
    MqttConfig {
        username: Some("drover".into()),
        password: Some("secret".into()),
        tls: Some(ClientTls {
            ca: Some(Pem::File(broker.authority().ca())),
            refresh: Duration::from_millis(20),
            ..ClientTls::default()
        }),
        ..config(broker, client)
    }
}

fn with_cert(broker: &Mosquitto, client: &str, certificate: &str) -> MqttConfig {
    let pair = broker.authority().client(certificate, client).unwrap();
    let mut config = guarded_config(broker, client);
    if let Some(tls) = &mut config.tls {
        tls.identity = Some((Pem::File(pair.cert), Pem::File(pair.key)));
    }
    config
}

async fn refusal(config: MqttConfig) -> TransportError {
    let opened = MqttTransport::new(config).open(as_agent("c1")).await;
    opened.err().expect("the broker refuses")
}

#[tokio::test]
async fn works_go_over_mutual_tls_with_a_password() {
    let broker = guarded(true).await;
    let hub = MqttTransport::new(with_cert(&broker, "hub", "hub"));
    let edge = MqttTransport::new(with_cert(&broker, "edge", "edge"));
    let pair = pair(Arc::new(hub), Arc::new(edge)).await;
    live_and_die(&pair, "web").await;
}

#[tokio::test]
async fn a_ca_alone_authenticates_the_broker() {
    let broker = guarded(false).await;
    let transport = MqttTransport::new(guarded_config(&broker, "edge"));
    transport.open(as_agent("c1")).await.unwrap();
}

#[tokio::test]
async fn those_who_may_not_are_told_so() {
    let broker = guarded(true).await;
    let good = with_cert(&broker, "edge", "edge");

    let mut wrong = good.clone();
    wrong.password = Some("guess".into());
    let error = refusal(wrong).await;
    assert_eq!(error.remedy(), Remedy::FixConfig, "{error}");
    // mosquitto tells no more than that.
    assert!(error.to_string().contains("not authorized"), "{error}");

    let other = guarded(true).await;
    let mut wrong = good.clone();
    if let Some(tls) = &mut wrong.tls {
        tls.ca = Some(Pem::File(other.authority().ca()));
    }
    let error = refusal(wrong).await;
    assert_eq!(error.remedy(), Remedy::FixConfig, "{error}");
    let text = error.to_string();
    assert!(text.contains("invalid peer certificate"), "{error}");

    let error = refusal(guarded_config(&broker, "edge")).await;
    assert_eq!(error.remedy(), Remedy::FixConfig, "{error}");
    assert!(error.to_string().contains("CertificateRequired"), "{error}");

    MqttTransport::new(good).open(as_agent("c1")).await.unwrap();
}

#[tokio::test]
async fn a_renewed_certificate_replaces_the_link() {
    let broker = guarded(true).await;
    let transport = MqttTransport::new(with_cert(&broker, "edge", "edge"));
    let mut agent = transport.open(as_agent("c1")).await.unwrap();
    broker.authority().client("edge", "edge").unwrap();
    let error = next(&mut agent).await.unwrap_err();
    assert!(matches!(error, TransportError::Replaced), "{error}");
    // With the new one, and with the same client id.
    let mut agent = transport.open(as_agent("c1")).await.unwrap();
    let hub = MqttTransport::new(with_cert(&broker, "hub", "hub"));
    let source = hub.open(as_source()).await.unwrap();
    source.publisher.publish(spec("e", "c1")).await.unwrap();
    assert_eq!(next(&mut agent).await.unwrap().id, "e");
}

#[tokio::test]
async fn a_configuration_file_is_all_it_takes() {
    let broker = guarded(true).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    let pair = broker.authority().client("edge", "edge").unwrap();
    let text = format!(
        "brokerHost: {}\nusername: drover\npassword: secret\ncaFile: {}\nclientCertFile: {}\nclientKeyFile: {}\ntopics:\n  sourceEvents: sources/hub-a/clusters/c1/sourceevents\n  agentEvents: sources/hub-a/clusters/c1/agentevents\n",
        broker.address(),
        broker.authority().ca().display(),
        pair.cert.display(),
        pair.key.display(),
    );
    std::fs::write(&path, text).unwrap();
    let config = Config::load(Driver::Mqtt, &path).unwrap();
    let edge = config.transport(&Client::Agent("c1-work-agent".into()));
    let mut agent = edge.open(as_agent("c1")).await.unwrap();
    let hub = MqttTransport::new(with_cert(&broker, "hub", "hub"));
    let source = hub.open(as_source()).await.unwrap();
    source.publisher.publish(spec("e", "c1")).await.unwrap();
    assert_eq!(next(&mut agent).await.unwrap().id, "e");
}

#[tokio::test]
async fn an_event_that_is_too_large_is_refused_and_the_link_lives() {
    async fn check(options: MosquittoOptions) {
        let broker = Mosquitto::start(options).await.unwrap();
        let source = transport(&broker, "hub").open(as_source()).await.unwrap();
        let mut agent = transport(&broker, "edge")
            .open(as_agent("c1"))
            .await
            .unwrap();
        let large = spec("large", "c1").with_json(vec![b'1'; 20_000]);
        let error = source.publisher.publish(large).await.unwrap_err();
        assert_eq!(error.remedy(), Remedy::DropAndReport, "{error}");
        source.publisher.publish(spec("small", "c1")).await.unwrap();
        assert_eq!(next(&mut agent).await.unwrap().id, "small");
    }
    check(MosquittoOptions {
        max_packet_size: Some(10_000),
        ..MosquittoOptions::default()
    })
    .await;
    check(MosquittoOptions {
        message_size_limit: Some(10_000),
        ..MosquittoOptions::default()
    })
    .await;
}

#[tokio::test]
async fn what_is_no_event_is_passed_over() {
    let broker = plain().await;
    let edge = transport(&broker, "edge");
    let mut agent = edge.open(as_agent("c1")).await.unwrap();
    let (_, port) = broker
        .address()
        .split_once(':')
        .map(|(h, p)| (h.to_owned(), p.to_owned()))
        .unwrap();
    for properties in [
        &[][..],
        &["-D", "publish", "user-property", "ce-specversion", "1.0"],
    ] {
        let status = Command::new("mosquitto_pub")
            .args([
                "-V",
                "5",
                "-q",
                "1",
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-m",
                "hello",
            ])
            .args(["-t", "sources/hub-a/clusters/c1/sourceevents"])
            .args(properties)
            .status()
            .await
            .unwrap();
        assert!(status.success());
    }
    let source = transport(&broker, "hub").open(as_source()).await.unwrap();
    source.publisher.publish(spec("e", "c1")).await.unwrap();
    assert_eq!(next(&mut agent).await.unwrap().id, "e");
    assert_eq!(edge.skipped(), 2);
}

#[tokio::test]
async fn processes_of_one_source_share_its_statuses() {
    const EVENTS: usize = 40;
    let broker = plain().await;
    let names = TopicNames {
        source_events: "sources/hub-a/clusters/+/sourceevents".into(),
        agent_events: "$share/statussubscribers/sources/hub-a/clusters/+/agentevents".into(),
        ..TopicNames::default()
    };
    let shared = |client: &str| {
        let topics = Topics::new(&names).unwrap();
        MqttTransport::new(MqttConfig::new(broker.address(), client, topics))
    };
    let one = shared("hub-1").open(as_source()).await.unwrap();
    let two = shared("hub-2").open(as_source()).await.unwrap();
    let agent = transport(&broker, "edge")
        .open(as_agent("c1"))
        .await
        .unwrap();
    for number in 0..EVENTS {
        let event = event(number, &format!("{STATUS}.update_request"), "c1", "hub-a");
        agent.publisher.publish(event).await.unwrap();
    }
    let mut by = [0, 0];
    let mut ids = Vec::new();
    let mut events = futures::stream::select(
        one.events.map(|event| (0, event)),
        two.events.map(|event| (1, event)),
    );
    while ids.len() < EVENTS {
        let (who, event) = timeout(PATIENCE, events.next()).await.unwrap().unwrap();
        by[who] += 1;
        ids.push(event.unwrap().id.parse::<usize>().unwrap());
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..EVENTS).collect::<Vec<_>>(), "each came once");
    assert!(by[0] > 0 && by[1] > 0, "{by:?}");
}

#[tokio::test]
async fn one_agent_serves_many_sources() {
    let broker = plain().await;
    let topics = Topics::new(&TopicNames {
        source_events: "sources/+/clusters/+/sourceevents".into(),
        agent_events: "sources/+/clusters/+/agentevents".into(),
        ..TopicNames::default()
    })
    .unwrap();
    let edge = MqttTransport::new(MqttConfig::new(broker.address(), "edge", topics));
    let mut agent = edge.open(as_agent("c1")).await.unwrap();
    for source in ["hub-a", "hub-b"] {
        let config = MqttConfig {
            topics: self::topics(source),
            ..config(&broker, source)
        };
        let subscription = Subscription::Source {
            source: source.into(),
            data_type: DataType::MANIFEST_BUNDLES,
        };
        let mut link = MqttTransport::new(config).open(subscription).await.unwrap();
        link.publisher.publish(spec(source, "c1")).await.unwrap();
        assert_eq!(next(&mut agent).await.unwrap().id, source);
        let status = event("s", &format!("{STATUS}.update_request"), "c1", source);
        agent.publisher.publish(status.clone()).await.unwrap();
        assert_eq!(next(&mut link).await.unwrap(), status);
    }
}

#[tokio::test]
async fn a_slow_consumer_loses_nothing() {
    const EVENTS: usize = 3_000;
    let broker = plain().await;
    let source = transport(&broker, "hub").open(as_source()).await.unwrap();
    let mut agent = transport(&broker, "edge")
        .open(as_agent("c1"))
        .await
        .unwrap();
    // All are with the broker before the first is looked at: more than are queued here, or there for one client.
    let data = vec![b'7'; 1_000];
    let publish = |number: usize| {
        source
            .publisher
            .publish(spec(number, "c1").with_json(data.clone()))
    };
    let mut sent = futures::stream::iter(0..EVENTS).map(publish).buffered(64);
    while sent.next().await.transpose().unwrap().is_some() {}
    for number in 0..EVENTS {
        assert_eq!(next(&mut agent).await.unwrap().id, number.to_string());
    }
}

#[tokio::test]
async fn all_qualities_of_service_arrive() {
    let broker = plain().await;
    for qos in [0, 1, 2] {
        let config = |client| MqttConfig {
            publish_qos: qos,
            subscribe_qos: qos,
            ..config(&broker, client)
        };
        let hub = MqttTransport::new(config("hub"));
        let source = hub.open(as_source()).await.unwrap();
        let edge = MqttTransport::new(config("edge"));
        let mut agent = edge.open(as_agent("c1")).await.unwrap();
        for id in ["a", "b"] {
            source.publisher.publish(spec(id, "c1")).await.unwrap();
            assert_eq!(next(&mut agent).await.unwrap().id, id);
        }
    }
}

#[tokio::test]
async fn links_of_one_transport_have_ids_of_their_own() {
    let broker = plain().await;
    let edge = transport(&broker, "edge");
    let mut links = Vec::new();
    for cluster in ["c1", "c2", "c3"] {
        links.push(edge.open(as_agent(cluster)).await.unwrap());
    }
    let source = transport(&broker, "hub").open(as_source()).await.unwrap();
    for (link, cluster) in links.iter_mut().zip(["c1", "c2", "c3"]) {
        source.publisher.publish(spec("e", cluster)).await.unwrap();
        assert_eq!(next(link).await.unwrap().id, "e");
    }
    // Somebody else with the same id: the broker sends the first away.
    let _other = transport(&broker, "edge")
        .open(as_agent("c1"))
        .await
        .unwrap();
    next(&mut links[0]).await.unwrap_err();
}

#[tokio::test]
async fn who_speaks_no_mqtt_is_recognised() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            socket
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .unwrap();
        }
    });
    let error = refusal(MqttConfig::new(address, "edge", topics("hub-a"))).await;
    assert!(
        error.to_string().contains("does not speak MQTT 5"),
        "{error}"
    );
}
