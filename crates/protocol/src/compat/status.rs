//! A status with its keys in the order of the Go structs (api work/v1 of v0.13), on which the hash of v0.13 depends.

use jiff::Timestamp;
use serde::Serialize;

use crate::meta::{is_zero, seconds};
use crate::work::{Condition, FeedbackValue, ManifestCondition, WorkStatus};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GoStatus<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conditions: Vec<GoCondition<'a>>,
    resource_status: GoResourceStatus<'a>,
}

#[derive(Serialize)]
struct GoResourceStatus<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    manifests: Vec<GoManifestCondition<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GoManifestCondition<'a> {
    resource_meta: GoMeta<'a>,
    status_feedback: GoFeedback<'a>,
    conditions: Option<Vec<GoCondition<'a>>>,
}

#[derive(Serialize)]
struct GoMeta<'a> {
    ordinal: i32,
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    resource: &'a str,
    name: &'a str,
    namespace: &'a str,
}

#[derive(Serialize)]
struct GoFeedback<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    values: Vec<GoValue<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GoValue<'a> {
    name: &'a str,
    field_value: GoField<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GoField<'a> {
    #[serde(rename = "type")]
    value_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    integer: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    string: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boolean: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    json_raw: &'a Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GoCondition<'a> {
    #[serde(rename = "type")]
    condition_type: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    observed_generation: i64,
    #[serde(serialize_with = "seconds::serialize")]
    last_transition_time: Option<Timestamp>,
    reason: &'a str,
    message: &'a str,
}

impl<'a> GoStatus<'a> {
    pub(super) fn of(status: &'a WorkStatus) -> Self {
        let manifests = &status.resource_status.manifests;
        Self {
            conditions: status.conditions.iter().map(condition).collect(),
            resource_status: GoResourceStatus {
                manifests: manifests.iter().map(manifest).collect(),
            },
        }
    }
}

fn manifest(manifest: &ManifestCondition) -> GoManifestCondition<'_> {
    let meta = &manifest.resource_meta;
    let conditions = manifest.conditions.as_ref();
    GoManifestCondition {
        resource_meta: GoMeta {
            ordinal: meta.ordinal,
            group: &meta.group,
            version: &meta.version,
            kind: &meta.kind,
            resource: &meta.resource,
            name: &meta.name,
            namespace: &meta.namespace,
        },
        status_feedback: GoFeedback {
            values: manifest.status_feedback.values.iter().map(value).collect(),
        },
        conditions: conditions.map(|list| list.iter().map(condition).collect()),
    }
}

fn value(value: &FeedbackValue) -> GoValue<'_> {
    let field = &value.field_value;
    GoValue {
        name: &value.name,
        field_value: GoField {
            value_type: &field.value_type,
            integer: field.integer,
            string: &field.string,
            boolean: field.boolean,
            json_raw: &field.json_raw,
        },
    }
}

fn condition(condition: &Condition) -> GoCondition<'_> {
    GoCondition {
        condition_type: &condition.condition_type,
        status: &condition.status,
        observed_generation: condition.observed_generation,
        last_transition_time: condition.last_transition_time,
        reason: &condition.reason,
        message: &condition.message,
    }
}
