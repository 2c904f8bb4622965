//! What stands behind a broker: one service per data type, and how its errors travel.

use serde::{Deserialize, Serialize};
#[cfg(feature = "grpc")]
use {
    crate::authn::Caller, crate::broker::Listing, drover_protocol::CloudEvent,
    drover_protocol::resync::Versions,
};

/// The owner of the resources of one data type.
///
/// The broker has checked that the caller may do it and that the names in the payload are those of the event's cluster.
/// A uid alone is not proof: a service must look a resource up in the event's cluster, never across clusters.
#[cfg(feature = "grpc")]
#[crate::async_trait]
pub trait Service: Send + Sync + 'static {
    /// Every resource of a cluster as a spec event (any action; resources in deletion with their deletion timestamp).
    async fn list(&self, cluster: &str) -> Result<Vec<CloudEvent>, ServiceError>;

    /// Takes an event of an agent.
    async fn receive(&self, caller: &Caller, event: CloudEvent) -> Result<(), ServiceError>;

    /// What an agent that holds `known` must be considered for: everything, unless a service can do with less. The answer
    /// must name every resource that exists, or the agent is told to delete it: [`Listing::unchanged`] names without sending.
    async fn resync(&self, cluster: &str, known: &Versions) -> Result<Listing, ServiceError> {
        let _everything_is_listed = known;
        Ok(Listing {
            events: self.list(cluster).await?,
            unchanged: Vec::new(),
        })
    }
}

/// A refusal in the words of the Kubernetes API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ServiceError {
    #[serde(skip_deserializing)]
    metadata: NoMetadata,
    #[serde(skip_deserializing)]
    status: Failure,
    /// For people.
    #[serde(default)]
    pub message: String,
    /// For programs, such as `NotFound`.
    #[serde(default)]
    pub reason: String,
    /// Which resource, and causes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<serde_json::Value>,
    /// HTTP status code.
    #[serde(default)]
    pub code: u16,
}

/// A status object has metadata, and there is nothing in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct NoMetadata {}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
enum Failure {
    #[default]
    Failure,
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    #[serde(rename = "ErrStatus")]
    status: T,
}

impl ServiceError {
    /// A refusal.
    pub fn new(code: u16, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            metadata: NoMetadata {},
            status: Failure::Failure,
            message: message.into(),
            reason: reason.into(),
            details: None,
            code,
        }
    }

    /// The server failed; trying again may help.
    pub fn internal(error: impl std::fmt::Display) -> Self {
        Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {error}"),
        )
    }

    /// A request that can never succeed.
    pub fn bad_request(why: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", why)
    }

    /// A resource is not there.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let mut error = Self::new(
            404,
            "NotFound",
            format!("{resource}.{group} \"{name}\" not found"),
        );
        error.details = Some(serde_json::json!({"name": name, "group": group, "kind": resource}));
        error
    }

    /// From a whole Kubernetes status object.
    pub fn from_status(status: &impl Serialize) -> Self {
        serde_json::to_value(status)
            .and_then(serde_json::from_value)
            .unwrap_or_else(|error| Self::internal(format!("failed to read a status: {error}")))
    }

    /// Whether the same request may succeed later.
    pub fn retryable(&self) -> bool {
        matches!(self.code, 0 | 409 | 429 | 500..)
    }

    /// The text in which the refusal travels.
    pub fn to_wire(&self) -> String {
        serde_json::to_string(&Envelope { status: self })
            .unwrap_or_else(|_| format!("{{\"ErrStatus\":{{\"code\":{}}}}}", self.code))
    }

    /// Reads the text of a peer; `None` when it is no refusal.
    pub fn from_wire(text: &str) -> Option<Self> {
        serde_json::from_str::<Envelope<Self>>(text)
            .ok()
            .map(|envelope| envelope.status)
    }
}
