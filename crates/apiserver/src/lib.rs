//! A Kubernetes API in a library.
//!
//! One [`store::Database`] keeps many logical clusters; an [`ApiServer`](server::ApiServer) serves one of them as a
//! tower service: in process to a client, or over TLS to everyone else.

pub mod status;
pub mod store;
pub mod lifecycle;
pub mod selector;
pub mod resource;
pub mod auth;
pub mod tls;
pub mod server;
pub mod controllers;
