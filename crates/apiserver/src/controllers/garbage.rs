//! The garbage collector: what is owned goes with its last owner
//! (kube-controller-manager: pkg/controller/garbagecollector).

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::{Action, Kinds, Plan, Scope};
use crate::lifecycle::{FOREGROUND, ORPHAN, Propagation, has_finalizer};
use crate::store::{Object, Store};

/// What an object needs: nothing, to lose references, to lose a finalizer, or to go.
pub fn plan(object: &Arc<Object>, store: &Store, kinds: Option<&Kinds>) -> Plan {
    if object.meta.terminating {
        return plan_terminating(object, store);
    }
    let references = References::of(object).references;
    let mut solid = false;
    let (mut dangling, mut waiting) = (Vec::new(), false);
    for reference in &references {
        match classify(object, reference, store, kinds) {
            Owner::Unknown => return Plan::default(),
            Owner::Solid => solid = true,
            Owner::Absent => dangling.push(&*reference.uid),
            Owner::Waiting => {
                waiting = true;
                dangling.push(&*reference.uid);
            }
        }
    }
    if dangling.is_empty() {
        return Plan::default();
    }
    if solid {
        // References to waiting owners go too, or those would wait for ever.
        let freed = without_references(&object.value(), &dangling);
        return Plan::one(Action::Update(Arc::clone(object), freed));
    }
    let dependents = store.owned_by(&object.meta.uid);
    if waiting && !object.meta.uid.is_empty() && !dependents.is_empty() {
        let circle = dependents
            .iter()
            .any(|dependent| is_deleting_dependents(dependent));
        if circle
            && references
                .iter()
                .any(|reference| reference.block_owner_deletion)
        {
            // Owners and dependents wait for each other: this one shall not be waited for. The
            // write brings it back here.
            return Plan::one(Action::Update(Arc::clone(object), unblocked(object)));
        }
        return Plan::one(Action::Delete(Arc::clone(object), Propagation::Foreground));
    }
    let value = object.value();
    let propagation = if has_finalizer(&value, ORPHAN) {
        Propagation::Orphan
    } else if has_finalizer(&value, FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    };
    Plan::one(Action::Delete(Arc::clone(object), propagation))
}

/// An object that is being deleted may hold one of the two finalizers that are ours to remove.
fn plan_terminating(object: &Arc<Object>, store: &Store) -> Plan {
    let finalizers = References::of(object).finalizers;
    let has = |finalizer: &str| finalizers.iter().any(|found| &**found == finalizer);
    if !has(FOREGROUND) && !has(ORPHAN) {
        return Plan::default();
    }
    let dependents: Vec<Arc<Object>> = match &*object.meta.uid {
        "" => Vec::new(),
        uid => store
            .owned_by(uid)
            .into_iter()
            .filter(|dependent| can_own(object, dependent) && dependent.key != object.key)
            .collect(),
    };
    if has(ORPHAN) {
        let uid = [&*object.meta.uid];
        let orphans = dependents.iter().map(|dependent| {
            let freed = without_references(&dependent.value(), &uid);
            Action::Update(Arc::clone(dependent), freed)
        });
        let released = Action::Update(Arc::clone(object), without_finalizer(object, ORPHAN));
        return Plan {
            stages: vec![orphans.collect(), vec![released]],
            ..Plan::default()
        };
    }
    if !dependents
        .iter()
        .any(|dependent| blocks(dependent, &object.meta.uid))
    {
        let released = without_finalizer(object, FOREGROUND);
        return Plan::one(Action::Update(Arc::clone(object), released));
    }
    let alive = dependents
        .iter()
        .filter(|dependent| !dependent.meta.terminating);
    Plan {
        look: alive.map(|dependent| dependent.key.clone()).collect(),
        ..Plan::default()
    }
}

enum Owner {
    /// It is there and stays.
    Solid,
    /// It is being deleted and waits for its dependents.
    Waiting,
    /// It is not there.
    Absent,
    /// Nobody can say, so its dependents stay.
    Unknown,
}

fn classify(object: &Object, reference: &Reference, store: &Store, kinds: Option<&Kinds>) -> Owner {
    if let Some(owner) = store.by_uid(&reference.uid) {
        return match (&*owner.key.namespace, &*object.key.namespace) {
            // No namespaced object can own one of the cluster: somebody's mistake, not garbage.
            (owner, "") if !owner.is_empty() => Owner::Unknown,
            (owner, own) if !owner.is_empty() && owner != own => Owner::Absent,
            _ if is_deleting_dependents(&owner) => Owner::Waiting,
            _ => Owner::Solid,
        };
    }
    match kinds.map(|kinds| kinds(&reference.api_version, &reference.kind)) {
        Some(None) => Owner::Unknown,
        Some(Some(Scope::Namespaced)) if object.key.namespace.is_empty() => Owner::Unknown,
        Some(Some(_)) | None => Owner::Absent,
    }
}

/// Whether an owner is where its dependent can have it.
fn can_own(owner: &Object, dependent: &Object) -> bool {
    owner.key.namespace.is_empty() || owner.key.namespace == dependent.key.namespace
}

fn is_deleting_dependents(object: &Object) -> bool {
    object.meta.terminating
        && References::of(object)
            .finalizers
            .iter()
            .any(|finalizer| &**finalizer == FOREGROUND)
}

/// Whether the deletion of an owner waits for a dependent.
fn blocks(dependent: &Object, uid: &str) -> bool {
    let references = References::of(dependent).references;
    references
        .iter()
        .any(|reference| &*reference.uid == uid && reference.block_owner_deletion)
}

/// The part of an object that this controller reads, without building a tree of the rest.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct References {
    #[serde(default, rename = "ownerReferences", deserialize_with = "nullable")]
    references: Vec<Reference>,
    #[serde(default, deserialize_with = "nullable")]
    finalizers: Vec<Box<str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    #[serde(default)]
    api_version: Box<str>,
    #[serde(default)]
    kind: Box<str>,
    #[serde(default)]
    uid: Box<str>,
    #[serde(default, deserialize_with = "nullable")]
    block_owner_deletion: bool,
}

fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl References {
    /// An object whose metadata cannot be read has none, so nothing is done to it.
    fn of(object: &Object) -> Self {
        #[derive(Deserialize)]
        struct Head {
            #[serde(default)]
            metadata: References,
        }
        serde_json::from_slice::<Head>(&object.json)
            .map(|head| head.metadata)
            .unwrap_or_default()
    }
}

fn without_references(object: &Value, uids: &[&str]) -> Value {
    retain(object, "ownerReferences", |reference| {
        !reference["uid"]
            .as_str()
            .is_some_and(|uid| uids.contains(&uid))
    })
}

fn without_finalizer(object: &Object, finalizer: &str) -> Value {
    retain(&object.value(), "finalizers", |found| found != finalizer)
}

fn unblocked(object: &Object) -> Value {
    let mut value = object.value();
    let references = value["metadata"]["ownerReferences"].as_array_mut();
    for reference in references.into_iter().flatten() {
        reference["blockOwnerDeletion"] = false.into();
    }
    value
}

/// The object with a list of its metadata filtered, and without it when nothing is left.
fn retain(object: &Value, list: &str, keep: impl Fn(&Value) -> bool) -> Value {
    let mut value = object.clone();
    if let Some(metadata) = value["metadata"].as_object_mut()
        && let Some(items) = metadata.get_mut(list).and_then(Value::as_array_mut)
    {
        items.retain(keep);
        if items.is_empty() {
            metadata.remove(list);
        }
    }
    value
}
