//! Workloads: what makes pods.

use serde_json::Value;

use super::{Health, Why, condition, number, pods, text};

/// What its pods say where they say that it will not get there by itself, or else what the workload says.
fn judged(pods: &[Value], otherwise: Health) -> Health {
    let (Health::Waits(told) | Health::Bad(told)) = otherwise.clone() else {
        return otherwise;
    };
    match pods::wrong(pods) {
        Some(why) => Health::Bad(Why {
            message: format!("{}; {}", told.message, why.message),
            ..why
        }),
        None => otherwise,
    }
}

fn unseen(live: &Value) -> bool {
    number(live, "/status/observedGeneration") < number(live, "/metadata/generation")
}

const NOT_OBSERVED: &str = "its controller has not seen the newest version";

pub(super) fn deployment(live: &Value, pods: &[Value]) -> Health {
    if unseen(live) {
        return Health::waits("NotObserved", NOT_OBSERVED);
    }
    let wanted = number(live, "/spec/replicas").unwrap_or(1);
    let [updated, available] = ["/status/updatedReplicas", "/status/availableReplicas"]
        .map(|at| number(live, at).unwrap_or(0));
    let all = number(live, "/status/replicas").unwrap_or(0);
    let counts =
        format!("{available} of {wanted} replicas are available, {updated} are up to date");
    let progressing = condition(live, "Progressing");
    let gave_up = progressing.as_ref().is_some_and(|it| it.status == "False");
    if let (true, Some(progressing)) = (gave_up, &progressing) {
        return judged(
            pods,
            Health::bad(
                "ProgressDeadlineExceeded",
                format!("{counts}: {}", progressing.quote()),
            ),
        );
    }
    if let Some(failure) = condition(live, "ReplicaFailure").filter(|it| it.status == "True") {
        return Health::bad("ReplicaFailure", format!("{counts}: {}", failure.quote()));
    }
    if updated >= wanted && available >= wanted && all <= updated.max(wanted) {
        return Health::Good;
    }
    // A rollout that had come to its end and lost pods again is no rollout.
    let rolled_out =
        progressing.is_some_and(|it| it.reason == "NewReplicaSetAvailable") && updated >= wanted;
    let told = if rolled_out && available < wanted {
        Health::bad("DeploymentUnavailable", counts)
    } else {
        Health::waits("DeploymentProgressing", counts)
    };
    judged(pods, told)
}

pub(super) fn stateful_set(live: &Value, pods: &[Value]) -> Health {
    if unseen(live) {
        return Health::waits("NotObserved", NOT_OBSERVED);
    }
    let wanted = number(live, "/spec/replicas").unwrap_or(1);
    let ready = number(live, "/status/readyReplicas").unwrap_or(0);
    let on_delete = text(live, "/spec/updateStrategy/type") == "OnDelete";
    let partition = number(live, "/spec/updateStrategy/rollingUpdate/partition").unwrap_or(0);
    let old = text(live, "/status/currentRevision") != text(live, "/status/updateRevision");
    let updated = number(live, "/status/updatedReplicas").unwrap_or(0);
    let rolls = old && !on_delete && updated < wanted.saturating_sub(partition);
    if ready >= wanted && !rolls {
        return Health::Good;
    }
    let counts = format!("{ready} of {wanted} replicas are ready, {updated} are up to date");
    judged(pods, Health::waits("StatefulSetProgressing", counts))
}

pub(super) fn daemon_set(live: &Value, pods: &[Value]) -> Health {
    if unseen(live) {
        return Health::waits("NotObserved", NOT_OBSERVED);
    }
    let wanted = number(live, "/status/desiredNumberScheduled").unwrap_or(0);
    let [updated, available] = ["/status/updatedNumberScheduled", "/status/numberAvailable"]
        .map(|at| number(live, at).unwrap_or(0));
    let on_delete = text(live, "/spec/updateStrategy/type") == "OnDelete";
    if available >= wanted && (on_delete || updated >= wanted) {
        return Health::Good;
    }
    let counts = format!("{available} of {wanted} pods are available, {updated} are up to date");
    judged(pods, Health::waits("DaemonSetProgressing", counts))
}

pub(super) fn replica_set(live: &Value, pods: &[Value]) -> Health {
    if unseen(live) {
        return Health::waits("NotObserved", NOT_OBSERVED);
    }
    let wanted = number(live, "/spec/replicas").unwrap_or(1);
    let available = number(live, "/status/availableReplicas").unwrap_or(0);
    if let Some(failure) = condition(live, "ReplicaFailure").filter(|it| it.status == "True") {
        return Health::bad("ReplicaFailure", failure.quote());
    }
    if available >= wanted {
        return Health::Good;
    }
    let counts = format!("{available} of {wanted} replicas are available");
    judged(pods, Health::waits("ReplicaSetProgressing", counts))
}

pub(super) fn job(live: &Value, pods: &[Value]) -> Health {
    let is = |type_: &str| condition(live, type_).filter(|it| it.status == "True");
    if let Some(failed) = is("Failed") {
        return Health::bad("JobFailed", failed.quote());
    }
    if is("Complete").is_some()
        || is("Suspended").is_some()
        || live.pointer("/spec/suspend") == Some(&Value::Bool(true))
    {
        return Health::Good;
    }
    if let Some(failing) = is("FailureTarget") {
        return Health::bad("JobFailed", failing.quote());
    }
    let [active, succeeded, failed] = ["active", "succeeded", "failed"]
        .map(|of| number(live, &format!("/status/{of}")).unwrap_or(0));
    let counts = format!("{active} pods run, {succeeded} succeeded, {failed} failed");
    judged(pods, Health::waits("JobRunning", counts))
}
