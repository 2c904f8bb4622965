use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use http_body_util::{BodyExt as _, Full};
use serde_json::json;

use super::*;
use crate::auth::Options;
use crate::auth::token::TokenKeys;
use crate::store::Database;

mod client;
mod reads;
mod watches;
mod writes;

pub(super) const THINGS: &str = "/apis/example.io/v1/namespaces/default/things";
pub(super) const MERGE: &str = "application/merge-patch+json";
pub(super) const APPLY: &str = "application/apply-patch+yaml";

/// A server in memory with the kind `Thing`, and a clock that stands still.
pub(super) struct World {
    pub(super) server: ApiServer,
    _database: Database,
}

pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) headers: http::HeaderMap,
    pub(super) text: String,
    pub(super) body: Value,
}

pub(super) fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.io"},
        "spec": {
            "group": "example.io", "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {
                    "status": {},
                    "scale": {
                        "specReplicasPath": ".spec.replicas",
                        "statusReplicasPath": ".status.replicas",
                    },
                },
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {
                        "a": {"type": "string", "default": "x"},
                        "b": {"type": "string"},
                        "replicas": {"type": "integer"},
                    }},
                    "status": {"type": "object", "properties": {
                        "replicas": {"type": "integer"}, "phase": {"type": "string"},
                    }},
                }}},
            }],
        },
    })
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(Config::default()).await
    }

    pub(super) async fn with(config: Config) -> Self {
        let database = Database::memory();
        let store = database.store("test").unwrap();
        let options = Options {
            anonymous: true,
            tokens: Vec::new(),
            issuer: "https://test".to_owned(),
            audiences: vec!["https://test".to_owned()],
            keys: TokenKeys::generate().unwrap(),
            authority: None,
            clock: Arc::new(|| Timestamp::UNIX_EPOCH),
        };
        let auth = Auth::new(store.clone(), options).unwrap();
        let counter = AtomicI64::new(0);
        let config = Config {
            clock: Arc::new(|| "2026-01-02T03:04:05Z".parse().unwrap()),
            random: Arc::new(move |buffer| {
                let next = counter.fetch_add(1, Ordering::Relaxed).to_le_bytes();
                for (place, byte) in buffer.iter_mut().zip(next.iter().cycle()) {
                    *place = *byte;
                }
            }),
            ..config
        };
        let server = ApiServer::new(store, auth, config).acting_as(User::system());
        server.bootstrap().await.unwrap();
        let world = Self {
            server,
            _database: database,
        };
        let answer = world.post(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            definition(),
        );
        assert_eq!(answer.await.code, 201);
        world
    }

    pub(super) async fn send(
        &self,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self
            .server
            .respond(request.body(Full::new(body.into())).unwrap())
            .await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        Answer {
            code: parts.status.as_u16(),
            headers: parts.headers,
            text,
            body,
        }
    }

    pub(super) async fn get(&self, uri: &str) -> Answer {
        self.send("GET", uri, &[], "").await
    }

    pub(super) async fn get_as(&self, uri: &str, accept: &str) -> Answer {
        self.send("GET", uri, &[("accept", accept)], "").await
    }

    pub(super) async fn post(&self, uri: &str, body: Value) -> Answer {
        self.send("POST", uri, &[("user-agent", "me/1")], body.to_string())
            .await
    }

    pub(super) async fn put(&self, uri: &str, body: Value) -> Answer {
        self.send("PUT", uri, &[("user-agent", "me/1")], body.to_string())
            .await
    }

    pub(super) async fn patch(&self, uri: &str, media: &str, body: Value) -> Answer {
        let headers = [("content-type", media), ("user-agent", "me/1")];
        self.send("PATCH", uri, &headers, body.to_string()).await
    }

    pub(super) async fn delete(&self, uri: &str, body: Value) -> Answer {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.send("DELETE", uri, &[], body).await
    }

    pub(super) async fn thing(&self, name: &str) -> Answer {
        let answer = self.post(THINGS, thing(name)).await;
        assert_eq!(answer.code, 201, "{}", answer.text);
        answer
    }
}

pub(super) fn thing(name: &str) -> Value {
    json!({"apiVersion": "example.io/v1", "kind": "Thing", "metadata": {"name": name}})
}

impl Answer {
    pub(super) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    #[track_caller]
    pub(super) fn refused(&self, code: u16, reason: &str, message: &str) {
        assert_eq!(
            (self.code, self.message()),
            (code, message),
            "{}",
            self.text
        );
        assert_eq!(self.body["reason"].as_str().unwrap_or_default(), reason);
        assert_eq!(self.body["status"], "Failure");
    }

    pub(super) fn revision(&self) -> u64 {
        self.body["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    }

    pub(super) fn warnings(&self) -> Vec<&str> {
        self.headers
            .get_all("warning")
            .iter()
            .map(|value| value.to_str().unwrap())
            .collect()
    }
}
