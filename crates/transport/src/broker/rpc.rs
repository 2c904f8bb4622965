//! The two calls: validate, authenticate, authorize, confine, then act.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use drover_protocol::{Action, CloudEvent, DataType, EventType, SubResource, names};
use futures::stream::Stream;
use prost::Message as _;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tonic::metadata::MetadataMap;
use tonic::{Code, Extensions, Request, Response, Status};

use super::metrics::count;
use super::queue::End;
use super::topics::Party;
use super::{Broker, Route, Subscribed};
use crate::authn::{AuthnError, Caller, PeerCerts, Presented, authenticate};
use crate::authz::{self, Access, Decision, SourceVerb, authorize, authorize_source};
use crate::grpc::convert::{Published, decode_publish};
use crate::grpc::proto::{self, SubscriptionRequest};
use crate::grpc::stubs::cloud_event_service_server::{CloudEventService, CloudEventServiceServer};
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
            .max_encoding_message_size(self.0.config.serving.max_sent)
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

    pub(super) async fn admit(
        &self,
        caller: &Caller,
        access: &Access,
        method: &str,
    ) -> Result<(), Status> {
        let Some(control) = &self.0.config.access else {
            return Ok(());
        };
        let said = authorize(&control.authorizers, caller, access).await;
        self.decided(said, method)
    }

    /// Whether the caller may act as a source.
    pub(super) async fn admit_source(
        &self,
        caller: &Caller,
        source: &str,
        verb: SourceVerb,
    ) -> Result<(), Status> {
        let Some(control) = &self.0.config.access else {
            return Ok(());
        };
        let said = authorize_source(&control.authorizers, caller, source, verb).await;
        self.decided(said, verb.as_str())
    }

    fn decided(&self, decision: Decision, method: &str) -> Result<(), Status> {
        let status = match decision {
            Decision::Allow => return Ok(()),
            Decision::Deny(why) => Status::permission_denied(format!("access denied: {why}")),
            Decision::NoOpinion => {
                Status::unauthenticated(format!("no authorizer found for {method}"))
            }
        };
        count(&self.0.metrics.denied);
        Err(status)
    }

    /// `whose` becomes data type and cluster, if somebody counts by them.
    async fn take(
        &self,
        request: Request<Bytes>,
        whose: &mut Option<(DataType, String)>,
    ) -> Result<(), Status> {
        let (metadata, extensions, message) = request.into_parts();
        let Published { event, message } =
            decode_publish(message).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let event_type: EventType = event.event_type.parse().map_err(|e| {
            Status::invalid_argument(format!("failed to parse cloud event type: {e}"))
        })?;
        if self.0.series.get().is_some() {
            let cluster = event.cluster().unwrap_or_default();
            *whose = Some((event_type.data_type.clone(), cluster.to_owned()));
        }
        let caller = self.caller(&metadata, &extensions).await?;
        let route = self.route_of(&event_type.data_type);
        let nobody = || {
            let data_type = &event_type.data_type;
            let why = format!("failed to find service for event type {data_type}");
            Status::invalid_argument(why)
        };
        let service = match route {
            Some(Route::Service(service)) => service,
            Some(Route::Relay) => {
                let relayed = self.relay_event(&caller, &event, &event_type, message);
                return relayed.await;
            }
            None if !authz::is_known(&event_type.data_type) => return Err(nobody()),
            None => {
                self.admit_agent(&caller, &event, &event_type).await?;
                return Err(nobody());
            }
        };
        self.admit_agent(&caller, &event, &event_type).await?;
        self.act(&caller, event, &event_type, &*service)
            .await
            .map_err(|error| Status::failed_precondition(error.to_wire()))
    }

    async fn admit_agent(
        &self,
        caller: &Caller,
        event: &CloudEvent,
        event_type: &EventType,
    ) -> Result<(), Status> {
        let access = authz::publishing(event, event_type).map_err(denied)?;
        self.admit(caller, &access, "Publish").await?;
        authz::confine(event, event_type).map_err(denied)
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
            return self.resync(event, &event_type.data_type, service).await;
        }
        service.receive(caller, event).await
    }

    /// Checks a subscription: whom it is for, and of what.
    async fn admit_subscription(
        &self,
        caller: &Caller,
        request: SubscriptionRequest,
    ) -> Result<(Party, DataType), Status> {
        let invalid = |why: String| Status::unknown(format!("invalid subscription request: {why}"));
        if request.cluster_name.is_empty() && request.source.is_empty() {
            return Err(invalid("missing cluster name".to_owned()));
        }
        let data_type: DataType = request
            .data_type
            .parse()
            .map_err(|e| invalid(format!("{e}")))?;
        let relayed = matches!(self.route_of(&data_type), Some(Route::Relay));
        if request.cluster_name.is_empty() {
            if !relayed {
                return Err(invalid(format!(
                    "missing cluster name: {data_type} has no other source than this broker"
                )));
            }
            self.admit_source(caller, &request.source, SourceVerb::Subscribe)
                .await?;
            return Ok((Party::Source(request.source), data_type));
        }
        if self.0.config.access.is_some() || !relayed {
            let access = authz::subscribing(&request.cluster_name, &data_type).map_err(denied)?;
            self.admit(caller, &access, "Subscribe").await?;
        }
        Ok((Party::Cluster(request.cluster_name), data_type))
    }
}

pub(super) fn denied(why: String) -> Status {
    Status::permission_denied(format!("access denied: {why}"))
}

#[tonic::async_trait]
impl CloudEventService for Calls {
    type SubscribeStream = Events;

    async fn publish(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let (began, mut whose) = (Instant::now(), None);
        let series = self.0.0.series.get();
        if let Some(series) = series {
            series.publish_began(request.get_ref().len());
        }
        let taken = self.0.take(request, &mut whose).await;
        if let Some(series) = series {
            let code = taken.as_ref().err().map_or(Code::Ok, Status::code);
            let whose = whose.as_ref();
            let whose = whose.map(|(data_type, cluster)| (data_type, cluster.as_str()));
            series.publish_ended(whose, code, began.elapsed());
        }
        let metrics = &self.0.0.metrics;
        count(if taken.is_ok() {
            &metrics.published
        } else {
            &metrics.publish_refused
        });
        taken.map(|()| Response::new(Bytes::new()))
    }

    async fn subscribe(&self, request: Request<Bytes>) -> Result<Response<Events>, Status> {
        let broker = &self.0;
        let (metadata, extensions, message) = request.into_parts();
        let request = SubscriptionRequest::decode(message)
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let caller = broker.caller(&metadata, &extensions).await?;
        let (party, data_type) = broker.admit_subscription(&caller, request).await?;
        let subscribed = broker.subscribe(party, &data_type, caller.user);
        let subscribed = subscribed.ok_or_else(|| {
            Status::resource_exhausted("there are too many subscriptions like this one")
        })?;
        let id = broker.next_id();
        let mut response = Response::new(Events::new(subscribed));
        let id = id
            .parse()
            .map_err(|_| Status::internal("failed to write the subscription id"))?;
        response.metadata_mut().insert("subscription-id", id);
        Ok(response)
    }
}

/// Events and heartbeats until the subscriber is cut off or leaves.
pub struct Events {
    subscribed: Option<Subscribed>,
    beats: Interval,
}

impl Events {
    fn new(subscribed: Subscribed) -> Self {
        let every = subscribed.broker.0.config.heartbeat;
        let mut beats = interval_at(Instant::now() + every, every);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            subscribed: Some(subscribed),
            beats,
        }
    }
}

impl Stream for Events {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { subscribed, beats } = &mut *self;
        let Some(open) = subscribed else {
            return Poll::Ready(None);
        };
        let metrics = &open.broker.0.metrics;
        if beats.poll_tick(cx).is_ready() {
            count(&metrics.heartbeats);
            return Poll::Ready(Some(Ok(heartbeat(open.broker.next_id()))));
        }
        let next = match open.subscriber.poll_next(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(message)) => {
                count(&metrics.sent);
                if let Some(series) = &open.series {
                    series.sent(message.len());
                }
                return Poll::Ready(Some(Ok(message)));
            }
            Poll::Ready(Err(End::TooSlow)) => Some(Err(Status::resource_exhausted(
                "too slow: subscribe again and resync",
            ))),
            Poll::Ready(Err(End::Closed)) => None,
        };
        *subscribed = None;
        Poll::Ready(next)
    }
}

fn heartbeat(id: String) -> Bytes {
    let beat = proto::CloudEvent {
        id,
        spec_version: "1.0".to_owned(),
        r#type: names::HEARTBEAT_TYPE.to_owned(),
        ..proto::CloudEvent::default()
    };
    beat.encode_to_vec().into()
}
