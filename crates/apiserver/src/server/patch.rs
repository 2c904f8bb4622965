//! Patches of the four kinds.

use drover_schema::apply::{self, ApplyError};
use drover_schema::field_error::FieldError;
use drover_schema::patch::{self, PatchError};
use drover_schema::yaml;
use serde_json::{Value, json};

use super::query::{FieldValidation, WriteOptions};
use super::wire::Response;
use super::write::expected_revision;
use super::{Call, decode, meta};
use crate::auth::Attributes;
use crate::status::{ApiError, ApiResult, Subject};

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// Attempts to put a patch on a moving object, as in Kubernetes.
const PATCH_ATTEMPTS: usize = 5;

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
            yaml::decode_json(body)
                .map(|(value, _)| value)
                .map_err(|error| {
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
            other if other != STRATEGIC_PATCH => Err(ApiError::unknown_patch()),
            _ if strategic => Err(ApiError::unsupported_media_type(&[
                JSON_PATCH,
                MERGE_PATCH,
                STRATEGIC_PATCH,
                APPLY_PATCH,
            ])),
            _ => Err(ApiError::unsupported_media_type(&[
                JSON_PATCH,
                MERGE_PATCH,
                APPLY_PATCH,
            ])),
        }
    }

    pub(super) fn is_apply(media: &str) -> bool {
        media == APPLY_PATCH
    }
}

impl Call<'_> {
    pub(super) async fn patch(&mut self) -> ApiResult<Response> {
        if self.name.is_empty() {
            return Err(ApiError::bad_request("name must be provided"));
        }
        let wanted = self.wanted()?;
        let media = decode::media(self.headers);
        let is_apply = Patch::is_apply(media);
        let options = self
            .query
            .write_options("PatchOptions", is_apply, self.user_agent())?;
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
                self.authorize_create()?;
                if let Some(uid) = config["metadata"]["uid"]
                    .as_str()
                    .filter(|uid| !uid.is_empty())
                {
                    let why = format!(
                        "uid mismatch: the provided object specified uid {uid}, and no existing object \
                         was found"
                    );
                    return Err(ApiError::conflict(self.resource.subject(self.name), &why));
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

    /// An apply or update that makes an object needs leave to create it.
    pub(super) fn authorize_create(&self) -> ApiResult<()> {
        let asked = Attributes {
            verb: "create",
            group: &self.resource.group,
            version: &self.resource.version,
            resource: &self.resource.plural,
            namespace: self.namespace,
            name: self.name,
            ..Attributes::default()
        };
        self.server.authorize(self.user, &asked)
    }

    fn check_config(&self, config: &Value) -> ApiResult<()> {
        let text = |field: &str| {
            config
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let (version, kind) = (text("apiVersion"), text("kind"));
        if version.is_empty() || kind.is_empty() {
            let (group, version) = version.split_once('/').unwrap_or(("", version));
            return Err(ApiError::bad_request(format!(
                "invalid object type: {group}/{version}, Kind={kind}"
            )));
        }
        if !self.resource.is_custom() && kind != &*self.resource.kind {
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
        if config["metadata"].get("name").is_some() {
            self.named(config)
        } else {
            Ok(())
        }
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
        let node = self.resource.schema.node();
        let mut object =
            apply::apply(node, live, &config, writer, options.force).map_err(apply_error)?;
        decode::normalize_patched(&self.resource, &mut object)?;
        Ok(object)
    }

    /// The object as a patch makes it, its fields known.
    fn patched(&mut self, old: &Value, patch: &Patch, options: &WriteOptions) -> ApiResult<Value> {
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
        if self.resource.is_custom() {
            let text = |field: &str| new[field].as_str().unwrap_or_default();
            decode::wrong_version(&self.resource, text("apiVersion"))?;
            decode::wrong_kind(&self.resource, text("kind"), &new)?;
        }
        let before = (options.validation == FieldValidation::Strict).then(|| new.to_string());
        let shown = new.to_string();
        let mut unknown = decode::normalize_patched(&self.resource, &mut new).map_err(|error| {
            if self.resource.is_custom() {
                return error;
            }
            let nothing = Subject {
                group: "",
                resource: "",
                name: "",
            };
            let why = error
                .message
                .split_once(": ")
                .map_or("", |(_, why)| why)
                .to_owned();
            ApiError::invalid(nothing, &[FieldError::invalid("patch", shown, why)])
        })?;
        unknown.extend(self.resource.prune(&mut new));
        if unknown.is_empty() || options.validation == FieldValidation::Ignore {
            return Ok(new);
        }
        let strict = unknown
            .into_iter()
            .map(|path| format!("unknown field {path:?}"));
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
        Err(ApiError::invalid(
            Subject {
                group: "",
                resource: "",
                name: "",
            },
            &[error],
        ))
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
