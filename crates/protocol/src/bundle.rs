//! Works as bundles of manifests: the codec of each side, the rules for manifests, and the uid of a work.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cloudevent::CloudEvent;
use crate::codec::{
    Codec, DecodeError, EncodeError, Keeping, Resource, Stamp, deletion, integer_version, required,
};
use crate::eventtype::{DataType, EventType};
use crate::gojson::StatusText;
use crate::meta::{ObjectMeta, nullable, whole_seconds};
use crate::names;
use crate::raw::Raw;
use crate::work::{Condition, ManifestCondition, ResourceStatus, Work, WorkSpec, WorkStatus};

/// Payload of a spec event.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ManifestBundle {
    #[serde(deserialize_with = "nullable")]
    manifests: Vec<Raw>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delete_option: Option<Raw>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest_configs: Option<Raw>,
    /// Spelled like this on the wire.
    #[serde(rename = "executer", skip_serializing_if = "Option::is_none")]
    executor: Option<Raw>,
}

impl From<ManifestBundle> for WorkSpec {
    fn from(bundle: ManifestBundle) -> Self {
        let ManifestBundle {
            manifests,
            delete_option,
            manifest_configs,
            executor,
        } = bundle;
        Self {
            manifests,
            delete_option,
            manifest_configs,
            executor,
        }
    }
}

/// The same, borrowed for writing.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestBundleRef<'a> {
    manifests: &'a [Raw],
    #[serde(skip_serializing_if = "Option::is_none")]
    delete_option: &'a Option<Raw>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest_configs: &'a Option<Raw>,
    #[serde(rename = "executer", skip_serializing_if = "Option::is_none")]
    executor: &'a Option<Raw>,
}

/// Payload of a status event.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ManifestBundleStatus {
    manifest_bundle: Option<ManifestBundle>,
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<Condition>,
    #[serde(deserialize_with = "nullable")]
    resource_status: Vec<ManifestCondition>,
}

impl Resource for Work {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn status_hash(&self) -> Option<String> {
        Some(self.status.hash())
    }

    fn has_status(&self) -> bool {
        let WorkStatus {
            conditions,
            resource_status,
        } = &self.status;
        !conditions.is_empty() || !resource_status.manifests.is_empty()
    }

    fn adopt_status(&mut self, from: &Self) {
        self.status.clone_from(&from.status);
    }

    fn adopt_spec(&mut self, from: &Self) {
        self.spec = Arc::clone(&from.spec);
    }

    fn same_status(&self, other: &Self) -> bool {
        self.status == other.status
    }

    fn is_gone(&self) -> bool {
        self.status.is_deleted()
    }

    fn mark_gone(&mut self, now: Timestamp) {
        let gone = Condition {
            last_transition_time: Some(now),
            message: format!(
                "The manifests are deleted from the cluster {}",
                self.metadata.namespace
            ),
            observed_generation: 0,
            reason: names::REASON_MANIFESTS_DELETED.to_owned(),
            status: "True".to_owned(),
            condition_type: names::CONDITION_DELETED.to_owned(),
        };
        self.status
            .conditions
            .retain(|c| c.condition_type != names::CONDITION_DELETED);
        self.status.conditions.push(gone);
    }
}

/// The one data type of both codecs.
static DATA_TYPE: DataType = DataType::MANIFEST_BUNDLES;

/// The codec of a source: sends specs, reads statuses.
#[derive(Clone, Copy, Debug, Default)]
pub struct SourceBundleCodec;

/// The codec of an agent: reads specs, sends statuses.
#[derive(Clone, Copy, Debug, Default)]
pub struct AgentBundleCodec;

impl Codec for SourceBundleCodec {
    type Object = Work;
    const KEEPING: Keeping = Keeping::Works;

    fn data_type(&self) -> &DataType {
        &DATA_TYPE
    }

    fn encode(
        &self,
        stamp: Stamp<'_>,
        event_type: &EventType,
        work: &Work,
    ) -> Result<CloudEvent, EncodeError> {
        let mut event = base_event(stamp, event_type, work, "")?;
        if let Some(time) = work.metadata.deletion_timestamp {
            event.set(names::EXT_DELETION_TIMESTAMP, time);
            return Ok(event);
        }
        let spec = &*work.spec;
        let bundle = ManifestBundleRef {
            manifests: &spec.manifests,
            delete_option: &spec.delete_option,
            manifest_configs: &spec.manifest_configs,
            executor: &spec.executor,
        };
        Ok(event.with_json(serde_json::to_vec(&bundle)?))
    }

    /// Reads a status. The sequence id is found in the annotations, the spec only if a server without cache sent it along.
    fn decode(&self, event: &CloudEvent) -> Result<Work, DecodeError> {
        let uid = required(event, names::EXT_RESOURCE_ID)?.to_owned();
        let generation = integer_version(event)?;
        let sequence = required(event, names::EXT_SEQUENCE_ID)?.to_owned();
        let mut metadata = metadata_of(event)?;
        if metadata.name.is_empty() {
            metadata.name.clone_from(&uid);
        }
        metadata.uid = uid;
        metadata.generation = generation.into();
        metadata
            .annotations
            .insert(names::ANNOTATION_SEQUENCE_ID.to_owned(), sequence);
        log_annotations(event, &mut metadata)?;
        let status: ManifestBundleStatus = payload(event)?;
        Ok(Work {
            metadata,
            spec: Arc::new(
                status
                    .manifest_bundle
                    .map(WorkSpec::from)
                    .unwrap_or_default(),
            ),
            status: WorkStatus {
                conditions: status.conditions,
                resource_status: ResourceStatus {
                    manifests: status.resource_status,
                },
            },
        })
    }

    fn version(&self, work: &Work) -> Option<i64> {
        Some(work.metadata.generation)
    }

    fn validate(&self, work: &Work) -> Result<(), DecodeError> {
        Self::validate_within(work, names::MAX_MANIFESTS_BYTES)
    }
}

impl SourceBundleCodec {
    /// Checks a work whose manifests may have so many bytes.
    fn validate_within(work: &Work, limit: usize) -> Result<(), DecodeError> {
        for (field, value) in [
            ("name", &work.metadata.name),
            ("namespace", &work.metadata.namespace),
        ] {
            if !is_dns_label(value) {
                let why =
                    "a work and its cluster need lower-case letters, digits and '-', at most 63";
                return Err(DecodeError::Invalid(format!(
                    "metadata.{field}: Invalid value: {value:?}: {why}"
                )));
            }
        }
        let annotations: usize = work
            .metadata
            .annotations
            .iter()
            .map(|(k, v)| k.len() + v.len())
            .sum();
        if annotations > 256 * 1024 {
            let why = "may not be more than 262144 bytes";
            return Err(DecodeError::Invalid(format!(
                "metadata.annotations: Too long: {why}"
            )));
        }
        validate_within(&work.spec.manifests, limit)
    }
}

impl Codec for AgentBundleCodec {
    type Object = Work;
    const KEEPING: Keeping = Keeping::Works;

    fn data_type(&self) -> &DataType {
        &DATA_TYPE
    }

    fn encode(
        &self,
        stamp: Stamp<'_>,
        event_type: &EventType,
        work: &Work,
    ) -> Result<CloudEvent, EncodeError> {
        let source = work
            .metadata
            .labels
            .get(names::LABEL_ORIGINAL_SOURCE)
            .filter(|source| !source.is_empty())
            .ok_or_else(|| EncodeError::NoSource(work.metadata.uid.clone()))?;
        let sequence = stamp.sequence.clone().unwrap_or_default();
        let status = StatusText::of(&work.status)?;
        let event = base_event(stamp, event_type, work, source)?
            .with(names::EXT_SEQUENCE_ID, sequence)
            .with(names::EXT_STATUS_HASH, status.hash());
        Ok(event.with_json(status.into_payload()))
    }

    fn decode(&self, event: &CloudEvent) -> Result<Work, DecodeError> {
        self.decode_within(event, names::MAX_MANIFESTS_BYTES)
    }

    fn version(&self, work: &Work) -> Option<i64> {
        Some(work.metadata.generation)
    }

    fn validate(&self, work: &Work) -> Result<(), DecodeError> {
        SourceBundleCodec.validate(work)
    }
}

impl AgentBundleCodec {
    /// Reads a spec. A deletion may lack its version: brokers order the deletion of ids that they do not know.
    fn decode_within(self, event: &CloudEvent, limit: usize) -> Result<Work, DecodeError> {
        let uid = required(event, names::EXT_RESOURCE_ID)?.to_owned();
        let deletion = deletion(event);
        let generation = match (integer_version(event), deletion) {
            (Ok(generation), _) => generation,
            (Err(_), Some(_)) if event.extension(names::EXT_RESOURCE_VERSION).is_none() => 0,
            (Err(error), _) => return Err(error),
        };
        let cluster = required(event, names::EXT_CLUSTER_NAME)?.to_owned();
        let mut metadata = metadata_of(event)?;
        if metadata.name.is_empty() {
            metadata.name.clone_from(&uid);
        }
        metadata.uid = uid;
        metadata.namespace = cluster;
        metadata.resource_version = String::new();
        metadata.generation = generation.into();
        metadata.annotations.insert(
            names::ANNOTATION_DATA_TYPE.to_owned(),
            self.data_type().to_string(),
        );
        metadata.labels.insert(
            names::LABEL_ORIGINAL_SOURCE.to_owned(),
            event.source.clone(),
        );
        log_annotations(event, &mut metadata)?;
        if let Some(time) = deletion {
            metadata.finalizers = vec![names::WORK_FINALIZER.to_owned()];
            metadata.deletion_timestamp = Some(whole_seconds(time));
            return Ok(Work {
                metadata,
                ..Work::default()
            });
        }
        let bundle: ManifestBundle = payload(event)?;
        validate_within(&bundle.manifests, limit)?;
        Ok(Work {
            metadata,
            spec: Arc::new(bundle.into()),
            status: WorkStatus::default(),
        })
    }
}

/// A codec of works with another limit for the size of their manifests. Both ends of a fleet need the same.
#[derive(Clone, Copy, Debug)]
pub struct Limited<C> {
    codec: C,
    bytes: usize,
}

impl<C> Limited<C> {
    /// So many bytes, as [`manifests_size`] counts them.
    pub fn new(codec: C, bytes: usize) -> Self {
        Self { codec, bytes }
    }
}

impl Codec for Limited<SourceBundleCodec> {
    type Object = Work;
    const KEEPING: Keeping = Keeping::Works;

    fn data_type(&self) -> &DataType {
        self.codec.data_type()
    }

    fn encode(
        &self,
        stamp: Stamp<'_>,
        event_type: &EventType,
        work: &Work,
    ) -> Result<CloudEvent, EncodeError> {
        self.codec.encode(stamp, event_type, work)
    }

    fn decode(&self, event: &CloudEvent) -> Result<Work, DecodeError> {
        self.codec.decode(event)
    }

    fn version(&self, work: &Work) -> Option<i64> {
        self.codec.version(work)
    }

    fn validate(&self, work: &Work) -> Result<(), DecodeError> {
        SourceBundleCodec::validate_within(work, self.bytes)
    }
}

impl Codec for Limited<AgentBundleCodec> {
    type Object = Work;
    const KEEPING: Keeping = Keeping::Works;

    fn data_type(&self) -> &DataType {
        self.codec.data_type()
    }

    fn encode(
        &self,
        stamp: Stamp<'_>,
        event_type: &EventType,
        work: &Work,
    ) -> Result<CloudEvent, EncodeError> {
        self.codec.encode(stamp, event_type, work)
    }

    fn decode(&self, event: &CloudEvent) -> Result<Work, DecodeError> {
        self.codec.decode_within(event, self.bytes)
    }

    fn version(&self, work: &Work) -> Option<i64> {
        self.codec.version(work)
    }

    fn validate(&self, work: &Work) -> Result<(), DecodeError> {
        SourceBundleCodec::validate_within(work, self.bytes)
    }
}

fn validate_within(manifests: &[Raw], limit: usize) -> Result<(), DecodeError> {
    let size = manifests_size(manifests);
    if size > limit {
        return Err(DecodeError::TooLarge { size, limit });
    }
    validate_manifests(manifests, limit).map_err(DecodeError::Manifests)
}

fn base_event(
    stamp: Stamp<'_>,
    event_type: &EventType,
    work: &Work,
    original: &str,
) -> Result<CloudEvent, EncodeError> {
    let meta = &work.metadata;
    let version =
        i32::try_from(meta.generation).map_err(|_| EncodeError::Generation(meta.generation))?;
    let logs: BTreeMap<&str, &str> = meta
        .annotations
        .iter()
        .filter(|(key, _)| key.starts_with(names::LOG_TRACING_PREFIX))
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    Ok(
        CloudEvent::new(stamp.id, stamp.source, event_type, stamp.time)
            .with(names::EXT_CLUSTER_NAME, meta.namespace.as_str())
            .with(names::EXT_ORIGINAL_SOURCE, original)
            .with(names::EXT_RESOURCE_ID, meta.uid.as_str())
            .with(names::EXT_RESOURCE_VERSION, version)
            .with(names::EXT_METADATA, serde_json::to_string(meta)?)
            .with(names::EXT_LOG_TRACING, serde_json::to_string(&logs)?),
    )
}

fn metadata_of(event: &CloudEvent) -> Result<ObjectMeta, DecodeError> {
    if event.extension(names::EXT_METADATA).is_none() {
        return Ok(ObjectMeta::default());
    }
    let text = required(event, names::EXT_METADATA)?;
    serde_json::from_str(text).map_err(|e| DecodeError::Extension {
        name: names::EXT_METADATA,
        why: e.to_string(),
    })
}

fn log_annotations(event: &CloudEvent, metadata: &mut ObjectMeta) -> Result<(), DecodeError> {
    if event.extension(names::EXT_LOG_TRACING).is_none() {
        return Ok(());
    }
    let text = required(event, names::EXT_LOG_TRACING)?;
    if text.is_empty() {
        return Ok(());
    }
    let logs: Option<BTreeMap<String, String>> =
        serde_json::from_str(text).map_err(|e| DecodeError::Extension {
            name: names::EXT_LOG_TRACING,
            why: e.to_string(),
        })?;
    let kept = logs
        .unwrap_or_default()
        .into_iter()
        .filter(|(key, _)| key.starts_with(names::LOG_TRACING_PREFIX));
    metadata.annotations.extend(kept);
    Ok(())
}

pub(crate) fn payload<T: Default + for<'de> Deserialize<'de>>(
    event: &CloudEvent,
) -> Result<T, DecodeError> {
    if event.payload().is_empty() {
        return Ok(T::default());
    }
    // Checked as text at once: faster than string by string. What is wrong with other bytes the parser says.
    Ok(match std::str::from_utf8(event.payload()) {
        Ok(text) => serde_json::from_str(text)?,
        Err(_) => serde_json::from_slice(event.payload())?,
    })
}

/// The size of manifests as the limit counts it: each with one tag byte and its length as a varint.
pub fn manifests_size(manifests: &[Raw]) -> usize {
    manifests
        .iter()
        .map(|manifest| counted(manifest.get().len()))
        .sum()
}

/// How a manifest of `bytes` bytes counts.
pub fn counted(bytes: usize) -> usize {
    let varint = (usize::BITS - bytes.leading_zeros()).div_ceil(7).max(1) as usize;
    1 + varint + bytes
}

/// Checks the manifests of a work: some, within `limit` bytes, each with a kind and a name and without a name prefix.
pub fn validate_manifests(manifests: &[Raw], limit: usize) -> Result<(), String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Head {
        kind: Option<String>,
        metadata: Option<HeadMeta>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct HeadMeta {
        name: Option<String>,
        generate_name: Option<String>,
    }
    if manifests.is_empty() {
        return Err("Workload manifests should not be empty".to_owned());
    }
    let size = manifests_size(manifests);
    if size > limit {
        return Err(format!(
            "the size of manifests is {size} bytes which exceeds the {limit} limit"
        ));
    }
    for (ordinal, manifest) in manifests.iter().enumerate() {
        let head: Head = manifest
            .parse()
            .map_err(|e| format!("manifest {ordinal} is no object: {e}"))?;
        if head.kind.is_none_or(|kind| kind.is_empty()) {
            return Err(format!("Object 'Kind' is missing in manifest {ordinal}"));
        }
        let meta = head.metadata.unwrap_or_default();
        if meta.name.is_none_or(|name| name.is_empty()) {
            return Err("name must be set in manifest".to_owned());
        }
        if meta.generate_name.is_some_and(|prefix| !prefix.is_empty()) {
            return Err("generateName must not be set in manifest".to_owned());
        }
    }
    Ok(())
}

/// The uid of a work: the same source, cluster and name always give the same.
pub fn work_uid(source: &str, cluster: &str, name: &str) -> Uuid {
    let text = format!("{source}-manifestworks.work.open-cluster-management.io-{cluster}-{name}");
    Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes())
}

/// Whether a text is a DNS label (RFC 1123).
pub fn is_dns_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.first().copied().is_some_and(inner)
        && bytes.last().copied().is_some_and(inner)
        && bytes.iter().all(|&byte| inner(byte) || byte == b'-')
}
