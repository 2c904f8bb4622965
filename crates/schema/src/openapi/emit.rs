//! Types as schemas.

use serde_json::{Map, Value, json};

use crate::types::{Checks, Field, ListKind, Node, Shape, TypeId};

/// Which of the two specifications a document follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    V2,
    V3,
}

impl Flavour {
    /// A reference to a definition.
    pub(super) fn reference(self, name: &str) -> Value {
        let prefix = match self {
            Self::V2 => "#/definitions/",
            Self::V3 => "#/components/schemas/",
        };
        json!({"$ref": format!("{prefix}{name}")})
    }
}

/// Collects the definitions that schemas refer to.
pub(super) struct Emitter {
    flavour: Flavour,
    pub(super) definitions: Map<String, Value>,
    /// Types that are being written: one that contains itself without a name is cut short.
    open: Vec<TypeId>,
}

impl Emitter {
    pub(super) fn new(flavour: Flavour) -> Self {
        Self {
            flavour,
            definitions: Map::new(),
            open: Vec::new(),
        }
    }

    /// The schema of a resource.
    pub(super) fn root(&mut self, node: Node<'_>) -> Value {
        let mut body = self.body(node);
        if let Some(body) = body.as_object_mut() {
            body.remove("x-kubernetes-embedded-resource");
        }
        body
    }

    /// The schema of a type, a reference when it has a name.
    pub(super) fn schema(&mut self, node: Node<'_>) -> Value {
        let Some(name) = &node.ty().name else {
            return self.body(node);
        };
        if !self.definitions.contains_key(&**name) {
            self.definitions.insert(name.to_string(), Value::Null);
            let body = self.body(node);
            self.definitions.insert(name.to_string(), body);
        }
        self.flavour.reference(name)
    }

    fn body(&mut self, node: Node<'_>) -> Value {
        let mut out = Map::new();
        let ty = node.ty();
        if let Some(description) = &ty.description {
            out.insert("description".to_owned(), json!(description));
        }
        if self.open.contains(&node.id()) {
            out.insert("type".to_owned(), json!("object"));
            return Value::Object(out);
        }
        self.open.push(node.id());
        self.shape(node, &mut out);
        if ty.nullable && self.flavour == Flavour::V3 {
            out.insert("nullable".to_owned(), json!(true));
        }
        if let Some(default) = &ty.default {
            out.insert("default".to_owned(), default.clone());
        }
        if let Some(checks) = &ty.checks {
            self.checks(node, checks, &mut out);
        }
        self.open.pop();
        Value::Object(out)
    }

    fn shape(&mut self, node: Node<'_>, out: &mut Map<String, Value>) {
        let mut put = |key: &str, value: Value| {
            out.insert(key.to_owned(), value);
        };
        match node.shape() {
            Shape::Any => put("x-kubernetes-preserve-unknown-fields", json!(true)),
            Shape::Struct {
                fields,
                required,
                preserve_unknown,
                atomic,
                embedded,
            } => {
                put("type", json!("object"));
                let properties: Map<String, Value> = fields
                    .iter()
                    .map(|(name, field)| (name.to_string(), self.field(node, field)))
                    .collect();
                if !properties.is_empty() {
                    put("properties", Value::Object(properties));
                }
                if !required.is_empty() {
                    put("required", json!(required));
                }
                if *preserve_unknown {
                    put("x-kubernetes-preserve-unknown-fields", json!(true));
                }
                if *atomic {
                    put("x-kubernetes-map-type", json!("atomic"));
                }
                if *embedded {
                    put("x-kubernetes-embedded-resource", json!(true));
                }
            }
            Shape::Map { value, atomic } => {
                put("type", json!("object"));
                put("additionalProperties", self.schema(node.at(*value)));
                if *atomic {
                    put("x-kubernetes-map-type", json!("atomic"));
                }
            }
            Shape::List { item, kind } => {
                put("type", json!("array"));
                put("items", self.schema(node.at(*item)));
                match kind {
                    ListKind::Atomic => put("x-kubernetes-list-type", json!("atomic")),
                    ListKind::Set => put("x-kubernetes-list-type", json!("set")),
                    ListKind::Map(keys) => {
                        put("x-kubernetes-list-type", json!("map"));
                        put("x-kubernetes-list-map-keys", json!(keys));
                    }
                }
            }
            Shape::String { format } => {
                put("type", json!("string"));
                if !format.is_empty() {
                    put("format", json!(format));
                }
            }
            Shape::Integer { format } => {
                put("type", json!("integer"));
                if !format.is_empty() {
                    put("format", json!(format));
                }
            }
            Shape::Number => put("type", json!("number")),
            Shape::Boolean => put("type", json!("boolean")),
            Shape::IntOrString => {
                put("x-kubernetes-int-or-string", json!(true));
                if self.flavour == Flavour::V3 {
                    put("anyOf", json!([{"type": "integer"}, {"type": "string"}]));
                }
            }
        }
    }

    fn field(&mut self, node: Node<'_>, field: &Field) -> Value {
        let target = node.at(field.ty);
        let mut schema = self.schema(target);
        let patch = &field.patch;
        let plain = !patch.merge && !patch.retain_keys && patch.merge_key.is_none();
        let reference = schema.get("$ref").is_some();
        // Beside a reference nothing else counts, so v3 wraps it.
        if reference && self.flavour == Flavour::V3 {
            let description = target.ty().description.as_ref();
            if plain && description.is_none() {
                return schema;
            }
            schema = json!({"allOf": [schema]});
            if let (Some(schema), Some(description)) = (schema.as_object_mut(), description) {
                schema.insert("description".to_owned(), json!(description));
            }
        }
        if let (false, Some(schema)) = (plain, schema.as_object_mut()) {
            let strategies: Vec<&str> = [(patch.merge, "merge"), (patch.retain_keys, "retainKeys")]
                .into_iter()
                .filter_map(|(on, name)| on.then_some(name))
                .collect();
            schema.insert(
                "x-kubernetes-patch-strategy".to_owned(),
                json!(strategies.join(",")),
            );
            if let Some(key) = &patch.merge_key {
                schema.insert("x-kubernetes-patch-merge-key".to_owned(), json!(key));
            }
        }
        schema
    }

    fn checks(&mut self, node: Node<'_>, checks: &Checks, out: &mut Map<String, Value>) {
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                out.insert(key.to_owned(), value);
            }
        };
        put("title", checks.title.as_ref().map(|it| json!(it)));
        put("enum", checks.one_of_values.as_ref().map(|it| json!(it)));
        for (key, exclusive, bound) in [
            ("minimum", "exclusiveMinimum", checks.minimum),
            ("maximum", "exclusiveMaximum", checks.maximum),
        ] {
            put(key, bound.map(|(bound, _)| number(bound)));
            put(
                exclusive,
                bound.filter(|(_, out)| *out).map(|_| json!(true)),
            );
        }
        put("multipleOf", checks.multiple_of.map(number));
        put(
            "pattern",
            checks.pattern.as_ref().map(|it| json!(it.source)),
        );
        for (key, count) in [
            ("minLength", checks.min_length),
            ("maxLength", checks.max_length),
            ("minItems", checks.min_items),
            ("maxItems", checks.max_items),
            ("minProperties", checks.min_properties),
            ("maxProperties", checks.max_properties),
        ] {
            put(key, count.map(|count| json!(count)));
        }
        put(
            "uniqueItems",
            checks.unique_items.then_some(Value::Bool(true)),
        );
        let rules = (!checks.rules.is_empty()).then(|| json!(checks.rules));
        put("x-kubernetes-validations", rules);
        // v2 knows no alternatives.
        for (key, nested) in [
            ("allOf", &checks.all_of),
            ("anyOf", &checks.any_of),
            ("oneOf", &checks.one_of),
        ] {
            if !nested.is_empty() && self.flavour == Flavour::V3 {
                put(
                    key,
                    Some(nested.iter().map(|id| self.nested(node.at(*id))).collect()),
                );
            }
        }
        if let Some(not) = checks.not.filter(|_| self.flavour == Flavour::V3) {
            put("not", Some(self.nested(node.at(not))));
        }
    }

    /// A schema of value validations: it speaks of no types and keeps nothing.
    fn nested(&mut self, node: Node<'_>) -> Value {
        let mut schema = self.body(node);
        strip(node, &mut schema);
        schema
    }
}

/// Takes away what a schema inside of `allOf` and the like did not say and must not say.
fn strip(node: Node<'_>, schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else {
        return;
    };
    if node.checks().is_some_and(|checks| checks.untyped) {
        map.remove("type");
    }
    map.remove("x-kubernetes-preserve-unknown-fields");
    map.remove("x-kubernetes-list-type");
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        for (name, property) in properties {
            if let Some(field) = node.field(name) {
                strip(field, property);
            }
        }
    }
    if let (Some(items), Some(item)) = (map.get_mut("items"), node.item()) {
        strip(item, items);
    }
}

/// Whole numbers without a fraction.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        json!(value as i64)
    } else {
        json!(value)
    }
}
