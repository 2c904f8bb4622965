//! Custom resource definitions become resources.
//!
//! The registry follows the store: a definition is registered in the same request that wrote it,
//! before its status says so, and stays until the last of its objects is gone.

use std::sync::Arc;

use drover_schema::apply::{self, Writer};
use drover_schema::crd::CustomKind;
use serde_json::{Value, json};

use super::ApiServer;
use super::remove::CLEANUP;
use crate::lifecycle::{self, AfterUpdate, DeleteOptions, Family};
use crate::resource::registry::{Definition, Registry};
use crate::resource::{DEFINITIONS, Resource};
use crate::status::{ApiError, ApiResult};
use crate::store::{Key, Object, Store, WriteError};

const ATTEMPTS: usize = 32;

/// Where a definition is stored.
pub(super) fn key(name: &str) -> Key {
    Key {
        resource: DEFINITIONS.into(),
        namespace: "".into(),
        name: name.into(),
    }
}

/// The registry of a store.
pub(super) fn load(store: &Store) -> Arc<Registry> {
    let mut registry = Registry::builtin();
    for object in store.list(DEFINITIONS, None).items {
        let value = object.value();
        match CustomKind::compile(&value) {
            Ok(kind) => {
                let definition = Definition::new(
                    &object.meta.uid,
                    value["spec"].clone(),
                    kind,
                    object.revision,
                );
                registry = Arc::new(registry.with(&object.key.name, Some(definition)));
            }
            Err(errors) => {
                let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
                tracing::error!(
                    definition = &*object.key.name,
                    errors = errors.join(", "),
                    "a stored definition is not valid: its objects are not served"
                );
            }
        }
    }
    registry
}

/// What the server keeps in the status of a definition, before it is written: every version that
/// objects may be stored in.
pub(super) fn prepare(definition: &mut Value) {
    let storage = definition["spec"]["versions"]
        .as_array()
        .and_then(|versions| versions.iter().find(|version| version["storage"] == true))
        .and_then(|version| version["name"].as_str())
        .map(str::to_owned);
    if !definition["status"].is_object() {
        definition["status"] = json!({});
    }
    let status = &mut definition["status"];
    if !status["acceptedNames"].is_object() {
        status["acceptedNames"] = json!({"kind": "", "plural": ""});
    }
    for field in ["conditions", "storedVersions"] {
        if !status[field].is_array() {
            status[field] = json!([]);
        }
    }
    if let (Some(list), Some(storage)) = (status["storedVersions"].as_array_mut(), storage)
        && !list.iter().any(|version| *version == *storage)
    {
        list.push(storage.into());
    }
}

impl ApiServer {
    /// Brings registry and status of every definition up to date; after a start.
    pub async fn reconcile_definitions(&self) -> ApiResult<()> {
        let mut names: Vec<String> = self
            .registry()
            .definition_names()
            .map(str::to_owned)
            .collect();
        let stored = self.store().list(DEFINITIONS, None).items;
        names.extend(stored.iter().map(|object| object.key.name.to_string()));
        names.sort();
        names.dedup();
        for name in names {
            self.reconcile_definition(&name).await?;
        }
        Ok(())
    }

    /// Makes registry and status of one definition follow what is stored.
    pub(super) async fn reconcile_definition(&self, name: &str) -> ApiResult<()> {
        let _one_at_a_time = self.inner.defining.lock().await;
        for _ in 0..ATTEMPTS {
            let Some(object) = self.store().get(&key(name)) else {
                if self.registry().definition(name).is_some() {
                    self.set_registry(self.registry().with(name, None));
                    self.retry_refused(name).await?;
                }
                return Ok(());
            };
            let value = object.value();
            let definition = self.register(&object, &value)?;
            let emptied = object.meta.terminating && self.delete_objects(&definition).await?;
            let next = self.with_status(&value, &definition, emptied);
            if next == value {
                return Ok(());
            }
            let last = lifecycle::after_update(&value, &next, Family::Plain) == AfterUpdate::Remove;
            let result = if last {
                self.store()
                    .delete(object.key.clone(), object.revision)
                    .await
            } else {
                self.store()
                    .update(object.key.clone(), object.revision, next)
                    .await
            };
            match result {
                Ok(_) | Err(WriteError::Changed(_) | WriteError::Missing) => {}
                Err(error) => return Err(ApiError::internal(error)),
            }
        }
        Err(ApiError::internal(format!(
            "the definition {name} changes faster than it is read"
        )))
    }

    /// Names that a definition held may be free now.
    async fn retry_refused(&self, gone: &str) -> ApiResult<()> {
        let group = gone.split_once('.').map_or("", |(_, group)| group);
        let registry = self.registry();
        for name in registry.definition_names() {
            let Some(other) = registry.definition(name) else {
                continue;
            };
            if other.refused.is_none() || other.kind.group != group {
                continue;
            }
            if let Some(object) = self.store().get(&key(name)) {
                let value = object.value();
                self.set_registry(self.registry().with(name, None));
                let definition = self.register(&object, &value)?;
                let next = self.with_status(&value, &definition, false);
                if next != value {
                    match self
                        .store()
                        .update(object.key.clone(), object.revision, next)
                        .await
                    {
                        Ok(_) | Err(WriteError::Changed(_) | WriteError::Missing) => {}
                        Err(error) => return Err(ApiError::internal(error)),
                    }
                }
            }
        }
        Ok(())
    }

    fn register(&self, object: &Object, value: &Value) -> ApiResult<Arc<Definition>> {
        let name = &*object.key.name;
        let registry = self.registry();
        if let Some(known) = registry.definition(name)
            && known.uid == *object.meta.uid
            && known.spec == value["spec"]
        {
            return Ok(Arc::clone(known));
        }
        let kind = CustomKind::compile(value).map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            ApiError::internal(format!(
                "the definition {name} is not valid: {}",
                errors.join(", ")
            ))
        })?;
        let since = self.store().revision();
        let definition = Definition::new(&object.meta.uid, value["spec"].clone(), kind, since);
        let registry = registry.with(name, Some(definition));
        let registered = registry.definition(name).cloned();
        self.set_registry(registry);
        registered.ok_or_else(|| ApiError::internal("a registered definition is not there"))
    }

    /// Deletes the objects of a definition; tells whether none are left.
    async fn delete_objects(&self, definition: &Definition) -> ApiResult<bool> {
        let kind = &definition.kind;
        if definition.refused.is_some() {
            return Ok(true);
        }
        let Some(version) = kind
            .versions
            .iter()
            .find(|v| v.storage)
            .or(kind.versions.first())
        else {
            return Ok(true);
        };
        let resource = Resource::custom(kind, version, definition.since);
        let options = DeleteOptions::default();
        for object in self.store().list(&resource.storage, None).items {
            match self.remove_object(&resource, &object.key, &options).await {
                Ok(_) => {}
                Err(error) if error.reason == "NotFound" => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.store().list(&resource.storage, None).items.is_empty())
    }

    fn with_status(&self, old: &Value, definition: &Definition, emptied: bool) -> Value {
        let mut next = old.clone();
        prepare(&mut next);
        let terminating = old["metadata"].get("deletionTimestamp").is_some();
        let mut conditions: Vec<Value> = next["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let now = self.now_text();
        let mut set = |kind: &str, status: &str, reason: &str, message: &str| {
            let at = conditions
                .iter()
                .position(|condition| condition["type"] == kind);
            let mut condition = json!({
                "type": kind, "status": status, "reason": reason, "message": message,
                "lastTransitionTime": now,
            });
            match at {
                Some(at) => {
                    if conditions[at]["status"] == status {
                        condition["lastTransitionTime"] =
                            conditions[at]["lastTransitionTime"].clone();
                    }
                    conditions[at] = condition;
                }
                None => conditions.push(condition),
            }
        };
        match &definition.refused {
            None => {
                set("NamesAccepted", "True", "NoConflicts", "no conflicts found");
                let accepted = "the initial names have been accepted";
                set("Established", "True", "InitialNamesAccepted", accepted);
            }
            Some((reason, message)) => {
                set("NamesAccepted", "False", reason, message);
                set(
                    "Established",
                    "False",
                    "NotAccepted",
                    "not all names are accepted",
                );
            }
        }
        if terminating {
            let (reason, message) = if emptied {
                ("InstanceDeletionCompleted", "removed all instances")
            } else {
                (
                    "InstanceDeletionInProgress",
                    "CustomResource deletion is in progress",
                )
            };
            set(
                "Terminating",
                if emptied { "False" } else { "True" },
                reason,
                message,
            );
        }
        next["status"]["conditions"] = Value::Array(conditions);
        if definition.refused.is_none() {
            next["status"]["acceptedNames"] = definition.accepted_names();
        }
        if emptied && let Some(list) = next["metadata"]["finalizers"].as_array_mut() {
            list.retain(|name| name != CLEANUP);
        }
        if next["status"] != old["status"]
            && let Some(resource) =
                self.registry()
                    .get("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        {
            let writer = Writer {
                manager: "drover-apiserver",
                api_version: &resource.api_version,
                subresource: "status",
                now: &now,
                reset: &[],
            };
            apply::track_update(resource.schema.node(), Some(old), &mut next, writer);
        }
        next
    }
}
