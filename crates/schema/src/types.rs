//! The tree of types that every other module walks.
//!
//! A [`Schema`] is a root in an arena of types ([`Types`]). Custom resource definitions make one
//! arena per version; all built-in kinds share one. Types may refer to each other freely, also in
//! circles (`JSONSchemaProps` does), because they refer by [`TypeId`].

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

/// The place of a type in its arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub u32);

/// An arena of types.
#[derive(Debug, Default)]
pub struct Types {
    nodes: Vec<Type>,
}

impl Types {
    /// Adds a type and tells its place.
    pub fn push(&mut self, ty: Type) -> TypeId {
        self.nodes.push(ty);
        TypeId(u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX))
    }

    /// Replaces a type that was pushed before (how circles are closed).
    pub fn set(&mut self, id: TypeId, ty: Type) {
        self.nodes[id.0 as usize] = ty;
    }

    /// How many types there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no type.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The type at a place.
    pub fn get(&self, id: TypeId) -> &Type {
        &self.nodes[id.0 as usize]
    }
}

/// One type.
#[derive(Clone, Debug, Default)]
pub struct Type {
    /// Upstream's definition name (`io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta`); documents
    /// refer to named types instead of repeating them.
    pub name: Option<Box<str>>,
    /// Its structure.
    pub shape: Shape,
    /// Whether `null` is a value of it.
    pub nullable: bool,
    /// What an absent field of this type becomes.
    pub default: Option<Value>,
    /// Text for `kubectl explain`.
    pub description: Option<Box<str>>,
    /// Everything else that a value must fulfil (custom resources only).
    pub checks: Option<Box<Checks>>,
}

/// The structure of a type, as far as merging, pruning and decoding need it.
#[derive(Clone, Debug, Default)]
pub enum Shape {
    /// Anything at all (`x-kubernetes-preserve-unknown-fields` without a type, `RawExtension`).
    /// Merges as a granular map of unknown fields, its lists are atomic.
    #[default]
    Any,
    /// An object with named fields.
    Struct {
        /// The fields by JSON name.
        fields: BTreeMap<Box<str>, Field>,
        /// Names of fields that must be there.
        required: Vec<Box<str>>,
        /// Whether fields that are not listed are kept (`x-kubernetes-preserve-unknown-fields`).
        preserve_unknown: bool,
        /// `x-kubernetes-map-type: atomic`.
        atomic: bool,
        /// `x-kubernetes-embedded-resource`.
        embedded: bool,
    },
    /// An object with any keys and one type of values (`additionalProperties`).
    Map {
        /// The type of the values.
        value: TypeId,
        /// `x-kubernetes-map-type: atomic`.
        atomic: bool,
    },
    /// An array.
    List {
        /// The type of the items.
        item: TypeId,
        /// How two of them merge.
        kind: ListKind,
    },
    /// Text; `format` as in OpenAPI (`byte`, `date-time`, …) where there is one.
    String {
        /// The OpenAPI format, empty when there is none.
        format: Box<str>,
    },
    /// A whole number.
    Integer {
        /// `int32`, `int64` or empty.
        format: Box<str>,
    },
    /// Any number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A number or text (`x-kubernetes-int-or-string`, quantities).
    IntOrString,
}

/// A field of a struct.
#[derive(Clone, Debug)]
pub struct Field {
    /// The type of its value.
    pub ty: TypeId,
    /// Its number in the Kubernetes protobuf encoding (built-in kinds only).
    pub number: Option<u32>,
    /// How a strategic merge patch treats it (built-in kinds only).
    pub patch: PatchStrategy,
}

/// `x-kubernetes-patch-strategy` and `x-kubernetes-patch-merge-key`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// `merge`: items of the list are merged by [`Self::merge_key`] (a set when there is none).
    pub merge: bool,
    /// `retainKeys`: only keys named by the patch survive.
    pub retain_keys: bool,
    /// The field that identifies an item.
    pub merge_key: Option<Box<str>>,
}

/// How two lists merge (`x-kubernetes-list-type`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    /// As one value.
    #[default]
    Atomic,
    /// As a set of scalars.
    Set,
    /// As a map whose keys are these fields of the items.
    Map(Vec<Box<str>>),
}

/// Validation keywords of a structural schema.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// The shape only says where to look, values of other types are fine (a schema without
    /// `type`, as inside of `anyOf`).
    pub untyped: bool,
    /// `title`.
    pub title: Option<Box<str>>,
    /// `enum`.
    pub one_of_values: Option<Vec<Value>>,
    /// `minimum`, `maximum` and whether the bound itself is excluded.
    pub minimum: Option<(f64, bool)>,
    /// See [`Self::minimum`].
    pub maximum: Option<(f64, bool)>,
    /// `multipleOf`.
    pub multiple_of: Option<f64>,
    /// `minLength`, `maxLength`: in characters.
    pub min_length: Option<u64>,
    /// See [`Self::min_length`].
    pub max_length: Option<u64>,
    /// `pattern`, compiled.
    pub pattern: Option<Pattern>,
    /// `minItems`.
    pub min_items: Option<u64>,
    /// `maxItems`.
    pub max_items: Option<u64>,
    /// `uniqueItems`.
    pub unique_items: bool,
    /// `minProperties`.
    pub min_properties: Option<u64>,
    /// `maxProperties`.
    pub max_properties: Option<u64>,
    /// `allOf`, `anyOf`, `oneOf`, `not`: value validations only, as a structural schema demands.
    pub all_of: Vec<TypeId>,
    /// See [`Self::all_of`].
    pub any_of: Vec<TypeId>,
    /// See [`Self::all_of`].
    pub one_of: Vec<TypeId>,
    /// See [`Self::all_of`].
    pub not: Option<TypeId>,
    /// `x-kubernetes-validations`, as written; [`crate::cel`] compiles them.
    pub rules: Vec<Value>,
}

/// A regular expression and its source.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// As written in the schema.
    pub source: Box<str>,
    /// Compiled; unanchored, as in OpenAPI.
    pub regex: regex::Regex,
}

/// A type and the arena that it lives in: what most functions take.
#[derive(Clone, Debug)]
pub struct Schema {
    types: Arc<Types>,
    root: TypeId,
}

impl Schema {
    /// A schema rooted at `root`.
    pub fn new(types: Arc<Types>, root: TypeId) -> Self {
        Self { types, root }
    }

    /// A schema that knows nothing.
    pub fn any() -> Self {
        let mut types = Types::default();
        let root = types.push(Type::default());
        Self::new(Arc::new(types), root)
    }

    /// The place of the root.
    pub fn root(&self) -> TypeId {
        self.root
    }

    /// The root as a node to walk from.
    pub fn node(&self) -> Node<'_> {
        Node {
            types: &self.types,
            id: self.root,
        }
    }
}

/// A type during a walk.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    types: &'a Types,
    id: TypeId,
}

impl<'a> Node<'a> {
    /// The type itself.
    pub fn ty(self) -> &'a Type {
        self.types.get(self.id)
    }

    /// Its shape.
    pub fn shape(self) -> &'a Shape {
        &self.ty().shape
    }

    /// Its place in the arena.
    pub fn id(self) -> TypeId {
        self.id
    }

    /// What else a value must fulfil.
    pub fn checks(self) -> Option<&'a Checks> {
        self.ty().checks.as_deref()
    }

    /// Another type of the same arena.
    pub fn at(self, id: TypeId) -> Node<'a> {
        Node {
            types: self.types,
            id,
        }
    }

    /// The declaration of a field, when this is a struct that has it.
    pub fn declared(self, name: &str) -> Option<&'a Field> {
        match self.shape() {
            Shape::Struct { fields, .. } => fields.get(name),
            _ => None,
        }
    }

    /// The type of a field of a struct, or of the values of a map.
    pub fn field(self, name: &str) -> Option<Node<'a>> {
        match self.shape() {
            Shape::Struct { fields, .. } => fields.get(name).map(|field| self.at(field.ty)),
            Shape::Map { value, .. } => Some(self.at(*value)),
            _ => None,
        }
    }

    /// The type of the items of a list.
    pub fn item(self) -> Option<Node<'a>> {
        match self.shape() {
            Shape::List { item, .. } => Some(self.at(*item)),
            _ => None,
        }
    }
}
