//! The program as its users meet it, and its parts in one process. Needs nothing but the program.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod admission;
mod apiserver;
mod faults;
mod fleet;
mod hub;
mod judged;
mod kinds;
mod placement;
mod placing;
mod replicasets;
mod proxied;
mod registration;
mod rights;
mod serving;
mod source;
mod status;
#[path = "../common/suite.rs"]
mod suite;
mod works;
mod world;
