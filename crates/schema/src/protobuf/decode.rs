//! From bytes to JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Number, Value};

use super::{MAGIC, Malformed};
use crate::builtin::go::{SCHEMA_PROPS, settle};
use crate::builtin::registry::{DefId, Definition, Go, GoId, Registry, Special};
use crate::builtin::time::{self, Precision};
use crate::builtin::{definition_of, quantity};

/// How deep messages may nest; the deepest honest objects are schemas of custom resources.
const MAX_DEPTH: usize = 100;

/// Values that an object may have beyond one per [`BYTES_PER_VALUE`] bytes of input.
const FREE_VALUES: usize = 10_000;
/// What an honest value takes at least, on average; messages of no bytes at all would cost us more
/// memory than they cost the sender.
const BYTES_PER_VALUE: usize = 4;

/// The one kind that is part of another.
const CLAIM: &str = "io.k8s.api.core.v1.PersistentVolumeClaim";

type Result<T> = std::result::Result<T, Malformed>;

fn malformed<T>(why: impl Into<String>) -> Result<T> {
    Err(Malformed(why.into()))
}

pub(super) fn envelope(bytes: &[u8], depth: usize) -> Result<Value> {
    let Some(body) = bytes.strip_prefix(MAGIC) else {
        return malformed(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]",
        );
    };
    if depth > MAX_DEPTH {
        return malformed("nested too deeply");
    }
    let (mut type_meta, mut raw, mut encoding, mut content) = (&[][..], &[][..], "", "");
    let mut wire = Wire { rest: body };
    while let Some((number, part)) = wire.next()? {
        match (number, part) {
            (1, Part::Bytes(bytes)) => type_meta = bytes,
            (2, Part::Bytes(bytes)) => raw = bytes,
            (3, Part::Bytes(bytes)) => encoding = text(bytes)?,
            (4, Part::Bytes(bytes)) => content = text(bytes)?,
            _ => {}
        }
    }
    if !encoding.is_empty() {
        return malformed(format!("content encoding {encoding:?} is not supported"));
    }
    let (mut api_version, mut kind) = ("", "");
    let mut wire = Wire { rest: type_meta };
    while let Some((number, part)) = wire.next()? {
        match (number, part) {
            (1, Part::Bytes(bytes)) => api_version = text(bytes)?,
            (2, Part::Bytes(bytes)) => kind = text(bytes)?,
            _ => {}
        }
    }
    if content == "application/json" {
        return json(raw);
    }
    let mut decoder = Decoder {
        registry: Registry::get(),
        values: FREE_VALUES + raw.len() / BYTES_PER_VALUE,
    };
    let mut object = if let Some(definition) = definition_of(api_version, kind) {
        decoder.message(definition, raw, depth)?
    } else {
        let item = kind
            .strip_suffix("List")
            .and_then(|kind| definition_of(api_version, kind));
        let Some(item) = item else {
            return malformed(format!(
                "no kind {kind:?} is registered for version {api_version:?}"
            ));
        };
        decoder.list(item, raw, depth)?
    };
    object.insert("apiVersion".to_owned(), Value::from(api_version));
    object.insert("kind".to_owned(), Value::from(kind));
    Ok(Value::Object(object))
}

struct Decoder {
    registry: &'static Registry,
    /// How many more values there may be.
    values: usize,
}

impl Decoder {
    fn spend(&mut self, values: usize) -> Result<()> {
        match self.values.checked_sub(values) {
            Some(left) => {
                self.values = left;
                Ok(())
            }
            None => malformed("too many empty values"),
        }
    }

    fn list(&mut self, item: DefId, bytes: &[u8], depth: usize) -> Result<Map<String, Value>> {
        let mut items = Vec::new();
        let mut metadata = Value::Object(Map::new());
        let mut wire = Wire { rest: bytes };
        while let Some((number, part)) = wire.next()? {
            match (number, part) {
                (1, Part::Bytes(bytes)) => {
                    if let Some(meta) = self
                        .registry
                        .find("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta")
                    {
                        metadata = Value::Object(self.message(meta, bytes, depth + 1)?);
                    }
                }
                (2, Part::Bytes(bytes)) => {
                    items.push(Value::Object(self.message(item, bytes, depth + 1)?));
                }
                _ => {}
            }
        }
        let mut object = Map::new();
        object.insert("metadata".to_owned(), metadata);
        object.insert("items".to_owned(), Value::Array(items));
        Ok(object)
    }

    fn message(&mut self, id: DefId, bytes: &[u8], depth: usize) -> Result<Map<String, Value>> {
        let registry = self.registry;
        let definition = registry.definition(id);
        let mut object = Map::new();
        self.fields(definition, &[], bytes, depth, &mut object)?;
        settle(registry, definition, &mut object);
        if depth > 0 && definition.name == CLAIM {
            // Claims in templates say what they are in JSON alone.
            object.insert("apiVersion".to_owned(), Value::from("v1"));
            object.insert("kind".to_owned(), Value::from("PersistentVolumeClaim"));
        }
        self.spend(1 + object.len())?;
        Ok(object)
    }

    /// `prefix`: the numbers of the embedded messages that `bytes` is in.
    fn fields(
        &mut self,
        definition: &Definition,
        prefix: &[u16],
        bytes: &[u8],
        depth: usize,
        object: &mut Map<String, Value>,
    ) -> Result<()> {
        if depth > MAX_DEPTH {
            return malformed("nested too deeply");
        }
        let mut wire = Wire { rest: bytes };
        while let Some((number, part)) = wire.next()? {
            let mut numbers = [0; 3];
            let Some(slot) = numbers.get_mut(prefix.len()) else {
                continue;
            };
            *slot = number;
            numbers[..prefix.len()].copy_from_slice(prefix);
            let path = &numbers[..=prefix.len()];
            let Some(field) = definition
                .fields
                .iter()
                .find(|field| field.numbers.starts_with(path))
            else {
                continue;
            };
            let inner = field
                .numbers
                .get(path.len())
                .is_some_and(|number| *number != 0);
            if inner {
                let Part::Bytes(bytes) = part else {
                    return wrong_type(field.json);
                };
                self.fields(definition, path, bytes, depth + 1, object)?;
            } else {
                self.field(field.ty, part, depth, field.json, object)?;
            }
        }
        Ok(())
    }

    fn field(
        &mut self,
        ty: GoId,
        part: Part<'_>,
        depth: usize,
        name: &'static str,
        object: &mut Map<String, Value>,
    ) -> Result<()> {
        match self.registry.go(ty) {
            Go::Pointer(target) | Go::Named(target) => {
                self.field(target, part, depth, name, object)
            }
            Go::List(item) => {
                let numeric = matches!(self.bare(item), Go::Int32 | Go::Int64 | Go::Bool);
                let mut read = Vec::new();
                match part {
                    Part::Bytes(packed) if numeric => {
                        let mut wire = Wire { rest: packed };
                        while !wire.rest.is_empty() {
                            let number = wire.varint()?;
                            read.push(self.value(item, Part::Number(number), depth, name)?);
                        }
                    }
                    _ => read.push(self.value(item, part, depth, name)?),
                }
                self.spend(read.len())?;
                match object
                    .entry(name)
                    .or_insert_with(|| Value::Array(Vec::new()))
                {
                    Value::Array(items) => items.extend(read),
                    other => *other = Value::Array(read),
                }
                Ok(())
            }
            Go::Map(value_ty) => {
                let Part::Bytes(bytes) = part else {
                    return wrong_type(name);
                };
                let (mut key, mut value) = (String::new(), None);
                let mut wire = Wire { rest: bytes };
                while let Some((number, part)) = wire.next()? {
                    match (number, part) {
                        (1, Part::Bytes(bytes)) => text(bytes)?.clone_into(&mut key),
                        (2, part) => value = Some(self.value(value_ty, part, depth, name)?),
                        _ => {}
                    }
                }
                let value = match value {
                    Some(value) => value,
                    None => crate::builtin::go::zero(self.registry, value_ty),
                };
                self.spend(1)?;
                match object
                    .entry(name)
                    .or_insert_with(|| Value::Object(Map::new()))
                {
                    Value::Object(entries) => {
                        entries.insert(key, value);
                    }
                    other => *other = Value::Object(Map::from_iter([(key, value)])),
                }
                Ok(())
            }
            _ => {
                let value = self.value(ty, part, depth, name)?;
                object.insert(name.to_owned(), value);
                Ok(())
            }
        }
    }

    fn bare(&self, ty: GoId) -> Go {
        match self.registry.go(ty) {
            Go::Pointer(target) | Go::Named(target) => self.bare(target),
            other => other,
        }
    }

    fn value(&mut self, ty: GoId, part: Part<'_>, depth: usize, name: &str) -> Result<Value> {
        Ok(match (self.bare(ty), part) {
            (Go::Text, Part::Bytes(bytes)) => Value::from(text(bytes)?),
            (Go::Bytes, Part::Bytes(bytes)) => Value::from(STANDARD.encode(bytes)),
            (Go::Bool, Part::Number(number)) => Value::from(number != 0),
            (Go::Int32, Part::Number(number)) => Value::from(number as i32),
            (Go::Int64, Part::Number(number)) => Value::from(number as i64),
            (Go::Float, Part::Fixed64(bits)) => match Number::from_f64(f64::from_bits(bits)) {
                Some(number) => Value::Number(whole(number)),
                None => return malformed(format!("{name} is no finite number")),
            },
            (Go::Wrapped(list), Part::Bytes(bytes)) => {
                let Go::List(item) = self.bare(list) else {
                    return wrong_type(name);
                };
                let mut items = Vec::new();
                let mut wire = Wire { rest: bytes };
                while let Some((number, part)) = wire.next()? {
                    if number == 1 {
                        items.push(self.value(item, part, depth + 1, name)?);
                        self.spend(1)?;
                    }
                }
                Value::Array(items)
            }
            (Go::Struct(id), Part::Bytes(bytes)) => self.special(id, bytes, depth + 1)?,
            _ => return wrong_type(name),
        })
    }

    fn special(&mut self, id: DefId, bytes: &[u8], depth: usize) -> Result<Value> {
        let definition = self.registry.definition(id);
        match definition.special {
            Special::None => self.message(id, bytes, depth).map(Value::Object),
            Special::Time => instant(bytes, Precision::Seconds),
            Special::MicroTime => instant(bytes, Precision::Micros),
            Special::Quantity => {
                let mut amount = "0";
                let mut wire = Wire { rest: bytes };
                while let Some((number, part)) = wire.next()? {
                    if let (1, Part::Bytes(bytes)) = (number, part) {
                        amount = text(bytes)?;
                    }
                }
                match quantity::canonical(amount) {
                    Ok(amount) => Ok(Value::from(amount)),
                    Err(why) => malformed(why),
                }
            }
            Special::IntOrString => {
                let (mut is_text, mut number, mut words) = (false, 0, "");
                let mut wire = Wire { rest: bytes };
                while let Some((at, part)) = wire.next()? {
                    match (at, part) {
                        (1, Part::Number(kind)) => is_text = kind == 1,
                        (2, Part::Number(value)) => number = value as i32,
                        (3, Part::Bytes(bytes)) => words = text(bytes)?,
                        _ => {}
                    }
                }
                Ok(if is_text {
                    Value::from(words)
                } else {
                    Value::from(number)
                })
            }
            Special::RawExtension | Special::FieldsV1 | Special::Json => {
                let mut raw = &[][..];
                let mut wire = Wire { rest: bytes };
                while let Some((number, part)) = wire.next()? {
                    if let (1, Part::Bytes(bytes)) = (number, part) {
                        raw = bytes;
                    }
                }
                if raw.is_empty() {
                    Ok(Value::Null)
                } else if raw.starts_with(MAGIC) {
                    envelope(raw, depth + 1)
                } else {
                    json(raw)
                }
            }
            special => self.schema_or(special, bytes, depth),
        }
    }

    fn schema_or(&mut self, special: Special, bytes: &[u8], depth: usize) -> Result<Value> {
        let Some(props) = self.registry.find(SCHEMA_PROPS) else {
            return Ok(Value::Null);
        };
        let (mut allows, mut schema, mut items) = (false, None, Vec::new());
        let mut wire = Wire { rest: bytes };
        while let Some((number, part)) = wire.next()? {
            match (special, number, part) {
                (Special::SchemaOrBool, 1, Part::Number(number)) => allows = number != 0,
                (Special::SchemaOrBool, 2, Part::Bytes(bytes)) | (_, 1, Part::Bytes(bytes)) => {
                    schema = Some(Value::Object(self.message(props, bytes, depth + 1)?));
                }
                (Special::SchemaOrArray, 2, Part::Bytes(bytes)) => {
                    items.push(Value::Object(self.message(props, bytes, depth + 1)?));
                }
                (Special::SchemaOrStrings, 2, Part::Bytes(bytes)) => {
                    self.spend(1)?;
                    items.push(Value::from(text(bytes)?));
                }
                _ => {}
            }
        }
        Ok(match (schema, special) {
            (Some(schema), _) if items.is_empty() => schema,
            (_, Special::SchemaOrBool) => Value::from(allows),
            _ if items.is_empty() => Value::Null,
            _ => Value::Array(items),
        })
    }
}

fn wrong_type<T>(name: &str) -> Result<T> {
    malformed(format!("wrong wire type for field {name}"))
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).or_else(|_| malformed("text is not UTF-8"))
}

fn json(bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).or_else(|error| malformed(format!("embedded JSON: {error}")))
}

/// Go writes a whole float without a fraction.
fn whole(number: Number) -> Number {
    match number.as_f64() {
        Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => Number::from(float as i64),
        _ => number,
    }
}

fn instant(bytes: &[u8], precision: Precision) -> Result<Value> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0, 0);
    let mut wire = Wire { rest: bytes };
    while let Some((number, part)) = wire.next()? {
        match (number, part) {
            (1, Part::Number(number)) => seconds = number as i64,
            (2, Part::Number(number)) => nanos = number as i32,
            _ => {}
        }
    }
    match Timestamp::new(seconds, nanos) {
        Ok(at) => Ok(time::print(at, precision)),
        Err(error) => malformed(format!("time: {error}")),
    }
}

/// One field on the wire.
#[derive(Clone, Copy)]
enum Part<'a> {
    Number(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

struct Wire<'a> {
    rest: &'a [u8],
}

impl<'a> Wire<'a> {
    /// The next field that a table could know: numbers beyond 65,535 are skipped.
    fn next(&mut self) -> Result<Option<(u16, Part<'a>)>> {
        while !self.rest.is_empty() {
            let key = self.varint()?;
            let part = match key & 7 {
                0 => Part::Number(self.varint()?),
                1 => {
                    let mut bits = [0; 8];
                    bits.copy_from_slice(self.take(8)?);
                    Part::Fixed64(u64::from_le_bytes(bits))
                }
                2 => {
                    let length = self.varint()?;
                    match usize::try_from(length) {
                        Ok(length) => Part::Bytes(self.take(length)?),
                        Err(_) => return malformed("unexpected end of data"),
                    }
                }
                5 => {
                    self.take(4)?;
                    Part::Fixed32
                }
                other => return malformed(format!("wire type {other} is not supported")),
            };
            if key >> 3 == 0 {
                return malformed("field number 0");
            }
            if let Ok(number) = u16::try_from(key >> 3) {
                return Ok(Some((number, part)));
            }
        }
        Ok(None)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(length) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => malformed("unexpected end of data"),
        }
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let Some((byte, rest)) = self.rest.split_first() else {
                return malformed("unexpected end of data");
            };
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        malformed("number is longer than ten bytes")
    }
}
