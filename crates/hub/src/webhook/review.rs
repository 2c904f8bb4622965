//! AdmissionReview in, AdmissionReview out (Kubernetes: admission.k8s.io/v1).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use drover_core::admission::{
    self, Addition, Check, Operation, Policy, Question, Refusal, Rule, User,
};
use drover_runtime::clock::Clock;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// Two objects of the largest size that an API server takes, and the rest of a review.
const MAX_BODY: usize = 7 * 1024 * 1024;
/// An answer comes before the API server gives up, which says less.
const PATIENCE: Duration = Duration::from_secs(admission::webhooks::TIMEOUT_SECONDS as u64 - 1);
/// Reviews that are read and judged at the same time; more wait.
const AT_ONCE: usize = 64;

struct Reviewer {
    client: Client,
    policy: Policy,
    clock: Clock,
    slots: Semaphore,
}

/// Answers API servers; `client` is asked what users may do.
pub fn service(client: Client, policy: Policy, clock: Clock) -> Router {
    let reviewer = Reviewer {
        client,
        policy,
        clock,
        slots: Semaphore::new(AT_ONCE),
    };
    let mut router = Router::new().route("/readyz", get(async || "ok"));
    for rule in Rule::ALL {
        let answer = async move |State(reviewer): State<Arc<Reviewer>>, request: Request| {
            reviewer.answer(rule, request).await
        };
        router = router.route(rule.path(), post(answer));
    }
    router.with_state(Arc::new(reviewer))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Asked,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    uid: String,
    #[serde(default)]
    resource: Resource,
    #[serde(default)]
    sub_resource: String,
    operation: String,
    #[serde(default)]
    user_info: UserInfo,
    object: Option<Value>,
    old_object: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resource {
    group: String,
    resource: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct UserInfo {
    username: Option<String>,
    uid: Option<String>,
    groups: Option<Vec<String>>,
    extra: Option<std::collections::BTreeMap<String, Vec<String>>>,
}

impl From<UserInfo> for User {
    fn from(info: UserInfo) -> Self {
        Self {
            name: info.username.unwrap_or_default(),
            uid: info.uid.unwrap_or_default(),
            groups: info.groups.unwrap_or_default(),
            extra: info.extra.unwrap_or_default(),
        }
    }
}

impl Reviewer {
    async fn answer(&self, rule: Rule, request: Request) -> Response {
        let body = async {
            let slot = self.slots.acquire().await;
            let body = axum::body::to_bytes(request.into_body(), MAX_BODY).await;
            (slot, body)
        };
        // Whoever sends slowly holds a place no longer than one who asks.
        let (_slot, body) = match tokio::time::timeout(PATIENCE, body).await {
            Ok((slot, Ok(body))) => (slot, body),
            Ok((_, Err(error))) => {
                let text = format!(
                    "the body cannot be read, or has more than {MAX_BODY} bytes: {error}\n"
                );
                return (StatusCode::PAYLOAD_TOO_LARGE, text).into_response();
            }
            Err(_) => {
                return (
                    StatusCode::REQUEST_TIMEOUT,
                    "the body did not come in time\n",
                )
                    .into_response();
            }
        };
        let review: Review = match serde_json::from_slice(&body) {
            Ok(review) => review,
            Err(error) => return unreadable(&error.to_string()),
        };
        drop(body);
        if review.api_version != "admission.k8s.io/v1" || review.kind != "AdmissionReview" {
            let (version, kind) = (review.api_version, review.kind);
            return unreadable(&format!("it is a {kind:?} of {version:?}"));
        }
        let uid = review.request.uid.clone();
        let verdict = self.judge(rule, review.request).await;
        if let Err(refusal) = &verdict {
            tracing::debug!(webhook = rule.webhook(), %refusal, "refused a write");
        }
        shown(&uid, verdict)
    }

    async fn judge(&self, rule: Rule, asked: Asked) -> Result<Vec<Addition>, Refusal> {
        let (group, plural) = rule.resource();
        let own = asked.resource.group == group && asked.resource.resource == plural;
        if !own || !asked.sub_resource.is_empty() {
            return Ok(Vec::new());
        }
        let operation = match asked.operation.as_str() {
            "CREATE" => Operation::Create,
            "UPDATE" => Operation::Update,
            "DELETE" | "CONNECT" => Operation::Other,
            other => {
                return Err(Refusal::Unreadable(format!(
                    "nobody knows the operation {other:?}"
                )));
            }
        };
        let user = User::from(asked.user_info);
        let request = admission::Request {
            operation,
            user: &user,
            old: asked.old_object.as_ref(),
            new: asked.object.as_ref(),
        };
        if rule == Rule::FillCluster {
            return admission::fill(&request, &self.policy, self.clock.now());
        }
        for check in rule.judge(&request, &self.policy)? {
            let answer = tokio::time::timeout(PATIENCE, self.ask(&check, &user)).await;
            check.decide(
                answer.unwrap_or_else(|_| Err("the API did not answer in time".to_owned())),
            )?;
        }
        Ok(Vec::new())
    }

    async fn ask(&self, check: &Check, user: &User) -> Result<bool, String> {
        match &check.question {
            Question::NamespaceStays(name) => {
                let api: Api<Namespace> = Api::all(self.client.clone());
                let found = api.get_opt(name).await.map_err(|error| error.to_string())?;
                Ok(found.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_none()))
            }
            Question::Access(access) => {
                let review = json!({"metadata": {}, "spec": access.review(user)});
                let review: SubjectAccessReview =
                    serde_json::from_value(review).map_err(|error| error.to_string())?;
                let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
                let answer = api.create(&PostParams::default(), &review).await;
                let answer = answer.map_err(|error| error.to_string())?;
                Ok(answer.status.is_some_and(|status| status.allowed))
            }
        }
    }
}

fn shown(uid: &str, verdict: Result<Vec<Addition>, Refusal>) -> Response {
    let mut response = json!({"uid": uid, "allowed": verdict.is_ok()});
    match verdict {
        Ok(additions) if additions.is_empty() => {}
        Ok(additions) => {
            let patch: Vec<Value> = additions
                .into_iter()
                .map(|add| json!({"op": "add", "path": add.path, "value": add.value}))
                .collect();
            response["patchType"] = "JSONPatch".into();
            response["patch"] = STANDARD.encode(Value::Array(patch).to_string()).into();
        }
        Err(refusal) => response["status"] = refusal.status(),
    }
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response,
    });
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, Body::from(review.to_string())).into_response()
}

/// Without a uid there is no review to answer with.
fn unreadable(why: &str) -> Response {
    let text = format!("send an AdmissionReview of admission.k8s.io/v1: {why}\n");
    (StatusCode::BAD_REQUEST, text).into_response()
}

#[cfg(test)]
mod tests;
