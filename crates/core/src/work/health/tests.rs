use super::*;
use crate::work::manifest::parse;
use serde_json::json;

fn health(mut live: Value, pods: &[Value]) -> Option<Health> {
    if live["metadata"].is_null() {
        live["metadata"] = json!({"generation": 2});
    }
    live["metadata"]["name"] = json!("web");
    let gvk = parse(&live).expect("it is an object").gvk;
    of(&gvk, &live, pods)
}

/// `-`: nothing is known; `good`; `waits REASON`; `bad REASON`, and a part of the message.
#[track_caller]
fn check(live: Value, pods: &[Value], expected: &str, part: &str) {
    let (told, message) = match health(live, pods) {
        None => ("-".to_owned(), String::new()),
        Some(Health::Good) => ("good".to_owned(), String::new()),
        Some(Health::Waits(why)) => (format!("waits {}", why.reason), why.message),
        Some(Health::Bad(why)) => (format!("bad {}", why.reason), why.message),
    };
    assert_eq!(told, expected, "{message}");
    assert!(message.contains(part), "{message}");
}

fn deployment(status: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 2}, "status": status})
}

fn crashing() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-1"},
        "status": {"phase": "Running", "containerStatuses": [{
            "name": "app", "restartCount": 4, "lastState": {"terminated": {"exitCode": 3}},
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s\nrestarting"}}}]},
    })
}

#[test]
fn deployments() {
    let rolled = |available: i64| {
        json!({
            "observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": available,
            "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}],
        })
    };
    check(deployment(rolled(2)), &[], "good", "");
    check(
        deployment(rolled(1)),
        &[],
        "bad DeploymentUnavailable",
        "1 of 2 replicas are available",
    );
    check(
        deployment(json!({"observedGeneration": 1})),
        &[],
        "waits NotObserved",
        "",
    );
    let rolling = || json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1});
    check(
        deployment(rolling()),
        &[],
        "waits DeploymentProgressing",
        "0 of 2",
    );
    check(
        deployment(rolling()),
        &[crashing()],
        "bad CrashLoopBackOff",
        "0 of 2 replicas are available, 1 are up to date; pod web-1: container app waits (CrashLoopBackOff), restarted 4 times, last with exit code 3: back-off 40s restarting",
    );
    let given_up = json!({"observedGeneration": 2, "conditions": [
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}]});
    check(
        deployment(given_up),
        &[],
        "bad ProgressDeadlineExceeded",
        "timed out",
    );
    let quota = json!({"observedGeneration": 2, "conditions": [
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}]});
    check(
        deployment(quota),
        &[crashing()],
        "bad ReplicaFailure",
        "FailedCreate: exceeded quota",
    );
    let off = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 0}, "status": {"observedGeneration": 2}});
    check(off, &[], "good", "");
}

#[test]
fn other_workloads() {
    let set = |ready: i64| json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": {"replicas": 3}, "status": {"observedGeneration": 2, "readyReplicas": ready}});
    check(set(3), &[], "good", "");
    check(set(1), &[], "waits StatefulSetProgressing", "1 of 3");
    check(set(1), &[crashing()], "bad CrashLoopBackOff", "web-1");
    let daemons = |available: i64| {
        json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "status": {
        "observedGeneration": 2, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": available}})
    };
    check(daemons(2), &[], "good", "");
    check(daemons(0), &[], "waits DaemonSetProgressing", "0 of 2");
    let job = |status: Value| json!({"apiVersion": "batch/v1", "kind": "Job", "status": status});
    check(
        job(json!({"active": 1})),
        &[],
        "waits JobRunning",
        "1 pods run",
    );
    check(
        job(json!({"active": 1})),
        &[crashing()],
        "bad CrashLoopBackOff",
        "web-1",
    );
    check(
        job(json!({"conditions": [{"type": "Complete", "status": "True"}]})),
        &[],
        "good",
        "",
    );
    let failed = json!({"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too often"}]});
    check(
        job(failed),
        &[],
        "bad JobFailed",
        "BackoffLimitExceeded: too often",
    );
}

#[test]
fn pods_alone() {
    let pod = |status: Value| json!({"apiVersion": "v1", "kind": "Pod", "status": status});
    check(
        pod(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})),
        &[],
        "good",
        "",
    );
    check(pod(json!({"phase": "Succeeded"})), &[], "good", "");
    check(
        pod(json!({"phase": "Failed", "reason": "Evicted", "message": "no disk"})),
        &[],
        "bad Evicted",
        "no disk",
    );
    check(
        pod(json!({"phase": "Failed"})),
        &[],
        "bad PodFailed",
        "it failed",
    );
    check(crashing(), &[], "bad CrashLoopBackOff", "exit code 3");
    let starting = json!({"phase": "Pending", "containerStatuses": [{"name": "a", "state": {"waiting": {"reason": "ContainerCreating"}}}]});
    check(pod(starting), &[], "waits PodNotReady", "");
    let nowhere = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]});
    check(pod(nowhere), &[], "bad PodUnschedulable", "0/3 nodes");
}

#[test]
fn other_kinds() {
    check(
        json!({"apiVersion": "v1", "kind": "ConfigMap"}),
        &[],
        "-",
        "",
    );
    let claim = |phase: &str| json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "status": {"phase": phase}});
    check(claim("Bound"), &[], "good", "");
    check(
        claim("Pending"),
        &[],
        "waits PersistentVolumeClaimPending",
        "",
    );
    check(claim("Lost"), &[], "bad PersistentVolumeClaimLost", "");
    let custom = |conditions: Value| json!({"apiVersion": "example.com/v1", "kind": "Thing", "status": {"conditions": conditions}});
    check(custom(json!([])), &[], "-", "");
    check(
        custom(json!([{"type": "Ready", "status": "True"}])),
        &[],
        "good",
        "",
    );
    check(
        custom(
            json!([{"type": "Ready", "status": "False", "reason": "NoQuota", "message": "sold out"}]),
        ),
        &[],
        "waits NoQuota",
        "sold out",
    );
    check(
        custom(
            json!([{"type": "Ready", "status": "True"}, {"type": "Degraded", "status": "True", "reason": "not a reason"}]),
        ),
        &[],
        "bad NotReady",
        "not a reason",
    );
    let leaving = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b"]}});
    check(leaving, &[], "waits Terminating", "a/b");
    let service = json!({"apiVersion": "v1", "kind": "Service", "spec": {"type": "LoadBalancer"}});
    check(service, &[], "waits LoadBalancerPending", "");
}

#[test]
fn pods_are_asked_for_where_they_explain_something() {
    let gvk = |kind: &str| Gvk {
        group: "apps".to_owned(),
        version: "v1".to_owned(),
        kind: kind.to_owned(),
    };
    let mut live = deployment(json!({"observedGeneration": 2}));
    live["metadata"] = json!({"namespace": "shop", "generation": 2});
    live["spec"]["selector"] = json!({"matchLabels": {"tier": "web", "app": "shop"}});
    let wanted = Pods {
        namespace: "shop".to_owned(),
        selector: "app=shop,tier=web".to_owned(),
    };
    assert_eq!(pods(&gvk("Deployment"), &live), Some(wanted));
    live["status"] = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
    assert_eq!(pods(&gvk("Deployment"), &live), None);
    assert_eq!(pods(&gvk("ControllerRevision"), &live), None);
}
