//! Sources and agents that meet here as they would at an MQTT broker: who sends, and who gets it.
//!
//! The state of a resource that waits for a slow subscriber gives way to a newer state of it from the same sender, never to
//! one from somebody else.

use bytes::Bytes;
use drover_protocol::{Action, CloudEvent, DataType, EventType, SubResource, names};
use tonic::Status;

use super::Broker;
use super::metrics::count;
use super::queue::Outgoing;
use super::rpc::denied;
use super::topics::Audience;
use crate::authn::Caller;
use crate::authz::{self, SourceVerb};

/// On whose behalf an event comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    Source,
    Agent,
}

impl Broker {
    /// Checks an event of a source or an agent and gives it to whom it is for.
    pub(super) async fn relay_event(
        &self,
        caller: &Caller,
        event: &CloudEvent,
        event_type: &EventType,
        message: Bytes,
    ) -> Result<(), Status> {
        let sender = self.sender(event, event_type);
        self.admit_relayed(caller, event, event_type, sender)
            .await?;
        let audience = audience(event, event_type, sender);
        let event = outgoing(event, event_type, sender, message);
        let subscribers = self.0.topics.of(&event_type.data_type, audience);
        if subscribers.is_empty() {
            count(&self.0.metrics.unheard);
        }
        self.hand_out(&subscribers, &event).await;
        Ok(())
    }

    fn sender(&self, event: &CloudEvent, event_type: &EventType) -> Sender {
        let data_type = &event_type.data_type;
        let asks = event_type.action == Action::ResyncRequest;
        let source = match event_type.subresource {
            SubResource::Status => asks,
            // Clusters, requests, leases and events are made by agents too.
            SubResource::Spec if asks => false,
            SubResource::Spec => {
                only_sources_specify(data_type)
                    || self.0.topics.has_source(data_type, &event.source)
            }
        };
        if source {
            Sender::Source
        } else {
            Sender::Agent
        }
    }

    async fn admit_relayed(
        &self,
        caller: &Caller,
        event: &CloudEvent,
        event_type: &EventType,
        sender: Sender,
    ) -> Result<(), Status> {
        if event.source.is_empty() && sender == Sender::Source {
            return Err(Status::invalid_argument("the event has no source"));
        }
        if self.0.config.access.is_some() {
            if sender == Sender::Source {
                self.admit_source(caller, &event.source, SourceVerb::Publish)
                    .await?;
            }
            // An answer changes what an update changes.
            let mut meant = event_type.clone();
            if meant.action == Action::ResyncResponse {
                meant.action = Action::Update;
            }
            let access = authz::publishing(event, &meant).map_err(denied)?;
            self.admit(caller, &access, "Publish").await?;
        }
        let to_all = event_type.action == Action::ResyncRequest
            && sender == Sender::Source
            && event.cluster() == Some("");
        if to_all || !authz::is_known(&event_type.data_type) {
            return Ok(());
        }
        authz::confine(event, event_type).map_err(denied)
    }
}

/// Whether agents only report on resources of this data type.
fn only_sources_specify(data_type: &DataType) -> bool {
    authz::is_work(data_type)
        || data_type.resource() == DataType::ADDONS_V1BETA1.resource()
        || !authz::is_known(data_type)
}

fn audience<'a>(event: &'a CloudEvent, event_type: &EventType, sender: Sender) -> Audience<'a> {
    if sender == Sender::Agent {
        return match event.text(names::EXT_ORIGINAL_SOURCE) {
            Ok(source) if !source.is_empty() => Audience::Source(source),
            Ok(_) | Err(_) => Audience::EverySource,
        };
    }
    match event.cluster() {
        Some("") if event_type.action == Action::ResyncRequest => Audience::EveryCluster,
        cluster => Audience::Cluster(cluster.unwrap_or_default()),
    }
}

fn outgoing(
    event: &CloudEvent,
    event_type: &EventType,
    sender: Sender,
    message: Bytes,
) -> Outgoing {
    let whole_state = event_type.action != Action::ResyncRequest
        && (sender == Sender::Source || event_type.subresource == SubResource::Status);
    let from = match sender {
        Sender::Source => &event.source,
        Sender::Agent => event.cluster().unwrap_or_default(),
    };
    match event.resource_id() {
        Some(id) if whole_state => {
            Outgoing::state(event, &format!("{}:{from}{id}", from.len()), message)
        }
        Some(_) | None => Outgoing::single(message),
    }
}

#[cfg(test)]
mod tests;
