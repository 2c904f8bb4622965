//! What a Kubernetes object may look like, and how two of them merge: types, defaulting, pruning,
//! validation, patches, server-side apply, wire codecs and printing.
//!
//! Nothing here does I/O or reads a clock. Objects are `serde_json::Value`; what is known about
//! their shape is a [`types::Schema`], whether it comes from a custom resource definition or from
//! the built-in kinds.

pub mod types;
pub mod field_error;
pub mod builtin;
pub mod structural;
pub mod crd;
pub mod prune;
pub mod default;
pub mod validate;
pub mod cel;
pub mod openapi;
pub mod jsonpath;
pub mod patch;
pub mod apply;
pub mod protobuf;
pub mod yaml;
pub mod table;
