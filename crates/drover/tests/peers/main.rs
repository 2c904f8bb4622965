//! The program with real peers: kubectl, Go agents, a real kube-apiserver.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod admission;
mod faults;
#[path = "../it/hub.rs"]
mod hub;
#[path = "../it/judged.rs"]
mod judged;
mod csr;
mod kubectl;
mod kubernetes;
mod ocm;
mod ocm_hub;
mod ocm_mqtt;
mod placement;
#[path = "../it/placing.rs"]
mod placing;
mod real;

mod replicaset;
mod roles;
mod rollout;
mod sdkgo;
#[path = "../common/suite.rs"]
mod suite;
mod work_semantics;
#[path = "../it/rights.rs"]
mod rights;
#[path = "../it/world.rs"]
mod world;
