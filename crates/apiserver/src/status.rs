//! What goes wrong with a request, as the Status object that Kubernetes answers with
//! (apimachinery: pkg/api/errors/errors.go).

use drover_schema::field_error::FieldError;
use serde_json::{Value, json};

/// A refused request: an HTTP code, a reason that programs match on, and words for people.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status code.
    pub code: u16,
    /// `reason` of the Status: stable, CamelCase.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// `details`: name, group, kind, uid, causes, retryAfterSeconds.
    pub details: Option<Value>,
}

/// The result of everything that serves a request.
pub type ApiResult<T> = Result<T, Box<ApiError>>;

/// The `group` and `resource` that messages name: `deployments.apps`, or `pods` in the core group.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// API group, empty for core.
    pub group: &'a str,
    /// Plural name of the resource, or the kind where Kubernetes shows the kind.
    pub resource: &'a str,
    /// Name of the object, may be empty.
    pub name: &'a str,
}

impl Subject<'_> {
    fn qualified(self) -> String {
        if self.group.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }

    fn details(self) -> Value {
        let mut details = serde_json::Map::new();
        for (key, text) in [
            ("name", self.name),
            ("group", self.group),
            ("kind", self.resource),
        ] {
            if !text.is_empty() {
                details.insert(key.to_owned(), text.into());
            }
        }
        Value::Object(details)
    }
}

impl ApiError {
    /// An error without details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            code,
            reason,
            message: message.into(),
            details: None,
        })
    }

    fn about(code: u16, reason: &'static str, subject: Subject<'_>, message: String) -> Box<Self> {
        Box::new(Self {
            code,
            reason,
            message,
            details: Some(subject.details()),
        })
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Box<Self> {
        Self::new(400, "BadRequest", message)
    }

    /// 401.
    pub fn unauthorized() -> Box<Self> {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403 with the reason that the authorizer or admission gives.
    pub fn forbidden(subject: Subject<'_>, why: &str) -> Box<Self> {
        let what = subject.qualified();
        let message = if subject.name.is_empty() {
            format!("{what} is forbidden: {why}")
        } else {
            format!("{what} \"{}\" is forbidden: {why}", subject.name)
        };
        Self::about(403, "Forbidden", subject, message)
    }

    /// 404 for an object.
    pub fn not_found(subject: Subject<'_>) -> Box<Self> {
        let message = format!("{} \"{}\" not found", subject.qualified(), subject.name);
        Self::about(404, "NotFound", subject, message)
    }

    /// 404 for a path that serves nothing.
    pub fn no_such_resource() -> Box<Self> {
        let mut error = Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        );
        error.details = Some(json!({}));
        error
    }

    /// 405.
    pub fn method_not_allowed(message: impl Into<String>) -> Box<Self> {
        let mut error = Self::new(405, "MethodNotAllowed", message);
        error.details = Some(json!({}));
        error
    }

    /// 406.
    pub fn not_acceptable(accepted: &[&str]) -> Box<Self> {
        let mut error = Self::new(
            406,
            "NotAcceptable",
            format!(
                "406: Not Acceptable\n\nAvailable representations: {}",
                accepted.join(", ")
            ),
        );
        error.details = Some(json!({}));
        error
    }

    /// 409 AlreadyExists.
    pub fn already_exists(subject: Subject<'_>) -> Box<Self> {
        let message = format!(
            "{} \"{}\" already exists",
            subject.qualified(),
            subject.name
        );
        Self::about(409, "AlreadyExists", subject, message)
    }

    /// 409 Conflict: somebody else wrote first.
    pub fn conflict(subject: Subject<'_>, why: &str) -> Box<Self> {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{}\": {why}",
            subject.qualified(),
            subject.name
        );
        Self::about(409, "Conflict", subject, message)
    }

    /// 409 Conflict with the words for a stale resource version.
    pub fn stale(subject: Subject<'_>) -> Box<Self> {
        Self::conflict(
            subject,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 410: the history that the request asks for is gone.
    pub fn expired(message: impl Into<String>) -> Box<Self> {
        Self::new(410, "Expired", message)
    }

    /// 413.
    pub fn too_large(message: impl Into<String>) -> Box<Self> {
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 415.
    pub fn unsupported_media_type(accepted: &[&str]) -> Box<Self> {
        Self::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: {}",
                accepted.join(", ")
            ),
        )
    }

    /// 415 for a patch of a sort that no kind takes.
    pub fn unknown_patch() -> Box<Self> {
        let mut error = Self::new(415, "UnsupportedMediaType", "415: Unsupported Media Type");
        error.details = Some(json!({}));
        error
    }

    /// 422 with one cause for each field; `subject.resource` is the **kind** here.
    pub fn invalid(subject: Subject<'_>, errors: &[FieldError]) -> Box<Self> {
        let list: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let list = if let [one] = list.as_slice() {
            one.clone()
        } else {
            format!("[{}]", list.join(", "))
        };
        let message = format!(
            "{} \"{}\" is invalid: {list}",
            subject.qualified(),
            subject.name
        );
        let mut error = Self::about(422, "Invalid", subject, message);
        if let Some(details) = &mut error.details {
            details["causes"] = errors
                .iter()
                .map(|e| json!({"reason": e.kind.reason(), "message": e.body(), "field": e.path}))
                .collect();
        }
        error
    }

    /// 500.
    pub fn internal(message: impl std::fmt::Display) -> Box<Self> {
        let text = message.to_string();
        let mut error = Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {text}"),
        );
        error.details = Some(json!({"causes": [{"message": text}]}));
        error
    }

    /// 504 for a resource version that does not exist yet.
    pub fn too_large_revision(asked: u64, current: u64) -> Box<Self> {
        let mut error = Self::new(
            504,
            "Timeout",
            format!("Timeout: Too large resource version: {asked}, current: {current}"),
        );
        error.details = Some(json!({
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        }));
        error
    }

    /// The Status object.
    pub fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.into();
        }
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }
}
