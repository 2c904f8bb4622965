//! The two calls: validate, authenticate, authorize, confine, then act.

use std::pin::Pin;
use std::sync::Arc;

use drover_protocol::{Action, CloudEvent, DataType, EventType, SubResource, names};
use futures::stream::{self, Stream, StreamExt as _};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Request, Response, Status};

use super::queue::End;
use super::{Broker, Subscribed, count};
use crate::authn::{AuthnError, Caller, PeerCerts, Presented, authenticate};
use crate::authz::{self, Access, Decision, authorize};
use crate::grpc::convert::{from_proto, to_proto};
use crate::grpc::proto::cloud_event_service_server::{CloudEventService, CloudEventServiceServer};
use crate::grpc::proto::{self, PublishRequest, SubscriptionRequest};
use crate::service::{Service, ServiceError};

/// The event service as a tower service, to be embedded in any HTTP/2 server.
pub type EventService = CloudEventServiceServer<Calls>;

/// The calls of the event service.
#[derive(Clone)]
pub struct Calls(Broker);

impl Broker {
    /// The event service. Servers that terminate TLS themselves put [`PeerCerts`] into the extensions of requests.
    pub fn service(&self) -> EventService {
        CloudEventServiceServer::new(Calls(self.clone()))
            .max_decoding_message_size(self.0.config.max_message)
            .max_encoding_message_size(usize::MAX)
    }

    async fn caller(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
    ) -> Result<Caller, Status> {
        let Some(access) = &self.0.config.access else {
            return Ok(Caller::default());
        };
        let token = metadata
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        let token = token.map(|token| {
            token
                .strip_prefix("Bearer ")
                .unwrap_or(token)
                .trim()
                .to_owned()
        });
        let certs = extensions.get::<PeerCerts>().cloned().unwrap_or_default();
        let presented = Presented {
            token: token.filter(|token| !token.is_empty()),
            certs,
        };
        authenticate(&access.authenticators, &presented)
            .await
            .map_err(|error| {
                count(&self.0.metrics.unauthenticated);
                match error {
                    AuthnError::Unauthenticated(why) => Status::unauthenticated(why),
                    AuthnError::Failed(_) => Status::unavailable(error.to_string()),
                }
            })
    }

    async fn admit(&self, caller: &Caller, access: &Access, method: &str) -> Result<(), Status> {
        let Some(control) = &self.0.config.access else {
            return Ok(());
        };
        let status = match authorize(&control.authorizers, caller, access).await {
            Decision::Allow => return Ok(()),
            Decision::Deny(why) => Status::permission_denied(format!("access denied: {why}")),
            Decision::NoOpinion => {
                Status::unauthenticated(format!("no authorizer found for {method}"))
            }
        };
        count(&self.0.metrics.denied);
        Err(status)
    }

    async fn take(&self, request: Request<PublishRequest>) -> Result<(), Status> {
        let (metadata, extensions, message) = request.into_parts();
        let message = message
            .event
            .ok_or_else(|| Status::invalid_argument("the request has no event"))?;
        let event = from_proto(message).map_err(|e| {
            Status::invalid_argument(format!("failed to convert protobuf to cloudevent: {e}"))
        })?;
        let event_type: EventType = event.event_type.parse().map_err(|e| {
            Status::invalid_argument(format!("failed to parse cloud event type: {e}"))
        })?;
        let caller = self.caller(&metadata, &extensions).await?;
        let denied = |why: String| Status::permission_denied(format!("access denied: {why}"));
        let service = self.service_of(&event_type.data_type);
        if service.is_none() && !authz::is_known(&event_type.data_type) {
            let why = format!(
                "failed to find service for event type {}",
                event_type.data_type
            );
            return Err(Status::invalid_argument(why));
        }
        let access = authz::publishing(&event, &event_type).map_err(denied)?;
        self.admit(&caller, &access, "Publish").await?;
        authz::confine(&event, &event_type).map_err(denied)?;
        let service = service.ok_or_else(|| {
            Status::invalid_argument(format!(
                "failed to find service for event type {}",
                event_type.data_type
            ))
        })?;
        self.act(&caller, event, &event_type, &*service)
            .await
            .map_err(|error| Status::failed_precondition(error.to_wire()))
    }

    async fn act(
        &self,
        caller: &Caller,
        event: CloudEvent,
        event_type: &EventType,
        service: &dyn Service,
    ) -> Result<(), ServiceError> {
        if event_type.action == Action::ResyncRequest {
            if event_type.subresource == SubResource::Status {
                return Err(ServiceError::bad_request(
                    "agents ask for specs, not for statuses",
                ));
            }
            return self.resync(&event, &event_type.data_type, service).await;
        }
        service.receive(caller, event).await
    }
}

#[tonic::async_trait]
impl CloudEventService for Calls {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<proto::CloudEvent, Status>> + Send>>;

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<()>, Status> {
        let taken = self.0.take(request).await;
        let metrics = &self.0.0.metrics;
        count(if taken.is_ok() {
            &metrics.published
        } else {
            &metrics.publish_refused
        });
        taken.map(Response::new)
    }

    async fn subscribe(
        &self,
        request: Request<SubscriptionRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let broker = &self.0;
        let (metadata, extensions, message) = request.into_parts();
        let caller = broker.caller(&metadata, &extensions).await?;
        if message.cluster_name.is_empty() {
            return Err(Status::unknown(
                "invalid subscription request: missing cluster name",
            ));
        }
        let data_type: DataType = message
            .data_type
            .parse()
            .map_err(|e| Status::unknown(format!("invalid subscription request: {e}")))?;
        let denied = |why: String| Status::permission_denied(format!("access denied: {why}"));
        let access = authz::subscribing(&message.cluster_name, &data_type).map_err(denied)?;
        broker.admit(&caller, &access, "Subscribe").await?;
        let subscribed = broker
            .subscribe(&message.cluster_name, &data_type)
            .ok_or_else(|| {
                Status::resource_exhausted(
                    "the cluster has too many subscriptions of this data type",
                )
            })?;
        let id = broker.next_id();
        let mut response = Response::new(events(subscribed));
        let id = id
            .parse()
            .map_err(|_| Status::internal("failed to write the subscription id"))?;
        response.metadata_mut().insert("subscription-id", id);
        Ok(response)
    }
}

/// Events and heartbeats until the subscriber is cut off or leaves.
fn events(subscribed: Subscribed) -> <Calls as CloudEventService>::SubscribeStream {
    let every = subscribed.broker.0.config.heartbeat;
    let mut beats = interval_at(Instant::now() + every, every);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    stream::unfold(Some((subscribed, beats)), |state| async move {
        let (subscribed, mut beats) = state?;
        let metrics = &subscribed.broker.0.metrics;
        tokio::select! {
            biased;
            _ = beats.tick() => {
                count(&metrics.heartbeats);
                let beat = heartbeat(subscribed.broker.next_id());
                Some((Ok(beat), Some((subscribed, beats))))
            }
            next = subscribed.subscriber.next() => match next {
                Ok(event) => {
                    count(&metrics.sent);
                    let message = to_proto(&Arc::unwrap_or_clone(event));
                    Some((Ok(message), Some((subscribed, beats))))
                }
                Err(End::TooSlow) => {
                    let status = Status::resource_exhausted("too slow: subscribe again and resync");
                    Some((Err(status), None))
                }
                Err(End::Closed) => None,
            },
        }
    })
    .boxed()
}

fn heartbeat(id: String) -> proto::CloudEvent {
    proto::CloudEvent {
        id,
        spec_version: "1.0".to_owned(),
        r#type: names::HEARTBEAT_TYPE.to_owned(),
        ..proto::CloudEvent::default()
    }
}
