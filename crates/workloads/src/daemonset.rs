//! Daemon sets: one pod on each node.

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::fault;
use crate::template::{self, is_active, is_ready, label, suffix};

const HASH_LABEL: &str = "controller-revision-hash";
const GENERATION_LABEL: &str = "pod-template-generation";

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Make this pod.
    Create(Box<Pod>),
    /// Delete the pod of this name.
    Delete(String),
    /// Report this.
    SetStatus(Box<DaemonSetStatus>),
}

/// What to do: `pods` are those that the set controls, `nodes` the names of all nodes.
pub(crate) fn plan(set: &DaemonSet, pods: &[&Pod], nodes: &[String]) -> Vec<Action> {
    let Some(spec) = &set.spec else {
        return Vec::new();
    };
    let hash = template::hash(&spec.template);
    let generation = set.metadata.generation.unwrap_or(1).to_string();
    let mut actions = Vec::new();
    let on_delete = spec
        .update_strategy
        .as_ref()
        .and_then(|s| s.type_.as_deref())
        == Some("OnDelete");
    let name = |node: &str| {
        format!(
            "{}-{}",
            set.name_any(),
            suffix((set.uid().unwrap_or_default(), node), 5)
        )
    };
    if set.metadata.deletion_timestamp.is_none() {
        let mut replacing = false;
        for node in nodes {
            let wanted = name(node);
            match pods.iter().find(|pod| pod.name_any() == wanted) {
                None => {
                    let labels = [
                        (HASH_LABEL, hash.as_str()),
                        (GENERATION_LABEL, generation.as_str()),
                    ];
                    let inherited = fault::inherited(&set.metadata);
                    let mut pod = template::pod(set, wanted, &spec.template, &labels, inherited);
                    pod.spec.get_or_insert_default().node_name = Some(node.clone());
                    actions.push(Action::Create(Box::new(pod)));
                    replacing = true;
                }
                Some(pod) => {
                    let outdated = !on_delete && label(&pod.metadata, HASH_LABEL) != hash;
                    let dead = !is_active(pod);
                    let going = pod.metadata.deletion_timestamp.is_some();
                    if (dead || (outdated && !replacing)) && !going {
                        actions.push(Action::Delete(wanted));
                        replacing = true;
                    }
                    replacing |= going;
                }
            }
        }
        let kept: Vec<String> = nodes.iter().map(|node| name(node)).collect();
        let surplus = pods
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none());
        actions.extend(
            surplus
                .map(|pod| pod.name_any())
                .filter(|pod| !kept.contains(pod))
                .map(Action::Delete),
        );
    }
    let status = report(set, pods, nodes.len(), &hash);
    if set.status.as_ref() != Some(&status) {
        actions.push(Action::SetStatus(Box::new(status)));
    }
    actions
}

fn report(set: &DaemonSet, pods: &[&Pod], nodes: usize, hash: &str) -> DaemonSetStatus {
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let some = |count: i32| Some(count).filter(|count| *count > 0);
    let active = pods.iter().filter(|pod| is_active(pod)).count();
    let ready = number(
        pods.iter()
            .filter(|pod| is_active(pod) && is_ready(pod))
            .count(),
    );
    let updated = pods
        .iter()
        .filter(|pod| is_active(pod) && label(&pod.metadata, HASH_LABEL) == hash)
        .count();
    DaemonSetStatus {
        desired_number_scheduled: number(nodes),
        current_number_scheduled: number(active.min(nodes)),
        number_ready: ready,
        number_available: some(ready),
        number_unavailable: some(number(nodes) - ready),
        number_misscheduled: 0,
        updated_number_scheduled: some(number(updated)),
        observed_generation: set.metadata.generation,
        ..DaemonSetStatus::default()
    }
}
