//! ManifestWork clients on CloudEvents, and clients for everything else that a hub shares with its agents.
//!
//! A client is two things: a cheap handle ([`AgentWorks`], [`AgentObjects`], [`SourceWorks`]) that reads and changes local
//! copies at once, and a [`Driver`] whose [`run`](Driver::run) keeps those copies and the other side equal for as long as
//! it runs. Spawn the driver under whatever supervises your tasks.

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
mod rate;

pub use agent::{AgentClient, AgentObjects, AgentOptions, AgentWorks};
pub use driver::{Driver, DriverConfig};
pub use drover_protocol::session::Change;
pub use drover_protocol::{DataType, Object, Work, WorkSpec, WorkStatus};
pub use error::ClientError;
pub use handle::Stats;
pub use journal::{Disk, DiskError};
pub use patch::Patch;
pub use rate::RateLimit;
pub use selector::Selector;
pub use source::{SourceClient, SourceObjects, SourceOptions, SourceWorks};
pub use watch::Watch;

#[cfg(test)]
mod tests;
