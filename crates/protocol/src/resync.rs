//! Resync: what each side knows, as a list, and what the other side sends in answer. Everything is indexed: linear in the lists.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cloudevent::CloudEvent;
use crate::codec::{DecodeError, event_version};
use crate::eventtype::{Action, DataType, SubResource};
use crate::ids::Ids;
use crate::meta::nullable;
use crate::names;

/// What an agent holds: version by uid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions(pub BTreeMap<String, i64>);

/// What a source holds: status hash by uid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashes(pub BTreeMap<String, String>);

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct VersionList {
    #[serde(rename = "resourceVersions", deserialize_with = "nullable")]
    items: Vec<VersionItem>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct VersionItem {
    #[serde(rename = "resourceID")]
    id: String,
    #[serde(rename = "resourceVersion")]
    version: i64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct HashList {
    #[serde(rename = "statusHashes", deserialize_with = "nullable")]
    items: Vec<HashItem>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct HashItem {
    #[serde(rename = "resourceID")]
    id: String,
    #[serde(rename = "statusHash")]
    hash: String,
}

impl Versions {
    /// Reads the data of a spec resync request.
    pub fn from_event(event: &CloudEvent) -> Result<Self, DecodeError> {
        let list: VersionList = read(event)?;
        Ok(Self(
            list.items
                .into_iter()
                .map(|item| (item.id, item.version))
                .collect(),
        ))
    }

    /// The data of a spec resync request.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let items = self.0.iter().map(|(id, version)| VersionItem {
            id: id.clone(),
            version: *version,
        });
        serde_json::to_vec(&VersionList {
            items: items.collect(),
        })
    }
}

impl Hashes {
    /// Reads the data of a status resync request.
    pub fn from_event(event: &CloudEvent) -> Result<Self, DecodeError> {
        let list: HashList = read(event)?;
        Ok(Self(
            list.items
                .into_iter()
                .map(|item| (item.id, item.hash))
                .collect(),
        ))
    }

    /// The data of a status resync request.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let items = self.0.iter().map(|(id, hash)| HashItem {
            id: id.clone(),
            hash: hash.clone(),
        });
        serde_json::to_vec(&HashList {
            items: items.collect(),
        })
    }
}

fn read<T: Default + for<'de> Deserialize<'de>>(event: &CloudEvent) -> Result<T, DecodeError> {
    if event.payload().is_empty() {
        return Ok(T::default());
    }
    Ok(serde_json::from_slice(event.payload())?)
}

/// Whether an agent that holds `held` must be sent a resource again: always when it is being deleted or unversioned, else
/// when the agent is behind. `None` = the version cannot be read, so nothing can be said.
pub fn must_send(version: Option<i64>, deleting: bool, held: Option<i64>) -> bool {
    deleting || version.is_some_and(|version| version == 0 || version > held.unwrap_or(0))
}

/// The answer of a server to a spec resync: of `listed` what the agent lacks, retyped as responses, then the deletion of
/// every id that is not listed. `source` is the sender of those deletions, which carry the agent's version.
pub fn answer(
    listed: Vec<CloudEvent>,
    known: &Versions,
    to: &Answering<'_>,
    ids: &mut Ids,
    now: Timestamp,
) -> Vec<CloudEvent> {
    let event_type = to
        .data_type
        .event(SubResource::Spec, Action::ResyncResponse)
        .to_string();
    let mut seen = BTreeSet::new();
    let mut out = Vec::new();
    for mut event in listed {
        let Some(id) = event.resource_id().map(str::to_owned) else {
            continue;
        };
        let held = known.0.get(&id).copied();
        seen.insert(id);
        if must_send(
            event_version(&event, to.data_type),
            event.is_deletion(),
            held,
        ) {
            event.event_type.clone_from(&event_type);
            out.push(event);
        }
    }
    for (id, version) in known.0.iter().filter(|(id, _)| !seen.contains(*id)) {
        out.push(order_deletion(to, ids, now, id, *version));
    }
    out
}

/// Whom an answer is for and from.
#[derive(Clone, Copy, Debug)]
pub struct Answering<'a> {
    /// Data type of the resync.
    pub data_type: &'a DataType,
    /// Cluster of the agent.
    pub cluster: &'a str,
    /// Sender of ordered deletions.
    pub source: &'a str,
}

/// The order to delete something the owner does not know. A version of a bundle is an integer, of anything else text.
pub fn order_deletion(
    to: &Answering<'_>,
    ids: &mut Ids,
    now: Timestamp,
    id: &str,
    version: i64,
) -> CloudEvent {
    let event_type = to
        .data_type
        .event(SubResource::Spec, Action::ResyncResponse);
    let event = CloudEvent::new(ids.next_id(), to.source, event_type, now)
        .with(names::EXT_CLUSTER_NAME, to.cluster)
        .with(names::EXT_ORIGINAL_SOURCE, "")
        .with(names::EXT_RESOURCE_ID, id)
        .with(names::EXT_DELETION_TIMESTAMP, now);
    if *to.data_type == DataType::MANIFEST_BUNDLES {
        event.with(
            names::EXT_RESOURCE_VERSION,
            i32::try_from(version).unwrap_or(0),
        )
    } else {
        event.with(names::EXT_RESOURCE_VERSION, version.to_string())
    }
}
