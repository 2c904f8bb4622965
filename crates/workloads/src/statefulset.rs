//! Stateful sets: pods with names and claims that stay.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, Volume,
};
use kube::ResourceExt;

use crate::fault;
use crate::template::{self, is_ready, label};

const REVISION_LABEL: &str = "controller-revision-hash";
const POD_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Make this claim unless it is there.
    Claim(Box<PersistentVolumeClaim>),
    /// Make this pod.
    Create(Box<Pod>),
    /// Delete the pod of this name.
    Delete(String),
    /// Report this.
    SetStatus(Box<StatefulSetStatus>),
}

/// What to do: `pods` are those that the set controls.
pub(crate) fn plan(set: &StatefulSet, pods: &[&Pod]) -> Vec<Action> {
    let Some(spec) = &set.spec else {
        return Vec::new();
    };
    let mut actions = Vec::new();
    let revision = format!("{}-{}", set.name_any(), template::hash(&spec.template));
    let wanted = spec.replicas.unwrap_or(1).max(0);
    if set.metadata.deletion_timestamp.is_none() {
        let order = Order {
            set,
            spec,
            pods,
            revision: &revision,
            wanted,
        };
        order.step(&mut actions);
    }
    let status = report(set, pods, &revision, wanted);
    if set.status.as_ref() != Some(&status) {
        actions.push(Action::SetStatus(Box::new(status)));
    }
    actions
}

struct Order<'a> {
    set: &'a StatefulSet,
    spec: &'a StatefulSetSpec,
    pods: &'a [&'a Pod],
    revision: &'a str,
    wanted: i32,
}

impl Order<'_> {
    /// Pods come and go one after the other unless the set says `Parallel`.
    fn step(&self, actions: &mut Vec<Action>) {
        let parallel = self.spec.pod_management_policy.as_deref() == Some("Parallel");
        for place in 0..self.wanted {
            match self.pod(place) {
                None => {
                    self.create(place, actions);
                    if !parallel {
                        return;
                    }
                }
                Some(pod)
                    if !parallel
                        && (!is_ready(pod) || terminating(pod))
                        && !self.outdated(place, pod) =>
                {
                    return;
                }
                Some(_) => {}
            }
        }
        let first = self
            .spec
            .ordinals
            .as_ref()
            .and_then(|o| o.start)
            .unwrap_or(0);
        let mut surplus: Vec<(i32, &Pod)> = self
            .pods
            .iter()
            .filter_map(|pod| Some((ordinal(self.set, pod)? - first, *pod)))
            .filter(|(place, _)| !(0..self.wanted).contains(place))
            .collect();
        surplus.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
        for (_, pod) in surplus {
            if !terminating(pod) {
                actions.push(Action::Delete(pod.name_any()));
            }
            if !parallel {
                return;
            }
        }
        self.update(actions);
    }

    /// The highest outdated pod goes first; the next one when its successor is ready.
    fn update(&self, actions: &mut Vec<Action>) {
        for place in (0..self.wanted).rev() {
            let Some(pod) = self.pod(place) else { return };
            if self.outdated(place, pod) {
                if !terminating(pod) {
                    actions.push(Action::Delete(pod.name_any()));
                }
                return;
            }
            if !is_ready(pod) || terminating(pod) {
                return;
            }
        }
    }

    fn outdated(&self, place: i32, pod: &Pod) -> bool {
        let strategy = self.spec.update_strategy.as_ref();
        if strategy.and_then(|s| s.type_.as_deref()) == Some("OnDelete") {
            return false;
        }
        let partition = strategy
            .and_then(|s| s.rolling_update.as_ref())
            .and_then(|r| r.partition)
            .unwrap_or(0);
        place >= partition && label(&pod.metadata, REVISION_LABEL) != self.revision
    }

    fn name(&self, place: i32) -> String {
        let first = self
            .spec
            .ordinals
            .as_ref()
            .and_then(|o| o.start)
            .unwrap_or(0);
        format!("{}-{}", self.set.name_any(), first + place)
    }

    fn pod(&self, place: i32) -> Option<&Pod> {
        let name = self.name(place);
        self.pods.iter().find(|pod| pod.name_any() == name).copied()
    }

    fn create(&self, place: i32, actions: &mut Vec<Action>) {
        let name = self.name(place);
        let index = name.rsplit('-').next().unwrap_or_default().to_owned();
        let labels = [
            (REVISION_LABEL, self.revision),
            (POD_LABEL, name.as_str()),
            (INDEX_LABEL, index.as_str()),
        ];
        let mut pod = template::pod(
            self.set,
            name.clone(),
            &self.spec.template,
            &labels,
            fault::inherited(&self.set.metadata),
        );
        let body = pod.spec.get_or_insert_default();
        body.hostname = Some(name.clone());
        body.subdomain = self
            .spec
            .service_name
            .clone()
            .filter(|service| !service.is_empty());
        for claim in self.spec.volume_claim_templates.iter().flatten() {
            let volume = claim.name_any();
            let mut made = claim.clone();
            made.metadata.name = Some(format!("{volume}-{name}"));
            made.metadata.namespace = self.set.namespace();
            made.metadata
                .labels
                .get_or_insert_default()
                .extend(self.spec.selector.match_labels.clone().unwrap_or_default());
            let volumes = body.volumes.get_or_insert_default();
            volumes.retain(|known| known.name != volume);
            volumes.push(Volume {
                name: volume,
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: made.name_any(),
                    read_only: None,
                }),
                ..Volume::default()
            });
            actions.push(Action::Claim(Box::new(made)));
        }
        actions.push(Action::Create(Box::new(pod)));
    }
}

fn report(set: &StatefulSet, pods: &[&Pod], revision: &str, wanted: i32) -> StatefulSetStatus {
    let count = |test: &dyn Fn(&Pod) -> bool| {
        i32::try_from(pods.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX)
    };
    let some = |count: i32| Some(count).filter(|count| *count > 0);
    let is_new = |pod: &Pod| label(&pod.metadata, REVISION_LABEL) == revision;
    let ready = count(&is_ready);
    let known = set.status.as_ref();
    let complete =
        count(&|pod| is_new(pod) && is_ready(pod)) == wanted && count(&|_| true) == wanted;
    let current = match known.and_then(|status| status.current_revision.clone()) {
        Some(current) if !complete => current,
        _ => revision.to_owned(),
    };
    StatefulSetStatus {
        observed_generation: set.metadata.generation,
        replicas: count(&|_| true),
        ready_replicas: some(ready),
        available_replicas: Some(ready),
        current_replicas: some(count(&|pod| {
            label(&pod.metadata, REVISION_LABEL) == current
        })),
        updated_replicas: some(count(&is_new)),
        current_revision: Some(current),
        update_revision: Some(revision.to_owned()),
        collision_count: Some(0),
        ..StatefulSetStatus::default()
    }
}

fn terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    pod.name_any()
        .strip_prefix(&format!("{}-", set.name_any()))?
        .parse()
        .ok()
}
