//! What may be written into a CertificateSigningRequest, and by whom.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use drover_schema::field_error::{FieldError, Kind};
use serde_json::{Value, json};

use super::{CLIENT_SIGNER, KEY_USAGES, PURPOSES, Request};
use crate::auth::allows;
use crate::auth::rbac::Index;
use crate::auth::user::{Attributes, MASTERS, User};
use crate::status::{ApiError, ApiResult, Subject};

const GROUP: &str = "certificates.k8s.io";

/// Sets who asks: `spec.username`, `uid`, `groups`, `extra`. What the client wrote there is lost.
pub fn stamp(object: &mut Value, caller: &User) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let fields = [
        ("username", json!(caller.name), caller.name.is_empty()),
        ("uid", json!(caller.uid), caller.uid.is_empty()),
        ("groups", json!(caller.groups), caller.groups.is_empty()),
        ("extra", json!(caller.extra), caller.extra.is_empty()),
    ];
    for (key, value, empty) in fields {
        spec.remove(key);
        if !empty {
            spec.insert(key.to_owned(), value);
        }
    }
}

/// What is wrong with a new request
/// (kubernetes: pkg/apis/certificates/validation/validation.go).
pub fn validate(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let mut errors = Vec::new();
    if let Err(error) = read(spec) {
        errors.push(FieldError::invalid(
            "spec.request",
            spec["request"].clone(),
            error,
        ));
    }
    validate_usages(spec, &mut errors);
    validate_signer(spec["signerName"].as_str().unwrap_or_default(), &mut errors);
    if let Some(seconds) = spec["expirationSeconds"].as_i64()
        && seconds < super::MINIMAL_LIFE.as_secs()
    {
        errors.push(FieldError::invalid(
            "spec.expirationSeconds",
            seconds,
            "may not specify a duration less than 600 seconds (10 minutes)",
        ));
    }
    errors
}

fn validate_usages(spec: &Value, errors: &mut Vec<FieldError>) {
    let usages = super::controller::usages(spec);
    if usages.is_empty() {
        errors.push(FieldError::required("spec.usages", ""));
    }
    let mut known: Vec<&str> = KEY_USAGES.iter().map(|(name, _)| *name).collect();
    known.extend(PURPOSES.iter().map(|(name, _)| *name));
    known.sort_unstable();
    for (position, usage) in usages.iter().enumerate() {
        let path = format!("spec.usages[{position}]");
        if !known.contains(&usage.as_str()) {
            errors.push(FieldError::not_supported(path, usage.as_str(), &known));
        } else if usages.iter().take(position).any(|earlier| earlier == usage) {
            errors.push(FieldError::duplicate(path, usage.as_str()));
        }
    }
}

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters \
    or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', \
    regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
    characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
    'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// A domain, a slash, a resource name (kubernetes: pkg/apis/core/validation, ValidateSignerName).
const MAXIMAL_SIGNER: usize = 253 + 1 + 63 + 1 + 253;

/// kubernetes: pkg/apis/core/validation, ValidateSignerName.
fn validate_signer(signer: &str, errors: &mut Vec<FieldError>) {
    let path = "spec.signerName";
    if signer.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let mut wrong = |value: &str, detail: &str| {
        errors.push(FieldError::invalid(path, value, detail));
    };
    if signer == "kubernetes.io/legacy-unknown" {
        wrong(
            signer,
            "the legacy signerName is not allowed via this API version",
        );
        return;
    }
    let (domain, rest) = match signer.split_once('/') {
        Some((domain, rest)) if !rest.contains('/') => (domain, rest),
        _ => {
            wrong(
                signer,
                "must be a fully qualified domain and path of the form 'example.com/signer-name'",
            );
            return;
        }
    };
    for label in domain.split('.').filter(|label| !is_label(label)) {
        wrong(domain, &format!("validating label {label:?}: {LABEL}"));
    }
    if !domain.contains('.') {
        wrong(
            domain,
            "should be a domain with at least two segments separated by dots",
        );
    }
    if !rest.split('.').all(is_label) {
        wrong(rest, &format!("validating label {rest:?}: {SUBDOMAIN}"));
    }
    if signer.len() > MAXIMAL_SIGNER {
        errors.push(FieldError {
            path: path.to_owned(),
            kind: Kind::TooLong,
            value: None,
            detail: format!("may not be more than {MAXIMAL_SIGNER} bytes"),
        });
    }
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let edges = !text.starts_with('-') && !text.ends_with('-');
    !text.is_empty() && text.len() <= 253 && edges && text.bytes().all(inner)
}

/// The request in a spec, verified.
pub(super) fn read(spec: &Value) -> Result<Request, String> {
    let text = spec["request"].as_str().unwrap_or_default();
    let pem = STANDARD
        .decode(text)
        .map_err(|error| format!("illegal base64 data: {error}"))?;
    Request::parse(&pem).map_err(|error| error.to_string())
}

/// Nobody becomes `system:masters` by a certificate.
pub(crate) fn check_create(object: &Value) -> ApiResult<()> {
    let spec = &object["spec"];
    if spec["signerName"] != CLIENT_SIGNER {
        return Ok(());
    }
    let refuse = |why: String| Err(ApiError::forbidden(subject(object), &why));
    match read(spec) {
        Err(error) => refuse(format!("failed to parse CSR: {error}")),
        Ok(request) if request.organizations.iter().any(|group| group == MASTERS) => refuse(
            format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed"),
        ),
        Ok(_) => Ok(()),
    }
}

/// Approving and signing need the verbs `approve` and `sign` on the signer, by its name or as
/// `domain/*`.
pub(crate) fn check_update(
    index: &Index,
    user: &User,
    subresource: &str,
    old: &Value,
    new: &Value,
) -> ApiResult<()> {
    let signed = old["status"]["certificate"] != new["status"]["certificate"]
        || old["status"]["conditions"] != new["status"]["conditions"];
    let verb = match subresource {
        "approval" => "approve",
        "status" if signed => "sign",
        _ => return Ok(()),
    };
    let signer = old["spec"]["signerName"].as_str().unwrap_or_default();
    let domain = signer.split('/').next().unwrap_or_default();
    let wildcard = format!("{domain}/*");
    let permitted = [signer, wildcard.as_str()].into_iter().any(|name| {
        let asked = Attributes {
            verb,
            group: GROUP,
            version: "*",
            resource: "signers",
            name,
            ..Attributes::default()
        };
        allows(index, user, &asked)
    });
    if permitted {
        return Ok(());
    }
    let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
    Err(ApiError::forbidden(subject(old), &why))
}

fn subject(object: &Value) -> Subject<'_> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    Subject {
        group: GROUP,
        resource: "certificatesigningrequests",
        name,
    }
}
