//! What one side reports, and what is in its cluster, without what cannot be the same.

use std::collections::BTreeMap;

use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client};
use serde_json::{Map, Value, json};

use super::features::{But, Feature};
use super::{CLUSTER, Json};
use crate::world::{api, works};

/// Members of metadata that say something.
const METADATA: [&str; 4] = ["labels", "annotations", "finalizers", "ownerReferences"];
/// Annotations in which an agent remembers what it did.
const NOTES: [&str; 3] = [
    "open-cluster-management.io/object-hash",
    "open-cluster-management.io/config-spec-hash",
    "operator.openshift.io/spec-hash",
];
/// Conditions that only Drover has.
const OWN: [&str; 2] = ["Healthy", "Reported"];

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Snapshot {
    works: BTreeMap<String, Json>,
    objects: BTreeMap<String, Json>,
    applied: BTreeMap<String, Json>,
}

/// The API of an object's kind and namespace.
pub(super) fn place_of(client: &Client, object: &Json) -> Api<DynamicObject> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let kind = format!(
        "{}/{}",
        text("/apiVersion").unwrap_or_default(),
        text("/kind").unwrap_or_default()
    );
    api(client, &kind, text("/metadata/namespace"))
}

impl Snapshot {
    pub(super) async fn take(client: &Client, feature: &Feature) -> Self {
        let mut found = Self {
            works: BTreeMap::new(),
            objects: BTreeMap::new(),
            applied: BTreeMap::new(),
        };
        for name in feature.works() {
            let work = works(client, CLUSTER).get_opt(&name).await.unwrap();
            if let Some(work) = work {
                found.works.insert(name, json!(work));
            }
        }
        for object in feature.objects() {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let place = format!(
                "{} {}/{name}",
                object["kind"], object["metadata"]["namespace"]
            );
            // A kind that is not served has no objects.
            let live = place_of(client, &object).get_opt(name).await.ok().flatten();
            found
                .objects
                .insert(place, live.map_or(Value::Null, |live| plain(json!(live))));
        }
        let all = api(
            client,
            "work.open-cluster-management.io/v1/AppliedManifestWork",
            None,
        );
        for one in all.list(&ListParams::default()).await.unwrap() {
            let name = one.data["spec"]["manifestWorkName"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            if !feature.works().contains(&name) {
                continue;
            }
            let mut resources = one.data["status"]["appliedResources"].clone();
            for resource in resources.as_array_mut().into_iter().flatten() {
                resource.as_object_mut().map(|it| it.remove("uid"));
            }
            found.applied.insert(
                name,
                json!({"resources": resources, "labels": one.metadata.labels}),
            );
        }
        found
    }

    /// Whether every work's report is about its newest generation.
    pub(super) fn is_current(&self) -> bool {
        self.works.values().all(|work| {
            let generation = &work["metadata"]["generation"];
            let leaving = work["metadata"]["deletionTimestamp"].is_string();
            let all = work["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let has = |type_: &str| {
                all.iter()
                    .any(|it| it["type"] == type_ && it["observedGeneration"] == *generation)
            };
            let done = all
                .iter()
                .any(|it| it["type"] == "Complete" && it["status"] == "True");
            leaving || (has("Available") && (done || has("Applied")))
        })
    }

    /// What must be the same on both sides after this act.
    pub(super) fn told(&self, at: usize, but: But, is_ocm: bool) -> Json {
        let works: Map<String, Value> = self
            .works
            .iter()
            .map(|(name, work)| (name.clone(), report(work)))
            .collect();
        let mut told = json!({"works": works, "objects": self.objects, "applied": self.applied});
        but(at, is_ocm, &mut told);
        told
    }
}

/// Status and finalizers of a work.
fn report(work: &Json) -> Json {
    let manifests: Vec<Value> = work["status"]["resourceStatus"]["manifests"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|it| {
            json!({
                "meta": it["resourceMeta"], "conditions": conditions(&it["conditions"]), "feedback": it["statusFeedback"]["values"],
            })
        })
        .collect();
    json!({
        "conditions": conditions(&work["status"]["conditions"]), "manifests": manifests,
        "finalizers": work["metadata"]["finalizers"], "leaving": work["metadata"]["deletionTimestamp"].is_string(),
    })
}

/// By type: status, reason, and where all is well the message.
fn conditions(list: &Json) -> Json {
    let all = list.as_array().into_iter().flatten();
    let told = all
        .filter(|it| !OWN.iter().any(|own| it["type"] == *own))
        .map(|it| {
            let text = |key: &str| it[key].as_str().unwrap_or_default().to_owned();
            let failed = ["Failed", "Error"]
                .iter()
                .any(|part| text("reason").contains(part));
            let message = if failed {
                "…".to_owned()
            } else {
                text("message")
            };
            (
                text("type"),
                json!([text("status"), text("reason"), message]),
            )
        });
    Value::Object(told.collect())
}

/// An object without what the API server and the agents note down.
fn plain(mut object: Json) -> Json {
    let mut metadata = Map::new();
    for member in METADATA {
        let mut value = object["metadata"][member].clone();
        if let Value::Object(notes) = &mut value {
            notes.retain(|key, _| !NOTES.contains(&key.as_str()));
        }
        for owner in value.as_array_mut().into_iter().flatten() {
            if let Value::Object(owner) = owner {
                owner.remove("uid");
                let name = owner
                    .get("name")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                // The hash of the hub's address is in front.
                let name = name
                    .split_once('-')
                    .map_or(name, |(_, name)| name)
                    .to_owned();
                owner.insert("name".to_owned(), Value::String(name));
            }
        }
        if let (true, Value::Array(owners)) = (member == "ownerReferences", &mut value) {
            owners.sort_by_key(ToString::to_string);
        }
        let empty = value.as_object().is_some_and(Map::is_empty)
            || value.as_array().is_some_and(Vec::is_empty);
        if !value.is_null() && !empty {
            metadata.insert(member.to_owned(), value);
        }
    }
    if object["metadata"]["deletionTimestamp"].is_string() {
        metadata.insert("leaving".to_owned(), json!(true));
    }
    object["metadata"] = Value::Object(metadata);
    if object["kind"] == "CustomResourceDefinition" {
        object["status"] = Value::Null;
    }
    // Addresses are drawn by lot.
    for drawn in ["clusterIP", "clusterIPs"] {
        object["spec"]
            .as_object_mut()
            .map(|spec| spec.remove(drawn));
    }
    object
}

/// Where two values differ.
pub(super) fn difference(expected: &Json, found: &Json) -> String {
    let mut lines = Vec::new();
    differ("", expected, found, &mut lines);
    lines.join("\n")
}

fn differ(path: &str, expected: &Json, found: &Json, lines: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(one), Value::Object(other)) => {
            for key in one
                .keys()
                .chain(other.keys().filter(|key| !one.contains_key(*key)))
            {
                let none = Value::Null;
                let (one, other) = (
                    one.get(key).unwrap_or(&none),
                    other.get(key).unwrap_or(&none),
                );
                differ(&format!("{path}/{key}"), one, other, lines);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (at, (one, other)) in one.iter().zip(other).enumerate() {
                differ(&format!("{path}/{at}"), one, other, lines);
            }
        }
        (one, other) if one == other => (),
        (one, other) => lines.push(format!("  {path}\n    OCM:    {one}\n    Drover: {other}")),
    }
}
