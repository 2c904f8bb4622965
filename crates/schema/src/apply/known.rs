//! What is known of objects beside their schema: the shape of `ObjectMeta`, and what the Go types of
//! built-in kinds make of absent fields.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};

use super::typed::Ty;
use crate::builtin;
use crate::types::{Field, ListKind, Node, PatchStrategy, Schema, Shape, Type, TypeId, Types};

/// The shape of `ObjectMeta` as far as merging is concerned.
pub(super) struct ObjectMeta {
    pub(super) root: Node<'static>,
    pub(super) string: Node<'static>,
}

pub(super) fn object_meta() -> ObjectMeta {
    static SCHEMA: OnceLock<(Schema, TypeId)> = OnceLock::new();
    let (schema, string) = SCHEMA.get_or_init(build_object_meta);
    let root = schema.node();
    ObjectMeta {
        root,
        string: root.at(*string),
    }
}

fn build_object_meta() -> (Schema, TypeId) {
    let mut types = Types::default();
    let mut push = |shape: Shape| {
        types.push(Type {
            shape,
            ..Type::default()
        })
    };
    let string = push(Shape::String { format: "".into() });
    let integer = push(Shape::Integer {
        format: "int64".into(),
    });
    let time = push(Shape::String {
        format: "date-time".into(),
    });
    let boolean = push(Shape::Boolean);
    let strings = push(Shape::Map {
        value: string,
        atomic: false,
    });
    let any = push(Shape::Any);
    let structure = |fields: &[(&str, TypeId)], atomic: bool| Shape::Struct {
        fields: fields
            .iter()
            .map(|(name, ty)| {
                let field = Field {
                    ty: *ty,
                    number: None,
                    patch: PatchStrategy::default(),
                };
                (Box::from(*name), field)
            })
            .collect(),
        required: Vec::new(),
        preserve_unknown: false,
        atomic,
        embedded: false,
    };
    let owner = push(structure(
        &[
            ("apiVersion", string),
            ("kind", string),
            ("name", string),
            ("uid", string),
            ("controller", boolean),
            ("blockOwnerDeletion", boolean),
        ],
        true,
    ));
    let owners = push(Shape::List {
        item: owner,
        kind: ListKind::Map(vec!["uid".into()]),
    });
    let finalizers = push(Shape::List {
        item: string,
        kind: ListKind::Set,
    });
    let managed = push(Shape::List {
        item: any,
        kind: ListKind::Atomic,
    });
    let root = push(structure(
        &[
            ("name", string),
            ("generateName", string),
            ("namespace", string),
            ("selfLink", string),
            ("uid", string),
            ("resourceVersion", string),
            ("generation", integer),
            ("creationTimestamp", time),
            ("deletionTimestamp", time),
            ("deletionGracePeriodSeconds", integer),
            ("labels", strings),
            ("annotations", strings),
            ("ownerReferences", owners),
            ("finalizers", finalizers),
            ("managedFields", managed),
        ],
        false,
    ));
    (Schema::new(Arc::new(types), root), string)
}

/// Structs that objects of built-in kinds always have, if only empty (they are no pointers in the
/// types of Kubernetes), so that nobody owns their being there.
const ALWAYS_THERE: &[(&str, &[&str])] = &[
    ("spec", &["names"]),
    ("status", &["acceptedNames"]),
    ("source", &[]),
    ("deprecatedSource", &[]),
];

/// Two objects of a built-in kind as their Go types have them: structs that are always there are,
/// and a field that is null or empty text in one is not there when the other lacks it.
pub(super) fn as_structs<'v>(
    ty: Ty<'_>,
    before: &'v Value,
    after: &'v Value,
) -> (Cow<'v, Value>, Cow<'v, Value>) {
    if !ty.is_built_in() {
        return (Cow::Borrowed(before), Cow::Borrowed(after));
    }
    let (mut before, mut after) = (
        new_struct(before).unwrap_or_else(|| before.clone()),
        after.clone(),
    );
    fill_structs(ty, &mut before);
    fill_structs(ty, &mut after);
    drop_zeros(ty, &mut before, &mut after);
    (Cow::Owned(before), Cow::Owned(after))
}

/// An object with nothing in it but its kind, as the Go struct of this kind: with every struct that is no
/// pointer and every field that is never left out, so that nobody owns their being there.
fn new_struct(object: &Value) -> Option<Value> {
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    let definition = builtin::definition_of(text("apiVersion")?, text("kind")?)?;
    let bare = object.as_object().is_some_and(|fields| fields.len() == 2);
    let normal = bare.then(|| builtin::go::normalize(definition, object))?;
    normal.ok().map(|normal| normal.object)
}

fn fill_structs(ty: Ty<'_>, object: &mut Value) {
    let (Some(map), Some(object)) = (ty.map(), object.as_object_mut()) else {
        return;
    };
    for (name, nested) in ALWAYS_THERE {
        let Some(ty) = map.built_in_struct(name) else {
            continue;
        };
        let value = object
            .entry(*name)
            .or_insert_with(|| Value::Object(Map::new()));
        let Some(fields) = value.as_object_mut() else {
            continue;
        };
        for name in *nested {
            if ty
                .map()
                .is_some_and(|map| map.built_in_struct(name).is_some())
            {
                fields
                    .entry(*name)
                    .or_insert_with(|| Value::Object(Map::new()));
            }
        }
    }
}

fn drop_zeros(ty: Ty<'_>, left: &mut Value, right: &mut Value) {
    let Some(map) = ty.map() else { return };
    let (Some(left), Some(right)) = (left.as_object_mut(), right.as_object_mut()) else {
        return;
    };
    let is_zero = |value: &Value| value.is_null() || value == "";
    let declared = |name: &str| map.field(name).0;
    left.retain(|name, value| !is_zero(value) || !declared(name) || right.contains_key(name));
    right.retain(|name, value| !is_zero(value) || !declared(name) || left.contains_key(name));
    for (name, left) in left {
        if let (Some(ty), Some(right)) = (map.built_in_struct(name), right.get_mut(name)) {
            drop_zeros(ty, left, right);
        }
    }
}
