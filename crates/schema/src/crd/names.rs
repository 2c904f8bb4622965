//! What things are called.

use serde_json::Value;

use super::{text, texts};
use crate::field_error::FieldError;

/// A name of a label is at most this long (RFC 1035).
const MAX_LABEL: usize = 63;

/// A subdomain is at most this long (RFC 1123).
const MAX_SUBDOMAIN: usize = 253;

/// Why a text is no DNS-1035 label, in Kubernetes' words.
pub fn dns_1035_label(label: &str) -> Option<String> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let shaped = label.starts_with(|c: char| c.is_ascii_lowercase())
        && !label.ends_with('-')
        && label.bytes().all(inner);
    let mut wrong = Vec::new();
    if label.len() > MAX_LABEL {
        wrong.push(format!("must be no more than {MAX_LABEL} bytes"));
    }
    if !shaped {
        wrong.push(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')".to_owned(),
        );
    }
    (!wrong.is_empty()).then(|| wrong.join(","))
}

/// Why a text is no RFC 1123 subdomain, in Kubernetes' words.
fn subdomain(name: &str) -> Option<String> {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    let mut wrong = Vec::new();
    if name.len() > MAX_SUBDOMAIN {
        wrong.push(format!("must be no more than {MAX_SUBDOMAIN} bytes"));
    }
    if !name.split('.').all(part) {
        wrong.push(
            r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')".to_owned(),
        );
    }
    (!wrong.is_empty()).then(|| wrong.join(","))
}

/// The name of the definition itself, and whether its group may be used.
pub(super) fn check_definition(definition: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (name, group) = (
        text(&definition["metadata"], "name"),
        text(&definition["spec"], "group"),
    );
    let wanted = format!("{}.{group}", text(&definition["spec"]["names"], "plural"));
    if let Some(why) = subdomain(&name) {
        errors.push(FieldError::invalid("metadata.name", name.as_str(), why));
    }
    if name != wanted {
        errors.push(FieldError::invalid(
            "metadata.name",
            name,
            r#"must be spec.names.plural+"."+spec.group"#,
        ));
    }
    let protected = ["k8s.io", "kubernetes.io"].iter().any(|owner| {
        group
            .strip_suffix(owner)
            .is_some_and(|it| it.is_empty() || it.ends_with('.'))
    });
    let key = "api-approved.kubernetes.io";
    let approval = text(&definition["metadata"]["annotations"], key);
    let at = format!("metadata.annotations[{key}]");
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    let approved = approval.starts_with("https://") || approval.starts_with("unapproved");
    if protected && approval.is_empty() {
        let detail = format!("protected groups must have approval annotation \"{key}\", {see}");
        errors.push(FieldError::required(at, detail));
    } else if protected && !approved {
        let detail = format!(
            "protected groups must have approval annotation \"{key}\" with either a URL or a reason starting with \"unapproved\", {see}"
        );
        errors.push(FieldError::invalid(at, approval, detail));
    }
    errors
}

/// The group of a definition.
pub(super) fn group(group: &str, errors: &mut Vec<FieldError>) {
    let at = "spec.group";
    if group.is_empty() {
        errors.push(FieldError::required(at, ""));
    } else if let Some(why) = subdomain(group) {
        errors.push(FieldError::invalid(at, group, why));
    } else if !group.contains('.') {
        errors.push(FieldError::invalid(
            at,
            group,
            "should be a domain with at least one dot",
        ));
    }
}

/// `spec.names` (all four must be there) or `status.acceptedNames`.
pub(super) fn names(path: &str, names: &Value, errors: &mut Vec<FieldError>) {
    let label = |key: &str| (format!("{path}.{key}"), text(names, key));
    for key in ["plural", "singular", "kind", "listKind"] {
        let (at, name) = label(key);
        if name.is_empty() {
            errors.push(FieldError::required(at, ""));
        }
    }
    for key in ["plural", "singular"] {
        let (at, name) = label(key);
        if let Some(why) = dns_1035_label(&name).filter(|_| !name.is_empty()) {
            errors.push(FieldError::invalid(at, name, why));
        }
    }
    for key in ["kind", "listKind"] {
        let (at, name) = label(key);
        if let Some(why) = dns_1035_label(&name.to_lowercase()).filter(|_| !name.is_empty()) {
            let detail = format!("may have mixed case, but should otherwise match: {why}");
            errors.push(FieldError::invalid(at, name, detail));
        }
    }
    let labels = |key: &str, errors: &mut Vec<FieldError>| {
        for (i, name) in texts(names, key).into_iter().enumerate() {
            if let Some(why) = dns_1035_label(&name) {
                errors.push(FieldError::invalid(format!("{path}.{key}[{i}]"), name, why));
            }
        }
    };
    labels("shortNames", errors);
    let kind = text(names, "kind");
    if !kind.is_empty() && kind == text(names, "listKind") {
        let detail = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(
            format!("{path}.listKind"),
            kind,
            detail,
        ));
    }
    labels("categories", errors);
}
