//! Deployments: replica sets that take each other's place.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt;

use crate::template::{self, controlled_by, label, resolve};

const HASH_LABEL: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";
const DEFAULT_DEADLINE_SECONDS: i32 = 600;
const DEFAULT_HISTORY: i32 = 10;

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Make this replica set.
    Create(Box<ReplicaSet>),
    /// Let a replica set have so many pods.
    Scale(String, i32),
    /// Delete the replica set of this name.
    Delete(String),
    /// Report this.
    SetStatus(Box<DeploymentStatus>),
    /// Look again at this time.
    WakeAt(Timestamp),
}

/// What to do: `sets` are the replica sets that the deployment controls.
pub(crate) fn plan(deployment: &Deployment, sets: &[&ReplicaSet], now: Timestamp) -> Vec<Action> {
    let Some(spec) = &deployment.spec else {
        return Vec::new();
    };
    let mut actions = Vec::new();
    let hash = template::hash(&spec.template);
    let (new, old): (Vec<_>, Vec<_>) = sets
        .iter()
        .partition(|set| label(&set.metadata, HASH_LABEL) == hash);
    let new = new.first().copied();
    if deployment.metadata.deletion_timestamp.is_none() {
        if spec.paused != Some(true) || new.is_some() {
            roll(deployment, spec, &hash, new, &old, &mut actions);
        }
        clean(spec, &old, &mut actions);
    }
    let (status, deadline) = report(deployment, spec, new, sets, now);
    if deployment.status.as_ref() != Some(&status) {
        actions.push(Action::SetStatus(Box::new(status)));
    }
    actions.extend(deadline.map(Action::WakeAt));
    actions
}

fn roll(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    hash: &str,
    new: Option<&ReplicaSet>,
    old: &[&ReplicaSet],
    actions: &mut Vec<Action>,
) {
    let wanted = spec.replicas.unwrap_or(1).max(0);
    let strategy = spec.strategy.as_ref();
    let recreate = strategy.and_then(|s| s.type_.as_deref()) == Some("Recreate");
    let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
    let surge = resolve(rolling.and_then(|r| r.max_surge.as_ref()), wanted, true, 1);
    let mut unavailable = resolve(
        rolling.and_then(|r| r.max_unavailable.as_ref()),
        wanted,
        false,
        0,
    );
    if surge == 0 && unavailable == 0 {
        unavailable = 1;
    }
    let left: i32 = old.iter().map(|set| pods_of(set)).sum();
    let have = new.map_or(0, wanted_of);
    let next = if recreate {
        if left > 0 { have } else { wanted }
    } else if left == 0 {
        wanted
    } else {
        wanted.min((wanted + surge - left).max(have))
    };
    match new {
        None => actions.push(Action::Create(Box::new(replica_set(
            deployment, spec, hash, next, old,
        )))),
        Some(set) if wanted_of(set) != next => actions.push(Action::Scale(set.name_any(), next)),
        Some(_) => {}
    }
    // Old pods go as soon as enough pods are ready without them; those that are not ready go first.
    // A set that was told to shrink counts for what it will be, not for what it still reports.
    let sure = |set: &ReplicaSet| ready_of(set).min(wanted_of(set));
    let ready: i32 = new.map_or(0, sure) + old.iter().map(|set| sure(set)).sum::<i32>();
    let mut spare = if recreate {
        i32::MAX
    } else {
        (ready - (wanted - unavailable)).max(0)
    };
    for set in old {
        let (has, unready) = (wanted_of(set), (wanted_of(set) - ready_of(set)).max(0));
        let take = (has - unready).min(spare);
        spare -= take;
        let keep = has - unready - take;
        if keep != has {
            actions.push(Action::Scale(set.name_any(), keep));
        }
    }
}

fn clean(spec: &DeploymentSpec, old: &[&ReplicaSet], actions: &mut Vec<Action>) {
    let keep = usize::try_from(spec.revision_history_limit.unwrap_or(DEFAULT_HISTORY)).unwrap_or(0);
    let mut idle: Vec<&&ReplicaSet> = old
        .iter()
        .filter(|set| wanted_of(set) == 0 && pods_of(set) == 0)
        .collect();
    idle.sort_by_key(|set| std::cmp::Reverse(revision(&set.metadata)));
    actions.extend(
        idle.iter()
            .skip(keep)
            .map(|set| Action::Delete(set.name_any())),
    );
}

fn replica_set(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    hash: &str,
    replicas: i32,
    old: &[&ReplicaSet],
) -> ReplicaSet {
    let mut template = spec.template.clone();
    let labels = template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    let labels = labels.clone();
    let mut selector = spec.selector.clone();
    selector
        .match_labels
        .get_or_insert_default()
        .insert(HASH_LABEL.to_owned(), hash.to_owned());
    let mut annotations = deployment.metadata.annotations.clone().unwrap_or_default();
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    let latest = old
        .iter()
        .map(|set| revision(&set.metadata))
        .max()
        .unwrap_or(0);
    annotations.insert(REVISION.to_owned(), (latest + 1).to_string());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.name_any())),
            namespace: deployment.namespace(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![controlled_by(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

fn report(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    new: Option<&ReplicaSet>,
    sets: &[&ReplicaSet],
    now: Timestamp,
) -> (DeploymentStatus, Option<Timestamp>) {
    let wanted = spec.replicas.unwrap_or(1).max(0);
    let some = |count: i32| Some(count).filter(|count| *count > 0);
    let total: i32 = sets.iter().map(|set| pods_of(set)).sum();
    let ready: i32 = sets.iter().map(|set| ready_of(set)).sum();
    let updated = new.map_or(0, pods_of);
    let rolling = spec
        .strategy
        .as_ref()
        .and_then(|s| s.rolling_update.as_ref());
    let spare = resolve(
        rolling.and_then(|r| r.max_unavailable.as_ref()),
        wanted,
        false,
        0,
    );
    let done = updated == wanted && total == wanted && ready == wanted && new.is_some();
    let known = deployment.status.as_ref();
    let available = if ready >= wanted - spare {
        (
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.".to_owned(),
        )
    } else {
        (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.".to_owned(),
        )
    };
    let set_name = new.map(ResourceExt::name_any).unwrap_or_default();
    let moved = known.is_none_or(|k| {
        k.updated_replicas.unwrap_or(0) != updated
            || k.ready_replicas.unwrap_or(0) != ready
            || k.observed_generation != deployment.metadata.generation
    });
    let (progress, deadline) = progressing(spec, known, done, moved, &set_name, now);
    let status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(total),
        updated_replicas: some(updated),
        ready_replicas: some(ready),
        available_replicas: some(ready),
        unavailable_replicas: some((wanted.max(total) - ready).max(0)),
        conditions: Some(vec![
            condition(known, "Available", available, moved, now),
            condition(known, "Progressing", progress, moved, now),
        ]),
        ..DeploymentStatus::default()
    };
    (status, deadline)
}

type Words = (&'static str, &'static str, String);

fn progressing(
    spec: &DeploymentSpec,
    known: Option<&DeploymentStatus>,
    done: bool,
    moved: bool,
    set: &str,
    now: Timestamp,
) -> (Words, Option<Timestamp>) {
    if done {
        return (
            (
                "True",
                "NewReplicaSetAvailable",
                format!("ReplicaSet \"{set}\" has successfully progressed."),
            ),
            None,
        );
    }
    let last = find(known, "Progressing")
        .and_then(|c| c.last_update_time.as_ref())
        .map(|time| time.0);
    let since = if moved { now } else { last.unwrap_or(now) };
    let limit = i64::from(
        spec.progress_deadline_seconds
            .unwrap_or(DEFAULT_DEADLINE_SECONDS),
    );
    let deadline = since
        .saturating_add(jiff::SignedDuration::from_secs(limit))
        .unwrap_or(Timestamp::MAX);
    // What timed out stays so until something moves.
    let timed_out = find(known, "Progressing").is_some_and(|c| c.status == "False");
    if now >= deadline || (timed_out && !moved) {
        return (
            (
                "False",
                "ProgressDeadlineExceeded",
                format!("ReplicaSet \"{set}\" has timed out progressing."),
            ),
            None,
        );
    }
    (
        (
            "True",
            "ReplicaSetUpdated",
            format!("ReplicaSet \"{set}\" is progressing."),
        ),
        Some(deadline),
    )
}

fn condition(
    known: Option<&DeploymentStatus>,
    type_: &str,
    words: Words,
    moved: bool,
    now: Timestamp,
) -> DeploymentCondition {
    let (status, reason, message) = words;
    let before = find(known, type_);
    let same = before.is_some_and(|c| c.status == status);
    let unchanged = before.is_some_and(|c| {
        c.reason.as_deref() == Some(reason) && c.message.as_deref() == Some(message.as_str())
    });
    DeploymentCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: before
            .filter(|_| same)
            .and_then(|c| c.last_transition_time.clone())
            .or(Some(Time(now))),
        last_update_time: before
            .filter(|_| same && unchanged && !moved)
            .and_then(|c| c.last_update_time.clone())
            .or(Some(Time(now))),
    }
}

fn find<'s>(status: Option<&'s DeploymentStatus>, type_: &str) -> Option<&'s DeploymentCondition> {
    status
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default()
        .iter()
        .find(|c| c.type_ == type_)
}

fn wanted_of(set: &ReplicaSet) -> i32 {
    set.spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1)
}

fn pods_of(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

fn ready_of(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|status| status.ready_replicas)
        .unwrap_or(0)
}

fn revision(meta: &ObjectMeta) -> i64 {
    let text = meta.annotations.as_ref().and_then(|a| a.get(REVISION));
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}
