//! The services of a hub against an API in memory.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use drover_api::cluster::v1::ManagedCluster;
use drover_api::names;
use drover_api::work::v1::ManifestWork;
use drover_protocol::resync::Versions;
use drover_protocol::{Action, CloudEvent, DataType, SubResource};
use drover_runtime::clock::Clock;
use drover_transport::authn::Caller;
use drover_transport::{Broker, BrokerConfig, Service, ServiceError, TransportError};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use kube::runtime::reflector::{self, store::Writer};
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use crate::cache::{Names, WorkCache};
use crate::objects::{Objects, Served};
use crate::outlet::Outlet;
use crate::works::{Memory, Works};

const WORKS: &str = "/apis/work.open-cluster-management.io/v1/namespaces/c1/manifestworks";

/// An API in memory: objects by path, and what was written.
#[derive(Clone, Default)]
struct Api(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    writes: Vec<(String, Value)>,
    conflicts: usize,
}

impl Api {
    fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let (code, answer) = api.answer(&parts.method, parts.uri.path(), body);
                let response = Response::builder().status(code);
                let bytes = answer.to_string().into_bytes();
                Ok::<_, Infallible>(response.body(Full::new(bytes.into())).unwrap())
            }
        });
        Client::new(service, "default")
    }

    fn answer(&self, method: &Method, path: &str, body: Value) -> (u16, Value) {
        let failure = |code: u16, reason: &str| {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": reason});
            (code, status)
        };
        let mut state = self.0.lock().unwrap();
        if *method == Method::GET {
            if let Some(found) = state.objects.get(path) {
                return (200, found.clone());
            }
            let inside = format!("{path}/");
            let all: Vec<_> = state
                .objects
                .iter()
                .filter(|(key, _)| key.starts_with(&inside))
                .map(|(_, value)| value.clone())
                .collect();
            if all.is_empty() && !path.ends_with('s') {
                return failure(404, "NotFound");
            }
            let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": all});
            return (200, list);
        }
        if state.conflicts > 0 {
            state.conflicts -= 1;
            return failure(409, "Conflict");
        }
        state
            .writes
            .push((format!("{method} {path}"), body.clone()));
        let target = path.strip_suffix("/status").unwrap_or(path).to_owned();
        match state.objects.get_mut(&target) {
            Some(found) => {
                merge(found, &body);
                (200, found.clone())
            }
            None if *method == Method::POST => (201, body),
            None => failure(404, "NotFound"),
        }
    }

    fn put(&self, path: &str, object: &Value) {
        let mut state = self.0.lock().unwrap();
        state.objects.insert(path.to_owned(), object.clone());
    }

    fn writes(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.0.lock().unwrap().writes)
    }
}

fn merge(into: &mut Value, patch: &Value) {
    let (Value::Object(into), Value::Object(patch)) = (into, patch) else {
        return;
    };
    for (key, value) in patch {
        match into.get_mut(key) {
            Some(inner @ Value::Object(_)) if value.is_object() => merge(inner, value),
            _ if value.is_null() => drop(into.remove(key)),
            _ => drop(into.insert(key.clone(), value.clone())),
        }
    }
}

fn clock() -> Clock {
    Clock::new(|| Timestamp::UNIX_EPOCH)
}

fn work(name: &str, uid: &str, generation: i64, more: Value) -> Value {
    let mut work = json!({
        "apiVersion": "work.open-cluster-management.io/v1", "kind": "ManifestWork",
        "metadata": {"name": name, "namespace": "c1", "uid": uid, "generation": generation, "resourceVersion": "7"},
        "spec": {"workload": {"manifests": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}]}},
    });
    merge(&mut work, &json!({"metadata": more}));
    work
}

struct Bundles {
    api: Api,
    works: Works<Broker>,
    writer: Writer<ManifestWork>,
    names: Arc<Names>,
}

fn bundles() -> Bundles {
    let (api, names) = (Api::default(), Arc::new(Names::default()));
    let (store, writer) = reflector::store();
    let works = Works {
        client: api.client(),
        clock: clock(),
        outlet: Broker::new(BrokerConfig::open("kube")),
        works: WorkCache::new(store, names.clone()),
        queue: Arc::default(),
        memory: Memory::default(),
    };
    Bundles {
        api,
        works,
        writer,
        names,
    }
}

impl Bundles {
    /// The API has a work.
    fn put(&self, work: &Value) {
        let name = work["metadata"]["name"].as_str().unwrap();
        self.api.put(&format!("{WORKS}/{name}"), work);
    }

    /// The API has a work, and the cache heard of it.
    fn know(&mut self, work: &Value) {
        self.put(work);
        let work: ManifestWork = serde_json::from_value(work.clone()).unwrap();
        self.writer.apply_watcher_event(&Event::Apply(work.clone()));
        self.names.note(&work);
    }

    async fn report(&self, uid: &str, generation: i32, sequence: &str, condition: &str) {
        let name = format!("w-{uid}");
        let status = json!({"conditions": [{
            "type": condition, "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-05-30T09:00:00Z",
        }]});
        let kind = DataType::MANIFEST_BUNDLES.event(SubResource::Status, Action::Update);
        let metadata = json!({"name": name, "namespace": "c1", "uid": uid}).to_string();
        let event = CloudEvent::new("e", "c1-work-agent", kind, Timestamp::UNIX_EPOCH)
            .with("clustername", "c1")
            .with("originalsource", "kube")
            .with("resourceid", uid)
            .with("resourceversion", generation)
            .with("sequenceid", sequence)
            .with("metadata", metadata.as_str())
            .with_json(status.to_string());
        let taken = self.works.receive(&Caller::default(), event).await;
        taken.expect("it is taken");
    }

    /// The paths that were written, shortened, with the status condition in it if there is one.
    fn written(&self) -> Vec<String> {
        let words = |(path, body): (String, Value)| {
            let condition = body.pointer("/status/conditions/0/type");
            let finalizers = body.pointer("/metadata/finalizers");
            let said = condition.or(finalizers).unwrap_or(&Value::Null);
            format!("{} {said}", path.replace(WORKS, ""))
        };
        self.api.writes().into_iter().map(words).collect()
    }
}

const CLEANUP: &str = "cluster.open-cluster-management.io/manifest-work-cleanup";

#[tokio::test]
async fn a_report_claims_the_work_and_is_written_once() {
    let mut hub = bundles();
    hub.know(&work("w-u", "u", 2, json!({})));
    hub.report("u", 1, "4194304", "Old").await;
    assert!(hub.written().is_empty(), "of an older spec");
    hub.report("u", 2, "8388608", "Applied").await;
    assert_eq!(
        hub.written(),
        [
            format!("PATCH /w-u [\"{CLEANUP}\"]"),
            "PATCH /w-u/status \"Applied\"".to_owned()
        ]
    );
    for stale in ["8388608", "4194304"] {
        hub.report("u", 2, stale, "Late").await;
        assert!(hub.written().is_empty(), "{stale} is not newer");
    }
}

#[tokio::test]
async fn a_hub_that_starts_anew_knows_which_report_was_the_newest() {
    let mut hub = bundles();
    hub.know(&work("w-u", "u", 2, json!({"finalizers": [CLEANUP]})));
    hub.report("u", 2, "8388608", "Applied").await;
    assert_eq!(hub.written(), ["PATCH /w-u/status \"Applied\""]);
    // Another copy of the hub, or this one later: it knows the API alone.
    hub.works.memory = Memory::default();
    let found = hub.api.0.lock().unwrap().objects[&format!("{WORKS}/w-u")].clone();
    hub.know(&found);
    for stale in ["8388608", "4194304"] {
        hub.report("u", 2, stale, "Late").await;
        assert!(hub.written().is_empty(), "{stale} is not newer");
    }
    hub.report("u", 2, "12582912", "Newer").await;
    assert_eq!(hub.written(), ["PATCH /w-u/status \"Newer\""]);
}

#[tokio::test]
async fn a_conflict_is_solved_by_the_hub_itself() {
    let mut hub = bundles();
    hub.know(&work("w-u", "u", 1, json!({})));
    hub.api.0.lock().unwrap().conflicts = 2;
    hub.report("u", 1, "4194304", "Applied").await;
    assert_eq!(hub.written().len(), 2);
}

#[tokio::test]
async fn a_report_of_a_work_that_the_cache_does_not_show_yet_is_kept() {
    let hub = bundles();
    hub.put(&work("w-u", "u", 1, json!({"finalizers": [CLEANUP]})));
    hub.report("u", 1, "4194304", "Applied").await;
    assert_eq!(hub.written(), ["PATCH /w-u/status \"Applied\""]);
    hub.report("gone", 1, "4194304", "Applied").await;
    assert!(hub.written().is_empty());
}

#[tokio::test]
async fn a_work_is_released_only_when_it_shall_go() {
    let mut hub = bundles();
    let stays = work("w-u", "u", 1, json!({"finalizers": ["other", CLEANUP]}));
    hub.know(&stays);
    hub.report("u", 1, "4194304", "Deleted").await;
    assert!(hub.written().is_empty(), "the agent gets it again");
    // The cache has not heard of the deletion yet.
    let mut goes = stays;
    merge(
        &mut goes,
        &json!({"metadata": {"deletionTimestamp": "2026-05-30T09:00:00Z"}}),
    );
    hub.put(&goes);
    hub.report("u", 1, "8388608", "Deleted").await;
    assert_eq!(hub.written(), ["PATCH /w-u [\"other\"]"]);
}

#[tokio::test]
async fn only_the_api_itself_gives_a_work_up() {
    let mut hub = bundles();
    hub.know(&work("w-a", "a", 3, json!({})));
    hub.put(&work("w-b", "b", 1, json!({})));
    let known = |uids: &[&str]| Versions(uids.iter().map(|uid| ((*uid).to_owned(), 3)).collect());
    let ids = |events: &[CloudEvent]| -> Vec<String> {
        let ids = events.iter().filter_map(CloudEvent::resource_id);
        ids.map(str::to_owned).collect()
    };
    let listing = hub.works.resync("c1", &known(&["a"])).await.unwrap();
    assert_eq!(
        (listing.unchanged, ids(&listing.events)),
        (vec!["a".to_owned()], vec![])
    );
    // The agent holds what only another copy of the hub has heard of.
    let listing = hub
        .works
        .resync("c1", &known(&["a", "b", "c"]))
        .await
        .unwrap();
    assert_eq!(listing.unchanged, ["a", "b"]);
    let listing = hub.works.resync("c1", &known(&["b", "c"])).await.unwrap();
    assert_eq!(ids(&listing.events), ["a"]);
    assert!(
        hub.works
            .resync("c2", &known(&[]))
            .await
            .unwrap()
            .events
            .is_empty()
    );
}

/// Remembers what was told: type of action, and uid.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

#[drover_transport::async_trait]
impl Outlet for Heard {
    fn source(&self) -> &'static str {
        "hub1"
    }

    async fn ready(&self) {}

    async fn tell(&self, event: CloudEvent) -> Result<(), TransportError> {
        let action = event.event_type.rsplit('.').next().unwrap_or_default();
        let uid = event.resource_id().unwrap_or_default();
        self.0.lock().unwrap().push(format!("{action} {uid}"));
        Ok(())
    }
}

#[tokio::test]
async fn a_hub_that_was_away_tells_only_what_changed() {
    let mut hub = bundles();
    let seen = |generation: i64| {
        json!({"status": {"conditions": [{
            "type": "Applied", "status": "True", "reason": "R", "message": "",
            "lastTransitionTime": "2026-05-30T09:00:00Z", "observedGeneration": generation,
        }]}})
    };
    let deleting = json!({"deletionTimestamp": "2026-05-30T09:00:00Z", "finalizers": [CLEANUP]});
    for (name, more, generation) in [
        ("same", json!({}), 2),
        ("new", json!({}), 0),
        ("changed", json!({}), 1),
        ("goes", deleting, 2),
    ] {
        let mut work = work(name, name, 2, more);
        merge(&mut work, &seen(generation));
        hub.know(&work);
    }
    let works = Works {
        client: hub.api.client(),
        clock: clock(),
        outlet: Heard::default(),
        works: hub.works.works.clone(),
        queue: Arc::default(),
        memory: Memory::default(),
    };
    for _ in 0..2 {
        for name in ["same", "new", "changed", "goes"] {
            works.reconcile(&format!("c1/{name}")).await.unwrap();
        }
    }
    let heard = works.outlet.0.lock().unwrap().clone();
    let told = [
        "create_request new",
        "create_request changed",
        "delete_request goes",
    ];
    assert_eq!(heard, told);
    for name in ["same", "goes"] {
        let gone = hub.works.works.get("c1", name).unwrap();
        hub.writer
            .apply_watcher_event(&Event::Delete(ManifestWork::clone(&gone)));
        works.reconcile(&format!("c1/{name}")).await.unwrap();
    }
    let heard = works.outlet.0.lock().unwrap().clone();
    assert_eq!(heard[told.len()..], ["delete_request same"]);
}

#[tokio::test]
async fn names_follow_the_works() {
    let mut hub = bundles();
    hub.know(&work("w", "a", 1, json!({})));
    assert!(hub.works.works.find("c1", "a").is_some());
    assert!(hub.works.works.find("c2", "a").is_none());
    hub.know(&work("w", "b", 1, json!({})));
    assert!(hub.works.works.find("c1", "a").is_none());
    assert_eq!(hub.works.works.of_cluster("c1").len(), 1);
    hub.works.works.prune("c1", "w");
    assert!(hub.works.works.find("c1", "b").is_some(), "it is there");
    let gone = hub.works.works.get("c1", "w").unwrap();
    hub.writer
        .apply_watcher_event(&Event::Delete(ManifestWork::clone(&gone)));
    hub.names.note(&gone);
    hub.works.reconcile("c1/w").await.unwrap();
    assert!(hub.works.works.of_cluster("c1").is_empty());
}

fn objects(api: &Api) -> (Objects, Writer<ManagedCluster>) {
    let (clusters, writer) = reflector::store();
    let objects = Objects {
        client: api.client(),
        clock: clock(),
        broker: Broker::new(BrokerConfig::open("kube")),
        clusters,
        requests: reflector::store().0,
        leases: reflector::store().0,
        addons: reflector::store().0,
        told: Arc::default(),
    };
    (objects, writer)
}

async fn say(
    api: &Api,
    data_type: DataType,
    (subresource, action): (SubResource, Action),
    body: Value,
) -> Result<(), ServiceError> {
    let kind = data_type.event(subresource, action);
    let event = CloudEvent::new("e", "c1-agent", kind, Timestamp::UNIX_EPOCH)
        .with("clustername", "c1")
        .with_json(body.to_string());
    let served = Served {
        data_type,
        objects: objects(api).0,
    };
    let caller = Caller {
        user: "system:open-cluster-management:c1:a1".to_owned(),
        groups: vec!["g".to_owned()],
    };
    served.receive(&caller, event).await
}

#[tokio::test]
async fn an_agent_does_not_accept_itself() {
    let api = Api::default();
    let path = "/apis/cluster.open-cluster-management.io/v1/managedclusters";
    let wish = json!({
        "metadata": {"name": "c1", "finalizers": ["f"], "labels": {"a": "b", names::CLUSTER_SET_LABEL: "others"}},
        "spec": {"hubAcceptsClient": true, "taints": [{"key": "k", "effect": "NoSelect"}]},
        "status": {"conditions": [
            {"type": "HubAcceptedManagedCluster", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-05-30T09:00:00Z"},
            {"type": "ManagedClusterJoined", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-05-30T09:00:00Z"},
        ]},
    });
    let clusters = || DataType::MANAGED_CLUSTERS;
    say(
        &api,
        clusters(),
        (SubResource::Spec, Action::Create),
        wish.clone(),
    )
    .await
    .unwrap();
    let (_, made) = api.writes().remove(0);
    assert_eq!(made["spec"]["hubAcceptsClient"], false);
    assert_eq!(made["metadata"]["labels"], json!({"a": "b"}));
    assert!(made["metadata"]["finalizers"].is_null() && made["status"]["conditions"].is_null());
    let there = json!({
        "apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster",
        "metadata": {"name": "c1", "uid": "u", "resourceVersion": "1"}, "spec": {"hubAcceptsClient": false},
    });
    api.put(&format!("{path}/c1"), &there);
    say(
        &api,
        clusters(),
        (SubResource::Spec, Action::Update),
        wish.clone(),
    )
    .await
    .unwrap();
    let (_, patch) = api.writes().remove(0);
    assert!(patch["spec"]["hubAcceptsClient"].is_null() && patch["spec"]["taints"].is_null());
    assert_eq!(patch["metadata"]["labels"], json!({"a": "b"}));
    say(
        &api,
        clusters(),
        (SubResource::Status, Action::Update),
        wish,
    )
    .await
    .unwrap();
    let (_, patch) = api.writes().remove(0);
    let types: Vec<_> = patch["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["type"].clone())
        .collect();
    assert_eq!(types, ["ManagedClusterJoined"]);
}

#[tokio::test]
async fn a_requester_is_who_called() {
    let api = Api::default();
    let request = json!({
        "metadata": {
            "name": "r", "labels": {"open-cluster-management.io/cluster-name": "c1"},
            "annotations": {"open-cluster-management.io/csrrequester": "system:admin", "open-cluster-management.io/csrrequester-groups": "system:masters"},
        },
        "spec": {"request": "", "signerName": "open-cluster-management.io/grpc", "usages": ["client auth"], "username": "system:admin"},
        "status": {"conditions": [{"type": "Approved", "status": "True"}]},
    });
    say(
        &api,
        DataType::CSRS,
        (SubResource::Spec, Action::Create),
        request,
    )
    .await
    .unwrap();
    let (_, made) = api.writes().remove(0);
    let caller = drover_core::registration::request::requester_annotations(
        "system:open-cluster-management:c1:a1",
        &["g".to_owned()],
    );
    assert_eq!(made["metadata"]["annotations"], json!(caller));
    assert!(made["status"].is_null());
}

#[tokio::test]
async fn an_agent_renews_its_own_lease_and_no_other() {
    let api = Api::default();
    let path = "/apis/coordination.k8s.io/v1/namespaces/c1/leases/managed-cluster-lease";
    api.put(path, &json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "managed-cluster-lease", "namespace": "c1"}, "spec": {}}));
    let lease = |name: &str| json!({"metadata": {"name": name, "namespace": "c2"}, "spec": {"holderIdentity": "me", "renewTime": "2026-05-30T09:00:00.000000Z"}});
    let renew = || (SubResource::Spec, Action::Update);
    let refused = say(&api, DataType::LEASES, renew(), lease("other")).await;
    assert_eq!(refused.unwrap_err().code, 400);
    say(
        &api,
        DataType::LEASES,
        renew(),
        lease("managed-cluster-lease"),
    )
    .await
    .unwrap();
    let writes = api.writes();
    assert_eq!(writes.len(), 1);
    assert_eq!(
        writes[0].0,
        format!("PATCH {path}"),
        "in the cluster that access was decided on"
    );
    assert!(writes[0].1["spec"]["holderIdentity"].is_null());
    for action in [Action::Create, Action::Delete] {
        let asked = (SubResource::Spec, action);
        let refused = say(
            &api,
            DataType::LEASES,
            asked,
            lease("managed-cluster-lease"),
        )
        .await;
        assert_eq!(refused.unwrap_err().code, 400);
    }
}

#[tokio::test]
async fn agents_are_told_that_their_cluster_went() {
    use drover_transport::{Subscription, Transport as _};
    use futures::StreamExt as _;

    let (objects, mut writer) = objects(&Api::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stop = tokio_util::sync::CancellationToken::new();
    let (serving, stopping) = (objects.broker.clone(), stop.clone());
    tokio::spawn(async move { serving.serve(listener, None, stopping).await });
    let config = drover_transport::grpc::GrpcConfig::new(address);
    let transport = drover_transport::grpc::GrpcTransport::new(config);
    let role = Subscription::Agent {
        cluster: "c1".to_owned(),
        data_type: DataType::MANAGED_CLUSTERS,
    };
    let mut link = transport.open(role).await.unwrap();
    let made = |uid: &str| -> ManagedCluster {
        serde_json::from_value(
            json!({"metadata": {"name": "c1", "uid": uid, "resourceVersion": "5"}, "spec": {}}),
        )
        .unwrap()
    };
    let mut heard = Vec::new();
    for event in [
        Event::Apply(made("a")),
        Event::Apply(made("b")),
        Event::Delete(made("b")),
    ] {
        writer.apply_watcher_event(&event);
        objects.reconcile("managedclusters/c1").await.unwrap();
        let two =
            matches!(&event, Event::Apply(found) if found.metadata.uid.as_deref() == Some("b"));
        for _ in 0..=usize::from(two) {
            let event = link.events.next().await.unwrap().unwrap();
            let version = event.text("resourceversion").unwrap().to_owned();
            let uid = event.resource_id().unwrap().to_owned();
            heard.push((uid, version, event.is_deletion()));
        }
    }
    let said = |uid: &str, deletion| (uid.to_owned(), "5".to_owned(), deletion);
    assert_eq!(
        heard,
        [
            said("a", false),
            said("a", true),
            said("b", false),
            said("b", true)
        ]
    );
    stop.cancel();
}

fn addon(version: &str, status: &Value) -> Value {
    json!({
        "metadata": {"name": "a", "namespace": "c1", "uid": "u", "resourceVersion": version},
        "spec": {"installNamespace": "ns"}, "status": status,
    })
}

#[tokio::test]
async fn an_agent_reports_on_add_ons_in_either_version() {
    let api = Api::default();
    let path =
        "/apis/addon.open-cluster-management.io/v1alpha1/namespaces/c1/managedclusteraddons/a";
    api.put(path, &addon("3", &json!({"namespace": "old"})));
    let report = || (SubResource::Status, Action::Update);
    let older = json!({"kubeClientDriver": "token", "registrations": [{"signerName": "kubernetes.io/kube-apiserver-client", "subject": {"user": "u"}}]});
    let newer = json!({"registrations": [{"type": "kubeClient", "kubeClient": {"driver": "token", "subject": {"user": "u"}}}]});
    for (data_type, status) in [
        (DataType::ADDONS_V1ALPHA1, &older),
        (DataType::ADDONS_V1BETA1, &newer),
    ] {
        let mut reported = addon("2", status);
        reported["spec"]["installNamespace"] = "elsewhere".into();
        say(&api, data_type, report(), reported).await.unwrap();
        let (call, written) = api.writes().remove(0);
        assert_eq!(call, format!("PUT {path}/status"));
        assert_eq!(written["status"], older);
        assert_eq!(written["spec"]["installNamespace"], "ns", "only the status");
        assert_eq!(
            written["metadata"]["resourceVersion"], "2",
            "the API finds conflicts"
        );
    }
    let mut other = addon("3", &older);
    other["metadata"]["uid"] = "another".into();
    let refused = say(&api, DataType::ADDONS_V1ALPHA1, report(), other).await;
    assert_eq!(refused.unwrap_err().code, 409);
    let foreign = (SubResource::Spec, Action::Create);
    let refused = say(&api, DataType::ADDONS_V1ALPHA1, foreign, addon("3", &older)).await;
    assert_eq!(refused.unwrap_err().code, 400);
    assert!(api.writes().is_empty());
}

#[tokio::test]
async fn agents_hear_of_add_ons_in_both_versions() {
    let (mut objects, _clusters) = objects(&Api::default());
    let (store, mut writer) = reflector::store();
    objects.addons = store;
    let (old, new) = (DataType::ADDONS_V1ALPHA1, DataType::ADDONS_V1BETA1);
    let mut links = (
        listen(&objects.broker, old.clone()).await,
        listen(&objects.broker, new.clone()).await,
    );
    let made: drover_api::addon::v1alpha1::ManagedClusterAddOn =
        serde_json::from_value(addon("3", &json!({}))).unwrap();
    let shown = |event: &CloudEvent| -> Value { serde_json::from_slice(event.payload()).unwrap() };
    writer.apply_watcher_event(&Event::Apply(made.clone()));
    objects.reconcile("addons/c1/a").await.unwrap();
    let found = shown(&next(&mut links.0).await);
    assert_eq!(found["spec"]["installNamespace"], "ns");
    assert_eq!(
        found["apiVersion"],
        "addon.open-cluster-management.io/v1alpha1"
    );
    let found = shown(&next(&mut links.1).await);
    assert!(found["spec"]["installNamespace"].is_null());
    assert_eq!(
        found["apiVersion"],
        "addon.open-cluster-management.io/v1beta1"
    );
    for data_type in [old, new] {
        let objects = objects.clone();
        let served = Served { data_type, objects };
        assert_eq!(served.list("c1").await.unwrap().len(), 1);
        assert!(served.list("c2").await.unwrap().is_empty());
    }
    writer.apply_watcher_event(&Event::Delete(made));
    objects.reconcile("addons/c1/a").await.unwrap();
    assert!(next(&mut links.0).await.is_deletion());
    assert!(next(&mut links.1).await.is_deletion());
}

/// What an agent of cluster c1 hears from a broker.
async fn listen(broker: &Broker, data_type: DataType) -> drover_transport::Link {
    use drover_transport::Transport as _;
    use drover_transport::grpc::{GrpcConfig, GrpcTransport};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = broker.clone();
    let stop = tokio_util::sync::CancellationToken::new();
    tokio::spawn(async move { serving.serve(listener, None, stop).await });
    let role = drover_transport::Subscription::Agent {
        cluster: "c1".to_owned(),
        data_type,
    };
    let transport = GrpcTransport::new(GrpcConfig::new(address));
    transport.open(role).await.unwrap()
}

async fn next(link: &mut drover_transport::Link) -> CloudEvent {
    futures::StreamExt::next(&mut link.events)
        .await
        .unwrap()
        .unwrap()
}

fn spoken(data_type: &DataType, action: Action, body: &Value) -> CloudEvent {
    let kind = data_type.event(SubResource::Spec, action);
    CloudEvent::new("e", "c1-agent", kind, Timestamp::UNIX_EPOCH)
        .with("clustername", "c1")
        .with_json(body.to_string())
}

#[tokio::test]
async fn events_are_recorded_and_counted() {
    let api = Api::default();
    let events = crate::events::Events {
        client: api.client(),
    };
    let path = "/apis/events.k8s.io/v1/namespaces/c1/events";
    let say = |action, body: Value| {
        let event = spoken(&DataType::EVENTS, action, &body);
        let events = &events;
        async move { events.receive(&Caller::default(), event).await }
    };
    let event = json!({
        "metadata": {"name": "e1", "namespace": "c1", "uid": "mine", "resourceVersion": "9", "finalizers": ["f"]},
        "eventTime": "2026-05-30T09:00:00.000000Z", "reason": "Applied", "action": "Apply", "type": "Normal",
        "reportingController": "agent", "reportingInstance": "agent-0", "note": "done",
        "regarding": {"kind": "ManagedCluster", "name": "c1"},
    });
    say(Action::Create, event.clone()).await.unwrap();
    let (call, made) = api.writes().remove(0);
    assert_eq!(call, format!("POST {path}"));
    assert_eq!(made["metadata"], json!({"name": "e1", "namespace": "c1"}));
    assert_eq!(
        (&made["note"], &made["regarding"]),
        (&event["note"], &event["regarding"])
    );
    let again = json!({"metadata": {"name": "e1", "namespace": "c1"}, "eventTime": null, "note": "other",
        "series": {"count": 2, "lastObservedTime": "2026-05-30T09:01:00.000000Z"}});
    say(Action::Update, again.clone()).await.unwrap();
    api.writes();
    api.put(&format!("{path}/e1"), &made);
    say(Action::Update, again.clone()).await.unwrap();
    let (call, patch) = api.writes().remove(0);
    assert_eq!(call, format!("PATCH {path}/e1"));
    assert_eq!(patch, json!({"series": again["series"]}));
    assert_eq!(say(Action::Delete, again).await.unwrap_err().code, 400);
    assert_eq!(events.list("c1").await.unwrap_err().code, 405);
}

#[tokio::test]
async fn a_token_goes_to_who_asked_for_it() {
    let api = Api::default();
    let broker = Broker::new(BrokerConfig::open("kube"));
    let tokens = crate::tokens::Tokens {
        client: api.client(),
        clock: clock(),
        broker: broker.clone(),
    };
    let mut link = listen(&broker, DataType::TOKEN_REQUESTS).await;
    let asked = json!({"metadata": {"name": "sa", "namespace": "c1", "uid": "r1"}, "spec": {"audiences": ["hub"], "expirationSeconds": 600}});
    let event = |body: &Value| spoken(&DataType::TOKEN_REQUESTS, Action::Create, body);
    let other = Caller {
        user: "other".to_owned(),
        groups: Vec::new(),
    };
    tokens.receive(&other, event(&asked)).await.unwrap();
    tokens
        .receive(&Caller::default(), event(&asked))
        .await
        .unwrap();
    let (call, written) = api.writes().remove(0);
    assert_eq!(call, "POST /api/v1/namespaces/c1/serviceaccounts/sa/token");
    assert_eq!(written["spec"]["audiences"], json!(["hub"]));
    let answer = next(&mut link).await;
    assert_eq!(answer.resource_id(), Some("r1"));
    let body: Value = serde_json::from_slice(answer.payload()).unwrap();
    assert_eq!(body["metadata"]["namespace"], "c1");
    assert_eq!(
        broker
            .metrics()
            .sent
            .load(std::sync::atomic::Ordering::Relaxed),
        1,
        "not for another user"
    );
    let nameless = json!({"metadata": {"namespace": "c1", "uid": "r1"}, "spec": {}});
    let refused = tokens.receive(&other, event(&nameless)).await;
    assert_eq!(refused.unwrap_err().code, 400);
}
