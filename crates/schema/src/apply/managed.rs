//! The list of who owns what, `metadata.managedFields` (facts: apimachinery `managedfields`).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Writer;
use super::fieldset::FieldSet;
use super::literal;

/// More entries of updates than this are merged, oldest first, into [`ANCIENT`].
const MAX_UPDATE_ENTRIES: usize = 10;
/// The manager that inherits from those.
const ANCIENT: &str = "ancient-changes";

/// What an entry records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

impl Operation {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// One manager's entry.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
    pub(super) time: Option<String>,
    pub(super) set: FieldSet,
}

impl Entry {
    /// A new entry of a writer, owning nothing yet.
    pub(super) fn of(writer: &Writer<'_>, operation: Operation) -> Self {
        let manager = if writer.manager.is_empty() {
            "unknown"
        } else {
            writer.manager
        };
        Self {
            manager: manager.to_owned(),
            operation,
            api_version: writer.api_version.to_owned(),
            subresource: writer.subresource.to_owned(),
            time: None,
            set: FieldSet::default(),
        }
    }

    /// What tells entries apart: an applier has one whatever the version it applies in.
    pub(super) fn identity(&self) -> String {
        let mut fields = Vec::with_capacity(4);
        let mut add = |name: &str, value: &str| {
            if !value.is_empty() {
                fields.push(format!(
                    "\"{name}\":{}",
                    literal::to_json(&Value::from(value))
                ));
            }
        };
        add("manager", &self.manager);
        add("operation", self.operation.name());
        if self.operation == Operation::Update {
            add("apiVersion", &self.api_version);
        }
        add("subresource", &self.subresource);
        format!("{{{}}}", fields.join(","))
    }

    fn seconds(&self) -> i64 {
        let time = self
            .time
            .as_deref()
            .and_then(|text| text.parse::<jiff::Timestamp>().ok());
        time.map_or(0, jiff::Timestamp::as_second)
    }

    fn encode(&self) -> Value {
        let mut object = Map::new();
        let mut add = |name: &str, value: &str| {
            if !value.is_empty() {
                object.insert(name.to_owned(), Value::from(value));
            }
        };
        add("manager", &self.manager);
        add("operation", self.operation.name());
        add("apiVersion", &self.api_version);
        add("time", self.time.as_deref().unwrap_or_default());
        add("fieldsType", "FieldsV1");
        add("subresource", &self.subresource);
        object.insert("fieldsV1".to_owned(), self.set.encode());
        Value::Object(object)
    }

    fn decode(index: usize, value: &Value) -> Result<Self, String> {
        let object = value.as_object().ok_or("an entry must be an object")?;
        let text = |name: &str| match object.get(name) {
            None | Some(Value::Null) => Ok(""),
            Some(Value::String(text)) => Ok(text.as_str()),
            Some(_) => Err(format!(
                "{name} must be a string in managed fields entry {index}"
            )),
        };
        let operation = match text("operation")? {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return Err("operation must be `Apply` or `Update`".to_owned()),
        };
        let api_version = text("apiVersion")?;
        if api_version.is_empty() {
            return Err("apiVersion must not be empty".to_owned());
        }
        match text("fieldsType")? {
            "FieldsV1" => {}
            "" => {
                return Err(format!(
                    "missing fieldsType in managed fields entry {index}"
                ));
            }
            other => {
                let other = literal::quote(other);
                return Err(format!(
                    "invalid fieldsType {other} in managed fields entry {index}"
                ));
            }
        }
        let set = match object.get("fieldsV1") {
            None | Some(Value::Null) => FieldSet::default(),
            Some(fields) => {
                FieldSet::decode(fields).map_err(|error| format!("error decoding set: {error}"))?
            }
        };
        Ok(Self {
            manager: text("manager")?.to_owned(),
            operation,
            api_version: api_version.to_owned(),
            subresource: text("subresource")?.to_owned(),
            time: Some(text("time")?)
                .filter(|time| !time.is_empty())
                .map(str::to_owned),
            set,
        })
    }
}

/// All entries, by identity.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Managed(pub(super) BTreeMap<String, Entry>);

impl Managed {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries of an object.
    pub(super) fn of(object: &Value) -> Result<Self, String> {
        let mut managed = Self::default();
        let entries = match listed(object) {
            None | Some(Value::Null) => return Ok(managed),
            Some(Value::Array(entries)) => entries,
            Some(_) => return Err("managedFields must be a list".to_owned()),
        };
        for (index, entry) in entries.iter().enumerate() {
            let entry = Entry::decode(index, entry)?;
            managed.0.insert(entry.identity(), entry);
        }
        Ok(managed)
    }

    /// The entries that an update starts from: those of the request, where it may say so and says
    /// anything sensible, else those of the stored object. An emptied list empties them.
    pub(super) fn for_update(
        before: &Value,
        after: &Value,
        built_in: bool,
        subresource: &str,
    ) -> Self {
        let before = || Self::of(before).unwrap_or_default();
        if !subresource.is_empty() {
            return before();
        }
        if is_reset(listed(after), built_in) {
            return Self::default();
        }
        match Self::of(after) {
            Ok(managed) if !managed.is_empty() => managed,
            _ => before(),
        }
    }

    /// Drops entries that own nothing.
    pub(super) fn drop_empty(&mut self) {
        self.0.retain(|_, entry| !entry.set.is_empty());
    }

    /// Writes the entries into an object.
    pub(super) fn store(&self, object: &mut Value) {
        if self.is_empty() {
            take(object);
            return;
        }
        let mut entries: Vec<&Entry> = self.0.values().collect();
        entries.sort_by(|a, b| {
            a.operation
                .cmp(&b.operation)
                .then_with(|| a.seconds().cmp(&b.seconds()))
                .then_with(|| a.manager.cmp(&b.manager))
                .then_with(|| a.api_version.cmp(&b.api_version))
                .then_with(|| a.subresource.cmp(&b.subresource))
        });
        let list: Vec<Value> = entries.into_iter().map(Entry::encode).collect();
        let Some(object) = object.as_object_mut() else {
            return;
        };
        let metadata = object.entry("metadata").or_insert_with(|| json!({}));
        if !metadata.is_object() {
            *metadata = json!({});
        }
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("managedFields".to_owned(), Value::Array(list));
        }
    }

    /// Merges the oldest update entries of each version until there are few enough.
    pub(super) fn cap(&mut self) {
        let mut updaters: Vec<(i64, String)> = self
            .0
            .iter()
            .filter(|(_, entry)| entry.operation == Operation::Update)
            .map(|(identity, entry)| (entry.seconds(), identity.clone()))
            .collect();
        let mut count = updaters.len();
        if count <= MAX_UPDATE_ENTRIES {
            return;
        }
        updaters.sort();
        let mut first_of_version: BTreeMap<String, String> = BTreeMap::new();
        for (_, identity) in updaters {
            if count <= MAX_UPDATE_ENTRIES {
                break;
            }
            let Some(entry) = self.0.get(&identity) else {
                continue;
            };
            let version = entry.api_version.clone();
            let Some(first) = first_of_version.get(&version) else {
                first_of_version.insert(version, identity);
                continue;
            };
            let bucket = Entry {
                manager: ANCIENT.to_owned(),
                operation: Operation::Update,
                api_version: version,
                subresource: String::new(),
                time: None,
                set: FieldSet::default(),
            };
            let bucket_identity = bucket.identity();
            if !self.0.contains_key(&bucket_identity) {
                let set = self
                    .0
                    .remove(first)
                    .map(|entry| entry.set)
                    .unwrap_or_default();
                self.0
                    .insert(bucket_identity.clone(), Entry { set, ..bucket });
            }
            if bucket_identity == identity {
                continue;
            }
            if let Some(old) = self.0.remove(&identity)
                && let Some(bucket) = self.0.get_mut(&bucket_identity)
            {
                bucket.set = bucket.set.union(&old.set);
                bucket.time = old.time;
                count -= 1;
            }
        }
    }
}

fn listed(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields")
}

/// Whether `metadata.managedFields` is there at all.
pub(super) fn is_listed(object: &Value) -> bool {
    listed(object).is_some_and(Value::is_array)
}

/// A list of one empty entry, or an empty list; custom resources lose empty lists of their metadata
/// before anybody sees them.
fn is_reset(list: Option<&Value>, built_in: bool) -> bool {
    let Some(Value::Array(entries)) = list else {
        return false;
    };
    match entries.as_slice() {
        [] => built_in,
        [Value::Object(only)] => only.values().all(|value| value.is_null() || value == ""),
        _ => false,
    }
}

/// Takes `metadata.managedFields` out of an object.
pub(super) fn take(object: &mut Value) -> Option<Value> {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut)?;
    metadata.remove("managedFields")
}

/// Puts back what [`take`] took.
pub(super) fn put_back(object: &mut Value, list: Option<Value>) {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    if let (Some(metadata), Some(list)) = (metadata, list) {
        metadata.insert("managedFields".to_owned(), list);
    }
}
