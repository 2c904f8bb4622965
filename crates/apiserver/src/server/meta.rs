//! What `metadata` must look like (apimachinery: pkg/api/validation/objectmeta.go).

use drover_schema::field_error::{FieldError, Kind};
use serde_json::{Map, Value};

use crate::resource::Resource;

/// Names, values and sizes.
const MAX_ANNOTATIONS: usize = 256 * 1024;
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
    characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
    'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start \
    and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex \
    used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric \
    characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. \
    'MyValue',  or 'my_value',  or '12345', regex used for validation is \
    '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

fn too_long(limit: usize) -> String {
    format!("must be no more than {limit} bytes")
}

fn is_subdomain(name: &str) -> bool {
    name.split('.').all(|label| {
        let bytes = label.as_bytes();
        let ends =
            |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        ends(bytes.first())
            && ends(bytes.last())
            && bytes
                .iter()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
    })
}

fn subdomain_messages(name: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if name.len() > 253 {
        messages.push(too_long(253));
    }
    if !is_subdomain(name) {
        messages.push(SUBDOMAIN.to_owned());
    }
    messages
}

/// The rule for the names of most objects.
pub(crate) fn subdomain(name: &str) -> Vec<FieldError> {
    let messages = subdomain_messages(name).into_iter();
    messages
        .map(|message| FieldError::invalid("metadata.name", name, message))
        .collect()
}

fn is_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    ends(bytes.first())
        && ends(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// What is wrong with the key of a label.
pub(crate) fn qualified_name(key: &str) -> Vec<String> {
    let mut messages = Vec::new();
    let name = match key.split_once('/') {
        None => key,
        Some((_, name)) if name.contains('/') => {
            return vec![format!(
                "a valid label key {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. \
                 'example.com/MyName')"
            )];
        }
        Some((prefix, name)) => {
            if prefix.is_empty() {
                messages.push("prefix part must be non-empty".to_owned());
            } else {
                let wrong = subdomain_messages(prefix).into_iter();
                messages.extend(wrong.map(|message| format!("prefix part {message}")));
            }
            name
        }
    };
    if name.is_empty() {
        messages.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        messages.push(format!("name part {}", too_long(63)));
    }
    if !is_word(name) {
        messages.push(format!("name part {QUALIFIED}"));
    }
    messages
}

/// What is wrong with the value of a label.
pub(crate) fn label_value(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.len() > 63 {
        messages.push(too_long(63));
    }
    if !value.is_empty() && !is_word(value) {
        messages.push(LABEL_VALUE.to_owned());
    }
    messages
}

fn text<'v>(metadata: &'v Value, field: &str) -> &'v str {
    metadata
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn entries<'v>(metadata: &'v Value, field: &str) -> impl Iterator<Item = (&'v String, &'v Value)> {
    metadata
        .get(field)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

/// The finalizers of an object.
pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    let list = object["metadata"]["finalizers"].as_array();
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// Wrong types anywhere in metadata, in the words of a Go decoder. Everything else here relies on
/// them being right.
pub(crate) fn mistyped(object: &Value) -> Option<String> {
    let metadata = match object.get("metadata") {
        None | Some(Value::Null) => return None,
        Some(Value::Object(metadata)) => metadata,
        Some(other) => return Some(cannot(other, "metadata", "v1.ObjectMeta")),
    };
    for (key, value) in metadata {
        if value.is_null() {
            continue;
        }
        let wrong = match key.as_str() {
            "name" | "generateName" | "namespace" | "uid" | "resourceVersion" | "selfLink"
            | "creationTimestamp" | "deletionTimestamp" => {
                (!value.is_string()).then(|| cannot(value, key, "string"))
            }
            "generation" | "deletionGracePeriodSeconds" => {
                (!value.is_i64()).then(|| cannot(value, key, "int64"))
            }
            "labels" | "annotations" => match value.as_object() {
                None => Some(cannot(value, key, "map[string]string")),
                Some(map) => map
                    .values()
                    .find(|v| !v.is_string() && !v.is_null())
                    .map(|v| cannot(v, key, "string")),
            },
            "finalizers" => match value.as_array() {
                None => Some(cannot(value, key, "[]string")),
                Some(list) => list
                    .iter()
                    .find(|v| !v.is_string())
                    .map(|v| cannot(v, key, "string")),
            },
            "ownerReferences" | "managedFields" => match value.as_array() {
                None => Some(cannot(value, key, "[]object")),
                Some(list) => list
                    .iter()
                    .find(|v| !v.is_object())
                    .map(|v| cannot(v, key, "object")),
            },
            _ => None,
        };
        if wrong.is_some() {
            return wrong;
        }
    }
    None
}

fn cannot(value: &Value, field: &str, wanted: &str) -> String {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!(
        "json: cannot unmarshal {found} into Go struct field ObjectMeta.{field} of type {wanted}"
    )
}

/// What is wrong with the metadata of any object.
pub(crate) fn validate(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let metadata = &object["metadata"];
    let mut errors = Vec::new();
    let prefix = text(metadata, "generateName");
    if !prefix.is_empty() {
        // A prefix may end in a dash.
        let stem = prefix
            .strip_suffix('-')
            .map_or_else(|| prefix.to_owned(), |s| format!("{s}a"));
        errors.extend(
            resource
                .validate_name(&stem)
                .into_iter()
                .map(|error| FieldError {
                    path: "metadata.generateName".to_owned(),
                    value: Some(prefix.into()),
                    ..error
                }),
        );
    }
    match text(metadata, "name") {
        "" => {
            errors.push(FieldError::required(
                "metadata.name",
                "name or generateName is required",
            ));
        }
        name => errors.extend(resource.validate_name(name)),
    }
    let namespace = text(metadata, "namespace");
    if resource.namespaced && namespace.is_empty() {
        errors.push(FieldError::required("metadata.namespace", ""));
    } else if !resource.namespaced && !namespace.is_empty() {
        errors.push(FieldError::forbidden(
            "metadata.namespace",
            "not allowed on this type",
        ));
    }
    for (key, value) in entries(metadata, "labels") {
        let value = value.as_str().unwrap_or_default();
        let mut add = |of: &str, messages: Vec<String>| {
            let all = messages.into_iter();
            errors.extend(all.map(|text| FieldError::invalid("metadata.labels", of, text)));
        };
        add(key, qualified_name(key));
        add(value, label_value(value));
    }
    let mut size = 0;
    for (key, value) in entries(metadata, "annotations") {
        size += key.len() + value.as_str().map_or(0, str::len);
        let wrong = qualified_name(&key.to_ascii_lowercase()).into_iter();
        errors.extend(
            wrong.map(|text| FieldError::invalid("metadata.annotations", key.as_str(), text)),
        );
    }
    if size > MAX_ANNOTATIONS {
        errors.push(FieldError {
            path: "metadata.annotations".to_owned(),
            kind: Kind::TooLong,
            value: None,
            detail: format!("may not be more than {MAX_ANNOTATIONS} bytes"),
        });
    }
    owner_references(metadata, &mut errors);
    check_finalizers(object, &mut errors);
    if !resource.is_custom() {
        check_builtin_finalizers(object, &mut errors);
    }
    errors
}

fn owner_references(metadata: &Value, errors: &mut Vec<FieldError>) {
    let path = "metadata.ownerReferences";
    let list = metadata.get("ownerReferences");
    let mut controller: Option<String> = None;
    for owner in list.and_then(Value::as_array).into_iter().flatten() {
        let version = text(owner, "apiVersion");
        if version.rsplit('/').next().is_none_or(str::is_empty) {
            let path = format!("{path}.apiVersion");
            errors.push(FieldError::invalid(
                path,
                version,
                "version must not be empty",
            ));
        }
        for field in ["kind", "name", "uid"] {
            if text(owner, field).is_empty() {
                let path = format!("{path}.{field}");
                errors.push(FieldError::invalid(path, "", "must not be empty"));
            }
        }
        if version == "v1" && text(owner, "kind") == "Event" {
            errors.push(FieldError::invalid(
                path,
                owner.clone(),
                "/v1, Kind=Event is disallowed from being an owner",
            ));
        }
        if owner["controller"] == true {
            let this = format!("{}/{}", text(owner, "kind"), text(owner, "name"));
            match &controller {
                None => controller = Some(this),
                Some(first) => errors.push(FieldError::invalid(
                    path,
                    list.cloned().unwrap_or_default(),
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in \
                         references for {first} and {this}"
                    ),
                )),
            }
        }
    }
}

fn check_finalizers(object: &Value, errors: &mut Vec<FieldError>) {
    let path = "metadata.finalizers";
    let all = finalizers(object);
    for finalizer in &all {
        let wrong = qualified_name(finalizer).into_iter();
        errors.extend(wrong.map(|text| FieldError::invalid(path, *finalizer, text)));
    }
    if all.contains(&"orphan") && all.contains(&"foregroundDeletion") {
        errors.push(FieldError::invalid(
            path,
            Value::from(all),
            "finalizer orphan and foregroundDeletion cannot be both set",
        ));
    }
}

/// Built-in kinds take the finalizers of Kubernetes, and those that name their owner.
fn check_builtin_finalizers(object: &Value, errors: &mut Vec<FieldError>) {
    for (place, finalizer) in finalizers(object).into_iter().enumerate() {
        let path = format!("metadata.finalizers[{place}]");
        let wrong = qualified_name(finalizer).into_iter();
        errors.extend(wrong.map(|text| FieldError::invalid(path.clone(), finalizer, text)));
        let standard = matches!(finalizer, "kubernetes" | "orphan" | "foregroundDeletion");
        if !finalizer.contains('/') && !standard {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(path, finalizer, why));
        }
    }
}

/// What may not change in the metadata of an object.
pub(crate) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(crate::lifecycle::check_finalizers(old, new));
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        let (after, before) = (new["metadata"].get(field), old["metadata"].get(field));
        if after != before {
            errors.push(FieldError::invalid(
                format!("metadata.{field}"),
                after.cloned().unwrap_or_default(),
                "field is immutable",
            ));
        }
    }
    errors
}

/// `metadata` of an object as a map that can be written to.
pub(crate) fn of(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    match metadata {
        Value::Object(map) => map,
        _ => unreachable!("the line above made it an object"),
    }
}
