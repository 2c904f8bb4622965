//! Pods, alone and behind a workload.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Health, Why, condition, cut, is_reason, list, number, text};
use crate::work::manifest::Gvk;

/// Waiting reasons that are no more than a start.
const STARTS: [&str; 3] = ["", "ContainerCreating", "PodInitializing"];

/// The pods that tell why a workload is not healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pods {
    /// Their namespace.
    pub namespace: String,
    /// Their labels, as a label selector writes them.
    pub selector: String,
}

/// Which pods must be looked at to tell the health of this object; none when it is well, or has no pods.
pub fn pods(gvk: &Gvk, live: &Value) -> Option<Pods> {
    let group_and_kind = (gvk.group.as_str(), gvk.kind.as_str());
    let has_pods = matches!(
        group_and_kind,
        (
            "apps",
            "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet"
        ) | ("batch", "Job")
    );
    if !has_pods || super::of(gvk, live, &[]) == Some(Health::Good) {
        return None;
    }
    // Expressions are rare in selectors of workloads; without them the labels of the selector say it all.
    let labels: BTreeMap<&str, &str> = live
        .pointer("/spec/selector/matchLabels")?
        .as_object()?
        .iter()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
        .collect();
    let selector: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    (!selector.is_empty()).then(|| Pods {
        namespace: text(live, "/metadata/namespace").to_owned(),
        selector: selector.join(","),
    })
}

/// What is wrong with the first pod of a workload that is wrong.
pub(super) fn wrong(pods: &[Value]) -> Option<Why> {
    pods.iter().find_map(|it| match pod(it) {
        Health::Bad(why) => Some(Why {
            reason: why.reason,
            message: format!("pod {}: {}", text(it, "/metadata/name"), why.message),
        }),
        Health::Good | Health::Waits(_) => None,
    })
}

pub(super) fn pod(live: &Value) -> Health {
    match text(live, "/status/phase") {
        "Succeeded" => return Health::Good,
        "Failed" => {
            let reason = Some(text(live, "/status/reason")).filter(|reason| is_reason(reason));
            let message = cut(text(live, "/status/message"));
            let message = if message.is_empty() {
                "it failed".to_owned()
            } else {
                message
            };
            return Health::bad(reason.unwrap_or("PodFailed"), message);
        }
        _ => (),
    }
    let mut containers = list(live, "/status/initContainerStatuses")
        .iter()
        .chain(list(live, "/status/containerStatuses"));
    if let Some(why) = containers.find_map(container) {
        return Health::Bad(why);
    }
    if let Some(scheduled) = condition(live, "PodScheduled").filter(|it| it.status == "False") {
        return Health::bad("PodUnschedulable", scheduled.quote());
    }
    match condition(live, "Ready") {
        Some(ready) if ready.status == "True" => Health::Good,
        Some(ready) => Health::waits("PodNotReady", ready.quote()),
        None => Health::waits("PodNotReady", "it has not started yet"),
    }
}

/// What is wrong with a container, if anything.
fn container(status: &Value) -> Option<Why> {
    let waiting = status.pointer("/state/waiting")?;
    let reason = text(waiting, "/reason");
    if STARTS.contains(&reason) {
        return None;
    }
    let reason = if is_reason(reason) {
        reason
    } else {
        "ContainerWaits"
    };
    let name = text(status, "/name");
    let restarts = number(status, "/restartCount").unwrap_or(0);
    let last = status
        .pointer("/lastState/terminated")
        .and_then(|it| number(it, "/exitCode"));
    let last = last.map_or_else(String::new, |code| format!(", last with exit code {code}"));
    let message = cut(text(waiting, "/message"));
    let message = if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    };
    let restarts = if restarts > 0 {
        format!(", restarted {restarts} times{last}")
    } else {
        String::new()
    };
    Some(Why::new(
        reason,
        format!("container {name} waits ({reason}){restarts}{message}"),
    ))
}
