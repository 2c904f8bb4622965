//! Creates and updates, and what every write has in common.
//!
//! Every write walks the same stairs: decode, know the fields, default, prepare, admit, validate,
//! track who manages what, store.

use std::sync::Arc;

use drover_schema::apply::{self, Writer};
use drover_schema::field_error::FieldError;
use http::header;
use serde_json::{Value, json};

use super::prepare::{is_same, prepare_namespace, restore_metadata};
use super::query::{FieldValidation, WriteOptions};
use super::read::parse_revision;
use super::wire::{Response, Wanted};
use super::{Call, Operation, decode, definitions, meta};
use crate::lifecycle::{self, AfterUpdate, Family};
use crate::resource::{DEFINITIONS, NAMESPACES, convert};
use crate::status::{ApiError, ApiResult, Subject};
use crate::store::{Key, Object, WriteError};

pub(super) const CSRS: &str = "certificates.k8s.io/certificatesigningrequests";

/// Attempts to find a free generated name, as in Kubernetes.
const NAME_ATTEMPTS: usize = 8;
/// Attempts to put an update without a resource version on a moving object.
const UPDATE_ATTEMPTS: usize = 5;

/// What a write leaves behind.
pub(super) enum Outcome {
    /// An object in the store.
    Stored(Arc<Object>),
    /// An object that is not stored: a dry run, or a last state.
    Tree(Value),
}

impl Call<'_> {
    pub(super) fn user_agent(&self) -> &str {
        self.headers
            .get(header::USER_AGENT)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
    }

    pub(super) async fn create(&mut self) -> ApiResult<Response> {
        if !self.name.is_empty() {
            return Err(ApiError::method_not_allowed(
                "the server does not allow this method on the requested resource",
            ));
        }
        let wanted = self.wanted()?;
        let options = self
            .query
            .write_options("CreateOptions", false, self.user_agent())?;
        let decoded = decode::object(&self.resource, self.headers, &self.body)?;
        let mut object = decoded.object;
        self.know_fields(&mut object, decoded.strict, options.validation)?;
        self.place(&mut object)?;
        let outcome = self.insert(object, &options, true).await?;
        self.answer_write(201, outcome, wanted)
    }

    pub(super) fn answer_write(
        &self,
        code: u16,
        outcome: Outcome,
        wanted: Wanted,
    ) -> ApiResult<Response> {
        match outcome {
            Outcome::Stored(object) => self.show_stored(code, &object, wanted),
            Outcome::Tree(tree) => self.show(code, tree, wanted),
        }
    }

    /// Drops fields that the schema does not know, and says so as the client wishes.
    fn know_fields(
        &mut self,
        object: &mut Value,
        mut strict: Vec<String>,
        validation: FieldValidation,
    ) -> ApiResult<()> {
        let unknown = self.resource.prune(object);
        strict.extend(
            unknown
                .into_iter()
                .map(|path| format!("unknown field {path:?}")),
        );
        match validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => self.warnings.extend(strict),
            FieldValidation::Strict if strict.is_empty() => {}
            FieldValidation::Strict => {
                let (kind, version) = (&self.resource.kind, &self.resource.version);
                return Err(ApiError::bad_request(format!(
                    "{kind} in version {version:?} cannot be handled as a {kind}: strict decoding \
                     error: {}",
                    strict.join(", ")
                )));
            }
        }
        Ok(())
    }

    /// Checks that an object belongs where the request sends it.
    pub(super) fn place(&self, object: &mut Value) -> ApiResult<()> {
        let metadata = meta::of(object);
        if !self.resource.namespaced {
            metadata.remove("namespace");
            return Ok(());
        }
        let namespace = metadata
            .get("namespace")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if namespace == self.namespace {
            return Ok(());
        }
        if namespace.is_empty() {
            metadata.insert("namespace".to_owned(), self.namespace.into());
            return Ok(());
        }
        Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ))
    }

    /// The object must have the name of the path.
    pub(super) fn named(&self, object: &Value) -> ApiResult<()> {
        match object["metadata"]["name"].as_str().unwrap_or_default() {
            "" => Err(ApiError::bad_request(format!(
                "the name of the object ({} based on URL) was undeterminable: name must be provided",
                self.name
            ))),
            name if name == self.name => Ok(()),
            name => Err(ApiError::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                self.name
            ))),
        }
    }

    /// New objects need a namespace that is there and stays.
    pub(super) fn check_namespace(&self, given: &str) -> ApiResult<()> {
        if !self.resource.namespaced {
            return Ok(());
        }
        if self.namespace.is_empty() {
            return Err(ApiError::bad_request(
                "namespace is required on the request",
            ));
        }
        let key = Key {
            resource: NAMESPACES.into(),
            namespace: "".into(),
            name: self.namespace.into(),
        };
        let namespace = self.server.store().get(&key).ok_or_else(|| {
            ApiError::not_found(Subject {
                group: "",
                resource: "namespaces",
                name: self.namespace,
            })
        })?;
        if !namespace.meta.terminating {
            return Ok(());
        }
        let name = self.namespace;
        let mut error = ApiError::forbidden(
            self.resource.subject(given),
            &format!(
                "unable to create new content in namespace {name} because it is being terminated"
            ),
        );
        if let Some(details) = &mut error.details {
            details["causes"] = json!([{
                "reason": "NamespaceTerminating",
                "message": format!("namespace {name} is being terminated"),
                "field": "metadata.namespace",
            }]);
        }
        Err(error)
    }

    /// Kinds that are going away get no new objects.
    fn check_definition(&self) -> ApiResult<()> {
        if !self.resource.is_custom() {
            return Ok(());
        }
        let name = format!("{}.{}", self.resource.plural, self.resource.group);
        let definition = self.server.store().get(&definitions::key(&name));
        if definition.is_none_or(|object| object.meta.terminating) {
            return Err(ApiError::method_not_allowed(
                "create not allowed while custom resource definition is terminating",
            ));
        }
        Ok(())
    }

    pub(super) fn writer<'w>(&'w self, options: &'w WriteOptions, now: &'w str) -> Writer<'w> {
        Writer {
            manager: &options.manager,
            api_version: &self.resource.api_version,
            subresource: self.subresource,
            now: if self.subresource == "scale" { "" } else { now },
            reset: match self.subresource {
                "status" | "approval" => apply::RESET_ALL_BUT_STATUS,
                "" if &*self.resource.storage == CSRS => &["spec", "status"],
                "" if self.resource.status => apply::RESET_STATUS,
                _ => apply::RESET_NOTHING,
            },
        }
    }

    /// Puts a new object in the store. `track`: managed fields are to be computed here.
    pub(super) async fn insert(
        &mut self,
        mut object: Value,
        options: &WriteOptions,
        track: bool,
    ) -> ApiResult<Outcome> {
        let revision = object["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default();
        if !matches!(revision, "" | "0") {
            let text = "resourceVersion should not be set on objects to be created";
            return Err(ApiError::new(500, "", text));
        }
        let given = object["metadata"]["name"].as_str().unwrap_or_default();
        self.check_namespace(given)?;
        self.check_definition()?;
        let now = self.server.now_text();
        self.resource.fill_defaults(&mut object);
        if track {
            let node = self.resource.schema.node();
            apply::track_update(node, None, &mut object, self.writer(options, &now));
        }
        self.prepare_new(&mut object, &now)?;
        let given = object["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let prefix = object["metadata"]["generateName"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let generated = given.is_empty() && !prefix.is_empty();
        for attempt in 1..=NAME_ATTEMPTS {
            let mut object = object.clone();
            let name = if generated {
                self.generate_name(&prefix)
            } else {
                given.clone()
            };
            if generated {
                meta::of(&mut object).insert("name".to_owned(), name.as_str().into());
                if &*self.resource.storage == NAMESPACES {
                    prepare_namespace(&mut object);
                }
            }
            self.admit(
                Operation::Create,
                &name,
                None,
                Some(&mut object),
                options.dry_run,
            )?;
            self.give_addresses(&name, None, &mut object)?;
            self.validate(Operation::Create, &name, None, &object, options.dry_run)?;
            if options.dry_run {
                if self.server.store().get(&self.key(&name)).is_some() {
                    return Err(ApiError::already_exists(self.resource.subject(&name)));
                }
                return Ok(Outcome::Tree(object));
            }
            convert::to_stored(&self.resource, &mut object);
            match self.server.store().create(self.key(&name), object).await {
                Ok(stored) => {
                    self.wrote(&name).await?;
                    return Ok(Outcome::Stored(stored));
                }
                Err(WriteError::Exists) if generated && attempt < NAME_ATTEMPTS => {}
                Err(WriteError::Exists) => {
                    return Err(ApiError::already_exists(self.resource.subject(&name)));
                }
                Err(error) => return Err(self.unwritten(&name, error)),
            }
        }
        Err(ApiError::internal(
            "every attempt to generate a name met one in use",
        ))
    }

    /// What follows a write that the rest of the server depends on.
    pub(super) async fn wrote(&self, name: &str) -> ApiResult<()> {
        if &*self.resource.storage == DEFINITIONS {
            self.server.reconcile_definition(name).await?;
        }
        Ok(())
    }

    pub(super) fn unwritten(&self, name: &str, error: WriteError) -> Box<ApiError> {
        match error {
            WriteError::Exists => ApiError::already_exists(self.resource.subject(name)),
            WriteError::Missing => ApiError::not_found(self.resource.subject(name)),
            WriteError::Changed(_) => ApiError::stale(self.resource.subject(name)),
            WriteError::Unwritable(_) | WriteError::Malformed(_) => ApiError::internal(error),
            WriteError::Closed => {
                let mut error =
                    ApiError::new(503, "ServiceUnavailable", "the server is shutting down");
                error.details = Some(json!({"retryAfterSeconds": 1}));
                error
            }
        }
    }

    pub(super) async fn update(&mut self) -> ApiResult<Response> {
        if self.name.is_empty() {
            return Err(ApiError::bad_request("name must be provided"));
        }
        let wanted = self.wanted()?;
        let options = self
            .query
            .write_options("UpdateOptions", false, self.user_agent())?;
        let decoded = decode::object(&self.resource, self.headers, &self.body)?;
        let mut object = decoded.object;
        self.know_fields(&mut object, decoded.strict, options.validation)?;
        self.named(&object)?;
        self.place(&mut object)?;
        let expected = expected_revision(&object)?;
        for _ in 0..UPDATE_ATTEMPTS {
            let creates = self.subresource.is_empty() && self.resource.creates_on_update();
            let live = match self.live() {
                Ok(live) => live,
                Err(_) if creates => {
                    self.authorize_create()?;
                    let mut object = object.clone();
                    meta::of(&mut object).remove("resourceVersion");
                    match self.insert(object, &options, true).await {
                        Err(error) if error.reason == "AlreadyExists" => continue,
                        outcome => return self.answer_write(201, outcome?, wanted),
                    }
                }
                Err(error) => return Err(error),
            };
            self.check_expected(&object, expected, &live)?;
            let old = self.resource.read(&live);
            if let Some(outcome) = self
                .replace(&live, &old, object.clone(), &options, true)
                .await?
            {
                return self.answer_write(200, outcome, wanted);
            }
        }
        Err(ApiError::stale(self.resource.subject(self.name)))
    }

    fn check_expected(
        &self,
        object: &Value,
        expected: Option<u64>,
        live: &Object,
    ) -> ApiResult<()> {
        let subject = self.resource.subject(self.name);
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        if !uid.is_empty() && uid != &*live.meta.uid {
            return Err(ApiError::conflict(
                subject,
                &format!(
                    "StorageError: invalid object, Code: 4, Key: /registry/{}/{}/{}, \
                     ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in \
                     precondition: {uid}, UID in object meta: {}",
                    self.resource.plural, self.namespace, self.name, live.meta.uid
                ),
            ));
        }
        match expected {
            Some(revision) if revision != live.revision => Err(ApiError::stale(subject)),
            None if !self.resource.updates_unconditionally() => {
                let error = FieldError::invalid(
                    "metadata.resourceVersion",
                    0,
                    "must be specified for an update",
                );
                Err(ApiError::invalid(subject, &[error]))
            }
            _ => Ok(()),
        }
    }

    /// Puts `new` in the place of `live` (`old` is its tree); `None` when another write came first.
    /// `track`: managed fields are to be computed here.
    pub(super) async fn replace(
        &mut self,
        live: &Arc<Object>,
        old: &Value,
        new: Value,
        options: &WriteOptions,
        track: bool,
    ) -> ApiResult<Option<Outcome>> {
        let now = self.server.now_text();
        let mut new = new;
        self.resource.fill_defaults(&mut new);
        if track {
            let node = self.resource.schema.node();
            apply::track_update(node, Some(old), &mut new, self.writer(options, &now));
        }
        let mut next = self.compose(old, new);
        restore_metadata(&mut next, old);
        if self.subresource.is_empty() || self.subresource == "scale" {
            self.resource.prepare_update(&mut next, old);
        }
        self.resource.fill_defaults(&mut next);
        self.count_generation(&mut next, old);
        if &*self.resource.storage == DEFINITIONS {
            definitions::prepare(&mut next);
        }
        let grants = ["rules", "aggregationRule", "roleRef", "subjects"];
        if grants.iter().any(|field| next.get(field) != old.get(field)) {
            self.check_escalation(&next)?;
        }
        if &*self.resource.storage == CSRS {
            self.server
                .auth()
                .check_csr_update(self.user, self.subresource, old, &next)?;
        }
        self.admit(
            Operation::Update,
            self.name,
            Some(old),
            Some(&mut next),
            options.dry_run,
        )?;
        self.give_addresses(self.name, Some(self.name), &mut next)?;
        self.validate(
            Operation::Update,
            self.name,
            Some(old),
            &next,
            options.dry_run,
        )?;
        meta::of(&mut next).insert(
            "resourceVersion".to_owned(),
            live.revision.to_string().into(),
        );
        if is_same(old, &next) {
            return Ok(Some(Outcome::Stored(Arc::clone(live))));
        }
        let family = Family::of(&self.resource.storage);
        let gone = lifecycle::after_update(old, &next, family) == AfterUpdate::Remove;
        if options.dry_run {
            return Ok(Some(Outcome::Tree(next)));
        }
        let store = self.server.store();
        let result = if gone {
            store
                .delete(live.key.clone(), live.revision)
                .await
                .map(|_| Outcome::Tree(next))
        } else {
            convert::to_stored(&self.resource, &mut next);
            store
                .update(live.key.clone(), live.revision, next)
                .await
                .map(Outcome::Stored)
        };
        match result {
            Ok(outcome) => {
                self.wrote(self.name).await?;
                if gone {
                    self.server.after_removal(&self.resource).await?;
                }
                Ok(Some(outcome))
            }
            Err(WriteError::Changed(_)) => Ok(None),
            Err(error) => Err(self.unwritten(self.name, error)),
        }
    }
}

/// `metadata.resourceVersion` of an object that wants to replace another.
pub(super) fn expected_revision(object: &Value) -> ApiResult<Option<u64>> {
    match object["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default()
    {
        "" | "0" => Ok(None),
        text => parse_revision(text)
            .map(Some)
            .map_err(|why| ApiError::new(500, "", why)),
    }
}
