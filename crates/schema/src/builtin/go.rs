//! Objects as a Go program would read them into structs and write them again: values of the wrong
//! type are refused in Go's words, unknown fields are dropped and named, empty fields are left out
//! or written as the struct tags say.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::quantity;
use super::registry::{DefId, Definition, Go, GoField, GoId, Registry, Special, printed};
use super::time;

/// An object after it went through its Go struct.
#[derive(Clone, Debug, PartialEq)]
pub struct Normal {
    /// What is left of it, as an API server would answer it.
    pub object: Value,
    /// Paths of fields that the kind does not have (`spec.template.spec.containers[0].bogus`).
    pub unknown: Vec<String>,
}

/// Reads `value` as the struct `definition`.
pub(crate) fn normalize(definition: DefId, value: &Value) -> Result<Normal, String> {
    let registry = Registry::get();
    let mut reader = Reader {
        registry,
        structs: Vec::new(),
        names: Vec::new(),
        path: Vec::new(),
        unknown: Vec::new(),
    };
    let object = reader.structure(definition, value)?;
    Ok(Normal {
        object,
        unknown: reader.unknown,
    })
}

/// Adds what Go writes of empty fields and removes what it leaves out.
pub(crate) fn settle(
    registry: &Registry,
    definition: &Definition,
    object: &mut Map<String, Value>,
) {
    for field in &definition.fields {
        match object.get(field.json) {
            Some(value) if omitted(registry, field, value) => {
                object.remove(field.json);
            }
            Some(_) => {}
            None => {
                let zero = zero(registry, field.ty);
                if !omitted(registry, field, &zero) {
                    object.insert(field.json.to_owned(), zero);
                }
            }
        }
    }
}

fn omitted(registry: &Registry, field: &GoField, value: &Value) -> bool {
    if field.omit_zero && value.is_null() {
        return true;
    }
    field.omit_empty && is_empty(registry, field.ty, value)
}

/// What `omitempty` means by empty.
fn is_empty(registry: &Registry, ty: GoId, value: &Value) -> bool {
    match registry.go(ty) {
        Go::Pointer(_) => value.is_null(),
        Go::Named(target) | Go::Wrapped(target) => is_empty(registry, target, value),
        Go::Text | Go::Bytes => value.is_null() || value == "",
        Go::Bool => value.is_null() || *value == Value::Bool(false),
        Go::Int32 | Go::Int64 => value.is_null() || value.as_i64() == Some(0),
        Go::Float => value.is_null() || value.as_f64() == Some(0.0),
        Go::List(_) => value.as_array().is_none_or(Vec::is_empty),
        Go::Map(_) => value.as_object().is_none_or(Map::is_empty),
        Go::Struct(_) => false,
    }
}

/// What Go writes of a value that was never set.
#[expect(clippy::match_same_arms, reason = "one line per type")]
pub(crate) fn zero(registry: &Registry, ty: GoId) -> Value {
    match registry.go(ty) {
        Go::Text => Value::from(""),
        Go::Bool => Value::from(false),
        Go::Int32 | Go::Int64 => Value::from(0),
        Go::Float => Value::from(0),
        Go::Named(target) | Go::Wrapped(target) => zero(registry, target),
        Go::Pointer(_) | Go::Bytes | Go::List(_) | Go::Map(_) => Value::Null,
        Go::Struct(id) => {
            let definition = registry.definition(id);
            match definition.special {
                Special::None => {
                    let mut object = Map::new();
                    settle(registry, definition, &mut object);
                    Value::Object(object)
                }
                Special::Quantity => Value::from("0"),
                Special::IntOrString => Value::from(0),
                Special::SchemaOrBool => Value::from(false),
                _ => Value::Null,
            }
        }
    }
}

enum Step<'v> {
    Name(&'v str),
    Index(usize),
}

struct Reader<'v> {
    registry: &'static Registry,
    /// Names of the Go structs that are being read.
    structs: Vec<&'static str>,
    /// Names of their fields, as Go's errors list them.
    names: Vec<&'static str>,
    /// The path, as warnings about unknown fields print it.
    path: Vec<Step<'v>>,
    unknown: Vec<String>,
}

impl<'v> Reader<'v> {
    fn structure(&mut self, id: DefId, value: &'v Value) -> Result<Value, String> {
        let registry = self.registry;
        let definition = registry.definition(id);
        let mut object = Map::new();
        if let Value::Object(fields) = value {
            self.structs.push(definition.go_name());
            for (name, value) in fields {
                self.path.push(Step::Name(name));
                if let Some(field) = definition.field(name) {
                    let depth = self.names.len();
                    if !field.embedded.is_empty() && field.embedded != "TypeMeta" {
                        self.names.push(field.embedded);
                    }
                    self.names.push(field.json);
                    let read = self.value(field.ty, value)?;
                    self.names.truncate(depth);
                    object.insert(name.clone(), read);
                } else {
                    let path = self.path_text();
                    self.unknown.push(path);
                }
                self.path.pop();
            }
            self.structs.pop();
        }
        settle(registry, definition, &mut object);
        Ok(Value::Object(object))
    }

    fn value(&mut self, ty: GoId, value: &'v Value) -> Result<Value, String> {
        let registry = self.registry;
        if value.is_null() {
            return Ok(zero(registry, ty));
        }
        match registry.go(ty) {
            Go::Pointer(target) => self.value(target, value),
            Go::Named(target) | Go::Wrapped(target) => self.plain(target, ty, value),
            _ => self.plain(ty, ty, value),
        }
    }

    /// `shown` is the type that errors name.
    #[expect(clippy::match_same_arms, reason = "a table of types and values")]
    fn plain(&mut self, ty: GoId, shown: GoId, value: &'v Value) -> Result<Value, String> {
        match (self.registry.go(ty), value) {
            (Go::Text, Value::String(_)) | (Go::Bool, Value::Bool(_)) => Ok(value.clone()),
            (Go::Int32, Value::Number(number)) => {
                match number
                    .as_i64()
                    .and_then(|number| i32::try_from(number).ok())
                {
                    Some(number) => Ok(Value::from(number)),
                    None => Err(self.mismatch(&format!("number {number}"), shown)),
                }
            }
            (Go::Int64, Value::Number(number)) => match number.as_i64() {
                Some(number) => Ok(Value::from(number)),
                None => Err(self.mismatch(&format!("number {number}"), shown)),
            },
            (Go::Float, Value::Number(_)) => Ok(value.clone()),
            (Go::Bytes, Value::String(text)) => {
                let bytes = decode_base64(text)?;
                Ok(Value::from(STANDARD.encode(bytes)))
            }
            (Go::List(item), Value::Array(items)) => {
                let mut out = Vec::with_capacity(items.len());
                for (index, value) in items.iter().enumerate() {
                    self.path.push(Step::Index(index));
                    out.push(self.value(item, value)?);
                    self.path.pop();
                }
                Ok(Value::Array(out))
            }
            (Go::Map(item), Value::Object(items)) => {
                let mut out = Map::new();
                for (key, value) in items {
                    self.path.push(Step::Name(key));
                    out.insert(key.clone(), self.value(item, value)?);
                    self.path.pop();
                }
                Ok(Value::Object(out))
            }
            (Go::Named(target) | Go::Wrapped(target) | Go::Pointer(target), _) => {
                self.plain(target, shown, value)
            }
            (Go::Struct(id), _) => self.special(id, shown, value),
            _ => Err(self.mismatch(name_of(value), shown)),
        }
    }

    #[expect(clippy::match_same_arms, reason = "a table of types and values")]
    fn special(&mut self, id: DefId, shown: GoId, value: &'v Value) -> Result<Value, String> {
        let registry = self.registry;
        let props = || registry.find(SCHEMA_PROPS);
        match (registry.definition(id).special, value) {
            (Special::None, Value::Object(_)) => self.structure(id, value),
            (Special::Time, Value::String(text)) => time::normal(text, time::Precision::Seconds),
            (Special::MicroTime, Value::String(text)) => {
                time::normal(text, time::Precision::Micros)
            }
            (Special::Time | Special::MicroTime, _) => {
                Err(self.mismatch_named(name_of(value), "string"))
            }
            (Special::Quantity, Value::String(text)) => quantity::canonical(text).map(Value::from),
            (Special::Quantity, Value::Number(number)) => {
                quantity::canonical(&number.to_string()).map(Value::from)
            }
            (Special::Quantity, _) => Err(quantity::FORMAT_WRONG.to_owned()),
            (Special::IntOrString, Value::String(_)) => Ok(value.clone()),
            (Special::IntOrString, Value::Number(number)) => {
                match number
                    .as_i64()
                    .and_then(|number| i32::try_from(number).ok())
                {
                    Some(number) => Ok(Value::from(number)),
                    None => Err(self.mismatch_named(&format!("number {number}"), "int32")),
                }
            }
            (Special::IntOrString, _) => Err(self.mismatch_named(name_of(value), "int32")),
            (Special::RawExtension | Special::FieldsV1 | Special::Json, _) => Ok(value.clone()),
            (Special::SchemaOrBool, Value::Bool(_)) => Ok(value.clone()),
            (
                Special::SchemaOrBool | Special::SchemaOrArray | Special::SchemaOrStrings,
                Value::Object(_),
            ) => match props() {
                Some(props) => self.structure(props, value),
                None => Ok(value.clone()),
            },
            (Special::SchemaOrBool, _) => Err("boolean or JSON schema expected".to_owned()),
            (Special::SchemaOrArray, Value::Array(items)) => {
                let mut out = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    self.path.push(Step::Index(index));
                    out.push(match (props(), item) {
                        (Some(props), Value::Object(_)) => self.structure(props, item)?,
                        _ => return Err(self.mismatch_named(name_of(item), "v1.JSONSchemaProps")),
                    });
                    self.path.pop();
                }
                Ok(Value::Array(out))
            }
            (Special::SchemaOrStrings, Value::Array(items)) => {
                match items.iter().find(|item| !item.is_string()) {
                    Some(item) => Err(self.mismatch_named(name_of(item), "string")),
                    None => Ok(value.clone()),
                }
            }
            (Special::SchemaOrArray | Special::SchemaOrStrings, _) => Ok(Value::Null),
            (Special::None, _) => Err(self.mismatch(name_of(value), shown)),
        }
    }

    fn mismatch(&self, what: &str, ty: GoId) -> String {
        let expression = self.registry.expression(ty).trim_start_matches('*');
        self.mismatch_named(what, &printed(expression))
    }

    fn mismatch_named(&self, what: &str, ty: &str) -> String {
        match self.structs.last() {
            Some(name) => {
                let path = self.names.join(".");
                format!(
                    "json: cannot unmarshal {what} into Go struct field {name}.{path} of type {ty}"
                )
            }
            None => format!("json: cannot unmarshal {what} into Go value of type {ty}"),
        }
    }

    fn path_text(&self) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Index(index) => {
                    text.push('[');
                    text.push_str(&index.to_string());
                    text.push(']');
                }
                Step::Name(name) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(name);
                }
            }
        }
        text
    }
}

/// The struct that schemas of custom resources are read into.
pub(crate) const SCHEMA_PROPS: &str =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Base64 as Go reads it: line breaks are skipped, the error tells the first byte that is wrong.
fn decode_base64(text: &str) -> Result<Vec<u8>, String> {
    let clean: Vec<u8> = text
        .bytes()
        .filter(|byte| !matches!(byte, b'\r' | b'\n'))
        .collect();
    STANDARD.decode(&clean).map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _)
            | base64::DecodeError::InvalidLastSymbol(at, _) => at,
            base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => {
                clean.len() - clean.len() % 4
            }
        };
        format!("illegal base64 data at input byte {at}")
    })
}
