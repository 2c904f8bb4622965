//! The ways by which agents hear of the works of a hub.

use std::time::Duration;

use drover_protocol::CloudEvent;
use drover_transport::{Broker, TransportError};

/// One way. An event that it took reaches every agent that listens, or the agent asks what it missed when it comes back.
#[drover_transport::async_trait]
pub(crate) trait Outlet: Send + Sync + 'static {
    /// As whom the hub speaks there.
    fn source(&self) -> &str;

    /// How often the order to delete is repeated until the last word of the agent came, where that word can be lost.
    fn repeat(&self) -> Option<Duration> {
        None
    }

    /// Waits until events can be told: what is told must be read after that.
    async fn ready(&self);

    /// Tells.
    async fn tell(&self, event: CloudEvent) -> Result<(), TransportError>;
}

#[drover_transport::async_trait]
impl Outlet for Broker {
    fn source(&self) -> &str {
        crate::broker::SOURCE
    }

    async fn ready(&self) {}

    async fn tell(&self, event: CloudEvent) -> Result<(), TransportError> {
        self.publish(event);
        Ok(())
    }
}
