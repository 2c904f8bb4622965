//! Tokens of the hub's service accounts for agents (ocm: pkg/server/services/tokenrequest).
//!
//! The answer is an event with the uid of the request. Only subscriptions of the user who asked get it.

use drover_protocol::{
    Action, CloudEvent, Codec as _, DataType, EventType, Object, ObjectCodec, SubResource,
};
use drover_runtime::clock::Clock;
use drover_transport::authn::Caller;
use drover_transport::{Broker, Service, ServiceError};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::objects::{body, kind_of, not_taken, typed};
use crate::works::refusal;

/// The service of token requests.
pub(crate) struct Tokens {
    pub client: Client,
    pub clock: Clock,
    pub broker: Broker,
}

impl Tokens {
    async fn mint(
        &self,
        caller: &Caller,
        cluster: &str,
        asked: TokenRequest,
    ) -> Result<(), ServiceError> {
        let missing = |what: &str| {
            ServiceError::bad_request(format!("the token request in the event has no {what}"))
        };
        let (name, uid) = (asked.metadata.name, asked.metadata.uid);
        let name = name
            .filter(|name| !name.is_empty())
            .ok_or_else(|| missing("name"))?;
        let uid = uid
            .filter(|uid| !uid.is_empty())
            .ok_or_else(|| missing("uid"))?;
        let request = TokenRequest {
            spec: asked.spec,
            ..TokenRequest::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), cluster);
        let mut answer = api
            .create_token_request(&name, &PostParams::default(), &request)
            .await
            .map_err(refusal)?;
        answer.metadata.name = Some(name);
        answer.metadata.namespace = Some(cluster.to_owned());
        answer.metadata.uid = Some(uid);
        let event = self.event(&answer)?;
        self.broker.publish_to(&caller.user, &event);
        Ok(())
    }

    fn event(&self, answer: &TokenRequest) -> Result<CloudEvent, ServiceError> {
        let data_type = DataType::TOKEN_REQUESTS;
        let object = Object::from_object(answer).map_err(ServiceError::internal)?;
        let codec =
            ObjectCodec::of(&data_type).ok_or_else(|| ServiceError::internal("no codec"))?;
        let kind = data_type.event(SubResource::Spec, Action::Create);
        codec
            .encode(crate::stamp(&self.clock), &kind, &object)
            .map_err(ServiceError::internal)
    }
}

#[drover_transport::async_trait]
impl Service for Tokens {
    /// There is nothing to come back to.
    async fn list(&self, _cluster: &str) -> Result<Vec<CloudEvent>, ServiceError> {
        Ok(Vec::new())
    }

    async fn receive(&self, caller: &Caller, event: CloudEvent) -> Result<(), ServiceError> {
        let kind: EventType = kind_of(&event)?;
        if kind.subresource != SubResource::Spec || kind.action != Action::Create {
            return Err(not_taken(&kind));
        }
        let cluster = event.cluster().unwrap_or_default();
        self.mint(caller, cluster, typed(body(&event)?)?).await
    }
}
