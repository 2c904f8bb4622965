//! The program with real peers: kubectl, Go agents, a real kube-apiserver.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

#[path = "../it/hub.rs"]
mod hub;
mod kubectl;
mod kubernetes;
mod ocm;
mod ocm_hub;
mod ocm_mqtt;
mod real;
mod roles;
mod sdkgo;
#[path = "../common/suite.rs"]
mod suite;
#[path = "../it/world.rs"]
mod world;
