//! Answers to TokenRequests (kubernetes: pkg/registry/core/serviceaccount/storage/token.go).

use drover_schema::field_error::FieldError;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::{Auth, seconds};
use crate::status::{ApiError, ApiResult, Subject};
use crate::store::{Key, Object};

/// Without a wish a token lives an hour (k8s.io/api: authentication/v1 defaults).
const DEFAULT_SECONDS: i64 = 3600;
const MINIMAL_SECONDS: i64 = 600;
const MAXIMAL_SECONDS: i64 = 1 << 32;

const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenRequest";

impl Auth {
    pub(super) fn answer_token_request(
        &self,
        namespace: &str,
        name: &str,
        mut request: Value,
    ) -> ApiResult<Value> {
        if !request.is_object() {
            return Err(ApiError::bad_request("not a TokenRequest"));
        }
        let invalid = |name: &str, error: FieldError| {
            Err(ApiError::invalid(Subject { group: GROUP, resource: KIND, name }, &[error]))
        };
        let given = |key: &str| request["metadata"][key].as_str().unwrap_or_default();
        for (key, wanted, detail) in [
            ("name", name, "must match the service account name if specified"),
            ("namespace", namespace, "must match the service account namespace if specified"),
        ] {
            if !given(key).is_empty() && given(key) != wanted {
                let path = format!("metadata.{key}");
                return invalid(name, FieldError::invalid(path, given(key), detail));
            }
        }
        let account = self.existing("serviceaccounts", namespace, name)?;
        let uid = account.meta.uid.to_string();
        if !given("uid").is_empty() && given("uid") != uid {
            let why = format!(
                "the UID in the token request ({}) does not match the UID of the service account ({uid})",
                given("uid")
            );
            return Err(ApiError::conflict(Subject { group: GROUP, resource: KIND, name }, &why));
        }
        let seconds_wanted = request["spec"]["expirationSeconds"].as_i64();
        let life = seconds_wanted.unwrap_or(DEFAULT_SECONDS);
        let path = "spec.expirationSeconds";
        if life < MINIMAL_SECONDS {
            let detail = "may not specify a duration less than 10 minutes";
            return invalid("", FieldError::invalid(path, life, detail));
        }
        if life > MAXIMAL_SECONDS {
            let detail = "may not specify a duration larger than 2^32 seconds";
            return invalid("", FieldError::invalid(path, life, detail));
        }
        let bound = self.bound_object(&request["spec"]["boundObjectRef"], namespace, name)?;
        let mut audiences = request["spec"]["audiences"].clone();
        if audiences.as_array().is_none_or(Vec::is_empty) {
            audiences = json!(self.inner.options.audiences);
        }
        let now = self.now();
        let expires = now
            .checked_add(SignedDuration::from_secs(life))
            .map_err(|error| ApiError::internal(format!("failed to generate token: {error}")))?;
        let reference = |object: &Object| json!({"name": &*object.key.name, "uid": &*object.meta.uid});
        let mut private = Map::new();
        private.insert("namespace".to_owned(), namespace.into());
        private.insert("serviceaccount".to_owned(), reference(&account));
        if let Some((claim, object)) = &bound {
            private.insert((*claim).to_owned(), reference(object));
        }
        let claims = json!({
            "aud": audiences,
            "exp": expires.as_second(),
            "iat": now.as_second(),
            "iss": self.inner.options.issuer,
            "jti": uuid::Uuid::new_v4().to_string(),
            "kubernetes.io": private,
            "nbf": now.as_second(),
            "sub": super::User::service_account(namespace, name).name,
        });
        let token = self.inner.keys.sign(&claims);
        let token = token
            .map_err(|error| ApiError::internal(format!("failed to generate token: {error}")))?;
        fill(&mut request, &claims, &uid, namespace, name, life, now);
        request["status"] = json!({"token": token, "expirationTimestamp": seconds(expires)});
        Ok(request)
    }

    /// The object that the token shall die with, and the claim that names it.
    fn bound_object(
        &self,
        reference: &Value,
        namespace: &str,
        account: &str,
    ) -> ApiResult<Option<(&'static str, std::sync::Arc<Object>)>> {
        if reference.is_null() {
            return Ok(None);
        }
        let part = |key: &str| reference[key].as_str().unwrap_or_default();
        let (claim, plural, namespace) = match (part("apiVersion"), part("kind")) {
            ("v1", "Pod") => ("pod", "pods", namespace),
            ("v1", "Secret") => ("secret", "secrets", namespace),
            ("v1", "Node") => ("node", "nodes", ""),
            (version, kind) => {
                let (group, version) = version.split_once('/').unwrap_or(("", version));
                return Err(ApiError::bad_request(format!(
                    "cannot bind token to object of type {group}/{version}, Kind={kind}"
                )));
            }
        };
        let object = self.existing(plural, namespace, part("name"))?;
        if claim == "pod" && object.value()["spec"]["serviceAccountName"] != account {
            return Err(ApiError::bad_request(format!(
                "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
            )));
        }
        if !part("uid").is_empty() && part("uid") != &*object.meta.uid {
            let why = format!(
                "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
                part("uid")
            );
            let subject = Subject { group: "", resource: part("kind"), name: part("name") };
            return Err(ApiError::conflict(subject, &why));
        }
        Ok(Some((claim, object)))
    }

    fn existing(
        &self,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> ApiResult<std::sync::Arc<Object>> {
        let key = Key {
            resource: format!("/{plural}").into(),
            namespace: namespace.into(),
            name: name.into(),
        };
        let found = self.inner.store.get(&key);
        found.ok_or_else(|| ApiError::not_found(Subject { group: "", resource: plural, name }))
    }
}

/// What the server adds to the request that it gives back.
fn fill(
    request: &mut Value,
    claims: &Value,
    uid: &str,
    namespace: &str,
    name: &str,
    life: i64,
    now: Timestamp,
) {
    for (key, value) in [("name", name), ("namespace", namespace), ("uid", uid)] {
        request["metadata"][key] = value.into();
    }
    request["metadata"]["creationTimestamp"] = seconds(now).into();
    request["spec"]["audiences"] = claims["aud"].clone();
    request["spec"]["expirationSeconds"] = life.into();
    if request["spec"].get("boundObjectRef").is_none() {
        request["spec"]["boundObjectRef"] = Value::Null;
    }
}
