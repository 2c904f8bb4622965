//! Every data type that travels as a whole Kubernetes object: clusters, leases, signing requests, add-ons, events, tokens.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::cloudevent::CloudEvent;
use crate::codec::{Codec, DecodeError, EncodeError, Keeping, Resource, Stamp, deletion};
use crate::eventtype::{DataType, EventType};
use crate::meta::ObjectMeta;
use crate::names;
use crate::raw::go_json;
use crate::work::hex;

/// A whole object: its metadata parsed beside the JSON of all of it. The parsed metadata is the truth and is written back
/// over the common fields when the object is encoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object {
    /// Metadata.
    pub metadata: ObjectMeta,
    body: Map<String, Value>,
}

impl Object {
    /// Takes any value that serialises as an object with metadata.
    pub fn from_object(object: &impl Serialize) -> Result<Self, serde_json::Error> {
        Self::from_value(serde_json::to_value(object)?)
    }

    /// Takes a JSON object.
    pub fn from_value(value: Value) -> Result<Self, serde_json::Error> {
        let body: Map<String, Value> = serde_json::from_value(value)?;
        let metadata = match body.get("metadata") {
            Some(metadata) => serde_json::from_value(metadata.clone())?,
            None => ObjectMeta::default(),
        };
        Ok(Self { metadata, body })
    }

    /// The whole object as JSON.
    pub fn to_value(&self) -> Result<Value, serde_json::Error> {
        let mut body = self.body.clone();
        let mut metadata = match body.remove("metadata") {
            Some(Value::Object(metadata)) => metadata,
            Some(_) | None => Map::new(),
        };
        for key in ["deletionTimestamp", "finalizers", "labels", "annotations"] {
            metadata.remove(key);
        }
        if let Value::Object(fields) = serde_json::to_value(&self.metadata)? {
            metadata.extend(fields);
        }
        body.insert("metadata".to_owned(), Value::Object(metadata));
        Ok(Value::Object(body))
    }

    /// Builds a typed object.
    pub fn to_object<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_value(self.to_value()?)
    }

    /// A field beside the metadata.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.body.get(name)
    }
}

impl Serialize for Object {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = self.to_value().map_err(serde::ser::Error::custom)?;
        value.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::from_value(value).map_err(serde::de::Error::custom)
    }
}

impl Resource for Object {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn status_hash(&self) -> Option<String> {
        let status = self.body.get("status")?;
        go_json(status)
            .ok()
            .map(|canonical| hex(&Sha256::digest(&canonical)))
    }

    fn adopt_status(&mut self, from: &Self) {
        match from.body.get("status") {
            Some(status) => self.body.insert("status".to_owned(), status.clone()),
            None => self.body.remove("status"),
        };
    }

    fn same_status(&self, other: &Self) -> bool {
        self.body.get("status") == other.body.get("status")
    }

    fn is_gone(&self) -> bool {
        false
    }

    fn mark_gone(&mut self, _now: Timestamp) {}
}

/// The codec of one whole-object data type.
#[derive(Clone, Debug)]
pub struct ObjectCodec {
    data_type: DataType,
    type_meta: Option<(String, &'static str)>,
}

impl ObjectCodec {
    /// The codec of a data type that peers know, `None` for others (and for bundles, which have codecs of their own).
    pub fn of(data_type: &DataType) -> Option<Self> {
        let kind = match (data_type.group(), data_type.resource()) {
            ("cluster.open-cluster-management.io", "managedclusters") => Some("ManagedCluster"),
            ("addon.open-cluster-management.io", "managedclusteraddons") => {
                Some("ManagedClusterAddOn")
            }
            ("certificates.k8s.io", "certificatesigningrequests") => {
                Some("CertificateSigningRequest")
            }
            ("events.k8s.io", "events") => Some("Event"),
            ("coordination.k8s.io", "leases") => Some("Lease"),
            ("authentication.k8s.io", "tokenrequests") => None,
            _ => return None,
        };
        let api_version = format!("{}/{}", data_type.group(), data_type.version());
        Some(Self {
            data_type: data_type.clone(),
            type_meta: kind.map(|kind| (api_version, kind)),
        })
    }

    /// The cluster that an object belongs to, by the rule of its data type.
    pub fn cluster<'a>(data_type: &DataType, meta: &'a ObjectMeta) -> Result<&'a str, EncodeError> {
        let (cluster, how) = match data_type.resource() {
            "managedclusters" => (Some(&meta.name), "metadata.name"),
            "certificatesigningrequests" => (
                meta.labels.get(names::LABEL_CLUSTER_NAME),
                names::LABEL_CLUSTER_NAME,
            ),
            _ => (Some(&meta.namespace), "metadata.namespace"),
        };
        cluster
            .map(String::as_str)
            .filter(|cluster| !cluster.is_empty())
            .ok_or_else(|| EncodeError::NoCluster(meta.name.clone(), how))
    }
}

impl Codec for ObjectCodec {
    type Object = Object;
    const KEEPING: Keeping = Keeping::Mirror;

    fn data_type(&self) -> &DataType {
        &self.data_type
    }

    fn encode(
        &self,
        stamp: Stamp<'_>,
        event_type: &EventType,
        object: &Object,
    ) -> Result<CloudEvent, EncodeError> {
        let meta = &object.metadata;
        let cluster = Self::cluster(&self.data_type, meta)?;
        let mut event = CloudEvent::new(stamp.id, stamp.source, event_type, stamp.time)
            .with(names::EXT_CLUSTER_NAME, cluster)
            .with(names::EXT_ORIGINAL_SOURCE, "");
        for (name, value) in [
            (names::EXT_RESOURCE_ID, &meta.uid),
            (names::EXT_RESOURCE_VERSION, &meta.resource_version),
        ] {
            if !value.is_empty() {
                event.set(name, value.as_str());
            }
        }
        if let Some(time) = meta.deletion_timestamp {
            event.set(names::EXT_DELETION_TIMESTAMP, time);
            return Ok(event);
        }
        let mut value = object.to_value()?;
        if let (Some((api_version, kind)), Value::Object(body)) = (&self.type_meta, &mut value) {
            body.insert("apiVersion".to_owned(), api_version.as_str().into());
            body.insert("kind".to_owned(), (*kind).into());
        }
        Ok(event.with_json(serde_json::to_vec(&value)?))
    }

    fn decode(&self, event: &CloudEvent) -> Result<Object, DecodeError> {
        if !event.payload().is_empty() {
            return Ok(Object::from_value(serde_json::from_slice(
                event.payload(),
            )?)?);
        }
        let mut object = Object::default();
        if let Some(time) = deletion(event) {
            let uid = crate::codec::required(event, names::EXT_RESOURCE_ID)?;
            uid.clone_into(&mut object.metadata.uid);
            object.metadata.deletion_timestamp = Some(time);
        }
        Ok(object)
    }

    fn cluster_of<'a>(&self, object: &'a Object) -> Option<&'a str> {
        Self::cluster(&self.data_type, &object.metadata).ok()
    }

    fn version(&self, object: &Object) -> Option<i64> {
        match object.metadata.resource_version.as_str() {
            "" => Some(0),
            text => text.parse().ok(),
        }
    }

    fn validate(&self, object: &Object) -> Result<(), DecodeError> {
        Self::cluster(&self.data_type, &object.metadata)
            .map(|_| ())
            .map_err(|e| DecodeError::Invalid(e.to_string()))
    }
}
