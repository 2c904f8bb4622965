//! Clients for works, and for everything else that a hub and its clusters share, in programs of one's own.
//!
#![doc = include_str!("../../../docs/client.md")]

pub mod prelude;
pub mod driver;
pub mod watch;
pub mod error;
pub mod agent;
pub mod source;
mod handle;
pub mod journal;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod patch;
pub mod selector;
pub mod span;
mod rate;

pub use agent::{AgentClient, AgentObjects, AgentOptions, AgentWorks};
pub use driver::{Driver, DriverConfig};
pub use drover_protocol as protocol;
pub use drover_protocol::session::Change;
pub use drover_protocol::{DataType, Object, TraceContext, Work, WorkSpec, WorkStatus};
pub use drover_transport as transport;
pub use error::ClientError;
pub use handle::Stats;
pub use journal::{Disk, DiskError};
pub use patch::Patch;
pub use rate::RateLimit;
pub use selector::Selector;
pub use source::{SourceClient, SourceObjects, SourceOptions, SourceWorks};
pub use watch::Watch;

#[cfg(test)]
#[cfg(feature = "grpc")]
mod tests;
