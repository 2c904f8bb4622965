//! Request bodies to objects.

use drover_schema::{builtin, protobuf, yaml};
use http::{HeaderMap, header};
use serde_json::Value;

use super::meta;
use super::wire::{JSON, PROTOBUF, YAML};
use crate::resource::{Resource, Source};
use crate::status::{ApiError, ApiResult};

/// An object as it came.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) object: Value,
    /// Strict decoding errors so far: duplicate fields.
    pub(super) strict: Vec<String>,
}

/// The media type of a body, without parameters; JSON when absent.
pub(super) fn media(headers: &HeaderMap) -> &str {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.split(';').next())
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .unwrap_or(JSON)
}

/// Any document in a media type that bodies may have.
pub(super) fn document(media: &str, body: &[u8], protobuf: bool) -> ApiResult<Decoded> {
    match media {
        JSON => yaml::decode_json(body)
            .map(|(object, strict)| Decoded { object, strict })
            .map_err(|error| {
                let text = if error.is_eof() {
                    "unexpected end of JSON input".to_owned()
                } else {
                    error.to_string()
                };
                let what = format!("couldn't get version/kind; json parse error: {text}");
                ApiError::bad_request(format!("{what} ({})", snippet(body)))
            }),
        YAML => yaml::decode(body)
            .map(|(object, duplicates)| Decoded {
                object,
                strict: duplicates,
            })
            .map_err(|error| {
                ApiError::bad_request(format!("error converting YAML to JSON: yaml: {error}"))
            }),
        PROTOBUF if protobuf => protobuf::decode(body)
            .map(|object| Decoded {
                object,
                strict: Vec::new(),
            })
            .map_err(|error| ApiError::bad_request(error.to_string())),
        _ if protobuf => Err(ApiError::unsupported_media_type(&[JSON, YAML, PROTOBUF])),
        _ => Err(ApiError::unsupported_media_type(&[JSON, YAML])),
    }
}

/// The object of a create or update for a resource, of its kind and version.
pub(super) fn object(resource: &Resource, headers: &HeaderMap, body: &[u8]) -> ApiResult<Decoded> {
    let unrecognized = |error: Box<ApiError>| {
        if error.code != 400 {
            return error;
        }
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {}",
            resource.kind, error.message
        ))
    };
    let mut decoded =
        document(media(headers), body, !resource.is_custom()).map_err(unrecognized)?;
    decoded.strict = decoded
        .strict
        .into_iter()
        .map(|field| format!("duplicate field {field:?}"))
        .collect();
    if !decoded.object.is_object() {
        return Err(unrecognized(ApiError::bad_request(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal into an object \
             ({})",
            snippet(body)
        ))));
    }
    if resource.is_custom()
        && let Some(why) = meta::mistyped(&decoded.object)
    {
        return Err(cannot_handle(resource, &why));
    }
    identify(resource, &mut decoded.object, body)?;
    let unknown = normalize(resource, &mut decoded.object)?;
    let unknown = unknown
        .into_iter()
        .map(|path| format!("unknown field {path:?}"));
    decoded.strict.extend(unknown);
    Ok(decoded)
}

fn cannot_handle(resource: &Resource, why: &str) -> Box<ApiError> {
    let (kind, version) = (&resource.kind, &resource.version);
    ApiError::bad_request(format!(
        "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
    ))
}

/// Checks kind and version, or sets them where that is allowed.
fn identify(resource: &Resource, object: &mut Value, body: &[u8]) -> ApiResult<()> {
    let own = |field: &str| {
        object
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_owned()
    };
    let (kind, version) = (own("kind"), own("apiVersion"));
    if let Source::Builtin(_) = resource.source {
        if version.is_empty() {
            object["apiVersion"] = (*resource.api_version).into();
        }
        if kind.is_empty() {
            object["kind"] = (*resource.kind).into();
        }
        return check_builtin(resource, &kind, &version);
    }
    if kind.is_empty() {
        let text = String::from_utf8_lossy(body);
        return Err(ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): Object 'Kind' is missing in \
             '{text}' ({})",
            resource.kind,
            snippet(body)
        )));
    }
    wrong_version(resource, &version)?;
    wrong_kind(resource, &kind, object)
}

pub(super) fn wrong_version(resource: &Resource, version: &str) -> ApiResult<()> {
    if version == &*resource.api_version {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "the API version in the data ({version}) does not match the expected API version ({})",
        resource.api_version
    )))
}

/// For custom kinds, whose kind is just another field.
pub(super) fn wrong_kind(resource: &Resource, kind: &str, object: &Value) -> ApiResult<()> {
    if kind == &*resource.kind {
        return Ok(());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let subject = crate::status::Subject {
        group: &resource.group,
        resource: kind,
        name,
    };
    let error = drover_schema::field_error::FieldError::invalid(
        "kind",
        kind,
        format!("must be {}", resource.kind),
    );
    Err(ApiError::invalid(subject, &[error]))
}

fn check_builtin(resource: &Resource, kind: &str, version: &str) -> ApiResult<()> {
    let known = builtin::schema_of(version, kind).is_some();
    if !known && !version.is_empty() && version != &*resource.api_version {
        let shown = if kind.is_empty() {
            &*resource.kind
        } else {
            kind
        };
        return Err(ApiError::bad_request(format!(
            "{shown} in version {:?} cannot be handled as a {}: no kind {shown:?} is registered \
             for version {version:?} in scheme \"pkg/runtime/scheme.go:111\"",
            version.rsplit('/').next().unwrap_or(version),
            resource.kind
        )));
    }
    if !known && !kind.is_empty() && kind != &*resource.kind {
        return Err(ApiError::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a {}: no kind {kind:?} is registered for \
             version {:?} in scheme \"pkg/runtime/scheme.go:111\"",
            resource.version, resource.kind, resource.api_version
        )));
    }
    let foreign = !version.is_empty() && version != &*resource.api_version;
    if !kind.is_empty() && (kind != &*resource.kind || foreign) {
        let version = version.rsplit('/').next().filter(|text| !text.is_empty());
        let group = if resource.group.is_empty() {
            "core"
        } else {
            &resource.group
        };
        let group = group.split('.').next().unwrap_or(group);
        let (version, expected) = (version.unwrap_or(&resource.version), &resource.kind);
        return Err(ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {expected}: converting \
             ({version}.{kind}) to ({group}.{expected}): unknown conversion"
        )));
    }
    Ok(())
}

/// Gives an object of a built-in kind its usual form; answers its unknown fields.
fn normalize(resource: &Resource, object: &mut Value) -> ApiResult<Vec<String>> {
    resource
        .normalize(object)
        .map_err(|why| cannot_handle(resource, &why))
}

/// The same after a patch, for kinds of all sorts.
pub(super) fn normalize_patched(resource: &Resource, object: &mut Value) -> ApiResult<Vec<String>> {
    if !resource.is_custom() {
        check_builtin(
            resource,
            object["kind"].as_str().unwrap_or_default(),
            object["apiVersion"].as_str().unwrap_or_default(),
        )?;
        return normalize(resource, object);
    }
    match meta::mistyped(object) {
        Some(why) => Err(cannot_handle(resource, &why)),
        None => Ok(Vec::new()),
    }
}

/// The beginning of a body, for messages.
fn snippet(body: &[u8]) -> String {
    const LIMIT: usize = 1024;
    if body.is_empty() {
        return "<empty>".to_owned();
    }
    let cut = &body[..body.len().min(LIMIT)];
    let more = if body.len() > LIMIT { " ..." } else { "" };
    format!("{}{more}", String::from_utf8_lossy(cut))
}
