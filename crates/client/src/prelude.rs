//! What almost every program that uses the clients needs: `use drover_client::prelude::*`.

pub use drover_protocol::meta::ObjectMeta;
pub use drover_protocol::raw::Raw;
pub use drover_protocol::work::Condition;
pub use drover_protocol::{DataType, Object, Resource, Work, WorkSpec, WorkStatus};
pub use futures::StreamExt;
pub use jiff::Timestamp;
pub use tokio_util::sync::CancellationToken;

pub use crate::{
    AgentClient, AgentObjects, AgentOptions, AgentWorks, Change, ClientError, Driver, DriverConfig,
    Patch, RateLimit, Selector, SourceClient, SourceObjects, SourceOptions, SourceWorks, Watch,
};
