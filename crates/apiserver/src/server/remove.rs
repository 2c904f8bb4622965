//! Deletes: at once, or in two steps where finalizers want to know.

use std::sync::Arc;

use drover_schema::builtin::Kind;
use serde_json::{Value, json};

use super::query::refuse;
use super::read::ListMeta;
use super::wire::{self, Response};
use super::{ApiServer, Call, Operation, decode, meta};
use crate::lifecycle::{self, DeleteOptions, Deletion, Facts, Family};
use crate::resource::{DEFINITIONS, Resource};
use crate::status::{ApiError, ApiResult};
use crate::store::{Key, Object, WriteError};

/// Keeps a definition until its objects are gone.
pub(super) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
const ATTEMPTS: usize = 16;

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
        let dry_run = self.query.dry_run(&mut errors);
        refuse("DeleteOptions", &errors)?;
        let mut options = DeleteOptions::from_json(&body)?;
        options.dry_run |= dry_run;
        Ok(options)
    }

    pub(super) async fn delete(&mut self) -> ApiResult<Response> {
        let wanted = self.wanted()?;
        let options = self.delete_options()?;
        let removed = self.remove(&self.key(self.name), &options).await?;
        match removed {
            Removed::Gone(last) if self.resource.is_builtin_that(Kind::answers_deleted) => {
                self.show_stored(200, &last, wanted)
            }
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
        self.admit(
            Operation::Delete,
            &key.name,
            old.as_ref(),
            None,
            options.dry_run,
        )?;
        let removed = self
            .server
            .remove_object(&self.resource, key, options)
            .await?;
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
        let meta = ListMeta {
            revision: self.server.store().revision(),
            token: None,
            remaining: None,
        };
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
            let old = live.value();
            let family = Family::of(&resource.storage);
            let facts = Facts {
                group: &resource.group,
                kind: &resource.kind,
                family,
            };
            let next = match lifecycle::delete(&old, options, &facts, self.now()) {
                Deletion::Refuse(error) => return Err(error),
                Deletion::Unchanged => return Ok(Removed::Waiting(live)),
                Deletion::Mark(next) => Some(next),
                Deletion::Remove if &*resource.storage == DEFINITIONS => keep(&old, self.now()),
                Deletion::Remove => None,
            };
            if options.dry_run {
                return Ok(match next {
                    None => Removed::Gone(live),
                    Some(_) => Removed::Waiting(live),
                });
            }
            let result = match next {
                None => store
                    .delete(key.clone(), live.revision)
                    .await
                    .map(Removed::Gone),
                Some(mut next) => {
                    if &*resource.storage == DEFINITIONS {
                        add_cleanup(&mut next);
                    }
                    store
                        .update(key.clone(), live.revision, next)
                        .await
                        .map(Removed::Waiting)
                }
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

/// A definition that nothing keeps but its objects: marked, unless it was before. As in Kubernetes
/// it gets no grace period, and no new generation.
fn keep(definition: &Value, now: jiff::Timestamp) -> Option<Value> {
    if lifecycle::is_terminating(definition) {
        return None;
    }
    let mut next = definition.clone();
    let metadata = meta::of(&mut next);
    metadata.insert(
        "deletionTimestamp".to_owned(),
        lifecycle::format_time(now).into(),
    );
    Some(next)
}

fn add_cleanup(definition: &mut Value) {
    let finalizers = meta::of(definition)
        .entry("finalizers")
        .or_insert_with(|| json!([]));
    if let Some(list) = finalizers.as_array_mut()
        && !list.iter().any(|name| name == CLEANUP)
    {
        list.push(CLEANUP.into());
    }
}
