//! Group `cluster.open-cluster-management.io`: clusters, their claims and sets, and placements.

pub mod v1;
pub mod v1alpha1;
pub mod v1beta1;
pub mod v1beta2;

/// The API group.
pub const GROUP: &str = "cluster.open-cluster-management.io";
