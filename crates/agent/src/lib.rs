//! Make one cluster match its works, and report.
//!
//! [`registration::run`] is a whole agent: it joins its hub over the hub's event service, stays joined, and runs the work
//! agent for as long as the hub lets it in. [`registration::run_works`] is a work agent and nothing else.

pub mod cluster_status;
pub mod registration;
pub mod work;

pub use registration::{
    AgentError, AgentOptions, Bootstrap, Endpoint, HubEndpoint, KubeEndpoint, Tuning, WorkOptions,
    run, run_works,
};
