//! Values seen through a schema, as merging sees them: every type comes down to a scalar, a list or
//! a map (facts: kube-openapi `schemaconv`, structured-merge-diff `typed`).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fieldset::Element;
use super::known::object_meta;
use super::literal::{self, Literal};
use crate::types::{Field, ListKind, Node, Shape};

/// A type during a walk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ty<'a> {
    /// `None`: nothing is known.
    node: Option<Node<'a>>,
    /// Below something that keeps unknown fields, every struct does.
    open: bool,
    /// The object itself, or an embedded one: `metadata` is what it always is.
    object: bool,
}

/// A type brought down to what a value of it is.
#[derive(Clone, Copy)]
pub(super) enum Atom<'a> {
    Scalar(Scalar),
    List { item: Ty<'a>, kind: &'a ListKind },
    Map(MapAtom<'a>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Number,
    String,
    Boolean,
    Any,
}

#[derive(Clone, Copy)]
pub(super) struct MapAtom<'a> {
    fields: Option<(Ty<'a>, &'a BTreeMap<Box<str>, Field>)>,
    /// The type of values under names that are not declared; `None`: there must be none.
    pub(super) element: Option<Ty<'a>>,
    pub(super) atomic: bool,
    object: bool,
}

static ATOMIC: ListKind = ListKind::Atomic;

impl<'a> Ty<'a> {
    pub(super) const ANY: Ty<'static> = Ty {
        node: None,
        open: true,
        object: false,
    };

    /// The type of a whole Kubernetes object.
    pub(super) fn object(node: Node<'a>) -> Self {
        Self {
            node: Some(node),
            open: false,
            object: true,
        }
    }

    fn of(node: Node<'a>, open: bool) -> Self {
        Self {
            node: Some(node),
            open,
            object: false,
        }
    }

    /// What a value of this type is. A type that may be anything is what the value is, and a map
    /// when there is none.
    pub(super) fn atom(self, value: Option<&Value>) -> Atom<'a> {
        let Some(node) = self.node else {
            return self.any(value);
        };
        match node.shape() {
            // What a built-in kind takes as it is has one owner.
            Shape::Any if node.ty().name.is_some() && value.is_none_or(Value::is_object) => {
                Atom::Map(MapAtom {
                    fields: None,
                    element: Some(Self::ANY),
                    atomic: true,
                    object: false,
                })
            }
            Shape::Any | Shape::IntOrString => self.any(value),
            Shape::Struct {
                fields,
                preserve_unknown,
                atomic,
                embedded,
                ..
            } => {
                let open = self.open || *preserve_unknown;
                let element = (open || fields.is_empty()).then_some(Self::ANY);
                Atom::Map(MapAtom {
                    fields: Some((
                        Ty {
                            node: Some(node),
                            open,
                            object: false,
                        },
                        fields,
                    )),
                    element,
                    atomic: *atomic,
                    object: self.object || *embedded,
                })
            }
            Shape::Map { value, atomic } => Atom::Map(MapAtom {
                fields: None,
                element: Some(Ty::of(node.at(*value), self.open)),
                atomic: *atomic,
                object: self.object,
            }),
            Shape::List { item, kind } => Atom::List {
                item: Ty::of(node.at(*item), self.open),
                kind,
            },
            Shape::String { format } if format.is_empty() || &**format == "byte" => {
                Atom::Scalar(Scalar::String)
            }
            Shape::String { .. } => Atom::Scalar(Scalar::Any),
            Shape::Integer { .. } | Shape::Number => Atom::Scalar(Scalar::Number),
            Shape::Boolean => Atom::Scalar(Scalar::Boolean),
        }
    }

    fn any(self, value: Option<&Value>) -> Atom<'a> {
        match value {
            Some(Value::Array(_)) => Atom::List {
                item: Self::ANY,
                kind: &ATOMIC,
            },
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => Atom::Scalar(Scalar::Any),
            Some(Value::Object(_) | Value::Null) | None => Atom::Map(MapAtom {
                fields: None,
                element: Some(Self::ANY),
                atomic: false,
                object: self.object,
            }),
        }
    }

    /// Whether the same type makes the same of two values.
    pub(super) fn same(self, left: Option<&Value>, right: Option<&Value>) -> bool {
        match self.node.map(Node::shape) {
            None | Some(Shape::Any | Shape::IntOrString) => {
                let class = |value: Option<&Value>| match value {
                    None | Some(Value::Null) => 0,
                    Some(Value::Array(_)) => 1,
                    Some(Value::Object(_)) => 2,
                    Some(_) => 3,
                };
                class(left) == class(right)
            }
            Some(_) => true,
        }
    }

    /// What an absent value of this type becomes.
    fn default_value(self) -> Option<&'a Value> {
        self.node.and_then(|node| node.ty().default.as_ref())
    }

    /// Whether this is a built-in kind: those have numbered fields.
    pub(super) fn is_built_in(self) -> bool {
        match self.node.map(Node::shape) {
            Some(Shape::Struct { fields, .. }) => fields.values().any(|f| f.number.is_some()),
            _ => false,
        }
    }

    /// The map form whatever the value, for walks of field sets.
    pub(super) fn map(self) -> Option<MapAtom<'a>> {
        match self.atom(None) {
            Atom::Map(map) => Some(map),
            _ => None,
        }
    }
}

impl<'a> MapAtom<'a> {
    /// Whether a field has a name in the schema, and its type if there may be such a field.
    pub(super) fn field(&self, name: &str) -> (bool, Option<Ty<'a>>) {
        if self.object {
            match name {
                "apiVersion" | "kind" => return (true, Some(Ty::of(object_meta().string, true))),
                "metadata" => return (true, Some(Ty::of(object_meta().root, true))),
                _ => {}
            }
        }
        if let Some((ty, fields)) = self.fields
            && let Some(field) = fields.get(name)
            && let Some(node) = ty.node
        {
            return (true, Some(Ty::of(node.at(field.ty), ty.open)));
        }
        (false, self.element)
    }

    /// As [`Self::field`]; what must not be there is taken for anything.
    pub(super) fn field_or_any(&self, name: &str) -> Ty<'a> {
        self.field(name).1.unwrap_or(Ty::ANY)
    }

    /// The type of a field of a built-in kind that is a granular struct.
    pub(super) fn built_in_struct(&self, name: &str) -> Option<Ty<'a>> {
        let (ty, fields) = self.fields?;
        let field = fields.get(name).filter(|field| field.number.is_some())?;
        let node = ty.node?.at(field.ty);
        let granular = matches!(node.shape(), Shape::Struct { atomic: false, .. });
        granular.then_some(Ty::of(node, ty.open))
    }

    pub(super) fn only_unknown(&self) -> bool {
        let declared = self.object || self.fields.is_some_and(|(_, fields)| !fields.is_empty());
        !declared && self.element.is_some_and(|ty| ty.node.is_none())
    }
}

/// The list, where null counts as none and anything else as none too.
pub(super) fn list_of(value: Option<&Value>) -> Option<&Vec<Value>> {
    value.and_then(Value::as_array)
}

/// The map, likewise.
pub(super) fn map_of(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

/// How an item of a set or map list is known.
pub(super) fn item_element(
    item_ty: Ty<'_>,
    kind: &ListKind,
    item: &Value,
) -> Result<Element, String> {
    match kind {
        ListKind::Atomic => Err("invalid indexing of non-associative list".to_owned()),
        ListKind::Set => match item {
            Value::Object(_) => {
                Err("associative list without keys has an element that's a map type".to_owned())
            }
            Value::Array(_) => {
                Err("not supported: associative list with lists as elements".to_owned())
            }
            Value::Null => Err(
                "associative list without keys has an element that's an explicit null".to_owned(),
            ),
            _ => Ok(Element::Value(Literal(item.clone()))),
        },
        ListKind::Map(keys) => keyed_element(item_ty, keys, item),
    }
}

fn keyed_element(item_ty: Ty<'_>, keys: &[Box<str>], item: &Value) -> Result<Element, String> {
    let object = match item {
        Value::Null => {
            return Err("associative list with keys may not have a null element".to_owned());
        }
        Value::Object(object) => object,
        _ => return Err("associative list with keys may not have non-map elements".to_owned()),
    };
    let mut fields = Vec::with_capacity(keys.len());
    for key in keys {
        let value = match object.get(&**key) {
            Some(value) => Some(value),
            None => item_ty
                .map()
                .and_then(|map| map.field(key).1)
                .and_then(Ty::default_value),
        };
        if let Some(value) = value {
            fields.push((key.clone(), Literal(value.clone())));
        }
    }
    if fields.is_empty() && !keys.is_empty() {
        let names: Vec<String> = keys.iter().map(|key| literal::quote(key)).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't \
             have default values for any key fields)",
            names.join(" ")
        ));
    }
    fields.sort();
    Ok(Element::Key(fields))
}
