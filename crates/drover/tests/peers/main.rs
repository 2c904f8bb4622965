//! The program with real peers: kubectl, Go agents, a real kube-apiserver.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod kubectl;
mod real;
mod sdkgo;
#[path = "../it/world.rs"]
mod world;
