//! Types as OpenAPI documents.

use serde_json::Value;

use crate::types::Schema;

/// A served group-version-kind, as the documents need it.
#[derive(Clone, Debug)]
pub struct Described<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    pub list_kind: &'a str,
    pub plural: &'a str,
    pub namespaced: bool,
    pub verbs: &'a [&'a str],
    pub status: bool,
    pub scale: bool,
    pub schema: &'a Schema,
    /// Built-in kinds have upstream's definition names (`io.k8s.api.apps.v1.Deployment`).
    pub definition: Option<&'a str>,
}

/// The OpenAPI v3 document of one group and version.
pub fn v3(group: &str, version: &str, kinds: &[Described<'_>]) -> Value { todo!() }

/// One OpenAPI v2 document of everything.
pub fn v2(kinds: &[Described<'_>]) -> Value { todo!() }
