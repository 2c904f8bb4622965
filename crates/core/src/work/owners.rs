//! Whose an applied object is: a plain owner reference to the AppliedManifestWork for each work that wants it.

use serde_json::{Map, Value, json};

/// `apiVersion` of the owner.
pub const OWNER_API_VERSION: &str = "work.open-cluster-management.io/v1";
/// `kind` of the owner.
pub const OWNER_KIND: &str = "AppliedManifestWork";

/// An AppliedManifestWork as an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Owner {
    /// The reference: not a controller, `blockOwnerDeletion` unset.
    pub fn reference(&self) -> Value {
        json!({ "apiVersion": OWNER_API_VERSION, "kind": OWNER_KIND, "name": self.name, "uid": self.uid })
    }
}

/// The owner references of an object.
pub fn of(object: &Value) -> &[Value] {
    object
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Whether this AppliedManifestWork owns the object.
pub fn owns(owner: &Owner, object: &Value) -> bool {
    of(object).iter().any(|reference| is(owner, reference))
}

/// Whether another AppliedManifestWork owns the object too.
pub fn shared(owner: &Owner, object: &Value) -> bool {
    of(object)
        .iter()
        .any(|reference| is_work(reference) && !is(owner, reference))
}

/// The names of all AppliedManifestWorks that own the object.
pub fn works(object: &Value) -> impl Iterator<Item = &str> {
    of(object)
        .iter()
        .filter(|reference| is_work(reference))
        .filter_map(|reference| reference.get("name")?.as_str())
}

/// The object's owner references with (or without) this owner; absent when nothing changes.
pub fn change(object: &Value, owner: &Owner, wanted: bool) -> Option<Vec<Value>> {
    if owns(owner, object) == wanted {
        return None;
    }
    let mut references: Vec<Value> = of(object)
        .iter()
        .filter(|reference| !is(owner, reference))
        .cloned()
        .collect();
    if wanted {
        references.push(owner.reference());
    }
    Some(references)
}

/// A JSON merge patch that sets the owner references of the object as it was observed, and fails if it changed since.
pub fn patch(object: &Value, references: Vec<Value>) -> Value {
    let mut metadata = Map::new();
    for member in ["uid", "resourceVersion"] {
        if let Some(value) = object.pointer(&format!("/metadata/{member}")) {
            metadata.insert(member.to_owned(), value.clone());
        }
    }
    metadata.insert("ownerReferences".to_owned(), Value::Array(references));
    json!({ "metadata": metadata })
}

fn is(owner: &Owner, reference: &Value) -> bool {
    reference.get("uid").and_then(Value::as_str) == Some(&owner.uid)
}

fn is_work(reference: &Value) -> bool {
    reference.get("kind").and_then(Value::as_str) == Some(OWNER_KIND)
        && reference
            .get("apiVersion")
            .and_then(Value::as_str)
            .is_some_and(|version| version.starts_with("work.open-cluster-management.io/"))
}
