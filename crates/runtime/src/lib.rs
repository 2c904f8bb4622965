//! Be a good process and a good Kubernetes citizen: the one controller loop, supervised tasks,
//! caches, the clock, logging.
//!
//! This is the only library crate that reads the clock, draws random numbers or spawns tasks for
//! others. It decides nothing about fleets.

pub mod backoff;
pub mod clock;
pub mod queue;
pub mod controller;
pub mod mirror;
pub mod election;
mod http;
pub mod health;
pub mod metrics;
pub mod supervise;
pub mod telemetry;
