//! Nodes, events, quotas, and what else concerns the cluster.

use serde_json::Value;

use super::{NONE, Row, join, number, or};
use crate::builtin::edit::{items, text};
use crate::table::human_duration;

impl Row<'_> {
    pub(super) fn event(self) -> Vec<Value> {
        let event = self.object;
        let since = |name: &str| {
            let at = &event[name];
            (!at.is_null()).then(|| self.since(at))
        };
        let first = since("firstTimestamp").unwrap_or_else(|| self.since(&event["eventTime"]));
        let mut last = since("lastTimestamp").unwrap_or_else(|| first.clone());
        let mut count = number(&event["count"]);
        let series = &event["series"];
        if series.is_object() {
            last = self.since(&series["lastObservedTime"]);
            count = number(&series["count"]);
        } else if count == 0 {
            count = 1;
        }
        let target = &event["involvedObject"];
        let kind = text(&target["kind"]).to_lowercase();
        let named = match text(&target["name"]) {
            "" => kind,
            name => format!("{kind}/{name}"),
        };
        let first_of = |a: &Value, b: &Value| {
            if text(a).is_empty() {
                text(b).to_owned()
            } else {
                text(a).to_owned()
            }
        };
        let component = first_of(&event["source"]["component"], &event["reportingComponent"]);
        let instance = first_of(&event["source"]["host"], &event["reportingInstance"]);
        let source = if instance.is_empty() {
            component
        } else {
            format!("{component}, {instance}")
        };
        vec![
            Value::from(last),
            Value::from(text(&event["type"])),
            Value::from(text(&event["reason"])),
            Value::from(named),
            Value::from(text(&target["fieldPath"])),
            Value::from(source),
            Value::from(text(&event["message"]).trim()),
            Value::from(first),
            Value::from(count),
            event["metadata"]["name"].clone(),
        ]
    }

    pub(super) fn node(self) -> Vec<Value> {
        let (spec, status) = (&self.object["spec"], &self.object["status"]);
        let ready = items(&status["conditions"])
            .iter()
            .find(|condition| condition["type"] == "Ready");
        let mut state = match ready {
            Some(condition) if condition["status"] == "True" => "Ready".to_owned(),
            Some(_) => "NotReady".to_owned(),
            None => "Unknown".to_owned(),
        };
        if spec["unschedulable"] == true {
            state.push_str(",SchedulingDisabled");
        }
        let mut roles: Vec<&str> = Vec::new();
        for (label, value) in self.object["metadata"]["labels"]
            .as_object()
            .into_iter()
            .flatten()
        {
            match label.strip_prefix("node-role.kubernetes.io/") {
                Some("") => {}
                Some(role) => roles.push(role),
                None if label == "kubernetes.io/role" && !text(value).is_empty() => {
                    roles.push(text(value));
                }
                None => {}
            }
        }
        roles.sort_unstable();
        roles.dedup();
        let address = |kind: &str| {
            let found = items(&status["addresses"])
                .iter()
                .find(|address| address["type"] == kind);
            found.map_or(Value::from(NONE), |address| address["address"].clone())
        };
        let info = &status["nodeInfo"];
        let known = |name: &str| match text(&info[name]) {
            "" => "<unknown>",
            known => known,
        };
        let kernel = match text(&info["architecture"]) {
            "" => known("kernelVersion").to_owned(),
            architecture => format!("{} ({architecture})", known("kernelVersion")),
        };
        vec![
            self.object["metadata"]["name"].clone(),
            Value::from(state),
            or(&join(roles.into_iter(), ","), NONE),
            self.age(),
            Value::from(text(&info["kubeletVersion"])),
            address("InternalIP"),
            address("ExternalIP"),
            Value::from(known("osImage")),
            Value::from(kernel),
            Value::from(known("containerRuntimeVersion")),
        ]
    }

    pub(super) fn quota(self) -> Vec<Value> {
        let status = &self.object["status"];
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (resource, hard) in status["hard"].as_object().into_iter().flatten() {
            let used = status["used"][resource.as_str()].as_str().unwrap_or("0");
            let shown = format!("{resource}: {used}/{}", text(hard));
            if resource.starts_with("limits.") {
                limits.push(shown);
            } else {
                requests.push(shown);
            }
        }
        vec![
            self.object["metadata"]["name"].clone(),
            Value::from(requests.join(", ")),
            Value::from(limits.join(", ")),
            self.age(),
        ]
    }

    pub(super) fn binding(self) -> Vec<Value> {
        let role = &self.object["roleRef"];
        let subjects = items(&self.object["subjects"]);
        let of = |kind: &str| {
            subjects
                .iter()
                .filter(|subject| subject["kind"] == kind)
                .map(|subject| text(&subject["name"]))
                .collect::<Vec<_>>()
        };
        let accounts: Vec<String> = subjects
            .iter()
            .filter(|subject| subject["kind"] == "ServiceAccount")
            .map(|subject| match text(&subject["namespace"]) {
                "" => text(&subject["name"]).to_owned(),
                namespace => format!("{namespace}/{}", text(&subject["name"])),
            })
            .collect();
        vec![
            self.object["metadata"]["name"].clone(),
            Value::from(format!("{}/{}", text(&role["kind"]), text(&role["name"]))),
            self.age(),
            Value::from(of("User").join(", ")),
            Value::from(of("Group").join(", ")),
            Value::from(accounts.join(", ")),
        ]
    }

    pub(super) fn signing_request(self) -> Vec<Value> {
        let (spec, status) = (&self.object["spec"], &self.object["status"]);
        let has = |kind: &str| {
            items(&status["conditions"])
                .iter()
                .any(|held| held["type"] == kind)
        };
        let mut state = if has("Denied") {
            "Denied"
        } else if has("Approved") {
            "Approved"
        } else {
            "Pending"
        }
        .to_owned();
        if has("Failed") {
            state.push_str(",Failed");
        }
        if !text(&status["certificate"]).is_empty() {
            state.push_str(",Issued");
        }
        let duration = spec["expirationSeconds"]
            .as_i64()
            .map_or(NONE.to_owned(), human_duration);
        vec![
            self.object["metadata"]["name"].clone(),
            self.age(),
            or(&spec["signerName"], NONE),
            Value::from(text(&spec["username"])),
            Value::from(duration),
            Value::from(state),
        ]
    }

    pub(super) fn api_service(self) -> Vec<Value> {
        let service = &self.object["spec"]["service"];
        let service = if service.is_object() {
            format!("{}/{}", text(&service["namespace"]), text(&service["name"]))
        } else {
            "Local".to_owned()
        };
        let conditions = items(&self.object["status"]["conditions"]);
        let available = match conditions
            .iter()
            .find(|condition| condition["type"] == "Available")
        {
            None => "Unknown".to_owned(),
            Some(condition) => match (text(&condition["status"]), text(&condition["reason"])) {
                (status @ "True", _) | (status, "") => status.to_owned(),
                (status, reason) => format!("{status} ({reason})"),
            },
        };
        vec![
            self.object["metadata"]["name"].clone(),
            Value::from(service),
            Value::from(available),
            self.age(),
        ]
    }
}
