//! Object metadata as it travels: the fields of a Kubernetes ObjectMeta that mean something to the other side.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::raw::Raw;

/// Metadata of an object. `managedFields` is neither kept nor sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMeta {
    /// Name.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "nullable"
    )]
    pub name: String,
    /// Prefix for a generated name.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "nullable"
    )]
    pub generate_name: String,
    /// Namespace; for a work the cluster.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "nullable"
    )]
    pub namespace: String,
    /// Identity.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "nullable"
    )]
    pub uid: String,
    /// Opaque version of the side that stores the object.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "nullable"
    )]
    pub resource_version: String,
    /// Version of the spec; 0 = unversioned.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "nullable")]
    pub generation: i64,
    /// Creation time.
    #[serde(skip_serializing_if = "Option::is_none", with = "seconds")]
    pub creation_timestamp: Option<Timestamp>,
    /// Set once deletion began; never cleared.
    #[serde(skip_serializing_if = "Option::is_none", with = "seconds")]
    pub deletion_timestamp: Option<Timestamp>,
    /// Grace period of a deletion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_grace_period_seconds: Option<i64>,
    /// Labels.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "nullable"
    )]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "nullable"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Owners, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_references: Option<Raw>,
    /// Finalizers.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub finalizers: Vec<String>,
}

impl ObjectMeta {
    /// Whether deletion began.
    pub fn deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature is serde's"
)]
pub(crate) fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Go writes `null` for what it has not: read it as the default.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Whole seconds of a time, towards the past.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    let seconds = time.as_second() - i64::from(time.subsec_nanosecond() < 0);
    Timestamp::from_second(seconds).unwrap_or(time)
}

/// Times inside Kubernetes objects: RFC 3339 in whole seconds, `null` for none.
pub(crate) mod seconds {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Timestamp, whole_seconds};

    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub(crate) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(|time| whole_seconds(time).to_string())
            .serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        let text = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.filter(|text| !text.is_empty())
            .map(|text| text.parse().map_err(serde::de::Error::custom))
            .transpose()
    }
}
