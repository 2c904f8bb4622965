//! The MQTT transport against a real broker.

use std::sync::Arc;
use std::time::Duration;

use drover_client::{
    AgentOptions, AgentWorks, Change, DriverConfig, SourceOptions, SourceWorks, Watch, Work,
    WorkSpec,
};
use drover_protocol::raw::Raw;
use drover_protocol::{CloudEvent, DataType, TopicNames, Topics, names};
use drover_testkit::{Mosquitto, MosquittoOptions};
use drover_transport::mqtt::{MqttConfig, MqttTransport};
use drover_transport::{Link, Remedy, Subscription, Transport, TransportError};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);
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
    let receive = async {
        for number in 0..EVENTS {
            assert_eq!(next(&mut agent).await.unwrap().id, number.to_string());
        }
    };
    timeout(PATIENCE, async { tokio::join!(publish, receive) })
        .await
        .unwrap();
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
