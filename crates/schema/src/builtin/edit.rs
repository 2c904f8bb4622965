//! Small steps in JSON objects.

use serde_json::{Map, Value};

/// The object in a field; one is made when there is none.
pub(super) fn object_in<'v>(
    fields: &'v mut Map<String, Value>,
    name: &str,
) -> &'v mut Map<String, Value> {
    let slot = fields.entry(name).or_insert(Value::Null);
    as_object(slot)
}

/// The value as an object; anything else becomes an empty one.
pub(super) fn as_object(slot: &mut Value) -> &mut Map<String, Value> {
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut()
        .expect("the value was made an object above")
}

/// Sets a field that is absent, `null` or empty text.
pub(super) fn default(fields: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    if absent(fields.get(name)) {
        fields.insert(name.to_owned(), value.into());
    }
}

/// Whether a field has no value: absent, `null`, or empty text.
pub(super) fn absent(value: Option<&Value>) -> bool {
    value.is_none_or(|value| value.is_null() || value == "")
}

/// The field as an object to change, when it is one.
pub(super) fn sub<'v>(
    fields: &'v mut Map<String, Value>,
    name: &str,
) -> Option<&'v mut Map<String, Value>> {
    fields.get_mut(name)?.as_object_mut()
}

/// The objects in a list.
pub(super) fn items_mut<'v>(
    fields: &'v mut Map<String, Value>,
    name: &str,
) -> impl Iterator<Item = &'v mut Map<String, Value>> {
    fields
        .get_mut(name)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
}

/// The items of a list; none when the value is no list.
pub(super) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Text, empty when the value is none.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
