//! The root of an API object: `apiVersion`, `kind`, `metadata`, `spec` and, for most kinds, `status`.
//!
//! A derive would make a missing `spec` an error, which would make one odd object break the list that holds it.

/// Declares one kind: the struct, its place in the API, and how it reads and writes. A kind without `spec` has only a status.
macro_rules! resource {
    (
        $(#[$doc:meta])*
        $kind:ident { group: $group:literal, version: $version:literal, plural: $plural:literal, scope: $scope:ident, spec: $spec:ty, status: $status:ty $(,)? }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $kind {
            /// Standard object metadata.
            pub metadata: $crate::ObjectMeta,
            /// What is wanted.
            pub spec: $spec,
            /// What is observed; written through the status subresource.
            pub status: Option<$status>,
        }

        impl $crate::object::Shape for $kind {
            const DOC: &'static [&'static str] = &[$(stringify!($doc)),*];
            fn spec_schema(generator: &mut schemars::SchemaGenerator) -> Option<schemars::Schema> {
                Some(generator.subschema_for::<$spec>())
            }
            fn status_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                generator.subschema_for::<$status>()
            }
        }

        impl kube::core::object::HasSpec for $kind {
            type Spec = $spec;
            fn spec(&self) -> &$spec {
                &self.spec
            }
            fn spec_mut(&mut self) -> &mut $spec {
                &mut self.spec
            }
        }

        impl $kind {
            /// An object of this name that wants `spec`, with no status.
            pub fn new(name: &str, spec: $spec) -> Self {
                Self { metadata: $crate::ObjectMeta { name: Some(name.to_owned()), ..Default::default() }, spec, status: None }
            }
        }

        impl serde::Serialize for $kind {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::object::Written {
                    api_version: concat!($group, "/", $version),
                    kind: stringify!($kind),
                    metadata: &self.metadata,
                    spec: Some(&self.spec),
                    status: self.status.as_ref(),
                }
                .serialize(serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $kind {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let read = <$crate::object::Read<$spec, $status> as serde::Deserialize>::deserialize(deserializer)?;
                Ok(Self { metadata: read.metadata, spec: read.spec, status: read.status })
            }
        }

        $crate::object::resource!(@place $kind, $group, $version, $plural, $scope, $status);
    };
    (
        $(#[$doc:meta])*
        $kind:ident { group: $group:literal, version: $version:literal, plural: $plural:literal, scope: $scope:ident, status: $status:ty $(,)? }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $kind {
            /// Standard object metadata.
            pub metadata: $crate::ObjectMeta,
            /// What is said; written through the status subresource.
            pub status: Option<$status>,
        }

        impl $crate::object::Shape for $kind {
            const DOC: &'static [&'static str] = &[$(stringify!($doc)),*];
            fn spec_schema(_: &mut schemars::SchemaGenerator) -> Option<schemars::Schema> {
                None
            }
            fn status_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                generator.subschema_for::<$status>()
            }
        }

        impl serde::Serialize for $kind {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::object::Written::<(), $status> {
                    api_version: concat!($group, "/", $version),
                    kind: stringify!($kind),
                    metadata: &self.metadata,
                    spec: None,
                    status: self.status.as_ref(),
                }
                .serialize(serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $kind {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let read = <$crate::object::Read<$crate::object::Ignored, $status> as serde::Deserialize>::deserialize(deserializer)?;
                Ok(Self { metadata: read.metadata, status: read.status })
            }
        }

        $crate::object::resource!(@place $kind, $group, $version, $plural, $scope, $status);
    };
    (@place $kind:ident, $group:literal, $version:literal, $plural:literal, $scope:ident, $status:ty) => {
        impl kube::core::object::HasStatus for $kind {
            type Status = $status;
            fn status(&self) -> Option<&$status> {
                self.status.as_ref()
            }
            fn status_mut(&mut self) -> &mut Option<$status> {
                &mut self.status
            }
        }

        impl kube::Resource for $kind {
            type DynamicType = ();
            type Scope = kube::core::$scope;
            fn kind(_: &()) -> std::borrow::Cow<'_, str> {
                stringify!($kind).into()
            }
            fn group(_: &()) -> std::borrow::Cow<'_, str> {
                $group.into()
            }
            fn version(_: &()) -> std::borrow::Cow<'_, str> {
                $version.into()
            }
            fn plural(_: &()) -> std::borrow::Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &$crate::ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut $crate::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}
pub(crate) use resource;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize, de::IgnoredAny};

/// The schemas of the two halves of a kind.
pub(crate) trait Shape {
    /// The doc attributes of the kind, as the compiler prints them.
    const DOC: &'static [&'static str];
    /// None: the kind has no spec.
    fn spec_schema(generator: &mut schemars::SchemaGenerator) -> Option<schemars::Schema>;
    fn status_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema;
}

/// The stand-in for the status of a kind that has none: never written, ignored when read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, schemars::JsonSchema)]
pub struct NoStatus {}

/// A part that is not looked at, whatever it is.
#[derive(Default)]
pub(crate) struct Ignored;

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl<'de> Deserialize<'de> for NoStatus {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self {})
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Written<'o, S, T> {
    pub(crate) api_version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) metadata: &'o ObjectMeta,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spec: Option<&'o S>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<&'o T>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "S: Deserialize<'de> + Default, T: Deserialize<'de>"))]
pub(crate) struct Read<S, T> {
    #[serde(default)]
    pub(crate) metadata: ObjectMeta,
    #[serde(default, deserialize_with = "crate::null_as_default")]
    pub(crate) spec: S,
    #[serde(default = "Option::default")]
    pub(crate) status: Option<T>,
}
