//! The controllers of one hub, and the gRPC CloudEvents broker backed by the hub's API.
//!
//! A hub is its Kubernetes API and nothing else: everything here can be killed at any moment, and
//! several copies may serve the broker.

mod run;
pub mod install;
mod clusters;
mod requests;
mod sets;
mod placement;
mod replicaset;
mod broker;
mod outlet;
mod works;
mod expiry;
mod source;
mod cache;
mod objects;
mod addons;
mod events;
mod tokens;
pub mod webhook;

pub use requests::Sign;
pub use run::Hub;
pub use source::WorkSource;

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The hub's API refused or did not take a write.
    #[error("failed to write {kind} {name}: {source}")]
    Write {
        /// What was written.
        kind: String,
        /// Its name.
        name: String,
        /// What the API said.
        source: Box<kube::Error>,
    },
    /// The hub's API refused or did not answer a read.
    #[error("failed to read {kind} {name}: {source}")]
    Read {
        /// What was read.
        kind: String,
        /// Its name.
        name: String,
        /// What the API said.
        source: Box<kube::Error>,
    },
    /// Agents could not be told.
    #[error("failed to send an event: {0}")]
    Tell(#[from] drover_transport::TransportError),
    /// Something that should not happen.
    #[error("{0}")]
    Internal(String),
}

impl HubError {
    fn write(kind: &str, name: impl Into<String>, source: kube::Error) -> Self {
        Self::Write {
            kind: kind.to_owned(),
            name: name.into(),
            source: Box::new(source),
        }
    }

    fn read(kind: &str, name: &str, source: kube::Error) -> Self {
        Self::Read {
            kind: kind.to_owned(),
            name: name.to_owned(),
            source: Box::new(source),
        }
    }
}

/// What every event of the hub carries.
fn stamp(clock: &drover_runtime::clock::Clock) -> drover_protocol::Stamp<'static> {
    drover_protocol::Stamp {
        id: uuid::Uuid::new_v4().to_string(),
        time: clock.now(),
        source: broker::SOURCE,
        sequence: None,
    }
}

#[cfg(test)]
mod tests;
