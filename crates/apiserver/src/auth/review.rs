//! Review objects: questions about users and rights that are answered and not stored.

use drover_schema::field_error::FieldError;
use serde_json::{Map, Value, json};

use super::rbac::{Index, Outcome, Rule};
use super::user::{Attributes, MASTERS, User};
use super::{Auth, fields, missing_reason, seconds};
use crate::status::{ApiError, ApiResult, Subject};

const AUTHORIZATION: &str = "authorization.k8s.io";

impl Auth {
    pub(super) fn answer_review(
        &self,
        kind: &str,
        mut object: Value,
        caller: &User,
    ) -> ApiResult<Value> {
        if !object.is_object() {
            return Err(ApiError::bad_request(format!("not a {kind}")));
        }
        let status = match kind {
            "TokenReview" => self.review_token(&object["spec"])?,
            "SelfSubjectReview" => {
                if let Some(metadata) = fields(&mut object, "metadata") {
                    metadata.insert("creationTimestamp".to_owned(), seconds(self.now()).into());
                }
                json!({"userInfo": user_info(caller)})
            }
            "SelfSubjectRulesReview" => {
                let status = self.review_rules(&object["spec"], caller)?;
                // As recorded from kube-apiserver: the answer does not repeat the question.
                object["spec"] = json!({});
                status
            }
            "SelfSubjectAccessReview" => {
                check_access_review(kind, &object)?;
                self.review_access(&object["spec"], caller)
            }
            "SubjectAccessReview" | "LocalSubjectAccessReview" => {
                check_access_review(kind, &object)?;
                let user = named_user(&object["spec"]);
                self.review_access(&object["spec"], &user)
            }
            _ => return Err(ApiError::no_such_resource()),
        };
        object["status"] = status;
        Ok(object)
    }

    fn review_token(&self, spec: &Value) -> ApiResult<Value> {
        let token = spec["token"].as_str().unwrap_or_default();
        if token.is_empty() {
            return Err(ApiError::bad_request(
                "token is required for TokenReview in authentication",
            ));
        }
        let wanted = strings(&spec["audiences"]);
        let audiences = if wanted.is_empty() {
            &self.inner.options.audiences
        } else {
            &wanted
        };
        Ok(match self.token_holder(token, audiences) {
            Ok(holder) => json!({
                "authenticated": true,
                "user": user_info(&holder.user),
                "audiences": holder.audiences,
            }),
            Err(error) => json!({"user": {}, "error": error.to_string()}),
        })
    }

    fn review_access(&self, spec: &Value, user: &User) -> Value {
        let asked = attributes(spec);
        if user.is_in(MASTERS) {
            return json!({"allowed": true});
        }
        let (allowed, reason) = self
            .inner
            .policy
            .read(|index| match index.decide(user, &asked) {
                Outcome::Allowed(binding) => {
                    (true, format!("RBAC: allowed by {}", binding.describe(user)))
                }
                Outcome::NoOpinion(missing) => (false, missing_reason(&missing)),
            });
        let mut status = json!({"allowed": allowed});
        if !reason.is_empty() {
            status["reason"] = reason.into();
        }
        status
    }

    fn review_rules(&self, spec: &Value, caller: &User) -> ApiResult<Value> {
        let namespace = spec["namespace"].as_str().unwrap_or_default();
        if namespace.is_empty() {
            return Err(ApiError::bad_request("no namespace on request"));
        }
        let (mut rules, missing) = self
            .inner
            .policy
            .read(|index: &Index| index.rules_for(caller, namespace));
        if caller.is_in(MASTERS) && rules.is_empty() {
            // The bypass is not written in any role.
            let any = || vec!["*".to_owned()];
            rules.push(Rule {
                verbs: any(),
                groups: any(),
                resources: any(),
                ..Rule::default()
            });
            rules.push(Rule {
                verbs: any(),
                urls: any(),
                ..Rule::default()
            });
        }
        let resources = rules.iter().filter(|rule| !rule.resources.is_empty());
        let paths = rules.iter().filter(|rule| !rule.urls.is_empty());
        let without = |rule: &Rule, urls: bool| {
            let mut rule = rule.clone();
            if urls {
                rule.urls.clear();
            } else {
                rule = Rule {
                    verbs: rule.verbs,
                    urls: rule.urls,
                    ..Rule::default()
                };
            }
            rule.to_value()
        };
        let mut status = json!({
            "resourceRules": resources.map(|rule| without(rule, true)).collect::<Vec<_>>(),
            "nonResourceRules": paths.map(|rule| without(rule, false)).collect::<Vec<_>>(),
            "incomplete": false,
        });
        if !missing.is_empty() {
            status["evaluationError"] = join_missing(missing.iter()).into();
        }
        Ok(status)
    }
}

/// Several errors as Go's aggregate prints them.
pub(super) fn join_missing<T: ToString>(errors: impl Iterator<Item = T>) -> String {
    let texts: Vec<String> = errors.map(|error| error.to_string()).collect();
    match texts.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// UserInfo of authentication.k8s.io.
fn user_info(user: &User) -> Value {
    let mut info = Map::new();
    let parts = [
        ("username", json!(user.name), user.name.is_empty()),
        ("uid", json!(user.uid), user.uid.is_empty()),
        ("groups", json!(user.groups), user.groups.is_empty()),
        ("extra", json!(user.extra), user.extra.is_empty()),
    ];
    for (key, value, empty) in parts {
        if !empty {
            info.insert(key.to_owned(), value);
        }
    }
    Value::Object(info)
}

/// The user that a SubjectAccessReview names.
fn named_user(spec: &Value) -> User {
    let text = |key: &str| spec[key].as_str().unwrap_or_default().to_owned();
    let extra = spec["extra"].as_object().into_iter().flatten();
    User {
        name: text("user"),
        uid: text("uid"),
        groups: strings(&spec["groups"]),
        extra: extra
            .map(|(key, values)| (key.clone(), strings(values)))
            .collect(),
    }
}

fn attributes(spec: &Value) -> Attributes<'_> {
    let resource = &spec["resourceAttributes"];
    let part = |key: &str| resource[key].as_str().unwrap_or_default();
    if resource.is_null() {
        let path = &spec["nonResourceAttributes"];
        return Attributes {
            verb: path["verb"].as_str().unwrap_or_default(),
            path: path["path"].as_str().unwrap_or_default(),
            ..Attributes::default()
        };
    }
    Attributes {
        verb: part("verb"),
        group: part("group"),
        version: part("version"),
        resource: part("resource"),
        subresource: part("subresource"),
        namespace: part("namespace"),
        name: part("name"),
        path: "",
    }
}

/// kubernetes: pkg/apis/authorization/validation/validation.go.
fn check_access_review(kind: &str, object: &Value) -> ApiResult<()> {
    let spec = &object["spec"];
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let mut errors = Vec::new();
    if !resource.is_null() && !path.is_null() {
        let detail = "cannot be specified in combination with resourceAttributes";
        errors.push(FieldError::invalid(
            "spec.nonResourceAttributes",
            path.clone(),
            detail,
        ));
    }
    if resource.is_null() && path.is_null() {
        let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.push(FieldError::invalid(
            "spec.resourceAttributes",
            Value::Null,
            detail,
        ));
    }
    let own = kind == "SelfSubjectAccessReview";
    let user = spec["user"].as_str().unwrap_or_default();
    if !own && user.is_empty() && strings(&spec["groups"]).is_empty() {
        let detail = "at least one of user or group must be specified";
        errors.push(FieldError::invalid("spec.user", user, detail));
    }
    if kind == "LocalSubjectAccessReview" {
        if !resource.is_null() && resource["namespace"] != object["metadata"]["namespace"] {
            let detail = "must match metadata.namespace";
            let found = resource["namespace"].as_str().unwrap_or_default();
            errors.push(FieldError::invalid(
                "spec.resourceAttributes.namespace",
                found,
                detail,
            ));
        }
        if !path.is_null() {
            let detail = "disallowed on this kind of request";
            errors.push(FieldError::invalid(
                "spec.nonResourceAttributes",
                path.clone(),
                detail,
            ));
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    // As recorded from kube-apiserver: the kind is left out.
    Err(ApiError::invalid(
        Subject {
            group: AUTHORIZATION,
            resource: "",
            name: "",
        },
        &errors,
    ))
}

fn strings(list: &Value) -> Vec<String> {
    let texts = list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}
