//! The program with real peers: kubectl, Go agents, a real kube-apiserver.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod admission;
#[path = "../it/hub.rs"]
mod hub;
#[path = "../it/judged.rs"]
mod judged;
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
#[path = "../it/world.rs"]
mod world;
