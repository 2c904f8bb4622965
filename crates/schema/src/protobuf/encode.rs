//! From JSON to bytes, field by field in the order of their numbers, as Go's generated code writes
//! them: values are written even when they are empty, pointers only when they are set.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::MAGIC;
use crate::builtin::definition_of;
use crate::builtin::go::SCHEMA_PROPS;
use crate::builtin::registry::{DefId, Definition, Go, GoId, Registry, Special};
use crate::builtin::time;

/// JSON itself nests at most 128 deep when it came from text.
const MAX_DEPTH: usize = 200;

pub(super) fn envelope(object: &Value) -> Option<Vec<u8>> {
    let api_version = object.get("apiVersion")?.as_str()?;
    let kind = object.get("kind")?.as_str()?;
    let encoder = Encoder {
        registry: Registry::get(),
    };
    let mut raw = Vec::new();
    if let Some(definition) = definition_of(api_version, kind) {
        encoder.message(definition, object.as_object()?, &mut raw, 0)?;
    } else {
        let item = definition_of(api_version, kind.strip_suffix("List")?)?;
        encoder.list(item, object, &mut raw)?;
    }
    let mut type_meta = Vec::new();
    put_bytes(1, api_version.as_bytes(), &mut type_meta);
    put_bytes(2, kind.as_bytes(), &mut type_meta);
    let mut out = MAGIC.to_vec();
    put_bytes(1, &type_meta, &mut out);
    put_bytes(2, &raw, &mut out);
    put_bytes(3, b"", &mut out);
    put_bytes(4, b"", &mut out);
    Some(out)
}

pub(super) fn watch_event(kind: &str, object: &Value) -> Option<Vec<u8>> {
    let mut extension = Vec::new();
    put_bytes(1, &envelope(object)?, &mut extension);
    let mut event = Vec::new();
    put_bytes(1, kind.as_bytes(), &mut event);
    put_bytes(2, &extension, &mut event);
    let mut out = u32::try_from(event.len()).ok()?.to_be_bytes().to_vec();
    out.extend(event);
    Some(out)
}

struct Encoder {
    registry: &'static Registry,
}

impl Encoder {
    fn list(&self, item: DefId, object: &Value, out: &mut Vec<u8>) -> Option<()> {
        let meta = self
            .registry
            .find("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta")?;
        let mut part = Vec::new();
        let empty = Map::new();
        let metadata = object
            .get("metadata")
            .and_then(Value::as_object)
            .unwrap_or(&empty);
        self.message(meta, metadata, &mut part, 0)?;
        put_bytes(1, &part, out);
        for value in object
            .get("items")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            part.clear();
            self.message(item, value.as_object()?, &mut part, 0)?;
            put_bytes(2, &part, out);
        }
        Some(())
    }

    fn message(
        &self,
        id: DefId,
        object: &Map<String, Value>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.fields(self.registry.definition(id), &[], object, out, depth)
    }

    fn fields(
        &self,
        definition: &Definition,
        prefix: &[u16],
        object: &Map<String, Value>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Option<()> {
        let at = prefix.len();
        let mut fields: Vec<_> = definition
            .fields
            .iter()
            .filter(|field| {
                field.numbers.starts_with(prefix) && field.numbers.get(at).is_some_and(|n| *n != 0)
            })
            .collect();
        fields.sort_by_key(|field| field.numbers);
        let mut last = 0;
        for field in fields {
            let number = field.numbers[at];
            let inner = field.numbers.get(at + 1).is_some_and(|number| *number != 0);
            if inner {
                if number != last {
                    let mut part = Vec::new();
                    let mut path = prefix.to_vec();
                    path.push(number);
                    self.fields(definition, &path, object, &mut part, depth + 1)?;
                    put_bytes(number, &part, out);
                }
            } else {
                self.field(field.ty, number, object.get(field.json), out, depth)?;
            }
            last = number;
        }
        Some(())
    }

    /// Writes a field; nothing for pointers, lists and maps that are not set.
    fn field(
        &self,
        ty: GoId,
        number: u16,
        value: Option<&Value>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Option<()> {
        let value = value.filter(|value| !value.is_null());
        match (self.registry.go(ty), value) {
            (Go::Pointer(_) | Go::List(_) | Go::Map(_) | Go::Bytes, None) => Some(()),
            (Go::Named(target) | Go::Pointer(target), _) => {
                self.field(target, number, value, out, depth)
            }
            (Go::List(item), Some(value)) => value
                .as_array()?
                .iter()
                .try_for_each(|value| self.field(item, number, Some(value), out, depth)),
            (Go::Map(item), Some(value)) => {
                value.as_object()?.iter().try_for_each(|(key, value)| {
                    let mut entry = Vec::new();
                    put_bytes(1, key.as_bytes(), &mut entry);
                    self.field(item, 2, Some(value), &mut entry, depth)?;
                    put_bytes(number, &entry, out);
                    Some(())
                })
            }
            (Go::Text, _) => {
                put_bytes(
                    number,
                    value.map_or(Some(""), Value::as_str)?.as_bytes(),
                    out,
                );
                Some(())
            }
            (Go::Bytes, Some(value)) => {
                put_bytes(number, &STANDARD.decode(value.as_str()?).ok()?, out);
                Some(())
            }
            (Go::Bool, _) => {
                let set = value.map_or(Some(false), Value::as_bool)?;
                put_number(number, u64::from(set), out);
                Some(())
            }
            (Go::Int32 | Go::Int64, _) => {
                put_number(number, value.map_or(Some(0), Value::as_i64)? as u64, out);
                Some(())
            }
            (Go::Float, _) => {
                let float = value.map_or(Some(0.0), Value::as_f64)?;
                put_varint(u64::from(number) << 3 | 1, out);
                out.extend(float.to_le_bytes());
                Some(())
            }
            (Go::Wrapped(list), _) => {
                let mut part = Vec::new();
                self.field(list, 1, value, &mut part, depth)?;
                put_bytes(number, &part, out);
                Some(())
            }
            (Go::Struct(id), _) => {
                let mut part = Vec::new();
                self.special(id, value, &mut part, depth + 1)?;
                put_bytes(number, &part, out);
                Some(())
            }
        }
    }

    fn special(
        &self,
        id: DefId,
        value: Option<&Value>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Option<()> {
        let empty = Map::new();
        match (self.registry.definition(id).special, value) {
            (Special::None, value) => self.message(
                id,
                value.map_or(Some(&empty), Value::as_object)?,
                out,
                depth,
            ),
            (Special::Time | Special::MicroTime, Some(value)) => {
                let at = time::parse(value.as_str()?)?;
                put_number(1, at.as_second() as u64, out);
                put_number(2, i64::from(at.subsec_nanosecond()) as u64, out);
                Some(())
            }
            (Special::Quantity, value) => {
                put_bytes(1, value.map_or(Some("0"), Value::as_str)?.as_bytes(), out);
                Some(())
            }
            (Special::IntOrString, value) => {
                let words = value.and_then(Value::as_str);
                let number = value.and_then(Value::as_i64).unwrap_or(0);
                put_number(1, u64::from(words.is_some()), out);
                put_number(2, number as u64, out);
                put_bytes(3, words.unwrap_or_default().as_bytes(), out);
                Some(())
            }
            (Special::RawExtension | Special::FieldsV1 | Special::Json, Some(value)) => {
                put_bytes(1, &serde_json::to_vec(value).ok()?, out);
                Some(())
            }
            (Special::SchemaOrBool, value) => {
                let allows = value.is_some_and(|value| value.as_bool().unwrap_or(true));
                put_number(1, u64::from(allows), out);
                match value {
                    Some(Value::Object(schema)) => self.schema(2, schema, out, depth),
                    _ => Some(()),
                }
            }
            (Special::SchemaOrArray | Special::SchemaOrStrings, Some(Value::Object(schema))) => {
                self.schema(1, schema, out, depth)
            }
            (Special::SchemaOrArray, Some(Value::Array(items))) => items
                .iter()
                .try_for_each(|item| self.schema(2, item.as_object()?, out, depth)),
            (Special::SchemaOrStrings, Some(Value::Array(items))) => {
                items.iter().try_for_each(|item| {
                    put_bytes(2, item.as_str()?.as_bytes(), out);
                    Some(())
                })
            }
            _ => Some(()),
        }
    }

    fn schema(
        &self,
        number: u16,
        schema: &Map<String, Value>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Option<()> {
        let props = self.registry.find(SCHEMA_PROPS)?;
        let mut part = Vec::new();
        self.message(props, schema, &mut part, depth + 1)?;
        put_bytes(number, &part, out);
        Some(())
    }
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_number(number: u16, value: u64, out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3, out);
    put_varint(value, out);
}

fn put_bytes(number: u16, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3 | 2, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}
