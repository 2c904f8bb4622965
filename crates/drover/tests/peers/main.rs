//! The program with real peers: kubectl, Go agents, a real kube-apiserver.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

#[path = "../it/hub.rs"]
mod hub;
mod kubectl;
mod ocm;
mod ocm_hub;
mod ocm_mqtt;
mod placement;
#[path = "../it/placing.rs"]
mod placing;
mod real;
mod roles;
mod sdkgo;
#[path = "../it/world.rs"]
mod world;
