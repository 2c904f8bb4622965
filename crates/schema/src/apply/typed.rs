//! Values seen through a schema, as merging sees them: every type comes down to a scalar, a list or
//! a map (facts: kube-openapi `schemaconv`, structured-merge-diff `typed`).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};

use super::fieldset::{Element, FieldSet, path_text};
use super::literal::{self, Literal};
use crate::types::{Field, ListKind, Node, PatchStrategy, Schema, Shape, Type, TypeId, Types};

/// How deep values are walked. Request bodies are bounded far below this.
const MAX_DEPTH: usize = 512;

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
    element: Option<Ty<'a>>,
    pub(super) atomic: bool,
    object: bool,
}

static ATOMIC: ListKind = ListKind::Atomic;

impl<'a> Ty<'a> {
    const ANY: Ty<'static> = Ty { node: None, open: true, object: false };

    /// The type of a whole Kubernetes object.
    pub(super) fn object(node: Node<'a>) -> Self {
        Self { node: Some(node), open: false, object: true }
    }

    fn of(node: Node<'a>, open: bool) -> Self {
        Self { node: Some(node), open, object: false }
    }

    /// What a value of this type is. A type that may be anything is what the value is, and a map
    /// when there is none.
    pub(super) fn atom(self, value: Option<&Value>) -> Atom<'a> {
        let Some(node) = self.node else { return self.any(value) };
        match node.shape() {
            Shape::Any | Shape::IntOrString => self.any(value),
            Shape::Struct { fields, preserve_unknown, atomic, embedded, .. } => {
                let open = self.open || *preserve_unknown;
                let element = (open || fields.is_empty()).then_some(Self::ANY);
                Atom::Map(MapAtom {
                    fields: Some((Ty { node: Some(node), open, object: false }, fields)),
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
            Shape::List { item, kind } => {
                Atom::List { item: Ty::of(node.at(*item), self.open), kind }
            }
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
            Some(Value::Array(_)) => Atom::List { item: Self::ANY, kind: &ATOMIC },
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
        match self.node.map(|node| node.shape()) {
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
        match self.node.map(|node| node.shape()) {
            Some(Shape::Struct { fields, .. }) => fields.values().any(|f| f.number.is_some()),
            _ => false,
        }
    }

    /// The map form whatever the value, for walks of field sets.
    fn map(self) -> Option<MapAtom<'a>> {
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
    fn built_in_struct(&self, name: &str) -> Option<Ty<'a>> {
        let (ty, fields) = self.fields?;
        let field = fields.get(name).filter(|field| field.number.is_some())?;
        let node = ty.node?.at(field.ty);
        let granular = matches!(node.shape(), Shape::Struct { atomic: false, .. });
        granular.then_some(Ty::of(node, ty.open))
    }

    fn only_unknown(&self) -> bool {
        let declared = self.object || self.fields.is_some_and(|(_, fields)| !fields.is_empty());
        !declared && self.element.is_some_and(|ty| ty.node.is_none())
    }
}

/// The shape of `ObjectMeta` as far as merging is concerned.
struct ObjectMeta {
    root: Node<'static>,
    string: Node<'static>,
}

fn object_meta() -> ObjectMeta {
    static SCHEMA: OnceLock<(Schema, TypeId)> = OnceLock::new();
    let (schema, string) = SCHEMA.get_or_init(build_object_meta);
    let root = schema.node();
    ObjectMeta { root, string: root.at(*string) }
}

fn build_object_meta() -> (Schema, TypeId) {
    let mut types = Types::default();
    let mut push = |shape: Shape| types.push(Type { shape, ..Type::default() });
    let string = push(Shape::String { format: "".into() });
    let integer = push(Shape::Integer { format: "int64".into() });
    let time = push(Shape::String { format: "date-time".into() });
    let boolean = push(Shape::Boolean);
    let strings = push(Shape::Map { value: string, atomic: false });
    let any = push(Shape::Any);
    let structure = |fields: &[(&str, TypeId)], atomic: bool| Shape::Struct {
        fields: fields
            .iter()
            .map(|(name, ty)| {
                let field = Field { ty: *ty, number: None, patch: PatchStrategy::default() };
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
    let owners = push(Shape::List { item: owner, kind: ListKind::Map(vec!["uid".into()]) });
    let finalizers = push(Shape::List { item: string, kind: ListKind::Set });
    let managed = push(Shape::List { item: any, kind: ListKind::Atomic });
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
    let (mut before, mut after) = (before.clone(), after.clone());
    fill_structs(ty, &mut before);
    fill_structs(ty, &mut after);
    drop_zeros(ty, &mut before, &mut after);
    (Cow::Owned(before), Cow::Owned(after))
}

fn fill_structs(ty: Ty<'_>, object: &mut Value) {
    let (Some(map), Some(object)) = (ty.map(), object.as_object_mut()) else { return };
    for (name, nested) in ALWAYS_THERE {
        let Some(ty) = map.built_in_struct(name) else { continue };
        let value = object.entry(*name).or_insert_with(|| Value::Object(Map::new()));
        let Some(fields) = value.as_object_mut() else { continue };
        for name in *nested {
            if ty.map().is_some_and(|map| map.built_in_struct(name).is_some()) {
                fields.entry(*name).or_insert_with(|| Value::Object(Map::new()));
            }
        }
    }
}

fn drop_zeros(ty: Ty<'_>, left: &mut Value, right: &mut Value) {
    let Some(map) = ty.map() else { return };
    let (Some(left), Some(right)) = (left.as_object_mut(), right.as_object_mut()) else { return };
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

/// The list, where null counts as none and anything else as none too.
pub(super) fn list_of(value: Option<&Value>) -> Option<&Vec<Value>> {
    value.and_then(Value::as_array)
}

/// The map, likewise.
pub(super) fn map_of(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

/// How an item of a set or map list is known.
pub(super) fn item_element(item_ty: Ty<'_>, kind: &ListKind, item: &Value) -> Result<Element, String> {
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
                "associative list without keys has an element that's an explicit null".to_owned()
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
            None => item_ty.map().and_then(|map| map.field(key).1).and_then(Ty::default_value),
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

/// How strict [`validate`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strictness {
    /// What is being applied: no unknown fields, no item twice.
    Config,
    /// What is stored already.
    Stored,
}

/// What keeps a value from being merged by its schema; the text lists everything.
pub(super) fn validate(ty: Ty<'_>, value: &Value, strictness: Strictness) -> Result<(), String> {
    let mut validation = Validation { strictness, path: Vec::new(), errors: Vec::new() };
    validation.walk(ty, value);
    match validation.errors.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => {
            let mut text = "errors:".to_owned();
            for error in many {
                text.push_str("\n  ");
                text.push_str(error);
            }
            Err(text)
        }
    }
}

struct Validation {
    strictness: Strictness,
    path: Vec<Element>,
    errors: Vec<String>,
}

impl Validation {
    fn fail(&mut self, message: String) {
        let path = path_text(&self.path);
        self.errors.push(if path.is_empty() { message } else { format!("{path}: {message}") });
    }

    fn walk(&mut self, ty: Ty<'_>, value: &Value) {
        if self.path.len() > MAX_DEPTH {
            self.fail(format!("nested more than {MAX_DEPTH} levels deep"));
            return;
        }
        match ty.atom(Some(value)) {
            Atom::Scalar(scalar) => {
                if let Err(message) = check_scalar(scalar, value) {
                    self.fail(message);
                }
            }
            Atom::List { item, kind } => match value {
                Value::Null => {}
                Value::Array(items) => self.list(item, kind, items),
                _ => self.fail(format!("expected list, got &{{{}}}", literal::plain(value))),
            },
            Atom::Map(map) => match value {
                Value::Null => {}
                Value::Object(fields) => self.map(&map, fields),
                _ => self.fail(format!("expected map, got &{{{}}}", literal::plain(value))),
            },
        }
    }

    fn list(&mut self, item_ty: Ty<'_>, kind: &ListKind, items: &[Value]) {
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let element = if *kind == ListKind::Atomic {
                Element::Index(i64::try_from(index).unwrap_or(i64::MAX))
            } else {
                match item_element(item_ty, kind, item) {
                    Ok(element) => element,
                    Err(message) => {
                        self.fail(format!("element {index}: {message}"));
                        return;
                    }
                }
            };
            if !seen.insert(element.clone()) && self.strictness == Strictness::Config {
                self.fail(format!("duplicate entries for key {element}"));
            }
            self.path.push(element);
            self.walk(item_ty, item);
            self.path.pop();
        }
    }

    fn map(&mut self, map: &MapAtom<'_>, fields: &Map<String, Value>) {
        for (name, value) in fields {
            self.path.push(Element::field(name));
            match map.field(name).1 {
                Some(ty) => self.walk(ty, value),
                None if self.strictness == Strictness::Config => {
                    // One such field tells enough about its map.
                    self.fail("field not declared in schema".to_owned());
                    self.path.pop();
                    return;
                }
                None => {}
            }
            self.path.pop();
        }
    }
}

fn check_scalar(scalar: Scalar, value: &Value) -> Result<(), String> {
    match (scalar, value) {
        (_, Value::Null)
        | (Scalar::Number, Value::Number(_))
        | (Scalar::String, Value::String(_))
        | (Scalar::Boolean, Value::Bool(_))
        | (Scalar::Any, Value::Number(_) | Value::String(_) | Value::Bool(_)) => Ok(()),
        (Scalar::Number, _) => {
            Err(format!("expected numeric (int or float), got {}", literal::type_name(value)))
        }
        (Scalar::String, _) => Err(format!(
            "expected string, got &value.valueUnstructured{{Value:{}}}",
            literal::syntax(value)
        )),
        (Scalar::Boolean, _) => {
            Err(format!("expected boolean, got &{{{}}}", literal::plain(value)))
        }
        (Scalar::Any, _) => Err(format!("expected any scalar, got &{{{}}}", literal::plain(value))),
    }
}

/// The paths of everything that a value sets.
pub(super) fn field_set(ty: Ty<'_>, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    collect(ty, value, &mut Vec::new(), &mut set);
    set
}

fn collect(ty: Ty<'_>, value: &Value, path: &mut Vec<Element>, set: &mut FieldSet) {
    match ty.atom(Some(value)) {
        Atom::Scalar(_) => set.insert(path),
        Atom::List { kind: ListKind::Atomic, .. } => set.insert(path),
        Atom::List { item, kind } => collect_items(item, kind, list_of(Some(value)), path, set),
        Atom::Map(map) if map.atomic => set.insert(path),
        Atom::Map(map) => {
            for (name, value) in map_of(Some(value)).into_iter().flatten() {
                let (declared, ty) = map.field(name);
                path.push(Element::field(name));
                collect(ty.unwrap_or(Ty::ANY), value, path, set);
                let hollow = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                if hollow || !declared {
                    set.insert(path);
                }
                path.pop();
            }
        }
    }
}

/// Items that are there more than once are owned as a whole, without what is in them.
fn collect_items(
    item_ty: Ty<'_>,
    kind: &ListKind,
    items: Option<&Vec<Value>>,
    path: &mut Vec<Element>,
    set: &mut FieldSet,
) {
    let mut found: BTreeMap<Element, Vec<&Value>> = BTreeMap::new();
    for item in items.into_iter().flatten() {
        if let Ok(element) = item_element(item_ty, kind, item) {
            found.entry(element).or_default().push(item);
        }
    }
    for (element, items) in found {
        path.push(element);
        set.insert(path);
        if let [item] = items.as_slice() {
            collect(item_ty, item, path, set);
        }
        path.pop();
    }
}

/// Adds every declared field that something in the set lies below.
pub(super) fn with_named_fields(ty: Option<Ty<'_>>, set: &FieldSet) -> FieldSet {
    let map = ty.and_then(Ty::map);
    let mut members = set.members().clone();
    for element in set.children().keys() {
        if let (Element::Field(name), Some(map)) = (element, &map)
            && map.field(name).0
        {
            members.insert(element.clone());
        }
    }
    let children = set.children().iter().map(|(element, child)| {
        let child_ty = match (element, ty.map(|ty| ty.atom(None)), &map) {
            (Element::Field(name), _, Some(map)) => map.field(name).1,
            (Element::Key(_), Some(Atom::List { item, .. }), _) => Some(item),
            _ => None,
        };
        (element.clone(), with_named_fields(child_ty, child))
    });
    FieldSet::from_parts(members, children)
}

/// A set whose owner wrote when a list or map was granular that has become atomic since: the owner
/// of a part becomes owner of the whole.
pub(super) fn reconcile(ty: Ty<'_>, set: &FieldSet) -> FieldSet {
    let mut wholes = FieldSet::default();
    find_wholes(ty, Some(set), false, &mut Vec::new(), &mut wholes);
    if wholes.is_empty() {
        return set.clone();
    }
    set.difference_below(&wholes).union(&wholes)
}

fn find_wholes(
    ty: Ty<'_>,
    set: Option<&FieldSet>,
    owned_whole: bool,
    path: &mut Vec<Element>,
    wholes: &mut FieldSet,
) {
    let atom = ty.atom(None);
    match &atom {
        Atom::Scalar(_) => return,
        Atom::List { kind: ListKind::Atomic, .. } => {
            if !owned_whole {
                wholes.insert(path);
            }
            return;
        }
        Atom::Map(map) if map.only_unknown() => return,
        Atom::Map(map) if map.atomic && !owned_whole => {
            if set.is_some_and(|set| !set.is_empty()) {
                wholes.insert(path);
            }
            return;
        }
        Atom::List { .. } | Atom::Map(_) => {}
    }
    let Some(set) = set else { return };
    let elements: BTreeSet<&Element> = set.members().iter().chain(set.children().keys()).collect();
    for element in elements {
        let child_ty = match (&atom, element) {
            (Atom::Map(map), Element::Field(name)) => map.field(name).1,
            (Atom::Map(map), _) => map.element,
            (Atom::List { item, .. }, _) => Some(*item),
            (Atom::Scalar(_), _) => None,
        };
        let Some(child_ty) = child_ty else { continue };
        let child = set.children().get(element);
        let whole = set.members().contains(element) && child.is_none();
        path.push(element.clone());
        find_wholes(child_ty, child, whole, path, wholes);
        path.pop();
    }
}
