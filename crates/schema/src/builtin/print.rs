//! Built-in kinds as rows for people, column by column as a real server prints them.

mod autoscaler;
mod cluster;
mod network;
mod pod;
mod storage;
mod workload;

use serde_json::{Map, Value, json};

use super::Kind;
use super::edit::{items, text};
use super::time;
use crate::table::{AGE_DESCRIPTION, Column, NAME_DESCRIPTION, human_duration};

/// Headings with `|` between them; `:type` where it is not text, `*` where it is for wide output.
#[expect(clippy::match_same_arms, reason = "a table reads best by kind")]
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
