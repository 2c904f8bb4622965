//! The table of built-in types, read once: as Go structs (for the codecs) and as an arena of
//! [`Types`] (for everything that merges and prunes).
//!
//! `types.txt` is written by `cargo xtask builtin`. A line that starts a definition has its OpenAPI
//! name and `a` when it merges as one value; an indented line is a field: JSON name, numbers in
//! protobuf (through embedded messages), Go names of embedded structs, type, flags (`o` omitempty,
//! `z` omitzero) and attributes (`r` required, `a` atomic map, `l=` list type, `p=` patch strategy,
//! `k=` merge key, `d=` default).

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::types::{Field, ListKind, PatchStrategy, Schema, Shape, Type, TypeId, Types};

const TABLE: &str = include_str!("types.txt");

/// A definition's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DefId(pub(crate) u16);

/// A type expression's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GoId(u16);

/// A Go type, as far as the encodings differ.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Go {
    Text,
    Bool,
    Int32,
    Int64,
    Float,
    Bytes,
    Pointer(GoId),
    List(GoId),
    Map(GoId),
    /// A named type that is encoded as what it stands for.
    Named(GoId),
    /// A named list that protobuf wraps in a message with the items as field 1.
    Wrapped(GoId),
    Struct(DefId),
}

/// Definitions with an encoding of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    /// A struct like all others.
    None,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    RawExtension,
    FieldsV1,
    Json,
    SchemaOrArray,
    SchemaOrBool,
    SchemaOrStrings,
}

/// A struct.
#[derive(Debug)]
pub(crate) struct Definition {
    /// Name in OpenAPI.
    pub(crate) name: &'static str,
    pub(crate) special: Special,
    /// In the order of the Go struct, embedded structs flattened.
    pub(crate) fields: Vec<GoField>,
    node: TypeId,
}

impl Definition {
    /// The name of the Go struct.
    pub(crate) fn go_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    pub(crate) fn field(&self, json: &str) -> Option<&GoField> {
        self.fields.iter().find(|field| field.json == json)
    }
}

/// A field of a struct.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GoField {
    pub(crate) json: &'static str,
    /// Numbers from the outermost embedded message to the field; zeroes follow. All zero: the field
    /// is not in protobuf.
    pub(crate) numbers: [u16; 3],
    /// Go names of the embedded structs on the way, with dots between.
    pub(crate) embedded: &'static str,
    pub(crate) ty: GoId,
    pub(crate) omit_empty: bool,
    pub(crate) omit_zero: bool,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Registry {
    types: Arc<Types>,
    definitions: Vec<Definition>,
    by_name: BTreeMap<&'static str, DefId>,
    go: Vec<(&'static str, Go)>,
}

impl Registry {
    /// The only one.
    pub(crate) fn get() -> &'static Self {
        static REGISTRY: OnceLock<Registry> = OnceLock::new();
        REGISTRY.get_or_init(|| Builder::default().build())
    }

    pub(crate) fn find(&self, name: &str) -> Option<DefId> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn definition(&self, id: DefId) -> &Definition {
        &self.definitions[usize::from(id.0)]
    }

    pub(crate) fn go(&self, id: GoId) -> Go {
        self.go[usize::from(id.0)].1
    }

    /// The type expression as the table writes it.
    pub(crate) fn expression(&self, id: GoId) -> &'static str {
        self.go[usize::from(id.0)].0
    }

    /// The shape of a definition; one that knows nothing when there is no such definition.
    pub(crate) fn schema(&self, name: &str) -> Schema {
        match self.find(name) {
            Some(id) => Schema::new(Arc::clone(&self.types), self.definition(id).node),
            None => Schema::any(),
        }
    }
}

/// The Go type as Go's errors print it (`v1.PullPolicy`, `[]v1.Container`).
pub(crate) fn printed(expression: &str) -> String {
    if let Some(rest) = expression.strip_prefix('*') {
        return format!("*{}", printed(rest));
    }
    if let Some(rest) = expression.strip_prefix("[]") {
        return format!("[]{}", printed(rest));
    }
    if let Some((key, value)) = expression
        .strip_prefix("map[")
        .and_then(|rest| rest.split_once(']'))
    {
        return format!("map[{key}]{}", printed(value));
    }
    if let Some(definition) = expression.strip_prefix('@') {
        let mut parts = definition.rsplit('.');
        let (name, package) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        return format!("{package}.{name}");
    }
    match expression.split_once(['=', '~']) {
        Some((name, _)) => name.to_owned(),
        None if expression == "bytes" => "[]uint8".to_owned(),
        None => expression.to_owned(),
    }
}

#[derive(Default)]
struct Builder {
    types: Types,
    definitions: Vec<Definition>,
    by_name: BTreeMap<&'static str, DefId>,
    go: Vec<(&'static str, Go)>,
    go_ids: BTreeMap<&'static str, GoId>,
    nodes: BTreeMap<(&'static str, &'static str), TypeId>,
}

impl Builder {
    fn build(mut self) -> Registry {
        for line in TABLE.lines().filter(|line| !line.starts_with('\t')) {
            let name = line.split('\t').next().unwrap_or_default();
            let node = self.types.push(Type::default());
            self.by_name
                .insert(name, DefId(self.definitions.len() as u16));
            let special = special(name);
            self.definitions.push(Definition {
                name,
                special,
                fields: Vec::new(),
                node,
            });
        }
        let mut lines = TABLE.lines().peekable();
        let mut at = 0;
        while let Some(head) = lines.next() {
            let mut fields = BTreeMap::new();
            let mut required = Vec::new();
            while let Some(line) = lines.next_if(|line| line.starts_with('\t')) {
                self.field(at, line, &mut fields, &mut required);
            }
            let definition = &self.definitions[at];
            let atomic = head.ends_with("\ta");
            let shape = match definition.special {
                Special::None => Shape::Struct {
                    fields,
                    required,
                    preserve_unknown: false,
                    atomic,
                    embedded: false,
                },
                Special::Time | Special::MicroTime => Shape::String {
                    format: "date-time".into(),
                },
                Special::Quantity | Special::IntOrString => Shape::IntOrString,
                _ => Shape::Any,
            };
            let name = Some(definition.name.into());
            self.types.set(
                definition.node,
                Type {
                    name,
                    shape,
                    ..Type::default()
                },
            );
            at += 1;
        }
        self.definitions
            .iter_mut()
            .for_each(|definition| definition.fields.shrink_to_fit());
        Registry {
            types: Arc::new(self.types),
            definitions: self.definitions,
            by_name: self.by_name,
            go: self.go,
        }
    }

    fn field(
        &mut self,
        definition: usize,
        line: &'static str,
        fields: &mut BTreeMap<Box<str>, Field>,
        required: &mut Vec<Box<str>>,
    ) {
        let mut columns = line.trim_start_matches('\t').split('\t');
        let mut column = || columns.next().unwrap_or_default();
        let (json, path, embedded, expression, rest) =
            (column(), column(), column(), column(), column());
        let (flags, attributes) = rest.split_once(' ').unwrap_or((rest, ""));
        let mut numbers = [0; 3];
        for (slot, number) in numbers.iter_mut().zip(path.split('.')) {
            *slot = number.parse().unwrap_or(0);
        }
        let ty = self.go(expression);
        self.definitions[definition].fields.push(GoField {
            json,
            numbers,
            embedded,
            ty,
            omit_empty: flags.contains('o'),
            omit_zero: flags.contains('z'),
        });
        let mut patch = PatchStrategy::default();
        for attribute in attributes.split(' ') {
            match attribute.split_once('=') {
                None if attribute == "r" => required.push(json.into()),
                Some(("p", strategies)) => {
                    patch.merge = strategies.contains("merge");
                    patch.retain_keys = strategies.contains("retainKeys");
                }
                Some(("k", key)) => patch.merge_key = Some(key.into()),
                _ => {}
            }
        }
        let number = (numbers[0] != 0 && numbers[1] == 0).then_some(u32::from(numbers[0]));
        let ty = self.node(expression, attributes);
        fields.insert(json.into(), Field { ty, number, patch });
    }

    fn go(&mut self, expression: &'static str) -> GoId {
        if let Some(id) = self.go_ids.get(expression) {
            return *id;
        }
        let go = if let Some(rest) = expression.strip_prefix('*') {
            Go::Pointer(self.go(rest))
        } else if let Some(rest) = expression.strip_prefix("[]") {
            Go::List(self.go(rest))
        } else if let Some((_, value)) = map(expression) {
            Go::Map(self.go(value))
        } else if let Some(name) = expression.strip_prefix('@') {
            Go::Struct(self.by_name.get(name).copied().unwrap_or(DefId(0)))
        } else if let Some((_, target)) = expression.split_once('~') {
            Go::Wrapped(self.go(target))
        } else if let Some((_, target)) = expression.split_once('=') {
            Go::Named(self.go(target))
        } else {
            match expression {
                "bool" => Go::Bool,
                "int32" | "uint32" => Go::Int32,
                "int64" => Go::Int64,
                "float64" => Go::Float,
                "bytes" => Go::Bytes,
                _ => Go::Text,
            }
        };
        let id = GoId(self.go.len() as u16);
        self.go.push((expression, go));
        self.go_ids.insert(expression, id);
        id
    }

    /// The node of a type expression with the merge attributes of a field.
    fn node(&mut self, expression: &'static str, attributes: &'static str) -> TypeId {
        let expression = expression.trim_start_matches('*');
        if let Some(name) = expression.strip_prefix('@') {
            let id = self.by_name.get(name).copied().unwrap_or(DefId(0));
            return self.definitions[usize::from(id.0)].node;
        }
        // Only attributes of the value belong to the node, not those of the field.
        let value_only = |attribute: &&str| {
            *attribute == "a" || attribute.starts_with("l=") || attribute.starts_with("d=")
        };
        let merge = attributes.split(' ').find(value_only).unwrap_or_default();
        if let Some(id) = self.nodes.get(&(expression, merge)) {
            return *id;
        }
        let inner = match expression.split_once(['=', '~']) {
            Some((name, target)) if !name.contains(['[', ']']) => target,
            _ => expression,
        };
        let shape = if let Some(item) = inner.strip_prefix("[]") {
            let kind = match merge.strip_prefix("l=") {
                None => ListKind::Atomic,
                Some("set") => ListKind::Set,
                Some(keys) => ListKind::Map(keys.split(',').map(Into::into).collect()),
            };
            Shape::List {
                item: self.node(item, ""),
                kind,
            }
        } else if let Some((_, value)) = map(inner) {
            Shape::Map {
                value: self.node(value, ""),
                atomic: merge == "a",
            }
        } else {
            match inner {
                "bool" => Shape::Boolean,
                "int32" | "int64" | "uint32" => Shape::Integer {
                    format: inner.into(),
                },
                "float64" => Shape::Number,
                "bytes" => Shape::String {
                    format: "byte".into(),
                },
                _ => Shape::String { format: "".into() },
            }
        };
        let default = merge
            .strip_prefix("d=")
            .and_then(|text| serde_json::from_str(text).ok());
        let id = self.types.push(Type {
            shape,
            default,
            ..Type::default()
        });
        self.nodes.insert((expression, merge), id);
        id
    }
}

fn map(expression: &'static str) -> Option<(&'static str, &'static str)> {
    expression.strip_prefix("map[")?.split_once(']')
}

fn special(name: &str) -> Special {
    match name.rsplit('.').next().unwrap_or_default() {
        "Time" => Special::Time,
        "MicroTime" => Special::MicroTime,
        "Quantity" => Special::Quantity,
        "IntOrString" => Special::IntOrString,
        "RawExtension" => Special::RawExtension,
        "FieldsV1" => Special::FieldsV1,
        "JSON" => Special::Json,
        "JSONSchemaPropsOrArray" => Special::SchemaOrArray,
        "JSONSchemaPropsOrBool" => Special::SchemaOrBool,
        "JSONSchemaPropsOrStringArray" => Special::SchemaOrStrings,
        _ => Special::None,
    }
}
