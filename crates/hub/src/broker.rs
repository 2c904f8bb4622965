//! The event service of a hub: who may speak, and which part of the API stands behind each data type.

use std::sync::Arc;

use drover_protocol::DataType;
use drover_transport::authn::{
    AuthnError, Caller, CertAuthenticator, TokenAuthenticator, TokenReview,
};
use drover_transport::authz::{Access, Authorizer, Decision};
use drover_transport::broker::AccessControl;
use drover_transport::broker::ServerOptions;
use drover_transport::{Broker, BrokerConfig};
use k8s_openapi::api::authentication::v1 as authentication;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

/// The sender of a hub's events (ocm: pkg/server/services).
pub(crate) use drover_protocol::names::HUB_SOURCE as SOURCE;

/// A broker whose callers are those of the hub's API: a token is reviewed, a certificate was verified in the handshake,
/// and each access is asked of the API's authorizer.
pub(crate) fn new(client: &Client, options: Option<&ServerOptions>) -> Broker {
    let tokens = TokenAuthenticator(Reviews {
        client: client.clone(),
    });
    let mut config = BrokerConfig::secured(
        SOURCE,
        AccessControl {
            authenticators: vec![Arc::new(tokens), Arc::new(CertAuthenticator)],
            authorizers: vec![Arc::new(Reviews {
                client: client.clone(),
            })],
        },
    );
    if let Some(options) = options {
        options.apply(&mut config);
    }
    Broker::new(config)
}

/// The data types that a hub serves as mirrors of its objects.
pub(crate) const OBJECTS: [DataType; 5] = [
    DataType::MANAGED_CLUSTERS,
    DataType::CSRS,
    DataType::LEASES,
    DataType::ADDONS_V1ALPHA1,
    DataType::ADDONS_V1BETA1,
];

struct Reviews {
    client: Client,
}

#[drover_transport::async_trait]
impl TokenReview for Reviews {
    async fn review(&self, token: &str) -> Result<Option<Caller>, AuthnError> {
        let review = authentication::TokenReview {
            spec: authentication::TokenReviewSpec {
                token: Some(token.to_owned()),
                ..Default::default()
            },
            ..Default::default()
        };
        let api: Api<authentication::TokenReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await;
        // The API's own words may quote the token: they go no further.
        let answer = answer
            .map_err(|_| AuthnError::Failed("the hub's API did not review the token".to_owned()))?;
        let status = answer.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true));
        Ok(user.map(|user| Caller {
            user: user.username.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
        }))
    }
}

#[drover_transport::async_trait]
impl Authorizer for Reviews {
    async fn authorize(&self, caller: &Caller, access: &Access) -> Decision {
        let text = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: text(&caller.user),
                groups: Some(caller.groups.clone()),
                resource_attributes: Some(ResourceAttributes {
                    verb: text(access.verb),
                    group: text(&access.group),
                    resource: text(&access.resource),
                    subresource: text(access.subresource),
                    namespace: text(&access.namespace),
                    name: text(&access.name),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        match api.create(&PostParams::default(), &review).await {
            Ok(answer) => match answer.status {
                Some(status) if status.allowed => Decision::Allow,
                Some(status) => Decision::Deny(
                    status
                        .reason
                        .unwrap_or_else(|| "no role allows it".to_owned()),
                ),
                None => Decision::Deny("the hub's API gave no answer".to_owned()),
            },
            Err(error) => Decision::Deny(format!("the hub's API cannot be asked: {error}")),
        }
    }
}
