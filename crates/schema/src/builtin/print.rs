//! Built-in kinds as rows for people, column by column as a real server prints them.

mod autoscaler;
mod network;
mod pod;

use serde_json::{Map, Value, json};

use super::Kind;
use super::edit::{items, text};
use super::time;
use crate::table::{AGE_DESCRIPTION, Column, NAME_DESCRIPTION, human_duration};

/// Headings with `|` between them; `:type` where it is not text, `*` where it is for wide output.
fn headings(kind: &str) -> &'static str {
    match kind {
        "ConfigMap" => "Name|Data|Age",
        "Endpoints" => "Name|Endpoints|Age",
        "Event" => {
            "Last Seen|Type|Reason|Object|Subobject*|Source*|Message|First Seen*|Count*|Name*"
        }
        "LimitRange" => "Name|Created At:date",
        "Namespace" => "Name|Status|Age",
        "Node" => {
            "Name|Status|Roles|Age|Version|Internal-IP*|External-IP*|OS-Image*|Kernel-Version*|Container-Runtime*"
        }
        "PersistentVolumeClaim" => {
            "Name|Status|Volume|Capacity|Access Modes|StorageClass|VolumeAttributesClass|Age|VolumeMode*"
        }
        "PersistentVolume" => {
            "Name|Capacity|Access Modes|Reclaim Policy|Status|Claim|StorageClass|VolumeAttributesClass|Reason|Age|VolumeMode*"
        }
        "Pod" => "Name|Ready|Status|Restarts|Age|IP*|Node*|Nominated Node*|Readiness Gates*",
        "PodTemplate" => "Name|Containers|Images|Pod Labels",
        "ReplicationController" => {
            "Name|Desired:integer|Current:integer|Ready:integer|Age|Containers*|Images*|Selector*"
        }
        "ResourceQuota" => "Name|Request|Limit|Age",
        "Secret" => "Name|Type|Data|Age",
        "ServiceAccount" => "Name|Age",
        "Service" => "Name|Type|Cluster-IP|External-IP|Port(s)|Age|Selector*",
        "APIService" => "Name|Service|Available|Age",
        "ControllerRevision" => "Name|Controller|Revision|Age",
        "DaemonSet" => {
            "Name|Desired:integer|Current:integer|Ready:integer|Up-to-date:integer|Available:integer|Node Selector|Age|Containers*|Images*|Selector*"
        }
        "Deployment" => "Name|Ready|Up-to-date|Available|Age|Containers*|Images*|Selector*",
        "ReplicaSet" => {
            "Name|Desired:integer|Current:integer|Ready:integer|Age|Containers*|Images*|Selector*"
        }
        "StatefulSet" => "Name|Ready|Age|Containers*|Images*",
        "HorizontalPodAutoscaler" => "Name|Reference|Targets|MinPods|MaxPods|Replicas|Age",
        "CronJob" => {
            "Name|Schedule|Timezone|Suspend:boolean|Active:integer|Last Schedule|Age|Containers*|Images*|Selector*"
        }
        "Job" => "Name|Status|Completions|Duration|Age|Containers*|Images*|Selector*",
        "CertificateSigningRequest" => "Name|Age|SignerName|Requestor|RequestedDuration|Condition",
        "IngressClass" => "Name|Controller|Parameters|Age",
        "Ingress" => "Name|Class|Hosts|Address|Ports|Age",
        "NetworkPolicy" => "Name|Pod-Selector|Age",
        "PodDisruptionBudget" => {
            "Name|Min Available|Max Unavailable|Allowed Disruptions:integer|Age"
        }
        "ClusterRoleBinding" => "Name|Role|Age|Users*|Groups*|ServiceAccounts*",
        "ClusterRole" => "Name|Created At:date",
        "RoleBinding" => "Name|Role|Age|Users*|Groups*|ServiceAccounts*",
        "Role" => "Name|Created At:date",
        "CSIDriver" => {
            "Name|AttachRequired:boolean|PodInfoOnMount:boolean|StorageCapacity:boolean|TokenRequests|RequiresRepublish:boolean|Modes|Age"
        }
        "CSINode" => "Name|Drivers:integer|Age",
        "CSIStorageCapacity" => "Name|Created At:date",
        "StorageClass" => {
            "Name|Provisioner|ReclaimPolicy|VolumeBindingMode|AllowVolumeExpansion|Age"
        }
        "VolumeAttachment" => "Name|Attacher|PV|Node|Attached:boolean|Age",
        "VolumeAttributesClass" => "Name|DriverName|Age",
        "MutatingWebhookConfiguration" => "Name|Webhooks:integer|Age",
        "ValidatingAdmissionPolicy" => "Name|Validations:integer|ParamKind|Age",
        "ValidatingAdmissionPolicyBinding" => "Name|PolicyName|ParamRef|Age",
        "ValidatingWebhookConfiguration" => "Name|Webhooks:integer|Age",
        "CustomResourceDefinition" => "Name|Created At:date",
        "PriorityClass" => "Name|Value:integer|Global-Default:boolean|Age|PreemptionPolicy",
        "Lease" => "Name|Holder|Age",
        "RuntimeClass" => "Name|Handler|Age",
        "EndpointSlice" => "Name|AddressType|Ports|Endpoints|Age",
        _ => "Name|Created At:date",
    }
}

pub(super) fn columns(kind: &Kind) -> Vec<Column> {
    headings(kind.kind)
        .split('|')
        .map(|heading| {
            let (heading, priority) = match heading.strip_suffix('*') {
                Some(heading) => (heading, 1),
                None => (heading, 0),
            };
            let (name, kind) = heading.split_once(':').unwrap_or((heading, "string"));
            Column {
                name: name.to_owned(),
                kind: kind.to_owned(),
                format: if matches!(name, "Name" | "Attacher") {
                    "name".to_owned()
                } else {
                    String::new()
                },
                description: match name {
                    "Name" => NAME_DESCRIPTION.to_owned(),
                    "Age" => AGE_DESCRIPTION.to_owned(),
                    _ => String::new(),
                },
                priority,
                path: None,
            }
        })
        .collect()
}

pub(super) fn cells(kind: &Kind, object: &Value, now: i64) -> Vec<Value> {
    let storage = kind.storage();
    if storage.group != kind.group || storage.version != kind.version {
        let stored = kind.to_storage(object.clone());
        if let Some(kind) = super::find(storage.group, storage.version, storage.plural) {
            return Row {
                object: &stored,
                now,
            }
            .cells(kind.kind);
        }
    }
    Row { object, now }.cells(kind.kind)
}

/// An object that is being printed.
#[derive(Clone, Copy)]
struct Row<'a> {
    object: &'a Value,
    now: i64,
}

const NONE: &str = "<none>";
const UNSET: &str = "<unset>";

impl Row<'_> {
    fn cells(self, kind: &str) -> Vec<Value> {
        let (object, spec, status) = (self.object, &self.object["spec"], &self.object["status"]);
        let name = || object["metadata"]["name"].clone();
        let age = || self.age();
        let count = |value: &Value| Value::from(size(value));
        match kind {
            "ConfigMap" => vec![
                name(),
                json!(size(&object["data"]) + size(&object["binaryData"])),
                age(),
            ],
            "Secret" => vec![
                name(),
                object["type"].clone(),
                count(&object["data"]),
                age(),
            ],
            "ServiceAccount" => vec![name(), age()],
            "Namespace" => vec![name(), status["phase"].clone(), age()],
            "Pod" => self.pod(),
            "PodTemplate" => {
                let template = &object["template"];
                let [names, images] = containers(&template["spec"]["containers"]);
                vec![
                    name(),
                    names,
                    images,
                    labels(&template["metadata"]["labels"]),
                ]
            }
            "ReplicaSet" | "ReplicationController" => {
                let [names, images] = containers(&spec["template"]["spec"]["containers"]);
                let selector = if kind == "ReplicaSet" {
                    selector(&spec["selector"])
                } else {
                    labels(&spec["selector"])
                };
                vec![
                    name(),
                    int(&spec["replicas"]),
                    int(&status["replicas"]),
                    int(&status["readyReplicas"]),
                    age(),
                    names,
                    images,
                    selector,
                ]
            }
            "Deployment" => {
                let [names, images] = containers(&spec["template"]["spec"]["containers"]);
                vec![
                    name(),
                    ratio(&status["readyReplicas"], &spec["replicas"]),
                    int(&status["updatedReplicas"]),
                    int(&status["availableReplicas"]),
                    age(),
                    names,
                    images,
                    // Alone among its kin, an empty selector is printed as nothing.
                    Value::from(format_selector(&spec["selector"])),
                ]
            }
            "StatefulSet" => {
                let [names, images] = containers(&spec["template"]["spec"]["containers"]);
                vec![
                    name(),
                    ratio(&status["readyReplicas"], &spec["replicas"]),
                    age(),
                    names,
                    images,
                ]
            }
            "DaemonSet" => {
                let [names, images] = containers(&spec["template"]["spec"]["containers"]);
                vec![
                    name(),
                    int(&status["desiredNumberScheduled"]),
                    int(&status["currentNumberScheduled"]),
                    int(&status["numberReady"]),
                    int(&status["updatedNumberScheduled"]),
                    int(&status["numberAvailable"]),
                    labels(&spec["template"]["spec"]["nodeSelector"]),
                    age(),
                    names,
                    images,
                    selector(&spec["selector"]),
                ]
            }
            "ControllerRevision" => {
                vec![name(), self.controller(), int(&object["revision"]), age()]
            }
            "Job" => self.job(),
            "CronJob" => self.cron_job(),
            "HorizontalPodAutoscaler" => autoscaler::cells(self),
            "Service" => network::service(self),
            "Endpoints" => network::endpoints(self),
            "EndpointSlice" => network::endpoint_slice(self),
            "Ingress" => network::ingress(self),
            "IngressClass" => network::ingress_class(self),
            "NetworkPolicy" => vec![name(), selector(&spec["podSelector"]), age()],
            "Event" => self.event(),
            "Node" => self.node(),
            "PersistentVolume" => self.volume(),
            "PersistentVolumeClaim" => self.claim(),
            "ResourceQuota" => self.quota(),
            "PodDisruptionBudget" => vec![
                name(),
                or(&spec["minAvailable"], "N/A"),
                or(&spec["maxUnavailable"], "N/A"),
                int(&status["disruptionsAllowed"]),
                age(),
            ],
            "RoleBinding" | "ClusterRoleBinding" => self.binding(),
            "CertificateSigningRequest" => self.signing_request(),
            "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => {
                vec![name(), count(&object["webhooks"]), age()]
            }
            "ValidatingAdmissionPolicy" => {
                let param = &spec["paramKind"];
                let param = if param.is_object() {
                    format!("{}/{}", text(&param["apiVersion"]), text(&param["kind"]))
                } else {
                    UNSET.to_owned()
                };
                vec![
                    name(),
                    count(&spec["validations"]),
                    Value::from(param),
                    age(),
                ]
            }
            "ValidatingAdmissionPolicyBinding" => {
                let param = &spec["paramRef"];
                let shown = match (text(&param["namespace"]), text(&param["name"])) {
                    ("", "") if param["selector"].is_object() => {
                        format_selector(&param["selector"])
                    }
                    (_, "") => UNSET.to_owned(),
                    ("", name) => format!("*/{name}"),
                    (namespace, name) => format!("{namespace}/{name}"),
                };
                vec![
                    name(),
                    spec["policyName"].clone(),
                    Value::from(shown),
                    age(),
                ]
            }
            "StorageClass" => {
                let default = [
                    "storageclass.kubernetes.io/is-default-class",
                    "storageclass.beta.kubernetes.io/is-default-class",
                ]
                .iter()
                .any(|name| object["metadata"]["annotations"][*name] == "true");
                vec![
                    self.default_name(default),
                    object["provisioner"].clone(),
                    or(&object["reclaimPolicy"], "Delete"),
                    or(&object["volumeBindingMode"], "Immediate"),
                    Value::from(object["allowVolumeExpansion"] == true),
                    age(),
                ]
            }
            "CSIDriver" => vec![
                name(),
                Value::from(spec["attachRequired"] != false),
                Value::from(spec["podInfoOnMount"] == true),
                Value::from(spec["storageCapacity"] == true),
                if spec["tokenRequests"].is_array() {
                    join(
                        items(&spec["tokenRequests"])
                            .iter()
                            .map(|request| text(&request["audience"])),
                        ",",
                    )
                } else {
                    Value::from(UNSET)
                },
                Value::from(spec["requiresRepublish"] == true),
                or(
                    &join(items(&spec["volumeLifecycleModes"]).iter().map(text), ","),
                    NONE,
                ),
                age(),
            ],
            "CSINode" => vec![name(), count(&spec["drivers"]), age()],
            "VolumeAttachment" => vec![
                name(),
                spec["attacher"].clone(),
                Value::from(text(&spec["source"]["persistentVolumeName"])),
                spec["nodeName"].clone(),
                Value::from(status["attached"] == true),
                age(),
            ],
            "VolumeAttributesClass" => {
                let key = "storageclass.kubernetes.io/is-default-class";
                let default = object["metadata"]["annotations"][key] == "true";
                vec![
                    self.default_name(default),
                    object["driverName"].clone(),
                    age(),
                ]
            }
            "PriorityClass" => vec![
                name(),
                int(&object["value"]),
                Value::from(object["globalDefault"] == true),
                age(),
                Value::from(text(&object["preemptionPolicy"])),
            ],
            "Lease" => vec![name(), Value::from(text(&spec["holderIdentity"])), age()],
            "RuntimeClass" => vec![name(), object["handler"].clone(), age()],
            "APIService" => self.api_service(),
            _ => vec![name(), object["metadata"]["creationTimestamp"].clone()],
        }
    }

    fn age(self) -> Value {
        Value::from(self.since(&self.object["metadata"]["creationTimestamp"]))
    }

    fn since(self, at: &Value) -> String {
        match at.as_str().and_then(time::parse) {
            Some(at) => human_duration(self.now - at.as_second()),
            None => "<unknown>".to_owned(),
        }
    }

    fn default_name(self, default: bool) -> Value {
        let name = text(&self.object["metadata"]["name"]);
        Value::from(if default {
            format!("{name} (default)")
        } else {
            name.to_owned()
        })
    }

    fn controller(self) -> Value {
        let owners = items(&self.object["metadata"]["ownerReferences"]);
        let Some(owner) = owners.iter().find(|owner| owner["controller"] == true) else {
            return Value::from(NONE);
        };
        let group = text(&owner["apiVersion"])
            .split_once('/')
            .map_or("", |(group, _)| group);
        let dot = if group.is_empty() { "" } else { "." };
        let kind = text(&owner["kind"]).to_lowercase();
        Value::from(format!("{kind}{dot}{group}/{}", text(&owner["name"])))
    }

    fn job(self) -> Vec<Value> {
        let (spec, status) = (&self.object["spec"], &self.object["status"]);
        let succeeded = number(&status["succeeded"]);
        let completions = match (spec["completions"].as_i64(), number(&spec["parallelism"])) {
            (Some(wanted), _) => format!("{succeeded}/{wanted}"),
            (None, parallel) if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
            _ => format!("{succeeded}/1"),
        };
        let moment = |name: &str| {
            status[name]
                .as_str()
                .and_then(time::parse)
                .map(jiff::Timestamp::as_second)
        };
        let duration = match (moment("startTime"), moment("completionTime")) {
            (None, _) => String::new(),
            (Some(start), end) => human_duration(end.unwrap_or(self.now) - start),
        };
        let holds = |kind: &str| {
            items(&status["conditions"])
                .iter()
                .any(|held| held["type"] == kind && held["status"] == "True")
        };
        let state = if holds("Complete") {
            "Complete"
        } else if holds("Failed") {
            "Failed"
        } else if !self.object["metadata"]["deletionTimestamp"].is_null() {
            "Terminating"
        } else {
            let later = ["Suspended", "FailureTarget", "SuccessCriteriaMet"];
            later
                .into_iter()
                .find(|kind| holds(kind))
                .unwrap_or("Running")
        };
        let [names, images] = containers(&spec["template"]["spec"]["containers"]);
        vec![
            self.object["metadata"]["name"].clone(),
            Value::from(state),
            Value::from(completions),
            Value::from(duration),
            self.age(),
            names,
            images,
            selector(&spec["selector"]),
        ]
    }

    fn cron_job(self) -> Vec<Value> {
        let (spec, status) = (&self.object["spec"], &self.object["status"]);
        let last = &status["lastScheduleTime"];
        let last = if last.is_null() {
            NONE.to_owned()
        } else {
            self.since(last)
        };
        let suspend = match spec["suspend"].as_bool() {
            Some(true) => "True",
            Some(false) => "False",
            None => UNSET,
        };
        let job = &spec["jobTemplate"]["spec"];
        let [names, images] = containers(&job["template"]["spec"]["containers"]);
        vec![
            self.object["metadata"]["name"].clone(),
            spec["schedule"].clone(),
            or(&spec["timeZone"], NONE),
            Value::from(suspend),
            Value::from(size(&status["active"])),
            Value::from(last),
            self.age(),
            names,
            images,
            selector(&job["selector"]),
        ]
    }

    fn event(self) -> Vec<Value> {
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

    fn node(self) -> Vec<Value> {
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
                    roles.push(text(value))
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

    fn phase(self) -> Value {
        if self.object["metadata"]["deletionTimestamp"].is_null() {
            Value::from(text(&self.object["status"]["phase"]))
        } else {
            Value::from("Terminating")
        }
    }

    fn storage_class(self) -> Value {
        let annotated =
            &self.object["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
        Value::from(if annotated.is_string() {
            text(annotated)
        } else {
            text(&self.object["spec"]["storageClassName"])
        })
    }

    fn volume(self) -> Vec<Value> {
        let spec = &self.object["spec"];
        let claim = &spec["claimRef"];
        let claim = if claim.is_object() {
            format!("{}/{}", text(&claim["namespace"]), text(&claim["name"]))
        } else {
            String::new()
        };
        vec![
            self.object["metadata"]["name"].clone(),
            or(&spec["capacity"]["storage"], "0"),
            access_modes(&spec["accessModes"]),
            Value::from(text(&spec["persistentVolumeReclaimPolicy"])),
            self.phase(),
            Value::from(claim),
            self.storage_class(),
            or(&spec["volumeAttributesClassName"], UNSET),
            Value::from(text(&self.object["status"]["reason"])),
            self.age(),
            or(&spec["volumeMode"], UNSET),
        ]
    }

    fn claim(self) -> Vec<Value> {
        let (spec, status) = (&self.object["spec"], &self.object["status"]);
        let bound = !text(&spec["volumeName"]).is_empty();
        let (capacity, modes) = if bound {
            (
                or(&status["capacity"]["storage"], "0"),
                access_modes(&status["accessModes"]),
            )
        } else {
            (Value::from(""), Value::from(""))
        };
        vec![
            self.object["metadata"]["name"].clone(),
            self.phase(),
            Value::from(text(&spec["volumeName"])),
            capacity,
            modes,
            self.storage_class(),
            or(&spec["volumeAttributesClassName"], UNSET),
            self.age(),
            or(&spec["volumeMode"], UNSET),
        ]
    }

    fn quota(self) -> Vec<Value> {
        let status = &self.object["status"];
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (resource, hard) in status["hard"].as_object().into_iter().flatten() {
            let used = status["used"][resource.as_str()].as_str().unwrap_or("0");
            let shown = format!("{resource}: {used}/{}", text(hard));
            if resource.starts_with("limits.") {
                limits.push(shown)
            } else {
                requests.push(shown)
            }
        }
        vec![
            self.object["metadata"]["name"].clone(),
            Value::from(requests.join(", ")),
            Value::from(limits.join(", ")),
            self.age(),
        ]
    }

    fn binding(self) -> Vec<Value> {
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

    fn signing_request(self) -> Vec<Value> {
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

    fn api_service(self) -> Vec<Value> {
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

fn size(value: &Value) -> usize {
    value
        .as_array()
        .map_or_else(|| value.as_object().map_or(0, Map::len), Vec::len)
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn int(value: &Value) -> Value {
    Value::from(number(value))
}

fn ratio(part: &Value, whole: &Value) -> Value {
    Value::from(format!("{}/{}", number(part), number(whole)))
}

fn join<'t>(parts: impl Iterator<Item = &'t str>, separator: &str) -> Value {
    Value::from(parts.collect::<Vec<_>>().join(separator))
}

/// The value as text, or what stands for none.
fn or(value: &Value, none: &str) -> Value {
    match value {
        Value::String(text) if !text.is_empty() => value.clone(),
        Value::Number(number) => Value::from(number.to_string()),
        _ => Value::from(none),
    }
}

/// Names and images of containers.
fn containers(list: &Value) -> [Value; 2] {
    ["name", "image"].map(|field| {
        join(
            items(list).iter().map(|container| text(&container[field])),
            ",",
        )
    })
}

fn access_modes(modes: &Value) -> Value {
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let held = |name: &str| items(modes).iter().any(|mode| mode == name);
    join(
        short
            .iter()
            .filter(|(name, _)| held(name))
            .map(|(_, short)| *short),
        ",",
    )
}

/// `a=b,c=d`, or `<none>`.
fn labels(labels: &Value) -> Value {
    let pairs: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", text(value)))
        .collect();
    if pairs.is_empty() {
        Value::from(NONE)
    } else {
        Value::from(pairs.join(","))
    }
}

/// A label selector, or `<none>`.
fn selector(selector: &Value) -> Value {
    let text = format_selector(selector);
    Value::from(if text.is_empty() {
        NONE.to_owned()
    } else {
        text
    })
}

/// A label selector as text, requirements sorted by key.
fn format_selector(selector: &Value) -> String {
    let mut requirements: Vec<(String, String)> = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), format!("{key}={}", text(value))))
        .collect();
    for expression in items(&selector["matchExpressions"]) {
        let key = text(&expression["key"]);
        let mut values: Vec<&str> = items(&expression["values"]).iter().map(text).collect();
        values.sort_unstable();
        let values = values.join(",");
        let shown = match text(&expression["operator"]) {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        };
        requirements.push((key.to_owned(), shown));
    }
    requirements.sort();
    let shown: Vec<String> = requirements.into_iter().map(|(_, shown)| shown).collect();
    shown.join(",")
}
