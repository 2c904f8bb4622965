//! Group `work.open-cluster-management.io`: what the hub wants in a cluster, and what became of it.

pub mod v1;
pub mod v1alpha1;

/// The API group.
pub const GROUP: &str = "work.open-cluster-management.io";
