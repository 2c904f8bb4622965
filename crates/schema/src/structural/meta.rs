//! The metadata that every object has (apimachinery: pkg/apis/meta/v1/types.go).

use std::collections::BTreeMap;

use crate::types::{Checks, Field, ListKind, PatchStrategy, Shape, Type, TypeId, Types};

/// Upstream's prefix of names of meta types.
const PREFIX: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// Adds `ObjectMeta` to an arena. Its types are not checked by [`crate::validate`]: whoever decodes
/// a request checks metadata for all kinds alike.
pub fn object_meta(types: &mut Types) -> TypeId {
    object_meta_with(types, BTreeMap::new())
}

/// The same, with some fields as a definition describes them.
pub(super) fn object_meta_with(types: &mut Types, own: BTreeMap<Box<str>, Field>) -> TypeId {
    let mut meta = Meta { types };
    let text = meta.string("");
    let int64 = meta.push(Shape::Integer {
        format: "int64".into(),
    });
    let boolean = meta.push(Shape::Boolean);
    let texts = meta.push(Shape::Map {
        value: text,
        atomic: false,
    });
    let time = meta.named(
        "Time",
        Shape::String {
            format: "date-time".into(),
        },
    );
    let owners = meta.owners(text, boolean);
    let finalizers = meta.push(Shape::List {
        item: text,
        kind: ListKind::Set,
    });
    let managed = meta.managed(text, time);
    let name = own.is_empty().then_some("ObjectMeta");
    let mut fields = fields(&[
        ("annotations", texts),
        ("creationTimestamp", time),
        ("deletionGracePeriodSeconds", int64),
        ("deletionTimestamp", time),
        ("finalizers", finalizers),
        ("generateName", text),
        ("generation", int64),
        ("labels", texts),
        ("managedFields", managed),
        ("name", text),
        ("namespace", text),
        ("ownerReferences", owners),
        ("resourceVersion", text),
        ("selfLink", text),
        ("uid", text),
    ]);
    fields.extend(own);
    let shape = structure(fields, &[], false);
    meta.described(name, shape, "Standard object's metadata.")
}

struct Meta<'a> {
    types: &'a mut Types,
}

impl Meta<'_> {
    fn push(&mut self, shape: Shape) -> TypeId {
        self.described(None, shape, "")
    }

    fn named(&mut self, name: &str, shape: Shape) -> TypeId {
        self.described(Some(name), shape, "")
    }

    fn described(&mut self, name: Option<&str>, shape: Shape, description: &str) -> TypeId {
        self.types.push(Type {
            name: name.map(|name| format!("{PREFIX}{name}").into()),
            shape,
            description: (!description.is_empty()).then(|| description.into()),
            checks: Some(Box::new(Checks {
                untyped: true,
                ..Checks::default()
            })),
            ..Type::default()
        })
    }

    fn string(&mut self, format: &str) -> TypeId {
        self.push(Shape::String {
            format: format.into(),
        })
    }

    fn owners(&mut self, text: TypeId, boolean: TypeId) -> TypeId {
        let fields = fields(&[
            ("apiVersion", text),
            ("blockOwnerDeletion", boolean),
            ("controller", boolean),
            ("kind", text),
            ("name", text),
            ("uid", text),
        ]);
        let required = ["apiVersion", "kind", "name", "uid"];
        let owner = self.named("OwnerReference", structure(fields, &required, true));
        self.push(Shape::List {
            item: owner,
            kind: ListKind::Map(vec!["uid".into()]),
        })
    }

    fn managed(&mut self, text: TypeId, time: TypeId) -> TypeId {
        let keep = Shape::Struct {
            fields: BTreeMap::new(),
            required: Vec::new(),
            preserve_unknown: true,
            atomic: true,
            embedded: false,
        };
        let any = self.named("FieldsV1", keep);
        let fields = fields(&[
            ("apiVersion", text),
            ("fieldsType", text),
            ("fieldsV1", any),
            ("manager", text),
            ("operation", text),
            ("subresource", text),
            ("time", time),
        ]);
        let entry = self.named("ManagedFieldsEntry", structure(fields, &[], false));
        self.push(Shape::List {
            item: entry,
            kind: ListKind::Atomic,
        })
    }
}

fn fields(list: &[(&str, TypeId)]) -> BTreeMap<Box<str>, Field> {
    list.iter()
        .map(|&(name, ty)| {
            (
                (*name).into(),
                Field {
                    ty,
                    number: None,
                    patch: PatchStrategy::default(),
                },
            )
        })
        .collect()
}

fn structure(fields: BTreeMap<Box<str>, Field>, required: &[&str], atomic: bool) -> Shape {
    Shape::Struct {
        fields,
        required: required.iter().map(|&name| name.into()).collect(),
        preserve_unknown: false,
        atomic,
        embedded: false,
    }
}
