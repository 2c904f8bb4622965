//! The program as its users meet it. Needs nothing but the program.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod apiserver;
mod faults;
mod works;
mod world;
