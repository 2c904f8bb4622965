//! A structural schema becomes an arena of types.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{entries, flag, list, object, present, text};
use crate::field_error::{FieldError, Kind};
use crate::types::{Checks, Field, ListKind, PatchStrategy, Pattern, Shape, Type, TypeId, Types};

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The root of a resource.
    Root,
    /// On the spine, where types are declared.
    Spine,
    /// Inside of `allOf`, `anyOf`, `oneOf` or `not`.
    Nested,
}

struct Builder<'a> {
    types: &'a mut Types,
    /// Keywords whose values have the wrong type.
    malformed: Vec<FieldError>,
}

/// Adds a schema that follows the rules to `types`; the answer is its root and what is malformed.
pub(super) fn root(types: &mut Types, path: &str, schema: &Value) -> (TypeId, Vec<FieldError>) {
    let mut builder = Builder {
        types,
        malformed: Vec::new(),
    };
    let root = builder.push(path, schema, Place::Root);
    (root, builder.malformed)
}

impl Builder<'_> {
    fn push(&mut self, path: &str, schema: &Value, place: Place) -> TypeId {
        let shape = self.shape(path, schema, place);
        let mut checks = self.checks(path, schema, place);
        let typed = !text(schema, "type").is_empty() || matches!(shape, Shape::IntOrString);
        checks.untyped = !typed && !matches!(shape, Shape::Any);
        if place == Place::Nested
            && object(schema, "properties").is_some()
            && let Some(items) = present(schema, "items")
        {
            let item = self.push(&format!("{path}.items"), items, place);
            checks.all_of.push(self.types.push(Type {
                shape: Shape::List {
                    item,
                    kind: ListKind::Atomic,
                },
                checks: Some(Box::new(Checks {
                    untyped: true,
                    ..Checks::default()
                })),
                ..Type::default()
            }));
        }
        let description = text(schema, "description");
        let checks = (!is_empty(&checks)).then(|| Box::new(checks));
        self.types.push(Type {
            name: None,
            shape,
            nullable: flag(schema, "nullable"),
            default: present(schema, "default").cloned(),
            description: (!description.is_empty()).then(|| description.into()),
            checks,
        })
    }

    fn shape(&mut self, path: &str, schema: &Value, place: Place) -> Shape {
        if flag(schema, "x-kubernetes-int-or-string") {
            return Shape::IntOrString;
        }
        let has = |key| present(schema, key).is_some();
        let format = || text(schema, "format").into();
        match text(schema, "type") {
            "object" => self.object(path, schema, place),
            "array" => self.list(path, schema, place),
            "string" => Shape::String { format: format() },
            "integer" => Shape::Integer { format: format() },
            "number" => Shape::Number,
            "boolean" => Shape::Boolean,
            _ if has("properties") || has("required") || has("additionalProperties") => {
                self.object(path, schema, place)
            }
            _ if has("items") => self.list(path, schema, place),
            _ if has("format") => Shape::String { format: format() },
            _ => Shape::Any,
        }
    }

    fn object(&mut self, path: &str, schema: &Value, place: Place) -> Shape {
        let atomic = text(schema, "x-kubernetes-map-type") == "atomic";
        let properties = object(schema, "properties").filter(|it| !it.is_empty());
        let additional = present(schema, "additionalProperties");
        if let (None, Some(additional)) = (properties, additional) {
            let value = match additional {
                Value::Object(_) => self.push(
                    &format!("{path}.additionalProperties"),
                    additional,
                    inner(place),
                ),
                // Values are scalars at will; objects among them know no fields.
                _ => self.types.push(Type {
                    shape: structure(BTreeMap::new(), Vec::new()),
                    checks: Some(Box::new(Checks {
                        untyped: true,
                        ..Checks::default()
                    })),
                    ..Type::default()
                }),
            };
            return Shape::Map { value, atomic };
        }
        let embedded = place == Place::Root || flag(schema, "x-kubernetes-embedded-resource");
        let mut fields = BTreeMap::new();
        for (name, property) in entries(schema, "properties") {
            let at = format!("{path}.properties[{name}]");
            let ty = if embedded && name == "metadata" {
                self.metadata(&at, property)
            } else {
                self.push(&at, property, inner(place))
            };
            fields.insert(name.as_str().into(), field(ty));
        }
        if embedded {
            self.resource(&mut fields);
        }
        let required = list(schema, "required").iter().filter_map(Value::as_str);
        Shape::Struct {
            fields,
            required: required.map(Into::into).collect(),
            preserve_unknown: place == Place::Nested
                || flag(schema, "x-kubernetes-preserve-unknown-fields")
                || additional == Some(&Value::Bool(true)),
            atomic,
            embedded,
        }
    }

    /// What every resource has, as far as the schema does not say it.
    fn resource(&mut self, fields: &mut BTreeMap<Box<str>, Field>) {
        let said = [
            (
                "apiVersion",
                "APIVersion defines the versioned schema of this representation of an object.",
            ),
            (
                "kind",
                "Kind is a string value representing the REST resource this object represents.",
            ),
        ];
        for (name, description) in said {
            if !fields.contains_key(name) {
                let ty = self.types.push(Type {
                    shape: Shape::String { format: "".into() },
                    description: Some(description.into()),
                    checks: Some(Box::new(Checks {
                        untyped: true,
                        ..Checks::default()
                    })),
                    ..Type::default()
                });
                fields.insert(name.into(), field(ty));
            }
        }
        if !fields.contains_key("metadata") {
            let ty = super::object_meta(self.types);
            fields.insert("metadata".into(), field(ty));
        }
    }

    /// `metadata` with what the schema says of its fields (a pattern of names, mostly).
    fn metadata(&mut self, path: &str, schema: &Value) -> TypeId {
        let mut own = BTreeMap::new();
        for (name, property) in entries(schema, "properties") {
            let at = format!("{path}.properties[{name}]");
            let ty = self.push(&at, property, Place::Spine);
            own.insert(name.as_str().into(), field(ty));
        }
        super::meta::object_meta_with(self.types, own)
    }

    fn list(&mut self, path: &str, schema: &Value, place: Place) -> Shape {
        let item = match present(schema, "items") {
            Some(items) => self.push(&format!("{path}.items"), items, inner(place)),
            None => self.types.push(Type::default()),
        };
        let kind = match text(schema, "x-kubernetes-list-type") {
            "set" => ListKind::Set,
            "map" => ListKind::Map(
                list(schema, "x-kubernetes-list-map-keys")
                    .iter()
                    .filter_map(Value::as_str)
                    .map(Into::into)
                    .collect(),
            ),
            _ => ListKind::Atomic,
        };
        Shape::List { item, kind }
    }

    fn checks(&mut self, path: &str, schema: &Value, place: Place) -> Checks {
        let title = text(schema, "title");
        let source = text(schema, "pattern");
        let pattern = (!source.is_empty())
            .then(|| super::compile_pattern(source).ok())
            .flatten()
            .map(|regex| Pattern {
                source: source.into(),
                regex,
            });
        Checks {
            untyped: false,
            title: (!title.is_empty()).then(|| title.into()),
            one_of_values: present(schema, "enum").and_then(Value::as_array).cloned(),
            minimum: self.bound(path, schema, "minimum", "exclusiveMinimum"),
            maximum: self.bound(path, schema, "maximum", "exclusiveMaximum"),
            multiple_of: self.number(path, schema, "multipleOf"),
            min_length: self.count(path, schema, "minLength"),
            max_length: self.count(path, schema, "maxLength"),
            pattern,
            min_items: self.count(path, schema, "minItems"),
            max_items: self.count(path, schema, "maxItems"),
            unique_items: flag(schema, "uniqueItems"),
            min_properties: self.count(path, schema, "minProperties"),
            max_properties: self.count(path, schema, "maxProperties"),
            all_of: self.nested(path, schema, "allOf"),
            // `anyOf: [integer, string]` beside `x-kubernetes-int-or-string` says nothing new, but
            // it is written and published.
            any_of: self.nested(path, schema, "anyOf"),
            one_of: self.nested(path, schema, "oneOf"),
            not: present(schema, "not")
                .map(|not| self.push(&format!("{path}.not"), not, Place::Nested)),
            rules: match place {
                Place::Nested => Vec::new(),
                Place::Root | Place::Spine => list(schema, "x-kubernetes-validations").to_vec(),
            },
        }
    }

    fn nested(&mut self, path: &str, schema: &Value, key: &str) -> Vec<TypeId> {
        list(schema, key)
            .iter()
            .enumerate()
            .map(|(i, nested)| self.push(&format!("{path}.{key}[{i}]"), nested, Place::Nested))
            .collect()
    }

    fn bound(
        &mut self,
        path: &str,
        schema: &Value,
        key: &str,
        exclusive: &str,
    ) -> Option<(f64, bool)> {
        Some((self.number(path, schema, key)?, flag(schema, exclusive)))
    }

    fn number(&mut self, path: &str, schema: &Value, key: &str) -> Option<f64> {
        let value = present(schema, key)?;
        let number = value.as_f64();
        if number.is_none() {
            self.malformed(path, key, value, "must be a number");
        }
        number
    }

    fn count(&mut self, path: &str, schema: &Value, key: &str) -> Option<u64> {
        let value = present(schema, key)?;
        // A negative lower bound says nothing; a negative upper bound is as good as none.
        let count = value.as_u64().or_else(|| value.as_i64().map(|_| 0));
        if count.is_none() {
            self.malformed(path, key, value, "must be an integer");
        }
        count
    }

    fn malformed(&mut self, path: &str, key: &str, value: &Value, detail: &str) {
        let at = format!("{path}.{key}");
        self.malformed.push(FieldError::with_value(
            Kind::TypeInvalid,
            at,
            value.clone(),
            detail,
        ));
    }
}

fn inner(place: Place) -> Place {
    match place {
        Place::Root | Place::Spine => Place::Spine,
        Place::Nested => Place::Nested,
    }
}

fn field(ty: TypeId) -> Field {
    Field {
        ty,
        number: None,
        patch: PatchStrategy::default(),
    }
}

fn structure(fields: BTreeMap<Box<str>, Field>, required: Vec<Box<str>>) -> Shape {
    Shape::Struct {
        fields,
        required,
        preserve_unknown: false,
        atomic: false,
        embedded: false,
    }
}

fn is_empty(checks: &Checks) -> bool {
    let bounds = [
        checks.min_length,
        checks.max_length,
        checks.min_items,
        checks.max_items,
        checks.min_properties,
        checks.max_properties,
    ];
    !checks.untyped
        && checks.title.is_none()
        && checks.one_of_values.is_none()
        && checks.minimum.is_none()
        && checks.maximum.is_none()
        && checks.multiple_of.is_none()
        && checks.pattern.is_none()
        && bounds.iter().all(Option::is_none)
        && !checks.unique_items
        && [&checks.all_of, &checks.any_of, &checks.one_of]
            .iter()
            .all(|it| it.is_empty())
        && checks.not.is_none()
        && checks.rules.is_empty()
}
