//! All workload controllers of one cluster, on one queue.

mod process;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use drover_runtime::clock::Clock;
use drover_runtime::controller::{self, Next};
use drover_runtime::mirror::mirror;
use drover_runtime::queue::WorkQueue;
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Config;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::local::{Local, Runs};
use crate::template::is_controlled_by;
use crate::{autoscaler, budget, daemonset, deployment, job, pod, replicaset, statefulset};

/// Rounds that run at the same time.
const WORKERS: usize = 8;

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadsError {
    /// The API refused or did not answer.
    #[error("failed to {what}: {source}")]
    Api {
        /// What was tried.
        what: String,
        /// What the API said.
        source: Box<kube::Error>,
    },
    /// A pod that should really run cannot, now.
    #[error("pod {name} cannot start: {why}")]
    Pod {
        /// Its name.
        name: String,
        /// What is missing.
        why: String,
    },
    /// The place for the files of pods that really run.
    #[error("failed to make the folder for pods: {0}")]
    Folder(#[from] std::io::Error),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Pod(String, String),
    ReplicaSet(String, String),
    Deployment(String, String),
    StatefulSet(String, String),
    DaemonSet(String, String),
    Job(String, String),
    Claim(String, String),
    /// What scales and guards the pods of a namespace.
    Guards(String),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, namespace, name) = match self {
            Self::Pod(namespace, name) => ("pod", namespace, name),
            Self::ReplicaSet(namespace, name) => ("replicaset", namespace, name),
            Self::Deployment(namespace, name) => ("deployment", namespace, name),
            Self::StatefulSet(namespace, name) => ("statefulset", namespace, name),
            Self::DaemonSet(namespace, name) => ("daemonset", namespace, name),
            Self::Job(namespace, name) => ("job", namespace, name),
            Self::Claim(namespace, name) => ("persistentvolumeclaim", namespace, name),
            Self::Guards(namespace) => return write!(f, "namespace/{namespace}"),
        };
        write!(f, "{kind}/{namespace}/{name}")
    }
}

struct Cluster {
    client: Client,
    clock: Clock,
    pods: Store<Pod>,
    replica_sets: Store<ReplicaSet>,
    deployments: Store<Deployment>,
    stateful_sets: Store<StatefulSet>,
    daemon_sets: Store<DaemonSet>,
    jobs: Store<Job>,
    claims: Store<PersistentVolumeClaim>,
    autoscalers: Store<HorizontalPodAutoscaler>,
    budgets: Store<PodDisruptionBudget>,
    queue: Arc<WorkQueue<Key>>,
    runs: Option<Arc<Runs>>,
}

/// Runs the workload layer of one cluster until `cancel`. Failures are retried.
pub async fn run(client: Client, clock: Clock, cancel: CancellationToken) {
    serve(client, clock, None, cancel).await;
}

/// The same, with pods that really run as processes of this machine. They end when this does.
///
/// # Errors
/// When there is no place for their files.
pub async fn run_with(
    client: Client,
    clock: Clock,
    local: Local,
    cancel: CancellationToken,
) -> Result<(), WorkloadsError> {
    let runs = Some(Arc::new(Runs::new(local)?));
    serve(client, clock, runs, cancel).await;
    Ok(())
}

async fn serve(client: Client, clock: Clock, runs: Option<Arc<Runs>>, cancel: CancellationToken) {
    let queue = Arc::new(WorkQueue::new());
    let mut watches = FuturesUnordered::new();
    macro_rules! watch {
        ($kind:ty, $key:expr) => {{
            let queue = queue.clone();
            let api: Api<$kind> = Api::all(client.clone());
            let (store, task) = mirror(
                api,
                Config::default(),
                cancel.clone(),
                move |object: &$kind| {
                    let namespace = object.namespace().unwrap_or_default();
                    queue.add($key(namespace.clone(), object.name_any()));
                    queue.add(Key::Guards(namespace.clone()));
                    if let Some(owner) = owner_key(object.meta(), namespace) {
                        queue.add(owner);
                    }
                },
            );
            watches.push(Box::pin(task) as futures::future::BoxFuture<'static, ()>);
            store
        }};
    }
    let cluster = Cluster {
        pods: watch!(Pod, Key::Pod),
        replica_sets: watch!(ReplicaSet, Key::ReplicaSet),
        deployments: watch!(Deployment, Key::Deployment),
        stateful_sets: watch!(StatefulSet, Key::StatefulSet),
        daemon_sets: watch!(DaemonSet, Key::DaemonSet),
        jobs: watch!(Job, Key::Job),
        claims: watch!(PersistentVolumeClaim, Key::Claim),
        autoscalers: watch!(HorizontalPodAutoscaler, |namespace, _| Key::Guards(
            namespace
        )),
        budgets: watch!(PodDisruptionBudget, |namespace, _| Key::Guards(namespace)),
        client,
        clock,
        queue: queue.clone(),
        runs: runs.clone(),
    };
    let cluster = &cluster;
    let rounds = controller::run("workloads", queue, WORKERS, cancel, |key| async move {
        cluster.reconcile(&key).await
    });
    futures::join!(rounds, async { while watches.next().await.is_some() {} });
    if let Some(runs) = runs {
        runs.end();
    }
}

fn owner_key(meta: &ObjectMeta, namespace: String) -> Option<Key> {
    let owner = meta
        .owner_references
        .as_deref()?
        .iter()
        .find(|owner| owner.controller == Some(true))?;
    let name = owner.name.clone();
    Some(match owner.kind.as_str() {
        "ReplicaSet" => Key::ReplicaSet(namespace, name),
        "Deployment" => Key::Deployment(namespace, name),
        "StatefulSet" => Key::StatefulSet(namespace, name),
        "DaemonSet" => Key::DaemonSet(namespace, name),
        "Job" => Key::Job(namespace, name),
        _ => return None,
    })
}

/// What exists in a cache, by reference to the object that controls it.
fn controlled<'s, K: Resource>(all: &'s [Arc<K>], owner: &ObjectMeta) -> Vec<&'s K> {
    let uid = owner.uid.as_deref().unwrap_or_default();
    let same = |object: &&Arc<K>| {
        object.meta().namespace == owner.namespace && is_controlled_by(object.meta(), uid)
    };
    all.iter().filter(same).map(AsRef::as_ref).collect()
}

fn wait_until(now: Timestamp, at: Timestamp) -> Next {
    Next::After(at.duration_since(now).unsigned_abs() + Duration::from_millis(1))
}

impl Cluster {
    async fn reconcile(&self, key: &Key) -> Result<Next, WorkloadsError> {
        let now = Timestamp::from_second(self.clock.now().as_second()).unwrap_or_default();
        match key {
            Key::Pod(namespace, name) => self.pod(namespace, name).await,
            Key::ReplicaSet(namespace, name) => self.replica_set(namespace, name).await,
            Key::Deployment(namespace, name) => self.deployment(namespace, name, now).await,
            Key::StatefulSet(namespace, name) => self.stateful_set(namespace, name).await,
            Key::DaemonSet(namespace, name) => self.daemon_set(namespace, name).await,
            Key::Job(namespace, name) => self.job(namespace, name, now).await,
            Key::Claim(namespace, name) => self.claim(namespace, name).await,
            Key::Guards(namespace) => self.guards(namespace, now).await,
        }
    }

    async fn pod(&self, namespace: &str, name: &str) -> Result<Next, WorkloadsError> {
        let Some(found) = self.pods.get(&ObjectRef::new(name).within(namespace)) else {
            return Ok(Next::OnChange);
        };
        if let Some(runs) = &self.runs
            && let Some(container) = runs.container(&found)
        {
            let uid = found.uid().unwrap_or_default();
            if found.metadata.deletion_timestamp.is_some() || pod::is_over(&found) {
                runs.forget(&uid);
            } else if pod::bound(&found) {
                return self.process(runs, &found, container).await;
            }
        }
        let mut next = Next::OnChange;
        for action in pod::plan(&found, self.clock.now()) {
            match action {
                pod::Action::Bind => self.bind(&found).await?,
                pod::Action::SetStatus(status) => self.report(&*found, &*status).await?,
                pod::Action::Remove => {
                    let params = DeleteParams {
                        grace_period_seconds: Some(0),
                        ..DeleteParams::default()
                    };
                    self.delete::<Pod>(&found.metadata, name, params).await?;
                }
                pod::Action::WakeAfter(delay) => next = Next::After(delay),
            }
        }
        Ok(next)
    }

    async fn replica_set(&self, namespace: &str, name: &str) -> Result<Next, WorkloadsError> {
        let Some(set) = self
            .replica_sets
            .get(&ObjectRef::new(name).within(namespace))
        else {
            return Ok(Next::OnChange);
        };
        let pods = self.pods.state();
        for action in replicaset::plan(&set, &controlled(&pods, &set.metadata)) {
            match action {
                replicaset::Action::Create(pod) => self.create(namespace, &*pod).await?,
                replicaset::Action::Delete(pod) => self.delete_pod(namespace, &pod).await?,
                replicaset::Action::SetStatus(status) => self.report(&*set, &status).await?,
            }
        }
        Ok(Next::OnChange)
    }

    async fn deployment(
        &self,
        namespace: &str,
        name: &str,
        now: Timestamp,
    ) -> Result<Next, WorkloadsError> {
        let Some(found) = self
            .deployments
            .get(&ObjectRef::new(name).within(namespace))
        else {
            return Ok(Next::OnChange);
        };
        let sets = self.replica_sets.state();
        let mut next = Next::OnChange;
        for action in deployment::plan(&found, &controlled(&sets, &found.metadata), now) {
            match action {
                deployment::Action::Create(set) => self.create(namespace, &*set).await?,
                deployment::Action::Scale(set, replicas) => {
                    let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), namespace);
                    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
                    tolerate(
                        api.patch(&set, &PatchParams::default(), &patch).await,
                        &[404],
                        "scale a replica set",
                    )?;
                }
                deployment::Action::Delete(set) => {
                    let meta = ObjectMeta {
                        namespace: Some(namespace.to_owned()),
                        ..ObjectMeta::default()
                    };
                    self.delete::<ReplicaSet>(&meta, &set, DeleteParams::background())
                        .await?;
                }
                deployment::Action::SetStatus(status) => self.report(&*found, &*status).await?,
                deployment::Action::WakeAt(at) => next = wait_until(now, at),
            }
        }
        Ok(next)
    }

    async fn stateful_set(&self, namespace: &str, name: &str) -> Result<Next, WorkloadsError> {
        let Some(set) = self
            .stateful_sets
            .get(&ObjectRef::new(name).within(namespace))
        else {
            return Ok(Next::OnChange);
        };
        let pods = self.pods.state();
        for action in statefulset::plan(&set, &controlled(&pods, &set.metadata)) {
            match action {
                statefulset::Action::Claim(claim) => self.create(namespace, &*claim).await?,
                statefulset::Action::Create(pod) => self.create(namespace, &*pod).await?,
                statefulset::Action::Delete(pod) => self.delete_pod(namespace, &pod).await?,
                statefulset::Action::SetStatus(status) => self.report(&*set, &*status).await?,
            }
        }
        Ok(Next::OnChange)
    }

    async fn daemon_set(&self, namespace: &str, name: &str) -> Result<Next, WorkloadsError> {
        let Some(set) = self
            .daemon_sets
            .get(&ObjectRef::new(name).within(namespace))
        else {
            return Ok(Next::OnChange);
        };
        let pods = self.pods.state();
        for action in daemonset::plan(
            &set,
            &controlled(&pods, &set.metadata),
            &[pod::NODE.to_owned()],
        ) {
            match action {
                daemonset::Action::Create(pod) => self.create(namespace, &*pod).await?,
                daemonset::Action::Delete(pod) => self.delete_pod(namespace, &pod).await?,
                daemonset::Action::SetStatus(status) => self.report(&*set, &*status).await?,
            }
        }
        Ok(Next::OnChange)
    }

    async fn job(
        &self,
        namespace: &str,
        name: &str,
        now: Timestamp,
    ) -> Result<Next, WorkloadsError> {
        let Some(found) = self.jobs.get(&ObjectRef::new(name).within(namespace)) else {
            return Ok(Next::OnChange);
        };
        let pods = self.pods.state();
        let mut next = Next::OnChange;
        for action in job::plan(&found, &controlled(&pods, &found.metadata), now) {
            match action {
                job::Action::Create(pod) => self.create(namespace, &*pod).await?,
                job::Action::Delete(pod) => self.delete_pod(namespace, &pod).await?,
                job::Action::SetStatus(status) => self.report(&*found, &*status).await?,
                job::Action::Remove => {
                    self.delete::<Job>(&found.metadata, name, DeleteParams::background())
                        .await?;
                }
                job::Action::WakeAt(at) => next = wait_until(now, at),
            }
        }
        Ok(next)
    }

    async fn guards(&self, namespace: &str, now: Timestamp) -> Result<Next, WorkloadsError> {
        for found in self.autoscalers.state() {
            if found.namespace().as_deref() == Some(namespace) {
                self.autoscaler(namespace, &found, now).await?;
            }
        }
        for found in self.budgets.state() {
            if found.namespace().as_deref() == Some(namespace) {
                self.budget(namespace, &found, now).await?;
            }
        }
        Ok(Next::OnChange)
    }

    async fn autoscaler(
        &self,
        namespace: &str,
        found: &HorizontalPodAutoscaler,
        now: Timestamp,
    ) -> Result<(), WorkloadsError> {
        let Some(target) = found.spec.as_ref().map(|spec| &spec.scale_target_ref) else {
            return Ok(());
        };
        let wanted = match target.kind.as_str() {
            "Deployment" => self
                .deployments
                .get(&ObjectRef::new(&target.name).within(namespace))
                .map(|d| d.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)),
            "StatefulSet" => self
                .stateful_sets
                .get(&ObjectRef::new(&target.name).within(namespace))
                .map(|s| s.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)),
            _ => None,
        };
        for action in autoscaler::plan(found, wanted, now) {
            match action {
                autoscaler::Action::SetStatus(status) => self.report(found, &*status).await?,
                autoscaler::Action::Scale(replicas) => {
                    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
                    let params = PatchParams::default();
                    let scaled = if target.kind == "Deployment" {
                        let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
                        api.patch_scale(&target.name, &params, &patch).await
                    } else {
                        let api: Api<StatefulSet> = Api::namespaced(self.client.clone(), namespace);
                        api.patch_scale(&target.name, &params, &patch).await
                    };
                    tolerate(scaled, &[404, 409], "scale a workload")?;
                }
            }
        }
        Ok(())
    }

    async fn budget(
        &self,
        namespace: &str,
        found: &PodDisruptionBudget,
        now: Timestamp,
    ) -> Result<(), WorkloadsError> {
        let selector = found
            .spec
            .as_ref()
            .and_then(|spec| spec.selector.clone())
            .unwrap_or_default();
        // The API took the selector, so it can be read.
        let Ok(selector) = kube::core::Selector::try_from(selector) else {
            return Ok(());
        };
        let all = self.pods.state();
        let fits = |pod: &&Arc<Pod>| {
            pod.namespace().as_deref() == Some(namespace)
                && kube::core::SelectorExt::matches(&selector, pod.labels())
        };
        let pods: Vec<&Pod> = all.iter().filter(fits).map(AsRef::as_ref).collect();
        if let Some(status) = budget::plan(found, &pods, now) {
            self.report(found, &status).await?;
        }
        Ok(())
    }

    /// Claims are bound to nothing in particular.
    async fn claim(&self, namespace: &str, name: &str) -> Result<Next, WorkloadsError> {
        let Some(claim) = self.claims.get(&ObjectRef::new(name).within(namespace)) else {
            return Ok(Next::OnChange);
        };
        if claim.metadata.deletion_timestamp.is_some() {
            // The finalizer that protects claims in use: here a claim is never in use.
            if !claim.finalizers().is_empty() {
                let api: Api<PersistentVolumeClaim> =
                    Api::namespaced(self.client.clone(), namespace);
                let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
                tolerate(
                    api.patch(name, &PatchParams::default(), &patch).await,
                    &[404],
                    "release a claim",
                )?;
            }
            return Ok(Next::OnChange);
        }
        let phase = claim
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        if phase != Some("Bound") {
            let spec = claim.spec.clone().unwrap_or_default();
            let capacity = spec.resources.and_then(|resources| resources.requests);
            let status =
                json!({"phase": "Bound", "accessModes": spec.access_modes, "capacity": capacity});
            self.report(&*claim, &status).await?;
        }
        Ok(Next::OnChange)
    }

    async fn bind(&self, pod: &Pod) -> Result<(), WorkloadsError> {
        let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "namespace": namespace},
            "target": {"apiVersion": "v1", "kind": "Node", "name": pod::NODE},
        });
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let params = PostParams::default();
        let bound = api
            .create_subresource::<_, serde_json::Value>("binding", &name, &params, &binding)
            .await;
        // Conflict: bound since; not found: gone since.
        tolerate(bound, &[404, 409], "bind a pod")
    }

    /// Replaces the status of exactly this object.
    async fn report<K>(&self, object: &K, status: &impl Serialize) -> Result<(), WorkloadsError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + DeserializeOwned
            + Clone
            + fmt::Debug,
    {
        let api: Api<K> =
            Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default());
        let patch = json!({
            "metadata": {"uid": object.uid(), "resourceVersion": object.resource_version()},
            "status": status_patch(status),
        });
        let written = api
            .patch_status(
                &object.name_any(),
                &PatchParams::default(),
                &Patch::Merge(patch),
            )
            .await;
        // Somebody wrote since: the watch brings the new state, and with it a new round.
        tolerate(written, &[404, 409], "report a status")
    }

    async fn create<K>(&self, namespace: &str, object: &K) -> Result<(), WorkloadsError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + DeserializeOwned
            + Serialize
            + Clone
            + fmt::Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        // Conflict: made in an earlier round; forbidden: the namespace is going away.
        tolerate(
            api.create(&PostParams::default(), object).await,
            &[403, 404, 409],
            "create what a workload needs",
        )
    }

    async fn delete_pod(&self, namespace: &str, name: &str) -> Result<(), WorkloadsError> {
        let meta = self
            .pods
            .get(&ObjectRef::new(name).within(namespace))
            .map(|pod| pod.metadata.clone());
        let Some(meta) = meta else { return Ok(()) };
        self.delete::<Pod>(&meta, name, DeleteParams::default())
            .await
    }

    async fn delete<K>(
        &self,
        meta: &ObjectMeta,
        name: &str,
        mut params: DeleteParams,
    ) -> Result<(), WorkloadsError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + DeserializeOwned
            + Clone
            + fmt::Debug,
    {
        let api: Api<K> = Api::namespaced(
            self.client.clone(),
            meta.namespace.as_deref().unwrap_or_default(),
        );
        if meta.uid.is_some() {
            params.preconditions = Some(Preconditions {
                uid: meta.uid.clone(),
                resource_version: None,
            });
        }
        params.propagation_policy = params
            .propagation_policy
            .or(Some(PropagationPolicy::Background));
        tolerate(
            api.delete(name, &params).await,
            &[404, 409],
            "delete what a workload no longer needs",
        )
    }
}

/// A merge patch that replaces every field that the status type knows: what is absent is removed.
fn status_patch(status: &impl Serialize) -> serde_json::Value {
    const COUNTS: [&str; 14] = [
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "updatedReplicas",
        "currentReplicas",
        "fullyLabeledReplicas",
        "replicas",
        "numberAvailable",
        "numberUnavailable",
        "updatedNumberScheduled",
        "active",
        "succeeded",
        "failed",
        "message",
    ];
    let mut patch = json!(status);
    if let Some(fields) = patch.as_object_mut() {
        for name in COUNTS {
            fields.entry(name).or_insert(serde_json::Value::Null);
        }
    }
    patch
}

fn tolerate<T>(
    outcome: Result<T, kube::Error>,
    codes: &[u16],
    what: &str,
) -> Result<(), WorkloadsError> {
    match outcome {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if codes.contains(&status.code) => Ok(()),
        Err(source) => Err(WorkloadsError::Api {
            what: what.to_owned(),
            source: Box::new(source),
        }),
    }
}

/// Makes the one node of a cluster, ready and with room; [`run`] needs it.
///
/// # Errors
/// When the API does not take it.
pub async fn make_node(client: &Client, clock: &Clock) -> Result<(), WorkloadsError> {
    let now = clock.now();
    let capacity =
        json!({"cpu": "8", "memory": "32Gi", "pods": "250", "ephemeral-storage": "100Gi"});
    let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now);
    let condition = |type_: &str, status: &str, reason: &str| {
        json!({"type": type_, "status": status, "reason": reason, "message": "simulated",
            "lastHeartbeatTime": time, "lastTransitionTime": time})
    };
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": pod::NODE, "labels": {
            "kubernetes.io/hostname": pod::NODE, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
            "node-role.kubernetes.io/worker": "",
        }},
        "status": {
            "capacity": capacity, "allocatable": capacity,
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": pod::NODE}],
            "conditions": [
                condition("Ready", "True", "KubeletReady"),
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID"),
            ],
            "nodeInfo": {
                "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "simulated", "osImage": "simulated",
                "containerRuntimeVersion": "simulated://0", "kubeletVersion": "v1.36.0", "kubeProxyVersion": "",
                "operatingSystem": "linux", "architecture": "amd64",
            },
        },
    });
    let api: Api<Node> = Api::all(client.clone());
    let failed = |source| WorkloadsError::Api {
        what: "make the cluster's node".to_owned(),
        source: Box::new(source),
    };
    let params = PatchParams::apply("drover-workloads").force();
    let mut body = node.clone();
    if let Some(fields) = body.as_object_mut() {
        fields.remove("status");
    }
    api.patch(pod::NODE, &params, &Patch::Apply(&body))
        .await
        .map_err(failed)?;
    api.patch_status(pod::NODE, &params, &Patch::Apply(&node))
        .await
        .map_err(failed)?;
    Ok(())
}
