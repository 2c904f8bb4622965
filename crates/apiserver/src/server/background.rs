//! What a server does before anybody asks, and while nobody does.

use std::sync::Arc;

use futures::future::try_join_all;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{ApiServer, meta};
use crate::auth::{User, csr, policy};
use crate::controllers::{self, Kinds, Scope, Settings};
use crate::resource::{DEFINITIONS, NAMESPACES, encode};
use crate::status::{ApiError, ApiResult};
use crate::store::{Change, Key};

impl ApiServer {
    /// Makes sure of what every cluster has: namespaces, roles, and definitions whose status says
    /// what they are. To be called once after [`Self::new`], before anybody is served.
    pub async fn bootstrap(&self) -> ApiResult<()> {
        let names = ["default", "kube-system", "kube-public", "kube-node-lease"];
        try_join_all(names.map(|name| self.ensure_namespace(name))).await?;
        policy::ensure(self.store(), |object| {
            let metadata = meta::of(object);
            metadata.insert("uid".to_owned(), self.new_uid().into());
            metadata.insert("creationTimestamp".to_owned(), self.now_text().into());
        })
        .await
        .map_err(ApiError::internal)?;
        self.reconcile_definitions().await
    }

    async fn ensure_namespace(&self, name: &str) -> ApiResult<()> {
        if self.store().get(&Key::new(NAMESPACES, "", name)).is_some() {
            return Ok(());
        }
        let request = Request::builder()
            .method(Method::POST)
            .uri("/api/v1/namespaces?fieldManager=drover-apiserver")
            .extension(User::system())
            .body(Full::new(encode(&json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name},
            }))))
            .map_err(ApiError::internal)?;
        let answer = self.respond(request).await;
        if answer.status().is_success() || answer.status() == http::StatusCode::CONFLICT {
            return Ok(());
        }
        let status = answer.status();
        Err(ApiError::internal(format!(
            "failed to create the namespace {name}: {status}"
        )))
    }

    /// Collects garbage, ends namespaces, signs certificates, aggregates roles and finishes
    /// definitions until it is told to stop.
    ///
    /// # Cancel safety
    /// May be dropped at any time: what is half done is continued by the next run.
    pub async fn run(&self, cancel: CancellationToken) {
        let store = self.store().clone();
        let server = self.clone();
        let kinds: Kinds = Arc::new(move |api_version, kind| {
            let registry = server.registry();
            let resource = registry.of_kind(api_version, kind)?;
            Some(if resource.namespaced {
                Scope::Namespaced
            } else {
                Scope::Cluster
            })
        });
        let server = self.clone();
        let settings = Settings {
            clock: Arc::clone(&self.config().clock),
            uid: Arc::new(move || server.new_uid()),
            kinds: Some(kinds),
            root_ca: self.config().root_ca.clone(),
            ..Settings::default()
        };
        tokio::join!(
            controllers::run(store.clone(), cancel.clone(), settings),
            csr::run(store.clone(), self.auth().clone(), cancel.clone()),
            policy::run(store, cancel.clone()),
            cancel.run_until_cancelled(self.finish_definitions()),
        );
    }

    /// Definitions that wait for their objects go when the last of these does, whoever deletes it.
    async fn finish_definitions(&self) {
        loop {
            let from = self.store().revision();
            if let Err(error) = self.reconcile_definitions().await {
                tracing::warn!(%error, "failed to bring definitions up to date");
            }
            let Ok(mut changes) = self.store().watch_all(from) else {
                continue;
            };
            while let Ok(change) = changes.next().await {
                if let Err(error) = self.finish_definition(&change).await {
                    tracing::warn!(%error, "failed to finish a definition");
                }
            }
        }
    }

    async fn finish_definition(&self, change: &Change) -> ApiResult<()> {
        if let Some(object) = change.object()
            && &*object.key.resource == DEFINITIONS
        {
            // Usually the request that wrote it has done this; it may have been cancelled.
            return self.reconcile_definition(&object.key.name).await;
        }
        let (None, Some(old)) = (&change.new, &change.old) else {
            return Ok(());
        };
        let Some(resource) = self.registry().of_storage(&old.key.resource).cloned() else {
            return Ok(());
        };
        self.after_removal(&resource).await
    }
}
