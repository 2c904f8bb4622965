//! Approves the certificate signing requests of agents, and signs those for the broker.

use std::sync::Arc;

use drover_api::cluster::v1::ManagedCluster;
use drover_api::names::CLUSTER_NAME_LABEL;
use drover_core::registration::request::{self, Policy, Verdict};
use drover_runtime::clock::Clock;
use drover_runtime::controller::Next;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::HubError;
use crate::clusters::FIELD_MANAGER;

/// Prefix of the keys of clusters; no request has a name with it.
pub(crate) const OF_CLUSTER: &str = "managedclusters/";

/// Signs a request (PEM) for so many seconds; the answer is a certificate (PEM).
pub type Sign = Arc<dyn Fn(&[u8], Option<i32>) -> Result<String, String> + Send + Sync>;

/// The controller of certificate signing requests.
pub(crate) struct Requests {
    pub client: Client,
    pub policy: Policy,
    pub clock: Clock,
    pub requests: Store<CertificateSigningRequest>,
    pub clusters: Store<ManagedCluster>,
    pub sign: Sign,
}

impl Requests {
    /// One round for one request, or for all that waited for a cluster.
    pub(crate) async fn reconcile(&self, key: &str) -> Result<Next, HubError> {
        let Some(cluster) = key.strip_prefix(OF_CLUSTER) else {
            return self.reconcile_one(key).await;
        };
        for request in self.requests.state() {
            let of = request.labels().get(CLUSTER_NAME_LABEL);
            if of.is_some_and(|of| of == cluster) && !request::decided(&request) {
                self.reconcile_one(&request.name_any()).await?;
            }
        }
        Ok(Next::OnChange)
    }

    async fn reconcile_one(&self, name: &str) -> Result<Next, HubError> {
        let Some(found) = self.requests.get(&ObjectRef::new(name)) else {
            return Ok(Next::OnChange);
        };
        let is_known = |cluster: &str| self.clusters.get(&ObjectRef::new(cluster)).is_some();
        match request::judge(&found, &self.policy, is_known) {
            Verdict::Approve => self.approve(&found).await?,
            Verdict::ApproveIfMayRenew { user, groups } => {
                if self.may_renew(&user, groups).await? {
                    self.approve(&found).await?;
                } else {
                    tracing::info!(
                        request = name,
                        user,
                        "a renewal was not approved: the user may not renew"
                    );
                }
            }
            Verdict::Wait { cluster } => {
                tracing::debug!(request = name, cluster, "a request waits for its cluster");
            }
            Verdict::Ignore { why } => {
                tracing::trace!(request = name, why, "a request is left alone");
            }
        }
        let ours = found.spec.signer_name == request::GRPC_SIGNER;
        if ours && request::approved(&found) && !request::issued(&found) {
            self.issue(&found).await?;
        }
        Ok(Next::OnChange)
    }

    async fn approve(&self, found: &CertificateSigningRequest) -> Result<(), HubError> {
        let condition = json!({
            "type": "Approved", "status": "True", "reason": request::APPROVED_REASON,
            "message": "Auto approving Managed cluster agent certificate after SubjectAccessReview.",
            "lastUpdateTime": self.now(), "lastTransitionTime": self.now(),
        });
        self.patch(
            found,
            "approval",
            json!({"conditions": conditions_with(found, condition)}),
        )
        .await
    }

    async fn issue(&self, found: &CertificateSigningRequest) -> Result<(), HubError> {
        let status = match (self.sign)(&found.spec.request.0, found.spec.expiration_seconds) {
            Ok(pem) => json!({"certificate": k8s_openapi::ByteString(pem.into_bytes())}),
            Err(why) => {
                let condition = json!({
                    "type": "Failed", "status": "True", "reason": "SigningFailed", "message": why,
                    "lastUpdateTime": self.now(), "lastTransitionTime": self.now(),
                });
                json!({"conditions": conditions_with(found, condition)})
            }
        };
        self.patch(found, "status", status).await
    }

    async fn patch(
        &self,
        found: &CertificateSigningRequest,
        subresource: &str,
        status: Value,
    ) -> Result<(), HubError> {
        let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let name = found.name_any();
        let patch =
            json!({"metadata": {"resourceVersion": found.resource_version()}, "status": status});
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        api.patch_subresource(subresource, &name, &params, &Patch::Merge(patch))
            .await
            .map(|_| ())
            .map_err(|error| HubError::write("certificate signing request", name, error))
    }

    async fn may_renew(&self, user: &str, groups: Vec<String>) -> Result<bool, HubError> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.to_owned()),
                groups: Some(groups),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("register.open-cluster-management.io".to_owned()),
                    resource: Some("managedclusters".to_owned()),
                    subresource: Some("clientcertificates".to_owned()),
                    verb: Some("renew".to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = api
            .create(&PostParams::default(), &review)
            .await
            .map_err(|error| HubError::read("subject access review", user, error))?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    fn now(&self) -> Value {
        json!(drover_api::Time(self.clock.now()))
    }
}

fn conditions_with(found: &CertificateSigningRequest, new: Value) -> Vec<Value> {
    let known = found
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    known
        .into_iter()
        .flatten()
        .map(|condition| json!(condition))
        .chain([new])
        .collect()
}
