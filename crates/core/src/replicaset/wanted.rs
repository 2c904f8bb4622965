//! The work that a cluster should have, and whether it has it.

use std::collections::BTreeMap;

use drover_api::ObjectMeta;
use drover_api::names::replica_set as names;
use drover_api::work::v1::{Manifest, ManifestWork, ManifestWorkSpec};
use drover_api::work::v1alpha1::ManifestWorkReplicaSet;
use kube::ResourceExt;
use serde_json::Value;

/// The longest value of a label.
pub(super) const MAX_LABEL: usize = 63;

/// The labels of the works of one placement: those of the set, and the two that say where they come from.
pub(super) fn labels(set: &ManifestWorkReplicaSet, placement: &str) -> BTreeMap<String, String> {
    let mut labels = set.labels().clone();
    labels.insert(names::SET_LABEL.to_owned(), super::key(set));
    labels.insert(names::PLACEMENT_LABEL.to_owned(), placement.to_owned());
    labels
}

/// The work of one cluster.
pub fn work(set: &ManifestWorkReplicaSet, placement: &str, cluster: &str) -> ManifestWork {
    ManifestWork {
        metadata: ObjectMeta {
            name: Some(set.name_any()),
            namespace: Some(cluster.to_owned()),
            labels: Some(labels(set, placement)),
            ..ObjectMeta::default()
        },
        spec: set.spec.manifest_work_template.clone(),
        status: None,
    }
}

/// Whether a work says what its set wants, for the cluster of this placement.
pub fn up_to_date(set: &ManifestWorkReplicaSet, placement: &str, work: &ManifestWork) -> bool {
    let has = |name: &str, value: &str| work.labels().get(name).is_some_and(|own| own == value);
    has(names::PLACEMENT_LABEL, placement)
        && has(names::SET_LABEL, &super::key(set))
        && (set.labels().iter())
            .filter(|(name, _)| *name != names::PLACEMENT_LABEL && *name != names::SET_LABEL)
            .all(|(name, value)| has(name, value))
        && same(&set.spec.manifest_work_template, &work.spec)
}

/// Whether two specs mean the same. Times of creation are put into manifests by programs that read and write typed objects, and mean
/// nothing.
fn same(wanted: &ManifestWorkSpec, found: &ManifestWorkSpec) -> bool {
    let (one, other) = (&wanted.workload.manifests, &found.workload.manifests);
    wanted.delete_option == found.delete_option
        && wanted.manifest_configs == found.manifest_configs
        && wanted.executor == found.executor
        && one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .all(|(one, other)| one == other || without_times(one) == without_times(other))
}

fn without_times(manifest: &Manifest) -> Value {
    let mut value = manifest.0.clone();
    for pointer in ["/metadata", "/spec/template/metadata"] {
        if let Some(metadata) = value.pointer_mut(pointer).and_then(Value::as_object_mut) {
            metadata.remove("creationTimestamp");
        }
    }
    value
}
