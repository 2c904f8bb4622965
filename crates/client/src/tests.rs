//! Clients against each other and against a broker.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use drover_protocol::bundle::Limited;
use drover_protocol::raw::Raw;
use drover_protocol::session::Cause;
use drover_protocol::work::Condition;
use drover_protocol::{
    Action, AgentBundleCodec, CloudEvent, Codec as _, ObjectCodec, SourceBundleCodec, Stamp,
    SubResource, names,
};
use drover_transport::authn::Caller;
use drover_transport::grpc::{GrpcConfig, GrpcTransport};
use drover_transport::memory::MemoryBus;
use drover_transport::{
    Broker, BrokerConfig, Link, Publisher, Service, ServiceError, Subscription, Transport,
    TransportError, async_trait,
};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    AgentClient, AgentObjects, AgentOptions, AgentWorks, Change, DataType, DriverConfig, Object,
    Patch, SourceClient, SourceObjects, SourceOptions, SourceWorks, Watch, Work, WorkSpec,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Patient in the time of the runtime, which may be paused.
fn quick() -> DriverConfig {
    let (began, start) = (Timestamp::now(), tokio::time::Instant::now());
    DriverConfig {
        min_backoff: Duration::from_millis(5),
        rate: None,
        clock: Arc::new(move || began + start.elapsed()),
        ..DriverConfig::default()
    }
}

fn work(cluster: &str, name: &str, value: u32) -> Work {
    let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm"}, "data": {"value": value.to_string()}});
    let spec = WorkSpec {
        manifests: vec![Raw::of(&manifest).unwrap()],
        ..WorkSpec::default()
    };
    let mut work = Work {
        spec: Arc::new(spec),
        ..Work::default()
    };
    (work.metadata.name, work.metadata.namespace) = (name.into(), cluster.into());
    work
}

/// The next change that fits; what comes before is skipped.
async fn wait<R: drover_protocol::Resource>(
    watch: &mut Watch<R>,
    fits: impl Fn(&Change<R>) -> bool,
) -> Arc<R> {
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

/// A broker that answers none before `Barrier` many wait for an answer.
#[derive(Clone)]
struct Together(Arc<Answering>);

struct Answering {
    barrier: tokio::sync::Barrier,
    flying: Mutex<std::collections::BTreeSet<String>>,
    taken: Mutex<Vec<CloudEvent>>,
}

impl Transport for Together {
    fn open(&self, _: Subscription) -> BoxFuture<'_, Result<Link, TransportError>> {
        let publisher = Arc::new(self.clone());
        let events = futures::stream::pending().boxed();
        Box::pin(async move { Ok(Link { publisher, events }) })
    }
}

impl Publisher for Together {
    fn publish(&self, event: CloudEvent) -> BoxFuture<'_, Result<(), TransportError>> {
        Box::pin(async move {
            let uid = event.resource_id().unwrap_or_default().to_owned();
            let alone = self.0.flying.lock().unwrap().insert(uid.clone());
            assert!(alone, "two events of {uid} at once");
            self.0.taken.lock().unwrap().push(event);
            self.0.barrier.wait().await;
            self.0.flying.lock().unwrap().remove(&uid);
            Ok(())
        })
    }
}

#[tokio::test]
async fn so_many_are_on_their_way_at_once_but_never_two_of_one_resource() {
    const WINDOW: usize = 8;
    let broker = Together(Arc::new(Answering {
        barrier: tokio::sync::Barrier::new(WINDOW),
        flying: Mutex::default(),
        taken: Mutex::default(),
    }));
    let options = SourceOptions {
        driver: DriverConfig {
            window: WINDOW,
            ..quick()
        },
        ..SourceOptions::new("hub-a")
    };
    let (source, driver) = SourceWorks::new(options, Arc::new(broker.clone()));
    // With the request of the start, two rounds; the second has a newer state of each of the first.
    let names: Vec<String> = (1..WINDOW).map(|number| format!("w{number}")).collect();
    for name in &names {
        source.create(work("c1", name, 1)).unwrap();
    }
    let stop = CancellationToken::new();
    let running = tokio::spawn(driver.run(stop.clone()));
    while broker.0.taken.lock().unwrap().len() < WINDOW {
        tokio::task::yield_now().await;
    }
    for name in &names {
        source.update(work("c1", name, 2)).unwrap();
    }
    source.resync();
    while source.stats().sent < 2 * WINDOW as u64 {
        tokio::task::yield_now().await;
    }
    assert_eq!(broker.0.taken.lock().unwrap().len(), 2 * WINDOW);
    stop.cancel();
    running.await.unwrap();
}

struct Pair {
    source: SourceWorks,
    agent: AgentWorks,
    bus: MemoryBus,
    _stop: tokio_util::sync::DropGuard,
}

async fn pair() -> Pair {
    let bus = MemoryBus::new();
    let stop = CancellationToken::new();
    let options = SourceOptions {
        driver: quick(),
        ..SourceOptions::new("hub-a")
    };
    let (source, driver) = SourceWorks::new(options, Arc::new(bus.clone()));
    tokio::spawn(driver.run(stop.clone()));
    let options = AgentOptions {
        driver: quick(),
        ..AgentOptions::new("c1-agent", "c1")
    };
    let (agent, driver) = AgentWorks::new(options, Arc::new(bus.clone()));
    tokio::spawn(driver.run(stop.clone()));
    source.connected().await;
    agent.connected().await;
    Pair {
        source,
        agent,
        bus,
        _stop: stop.drop_guard(),
    }
}

fn applied(work: &Work) -> Work {
    let mut work = work.clone();
    work.status.conditions = vec![Condition {
        condition_type: "Applied".into(),
        status: "True".into(),
        observed_generation: work.metadata.generation,
        ..Condition::default()
    }];
    work
}

#[tokio::test]
async fn a_work_lives_and_dies() {
    let Pair { source, agent, .. } = &pair().await;
    let (mut at_source, mut at_agent) = (source.watch(), agent.watch());
    source.create(work("c1", "web", 1)).unwrap();
    let copy = wait(&mut at_agent, |c| matches!(c, Change::Added(_))).await;
    agent
        .add_finalizer(&copy.metadata.uid, names::WORK_FINALIZER)
        .unwrap();
    let conflict = agent
        .update_status(&Work {
            metadata: copy.metadata.clone(),
            ..applied(&copy)
        })
        .unwrap_err();
    assert!(conflict.is_conflict(), "{conflict}");
    agent
        .update_status(&applied(&agent.get("web").unwrap()))
        .unwrap();
    let known = wait(&mut at_source, |c| c.object().status.is_true("Applied")).await;
    assert_eq!(known.metadata.finalizers, [names::WORK_FINALIZER]);
    source.update(work("c1", "web", 2)).unwrap();
    let copy = wait(&mut at_agent, |c| c.object().metadata.generation == 2).await;
    assert!(copy.status.is_true("Applied"), "the status stays");
    source.delete("c1", "web");
    let copy = wait(&mut at_agent, |c| c.object().metadata.deleting()).await;
    assert!(source.get("c1", "web").is_some());
    agent
        .remove_finalizer(&copy.metadata.uid, names::WORK_FINALIZER)
        .unwrap();
    wait(&mut at_source, |c| matches!(c, Change::Deleted(_))).await;
    wait(&mut at_agent, |c| matches!(c, Change::Deleted(_))).await;
    assert!(source.list_all().is_empty() && agent.list().is_empty());
}

#[tokio::test]
async fn a_report_is_in_the_trace_of_the_change() {
    let bus = MemoryBus::new();
    let (stop, drivers) = (CancellationToken::new(), quick());
    let given: drover_protocol::TraceContext =
        drover_protocol::TraceContext::new(7, 9, true).unwrap();
    let current = given.clone().with_state("vendor=1");
    let options = SourceOptions {
        driver: DriverConfig {
            trace: Arc::new(move || Some(current.clone())),
            ..drivers.clone()
        },
        ..SourceOptions::new("hub-a")
    };
    let (source, driver) = SourceWorks::new(options, Arc::new(bus.clone()));
    tokio::spawn(driver.run(stop.clone()));
    let options = AgentOptions {
        driver: drivers,
        ..AgentOptions::new("c1-agent", "c1")
    };
    let (agent, driver) = AgentWorks::new(options, Arc::new(bus));
    tokio::spawn(driver.run(stop.clone()));
    let (mut at_source, mut at_agent) = (source.watch(), agent.watch());
    let made = source.create(work("c1", "web", 1)).unwrap();
    let copy = wait(&mut at_agent, |c| matches!(c, Change::Added(_))).await;
    let uid = &made.metadata.uid;
    let there = agent.trace(uid).unwrap();
    assert_eq!((there.trace_id(), there.state()), (7, "vendor=1"));
    assert_ne!(there.span_id(), given.span_id(), "the sending is a step");
    assert_eq!(
        copy.metadata.annotations.len(),
        1,
        "it is no part of the copy"
    );
    agent.update_status(&applied(&copy)).unwrap();
    let known = wait(&mut at_source, |c| c.object().status.is_true("Applied")).await;
    let back = source.trace(uid).unwrap();
    assert_eq!((back.trace_id(), back.state()), (7, "vendor=1"));
    assert_ne!(back.span_id(), there.span_id(), "the report is a step");
    assert_eq!(known.status.hash(), applied(&copy).status.hash());
    stop.cancel();
}

/// Sources and agents with limits of their own for the size of works.
#[tokio::test]
async fn what_is_too_large_is_counted_and_done_with() {
    let (bus, stop) = (MemoryBus::new(), CancellationToken::new());
    let options = SourceOptions {
        driver: quick(),
        ..SourceOptions::new("hub-a")
    };
    let codec = Limited::new(SourceBundleCodec, 200);
    let (source, driver) = SourceClient::with_codec(codec, options, Arc::new(bus.clone()));
    tokio::spawn(driver.run(stop.clone()));
    let options = AgentOptions {
        driver: quick(),
        ..AgentOptions::new("c1-agent", "c1")
    };
    let codec = Limited::new(AgentBundleCodec, 150);
    let (agent, driver) = AgentClient::with_codec(codec, options, Arc::new(bus));
    tokio::spawn(driver.run(stop.clone()));
    let mut changes = agent.watch();
    let sized = |name: &str, bytes: usize| {
        let manifest =
            json!({"kind": "ConfigMap", "metadata": {"name": "cm"}, "data": "x".repeat(bytes)});
        Work::new("c1", name, [manifest]).unwrap()
    };
    let refused = source.create(sized("huge", 200)).unwrap_err();
    assert_eq!(refused.code(), 422);
    source.create(sized("large", 120)).unwrap();
    source.create(sized("small", 10)).unwrap();
    wait(&mut changes, |c| c.object().metadata.name == "small").await;
    while !agent.stats().dropped.contains_key(&Cause::TooLarge) {
        tokio::task::yield_now().await;
    }
    assert_eq!(agent.list().len(), 1);
    stop.cancel();
}

#[tokio::test]
async fn what_happened_while_the_link_was_down_arrives_later() {
    let Pair {
        source, agent, bus, ..
    } = &pair().await;
    let (mut at_source, mut at_agent) = (source.watch(), agent.watch());
    source.create(work("c1", "web", 1)).unwrap();
    let copy = wait(&mut at_agent, |c| matches!(c, Change::Added(_))).await;
    bus.set_down(true);
    agent.update_status(&applied(&copy)).unwrap();
    source.create(work("c1", "api", 1)).unwrap();
    bus.set_down(false);
    wait(&mut at_agent, |c| c.object().metadata.name == "api").await;
    wait(&mut at_source, |c| c.object().status.is_true("Applied")).await;
    let stats = agent.stats();
    assert_eq!((stats.reconnects, stats.lost_links), (1, 1), "{stats:?}");
}

/// Patches the copy of `web`, and says the version after it, or the code of the answer.
#[track_caller]
fn check_patch(
    agent: &AgentWorks,
    patch: &Patch,
    subresource: Option<&str>,
    want: Result<i64, u16>,
) {
    let got = agent.patch("web", patch, subresource);
    let version = |work: Arc<Work>| work.metadata.resource_version.parse().unwrap();
    assert_eq!(
        got.map(version).map_err(|e| e.code()),
        want,
        "{patch:?} {subresource:?}"
    );
}

#[tokio::test]
async fn agents_patch_their_copies() {
    let Pair { source, agent, .. } = &pair().await;
    let (mut at_source, mut at_agent) = (source.watch(), agent.watch());
    source.create(work("c1", "web", 1)).unwrap();
    let copy = wait(&mut at_agent, |c| matches!(c, Change::Added(_))).await;
    let label = |value: &str| Patch::Merge(json!({"metadata": {"labels": {"team": value}}}));
    let based_on = |version: &str| {
        let condition =
            json!({"type": "Applied", "status": "True", "reason": "R", "message": version});
        Patch::Merge(
            json!({"metadata": {"resourceVersion": version}, "status": {"conditions": [condition]}}),
        )
    };
    check_patch(agent, &label("blue"), None, Ok(2));
    check_patch(agent, &label("blue"), None, Ok(2));
    check_patch(agent, &label("red"), Some(""), Ok(3));
    check_patch(agent, &label("red"), Some("scale"), Err(405));
    check_patch(agent, &based_on("2"), Some("status"), Err(409));
    check_patch(agent, &based_on(""), Some("status"), Err(409));
    check_patch(agent, &based_on("x"), Some("status"), Err(422));
    check_patch(agent, &based_on("3"), Some("status"), Ok(4));
    check_patch(agent, &based_on("0"), Some("status"), Ok(5));
    let operations = json!([{"op": "add", "path": "/metadata/finalizers", "value": ["f"]}]);
    let operations = Patch::Json(serde_json::from_value(operations).unwrap());
    check_patch(agent, &operations, None, Ok(6));
    let misfit = json!([{"op": "remove", "path": "/metadata/generateName"}]);
    let misfit = Patch::Json(serde_json::from_value(misfit).unwrap());
    check_patch(agent, &misfit, None, Err(500));
    let other = Patch::Merge(json!({"metadata": {"uid": "other"}, "spec": null}));
    check_patch(agent, &other, None, Ok(6));
    let missing = agent.patch("api", &label("blue"), None).unwrap_err();
    assert_eq!((missing.code(), missing.is_not_found()), (404, true));
    let conflict = agent.patch("web", &based_on("2"), Some("status"));
    assert_eq!(
        conflict.unwrap_err().to_string(),
        "the resource version of the work is outdated, new 2, old 6"
    );
    let patched = agent.get("web").unwrap();
    assert_eq!(patched.spec, copy.spec);
    assert_eq!(agent.select(&"team=red".parse().unwrap()).len(), 1);
    let known = wait(&mut at_source, |c| c.object().status.is_true("Applied")).await;
    assert!(known.metadata.labels.is_empty(), "labels stay at the agent");
}

#[tokio::test]
async fn sources_patch_and_select_their_works() {
    let Pair { source, .. } = &pair().await;
    let made = source.create(work("c1", "web", 1)).unwrap();
    let label = json!({"metadata": {"labels": {"team": "blue"}}});
    let labelled = source.patch("c1", "web", &Patch::Merge(label)).unwrap();
    assert_eq!(labelled.metadata.generation, 2);
    assert_eq!(labelled.spec, made.spec);
    let manifest = json!({"kind": "Secret", "metadata": {"name": "s"}});
    let workload = json!({"manifests": [manifest]});
    let version = &labelled.metadata.resource_version;
    let spec = json!({"metadata": {"resourceVersion": version}, "spec": {"workload": workload}});
    let spec = Patch::Merge(spec);
    let patched = source.patch("c1", "web", &spec).unwrap();
    assert_eq!(patched.spec.manifests, [Raw::of(&manifest).unwrap()]);
    let outdated = source.patch("c1", "web", &spec).unwrap_err();
    assert!(outdated.is_conflict(), "{outdated}");
    let empty = json!({"spec": {"workload": {"manifests": []}}});
    let invalid = source.patch("c1", "web", &Patch::Merge(empty)).unwrap_err();
    assert_eq!(invalid.code(), 422);
    source.create(work("c2", "web", 1)).unwrap();
    let found = source.select(&"team in (blue)".parse().unwrap());
    assert_eq!(found, [patched]);
}

/// A source of add-ons and an agent's copies of them, on one bus.
#[tokio::test]
async fn objects_of_other_kinds_have_sources_too() {
    let (bus, stop) = (MemoryBus::new(), CancellationToken::new());
    let data_type = DataType::ADDONS_V1ALPHA1;
    let options = SourceOptions {
        driver: quick(),
        ..SourceOptions::new("hub-a")
    };
    let (source, driver) =
        SourceObjects::<Value>::new(options, &data_type, Arc::new(bus.clone())).unwrap();
    tokio::spawn(driver.run(stop.clone()));
    let options = AgentOptions {
        driver: quick(),
        ..AgentOptions::new("c1-agent", "c1")
    };
    let (agent, driver) =
        AgentObjects::<Value>::new(options, &data_type, Arc::new(bus.clone())).unwrap();
    tokio::spawn(driver.run(stop.clone()));
    let (mut at_source, mut at_agent) = (source.untyped().watch(), agent.watch());
    let place = |namespace: &str| json!({"spec": {"installNamespace": namespace}});
    let mut addon = place("a");
    addon["metadata"] = json!({"name": "proxy", "namespace": "c1"});
    let made = source.create(&addon).unwrap();
    assert_ne!(made["metadata"]["uid"], Value::Null);
    wait(&mut at_agent, |c| matches!(c, Change::Added(_))).await;
    let patch = Patch::Merge(place("b"));
    source.patch("c1", "proxy", &patch).unwrap();
    let fits = |c: &Change<Object>| c.object().field("spec") == Some(&place("b")["spec"]);
    let copy = wait(&mut at_agent, fits).await;
    let mut reported: Value = copy.to_object().unwrap();
    reported["status"] = json!({"conditions": [{"type": "Available", "status": "True"}]});
    agent.connected().await;
    agent.update_status(&reported).await.unwrap();
    wait(&mut at_source, |c| {
        c.object().field("status") == Some(&reported["status"])
    })
    .await;
    // What is created and deleted while nobody is there: the resync tells.
    bus.set_down(true);
    source.delete("c1", "proxy");
    let other = json!({"metadata": {"name": "other", "namespace": "c1"}});
    source.create(&other).unwrap();
    bus.set_down(false);
    let (mut deleted, mut added) = (false, false);
    while !(deleted && added) {
        let change = wait(&mut at_agent, |_| true).await;
        deleted |= change.metadata.name == "proxy" && agent.get("c1", "proxy").unwrap().is_none();
        added |= change.metadata.name == "other";
    }
    assert_eq!(source.list().unwrap().len(), 1);
    stop.cancel();
}

/// A hub that keeps what agents create, refuses a second time, and answers token requests.
struct Hub {
    data_type: DataType,
    broker: Broker,
    objects: Mutex<Vec<Object>>,
}

impl Hub {
    fn encode(&self, object: &Object) -> CloudEvent {
        let stamp = Stamp {
            id: object.metadata.uid.clone(),
            time: Timestamp::now(),
            source: "kube",
            sequence: None,
        };
        let event_type = self.data_type.event(SubResource::Spec, Action::Create);
        ObjectCodec::of(&self.data_type)
            .unwrap()
            .encode(stamp, &event_type, object)
            .unwrap()
    }
}

#[async_trait]
impl Service for Hub {
    async fn list(&self, _cluster: &str) -> Result<Vec<CloudEvent>, ServiceError> {
        Ok(self
            .objects
            .lock()
            .unwrap()
            .iter()
            .map(|object| self.encode(object))
            .collect())
    }

    async fn receive(&self, _caller: &Caller, event: CloudEvent) -> Result<(), ServiceError> {
        let mut object = ObjectCodec::of(&self.data_type)
            .unwrap()
            .decode(&event)
            .map_err(ServiceError::internal)?;
        let mut objects = self.objects.lock().unwrap();
        if objects
            .iter()
            .any(|other| other.metadata.name == object.metadata.name)
        {
            return Err(ServiceError::new(409, "AlreadyExists", "already exists"));
        }
        object.metadata.resource_version = "5".into();
        if object.metadata.uid.is_empty() {
            object.metadata.uid = "given-by-the-hub".into();
        }
        self.broker.publish(self.encode(&object));
        objects.push(object);
        Ok(())
    }
}

async fn objects(data_type: DataType) -> (AgentObjects<Value>, Broker, CancellationToken) {
    let broker = Broker::new(BrokerConfig::open("kube"));
    let hub = Hub {
        data_type: data_type.clone(),
        broker: broker.clone(),
        objects: Mutex::default(),
    };
    broker.register(data_type.clone(), Arc::new(hub));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stop = CancellationToken::new();
    let (serving, stopping) = (broker.clone(), stop.clone());
    tokio::spawn(async move { serving.serve(listener, None, stopping).await });
    let transport = Arc::new(GrpcTransport::new(GrpcConfig::new(address)));
    let options = AgentOptions {
        driver: quick(),
        ..AgentOptions::new("c1-agent", "c1")
    };
    let (client, driver) = AgentObjects::<Value>::new(options, &data_type, transport).unwrap();
    tokio::spawn(driver.run(stop.clone()));
    client.connected().await;
    (client, broker, stop)
}

#[tokio::test]
async fn objects_are_created_through_the_hub() {
    let (client, broker, _stop) = objects(DataType::MANAGED_CLUSTERS).await;
    let mut watch = client.watch();
    let cluster = json!({"metadata": {"name": "c1"}, "spec": {"hubAcceptsClient": false}});
    client.create(&cluster).await.unwrap();
    wait(&mut watch, |c| matches!(c, Change::Added(_))).await;
    let found = client.get("", "c1").unwrap().unwrap();
    assert_eq!(found["metadata"]["uid"], "given-by-the-hub");
    assert_eq!(found["kind"], "ManagedCluster");
    let refused = client.create(&cluster).await.unwrap_err();
    assert_eq!(refused.to_string(), "already exists");
    let foreign = client.create(&json!({"metadata": {"name": "c2"}})).await;
    assert!(
        foreign.is_ok(),
        "an open broker lets an agent speak for another cluster"
    );
    // The hub restarts and has lost everything: the resync tells the agent.
    let empty = Hub {
        data_type: DataType::MANAGED_CLUSTERS,
        broker: broker.clone(),
        objects: Mutex::default(),
    };
    broker.register(DataType::MANAGED_CLUSTERS, Arc::new(empty));
    broker.disconnect_all();
    wait(&mut watch, |c| matches!(c, Change::Deleted(_))).await;
    assert!(client.list().unwrap().is_empty());
}

#[tokio::test]
async fn a_token_is_asked_for_and_not_kept() {
    let (client, _broker, _stop) = objects(DataType::TOKEN_REQUESTS).await;
    let request = json!({"metadata": {"name": "sa", "namespace": "c1", "uid": "r1"}, "spec": {}});
    let answer = client.call(&request, PATIENCE).await.unwrap();
    assert_eq!(answer["metadata"]["uid"], "r1");
    assert!(client.list().unwrap().is_empty());
}

#[tokio::test]
async fn without_a_link_objects_say_so() {
    let transport = Arc::new(MemoryBus::new());
    let options = AgentOptions {
        driver: quick(),
        ..AgentOptions::new("c1-agent", "c1")
    };
    let (client, _driver) =
        AgentObjects::<Value>::new(options, &DataType::LEASES, transport).unwrap();
    let error = client
        .update(&json!({"metadata": {"name": "l", "namespace": "c1"}}))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "the cloudevents client is not ready");
}

#[test]
fn works_convert_to_the_types_of_the_api_and_back() {
    let event = include_bytes!("../../protocol/src/vectors/e1.json");
    let spec = CloudEvent::from_json(event).unwrap();
    let mut original = drover_protocol::AgentBundleCodec.decode(&spec).unwrap();
    original.status.conditions = vec![Condition {
        condition_type: "Applied".into(),
        status: "True".into(),
        last_transition_time: "2026-05-30T09:00:00Z".parse().ok(),
        observed_generation: 3,
        ..Condition::default()
    }];
    let typed: drover_api::work::v1::ManifestWork = original.to_object().unwrap();
    assert_eq!(typed.metadata.name.as_deref(), Some("web"));
    assert_eq!(typed.spec.workload.manifests.len(), 1);
    let back = Work::from_object(&typed).unwrap();
    assert_eq!(back.metadata, original.metadata);
    assert_eq!(back.status, original.status);
    assert_eq!(back.status.hash(), original.status.hash());
    let json = |work: &Work| work.to_object::<Value>().unwrap();
    assert_eq!(json(&back)["spec"], json(&original)["spec"]);
}

/// Every end loses its link alone, at every point of a conversation: nothing that the bus took is lost for good.
#[tokio::test(start_paused = true)]
async fn ends_that_were_away_in_turn_agree_later() {
    let source_role = drover_transport::Subscription::Source {
        source: "hub-a".into(),
        data_type: DataType::MANIFEST_BUNDLES,
    };
    let agent_role = drover_transport::Subscription::Agent {
        cluster: "c1".into(),
        data_type: DataType::MANIFEST_BUNDLES,
    };
    for turns in 0..64_u32 {
        let Pair {
            source, agent, bus, ..
        } = &pair().await;
        let (mut at_source, mut at_agent) = (source.watch(), agent.watch());
        source.create(work("c1", "web", 1)).unwrap();
        for turn in 0..turns % 8 {
            tokio::task::yield_now().await;
            if turn == turns / 8 {
                bus.cut(&source_role);
            }
        }
        bus.cut(&agent_role);
        let copy = wait(&mut at_agent, |c| matches!(c, Change::Added(_))).await;
        bus.cut(&source_role);
        agent.update_status(&applied(&copy)).unwrap();
        for _ in 0..turns / 8 {
            tokio::task::yield_now().await;
        }
        bus.cut(&agent_role);
        wait(&mut at_source, |c| c.object().status.is_true("Applied")).await;
        source.delete("c1", "web");
        bus.cut(&source_role);
        wait(&mut at_agent, |c| c.object().metadata.deleting()).await;
        let uid = copy.metadata.uid.clone();
        if agent.get("web").is_some() {
            drop(agent.remove_finalizer(&uid, names::WORK_FINALIZER));
        }
        bus.cut(&source_role);
        let ended = async {
            while source.get("c1", "web").is_some() {
                // A copy that comes back in deletion has the finalizer again.
                if agent
                    .get("web")
                    .is_some_and(|work| work.metadata.deleting())
                {
                    drop(agent.remove_finalizer(&uid, names::WORK_FINALIZER));
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ended)
            .await
            .expect("the work ends");
    }
}

/// A hub that has one work and keeps what is reported.
#[derive(Default)]
struct Statuses(Mutex<Vec<CloudEvent>>, tokio::sync::Notify);

#[async_trait]
impl Service for Statuses {
    async fn list(&self, _cluster: &str) -> Result<Vec<CloudEvent>, ServiceError> {
        let event = include_bytes!("../../protocol/src/vectors/e1.json");
        Ok(vec![CloudEvent::from_json(event).unwrap()])
    }

    async fn receive(&self, _caller: &Caller, event: CloudEvent) -> Result<(), ServiceError> {
        self.0.lock().unwrap().push(event);
        self.1.notify_one();
        // Whoever goes away now has taken the event and never says so.
        if self.0.lock().unwrap().len() == 1 {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_report_that_a_broker_did_not_answer_before_it_went_is_sent_to_the_next() {
    let hub = Arc::new(Statuses::default());
    let serve = async |address: &str, stop: &CancellationToken| {
        let broker = Broker::new(BrokerConfig::open("kube"));
        broker.register(DataType::MANIFEST_BUNDLES, hub.clone());
        // The one before may not have let go yet.
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let address = listener.local_addr().unwrap().to_string();
        let stopping = stop.clone();
        tokio::spawn(async move { broker.serve(listener, None, stopping).await });
        address
    };
    let (stop, first) = (CancellationToken::new(), CancellationToken::new());
    let address = serve("127.0.0.1:0", &first).await;
    let transport = Arc::new(GrpcTransport::new(GrpcConfig::new(&address)));
    let options = AgentOptions {
        driver: quick(),
        ..AgentOptions::new("edge-7-work-agent", "edge-7")
    };
    let (agent, driver) = AgentWorks::new(options, transport);
    tokio::spawn(driver.run(stop.child_token()));
    let mut changes = agent.watch();
    let work = wait(&mut changes, |c| matches!(c, Change::Added(_))).await;
    agent.update_status(&applied(&work)).unwrap();
    hub.1.notified().await;
    first.cancel();
    serve(&address, &stop).await;
    tokio::time::timeout(PATIENCE, hub.1.notified())
        .await
        .expect("it is sent again");
    let taken = hub.0.lock().unwrap();
    let payloads: Vec<_> = taken.iter().map(CloudEvent::payload).collect();
    assert_eq!(payloads[0], payloads[1]);
    let number = |event: &CloudEvent| event.text("sequenceid").unwrap().parse::<i64>().unwrap();
    assert!(number(&taken[1]) > number(&taken[0]));
    stop.cancel();
}
