//! The built-in kinds: what they are called, how they are shaped, defaulted, validated and printed.

use serde_json::Value;

use crate::{field_error::FieldError, table::Column, types::Schema};

/// A built-in kind in one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub namespaced: bool,
    /// Whether objects are stored (reviews are not).
    pub stored: bool,
    /// `status` subresource.
    pub status: bool,
    /// `scale` subresource.
    pub scale: bool,
    /// Other subresources (`approval`, `token`, `binding`, `eviction`, `finalize`).
    pub subresources: &'static [&'static str],
    /// Upstream's definition name (`io.k8s.api.apps.v1.Deployment`).
    pub definition: &'static str,
    /// Whether `metadata.generation` counts changes of anything but metadata and status.
    pub generation: bool,
}

/// All of them.
pub fn kinds() -> &'static [Kind] { todo!() }

impl Kind {
    /// Its shape; all kinds share one arena.
    pub fn schema(&self) -> Schema { todo!() }
    /// Fills in what the API server defaults.
    pub fn fill_defaults(&self, object: &mut Value) { todo!() }
    /// What the API server does to a new object before it validates (drops status, counts generation, spec of CSR, …).
    pub fn prepare_create(&self, object: &mut Value) { todo!() }
    /// The same for an update: what the main endpoint may not change is restored from `old`.
    pub fn prepare_update(&self, new: &mut Value, old: &Value) { todo!() }
    /// What is wrong with a new object (names and metadata are checked by the server).
    pub fn validate_create(&self, object: &Value) -> Vec<FieldError> { todo!() }
    /// What is wrong with a change, immutable fields above all.
    pub fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> { todo!() }
    /// How a name must look: an RFC 1123 label, subdomain, RFC 1035 label, or a path segment.
    pub fn validate_name(&self, name: &str) -> Vec<FieldError> { todo!() }
    /// Fields that selectors may name beside `metadata.name` and `metadata.namespace`.
    pub fn selectable_fields(&self) -> &'static [&'static str] { todo!() }
    /// Columns for people.
    pub fn columns(&self) -> Vec<Column> { todo!() }
    /// One row.
    pub fn cells(&self, object: &Value, now: i64) -> Vec<Value> { todo!() }
}
