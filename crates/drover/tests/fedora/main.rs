//! FedoraMessages from the resource to the broker: the program with a real RabbitMQ, on both APIs, beside the Python command.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod command;
mod copies;
mod crashes;
mod embedded;
mod faults;
mod node;
mod python;
mod real;
mod stage;
