//! Creates, updates and patches.
//!
//! Every write walks the same stairs: decode, know the fields, default, prepare, admit, validate,
//! track who manages what, store.

use std::sync::Arc;

use drover_schema::apply::{self, ApplyError, Writer};
use drover_schema::field_error::FieldError;
use drover_schema::patch::{self, PatchError};
use drover_schema::yaml;
use http::header;
use serde_json::{Value, json};

use super::query::{FieldValidation, WriteOptions};
use super::read::parse_revision;
use super::wire::{Response, Wanted};
use super::{Call, Operation, decode, definitions, meta};
use crate::lifecycle::{self, AfterUpdate, Family};
use crate::resource::{DEFINITIONS, NAMESPACES, convert};
use crate::status::{ApiError, ApiResult, Subject};
use crate::store::{Key, Object, WriteError};

pub(super) const JSON_PATCH: &str = "application/json-patch+json";
pub(super) const MERGE_PATCH: &str = "application/merge-patch+json";
pub(super) const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
pub(super) const APPLY_PATCH: &str = "application/apply-patch+yaml";

const CSRS: &str = "certificates.k8s.io/certificatesigningrequests";

/// What suffixes of generated names are made of: no vowels, nothing that looks like another.
const SUFFIX: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Attempts to find a free generated name, as in Kubernetes.
const NAME_ATTEMPTS: usize = 8;
/// Attempts to put a patch on a moving object, as in Kubernetes.
const PATCH_ATTEMPTS: usize = 5;

/// What a write leaves behind.
pub(super) enum Outcome {
    /// An object in the store.
    Stored(Arc<Object>),
    /// An object that is not stored: a dry run, or a last state.
    Tree(Value),
}

/// A patch, decoded.
pub(super) enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
    Apply(Value),
}

impl Patch {
    /// Decodes the body of a patch request.
    pub(super) fn decode(media: &str, body: &[u8], strategic: bool) -> ApiResult<Self> {
        let json = || {
            yaml::decode_json(body).map(|(value, _)| value).map_err(|error| {
                let why = if error.is_eof() {
                    "unexpected end of JSON input".to_owned()
                } else {
                    error.to_string()
                };
                ApiError::bad_request(format!("error decoding patch: {why}"))
            })
        };
        match media {
            JSON_PATCH => json().map(Self::Json),
            MERGE_PATCH => json().map(Self::Merge),
            STRATEGIC_PATCH if strategic => json().map(Self::Strategic),
            APPLY_PATCH => {
                let decoded = yaml::decode(body).map_err(|error| {
                    ApiError::bad_request(format!("error decoding YAML: {error}"))
                })?;
                Ok(Self::Apply(decoded.0))
            }
            _ if strategic => Err(ApiError::unsupported_media_type(&[
                JSON_PATCH,
                MERGE_PATCH,
                STRATEGIC_PATCH,
                APPLY_PATCH,
            ])),
            _ => Err(ApiError::unsupported_media_type(&[JSON_PATCH, MERGE_PATCH, APPLY_PATCH])),
        }
    }

    pub(super) fn is_apply(media: &str) -> bool {
        media == APPLY_PATCH
    }
}

impl Call<'_> {
    pub(super) fn user_agent(&self) -> &str {
        self.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    pub(super) async fn create(&mut self) -> ApiResult<Response> {
        if !self.name.is_empty() {
            return Err(ApiError::method_not_allowed(
                "the server does not allow this method on the requested resource",
            ));
        }
        let wanted = self.wanted()?;
        let options = self.query.write_options("CreateOptions", false, self.user_agent())?;
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
        strict.extend(unknown.into_iter().map(|path| format!("unknown field {path:?}")));
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
        let namespace = metadata.get("namespace").and_then(Value::as_str).unwrap_or_default();
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
    fn named(&self, object: &Value) -> ApiResult<()> {
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
    pub(super) fn check_namespace(&self) -> ApiResult<()> {
        if !self.resource.namespaced {
            return Ok(());
        }
        if self.namespace.is_empty() {
            return Err(ApiError::bad_request("namespace is required on the request"));
        }
        let key =
            Key { resource: NAMESPACES.into(), namespace: "".into(), name: self.namespace.into() };
        let namespace = self.server.store().get(&key).ok_or_else(|| {
            ApiError::not_found(Subject { group: "", resource: "namespaces", name: self.namespace })
        })?;
        if !namespace.meta.terminating {
            return Ok(());
        }
        let name = self.namespace;
        let mut error = ApiError::forbidden(
            self.resource.subject(self.name),
            &format!("unable to create new content in namespace {name} because it is being terminated"),
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

    fn writer<'w>(&'w self, options: &'w WriteOptions, now: &'w str) -> Writer<'w> {
        Writer {
            manager: &options.manager,
            api_version: &self.resource.api_version,
            subresource: self.subresource,
            now,
            reset: match self.subresource {
                "status" | "approval" => apply::RESET_ALL_BUT_STATUS,
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
        let revision = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        if !matches!(revision, "" | "0") {
            let text = "resourceVersion should not be set on objects to be created";
            return Err(ApiError::new(500, "", text));
        }
        self.check_namespace()?;
        self.check_definition()?;
        let now = self.server.now_text();
        self.prepare_new(&mut object, &now)?;
        let given = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let prefix = object["metadata"]["generateName"].as_str().unwrap_or_default().to_owned();
        let generated = given.is_empty() && !prefix.is_empty();
        for attempt in 1..=NAME_ATTEMPTS {
            let mut object = object.clone();
            let name = if generated { self.generate_name(&prefix) } else { given.clone() };
            if generated {
                meta::of(&mut object).insert("name".to_owned(), name.as_str().into());
                if &*self.resource.storage == NAMESPACES {
                    prepare_namespace(&mut object);
                }
            }
            self.admit(Operation::Create, &name, None, Some(&mut object), options.dry_run)?;
            self.refuse_invalid(&object, None)?;
            if track {
                let node = self.resource.schema.node();
                apply::track_update(node, None, &mut object, self.writer(options, &now));
            }
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
        Err(ApiError::internal("every attempt to generate a name met one in use"))
    }

    fn prepare_new(&self, object: &mut Value, now: &str) -> ApiResult<()> {
        let uid = uuid::Builder::from_random_bytes(self.server.random_bytes()).into_uuid();
        let metadata = meta::of(object);
        for field in [
            "resourceVersion",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
            "generation",
        ] {
            metadata.remove(field);
        }
        metadata.insert("uid".to_owned(), uid.to_string().into());
        metadata.insert("creationTimestamp".to_owned(), now.into());
        drop_nulls(metadata);
        self.resource.prepare_create(object);
        self.resource.fill_defaults(object);
        if self.resource.counts_generations() {
            meta::of(object).insert("generation".to_owned(), 1.into());
        }
        match &*self.resource.storage {
            DEFINITIONS => definitions::prepare(object),
            NAMESPACES => prepare_namespace(object),
            CSRS => {
                self.server.auth().stamp_csr(object, self.user);
                self.server.auth().check_csr_create(object)?;
            }
            _ => {}
        }
        self.check_escalation(object)
    }

    fn check_escalation(&self, object: &Value) -> ApiResult<()> {
        if &*self.resource.group != "rbac.authorization.k8s.io" {
            return Ok(());
        }
        let auth = self.server.auth();
        auth.check_escalation(self.user, &self.resource.kind, object, self.namespace)
    }

    fn generate_name(&self, prefix: &str) -> String {
        let random: [u8; 5] = self.server.random_bytes();
        let cut = prefix.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|at| *at <= 58);
        let mut name = prefix[..cut.last().unwrap_or(0)].to_owned();
        name.extend(random.map(|byte| char::from(SUFFIX[usize::from(byte) % SUFFIX.len()])));
        name
    }

    fn refuse_invalid(&self, new: &Value, old: Option<&Value>) -> ApiResult<()> {
        let mut errors = meta::validate(&self.resource, new);
        if let Some(old) = old {
            errors.extend(meta::validate_update(new, old));
        } else if &*self.resource.storage == CSRS {
            errors.extend(self.server.auth().validate_csr(new));
        }
        errors.extend(self.resource.validate(new, old));
        if errors.is_empty() {
            return Ok(());
        }
        let name = new["metadata"]["name"].as_str().unwrap_or_default();
        Err(self.invalid(name, &errors))
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
        let options = self.query.write_options("UpdateOptions", false, self.user_agent())?;
        let decoded = decode::object(&self.resource, self.headers, &self.body)?;
        let mut object = decoded.object;
        self.know_fields(&mut object, decoded.strict, options.validation)?;
        self.named(&object)?;
        self.place(&mut object)?;
        let expected = expected_revision(&object)?;
        for _ in 0..PATCH_ATTEMPTS {
            let live = self.live()?;
            self.check_expected(&object, expected, &live)?;
            let old = self.resource.read(&live);
            if let Some(outcome) =
                self.replace(&live, &old, object.clone(), &options, true).await?
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
            None if self.resource.is_custom() => {
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
        self.check_escalation(&next)?;
        if &*self.resource.storage == CSRS {
            self.server.auth().check_csr_update(self.user, self.subresource, old, &next)?;
        }
        self.admit(Operation::Update, self.name, Some(old), Some(&mut next), options.dry_run)?;
        self.refuse_invalid(&next, Some(old))?;
        if track {
            let node = self.resource.schema.node();
            apply::track_update(node, Some(old), &mut next, self.writer(options, &now));
        }
        meta::of(&mut next).insert("resourceVersion".to_owned(), live.revision.to_string().into());
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
            store.delete(live.key.clone(), live.revision).await.map(|_| Outcome::Tree(next))
        } else {
            convert::to_stored(&self.resource, &mut next);
            store.update(live.key.clone(), live.revision, next).await.map(Outcome::Stored)
        };
        match result {
            Ok(outcome) => {
                self.wrote(self.name).await?;
                Ok(Some(outcome))
            }
            Err(WriteError::Changed(_)) => Ok(None),
            Err(error) => Err(self.unwritten(self.name, error)),
        }
    }

    /// Takes from `new` what this endpoint may write.
    fn compose(&self, old: &Value, mut new: Value) -> Value {
        let (section, field) = match self.subresource {
            "status" | "approval" => (None, "status"),
            "finalize" => (Some("spec"), "finalizers"),
            _ => return new,
        };
        let mut next = old.clone();
        let value = match section {
            None => new[field].take(),
            Some(section) => new[section][field].take(),
        };
        let target = match section {
            None => &mut next,
            Some(section) => &mut next[section],
        };
        match (target.as_object_mut(), value) {
            (Some(map), Value::Null) => {
                map.remove(field);
            }
            (Some(map), value) => {
                map.insert(field.to_owned(), value);
            }
            (None, Value::Null) => {}
            (None, value) => *target = json!({field: value}),
        }
        let managers = new["metadata"]["managedFields"].take();
        if !managers.is_null() {
            next["metadata"]["managedFields"] = managers;
        }
        next
    }

    fn count_generation(&self, next: &mut Value, old: &Value) {
        if !self.resource.counts_generations() {
            return;
        }
        let before = old["metadata"]["generation"].as_i64().unwrap_or(0);
        let ignored = |key: &str| {
            matches!(key, "apiVersion" | "kind" | "metadata")
                || key == "status" && self.resource.status
        };
        let parts = |value: &Value| -> Vec<(String, Value)> {
            let map = value.as_object().into_iter().flatten();
            map.filter(|(key, _)| !ignored(key)).map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        let bump = i64::from(parts(next) != parts(old));
        meta::of(next).insert("generation".to_owned(), (before + bump).into());
    }

    pub(super) async fn patch(&mut self) -> ApiResult<Response> {
        if self.name.is_empty() {
            return Err(ApiError::bad_request("name must be provided"));
        }
        let wanted = self.wanted()?;
        let media = decode::media(self.headers);
        let is_apply = Patch::is_apply(media);
        let options = self.query.write_options("PatchOptions", is_apply, self.user_agent())?;
        let patch = Patch::decode(media, &self.body, !self.resource.is_custom())?;
        if let Patch::Apply(config) = &patch {
            self.check_config(config)?;
        }
        for _ in 0..PATCH_ATTEMPTS {
            let Some(live) = self.server.store().get(&self.key(self.name)) else {
                let Patch::Apply(config) = &patch else {
                    return Err(ApiError::not_found(self.resource.subject(self.name)));
                };
                if !self.subresource.is_empty() {
                    return Err(ApiError::not_found(self.resource.subject(self.name)));
                }
                let mut object = self.apply(None, config, &options)?;
                self.place(&mut object)?;
                match self.insert(object, &options, false).await {
                    Err(error) if error.reason == "AlreadyExists" => continue,
                    outcome => return self.answer_write(201, outcome?, wanted),
                }
            };
            let old = self.resource.read(&live);
            let mut new = self.patched(&old, &patch, &options)?;
            self.named(&new)?;
            self.place(&mut new)?;
            let expected = expected_revision(&new)?;
            if expected.is_some_and(|revision| revision != live.revision) {
                return Err(ApiError::stale(self.resource.subject(self.name)));
            }
            let track = !is_apply;
            if let Some(outcome) = self.replace(&live, &old, new, &options, track).await? {
                return self.answer_write(200, outcome, wanted);
            }
        }
        Err(ApiError::stale(self.resource.subject(self.name)))
    }

    fn check_config(&self, config: &Value) -> ApiResult<()> {
        let text = |field: &str| config.get(field).and_then(Value::as_str).unwrap_or_default();
        let (version, kind) = (text("apiVersion"), text("kind"));
        if version.is_empty() || kind.is_empty() {
            let (group, version) = version.split_once('/').unwrap_or(("", version));
            return Err(ApiError::bad_request(format!(
                "invalid object type: {group}/{version}, Kind={kind}"
            )));
        }
        if let Some(why) = meta::mistyped(config) {
            return Err(ApiError::bad_request(why));
        }
        decode::wrong_version(&self.resource, version)?;
        decode::wrong_kind(&self.resource, kind, config)?;
        if config["metadata"].get("name").is_some() { self.named(config) } else { Ok(()) }
    }

    fn apply(
        &self,
        live: Option<&Value>,
        config: &Value,
        options: &WriteOptions,
    ) -> ApiResult<Value> {
        let now = self.server.now_text();
        let writer = self.writer(options, &now);
        let mut config = config.clone();
        let metadata = meta::of(&mut config);
        metadata.entry("name").or_insert_with(|| self.name.into());
        if self.resource.namespaced {
            metadata.entry("namespace").or_insert_with(|| self.namespace.into());
        }
        apply::apply(self.resource.schema.node(), live, &config, writer, options.force)
            .map_err(apply_error)
    }

    /// The object as a patch makes it, its fields known.
    fn patched(
        &mut self,
        old: &Value,
        patch: &Patch,
        options: &WriteOptions,
    ) -> ApiResult<Value> {
        let node = self.resource.schema.node();
        let mut new = match patch {
            Patch::Json(patch) => patch::json(old, patch),
            Patch::Merge(patch) => patch::merge(old, patch),
            Patch::Strategic(patch) => patch::strategic(node, old, patch),
            Patch::Apply(config) => return self.apply(Some(old), config, options),
        }
        .map_err(patch_error)?;
        if !new.is_object() {
            return Err(patch_error(PatchError::DoesNotFit(String::new())));
        }
        decode::wrong_version(&self.resource, new["apiVersion"].as_str().unwrap_or_default())?;
        decode::wrong_kind(&self.resource, new["kind"].as_str().unwrap_or_default(), &new)?;
        decode::check_types(&self.resource, &new)?;
        let before = (options.validation == FieldValidation::Strict).then(|| new.to_string());
        let unknown = self.resource.prune(&mut new);
        if unknown.is_empty() || options.validation == FieldValidation::Ignore {
            return Ok(new);
        }
        let strict = unknown.into_iter().map(|path| format!("unknown field {path:?}"));
        let Some(before) = before else {
            for warning in strict {
                if !self.warnings.contains(&warning) {
                    self.warnings.push(warning);
                }
            }
            return Ok(new);
        };
        let strict: Vec<String> = strict.collect();
        let why = format!("strict decoding error: {}", strict.join(", "));
        let error = FieldError::invalid("patch", before, why);
        Err(ApiError::invalid(Subject { group: "", resource: "", name: "" }, &[error]))
    }
}

pub(super) fn patch_error(error: PatchError) -> Box<ApiError> {
    match error {
        PatchError::Malformed(why) => ApiError::bad_request(why),
        PatchError::TooLarge(why) => ApiError::too_large(why),
        PatchError::CannotMerge(why) => ApiError::new(500, "", why),
        PatchError::DoesNotFit(_) => {
            let text = "the server rejected our request due to an error in our request";
            let mut error = ApiError::new(422, "Invalid", text);
            error.details = Some(json!({}));
            error
        }
    }
}

fn apply_error(error: ApplyError) -> Box<ApiError> {
    match error {
        ApplyError::Malformed(why) => ApiError::bad_request(why),
        ApplyError::Untyped(why) => ApiError::new(500, "", why),
        ApplyError::Conflicts(conflicts) => {
            let (message, causes) = ApplyError::conflict_message(&conflicts);
            let causes: Vec<Value> = causes
                .into_iter()
                .map(|(message, field)| {
                    json!({"reason": "FieldManagerConflict", "message": message, "field": field})
                })
                .collect();
            let mut error = ApiError::new(409, "Conflict", message);
            error.details = Some(json!({"causes": causes}));
            error
        }
    }
}

/// `metadata.resourceVersion` of an object that wants to replace another.
fn expected_revision(object: &Value) -> ApiResult<Option<u64>> {
    match object["metadata"]["resourceVersion"].as_str().unwrap_or_default() {
        "" | "0" => Ok(None),
        text => parse_revision(text).map(Some).map_err(|why| ApiError::new(500, "", why)),
    }
}

fn drop_nulls(metadata: &mut serde_json::Map<String, Value>) {
    metadata.retain(|_, value| !value.is_null());
}

/// What a client cannot write is as it was.
fn restore_metadata(next: &mut Value, old: &Value) {
    let metadata = meta::of(next);
    drop_nulls(metadata);
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink"] {
        match old["metadata"].get(field) {
            Some(value) => metadata.insert(field.to_owned(), value.clone()),
            None => metadata.remove(field),
        };
    }
    for field in ["uid", "creationTimestamp", "managedFields"] {
        if metadata.get(field).is_none()
            && let Some(value) = old["metadata"].get(field)
        {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
}

/// Whether a write changes nothing: neither the object nor who manages what.
fn is_same(old: &Value, new: &Value) -> bool {
    if !apply::same_but_bookkeeping(old, new) {
        return false;
    }
    let managers = |object: &Value| -> Vec<Value> {
        let mut list: Vec<Value> =
            object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        for entry in &mut list {
            if let Some(map) = entry.as_object_mut() {
                map.remove("time");
            }
        }
        list.sort_by_key(Value::to_string);
        list
    };
    managers(old) == managers(new)
}

fn prepare_namespace(object: &mut Value) {
    let name = object["metadata"]["name"].clone();
    if name.is_string() {
        let labels = meta::of(object).entry("labels").or_insert_with(|| json!({}));
        if let Some(labels) = labels.as_object_mut() {
            labels.insert("kubernetes.io/metadata.name".to_owned(), name);
        }
    }
    let finalizers = object["spec"]["finalizers"].as_array();
    if finalizers.is_none_or(|list| !list.iter().any(|name| name == "kubernetes")) {
        let mut list = finalizers.cloned().unwrap_or_default();
        list.push("kubernetes".into());
        match object["spec"].as_object_mut() {
            Some(spec) => {
                spec.insert("finalizers".to_owned(), Value::Array(list));
            }
            None => object["spec"] = json!({"finalizers": list}),
        }
    }
    object["status"] = json!({"phase": "Active"});
}
