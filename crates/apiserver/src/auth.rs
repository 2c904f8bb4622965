//! Who asks, and what they may do.

pub mod user;
mod authenticate;
pub mod rbac;
mod escalation;
pub mod policy;
mod review;
mod issue;
pub mod token;
pub mod csr;
pub mod ca;
pub mod key;
mod der;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use drover_schema::field_error::FieldError;
use http::HeaderMap;
use jiff::{Timestamp, Unit};
use serde_json::{Map, Value, json};

use self::authenticate::StaticTokens;
use self::ca::Authority;
use self::rbac::{Index, Missing, Outcome, Policy};
use self::token::TokenKeys;
use self::user::MASTERS;
pub use self::user::{Attributes, Decision, PeerCertificates, User};
use crate::status::ApiResult;
use crate::store::Store;

pub(crate) use self::rbac::quoted as rbac_quoted;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What is not in the store.
pub struct Options {
    /// Whether requests without credentials are those of `system:anonymous`, or 401.
    pub anonymous: bool,
    /// Bearer tokens that are known from the start; `system:authenticated` is added.
    pub tokens: Vec<(String, User)>,
    /// `iss` of service account tokens: the URL under which the API is reached.
    pub issuer: String,
    /// Audiences of tokens for this API; tokens without a wish get these. Not empty.
    pub audiences: Vec<String>,
    /// Keys of service account tokens.
    pub keys: TokenKeys,
    /// Signs approved certificate signing requests; the certificates of clients are verified
    /// against it where TLS ends.
    pub authority: Option<Arc<Authority>>,
    /// Tells the time.
    pub clock: Clock,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("anonymous", &self.anonymous)
            .field("issuer", &self.issuer)
            .field("audiences", &self.audiences)
            .finish_non_exhaustive()
    }
}

/// The system gives no randomness.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("failed to use the system's randomness")]
pub struct NoRandomness;

/// Authentication and authorization of one logical cluster. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Auth {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    options: Options,
    tokens: StaticTokens,
    keys: TokenKeys,
    policy: Policy,
}

impl Auth {
    /// Follows the policy in a store.
    pub fn new(store: Store, mut options: Options) -> Result<Self, NoRandomness> {
        let tokens = std::mem::take(&mut options.tokens);
        let tokens = StaticTokens::new(tokens).map_err(|_unspecified| NoRandomness)?;
        let policy = Policy::new(store.clone());
        let keys = options.keys.clone();
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                options,
                tokens,
                keys,
                policy,
            }),
        })
    }

    /// Who sent a request, after impersonation. `peer` are certificates that TLS has verified.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        peer: Option<&PeerCertificates>,
    ) -> ApiResult<User> {
        let requester = self.requester(headers, peer)?;
        self.impersonate(requester, headers)
    }

    /// Whether a user may do it. A refusal is answered with [`Attributes::forbidden`].
    pub fn authorize(&self, user: &User, attributes: &Attributes<'_>) -> Decision {
        if user.is_in(MASTERS) {
            return Decision::Allow;
        }
        match self
            .inner
            .policy
            .read(|index| index.decide(user, attributes))
        {
            Outcome::Allowed(_) => Decision::Allow,
            Outcome::NoOpinion(missing) => {
                let mut reason = attributes.refusal(user);
                if !missing.is_empty() {
                    reason.push_str(": ");
                    reason.push_str(&missing_reason(&missing));
                }
                Decision::Deny { reason }
            }
        }
    }

    /// Answers a review object (TokenReview, SubjectAccessReview, SelfSubjectAccessReview,
    /// LocalSubjectAccessReview, SelfSubjectRulesReview, SelfSubjectReview) with its status filled.
    /// For LocalSubjectAccessReview the caller has set `metadata.namespace` from the path.
    pub fn review(&self, kind: &str, object: Value, caller: &User) -> ApiResult<Value> {
        self.answer_review(kind, object, caller)
    }

    /// Answers a TokenRequest for a service account; `caller` has been authorized.
    pub fn issue_token(
        &self,
        namespace: &str,
        name: &str,
        request: Value,
        caller: &User,
    ) -> ApiResult<Value> {
        let answer = self.answer_token_request(namespace, name, request)?;
        tracing::debug!(
            namespace,
            name,
            caller = caller.name,
            "issued a service account token"
        );
        Ok(answer)
    }

    /// The document at `/openid/v1/jwks`; its content type is `application/jwk-set+json`.
    pub fn jwks(&self) -> Value {
        self.inner.keys.jwks()
    }

    /// The document at `/.well-known/openid-configuration`.
    pub fn openid_configuration(&self) -> Value {
        let issuer = &self.inner.options.issuer;
        json!({
            "issuer": issuer,
            "jwks_uri": format!("{}/openid/v1/jwks", issuer.trim_end_matches('/')),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// Refuses a Role, ClusterRole, RoleBinding or ClusterRoleBinding that would give away more
    /// than the user has (verbs `escalate` and `bind` lift that). `kind` is the Kind of `object`;
    /// other kinds pass. To be asked before a create, and before an update that changes more than
    /// `metadata.ownerReferences` and `metadata.finalizers`.
    pub fn check_escalation(
        &self,
        user: &User,
        kind: &str,
        object: &Value,
        namespace: &str,
    ) -> ApiResult<()> {
        self.inner
            .policy
            .read(|index| escalation::check(index, user, kind, object, namespace))
    }

    /// Sets who asks in a new CertificateSigningRequest: `spec.username`, `uid`, `groups`, `extra`.
    #[expect(clippy::unused_self, reason = "one way to ask, whatever it needs")]
    pub fn stamp_csr(&self, object: &mut Value, caller: &User) {
        csr::stamp(object, caller);
    }

    /// What is wrong with a new CertificateSigningRequest.
    #[expect(clippy::unused_self, reason = "one way to ask, whatever it needs")]
    pub fn validate_csr(&self, object: &Value) -> Vec<FieldError> {
        csr::validate(object)
    }

    /// Admission of a new CertificateSigningRequest: nobody gets `system:masters` that way.
    #[expect(clippy::unused_self, reason = "one way to ask, whatever it needs")]
    pub fn check_csr_create(&self, object: &Value) -> ApiResult<()> {
        csr::check_create(object)
    }

    /// Undoes what an update of a CertificateSigningRequest through this subresource (empty: the
    /// object itself) may not change, fills the times of its conditions. Before anything else.
    pub fn prepare_csr_update(&self, subresource: &str, new: &mut Value, old: &Value) {
        csr::update::prepare(subresource, new, old, self.now());
    }

    /// What is wrong with an update of a CertificateSigningRequest, prepared as above.
    #[expect(clippy::unused_self, reason = "one way to ask, whatever it needs")]
    pub fn validate_csr_update(
        &self,
        subresource: &str,
        new: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        csr::update::validate(subresource, new, old)
    }

    /// Admission of an update of a CertificateSigningRequest: `approval` needs the verb `approve`
    /// on the signer, a change of certificate or conditions through `status` the verb `sign`.
    pub fn check_csr_update(
        &self,
        user: &User,
        subresource: &str,
        old: &Value,
        new: &Value,
    ) -> ApiResult<()> {
        self.inner
            .policy
            .read(|index| csr::check_update(index, user, subresource, old, new))
    }

    /// Who signs certificates here.
    pub fn authority(&self) -> Option<&Arc<Authority>> {
        self.inner.options.authority.as_ref()
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.inner.options.clock)()
    }
}

/// Whether the policy, or the membership in `system:masters`, allows it.
fn allows(index: &Index, user: &User, asked: &Attributes<'_>) -> bool {
    user.is_in(MASTERS) || matches!(index.decide(user, asked), Outcome::Allowed(_))
}

/// What the authorizer adds to a refusal: empty if there is nothing.
fn missing_reason(missing: &BTreeSet<Missing>) -> String {
    if missing.is_empty() {
        return String::new();
    }
    format!("RBAC: {}", review::join_missing(missing.iter()))
}

/// The fields of a part of an object; a part that is missing or no object becomes an empty one.
/// `None` if the whole is no object.
fn fields<'a>(object: &'a mut Value, part: &str) -> Option<&'a mut Map<String, Value>> {
    let part = object.as_object_mut()?.entry(part).or_insert(Value::Null);
    if !part.is_object() {
        *part = Value::Object(Map::new());
    }
    part.as_object_mut()
}

/// A time as objects carry it: whole seconds.
fn seconds(at: Timestamp) -> String {
    at.round(Unit::Second)
        .unwrap_or(at)
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

#[cfg(test)]
mod tests;
