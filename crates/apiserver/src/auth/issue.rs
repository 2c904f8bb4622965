//! Answers to TokenRequests (kubernetes: pkg/registry/core/serviceaccount/storage/token.go).

use std::fmt;
use std::sync::Arc;

use drover_schema::field_error::FieldError;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::{Auth, User, fields, seconds};
use crate::status::{ApiError, ApiResult, Subject};
use crate::store::{Key, Object};

/// Without a wish a token lives an hour (k8s.io/api: authentication/v1 defaults).
const DEFAULT_SECONDS: i64 = 3600;
const MINIMAL_SECONDS: i64 = 600;
const MAXIMAL_SECONDS: i64 = 1 << 32;

const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenRequest";

/// A request that was understood and may be granted.
struct Asked<'a> {
    namespace: &'a str,
    name: &'a str,
    account: Arc<Object>,
    /// Seconds.
    life: i64,
    bound: Option<(&'static str, Arc<Object>)>,
}

impl Auth {
    pub(super) fn answer_token_request(
        &self,
        namespace: &str,
        name: &str,
        mut request: Value,
    ) -> ApiResult<Value> {
        let failed = |error: &dyn fmt::Display| {
            ApiError::internal(format!("failed to generate token: {error}"))
        };
        let asked = self.understand(namespace, name, &request)?;
        let now = self.now();
        let life = SignedDuration::from_secs(asked.life);
        let expires = now.checked_add(life).map_err(|error| failed(&error))?;
        let claims = self.claims(&asked, &request["spec"]["audiences"], now, expires);
        let token = self
            .inner
            .keys
            .sign(&claims)
            .map_err(|error| failed(&error))?;
        fill(&mut request, &asked, &claims, now);
        request["status"] = json!({"token": token, "expirationTimestamp": seconds(expires)});
        Ok(request)
    }

    fn understand<'a>(
        &self,
        namespace: &'a str,
        name: &'a str,
        request: &Value,
    ) -> ApiResult<Asked<'a>> {
        if !request.is_object() {
            return Err(ApiError::bad_request("not a TokenRequest"));
        }
        let given = |key: &str| request["metadata"][key].as_str().unwrap_or_default();
        for (key, wanted, what) in [
            ("name", name, "name"),
            ("namespace", namespace, "namespace"),
        ] {
            if !given(key).is_empty() && given(key) != wanted {
                let detail = format!("must match the service account {what} if specified");
                let path = format!("metadata.{key}");
                return Err(invalid(name, FieldError::invalid(path, given(key), detail)));
            }
        }
        let account = self.existing("serviceaccounts", namespace, name)?;
        let uid = &*account.meta.uid;
        if !given("uid").is_empty() && given("uid") != uid {
            let why = format!(
                "the UID in the token request ({}) does not match the UID of the service account ({uid})",
                given("uid")
            );
            return Err(ApiError::conflict(
                Subject {
                    group: GROUP,
                    resource: KIND,
                    name,
                },
                &why,
            ));
        }
        let life = request["spec"]["expirationSeconds"]
            .as_i64()
            .unwrap_or(DEFAULT_SECONDS);
        let refuse = |detail: &str| {
            Err(invalid(
                "",
                FieldError::invalid("spec.expirationSeconds", life, detail),
            ))
        };
        if life < MINIMAL_SECONDS {
            return refuse("may not specify a duration less than 10 minutes");
        }
        if life > MAXIMAL_SECONDS {
            return refuse("may not specify a duration larger than 2^32 seconds");
        }
        let bound = self.bound_object(&request["spec"]["boundObjectRef"], namespace, name)?;
        Ok(Asked {
            namespace,
            name,
            account,
            life,
            bound,
        })
    }

    fn claims(
        &self,
        asked: &Asked<'_>,
        audiences: &Value,
        now: Timestamp,
        expires: Timestamp,
    ) -> Value {
        let options = &self.inner.options;
        let chosen = audiences.as_array().is_some_and(|list| !list.is_empty());
        let audiences = if chosen {
            audiences.clone()
        } else {
            json!(options.audiences)
        };
        let reference =
            |object: &Object| json!({"name": &*object.key.name, "uid": &*object.meta.uid});
        let mut private = Map::new();
        private.insert("namespace".to_owned(), asked.namespace.into());
        private.insert("serviceaccount".to_owned(), reference(&asked.account));
        if let Some((claim, object)) = &asked.bound {
            private.insert((*claim).to_owned(), reference(object));
        }
        json!({
            "aud": audiences,
            "exp": expires.as_second(),
            "iat": now.as_second(),
            "iss": options.issuer,
            "jti": uuid::Uuid::new_v4().to_string(),
            "kubernetes.io": private,
            "nbf": now.as_second(),
            "sub": User::service_account(asked.namespace, asked.name).name,
        })
    }

    /// The object that the token shall die with, and the claim that names it.
    fn bound_object(
        &self,
        reference: &Value,
        namespace: &str,
        account: &str,
    ) -> ApiResult<Option<(&'static str, Arc<Object>)>> {
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
            let subject = Subject {
                group: "",
                resource: part("kind"),
                name: part("name"),
            };
            return Err(ApiError::conflict(subject, &why));
        }
        Ok(Some((claim, object)))
    }

    fn existing(&self, plural: &str, namespace: &str, name: &str) -> ApiResult<Arc<Object>> {
        let key = Key {
            resource: format!("/{plural}").into(),
            namespace: namespace.into(),
            name: name.into(),
        };
        let found = self.inner.store.get(&key);
        found.ok_or_else(|| {
            ApiError::not_found(Subject {
                group: "",
                resource: plural,
                name,
            })
        })
    }
}

/// What the server adds to the request that it gives back.
fn fill(request: &mut Value, asked: &Asked<'_>, claims: &Value, now: Timestamp) {
    if let Some(metadata) = fields(request, "metadata") {
        let uid = &*asked.account.meta.uid;
        for (key, value) in [
            ("name", asked.name),
            ("namespace", asked.namespace),
            ("uid", uid),
        ] {
            metadata.insert(key.to_owned(), value.into());
        }
        metadata.insert("creationTimestamp".to_owned(), seconds(now).into());
    }
    if let Some(spec) = fields(request, "spec") {
        spec.insert("audiences".to_owned(), claims["aud"].clone());
        spec.insert("expirationSeconds".to_owned(), asked.life.into());
        spec.entry("boundObjectRef").or_insert(Value::Null);
    }
}

#[expect(
    clippy::unnecessary_box_returns,
    reason = "as everything that makes an ApiError"
)]
fn invalid(name: &str, error: FieldError) -> Box<ApiError> {
    ApiError::invalid(
        Subject {
            group: GROUP,
            resource: KIND,
            name,
        },
        &[error],
    )
}
