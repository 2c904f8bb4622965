//! Real peers for tests and benches.
//!
//! `cargo xtask ci` builds the peers and tells their folder in `DROVER_PEERS`. Tests that need them
//! live in test targets with the feature `peers`, so that nothing skips silently: without the
//! feature they are not there, and with it a missing peer is a failure.

pub mod balancer;
pub mod compat;
pub mod fleet;
pub mod kafka;
pub mod kube_api;
pub mod mosquitto;
pub mod ocm;
pub mod pki;
pub mod pod;
pub mod probe;
pub mod process;
pub mod proxy;
pub mod rabbitmq;
pub mod services;

pub use balancer::Balancer;
pub use fleet::{Fleet, eventually};
pub use kafka::{Kafka, KafkaOptions};
pub use kube_api::{KubeApi, KubeOptions};
pub use mosquitto::{Mosquitto, MosquittoOptions};
pub use probe::Probe;
pub use process::{Process, program};
pub use proxy::{Line, Proxy};
pub use rabbitmq::RabbitMq;
