//! Works as sdk-go v0.13 writes and reads them: the codecs to give to a client whose peers are that old.
//!
//! What differs from [`crate::bundle`]:
//! - Two data types: `manifestbundles`, and `manifests` for works of a single manifest. A client speaks one of them, so a
//!   source id belongs to one of them: whoever answers a resync orders the deletion of what it does not know.
//! - No extension `metadata`, `logtracing` or `statushash`: works are named by their uid, and no label, annotation or owner
//!   reaches the agent. No executor: a work with one is refused, as it would be applied with more rights than it asks for.
//! - `resourceversion` of a spec is text, the only type that v0.13 reads. It is the version of the spec, which copies keep in
//!   `metadata.generation` as in the current format (v0.13 keeps it in `metadata.resourceVersion`, which counts local changes here).
//! - The source of a copy is in an annotation. Our copies have the label too.
//! - The hash of a status is over the JSON as Go writes its structs.
//! - The last word of an agent has the action `delete_request`.
//! - The deletion of an unknown work makes a copy without finalizer: it is over with the next change of its metadata.
//!
//! Agents of v0.13 ask for a resync when they start, not when their link comes back: what is sent meanwhile reaches them
//! with the next change of the work.

mod payload;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::bundle::{SourceBundleCodec, validate_manifests};
use crate::cloudevent::CloudEvent;
use crate::codec::{
    Codec, DecodeError, EncodeError, Keeping, Stamp, deletion, integer_version, required,
};
use crate::eventtype::{Action, DataType, EventType};
use crate::meta::{ObjectMeta, whole_seconds};
use crate::names;
use crate::raw::go_json;
use crate::work::{Work, WorkStatus, hex};

/// Which of the two data types of v0.13.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum V013 {
    /// `manifestbundles`: works of any number of manifests.
    Bundles,
    /// `manifests`: works of one manifest.
    Manifests,
}

impl V013 {
    fn data_type(self) -> &'static DataType {
        static BUNDLES: DataType = DataType::MANIFEST_BUNDLES;
        static MANIFESTS: DataType = DataType::MANIFESTS;
        match self {
            Self::Bundles => &BUNDLES,
            Self::Manifests => &MANIFESTS,
        }
    }

    fn validate(self, work: &Work) -> Result<(), DecodeError> {
        SourceBundleCodec.validate(work)?;
        if work.spec.executor.is_some() {
            let why =
                "peers of v0.13 know no executor, and would apply the work with all their rights";
            return Err(DecodeError::Invalid(format!(
                "spec.executor: Forbidden: {why}"
            )));
        }
        let manifests = work.spec.manifests.len();
        if self == Self::Manifests && manifests != 1 {
            let why = format!("the data type manifests takes one manifest, not {manifests}");
            return Err(DecodeError::Invalid(format!(
                "spec.workload.manifests: Invalid value: {why}"
            )));
        }
        Ok(())
    }
}

/// The hash of a status as v0.13 computes it: lower-case hex SHA-256 of the JSON that Go writes of its structs.
pub fn status_hash(status: &WorkStatus) -> String {
    let json = go_json(&status::GoStatus::of(status))
        .expect("a status of strings and numbers is always JSON");
    hex(&Sha256::digest(&json))
}

/// The codec of a source whose agents are of v0.13: sends specs, reads statuses.
#[derive(Clone, Copy, Debug)]
pub struct SourceV013Codec(pub V013);

/// The codec of an agent whose sources are of v0.13: reads specs, sends statuses.
#[derive(Clone, Copy, Debug)]
pub struct AgentV013Codec(pub V013);

impl Codec for SourceV013Codec {
    type Object = Work;
    const KEEPING: Keeping = Keeping::Works;

    fn data_type(&self) -> &DataType {
        self.0.data_type()
    }

    fn encode(
        &self,
        stamp: Stamp<'_>,
        event_type: &EventType,
        work: &Work,
    ) -> Result<CloudEvent, EncodeError> {
        let version = version(work)?.to_string();
        let mut event =
            base_event(stamp, event_type, work, "").with(names::EXT_RESOURCE_VERSION, version);
        if let Some(time) = work.metadata.deletion_timestamp {
            event.set(names::EXT_DELETION_TIMESTAMP, time);
            return Ok(event);
        }
        Ok(event.with_json(payload::encode_spec(self.0, work)?))
    }

    /// Reads a status. The sequence id is found in the annotations.
    fn decode(&self, event: &CloudEvent) -> Result<Work, DecodeError> {
        let sequence = required(event, names::EXT_SEQUENCE_ID)?.to_owned();
        let mut metadata = metadata(event, integer_version(event)?)?;
        let key = names::ANNOTATION_SEQUENCE_ID.to_owned();
        metadata.annotations.insert(key, sequence);
        Ok(Work {
            metadata,
            status: payload::decode_status(self.0, event)?,
            ..Work::default()
        })
    }

    fn version(&self, work: &Work) -> Option<i64> {
        Some(work.metadata.generation)
    }

    fn validate(&self, work: &Work) -> Result<(), DecodeError> {
        self.0.validate(work)
    }

    fn status_hash(&self, work: &Work) -> Option<String> {
        Some(status_hash(&work.status))
    }
}

impl Codec for AgentV013Codec {
    type Object = Work;
    const KEEPING: Keeping = Keeping::Works;

    fn data_type(&self) -> &DataType {
        self.0.data_type()
    }

    fn encode(
        &self,
        stamp: Stamp<'_>,
        event_type: &EventType,
        work: &Work,
    ) -> Result<CloudEvent, EncodeError> {
        let named = |names: &BTreeMap<String, String>| {
            let source = names.get(names::ANNOTATION_ORIGINAL_SOURCE);
            source.filter(|source| !source.is_empty()).cloned()
        };
        let source = named(&work.metadata.annotations)
            .or_else(|| named(&work.metadata.labels))
            .ok_or_else(|| EncodeError::NoSource(work.metadata.uid.clone()))?;
        let sequence = stamp.sequence.clone().unwrap_or_default();
        let event = base_event(stamp, event_type, work, &source)
            .with(names::EXT_RESOURCE_VERSION, version(work)?)
            .with(names::EXT_SEQUENCE_ID, sequence);
        Ok(event.with_json(payload::encode_status(self.0, &work.status)?))
    }

    /// Reads a spec.
    fn decode(&self, event: &CloudEvent) -> Result<Work, DecodeError> {
        let deletion = deletion(event);
        let mut metadata = metadata(event, integer_version(event)?)?;
        let source = &event.source;
        for (key, value) in [
            (names::ANNOTATION_DATA_TYPE, self.data_type().to_string()),
            (names::ANNOTATION_ORIGINAL_SOURCE, source.clone()),
        ] {
            metadata.annotations.insert(key.to_owned(), value);
        }
        let key = names::LABEL_ORIGINAL_SOURCE.to_owned();
        metadata.labels.insert(key, source.clone());
        if let Some(time) = deletion {
            metadata.deletion_timestamp = Some(whole_seconds(time));
            return Ok(Work {
                metadata,
                ..Work::default()
            });
        }
        let spec = payload::decode_spec(self.0, event)?;
        validate_manifests(&spec.manifests, names::MAX_MANIFESTS_BYTES)
            .map_err(DecodeError::Manifests)?;
        Ok(Work {
            metadata,
            spec: Arc::new(spec),
            ..Work::default()
        })
    }

    fn version(&self, work: &Work) -> Option<i64> {
        Some(work.metadata.generation)
    }

    fn validate(&self, work: &Work) -> Result<(), DecodeError> {
        self.0.validate(work)
    }

    fn status_hash(&self, work: &Work) -> Option<String> {
        Some(status_hash(&work.status))
    }

    fn last_word(&self) -> Action {
        Action::Delete
    }
}

fn version(work: &Work) -> Result<i32, EncodeError> {
    let generation = work.metadata.generation;
    i32::try_from(generation).map_err(|_| EncodeError::Generation(generation))
}

fn base_event(stamp: Stamp<'_>, event_type: &EventType, work: &Work, original: &str) -> CloudEvent {
    CloudEvent::new(stamp.id, stamp.source, event_type, stamp.time)
        .with(names::EXT_CLUSTER_NAME, work.metadata.namespace.as_str())
        .with(names::EXT_ORIGINAL_SOURCE, original)
        .with(names::EXT_RESOURCE_ID, work.metadata.uid.as_str())
}

/// All that an event says of a work besides its data.
fn metadata(event: &CloudEvent, version: i32) -> Result<ObjectMeta, DecodeError> {
    let uid = required(event, names::EXT_RESOURCE_ID)?;
    Ok(ObjectMeta {
        name: uid.to_owned(),
        namespace: required(event, names::EXT_CLUSTER_NAME)?.to_owned(),
        uid: uid.to_owned(),
        generation: version.into(),
        ..ObjectMeta::default()
    })
}

#[cfg(test)]
mod tests;
