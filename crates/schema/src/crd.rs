//! A custom resource definition, checked and compiled.

use std::sync::Arc;

use serde_json::Value;

use crate::{cel::Rules, field_error::FieldError, table::Column, types::Schema};

/// A definition that can be served.
#[derive(Debug)]
pub struct CustomKind {
    pub group: String,
    pub kind: String,
    pub list_kind: String,
    pub plural: String,
    pub singular: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    pub versions: Vec<Arc<Version>>,
}

/// One version of it.
#[derive(Debug)]
pub struct Version {
    pub name: String,
    pub served: bool,
    pub storage: bool,
    pub deprecated: bool,
    pub deprecation_warning: Option<String>,
    pub schema: Schema,
    pub rules: Rules,
    /// `status` subresource.
    pub status: bool,
    pub scale: Option<Scale>,
    pub columns: Vec<Column>,
    /// `selectableFields`, as JSONPath (`.spec.color`).
    pub selectable: Vec<String>,
    /// `preserveUnknownFields` at the root.
    pub preserve_unknown: bool,
}

/// Where the `scale` subresource finds its numbers (dotted JSONPath).
#[derive(Debug, Clone)]
pub struct Scale {
    pub spec_replicas: String,
    pub status_replicas: String,
    pub label_selector: Option<String>,
}

impl CustomKind {
    /// Checks and compiles a `CustomResourceDefinition` (after defaulting).
    pub fn compile(definition: &Value) -> Result<Self, Vec<FieldError>> { todo!() }
}

/// Fills in what the API server defaults in a definition (singular, listKind, conversion, …).
pub fn fill_defaults(definition: &mut Value) { todo!() }

/// What may not change between two states of a definition (`old` is stored), as causes.
pub fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> { todo!() }
