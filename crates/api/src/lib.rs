//! What the Kubernetes objects of a fleet look like: types, names, conditions and the CRDs rendered from the types.
//!
//! The types follow the groups of Open Cluster Management and accept everything that its CRDs accept. They are lenient where the
//! wire is: a missing `spec` reads as an empty one, `null` for a list as an empty list, and unknown fields are ignored.

pub mod addon;
pub mod cluster;
pub mod conditions;
pub mod config;
pub mod crds;
pub mod fedora;
pub mod names;
mod object;
pub mod operator;
mod quantity;
mod schema;
pub mod work;

pub use k8s_openapi::apimachinery::pkg::{
    apis::meta::v1::{
        Condition, LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference, Time,
    },
    util::intstr::IntOrString,
};
pub use quantity::Quantity;

/// Reads `null` as the type's default: Go writes a nil slice or map as `null`.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::Deserialize<'de> + Default,
{
    Ok(<Option<T> as serde::Deserialize>::deserialize(deserializer)?.unwrap_or_default())
}
