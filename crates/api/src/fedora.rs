//! Group `apps.fedoraproject.org`: messages for Fedora Messaging.

pub mod v1alpha1;

/// The API group.
pub const GROUP: &str = "apps.fedoraproject.org";
