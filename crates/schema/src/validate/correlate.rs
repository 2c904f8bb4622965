//! Which old item belongs to a new one: the one with the same keys, when the list is a map.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::types::ListKind;

/// The items of an old list.
pub struct Correlated<'a> {
    keys: &'a [Box<str>],
    items: BTreeMap<String, &'a Value>,
}

impl<'a> Correlated<'a> {
    /// The items of `old`; items of lists that are no maps belong to nothing.
    pub fn new(kind: &'a ListKind, old: Option<&'a Value>) -> Self {
        let keys = match kind {
            ListKind::Map(keys) => keys.as_slice(),
            ListKind::Atomic | ListKind::Set => &[],
        };
        let items = old.and_then(Value::as_array).filter(|_| !keys.is_empty());
        let items = items
            .into_iter()
            .flatten()
            .map(|item| (key_of(keys, item), item))
            .collect();
        Self { keys, items }
    }

    /// The old item that belongs to `item`.
    pub fn of(&self, item: &Value) -> Option<&'a Value> {
        if self.items.is_empty() {
            return None;
        }
        self.items.get(&key_of(self.keys, item)).copied()
    }
}

fn key_of(keys: &[Box<str>], item: &Value) -> String {
    let values: Vec<Option<&Value>> = keys.iter().map(|key| item.get(&**key)).collect();
    format!("{values:?}")
}
