//! Works to and from peers of sdk-go v0.13, over MQTT.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use drover_client::{
    AgentClient, AgentOptions, Change, SourceClient, SourceOptions, Watch, Work, WorkSpec,
    WorkStatus,
};
use drover_protocol::compat::{AgentV013Codec, SourceV013Codec, V013};
use drover_protocol::raw::Raw;
use drover_protocol::work::Condition;
use drover_protocol::{TopicNames, Topics, names};
use drover_testkit::{Mosquitto, MosquittoOptions, eventually, program};
use drover_transport::mqtt::{MqttConfig, MqttTransport};
use futures::StreamExt as _;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_mins(2);

/// A broker and the configuration for peers on it.
struct Bed {
    broker: Mosquitto,
    folder: tempfile::TempDir,
    stop: CancellationToken,
    _stop: tokio_util::sync::DropGuard,
}

impl Bed {
    async fn make() -> Self {
        let broker = Mosquitto::start(MosquittoOptions::default()).await;
        let broker = broker.expect("mosquitto runs");
        let folder = tempfile::tempdir().expect("there is room");
        let config = format!(
            "brokerHost: {}
topics:
  sourceEvents: sources/hub-a/clusters/+/sourceevents
  agentEvents: sources/hub-a/clusters/+/agentevents
  sourceBroadcast: sources/+/sourcebroadcast
  agentBroadcast: clusters/+/agentbroadcast
",
            broker.address()
        );
        std::fs::write(folder.path().join("mqtt.yaml"), config).expect("there is room");
        let stop = CancellationToken::new();
        Self {
            broker,
            folder,
            _stop: stop.clone().drop_guard(),
            stop,
        }
    }

    /// The peer in one of its roles; ends when dropped.
    fn peer(&self, role: &str, format: V013) -> Command {
        let mut peer = Command::new(program("sdkgo013-probe").expect("the peer is built"));
        let data = match format {
            V013::Bundles => "manifestbundles",
            V013::Manifests => "manifests",
        };
        peer.args(["-role", role, "-cluster", "edge-7", "-source", "hub-a"])
            .args(["-data", data, "-config"])
            .arg(self.folder.path().join("mqtt.yaml"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        peer
    }

    /// Waits until somebody is subscribed to a topic.
    async fn subscribed(&self, topic: &str) {
        let subscribed = async || {
            anyhow::ensure!(self.broker.log().contains(topic), "{}", self.broker.log());
            Ok(())
        };
        eventually("a subscription", PATIENCE, subscribed)
            .await
            .expect("the peer subscribes");
    }

    fn transport(&self, client: &str) -> Arc<MqttTransport> {
        let topics = Topics::new(&TopicNames {
            source_events: "sources/hub-a/clusters/+/sourceevents".into(),
            agent_events: "sources/hub-a/clusters/+/agentevents".into(),
            source_broadcast: "sources/+/sourcebroadcast".into(),
            agent_broadcast: "clusters/+/agentbroadcast".into(),
        });
        let config = MqttConfig::new(
            self.broker.address(),
            client,
            topics.expect("topics as in the file"),
        );
        Arc::new(MqttTransport::new(config))
    }
}

fn work(value: &str) -> Work {
    let manifest = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "cm", "namespace": "default"}, "data": {"value": value}
    });
    let configs = serde_json::json!([{
        "resourceIdentifier": {"group": "", "resource": "configmaps", "name": "cm", "namespace": "default"},
        "feedbackRules": [{"type": "JSONPaths", "jsonPaths": [{"name": "value", "path": ".data.value"}]}]
    }]);
    let spec = WorkSpec {
        manifests: vec![Raw::of(&manifest).expect("a value is JSON")],
        manifest_configs: Some(Raw::of(&configs).expect("a value is JSON")),
        ..WorkSpec::default()
    };
    let mut work = Work {
        spec: Arc::new(spec),
        ..Work::default()
    };
    (work.metadata.name, work.metadata.namespace) = ("web".into(), "edge-7".into());
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

fn says(change: &Change<Work>, message: &str) -> bool {
    let conditions = &change.object().status.conditions;
    conditions
        .iter()
        .any(|c| c.condition_type == "Applied" && c.message == message)
}

async fn our_source_and_their_agent(format: V013) {
    let bed = Bed::make().await;
    let mut peer = bed.peer("agent", format).spawn().expect("the peer runs");
    let codec = SourceV013Codec(format);
    let options = SourceOptions::new("hub-a");
    let (source, driver) = SourceClient::with_codec(codec, options, bed.transport("hub-a"));
    let mut watch = source.watch();
    // Before there is a link. An agent of v0.13 asks only once what there is, perhaps before it would hear the answer, so it is
    // there first.
    source.create(work("1")).expect("it is valid");
    bed.subscribed("sources/hub-a/clusters/edge-7/sourceevents")
        .await;
    tokio::spawn(driver.run(bed.stop.clone()));

    let known = wait(&mut watch, |change| says(change, "version 1 <&>")).await;
    assert_eq!(
        known.status.resource_status.manifests[0].resource_meta.name,
        "cm"
    );
    source.update(work("2")).expect("it is valid");
    wait(&mut watch, |change| says(change, "version 2 <&>")).await;
    source.delete("edge-7", "web");
    let last = wait(&mut watch, |change| matches!(change, Change::Deleted(_))).await;
    assert_eq!(last.metadata.name, "web");
    assert!(source.list_all().is_empty());
    peer.kill().await.expect("the peer still ran");
}

/// Plays the controller of an agent until the peer has seen all it wants.
async fn our_agent_and_their_source(format: V013) {
    let bed = Bed::make().await;
    let codec = AgentV013Codec(format);
    let options = AgentOptions::new("edge-7-agent", "edge-7");
    let (agent, driver) = AgentClient::with_codec(codec, options, bed.transport("edge-7-agent"));
    tokio::spawn(driver.run(bed.stop.clone()));
    agent.connected().await;
    let mut watch = agent.watch();
    let controller = async {
        while let Some(change) = watch.next().await {
            let (Change::Added(copy) | Change::Modified(copy)) = change else {
                continue;
            };
            let uid = &copy.metadata.uid;
            assert_eq!(&copy.metadata.name, uid, "names do not travel");
            if copy.metadata.deleting() {
                agent.remove_finalizer(uid, names::WORK_FINALIZER)
            } else {
                assert!(copy.spec.manifest_configs.is_some());
                agent
                    .add_finalizer(uid, names::WORK_FINALIZER)
                    .and_then(|_| agent.set_status(uid, applied(&copy)))
            }
            .expect("the copy is there");
        }
    };
    let mut peer = bed.peer("source", format);
    let seen = async {
        let ended = tokio::time::timeout(PATIENCE, peer.output()).await;
        ended.expect("it ends in time").expect("it runs")
    };
    let output = tokio::select! {
        output = seen => output,
        () = controller => panic!("the client ended"),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("seen: deleted"), "{said}");
    // The source may have the last word before the agent knows that it left.
    let gone = async || {
        anyhow::ensure!(agent.list().is_empty(), "{:?}", agent.list());
        Ok(())
    };
    eventually("no works", PATIENCE, gone)
        .await
        .expect("the copy goes");
}

fn applied(copy: &Work) -> WorkStatus {
    let manifest: serde_json::Value = copy.spec.manifests[0].parse().expect("it is JSON");
    let value = manifest["data"]["value"].as_str().unwrap_or_default();
    WorkStatus {
        conditions: vec![Condition {
            condition_type: "Applied".into(),
            status: "True".into(),
            reason: "Done".into(),
            message: format!("value {value}"),
            ..Condition::default()
        }],
        ..WorkStatus::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bundles_to_an_agent_of_v013() {
    our_source_and_their_agent(V013::Bundles).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn single_manifests_to_an_agent_of_v013() {
    our_source_and_their_agent(V013::Manifests).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bundles_from_a_source_of_v013() {
    our_agent_and_their_source(V013::Bundles).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn single_manifests_from_a_source_of_v013() {
    our_agent_and_their_source(V013::Manifests).await;
}
