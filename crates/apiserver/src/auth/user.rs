//! Who asks, and what is asked for.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rustls_pki_types::CertificateDer;

use crate::status::{ApiError, Subject};

/// Whoever gave no credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group of everyone who gave credentials.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of everyone who gave none.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group that may do everything.
pub const MASTERS: &str = "system:masters";
/// What the user names of service accounts begin with.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// Somebody who was authenticated (or is anonymous).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User name.
    pub name: String,
    /// Unique over time where the authenticator knows one, else empty.
    pub uid: String,
    /// Groups, in the order in which they were found.
    pub groups: Vec<String>,
    /// Whatever else the authenticator says.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Whoever gave no credentials.
    pub fn anonymous() -> Self {
        Self {
            name: ANONYMOUS.to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    /// The server itself, and whoever runs in its process: may do everything.
    pub fn system() -> Self {
        Self {
            name: "system:apiserver".to_owned(),
            groups: vec![MASTERS.to_owned(), AUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    /// A service account, with the groups that each has.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self {
            name: format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"),
            groups: service_account_groups(namespace),
            ..Self::default()
        }
    }

    /// Namespace and name, if this is a service account.
    pub fn as_service_account(&self) -> Option<(&str, &str)> {
        split_service_account(&self.name)
    }

    /// Whether the user is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// Adds `system:authenticated` unless it is there.
    pub(crate) fn authenticated(mut self) -> Self {
        if !self.is_in(AUTHENTICATED) && !self.is_in(UNAUTHENTICATED) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }
}

pub(crate) fn service_account_groups(namespace: &str) -> Vec<String> {
    vec![
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
    ]
}

/// Namespace and name in `system:serviceaccount:NAMESPACE:NAME`.
pub(crate) fn split_service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')?;
    let valid = !namespace.is_empty() && !name.is_empty() && !name.contains(':');
    valid.then_some((namespace, name))
}

/// The certificates that a TLS client showed, leaf first; they were verified against the client CA.
#[derive(Clone, Debug)]
pub struct PeerCertificates(pub Vec<CertificateDer<'static>>);

/// What a request wants to do. For a resource request `resource` is not empty and `path` is
/// ignored; for any other `path` is what is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// `get`, `list`, … or the lower case HTTP method for a path.
    pub verb: &'a str,
    /// API group, empty for core.
    pub group: &'a str,
    /// API version.
    pub version: &'a str,
    /// Plural name; empty for a path.
    pub resource: &'a str,
    /// As `status`, or empty.
    pub subresource: &'a str,
    /// Empty for cluster scope and for all namespaces.
    pub namespace: &'a str,
    /// Empty where the request names no object.
    pub name: &'a str,
    /// Of a request that is not for a resource.
    pub path: &'a str,
}

impl Attributes<'_> {
    /// Whether this is about a resource and not a path.
    pub fn is_resource(&self) -> bool {
        !self.resource.is_empty()
    }

    /// Kubernetes' words for a refusal (apiserver: endpoints/handlers/responsewriters/errors.go).
    pub fn refusal(&self, user: &User) -> String {
        let mut text = format!("User {:?} cannot {} ", user.name, self.verb);
        if !self.is_resource() {
            let _infallible = write!(text, "path {:?}", self.path);
            return escape(&text);
        }
        let slash = if self.subresource.is_empty() { "" } else { "/" };
        let _infallible = write!(
            text,
            "resource \"{}{slash}{}\" in API group {:?} ",
            self.resource, self.subresource, self.group
        );
        if self.namespace.is_empty() {
            text.push_str("at the cluster scope");
        } else {
            let _infallible = write!(text, "in the namespace {:?}", self.namespace);
        }
        escape(&text)
    }

    /// The 403 for a refused request; `reason` as in [`Decision::Deny`].
    #[expect(
        clippy::unnecessary_box_returns,
        reason = "as everything that makes an ApiError"
    )]
    pub fn forbidden(&self, reason: &str) -> Box<ApiError> {
        if self.is_resource() {
            let subject = Subject {
                group: self.group,
                resource: self.resource,
                name: self.name,
            };
            return ApiError::forbidden(subject, reason);
        }
        let mut error = ApiError::new(403, "Forbidden", format!("forbidden: {reason}"));
        error.details = Some(serde_json::json!({}));
        error
    }
}

/// No answer may look like HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// What the authorizer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allow,
    /// Answer [`Attributes::forbidden`].
    Deny {
        /// The whole text behind `… is forbidden: `.
        reason: String,
    },
}

impl Decision {
    /// Whether to go on.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow)
    }
}
