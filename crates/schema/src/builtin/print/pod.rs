//! Pods: what their containers add up to.

use serde_json::Value;

use super::{NONE, Row, number, or};
use crate::builtin::edit::{items, text};
use crate::builtin::time;

/// Counts over the containers of a pod.
#[derive(Default)]
struct Sum<'a> {
    ready: i64,
    restarts: i64,
    last_restart: Option<&'a Value>,
}

impl<'a> Sum<'a> {
    fn add(&mut self, container: &'a Value) {
        self.restarts += number(&container["restartCount"]);
        let finished = &container["lastState"]["terminated"]["finishedAt"];
        let at = |value: &Value| value.as_str().and_then(time::parse);
        if at(finished).is_some() && self.last_restart.and_then(at) < at(finished) {
            self.last_restart = Some(finished);
        }
    }
}

/// What a container that ended says of itself.
fn ended(terminated: &Value) -> String {
    match (text(&terminated["reason"]), number(&terminated["signal"])) {
        ("", 0) => format!("ExitCode:{}", number(&terminated["exitCode"])),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

impl Row<'_> {
    pub(super) fn pod(self) -> Vec<Value> {
        let (spec, status) = (&self.object["spec"], &self.object["status"]);
        let phase = text(&status["phase"]);
        let mut reason = or(&status["reason"], phase)
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let conditions = items(&status["conditions"]);
        let gated =
            |held: &&Value| held["type"] == "PodScheduled" && held["reason"] == "SchedulingGated";
        if conditions.iter().find(gated).is_some() {
            "SchedulingGated".clone_into(&mut reason);
        }
        let sidecar = |name: &Value| {
            items(&spec["initContainers"]).iter().any(|container| {
                container["name"] == *name && container["restartPolicy"] == "Always"
            })
        };
        let sidecars = items(&spec["initContainers"])
            .iter()
            .filter(|init| init["restartPolicy"] == "Always")
            .count();
        let total = items(&spec["containers"]).len() + sidecars;

        let (mut all, mut beside) = (Sum::default(), Sum::default());
        let mut initializing = false;
        for (index, container) in items(&status["initContainerStatuses"]).iter().enumerate() {
            all.add(container);
            let stays = sidecar(&container["name"]);
            if stays {
                beside.add(container);
            }
            let (ended_state, waiting) = (
                &container["state"]["terminated"],
                &container["state"]["waiting"],
            );
            if ended_state.is_object() && number(&ended_state["exitCode"]) == 0 {
                continue;
            }
            if stays && container["started"] == true {
                beside.ready += i64::from(container["ready"] == true);
                continue;
            }
            reason = match text(&waiting["reason"]) {
                _ if ended_state.is_object() => format!("Init:{}", ended(ended_state)),
                "" | "PodInitializing" => {
                    format!("Init:{index}/{}", items(&spec["initContainers"]).len())
                }
                why => format!("Init:{why}"),
            };
            initializing = true;
            break;
        }
        let holds = |kind: &str| {
            conditions
                .iter()
                .any(|held| held["type"] == kind && held["status"] == "True")
        };
        let ready = beside.ready;
        let mut sum = all;
        sum.ready = ready;
        if !initializing || holds("Initialized") {
            sum = beside;
            reason = self.running(&mut sum, reason, holds("Ready"));
        }
        if !self.object["metadata"]["deletionTimestamp"].is_null() {
            if status["reason"] == "NodeLost" {
                "Unknown".clone_into(&mut reason);
            } else if !matches!(phase, "Failed" | "Succeeded") {
                "Terminating".clone_into(&mut reason);
            }
        }
        let restarts = match sum.last_restart {
            Some(at) if sum.restarts != 0 => format!("{} ({} ago)", sum.restarts, self.since(at)),
            _ => sum.restarts.to_string(),
        };
        let gates = items(&spec["readinessGates"]);
        let open = gates
            .iter()
            .filter(|gate| holds(text(&gate["conditionType"])))
            .count();
        let gates = if gates.is_empty() {
            NONE.to_owned()
        } else {
            format!("{open}/{}", gates.len())
        };
        vec![
            self.object["metadata"]["name"].clone(),
            Value::from(format!("{}/{total}", sum.ready)),
            Value::from(reason),
            Value::from(restarts),
            self.age(),
            or(&status["podIPs"][0]["ip"], NONE),
            or(&spec["nodeName"], NONE),
            or(&status["nominatedNodeName"], NONE),
            Value::from(gates),
        ]
    }

    /// Adds the containers of a pod whose init containers are done; the answer is its reason.
    fn running<'a>(&'a self, sum: &mut Sum<'a>, before: String, pod_ready: bool) -> String {
        let mut reason = before;
        let mut running = false;
        let mut failed = None;
        for container in items(&self.object["status"]["containerStatuses"])
            .iter()
            .rev()
        {
            sum.add(container);
            let state = &container["state"];
            let waiting = text(&state["waiting"]["reason"]);
            if !waiting.is_empty() {
                waiting.clone_into(&mut reason);
            } else if state["terminated"].is_object() {
                reason = ended(&state["terminated"]);
                if number(&state["terminated"]["exitCode"]) != 0 {
                    failed = Some(reason.clone());
                }
            } else if container["ready"] == true && state["running"].is_object() {
                running = true;
                sum.ready += 1;
            }
        }
        if reason == "Completed" {
            match failed {
                _ if running && pod_ready => "Running".clone_into(&mut reason),
                Some(failed) => reason = failed,
                None if running => "NotReady".clone_into(&mut reason),
                None => {}
            }
        }
        reason
    }
}
