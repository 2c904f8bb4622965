//! Who asks, and what they may do.

pub mod user;

use http::HeaderMap;
use serde_json::Value;

pub use self::user::{Attributes, Decision, PeerCertificates, User};
use crate::status::ApiResult;

/// Authentication and authorization of one logical cluster. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Auth {}

impl Auth {
    /// Who sent a request.
    pub fn authenticate(&self, headers: &HeaderMap, peer: Option<&PeerCertificates>) -> ApiResult<User> { todo!() }
    /// Whether a user may do it.
    pub fn authorize(&self, user: &User, attributes: &Attributes<'_>) -> Decision { todo!() }
    /// Answers a review object (TokenReview, SubjectAccessReview, …) with its status filled; for
    /// LocalSubjectAccessReview the caller has set `metadata.namespace` from the path.
    pub fn review(&self, kind: &str, object: Value, caller: &User) -> ApiResult<Value> { todo!() }
    /// Answers a TokenRequest for a service account.
    pub fn issue_token(&self, namespace: &str, name: &str, request: Value, caller: &User) -> ApiResult<Value> { todo!() }
    /// The document at `/openid/v1/jwks`.
    pub fn jwks(&self) -> Value { todo!() }
    /// The document at `/.well-known/openid-configuration`.
    pub fn openid_configuration(&self) -> Value { todo!() }
    /// Refuses a Role, ClusterRole or binding that would give away more than the user has.
    /// `kind` is the Kind of `object`.
    pub fn check_escalation(&self, user: &User, kind: &str, object: &Value, namespace: &str) -> ApiResult<()> { todo!() }
    /// Sets who asks in a new CertificateSigningRequest: `spec.username`, `uid`, `groups`, `extra`.
    pub fn stamp_csr(&self, object: &mut Value, caller: &User) { todo!() }
    /// The field errors of a new CertificateSigningRequest.
    pub fn validate_csr(&self, object: &Value) -> Vec<drover_schema::field_error::FieldError> { todo!() }
}
