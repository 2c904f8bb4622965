//! Replica sets: so many pods of one template.

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use kube::ResourceExt;

use crate::fault;
use crate::template::{self, is_active, is_ready, suffix};

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Make this pod.
    Create(Box<Pod>),
    /// Delete the pod of this name.
    Delete(String),
    /// Report this.
    SetStatus(ReplicaSetStatus),
}

/// What to do: `pods` are those that the set controls.
pub(crate) fn plan(set: &ReplicaSet, pods: &[&Pod]) -> Vec<Action> {
    let mut actions = Vec::new();
    let wanted = wanted(set);
    if set.metadata.deletion_timestamp.is_none() {
        fill(set, pods, wanted, &mut actions);
    }
    let active: Vec<&&Pod> = pods.iter().filter(|pod| is_active(pod)).collect();
    let count = |test: &dyn Fn(&Pod) -> bool| {
        Some(i32::try_from(active.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX))
            .filter(|n| *n > 0)
    };
    let status = ReplicaSetStatus {
        replicas: count(&|_| true).unwrap_or(0),
        fully_labeled_replicas: count(&|_| true),
        ready_replicas: count(&is_ready),
        available_replicas: count(&is_ready),
        observed_generation: set.metadata.generation,
        ..ReplicaSetStatus::default()
    };
    if set.status.as_ref() != Some(&status) {
        actions.push(Action::SetStatus(status));
    }
    actions
}

fn wanted(set: &ReplicaSet) -> i32 {
    set.spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1)
        .max(0)
}

fn fill(set: &ReplicaSet, pods: &[&Pod], wanted: i32, actions: &mut Vec<Action>) {
    let names: Vec<String> = (0..wanted).map(|place| pod_name(set, place)).collect();
    let empty = PodTemplateSpec::default();
    let template = set
        .spec
        .as_ref()
        .and_then(|spec| spec.template.as_ref())
        .unwrap_or(&empty);
    for name in &names {
        if !pods.iter().any(|pod| pod.name_any() == *name) {
            let pod = template::pod(
                set,
                name.clone(),
                template,
                &[],
                fault::inherited(&set.metadata),
            );
            actions.push(Action::Create(Box::new(pod)));
        }
    }
    for pod in pods {
        let name = pod.name_any();
        let over = !is_active(pod) && pod.metadata.deletion_timestamp.is_none();
        if over || (!names.contains(&name) && pod.metadata.deletion_timestamp.is_none()) {
            actions.push(Action::Delete(name));
        }
    }
}

fn pod_name(set: &ReplicaSet, place: i32) -> String {
    format!(
        "{}-{}",
        set.name_any(),
        suffix((set.uid().unwrap_or_default(), place), 5)
    )
}
