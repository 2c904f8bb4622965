//! Drover's clients with those of OCM's Go library, through real brokers.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod bed;
mod ends;
mod garbage;
mod hub;
mod kinds;
mod matrix;
mod scenarios;
mod vectors;
mod world;
