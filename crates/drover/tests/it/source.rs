//! A hub that hands its works to agents through somebody else's broker.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use drover_apiserver::store::Database;
use drover_client::{AgentOptions, AgentWorks, DriverConfig, Work, WorkStatus};
use drover_hub::WorkSource;
use drover_protocol::names::WORK_FINALIZER;
use drover_protocol::{Action, CloudEvent, DataType, ExtensionValue, SubResource};
use drover_testkit::eventually;
use drover_transport::memory::MemoryBus;
use drover_transport::{Link, Subscription, Transport as _};
use futures::StreamExt as _;
use jiff::Timestamp;
use kube::Client;
use kube::api::DeleteParams;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::hub::{TestHub, embedded};
use crate::world::{apply, config_map, gone, work, works};

const LIMIT: Duration = Duration::from_secs(20);
const CLUSTER: &str = "c1";

/// An API in memory, a hub on it, a bus, and an agent that does nothing by itself.
struct World {
    api: Client,
    bus: MemoryBus,
    hub: TestHub,
    agent: AgentWorks,
    stop: CancellationToken,
    _database: Database,
}

impl World {
    async fn start() -> Self {
        let stop = CancellationToken::new();
        let database = Database::memory();
        let api = embedded(&database, &stop).await;
        let bus = MemoryBus::new();
        let source = WorkSource {
            id: "hub1".to_owned(),
            transport: Arc::new(bus.clone()),
        };
        let hub = TestHub::start(&api, vec![source]).await;
        let options = AgentOptions {
            driver: DriverConfig {
                min_backoff: Duration::from_millis(10),
                max_backoff: Duration::from_millis(100),
                ..DriverConfig::default()
            },
            ..AgentOptions::new("c1-work-agent", CLUSTER)
        };
        let (agent, driver) = AgentWorks::new(options, Arc::new(bus.clone()));
        tokio::spawn(driver.run(stop.clone()));
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": CLUSTER}});
        apply(&crate::world::api(&api, "v1/Namespace", None), &namespace)
            .await
            .unwrap();
        Self {
            api,
            bus,
            hub,
            agent,
            stop,
            _database: database,
        }
    }

    async fn put(&self, name: &str, value: &str) {
        let work = work(name, CLUSTER, &[config_map("a", value)]);
        apply(&works(&self.api, CLUSTER), &work).await.unwrap();
    }

    async fn delete(&self, name: &str) {
        let params = DeleteParams::default();
        works(&self.api, CLUSTER)
            .delete(name, &params)
            .await
            .unwrap();
    }

    /// Waits until the agent has a work as it shall be.
    async fn held(&self, name: &str, want: impl Fn(&Work) -> bool) -> Arc<Work> {
        let check = async || {
            let found = self.agent.get(name);
            let found = found.ok_or_else(|| anyhow::anyhow!("it is not there"))?;
            ensure!(want(&found), "it is {found:?}");
            Ok(found)
        };
        eventually(name, LIMIT, check).await.unwrap()
    }

    async fn let_go(&self, name: &str) {
        let check = async || {
            ensure!(self.agent.get(name).is_none(), "it is there");
            Ok(())
        };
        eventually(name, LIMIT, check).await.unwrap();
    }

    /// The agent says that it applied a work.
    fn report(&self, work: &Work, reason: &str) {
        let status = json!({"conditions": [{
            "type": "Applied", "status": "True", "reason": reason, "message": "",
            "lastTransitionTime": "2026-05-30T09:00:00Z", "observedGeneration": work.metadata.generation,
        }]});
        let status: WorkStatus = serde_json::from_value(status).unwrap();
        self.agent.set_status(&work.metadata.uid, status).unwrap();
    }

    /// Waits until the API has the report, and the work is claimed.
    async fn reported(&self, name: &str, reason: &str) {
        let check = async || -> Result<()> {
            let found = works(&self.api, CLUSTER).get(name).await?;
            let seen = &found.data["status"]["conditions"][0]["reason"];
            ensure!(seen == reason, "it is {seen}");
            ensure!(found.metadata.finalizers == Some(vec![WORK_FINALIZER.to_owned()]));
            Ok(())
        };
        eventually(name, LIMIT, check).await.unwrap();
    }

    /// The hub has no link for a moment; the agent has.
    fn cut(&self) {
        self.bus.cut(&Subscription::Source {
            source: "hub1".to_owned(),
            data_type: DataType::MANIFEST_BUNDLES,
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_work_goes_out_through_a_broker_and_its_report_comes_back() {
    let world = World::start().await;
    world.put("w", "1").await;
    let held = world.held("w", |_| true).await;
    let stored = works(&world.api, CLUSTER).get("w").await.unwrap();
    assert_eq!(Some(&held.metadata.uid), stored.metadata.uid.as_ref());
    let owner = "cloudevents.open-cluster-management.io/originalsource";
    assert_eq!(held.metadata.labels[owner], "hub1");
    let uid = held.metadata.uid.clone();
    world.agent.add_finalizer(&uid, WORK_FINALIZER).unwrap();
    world.report(&held, "One");
    world.reported("w", "One").await;
    world.put("w", "2").await;
    let held = world.held("w", |work| work.metadata.generation == 2).await;
    world.report(&held, "Two");
    world.reported("w", "Two").await;
    world.delete("w").await;
    world.held("w", |work| work.metadata.deleting()).await;
    world.agent.remove_finalizer(&uid, WORK_FINALIZER).unwrap();
    gone(&works(&world.api, CLUSTER), "w").await;
    world.let_go("w").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_heard_is_said_again() {
    let world = World::start().await;
    for name in ["kept", "gone"] {
        world.put(name, "1").await;
        let held = world.held(name, |_| true).await;
        world
            .agent
            .add_finalizer(&held.metadata.uid, WORK_FINALIZER)
            .unwrap();
        world.report(&held, "One");
        world.reported(name, "One").await;
    }
    let held = world.held("kept", |_| true).await;
    // Only the hub is away: what it wants and what is reported to it finds no way.
    world.cut();
    world.report(&held, "Missed");
    world.put("kept", "2").await;
    let held = world
        .held("kept", |work| work.metadata.generation == 2)
        .await;
    world.report(&held, "Two");
    world.reported("kept", "Two").await;
    world.cut();
    world.report(&held, "Late");
    world.reported("kept", "Late").await;
    // The broker itself is away.
    world.bus.set_down(true);
    world.put("new", "1").await;
    world.delete("gone").await;
    world.bus.set_down(false);
    world.held("new", |_| true).await;
    let ends = world.held("gone", |work| work.metadata.deleting()).await;
    world
        .agent
        .remove_finalizer(&ends.metadata.uid, WORK_FINALIZER)
        .unwrap();
    gone(&works(&world.api, CLUSTER), "gone").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_was_away_goes_on_where_it_was() {
    let mut world = World::start().await;
    world.put("changed", "1").await;
    world.put("silent", "1").await;
    let changed = world.held("changed", |_| true).await;
    world.held("silent", |_| true).await;
    world.report(&changed, "One");
    world.reported("changed", "One").await;
    world.hub.stop().await;
    world.put("changed", "2").await;
    world.put("new", "1").await;
    // Nobody had claimed it: it is gone, and the hub that comes back has never heard of it.
    world.delete("silent").await;
    world.hub.restart().await;
    world
        .held("changed", |work| work.metadata.generation == 2)
        .await;
    let new = world.held("new", |_| true).await;
    world.let_go("silent").await;
    // A report that came while the hub was away is asked for.
    world.hub.stop().await;
    world.report(&new, "Missed");
    world.hub.restart().await;
    world.reported("new", "Missed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_work_that_an_agent_gave_up_is_sent_again() {
    let world = World::start().await;
    world.put("w", "1").await;
    let held = world.held("w", |_| true).await;
    world.report(&held, "One");
    world.reported("w", "One").await;
    let foreign = json!({"conditions": [{
        "type": "Deleted", "status": "True", "reason": "ManifestsDeleted", "message": "",
        "lastTransitionTime": "2026-05-30T09:00:00Z",
    }]});
    let last: WorkStatus = serde_json::from_value(foreign).unwrap();
    let before = world.agent.stats().received;
    world.agent.set_status(&held.metadata.uid, last).unwrap();
    let check = async || {
        ensure!(world.agent.stats().received > before, "nothing came");
        Ok(())
    };
    eventually("the work to come again", LIMIT, check)
        .await
        .unwrap();
    world.reported("w", "One").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_speaks_of_an_unknown_work_is_told_to_let_go() {
    let world = World::start().await;
    let agent = Subscription::Agent {
        cluster: "c2".to_owned(),
        data_type: DataType::MANIFEST_BUNDLES,
    };
    let Link {
        publisher,
        mut events,
    } = world.bus.open(agent).await.unwrap();
    let kind = DataType::MANIFEST_BUNDLES.event(SubResource::Status, Action::Update);
    let report = CloudEvent::new("e", "c2-work-agent", kind, Timestamp::now())
        .with("clustername", "c2")
        .with("originalsource", "hub1")
        .with("resourceid", "u")
        .with("resourceversion", 3)
        .with("sequenceid", "4194304")
        .with("metadata", r#"{"name":"w","namespace":"c2"}"#)
        .with_json(r#"{"conditions":[]}"#);
    // The hub opens its link in its own time.
    let answered = async || {
        publisher.publish(report.clone()).await?;
        let next = tokio::time::timeout(Duration::from_millis(100), events.next()).await?;
        Ok(next.unwrap()?)
    };
    let order = eventually("an order", LIMIT, answered).await.unwrap();
    assert!(order.is_deletion());
    assert_eq!(
        (order.source.as_str(), order.resource_id()),
        ("hub1", Some("u"))
    );
    assert_eq!(
        order.extension("resourceversion"),
        Some(&ExtensionValue::Integer(3))
    );
}
