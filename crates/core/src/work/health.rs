//! Whether what was applied does what it shall, beyond being there.
//!
//! OCM's Available says that an object exists. `Healthy` is a condition of Drover's own beside it, on manifests and on works: it names
//! the object that is wrong, and why. OCM passes it on and looks at it nowhere. Kinds of which nothing is known have no such condition.

mod pods;
mod workloads;

use serde_json::Value;

use super::manifest::Gvk;

pub use pods::{Pods, pods};

/// The longest message that is taken over from an object, in characters.
const MAX_QUOTE: usize = 256;

/// What is known of an object's health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does what it shall.
    Good,
    /// It may get there by itself.
    Waits(Why),
    /// It does not get there without help.
    Bad(Why),
}

/// What is wrong, or waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// The reason of the condition: CamelCase.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl Health {
    fn waits(reason: &str, message: impl Into<String>) -> Self {
        Self::Waits(Why::new(reason, message))
    }

    fn bad(reason: &str, message: impl Into<String>) -> Self {
        Self::Bad(Why::new(reason, message))
    }
}

impl Why {
    fn new(reason: &str, message: impl Into<String>) -> Self {
        Self {
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

/// The health of an object; none where nothing is known of its kind. `pods` are those that [`pods`] asked for.
pub fn of(gvk: &Gvk, live: &Value, pods: &[Value]) -> Option<Health> {
    if live.pointer("/metadata/deletionTimestamp").is_some() {
        let holds = list(live, "/metadata/finalizers")
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        return Some(Health::waits(
            "Terminating",
            format!("it is being deleted; finalizers: {holds}"),
        ));
    }
    let group_and_kind = (gvk.group.as_str(), gvk.kind.as_str());
    match group_and_kind {
        ("apps", "Deployment") => Some(workloads::deployment(live, pods)),
        ("apps", "StatefulSet") => Some(workloads::stateful_set(live, pods)),
        ("apps", "DaemonSet") => Some(workloads::daemon_set(live, pods)),
        ("apps", "ReplicaSet") | ("", "ReplicationController") => {
            Some(workloads::replica_set(live, pods))
        }
        ("batch", "Job") => Some(workloads::job(live, pods)),
        ("", "Pod") => Some(pods::pod(live)),
        ("", "PersistentVolumeClaim") => Some(claim(live)),
        ("", "Service") => service(live),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => Some(definition(live)),
        ("apiregistration.k8s.io", "APIService") => from_conditions(live, &["Available"], &[]),
        _ => from_conditions(
            live,
            &["Ready", "Available", "Healthy"],
            &["Degraded", "Failed", "Stalled"],
        ),
    }
}

fn claim(live: &Value) -> Health {
    match text(live, "/status/phase") {
        "Bound" => Health::Good,
        "Lost" => Health::bad("PersistentVolumeClaimLost", "its volume is gone"),
        _ => Health::waits("PersistentVolumeClaimPending", "it has no volume yet"),
    }
}

fn service(live: &Value) -> Option<Health> {
    let balanced = text(live, "/spec/type") == "LoadBalancer";
    balanced.then(|| {
        if list(live, "/status/loadBalancer/ingress").is_empty() {
            Health::waits(
                "LoadBalancerPending",
                "it has no address from a load balancer yet",
            )
        } else {
            Health::Good
        }
    })
}

fn definition(live: &Value) -> Health {
    let rejected = condition(live, "NamesAccepted").filter(|it| it.status == "False");
    match (rejected, condition(live, "Established")) {
        (Some(names), _) => Health::bad("NamesNotAccepted", names.quote()),
        (None, Some(established)) if established.status == "True" => Health::Good,
        (None, _) => Health::waits("NotEstablished", "it is not served yet"),
    }
}

/// The health of a kind that follows the conventions: some conditions are True when all is well, others when it is not.
fn from_conditions(live: &Value, good: &[&str], bad: &[&str]) -> Option<Health> {
    let stale = live
        .pointer("/status/observedGeneration")
        .and_then(Value::as_i64)
        < live.pointer("/metadata/generation").and_then(Value::as_i64);
    let known = live.pointer("/status/observedGeneration").is_some();
    let mut told = None;
    let bad = bad.iter().map(|type_| (*type_, "True"));
    for (type_, wrong) in bad.chain(good.iter().map(|type_| (*type_, "False"))) {
        let Some(found) = condition(live, type_) else {
            continue;
        };
        if found.status == wrong {
            let reason = if is_reason(found.reason) {
                found.reason
            } else {
                "NotReady"
            };
            let message = format!("{type_} is {wrong}: {}", found.quote());
            let bad = matches!(type_, "Degraded" | "Failed" | "Stalled");
            // What is not ready often is about to be; only a failure is told as one.
            return Some(if bad {
                Health::bad(reason, message)
            } else {
                Health::waits(reason, message)
            });
        }
        if wrong == "False" {
            told = Some(if found.status == "True" {
                Health::Good
            } else {
                Health::waits(
                    "NotReady",
                    format!("{type_} is {}: {}", found.status, found.quote()),
                )
            });
        }
    }
    told.map(|health| {
        if known && stale {
            Health::waits(
                "NotObserved",
                "its controller has not seen the newest version",
            )
        } else {
            health
        }
    })
}

/// A condition of an object.
struct Found<'o> {
    status: &'o str,
    reason: &'o str,
    message: &'o str,
}

impl Found<'_> {
    /// Reason and message for people.
    fn quote(&self) -> String {
        match (self.reason, self.message) {
            ("", message) => cut(message),
            (reason, "") => reason.to_owned(),
            (reason, message) => format!("{reason}: {}", cut(message)),
        }
    }
}

fn condition<'o>(object: &'o Value, type_: &str) -> Option<Found<'o>> {
    let all = list(object, "/status/conditions");
    let found = all
        .iter()
        .find(|one| one.get("type").and_then(Value::as_str) == Some(type_))?;
    Some(Found {
        status: text(found, "/status"),
        reason: text(found, "/reason"),
        message: text(found, "/message"),
    })
}

/// Whether the API takes this as the reason of a condition.
fn is_reason(text: &str) -> bool {
    text.len() <= MAX_QUOTE
        && text.chars().next().is_some_and(|c| c.is_ascii_alphabetic())
        && text
            .chars()
            .last()
            .is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ',' | ':'))
}

fn cut(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_QUOTE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn text<'o>(object: &'o Value, pointer: &str) -> &'o str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn number(object: &Value, pointer: &str) -> Option<i64> {
    object.pointer(pointer).and_then(Value::as_i64)
}

fn list<'o>(object: &'o Value, pointer: &str) -> &'o [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests;
