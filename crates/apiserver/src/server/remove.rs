//! Deletes: at once, or in two steps where finalizers want to know.

use std::sync::Arc;

use drover_schema::field_error::FieldError;
use serde_json::{Value, json};

use super::query::refuse;
use super::read::ListMeta;
use super::wire::{self, Response};
use super::write::is_finished;
use super::{ApiServer, Call, Operation, decode, meta};
use crate::resource::{DEFINITIONS, NAMESPACES, Resource};
use crate::status::{ApiError, ApiResult};
use crate::store::{Key, Object, WriteError};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Keeps a definition until its objects are gone.
pub(super) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
const ATTEMPTS: usize = 16;

/// What happens to the objects that an object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Propagation {
    /// They go before it.
    Foreground,
    /// They go after it.
    Background,
    /// They stay.
    Orphan,
}

/// Options of a delete.
#[derive(Clone, Debug, Default)]
pub(super) struct DeleteOptions {
    pub(super) propagation: Option<Propagation>,
    pub(super) uid: Option<String>,
    pub(super) revision: Option<String>,
    pub(super) dry_run: bool,
}

/// What a delete leaves behind.
pub(super) enum Removed {
    /// Nothing; this was its last state.
    Gone(Arc<Object>),
    /// The object, which waits for its finalizers.
    Waiting(Arc<Object>),
}

impl Call<'_> {
    fn delete_options(&self) -> ApiResult<DeleteOptions> {
        let mut body = if self.body.is_empty() {
            json!({})
        } else {
            decode::document(decode::media(self.headers), &self.body, true)?.object
        };
        if self.body.is_empty() {
            for name in ["propagationPolicy", "orphanDependents"] {
                if let Some(text) = self.query.get(name) {
                    body[name] = match text {
                        "true" => true.into(),
                        "false" => false.into(),
                        other => other.into(),
                    };
                }
            }
        }
        let mut errors = Vec::new();
        let mut dry_run = self.query.dry_run(&mut errors);
        if let Some(list) = body["dryRun"].as_array().filter(|list| !list.is_empty()) {
            if list.iter().any(|value| value != "All") {
                errors.push(FieldError::not_supported("dryRun", body["dryRun"].clone(), &["All"]));
            }
            dry_run = true;
        }
        let policy = body["propagationPolicy"].as_str().filter(|text| !text.is_empty());
        let orphan = body["orphanDependents"].as_bool();
        if let (Some(policy), Some(_)) = (policy, orphan) {
            errors.push(FieldError::invalid(
                "propagationPolicy",
                policy,
                "orphanDependents and deletionPropagation cannot be both set",
            ));
        }
        let propagation = match (policy, orphan) {
            (Some("Foreground"), _) => Some(Propagation::Foreground),
            (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
            (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
            (None, None) => None,
            (Some(other), _) => {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(FieldError::not_supported("propagationPolicy", other, &supported));
                None
            }
        };
        refuse("DeleteOptions", &errors)?;
        let condition = |field: &str| {
            body["preconditions"][field].as_str().filter(|text| !text.is_empty()).map(str::to_owned)
        };
        Ok(DeleteOptions {
            propagation,
            uid: condition("uid"),
            revision: condition("resourceVersion"),
            dry_run,
        })
    }

    pub(super) async fn delete(&mut self) -> ApiResult<Response> {
        let wanted = self.wanted()?;
        let options = self.delete_options()?;
        let removed = self.remove(&self.key(self.name), &options).await?;
        match removed {
            Removed::Gone(last) => {
                let mut details = json!({
                    "name": self.name, "kind": &*self.resource.plural, "uid": &*last.meta.uid,
                });
                if !self.resource.group.is_empty() {
                    details["group"] = (*self.resource.group).into();
                }
                let status = json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                    "details": details,
                });
                wire::tree(200, &status, wanted)
            }
            Removed::Waiting(object) => self.show_stored(200, &object, wanted),
        }
    }

    /// Deletes one object, and does what follows from it.
    pub(super) async fn remove(&self, key: &Key, options: &DeleteOptions) -> ApiResult<Removed> {
        let old = self
            .server
            .store()
            .get(key)
            .map(|object| self.resource.read(&object));
        self.admit(Operation::Delete, &key.name, old.as_ref(), None, options.dry_run)?;
        let removed = self.server.remove_object(&self.resource, key, options).await?;
        self.wrote(&key.name).await?;
        self.server.after_removal(&self.resource).await?;
        Ok(removed)
    }

    pub(super) async fn delete_collection(&mut self) -> ApiResult<Response> {
        let wanted = self.wanted()?;
        let options = self.delete_options()?;
        let selection = self.selection()?;
        let listing = self.snapshot(&selection);
        for object in &listing.items {
            match self.remove(&object.key, &options).await {
                Err(error) if error.reason == "NotFound" => {}
                outcome => {
                    outcome?;
                }
            }
        }
        let meta =
            ListMeta { revision: self.server.store().revision(), token: None, remaining: None };
        self.show_list(&listing.items, &meta, wanted)
    }
}

impl ApiServer {
    /// Deletes one object, or marks it when finalizers have to agree.
    pub(super) async fn remove_object(
        &self,
        resource: &Resource,
        key: &Key,
        options: &DeleteOptions,
    ) -> ApiResult<Removed> {
        let store = self.store();
        for _ in 0..ATTEMPTS {
            let Some(live) = store.get(key) else {
                return Err(ApiError::not_found(resource.subject(&key.name)));
            };
            check_preconditions(resource, &live, options)?;
            let old = live.value();
            let mut next = old.clone();
            self.mark(resource, &mut next, options.propagation);
            let gone = is_finished(&next);
            if options.dry_run || !gone && next == old {
                return Ok(if gone { Removed::Gone(live) } else { Removed::Waiting(live) });
            }
            let result = if gone {
                store.delete(key.clone(), live.revision).await.map(Removed::Gone)
            } else {
                store.update(key.clone(), live.revision, next).await.map(Removed::Waiting)
            };
            match result {
                Ok(removed) => return Ok(removed),
                Err(WriteError::Changed(_)) => {}
                Err(WriteError::Missing) => {
                    return Err(ApiError::not_found(resource.subject(&key.name)));
                }
                Err(error) => return Err(ApiError::internal(error)),
            }
        }
        Err(ApiError::stale(resource.subject(&key.name)))
    }

    /// Makes an object one that is being deleted.
    fn mark(&self, resource: &Resource, object: &mut Value, propagation: Option<Propagation>) {
        let mut finalizers: Vec<String> =
            meta::finalizers(object).into_iter().map(str::to_owned).collect();
        if let Some(propagation) = propagation {
            finalizers.retain(|name| name != ORPHAN && name != FOREGROUND);
            match propagation {
                Propagation::Foreground => finalizers.push(FOREGROUND.to_owned()),
                Propagation::Orphan => finalizers.push(ORPHAN.to_owned()),
                Propagation::Background => {}
            }
        }
        let is_new = object["metadata"].get("deletionTimestamp").is_none_or(Value::is_null);
        if is_new && &*resource.storage == DEFINITIONS && !finalizers.iter().any(|f| f == CLEANUP) {
            finalizers.push(CLEANUP.to_owned());
        }
        let now = self.now_text();
        let metadata = meta::of(object);
        if finalizers.is_empty() {
            metadata.remove("finalizers");
        } else {
            metadata.insert("finalizers".to_owned(), json!(finalizers));
        }
        if !is_new {
            return;
        }
        metadata.insert("deletionTimestamp".to_owned(), now.into());
        metadata.insert("deletionGracePeriodSeconds".to_owned(), 0.into());
        let generation = metadata.get("generation").and_then(Value::as_i64).unwrap_or(0);
        if generation > 0 {
            metadata.insert("generation".to_owned(), (generation + 1).into());
        }
        if &*resource.storage == NAMESPACES {
            match object["status"].as_object_mut() {
                Some(status) => {
                    status.insert("phase".to_owned(), "Terminating".into());
                }
                None => object["status"] = json!({"phase": "Terminating"}),
            }
        }
    }

    /// A definition may have waited for the last of its objects.
    pub(super) async fn after_removal(&self, resource: &Resource) -> ApiResult<()> {
        if !resource.is_custom() {
            return Ok(());
        }
        let name = format!("{}.{}", resource.plural, resource.group);
        let definition = self.store().get(&super::definitions::key(&name));
        if definition.is_some_and(|object| object.meta.terminating) {
            self.reconcile_definition(&name).await?;
        }
        Ok(())
    }
}

fn check_preconditions(
    resource: &Resource,
    live: &Object,
    options: &DeleteOptions,
) -> ApiResult<()> {
    let subject = resource.kind_subject(&live.key.name);
    if let Some(uid) = &options.uid
        && **uid != *live.meta.uid
    {
        return Err(ApiError::conflict(
            subject,
            &format!(
                "the UID in the precondition ({uid}) does not match the UID in record ({}). The \
                 object might have been deleted and then recreated",
                live.meta.uid
            ),
        ));
    }
    if let Some(revision) = &options.revision
        && *revision != live.revision.to_string()
    {
        return Err(ApiError::conflict(
            subject,
            &format!(
                "the ResourceVersion in the precondition ({revision}) does not match the \
                 ResourceVersion in record ({}). The object might have been modified",
                live.revision
            ),
        ));
    }
    Ok(())
}
