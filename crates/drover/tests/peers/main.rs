//! The program with real peers: kubectl, Go agents, a real kube-apiserver.

mod kubectl;
mod real;
mod sdkgo;
#[path = "../it/world.rs"]
mod world;
