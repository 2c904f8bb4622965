//! A managed cluster in memory: as much of its API as registration uses.

use std::convert::Infallible;

use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use k8s_openapi::ByteString;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::PATIENCE;
use crate::registration::identity::{NAMESPACE, SECRET};

#[derive(Default)]
struct State {
    namespace: bool,
    secret: Option<Value>,
    definitions: Vec<String>,
}

/// The cluster. Clones are the same cluster.
#[derive(Clone)]
pub(super) struct Managed(watch::Sender<State>);

impl Default for Managed {
    fn default() -> Self {
        Self(watch::Sender::new(State::default()))
    }
}

impl Managed {
    pub(super) fn client(&self) -> kube::Client {
        let managed = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let managed = managed.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.expect("it is in memory").to_bytes();
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let (code, answer) = managed.answer(&parts.method, parts.uri.path(), body);
                let response = Response::builder()
                    .status(code)
                    .header("content-type", "application/json");
                Ok::<_, Infallible>(
                    response
                        .body(Full::new(answer.to_string().into_bytes().into()))
                        .expect("it is valid"),
                )
            }
        });
        kube::Client::new(service, "default")
    }

    fn answer(&self, method: &Method, path: &str, body: Value) -> (u16, Value) {
        let missing = || {
            (
                404,
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found"}),
            )
        };
        let namespace = format!("/api/v1/namespaces/{NAMESPACE}");
        let secret = format!("{namespace}/secrets/{SECRET}");
        match (method, path) {
            (&Method::GET, "/livez") => (200, json!("ok")),
            (&Method::GET, "/version") => {
                let info = [
                    "major",
                    "minor",
                    "gitCommit",
                    "gitTreeState",
                    "buildDate",
                    "goVersion",
                    "compiler",
                    "platform",
                ];
                let mut info: serde_json::Map<_, _> = info
                    .map(|key| (key.to_owned(), json!("")))
                    .into_iter()
                    .collect();
                info.insert("gitVersion".to_owned(), json!("v1.36.3"));
                (200, Value::Object(info))
            }
            (&Method::GET, "/api/v1/nodes") => {
                let node = json!({"metadata": {"name": "n1"}, "status": {"capacity": {"cpu": "4"}, "allocatable": {"cpu": "3"}}});
                (
                    200,
                    json!({"kind": "NodeList", "apiVersion": "v1", "metadata": {}, "items": [node]}),
                )
            }
            (&Method::GET, "/apis/cluster.open-cluster-management.io/v1alpha1/clusterclaims") => {
                let claim = json!({"metadata": {"name": "id.k8s.io"}, "spec": {"value": "7"}});
                (
                    200,
                    json!({"kind": "ClusterClaimList", "apiVersion": "cluster.open-cluster-management.io/v1alpha1", "metadata": {}, "items": [claim]}),
                )
            }
            (&Method::GET, path) if path == secret => self
                .0
                .borrow()
                .secret
                .clone()
                .map_or_else(missing, |secret| (200, secret)),
            (&Method::PATCH, path) if path == namespace => {
                self.0.send_modify(|state| state.namespace = true);
                (200, body)
            }
            (&Method::PATCH, path)
                if path.starts_with("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/") =>
            {
                let name = path.rsplit('/').next().unwrap_or_default().to_owned();
                self.0.send_modify(|state| state.definitions.push(name));
                (200, body)
            }
            (&Method::PATCH, path) if path == secret && self.0.borrow().namespace => {
                self.0
                    .send_modify(|state| state.secret = Some(body.clone()));
                (200, body)
            }
            _ => missing(),
        }
    }

    /// What was installed.
    pub(super) fn definitions(&self) -> Vec<String> {
        self.0.borrow().definitions.clone()
    }

    /// Names of what is in the secret.
    pub(super) fn secret_keys(&self) -> Vec<String> {
        let state = self.0.borrow();
        let data = state
            .secret
            .as_ref()
            .and_then(|secret| secret["data"].as_object());
        data.map(|data| data.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// The stored certificate.
    pub(super) fn certificate(&self) -> Option<String> {
        let stored = self
            .0
            .borrow()
            .secret
            .as_ref()
            .map(|secret| secret["data"]["tls.crt"].clone())?;
        let bytes: ByteString = serde_json::from_value(stored).ok()?;
        String::from_utf8(bytes.0).ok()
    }

    pub(super) async fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let mut changes = self.0.subscribe();
        let wait = async {
            while !done(self) {
                changes.changed().await.expect("the cluster is there");
            }
        };
        let done = tokio::time::timeout(PATIENCE, wait).await.is_ok();
        assert!(
            done,
            "{what} did not happen; the secret has {:?}",
            self.secret_keys()
        );
    }
}
