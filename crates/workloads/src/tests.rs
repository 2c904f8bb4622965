//! The planners in a small world that does what they say.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::template::{is_controlled_by, is_ready};
use crate::{autoscaler, budget, daemonset, deployment, job, pod, replicaset, statefulset};

#[derive(Default)]
struct World {
    now: i64,
    uids: u32,
    pods: BTreeMap<String, Pod>,
    sets: BTreeMap<String, ReplicaSet>,
    claims: Vec<String>,
    lowest_ready: Option<usize>,
}

impl World {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + self.now).unwrap()
    }

    fn uid(&mut self) -> String {
        self.uids += 1;
        format!("uid-{}", self.uids)
    }

    fn add_pod(&mut self, mut made: Pod) {
        made.metadata.uid = Some(self.uid());
        self.pods.entry(made.name_any()).or_insert(made);
    }

    fn run_pods(&mut self) -> bool {
        let now = self.now();
        let mut moved = false;
        for name in self.pods.keys().cloned().collect::<Vec<_>>() {
            let found = &self.pods[&name];
            for action in pod::plan(found, now) {
                moved |= !matches!(action, pod::Action::WakeAfter(_));
                match action {
                    pod::Action::Bind => {
                        self.pods
                            .get_mut(&name)
                            .unwrap()
                            .spec
                            .get_or_insert_default()
                            .node_name = Some("n".into());
                    }
                    pod::Action::SetStatus(status) => {
                        self.pods.get_mut(&name).unwrap().status = Some(*status);
                    }
                    pod::Action::Remove => {
                        self.pods.remove(&name);
                    }
                    pod::Action::WakeAfter(_) => {}
                }
            }
        }
        moved
    }

    fn delete_pod(&mut self, name: &str) {
        if let Some(found) = self.pods.get_mut(name) {
            found.metadata.deletion_timestamp = Some(
                k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH),
            );
        }
    }

    fn owned(&self, uid: &str) -> Vec<Pod> {
        self.pods
            .values()
            .filter(|pod| is_controlled_by(&pod.metadata, uid))
            .cloned()
            .collect()
    }

    fn run_sets(&mut self) -> bool {
        let mut moved = false;
        for name in self.sets.keys().cloned().collect::<Vec<_>>() {
            let set = self.sets[&name].clone();
            let pods = self.owned(&set.uid().unwrap());
            for action in replicaset::plan(&set, &pods.iter().collect::<Vec<_>>()) {
                moved = true;
                match action {
                    replicaset::Action::Create(made) => self.add_pod(*made),
                    replicaset::Action::Delete(name) => self.delete_pod(&name),
                    replicaset::Action::SetStatus(status) => {
                        self.sets.get_mut(&name).unwrap().status = Some(status);
                    }
                }
            }
        }
        moved
    }

    fn run_deployment(&mut self, found: &mut Deployment) -> bool {
        let sets: Vec<ReplicaSet> = self.sets.values().cloned().collect();
        let mut moved = false;
        for action in deployment::plan(found, &sets.iter().collect::<Vec<_>>(), self.now()) {
            moved |= !matches!(action, deployment::Action::WakeAt(_));
            match action {
                deployment::Action::Create(mut set) => {
                    set.metadata.uid = Some(self.uid());
                    set.metadata.generation = Some(1);
                    self.sets.entry(set.name_any()).or_insert(*set);
                }
                deployment::Action::Scale(name, replicas) => {
                    self.sets
                        .get_mut(&name)
                        .unwrap()
                        .spec
                        .as_mut()
                        .unwrap()
                        .replicas = Some(replicas);
                }
                deployment::Action::Delete(name) => {
                    self.sets.remove(&name);
                }
                deployment::Action::SetStatus(status) => found.status = Some(*status),
                deployment::Action::WakeAt(_) => {}
            }
        }
        moved
    }

    /// Runs everything until nothing moves.
    fn settle(&mut self, found: &mut Deployment) {
        for _ in 0..200 {
            let moved = self.run_deployment(found) | self.run_sets() | self.run_pods();
            let ready = self.pods.values().filter(|pod| is_ready(pod)).count();
            self.lowest_ready = self.lowest_ready.map(|lowest| lowest.min(ready));
            if !moved {
                return;
            }
        }
        panic!("the deployment never comes to rest: {:?}", found.status);
    }
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn deployment(replicas: i32, image: &str) -> Deployment {
    object(json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "web-uid", "generation": 1},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "progressDeadlineSeconds": 60,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
                "restartPolicy": "Always", "containers": [{"name": "main", "image": image}]}},
        },
    }))
}

fn summary(found: &Deployment) -> String {
    let status = found.status.clone().unwrap_or_default();
    let conditions: Vec<String> = status
        .conditions
        .iter()
        .flatten()
        .map(|c| {
            format!(
                "{}={}/{}",
                c.type_,
                c.status,
                c.reason.as_deref().unwrap_or_default()
            )
        })
        .collect();
    format!(
        "{} pods, {} updated, {} ready, {}",
        status.replicas.unwrap_or(0),
        status.updated_replicas.unwrap_or(0),
        status.ready_replicas.unwrap_or(0),
        conditions.join(" ")
    )
}

const GOOD: &str =
    "Available=True/MinimumReplicasAvailable Progressing=True/NewReplicaSetAvailable";

#[test]
fn a_deployment_becomes_ready_rolls_and_scales() {
    let mut world = World::default();
    let mut found = deployment(4, "web:1");
    world.settle(&mut found);
    assert_eq!(
        summary(&found),
        format!("4 pods, 4 updated, 4 ready, {GOOD}")
    );
    world.lowest_ready = Some(4);
    found.spec = deployment(4, "web:2").spec;
    found.metadata.generation = Some(2);
    world.settle(&mut found);
    assert_eq!(
        summary(&found),
        format!("4 pods, 4 updated, 4 ready, {GOOD}")
    );
    assert!(
        world.lowest_ready >= Some(3),
        "a quarter may be missing, not more: {:?}",
        world.lowest_ready
    );
    assert_eq!(world.sets.len(), 2);
    let images: Vec<_> = world
        .pods
        .values()
        .map(|p| p.spec.as_ref().unwrap().containers[0].image.clone())
        .collect();
    assert!(
        images.iter().all(|image| image.as_deref() == Some("web:2")),
        "{images:?}"
    );
    found.spec = deployment(1, "web:2").spec;
    world.settle(&mut found);
    assert_eq!(
        summary(&found),
        format!("1 pods, 1 updated, 1 ready, {GOOD}")
    );
}

#[test]
fn a_bad_rollout_keeps_most_old_pods_and_times_out() {
    let mut world = World::default();
    let mut found = deployment(4, "web:1");
    world.settle(&mut found);
    found.spec = deployment(4, "web:2").spec;
    let template = &mut found.spec.as_mut().unwrap().template;
    let annotations = template
        .metadata
        .get_or_insert_default()
        .annotations
        .get_or_insert_default();
    annotations.insert(
        crate::fault::FAULT_ANNOTATION.to_owned(),
        "ImagePullError".to_owned(),
    );
    world.settle(&mut found);
    assert_eq!(
        summary(&found),
        "5 pods, 2 updated, 3 ready, Available=True/MinimumReplicasAvailable Progressing=True/ReplicaSetUpdated"
    );
    world.now += 61;
    world.settle(&mut found);
    assert_eq!(
        summary(&found),
        "5 pods, 2 updated, 3 ready, Available=True/MinimumReplicasAvailable Progressing=False/ProgressDeadlineExceeded"
    );
}

#[test]
fn a_slow_pod_becomes_ready_after_its_delay() {
    let mut world = World::default();
    let mut found = deployment(1, "web:1");
    let annotations = found.metadata.annotations.get_or_insert_default();
    annotations.insert(crate::fault::DELAY_ANNOTATION.to_owned(), "10s".to_owned());
    world.settle(&mut found);
    assert!(
        summary(&found).starts_with("1 pods, 1 updated, 0 ready"),
        "{}",
        summary(&found)
    );
    world.now += 10;
    world.settle(&mut found);
    assert_eq!(
        summary(&found),
        format!("1 pods, 1 updated, 1 ready, {GOOD}")
    );
}

#[test]
fn stateful_pods_start_in_order_and_update_backwards() {
    let make = |image: &str, replicas: i32| -> StatefulSet {
        object(json!({
            "metadata": {"name": "db", "namespace": "shop", "uid": "db-uid", "generation": 1},
            "spec": {
                "replicas": replicas, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
                "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "main", "image": image}]}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}],
            },
        }))
    };
    let mut world = World::default();
    let mut set = make("db:1", 3);
    let mut order = Vec::new();
    let settle = |world: &mut World, set: &mut StatefulSet, order: &mut Vec<String>| {
        for _ in 0..100 {
            let pods = world.owned("db-uid");
            let actions = statefulset::plan(set, &pods.iter().collect::<Vec<_>>());
            let idle = actions.is_empty();
            for action in actions {
                match action {
                    statefulset::Action::Claim(claim) => world.claims.push(claim.name_any()),
                    statefulset::Action::Create(made) => {
                        order.push(format!("+{}", made.name_any()));
                        world.add_pod(*made);
                    }
                    statefulset::Action::Delete(name) => {
                        order.push(format!("-{name}"));
                        world.delete_pod(&name);
                    }
                    statefulset::Action::SetStatus(status) => set.status = Some(*status),
                }
            }
            if !world.run_pods() && idle {
                return;
            }
        }
        panic!("the set never comes to rest");
    };
    settle(&mut world, &mut set, &mut order);
    assert_eq!(order, ["+db-0", "+db-1", "+db-2"]);
    assert_eq!(world.claims, ["data-db-0", "data-db-1", "data-db-2"]);
    order.clear();
    set.spec = make("db:2", 2).spec;
    settle(&mut world, &mut set, &mut order);
    assert_eq!(order, ["-db-2", "-db-1", "+db-1", "-db-0", "+db-0"]);
    let status = set.status.unwrap();
    assert_eq!(
        (status.ready_replicas, status.updated_replicas),
        (Some(2), Some(2))
    );
    assert_eq!(status.current_revision, status.update_revision);
}

#[test]
fn a_daemon_set_has_a_pod_on_each_node() {
    let set: DaemonSet = object(json!({
        "metadata": {"name": "logs", "namespace": "shop", "uid": "logs-uid", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "logs"}}, "template": {"metadata": {"labels": {"app": "logs"}},
            "spec": {"containers": [{"name": "main", "image": "logs:1"}]}}},
    }));
    let mut world = World::default();
    let nodes = ["a".to_owned(), "b".to_owned()];
    let mut last = None;
    for _ in 0..5 {
        let pods = world.owned("logs-uid");
        for action in daemonset::plan(&set, &pods.iter().collect::<Vec<_>>(), &nodes) {
            match action {
                daemonset::Action::Create(made) => world.add_pod(*made),
                daemonset::Action::Delete(name) => world.delete_pod(&name),
                daemonset::Action::SetStatus(status) => last = Some(status),
            }
        }
        world.run_pods();
    }
    let status = last.unwrap();
    assert_eq!(
        (
            status.desired_number_scheduled,
            status.number_ready,
            status.number_available
        ),
        (2, 2, Some(2))
    );
}

fn run_job(spec: Value, annotation: Option<&str>) -> (World, Job) {
    let mut found: Job = object(json!({
        "metadata": {"name": "load", "namespace": "shop", "uid": "load-uid", "generation": 1}, "spec": spec,
    }));
    if let Some(fault) = annotation {
        let annotations = found.metadata.annotations.get_or_insert_default();
        annotations.insert(crate::fault::FAULT_ANNOTATION.to_owned(), fault.to_owned());
    }
    let mut world = World::default();
    for _ in 0..100 {
        let pods = world.owned("load-uid");
        for action in job::plan(&found, &pods.iter().collect::<Vec<_>>(), world.now()) {
            match action {
                job::Action::Create(made) => world.add_pod(*made),
                job::Action::Delete(name) => world.delete_pod(&name),
                job::Action::SetStatus(status) => found.status = Some(*status),
                job::Action::Remove | job::Action::WakeAt(_) => {}
            }
        }
        world.run_pods();
    }
    (world, found)
}

fn outcome(found: &Job) -> Vec<String> {
    let status = found.status.clone().unwrap_or_default();
    status
        .conditions
        .iter()
        .flatten()
        .map(|c| format!("{}/{}", c.type_, c.reason.as_deref().unwrap_or_default()))
        .collect()
}

#[test]
fn a_job_completes_or_gives_up() {
    let spec = |policy: &str| {
        json!({"completions": 3, "parallelism": 2, "backoffLimit": 1, "template": {
            "spec": {"restartPolicy": policy, "containers": [{"name": "main", "image": "load:1"}]}}})
    };
    let (_, done) = run_job(spec("Never"), None);
    assert_eq!(
        outcome(&done),
        [
            "SuccessCriteriaMet/CompletionsReached",
            "Complete/CompletionsReached"
        ]
    );
    assert_eq!(done.status.unwrap().succeeded, Some(3));
    let (_, broken) = run_job(spec("Never"), Some("CrashLoop"));
    assert_eq!(
        outcome(&broken),
        [
            "FailureTarget/BackoffLimitExceeded",
            "Failed/BackoffLimitExceeded"
        ]
    );
    let (_, looping) = run_job(spec("OnFailure"), Some("CrashLoop"));
    assert_eq!(outcome(&looping), [""; 0]);
}

#[test]
fn an_autoscaler_keeps_its_bounds_and_nothing_else() {
    let scaler = object(json!({
        "metadata": {"name": "web", "namespace": "shop", "generation": 1},
        "spec": {"minReplicas": 2, "maxReplicas": 5, "scaleTargetRef": {"kind": "Deployment", "name": "web"}},
    }));
    let scaled = |replicas| {
        let actions = autoscaler::plan(&scaler, replicas, Timestamp::UNIX_EPOCH);
        actions.into_iter().find_map(|action| match action {
            autoscaler::Action::Scale(wanted) => Some(wanted),
            autoscaler::Action::SetStatus(_) => None,
        })
    };
    assert_eq!(
        [None, Some(0), Some(2), Some(4), Some(9)].map(scaled),
        [None, Some(2), None, None, Some(5)]
    );
    let mut settled = scaler.clone();
    for action in autoscaler::plan(&scaler, Some(3), Timestamp::UNIX_EPOCH) {
        if let autoscaler::Action::SetStatus(status) = action {
            settled.status = Some(*status);
        }
    }
    assert_eq!(settled.status.as_ref().unwrap().desired_replicas, 3);
    assert_eq!(
        autoscaler::plan(&settled, Some(3), Timestamp::UNIX_EPOCH),
        []
    );
}

#[test]
fn a_budget_counts_what_may_go() {
    let mut world = World::default();
    let mut found = deployment(4, "web:1");
    world.settle(&mut found);
    let pods: Vec<&Pod> = world.pods.values().collect();
    let spare = |spec: Value| {
        let budget =
            object(json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec}));
        let status = budget::plan(&budget, &pods, Timestamp::UNIX_EPOCH).unwrap();
        (
            status.expected_pods,
            status.desired_healthy,
            status.disruptions_allowed,
        )
    };
    assert_eq!(spare(json!({"minAvailable": 3})), (4, 3, 1));
    assert_eq!(spare(json!({"maxUnavailable": "50%"})), (4, 2, 2));
    assert_eq!(spare(json!({"minAvailable": "100%"})), (4, 4, 0));
}
