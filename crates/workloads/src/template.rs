//! Pods from templates, and what belongs to whom.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource, ResourceExt};

/// The letters of generated names (apimachinery: pkg/util/rand), which make no words.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A short text that follows from what is hashed. The hasher has fixed keys, so the answer is the
/// same in every run of one build; another build may rename pods, which only replaces them.
pub(crate) fn suffix(of: impl Hash, length: usize) -> String {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    let mut rest = hasher.finish();
    (0..length)
        .map(|_| {
            let letter = LETTERS[(rest % 27) as usize];
            rest /= 27;
            char::from(letter)
        })
        .collect()
}

/// The hash of a pod template, as a label value.
pub(crate) fn hash(template: &PodTemplateSpec) -> String {
    suffix(serde_json::to_string(template).unwrap_or_default(), 10)
}

/// A reference that makes `owner` the controller.
pub(crate) fn controlled_by<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.name_any(),
        uid: owner.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Whether the object's controller has this uid.
pub(crate) fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    owners
        .iter()
        .any(|owner| owner.controller == Some(true) && owner.uid == uid)
}

/// A pod of `owner`, with more labels and annotations than the template has.
pub(crate) fn pod<K: Resource<DynamicType = ()>>(
    owner: &K,
    name: String,
    template: &PodTemplateSpec,
    labels: &[(&str, &str)],
    annotations: BTreeMap<String, String>,
) -> Pod {
    let mut meta = template.metadata.clone().unwrap_or_default();
    meta.name = Some(name);
    meta.namespace = owner.namespace();
    meta.owner_references = Some(vec![controlled_by(owner)]);
    meta.labels.get_or_insert_default().extend(
        labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
    );
    let own = meta.annotations.take().unwrap_or_default();
    // What the template says of itself is nearer to the pod than what its workload says.
    let all: BTreeMap<String, String> = annotations.into_iter().chain(own).collect();
    meta.annotations = Some(all).filter(|all| !all.is_empty());
    Pod {
        metadata: meta,
        spec: template.spec.clone(),
        status: None,
    }
}

/// Whether a pod counts: neither going away nor over.
pub(crate) fn is_active(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase(pod), "Succeeded" | "Failed")
}

/// The phase of a pod, empty when it has none yet.
pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// Whether a pod is ready.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    conditions
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// A label of an object, empty when it has none.
pub(crate) fn label<'m>(meta: &'m ObjectMeta, key: &str) -> &'m str {
    meta.labels
        .as_ref()
        .and_then(|labels| labels.get(key))
        .map(String::as_str)
        .unwrap_or_default()
}

/// A number, or a percentage of `whole`, rounded as the field demands.
pub(crate) fn resolve(
    value: Option<&IntOrString>,
    whole: i32,
    round_up: bool,
    default: i32,
) -> i32 {
    match value {
        None => default,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => {
            text.trim_end_matches('%')
                .parse::<i64>()
                .map_or(default, |percent| {
                    let product = percent * i64::from(whole);
                    let share = if round_up {
                        (product + 99).div_euclid(100)
                    } else {
                        product.div_euclid(100)
                    };
                    i32::try_from(share).unwrap_or(default)
                })
        }
    }
}
