//! The grammar of event types: `<group>.<version>.<resource>.<spec|status>.<action>`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// Why a type or data type cannot be read. The texts are the ones that peers print.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TypeError {
    /// Fewer than five labels.
    #[error("unsupported cloudevents type format: {0}")]
    Format(String),
    /// Neither `spec` nor `status`.
    #[error("unsupported subresource {0}")]
    SubResource(String),
    /// Fewer than three labels in a data type.
    #[error("unsupported cloudevents data type format")]
    DataType,
}

/// What kind of resource an event carries.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataType {
    group: Cow<'static, str>,
    version: Cow<'static, str>,
    resource: Cow<'static, str>,
}

impl DataType {
    /// ManifestWorks as bundles of manifests.
    pub const MANIFEST_BUNDLES: Self = Self::known(
        "io.open-cluster-management.works",
        "v1alpha1",
        "manifestbundles",
    );
    /// ManifestWorks of one manifest each; spoken from v0.13 to v0.15 only.
    pub const MANIFESTS: Self =
        Self::known("io.open-cluster-management.works", "v1alpha1", "manifests");
    /// Managed clusters.
    pub const MANAGED_CLUSTERS: Self = Self::known(
        "cluster.open-cluster-management.io",
        "v1",
        "managedclusters",
    );
    /// Add-ons of a cluster, v1alpha1.
    pub const ADDONS_V1ALPHA1: Self = Self::known(
        "addon.open-cluster-management.io",
        "v1alpha1",
        "managedclusteraddons",
    );
    /// Add-ons of a cluster, v1beta1.
    pub const ADDONS_V1BETA1: Self = Self::known(
        "addon.open-cluster-management.io",
        "v1beta1",
        "managedclusteraddons",
    );
    /// Certificate signing requests.
    pub const CSRS: Self = Self::known("certificates.k8s.io", "v1", "certificatesigningrequests");
    /// Kubernetes events.
    pub const EVENTS: Self = Self::known("events.k8s.io", "v1", "events");
    /// Leases.
    pub const LEASES: Self = Self::known("coordination.k8s.io", "v1", "leases");
    /// Requests for service account tokens.
    pub const TOKEN_REQUESTS: Self = Self::known("authentication.k8s.io", "v1", "tokenrequests");

    /// A data type known at compile time.
    pub const fn known(group: &'static str, version: &'static str, resource: &'static str) -> Self {
        Self {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            resource: Cow::Borrowed(resource),
        }
    }

    /// Group, dots included.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Plural resource name.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The type of an event of this data type.
    pub fn event(&self, subresource: SubResource, action: Action) -> EventType {
        EventType {
            data_type: self.clone(),
            subresource,
            action,
        }
    }
}

impl FromStr for DataType {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Self, TypeError> {
        let (rest, resource) = text.rsplit_once('.').ok_or(TypeError::DataType)?;
        let (group, version) = rest.rsplit_once('.').ok_or(TypeError::DataType)?;
        Ok(Self {
            group: Cow::Owned(group.to_owned()),
            version: Cow::Owned(version.to_owned()),
            resource: Cow::Owned(resource.to_owned()),
        })
    }
}

impl fmt::Debug for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.group, self.version, self.resource)
    }
}

/// Which half of a resource an event speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubResource {
    /// Desired state.
    Spec,
    /// Observed state.
    Status,
}

impl SubResource {
    /// The wire word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spec => "spec",
            Self::Status => "status",
        }
    }
}

/// What the sender wants. Any single label is legal on the wire.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Ask the other side for what differs.
    ResyncRequest,
    /// One answer to a resync request.
    ResyncResponse,
    /// Create.
    Create,
    /// Update.
    Update,
    /// Delete.
    Delete,
    /// Never sent; the verb of a subscription.
    Watch,
    /// A word this version does not know.
    Other(Box<str>),
}

impl Action {
    /// The wire word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::ResyncRequest => "resync_request",
            Self::ResyncResponse => "resync_response",
            Self::Create => "create_request",
            Self::Update => "update_request",
            Self::Delete => "delete_request",
            Self::Watch => "watch_request",
            Self::Other(word) => word,
        }
    }
}

impl From<&str> for Action {
    fn from(word: &str) -> Self {
        match word {
            "resync_request" => Self::ResyncRequest,
            "resync_response" => Self::ResyncResponse,
            "create_request" => Self::Create,
            "update_request" => Self::Update,
            "delete_request" => Self::Delete,
            "watch_request" => Self::Watch,
            other => Self::Other(other.into()),
        }
    }
}

/// A parsed event type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType {
    /// Kind of resource.
    pub data_type: DataType,
    /// Half of the resource.
    pub subresource: SubResource,
    /// What is asked.
    pub action: Action,
}

impl FromStr for EventType {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Self, TypeError> {
        let format = || TypeError::Format(text.to_owned());
        if text.split('.').count() < 5 {
            return Err(format());
        }
        let (rest, action) = text.rsplit_once('.').ok_or_else(format)?;
        let (data_type, subresource) = rest.rsplit_once('.').ok_or_else(format)?;
        let subresource = match subresource {
            "spec" => SubResource::Spec,
            "status" => SubResource::Status,
            other => return Err(TypeError::SubResource(other.to_owned())),
        };
        Ok(Self {
            data_type: data_type.parse()?,
            subresource,
            action: action.into(),
        })
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{}.{}",
            self.data_type,
            self.subresource.as_str(),
            self.action.as_str()
        )
    }
}
