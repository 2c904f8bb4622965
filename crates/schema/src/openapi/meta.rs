//! Definitions that every document has: lists, options, answers (apimachinery: pkg/apis/meta/v1).

use std::sync::Arc;

use serde_json::{Value, json};

use super::Described;
use super::emit::{Emitter, Flavour};
use crate::structural::object_meta;
use crate::types::{Schema, Types};

/// The prefix of names of meta types.
const PREFIX: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// A reference to a meta type.
pub(super) fn reference(flavour: Flavour, name: &str) -> Value {
    flavour.reference(&format!("{PREFIX}{name}"))
}

/// The definition of a list.
pub(super) fn list(kind: &Described<'_>, flavour: Flavour) -> Value {
    json!({
        "description": format!("{} is a list of {}", kind.list_kind, kind.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": text("The version of this representation of an object."),
            "kind": text("The REST resource this object represents."),
            "metadata": reference(flavour, "ListMeta"),
            "items": {
                "description": format!("List of {}.", kind.plural),
                "type": "array",
                "items": flavour.reference(&kind.definition_name()),
            },
        },
        "x-kubernetes-group-version-kind": [kind.gvk(kind.list_kind)],
    })
}

fn text(description: &str) -> Value {
    json!({"description": description, "type": "string"})
}

/// Adds what paths refer to, unless the types of kinds brought it along.
pub(super) fn add(flavour: Flavour, scale: bool, emitter: &mut Emitter) {
    let mut types = Types::default();
    let root = object_meta(&mut types);
    // Its name makes it a definition; the reference itself is of no use here.
    drop(emitter.schema(Schema::new(Arc::new(types), root).node()));
    let mut put = |name: &str, schema: Value| {
        emitter.definitions.entry(name).or_insert(schema);
    };
    for (name, schema) in meta(flavour) {
        put(&format!("{PREFIX}{name}"), schema);
    }
    if scale {
        put(SCALE, scale_schema(flavour));
    }
}

fn meta(flavour: Flavour) -> [(&'static str, Value); 7] {
    let string = || json!({"type": "string"});
    let int64 = || json!({"type": "integer", "format": "int64"});
    let gvk = |kind: &str| json!([{"group": "", "version": "v1", "kind": kind}]);
    [
        (
            "Patch",
            json!({"description": "A patch of an object.", "type": "object"}),
        ),
        (
            "ListMeta",
            json!({
                "description": "Metadata of a list.",
                "type": "object",
                "properties": {
                    "continue": string(), "remainingItemCount": int64(), "resourceVersion": string(),
                    "selfLink": string(),
                },
            }),
        ),
        (
            "Preconditions",
            json!({
                "description": "What must hold before an operation is carried out.",
                "type": "object",
                "properties": {"resourceVersion": string(), "uid": string()},
            }),
        ),
        (
            "DeleteOptions",
            json!({
                "description": "Options of a deletion.",
                "type": "object",
                "properties": {
                    "apiVersion": string(),
                    "dryRun": {"type": "array", "items": string(), "x-kubernetes-list-type": "atomic"},
                    "gracePeriodSeconds": int64(),
                    "kind": string(),
                    "orphanDependents": {"type": "boolean"},
                    "preconditions": reference(flavour, "Preconditions"),
                    "propagationPolicy": string(),
                },
                "x-kubernetes-group-version-kind": gvk("DeleteOptions"),
            }),
        ),
        (
            "StatusCause",
            json!({
                "description": "One reason of a failure.",
                "type": "object",
                "properties": {"field": string(), "message": string(), "reason": string()},
            }),
        ),
        (
            "StatusDetails",
            json!({
                "description": "What a failure is about.",
                "type": "object",
                "properties": {
                    "causes": {
                        "type": "array",
                        "items": reference(flavour, "StatusCause"),
                        "x-kubernetes-list-type": "atomic",
                    },
                    "group": string(), "kind": string(), "name": string(),
                    "retryAfterSeconds": {"type": "integer", "format": "int32"},
                    "uid": string(),
                },
            }),
        ),
        (
            "Status",
            json!({
                "description": "The answer of a call that does not answer with an object.",
                "type": "object",
                "properties": {
                    "apiVersion": string(),
                    "code": {"type": "integer", "format": "int32"},
                    "details": reference(flavour, "StatusDetails"),
                    "kind": string(), "message": string(),
                    "metadata": reference(flavour, "ListMeta"),
                    "reason": string(), "status": string(),
                },
                "x-kubernetes-group-version-kind": gvk("Status"),
            }),
        ),
    ]
}

/// The name of the definition of scales.
pub(super) const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";

fn scale_schema(flavour: Flavour) -> Value {
    let int32 = || json!({"type": "integer", "format": "int32"});
    json!({
        "description": "How many replicas are wanted, and how many there are.",
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": reference(flavour, "ObjectMeta"),
            "spec": {"type": "object", "properties": {"replicas": int32()}},
            "status": {
                "type": "object",
                "required": ["replicas"],
                "properties": {"replicas": int32(), "selector": {"type": "string"}},
            },
        },
        "x-kubernetes-group-version-kind":
            [{"group": "autoscaling", "version": "v1", "kind": "Scale"}],
    })
}
