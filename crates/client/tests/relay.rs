//! Sources and agents that meet at a gRPC broker, through losses of the broker and of either side.

use std::sync::Arc;
use std::time::Duration;

use drover_client::{
    AgentOptions, AgentWorks, Change, DriverConfig, SourceOptions, SourceWorks, Watch, Work,
    WorkSpec,
};
use drover_protocol::raw::Raw;
use drover_protocol::work::Condition;
use drover_protocol::{DataType, names};
use drover_transport::grpc::{GrpcConfig, GrpcTransport};
use drover_transport::{Broker, BrokerConfig};
use futures::StreamExt as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

const PATIENCE: Duration = Duration::from_secs(30);

struct Relay {
    address: String,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

impl Relay {
    async fn start(address: &str) -> Self {
        let broker = Broker::new(BrokerConfig::open("relay"));
        broker.relay(DataType::MANIFEST_BUNDLES);
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let address = listener.local_addr().expect("it is bound").to_string();
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let served = tokio::spawn(async move {
            broker
                .serve(listener, None, stopping)
                .await
                .expect("it serves until it is stopped");
        });
        Self {
            address,
            stop,
            served,
        }
    }

    async fn restart(self) -> Self {
        self.stop.cancel();
        self.served.await.expect("serving does not panic");
        Self::start(&self.address).await
    }

    fn transport(&self) -> Arc<GrpcTransport> {
        Arc::new(GrpcTransport::new(GrpcConfig::new(&self.address)))
    }

    fn source(&self, source: &str) -> (SourceWorks, DropGuard) {
        let options = SourceOptions {
            driver: quick(),
            ..SourceOptions::new(source)
        };
        let (works, driver) = SourceWorks::new(options, self.transport());
        let stop = CancellationToken::new();
        tokio::spawn(driver.run(stop.clone()));
        (works, stop.drop_guard())
    }

    fn agent(&self, cluster: &str) -> (AgentWorks, DropGuard) {
        let options = AgentOptions {
            driver: quick(),
            ..AgentOptions::new(format!("{cluster}-agent"), cluster)
        };
        let (works, driver) = AgentWorks::new(options, self.transport());
        let stop = CancellationToken::new();
        tokio::spawn(driver.run(stop.clone()));
        (works, stop.drop_guard())
    }
}

fn quick() -> DriverConfig {
    DriverConfig {
        min_backoff: Duration::from_millis(10),
        max_backoff: Duration::from_millis(100),
        rate: None,
        ..DriverConfig::default()
    }
}

fn work(cluster: &str, name: &str, value: u32) -> Work {
    let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm"}, "data": {"value": value.to_string()}});
    let spec = WorkSpec {
        manifests: vec![Raw::of(&manifest).expect("a value is JSON")],
        ..WorkSpec::default()
    };
    let mut work = Work {
        spec: Arc::new(spec),
        ..Work::default()
    };
    (work.metadata.name, work.metadata.namespace) = (name.into(), cluster.into());
    work
}

async fn wait(watch: &mut Watch<Work>, fits: impl Fn(&Change<Work>) -> bool) -> Arc<Work> {
    let found = async {
        loop {
            let change = watch.next().await.expect("the client lives");
            if fits(&change) {
                return Arc::clone(change.object());
            }
        }
    };
    tokio::time::timeout(PATIENCE, found)
        .await
        .expect("the change comes in time")
}

fn apply(agent: &AgentWorks, uid: &str) {
    agent
        .add_finalizer(uid, names::WORK_FINALIZER)
        .expect("the agent has the work");
    let mut status = agent
        .get_uid(uid)
        .expect("the agent has the work")
        .status
        .clone();
    status.conditions = vec![Condition {
        condition_type: "Applied".into(),
        status: "True".into(),
        ..Condition::default()
    }];
    agent
        .set_status(uid, status)
        .expect("the agent has the work");
}

#[tokio::test]
async fn two_sources_share_two_clusters() {
    let relay = Relay::start("127.0.0.1:0").await;
    let ((a, _a), (b, _b)) = (relay.source("a"), relay.source("b"));
    let ((one, _one), (two, _two)) = (relay.agent("c1"), relay.agent("c2"));
    let (mut at_a, mut at_b) = (a.watch(), b.watch());
    let (mut at_one, mut at_two) = (one.watch(), two.watch());
    tokio::join!(
        a.connected(),
        b.connected(),
        one.connected(),
        two.connected()
    );
    a.create(work("c1", "web", 1)).unwrap();
    a.create(work("c2", "web", 1)).unwrap();
    b.create(work("c1", "api", 1)).unwrap();
    let of_b = wait(&mut at_one, |c| c.object().metadata.name == "api").await;
    let of_a = wait(&mut at_two, |c| c.object().metadata.name == "web").await;
    apply(&one, &of_b.metadata.uid);
    apply(&two, &of_a.metadata.uid);
    let known = wait(&mut at_b, |c| c.object().status.is_true("Applied")).await;
    assert_eq!(known.metadata.namespace, "c1");
    let known = wait(&mut at_a, |c| c.object().status.is_true("Applied")).await;
    assert_eq!(known.metadata.namespace, "c2");
    assert_eq!((a.list_all().len(), b.list_all().len()), (2, 1));
    a.delete("c2", "web");
    wait(&mut at_two, |c| c.object().metadata.deleting()).await;
    two.remove_finalizer(&of_a.metadata.uid, names::WORK_FINALIZER)
        .unwrap();
    wait(&mut at_a, |c| matches!(c, Change::Deleted(_))).await;
    assert!(two.list().is_empty());
}

#[tokio::test]
async fn a_restart_of_the_broker_loses_nothing() {
    let relay = Relay::start("127.0.0.1:0").await;
    let ((source, _s), (agent, _a)) = (relay.source("a"), relay.agent("c1"));
    let (mut at_source, mut at_agent) = (source.watch(), agent.watch());
    tokio::join!(source.connected(), agent.connected());
    source.create(work("c1", "web", 1)).unwrap();
    let web = wait(&mut at_agent, |c| matches!(c, Change::Added(_))).await;
    relay.stop.cancel();
    source.update(work("c1", "web", 2)).unwrap();
    source.create(work("c1", "api", 1)).unwrap();
    apply(&agent, &web.metadata.uid);
    let _relay = relay.restart().await;
    wait(&mut at_agent, |c| c.object().metadata.name == "api").await;
    wait(&mut at_source, |c| c.object().status.is_true("Applied")).await;
    assert_eq!(agent.get("web").unwrap().metadata.generation, 2);
}

#[tokio::test]
async fn an_agent_that_comes_late_gets_all() {
    let relay = Relay::start("127.0.0.1:0").await;
    let (source, _s) = relay.source("a");
    let mut at_source = source.watch();
    source.connected().await;
    for number in 0..300 {
        source.create(work("c1", &format!("w{number}"), 1)).unwrap();
    }
    let (agent, first) = relay.agent("c1");
    let mut at_agent = agent.watch();
    let mut last = None;
    for _ in 0..300 {
        last = Some(wait(&mut at_agent, |c| matches!(c, Change::Added(_))).await);
    }
    drop(first);
    // A new agent knows nothing, the old one's status is known to the source.
    let last = last.unwrap();
    let (again, _again) = relay.agent("c1");
    let mut at_again = again.watch();
    for _ in 0..300 {
        wait(&mut at_again, |c| matches!(c, Change::Added(_))).await;
    }
    apply(&again, &last.metadata.uid);
    let known = wait(&mut at_source, |c| c.object().status.is_true("Applied")).await;
    assert_eq!(known.metadata.uid, last.metadata.uid);
}
