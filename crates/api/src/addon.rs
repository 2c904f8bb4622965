//! Group `addon.open-cluster-management.io`: what is installed on clusters beside works.

pub mod v1alpha1;

/// The API group.
pub const GROUP: &str = "addon.open-cluster-management.io";
