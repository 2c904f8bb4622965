//! `apps.fedoraproject.org/v1alpha1` (the proposal of a Fedora Message Publisher Operator: names in snake case are its own;
//! what it does not name follows Kubernetes).

use crate::{Condition, Time, null_as_default, object::resource, schema::conditions_map};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

resource! {
    /// One message for Fedora Messaging. It is sent once; the status says what became of it.
    FedoraMessage {
        group: "apps.fedoraproject.org", version: "v1alpha1", plural: "fedoramessages", scope: NamespaceResourceScope,
        spec: FedoraMessageSpec, status: FedoraMessageStatus,
    }
}

/// What is sent, where to, and as whom.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub struct FedoraMessageSpec {
    /// Which Fedora Messaging.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(extend("x-required" = true))]
    pub env: Environment,
    /// The message.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(extend("x-required" = true))]
    pub message: Message,
    /// In whose name.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(extend("x-required" = true))]
    pub authentication: Authentication,
    /// Nothing is sent while this is true.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "is_false"
    )]
    pub suspend: bool,
    /// Seconds after the creation until which it is tried; 3600 when absent.
    #[serde(
        default,
        alias = "deadlineSeconds",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1, max = 2_592_000))]
    pub deadline_seconds: Option<u32>,
    /// How often it is tried; 5 when absent.
    #[serde(
        default,
        alias = "maxAttempts",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 1, max = 20))]
    pub max_attempts: Option<u32>,
    /// Seconds after the end until the resource is deleted; it stays when absent.
    #[serde(
        default,
        alias = "ttlSecondsAfterFinished",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub ttl_seconds_after_finished: Option<u32>,
}

/// A Fedora Messaging.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// The one for trying things out.
    #[default]
    Stg,
    /// The real one.
    Prod,
}

impl Environment {
    /// The text on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stg => "stg",
            Self::Prod => "prod",
        }
    }
}

/// What is sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub struct Message {
    /// Words separated by dots; the prefix of the environment is put before it.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(length(min = 1, max = 255), extend("x-required" = true))]
    pub topic: String,
    /// Headers beside those of the library: text, whole numbers, or true and false.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Map::is_empty"
    )]
    #[schemars(schema_with = "headers")]
    pub headers: Map<String, Value>,
    /// Any JSON object.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(schema_with = "any_object")]
    pub body: Map<String, Value>,
    /// How important it is; info when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// The name of its schema; base.message when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub schema: Option<String>,
    /// The Python package that has the schema, as its users install it; the one of base.message when absent.
    #[serde(
        default,
        alias = "schemaPackage",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(min = 1, max = 255))]
    pub schema_package: Option<String>,
    /// 0 (usual) to 9 (first).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9))]
    pub priority: Option<u8>,
    /// A UUID of your own, under which receivers know the message again; derived from the resource when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"))]
    pub id: Option<String>,
}

/// How important a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For developers.
    Debug,
    /// Usual.
    Info,
    /// Something may be wrong.
    Warning,
    /// Something is wrong.
    Error,
}

/// In whose name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub struct Authentication {
    /// The secret with `ca`, `cert` and `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// The same in the spelling of Kubernetes; one of the two is given.
    #[serde(default, rename = "secretRef", skip_serializing_if = "Option::is_none")]
    pub secret_ref_camel: Option<SecretRef>,
}

impl Authentication {
    /// The secret, in whichever spelling.
    pub fn secret(&self) -> Option<&SecretRef> {
        self.secret_ref.as_ref().or(self.secret_ref_camel.as_ref())
    }
}

/// A secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub struct SecretRef {
    /// Its name.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(length(min = 1, max = 253), extend("x-required" = true, "pattern" = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"))]
    pub name: String,
    /// Its namespace; that of the message when absent. Another one must allow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), extend("pattern" = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: Option<String>,
}

/// What became of the message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FedoraMessageStatus {
    /// The condition FedoraMessageSent.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(schema_with = "conditions_map")]
    pub conditions: Vec<Condition>,
    /// The type of the condition, for those who read the flat form.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// Whether it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<bool>,
    /// The reason of the condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The message of the condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The generation that all this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Hash of what is sent, where to and as whom, fixed before the first attempt: other fields of the spec may change later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec_hash: Option<String>,
    /// The id under which it is sent, fixed before the first attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The time that it carries, fixed before the first attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Time>,
    /// The topic with the prefix of the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// How often it was tried.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "is_zero"
    )]
    pub attempts: u32,
    /// How many of the attempts may have delivered it although they were not confirmed.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "is_zero"
    )]
    pub uncertain_attempts: u32,
    /// When it was tried last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt_time: Option<Time>,
    /// When it was sent or given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// The pod of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_pod: Option<String>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over references"
)]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over references"
)]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object", "x-kubernetes-preserve-unknown-fields": true, "x-required": true,
    })
}

fn headers(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": { "x-kubernetes-preserve-unknown-fields": true },
    })
}
