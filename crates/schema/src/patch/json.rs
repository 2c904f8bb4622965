//! RFC 6902 as Kubernetes has it, which is more lenient than the RFC: a negative index counts from
//! the end, `replace` sets a field that is not there, `test` for null holds for a field that is not
//! there. The errors have the words of the library that Kubernetes uses.

use serde_json::{Map, Value};

use super::PatchError;

/// More operations than this are refused (apiserver: `maxJSONPatchOperations`).
const MAX_OPERATIONS: usize = 10_000;
/// All that `copy` operations may add, in bytes of JSON (apiserver: `JSONPatchMaxCopyBytes`).
const MAX_COPIED_BYTES: usize = 3 * 1024 * 1024;

/// How deep an object may become (a few operations can nest a value in itself over and over).
const MAX_DEPTH: usize = 512;

/// The object after the patch.
pub(super) fn apply(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Array(operations) = patch else {
        return Err(PatchError::Malformed(
            "error decoding patch: json: cannot unmarshal into a list of operations".to_owned(),
        ));
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let mut document = Document {
        root: object.clone(),
        copied: 0,
    };
    for operation in operations {
        let Value::Object(operation) = operation else {
            return Err(PatchError::Malformed(
                "error decoding patch: json: cannot unmarshal into an operation".to_owned(),
            ));
        };
        let operation = Operation::decode(operation)?;
        document.run(&operation).map_err(PatchError::DoesNotFit)?;
    }
    Ok(document.root)
}

struct Operation<'p> {
    kind: &'p str,
    path: Option<&'p str>,
    from: Option<&'p str>,
    value: Option<&'p Value>,
}

impl<'p> Operation<'p> {
    fn decode(fields: &'p Map<String, Value>) -> Result<Self, PatchError> {
        let text = |name: &str| match fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(PatchError::Malformed(format!(
                "error decoding patch: json: {name} of an operation must be a string"
            ))),
        };
        Ok(Self {
            kind: text("op")?.unwrap_or("unknown"),
            path: text("path")?,
            from: text("from")?,
            value: fields.get("value"),
        })
    }
}

struct Document {
    root: Value,
    /// Bytes that `copy` operations have added.
    copied: usize,
}

const MISSING: &str = "missing value";

impl Document {
    fn run(&mut self, operation: &Operation<'_>) -> Result<(), String> {
        let kind = operation.kind;
        let path = || {
            operation
                .path
                .ok_or_else(|| format!("{kind} operation failed to decode path: {MISSING}"))
        };
        let from = || {
            operation
                .from
                .ok_or_else(|| format!("{kind} operation failed to decode from: {MISSING}"))
        };
        // An operation without a value sets null.
        let value = || operation.value.cloned().unwrap_or_default();
        match kind {
            "add" => self.add(kind, path()?, value()),
            "remove" => self.remove(kind, path()?).map(drop),
            "replace" => self.replace(path()?, value()),
            "test" => self.test(path()?, operation.value.unwrap_or(&Value::Null)),
            "move" => {
                let (from, path) = (from()?, path()?);
                let value = self.remove(kind, from)?;
                self.add(kind, path, value)
            }
            "copy" => {
                let (from, path) = (from()?, path()?);
                let value = self.get(kind, from)?.cloned().unwrap_or_default();
                self.copied = self.copied.saturating_add(value.to_string().len());
                if self.copied > MAX_COPIED_BYTES {
                    return Err(format!(
                        "Unable to complete the copy, the accumulated size increase of copy is {}, \
                         exceeding the limit {MAX_COPIED_BYTES}",
                        self.copied
                    ));
                }
                self.add(kind, path, value)
            }
            other => Err(format!("Unexpected kind: {other}")),
        }
    }

    /// The map or list that a path ends in, and the last part of the path.
    fn parent<'d>(root: &'d mut Value, path: &str) -> Option<(&'d mut Value, String)> {
        // Like upstream, whatever stands before the first slash is not looked at.
        let (_, rest) = path.split_once('/')?;
        let (parents, last) = rest
            .rsplit_once('/')
            .map_or((None, rest), |(parents, last)| (Some(parents), last));
        let mut value = root;
        for part in parents.into_iter().flat_map(|parents| parents.split('/')) {
            let part = unescape(part);
            value = match value {
                Value::Object(fields) => fields.get_mut(&part)?,
                Value::Array(items) => {
                    let index = place(&part, items.len()).ok()?;
                    items.get_mut(index)?
                }
                _ => return None,
            };
        }
        (value.is_object() || value.is_array()).then(|| (value, unescape(last)))
    }

    fn parent_or<'d>(
        &'d mut self,
        kind: &str,
        what: &str,
        path: &str,
    ) -> Result<(&'d mut Value, String), String> {
        Self::parent(&mut self.root, path).ok_or_else(|| {
            format!("{kind} operation does not apply: doc is missing {what}: \"{path}\": {MISSING}")
        })
    }

    fn add(&mut self, kind: &str, path: &str, value: Value) -> Result<(), String> {
        check_depth(kind, path, &value)?;
        let (parent, key) = self.parent_or(kind, "path", path)?;
        match parent {
            Value::Object(fields) => {
                fields.insert(key, value);
            }
            Value::Array(items) if key == "-" => items.push(value),
            Value::Array(items) => {
                let index = place(&key, items.len() + 1)
                    .map_err(|why| format!("error in {kind} for path: '{path}': {why}"))?;
                items.insert(index, value);
            }
            _ => {}
        }
        Ok(())
    }

    fn remove(&mut self, kind: &str, path: &str) -> Result<Value, String> {
        let (parent, key) = self.parent_or(kind, "path", path)?;
        let fail = |why: String| format!("error in {kind} for path: '{path}': {why}");
        match parent {
            Value::Object(fields) => fields.remove(&key).ok_or_else(|| {
                fail(format!(
                    "Unable to remove nonexistent key: {key}: {MISSING}"
                ))
            }),
            Value::Array(items) => {
                let index = place(&key, items.len()).map_err(fail)?;
                Ok(items.remove(index))
            }
            _ => Ok(Value::Null),
        }
    }

    fn replace(&mut self, path: &str, value: Value) -> Result<(), String> {
        if path.is_empty() {
            if !value.is_object() && !value.is_array() {
                return Err("replace operation value must be object or array".to_owned());
            }
            self.root = value;
            return Ok(());
        }
        check_depth("replace", path, &value)?;
        let (parent, key) = self.parent_or("replace", "path", path)?;
        match parent {
            Value::Object(fields) => {
                fields.insert(key, value);
            }
            Value::Array(items) => {
                let index = place(&key, items.len()).map_err(|_| {
                    format!(
                        "replace operation does not apply: doc is missing key: {path}: {MISSING}"
                    )
                })?;
                if let Some(item) = items.get_mut(index) {
                    *item = value;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// `None`: a field that is not there.
    fn get(&mut self, kind: &str, path: &str) -> Result<Option<&Value>, String> {
        let (parent, key) = self.parent_or(kind, "path", path)?;
        match parent {
            Value::Object(fields) => Ok(fields.get(&key)),
            Value::Array(items) => {
                let index = place(&key, items.len())
                    .map_err(|why| format!("error in {kind} for path: '{path}': {why}"))?;
                Ok(items.get(index))
            }
            _ => Ok(None),
        }
    }

    fn test(&mut self, path: &str, expected: &Value) -> Result<(), String> {
        let found = if path.is_empty() {
            Some(&self.root)
        } else {
            self.get("test", path)?
        };
        // As written: `1` is not `1.0` here.
        if found.unwrap_or(&Value::Null) == expected {
            Ok(())
        } else {
            Err(format!("testing value {path} failed: test failed"))
        }
    }
}

/// The index that a part of a path means in a list with room for `room` items.
fn place(part: &str, room: usize) -> Result<usize, String> {
    let index: i64 = part
        .parse()
        .map_err(|_| format!("value was not a proper array index: '{part}': invalid syntax"))?;
    let place = if index < 0 {
        usize::try_from(index.unsigned_abs())
            .ok()
            .and_then(|back| room.checked_sub(back))
    } else {
        usize::try_from(index).ok().filter(|place| *place < room)
    };
    place
        .ok_or_else(|| format!("Unable to access invalid index: {index}: invalid index referenced"))
}

fn check_depth(kind: &str, path: &str, value: &Value) -> Result<(), String> {
    let room = MAX_DEPTH.saturating_sub(path.split('/').count());
    if fits(value, room) {
        return Ok(());
    }
    Err(format!(
        "error in {kind} for path: '{path}': nested more than {MAX_DEPTH} levels deep"
    ))
}

fn fits(value: &Value, room: usize) -> bool {
    match (value, room.checked_sub(1)) {
        (_, None) => false,
        (Value::Object(fields), Some(room)) => fields.values().all(|value| fits(value, room)),
        (Value::Array(items), Some(room)) => items.iter().all(|value| fits(value, room)),
        (_, Some(_)) => true,
    }
}

fn unescape(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}
