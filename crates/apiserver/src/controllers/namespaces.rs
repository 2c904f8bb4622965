//! Namespaces: fills new ones with what everybody expects in them, empties those that are deleted
//! (kube-controller-manager: pkg/controller/namespace/deletion, pkg/controller/serviceaccount,
//! pkg/controller/certificates/rootcacertpublisher).

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Action, Plan, Settings};
use crate::lifecycle::{self, DeleteOptions, Deletion, Facts, Propagation, format_time};
use crate::store::{Key, Object, Store};

/// Where namespaces are.
pub const RESOURCE: &str = "/namespaces";
/// The finalizer in `spec.finalizers` that this controller removes.
const FINALIZER: &str = "kubernetes";
const PODS: &str = "/pods";
const ACCOUNTS: &str = "/serviceaccounts";
const ACCOUNT: &str = "default";
const CONFIG_MAPS: &str = "/configmaps";
const ROOT_CA: &str = "kube-root-ca.crt";
const ROOT_CA_DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the \
    kube-apiserver when using internal endpoints such as the internal service IP or \
    kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes \
    clusters.";

/// Whether an object is one of those that [`plan`] puts into every namespace.
pub fn is_default_object(key: &Key) -> bool {
    matches!(
        (&*key.resource, &*key.name),
        (ACCOUNTS, ACCOUNT) | (CONFIG_MAPS, ROOT_CA)
    )
}

/// What a namespace needs.
pub fn plan(namespace: &Arc<Object>, store: &Store, settings: &Settings, now: Timestamp) -> Plan {
    if namespace.meta.terminating {
        plan_end(namespace, store, now)
    } else {
        plan_defaults(&namespace.key.name, store, settings, now)
    }
}

fn plan_defaults(name: &Arc<str>, store: &Store, settings: &Settings, now: Timestamp) -> Plan {
    let mut actions = Vec::new();
    let metadata = |own: &str| {
        json!({
            "name": own, "namespace": name, "uid": (settings.uid)(),
            "creationTimestamp": format_time(now),
        })
    };
    let account = Key::new(ACCOUNTS, Arc::clone(name), ACCOUNT);
    if settings.service_accounts && store.get(&account).is_none() {
        let metadata = metadata(ACCOUNT);
        let object = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata});
        actions.push(Action::Create(account, object));
    }
    if let Some(pem) = &settings.root_ca {
        let key = Key::new(CONFIG_MAPS, Arc::clone(name), ROOT_CA);
        let data = json!({"ca.crt": &**pem});
        match store.get(&key) {
            None => {
                let mut metadata = metadata(ROOT_CA);
                metadata["annotations"] = json!({"kubernetes.io/description": ROOT_CA_DESCRIPTION});
                metadata["managedFields"] = json!([{
                    "manager": "kube-controller-manager", "operation": "Update",
                    "apiVersion": "v1", "time": format_time(now), "fieldsType": "FieldsV1",
                    "fieldsV1": {
                        "f:data": {".": {}, "f:ca.crt": {}},
                        "f:metadata": {"f:annotations": {".": {}, "f:kubernetes.io/description": {}}},
                    },
                }]);
                let object = json!({
                    "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data,
                });
                actions.push(Action::Create(key, object));
            }
            Some(found) => {
                let mut object = found.value();
                if object["data"] != data && object.is_object() {
                    object["data"] = data;
                    actions.push(Action::Update(found, object));
                }
            }
        }
    }
    Plan {
        stages: vec![actions],
        ..Plan::default()
    }
}

/// Pods first, as they may use the rest; then everything else; then the namespace itself.
fn plan_end(namespace: &Arc<Object>, store: &Store, now: Timestamp) -> Plan {
    let value = namespace.value();
    if value["spec"]["finalizers"]
        .as_array()
        .is_none_or(Vec::is_empty)
    {
        return Plan::default();
    }
    let mut content: Vec<Arc<Object>> = Vec::new();
    for resource in store.resources() {
        content.extend(store.list(&resource, Some(&namespace.key.name)).items);
    }
    let pods = content.iter().any(|object| &*object.key.resource == PODS);
    let doomed: Vec<Action> = content
        .iter()
        .filter(|object| !pods || &*object.key.resource == PODS)
        .filter(|object| !object.meta.terminating || can_go_on(object, now))
        .map(|object| Action::Delete(Arc::clone(object), Propagation::Background))
        .collect();
    if !doomed.is_empty() {
        return Plan {
            stages: vec![doomed],
            look: Vec::new(),
            again: true,
        };
    }
    let updated = describe(&value, &content, now);
    if updated == value {
        return Plan::default();
    }
    Plan::one(Action::Update(Arc::clone(namespace), updated))
}

/// Whether deleting an object that is being deleted changes anything.
fn can_go_on(object: &Object, now: Timestamp) -> bool {
    let live = object.value();
    let options = DeleteOptions::of(Propagation::Background);
    let facts = Facts::of(&object.key.resource, &live);
    !matches!(
        lifecycle::delete(&live, &options, &facts, now),
        Deletion::Unchanged
    )
}

/// The namespace with its phase, the conditions that tell what it waits for, and without our
/// finalizer when it waits for nothing.
fn describe(namespace: &Value, content: &[Arc<Object>], now: Timestamp) -> Value {
    let mut updated = namespace.clone();
    if !updated["status"].is_object() {
        updated["status"] = json!({});
    }
    updated["status"]["phase"] = "Terminating".into();
    let old = namespace["status"]["conditions"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    updated["status"]["conditions"] = conditions(old, content, now).into();
    if content.is_empty()
        && let Some(finalizers) = updated["spec"]["finalizers"].as_array_mut()
    {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
    }
    updated
}

/// The conditions of a namespace that is being deleted, in the words of Kubernetes.
fn conditions(old: &[Value], content: &[Arc<Object>], now: Timestamp) -> Vec<Value> {
    let mut resources: BTreeMap<String, usize> = BTreeMap::new();
    let mut finalizers: BTreeMap<String, usize> = BTreeMap::new();
    for object in content {
        let (group, plural) = object.key.resource.split_once('/').unwrap_or_default();
        *resources.entry(format!("{plural}.{group}")).or_default() += 1;
        let value = object.value();
        let held = value["metadata"]["finalizers"].as_array();
        for finalizer in held.into_iter().flatten().filter_map(Value::as_str) {
            *finalizers.entry(finalizer.to_owned()).or_default() += 1;
        }
    }
    let list = |counts: &BTreeMap<String, usize>, verb: &str| {
        let texts = counts
            .iter()
            .map(|(name, count)| format!("{name} {verb} {count} resource instances"));
        texts.collect::<Vec<_>>().join(", ")
    };
    let remaining = (!resources.is_empty()).then(|| {
        let list = list(&resources, "has");
        (
            "SomeResourcesRemain",
            format!("Some resources are remaining: {list}"),
        )
    });
    let held = (!finalizers.is_empty()).then(|| {
        let list = list(&finalizers, "in");
        let message = format!("Some content in the namespace has finalizers remaining: {list}");
        ("SomeFinalizersRemain", message)
    });
    let fine = |reason, message: &str| (reason, message.to_owned());
    let wanted = [
        (
            "NamespaceDeletionDiscoveryFailure",
            None,
            fine(
                "ResourcesDiscovered",
                "All resources successfully discovered",
            ),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            fine(
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed",
            ),
        ),
        (
            "NamespaceDeletionContentFailure",
            None,
            fine(
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
        ),
        (
            "NamespaceContentRemaining",
            remaining,
            fine("ContentRemoved", "All content successfully removed"),
        ),
        (
            "NamespaceFinalizersRemaining",
            held,
            fine(
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
            ),
        ),
    ];
    let known = |condition: &Value| wanted.iter().any(|(name, ..)| condition["type"] == *name);
    let mut conditions: Vec<Value> = old.iter().filter(|old| !known(old)).cloned().collect();
    for (name, problem, fine) in wanted {
        let status = if problem.is_some() { "True" } else { "False" };
        let (reason, message) = problem.unwrap_or(fine);
        let before = old.iter().find(|condition| condition["type"] == name);
        let since = before
            .filter(|condition| condition["status"] == status)
            .map_or_else(
                || format_time(now).into(),
                |same| same["lastTransitionTime"].clone(),
            );
        conditions.push(json!({
            "type": name, "status": status, "lastTransitionTime": since,
            "reason": reason, "message": message,
        }));
    }
    conditions
}
